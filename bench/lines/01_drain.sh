# 01_drain.sh: line 1, items per second with rate_limit 0, everything durable and audited; and the two limits.
#
# The variables are those of bench/drains.sh: ITEMS, WARMUP, CONCURRENCY, IN_FLIGHT, BATCH.
# shellcheck shell=bash

line_drain()
{
    local ours

    drains_run
    ours=$(median <"$SCRATCH/drain.ours.rate")
    result 1 drain 'drain' graphile-worker "$ours" "$(median <"$SCRATCH/drain.graphile.rate")" items/s 'ratio>=' 5
    result 1 drain 'drain' pg-boss "$ours" "$(median <"$SCRATCH/drain.boss.rate")" items/s
    result 1 drain 'drain, against the limit' 'libcurl multi, no database' "$ours" "$(median <"$SCRATCH/drain.client.rate")" items/s
    result 1 drain 'drain, against the limit' 'PostgreSQL, no HTTP' "$ours" "$(median <"$SCRATCH/drain.database.rate")" items/s
}
