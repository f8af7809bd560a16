/*
 * 76_purge: retention: what is old and no longer needed is deleted.
 */

/*
 * _pems_oldest_drafts(): for each record that has drafts the oldest version that one of them was made on.  By the
 * application's index, organization by organization.
 * Tables: organization, pfa_modification.
 */
CREATE FUNCTION @extschema@._pems_oldest_drafts(OUT organization_id text, OUT pfa_id text, OUT base_version integer)
RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
SET enable_nestloop = on SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
    SELECT o.id, d.pfa_id, min(d.base_version)
    FROM @extschema@.organization o CROSS JOIN LATERAL (
        SELECT m.pfa_id, m.base_version FROM @extschema@.pfa_modification m
        WHERE m.organization_id = o.id AND m.sync_status = 'draft' OFFSET 0) d
    GROUP BY o.id, d.pfa_id
$function$;
COMMENT ON FUNCTION @extschema@._pems_oldest_drafts() IS
    'Internal: the oldest version that a draft of each record was made on';

/*
 * _pems_purge_items(before, most): deletes items that were completed or cancelled before that time, but none that a
 * draft or an unfinished edit of the record will be compared with: it says whose change that version was. A job that
 * has other items still keeps how many they were; one that has none is deleted with them (_pems_purge_jobs()).
 *
 * Right after a bulk load nothing is known of the tables, so nothing is left to the planner that could compare each row
 * with each: drafts are hashed, unfinished items looked up one record at a time, in an order that only the index of the
 * record has, and rows deleted by their place.
 *
 * Parameters: most: at most so many.
 * Returns: their ids; NULL: none.
 * Tables: pfa_write_queue, pems_sync_job; reads pfa_modification.
 */
CREATE FUNCTION @extschema@._pems_purge_items(before timestamptz, most integer) RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan
SET enable_hashjoin = on SET enable_nestloop = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    ids      text[];
    job_ids  text[];
    results  text[];
    ended_at timestamptz[];
BEGIN
    WITH gone AS (
        DELETE FROM @extschema@.pfa_write_queue g WHERE g.ctid = ANY (ARRAY(
            SELECT q.ctid FROM @extschema@.pfa_write_queue q
            LEFT JOIN @extschema@._pems_oldest_drafts() d
              ON d.organization_id = q.organization_id AND d.pfa_id = q.pfa_id
            WHERE q.status IN ('completed', 'cancelled') AND q.completed_at < before
              AND (d.base_version <= greatest(q.sent_version, q.known_version)) IS NOT TRUE
              AND (SELECT true FROM @extschema@.pfa_write_queue u
                   WHERE u.organization_id = q.organization_id AND u.pfa_id = q.pfa_id AND u.unfinished
                     AND least(u.base_version, u.sent_version) <= greatest(q.sent_version, q.known_version)
                   ORDER BY u.held, u.commit_seq LIMIT 1) IS NULL
            LIMIT most FOR UPDATE OF q SKIP LOCKED))
        RETURNING g.id, g.job_id, g.result, g.completed_at
    )
    SELECT array_agg(g.id), array_agg(g.job_id), array_agg(g.result), array_agg(g.completed_at)
    INTO ids, job_ids, results, ended_at FROM gone g;
    -- a statement of its own: it sees which items are left
    PERFORM @extschema@._pems_keep_results(array_agg(u.job_id), array_agg(u.result), array_agg(u.at))
    FROM unnest(job_ids, results, ended_at) u (job_id, result, at)
    WHERE (SELECT true FROM @extschema@.pfa_write_queue q WHERE q.job_id = u.job_id LIMIT 1);
    RETURN ids;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_purge_items(timestamptz, integer) IS
    'Internal: deletes old items that nothing unfinished will be compared with; returns their ids';

/*
 * _pems_purge_jobs(before, most): deletes jobs that have no items any more, the oldest first; pulls that ended before
 * that time, with their state, but none that waits or runs.  Whether a job has items is looked up job by job.  One plan
 * serves all that goes with the jobs (foreign keys): regular deltas of many organizations make many jobs.
 *
 * Parameters: before: only jobs created before that time; most: at most so many.
 * Returns: how many.
 * Tables: pems_sync_job, and by foreign key pems_pull_state, pems_pull_seen, pems_pull_missing; reads pfa_write_queue.
 */
CREATE FUNCTION @extschema@._pems_purge_jobs(before timestamptz, most integer) RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = on SET enable_nestloop = off SET enable_mergejoin = off SET enable_seqscan = off SET jit = off
AS $function$
    WITH gone AS (
        DELETE FROM @extschema@.pems_sync_job g WHERE g.ctid = ANY (ARRAY(
            SELECT j.ctid FROM @extschema@.pems_sync_job j
            WHERE j.created_at < before AND j.status IS DISTINCT FROM 'running'
              AND coalesce(j.finished_at, j.created_at) < before
              AND (SELECT true FROM @extschema@.pfa_write_queue q WHERE q.job_id = j.id LIMIT 1) IS NULL
            ORDER BY j.created_at NULLS FIRST LIMIT most))
        RETURNING 1
    )
    SELECT count(*) FROM gone
$function$;
COMMENT ON FUNCTION @extschema@._pems_purge_jobs(timestamptz, integer) IS
    'Internal: deletes old jobs that have no items any more, and old pulls';

/*
 * _pems_purge_quarantined(before, most): deletes what could not be stored before that time, but nothing of a pull that
 * waits or runs.
 * Tables: pems_quarantined; reads pems_sync_job.
 */
CREATE FUNCTION @extschema@._pems_purge_quarantined(before timestamptz, most integer) RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
SET enable_hashjoin = on SET enable_nestloop = off SET enable_mergejoin = off SET jit = off AS $function$
    WITH gone AS (
        DELETE FROM @extschema@.pems_quarantined g WHERE g.ctid = ANY (ARRAY(
            SELECT b.ctid FROM @extschema@.pems_quarantined b
            WHERE b.at < before
              AND (SELECT coalesce(j.finished_at >= before, j.status = 'running', false)
                   FROM @extschema@.pems_sync_job j WHERE j.id = b.job_id) IS NOT TRUE
            LIMIT most))
        RETURNING 1
    )
    SELECT count(*) FROM gone
$function$;
COMMENT ON FUNCTION @extschema@._pems_purge_quarantined(timestamptz, integer) IS
    'Internal: deletes what old pulls could not store';

/*
 * _pems_purge_versions(before, most): deletes versions recorded before that time, but none that is still needed: the
 * mirror's own, and those from the oldest version on that a draft or an unfinished item of the record was made on.
 * Planned like _pems_purge_items().
 *
 * Parameters: most: at most so many.
 * Returns: how many.
 * Tables: pems_mirror_version; reads pfa_mirror, pfa_write_queue, and those of _pems_oldest_drafts().
 */
CREATE FUNCTION @extschema@._pems_purge_versions(before timestamptz, most integer) RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
SET enable_hashjoin = on SET enable_nestloop = off SET enable_mergejoin = off SET jit = off AS $function$
    WITH gone AS (
        DELETE FROM @extschema@.pems_mirror_version g WHERE g.ctid = ANY (ARRAY(
            SELECT v.ctid FROM @extschema@.pems_mirror_version v
            LEFT JOIN @extschema@._pems_oldest_drafts() d
              ON d.organization_id = v.organization_id AND d.pfa_id = v.pfa_id
            WHERE v.recorded_at < before AND (d.base_version <= v.version) IS NOT TRUE
              AND (SELECT true FROM @extschema@.pfa_mirror m
                   WHERE m.organization_id = v.organization_id AND m.pfa_id = v.pfa_id AND m.version <= v.version
                   LIMIT 1) IS NULL
              AND (SELECT true FROM @extschema@.pfa_write_queue u
                   WHERE u.organization_id = v.organization_id AND u.pfa_id = v.pfa_id AND u.unfinished
                     AND least(u.base_version, u.sent_version) <= v.version
                   ORDER BY u.held, u.commit_seq LIMIT 1) IS NULL
            LIMIT most))
        RETURNING 1
    )
    SELECT count(*) FROM gone
$function$;
COMMENT ON FUNCTION @extschema@._pems_purge_versions(timestamptz, integer) IS
    'Internal: deletes old versions that nothing unfinished builds on';

/*
 * pems_purge(older_than, max_rows, purged_by)
 *
 * Retention.  Deletes what is older than older_than: items that are completed or cancelled and that no draft or
 * unfinished edit of the record will be compared with, with their resolved conflicts; jobs without items; pulls that
 * have ended, and what they could not store (pems_quarantine); versions that nothing unfinished builds on; and hourly
 * statistics.  Whatever older_than says, it drops whole partitions of the audit log that ended longer ago than
 * pems_sync.retention.  Dead letters, conflicts, and what waits or runs are never deleted; nor are rows of the
 * application's tables.
 *
 * Parameters:
 *   older_than  NULL: pems_sync.retention; where that is 0, nothing is deleted
 *   max_rows    most rows of a kind in one call (1 to 10,000,000), so that a transaction stays short
 *   purged_by   for the audit log; NULL: the database role
 * Returns: {success, items, conflicts, jobs, quarantined, versions, statistics, auditPartitions: [names], more};
 *   jobs: pulls, too; more: call again, in another transaction.  Partitions cannot be dropped while a transaction that
 *   has written the audit log is open.
 * Errors: 22023 older_than negative or more than 1000 years, max_rows out of range, purged_by longer than 1 kB; 55000
 *   not attached.
 * Tables: pfa_write_queue, pfa_sync_conflict, pems_sync_job, pems_pull_state, pems_quarantined, pems_mirror_version,
 *   pems_sync_stats, pems_audit_log.
 */
CREATE FUNCTION @extschema@.pems_purge(
    older_than interval DEFAULT NULL, max_rows integer DEFAULT 100000, purged_by text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET jit = off AS $function$
DECLARE
    keep        CONSTANT interval := coalesce(
        older_than, make_interval(mins => nullif(@extschema@._pems_setting('retention'::text)::integer, 0)));
    before      timestamptz;
    actor       CONSTANT text := @extschema@._pems_actor(purged_by);
    ids         text[];
    conflicts   bigint := 0;
    jobs        bigint := 0;
    quarantined bigint := 0;
    versions    bigint := 0;
    statistics  bigint := 0;
    partitions  text[];
    result      jsonb;
BEGIN
    PERFORM @extschema@._pems_attached();
    IF keep < interval '0' THEN
        RAISE EXCEPTION 'older_than must be at least 0'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass how long to keep, for example ''90 days''.';
    END IF;
    IF older_than > interval '1000 years' THEN
        RAISE EXCEPTION 'older_than must be at most 1000 years'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass how long to keep, for example ''90 days''.';
    END IF;
    before := now() - keep;
    IF max_rows IS NULL OR max_rows NOT BETWEEN 1 AND 10000000 THEN
        RAISE EXCEPTION 'max_rows must be between 1 and 10000000'
            USING ERRCODE = 'invalid_parameter_value', DETAIL = format('It is %s.', coalesce(max_rows::text, 'NULL')),
                  HINT = 'Leave it out, and call again while the result says more.';
    END IF;

    ids := @extschema@._pems_purge_items(before, max_rows);
    DELETE FROM @extschema@.pfa_sync_conflict c WHERE c.item_id = ANY (ids) AND c.status <> 'unresolved';
    GET DIAGNOSTICS conflicts = ROW_COUNT;
    -- before the jobs: of a job that is gone nobody knows when it ended
    quarantined := @extschema@._pems_purge_quarantined(before, max_rows);
    jobs := @extschema@._pems_purge_jobs(before, max_rows);
    versions := @extschema@._pems_purge_versions(before, max_rows);
    DELETE FROM @extschema@.pems_sync_stats s WHERE s.folded AND s.hour < before AND s.hour <> '-infinity';
    GET DIAGNOSTICS statistics = ROW_COUNT;
    partitions := @extschema@._pems_drop_audit_partitions();

    result := jsonb_build_object(
        'items', coalesce(cardinality(ids), 0), 'conflicts', conflicts, 'jobs', jobs,
        'quarantined', quarantined, 'versions', versions, 'statistics', statistics,
        'auditPartitions', to_jsonb(partitions));
    INSERT INTO @extschema@.pems_audit_log (event_type, actor, request) VALUES ('PURGED', actor, result);
    RETURN jsonb_build_object('success', true, 'more', greatest(cardinality(ids), jobs, quarantined, versions)
                                                       = max_rows
               OR EXISTS (SELECT FROM @extschema@._pems_old_audit_partitions())) || result;
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_purge(interval, integer, text) IS
    'Retention: deletes finished items, versions, jobs, ended pulls, what those could not store, and statistics, where '
    'they are older than older_than (NULL: pems_sync.retention), and drops audit partitions that ended longer ago than '
    'pems_sync.retention. Returns {success, items, conflicts, jobs, quarantined, versions, statistics, '
    'auditPartitions, more}. Errors: 22023, 55000.';
