# What a list of records shows beside each: one call for all of them.
# shellcheck shell=bash

heading "Badges in a list: pems_sync_state()"

sql "SELECT pems_pause('org-rio', 'Maintenance of PEMS until noon')" >/dev/null
draft waiting RIO PFA-10070 ben.okafor@example.com '{"contract": "C-25-070"}'
commit RIO waiting >/dev/null
BADGES=$(app "SELECT pems_sync_state('org-rio', ARRAY['PFA-10010', 'PFA-10020', 'PFA-10040', 'PFA-10070'])
                  || pems_sync_state('org-portarthur', ARRAY['PFA-20010'])")
sql "SELECT pems_resume('org-rio')" >/dev/null

table "SELECT key AS record, value ->> 'status' AS status, value ->> 'modificationId' AS edit,
              value ->> 'conflictId' IS NOT NULL AS \"has a conflict\", value ->> 'error' AS \"what the badge says\"
       FROM jsonb_each(\$badges\$$BADGES\$badges\$) ORDER BY key"
say "  syncing is missing: PEMS answers too quickly here.  The pause is over again:"
expect "each record has its state" \
    "$(sql "SELECT string_agg(value ->> 'status', ', ' ORDER BY key) FROM jsonb_each(\$badges\$$BADGES\$badges\$)")" \
    "draft, failed, synced, queued, conflict"
expect "the conflict's badge leads to the conflict" \
    "$(sql "SELECT \$badges\$$BADGES\$badges\$::jsonb #>> '{PFA-20010,conflictId}'")" "$(conflict_of contested)"
wait_finished waiting
expect "what was queued is synced now" \
    "$(app "SELECT pems_sync_state('org-rio', ARRAY['PFA-10070']) #>> '{PFA-10070,status}'")" synced
