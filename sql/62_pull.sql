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
 * _pems_begin_pull(organization, pfa_id, mode, requested_by): makes a pull, or finds the one that waits or runs: of a
 * record, or of a listing in that mode.  A delta without a watermark is a full one.
 *
 * Returns: id of its job; is_new: it was made.
 * Errors: 55000 when a listing in another mode is not over.
 * Tables: pems_sync_job, pems_pull_state, pems_pull_organization.
 */
CREATE FUNCTION @extschema@._pems_begin_pull(
    organization text, pfa_id text, mode text, requested_by text, OUT job_id text, OUT is_new boolean)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
#variable_conflict use_variable
DECLARE
    overlap CONSTANT interval := @extschema@._pems_setting('pull_overlap'::text)::integer * interval '1 second';
    since   CONSTANT timestamptz := (SELECT o.watermark - overlap FROM @extschema@.pems_pull_organization o
                                     WHERE o.organization_id = organization AND mode = 'delta');
    wanted  CONSTANT text := CASE WHEN mode = 'delta' AND pfa_id IS NULL AND since IS NULL THEN 'full' ELSE mode END;
    open    record;
BEGIN
    -- two callers at once: the second finds what the first has made
    PERFORM FROM @extschema@.organization o WHERE o.id = organization FOR KEY SHARE;
    SELECT s.job_id, s.mode INTO open FROM @extschema@.pems_pull_state s
    WHERE s.organization_id = organization AND s.pfa_id IS NOT DISTINCT FROM pfa_id AND s.phase <> 'ended'
      AND s.cancelled_by IS NULL
    ORDER BY s.job_id LIMIT 1;
    IF FOUND AND (pfa_id IS NOT NULL OR open.mode = wanted) THEN
        job_id := open.job_id;
        is_new := false;
        RETURN;
    END IF;
    IF FOUND THEN
        RAISE EXCEPTION 'a pull of organization "%" in mode % is not over', left(organization, 100), open.mode
            USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = format('Its job is %s.', open.job_id),
                  HINT = 'Wait until it has ended, or end it: SELECT @extschema@.pems_cancel(job_id).';
    END IF;
    job_id := @extschema@._pems_uuid();
    is_new := true;
    INSERT INTO @extschema@.pems_sync_job (id, organization_id, kind, requested_by)
    VALUES (job_id, organization, 'pull', requested_by);
    INSERT INTO @extschema@.pems_pull_state (job_id, organization_id, pfa_id, mode, updated_since)
    VALUES (job_id, organization, pfa_id, wanted, CASE WHEN pfa_id IS NULL THEN since END);
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
 * Parameters: pfa_id: NULL = a listing; mode: of a single record only adopt makes a difference; requested_by: NULL = the
 *   database role.
 * Returns: {success, jobId}; the job of the pull that waits or runs already, where it is the same.
 * Errors: P0002 unknown organization; 22023 unknown mode, invalid pfa_id, requested_by longer than 1 kB; 55000 not
 *   attached, or a listing in another mode is not over.
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
        PERFORM @extschema@._pems_wake(false);
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
#variable_conflict use_column
DECLARE
    wanted       CONSTANT text := job_id;
    organization CONSTANT text := CASE WHEN pems_cancel.organization_id IS NOT NULL
                                       THEN @extschema@._pems_organization(pems_cancel.organization_id) END;
    actor        CONSTANT text := @extschema@._pems_actor(cancelled_by);
    job          record;
BEGIN
    PERFORM @extschema@._pems_attached();
    SELECT j.kind, s.phase INTO job
    FROM @extschema@.pems_sync_job j LEFT JOIN @extschema@.pems_pull_state s ON s.job_id = j.id
    WHERE j.id = wanted AND (organization IS NULL OR j.organization_id = organization);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'job "%" does not exist', left(wanted, 100)
            USING ERRCODE = 'no_data_found', HINT = 'Pass the jobId that pems_pull() returned.';
    END IF;
    IF job.kind <> 'pull' THEN
        RAISE EXCEPTION 'job "%" is no pull', left(wanted, 100)
            USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = format('It is a %s.', job.kind),
                  HINT = 'Take edits back one by one: SELECT @extschema@.pems_discard(modification_id).';
    END IF;
    UPDATE @extschema@.pems_pull_state s SET cancelled_by = actor, next_at = clock_timestamp()
    WHERE s.job_id = wanted AND s.phase <> 'ended';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the pull of job "%" is over', left(wanted, 100)
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'See pems_job().';
    END IF;
    PERFORM @extschema@._pems_wake(false);
    RETURN jsonb_build_object('success', true, 'jobId', wanted);
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_cancel(text, text, text) IS
    'Ends a pull after the page in flight; what was stored stays. Returns {success, jobId}. Errors: P0002, 55000, '
    '22023.';
