# The states that a record was in, and the way back to one of them.
# shellcheck shell=bash

heading "The history of a record, and a rollback"

# What pems_version_history() says, newest first.
show_history()
{
    table "SELECT v ->> 'version' AS version, v ->> 'source' AS source, v ->> 'changedBy' AS \"by\", v ->> 'changeReason' AS why,
                  CASE WHEN (v ->> 'current')::boolean THEN 'yes' END AS current
           FROM jsonb_array_elements(pems_version_history('org-rio', 'PFA-10081') -> 'versions') v"
}

BEFORE=$(sql "SELECT version FROM demo.record WHERE pfa_id = 'PFA-10081'")
say "  pems_version_history() of PFA-10081: read from PEMS twice, then alice's edit."
show_history
expect "who made each state, newest first" \
    "$(app "SELECT string_agg(concat_ws(' ', v ->> 'source', v ->> 'changedBy'), ', ')
            FROM jsonb_array_elements(pems_version_history('org-rio', 'PFA-10081') -> 'versions') v")" \
    "write alice.martin@example.com, pems mary.in.pems@example.com, pems pems.planning@example.com"

say "  An administrator looks what a rollback to version $BEFORE would change, and makes it:"
table "SELECT c ->> 'field' AS field, c ->> 'from' AS \"from\", c ->> 'to' AS \"to\"
       FROM jsonb_array_elements(pems_rollback_preview('org-rio', 'PFA-10081', $BEFORE) -> 'changes') c"
ROLLBACK=$(sql "SELECT pems_rollback('org-rio', 'PFA-10081', $BEFORE, 'Contract was cancelled', 'admin@example.com') ->> 'modificationId'")
wait_finished "$ROLLBACK"
show_history
expect "PEMS has the old contract again" "$(sync_status "$ROLLBACK") $(in_pems RIO PFA-10081 contract)" \
    "synced $(sql "SELECT data ->> 'contract' FROM demo.record WHERE pfa_id = 'PFA-10081'")"
expect "the rollback is a new version, with author and reason" \
    "$(app "SELECT concat_ws(' ', v ->> 'version', v ->> 'changedBy', v ->> 'changeReason', v ->> 'current')
            FROM jsonb_array_elements(pems_version_history('org-rio', 'PFA-10081') -> 'versions') WITH ORDINALITY h (v, n) WHERE n = 1")" \
    "$((BEFORE + 3)) admin@example.com Contract was cancelled true"
