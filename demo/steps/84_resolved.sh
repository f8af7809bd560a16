# The three ways out of a conflict.
# shellcheck shell=bash

heading "Conflicts are resolved"

say "  use_local: carla insists.  Her edit goes to PEMS after all, and the one behind it follows."
show_conflict "$(conflict_of contested)"
resolve contested use_local carla.nguyen@example.com
wait_finished contested behind
expect "PEMS has carla's value now, and her later edit" \
    "$(in_pems PORTARTHUR PFA-20010 description), $(in_pems PORTARTHUR PFA-20010 contract)" "Needed for hydrotest, C-25-903"
expect "both edits are synced" "$(sync_status contested) $(sync_status behind)" "synced synced"

say ""
say "  use_pems: mary was right.  Nothing is sent."
show_conflict "$(conflict_of outdated)"
resolve outdated use_pems carla.nguyen@example.com
expect "PEMS keeps mary's value; carla's edit is over" "$(in_pems PORTARTHUR PFA-20011 contract) $(sync_status outdated)" \
    "C-25-902 superseded"

say ""
say "  merge: they agree on a date in between.  What merged_data says takes the place of the whole edit."
show_conflict "$(conflict_of negotiable)"
resolve negotiable merge carla.nguyen@example.com '{"forecastEnd": "2027-04-15T00:00:00Z", "equipment": "TH-0042"}'
wait_finished negotiable
expect "PEMS has the date they agreed on, and the other field of the edit" \
    "$(in_pems PORTARTHUR PFA-20012 forecastEnd) $(in_pems PORTARTHUR PFA-20012 equipment) $(sync_status negotiable)" \
    "2027-04-15T00:00:00Z TH-0042 synced"
expect "the audit log says who decided what" \
    "$(sql "SELECT string_agg(concat_ws(' ', actor, request ->> 'resolution'), ', ' ORDER BY at)
            FROM pems_audit_log WHERE event_type = 'CONFLICT_RESOLVED'")" \
    "carla.nguyen@example.com use_local, carla.nguyen@example.com use_pems, carla.nguyen@example.com merge"
