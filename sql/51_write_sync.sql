
/*
 * _pems_due_at(next_request, outcome_unknown, last_attempt_at): when an item may be due at the earliest: now; or two
 * seconds after a write that may still be under way; or three seconds after a read that found the record gone, because
 * a second one that comes too early is answered by the same replica that lags.  Written to be inlined into its query:
 * no SET clause.
 */
CREATE FUNCTION @extschema@._pems_due_at(next_request text, outcome_unknown boolean, last_attempt_at timestamptz)
RETURNS timestamptz
LANGUAGE sql VOLATILE AS $function$
    SELECT greatest(pg_catalog.clock_timestamp(),
                    CASE WHEN next_request = 'confirm' THEN last_attempt_at + interval '3 seconds'
                         WHEN outcome_unknown THEN last_attempt_at + interval '2 seconds' END)
$function$;
COMMENT ON FUNCTION @extschema@._pems_due_at(text, boolean, timestamptz) IS
    'Internal: when an item may be due at the earliest';

/*
 * _pems_waiting(organization, modification_ids, rank): the items of pems_write_sync(), without locking them. Finished
 * items are not read: all that wait come from an index of their own (no other index has its order), others by their
 * modification.
 *
 * Returns: to_change: ids of those that have another priority, or are not due yet; NULL: none; due: how many others
 *   wait.
 * Tables: pfa_write_queue.
 */
CREATE FUNCTION @extschema@._pems_waiting(
    organization text, modification_ids text[], rank integer, OUT to_change text[], OUT due integer)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_sort = off SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
    SELECT array_agg(w.id) FILTER (WHERE w.changes), (count(*) FILTER (WHERE NOT w.changes))::integer
    FROM (SELECT i.id, i.priority <> rank OR (i.waits_for IS NOT NULL AND i.scheduled_at >
                     @extschema@._pems_due_at(i.next_request, i.outcome_unknown, i.last_attempt_at)) AS changes
          FROM (
              (SELECT q.id, q.organization_id, q.priority, q.waits_for, q.scheduled_at, q.next_request,
                      q.outcome_unknown, q.last_attempt_at
               FROM @extschema@.pfa_write_queue q
               WHERE modification_ids IS NULL AND q.organization_id = organization AND q.unfinished AND q.open
                 AND q.status = 'pending'
               ORDER BY q.created_at OFFSET 0)
              UNION ALL
              SELECT f.* FROM (SELECT DISTINCT u.id FROM unnest(modification_ids) u (id)) m CROSS JOIN LATERAL (
                  SELECT q.id, q.organization_id, q.priority, q.waits_for, q.scheduled_at, q.next_request,
                         q.outcome_unknown, q.last_attempt_at
                  FROM @extschema@.pfa_write_queue q
                  -- not to be flattened: no other index than the modification's is to be thought of
                  WHERE q.modification_id = m.id AND q.status = 'pending' OFFSET 0) f
              WHERE f.organization_id = organization) i) w
$function$;
COMMENT ON FUNCTION @extschema@._pems_waiting(text, text[], integer) IS
    'Internal: the items of pems_write_sync(), those that it has to change and how many others';

/*
 * _pems_make_due(item_ids, rank): makes those of these items that still wait due, with that priority.
 * Returns: how many.
 * Tables: pfa_write_queue.
 */
CREATE FUNCTION @extschema@._pems_make_due(item_ids text[], rank integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    tids    tid[];
    changed integer;
BEGIN
    SELECT array_agg(l.tid) INTO tids
    FROM (SELECT DISTINCT u.id FROM unnest(item_ids) u (id) ORDER BY u.id) w
    CROSS JOIN LATERAL (SELECT q.ctid AS tid FROM @extschema@.pfa_write_queue q
                        WHERE q.id = w.id AND q.status = 'pending' FOR NO KEY UPDATE) l;
    -- by ctid, which cannot change while we hold the lock: a join by id may be planned to read all of the queue
    UPDATE @extschema@.pfa_write_queue q
    SET priority = rank, scheduled_at = @extschema@._pems_due_at(q.next_request, q.outcome_unknown, q.last_attempt_at),
        waits_for = CASE WHEN q.waits_for IN ('turn', 'resume') THEN q.waits_for
                         WHEN @extschema@._pems_due_at(q.next_request, q.outcome_unknown, q.last_attempt_at)
                              > clock_timestamp()
                         THEN 'time' END
    FROM unnest(tids) u (tid) WHERE q.ctid = u.tid;
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_make_due(text[], integer) IS
    'Internal: makes waiting items due, with a priority; returns how many';

/*
 * pems_write_sync(organization_id, modification_ids, priority)
 *
 * Makes waiting items due now, with that priority.  Items that wait for their turn keep waiting, but
 * take the priority with them.  An item whose write may still be under way in PEMS waits out its
 * two seconds, and one whose record was not found the three until the second look.  What is due already, with that
 * priority, is neither locked nor written; the others are locked in the order of their ids, so that several who call
 * this at once queue up instead of deadlocking.
 *
 * Parameters: organization_id; modification_ids: NULL = all that wait; priority: high, normal, low.
 * Returns: {success, jobId, queuedCount, estimatedCompletionTime}; queuedCount: the items that were asked for and wait;
 *   estimatedCompletionTime: null when nothing of the organization is being sent.
 * Errors: P0002 unknown organization; 22023 unknown priority, or modification_ids empty or too long; 55000 not
 *   attached.
 * Tables: pfa_write_queue, pems_sync_job.
 */
CREATE FUNCTION @extschema@.pems_write_sync(
    organization_id text, modification_ids text[] DEFAULT NULL, priority text DEFAULT 'normal')
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    organization CONSTANT text := @extschema@._pems_organization(organization_id);
    rank         CONSTANT integer := @extschema@._pems_priority(priority);
    wanted       CONSTANT text[] := @extschema@._pems_id_list(modification_ids, 'modification_ids'::text);
    job          CONSTANT text := @extschema@._pems_uuid();
    waiting      record;
    changed      integer := 0;
    touched      integer;
BEGIN
    SELECT w.* INTO waiting FROM @extschema@._pems_waiting(organization, wanted, rank) w;
    IF waiting.to_change IS NOT NULL THEN
        changed := @extschema@._pems_make_due(waiting.to_change, rank);
    END IF;
    touched := waiting.due + changed;

    IF touched > 0 THEN
        INSERT INTO @extschema@.pems_sync_job (id, organization_id, kind, requested_by, queued)
        VALUES (job, organization, 'write_sync', @extschema@._pems_caller(), touched);
        PERFORM @extschema@._pems_wake(false);
        PERFORM @extschema@._pems_warn_if_idle();
    END IF;
    RETURN jsonb_build_object(
        'success', true, 'jobId', CASE WHEN touched > 0 THEN job END, 'queuedCount', touched,
        'estimatedCompletionTime', @extschema@._pems_estimate_json(organization));
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_write_sync(text, text[], text) IS
    'Makes waiting items due now, with that priority. Returns {success, jobId, queuedCount, estimatedCompletionTime}. '
    'Errors: P0002, 22023, 55000.';
