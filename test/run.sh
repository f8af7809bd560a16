#!/usr/bin/env bash
# run.sh: all tests.  `make test` calls it.
#
# Installs packages that are missing, builds a copy of the checkout with warnings as errors,
# installs it, and runs the layers; the last line is "N passed, N failed".  Leaves nothing
# behind but the installed extension, and after a failure the logs in build/test-failure.
#
#   ONLY=unit,tap      only these layers
#   TAP_FILES='003*'   of the layer tap only these (a pattern, without .t)
#   TEST_JOBS=1        one test program at a time (2)
#   SANITIZE=1         the servers' library is built for the sanitizers, VALGRIND=1: the servers run under valgrind
#                      (test/support/checked_server.sh)
#   PG_CONFIG=path     the PostgreSQL to test with (pg_config)
. "$(dirname "$0")/support/base.sh"
. "$PROJECT/test/support/packages.sh"
. "$PROJECT/test/support/scratch.sh"
. "$PROJECT/test/support/build.sh"
. "$PROJECT/test/support/failpoint_server.sh"
. "$PROJECT/test/support/checked_server.sh"
. "$PROJECT/test/support/cluster.sh"
. "$PROJECT/test/support/results.sh"
for file in "$PROJECT"/test/layers/*.sh; do
    # shellcheck source=/dev/null
    . "$file"
done

LAYERS=(unit fuzz regress isolation pgtap tap lint)

# The layers to run: all, or those that ONLY names.
chosen_layers()
{
    local layer

    for layer in ${ONLY//,/ }; do
        [[ " ${LAYERS[*]} " == *" $layer "* ]] || die "ONLY: there is no layer $layer; layers: ${LAYERS[*]}"
    done
    for layer in "${LAYERS[@]}"; do
        case ,$ONLY, in
            ,, | *,"$layer",*) say "$layer" ;;
        esac
    done
}

# A layer in which nothing ran is a failure.
run_layer()
{
    local layer=$1 before=$((PASSED + FAILED + SKIPPED)) begin

    begin=$(now)
    say "$layer"
    "layer_$layer"
    if [ $((PASSED + FAILED + SKIPPED)) -eq "$before" ]; then
        say "  FAILED  no tests"
        FAILED=$((FAILED + 1))
    fi
    say "  ($(seconds_since "$begin") s)"
}

main()
{
    local layers layer

    ONLY=${ONLY:-}
    SANITIZE=${SANITIZE:-}
    VALGRIND=${VALGRIND:-}
    forget_surroundings
    layers=$(chosen_layers)
    ensure_packages test
    scratch_open
    use_checked_server
    find_postgresql
    say "Building and installing ($("$PG_CONFIG" --version), $(date -u +%FT%TZ)) ..."
    copy_source
    build_source WERROR=1 SANITIZE="$SANITIZE" all programs
    install_source
    [[ " ${layers//$'\n'/ } " != *" tap "* ]] || build_failpoint_server
    for layer in $layers; do
        run_layer "$layer"
    done
    count_findings
    summarize
}

main
