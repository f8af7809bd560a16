# In the end: what the status says, and what the checker of the tests finds.
# shellcheck shell=bash

heading "In the end"

say "  pems_sync_status():"
answer "$(sql "SELECT pems_sync_status()")"
expect "nothing waits, no dead letter and no conflict needs a person" \
    "$(sql "SELECT concat_ws(' ', s ->> 'totalQueued', s ->> 'processing', s ->> 'failed', s ->> 'conflicts', s ->> 'health')
            FROM pems_sync_status() s")" "0 0 0 0 healthy"

say "  The checker compares database, audit log and the log of PEMS:"
look_into_pems
CHECKED=$(as_user "$SOURCE/test/support/checker" --database "dbname=$PGDATABASE" --log "$FAKE_LOG" \
    --records "$RUN/pems_records.json" --initial "$RUN/records.json") && CHECKER=0 || CHECKER=$?
indent <<<"$CHECKED"
expect "the checker has no objection" "$CHECKER" 0
