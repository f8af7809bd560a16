# The worker is killed while 20 edits are on their way.
# shellcheck shell=bash

heading "kill -9 of the worker"

# PEMS answers the first seven, does the next seven without ever saying so, and leaves the rest alone.
fake_control POST faults '[{"call": "update", "after": 7, "count": 7, "delayAfterApplyMs": 60000},
    {"call": "update", "after": 7, "count": 6, "hang": true}]' >/dev/null
app "INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by)
     SELECT 'killed-' || m.pfa_id, m.organization_id, m.pfa_id, m.version,
            jsonb_build_object('description', 'Inspected, report ' || m.pfa_id), 'dev.patel@example.com'
     FROM pfa_mirror m WHERE m.pfa_id BETWEEN 'PFA-20126' AND 'PFA-20145'"
mapfile -t IDS < <(sql "SELECT id FROM pfa_modification WHERE id LIKE 'killed-%'")
app "SELECT pems_commit('org-portarthur')" >/dev/null

# in_the_middle: seven are synced, and PEMS has all the others.
in_the_middle()
{
    local end=$((SECONDS + PATIENCE))

    until [ "$(sql "SELECT count(*) FROM pfa_modification WHERE id LIKE 'killed-%' AND sync_status = 'synced'")" = 7 ] &&
        [ "$(sql "SELECT \$stats\$$(fake_control GET stats)\$stats\$::jsonb ->> 'waiting'")" = 13 ]; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}

in_the_middle || true
KILLED=$(sql "SELECT pid FROM pems_worker")
say "  20 edits are committed: $(sql "SELECT format('%s are synced, %s wait for their answer', count(*) FILTER (WHERE status = 'completed'),
    count(*) FILTER (WHERE status = 'processing')) FROM pfa_write_queue WHERE modification_id LIKE 'killed-%'")."
say "    kill -9 $KILLED"
kill -KILL "$KILLED"
# PostgreSQL restarts all its processes then; for a moment nobody can connect
wait_for "SELECT pid <> $KILLED AND state = 'running' FROM pems_worker" 2>/dev/null || true
say "  PostgreSQL has started a new worker.  It reads what was on its way before it writes again:"
wait_finished "${IDS[@]}"
fake_control DELETE faults >/dev/null

table "SELECT count(*) AS edits, a.requests, CASE a.requests
           WHEN 'PUT 200' THEN 'answered before the kill'
           WHEN 'PUT no answer, GET 200' THEN 'PEMS had done it'
           WHEN 'PUT no answer, GET 200, PUT 200' THEN 'PEMS had not done it: sent again' ELSE 'unexpected' END AS \"what it means\"
       FROM (SELECT string_agg(http_method || ' ' || coalesce(http_status::text, 'no answer'), ', ' ORDER BY at) AS requests
             FROM pems_audit_log WHERE modification_id LIKE 'killed-%' AND http_method IS NOT NULL GROUP BY modification_id) a
       GROUP BY a.requests ORDER BY a.requests COLLATE \"C\""
look_into_pems
expect "all 20 are synced" \
    "$(sql "SELECT count(*) FROM pfa_modification WHERE id LIKE 'killed-%' AND sync_status = 'synced'")" 20
expect "all 20 are in PEMS" \
    "$(sql "SELECT count(*) FROM demo.pems_record WHERE data ->> 'description' = 'Inspected, report ' || pfa_id")" 20
expect "PEMS applied each once" \
    "$(sql "SELECT count(*) || ' times, ' || count(DISTINCT pfa_id) || ' records' FROM demo.pems_request
            WHERE applied AND pfa_id BETWEEN 'PFA-20126' AND 'PFA-20145'")" "20 times, 20 records"
expect "six were sent again, and only those" \
    "$(sql "SELECT count(*) FROM (SELECT FROM demo.pems_request WHERE method = 'PUT' AND pfa_id BETWEEN 'PFA-20126' AND 'PFA-20145'
            GROUP BY pfa_id HAVING count(*) = 2) twice")" 6
