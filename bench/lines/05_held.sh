# 05_held.sh: line 5, a REPEATABLE READ transaction that stays open while the queue churns.
#
# Ours and graphile-worker go through the same phases, each on its own:
#   before    bursts: BURST items at once, drained as fast as it goes; BURSTS times
#   churn     HELD_RATE items a second for CHURN_SECONDS, nobody holding anything
#   held      a snapshot is opened; HELD_RATE items a second for HOLD_SECONDS
#   during    bursts, the snapshot still open
#   after     the snapshot is released; bursts, immediately
# Drain rates are the medians of the bursts; "kept up" is what was done in the second half of "held" by what was fed in it.
# Buffers are those of the worker's claims (pg_stat_statements) per claimed item.  Dead tuples of every table
# of the extension at the end of "held" go to bench/results/held_tables.txt.
#
#   HOLD_SECONDS=600      that the snapshot is open under churn
#   CHURN_SECONDS=60      of churn before
#   HELD_RATE=800         items a second
#   BURST=10000           items of a burst
#   BURSTS=7              bursts of a phase; each takes a few seconds only, and the machine may be slower in one than in another
# shellcheck shell=bash

HOLD_SECONDS=${HOLD_SECONDS:-600}
CHURN_SECONDS=${CHURN_SECONDS:-60}
HELD_RATE=${HELD_RATE:-800}
BURST=${BURST:-10000}
BURSTS=${BURSTS:-7}
# Commits a second while feeding
FEEDS=8

line_held()
{
    local all=$((BURST * (1 + 3 * BURSTS) + HELD_RATE * (HOLD_SECONDS + CHURN_SECONDS)))

    bench_cluster held <<CONFIGURATION
pems_sync.rate_limit = 0
pems_sync.max_in_flight = $IN_FLIGHT
pems_sync.batch_size = $BATCH
pg_stat_statements.track = top
autovacuum_naptime = 10s
CONFIGURATION
    call 'bench.make_organizations(1)'
    call "bench.make_set('o1', 'held', $all)"
    value 'VACUUM ANALYZE'
    pems_with 'SELECT record FROM bench.pems_record'
    peer_database graphile
    peer_set graphile held "$all"
    peer_sql graphile -c 'VACUUM ANALYZE'
    line_sql held.sql

    WHO=ours
    held_phases
    WHO=graphile
    peer_start graphile
    held_phases
    peer_stop
    held_results
    bench_end
}

# Items FED so far are those number 1 to FED of the set.
held_phases()
{
    FED=0
    pems_forget
    held_burst >/dev/null
    held_bursts before
    held_churn "$CHURN_SECONDS" churn
    held_open
    held_churn "$HOLD_SECONDS" held
    [ "$WHO" != ours ] || held_tables
    held_bursts during
    held_close
    held_bursts after
    expect_in_pems held "$FED"
}

# The session that holds the snapshot; it lives as long as its input is open.
held_open()
{
    local database=bench
    [ "$WHO" = ours ] || database=$WHO

    mkfifo "$SCRATCH/holder"
    (export PGDATABASE=$database; become_user psql -X -q -A -t -v ON_ERROR_STOP=1) <"$SCRATCH/holder" >/dev/null &
    HOLDER_PID=$!
    exec {HOLDER}>"$SCRATCH/holder"
    echo "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM bench.mark;" >&"$HOLDER"
    wait_sql "SELECT count(*) = 1 FROM pg_stat_activity WHERE state = 'idle in transaction' AND backend_xmin IS NOT NULL"
}

held_close()
{
    exec {HOLDER}>&-
    wait "$HOLDER_PID"
    rm "$SCRATCH/holder"
}

# held_queue FIRST LAST: these items, in one transaction
held_queue()
{
    if [ "$WHO" = ours ]; then
        call "pems_commit('o1', bench.drafts('held', $1, $2))"
    else
        peer_enqueue "$WHO" held "$1" "$2"
    fi
}

# Until PEMS has all items that were fed, and all of them are recorded.  PEMS is asked, because a look at a
# queue full of dead rows would slow down what is measured; the database only at the end.
held_wait()
{
    local end=$((SECONDS + PATIENCE)) recorded="SELECT count(*) = 0 FROM graphile_worker._private_jobs" database=graphile

    if [ "$WHO" = ours ]; then
        recorded="SELECT NOT EXISTS (SELECT FROM pfa_write_queue WHERE open)" database=bench
    fi
    until [ "$(pems_changes)" -ge "$FED" ] && [ "$(PGDATABASE=$database value "$recorded")" = t ]; do
        [ "$SECONDS" -lt "$end" ] || die "held: $WHO has done $(pems_changes) of $FED$(worker_error)"
        sleep 0.2
    done
}

# held_bursts PHASE: BURSTS bursts, one after another
held_bursts()
{
    local i
    : >"$SCRATCH/held.rates"

    held_statistics
    for ((i = 1; i <= BURSTS; i++)); do
        held_burst >>"$SCRATCH/held.rates"
    done
    held_keep "$1" rate "$(median <"$SCRATCH/held.rates")"
    held_keep_buffers "$1"
}

# Prints items per second, from the commit that queues to the commit that records the last.
held_burst()
{
    local first=$((FED + 1))

    FED=$((FED + BURST))
    held_queue "$first" "$FED"
    held_wait
    if [ "$WHO" = ours ]; then
        line_sql held_rate.sql -v first="$first" -v last="$FED"
    else
        peer_sql "$WHO" -c "SELECT round($BURST / (max(bench.seconds(e.xmin)) - min(bench.seconds(m.xmin))), 1)
                            FROM bench.edit e, bench.mark m WHERE m.name = 'held-$first' AND e.n BETWEEN $first AND $FED"
    fi
}

# held_churn SECONDS PHASE: FEEDS times a second, as many as HELD_RATE asks for; late ones are made up for.
held_churn()
{
    local begin turn step=$((HELD_RATE / FEEDS)) half_done=0 half_time=0 rate

    begin=$(now)
    for ((turn = 0; turn < $1 * FEEDS; turn++)); do
        if [ "$turn" -eq $(($1 * FEEDS / 2)) ]; then
            half_done=$(pems_changes)
            half_time=$(now)
            held_statistics
        fi
        FED=$((FED + step))
        held_queue $((FED - step + 1)) "$FED"
        sleep "$(awk -v due="$(((turn + 1) * 1000 / FEEDS))" -v begin="$begin" -v now="$EPOCHREALTIME" \
            'BEGIN { pause = due / 1000 - (now - begin); print (pause > 0 ? pause : 0) }')"
    done
    rate=$(calculate "($(pems_changes) - $half_done) / ($(now) - $half_time)")
    held_keep "$2" rate "$rate"
    held_keep_buffers "$2"
    held_wait
}

held_statistics()
{
    value 'SELECT pg_stat_statements_reset()' >/dev/null
}

held_keep_buffers()
{
    [ "$WHO" != ours ] || held_keep "$1" buffers "$(value 'SELECT bench.claim_buffers()')"
}

# held_keep PHASE WHAT VALUE
held_keep()
{
    say "$3" >"$SCRATCH/held.$WHO.$1.$2"
    note "$WHO, $1: $2 $3"
}

# held_kept WHO PHASE WHAT
held_kept()
{
    cat "$SCRATCH/held.$1.$2.$3"
}

held_tables()
{
    mkdir -p "$PROJECT/bench/results"
    value 'SELECT pg_stat_force_next_flush()' >/dev/null
    as_user psql -X -q --pset footer=off -c 'SELECT * FROM bench.dead_tuples' |
        tee "$PROJECT/bench/results/held_tables.txt" | sed '/^$/d; s/^/    /'
    HELD_DEAD=$(value "SELECT format('%s %s', dead, \"table\") FROM bench.dead_tuples ORDER BY dead DESC LIMIT 1")
}

# held_share WHO PHASE: rate of the phase by the rate before
held_share()
{
    calculate "$(held_kept "$1" "$2" rate) / $(held_kept "$1" before rate)"
}

held_results()
{
    local graphile=graphile-worker

    result 5 held 'drain rate with the snapshot / before' $graphile "$(held_share ours during)" \
        "$(held_share graphile during)" share 'ours>=' 0.9
    result 5 held 'drain rate right after release / before' $graphile "$(held_share ours after)" \
        "$(held_share graphile after)" share 'ours>=' 0.9
    result 5 held 'drain rate with the snapshot' $graphile "$(held_kept ours during rate)" \
        "$(held_kept graphile during rate)" items/s
    result 5 held "kept up with $HELD_RATE/s, second half" $graphile "$(held_kept ours held rate)" \
        "$(held_kept graphile held rate)" items/s
    result 5 held 'buffers per claim, end of hold' 'ours, before' "$(held_kept ours during buffers)" \
        "$(held_kept ours before buffers)" buffers 'ratio<=' 1.5
    result 5 held "most dead tuples: ${HELD_DEAD#* }" '' "${HELD_DEAD%% *}" '' rows
}
