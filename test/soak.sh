#!/usr/bin/env bash
# soak.sh [SECONDS]: users, PEMS, faults, crashes and a second worker at random for that long (600), and then
# the checker.  `make soak` calls it.
#
# Prepares like run.sh: packages, a copy of the checkout, its installation, an ordinary user; and runs one test
# file, test/t/095_soak.t.  Exit status 0: nothing lost, duplicated or overwritten.  After a failure its logs
# are in build/soak-failure.
#
#   SEED=42            where the random decisions begin
#   PG_CONFIG=path     the PostgreSQL to test with (pg_config)
. "$(dirname "$0")/support/base.sh"
. "$PROJECT/test/support/packages.sh"
. "$PROJECT/test/support/scratch.sh"
. "$PROJECT/test/support/build.sh"

KEPT=$PROJECT/build/soak-failure

# soak SECONDS
soak()
{
    as_user mkdir -p "$RUN/soak"
    # shellcheck disable=SC2016 # the inner shell's
    as_user env TESTDIR="$RUN/soak" TESTDATADIR="$RUN/soak/tmp_check" TESTLOGDIR="$RUN/soak/tmp_check/log" PGPORT=65432 \
        PG_REGRESS="$PG_TESTS/regress/pg_regress" PG_TEST_TIMEOUT_DEFAULT=600 SOAK_SECONDS="$1" SEED="$SEED" \
        sh -c 'cd "$1" && exec perl -I "$2" -I test/t test/t/095_soak.t' sh "$SOURCE" "$PG_TESTS/perl"
}

# What the checker had to go on: the fakes' logs, the server's log, the database.
keep_logs()
{
    rm -rf "$KEPT"
    mkdir -p "$KEPT"
    cp -r "$RUN/soak/tmp_check" "$KEPT"
    say "logs, and the database as it was: $KEPT"
}

main()
{
    local seconds=${1:-600} status=0

    [[ $seconds =~ ^[1-9][0-9]*$ ]] || die "usage: soak.sh [SECONDS]"
    SEED=${SEED:-$RANDOM$RANDOM}
    forget_surroundings
    ensure_packages test
    scratch_open
    find_postgresql
    say "Building and installing ($("$PG_CONFIG" --version)) ..."
    copy_source
    build_source all programs
    install_source
    say "Soaking for $seconds s, SEED=$SEED ..."
    supervised soak "$seconds" || status=$?
    [ "$status" -eq 0 ] || keep_logs
    return "$status"
}

main "$@"
