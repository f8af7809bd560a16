/*
 * 61_pause: sending is paused and resumed.
 */

/*
 * _pems_accept_foreign(target): items that another database queued (this one is a copy, or a dump was loaded into it)
 * are ours from now on, and go on.
 *
 * Parameters: target: the organization; *: all.
 * Returns: how many.
 * Tables: pfa_write_queue, pems_recheck.
 */
CREATE FUNCTION @extschema@._pems_accept_foreign(target text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $function$
DECLARE
    this_database CONSTANT bigint := @extschema@._pems_database_id();
    changed_items bigint;
    sending       text[];
BEGIN
    WITH changed AS (
        UPDATE @extschema@.pfa_write_queue q
        SET queued_in = this_database, waits_for = CASE q.waits_for WHEN 'resume' THEN 'turn' ELSE q.waits_for END
        WHERE q.unfinished AND target IN (q.organization_id, '*') AND q.queued_in <> this_database
        RETURNING q.id, q.organization_id, q.pfa_id, q.status
    ), recheck AS (
        INSERT INTO @extschema@.pems_recheck (organization_id, pfa_id)
        SELECT DISTINCT c.organization_id, c.pfa_id FROM changed c
    )
    SELECT count(*), array_agg(c.id) FILTER (WHERE c.status = 'processing') INTO changed_items, sending FROM changed c;
    PERFORM @extschema@._pems_put_back_items(sending) WHERE sending IS NOT NULL;
    RETURN changed_items;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_accept_foreign(text) IS
    'Internal: items that another database queued are ours from now on';

/*
 * pems_pause(organization_id, reason, paused_by)
 *
 * Stops sending, for one organization or (NULL) all.  Requests in flight finish.
 *
 * Parameters: reason: a sentence for people, or NULL; paused_by: NULL = the database role.
 * Returns: {success, paused}
 * Errors: P0002 unknown organization; 22023 reason or paused_by longer than 1 kB; 55000 not attached.
 * Tables: pems_pause, pems_audit_log.
 */
CREATE FUNCTION @extschema@.pems_pause(
    organization_id text DEFAULT NULL, reason text DEFAULT NULL, paused_by text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    target CONSTANT text := CASE WHEN organization_id IS NULL THEN '*'
                                 ELSE @extschema@._pems_organization(organization_id) END;
    actor  CONSTANT text := @extschema@._pems_actor(paused_by);
BEGIN
    PERFORM @extschema@._pems_check_short(reason, 'reason'::text);
    INSERT INTO @extschema@.pems_pause (organization_id, cause, reason, paused_by)
    VALUES (target, 'administrator', pems_pause.reason, actor)
    ON CONFLICT ON CONSTRAINT pems_pause_pkey DO UPDATE
        SET reason = excluded.reason, paused_by = excluded.paused_by, paused_at = now();
    INSERT INTO @extschema@.pems_audit_log (event_type, organization_id, actor, error)
    VALUES ('PAUSED', pems_pause.organization_id, actor, pems_pause.reason);
    PERFORM @extschema@._pems_wake(configuration => true);
    RETURN jsonb_build_object('success', true, 'paused', true);
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_pause(text, text, text) IS
    'Stops sending for one organization, or (NULL) for all; requests in flight finish. Error P0002.';

/*
 * pems_resume(organization_id, resumed_by)
 *
 * Starts sending again, for one organization or (NULL) all.  It also ends a pause that came from a refused credential.
 * Resume of all runs pems_attach() first where that has something to do.  (Not always, because it locks the
 * application's tables.)  It also puts a restored copy to work; one organization of a copy cannot be.  Items that
 * another database queued, which are not sent before, become ours.
 *
 * Parameters: resumed_by: for the audit log; NULL = the database role.
 * Returns: {success, paused}
 * Errors: P0002 unknown organization; 22023 resumed_by longer than 1 kB; 55000 from pems_attach(), or resume of one
 *   organization in a copy.
 * Tables: pems_pause, pems_control, pems_audit_log, pfa_write_queue, pems_recheck.
 */
CREATE FUNCTION @extschema@.pems_resume(organization_id text DEFAULT NULL, resumed_by text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    target  CONSTANT text := CASE WHEN organization_id IS NULL THEN '*'
                                  ELSE @extschema@._pems_organization(organization_id) END;
    actor   CONSTANT text := @extschema@._pems_actor(resumed_by);
    is_copy CONSTANT boolean := @extschema@._pems_standing() = 'copy';
BEGIN
    IF is_copy THEN
        IF target <> '*' THEN
            RAISE EXCEPTION 'this database is a copy and sends nothing'
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      DETAIL = 'It was restored, or made from another cluster.',
                      HINT = 'If it is to write to PEMS, for all organizations, run SELECT @extschema@.pems_resume().';
        END IF;
        UPDATE @extschema@.pems_control c SET cluster = @extschema@._pems_cluster();
    END IF;
    IF target = '*' AND (is_copy OR @extschema@._pems_standing() <> 'ok' OR NOT @extschema@._pems_app_intact(false)
                         OR EXISTS (SELECT FROM @extschema@._pems_app_missing())) THEN
        PERFORM @extschema@.pems_attach(false);
    END IF;
    PERFORM @extschema@._pems_keep_order();
    IF @extschema@._pems_accept_foreign(target) > 0 THEN
        -- a dump was loaded, which may have set this back, too
        PERFORM @extschema@._pems_keep_states();
    END IF;
    DELETE FROM @extschema@.pems_pause p WHERE target IN (p.organization_id, '*');
    INSERT INTO @extschema@.pems_audit_log (event_type, organization_id, actor)
    VALUES ('RESUMED', pems_resume.organization_id, actor);
    PERFORM @extschema@._pems_wake(configuration => true);
    RETURN jsonb_build_object('success', true, 'paused',
        EXISTS (SELECT FROM @extschema@.pems_pause p WHERE p.organization_id IN (target, '*')));
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_resume(text, text) IS
    'Starts sending again, for one organization or (NULL) all; for all, pems_attach() runs first where something of '
    'it is missing. Errors: P0002, 55000.';
