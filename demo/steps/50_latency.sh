# How long it takes from COMMIT until PEMS has the request.
# shellcheck shell=bash

heading "From COMMIT to arrival in PEMS"

# What a busy machine may take; the table says what it took.
LIMIT_MS=250
IDS=()

say "  25 edits, one at a time, each committed by itself:"
for number in {20101..20125}; do
    draft "single-$number" PORTARTHUR "PFA-$number" dev.patel@example.com '{"isFundsTransferable": true}' 'Released'
    commit PORTARTHUR "single-$number" >/dev/null
    IDS+=("single-$number")
    sleep 0.05
done
wait_finished "${IDS[@]}"

table "SELECT count(*) AS edits, round(min(ms), 2) AS \"fastest ms\",
              round(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms)::numeric, 2) AS \"median ms\",
              round(percentile_cont(0.95) WITHIN GROUP (ORDER BY ms)::numeric, 2) AS \"95 % within ms\",
              round(max(ms), 2) AS \"slowest ms\"
       FROM demo.latency WHERE modification_id LIKE 'single-%'"
expect "all 25 arrived" "$(sql "SELECT count(*) FROM demo.latency WHERE modification_id LIKE 'single-%'")" 25
expect_true "half of them within $LIMIT_MS ms: the commit wakes the worker, no poll does" \
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) < $LIMIT_MS FROM demo.latency WHERE modification_id LIKE 'single-%'"
