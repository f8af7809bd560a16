
/*
 * pems_discard(modification_id, discarded_by, organization_id)
 *
 * Takes a modification back before it is sent.  A draft is discarded; an item that waits, is in
 * conflict or is a dead letter is cancelled, and the items behind it go on.  So is one that another database queued (a
 * dump was loaded), also if that was sending it.
 *
 * Parameters: discarded_by: for the audit log; NULL = the database role; organization_id: NULL = whichever the
 *   modification belongs to.
 * Returns: {success, modificationId, outcome}: cancelled; in_flight when it is being sent or may
 *   already have arrived: too late, the result will be recorded.
 * Errors: P0002 no such modification (or of another organization); 55000 already finished; 22023 modification_id longer
 *   than 200 characters, discarded_by longer than 1 kB.
 * Tables: pfa_modification, pfa_write_queue, pfa_sync_conflict, pems_audit_log, pems_recheck.
 */
CREATE FUNCTION @extschema@.pems_discard(
    modification_id text, discarded_by text DEFAULT NULL, organization_id text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    wanted       CONSTANT text := @extschema@._pems_id(modification_id, 'modification_id'::text);
    scope        CONSTANT text := organization_id;
    actor        CONSTANT text := @extschema@._pems_actor(discarded_by);
    modification record;
    item         record;
    conflict     text;
BEGIN
    PERFORM @extschema@._pems_attached();

    SELECT m.id, m.organization_id, m.pfa_id, m.sync_status INTO modification
    FROM @extschema@.pfa_modification m
    WHERE m.id = wanted AND m.organization_id = coalesce(scope, m.organization_id) FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'modification % does not exist', coalesce('"' || left(wanted, 100) || '"', 'NULL')
            USING ERRCODE = 'no_data_found',
                  HINT = 'Pass pfa_modification.id, and the organization that it belongs to.';
    END IF;

    SELECT q.id, q.status, q.job_id,
           q.queued_in = @extschema@._pems_database_id()
           AND (q.status = 'processing'
                OR (q.status = 'pending' AND (q.outcome_unknown OR q.next_request = 'refresh'))) AS in_flight INTO item
    FROM @extschema@.pfa_write_queue q
    WHERE q.modification_id = wanted ORDER BY q.commit_seq DESC LIMIT 1 FOR NO KEY UPDATE;

    IF item.in_flight THEN
        RETURN jsonb_build_object('success', false, 'modificationId', wanted, 'outcome', 'in_flight');
    END IF;
    IF coalesce(item.status, modification.sync_status)
       NOT IN ('draft', 'committed', 'pending', 'processing', 'conflict', 'failed') THEN
        RAISE EXCEPTION 'modification "%" is finished', wanted
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('Its status is %s.', left(modification.sync_status, 100)),
                  HINT = 'To undo a change that PEMS has, make a new modification.';
    END IF;

    UPDATE @extschema@.pfa_write_queue q SET status = 'cancelled', waits_for = NULL, completed_at = clock_timestamp()
    WHERE q.id = item.id;
    UPDATE @extschema@.pfa_sync_conflict c
    SET status = 'resolved_manual', resolution = 'use_pems', resolved_by = actor, resolved_at = clock_timestamp()
    WHERE c.item_id = item.id AND c.status = 'unresolved'
    RETURNING c.id INTO conflict;
    INSERT INTO @extschema@.pems_audit_log
        (event_type, organization_id, pfa_id, modification_id, item_id, job_id, conflict_id, actor)
    VALUES ('DISCARDED', modification.organization_id, modification.pfa_id, wanted, item.id, item.job_id, conflict,
            actor);
    INSERT INTO @extschema@.pems_recheck (organization_id, pfa_id)
    SELECT modification.organization_id, modification.pfa_id WHERE item.id IS NOT NULL;
    PERFORM @extschema@._pems_app_mark_all(ARRAY[wanted], 'discarded'::text);
    PERFORM @extschema@._pems_wake(false);
    RETURN jsonb_build_object('success', true, 'modificationId', wanted, 'outcome', 'cancelled');
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_discard(text, text, text) IS
    'Takes a modification back before it is sent. Returns {success, modificationId, outcome}: cancelled, or in_flight '
    '(too late; the result will be recorded). Errors: P0002, 55000.';
