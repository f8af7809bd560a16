# drains.sh: one drain after another, of ours and of each peer, measured once for the lines that look at it
# (drain: items per second; cost: processor time per item).
#
#   ITEMS=30000       items of a measured run
#   WARMUP=3000       items before the first measurement of a process
#   IN_FLIGHT=64      pems_sync.max_in_flight; the peers' number is CONCURRENCY
#   BATCH=250         pems_sync.batch_size
# shellcheck shell=bash

ITEMS=${ITEMS:-30000}
WARMUP=${WARMUP:-3000}
IN_FLIGHT=${IN_FLIGHT:-$CONCURRENCY}
BATCH=${BATCH:-250}

PEER_NAMES=(graphile boss)

# The cluster "drain", with a set of records for each run; the peers send the same records after PEMS has forgotten
# what we sent.
drains_open()
{
    local number peer

    bench_cluster drain <<CONFIGURATION
pems_sync.rate_limit = 0
pems_sync.max_in_flight = $IN_FLIGHT
pems_sync.batch_size = $BATCH
CONFIGURATION
    call 'bench.make_organizations(1)'
    for ((number = 0; number <= RUNS; number++)); do
        call "bench.make_set('o1', 'run$number', $(drain_size "$number"))"
    done
    value 'ANALYZE'
    pems_with 'SELECT record FROM bench.pems_record'
    for peer in "${PEER_NAMES[@]}"; do
        peer_database "$peer"
        for ((number = 0; number <= RUNS; number++)); do
            peer_set "$peer" "run$number" "$(drain_size "$number")"
        done
        peer_sql "$peer" -c 'VACUUM ANALYZE'
    done
}

# Set 0 is the warm-up.
drain_size()
{
    if [ "$1" -gt 0 ]; then say "$ITEMS"; else say "$WARMUP"; fi
}

# drains_run: RUNS drains of ours and of each peer, in an order that turns, and the two limits; once.  What each run
# gave goes to the files SCRATCH/drain.WHO.rate, .cpu (of the process that sends), .all (with the server's processes),
# .connections (to PEMS) and .descriptors (of the process).
drains_run()
{
    local number who turn=()

    [ ! -f "$SCRATCH/drain.database.rate" ] || return 0
    drains_open
    pems_forget
    drain_ours 0 >/dev/null
    for ((number = 1; number <= RUNS; number++)); do
        turn=(ours "${PEER_NAMES[@]}")
        [ $((number % 2)) -eq 1 ] || turn=("${PEER_NAMES[@]}" ours)
        for who in "${turn[@]}"; do
            if [ "$who" = ours ]; then
                drain_measured ours "$number"
            else
                peer_warm "$who"
                drain_measured "$who" "$number"
                peer_stop
            fi
        done
    done
    limit_of_client >"$SCRATCH/drain.client.rate"
    limit_of_database >"$SCRATCH/drain.database.rate"
    bench_end
}

# drain_measured WHO NUMBER
drain_measured()
{
    local who=$1 number=$2 pid rate cpu all size
    size=$(drain_size "$number")

    value CHECKPOINT
    pems_forget
    pid=$PEER_PID
    [ "$who" != ours ] || pid=$(worker_pid)
    cpu=$(cpu_seconds "$pid")
    all=$(cpu_of_cluster)
    if [ "$who" = ours ]; then rate=$(drain_ours "$number"); else rate=$(drain_peer "$who" "$number"); fi
    cpu=$(calculate "($(cpu_seconds "$pid") - $cpu) / $size * 1e6")
    all=$(calculate "($(cpu_of_cluster) - $all) / $size * 1e6")
    connections_to_pems "$pid" >>"$SCRATCH/drain.$who.connections"
    as_root find "/proc/$pid/fd" -mindepth 1 | wc -l >>"$SCRATCH/drain.$who.descriptors"
    # our worker is one of the server's processes, a peer's is not
    [ "$who" = ours ] || all=$(calculate "$all + $cpu")
    say "$rate" >>"$SCRATCH/drain.$who.rate"
    say "$cpu" >>"$SCRATCH/drain.$who.cpu"
    say "$all" >>"$SCRATCH/drain.$who.all"
    note "run $number, $who: $rate items/s, $cpu us of its process per item, $all us with the server"
}

# drain_ours NUMBER: prints items per second, from the commit that queues to the commit that records the last.
drain_ours()
{
    local name=run$1 size
    size=$(drain_size "$1")

    sql >/dev/null <<SQL
BEGIN;
INSERT INTO bench.mark VALUES ('$name-1');
SELECT pems_commit('o1', bench.drafts('$name', 1, $size));
COMMIT;
SQL
    wait_drained
    expect_in_pems "$name" "$size"
    expect_recorded "$name" "$size"
    value "SELECT round($size / (max(bench.seconds(q.xmin)) - min(bench.seconds(m.xmin))), 1)
           FROM pfa_write_queue q, bench.mark m WHERE m.name = '$name-1' AND q.modification_id LIKE '$name-%'"
}

# expect_recorded NAME SIZE: queue, modification, mirror, history and audit log of each say that it is done, once.
expect_recorded()
{
    local found
    found=$(line_sql drain_recorded.sql -v name="$1")

    [ "$found" = "$2|$2|$2|$2|$2" ] || die "of $2 items these were recorded (queue, modification, mirror, history, audit log): $found"
}

# peer_warm PEER: starts it and lets it do the warm-up.
peer_warm()
{
    peer_start "$1"
    pems_forget
    drain_peer "$1" 0 >/dev/null
}

# drain_peer PEER NUMBER: the same for a peer: to the commit of the last UPDATE of bench.edit.
drain_peer()
{
    local peer=$1 name=run$2 size recorded
    size=$(drain_size "$2")

    peer_sql "$peer" -c "SELECT bench.renew('$name')" -c 'VACUUM ANALYZE bench.edit' >/dev/null
    peer_enqueue "$peer" "$name" 1 "$size"
    peer_wait "$peer" "$name" "$size"
    expect_in_pems "$name" "$size"
    recorded=$(peer_sql "$peer" -c "SELECT count(*) FROM bench.edit WHERE set_name = '$name' AND status = 'synced' AND new_version = 4")
    [ "$recorded" = "$size" ] || die "$peer recorded $recorded of $size"
    peer_sql "$peer" -c "SELECT round($size / (max(bench.seconds(e.xmin)) - min(bench.seconds(m.xmin))), 1)
                         FROM bench.edit e, bench.mark m WHERE m.name = '$name-1' AND e.set_name = '$name'"
}

# peer_wait PEER NAME COUNT: until PEMS has taken so many writes, and all of them are recorded.
peer_wait()
{
    local peer=$1 end=$((SECONDS + PATIENCE))

    until [ "$(pems_changes)" -ge "$3" ] &&
        [ "$(peer_sql "$peer" -c "SELECT count(*) FROM bench.edit WHERE set_name = '$2' AND status = 'synced'")" -ge "$3" ]; do
        [ "$SECONDS" -lt "$end" ] || { tail -n 5 "$RUN/logs/$peer.out" >&2; die "$peer does not come to an end"; }
        sleep 0.2
    done
}

# The same PUTs by libcurl alone; the body stands in bench/curl_limit.c.
limit_of_client()
{
    local number

    for ((number = 1; number <= RUNS; number++)); do
        pems_forget
        as_user "$SOURCE/build/curl_limit" "$FAKE_URL/api" "$TOKEN" "run$number" "$ITEMS" "$CONCURRENCY"
        expect_in_pems "run$number" "$ITEMS"
    done
}

# Claim, and four row writes per item, in batches of 250, by one session
limit_of_database()
{
    local number

    line_sql drain_database.sql
    for ((number = 1; number <= RUNS; number++)); do
        call "bench.fill($ITEMS)"
        value CHECKPOINT
        as_user pgbench -n -c 1 -M prepared -t $((ITEMS / 250)) -f "$SOURCE/bench/lines/drain_database.pgbench" 2>/dev/null |
            sed -n 's/^tps = \([0-9.]*\).*/\1/p' | awk '{ print $1 * 250 }'
        [ "$(value "SELECT count(*) FROM bench.queue WHERE status = 'completed'")" = $((ITEMS / 250 * 250)) ] ||
            die "PostgreSQL alone did not record all"
    done
}
