# 07_fairness.sh: line 7, seconds that one edit waits behind another organization's on the same endpoint.
#
# The other organization has BEHIND items queued, at RATE_LIMIT requests per second; every other second one edit of
# ours is committed.  The longest time to its arrival at PEMS counts.
#
#   BEHIND=10000      items of the other organization
#   EDITS=10          edits of ours
#   RATE_LIMIT=10     pems_sync.rate_limit
# shellcheck shell=bash

BEHIND=${BEHIND:-10000}
EDITS=${EDITS:-10}
RATE_LIMIT=${RATE_LIMIT:-10}

line_fairness()
{
    local i seconds

    bench_cluster fairness <<<"pems_sync.rate_limit = $RATE_LIMIT"
    call 'bench.make_organizations(2)'
    call "bench.make_set('o1', 'many', $BEHIND)"
    call "bench.make_set('o2', 'edit', $EDITS)"
    value 'ANALYZE'
    pems_with 'SELECT record FROM bench.pems_record'

    call "pems_commit('o1')"
    wait_sql "SELECT requests > $RATE_LIMIT FROM pems_worker"
    for ((i = 1; i <= EDITS; i++)); do
        value "BEGIN; INSERT INTO bench.mark VALUES ('edit-$i'); SELECT pems_commit('o2', ARRAY['edit-$i']); COMMIT" >/dev/null
        sleep 2
    done
    wait_sql "SELECT bool_and(sync_status = 'synced') FROM pfa_modification WHERE organization_id = 'o2'"
    [ "$(value "SELECT pending > 0 FROM (SELECT sum(pending) AS pending FROM pems_sync_stats WHERE organization_id = 'o1') s")" = t ] ||
        die "the other organization had nothing left that one could wait behind; raise BEHIND"
    seconds=$(line_sql fairness.sql -v log="$FAKE_LOG")
    result 7 fairness "one edit behind $(thousands "$BEHIND"), longest of $EDITS" '' "$seconds" '' s 'ours<=' 2
    bench_end
}
