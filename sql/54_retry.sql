/*
 * 54_retry: dead letters are queued again; and _pems_requeue(), which a resolution (57_resolve) needs, too.
 */

/*
 * _pems_requeue(item_ids, next_request, job_id): puts items that waited for a person back into the queue, at their old
 * position in the order of their record, with all their retries.  The worker decides which of them is next.
 *
 * Parameters: next_request: write or read; of an item whose mirror is still to be read it stays refresh.  job_id:
 *   NULL: as it was.
 * Tables: pfa_write_queue, pems_recheck, pfa_modification.
 */
CREATE FUNCTION @extschema@._pems_requeue(item_ids text[], next_request text, job_id text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    modification_ids text[];
BEGIN
    WITH back AS (
        UPDATE @extschema@.pfa_write_queue q
        SET status = 'pending', waits_for = 'turn', completed_at = NULL, retry_count = 0,
            -- PEMS may still be at a write whose answer was lost
            scheduled_at = greatest(clock_timestamp(),
                                    CASE WHEN q.outcome_unknown THEN q.last_attempt_at + interval '2 seconds' END),
            rounds = 0, error_code = NULL, last_error = NULL, job_id = coalesce(_pems_requeue.job_id, q.job_id),
            -- a refresh must not take what a replica shows that has not got our write yet
            known_version = CASE q.next_request WHEN 'refresh' THEN q.known_version END,
            next_request = CASE q.next_request WHEN 'refresh' THEN 'refresh' ELSE _pems_requeue.next_request END
        WHERE q.id = ANY (item_ids)
        RETURNING q.modification_id, q.organization_id, q.pfa_id
    ), recheck AS (
        INSERT INTO @extschema@.pems_recheck (organization_id, pfa_id)
        SELECT DISTINCT b.organization_id, b.pfa_id FROM back b
    )
    SELECT array_agg(b.modification_id) INTO modification_ids FROM back b;
    IF modification_ids IS NOT NULL THEN
        PERFORM @extschema@._pems_app_mark_all(modification_ids, 'queued'::text);
        PERFORM @extschema@._pems_wake(false);
        PERFORM @extschema@._pems_warn_if_idle();
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_requeue(text[], text, text) IS
    'Internal: puts items that waited for a person back into the queue, at their old position in the order';

/*
 * _pems_pick_dead_letters(item_ids, organization): locks the dead letters with these ids, or (NULL) all, and returns
 * their ids.
 * Errors: P0002 when one does not exist (or belongs to another organization); 55000 when one is no dead letter.
 * Tables: pfa_modification (locked), pfa_write_queue (locked).
 */
CREATE FUNCTION @extschema@._pems_pick_dead_letters(item_ids text[], organization text) RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    wanted  text[] := item_ids;
    picked  text[];
    missing text;
    wrong   text;
BEGIN
    IF item_ids IS NULL THEN
        SELECT array_agg(q.id) INTO wanted FROM @extschema@.pfa_write_queue q
        WHERE q.stopped AND q.status = 'failed' AND (organization IS NULL OR q.organization_id = organization);
    END IF;
    -- Modifications first, as everywhere; what others did to them meanwhile is seen below.  Each row is looked up by
    -- itself: a join may be planned to read all of a table.
    PERFORM FROM (
        SELECT DISTINCT i.modification_id
        FROM unnest(wanted) u (id) CROSS JOIN LATERAL (
            SELECT q.modification_id FROM @extschema@.pfa_write_queue q
            WHERE q.id = u.id AND (organization IS NULL OR q.organization_id = organization) LIMIT 1) i
        ORDER BY i.modification_id) w
    CROSS JOIN LATERAL (SELECT m.id FROM @extschema@.pfa_modification m
                        WHERE m.id = w.modification_id FOR NO KEY UPDATE) l;
    PERFORM FROM (SELECT DISTINCT u.id FROM unnest(wanted) u (id) ORDER BY u.id) w
    CROSS JOIN LATERAL (
        SELECT q.id FROM @extschema@.pfa_write_queue q
        WHERE q.id = w.id AND (organization IS NULL OR q.organization_id = organization) FOR NO KEY UPDATE) l;

    SELECT array_agg(q.id) FILTER (WHERE item_ids IS NOT NULL OR q.status = 'failed'),
           string_agg(format('%s is %s', q.id, q.status), ', ' ORDER BY q.commit_seq)
               FILTER (WHERE q.status <> 'failed')
    INTO picked, wrong
    FROM (SELECT DISTINCT u.id FROM unnest(wanted) u (id)) w
    CROSS JOIN LATERAL (
        SELECT i.id, i.status, i.commit_seq FROM @extschema@.pfa_write_queue i
        WHERE i.id = w.id AND (organization IS NULL OR i.organization_id = organization) LIMIT 1) q;
    IF item_ids IS NULL THEN
        RETURN picked;
    END IF;
    SELECT string_agg(left(n.id, 100), ', ' ORDER BY n.id) INTO missing
    FROM (SELECT unnest(item_ids) EXCEPT SELECT unnest(picked)) n (id);
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'no such item'
            USING ERRCODE = 'no_data_found', DETAIL = format('Not found: %s.', left(missing, 1000)),
                  HINT = 'Pass ids from the view pems_dead_letters, and the organization that they belong to.';
    END IF;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'an item is no dead letter'
            USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = format('%s.', left(wrong, 1000)),
                  HINT = 'Only items in status failed can be retried; see the view pems_dead_letters.';
    END IF;
    RETURN picked;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pick_dead_letters(text[], text) IS
    'Internal: locks dead letters for a retry; P0002 or 55000 when one of them is none';

/*
 * pems_retry(item_ids, organization_id, retried_by)
 *
 * Queues dead letters again, with all their retries and at their old position in the order of their record.
 * Each begins with a read: it is decided again against PEMS as it is now.
 *
 * Parameters:
 *   item_ids         from the view pems_dead_letters; NULL: all (of the organization, if given)
 *   organization_id  whose they must be; NULL: any
 *   retried_by       the administrator; NULL: the database role
 * Returns: {success, requeuedCount, jobId}; jobId: the job that the items belong to from now on, null when
 *   there was nothing to retry.
 * Errors, which leave everything as it was: P0002 unknown organization or item; 55000 an item is no dead letter,
 *   or not attached; 22023 item_ids empty or too long, retried_by longer than 1 kB.
 * Tables: pfa_write_queue, pfa_modification, pems_sync_job, pems_audit_log, pems_recheck.
 */
CREATE FUNCTION @extschema@.pems_retry(
    item_ids text[] DEFAULT NULL, organization_id text DEFAULT NULL, retried_by text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    actor        CONSTANT text := @extschema@._pems_actor(retried_by);
    wanted       CONSTANT text[] := @extschema@._pems_id_list(item_ids, 'item_ids'::text);
    job          CONSTANT text := @extschema@._pems_uuid();
    organization text;
    picked       text[];
BEGIN
    PERFORM @extschema@._pems_attached();
    IF organization_id IS NOT NULL THEN
        organization := @extschema@._pems_organization(organization_id);
    END IF;
    picked := @extschema@._pems_pick_dead_letters(wanted, organization);

    IF picked IS NOT NULL THEN
        INSERT INTO @extschema@.pems_sync_job (id, organization_id, kind, requested_by, queued)
        SELECT job, CASE WHEN min(q.organization_id) = max(q.organization_id) THEN min(q.organization_id) END, 'retry',
               actor, count(*)
        FROM @extschema@.pfa_write_queue q WHERE q.id = ANY (picked);
        INSERT INTO @extschema@.pems_audit_log
            (event_type, organization_id, pfa_id, modification_id, item_id, job_id, actor, error_code, error)
        SELECT 'RETRIED', q.organization_id, q.pfa_id, q.modification_id, q.id, job, actor, q.error_code, q.last_error
        FROM @extschema@.pfa_write_queue q WHERE q.id = ANY (picked);
        -- in the history of the job that they leave they stay what they were
        PERFORM @extschema@._pems_keep_results(array_agg(q.job_id), array_agg(q.result), array_agg(q.completed_at))
        FROM @extschema@.pfa_write_queue q WHERE q.id = ANY (picked);
        PERFORM @extschema@._pems_requeue(picked, 'read'::text, job);
    END IF;
    RETURN jsonb_build_object('success', true, 'requeuedCount', coalesce(cardinality(picked), 0),
                              'jobId', CASE WHEN picked IS NOT NULL THEN job END);
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_retry(text[], text, text) IS
    'Queues dead letters again (NULL: all), to be decided against PEMS as it is now. Returns {success, requeuedCount, '
    'jobId}. Errors: P0002 unknown organization or item, 55000 no dead letter.';
