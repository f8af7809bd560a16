# Somebody else changed the same fields in PEMS: a person has to decide, and nothing is overwritten.
# shellcheck shell=bash

heading "Edits that meet a change in PEMS, of the same field"

draft contested PORTARTHUR PFA-20010 carla.nguyen@example.com '{"description": "Needed for hydrotest"}' 'Hydrotest'
draft outdated PORTARTHUR PFA-20011 carla.nguyen@example.com '{"contract": "C-25-901"}' 'New contract'
draft negotiable PORTARTHUR PFA-20012 carla.nguyen@example.com \
    '{"forecastEnd": "2027-06-30T00:00:00Z", "equipment": "TH-0042"}' 'Needed longer'
edit_in_pems PORTARTHUR PFA-20010 mary.in.pems@example.com '{"description": "Needed for pre-commissioning"}'
edit_in_pems PORTARTHUR PFA-20011 mary.in.pems@example.com '{"contract": "C-25-902"}'
edit_in_pems PORTARTHUR PFA-20012 mary.in.pems@example.com '{"forecastEnd": "2027-01-31T00:00:00Z"}'
for edit in contested outdated negotiable; do
    commit PORTARTHUR "$edit" >/dev/null
done
wait_finished contested outdated negotiable

say "  carla.nguyen has edited three records; mary.in.pems has changed the same fields in PEMS."
say "  pems_open_conflicts:"
table "SELECT pfa_id, kind, conflict_fields, local_version AS \"seen v\", pems_version AS \"PEMS v\", local_data AS edit
       FROM pems_open_conflicts ORDER BY pfa_id"
expect "all three are conflicts, on the field that both changed" \
    "$(sql "SELECT string_agg(concat_ws(' ', m.sync_status, c.kind, c.conflict_fields), ', ' ORDER BY c.pfa_id)
            FROM pems_open_conflicts c JOIN pfa_modification m ON m.id = c.modification_id")" \
    'conflict update_update ["description"], conflict update_update ["contract"], conflict update_update ["forecastEnd"]'
expect "PEMS keeps its values" \
    "$(in_pems PORTARTHUR PFA-20010 description), $(in_pems PORTARTHUR PFA-20011 contract), $(in_pems PORTARTHUR PFA-20012 forecastEnd)" \
    "Needed for pre-commissioning, C-25-902, 2027-01-31T00:00:00Z"
expect "nothing of the third edit was sent, also not its other field" \
    "$(sql "SELECT p.data ->> 'equipment' = r.data ->> 'equipment' FROM demo.pems_record p
            JOIN demo.record r USING (code, pfa_id) WHERE p.pfa_id = 'PFA-20012'")" t
expect "the mirror shows what PEMS has" \
    "$(sql "SELECT data ->> 'description' FROM pfa_mirror WHERE pfa_id = 'PFA-20010'")" "Needed for pre-commissioning"

draft behind PORTARTHUR PFA-20010 carla.nguyen@example.com '{"contract": "C-25-903"}' 'Same record, later'
commit PORTARTHUR behind >/dev/null
expect "a later edit of the record waits behind the conflict" \
    "$(sql "SELECT e.modification_id FROM pems_queue q JOIN pems_queue e ON e.id = q.held_by WHERE q.modification_id = 'behind'")" \
    contested
