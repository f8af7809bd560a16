/*
 * 49_pull_steps: what the worker calls for read sync (2): which pulls may go on, what follows when a page is stored or
 * a request has failed, records that a full listing has not shown, and how a pull ends.
 *
 *     waiting -> reading ---------------------------------------------------------> ended      one record
 *     waiting -> listing ---------------------------------------------------------> ended      delta
 *     waiting -> listing -> counting ---------------------------------------------> ended      full, adopt:
 *                           counting -> sorting -> searching ---------------------> ended      nothing is missing,
 *                                                  searching -> confirming -------> ended      or something is
 *
 * In counting, sorting and searching nothing is asked of PEMS.
 */

/*
 * _pems_pull_begin_listing(pull): a listing begins, or begins again: with its first page, and nothing seen yet.
 * Tables: pems_pull_state, pems_pull_seen; reads pems_pull_organization, pfa_mirror.
 */
CREATE FUNCTION @extschema@._pems_pull_begin_listing(pull @extschema@.pems_pull_state) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    -- counted only where that takes a moment: it is for people who wait
    most    CONSTANT integer := 10000;
    overlap CONSTANT interval := @extschema@._pems_setting('pull_overlap'::text)::integer * interval '1 second';
    known   record;
    counted bigint;
BEGIN
    SELECT o.watermark, o.records INTO known FROM @extschema@.pems_pull_organization o
    WHERE o.organization_id = pull.organization_id;
    IF pull.mode <> 'delta' AND known.records IS NULL THEN
        counted := (SELECT count(*) FROM (SELECT FROM @extschema@.pfa_mirror m
                                          WHERE m.organization_id = pull.organization_id LIMIT most) m);
    END IF;
    DELETE FROM @extschema@.pems_pull_seen s WHERE s.job_id = pull.job_id;
    UPDATE @extschema@.pems_pull_state s
    SET phase = 'listing', listing_since = clock_timestamp(), newest_updated_at = NULL,
        updated_since = CASE WHEN pull.mode = 'delta' THEN known.watermark - overlap END,
        started_at = coalesce(s.started_at, clock_timestamp()), cursor = NULL, cursor_count = 0, cursor_last = 0,
        cursor_kept = 0, pages = 0, stored = 0, stored_stale = 0, stored_bad = 0, records = 0,
        -- what was stored already comes once more, and is counted once
        unchanged = -(s.created + s.updated + s.deleted), stale = 0, quarantined = 0, seen = 0, seen_hash = 0,
        expected = CASE WHEN pull.mode <> 'delta'
                        THEN coalesce(known.records, nullif(nullif(counted, most), 0)) END
    WHERE s.job_id = pull.job_id;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_begin_listing(@extschema@.pems_pull_state) IS
    'Internal: a listing begins, or begins again';

/*
 * _pems_pull_empty_sorted(job): what was made to look up records of that listing goes; all at once where no other pull
 * needs it.
 * Tables: pems_pull_sorted, pems_pull_sorted_slice.
 */
CREATE FUNCTION @extschema@._pems_pull_empty_sorted(job text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF NOT EXISTS (SELECT FROM @extschema@.pems_pull_sorted_slice s WHERE s.job_id = job) THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM @extschema@.pems_pull_sorted_slice s WHERE s.job_id < job)
       OR EXISTS (SELECT FROM @extschema@.pems_pull_sorted_slice s WHERE s.job_id > job) THEN
        DELETE FROM @extschema@.pems_pull_sorted s WHERE s.job_id = job;
        DELETE FROM @extschema@.pems_pull_sorted_slice s WHERE s.job_id = job;
    ELSE
        TRUNCATE @extschema@.pems_pull_sorted, @extschema@.pems_pull_sorted_slice;
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_empty_sorted(text) IS
    'Internal: the sorted records of a listing go';

/*
 * _pems_pull_end(job, status, error_code, error): the pull is over.  What only it needed goes.
 *
 * Parameters: status: of the job; error_code, error: NULL: none.
 * Returns: the message for listeners.
 * Tables: pems_pull_state, pems_sync_job, pems_pull_organization, pems_pull_seen, pems_pull_missing.
 */
CREATE FUNCTION @extschema@._pems_pull_end(job text, status text, error_code text, error text) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    pull @extschema@.pems_pull_state;
BEGIN
    UPDATE @extschema@.pems_pull_state s
    SET phase = 'ended', under_way = false, error_code = $3, last_error = $4, walked_to = ''
    WHERE s.job_id = job RETURNING s.* INTO pull;
    UPDATE @extschema@.pems_sync_job j SET status = $2, finished_at = clock_timestamp() WHERE j.id = job;
    DELETE FROM @extschema@.pems_pull_seen s WHERE s.job_id = job;
    DELETE FROM @extschema@.pems_pull_missing m WHERE m.job_id = job;
    PERFORM @extschema@._pems_pull_empty_sorted(job);
    IF pull.pfa_id IS NULL AND status <> 'cancelled' THEN
        INSERT INTO @extschema@.pems_pull_organization AS o (organization_id, last_error, full_error)
        VALUES (pull.organization_id, error, CASE WHEN pull.mode <> 'delta' THEN error END)
        ON CONFLICT (organization_id) DO UPDATE
        SET last_error = excluded.last_error,
            full_error = CASE WHEN pull.mode <> 'delta' THEN excluded.full_error ELSE o.full_error END;
    END IF;
    RETURN @extschema@._pems_payload(jsonb_build_object(
        'type', 'SYNC_PULLED', 'organizationId', pull.organization_id, 'pfaId', pull.pfa_id, 'jobId', job,
        'mode', pull.mode, 'status', status, 'records', pull.records, 'created', pull.created,
        'updated', pull.updated, 'deleted', pull.deleted, 'unchanged', pull.unchanged, 'stale', pull.stale,
        'quarantined', pull.quarantined, 'errorMessage', left(error, 1000),
        'at', @extschema@._pems_iso(clock_timestamp())));
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_end(text, text, text, text) IS 'Internal: a pull is over';

/*
 * _pems_pull_complete(job): the pull has done all that it was to do.  Of a listing the watermark moves: on PEMS's
 * clock, to the newest change that it has shown and that is not dated ahead of our clock.  Where all of a full listing
 * are, to our own time of its beginning.
 *
 * Returns: the message for listeners.
 * Tables: pems_pull_state, pems_pull_organization, pems_quarantined.
 */
CREATE FUNCTION @extschema@._pems_pull_complete(job text) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    pull   @extschema@.pems_pull_state;
    newest timestamptz;
BEGIN
    SELECT s.* INTO pull FROM @extschema@.pems_pull_state s WHERE s.job_id = job;
    IF pull.pfa_id IS NULL THEN
        newest := coalesce(pull.newest_updated_at,
                           CASE WHEN pull.mode <> 'delta' AND pull.records > 0 THEN pull.listing_since END);
        INSERT INTO @extschema@.pems_pull_organization AS o
            (organization_id, watermark, last_delta_at, last_full_at, records, stale)
        VALUES (pull.organization_id, newest,
                CASE WHEN pull.mode = 'delta' THEN clock_timestamp() END,
                CASE WHEN pull.mode <> 'delta' THEN clock_timestamp() END,
                CASE WHEN pull.mode <> 'delta' THEN pull.records END,
                CASE WHEN pull.mode <> 'delta' THEN pull.stale END)
        ON CONFLICT (organization_id) DO UPDATE
        SET watermark = CASE WHEN pull.mode = 'delta' THEN greatest(o.watermark, excluded.watermark)
                             -- a PEMS that was restored from a backup may have gone back
                             ELSE coalesce(excluded.watermark, o.watermark) END,
            last_delta_at = coalesce(excluded.last_delta_at, o.last_delta_at),
            last_full_at = coalesce(excluded.last_full_at, o.last_full_at),
            records = coalesce(excluded.records, o.records), stale = coalesce(excluded.stale, o.stale);
    END IF;
    IF pull.pfa_id IS NULL AND pull.mode <> 'delta' THEN
        -- what is no record of this organization, and was not shown again
        DELETE FROM @extschema@.pems_quarantined q
        WHERE q.organization_id = pull.organization_id AND NOT q.identified AND q.job_id <> job;
    END IF;
    RETURN @extschema@._pems_pull_end(
        job, CASE WHEN pull.quarantined > 0 THEN 'completed_with_failures' ELSE 'completed' END,
        CASE WHEN pull.quarantined > 0 THEN 'QUARANTINED' END,
        CASE WHEN pull.quarantined > 0
             THEN format('%s could not be stored; see pems_quarantine',
                         @extschema@._pems_number_of(pull.quarantined, 'record'::text, 'records'::text)) END);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_complete(text) IS 'Internal: a pull has done all that it was to do';

/*
 * _pems_pull_message(organization, changed, counts): the message for listeners of what a page has changed: the records,
 * where there are at most 100, or else how many.
 * Returns: NULL: nothing has changed.
 */
CREATE FUNCTION @extschema@._pems_pull_message(organization text, changed text[], counts integer[]) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    total CONSTANT bigint := (SELECT coalesce(sum(c), 0) FROM unnest(counts) c);
BEGIN
    IF total = 0 THEN
        RETURN NULL;
    END IF;
    RETURN @extschema@._pems_payload(
        jsonb_build_object('type', 'SYNC_MIRROR', 'organizationId', organization,
                           'at', @extschema@._pems_iso(clock_timestamp()))
        || CASE WHEN total <= 100 AND cardinality(changed) = total THEN jsonb_build_object('pfaIds', changed)
                ELSE jsonb_build_object('counts', jsonb_build_object('created', counts[1], 'updated', counts[2],
                                                                     'deleted', counts[3])) END);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_message(text, text[], integer[]) IS
    'Internal: what listeners are told of a page';

/*
 * _pems_pull_next(job): an answer is dealt with: what comes next, if not another page of the same kind.
 *
 * Returns: messages for listeners; NULL: none.
 * Tables: pems_pull_state, pems_pull_missing.
 */
CREATE FUNCTION @extschema@._pems_pull_next(job text) RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    pull @extschema@.pems_pull_state;
BEGIN
    UPDATE @extschema@.pems_pull_state s
    SET stored = 0, stored_stale = 0, stored_bad = 0, under_way = false, failures = 0, gone_before = false,
        error_code = NULL, last_error = NULL, next_at = clock_timestamp()
    WHERE s.job_id = job RETURNING s.* INTO pull;
    IF pull.phase = 'confirming' THEN
        DELETE FROM @extschema@.pems_pull_missing m
        WHERE m.job_id = job AND m.pfa_id = (SELECT min(f.pfa_id) FROM @extschema@.pems_pull_missing f
                                             WHERE f.job_id = job);
    END IF;
    IF pull.cancelled_by IS NOT NULL THEN
        RETURN ARRAY[@extschema@._pems_pull_end(job, 'cancelled'::text, NULL::text, NULL::text)];
    ELSIF pull.phase = 'reading' OR (pull.phase = 'listing' AND pull.cursor IS NULL AND pull.mode = 'delta')
          OR (pull.phase = 'confirming'
              AND NOT EXISTS (SELECT FROM @extschema@.pems_pull_missing m WHERE m.job_id = job)) THEN
        RETURN ARRAY[@extschema@._pems_pull_complete(job)];
    ELSIF pull.phase = 'listing' AND pull.cursor IS NULL THEN
        UPDATE @extschema@.pems_pull_state s
        SET phase = 'counting', known = 0, known_hash = 0, walked_to = '', missing = 0 WHERE s.job_id = job;
    END IF;
    RETURN NULL;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_next(text) IS 'Internal: what follows when an answer was dealt with';

/*
 * _pems_pull_page_done(job, repeated, next_cursor, cursor_count, cursor_last, cursor_kept, newest, changed, counts):
 * the last slice of a page, or a record, is stored: in the same transaction.
 *
 * Parameters:
 *   repeated      records that the page had twice
 *   next_cursor   NULL: the listing ends here
 *   cursor_…      what is remembered of cursors
 *   newest        the newest updatedAt of the page; NULL: it has none
 *   changed, counts  of the whole page, for listeners
 * Returns: messages for listeners; NULL: none.
 * Tables: pems_pull_state.
 */
CREATE FUNCTION @extschema@._pems_pull_page_done(
    job text, repeated integer, next_cursor text, cursor_count bigint, cursor_last bigint, cursor_kept bigint,
    newest text, changed text[], counts integer[])
RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    organization text;
BEGIN
    UPDATE @extschema@.pems_pull_state s
    SET pages = s.pages + CASE WHEN s.phase = 'listing' THEN 1 ELSE 0 END,
        records = s.records + repeated, unchanged = s.unchanged + repeated,
        cursor = CASE WHEN s.phase = 'listing' THEN next_cursor END,
        cursor_count = $4, cursor_last = $5, cursor_kept = $6,
        newest_updated_at = CASE WHEN s.phase = 'listing' THEN greatest(s.newest_updated_at, newest::timestamptz)
                                 ELSE s.newest_updated_at END
    WHERE s.job_id = job RETURNING s.organization_id INTO organization;
    RETURN array_remove(@extschema@._pems_pull_message(organization, changed, counts)
                        || coalesce(@extschema@._pems_pull_next(job), '{}'), NULL);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_page_done(
    text, integer, text, bigint, bigint, bigint, text, text[], integer[]) IS
    'Internal: a page of a pull is stored whole';

/*
 * _pems_pull_gone(job, gone, refused): PEMS has not got the record that was asked for, or does not show it.
 *
 * Parameters: gone: it is marked as deleted; false: it stays as it is (of those that are confirmed, one that PEMS does
 *   not let us see); refused: what the application's tables said when it was to be marked, which goes into quarantine;
 *   NULL: nothing yet.
 * Returns: messages for listeners; NULL: none.
 * Tables: pems_pull_state, pems_quarantined, pfa_mirror.
 */
CREATE FUNCTION @extschema@._pems_pull_gone(job text, gone boolean, refused text) RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    pull  @extschema@.pems_pull_state;
    asked text;
    known record;
BEGIN
    SELECT s.* INTO pull FROM @extschema@.pems_pull_state s
    WHERE s.job_id = job AND s.under_way FOR NO KEY UPDATE NOWAIT;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    asked := coalesce(pull.pfa_id, (SELECT min(m.pfa_id) FROM @extschema@.pems_pull_missing m WHERE m.job_id = job));
    IF refused IS NOT NULL THEN
        PERFORM @extschema@._pems_pull_quarantine(pull.organization_id, job, ARRAY[asked], ARRAY[refused],
                                                  ARRAY[NULL::text], ARRAY[true]);
        UPDATE @extschema@.pems_pull_state s SET quarantined = s.quarantined + 1 WHERE s.job_id = job;
        RETURN @extschema@._pems_pull_next(job);
    END IF;
    SELECT m.version, m.data, m.deleted_at INTO known FROM @extschema@.pfa_mirror m
    WHERE m.organization_id = pull.organization_id AND m.pfa_id = asked FOR NO KEY UPDATE NOWAIT;
    IF NOT FOUND AND pull.pfa_id IS NOT NULL AND gone THEN
        RETURN ARRAY[@extschema@._pems_pull_end(job, 'completed_with_failures'::text, 'NOT_FOUND'::text,
                                                'PEMS has no such record, nor has the mirror'::text)];
    ELSIF known.version IS NOT NULL AND known.deleted_at IS NULL AND gone THEN
        PERFORM @extschema@._pems_app_write_mirror(ARRAY[pull.organization_id], ARRAY[asked], ARRAY[known.version],
                                                   ARRAY[known.data], ARRAY[true]);
        UPDATE @extschema@.pems_pull_state s SET deleted = s.deleted + 1 WHERE s.job_id = job;
        DELETE FROM @extschema@.pems_quarantined q
        WHERE q.organization_id = pull.organization_id AND q.pfa_id = asked AND q.identified;
        RETURN array_remove(@extschema@._pems_pull_message(pull.organization_id, ARRAY[asked], ARRAY[0, 0, 1])
                            || coalesce(@extschema@._pems_pull_next(job), '{}'), NULL);
    END IF;
    RETURN @extschema@._pems_pull_next(job);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_gone(text, boolean, text) IS
    'Internal: PEMS has not got a record that was asked for';

/*
 * _pems_pull_failed(job, delay_ms, failures, gone_before, error_code, error, begin_again, is_final, refused): a request
 * has failed, or has to be made again.
 *
 * Parameters: delay_ms: how long the pull waits; begin_again: with the first page; is_final: it ends; refused: PEMS
 *   refuses the credential, and the organization is paused.
 * Returns: messages for listeners; NULL: none.
 * Tables: pems_pull_state, pems_pause.
 */
CREATE FUNCTION @extschema@._pems_pull_failed(
    job text, delay_ms bigint, failures integer, gone_before boolean, error_code text, error text,
    begin_again boolean, is_final boolean, refused boolean)
RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    pull     @extschema@.pems_pull_state;
    messages text[];
BEGIN
    UPDATE @extschema@.pems_pull_state s
    SET under_way = false, failures = $3, gone_before = $4, error_code = $5, last_error = $6,
        next_at = clock_timestamp() + delay_ms * interval '1 millisecond'
    WHERE s.job_id = job AND s.phase <> 'ended' RETURNING s.* INTO pull;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF refused THEN
        messages := array_remove(ARRAY[@extschema@._pems_pause_refused(pull.organization_id, error)], NULL);
    END IF;
    IF pull.cancelled_by IS NOT NULL THEN
        RETURN messages || @extschema@._pems_pull_end(job, 'cancelled'::text, NULL::text, NULL::text);
    ELSIF is_final THEN
        RETURN messages || @extschema@._pems_pull_end(job, 'completed_with_failures'::text, error_code, error);
    ELSIF begin_again THEN
        UPDATE @extschema@.pems_pull_state s SET restarted = true WHERE s.job_id = job RETURNING s.* INTO pull;
        PERFORM @extschema@._pems_pull_begin_listing(pull);
    END IF;
    RETURN messages;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_failed(
    text, bigint, integer, boolean, text, text, boolean, boolean, boolean) IS
    'Internal: a request of a pull has failed';

/*
 * _pems_pull_schedule(organization_ids): begins the deltas whose time has come (pems_sync.pull_interval), and says when
 * the next one is due.  The first ones are spread over the interval.
 *
 * Tables: pems_pull_organization, pems_sync_job, pems_pull_state.
 */
CREATE FUNCTION @extschema@._pems_pull_schedule(organization_ids text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    interval_s CONSTANT integer := @extschema@._pems_setting('pull_interval'::text)::integer;
    every      CONSTANT interval := interval_s * interval '1 second';
    due        record;
BEGIN
    IF interval_s = 0 THEN
        RETURN;
    END IF;
    INSERT INTO @extschema@.pems_pull_organization AS o (organization_id, next_delta_at)
    SELECT g.id, clock_timestamp() + random() * every FROM unnest(organization_ids) g (id)
    JOIN @extschema@.organization a ON a.id = g.id
    WHERE NOT EXISTS (SELECT FROM @extschema@.pems_pull_organization p
                      WHERE p.organization_id = g.id
                        -- also where the interval was longer, or the clock was set back
                        AND p.next_delta_at <= clock_timestamp() + every)
    ON CONFLICT (organization_id) DO UPDATE SET next_delta_at = excluded.next_delta_at;
    FOR due IN
        SELECT p.organization_id FROM @extschema@.pems_pull_organization p
        WHERE p.organization_id = ANY (organization_ids) AND p.next_delta_at <= clock_timestamp()
        ORDER BY p.next_delta_at LIMIT 100
    LOOP
        -- a session that has asked for a pull, and has not committed
        CONTINUE WHEN NOT pg_try_advisory_xact_lock(
            '@extschema@.pems_pull_state'::regclass::oid::bigint::integer, hashtext(due.organization_id));
        PERFORM @extschema@._pems_begin_pull(due.organization_id, NULL::text, 'delta'::text, 'pems_sync'::text);
        UPDATE @extschema@.pems_pull_organization p SET next_delta_at = clock_timestamp() + every
        WHERE p.organization_id = due.organization_id;
    END LOOP;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_schedule(text[]) IS 'Internal: begins the deltas whose time has come';

/*
 * _pems_pull_due(organization_ids, most): the pulls of these organizations that may go on now, and mark them so: at
 * most one per organization, a single record before a listing, and of listings the one that was asked for first.
 *
 * Returns: one row each; phase: reading, confirming (asked: the record) or listing: a request is to be made; counting,
 *   sorting, searching: _pems_pull_search() is to be called.
 * Tables: pems_pull_state, pems_pull_missing; reads pems_pause.
 */
CREATE FUNCTION @extschema@._pems_pull_due(organization_ids text[], most integer)
RETURNS TABLE (
    job_id text, organization_id text, phase text, asked text, updated_since text, cursor text, requests integer,
    failures integer, restarted boolean, gone_before boolean, cursor_count bigint, cursor_last bigint,
    cursor_kept bigint, stored integer)
LANGUAGE plpgsql VOLATILE ROWS 10 SET search_path = pg_catalog, pg_temp AS $function$
#variable_conflict use_column
DECLARE
    pull @extschema@.pems_pull_state;
BEGIN
    FOR pull IN
        SELECT n.* FROM unnest(organization_ids) WITH ORDINALITY AS g (id, turn)
        CROSS JOIN LATERAL (
            SELECT f.* FROM (
                (SELECT p.* FROM @extschema@.pems_pull_state p
                 WHERE p.organization_id = g.id AND p.phase <> 'ended' AND p.pfa_id IS NOT NULL
                   AND p.next_at <= clock_timestamp()
                 ORDER BY p.job_id LIMIT 1)
                UNION ALL
                (SELECT l.* FROM (SELECT p.* FROM @extschema@.pems_pull_state p
                                  WHERE p.organization_id = g.id AND p.phase <> 'ended' AND p.pfa_id IS NULL
                                  ORDER BY p.job_id LIMIT 1) l
                 WHERE l.next_at <= clock_timestamp())) f
            LIMIT 1) n
        WHERE NOT EXISTS (SELECT FROM @extschema@.pems_pause p WHERE p.organization_id IN (g.id, '*'))
        ORDER BY n.pfa_id IS NULL, g.turn LIMIT most
    LOOP
        -- a session that has cancelled it, and has not committed; the others go on
        PERFORM FROM @extschema@.pems_pull_state s
        WHERE s.job_id = pull.job_id AND s.phase <> 'ended' FOR NO KEY UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        IF pull.phase = 'waiting' AND pull.pfa_id IS NULL THEN
            PERFORM @extschema@._pems_pull_begin_listing(pull);
        END IF;
        UPDATE @extschema@.pems_pull_state s
        SET under_way = true,
            requests = s.requests + CASE WHEN s.phase IN ('counting', 'sorting', 'searching') THEN 0 ELSE 1 END,
            phase = CASE s.phase WHEN 'waiting' THEN 'reading' ELSE s.phase END,
            started_at = coalesce(s.started_at, clock_timestamp())
        WHERE s.job_id = pull.job_id RETURNING s.* INTO pull;
        RETURN QUERY SELECT
            pull.job_id, pull.organization_id, pull.phase,
            CASE pull.phase WHEN 'reading' THEN pull.pfa_id
                            WHEN 'confirming' THEN (SELECT min(m.pfa_id) FROM @extschema@.pems_pull_missing m
                                                    WHERE m.job_id = pull.job_id) END,
            to_char(pull.updated_since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), pull.cursor,
            pull.requests, pull.failures, pull.restarted, pull.gone_before, pull.cursor_count, pull.cursor_last,
            pull.cursor_kept, pull.stored;
    END LOOP;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_due(text[], integer) IS
    'Internal: pulls that may go on now, at most one per organization';

/*
 * _pems_pull_times(organization_ids): which of these organizations have something to pull, and from when on, as
 * _pems_pull_due() sees it: of listings the first that was asked for counts, and what is paused has nothing.  Nor have
 * those whose pull is under way.
 * Tables: pems_pull_state, pems_pull_organization; reads pems_pause.
 */
CREATE FUNCTION @extschema@._pems_pull_times(organization_ids text[])
RETURNS TABLE (organization_id text, next_at timestamptz)
LANGUAGE plpgsql STABLE ROWS 100 SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RETURN QUERY
    SELECT g.id, t.at FROM unnest(organization_ids) g (id)
    CROSS JOIN LATERAL (
        SELECT least(
            (SELECT min(s.next_at) FROM @extschema@.pems_pull_state s
             WHERE s.organization_id = g.id AND s.phase <> 'ended' AND s.pfa_id IS NOT NULL AND NOT s.under_way),
            (SELECT CASE WHEN NOT s.under_way THEN s.next_at END FROM @extschema@.pems_pull_state s
             WHERE s.organization_id = g.id AND s.phase <> 'ended' AND s.pfa_id IS NULL
             ORDER BY s.job_id LIMIT 1),
            (SELECT o.next_delta_at FROM @extschema@.pems_pull_organization o
             WHERE o.organization_id = g.id AND @extschema@._pems_setting('pull_interval'::text) <> '0')) AS at) t
    WHERE t.at IS NOT NULL
      AND NOT EXISTS (SELECT FROM @extschema@.pems_pause p WHERE p.organization_id IN (g.id, '*'));
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_times(text[]) IS
    'Internal: which organizations have something to pull, and from when on';

/*
 * _pems_pull_put_back(): takes up what a worker left under way when it ended.  Its answers will never come: the same
 * requests are made again.  What was stored of a page comes once more with it, so that it is taken out of the counters:
 * then it changes nothing.  Pulls that were cancelled meanwhile end.
 * Tables: pems_pull_state.
 */
CREATE FUNCTION @extschema@._pems_pull_put_back() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    UPDATE @extschema@.pems_pull_state s
    SET under_way = false, stored = 0, stored_stale = 0, stored_bad = 0, records = s.records - s.stored,
        unchanged = s.unchanged - (s.stored - s.stored_stale - s.stored_bad),
        stale = s.stale - s.stored_stale, quarantined = s.quarantined - s.stored_bad,
        next_at = least(s.next_at, clock_timestamp())
    WHERE s.phase <> 'ended' AND s.under_way;
    PERFORM @extschema@._pems_pull_end(s.job_id, 'cancelled'::text, NULL::text, NULL::text)
    FROM @extschema@.pems_pull_state s WHERE s.phase <> 'ended' AND s.cancelled_by IS NOT NULL;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_put_back() IS
    'Internal: takes up the pulls that a worker left under way';

/*
 * _pems_pull_search(job, most): the next slice of the search for records that a complete listing has not shown.
 *
 *   counting   The records of the mirror are counted.  Where their number and hash are those of what was seen, nothing
 *              is missing, and that is all.
 *   sorting    What was seen is sorted, to be looked up.
 *   searching  The records of the mirror are looked up.  One that is not there is missing, unless it came or changed
 *              after the listing had begun, or an edit of it is not finished.  Where more are missing than
 *              pems_sync.pull_max_missing allows, the search ends.
 *
 * Parameters: most: records of the slice.
 * Returns: done: the search has ended; known, missing: records of the mirror, and how many of them are missing.
 * Tables: pems_pull_state, pems_pull_sorted, pems_pull_sorted_slice, pems_pull_missing; reads pems_pull_seen,
 *   pfa_mirror, pems_mirror_version, pfa_write_queue.
 */
CREATE FUNCTION @extschema@._pems_pull_search(
    job text, most integer, OUT done boolean, OUT known bigint, OUT missing bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    pull  @extschema@.pems_pull_state;
    slice record;
    lost  text[];
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT s.* INTO pull FROM @extschema@.pems_pull_state s
    WHERE s.job_id = job AND s.under_way FOR NO KEY UPDATE NOWAIT;
    done := NOT FOUND OR pull.cancelled_by IS NOT NULL;
    IF done THEN
        RETURN;
    END IF;
    IF pull.phase = 'sorting' THEN
        SELECT s.seq, s.pfa_ids INTO slice FROM @extschema@.pems_pull_seen s
        WHERE s.job_id = job
          AND s.seq > coalesce((SELECT max(d.seq) FROM @extschema@.pems_pull_sorted_slice d WHERE d.job_id = job), 0)
        ORDER BY s.seq LIMIT 1;
        IF FOUND THEN
            INSERT INTO @extschema@.pems_pull_sorted (job_id, pfa_id) SELECT job, u.id FROM unnest(slice.pfa_ids) u (id)
            ON CONFLICT DO NOTHING;
            INSERT INTO @extschema@.pems_pull_sorted_slice (job_id, seq) VALUES (job, slice.seq);
        ELSE
            UPDATE @extschema@.pems_pull_state s SET phase = 'searching', walked_to = '', missing = 0
            WHERE s.job_id = job;
            DELETE FROM @extschema@.pems_pull_missing m WHERE m.job_id = job;
        END IF;
        RETURN;
    END IF;
    IF pull.phase = 'searching'
       AND (SELECT max(s.seq) FROM @extschema@.pems_pull_seen s WHERE s.job_id = job)
           IS DISTINCT FROM
           (SELECT max(d.seq) FROM @extschema@.pems_pull_sorted_slice d WHERE d.job_id = job) THEN
        -- a crash has emptied what was sorted
        UPDATE @extschema@.pems_pull_state s SET phase = 'sorting' WHERE s.job_id = job;
        RETURN;
    END IF;

    WITH walked AS MATERIALIZED (
        SELECT m.pfa_id, m.deleted_at IS NULL AS is_alive FROM @extschema@.pfa_mirror m
        WHERE m.organization_id = pull.organization_id AND m.pfa_id > pull.walked_to
        ORDER BY m.pfa_id LIMIT most
    )
    SELECT count(*) AS walked, max(w.pfa_id) AS walked_to, count(*) FILTER (WHERE w.is_alive) AS alive,
           coalesce(bit_xor(@extschema@._pems_pull_hash(w.pfa_id)) FILTER (WHERE w.is_alive), 0) AS hash,
           array_agg(w.pfa_id) FILTER (WHERE w.is_alive) AS ids
    INTO slice FROM walked w;
    IF pull.phase = 'counting' THEN
        UPDATE @extschema@.pems_pull_state s
        SET walked_to = coalesce(slice.walked_to, s.walked_to), known = s.known + slice.alive,
            known_hash = s.known_hash # slice.hash
        WHERE s.job_id = job RETURNING s.* INTO pull;
        IF slice.walked < most THEN
            done := pull.known = pull.seen AND pull.known_hash = pull.seen_hash;
            UPDATE @extschema@.pems_pull_state s SET phase = CASE WHEN done THEN 'searching' ELSE 'sorting' END
            WHERE s.job_id = job;
        END IF;
    ELSE
        lost := ARRAY(
            SELECT u.id FROM unnest(slice.ids) u (id)
            WHERE NOT EXISTS (SELECT FROM @extschema@.pems_pull_sorted p WHERE p.job_id = job AND p.pfa_id = u.id)
              AND coalesce((SELECT v.recorded_at FROM @extschema@.pems_mirror_version v
                            WHERE v.organization_id = pull.organization_id AND v.pfa_id = u.id
                            ORDER BY v.state_seq DESC LIMIT 1) < pull.listing_since, true)
              AND NOT EXISTS (SELECT FROM @extschema@.pfa_write_queue q
                              WHERE q.organization_id = pull.organization_id AND q.pfa_id = u.id AND q.unfinished
                                AND q.status IN ('pending', 'processing')));
        INSERT INTO @extschema@.pems_pull_missing (job_id, pfa_id) SELECT job, u.id FROM unnest(lost) u (id);
        UPDATE @extschema@.pems_pull_state s
        SET walked_to = coalesce(slice.walked_to, s.walked_to), missing = s.missing + cardinality(lost)
        WHERE s.job_id = job RETURNING s.* INTO pull;
        done := slice.walked < most
                OR pull.missing * 100 > pull.known * @extschema@._pems_setting('pull_max_missing'::text)::integer;
    END IF;
    known := pull.known;
    missing := pull.missing;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_search(text, integer) IS
    'Internal: searches for records that a complete listing has not shown';

/*
 * _pems_pull_searched(job, error): the search has ended.
 *
 * Parameters: error: why nothing may be marked as deleted: the listing may not have been complete; NULL: what is
 *   missing is asked for, one by one.
 * Returns: messages for listeners; NULL: none.
 * Tables: pems_pull_state, pems_pull_missing, pems_pull_sorted, pems_pull_sorted_slice.
 */
CREATE FUNCTION @extschema@._pems_pull_searched(job text, error text) RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    -- seconds between the listing and the first question: a replica that lags may catch up
    pause CONSTANT interval := interval '5 seconds';
    pull  @extschema@.pems_pull_state;
BEGIN
    SELECT s.* INTO pull FROM @extschema@.pems_pull_state s
    WHERE s.job_id = job AND s.phase IN ('counting', 'sorting', 'searching') AND s.under_way FOR NO KEY UPDATE NOWAIT;
    IF NOT FOUND THEN
        RETURN NULL;
    ELSIF pull.cancelled_by IS NOT NULL THEN
        RETURN ARRAY[@extschema@._pems_pull_end(job, 'cancelled'::text, NULL::text, NULL::text)];
    ELSIF error IS NOT NULL THEN
        RETURN ARRAY[@extschema@._pems_pull_end(job, 'completed_with_failures'::text, 'TOO_MANY_MISSING'::text,
                                                error)];
    ELSIF NOT EXISTS (SELECT FROM @extschema@.pems_pull_missing m WHERE m.job_id = job) THEN
        RETURN ARRAY[@extschema@._pems_pull_complete(job)];
    END IF;
    UPDATE @extschema@.pems_pull_state s
    SET phase = 'confirming', under_way = false, next_at = clock_timestamp() + pause
    WHERE s.job_id = job;
    -- here and not when a user cancels the pull: a TRUNCATE in a user's transaction would lock out the worker
    PERFORM @extschema@._pems_pull_empty_sorted(job);
    RETURN NULL;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_searched(text, text) IS
    'Internal: the search for missing records has ended';
