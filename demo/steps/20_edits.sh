# Many edits of several users and one delete, committed; and one commit that rolls back.
# shellcheck shell=bash

heading "Edits are committed"

sql_file edits.sql
EDITS=$(sql "SELECT count(*) FROM pfa_modification")
say "  Four planners have drafted $EDITS edits, one of them a delete:"
table "SELECT o.code AS organization, m.created_by AS planner, count(*) AS drafts
       FROM pfa_modification m JOIN organization o ON o.id = m.organization_id GROUP BY 1, 2 ORDER BY 1 DESC, 2"

say "  One is committed in a transaction that rolls back:"
draft rolled-back RIO PFA-10050 alice.martin@example.com '{"dor": "BEO"}'
app "BEGIN; SELECT format('    pems_commit() queued %s, then ROLLBACK', pems_commit('org-rio', ARRAY['rolled-back']) ->> 'queuedCount'); ROLLBACK"
app "DELETE FROM pfa_modification WHERE id = 'rolled-back'"

say "  Both organizations commit all their drafts:"
for code in RIO PORTARTHUR; do
    say "    $(app "SELECT format('%s: queued %s, job %s, estimated completion %s', o.code, c ->> 'queuedCount', c ->> 'jobId', c ->> 'estimatedCompletionTime')
                   FROM organization o, pems_commit(o.id) c WHERE o.code = '$code'")"
done

say "  The worker sends at most $RATE_LIMIT requests a second:"
watch_queue "$EDITS"

expect "all $EDITS edits are synced" \
    "$(sql "SELECT count(*) FROM pfa_modification WHERE sync_status = 'synced'")" "$EDITS"
expect "PEMS was asked once for each" \
    "$(sql "SELECT count(*) || ' requests, ' || count(DISTINCT item_id) || ' items' FROM demo.pems_request WHERE call <> 'list'")" \
    "$EDITS requests, $EDITS items"
expect "PEMS never saw the edit that was rolled back" \
    "$(sql "SELECT count(*) FROM demo.pems_request WHERE pfa_id = 'PFA-10050'")" 0
expect_true "no second saw more than $RATE_LIMIT requests" \
    "SELECT max(n) <= $RATE_LIMIT FROM (SELECT count(*) OVER (ORDER BY arrived_at
         RANGE BETWEEN CURRENT ROW AND interval '999 milliseconds' FOLLOWING) AS n FROM demo.pems_request) window_counts"
