/*
 * 50_conflict: conflicts as users see and resolve them.  They are detected by the worker
 * (src/record/merge.c) and recorded by _pems_record_conflicts() in 40_queue.
 *
 * A resolution is a new edit on the version that the user saw: it gives the item that version as its
 * base and puts it back into the queue, at its old place in the order.  Whether PEMS has moved on
 * meanwhile is for the worker to find out, as with every edit.
 */

/*
 * _pems_find_conflict(conflict_id, organization_id): the conflict.
 * Errors: P0002 when there is none, or it belongs to another organization (in the same words).
 */
CREATE FUNCTION @extschema@._pems_find_conflict(conflict_id text, organization_id text)
RETURNS @extschema@.pfa_sync_conflict
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    found_conflict @extschema@.pfa_sync_conflict;
BEGIN
    PERFORM @extschema@._pems_attached();
    SELECT c.* INTO found_conflict FROM @extschema@.pfa_sync_conflict c
    WHERE c.id = $1 AND c.organization_id = coalesce($2, c.organization_id);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'conflict % does not exist', coalesce('"' || left($1, 100) || '"', 'NULL')
            USING ERRCODE = 'no_data_found',
                  HINT = 'Pass an id from pems_conflicts(), and the organization that it belongs to.';
    END IF;
    RETURN found_conflict;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_find_conflict(text, text) IS 'Internal: a conflict by id; P0002 when there is none in that organization';

/*
 * Paths: the keys that lead to a value, with dots between them: custom.costCentre.  A dot or a backslash in a key has a
 * backslash before it, so that no two places have the same path.  src/record/merge.c writes them in the same way.
 *
 * _pems_path_key(key): a key as it stands in a path.
 * _pems_path_keys(path): the keys of a path.
 *
 * The constants are E'...', in which a backslash is written twice: whatever standard_conforming_strings says in the session.
 */
CREATE FUNCTION @extschema@._pems_path_key(key text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT replace(replace(key, E'\\', E'\\\\'), '.', E'\\.')
$function$;
COMMENT ON FUNCTION @extschema@._pems_path_key(text) IS 'Internal: a key as it stands in a path';

CREATE FUNCTION @extschema@._pems_path_keys(path text) RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT array_agg(regexp_replace(k.key[1], E'\\\\(.)', E'\\1', 'g') ORDER BY k.place)
    FROM regexp_matches('.' || path, E'\\.((?:[^.\\\\]|\\\\.)*)', 'g') WITH ORDINALITY AS k (key, place)
$function$;
COMMENT ON FUNCTION @extschema@._pems_path_keys(text) IS 'Internal: the keys of a path';

/*
 * _pems_at_path(document, path): the value at that path, NULL when there is none.
 */
CREATE FUNCTION @extschema@._pems_at_path(document jsonb, path text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    key   text;
    value jsonb := document;
BEGIN
    FOREACH key IN ARRAY @extschema@._pems_path_keys(path)
    LOOP
        IF jsonb_typeof(value) IS DISTINCT FROM 'object' THEN
            RETURN NULL;
        END IF;
        value := value -> key;
    END LOOP;
    RETURN value;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_at_path(jsonb, text) IS 'Internal: the value at a path';

/*
 * _pems_decides(delta, path): does the delta say what becomes of that path?  It does when it names
 * it, or puts something else in the place of an object above it.
 */
CREATE FUNCTION @extschema@._pems_decides(delta jsonb, path text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    key   text;
    value jsonb := delta;
BEGIN
    FOREACH key IN ARRAY @extschema@._pems_path_keys(path)
    LOOP
        IF jsonb_typeof(value) <> 'object' THEN
            RETURN true;
        ELSIF NOT value ? key THEN
            RETURN false;
        END IF;
        value := value -> key;
    END LOOP;
    RETURN true;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_decides(jsonb, text) IS 'Internal: does a delta say what becomes of a path?';

/*
 * _pems_leaf_paths(delta): paths of the values that a delta sets; objects are entered, arrays
 * and empty objects are values.
 */
CREATE FUNCTION @extschema@._pems_leaf_paths(delta jsonb) RETURNS SETOF text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    WITH RECURSIVE leaf (path, value) AS (
        SELECT @extschema@._pems_path_key(m.key), m.value
        FROM jsonb_each(CASE WHEN jsonb_typeof(delta) = 'object' THEN delta ELSE '{}' END) m
        UNION ALL
        SELECT l.path || '.' || @extschema@._pems_path_key(m.key), m.value
        FROM leaf l CROSS JOIN LATERAL jsonb_each(CASE WHEN jsonb_typeof(l.value) = 'object' THEN l.value ELSE '{}' END) m
    )
    SELECT l.path FROM leaf l WHERE jsonb_typeof(l.value) <> 'object' OR l.value = '{}'
$function$;
COMMENT ON FUNCTION @extschema@._pems_leaf_paths(jsonb) IS 'Internal: paths of the values that a delta sets';

/*
 * pems_conflicts(organization_id, status, page_size, after)
 *
 * The conflicts of an organization, oldest first.
 *
 * Parameters:
 *   status     unresolved, resolved_auto or resolved_manual; NULL: all
 *   page_size  1 to 1000
 *   after      id of the last conflict of the page before; NULL: from the start
 * Returns: {conflicts: [{id, pfaId, status, kind, conflictFields, modificationId, createdAt}], total};
 *   total counts all pages.
 * Errors: P0002 unknown organization; 22023 unknown status, or page_size out of range; 55000 not attached.
 * Tables: pfa_sync_conflict.
 */
CREATE FUNCTION @extschema@.pems_conflicts(
    organization_id text, status text DEFAULT NULL, page_size integer DEFAULT 100, after text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET enable_seqscan = off SET jit = off AS $function$
DECLARE
    organization CONSTANT text := @extschema@._pems_organization(organization_id);
    wanted       CONSTANT text := status;
    rows_wanted  CONSTANT integer := @extschema@._pems_page_size(page_size);
BEGIN
    IF wanted NOT IN ('unresolved', 'resolved_auto', 'resolved_manual') THEN
        RAISE EXCEPTION 'unknown status "%"', left(wanted, 100)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use unresolved, resolved_auto or resolved_manual.';
    END IF;
    RETURN (
        WITH page AS (
            SELECT c.* FROM @extschema@.pfa_sync_conflict c
            WHERE c.organization_id = organization AND (wanted IS NULL OR c.status = wanted) AND c.id > coalesce(after, '')
            ORDER BY c.id LIMIT rows_wanted
        )
        SELECT jsonb_build_object(
            'conflicts', coalesce((SELECT jsonb_agg(jsonb_build_object(
                'id', p.id, 'pfaId', p.pfa_id, 'status', p.status, 'kind', p.kind, 'conflictFields', p.conflict_fields,
                'modificationId', p.modification_id, 'createdAt', @extschema@._pems_iso(p.created_at)) ORDER BY p.id) FROM page p), '[]'),
            'total', (SELECT count(*) FROM @extschema@.pfa_sync_conflict c
                      WHERE c.organization_id = organization AND (wanted IS NULL OR c.status = wanted))));
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_conflicts(text, text, integer, text) IS 'Conflicts of an organization, oldest first: {conflicts: [{id, pfaId, status, kind, conflictFields, modificationId, createdAt}], total}. after: id of the last one of the page before. Errors: P0002, 22023, 55000.';

/*
 * _pems_conflict_fields(conflict): the fields of a conflict side by side,
 * [{field, base, local, pems, conflicting}]: what is disputed, in the order of conflict_fields, then what
 * else the edit sets.  local is what the edit wants; where it does not speak of a field, the base.
 */
CREATE FUNCTION @extschema@._pems_conflict_fields(conflict @extschema@.pfa_sync_conflict) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    WITH disputed AS (
        SELECT f.path, f.place FROM jsonb_array_elements_text(conflict.conflict_fields) WITH ORDINALITY AS f (path, place)
    ), shown AS (
        SELECT d.path, true AS conflicting, d.place FROM disputed d
        UNION ALL
        SELECT l.path, false, NULL FROM @extschema@._pems_leaf_paths(conflict.local_data) AS l (path)
        WHERE NOT EXISTS (SELECT FROM disputed d WHERE l.path = d.path OR starts_with(l.path, d.path || '.'))
    )
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'field', s.path,
               'base', @extschema@._pems_at_path(conflict.base_data, s.path),
               'local', CASE WHEN @extschema@._pems_decides(conflict.local_data, s.path)
                             THEN @extschema@._pems_at_path(conflict.local_data, s.path)
                             ELSE @extschema@._pems_at_path(conflict.base_data, s.path) END,
               'pems', @extschema@._pems_at_path(conflict.pems_data, s.path),
               'conflicting', s.conflicting) ORDER BY s.place, s.path), '[]')
    FROM shown s
$function$;
COMMENT ON FUNCTION @extschema@._pems_conflict_fields(@extschema@.pfa_sync_conflict) IS 'Internal: the fields of a conflict side by side';

/*
 * pems_conflict(conflict_id, organization_id)
 *
 * All of one conflict, for a side-by-side view.
 *
 * Returns: {id, organizationId, pfaId, modificationId, itemId, operation, createdBy, changeReason, status, kind,
 *   conflictFields, localVersion, pemsVersion, baseData, localData, pemsData, fields, errors, resolution,
 *   mergedData, resolvedBy, resolvedAt, createdAt, previousConflictId}.  fields: [{field, base, local,
 *   pems, conflicting}], a missing value as null; errors: for kind validation the rules that the edit would break.
 * Errors: P0002 no such conflict (or of another organization); 55000 not attached.
 * Tables: pfa_sync_conflict, pfa_write_queue, pems_field.
 */
CREATE FUNCTION @extschema@.pems_conflict(conflict_id text, organization_id text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    c      CONSTANT @extschema@.pfa_sync_conflict := @extschema@._pems_find_conflict(conflict_id, organization_id);
    origin record;
    broken jsonb;
BEGIN
    SELECT q.operation, q.created_by, q.change_reason INTO origin
    FROM (SELECT) one LEFT JOIN @extschema@.pfa_write_queue q ON q.id = c.item_id;
    IF c.kind = 'validation' THEN
        broken := @extschema@._pems_check_delta(c.local_data, c.pems_data) -> 'errors';
    END IF;

    RETURN jsonb_build_object(
        'id', c.id, 'organizationId', c.organization_id, 'pfaId', c.pfa_id, 'modificationId', c.modification_id,
        'itemId', c.item_id, 'operation', origin.operation, 'createdBy', origin.created_by, 'changeReason', origin.change_reason,
        'status', c.status, 'kind', c.kind, 'conflictFields', c.conflict_fields, 'localVersion', c.local_version,
        'pemsVersion', c.pems_version, 'baseData', c.base_data, 'localData', c.local_data, 'pemsData', c.pems_data,
        'fields', @extschema@._pems_conflict_fields(c), 'errors', coalesce(broken, '[]'), 'resolution', c.resolution,
        'mergedData', c.merged_data, 'resolvedBy', c.resolved_by, 'resolvedAt', @extschema@._pems_iso(c.resolved_at),
        'createdAt', @extschema@._pems_iso(c.created_at), 'previousConflictId', c.previous_conflict_id);
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_conflict(text, text) IS 'All of one conflict, with per field {field, base, local, pems, conflicting} for a side-by-side view. Errors: P0002, 55000.';

/*
 * _pems_check_resolution(resolution, merged_data): are the arguments of pems_resolve_conflict() sound by
 * themselves?  Errors: 22023.
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
COMMENT ON FUNCTION @extschema@._pems_check_resolution(text, jsonb) IS 'Internal: raises 22023 when the arguments of a resolution are not sound by themselves';

/*
 * _pems_lock_conflict(conflict): locks what a resolution changes, in the order of pems_discard(), and
 * reads the conflict again: of two who resolve it, one comes second.
 * Returns: the item.  Errors: 55000 when it is resolved; P0002 when it was deleted with its modification.
 */
CREATE FUNCTION @extschema@._pems_lock_conflict(conflict @extschema@.pfa_sync_conflict)
RETURNS @extschema@.pfa_write_queue
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
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
                  HINT = 'Look at the record again; if PEMS moved on since, there is a new conflict in pems_conflicts().';
    END IF;
    RETURN item;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_lock_conflict(@extschema@.pfa_sync_conflict) IS 'Internal: locks what a resolution changes and returns the item; 55000 when the conflict is resolved, P0002 when it is gone';

/*
 * _pems_resolved_delta(conflict, operation, resolution, merged_data): what is sent after that resolution,
 * {} for a DELETE.
 * Errors: 55000 when this conflict cannot be resolved that way; 22023 when merged_data leaves a conflicting
 *   field out, or what would be sent breaks a rule.
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

    -- asked of a merge only: the edit itself decides what it is in conflict about
    SELECT array_agg(f.path ORDER BY f.place) INTO left_out
    FROM jsonb_array_elements_text(conflict.conflict_fields) WITH ORDINALITY AS f (path, place)
    WHERE resolution = 'merge' AND NOT @extschema@._pems_decides(delta, f.path);
    IF left_out IS NOT NULL THEN
        RAISE EXCEPTION 'merged_data does not decide every conflicting field'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It says nothing about %s.', array_to_string(left_out, ', ')),
                  HINT = 'Name each conflicting field with the value that PEMS is to have; see pems_conflict().';
    END IF;
    problem := @extschema@._pems_check_delta(delta, conflict.pems_data);
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION '% would not be valid', CASE resolution WHEN 'merge' THEN 'the record with merged_data' ELSE 'the record with the edit' END
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = (SELECT string_agg(e.line, E'\n' ORDER BY e.place)
                            FROM jsonb_array_elements_text(problem -> 'errors') WITH ORDINALITY AS e (line, place)),
                  HINT = CASE resolution WHEN 'merge' THEN 'Correct merged_data; pems_validate() checks it beforehand.'
                                         ELSE 'Resolve it with merge and values that fit, or with use_pems.' END;
    END IF;
    RETURN delta;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_resolved_delta(@extschema@.pfa_sync_conflict, text, text, jsonb) IS 'Internal: what is sent after a resolution; raises 22023 or 55000 when it may not be';

/*
 * _pems_say_what_is_dropped(conflict, merged_data): merged_data takes the place of the whole edit, so
 * what it leaves out will not be sent; nobody should learn that from PEMS.
 */
CREATE FUNCTION @extschema@._pems_say_what_is_dropped(conflict @extschema@.pfa_sync_conflict, merged_data jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    dropped CONSTANT text := (SELECT string_agg(l.path, ', ' ORDER BY l.path) FROM @extschema@._pems_leaf_paths(conflict.local_data) AS l (path)
                              WHERE NOT @extschema@._pems_decides(merged_data, l.path));
BEGIN
    IF dropped IS NOT NULL THEN
        RAISE NOTICE 'merged_data leaves out changes of the edit: %', dropped
            USING DETAIL = 'They will not be sent.', HINT = 'merged_data takes the place of the whole edit.';
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_say_what_is_dropped(@extschema@.pfa_sync_conflict, jsonb) IS 'Internal: NOTICE about changes of the edit that a merge leaves out';

/*
 * _pems_requeue(item_ids, next_request, job_id): puts items that waited for a person back into the queue,
 * at their old place in the order, with all their retries.  The worker decides whose turn it is.
 */
CREATE FUNCTION @extschema@._pems_requeue(item_ids text[], next_request text, job_id text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    modification_ids text[];
BEGIN
    WITH back AS (
        UPDATE @extschema@.pfa_write_queue q
        SET status = 'pending', waits_for = 'turn', completed_at = NULL, retry_count = 0,
            -- PEMS may still be at a write whose answer was lost
            scheduled_at = greatest(clock_timestamp(), CASE WHEN q.outcome_unknown THEN q.last_attempt_at + interval '2 seconds' END),
            rounds = 0, known_version = NULL, error_code = NULL, last_error = NULL, job_id = coalesce(_pems_requeue.job_id, q.job_id),
            next_request = CASE q.next_request WHEN 'refresh' THEN 'refresh' ELSE _pems_requeue.next_request END
        WHERE q.id = ANY (item_ids)
        RETURNING q.modification_id, q.organization_id, q.pfa_id
    ), recheck AS (
        INSERT INTO @extschema@.pems_recheck (organization_id, pfa_id) SELECT DISTINCT b.organization_id, b.pfa_id FROM back b
    )
    SELECT array_agg(b.modification_id) INTO modification_ids FROM back b;
    IF modification_ids IS NOT NULL THEN
        PERFORM @extschema@._pems_host_mark(modification_ids, array_fill('queued'::text, ARRAY[cardinality(modification_ids)]),
                    array_fill(NULL::integer, ARRAY[cardinality(modification_ids)]), array_fill(NULL::text, ARRAY[cardinality(modification_ids)]));
        PERFORM @extschema@._pems_wake(false);
        PERFORM @extschema@._pems_warn_if_idle();
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_requeue(text[], text, text) IS 'Internal: puts items that waited for a person back into the queue, at their old place in the order';

/*
 * _pems_supersede(item): the user chose PEMS's side: nothing is sent, and later items of the record go on.
 */
CREATE FUNCTION @extschema@._pems_supersede(item @extschema@.pfa_write_queue) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
BEGIN
    UPDATE @extschema@.pfa_write_queue q SET status = 'cancelled', waits_for = NULL, completed_at = clock_timestamp()
    WHERE q.id = item.id;
    INSERT INTO @extschema@.pems_recheck (organization_id, pfa_id) VALUES (item.organization_id, item.pfa_id);
    PERFORM @extschema@._pems_host_mark(ARRAY[item.modification_id], ARRAY['superseded'::text], ARRAY[NULL::integer], ARRAY[NULL::text]);
    PERFORM @extschema@._pems_wake(false);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_supersede(@extschema@.pfa_write_queue) IS 'Internal: the user chose PEMS''s side of a conflict';

/*
 * pems_resolve_conflict(conflict_id, resolution, merged_data, resolved_by, organization_id)
 *
 * Decides a conflict.  use_local: the edit is queued again, with the version that the conflict shows as
 * its base.  use_pems: nothing is sent.  merge: merged_data takes the place of the edit, on that base.
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
 *   that way; 22023 unknown resolution, merged_data missing, no object, too large, incomplete, or breaking a rule (DETAIL
 *   has all messages), resolved_by longer than 1 kB.
 * Tables: pfa_sync_conflict, pfa_write_queue, pfa_modification, pems_audit_log, pems_recheck.
 */
CREATE FUNCTION @extschema@.pems_resolve_conflict(
    conflict_id text, resolution text, merged_data jsonb DEFAULT NULL, resolved_by text DEFAULT NULL,
    organization_id text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
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
            PERFORM @extschema@._pems_say_what_is_dropped(conflict, merged_data);
        END IF;
        -- What became of an earlier write is settled: the user saw what PEMS had after it.
        UPDATE @extschema@.pfa_write_queue q
        SET base_version = coalesce(conflict.pems_version, q.base_version),
            base_at = coalesce(conflict.seen_at, conflict.created_at), payload = delta, outcome_unknown = false, sent_version = NULL
        WHERE q.id = item.id;
        PERFORM @extschema@._pems_requeue(ARRAY[item.id], 'write'::text, NULL::text);
    END IF;

    UPDATE @extschema@.pfa_sync_conflict c
    SET status = 'resolved_manual', resolution = pems_resolve_conflict.resolution, resolved_by = actor, resolved_at = decided,
        merged_data = CASE pems_resolve_conflict.resolution WHEN 'merge' THEN pems_resolve_conflict.merged_data END
    WHERE c.id = conflict.id;
    INSERT INTO @extschema@.pems_audit_log
        (event_type, organization_id, pfa_id, modification_id, item_id, job_id, conflict_id, actor, request)
    VALUES ('CONFLICT_RESOLVED', conflict.organization_id, conflict.pfa_id, conflict.modification_id, item.id, item.job_id,
            conflict.id, actor, jsonb_strip_nulls(jsonb_build_object('resolution', resolution, 'pemsVersion', conflict.pems_version))
                || jsonb_build_object('changes', coalesce(delta, '{}')));
    RETURN jsonb_build_object('success', true, 'conflictId', conflict.id, 'resolvedAt', @extschema@._pems_iso(decided),
                              'appliedChanges', coalesce(delta, '{}'));
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_resolve_conflict(text, text, jsonb, text, text) IS 'Decides a conflict with use_local, use_pems or merge (merged_data). Returns {success, conflictId, resolvedAt, appliedChanges}. Errors: P0002 no such conflict, 55000 already resolved or not to be resolved that way, 22023 bad resolution or merged_data.';
