# PEMS moves on while somebody drafts: it is known before the draft is sent.
# shellcheck shell=bash

heading "A draft is out of date: the early warning"

draft overtaken RIO PFA-10081 alice.martin@example.com '{"contract": "C-25-441", "dor": "BEO"}' 'New contract'
draft beside RIO PFA-10082 alice.martin@example.com '{"contract": "C-25-442"}' 'New contract'
edit_in_pems RIO PFA-10081 mary.in.pems@example.com '{"contract": "C-25-991"}'
edit_in_pems RIO PFA-10082 mary.in.pems@example.com '{"description": "Serviced"}'
say "  alice has two drafts.  mary.in.pems changes both records: the same field of one, another field of the other."
pull_now org-rio

STATES=$(app "SELECT pems_sync_state('org-rio', ARRAY['PFA-10081', 'PFA-10082'])")
say "  pems_sync_state():"
table "SELECT key AS record, value ->> 'status' AS status, value -> 'stale' AS stale, value -> 'changedFields' AS \"changedFields\"
       FROM jsonb_each(\$states\$$STATES\$states\$) ORDER BY key"
say "  pems_commit_preview():"
PREVIEW=$(app "SELECT pems_commit_preview('org-rio', ARRAY['overtaken', 'beside'])")
table "SELECT d ->> 'modificationId' AS draft, d ->> 'decision' AS decision, d -> 'fields' AS fields
       FROM jsonb_array_elements(\$preview\$$PREVIEW\$preview\$::jsonb -> 'drafts') d ORDER BY 1 DESC"
expect "both records have changed since, and one of them in a field of the draft" \
    "$(sql "SELECT string_agg(concat_ws(' ', key, value -> 'stale', value -> 'changedFields'), ', ' ORDER BY key)
            FROM jsonb_each(\$states\$$STATES\$states\$)")" 'PFA-10081 true ["contract"], PFA-10082 true []'
expect "one would be a conflict, the other is merged" \
    "$(sql "SELECT string_agg(concat_ws(' ', d ->> 'modificationId', d ->> 'decision'), ', ' ORDER BY d ->> 'modificationId' DESC)
            FROM jsonb_array_elements(\$preview\$$PREVIEW\$preview\$::jsonb -> 'drafts') d")" "overtaken conflict, beside merge"
expect "nothing was sent" "$(sql "SELECT count(*) FROM demo.pems_request WHERE pfa_id IN ('PFA-10081', 'PFA-10082')")" 0

say "  alice looks at the record as it is, drafts again on that version, and commits both:"
app "SELECT pems_discard('overtaken', 'alice.martin@example.com', 'org-rio')" >/dev/null
draft informed RIO PFA-10081 alice.martin@example.com '{"contract": "C-25-441", "dor": "BEO"}' 'Agreed with mary'
expect "the new draft can be sent as it is" \
    "$(app "SELECT pems_commit_preview('org-rio', ARRAY['informed']) #>> '{drafts,0,decision}'")" send
commit RIO informed >/dev/null
commit RIO beside >/dev/null
wait_finished informed beside
expect "both are synced, without a conflict" \
    "$(sync_status informed) $(sync_status beside) $(sql "SELECT count(*) FROM pfa_sync_conflict WHERE pfa_id IN ('PFA-10081', 'PFA-10082')")" \
    "synced synced 0"
expect "PEMS has alice's fields, and mary's" \
    "$(in_pems RIO PFA-10081 contract), $(in_pems RIO PFA-10082 contract), $(in_pems RIO PFA-10082 description)" \
    "C-25-441, C-25-442, Serviced"
