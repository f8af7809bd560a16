# The mirror is empty: everything is read from PEMS, page by page.
# shellcheck shell=bash

heading "An empty mirror is filled: pems_pull()"

expect "the mirror is empty, PEMS has 500 records" \
    "$(sql 'SELECT count(*) FROM pfa_mirror') $(look_into_pems; sql 'SELECT count(*) FROM demo.pems_record')" "0 500"
# A PEMS that takes its time, so that there is something to watch
fake_control POST faults '{"id": "slow", "call": "list", "delayMs": 200}' >/dev/null
PULLS=()
for code in RIO PORTARTHUR; do
    PULLS+=("$(app "SELECT pems_pull(id, requested_by => 'alice.martin@example.com') ->> 'jobId' FROM organization WHERE code = '$code'")")
done
say "  Nothing was read before, so the first pull reads all.  pems_pulls, while pages of $PAGE_SIZE come in:"
watch_pulls
expect "their progress was to be seen" "$((WATCHED > 0))" 1

say "  pems_job() of both:"
table "SELECT o.code AS organization, j ->> 'mode' AS mode, j ->> 'status' AS status, j ->> 'pages' AS pages, j ->> 'records' AS records,
              j ->> 'created' AS created, j ->> 'percent' AS percent, j ->> 'durationSeconds' AS seconds
       FROM unnest(ARRAY['${PULLS[0]}', '${PULLS[1]}']) pull, pems_job(pull) j JOIN organization o ON o.id = j ->> 'organizationId'
       ORDER BY 1 DESC"
expect "both pulls are completed" \
    "$(sql "SELECT string_agg(pems_job(pull) ->> 'status', ' ') FROM unnest(ARRAY['${PULLS[0]}', '${PULLS[1]}']) pull")" \
    "completed completed"
expect "every record is in the mirror as it is in PEMS, with its version" \
    "$(sql "SELECT count(*) FROM pfa_mirror m JOIN organization o ON o.id = m.organization_id
            JOIN demo.pems_record p ON p.code = o.code AND p.pfa_id = m.pfa_id AND p.version = m.version AND p.data = m.data")" 500
expect "each page was asked for once" \
    "$(sql "SELECT string_agg(code || ' ' || n, ', ' ORDER BY code DESC)
            FROM (SELECT code, count(*) AS n FROM demo.pems_request WHERE call = 'list' GROUP BY code) pages")" \
    "RIO $((300 / PAGE_SIZE)), PORTARTHUR $((200 / PAGE_SIZE))"

AGAIN=$(app "SELECT pems_pull('org-rio', mode => 'full') ->> 'jobId'")
say "  Everything of RIO once more.  How many records there are is known now:"
watch_pulls
fake_control DELETE 'faults?id=slow' >/dev/null
expect "the second full pull changes nothing" \
    "$(sql "SELECT concat_ws(' ', j ->> 'status', j ->> 'unchanged', j ->> 'created', j ->> 'updated') FROM pems_job('$AGAIN') j")" \
    "completed 300 0 0"
