# 10_status.sh: line 10, milliseconds of pems_sync_status() with the deep queue of bench/depth.sh.
#
# Twice: with the statistics of one hour, and with those of HISTORY_DAYS days of every organization, which is what an
# installation has that finished its items in the course of time.  The second is what the goal is judged by.
#
# The variables are those of bench/depth.sh.
# shellcheck shell=bash

line_status()
{
    depth_run
    result 10 status "all organizations, $HISTORY_DAYS days" '' "$(sed -n 1p "$SCRATCH/depth.spread.status")" '' ms 'ours<=' 10
    result 10 status "one organization, $HISTORY_DAYS days" '' "$(sed -n 2p "$SCRATCH/depth.spread.status")" '' ms 'ours<=' 10
    result 10 status 'all organizations, statistics of one hour' '' "$(sed -n 1p "$SCRATCH/depth.compact.status")" '' ms
    result 10 status 'one organization, statistics of one hour' '' "$(sed -n 2p "$SCRATCH/depth.compact.status")" '' ms
}
