# 06_cost.sh: line 6, processor time per item, connections and descriptors, during the drains of line 1.  The resident
# memory of the same goal is measured at depth, where it matters: see depth.sh.
#
# The variables are those of bench/drains.sh.
# shellcheck shell=bash

line_cost()
{
    local peer

    drains_run
    for peer in "${PEER_NAMES[@]}"; do
        if [ "$peer" = graphile ]; then
            result 6 cost 'CPU of the sending process per item' "$(peer_name "$peer")" "$(median <"$SCRATCH/drain.ours.cpu")" \
                "$(median <"$SCRATCH/drain.$peer.cpu")" us 'ratio<=' 0.2
        else
            result 6 cost 'CPU of the sending process per item' "$(peer_name "$peer")" "$(median <"$SCRATCH/drain.ours.cpu")" \
                "$(median <"$SCRATCH/drain.$peer.cpu")" us
        fi
        result 6 cost 'the same with the PostgreSQL server' "$(peer_name "$peer")" "$(median <"$SCRATCH/drain.ours.all")" \
            "$(median <"$SCRATCH/drain.$peer.all")" us
    done
    result 6 cost 'connections to PEMS, after' "$(peer_name graphile)" "$(median <"$SCRATCH/drain.ours.connections")" \
        "$(median <"$SCRATCH/drain.graphile.connections")" connections 'ours<=' "$IN_FLIGHT"
    result 6 cost 'descriptors of the process, after' "$(peer_name graphile)" "$(median <"$SCRATCH/drain.ours.descriptors")" \
        "$(median <"$SCRATCH/drain.graphile.descriptors")" descriptors
}
