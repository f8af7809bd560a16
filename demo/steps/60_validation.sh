# An edit that breaks the rules never becomes a request.
# shellcheck shell=bash

heading "An edit that fails validation"

draft invalid RIO PFA-10010 alice.martin@example.com \
    '{"forecastStart": "2025-09-01T00:00:00Z", "forecastEnd": "2025-03-01T00:00:00Z", "dor": "SITE"}'
REJECTED=$(commit RIO invalid)
answer "$REJECTED"

expect "pems_commit() rejects it and says why" \
    "$(sql "SELECT concat_ws('; ', r ->> 'code', r -> 'errors') FROM jsonb_array_elements(\$answer\$$REJECTED\$answer\$::jsonb -> 'rejected') r")" \
    'VALIDATION_FAILED; ["DOR must be BEO or PROJECT", "Forecast end must be after forecast start"]'
expect "it is still a draft" "$(sync_status invalid)" draft
expect "PEMS never saw it" "$(sql "SELECT count(*) FROM demo.pems_request WHERE pfa_id = 'PFA-10010'")" 0
