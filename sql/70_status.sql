/*
 * 70_status: how things stand: counts for dashboards.
 */

/*
 * _pems_sums(organization, since, until): the numbers as they are now, and what completed in the hours of that window,
 * of one organization or (NULL) all.  Reads the sums of the window, and the differences that are not summed yet.
 * Tables: pems_sync_stats.
 */
CREATE FUNCTION @extschema@._pems_sums(
    organization text, since timestamptz, until timestamptz,
    OUT pending bigint, OUT held bigint, OUT processing bigint, OUT failed bigint, OUT conflict bigint,
    OUT completed bigint, OUT seconds double precision, OUT last_at timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
    SELECT coalesce(sum(s.pending), 0), coalesce(sum(s.held), 0), coalesce(sum(s.processing), 0),
           coalesce(sum(s.failed), 0), coalesce(sum(s.conflict), 0),
           coalesce(sum(s.completed) FILTER (WHERE s.hour BETWEEN since AND until), 0),
           coalesce(sum(s.sync_seconds) FILTER (WHERE s.hour BETWEEN since AND until), 0), max(s.last_completed_at)
    FROM (SELECT f.* FROM @extschema@.pems_sync_stats f
          WHERE f.folded AND f.organization_id = coalesce(organization, '*') AND f.hour BETWEEN since AND until
          UNION ALL
          SELECT n.* FROM @extschema@.pems_sync_stats n
          WHERE n.folded AND n.organization_id = coalesce(organization, '*') AND n.hour = '-infinity'
            AND since > '-infinity'
          UNION ALL
          SELECT d.* FROM @extschema@.pems_sync_stats d
          WHERE NOT d.folded AND d.transaction >= @extschema@._pems_folded_until()
            AND (organization IS NULL OR d.organization_id = organization)) s
$function$;
COMMENT ON FUNCTION @extschema@._pems_sums(text, timestamptz, timestamptz) IS
    'Internal: the numbers as they are now, and what completed in a window, of one organization or all';

/*
 * _pems_oldest_pending(organization): when the item was queued that waits longest.  Of each organization that has
 * something pending, according to the statistics, only the first item is read; without the settings the planner would
 * sort them all.
 * Tables: pems_sync_stats, pfa_write_queue.
 */
CREATE FUNCTION @extschema@._pems_oldest_pending(organization text) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET enable_sort = off SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
    SELECT min(f.created_at) FROM (
        SELECT s.organization_id FROM @extschema@.pems_sync_stats s
        WHERE s.folded AND s.hour = '-infinity' AND s.pending > 0 AND s.organization_id <> '*'
          AND (organization IS NULL OR s.organization_id = organization)
        UNION
        SELECT d.organization_id FROM @extschema@.pems_sync_stats d
        WHERE NOT d.folded AND d.transaction >= @extschema@._pems_folded_until() AND d.pending > 0
          AND (organization IS NULL OR d.organization_id = organization)) o
    CROSS JOIN LATERAL (
        SELECT q.created_at FROM @extschema@.pfa_write_queue q
        WHERE q.organization_id = o.organization_id AND q.unfinished AND q.open AND q.status = 'pending'
        ORDER BY q.created_at LIMIT 1) f
$function$;
COMMENT ON FUNCTION @extschema@._pems_oldest_pending(text) IS 'Internal: when the item was queued that waits longest';

/*
 * _pems_newest_items(organization, wanted): the newest 100 items in that status, of one organization or (NULL) all;
 * each status is read by the index that has the fewest other items.
 * Tables: pfa_write_queue, pems_claim, organization.
 */
CREATE FUNCTION @extschema@._pems_newest_items(organization text, wanted text) RETURNS SETOF @extschema@.pfa_write_queue
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET enable_sort = off SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
    SELECT n.* FROM @extschema@.organization o CROSS JOIN LATERAL (
        (SELECT q.* FROM @extschema@.pfa_write_queue q
         WHERE wanted = 'pending' AND q.organization_id = o.id AND q.unfinished AND q.open AND q.status = wanted
         ORDER BY q.created_at DESC, q.commit_seq DESC LIMIT 100)
        UNION ALL
        (SELECT q.* FROM @extschema@.pfa_write_queue q
         WHERE wanted = 'processing' AND q.organization_id = o.id AND q.status = wanted
           AND q.id IN (SELECT unnest(c.item_ids) FROM @extschema@.pems_claim c)
         ORDER BY q.commit_seq DESC LIMIT 100)
        UNION ALL
        (SELECT q.* FROM @extschema@.pfa_write_queue q
         WHERE wanted IN ('conflict', 'failed') AND q.organization_id = o.id AND q.stopped AND q.status = wanted
         ORDER BY q.commit_seq DESC LIMIT 100)
        UNION ALL
        (SELECT q.* FROM @extschema@.pfa_write_queue q
         WHERE wanted IN ('completed', 'cancelled') AND q.organization_id = o.id AND q.status = wanted
         ORDER BY q.commit_seq DESC LIMIT 100)) n
    WHERE organization IS NULL OR o.id = organization
    ORDER BY n.commit_seq DESC LIMIT 100
$function$;
COMMENT ON FUNCTION @extschema@._pems_newest_items(text, text) IS 'Internal: newest 100 items in a status';

/*
 * _pems_item_json(item): an item as pems_sync_status() and pems_job() show it.
 * Returns: {id, modificationId, pfaId, organizationId, operation, status, priority, retryCount, error, errorCode,
 *   jobId, createdAt, scheduledAt, completedAt}
 */
CREATE FUNCTION @extschema@._pems_item_json(item @extschema@.pfa_write_queue) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT jsonb_build_object(
        'id', item.id, 'modificationId', item.modification_id, 'pfaId', item.pfa_id,
        'organizationId', item.organization_id, 'operation', item.operation, 'status', item.status,
        'priority', item.priority, 'retryCount', item.retry_count, 'error', item.last_error,
        'errorCode', item.error_code, 'jobId', item.job_id, 'createdAt', @extschema@._pems_iso(item.created_at),
        'scheduledAt', @extschema@._pems_iso(item.scheduled_at),
        'completedAt', @extschema@._pems_iso(item.completed_at))
$function$;
COMMENT ON FUNCTION @extschema@._pems_item_json(@extschema@.pfa_write_queue) IS
    'Internal: an item as pems_sync_status() and pems_job() show it';

/*
 * _pems_status_items(organization, wanted): the newest 100 items in that status, for pems_sync_status().
 * Returns: [as _pems_item_json() says]
 */
CREATE FUNCTION @extschema@._pems_status_items(organization text, wanted text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT coalesce(jsonb_agg(@extschema@._pems_item_json(i) ORDER BY i.commit_seq DESC), '[]')
    FROM @extschema@._pems_newest_items(organization, wanted) i
$function$;
COMMENT ON FUNCTION @extschema@._pems_status_items(text, text) IS 'Internal: newest 100 items in a status, as JSON';

/*
 * _pems_health_word(paused, failed, conflicts, oldest_seconds): healthy; degraded (something waits for a person, or
 * the oldest edit for more than five minutes); unhealthy (nothing is being sent).
 */
CREATE FUNCTION @extschema@._pems_health_word(
    paused boolean, failed bigint, conflicts bigint, oldest_seconds double precision) RETURNS text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT CASE WHEN w.pid IS NULL OR w.state <> 'running' THEN 'unhealthy'
                WHEN paused OR failed > 0 OR conflicts > 0 OR w.open_breakers > 0 OR oldest_seconds > 300
                THEN 'degraded'
                ELSE 'healthy' END
    FROM (SELECT) one LEFT JOIN @extschema@._pems_worker_state() w ON true
$function$;
COMMENT ON FUNCTION @extschema@._pems_health_word(boolean, bigint, bigint, double precision) IS
    'Internal: healthy, degraded or unhealthy';

/*
 * _pems_next_due(organization, pending): when the next item of one organization or (NULL) of all is due: now, where
 * one is ready; NULL where none waits, or where nothing is being sent.
 *
 * Parameters: pending: how many items wait, according to the statistics.
 * Tables: pems_pause, pfa_write_queue (indexes only).
 */
CREATE FUNCTION @extschema@._pems_next_due(organization text, pending bigint) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET enable_seqscan = off SET jit = off AS $function$
BEGIN
    IF pending <= 0 OR @extschema@._pems_why_not_sent(organization) IS NOT NULL THEN
        RETURN NULL;
    END IF;
    RETURN coalesce(
        (SELECT clock_timestamp() WHERE EXISTS (
            SELECT FROM @extschema@.pfa_write_queue q
            WHERE q.open AND q.status = 'pending' AND q.waits_for IS NULL
              AND (organization IS NULL OR q.organization_id = organization))),
        (SELECT q.scheduled_at FROM @extschema@.pfa_write_queue q
         WHERE q.open AND q.waits_for = 'time' AND (organization IS NULL OR q.organization_id = organization)
         ORDER BY q.scheduled_at LIMIT 1));
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_next_due(text, bigint) IS
    'Internal: when the next item is due; NULL: none waits, or nothing is being sent';

/*
 * pems_sync_status(organization_id, status, start_date, end_date)
 *
 * How things stand, from the statistics, so that its time does not grow with the queue.
 *
 * Parameters: organization_id: NULL = all; status: also list the newest 100 items in this status of the
 *   queue; start_date, end_date: window for completed and avgSyncTime, by the hour; default the last 24 h.
 * Returns: {totalQueued, processing, completed, failed, conflicts, held, avgSyncTime, lastSyncAt,
 *   nextSyncAt, health, paused, oldestQueuedSeconds} and, with status, items.  totalQueued: items in
 *   pending; avgSyncTime: seconds from commit to completion, null when none completed; nextSyncAt:
 *   when the next item is due, null when none waits or nothing is being sent.
 * Errors: P0002 unknown organization; 22023 unknown status, or a window that ends before it starts.
 * Tables: pems_sync_stats, pems_pause, pfa_write_queue (indexes only).
 */
CREATE FUNCTION @extschema@.pems_sync_status(
    organization_id text DEFAULT NULL, status text DEFAULT NULL, start_date timestamptz DEFAULT NULL,
    end_date timestamptz DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET enable_seqscan = off SET jit = off AS $function$
DECLARE
    organization CONSTANT text := CASE WHEN organization_id IS NOT NULL
                                       THEN @extschema@._pems_organization(organization_id) END;
    wanted       CONSTANT text := status;
    -- a day before the first time that there is, is before all times
    since        CONSTANT timestamptz := date_trunc('hour', coalesce(start_date,
        CASE WHEN end_date < '4712-01-01 00:00:00+00 BC' THEN '-infinity'
             ELSE least(end_date, now()) - interval '24 hours' END), 'UTC');
    until        CONSTANT timestamptz := coalesce(end_date, 'infinity');
    sums         record;
    oldest       timestamptz;
    next_at      timestamptz;
    paused       boolean;
    age          double precision;
BEGIN
    IF wanted IS NOT NULL AND wanted NOT IN ('pending', 'processing', 'completed', 'failed', 'conflict', 'cancelled')
    THEN
        RAISE EXCEPTION 'unknown status "%"', left(wanted, 100)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Use pending, processing, completed, failed, conflict or cancelled.';
    END IF;
    IF wanted IS NOT NULL THEN
        PERFORM @extschema@._pems_attached();
    END IF;
    IF end_date < start_date THEN
        RAISE EXCEPTION 'end_date is before start_date'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass the earlier time as start_date.';
    END IF;

    SELECT d.* INTO sums FROM @extschema@._pems_sums(organization, since, until) d;
    paused := @extschema@._pems_standing() = 'copy'
              OR EXISTS (SELECT FROM @extschema@.pems_pause p WHERE p.organization_id IN (organization, '*'))
              OR (organization IS NULL AND EXISTS (SELECT FROM @extschema@.pems_pause));
    SELECT @extschema@._pems_oldest_pending(organization) INTO oldest WHERE sums.pending > 0;
    next_at := @extschema@._pems_next_due(organization, sums.pending);
    -- negative: the clock was set back
    age := greatest(0, extract(epoch FROM clock_timestamp() - oldest));

    RETURN jsonb_build_object(
        'totalQueued', sums.pending, 'processing', sums.processing, 'completed', sums.completed,
        'failed', sums.failed, 'conflicts', sums.conflict, 'held', sums.held,
        'avgSyncTime', round((sums.seconds / nullif(sums.completed, 0)::double precision)::numeric, 3),
        'lastSyncAt', @extschema@._pems_iso(sums.last_at), 'nextSyncAt', @extschema@._pems_iso(next_at),
        'health', @extschema@._pems_health_word(paused, sums.failed::bigint, sums.conflict::bigint, age),
        'paused', paused, 'oldestQueuedSeconds', floor(age)::bigint)
        || CASE WHEN wanted IS NULL THEN '{}'
                ELSE jsonb_build_object('items', @extschema@._pems_status_items(organization, wanted)) END;
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_sync_status(text, text, timestamptz, timestamptz) IS
    'How things stand: {totalQueued, processing, completed, failed, conflicts, held, avgSyncTime, lastSyncAt, '
    'nextSyncAt, health, paused, oldestQueuedSeconds}, with status also items. Errors: P0002, 22023.';
