# Somebody works in PEMS, and the application hears of it without asking.
# shellcheck shell=bash

heading "An edit made in PEMS arrives"

edit_in_pems RIO PFA-10080 mary.in.pems@example.com '{"contract": "C-25-880", "description": "Moved to the rail loop"}'
say "  mary.in.pems has changed PFA-10080.  The worker reads what has changed, every second from now on:"
say "    ALTER SYSTEM SET pems_sync.pull_interval = '1s';"
sql "ALTER SYSTEM SET pems_sync.pull_interval = '1s'"
sql "SELECT pg_reload_conf()" >/dev/null
wait_for "SELECT data ->> 'contract' = 'C-25-880' FROM pfa_mirror WHERE pfa_id = 'PFA-10080'" || true
sql "ALTER SYSTEM RESET pems_sync.pull_interval"
sql "SELECT pg_reload_conf()" >/dev/null
# the one that goes on, if there is one
wait_for "SELECT count(job_id) = 0 FROM pems_pulls" || true

DELTA=$(sql "SELECT j ->> 'id' FROM jsonb_array_elements(pems_sync_history('org-rio', kind => 'pull') -> 'jobs') WITH ORDINALITY jobs (j, n)
             WHERE (pems_job(j ->> 'id') ->> 'updated')::integer > 0 ORDER BY n DESC LIMIT 1")
table "SELECT j ->> 'requestedBy' AS \"asked by\", j ->> 'mode' AS mode, j ->> 'records' AS \"records read\", j ->> 'updated' AS updated,
              j ->> 'unchanged' AS unchanged FROM pems_job('$DELTA') j"
say "  Unchanged are our own edits: they come back, and the mirror has them already."
expect "the worker asked for what has changed, and found one record that the mirror did not have" \
    "$(sql "SELECT concat_ws(' ', j ->> 'requestedBy', j ->> 'mode', j ->> 'status', j ->> 'updated') FROM pems_job('$DELTA') j")" \
    "pems_sync delta completed 1"
expect "the mirror has mary's change" \
    "$(sql "SELECT concat_ws(', ', data ->> 'contract', data ->> 'description') FROM pfa_mirror WHERE pfa_id = 'PFA-10080'")" \
    "C-25-880, Moved to the rail loop"
expect "the delta read less than all 300 records" \
    "$(sql "SELECT (j ->> 'records')::integer < 300 FROM pems_job('$DELTA') j")" t
