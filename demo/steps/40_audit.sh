# Everything about one edit is in the audit log.
# shellcheck shell=bash

heading "The audit log of one edit"

AUDITED=$(sql "SELECT id FROM pfa_modification WHERE operation = 'UPDATE' AND delta ? 'forecastStart' ORDER BY id LIMIT 1")
say "  Modification $AUDITED:"
as_user psql -X -q -v ON_ERROR_STOP=1 --expanded --pset format=unaligned --pset fieldsep=': ' --pset null='' -c "
    SELECT to_char(at AT TIME ZONE 'UTC', 'HH24:MI:SS.MS') AS at, event_type, actor, attempt, http_method, path, http_status,
           latency_ms, request, response
    FROM pems_audit_log WHERE modification_id = '$AUDITED' ORDER BY pems_audit_log.at" | sed '/: $/d; s/^/    /'

expect "it was committed by a user and attempted once, with success" \
    "$(sql "SELECT string_agg(concat_ws(' ', event_type, http_method, http_status), ', ' ORDER BY at)
            FROM pems_audit_log WHERE modification_id = '$AUDITED'")" \
    "COMMITTED, WRITE_ATTEMPT PUT 200"
expect "every edit has exactly one attempt in the audit log" \
    "$(sql "SELECT count(*) || ' of ' || count(DISTINCT modification_id) FROM pems_audit_log WHERE event_type = 'WRITE_ATTEMPT'")" \
    "$EDITS of $EDITS"
