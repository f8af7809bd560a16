# PEMS does what it is asked, and the connection breaks before it can say so.
# shellcheck shell=bash

heading "An edit whose answer is lost"

fake_control POST faults '{"pfaId": "PFA-10060", "call": "update", "count": 1, "applyThenDrop": true}' >/dev/null
draft unanswered RIO PFA-10060 ben.okafor@example.com '{"description": "Answer lost in the demo"}'
commit RIO unanswered >/dev/null
say "  PEMS has made the change, but only PEMS knows.  The worker does not write again:"
say "  it waits two seconds, reads the record, and finds the change there."
wait_finished unanswered

show_attempts unanswered
expect "the attempts: a write without an answer, then a look at PEMS" "$(attempts unanswered)" "PUT no answer, GET 200"
expect "the edit is synced" "$(sync_status unanswered)" synced
expect "PEMS was written to once, and has the change" \
    "$(sql "SELECT count(*) FROM demo.pems_request WHERE pfa_id = 'PFA-10060' AND method = 'PUT'"): $(in_pems RIO PFA-10060 description)" \
    "1: Answer lost in the demo"
