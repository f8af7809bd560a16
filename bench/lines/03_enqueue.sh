# 03_enqueue.sh: line 3, what pems_commit() costs beside a bare INSERT of the same rows.
#
# The bare table has the columns, defaults, checks and indexes of the queue, and nothing else; ours
# locks and validates each draft, looks for earlier items of its record, queues, audits, marks the draft, counts.
# The worker is told to send nothing meanwhile.
#
#   DRAFTS=100000     drafts of one call
#   SINGLES=20000     drafts that are committed one by one
#   CLIENTS=8         sessions that do so
# shellcheck shell=bash

DRAFTS=${DRAFTS:-100000}
SINGLES=${SINGLES:-20000}
CLIENTS=${CLIENTS:-8}

line_enqueue()
{
    bench_cluster enqueue <<<"pems_sync.enabled = off"
    enqueue_prepare
    enqueue_measure bulk
    enqueue_measure singles
    result 3 enqueue "one call, $(thousands "$DRAFTS") drafts" 'bare INSERT ... SELECT' "$(median <"$SCRATCH/enqueue.bulk.ours")" \
        "$(median <"$SCRATCH/enqueue.bulk.bare")" s 'ratio<=' 3
    result 3 enqueue "single commits, $CLIENTS clients" 'bare INSERT' "$(median <"$SCRATCH/enqueue.singles.ours")" \
        "$(median <"$SCRATCH/enqueue.singles.bare")" commits/s 'ratio>=' 0.5
    bench_end
}

# A set of drafts for each run, each in an organization of its own; run 0 warms up.
enqueue_prepare()
{
    local run

    call "bench.make_organizations($((RUNS + 1)))"
    for ((run = 0; run <= RUNS; run++)); do
        call "bench.make_set('o$((run + 1))', 'bulk$run', $DRAFTS)"
        call "bench.make_set('o$((run + 1))', 'single$run', $SINGLES)"
    done
    line_sql enqueue.sql
    value 'VACUUM ANALYZE'
}

# enqueue_measure KIND: ours and bare in turn; run 0 is not kept.
enqueue_measure()
{
    local NUMBER

    for ((NUMBER = 0; NUMBER <= RUNS; NUMBER++)); do
        value CHECKPOINT
        alternate "$NUMBER" "enqueue_$1_ours" "enqueue_$1_bare"
        [ "$NUMBER" -gt 0 ] || rm -f "$SCRATCH/enqueue.$1."*
    done
}

# seconds_of STATEMENT: until its transaction is committed, as psql sees it
seconds_of()
{
    as_user psql -X -q -A -t -v ON_ERROR_STOP=1 -c '\timing on' -c "$1" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | awk '{ print $1 / 1000 }'
}

enqueue_bulk_ours()
{
    seconds_of "SELECT pems_commit('o$((NUMBER + 1))', bench.drafts('bulk$NUMBER', 1, $DRAFTS))" >>"$SCRATCH/enqueue.bulk.ours"
    enqueue_expect pfa_write_queue "bulk$NUMBER" "$DRAFTS"
}

enqueue_bulk_bare()
{
    seconds_of "SELECT bench.insert_bare(bench.drafts('bulk$NUMBER', 1, $DRAFTS))" >>"$SCRATCH/enqueue.bulk.bare"
    enqueue_expect bench.queue "bulk$NUMBER" "$DRAFTS"
}

enqueue_singles_ours()
{
    enqueue_singles enqueue_ours.pgbench >>"$SCRATCH/enqueue.singles.ours"
    enqueue_expect pfa_write_queue "single$NUMBER" $((SINGLES / CLIENTS * CLIENTS))
}

enqueue_singles_bare()
{
    enqueue_singles enqueue_bare.pgbench >>"$SCRATCH/enqueue.singles.bare"
    enqueue_expect bench.queue "single$NUMBER" $((SINGLES / CLIENTS * CLIENTS))
}

# enqueue_singles SCRIPT: commits per second
enqueue_singles()
{
    value "ALTER SEQUENCE bench.single RESTART"
    as_user pgbench -n -M prepared -c "$CLIENTS" -j 2 -t $((SINGLES / CLIENTS)) -D run="$NUMBER" -D organization="$((NUMBER + 1))" \
        -f "$SOURCE/bench/lines/$1" 2>/dev/null | sed -n 's/^tps = \([0-9.]*\).*/\1/p'
}

# enqueue_expect TABLE SET COUNT
enqueue_expect()
{
    local found
    found=$(value "SELECT count(*) FROM $1 WHERE modification_id LIKE '$2-%' AND status = 'pending' AND waits_for IS NULL")

    [ "$found" = "$3" ] || die "$1 has $found items of $2, not $3"
}
