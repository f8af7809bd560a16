# Somebody else changed another field in PEMS, and our mirror does not know yet.
# shellcheck shell=bash

heading "An edit that meets a change in PEMS, of another field"

draft merged RIO PFA-10040 alice.martin@example.com '{"forecastEnd": "2027-03-31T00:00:00Z"}' 'Extended'
edit_in_pems RIO PFA-10040 mary.in.pems@example.com '{"contract": "C-25-777"}'
say "  The user has extended the forecast; mary.in.pems has changed the contract meanwhile."
say "  No field was changed by both, so nobody has to decide anything."
commit RIO merged >/dev/null
wait_finished merged

show_attempts merged
expect "PEMS answered 409; the record was read, merged and sent" "$(attempts merged)" "PUT 409, GET 200, PUT 200"
expect "the user's change is in PEMS" "$(in_pems RIO PFA-10040 forecastEnd)" 2027-03-31T00:00:00Z
expect "the other user's change is still there" "$(in_pems RIO PFA-10040 contract)" C-25-777
expect "the mirror has both" \
    "$(sql "SELECT concat_ws(' ', data ->> 'forecastEnd', data ->> 'contract') FROM pfa_mirror WHERE pfa_id = 'PFA-10040'")" \
    "2027-03-31T00:00:00Z C-25-777"
expect "there is no conflict" "$(sql "SELECT count(*) FROM pfa_sync_conflict WHERE modification_id = 'merged'")" 0
