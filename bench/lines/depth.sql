/*
 * depth.sql: loads a deep queue fast, and says what the worker's statements cost.
 *
 * Item number i belongs to organization o1 when i is divisible by 10, else to one of the others in turn; its
 * record, modification and item are called d-i.
 */
CREATE FUNCTION bench.owner(i bigint, organizations integer) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT 'o' || CASE WHEN i % 10 = 0 OR organizations = 1 THEN 1 ELSE 2 + (i - i / 10) % (organizations - 1) END
$$;

-- The first items of each organization: those that a measurement may send
CREATE FUNCTION bench.known_records(of_first integer, of_others integer) RETURNS SETOF json LANGUAGE sql AS $$
    WITH size AS (SELECT count(*)::integer AS n FROM organization),
    item AS (
        SELECT i, bench.owner(i, n) AS owner FROM size, generate_series(1, of_first * 10) i
        WHERE i % 10 = 0 OR i <= of_others * n::bigint * 10 / 9
        UNION ALL
        SELECT i, bench.owner(i, n) FROM size, generate_series(of_first * 10 + 1, of_others * n::bigint * 10 / 9) i WHERE i % 10 <> 0
    )
    SELECT json_build_object('organizationCode', 'ORG' || substr(owner, 2), 'pfaId', 'd-' || i, 'version', 3, 'data', bench.record())
    FROM item
$$;

CREATE FUNCTION bench.load(first bigint, last bigint, organizations integer) RETURNS void LANGUAGE sql AS $$
    INSERT INTO pfa_mirror (id, organization_id, pfa_id, version, data)
    SELECT 'd-' || i, bench.owner(i, organizations), 'd-' || i, 3, bench.record() FROM generate_series(first, last) i;
    INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by, change_reason, sync_status)
    SELECT 'd-' || i, bench.owner(i, organizations), 'd-' || i, 3, bench.changes(), 'john.doe@example.com', 'Budget reallocation', 'queued'
    FROM generate_series(first, last) i;
    INSERT INTO pfa_write_queue (modification_id, pfa_id, organization_id, operation, payload, base_version, job_id)
    SELECT 'd-' || i, 'd-' || i, bench.owner(i, organizations), 'UPDATE', bench.changes(), 3, 'job'
    FROM generate_series(first, last) i;
$$;

-- Finished items of the last records, whose turn to be sent never comes here
CREATE FUNCTION bench.load_finished(first bigint, last bigint, depth bigint, organizations integer) RETURNS void LANGUAGE sql AS $$
    INSERT INTO pfa_write_queue (modification_id, pfa_id, organization_id, operation, payload, base_version, job_id,
                                 status, attempt, created_at, completed_at)
    SELECT 'd-' || d, 'd-' || d, bench.owner(d, organizations), 'UPDATE', bench.changes(), 2, 'job',
           'completed', 1, now() - interval '1 day', now() - interval '1 day' + interval '1 second'
    FROM generate_series(first, last) i CROSS JOIN LATERAL (SELECT depth - (i - 1) % depth AS d) n;
$$;

-- The loaded items were all finished within this hour: the same sums, in as many rows as there would be after so many days.
-- What is pending stays in one row.
CREATE FUNCTION bench.spread_statistics(days integer) RETURNS void LANGUAGE sql AS $$
    INSERT INTO pems_sync_stats (organization_id, hour, queued, completed, sync_seconds, latency_counts, last_completed_at)
    SELECT s.organization_id, date_trunc('hour', now()) - h * interval '1 hour', s.queued / (days * 24), s.completed / (days * 24),
           s.sync_seconds / (days * 24), (SELECT array_agg(c / (days * 24)) FROM unnest(s.latency_counts) c),
           date_trunc('hour', now()) - h * interval '1 hour'
    FROM pems_sync_stats s CROSS JOIN generate_series(1, days * 24) h
    WHERE s.completed > 0 AND s.organization_id <> '*';
    SELECT count(_pems_fold_stats()) FROM generate_series(1, 100)
$$;

-- N edits of one record, by one user
CREATE FUNCTION bench.make_crowd(record text, n integer) RETURNS void LANGUAGE sql AS $$
    INSERT INTO pfa_mirror (organization_id, pfa_id, version, data) VALUES ('crowd', record, 3, '{"source": "Rental", "monthlyRate": 5000}');
    INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by)
    SELECT record || '-' || i, 'crowd', record, 3, jsonb_build_object('monthlyRate', 5000 + i), 'john.doe@example.com'
    FROM generate_series(1, n) i;
    SELECT pems_commit('crowd');
$$;

-- Buffers per claimed item since the statistics were reset: of the worker's claims, and of all statements that it ran.
-- Statements count with what they called (pg_stat_statements.track = top).
CREATE VIEW bench.worker_buffers AS
    SELECT round(sum(buffers) FILTER (WHERE claim) / sum(rows) FILTER (WHERE claim), 2) AS claims,
           round(sum(buffers) / sum(rows) FILTER (WHERE claim), 2) AS everything
    FROM (SELECT shared_blks_hit + shared_blks_read AS buffers, rows, query LIKE '%\_pems\_claim(%' AS claim
          FROM pg_stat_statements WHERE query LIKE '%.\_pems\_%') s;
