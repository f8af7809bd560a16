# The dead letter of step "An edit that PEMS rejects", after the cause is gone.
# shellcheck shell=bash

heading "A dead letter is retried"

DEAD=$(sql "SELECT id FROM pems_dead_letters WHERE modification_id = 'rejected'")
say "  In PEMS the contract is open again.  An administrator retries the edit that was rejected:"
say "    SELECT pems_retry(ARRAY['$DEAD'], retried_by => 'admin@example.com');"
RETRIED=$(sql "SELECT pems_retry(ARRAY['$DEAD'], retried_by => 'admin@example.com')")
answer "$RETRIED"
wait_finished rejected

show_attempts rejected
expect "rejected once; then PEMS was read first, and the edit sent" "$(attempts rejected)" "PUT 422, GET 200, PUT 200"
expect "the edit is synced, and PEMS has it" "$(sync_status rejected) $(in_pems RIO PFA-10020 contract)" "synced C-25-014"
expect "no dead letter is left" "$(sql "SELECT count(*) FROM pems_dead_letters")" 0
