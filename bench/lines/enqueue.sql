/*
 * enqueue.sql: the bare table, and the bare INSERT.
 */
CREATE TABLE bench.queue (LIKE pfa_write_queue INCLUDING ALL) WITH (fillfactor = 50);
CREATE SEQUENCE bench.single;

CREATE FUNCTION bench.insert_bare(ids text[]) RETURNS void LANGUAGE sql AS $$
    INSERT INTO bench.queue (modification_id, pfa_id, organization_id, operation, payload, base_version, max_retries, job_id)
    SELECT m.id, m.pfa_id, m.organization_id, m.operation, m.delta, m.base_version, 3, 'job'
    FROM pfa_modification m WHERE m.id = ANY (ids)
$$;
