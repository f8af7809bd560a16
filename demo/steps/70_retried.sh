# PEMS is unavailable for a moment.
# shellcheck shell=bash

heading "An edit that is retried after a 503"

fake_control POST faults '{"pfaId": "PFA-10030", "call": "update", "count": 1, "status": 503}' >/dev/null
draft retried RIO PFA-10030 alice.martin@example.com '{"description": "Retried in the demo"}'
commit RIO retried >/dev/null
say "  After a 503 nobody knows whether the write took effect, so the next request is a read."
wait_finished retried

show_attempts retried
expect "the attempts: 503, a look at PEMS, the same write again" "$(attempts retried)" "PUT 503, GET 200, PUT 200"
expect "the edit is synced" "$(sync_status retried)" synced
expect "PEMS has it" "$(in_pems RIO PFA-10030 description)" "Retried in the demo"
expect "PEMS applied it once" \
    "$(sql "SELECT count(*) FROM demo.pems_request WHERE pfa_id = 'PFA-10030' AND applied")" 1
