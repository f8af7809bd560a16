/*
 * 62_pull: read sync for callers: begin a pull, end one.
 */

/*
 * _pems_pull_mode(mode, pfa_id): returns the mode when it is one; a single record has none of its own.
 * Errors: 22023.
 */
CREATE FUNCTION @extschema@._pems_pull_mode(mode text, pfa_id text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF mode IS NULL OR mode NOT IN ('delta', 'full', 'adopt') THEN
        RAISE EXCEPTION 'unknown mode "%"', left(mode, 100)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use delta, full or adopt.';
    END IF;
    IF pfa_id IS NOT NULL AND NOT @extschema@._pems_valid_pfa_id(pfa_id) THEN
        RAISE EXCEPTION 'invalid pfa_id "%"', left(pfa_id, 100)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'A PFA id is 1 to 64 of A-Z a-z 0-9 . _ -, and neither . nor ..';
    END IF;
    RETURN mode;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_mode(text, text) IS 'Internal: raises 22023 for an unknown mode';

/*
 * _pems_begin_pull(organization, pfa_id, mode, requested_by): makes a pull, or finds the one that is the same: a
 * listing in that mode that waits or runs, or a single record that was not asked for yet.  A delta without a watermark
 * is a full one.
 *
 * Returns: id of its job; is_new: it was made.
 * Tables: pems_sync_job, pems_pull_state; reads pems_pull_organization.
 */
CREATE FUNCTION @extschema@._pems_begin_pull(
    organization text, pfa_id text, mode text, requested_by text, OUT job_id text, OUT is_new boolean)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
#variable_conflict use_variable
DECLARE
    wanted CONSTANT text := CASE
        WHEN pfa_id IS NOT NULL THEN CASE mode WHEN 'adopt' THEN mode ELSE 'delta' END
        WHEN mode = 'delta' AND NOT EXISTS (SELECT FROM @extschema@.pems_pull_organization o
                                            WHERE o.organization_id = organization AND o.watermark IS NOT NULL)
        THEN 'full' ELSE mode END;
BEGIN
    -- two callers at once: the second finds what the first has made
    PERFORM pg_advisory_xact_lock('@extschema@.pems_pull_state'::regclass::oid::bigint::integer,
                                  hashtext(organization));
    SELECT s.job_id INTO job_id FROM @extschema@.pems_pull_state s
    WHERE s.organization_id = organization AND s.pfa_id IS NOT DISTINCT FROM pfa_id AND s.mode = wanted
      AND s.phase <> 'ended' AND s.cancelled_by IS NULL AND (s.pfa_id IS NULL OR NOT s.under_way)
    ORDER BY s.job_id LIMIT 1;
    is_new := NOT FOUND;
    IF is_new THEN
        INSERT INTO @extschema@.pems_sync_job AS j (organization_id, kind, requested_by, status)
        VALUES (organization, 'pull', requested_by, 'running') RETURNING j.id INTO job_id;
        INSERT INTO @extschema@.pems_pull_state (job_id, organization_id, pfa_id, mode)
        VALUES (job_id, organization, pfa_id, wanted);
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_begin_pull(text, text, text, text) IS
    'Internal: makes a pull, or finds the one that waits or runs';

/*
 * pems_pull(organization_id, pfa_id, mode, requested_by)
 *
 * Reads from PEMS into the mirror: one record; what changed since the last complete listing (delta); everything
 * (full); or everything, with PEMS's lower versions taken as the truth (adopt: for a PEMS that was restored from a
 * backup).  The worker does it; the call returns at once.
 *
 * Parameters: pfa_id: NULL = a listing; mode: of a single record only adopt makes a difference; requested_by: NULL =
 *   the database role.
 * Returns: {success, jobId}; the job of the pull that waits or runs already, where it is the same.
 *   A listing in another mode is read before it.
 * Errors: P0002 unknown organization; 22023 unknown mode, invalid pfa_id, requested_by longer than 1 kB; 55000 not
 *   attached.
 * Tables: pems_sync_job, pems_pull_state, pems_pull_organization.
 */
CREATE FUNCTION @extschema@.pems_pull(
    organization_id text, pfa_id text DEFAULT NULL, mode text DEFAULT 'delta', requested_by text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    organization CONSTANT text := @extschema@._pems_organization(organization_id);
    wanted       CONSTANT text := @extschema@._pems_pull_mode(mode, pfa_id);
    pull         record;
BEGIN
    SELECT b.* INTO pull
    FROM @extschema@._pems_begin_pull(organization, pfa_id, wanted, @extschema@._pems_actor(requested_by)) b;
    IF pull.is_new THEN
        PERFORM @extschema@._pems_wake_pulls();
        PERFORM @extschema@._pems_warn_if_idle();
    END IF;
    RETURN jsonb_build_object('success', true, 'jobId', pull.job_id);
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_pull(text, text, text, text) IS
    'Reads from PEMS into the mirror: one record, what changed (delta), or everything (full, adopt). Returns '
    '{success, jobId}. Errors: P0002, 22023, 55000.';

/*
 * pems_cancel(job_id, organization_id, cancelled_by)
 *
 * Ends a pull after the page in flight.  What was stored stays; the watermark does not move.
 *
 * Parameters: organization_id: NULL = whichever it belongs to; cancelled_by: NULL = the database role.
 * Returns: {success, jobId}
 * Errors: P0002 unknown job, or of another organization; 55000 the job is no pull, or is over; 22023 cancelled_by
 *   longer than 1 kB.
 * Tables: pems_sync_job, pems_pull_state.
 */
CREATE FUNCTION @extschema@.pems_cancel(
    job_id text, organization_id text DEFAULT NULL, cancelled_by text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    job   CONSTANT @extschema@.pems_sync_job := @extschema@._pems_find_job(job_id, organization_id);
    actor CONSTANT text := @extschema@._pems_actor(cancelled_by);
    pull  @extschema@.pems_pull_state;
BEGIN
    IF job.kind <> 'pull' THEN
        RAISE EXCEPTION 'job "%" is no pull', job.id
            USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = format('It is a %s.', job.kind),
                  HINT = 'Take edits back one by one: SELECT @extschema@.pems_discard(modification_id).';
    END IF;
    SELECT s.* INTO pull FROM @extschema@.pems_pull_state s
    WHERE s.job_id = job.id AND s.phase <> 'ended' FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the pull of job "%" is over', job.id
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'See pems_job().';
    END IF;
    UPDATE @extschema@.pems_pull_state s SET cancelled_by = coalesce(s.cancelled_by, actor) WHERE s.job_id = job.id;
    INSERT INTO @extschema@.pems_audit_log (event_type, organization_id, pfa_id, job_id, actor)
    VALUES ('PULL_CANCELLED', pull.organization_id, pull.pfa_id, job.id, actor);
    IF NOT pull.under_way THEN
        PERFORM pg_notify('pems_sync',
                          @extschema@._pems_pull_end(job.id, 'cancelled'::text, NULL::text, NULL::text));
    END IF;
    PERFORM @extschema@._pems_wake_pulls();
    RETURN jsonb_build_object('success', true, 'jobId', job.id);
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_cancel(text, text, text) IS
    'Ends a pull after the page in flight; what was stored stays. Returns {success, jobId}. Errors: P0002, 55000, '
    '22023.';
