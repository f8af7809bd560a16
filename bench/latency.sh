#!/usr/bin/env bash
# latency.sh: milliseconds from COMMIT of pems_commit() to the arrival of the PUT at PEMS.
# `make bench-latency` calls it.
#
# Two rows: at rest (the worker has slept for two seconds before each commit) and steady (a
# number of commits per second).  The commit's time is the server's own (track_commit_timestamp), the
# arrival's the fake PEMS's; both read the clock of this machine.  The rate limit is the default,
# 10 per second, and poll_interval the default, so no poll helps.
#
#   RATE=5      commits per second of the steady row
#   COUNT=200   commits of the steady row
#   REST=15     commits of the row at rest
. "$(dirname "$0")/../test/support/base.sh"
. "$PROJECT/test/support/packages.sh"
. "$PROJECT/test/support/scratch.sh"
. "$PROJECT/test/support/build.sh"
. "$PROJECT/test/support/cluster.sh"
. "$PROJECT/test/support/fake_pems.sh"

RATE=${RATE:-5}
COUNT=${COUNT:-200}
REST=${REST:-15}
TOKEN=benchmark-token

sql()
{
    as_user psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"
}

start_server()
{
    cluster_create bench <<CONFIGURATION
track_commit_timestamp = on
pems_sync.databases = 'bench'
pems_sync.key_file = '$RUN/keyring'
pems_sync.allowed_hosts = '127.0.0.1'
pems_sync.allow_insecure_loopback = on
CONFIGURATION
    as_user "$PEMS_CREDENTIAL" keygen "$RUN/keyring" >/dev/null
    cluster_start bench
    sql -c 'CREATE DATABASE bench'
    export PGDATABASE=bench PGOPTIONS='-c client_min_messages=warning'
}

# One record and one draft for each commit that will be made; the fake PEMS gets the same records.
load()
{
    sql -v n="$((COUNT + REST + 1))" -f "$SOURCE/bench/latency_setup.sql" >"$SCRATCH/records.json"
    as_user tee "$RUN/records.json" <"$SCRATCH/records.json" >/dev/null
    fake_start "$RUN/records.json"
    as_user "$PEMS_CREDENTIAL" set --organization RIO --url "$FAKE_URL/api" <<<"$TOKEN" >/dev/null
}

# commits FIRST LAST PAUSE: one session, one commit per draft, then a pause of so many seconds.
commits()
{
    local i

    for ((i = $1; i <= $2; i++)); do
        echo "SELECT pems_commit('o1', ARRAY['draft-$i']);"
        echo "\\! sleep $3"
    done | sql >/dev/null
}

wait_until_empty_queue()
{
    until [ "$(sql -c "SELECT count(*) FROM pems_queue")" = 0 ]; do
        sleep 0.1
    done
}

report()
{
    as_user psql -X -q -v ON_ERROR_STOP=1 --pset footer=off -v log="$FAKE_LOG" -v rest="$REST" \
        -v rate="$RATE" -f "$SOURCE/bench/latency_report.sql"
}

main()
{
    forget_surroundings
    ensure_packages build
    scratch_open
    find_postgresql
    copy_source
    build_source all programs
    install_source
    start_server
    load
    until [ "$(sql -c "SELECT state FROM pems_worker")" = running ]; do
        sleep 0.1
    done
    # the first request opens the connection and follows the quiet second after the worker's start
    commits 0 0 2
    commits 1 "$REST" 2
    commits $((REST + 1)) $((REST + COUNT)) "$(awk -v rate="$RATE" 'BEGIN { print 1 / rate }')"
    wait_until_empty_queue
    report
    cluster_stop bench
    fake_stop
}

main
