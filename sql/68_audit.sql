/*
 * 68_audit: reading the audit log, and retention.
 */

/*
 * pems_audit(organization_id, start_date, end_date, event_types, pfa_id, modification_id, actor, page_size, after_at,
 *            after_seq)
 *
 * The audit log, filtered and by pages, oldest first; for people and as an export:
 *   \copy (SELECT * FROM pems_audit(start_date => '2026-01-01', page_size => 1000000)) TO 'audit.csv' CSV HEADER
 *
 * Parameters: each filter NULL: all.  start_date is included, end_date is not.  page_size: 1 to 1,000,000 rows.
 *   after_at, after_seq: at and seq of the last row of the page before.
 * Errors: P0002 unknown organization; 22023 page_size out of range, end_date before start_date, or one half of
 *   after_at and after_seq without the other.
 * Tables: pems_audit_log.
 */
CREATE FUNCTION @extschema@.pems_audit(
    organization_id text DEFAULT NULL, start_date timestamptz DEFAULT NULL, end_date timestamptz DEFAULT NULL,
    event_types text[] DEFAULT NULL, pfa_id text DEFAULT NULL, modification_id text DEFAULT NULL, actor text DEFAULT NULL,
    page_size integer DEFAULT 1000, after_at timestamptz DEFAULT NULL, after_seq bigint DEFAULT NULL)
RETURNS SETOF @extschema@.pems_audit_log
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET jit = off AS $function$
DECLARE
    organization CONSTANT text := CASE WHEN organization_id IS NOT NULL THEN @extschema@._pems_organization(organization_id) END;
BEGIN
    IF page_size IS NULL OR page_size NOT BETWEEN 1 AND 1000000 THEN
        RAISE EXCEPTION 'page_size must be between 1 and 1000000'
            USING ERRCODE = 'invalid_parameter_value', DETAIL = format('It is %s.', coalesce(page_size::text, 'NULL')),
                  HINT = 'Ask for a smaller page, and for the next one with after_at and after_seq.';
    END IF;
    IF end_date < start_date THEN
        RAISE EXCEPTION 'end_date is before start_date'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass the earlier time as start_date.';
    END IF;
    IF (after_at IS NULL) <> (after_seq IS NULL) THEN
        RAISE EXCEPTION 'after_at and after_seq go together'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass at and seq of the last row of the page before.';
    END IF;
    RETURN QUERY
    SELECT a.* FROM @extschema@.pems_audit_log a
    WHERE (organization IS NULL OR a.organization_id = organization)
      AND (start_date IS NULL OR a.at >= start_date) AND (end_date IS NULL OR a.at < end_date)
      AND (event_types IS NULL OR a.event_type = ANY (event_types))
      AND ($5 IS NULL OR a.pfa_id = $5) AND ($6 IS NULL OR a.modification_id = $6) AND ($7 IS NULL OR a.actor = $7)
      AND (after_at IS NULL OR (a.at >= after_at AND (a.at, a.seq) > (after_at, after_seq)))
    ORDER BY a.at, a.seq LIMIT page_size;
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_audit(text, timestamptz, timestamptz, text[], text, text, text, integer, timestamptz, bigint) IS 'The audit log, filtered and by pages (after_at, after_seq: the last row of the page before), oldest first. Errors: P0002, 22023.';

/*
 * _pems_drop_audit_partitions(): drops the monthly partitions that ended longer ago than pems_sync.retention.  The only
 * way in which anything leaves the audit log.  How old is for the setting to say, which is a superuser's, and not for
 * the caller.  Runs with the rights of the log's owner, because nobody else may.
 * Returns: the names of what was dropped.
 */
CREATE FUNCTION @extschema@._pems_drop_audit_partitions() RETURNS text[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    keep_minutes CONSTANT integer := @extschema@._pems_setting('retention'::text)::integer;
    dropped      text[] := '{}';
    partition    record;
BEGIN
    PERFORM @extschema@._pems_demand_guard();
    IF keep_minutes = 0 THEN
        RETURN dropped;
    END IF;
    FOR partition IN
        SELECT c.relname AS name, c.oid::regclass AS relation FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = '@extschema@.pems_audit_log'::regclass AND c.relname ~ '^pems_audit_log_[0-9]{4}_[0-9]{2}$'
          AND (to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month') AT TIME ZONE 'UTC' < now() - make_interval(mins => keep_minutes)
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE %s', partition.relation);
        dropped := dropped || partition.name::text;
    END LOOP;
    RETURN dropped;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_drop_audit_partitions() IS 'Internal: drops audit partitions that ended longer ago than pems_sync.retention; returns their names';

/*
 * _pems_purge_versions(before, most): versions recorded before that time, but none that is still needed: the mirror's own, and
 * those from the oldest version on that a draft or an unfinished item of the record was made on.
 */
CREATE FUNCTION @extschema@._pems_purge_versions(before timestamptz, most integer) RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET jit = off AS $function$
    WITH old AS (
        SELECT v.organization_id, v.pfa_id, v.version, v.state_seq FROM @extschema@.pems_mirror_version v
        WHERE v.recorded_at < before
          AND NOT EXISTS (SELECT FROM @extschema@.pfa_mirror m
                          WHERE m.organization_id = v.organization_id AND m.pfa_id = v.pfa_id AND m.version <= v.version)
          AND NOT EXISTS (SELECT FROM @extschema@.pfa_write_queue q
                          WHERE q.organization_id = v.organization_id AND q.pfa_id = v.pfa_id AND q.unfinished
                            AND least(q.base_version, q.sent_version) <= v.version)
          AND NOT EXISTS (SELECT FROM @extschema@.pfa_modification d
                          WHERE d.organization_id = v.organization_id AND d.sync_status = 'draft' AND d.pfa_id = v.pfa_id
                            AND d.base_version <= v.version)
        LIMIT most
    ), gone AS (
        DELETE FROM @extschema@.pems_mirror_version v USING old o
        WHERE v.organization_id = o.organization_id AND v.pfa_id = o.pfa_id AND v.version = o.version
          AND v.state_seq = o.state_seq RETURNING 1
    )
    SELECT count(*) FROM gone
$function$;
COMMENT ON FUNCTION @extschema@._pems_purge_versions(timestamptz, integer) IS 'Internal: deletes old versions that nothing unfinished builds on';

/*
 * pems_purge(older_than, max_rows, purged_by)
 *
 * Retention.  Deletes items that are completed or cancelled, and that no draft or unfinished edit of the record will be
 * compared with, with their resolved conflicts, jobs without items, versions that nothing
 * unfinished builds on, and hourly statistics, when they are older than older_than; and drops whole partitions of the audit
 * log that ended longer ago than pems_sync.retention, whatever older_than says.  Dead letters, conflicts and what
 * waits are never touched; nor are the application's tables.
 *
 * Parameters:
 *   older_than  NULL: pems_sync.retention; where that is 0, nothing is deleted
 *   max_rows    most rows of a kind in one call (1 to 10,000,000), so that a transaction stays short
 *   purged_by   for the audit log; NULL: the database role
 * Returns: {success, items, conflicts, jobs, versions, statistics, auditPartitions: [names], more}; more: call again.
 * Errors: 22023 older_than negative or more than 1000 years, max_rows out of range, purged_by longer than 1 kB; 55000 not
 *   attached.
 * Tables: pfa_write_queue, pfa_sync_conflict, pems_sync_job, pems_mirror_version, pems_sync_stats, pems_audit_log.
 */
CREATE FUNCTION @extschema@.pems_purge(
    older_than interval DEFAULT NULL, max_rows integer DEFAULT 100000, purged_by text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET jit = off AS $function$
DECLARE
    keep       CONSTANT interval := coalesce(older_than, make_interval(mins => nullif(@extschema@._pems_setting('retention'::text)::integer, 0)));
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

    WITH old AS (
        SELECT q.id FROM @extschema@.pfa_write_queue q
        WHERE q.status IN ('completed', 'cancelled') AND q.completed_at < before
          -- what made a version that an edit on an older one will be compared with tells whose change that was
          AND NOT EXISTS (SELECT FROM @extschema@.pfa_write_queue u
                          WHERE u.organization_id = q.organization_id AND u.pfa_id = q.pfa_id AND u.unfinished
                            AND least(u.base_version, u.sent_version) <= greatest(q.sent_version, q.known_version))
          AND NOT EXISTS (SELECT FROM @extschema@.pfa_modification d
                          WHERE d.organization_id = q.organization_id AND d.sync_status = 'draft' AND d.pfa_id = q.pfa_id
                            AND d.base_version <= greatest(q.sent_version, q.known_version))
        LIMIT max_rows FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM @extschema@.pfa_write_queue q USING old o WHERE q.id = o.id RETURNING q.id
    )
    SELECT array_agg(g.id) INTO ids FROM gone g;
    DELETE FROM @extschema@.pfa_sync_conflict c WHERE c.item_id = ANY (ids) AND c.status <> 'unresolved';
    GET DIAGNOSTICS conflicts = ROW_COUNT;
    WITH old AS (
        SELECT j.id FROM @extschema@.pems_sync_job j
        WHERE j.created_at < before AND NOT EXISTS (SELECT FROM @extschema@.pfa_write_queue q WHERE q.job_id = j.id) LIMIT max_rows
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
COMMENT ON FUNCTION @extschema@.pems_purge(interval, integer, text) IS 'Retention: deletes finished items, versions, jobs and statistics older than older_than (NULL: pems_sync.retention), and drops audit partitions that ended longer ago than pems_sync.retention. Returns {success, items, conflicts, jobs, versions, statistics, auditPartitions, more}. Errors: 22023, 55000.';
