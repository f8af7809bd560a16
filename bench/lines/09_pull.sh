# 09_pull.sh: line 9, seconds of a full pull into an empty mirror with history; what an unchanged one costs; the
# worker's memory; and how long edits take meanwhile.
#
# Ours goes from pems_pull() to the end of its job: it reads pages from the fake PEMS, writes mirror and history, keeps
# what it has seen, and looks at the end for what is missing.  Beside it, with the same records into tables of the
# same shape: COPY from a file into an unlogged staging table and one INSERT ... ON CONFLICT from there, in one
# transaction, no HTTP; and a Node.js script that reads the same pages and writes each with one statement
# (bench/peers/pull.js).
# The second pull finds everything as it is.  Before it the tables are vacuumed, as they are some minutes after the
# first, and there is a checkpoint.  What the worker's memory is compared with is what it has after a pull of 2,000
# records, when all its plans are made.
# Edits are committed EDIT_RATE times a second, in another organization of the same endpoint, while another full
# pull fills an empty mirror, and then as many without a pull.
#
#   RECORDS=100000    records of 1 kB; 1000000 is the size of the goal
#   PAGE_SIZE=500     pems_sync.pull_page_size, and the script's; 500 is the default
#   EDIT_RATE=20      edits a second
# shellcheck shell=bash

RECORDS=${RECORDS:-100000}
PAGE_SIZE=${PAGE_SIZE:-500}
EDIT_RATE=${EDIT_RATE:-20}
# More than are committed while one pull runs
PULL_EDITS=10000

line_pull()
{
    local run

    pull_prepare
    # some pages, so that all plans are made: the worker's memory is compared with what it has then
    pull_once o3 >/dev/null
    for ((run = 1; run <= RUNS; run++)); do
        pull_round "$run"
    done
    pull_edits
    pull_results
    bench_end
}

pull_prepare()
{
    bench_cluster pull <<CONFIGURATION
pems_sync.rate_limit = 0
pems_sync.pull_page_size = $PAGE_SIZE
CONFIGURATION
    call 'bench.make_organizations(3)'
    line_sql pull.sql
    call "bench.make_set('o2', 'edit', $PULL_EDITS)"
    value "COPY (SELECT pfa_id, version, data FROM bench.pull_records($RECORDS)) TO '$RUN/pull.copy'"
    pems_with "SELECT record FROM bench.pems_record UNION ALL
               SELECT json_build_object('organizationCode', 'ORG1', 'pfaId', pfa_id, 'version', version, 'data', data)
               FROM bench.pull_records($RECORDS) UNION ALL
               SELECT json_build_object('organizationCode', 'ORG3', 'pfaId', pfa_id, 'version', version, 'data', data)
               FROM bench.pull_records(2000)"
}

# All three in turn, each into empty tables
pull_round()
{
    local who turn=(ours copy node)

    [ $(($1 % 2)) -eq 1 ] || turn=(node copy ours)
    pull_empty
    for who in "${turn[@]}"; do
        value CHECKPOINT
        "pull_$who"
    done
    pull_expect pfa_mirror pems_mirror_version
}

# Files as new, not full of dead rows
pull_empty()
{
    call 'bench.pull_empty()'
    sql -c 'VACUUM FULL pfa_mirror' -c 'VACUUM FULL pems_mirror_version' -c 'VACUUM ANALYZE'
}

# pull_expect MIRROR HISTORY: all records, as PEMS has them, and each once in the history
pull_expect()
{
    local found
    found=$(value "SELECT * FROM bench.pull_found('$1', '$2', $RECORDS)")

    [ "$found" = "$RECORDS|$RECORDS|$RECORDS" ] ||
        die "$1 should have $RECORDS records; it has, has as PEMS has them, and has in the history once: $found"
}

# pull_keep NAME VALUE: what one run gave
pull_keep()
{
    say "$2" >>"$SCRATCH/pull.$1"
    note "$1 $2"
}

pull_kept()
{
    median <"$SCRATCH/pull.$1"
}

# pull_wait JOB: until that pull has ended.  One session looks, in short transactions: processes that come and go would
# cost more than the pull does.
pull_wait()
{
    sql -v job="$1" >/dev/null <<'SQL'
SELECT set_config('bench.job', :'job', false);
DO $$
BEGIN
    WHILE (SELECT finished_at IS NULL FROM pems_sync_job WHERE id = current_setting('bench.job')) LOOP
        COMMIT;
        PERFORM pg_sleep(0.05);
    END LOOP;
END
$$;
SQL
}

# pull_watch PID: prints the most memory that the worker has had until that process ends.
pull_watch()
{
    local memory=0 worker
    worker=$(worker_pid)

    while kill -0 "$1" 2>/dev/null; do
        memory=$(printf '%s\n' "$memory" "$(own_memory "$worker")" | sort -g | tail -n 1)
        sleep 0.5
    done
    say "$memory"
}

# pull_once ORGANIZATION: prints seconds of a full pull, kB of write-ahead log, and the most memory of the worker meanwhile in MB
pull_once()
{
    local job before memory waiter

    before=$(value 'SELECT pg_current_wal_insert_lsn()')
    job=$(value "SELECT pems_pull('$1', mode => 'full') ->> 'jobId'")
    pull_wait "$job" &
    waiter=$!
    memory=$(pull_watch "$waiter")
    wait "$waiter"
    [ "$(value "SELECT status FROM pems_sync_job WHERE id = '$job'")" = completed ] || die "the pull failed$(worker_error)"
    value "SELECT format('%s %s $memory', round(extract(epoch FROM finished_at - created_at), 2),
                         round((pg_current_wal_insert_lsn() - '$before') / 1024)) FROM pems_sync_job WHERE id = '$job'"
}

# The first pull, and the unchanged one
pull_ours()
{
    local seconds wal memory

    pull_keep memory.before "$(own_memory "$(worker_pid)")"
    pull_cpu ours read -r seconds wal memory < <(pull_once o1)
    pull_keep ours "$seconds"
    pull_keep ours.wal "$wal"
    pull_keep memory.while "$memory"
    sql -c 'VACUUM ANALYZE pfa_mirror' -c 'VACUUM ANALYZE pems_mirror_version' -c CHECKPOINT
    pull_cpu second read -r seconds wal memory < <(pull_once o1)
    pull_keep second "$seconds"
    pull_keep second.wal "$wal"
    pull_keep memory.after "$(own_memory "$(worker_pid)")"
}

# pull_cpu WHO COMMAND...: keeps the processor time that the server takes meanwhile, all of its processes.
pull_cpu()
{
    local who=$1 before
    before=$(cpu_of_cluster)

    shift
    "$@"
    pull_keep "$who.cpu" "$(calculate "$(cpu_of_cluster) - $before")"
}

pull_copy()
{
    local begin
    begin=$(now)

    pull_cpu copy line_sql pull_copy.sql -v file="$RUN/pull.copy"
    pull_keep copy "$(seconds_since "$begin")"
    pull_expect bench.mirror bench.version
    value 'TRUNCATE bench.mirror, bench.version, bench.staging'
}

pull_node()
{
    local begin count
    begin=$(now)

    pull_cpu node pull_script || die "the script failed"
    count=$(cat "$SCRATCH/pull.script")
    [ "$count" = "$RECORDS" ] || die "the script has seen $count records"
    pull_keep node "$(seconds_since "$begin")"
    pull_expect bench.mirror bench.version
    value 'TRUNCATE bench.mirror, bench.version, bench.staging'
}

pull_script()
{
    (
        export PEMS_URL=$FAKE_URL/api TOKEN
        become_user node "$PEERS/pull.js" ORG1 o1 "$PAGE_SIZE"
    ) >"$SCRATCH/pull.script"
}

# Edit 1 opens the connection; 2 to n are committed while a pull runs, as many after it without one.
pull_edits()
{
    local job last

    pull_empty
    pems_forget
    pull_send 1 1
    job=$(value "SELECT pems_pull('o1', mode => 'full') ->> 'jobId'")
    pull_send 2 "$PULL_EDITS" "$job"
    last=$(value "SELECT count(*) FROM bench.mark")
    [ $((last * 2)) -le "$PULL_EDITS" ] || die "the pull took too long for $PULL_EDITS edits"
    wait_drained
    pull_send $((last + 1)) $((last * 2 - 1))
    wait_drained
    expect_in_pems edit $((last * 2 - 1))
    read -r -a PULL_LATENCY <<<"$(line_sql latency.sql -v log="$FAKE_LOG" -v rest=$((last - 1)))"
}

# pull_send FIRST LAST [JOB]: one session that commits one edit after another, each after a pause; until that pull ends.
pull_send()
{
    local i ended=$SCRATCH/pull.ended waiter=

    rm -f "$ended"
    if [ $# -eq 3 ]; then
        (pull_wait "$3" && : >"$ended") &
        waiter=$!
    fi
    for ((i = $1; i <= $2; i++)); do
        [ ! -f "$ended" ] || break
        say "BEGIN; INSERT INTO bench.mark VALUES ('edit-$i'); SELECT pems_commit('o2', ARRAY['edit-$i']); COMMIT;"
        sleep "$(calculate "1 / $EDIT_RATE")"
    done | sql >/dev/null
    [ -z "$waiter" ] || wait "$waiter"
}

pull_results()
{
    local copy='COPY, INSERT ... ON CONFLICT' size
    size="$(thousands "$RECORDS") records"

    result 9 pull "full, $size" "$copy" "$(pull_kept ours)" "$(pull_kept copy)" s 'ratio<=' 2
    result 9 pull "full, $size" 'Node.js, batched upserts' "$(pull_kept ours)" "$(pull_kept node)" s
    result 9 pull 'processor time of the server' "$copy" "$(pull_kept ours.cpu)" "$(pull_kept copy.cpu)" s
    result 9 pull 'processor time of the server' 'Node.js, batched upserts' "$(pull_kept ours.cpu)" "$(pull_kept node.cpu)" s
    result 9 pull 'the second, unchanged' 'ours, the first' "$(pull_kept second)" "$(pull_kept ours)" s 'ratio<=' 0.333
    result 9 pull 'its write-ahead log' 'ours, the first' "$(pull_kept second.wal)" "$(pull_kept ours.wal)" kB 'ratio<=' 0.01
    result 9 pull "worker's memory, most meanwhile" 'ours, before' "$(pull_kept memory.while)" "$(pull_kept memory.before)" MB 'ratio<=' 1.5
    result 9 pull "worker's memory, after" 'ours, before' "$(pull_kept memory.after)" "$(pull_kept memory.before)" MB 'ratio<=' 1.5
    result 9 pull 'edits meanwhile, p50' 'ours, without a pull' "${PULL_LATENCY[0]}" "${PULL_LATENCY[2]}" ms
    result 9 pull 'edits meanwhile, p99' 'ours, without a pull' "${PULL_LATENCY[1]}" "${PULL_LATENCY[3]}" ms 'ratio<=' 2
}
