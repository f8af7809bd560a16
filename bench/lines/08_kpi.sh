# 08_kpi.sh: line 8, the product's own figures: many items at the rate limit, some requests failing.
#
# A share of the requests is answered with 503, which is transient.  The seconds go from the commit to the moment
# at which nothing waits any more, retries included; the success is the share of items that PEMS has.
#
#   KPI_ITEMS=1000         items
#   KPI_FAULTS=0.01        share of the requests that fail
#   RATE_LIMIT=10          pems_sync.rate_limit; all else as it is by default
# shellcheck shell=bash

KPI_ITEMS=${KPI_ITEMS:-1000}
KPI_FAULTS=${KPI_FAULTS:-0.01}
RATE_LIMIT=${RATE_LIMIT:-10}

line_kpi()
{
    local seconds share faults

    bench_cluster kpi <<<"pems_sync.rate_limit = $RATE_LIMIT"
    call 'bench.make_organizations(1)'
    call "bench.make_set('o1', 'kpi', $KPI_ITEMS)"
    value 'ANALYZE'
    pems_with 'SELECT record FROM bench.pems_record'
    fake_control POST faults "{\"probability\": $KPI_FAULTS, \"seed\": 42, \"status\": 503}" >/dev/null

    value "BEGIN; INSERT INTO bench.mark VALUES ('begin'); SELECT pems_commit('o1'); COMMIT" >/dev/null
    wait_drained
    seconds=$(value "SELECT round(max(bench.seconds(q.xmin)) - min(bench.seconds(m.xmin)), 1) FROM pfa_write_queue q, bench.mark m")
    share=$(value "SELECT round(100.0 * count(*) FILTER (WHERE status = 'completed') / count(*), 3) FROM pfa_write_queue")
    faults=$(value "SELECT count(*) FROM pems_audit_log WHERE http_status = 503")
    [ "$faults" -gt 0 ] || die "no request failed; raise KPI_ITEMS"
    [ "$(pems_changes)" = "$(value "SELECT count(*) FROM pfa_write_queue WHERE status = 'completed'")" ] ||
        die "PEMS has taken $(pems_changes) writes, which is not what the queue says"
    result 8 kpi "$(thousands "$KPI_ITEMS") items at $RATE_LIMIT/s, $faults times 503" '' "$seconds" '' s 'ours<=' 300
    result 8 kpi 'share that succeeded' '' "$share" '' % 'ours>=' 99.9
    bench_end
}
