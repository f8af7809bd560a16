# PEMS moves on while somebody thinks about a conflict.
# shellcheck shell=bash

heading "A resolution that comes too late"

draft stale PORTARTHUR PFA-20013 dev.patel@example.com '{"contract": "C-25-801"}'
edit_in_pems PORTARTHUR PFA-20013 mary.in.pems@example.com '{"contract": "C-25-802"}'
commit PORTARTHUR stale >/dev/null
wait_finished stale
FIRST=$(conflict_of stale)
edit_in_pems PORTARTHUR PFA-20013 mary.in.pems@example.com '{"contract": "C-25-803"}'
say "  The conflict shows C-25-802.  While dev thinks about it, mary changes the field again, to C-25-803."
resolve stale use_local dev.patel@example.com
wait_finished stale

SECOND=$(conflict_of stale)
say "  dev never saw C-25-803, so it is not overwritten.  There is a new conflict:"
show_conflict "$SECOND"
expect "PEMS keeps the value that dev had not seen" "$(in_pems PORTARTHUR PFA-20013 contract)" C-25-803
expect "the new conflict names the old one" \
    "$(app "SELECT pems_conflict('$SECOND') ->> 'previousConflictId'")" "$FIRST"
say "  Now dev has seen it, and lets it be:"
resolve stale use_pems dev.patel@example.com
expect "nothing of this edit was ever applied" \
    "$(sql "SELECT count(*) FROM demo.pems_request WHERE pfa_id = 'PFA-20013' AND applied")" 0
