/*
 * 56_conflicts: conflicts as users see them.
 *
 * The worker finds a conflict (src/record/merge.c decides, src/sending/deciding.c asks it), and
 * _pems_record_conflicts() in 43_record writes it down.  57_resolve decides it.
 */

/*
 * _pems_find_conflict(conflict_id, organization_id): the conflict.
 * Parameters: organization_id: NULL: of any organization.
 * Errors: P0002 when there is none, or it belongs to another organization (in the same words); 55000 not attached.
 * Tables: pfa_sync_conflict.
 */
CREATE FUNCTION @extschema@._pems_find_conflict(conflict_id text, organization_id text)
RETURNS @extschema@.pfa_sync_conflict
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
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
COMMENT ON FUNCTION @extschema@._pems_find_conflict(text, text) IS
    'Internal: a conflict by id; P0002 when there is none in that organization';

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
            WHERE c.organization_id = organization AND (wanted IS NULL OR c.status = wanted)
              AND c.id > coalesce(after, '')
            ORDER BY c.id LIMIT rows_wanted
        )
        SELECT jsonb_build_object(
            'conflicts', coalesce((SELECT jsonb_agg(jsonb_build_object(
                'id', p.id, 'pfaId', p.pfa_id, 'status', p.status, 'kind', p.kind, 'conflictFields', p.conflict_fields,
                'modificationId', p.modification_id, 'createdAt', @extschema@._pems_iso(p.created_at)) ORDER BY p.id)
                FROM page p), '[]'),
            'total', (SELECT count(*) FROM @extschema@.pfa_sync_conflict c
                      WHERE c.organization_id = organization AND (wanted IS NULL OR c.status = wanted))));
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_conflicts(text, text, integer, text) IS
    'Conflicts of an organization, oldest first: {conflicts: [{id, pfaId, status, kind, conflictFields, '
    'modificationId, createdAt}], total}. after: id of the last one of the page before. Errors: P0002, 22023, 55000.';

/*
 * _pems_conflict_fields(conflict): the fields of a conflict side by side, [{field, base, local, pems, conflicting}]:
 * those in conflict, in the order of conflict_fields, then the others that the edit sets.  local is what the edit
 * wants; where it does not name a field, the base.
 */
CREATE FUNCTION @extschema@._pems_conflict_fields(conflict @extschema@.pfa_sync_conflict) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    WITH disputed AS (
        SELECT f.path, f.position
        FROM jsonb_array_elements_text(conflict.conflict_fields) WITH ORDINALITY AS f (path, position)
    ), shown AS (
        SELECT d.path, true AS conflicting, d.position FROM disputed d
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
               'conflicting', s.conflicting) ORDER BY s.position, s.path), '[]')
    FROM shown s
$function$;
COMMENT ON FUNCTION @extschema@._pems_conflict_fields(@extschema@.pfa_sync_conflict) IS
    'Internal: the fields of a conflict side by side';

/*
 * pems_conflict(conflict_id, organization_id)
 *
 * All of one conflict, for a side-by-side view.
 *
 * Parameters: organization_id: NULL = whichever the conflict belongs to.
 * Returns: {id, organizationId, pfaId, modificationId, itemId, operation, createdBy, changeReason, status, kind,
 *   conflictFields, localVersion, pemsVersion, baseData, localData, pemsData, fields, errors, resolution,
 *   mergedData, resolvedBy, resolvedAt, createdAt, previousConflictId}.  fields: [{field, base, local,
 *   pems, conflicting}], a missing value as null; errors: for kind validation the rules that the edit would break.
 * Errors: P0002 no such conflict (or of another organization); 55000 not attached.
 * Tables: pfa_sync_conflict, pfa_write_queue, pems_field.
 */
CREATE FUNCTION @extschema@.pems_conflict(conflict_id text, organization_id text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    c      CONSTANT @extschema@.pfa_sync_conflict := @extschema@._pems_find_conflict(conflict_id, organization_id);
    origin record;
    broken jsonb;
BEGIN
    SELECT q.operation, q.created_by, q.change_reason INTO origin
    FROM (SELECT) one LEFT JOIN @extschema@.pfa_write_queue q ON q.id = c.item_id;
    IF c.kind = 'validation' THEN
        broken := @extschema@._pems_delta_problem(c.local_data, c.pems_data) -> 'errors';
    END IF;

    RETURN jsonb_build_object(
        'id', c.id, 'organizationId', c.organization_id, 'pfaId', c.pfa_id, 'modificationId', c.modification_id,
        'itemId', c.item_id, 'operation', origin.operation, 'createdBy', origin.created_by, 'changeReason',
        origin.change_reason, 'status', c.status, 'kind', c.kind, 'conflictFields', c.conflict_fields, 'localVersion',
        c.local_version, 'pemsVersion', c.pems_version, 'baseData', c.base_data, 'localData', c.local_data, 'pemsData',
        c.pems_data, 'fields', @extschema@._pems_conflict_fields(c), 'errors', coalesce(broken, '[]'), 'resolution',
        c.resolution, 'mergedData', c.merged_data, 'resolvedBy', c.resolved_by, 'resolvedAt',
        @extschema@._pems_iso(c.resolved_at),
        'createdAt', @extschema@._pems_iso(c.created_at), 'previousConflictId', c.previous_conflict_id);
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_conflict(text, text) IS
    'All of one conflict, with per field {field, base, local, pems, conflicting} for a side-by-side view. Errors: '
    'P0002, 55000.';
