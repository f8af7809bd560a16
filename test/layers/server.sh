# server.sh: the layers that need one plain server: pg_regress, isolation, pgTAP.
#
# The server is one that `make installcheck` must work on: it preloads the library, and
# has no worker for the databases of the tests.
# shellcheck shell=bash

has_files()
{
    compgen -G "$SOURCE/$1" >/dev/null
}

# A cluster for one layer; the layer's name is its name.
start_plain_server()
{
    cluster_create "$1" <<<"$2"
    cluster_start "$1"
}

layer_regress()
{
    has_files 'test/sql/*.sql' || return 0
    start_plain_server regress ''
    run_test regress installcheck regress ISOLATION= TAP_TESTS=
    cluster_stop regress
}

layer_isolation()
{
    has_files 'test/specs/*.spec' || return 0
    start_plain_server isolation ''
    run_test isolation installcheck isolation REGRESS= TAP_TESTS=
    cluster_stop isolation
}

# installcheck NAME MAKE ARGUMENT...: what users call, with its output in RUN; shows differences.
installcheck()
{
    local output=$RUN/$1/output status=0

    shift
    as_user mkdir "$output"
    as_user make -C "$SOURCE" -s --no-print-directory installcheck \
        EXTRA_REGRESS_OPTS="--outputdir='$output'" "$@" || status=$?
    [ ! -s "$output/regression.diffs" ] || cat "$output/regression.diffs"
    return "$status"
}

# A database for each file of pgTAP tests: extension pgtap is there, everything else the file makes.
layer_pgtap()
{
    local names

    has_files 'test/pgtap/*.sql' || return 0
    mapfile -t names < <(cd "$SOURCE/test/pgtap" && find . -maxdepth 1 -name '*.sql' -printf 'pgtap/%f\n' | sort)
    start_plain_server pgtap ''
    run_tests pgtap_file "${names[@]}"
    cluster_stop pgtap
}

pgtap_file()
{
    local name=${1#pgtap/} database

    database=pgtap_${name%.sql}
    as_user createdb "$database" || return
    as_user psql -X -q -d "$database" -c 'CREATE EXTENSION pgtap' || return
    # as pg_prove calls it; in the directory of the file, so that it can include others
    as_user psql -X -q -A -t -d "$database" -v ON_ERROR_STOP=1 -v ON_ERROR_ROLLBACK=1 --pset pager=off \
        -f "$SOURCE/test/pgtap/$name"
}
