/*
 * 25_history: the triggers that keep derived tables complete no matter who
 * writes: the version history of the mirror and the statistics of the queue.
 */

/*
 * _pems_record_versions(): statement trigger on pfa_mirror, after insert and after update.
 * Adds each new state to the history.  The worker puts its own rows there first, with
 * their modification; for those the conflict clause finds nothing left to do.
 */
CREATE FUNCTION @extschema@._pems_record_versions() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    INSERT INTO @extschema@.pems_mirror_version AS v (organization_id, pfa_id, version, data, source, changed_by)
    SELECT n.organization_id, n.pfa_id, n.version, n.data, 'external', @extschema@._pems_caller()
    FROM new_rows n
    WHERE n.organization_id IS NOT NULL AND n.pfa_id IS NOT NULL AND n.version IS NOT NULL AND n.data IS NOT NULL
    ON CONFLICT (organization_id, pfa_id, version) DO UPDATE
        SET data = excluded.data, source = excluded.source, changed_by = excluded.changed_by,
            modification_id = NULL, change_reason = NULL, recorded_at = clock_timestamp()
        WHERE v.data <> excluded.data;
    RETURN NULL;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_record_versions() IS 'Internal trigger: keeps the version history of the mirror complete';

/*
 * _pems_add_stats(): adds one row of differences per organization for the items whose
 * columns the arrays hold.  signs: +1 for a row that came, -1 for one that went.
 * flows: false where rows are only purged, which undoes no completion.
 */
CREATE FUNCTION @extschema@._pems_add_stats(
    flows boolean, signs integer[], organization_ids text[], statuses text[], waits text[],
    created timestamptz[], completed timestamptz[])
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
#variable_conflict use_column
BEGIN
    INSERT INTO @extschema@.pems_sync_stats
        (organization_id, hour, pending, held, processing, failed, conflict,
         queued, completed, cancelled, dead_lettered, conflicted, sync_seconds, latency_counts, last_completed_at)
    SELECT i.organization_id, date_trunc('hour', clock_timestamp()),
           coalesce(sum(sign) FILTER (WHERE status = 'pending'), 0),
           coalesce(sum(sign) FILTER (WHERE status = 'pending' AND waits_for = 'turn'), 0),
           coalesce(sum(sign) FILTER (WHERE status = 'processing'), 0),
           coalesce(sum(sign) FILTER (WHERE status = 'failed'), 0),
           coalesce(sum(sign) FILTER (WHERE status = 'conflict'), 0),
           coalesce(sum(sign) FILTER (WHERE flows), 0),
           coalesce(sum(sign) FILTER (WHERE flows AND status = 'completed'), 0),
           coalesce(sum(sign) FILTER (WHERE flows AND status = 'cancelled'), 0),
           coalesce(count(*) FILTER (WHERE flows AND sign > 0 AND status = 'failed'), 0),
           coalesce(count(*) FILTER (WHERE flows AND sign > 0 AND status = 'conflict'), 0),
           coalesce(sum(sign * seconds) FILTER (WHERE flows AND status = 'completed'), 0),
           ARRAY[coalesce(sum(sign) FILTER (WHERE bucket = 0), 0), coalesce(sum(sign) FILTER (WHERE bucket = 1), 0),
                 coalesce(sum(sign) FILTER (WHERE bucket = 2), 0), coalesce(sum(sign) FILTER (WHERE bucket = 3), 0),
                 coalesce(sum(sign) FILTER (WHERE bucket = 4), 0), coalesce(sum(sign) FILTER (WHERE bucket = 5), 0),
                 coalesce(sum(sign) FILTER (WHERE bucket = 6), 0), coalesce(sum(sign) FILTER (WHERE bucket = 7), 0),
                 coalesce(sum(sign) FILTER (WHERE bucket = 8), 0), coalesce(sum(sign) FILTER (WHERE bucket = 9), 0)]::bigint[],
           max(i.completed_at) FILTER (WHERE flows AND status = 'completed' AND sign > 0)
    FROM (SELECT r.*,
                 extract(epoch FROM r.completed_at - r.created_at)::double precision AS seconds,
                 CASE WHEN flows AND r.status = 'completed'
                      THEN width_bucket(extract(epoch FROM r.completed_at - r.created_at)::double precision,
                                        '{0.1, 0.5, 1, 5, 15, 30, 60, 120, 300}'::double precision[]) END AS bucket
          FROM unnest(signs, organization_ids, statuses, waits, created, completed)
               AS r (sign, organization_id, status, waits_for, created_at, completed_at)) i
    GROUP BY i.organization_id;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_add_stats(boolean, integer[], text[], text[], text[], timestamptz[], timestamptz[]) IS 'Internal: counts items that came (+1) and went (-1) into pems_sync_stats';

/*
 * _pems_count_items(): statement trigger on pfa_write_queue.  The statistics are sums over
 * the rows of the queue; so each statement adds what its new rows weigh and takes off what the
 * old ones weighed, and no caller has to remember to count.
 */
CREATE FUNCTION @extschema@._pems_count_items() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM @extschema@._pems_add_stats(true, array_agg(1), array_agg(r.organization_id), array_agg(r.status),
            array_agg(r.waits_for), array_agg(r.created_at), array_agg(r.completed_at))
        FROM new_rows r HAVING count(*) > 0;
    ELSIF TG_OP = 'UPDATE' THEN
        PERFORM @extschema@._pems_add_stats(true, array_agg(r.sign), array_agg(r.organization_id), array_agg(r.status),
            array_agg(r.waits_for), array_agg(r.created_at), array_agg(r.completed_at))
        FROM (SELECT 1 AS sign, n.organization_id, n.status, n.waits_for, n.created_at, n.completed_at FROM new_rows n
              UNION ALL
              SELECT -1, o.organization_id, o.status, o.waits_for, o.created_at, o.completed_at FROM old_rows o) r
        HAVING count(*) > 0;
    ELSE
        PERFORM @extschema@._pems_add_stats(false, array_agg(-1), array_agg(r.organization_id), array_agg(r.status),
            array_agg(r.waits_for), array_agg(r.created_at), array_agg(r.completed_at))
        FROM old_rows r HAVING count(*) > 0;
    END IF;
    RETURN NULL;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_count_items() IS 'Internal trigger: keeps pems_sync_stats in step with the queue';

CREATE TRIGGER pems_count_inserted AFTER INSERT ON @extschema@.pfa_write_queue
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._pems_count_items();
CREATE TRIGGER pems_count_updated AFTER UPDATE ON @extschema@.pfa_write_queue
    REFERENCING NEW TABLE AS new_rows OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._pems_count_items();
CREATE TRIGGER pems_count_deleted AFTER DELETE ON @extschema@.pfa_write_queue
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._pems_count_items();

/*
 * _pems_add_counts(a, b): the sums of two lists of counts, element by element.
 */
CREATE FUNCTION @extschema@._pems_add_counts(a bigint[], b bigint[]) RETURNS bigint[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT array_agg(coalesce(u.x, 0) + coalesce(u.y, 0) ORDER BY u.i) FROM unnest(a, b) WITH ORDINALITY AS u (x, y, i)
$function$;
COMMENT ON FUNCTION @extschema@._pems_add_counts(bigint[], bigint[]) IS 'Internal: sums of two lists of counts, element by element';

CREATE AGGREGATE @extschema@._pems_sum_counts(bigint[]) (SFUNC = @extschema@._pems_add_counts, STYPE = bigint[], INITCOND = '{0,0,0,0,0,0,0,0,0,0}');
COMMENT ON AGGREGATE @extschema@._pems_sum_counts(bigint[]) IS 'Internal: sums of lists of counts, element by element';

/*
 * _pems_fold_stats(): puts the rows of differences into those of their organization and hour, and of all
 * organizations together: what happened by the hour, what stands under the hour -infinity.  Called by the
 * worker now and then; readers see the same sums before and after.
 */
CREATE FUNCTION @extschema@._pems_fold_stats() RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
    WITH taken AS (
        DELETE FROM @extschema@.pems_sync_stats s WHERE NOT s.folded RETURNING s.*
    ), placed AS (
        SELECT w.organization_id, h.hour, h.stands, t.pending, t.held, t.processing, t.failed, t.conflict, t.queued, t.completed,
               t.cancelled, t.dead_lettered, t.conflicted, t.sync_seconds, t.latency_counts, t.last_completed_at
        FROM taken t
        CROSS JOIN LATERAL (VALUES (t.organization_id), ('*')) AS w (organization_id)
        CROSS JOIN LATERAL (VALUES (t.hour, false), ('-infinity', true)) AS h (hour, stands)
    )
    INSERT INTO @extschema@.pems_sync_stats AS s
        (organization_id, hour, folded, pending, held, processing, failed, conflict,
         queued, completed, cancelled, dead_lettered, conflicted, sync_seconds, latency_counts, last_completed_at)
    SELECT p.organization_id, p.hour, true,
           coalesce(sum(p.pending) FILTER (WHERE p.stands), 0), coalesce(sum(p.held) FILTER (WHERE p.stands), 0),
           coalesce(sum(p.processing) FILTER (WHERE p.stands), 0), coalesce(sum(p.failed) FILTER (WHERE p.stands), 0),
           coalesce(sum(p.conflict) FILTER (WHERE p.stands), 0),
           coalesce(sum(p.queued) FILTER (WHERE NOT p.stands), 0), coalesce(sum(p.completed) FILTER (WHERE NOT p.stands), 0),
           coalesce(sum(p.cancelled) FILTER (WHERE NOT p.stands), 0), coalesce(sum(p.dead_lettered) FILTER (WHERE NOT p.stands), 0),
           coalesce(sum(p.conflicted) FILTER (WHERE NOT p.stands), 0), coalesce(sum(p.sync_seconds) FILTER (WHERE NOT p.stands), 0),
           @extschema@._pems_sum_counts(p.latency_counts) FILTER (WHERE NOT p.stands),
           max(p.last_completed_at)
    FROM placed p GROUP BY p.organization_id, p.hour
    ORDER BY p.organization_id, p.hour
    ON CONFLICT (organization_id, hour) WHERE folded DO UPDATE
    SET pending = s.pending + excluded.pending, held = s.held + excluded.held, processing = s.processing + excluded.processing,
        failed = s.failed + excluded.failed, conflict = s.conflict + excluded.conflict, queued = s.queued + excluded.queued,
        completed = s.completed + excluded.completed, cancelled = s.cancelled + excluded.cancelled,
        dead_lettered = s.dead_lettered + excluded.dead_lettered, conflicted = s.conflicted + excluded.conflicted,
        sync_seconds = s.sync_seconds + excluded.sync_seconds,
        latency_counts = @extschema@._pems_add_counts(s.latency_counts, excluded.latency_counts),
        last_completed_at = greatest(s.last_completed_at, excluded.last_completed_at)
$function$;
COMMENT ON FUNCTION @extschema@._pems_fold_stats() IS 'Internal: folds the rows of differences of pems_sync_stats into those of their hour';

/*
 * _pems_guard_modification(): row trigger on pfa_modification, before delete.
 * Errors: 55000 while the item is in flight.  A waiting item goes with its modification
 * (foreign key); its successors may then take their turn.
 */
CREATE FUNCTION @extschema@._pems_guard_modification() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    -- a claim that has not committed yet is waited for: its item must not be deleted under it
    PERFORM FROM @extschema@.pfa_write_queue q WHERE q.modification_id = OLD.id FOR UPDATE;
    IF EXISTS (SELECT FROM @extschema@.pfa_write_queue q
               WHERE q.modification_id = OLD.id
                 AND (q.status = 'processing' OR (q.status = 'pending' AND (q.outcome_unknown OR q.next_request = 'refresh')))) THEN
        RAISE EXCEPTION 'modification "%" is being sent to PEMS', OLD.id
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'Its item in pfa_write_queue is in flight, or its outcome is not known yet.',
                  HINT = 'Delete it when its sync_status has changed.';
    END IF;
    INSERT INTO @extschema@.pems_recheck (organization_id, pfa_id)
    SELECT DISTINCT q.organization_id, q.pfa_id FROM @extschema@.pfa_write_queue q
    WHERE q.modification_id = OLD.id AND q.status IN ('pending', 'conflict', 'failed');
    IF FOUND THEN
        INSERT INTO @extschema@.pems_audit_log (event_type, organization_id, pfa_id, modification_id, item_id, job_id, actor, error)
        SELECT 'DISCARDED', q.organization_id, q.pfa_id, q.modification_id, q.id, q.job_id, @extschema@._pems_caller(),
               'the modification was deleted'
        FROM @extschema@.pfa_write_queue q
        WHERE q.modification_id = OLD.id AND q.status IN ('pending', 'conflict', 'failed');
        PERFORM @extschema@._pems_wake();
    END IF;
    RETURN OLD;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_guard_modification() IS 'Internal trigger: a modification in flight cannot be deleted';

/*
 * _pems_guard_truncate(): statement trigger on the host tables, before truncate.
 * Errors: 55000 while an item is unfinished.
 */
CREATE FUNCTION @extschema@._pems_guard_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF EXISTS (SELECT FROM @extschema@.pfa_write_queue q
               WHERE q.status IN ('pending', 'processing', 'conflict', 'failed')) THEN
        RAISE EXCEPTION 'cannot truncate "%" while edits wait to be sent to PEMS', TG_TABLE_NAME
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'pfa_write_queue has unfinished items.',
                  HINT = 'Wait for them, resolve them, or discard them with pems_discard(); see the view pems_queue.';
    END IF;
    RETURN NULL;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_guard_truncate() IS 'Internal trigger: a host table cannot be truncated while items are unfinished';
