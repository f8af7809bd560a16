/*
 * drain_database.sql: tables like those that an item touches, with their indexes, without triggers; and a
 * function that fills them with :n items again.
 */
CREATE TABLE bench.queue (LIKE pfa_write_queue INCLUDING ALL) WITH (fillfactor = 50);
CREATE TABLE bench.modification (LIKE pfa_modification INCLUDING ALL);
CREATE TABLE bench.mirror (LIKE pfa_mirror INCLUDING ALL);
CREATE TABLE bench.version (LIKE pems_mirror_version INCLUDING ALL);
CREATE TABLE bench.audit_log (LIKE pems_audit_log_default INCLUDING ALL);

CREATE FUNCTION bench.fill(n integer) RETURNS void LANGUAGE sql AS $$
    TRUNCATE bench.queue, bench.modification, bench.mirror, bench.version, bench.audit_log;
    INSERT INTO bench.mirror (organization_id, pfa_id, version, data)
    SELECT 'o1', 'p' || i, 3, bench.record() FROM generate_series(1, n) i;
    INSERT INTO bench.modification (id, organization_id, pfa_id, base_version, delta, created_by, sync_status)
    SELECT 'm' || i, 'o1', 'p' || i, 3, bench.changes(), 'john.doe@example.com', 'queued' FROM generate_series(1, n) i;
    INSERT INTO bench.queue (modification_id, pfa_id, organization_id, operation, payload, base_version)
    SELECT 'm' || i, 'p' || i, 'o1', 'UPDATE', bench.changes(), 3 FROM generate_series(1, n) i;
$$;

-- The claim: one transaction
CREATE FUNCTION bench.claim(n integer) RETURNS void LANGUAGE sql AS $$
    UPDATE bench.queue q SET status = 'processing', attempt = q.attempt + 1, last_attempt_at = clock_timestamp()
    FROM (SELECT c.id FROM bench.queue c
          WHERE c.organization_id = 'o1' AND c.open AND c.waits_for IS NULL AND c.priority = 0 AND c.status = 'pending'
          ORDER BY c.scheduled_at, c.commit_seq LIMIT n FOR NO KEY UPDATE SKIP LOCKED) h
    WHERE q.id = h.id
$$;

-- The outcome: queue, modification, mirror, audit log (and the version, a fifth): another
CREATE FUNCTION bench.record_claimed() RETURNS void LANGUAGE sql AS $$
    WITH done AS (
        UPDATE bench.queue q SET status = 'completed', completed_at = clock_timestamp()
        WHERE q.open AND q.waits_for IS NULL AND q.status = 'processing' RETURNING q.*
    ), marked AS (
        UPDATE bench.modification m SET sync_status = 'synced', synced_at = now(), pems_version = 4
        FROM done d WHERE m.id = d.modification_id
    ), mirrored AS (
        UPDATE bench.mirror m SET version = 4, data = m.data || d.payload, last_synced_at = now()
        FROM done d WHERE m.organization_id = d.organization_id AND m.pfa_id = d.pfa_id
        RETURNING m.*
    )
    INSERT INTO bench.audit_log (event_type, organization_id, pfa_id, modification_id, item_id, actor, attempt, request)
    SELECT 'WRITE_ATTEMPT', d.organization_id, d.pfa_id, d.modification_id, d.id, 'pems_sync', d.attempt, d.payload FROM done d
$$;
