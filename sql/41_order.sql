/*
 * 41_order: which items may be sent: the order within a record, and items that wait for a time; and sequences that a
 * loaded dump has set back.
 *
 * Edits of one record are sent one after the other, in the order of their commits.  Two sessions that commit edits of
 * the same record at the same time do not see each other, so neither of them can know who is first, and each might
 * believe that the other one wakes the next edit.
 *
 * Therefore only the worker decides.  pems_commit() marks an item that has a predecessor as waiting for its turn
 * (waits_for = 'turn').  Whoever finishes or removes an item leaves the record in pems_recheck.  The functions below
 * are the only ones that remove the mark: they look for the first unfinished item of each of these records.
 *
 *     commit_seq  item of PFA-1     before                     after _pems_release_next() of PFA-1
 *              7  completed         -                          -
 *             12  pending           waits for its turn         ready
 *             15  pending           waits for its turn         waits for its turn
 */

/*
 * _pems_release_next(organization_ids, pfa_ids): finds the first unfinished item of each record, and makes it ready if
 * it was waiting for its turn.  Where another session has that item locked, the record goes back into pems_recheck
 * instead: the worker waits for no session.
 *
 * Parameters: arrays in step; a record may stand in them more than once.
 * Returns: number of records that went back.
 * Tables: pfa_write_queue, pems_recheck.
 */
CREATE FUNCTION @extschema@._pems_release_next(organization_ids text[], pfa_ids text[]) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    went_back integer;
BEGIN
    WITH first_waiting AS MATERIALIZED (
        SELECT r.organization_id, r.pfa_id, first.id
        FROM (SELECT DISTINCT u.organization_id, u.pfa_id
              FROM unnest(organization_ids, pfa_ids) u (organization_id, pfa_id)) r
        CROSS JOIN LATERAL (
            SELECT u.id, u.commit_seq FROM @extschema@.pfa_write_queue u
            WHERE u.organization_id = r.organization_id AND u.pfa_id = r.pfa_id AND u.unfinished AND u.held
            ORDER BY u.commit_seq LIMIT 1) first
        WHERE NOT EXISTS (SELECT FROM @extschema@.pfa_write_queue e
                          WHERE e.organization_id = r.organization_id AND e.pfa_id = r.pfa_id AND e.unfinished
                            AND NOT e.held
                            AND e.commit_seq < first.commit_seq)
    ), locked AS MATERIALIZED (
        SELECT q.id FROM first_waiting f JOIN @extschema@.pfa_write_queue q ON q.id = f.id
        FOR NO KEY UPDATE OF q SKIP LOCKED
    ), put_back AS (
        INSERT INTO @extschema@.pems_recheck (organization_id, pfa_id)
        SELECT f.organization_id, f.pfa_id FROM first_waiting f WHERE f.id NOT IN (SELECT l.id FROM locked l)
        RETURNING pfa_id
    ), made_ready AS (
        UPDATE @extschema@.pfa_write_queue q
        -- an item that was queued in the future: the clock was set back since then, and nobody asked it to wait
        SET waits_for = CASE WHEN q.scheduled_at > clock_timestamp() AND q.created_at <= clock_timestamp()
                             THEN 'time' END
        FROM locked l WHERE q.id = l.id AND q.held
    )
    SELECT count(*) INTO went_back FROM put_back;
    RETURN went_back;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_release_next(text[], text[]) IS
    'Internal: makes the first unfinished item of each record ready';

/*
 * _pems_release_some(): releases the next items of the records that others left in pems_recheck, at most 500 rows: a
 * session may leave a hundred thousand at once, and all other edits would wait for that.
 *
 * Returns: when to call it again: now, where there may be more; in a second, where a session has a row locked; NULL:
 *   no need to.
 * Tables: pfa_write_queue, pems_recheck.
 */
CREATE FUNCTION @extschema@._pems_release_some() RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    organization_ids text[];
    pfa_ids          text[];
    went_back        integer;
BEGIN
    WITH removed AS (
        DELETE FROM @extschema@.pems_recheck r
        WHERE r.ctid = ANY (ARRAY(SELECT s.ctid FROM @extschema@.pems_recheck s LIMIT 500))
        RETURNING r.organization_id, r.pfa_id)
    SELECT array_agg(t.organization_id), array_agg(t.pfa_id) INTO organization_ids, pfa_ids FROM removed t;
    IF organization_ids IS NULL THEN
        RETURN NULL;
    END IF;
    went_back := @extschema@._pems_release_next(organization_ids, pfa_ids);
    RETURN CASE -- a session has the next items of these records locked, and may end without waking anybody
                WHEN went_back > 250 OR (went_back > 0 AND cardinality(pfa_ids) < 500)
                THEN clock_timestamp() + interval '1 second'
                WHEN cardinality(pfa_ids) = 500 THEN clock_timestamp() END;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_release_some() IS
    'Internal: releases the next items of at most 500 records that others left; returns when to call it again';

/*
 * _pems_follow_clock(): where the last attempt of an item lies in the future, the clock was set back since then, and
 * its scheduled_at is a time of the old clock.  Such items wait as long from now as they were to wait then, two seconds
 * at least.
 *
 * Called with each claim, so it must cost next to nothing: of the items that wait for a time only the last one is
 * read. Where the clock was set back by more than a backoff lasts, items that began to wait before are scheduled later
 * than those that began to wait since, so the last one shows it.
 *
 * Returns: whether there may be more of them; a call changes at most 500.
 * Tables: pfa_write_queue.
 */
CREATE FUNCTION @extschema@._pems_follow_clock() RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    last_attempt timestamptz;
    changed      integer;
BEGIN
    SELECT q.last_attempt_at INTO last_attempt
    FROM @extschema@.pfa_write_queue q
    WHERE q.open AND q.waits_for = 'time' AND q.last_attempt_at IS NOT NULL
    ORDER BY q.scheduled_at DESC LIMIT 1;
    IF last_attempt IS NULL OR last_attempt <= clock_timestamp() + interval '1 second' THEN
        RETURN false;
    END IF;
    UPDATE @extschema@.pfa_write_queue q
    SET scheduled_at = clock_timestamp() + least(greatest(q.scheduled_at - q.last_attempt_at, '2 seconds'), '2 hours'),
        last_attempt_at = clock_timestamp()
    FROM (SELECT d.id FROM @extschema@.pfa_write_queue d
          WHERE d.open AND d.waits_for = 'time' AND d.last_attempt_at > clock_timestamp()
          ORDER BY d.scheduled_at LIMIT 500 FOR NO KEY UPDATE SKIP LOCKED) early
    WHERE q.id = early.id;
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed = 500;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_follow_clock() IS
    'Internal: items that began to wait before the clock was set back wait no longer than they were to';

/*
 * _pems_prepare(): what has to happen before a claim: releases the next items of the records that others left in
 * pems_recheck, and makes items ready whose time has come; at most 500 of each.
 *
 * Returns: when to call it again: now, where there is more; when the next item's time comes; in a second, where a
 *   session has a row locked; NULL: no need to.
 * Tables: pfa_write_queue, pems_recheck.
 */
CREATE FUNCTION @extschema@._pems_prepare() RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    release_again CONSTANT timestamptz := @extschema@._pems_release_some();
    clock_again   CONSTANT boolean := @extschema@._pems_follow_clock();
    due                    integer;
BEGIN
    UPDATE @extschema@.pfa_write_queue q SET waits_for = NULL
    FROM (SELECT d.id FROM @extschema@.pfa_write_queue d
          WHERE d.open AND d.waits_for = 'time' AND d.scheduled_at <= clock_timestamp()
          ORDER BY d.scheduled_at LIMIT 500 FOR NO KEY UPDATE SKIP LOCKED) ready
    WHERE q.id = ready.id;
    GET DIAGNOSTICS due = ROW_COUNT;
    IF due = 500 OR clock_again THEN
        RETURN clock_timestamp();
    END IF;
    RETURN least(release_again,
                 (SELECT min(q.scheduled_at) FROM @extschema@.pfa_write_queue q
                  WHERE q.open AND q.waits_for = 'time' AND q.scheduled_at > clock_timestamp()));
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_prepare() IS
    'Internal: releases the next items of records, and makes items ready whose time has come; returns when to call '
    'it again';

/*
 * _pems_raise_sequence(sequence, highest): the sequence goes on behind that number.  Rows of a dump that are loaded
 * into a database in use set our sequences back, and what comes later would stand before what is there.
 * Returns: was it behind?
 * Tables: pems_control (locked, where the sequence is behind).
 */
CREATE FUNCTION @extschema@._pems_raise_sequence(sequence regclass, highest bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF highest > coalesce(pg_sequence_last_value(sequence), 0) THEN
        -- one session at a time: another would set it back behind numbers that were given out since it looked
        PERFORM FROM @extschema@.pems_control c FOR NO KEY UPDATE;
        IF highest > coalesce(pg_sequence_last_value(sequence), 0) THEN
            PERFORM setval(sequence, highest);
            RETURN true;
        END IF;
    END IF;
    RETURN false;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_raise_sequence(regclass, bigint) IS
    'Internal: a sequence that a loaded dump has set back goes on behind that number';

/*
 * _pems_keep_order(): the sequences of commits and claims go on behind what is in the tables.  (pems_audit_order only
 * tells rows of the same microsecond apart.)  A few look-ups for each organization.
 * Tables: pfa_write_queue, pems_claim.
 */
CREATE FUNCTION @extschema@._pems_keep_order() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    organization text;
    last_commit  bigint;
BEGIN
    organization := (SELECT min(q.organization_id) FROM @extschema@.pfa_write_queue q);
    WHILE organization IS NOT NULL LOOP
        last_commit := greatest(last_commit, (
            SELECT q.commit_seq FROM @extschema@.pfa_write_queue q
            WHERE q.organization_id = organization ORDER BY q.commit_seq DESC LIMIT 1));
        organization := (SELECT min(q.organization_id) FROM @extschema@.pfa_write_queue q
                         WHERE q.organization_id > organization);
    END LOOP;
    PERFORM @extschema@._pems_raise_sequence('@extschema@.pems_commit_order'::regclass, last_commit);
    PERFORM @extschema@._pems_raise_sequence('@extschema@.pems_claim_order'::regclass,
                                    (SELECT max(c.claim_token) FROM @extschema@.pems_claim c));
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_keep_order() IS
    'Internal: the sequences of commits and claims go on behind what is in the tables';

/*
 * _pems_keep_states(): the same for the states of records.  Reads all of the history.
 * Tables: pems_mirror_version.
 */
CREATE FUNCTION @extschema@._pems_keep_states() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    PERFORM @extschema@._pems_raise_sequence('@extschema@.pems_state_order'::regclass,
                                    (SELECT max(v.state_seq) FROM @extschema@.pems_mirror_version v));
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_keep_states() IS
    'Internal: the sequence of states goes on behind what is in the history';
