/*
 * 65_status: how things stand: counts for dashboards, and the state of single records.
 */

/*
 * _pems_newest_items(organization, wanted): the newest 100 items in that status, of one organization or (NULL) all;
 * for each status by the index that has the fewest others.
 */
CREATE FUNCTION @extschema@._pems_newest_items(organization text, wanted text) RETURNS SETOF @extschema@.pfa_write_queue
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET enable_sort = off SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
    SELECT n.* FROM @extschema@.organization o CROSS JOIN LATERAL (
        (SELECT q.* FROM @extschema@.pfa_write_queue q
         WHERE wanted = 'pending' AND q.organization_id = o.id AND q.unfinished AND q.in_line AND q.status = wanted
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
 * _pems_status_items(organization, wanted): the newest 100 items in that status, for pems_sync_status().
 */
CREATE FUNCTION @extschema@._pems_status_items(organization text, wanted text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'id', i.id, 'modificationId', i.modification_id, 'pfaId', i.pfa_id, 'organizationId', i.organization_id,
               'operation', i.operation, 'status', i.status, 'priority', i.priority, 'retryCount', i.retry_count,
               'error', i.last_error, 'errorCode', i.error_code, 'jobId', i.job_id,
               'createdAt', @extschema@._pems_iso(i.created_at), 'scheduledAt', @extschema@._pems_iso(i.scheduled_at),
               'completedAt', @extschema@._pems_iso(i.completed_at)) ORDER BY i.commit_seq DESC), '[]')
    FROM @extschema@._pems_newest_items(organization, wanted) i
$function$;
COMMENT ON FUNCTION @extschema@._pems_status_items(text, text) IS 'Internal: newest 100 items in a status, as JSON';

/*
 * _pems_health_word(): healthy; degraded (something waits for a person, or the oldest edit for more
 * than five minutes); unhealthy (nothing is being sent).
 */
CREATE FUNCTION @extschema@._pems_health_word(
    paused boolean, failed bigint, conflicts bigint, oldest_seconds double precision) RETURNS text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT CASE WHEN w.pid IS NULL OR w.state <> 'running' THEN 'unhealthy'
                WHEN paused OR failed > 0 OR conflicts > 0 OR w.open_breakers > 0 OR oldest_seconds > 300 THEN 'degraded'
                ELSE 'healthy' END
    FROM (SELECT) one LEFT JOIN @extschema@._pems_worker_state() w ON true
$function$;
COMMENT ON FUNCTION @extschema@._pems_health_word(boolean, bigint, bigint, double precision) IS 'Internal: healthy, degraded or unhealthy';

/*
 * _pems_sums(organization, since, until): what stands now, and what completed in the hours of that window, of one
 * organization or (NULL) all.  Reads the folded rows of the window and what is not folded yet.
 */
CREATE FUNCTION @extschema@._pems_sums(
    organization text, since timestamptz, until timestamptz,
    OUT pending bigint, OUT held bigint, OUT processing bigint, OUT failed bigint, OUT conflict bigint,
    OUT completed bigint, OUT seconds double precision, OUT last_at timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
    SELECT coalesce(sum(s.pending), 0), coalesce(sum(s.held), 0), coalesce(sum(s.processing), 0), coalesce(sum(s.failed), 0),
           coalesce(sum(s.conflict), 0), coalesce(sum(s.completed) FILTER (WHERE s.hour BETWEEN since AND until), 0),
           coalesce(sum(s.sync_seconds) FILTER (WHERE s.hour BETWEEN since AND until), 0), max(s.last_completed_at)
    FROM (SELECT f.* FROM @extschema@.pems_sync_stats f
          WHERE f.folded AND f.organization_id = coalesce(organization, '*') AND f.hour BETWEEN since AND until
          UNION ALL
          SELECT n.* FROM @extschema@.pems_sync_stats n
          WHERE n.folded AND n.organization_id = coalesce(organization, '*') AND n.hour = '-infinity' AND since > '-infinity'
          UNION ALL
          SELECT d.* FROM @extschema@.pems_sync_stats d
          WHERE NOT d.folded AND d.transaction >= @extschema@._pems_folded_until()
            AND (organization IS NULL OR d.organization_id = organization)) s
$function$;
COMMENT ON FUNCTION @extschema@._pems_sums(text, timestamptz, timestamptz) IS 'Internal: what stands now, and what completed in a window, of one organization or all';

/*
 * pems_sync_status(organization_id, status, start_date, end_date)
 *
 * How things stand, from the rollups, so that its time does not grow with the queue.
 *
 * Parameters: organization_id: NULL = all; status: also list the newest 100 items in this status of the
 *   queue; start_date, end_date: window for completed and avgSyncTime, by the hour; default the last 24 h.
 * Returns: {totalQueued, processing, completed, failed, conflicts, held, avgSyncTime, lastSyncAt,
 *   nextSyncAt, health, paused, oldestQueuedSeconds} and, with status, items.  totalQueued: items in
 *   pending; avgSyncTime: seconds from commit to completion, null when none completed; nextSyncAt:
 *   when the next item is due, null when none waits or sending is paused.
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
    organization CONSTANT text := CASE WHEN organization_id IS NOT NULL THEN @extschema@._pems_organization(organization_id) END;
    wanted       CONSTANT text := status;
    since        CONSTANT timestamptz := date_trunc('hour', coalesce(start_date, least(end_date, now()) - interval '24 hours'), 'UTC');
    until        CONSTANT timestamptz := coalesce(end_date, 'infinity');
    sums         record;
    oldest       timestamptz;
    next_at      timestamptz;
    paused       boolean;
    age          double precision;
BEGIN
    IF wanted IS NOT NULL AND wanted NOT IN ('pending', 'processing', 'completed', 'failed', 'conflict', 'cancelled') THEN
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
    SELECT CASE WHEN sums.pending > 0 AND NOT EXISTS (
               SELECT FROM @extschema@.pems_pause p WHERE p.organization_id IN (organization, '*')) THEN coalesce(
               (SELECT clock_timestamp() WHERE EXISTS (SELECT FROM @extschema@.pfa_write_queue q
                WHERE q.in_line AND q.status = 'pending' AND q.waits_for IS NULL
                  AND (organization IS NULL OR q.organization_id = organization))),
               (SELECT q.scheduled_at FROM @extschema@.pfa_write_queue q
                WHERE q.in_line AND q.waits_for = 'time' AND (organization IS NULL OR q.organization_id = organization)
                ORDER BY q.scheduled_at LIMIT 1)) END
    INTO next_at;
    -- less than nothing: the clock was set back
    age := greatest(0, extract(epoch FROM clock_timestamp() - oldest));

    RETURN jsonb_build_object(
        'totalQueued', sums.pending, 'processing', sums.processing, 'completed', sums.completed,
        'failed', sums.failed, 'conflicts', sums.conflict, 'held', sums.held,
        'avgSyncTime', round((sums.seconds / nullif(sums.completed, 0)::double precision)::numeric, 3),
        'lastSyncAt', @extschema@._pems_iso(sums.last_at), 'nextSyncAt', @extschema@._pems_iso(next_at),
        'health', @extschema@._pems_health_word(paused, sums.failed::bigint, sums.conflict::bigint, age),
        'paused', paused, 'oldestQueuedSeconds', floor(age)::bigint)
        || CASE WHEN wanted IS NULL THEN '{}' ELSE jsonb_build_object('items', @extschema@._pems_status_items(organization, wanted)) END;
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_sync_status(text, text, timestamptz, timestamptz) IS 'How things stand: {totalQueued, processing, completed, failed, conflicts, held, avgSyncTime, lastSyncAt, nextSyncAt, health, paused, oldestQueuedSeconds}, with status also items. Errors: P0002, 22023.';

/*
 * _pems_oldest_pending(organization): when the item was queued that waits longest.  Of each organization that has
 * something pending, according to the statistics, only the first is looked at (which the planner would rather sort for).
 */
CREATE FUNCTION @extschema@._pems_oldest_pending(organization text) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET enable_sort = off SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
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
        WHERE q.organization_id = o.organization_id AND q.unfinished AND q.in_line AND q.status = 'pending'
        ORDER BY q.created_at LIMIT 1) f
$function$;
COMMENT ON FUNCTION @extschema@._pems_oldest_pending(text) IS 'Internal: when the item was queued that waits longest';

/*
 * _pems_why_not_sent(organization): why nothing of the organization is being sent, a sentence for people;
 * NULL when it is.
 */
CREATE FUNCTION @extschema@._pems_why_not_sent(organization text) RETURNS text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT coalesce(
        (SELECT 'This database is a copy; it sends nothing until an administrator resumes it.'
         WHERE @extschema@._pems_standing() = 'copy'),
        (SELECT CASE p.cause WHEN 'credential' THEN 'PEMS refuses the credential of the organization' ELSE 'Sending is paused' END
                || coalesce(': ' || p.reason, '.') FROM @extschema@.pems_pause p
         WHERE p.organization_id IN (organization, '*') ORDER BY p.organization_id DESC, p.cause LIMIT 1),
        (SELECT 'The organization has no credential for PEMS.'
         WHERE NOT EXISTS (SELECT FROM @extschema@.pems_credential c WHERE c.organization_id = organization)),
        (SELECT coalesce(upper(left(w.last_error, 1)) || substr(w.last_error, 2) || '.', 'The key file cannot be used.')
         FROM @extschema@._pems_worker_state() w WHERE w.state = 'no_key' LIMIT 1),
        (SELECT CASE c.state WHEN 'no_key' THEN 'There is no key for the credential of the organization'
                             ELSE 'The credential of the organization cannot be opened' END || coalesce(': ' || c.problem, '.')
         FROM @extschema@.pems_credential c WHERE c.organization_id = organization AND c.state IN ('no_key', 'cannot_open')),
        (SELECT 'The worker is not running.'
         WHERE NOT EXISTS (SELECT FROM @extschema@._pems_worker_state() w WHERE w.state = 'running')))
$function$;
COMMENT ON FUNCTION @extschema@._pems_why_not_sent(text) IS 'Internal: why nothing of the organization is being sent; NULL when it is';

/*
 * _pems_record_states(organization, pfa_ids): for each record that is known the edit that its state comes
 * from: the first unfinished item; else the newest draft; else what the mirror came from.
 * later: unfinished items behind the first, counted up to 100.
 */
CREATE FUNCTION @extschema@._pems_record_states(
    organization text, pfa_ids text[],
    OUT pfa_id text, OUT status text, OUT since timestamptz, OUT due timestamptz, OUT error text, OUT conflict_id text,
    OUT modification_id text, OUT later bigint)
RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
    WITH wanted AS (
        SELECT DISTINCT u.id FROM unnest(pfa_ids) u (id)
    ), head AS (
        SELECT h.* FROM wanted w CROSS JOIN LATERAL (
            SELECT f.* FROM (VALUES (false), (true)) AS k (held) CROSS JOIN LATERAL (
                SELECT q.* FROM @extschema@.pfa_write_queue q
                WHERE q.organization_id = organization AND q.pfa_id = w.id AND q.unfinished AND q.held = k.held
                ORDER BY q.commit_seq LIMIT 1) f
            ORDER BY f.commit_seq LIMIT 1) h
    ), draft AS (
        SELECT DISTINCT ON (m.pfa_id) m.pfa_id, m.id, m.created_at FROM @extschema@.pfa_modification m
        WHERE m.organization_id = organization AND m.sync_status = 'draft' AND m.pfa_id = ANY (pfa_ids)
        ORDER BY m.pfa_id, m.created_at DESC, m.id DESC
    ), mirror AS (
        SELECT r.pfa_id, coalesce(v.recorded_at, r.last_synced_at) AS at, v.modification_id
        -- each by itself: a join may be planned to read all of a table
        FROM wanted w CROSS JOIN LATERAL (
            SELECT m.pfa_id, m.version, m.last_synced_at FROM @extschema@.pfa_mirror m
            WHERE m.organization_id = organization AND m.pfa_id = w.id LIMIT 1) r
        LEFT JOIN LATERAL (
            SELECT h.recorded_at, h.modification_id FROM @extschema@.pems_mirror_version h
            WHERE h.organization_id = organization AND h.pfa_id = r.pfa_id AND h.version = r.version
            ORDER BY h.state_seq DESC LIMIT 1) v ON true
    )
    SELECT h.pfa_id, CASE h.status WHEN 'processing' THEN 'syncing' WHEN 'pending' THEN 'queued' ELSE h.status END,
           CASE h.status WHEN 'processing' THEN h.last_attempt_at WHEN 'conflict' THEN c.created_at
                         WHEN 'failed' THEN h.completed_at ELSE h.created_at END,
           CASE WHEN h.waits_for = 'resume' THEN NULL WHEN h.status = 'pending' THEN h.scheduled_at
                WHEN h.status = 'processing' THEN h.last_attempt_at END,
           CASE WHEN h.waits_for = 'resume'
                THEN 'Another database queued this edit (a dump was loaded into this one); it is not sent until an administrator resumes it.'
                ELSE h.last_error END, c.id, h.modification_id,
           (SELECT count(*) FROM (SELECT FROM @extschema@.pfa_write_queue l
                WHERE l.organization_id = h.organization_id AND l.pfa_id = h.pfa_id AND l.commit_seq > h.commit_seq
                  AND l.unfinished LIMIT 100) behind)
    FROM head h
    LEFT JOIN LATERAL (SELECT o.id, o.created_at FROM @extschema@.pfa_sync_conflict o
                       WHERE o.item_id = h.id AND o.status = 'unresolved' LIMIT 1) c ON true
    UNION ALL
    SELECT d.pfa_id, 'draft', d.created_at, NULL, NULL, NULL, d.id, 0
    FROM draft d WHERE d.pfa_id NOT IN (SELECT h.pfa_id FROM head h)
    UNION ALL
    SELECT m.pfa_id, 'synced', m.at, NULL, NULL, NULL, m.modification_id, 0
    FROM mirror m WHERE m.pfa_id NOT IN (SELECT h.pfa_id FROM head h UNION ALL SELECT d.pfa_id FROM draft d)
$function$;
COMMENT ON FUNCTION @extschema@._pems_record_states(text, text[]) IS 'Internal: for each record the edit that its state comes from';

/*
 * pems_sync_state(organization_id, pfa_ids)
 *
 * The state of single records, for badges in a list.  A record is as far as its first unfinished edit;
 * what is behind that one is held.
 *
 * Returns: {"PFA-1": {status, since, etaSeconds, error, conflictId, modificationId}, ...}; records that are
 *   neither mirrored nor edited are left out.
 *   status      draft, queued, syncing, conflict, failed, or synced: nothing is under way
 *   etaSeconds  when it will probably be in PEMS; null when nothing is under way, or nothing is being sent
 *   error       what went wrong, what it waits for, and how many later edits wait for it; null: all is well
 * Errors: P0002 unknown organization; 22023 pfa_ids is NULL; 55000 not attached.
 * Tables: pfa_write_queue, pfa_modification, pfa_mirror, pfa_sync_conflict, pems_mirror_version, pems_pause.
 */
CREATE FUNCTION @extschema@.pems_sync_state(organization_id text, pfa_ids text[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    organization CONSTANT text := @extschema@._pems_organization(organization_id);
    blocked      CONSTANT text := @extschema@._pems_why_not_sent(organization);
    at_earliest  CONSTANT timestamptz := @extschema@._pems_estimate(organization);
BEGIN
    IF pfa_ids IS NULL THEN
        RAISE EXCEPTION 'pfa_ids must not be null'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass the ids of the records in the list.';
    END IF;
    RETURN (SELECT coalesce(jsonb_object_agg(s.pfa_id, jsonb_build_object(
        'status', s.status, 'since', @extschema@._pems_iso(s.since),
        'etaSeconds', CASE WHEN s.due IS NOT NULL AND blocked IS NULL
                           THEN ceil(greatest(0, extract(epoch FROM greatest(s.due, at_earliest) - clock_timestamp())))::bigint END,
        'error', nullif(concat_ws(' ', s.error || CASE WHEN s.error LIKE '%.' THEN '' ELSE '.' END, CASE WHEN s.due IS NOT NULL THEN blocked END,
                 CASE WHEN s.later > 0 AND s.due IS NULL THEN
                     format('%s later %s for this one.', CASE WHEN s.later < 100 THEN s.later::text ELSE 'At least 100' END,
                            CASE s.later WHEN 1 THEN 'edit waits' ELSE 'edits wait' END) END), ''),
        'conflictId', s.conflict_id, 'modificationId', s.modification_id)), '{}')
        FROM @extschema@._pems_record_states(organization, pfa_ids) s);
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_sync_state(text, text[]) IS 'State of records for badges in a list: {"PFA-1": {status, since, etaSeconds, error, conflictId, modificationId}}. Errors: P0002, 22023, 55000.';
