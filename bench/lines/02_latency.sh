# 02_latency.sh: line 2, milliseconds from COMMIT of pems_commit() to the arrival of the PUT at PEMS.
#
# Two rows of commits: at rest (the worker has slept before each) and steady.  The commit's time is the
# server's own (track_commit_timestamp), the arrival's the fake PEMS's; both read the clock of this machine.
# The rate limit is the default, 10 per second, and poll_interval the default, so no poll helps.
# graphile-worker gets its jobs one by one in the same rhythm; it is told of each by NOTIFY.
#
#   RATE=5             commits per second of the steady row
#   COUNT=300          commits of the steady row
#   REST=20            commits of the row at rest
#   REST_SECONDS=2     sleep before each of them
# shellcheck shell=bash

RATE=${RATE:-5}
COUNT=${COUNT:-300}
REST=${REST:-20}
REST_SECONDS=${REST_SECONDS:-2}

line_latency()
{
    local ours theirs

    bench_cluster latency </dev/null
    call 'bench.make_organizations(1)'
    call "bench.make_set('o1', 'edit', $((REST + COUNT + 1)))"
    value 'ANALYZE'
    pems_with 'SELECT record FROM bench.pems_record'
    peer_database graphile
    peer_set graphile edit $((REST + COUNT + 1))

    ours=$(latency_ours)
    theirs=$(latency_graphile)
    latency_results "$ours" "$theirs"
    bench_end
}

latency_ours()
{
    local SEND="BEGIN; INSERT INTO bench.mark VALUES ('edit-%s'); SELECT pems_commit('o1', ARRAY['edit-%s']); COMMIT;"

    latency_rows bench
    wait_drained
    expect_in_pems edit $((REST + COUNT + 1))
    latency_report bench
}

latency_graphile()
{
    local SEND="BEGIN; INSERT INTO bench.mark VALUES ('edit-%s');
        SELECT graphile_worker.add_job('put', (SELECT json_build_object('id', id, 'body', body) FROM bench.edit WHERE id = 'edit-%s')); COMMIT;"

    peer_start graphile
    pems_forget
    latency_rows graphile
    peer_wait graphile edit $((REST + COUNT + 1))
    expect_in_pems edit $((REST + COUNT + 1))
    peer_stop
    latency_report graphile
}

# The first of all opens the connection to PEMS and counts for nothing.
latency_rows()
{
    latency_send "$1" 1 1 "$REST_SECONDS"
    latency_send "$1" 2 $((REST + 1)) "$REST_SECONDS"
    latency_send "$1" $((REST + 2)) $((REST + COUNT + 1)) "$(calculate "1 / $RATE")"
}

# latency_send DATABASE FIRST LAST PAUSE: one session, one SEND per edit, then a pause of so many seconds.
latency_send()
{
    local i

    for ((i = $2; i <= $3; i++)); do
        # shellcheck disable=SC2059 # SEND is the format
        printf "$SEND\n" "$i" "$i"
        echo "\\! sleep $4"
    done | PGDATABASE=$1 sql >/dev/null
}

# Prints p50 and p99 at rest, then steady: four numbers.
latency_report()
{
    PGDATABASE=$1 line_sql latency.sql -v log="$FAKE_LOG" -v rest="$REST"
}

latency_results()
{
    local ours theirs i
    local measures=("at rest, p50" "at rest, p99" "steady, p50" "steady, p99") goals=(3 15 3 15)
    read -r -a ours <<<"$1"
    read -r -a theirs <<<"$2"

    for i in 2 3 0 1; do
        result 2 latency "${measures[i]}" graphile-worker "${ours[i]}" "${theirs[i]}" ms 'ours<=' "${goals[i]}"
    done
}
