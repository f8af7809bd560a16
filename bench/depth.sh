# depth.sh: one deep queue for the lines that need it (depth, status; and the memory of line 6): loaded step by
# step, measured at each.
#
# DEPTH pending items of ORGANIZATIONS organizations, a tenth of them of the first; one item a record.  Then as many
# finished ones (of the same modifications: their rows are of no use to a claim), and one record with HELD items.
# The fake PEMS has only the first records of each organization, because more are never sent.
#
#   DEPTH=10000000          pending items at the end, at least 100000
#   FINISHED=10000000       finished items
#   ORGANIZATIONS=1000
#   HELD=10000              items of one record, at least 100
#   SAMPLE=1000             items that are sent to measure, at each depth; at most 1000
#   HISTORY_DAYS=30         days over which the statistics of finished items are spread, hour by hour
#   CHUNK=500000            rows per statement while loading
# shellcheck shell=bash

DEPTH=${DEPTH:-10000000}
FINISHED=${FINISHED:-10000000}
ORGANIZATIONS=${ORGANIZATIONS:-1000}
HELD=${HELD:-10000}
SAMPLE=${SAMPLE:-1000}
HISTORY_DAYS=${HISTORY_DAYS:-30}
CHUNK=${CHUNK:-500000}
# Records of each organization that PEMS has, the first organization's and the others'
DEPTH_KNOWN=$((SAMPLE * 40))
DEPTH_KNOWN_OTHERS=$((SAMPLE * 40 / ORGANIZATIONS + 100))

DEPTH_PENDING=0

# depth_run: the cluster "depth", loaded and measured; once.  Buffers are counted here, not seconds, so
# nothing waits for the disk.
depth_run()
{
    [ ! -f "$SCRATCH/depth.many.buffers" ] || return 0
    bench_cluster depth <<CONFIGURATION
pems_sync.rate_limit = 0
pems_sync.max_in_flight = $IN_FLIGHT
pems_sync.batch_size = $BATCH
pems_sync.enabled = off
pg_stat_statements.track = top
fsync = off
full_page_writes = off
CONFIGURATION
    line_sql depth.sql
    call "bench.make_organizations($ORGANIZATIONS)"
    pems_with "SELECT r FROM bench.known_records($DEPTH_KNOWN, $DEPTH_KNOWN_OTHERS) r"

    depth_grow 1000
    depth_measure small
    depth_memory small
    depth_grow 100000
    depth_measure middle
    depth_grow "$DEPTH"
    depth_measure deep
    depth_memory deep
    depth_finish
    depth_measure finished
    depth_big
    depth_crowd few 100
    depth_crowd many "$HELD"
    bench_end
}

# depth_grow N: N pending items of as many records; the triggers and keys of the application's tables come back after it.
depth_grow()
{
    local first last

    [ "$1" -le "$DEPTH" ] || die "DEPTH must be at least $1"
    value 'SELECT pems_detach()' >/dev/null
    for ((first = DEPTH_PENDING + 1; first <= $1; first += CHUNK)); do
        last=$((first + CHUNK - 1 < $1 ? first + CHUNK - 1 : $1))
        call "bench.load($first, $last, $ORGANIZATIONS)"
    done
    DEPTH_PENDING=$1
    value 'SELECT pems_attach()' >/dev/null
    value 'VACUUM ANALYZE'
    note "$1 pending, database of $(value 'SELECT pg_size_pretty(pg_database_size(current_database()))')"
}

# Finished items, with statistics of a month, as an installation has them
depth_finish()
{
    local first last

    value 'SELECT pems_detach()' >/dev/null
    for ((first = 1; first <= FINISHED; first += CHUNK)); do
        last=$((first + CHUNK - 1 < FINISHED ? first + CHUNK - 1 : FINISHED))
        call "bench.load_finished($first, $last, $DEPTH, $ORGANIZATIONS)"
    done
    value 'SELECT pems_attach()' >/dev/null
    call 'count(_pems_fold_stats()) FROM generate_series(1, 100)'
    value 'VACUUM ANALYZE'
    depth_status compact
    call "bench.spread_statistics($HISTORY_DAYS)"
    value 'VACUUM ANALYZE pems_sync_stats'
    depth_status spread
    note "$FINISHED finished, database of $(value 'SELECT pg_size_pretty(pg_database_size(current_database()))')"
}

# depth_measure NAME: the worker sends SAMPLE items or more; buffers per item of its claims, and of all it ran
depth_measure()
{
    local before end=$((SECONDS + PATIENCE))
    before=$(pems_changes)

    value 'SELECT pg_stat_statements_reset()' >/dev/null
    setting pems_sync.enabled on
    until [ $(($(pems_changes) - before)) -ge "$SAMPLE" ]; do
        [ "$SECONDS" -lt "$end" ] || die "$1: the worker has sent $(($(pems_changes) - before)) of $SAMPLE$(worker_error)"
        sleep 0.05
    done
    setting pems_sync.enabled off
    wait_sql "pems_sync_status() ->> 'processing' = '0'"
    [ "$(value "SELECT count(*) FROM pems_audit_log WHERE event_type = 'WRITE_ATTEMPT' AND http_status IS DISTINCT FROM 200")" = 0 ] ||
        die "an item was sent that PEMS does not know; fewer SAMPLE, or more DEPTH_KNOWN"
    value 'SELECT * FROM bench.worker_buffers' >"$SCRATCH/depth.$1.buffers"
    note "$1: buffers per item, of the claims | of all statements of the worker: $(cat "$SCRATCH/depth.$1.buffers")"
}

# depth_buffers NAME claim|all
depth_buffers()
{
    local column=1

    [ "$2" = claim ] || column=2
    cut -d '|' -f "$column" <"$SCRATCH/depth.$1.buffers"
}

# One organization with a tenth of all, the others paused
depth_big()
{
    value "SELECT count(pems_pause(id)) FROM organization WHERE id <> 'o1'" >/dev/null
    depth_measure big
    value "SELECT count(pems_resume(id)) FROM organization WHERE id <> 'o1'" >/dev/null
}

# depth_crowd NAME N: one record with N items, of which one may go at a time; all else is paused.  50 of them are sent.
depth_crowd()
{
    local record=crowd-$1 usual=$SAMPLE

    if [ "$1" = few ]; then
        value "INSERT INTO organization VALUES ('crowd', 'CROWD', 'Crowd')"
        fake_control POST organizations "{\"code\": \"CROWD\", \"token\": \"$TOKEN\"}" >/dev/null
        set_credential CROWD
        value "SELECT count(pems_pause(id)) FROM organization WHERE id <> 'crowd'" >/dev/null
    else
        value "SELECT count(pems_discard(modification_id)) FROM pfa_write_queue
               WHERE organization_id = 'crowd' AND unfinished AND status = 'pending'" >/dev/null
    fi
    fake_control POST records "{\"organizationCode\": \"CROWD\", \"pfaId\": \"$record\", \"version\": 3,
        \"data\": {\"source\": \"Rental\", \"monthlyRate\": 5000}}" >/dev/null
    call "bench.make_crowd('$record', $2)"
    SAMPLE=50
    depth_measure "$1"
    SAMPLE=$usual
}

# depth_memory NAME: of the worker and, as what each process has, of the postmaster; MB
depth_memory()
{
    say "$(own_memory "$(worker_pid)") $(own_memory "$(head -n 1 "$RUN/$CLUSTER/data/postmaster.pid")")" >"$SCRATCH/depth.$1.memory"
    note "$1: memory of worker and postmaster, MB: $(cat "$SCRATCH/depth.$1.memory")"
}

# depth_over_postmaster NAME
depth_over_postmaster()
{
    awk '{ print $1 - $2 }' "$SCRATCH/depth.$1.memory"
}

# depth_status NAME: milliseconds of pems_sync_status(), the median of 50 calls; of all organizations, and of the first
depth_status()
{
    local call

    for call in "pems_sync_status()" "pems_sync_status('o1')"; do
        printf 'SELECT %s;\n' "$call" | as_user tee "$RUN/status.pgbench" >/dev/null
        as_user pgbench -n -c 1 -t 50 -l --log-prefix="$RUN/status" -f "$RUN/status.pgbench" >/dev/null 2>&1
        awk '{ print $3 / 1000 }' "$RUN"/status.[0-9]* | median
        rm -f "$RUN"/status.*
    done >"$SCRATCH/depth.$1.status"
    note "$1 statistics: ms of pems_sync_status(), pems_sync_status('o1'): $(paste -sd ' ' "$SCRATCH/depth.$1.status")"
}
