#!/usr/bin/env bash
# kill_points.sh [COUNT]: kills worker and server so many times (1000) in one run, and lets PEMS's log and the
# checker say what became of the edits (test/t/042_kill_points.t).  `make kill-points` calls it.
#
# Prepares like run.sh: installs packages that are missing, builds a copy of the checkout, installs
# it, and leaves nothing else behind.  1000 kill points take about a quarter of an hour.
#
#   SEED=...            a run that failed once more
#   PG_CONFIG=path      the PostgreSQL to test with (pg_config)
. "$(dirname "$0")/support/base.sh"
. "$PROJECT/test/support/packages.sh"
. "$PROJECT/test/support/scratch.sh"
. "$PROJECT/test/support/build.sh"
. "$PROJECT/test/support/results.sh"
. "$PROJECT/test/layers/tap.sh"

main()
{
    export KILL_POINTS=${1:-1000}

    [[ $KILL_POINTS =~ ^[1-9][0-9]*$ ]] || die "how many kill points?"
    forget_surroundings
    ensure_packages test
    scratch_open
    find_postgresql
    say "Building and installing ($("$PG_CONFIG" --version), $(date -u +%FT%TZ)) ..."
    copy_source
    build_source WERROR=1 all programs
    install_source
    as_user mkdir "$RUN/ports"
    if ! supervised tap_file tap/042_kill_points.t; then
        keep_logs
        return 1
    fi
}

main "$@"
