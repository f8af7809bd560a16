/*
 * 58_rollback: back to an old version of a record.  A rollback is an edit like any other: it is queued, compared with
 * what PEMS has, and may end in a conflict.
 */

/*
 * _pems_kept_versions(organization, pfa_id): a sentence that names the versions of a record in the history, the newest
 * 20: an administrator may not read the table.
 * Tables: pems_mirror_version.
 */
CREATE FUNCTION @extschema@._pems_kept_versions(organization text, pfa_id text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    most CONSTANT integer := 20;
    kept integer[] := '{}';
    next integer;
BEGIN
    LOOP
        SELECT v.version INTO next FROM @extschema@.pems_mirror_version v
        WHERE v.organization_id = organization AND v.pfa_id = $2 AND v.version < coalesce(next, 2147483647)
        ORDER BY v.version DESC LIMIT 1;
        EXIT WHEN NOT FOUND OR cardinality(kept) = most;
        kept := kept || next;
    END LOOP;
    RETURN CASE WHEN kept = '{}' THEN 'The history has no version of it.'
                ELSE format('Versions in the history: %s%s.', array_to_string(kept, ', '),
                            CASE WHEN FOUND THEN ' and older ones' END) END;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_kept_versions(text, text) IS
    'Internal: a sentence that names the newest versions of a record that the history has';

/*
 * _pems_rollback_target(organization, pfa_id, version): the record as it is now and as it was.
 * Errors: P0002 no such record or version; 22023 pfa_id longer than 200 characters; 55000 the record was deleted in
 *   PEMS, or is larger than pems_sync.max_record_size.
 * Tables: pfa_mirror, pems_mirror_version.
 */
CREATE FUNCTION @extschema@._pems_rollback_target(
    organization text, pfa_id text, version integer,
    OUT current_version integer, OUT current_data jsonb, OUT old_data jsonb)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    gone timestamptz;
    most CONSTANT integer := @extschema@._pems_setting('max_record_size'::text)::integer * 1024;
BEGIN
    PERFORM @extschema@._pems_id($2, 'pfa_id'::text);
    SELECT m.version, m.data, m.deleted_at INTO current_version, current_data, gone
    FROM @extschema@.pfa_mirror m WHERE m.organization_id = organization AND m.pfa_id = $2;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'PFA record % does not exist', coalesce('"' || left($2, 100) || '"', 'NULL')
            USING ERRCODE = 'no_data_found', HINT = 'Pass pfa_mirror.pfa_id of a record of this organization.';
    END IF;
    IF gone IS NOT NULL THEN
        RAISE EXCEPTION 'PFA record "%" is deleted in PEMS', $2
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('It was found deleted at %s.', @extschema@._pems_iso(gone)),
                  HINT = 'Restore it in PEMS first.';
    END IF;
    SELECT v.data INTO old_data FROM @extschema@.pems_mirror_version v
    WHERE v.organization_id = organization AND v.pfa_id = $2 AND v.version = $3
    ORDER BY v.state_seq DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'PFA record "%" has no version %', $2, coalesce($3::text, 'NULL')
            USING ERRCODE = 'no_data_found', DETAIL = @extschema@._pems_kept_versions(organization, $2),
                  HINT = 'Pass one of these versions; pems_rollback_preview() shows what it would change.';
    END IF;
    IF greatest(@extschema@._pems_size(current_data, most::bigint),
                @extschema@._pems_size(old_data, most::bigint)) > most THEN
        RAISE EXCEPTION 'PFA record "%" is larger than %', $2, pg_size_pretty(most::bigint)
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('pems_sync.max_record_size is %s.', pg_size_pretty(most::bigint)),
                  HINT = 'Have a superuser raise the setting.';
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_rollback_target(text, text, integer) IS
    'Internal: a record as it is now and as it was; P0002 when there is no such record or version, 55000 when it is '
    'deleted';

/*
 * _pems_rollback_changes(delta, current_data): [{field, from, to}]
 */
CREATE FUNCTION @extschema@._pems_rollback_changes(delta jsonb, current_data jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT coalesce(jsonb_agg(jsonb_build_object('field', d.key, 'from', current_data -> d.key, 'to', d.value)
                              ORDER BY d.key), '[]')
    FROM jsonb_each(delta) d
$function$;
COMMENT ON FUNCTION @extschema@._pems_rollback_changes(jsonb, jsonb) IS 'Internal: [{field, from, to}] of a rollback';

/*
 * pems_rollback_preview(organization_id, pfa_id, version)
 *
 * What pems_rollback() would change: the writable fields that differ between the record as it is and as it
 * was at that version.
 *
 * Parameters: version: one that the history has; its newest state counts.
 * Returns: {changes: [{field, from, to}]}
 * Errors: P0002 unknown organization, record or version; 55000 the record is deleted in PEMS, or not attached.
 * Tables: pfa_mirror, pems_mirror_version, pems_field.
 */
CREATE FUNCTION @extschema@.pems_rollback_preview(organization_id text, pfa_id text, version integer) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    organization CONSTANT text := @extschema@._pems_organization(organization_id);
    target       record;
BEGIN
    SELECT t.* INTO target FROM @extschema@._pems_rollback_target(organization, pfa_id, version) t;
    RETURN jsonb_build_object('changes', @extschema@._pems_rollback_changes(
        @extschema@._pems_restore_delta(target.current_data, target.old_data), target.current_data));
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_rollback_preview(text, text, integer) IS
    'What pems_rollback() would change: {changes: [{field, from, to}]}. Errors: P0002, 55000.';

/*
 * _pems_check_fillable(app_table): raises an error when a row that we insert into that table of the application
 * would lack a value.
 * Errors: 55000.
 */
CREATE FUNCTION @extschema@._pems_check_fillable(app_table text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    unfilled CONSTANT text[] := ARRAY(SELECT @extschema@._pems_app_unfilled(app_table));
BEGIN
    IF unfilled <> '{}' THEN
        RAISE EXCEPTION 'pems_sync has no value for a column of "%" that must not be null', app_table
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('Columns: %s.', array_to_string(unfilled, ', ')),
                  HINT = 'Give them a default, or fill them in a trigger BEFORE INSERT.';
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_check_fillable(text) IS
    'Internal: raises 55000 when a row that the extension inserts into a table of the application would lack a value';

/*
 * _pems_add_rollback(modification, organization, pfa_id, base_version, delta, actor, reason): makes the modification of
 * a rollback.
 * Errors: 55000 when pfa_modification does not take it: a column that we cannot fill, or a constraint of the
 *   application, such as a foreign key on created_by.
 */
CREATE FUNCTION @extschema@._pems_add_rollback(
    modification text, organization text, pfa_id text, base_version integer, delta jsonb, actor text, reason text)
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    problem text;
BEGIN
    PERFORM @extschema@._pems_check_fillable('pfa_modification'::text);
    PERFORM @extschema@._pems_app_add_modification(modification, organization, pfa_id, base_version, delta, actor,
                                                    reason);
EXCEPTION WHEN integrity_constraint_violation THEN
    GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
    RAISE EXCEPTION 'pfa_modification does not take a modification of "%"', left(actor, 100)
        USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = problem || '.',
              HINT = 'It is a constraint of the application. If it is about created_by, pass a user that it knows as '
                     'requested_by.';
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_add_rollback(text, text, text, integer, jsonb, text, text) IS
    'Internal: makes the modification of a rollback; 55000 when pfa_modification does not take it';

/*
 * pems_rollback(organization_id, pfa_id, version, reason, requested_by)
 *
 * Makes a modification on today's version that restores the old values of the writable fields, and queues it.
 * It is compared with PEMS like any other: what somebody changes there meanwhile is not overwritten.
 *
 * Parameters:
 *   version       of the version history
 *   reason        why; becomes change_reason; required
 *   requested_by  becomes created_by; NULL: the database role
 * Returns: {success, jobId, modificationId, changes: [{field, from, to}]}; jobId and modificationId are null when
 *   there is nothing to change.
 * Errors: P0002 unknown organization, record or version; 22023 reason is missing, or it or requested_by longer than
 *   1 kB; 55000 the record is deleted in PEMS, or the old values break a rule today (DETAIL), or pfa_modification has a
 *   column that we cannot fill or a constraint that refuses it, or not attached.
 * Tables: pfa_modification, pfa_write_queue, pems_sync_job, pems_audit_log.
 */
CREATE FUNCTION @extschema@.pems_rollback(
    organization_id text, pfa_id text, version integer, reason text, requested_by text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    organization CONSTANT text := @extschema@._pems_organization(organization_id);
    actor        CONSTANT text := @extschema@._pems_actor(requested_by);
    modification text := @extschema@._pems_uuid();
    target       record;
    delta        jsonb;
    done         record;
BEGIN
    PERFORM @extschema@._pems_check_short(reason, 'reason'::text);
    IF coalesce(reason, '') !~ '[^[:space:]]' THEN
        RAISE EXCEPTION 'a rollback needs a reason'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Say why, for those who read the history later.';
    END IF;
    SELECT t.* INTO target FROM @extschema@._pems_rollback_target(organization, pfa_id, version) t;
    delta := @extschema@._pems_restore_delta(target.current_data, target.old_data);
    IF delta = '{}' THEN
        RETURN jsonb_build_object('success', true, 'jobId', NULL, 'modificationId', NULL, 'changes', '[]'::jsonb);
    END IF;

    PERFORM @extschema@._pems_add_rollback(
        modification, organization, pfa_id, target.current_version::integer, delta, actor, reason);
    INSERT INTO @extschema@.pems_audit_log (event_type, organization_id, pfa_id, modification_id, actor, request, error)
    VALUES ('ROLLBACK_REQUESTED', organization, pfa_id, modification, actor,
            jsonb_build_object('version', version, 'changes', delta), reason);
    SELECT d.* INTO done
    FROM @extschema@._pems_queue_drafts(
        organization, ARRAY[modification], NULL::text, NULL::text, actor, 0, 'rollback'::text) d;
    IF done.job_id IS NULL THEN
        RAISE EXCEPTION 'version % of PFA record "%" would not be valid today', version, pfa_id
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = (SELECT string_agg(e.line, E'\n')
                            FROM jsonb_array_elements_text(done.rejections -> 0 -> 'errors') AS e (line)),
                  HINT = 'Make an edit with the values that you want instead.';
    END IF;
    RETURN jsonb_build_object('success', true, 'jobId', done.job_id, 'modificationId', modification,
                              'changes', @extschema@._pems_rollback_changes(delta, target.current_data));
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_rollback(text, text, integer, text, text) IS
    'Makes and queues an edit that restores the writable fields of an old version; reason is required. Returns '
    '{success, jobId, modificationId, changes: [{field, from, to}]}. Errors: P0002, 22023, 55000.';
