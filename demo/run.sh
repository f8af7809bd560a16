#!/usr/bin/env bash
# run.sh: shows pems_sync at work.  `make demo` calls it.
#
# Installs packages that are missing, builds and installs the extension, starts a PostgreSQL cluster
# and a fake PEMS of its own, and plays the steps in demo/steps, one file each, in the order
# of their names.  Every step says what it does and checks what it expects; the exit status is
# 0 only if every expectation held.  Nothing is left but the installed extension.
#
#   PG_CONFIG=path     the PostgreSQL to use (pg_config)
. "$(dirname "$0")/../test/support/base.sh"
. "$PROJECT/test/support/packages.sh"
. "$PROJECT/test/support/scratch.sh"
. "$PROJECT/test/support/build.sh"
. "$PROJECT/test/support/cluster.sh"
. "$PROJECT/test/support/fake_pems.sh"
. "$PROJECT/demo/lib.sh"

# Requests per second that the demo allows itself: slow enough to watch, fast enough to wait for.
RATE_LIMIT=50
# Records in a page of a listing: small, so that there is something to watch.
PAGE_SIZE=25

build_and_install()
{
    say "Building and installing for $("$PG_CONFIG" --version) ..."
    copy_source
    build_source all programs
    install_source
}

start_server()
{
    say "Starting a PostgreSQL cluster of our own ..."
    cluster_create vanguard <<CONFIGURATION
track_commit_timestamp = on
pems_sync.databases = 'vanguard'
pems_sync.key_file = '$RUN/keyring'
pems_sync.allowed_hosts = '127.0.0.1'
pems_sync.allow_insecure_loopback = on
pems_sync.rate_limit = $RATE_LIMIT
pems_sync.retry_delay = 1s
pems_sync.pull_page_size = $PAGE_SIZE
CONFIGURATION
    cluster_start vanguard
}

# The application's database, as it is before it knows of PEMS.
make_application()
{
    say "Making the application's database: 2 organizations, and no PFA record yet ..."
    as_user psql -X -q -v ON_ERROR_STOP=1 -c 'CREATE ROLE vanguard LOGIN' \
        -c 'CREATE DATABASE vanguard OWNER vanguard'
    export PGDATABASE=vanguard PGOPTIONS='-c client_min_messages=warning'
    sql_file application.sql
    sql_file records.sql
}

# All records are in the fake PEMS; the organizations' tokens never come near SQL.
start_pems()
{
    local organization

    say "Starting a fake PEMS with 500 PFA records ..."
    sql "SELECT json_build_object('records', json_agg(r)) FROM demo.pems_record_to_load r" >"$SCRATCH/records.json"
    as_user tee "$RUN/records.json" <"$SCRATCH/records.json" >/dev/null
    fake_start "$RUN/records.json"
    for organization in RIO PORTARTHUR; do
        TOKEN[$organization]=$(head -c 24 /dev/urandom | base64 | tr '+/' '-_')
        fake_control POST organizations \
            "{\"code\": \"$organization\", \"token\": \"${TOKEN[$organization]}\"}" >/dev/null
    done
}

install_extension()
{
    say "CREATE EXTENSION pems_sync ..."
    sql 'CREATE EXTENSION pems_sync; GRANT pems_sync_user TO vanguard'
    sql_file pems.sql -v log="$FAKE_LOG" -v records="$RUN/pems_records.json"
}

play_steps()
{
    local step

    for step in "$PROJECT"/demo/steps/*.sh; do
        # shellcheck source=/dev/null
        . "$step"
    done
}

main()
{
    declare -gA TOKEN
    local begin

    forget_surroundings
    ensure_packages build
    begin=$(now)
    scratch_open
    say "The demo takes about half a minute, on a slow machine some minutes. It runs in $SCRATCH, with a cluster and a fake PEMS of its own."
    say ""
    find_postgresql
    build_and_install
    start_server
    make_application
    start_pems
    install_extension
    play_steps
    cluster_stop vanguard
    fake_stop
    say ""
    say "The demo took $(seconds_since "$begin") seconds. Nothing of it is left running; the extension stays installed."
    conclude
}

main
