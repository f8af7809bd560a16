/*
 * 22_tables_audit: the audit log, by month.
 */

CREATE SEQUENCE @extschema@.pems_audit_order AS bigint;
COMMENT ON SEQUENCE @extschema@.pems_audit_order IS 'Tells audit rows of the same microsecond apart';

-- No index and no primary key on the parent: pg_restore would collide with the indexes that
-- ATTACH PARTITION makes.  Monthly partitions have their own (46_audit_partitions).
CREATE TABLE @extschema@.pems_audit_log (
    at              timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    event_type      text NOT NULL,
    organization_id text,
    pfa_id          text,
    modification_id text,
    item_id         text,
    job_id          text,
    conflict_id     text,
    actor           text,
    attempt         integer,
    http_method     text,
    path            text,
    http_status     integer,
    latency_ms      numeric(12,3),
    request         jsonb,
    response        jsonb,
    error_code      text,
    error           text,
    seq             bigint NOT NULL DEFAULT pg_catalog.nextval('@extschema@.pems_audit_order')
) PARTITION BY RANGE (at);
COMMENT ON TABLE @extschema@.pems_audit_log IS 'Audit log: append-only; every attempt and every decision, once';
COMMENT ON COLUMN @extschema@.pems_audit_log.at IS 'When it was recorded';
COMMENT ON COLUMN @extschema@.pems_audit_log.event_type IS
    'WRITE_ATTEMPT, READ_ATTEMPT, COMMITTED, SYNCED_WITHOUT_REQUEST, NOT_SENT, RECORDING_FAILED, CONFLICT_DETECTED, '
    'CONFLICT_RESOLVED, RETRIED, ROLLBACK_REQUESTED, DISCARDED, PAUSED, RESUMED, CREDENTIAL_CHANGED, PURGED, '
    'ADOPTED or PULL_CANCELLED';
COMMENT ON COLUMN @extschema@.pems_audit_log.organization_id IS 'Organization concerned';
COMMENT ON COLUMN @extschema@.pems_audit_log.pfa_id IS 'PFA record concerned';
COMMENT ON COLUMN @extschema@.pems_audit_log.modification_id IS 'Modification concerned';
COMMENT ON COLUMN @extschema@.pems_audit_log.item_id IS 'Queue item concerned';
COMMENT ON COLUMN @extschema@.pems_audit_log.job_id IS 'Job concerned';
COMMENT ON COLUMN @extschema@.pems_audit_log.conflict_id IS 'Conflict concerned';
COMMENT ON COLUMN @extschema@.pems_audit_log.actor IS
    'Who decided: the user named by the caller, or the database role; pems_sync for the worker';
COMMENT ON COLUMN @extschema@.pems_audit_log.attempt IS
    'Number of the claim of the item; a claim makes at most one request, and its X-Request-Id is item:attempt';
COMMENT ON COLUMN @extschema@.pems_audit_log.http_method IS 'PUT, DELETE or GET';
COMMENT ON COLUMN @extschema@.pems_audit_log.path IS 'Path and query below api_url';
COMMENT ON COLUMN @extschema@.pems_audit_log.http_status IS 'Status of the answer; NULL when there was none';
COMMENT ON COLUMN @extschema@.pems_audit_log.latency_ms IS 'Milliseconds from start to end of the request';
COMMENT ON COLUMN @extschema@.pems_audit_log.request IS 'Body of the request; never a token';
COMMENT ON COLUMN @extschema@.pems_audit_log.response IS 'Body of the answer; tokens that PEMS echoes are redacted';
COMMENT ON COLUMN @extschema@.pems_audit_log.error_code IS
    'What went wrong, a word; OUTCOME_UNKNOWN when the server ended before the answer was recorded';
COMMENT ON COLUMN @extschema@.pems_audit_log.error IS 'What went wrong, a sentence';
COMMENT ON COLUMN @extschema@.pems_audit_log.seq IS 'With at the order of the rows, for paging';

CREATE TABLE @extschema@.pems_audit_log_default PARTITION OF @extschema@.pems_audit_log DEFAULT;
COMMENT ON TABLE @extschema@.pems_audit_log_default IS 'Audit rows of months that have no partition of their own';

CREATE TABLE @extschema@.pems_audit_month (
    name          text PRIMARY KEY,
    made_again_at timestamptz
);
COMMENT ON TABLE @extschema@.pems_audit_month IS
    'The monthly partitions of the audit log that were made and that pems_purge() has not dropped: pems_health() says '
    'when one is gone';
COMMENT ON COLUMN @extschema@.pems_audit_month.name IS 'Partition';
COMMENT ON COLUMN @extschema@.pems_audit_month.made_again_at IS 'When it was made a second time, because it was gone';

-- They have no key: where a publication publishes them (FOR ALL TABLES), no row could be removed otherwise.
ALTER TABLE @extschema@.pems_audit_log REPLICA IDENTITY FULL;
ALTER TABLE @extschema@.pems_audit_log_default REPLICA IDENTITY FULL;
