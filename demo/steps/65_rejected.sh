# PEMS has rules of its own: what it rejects becomes a dead letter, and other records go on.
# shellcheck shell=bash

heading "An edit that PEMS rejects"

fake_control POST faults '{"pfaId": "PFA-10020", "call": "update", "status": 422,
    "body": {"success": false, "error": "BUSINESS_RULE", "message": "Contract C-25-014 is closed"}}' >/dev/null
draft rejected RIO PFA-10020 ben.okafor@example.com '{"contract": "C-25-014"}' 'Moved to the new contract'
draft neighbour RIO PFA-10021 ben.okafor@example.com '{"contract": "C-25-015"}' 'Moved to the new contract'
commit RIO rejected >/dev/null
commit RIO neighbour >/dev/null
wait_finished rejected neighbour
fake_control DELETE faults >/dev/null

say "  pems_dead_letters:"
table "SELECT pfa_id, error_code, last_error, retry_count AS retries, payload FROM pems_dead_letters"
expect "PEMS rejected it: it is a dead letter, after one attempt" \
    "$(sql "SELECT concat_ws(' ', status, error_code, 'after', attempt) FROM pfa_write_queue WHERE modification_id = 'rejected'")" \
    "failed INVALID_REQUEST after 1"
expect "an edit of another record, committed after it, is in PEMS" "$(in_pems RIO PFA-10021 contract)" C-25-015
