# Somebody else changed the same field in PEMS: a person has to decide, and nothing is overwritten.
# shellcheck shell=bash

heading "An edit that meets a change in PEMS, of the same field"

draft contested PORTARTHUR PFA-20010 carla.nguyen@example.com '{"description": "Needed for hydrotest"}' 'Hydrotest'
edit_in_pems PORTARTHUR PFA-20010 mary.in.pems@example.com '{"description": "Needed for pre-commissioning"}'
commit PORTARTHUR contested >/dev/null
wait_finished contested

say "  pfa_sync_conflict:"
table "SELECT pfa_id, kind, status, conflict_fields AS fields, base_data ->> 'description' AS base,
              local_data ->> 'description' AS ours, pems_data ->> 'description' AS \"in PEMS\"
       FROM pfa_sync_conflict WHERE modification_id = 'contested'"
expect "it is a conflict on that field" \
    "$(sql "SELECT concat_ws(' ', q.status, c.kind, c.status, c.conflict_fields) FROM pfa_write_queue q
            JOIN pfa_sync_conflict c ON c.item_id = q.id WHERE q.modification_id = 'contested'")" \
    'conflict update_update unresolved ["description"]'
expect "PEMS keeps its value" "$(in_pems PORTARTHUR PFA-20010 description)" "Needed for pre-commissioning"
expect "the mirror shows what PEMS has" \
    "$(sql "SELECT data ->> 'description' FROM pfa_mirror WHERE pfa_id = 'PFA-20010'")" "Needed for pre-commissioning"
