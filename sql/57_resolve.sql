/*
 * 57_resolve: conflicts are resolved.
 *
 * A resolution is a new edit on the version that the user saw: it gives the item that version as its base and puts it
 * back into the queue, at its old position in the order.  Whether PEMS has changed the record once more meanwhile, the
 * worker finds out, as with every edit.
 */

/*
 * _pems_check_resolution(resolution, merged_data): raises an error when the arguments of pems_resolve_conflict()
 * cannot be right, whatever the conflict is.
 * Errors: 22023.
 */
CREATE FUNCTION @extschema@._pems_check_resolution(resolution text, merged_data jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF resolution IS NULL OR resolution NOT IN ('use_local', 'use_pems', 'merge') THEN
        RAISE EXCEPTION 'unknown resolution %', coalesce('"' || left(resolution, 100) || '"', 'NULL')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use use_local, use_pems or merge.';
    END IF;
    PERFORM @extschema@._pems_check_json(merged_data, 'merged_data'::text, 'max_delta_size'::text);
    IF resolution = 'merge' AND merged_data IS NULL THEN
        RAISE EXCEPTION 'resolution merge needs merged_data'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Pass the fields that PEMS is to have, for example {"monthlyRate": 5750}.';
    END IF;
    IF resolution = 'merge' AND jsonb_typeof(merged_data) <> 'object' THEN
        RAISE EXCEPTION 'merged_data must be a JSON object'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', jsonb_typeof(merged_data)),
                  HINT = 'Pass the fields that PEMS is to have, for example {"monthlyRate": 5750}.';
    END IF;
    IF resolution <> 'merge' AND jsonb_typeof(merged_data) <> 'null' THEN
        RAISE EXCEPTION 'resolution % takes no merged_data', resolution
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave it out, or resolve with merge.';
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_check_resolution(text, jsonb) IS
    'Internal: raises 22023 when the arguments of a resolution cannot be right, whatever the conflict is';

/*
 * _pems_lock_conflict(conflict): locks what a resolution changes, in the order of pems_discard(), and reads the
 * conflict again: of two who resolve it, one comes second.
 * Returns: the item.
 * Errors: 55000 when it is resolved; P0002 when it was deleted with its modification.
 * Tables: pfa_modification (locked), pfa_write_queue (locked), pfa_sync_conflict (locked).
 */
CREATE FUNCTION @extschema@._pems_lock_conflict(conflict @extschema@.pfa_sync_conflict)
RETURNS @extschema@.pfa_write_queue
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    item @extschema@.pfa_write_queue;
    latest @extschema@.pfa_sync_conflict;
BEGIN
    PERFORM FROM @extschema@.pfa_modification m WHERE m.id = conflict.modification_id FOR NO KEY UPDATE;
    SELECT q.* INTO item FROM @extschema@.pfa_write_queue q WHERE q.id = conflict.item_id FOR NO KEY UPDATE;
    PERFORM FROM @extschema@.pfa_sync_conflict c WHERE c.id = conflict.id FOR NO KEY UPDATE;
    latest := @extschema@._pems_find_conflict(conflict.id, conflict.organization_id);

    IF latest.status <> 'unresolved' OR item.status IS DISTINCT FROM 'conflict' THEN
        RAISE EXCEPTION 'conflict "%" is already resolved', conflict.id
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = CASE WHEN latest.status = 'unresolved' THEN 'Its edit is not in conflict any more.'
                                ELSE format('%s resolved it with %s at %s.', latest.resolved_by, latest.resolution,
                                            @extschema@._pems_iso(latest.resolved_at)) END,
                  HINT = 'Look at the record again; if PEMS moved on since, there is a new conflict in '
                         'pems_conflicts().';
    END IF;
    RETURN item;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_lock_conflict(@extschema@.pfa_sync_conflict) IS
    'Internal: locks what a resolution changes and returns the item; 55000 when the conflict is resolved, P0002 when '
    'it is gone';

/*
 * _pems_resolved_delta(conflict, operation, resolution, merged_data): what is sent after that resolution, {} for a
 * DELETE.
 * Errors: 55000 when this conflict cannot be resolved that way; 22023 when merged_data leaves a conflicting field out,
 *   or what would be sent breaks a rule.
 */
CREATE FUNCTION @extschema@._pems_resolved_delta(
    conflict @extschema@.pfa_sync_conflict, operation text, resolution text, merged_data jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    delta    CONSTANT jsonb := CASE resolution WHEN 'merge' THEN merged_data ELSE conflict.local_data END;
    left_out text[];
    problem  jsonb;
BEGIN
    IF conflict.kind = 'deleted_in_pems' THEN
        RAISE EXCEPTION 'conflict "%" can only be resolved with use_pems', conflict.id
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('The record "%s" was deleted in PEMS.', conflict.pfa_id),
                  HINT = 'Resolve it with use_pems; to have the record again, restore it in PEMS.';
    END IF;
    IF operation = 'DELETE' THEN
        IF resolution = 'merge' THEN
            RAISE EXCEPTION 'conflict "%" cannot be merged', conflict.id
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      DETAIL = 'The edit deletes the record; there are no fields to merge.',
                      HINT = 'Resolve it with use_local (delete it) or use_pems (keep it).';
        END IF;
        RETURN '{}';
    END IF;

    -- of a merge only: the edit itself names every field that it is in conflict about
    SELECT array_agg(f.path ORDER BY f.position) INTO left_out
    FROM jsonb_array_elements_text(conflict.conflict_fields) WITH ORDINALITY AS f (path, position)
    WHERE resolution = 'merge' AND NOT @extschema@._pems_decides(delta, f.path);
    IF left_out IS NOT NULL THEN
        RAISE EXCEPTION 'merged_data does not decide every conflicting field'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It says nothing about %s.', array_to_string(left_out, ', ')),
                  HINT = 'Name each conflicting field with the value that PEMS is to have; see pems_conflict().';
    END IF;
    problem := @extschema@._pems_delta_problem(delta, conflict.pems_data);
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION '% would not be valid',
            CASE resolution WHEN 'merge' THEN 'the record with merged_data' ELSE 'the record with the edit' END
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = (SELECT string_agg(e.line, E'\n' ORDER BY e.position)
                            FROM jsonb_array_elements_text(problem -> 'errors') WITH ORDINALITY AS e (line, position)),
                  HINT = CASE resolution WHEN 'merge' THEN 'Correct merged_data; pems_validate() checks it beforehand.'
                                         ELSE 'Resolve it with merge and values that fit, or with use_pems.' END;
    END IF;
    RETURN delta;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_resolved_delta(@extschema@.pfa_sync_conflict, text, text, jsonb) IS
    'Internal: what is sent after a resolution; raises 22023 or 55000 when it may not be';

/*
 * _pems_notice_left_out(conflict, merged_data): a NOTICE about changes of the edit that merged_data leaves out.
 * merged_data replaces the whole edit, so they will not be sent; nobody should learn that from PEMS.
 */
CREATE FUNCTION @extschema@._pems_notice_left_out(
    conflict @extschema@.pfa_sync_conflict, merged_data jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    dropped CONSTANT text := (SELECT string_agg(l.path, ', ' ORDER BY l.path)
                              FROM @extschema@._pems_leaf_paths(conflict.local_data) AS l (path)
                              WHERE NOT @extschema@._pems_decides(merged_data, l.path));
BEGIN
    IF dropped IS NOT NULL THEN
        RAISE NOTICE 'merged_data leaves out changes of the edit: %', dropped
            USING DETAIL = 'They will not be sent.', HINT = 'merged_data takes the place of the whole edit.';
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_notice_left_out(@extschema@.pfa_sync_conflict, jsonb) IS
    'Internal: NOTICE about changes of the edit that a merge leaves out';

/*
 * _pems_supersede(item): the user chose PEMS's side: nothing is sent, and later items of the record go on.
 * Tables: pfa_write_queue, pems_recheck, pfa_modification.
 */
CREATE FUNCTION @extschema@._pems_supersede(item @extschema@.pfa_write_queue) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
BEGIN
    UPDATE @extschema@.pfa_write_queue q SET status = 'cancelled', waits_for = NULL, completed_at = clock_timestamp()
    WHERE q.id = item.id;
    INSERT INTO @extschema@.pems_recheck (organization_id, pfa_id) VALUES (item.organization_id, item.pfa_id);
    PERFORM @extschema@._pems_app_mark_all(ARRAY[item.modification_id], 'superseded'::text);
    PERFORM @extschema@._pems_wake(false);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_supersede(@extschema@.pfa_write_queue) IS
    'Internal: the user chose PEMS''s side of a conflict';

/*
 * pems_resolve_conflict(conflict_id, resolution, merged_data, resolved_by, organization_id)
 *
 * Decides a conflict.  use_local: the edit is queued again, with the version that the conflict shows as
 * its base.  use_pems: nothing is sent.  merge: merged_data replaces the edit, on that base.
 * Where PEMS has changed one of these fields once more by then, it keeps its value, and there is a new
 * conflict, whose previous_conflict_id is this one.
 *
 * Parameters:
 *   resolution   use_local, use_pems or merge
 *   merged_data  for merge only: the fields that PEMS is to have; decides every conflicting field
 *   resolved_by  the user who decides; NULL: the database role
 * Returns: {success, conflictId, resolvedAt, appliedChanges}; appliedChanges: what is queued for PEMS, {}
 *   where nothing is (use_pems) or the record is deleted.
 * Errors: P0002 no such conflict (or of another organization); 55000 already resolved, or not to be resolved
 *   that way; 22023 unknown resolution, merged_data missing, no object, too large, incomplete, or breaking a rule
 *   (DETAIL has all messages), resolved_by longer than 1 kB.
 * Tables: pfa_sync_conflict, pfa_write_queue, pfa_modification, pems_audit_log, pems_recheck.
 */
CREATE FUNCTION @extschema@.pems_resolve_conflict(
    conflict_id text, resolution text, merged_data jsonb DEFAULT NULL, resolved_by text DEFAULT NULL,
    organization_id text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    conflict @extschema@.pfa_sync_conflict;
    item     @extschema@.pfa_write_queue;
    delta    jsonb;
    actor    CONSTANT text := @extschema@._pems_actor(resolved_by);
    decided  CONSTANT timestamptz := clock_timestamp();
BEGIN
    PERFORM @extschema@._pems_check_resolution(resolution, merged_data);
    conflict := @extschema@._pems_find_conflict(conflict_id, organization_id);
    item := @extschema@._pems_lock_conflict(conflict);

    IF resolution = 'use_pems' THEN
        PERFORM @extschema@._pems_supersede(item);
    ELSE
        delta := @extschema@._pems_resolved_delta(conflict, item.operation, resolution, merged_data);
        IF resolution = 'merge' THEN
            PERFORM @extschema@._pems_notice_left_out(conflict, merged_data);
        END IF;
        -- What became of an earlier write is known: the user saw what PEMS had after it.
        UPDATE @extschema@.pfa_write_queue q
        SET base_version = coalesce(conflict.pems_version, q.base_version),
            base_at = coalesce(conflict.seen_at, conflict.created_at), payload = delta, outcome_unknown = false,
            sent_version = NULL
        WHERE q.id = item.id;
        PERFORM @extschema@._pems_requeue(ARRAY[item.id], 'write'::text, NULL::text);
    END IF;

    UPDATE @extschema@.pfa_sync_conflict c
    SET status = 'resolved_manual', resolution = pems_resolve_conflict.resolution, resolved_by = actor,
        resolved_at = decided,
        merged_data = CASE pems_resolve_conflict.resolution WHEN 'merge' THEN pems_resolve_conflict.merged_data END
    WHERE c.id = conflict.id;
    INSERT INTO @extschema@.pems_audit_log
        (event_type, organization_id, pfa_id, modification_id, item_id, job_id, conflict_id, actor, request)
    VALUES ('CONFLICT_RESOLVED', conflict.organization_id, conflict.pfa_id, conflict.modification_id, item.id,
            item.job_id, conflict.id, actor,
            jsonb_strip_nulls(jsonb_build_object('resolution', resolution, 'pemsVersion', conflict.pems_version))
                || jsonb_build_object('changes', coalesce(delta, '{}')));
    RETURN jsonb_build_object('success', true, 'conflictId', conflict.id, 'resolvedAt', @extschema@._pems_iso(decided),
                              'appliedChanges', coalesce(delta, '{}'));
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_resolve_conflict(text, text, jsonb, text, text) IS
    'Decides a conflict with use_local, use_pems or merge (merged_data). Returns {success, conflictId, resolvedAt, '
    'appliedChanges}. Errors: P0002 no such conflict, 55000 already resolved or not to be resolved that way, 22023 '
    'bad resolution or merged_data.';
