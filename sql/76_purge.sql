/*
 * 76_purge: retention: what is old and no longer needed is deleted.
 */

/*
 * _pems_purge_items(before, most): deletes items that were completed or cancelled before that time, but none that a
 * draft or an unfinished edit of the record will be compared with.
 * Returns: their ids; NULL: none.
 * Tables: pfa_write_queue; reads pfa_modification.
 */
CREATE FUNCTION @extschema@._pems_purge_items(before timestamptz, most integer) RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET jit = off AS $function$
DECLARE
    ids text[];
BEGIN
    WITH old AS (
        SELECT q.id FROM @extschema@.pfa_write_queue q
        WHERE q.status IN ('completed', 'cancelled') AND q.completed_at < before
          -- an edit on an older version will be compared with what this item made: it says whose change that was
          AND NOT EXISTS (SELECT FROM @extschema@.pfa_write_queue u
                          WHERE u.organization_id = q.organization_id AND u.pfa_id = q.pfa_id AND u.unfinished
                            AND least(u.base_version, u.sent_version) <= greatest(q.sent_version, q.known_version))
          AND NOT EXISTS (SELECT FROM @extschema@.pfa_modification d
                          WHERE d.organization_id = q.organization_id AND d.sync_status = 'draft'
                            AND d.pfa_id = q.pfa_id
                            AND d.base_version <= greatest(q.sent_version, q.known_version))
        LIMIT most FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM @extschema@.pfa_write_queue q USING old o WHERE q.id = o.id RETURNING q.id
    )
    SELECT array_agg(g.id) INTO ids FROM gone g;
    RETURN ids;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_purge_items(timestamptz, integer) IS
    'Internal: deletes old items that nothing unfinished will be compared with; returns their ids';

/*
 * _pems_purge_versions(before, most): deletes versions recorded before that time, but none that is still needed: the
 * mirror's own, and those from the oldest version on that a draft or an unfinished item of the record was made on.
 * Returns: how many.
 * Tables: pems_mirror_version; reads pfa_mirror, pfa_write_queue, pfa_modification.
 */
CREATE FUNCTION @extschema@._pems_purge_versions(before timestamptz, most integer) RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET jit = off AS $function$
    WITH old AS (
        SELECT v.organization_id, v.pfa_id, v.version, v.state_seq FROM @extschema@.pems_mirror_version v
        WHERE v.recorded_at < before
          AND NOT EXISTS (SELECT FROM @extschema@.pfa_mirror m
                          WHERE m.organization_id = v.organization_id AND m.pfa_id = v.pfa_id
                            AND m.version <= v.version)
          AND NOT EXISTS (SELECT FROM @extschema@.pfa_write_queue q
                          WHERE q.organization_id = v.organization_id AND q.pfa_id = v.pfa_id AND q.unfinished
                            AND least(q.base_version, q.sent_version) <= v.version)
          AND NOT EXISTS (SELECT FROM @extschema@.pfa_modification d
                          WHERE d.organization_id = v.organization_id AND d.sync_status = 'draft'
                            AND d.pfa_id = v.pfa_id
                            AND d.base_version <= v.version)
        LIMIT most
    ), gone AS (
        DELETE FROM @extschema@.pems_mirror_version v USING old o
        WHERE v.organization_id = o.organization_id AND v.pfa_id = o.pfa_id AND v.version = o.version
          AND v.state_seq = o.state_seq RETURNING 1
    )
    SELECT count(*) FROM gone
$function$;
COMMENT ON FUNCTION @extschema@._pems_purge_versions(timestamptz, integer) IS
    'Internal: deletes old versions that nothing unfinished builds on';

/*
 * pems_purge(older_than, max_rows, purged_by)
 *
 * Retention.  Deletes what is older than older_than: items that are completed or cancelled and that no draft or
 * unfinished edit of the record will be compared with, with their resolved conflicts; jobs without items; versions that
 * nothing unfinished builds on; and hourly statistics.  Whatever older_than says, it drops whole partitions of the
 * audit log that ended longer ago than pems_sync.retention.  Dead letters, conflicts and what waits are never deleted;
 * nor are rows of the application's tables.
 *
 * Parameters:
 *   older_than  NULL: pems_sync.retention; where that is 0, nothing is deleted
 *   max_rows    most rows of a kind in one call (1 to 10,000,000), so that a transaction stays short
 *   purged_by   for the audit log; NULL: the database role
 * Returns: {success, items, conflicts, jobs, versions, statistics, auditPartitions: [names], more}; more: call again.
 * Errors: 22023 older_than negative or more than 1000 years, max_rows out of range, purged_by longer than 1 kB; 55000
 *   not attached.
 * Tables: pfa_write_queue, pfa_sync_conflict, pems_sync_job, pems_mirror_version, pems_sync_stats, pems_audit_log.
 */
CREATE FUNCTION @extschema@.pems_purge(
    older_than interval DEFAULT NULL, max_rows integer DEFAULT 100000, purged_by text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET jit = off AS $function$
DECLARE
    keep       CONSTANT interval := coalesce(
        older_than, make_interval(mins => nullif(@extschema@._pems_setting('retention'::text)::integer, 0)));
    before     timestamptz;
    actor      CONSTANT text := @extschema@._pems_actor(purged_by);
    ids        text[];
    conflicts  bigint := 0;
    jobs       bigint := 0;
    versions   bigint := 0;
    statistics bigint := 0;
    partitions text[];
    result     jsonb;
BEGIN
    PERFORM @extschema@._pems_attached();
    IF keep < interval '0' THEN
        RAISE EXCEPTION 'older_than must not be negative'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass how long to keep, for example ''90 days''.';
    END IF;
    IF older_than > interval '1000 years' THEN
        RAISE EXCEPTION 'older_than must not be more than 1000 years'
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
    WITH old AS (
        SELECT j.id FROM @extschema@.pems_sync_job j
        WHERE j.created_at < before
          AND NOT EXISTS (SELECT FROM @extschema@.pfa_write_queue q WHERE q.job_id = j.id)
        LIMIT max_rows
    )
    DELETE FROM @extschema@.pems_sync_job j USING old o WHERE j.id = o.id;
    GET DIAGNOSTICS jobs = ROW_COUNT;
    versions := @extschema@._pems_purge_versions(before, max_rows);
    DELETE FROM @extschema@.pems_sync_stats s WHERE s.folded AND s.hour < before AND s.hour <> '-infinity';
    GET DIAGNOSTICS statistics = ROW_COUNT;
    partitions := @extschema@._pems_drop_audit_partitions();

    result := jsonb_build_object(
        'items', coalesce(cardinality(ids), 0), 'conflicts', conflicts, 'jobs', jobs, 'versions', versions,
        'statistics', statistics, 'auditPartitions', to_jsonb(partitions));
    INSERT INTO @extschema@.pems_audit_log (event_type, actor, request) VALUES ('PURGED', actor, result);
    RETURN jsonb_build_object('success', true, 'more', greatest(cardinality(ids), jobs, versions) = max_rows) || result;
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_purge(interval, integer, text) IS
    'Retention: deletes finished items, versions, jobs and statistics older than older_than (NULL: '
    'pems_sync.retention), and drops audit partitions that ended longer ago than pems_sync.retention. Returns '
    '{success, items, conflicts, jobs, versions, statistics, auditPartitions, more}. Errors: 22023, 55000.';
