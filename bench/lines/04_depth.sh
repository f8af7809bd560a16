# 04_depth.sh: line 4, shared buffers per claimed item at growing depth; and the resident memory of line 6.
#
# What is counted is what the worker itself runs, so that the figure stays true when its statements change: the
# shared buffers (hit and read) of its claims, by the items that they claimed.  A B-tree of ten million entries is two
# levels higher than one of a thousand, so "flat" is: not more than twice.
#
# The variables are those of bench/depth.sh: DEPTH, FINISHED, ORGANIZATIONS, HELD, SAMPLE, CHUNK.
# shellcheck shell=bash

line_depth()
{
    local base all name measure

    depth_run
    base=$(depth_buffers small claim)
    all=$(depth_buffers small all)
    while IFS='|' read -r name measure; do
        result 4 depth "claim, $measure" 'ours, 1,000 pending' "$(depth_buffers "$name" claim)" "$base" buffers/item 'ratio<=' 2
        result 4 depth "all, $measure" 'ours, 1,000 pending' "$(depth_buffers "$name" all)" "$all" buffers/item
    done <<MEASURES
middle|100,000 pending
deep|$(thousands "$DEPTH") pending
finished|and $(thousands "$FINISHED") finished
big|one organization of a tenth
MEASURES
    measure="claim, a record with $(thousands "$HELD") held"
    result 4 depth "$measure" 'ours, 100 held' "$(depth_buffers many claim)" "$(depth_buffers few claim)" buffers/item 'ratio<=' 2
    measure="all, a record with $(thousands "$HELD") held"
    result 4 depth "$measure" 'ours, 100 held' "$(depth_buffers many all)" "$(depth_buffers few all)" buffers/item
    result 6 memory 'worker over postmaster, deep' '' "$(depth_over_postmaster deep)" '' MB 'ours<=' 50
    result 6 memory 'the same' 'ours, 1,000 pending' "$(depth_over_postmaster deep)" "$(depth_over_postmaster small)" MB 'ratio<=' 1.5
}
