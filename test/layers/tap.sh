# tap.sh: tests with clusters of their own (PostgreSQL::Test::Cluster): the worker's life.
#
# The surroundings are those of PGXS's installcheck; each file has its own directory, and
# all of them one place where they reserve ports.
# shellcheck shell=bash

layer_tap()
{
    local names

    mapfile -t names < <(cd "$SOURCE/test/t" && find . -maxdepth 1 -name "${TAP_FILES:-*}.t" -printf 'tap/%f\n' | sort)
    [ "${#names[@]}" -gt 0 ] || return 0
    as_user mkdir "$RUN/ports"
    small_disk_open
    run_tests tap_file "${names[@]}"
}

tap_file()
{
    local name=${1#tap/} directory status=0

    directory=$RUN/tap/${name%.t}
    as_user mkdir -p "$directory"
    # shellcheck disable=SC2016 # the inner shell's
    as_user env TESTDIR="$directory" TESTDATADIR="$directory/tmp_check" \
        TESTLOGDIR="$directory/tmp_check/log" PG_TEST_PORT_DIR="$RUN/ports" PGPORT=65432 \
        PG_REGRESS="$PG_TESTS/regress/pg_regress" PG_TEST_TIMEOUT_DEFAULT="${PG_TEST_TIMEOUT_DEFAULT:-180}" \
        sh -c 'cd "$1" && exec perl -I "$2" -I test/t "test/t/$3"' sh "$SOURCE" "$PG_TESTS/perl" "$name" || status=$?
    # PostgreSQL::Test sends what Perl says on standard error to a log
    [ "$status" -eq 0 ] || tail -n 25 "$directory"/tmp_check/log/regress_log_* 2>/dev/null | sed 's/^/# /'
    return "$status"
}
