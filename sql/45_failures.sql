/*
 * 45_failures: the worker after a failure: items of which nobody knows whether they were sent, whose reports cannot be
 * recorded, or that cannot be claimed.
 */

/*
 * _pems_put_back_items(item_ids): puts those of these items back into the queue that are in processing.  Nobody knows
 * whether their writes arrived: each gets its row in the audit log, and the next request for it is a read, two seconds
 * from now, because PEMS may still be working on the write (the claim may be older than the request).
 *
 * Returns: number of items.
 * Tables: pfa_write_queue, pems_recheck, pems_audit_log.
 */
CREATE FUNCTION @extschema@._pems_put_back_items(item_ids text[]) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    put_back integer;
BEGIN
    WITH abandoned AS (
        SELECT q.id, q.next_request FROM @extschema@.pfa_write_queue q
        WHERE q.id = ANY (item_ids) AND q.status = 'processing' FOR NO KEY UPDATE
    ), put_back AS (
        UPDATE @extschema@.pfa_write_queue q
        SET status = 'pending', waits_for = 'time', claim_token = nextval('@extschema@.pems_claim_order'),
            scheduled_at = clock_timestamp() + interval '2 seconds',
            outcome_unknown = q.outcome_unknown OR q.next_request = 'write',
            next_request = CASE q.next_request WHEN 'write' THEN 'read' ELSE q.next_request END,
            error_code = 'OUTCOME_UNKNOWN', last_error = 'The worker ended before the answer of PEMS was recorded.'
        FROM abandoned a WHERE q.id = a.id
        RETURNING q.*, a.next_request AS lost_request
    ), recheck AS (
        INSERT INTO @extschema@.pems_recheck (organization_id, pfa_id)
        SELECT b.organization_id, b.pfa_id FROM put_back b
    )
    INSERT INTO @extschema@.pems_audit_log
        (event_type, organization_id, pfa_id, modification_id, item_id, job_id, actor, attempt, http_method, error_code,
         error)
    SELECT CASE b.lost_request WHEN 'write' THEN 'WRITE_ATTEMPT' ELSE 'READ_ATTEMPT' END, b.organization_id, b.pfa_id,
           b.modification_id, b.id, b.job_id, 'pems_sync', b.attempt,
           CASE WHEN b.lost_request <> 'write' THEN 'GET' WHEN b.operation = 'DELETE' THEN 'DELETE' ELSE 'PUT' END,
           b.error_code, b.last_error
    FROM put_back b;
    GET DIAGNOSTICS put_back = ROW_COUNT;
    RETURN put_back;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_put_back_items(text[]) IS
    'Internal: puts those of these items back into the queue that are in processing';

/*
 * _pems_put_back_orphans(): takes up the items that a worker left in processing when it ended, at most 1000.
 * Called until it finds none, before the first claim: there is one worker per database, so every claim that is there
 * belongs to one that has ended.
 *
 * Before that, no sequence stays behind what a dump has brought.
 *
 * They stand in pems_claim.  If the statistics know of more in processing (an administrator's UPDATE, say), all that
 * is unfinished is looked through.
 *
 * Returns: number of items.
 * Tables: pems_claim, pems_sync_stats, pfa_write_queue.
 */
CREATE FUNCTION @extschema@._pems_put_back_orphans() RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    most CONSTANT integer := 1000;
    put_back       integer;
BEGIN
    PERFORM @extschema@._pems_keep_order();
    put_back := @extschema@._pems_put_back_items(ARRAY(
        SELECT DISTINCT i.id FROM @extschema@.pems_claim c CROSS JOIN LATERAL unnest(c.item_ids) i (id)
        JOIN @extschema@.pfa_write_queue q ON q.id = i.id AND q.status = 'processing' LIMIT most));
    IF put_back = most THEN
        RETURN put_back;
    END IF;
    DELETE FROM @extschema@.pems_claim;
    IF (SELECT s.processing
        FROM @extschema@._pems_sums(NULL::text, 'infinity'::timestamptz, 'infinity'::timestamptz) s) <> 0 THEN
        put_back := put_back + @extschema@._pems_put_back_items(ARRAY(
            SELECT q.id FROM @extschema@.pfa_write_queue q
            WHERE q.unfinished AND q.status = 'processing' LIMIT most - put_back));
    END IF;
    RETURN put_back;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_put_back_orphans() IS
    'Internal: puts back what a worker that has ended left in processing';

/*
 * _pems_give_up(report, problem): the report on an item cannot be recorded, because something in the database (a
 * trigger on the application's table, say) raises an error or takes too long.  The item becomes a dead letter without
 * touching the application's tables, so that it does not block the others; _pems_mark_failed() then shows it there, if
 * that is possible.  The audit log has both what PEMS said and what the database said.
 *
 * Parameters: problem: what the database said.
 * Returns: messages for _pems_send_notifications(); NULL: the item is no longer ours, and nothing was done.
 * Tables: pfa_write_queue, pems_recheck, pems_audit_log.
 */
CREATE FUNCTION @extschema@._pems_give_up(report @extschema@._pems_report, problem text) RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    WITH changed AS (
        UPDATE @extschema@.pfa_write_queue q
        SET status = 'failed', error_code = 'DATABASE_ERROR', completed_at = clock_timestamp(),
            outcome_unknown = q.outcome_unknown OR (q.next_request = 'write' AND report.http_method IS NOT NULL),
            next_request = CASE q.next_request WHEN 'write' THEN 'read' ELSE q.next_request END,
            last_error = 'The database could not record the outcome: ' || problem
        WHERE q.id = report.item_id AND q.claim_token = report.claim_token AND q.status = 'processing'
        RETURNING q.*
    ), recheck AS (
        INSERT INTO @extschema@.pems_recheck (organization_id, pfa_id) SELECT c.organization_id, c.pfa_id FROM changed c
    )
    INSERT INTO @extschema@.pems_audit_log
        (event_type, organization_id, pfa_id, modification_id, item_id, job_id, actor, attempt, http_method,
         path, http_status, latency_ms, request, response, error_code, error)
    -- what was decided without a request (a conflict, nothing to send) is no attempt
    SELECT CASE WHEN report.http_method IS NULL THEN 'RECORDING_FAILED' ELSE report.event_type END, c.organization_id,
           c.pfa_id, c.modification_id, c.id, c.job_id, 'pems_sync', c.attempt, report.http_method, report.path,
           report.http_status, report.latency_ms, report.request, report.response, c.error_code, c.last_error
    FROM changed c;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    report.new_status := 'failed';
    report.error := problem;
    RETURN @extschema@._pems_messages(ARRAY[report]);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_give_up(@extschema@._pems_report, text) IS
    'Internal: makes a dead letter of an item whose report the database refuses to record; returns what listeners '
    'are to be told';

/*
 * _pems_mark_failed(item_ids): shows those of these items that are dead letters as failed in the application's table,
 * whose triggers may refuse it.
 * Tables: pfa_write_queue, pfa_modification.
 */
CREATE FUNCTION @extschema@._pems_mark_failed(item_ids text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    PERFORM @extschema@._pems_app_mark(array_agg(q.modification_id), array_agg('failed'::text),
                                        array_agg(NULL::integer),
                array_agg(q.last_error))
    FROM @extschema@.pfa_write_queue q
    WHERE q.id = ANY (item_ids) AND q.status = 'failed'
    HAVING count(*) > 0;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_mark_failed(text[]) IS
    'Internal: sync_status failed for items that are dead letters';

/*
 * _pems_backoff(retry): how long an item waits before that retry: as pems_retry_backoff_ms() in src/pems/retry.c.
 * Parameters: retry: 0 is the first.
 * Returns: the wait, plus or minus 10 % at random.
 */
CREATE FUNCTION @extschema@._pems_backoff(retry integer) RETURNS interval
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT least(least(@extschema@._pems_setting('retry_delay'::text)::double precision * 2 ^ least(retry, 30), 3600000)
                 * (0.9 + 0.2 * random()), 3600000) * interval '1 millisecond'
$function$;
COMMENT ON FUNCTION @extschema@._pems_backoff(integer) IS 'Internal: how long an item waits before that retry';

/*
 * _pems_postpone_first(organization_id, after_at, after_seq, problem): the claim of one item of an organization fails,
 * because something that is read with it (its mirror, a version of the history) cannot be read.  The item that such a
 * claim would get waits as after any failure that may pass, and becomes a dead letter when its retries are used up.
 * Reads nothing but the queue.
 *
 * Parameters:
 *   after_at, after_seq  three positions, as for _pems_claim()
 *   problem              what the database said
 * Returns: item_id (NULL: there is none); failed: it is a dead letter now; messages for _pems_send_notifications().
 * Tables: pfa_write_queue, pems_audit_log.
 */
CREATE FUNCTION @extschema@._pems_postpone_first(
    organization_id text, after_at timestamptz[], after_seq bigint[], problem text,
    OUT item_id text, OUT failed boolean, OUT messages text[])
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    changed record;
    report @extschema@._pems_report;
BEGIN
    SELECT f.id, f.retry_count >= f.max_retries INTO item_id, failed
    FROM (VALUES (10, 1), (0, 2), (-10, 3)) AS p (priority, element)
    CROSS JOIN LATERAL (
        SELECT q.id, q.retry_count, q.max_retries FROM @extschema@.pfa_write_queue q
        WHERE q.organization_id = $1 AND q.open AND q.waits_for IS NULL AND q.priority = p.priority
          AND (q.scheduled_at, q.commit_seq) > (after_at[p.element], after_seq[p.element]) AND q.status = 'pending'
        ORDER BY q.scheduled_at, q.commit_seq LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) f
    ORDER BY p.element LIMIT 1;
    IF item_id IS NULL THEN
        RETURN;
    END IF;
    UPDATE @extschema@.pfa_write_queue q
    SET status = CASE WHEN failed THEN 'failed' ELSE 'pending' END, waits_for = CASE WHEN NOT failed THEN 'time' END,
        completed_at = CASE WHEN failed THEN clock_timestamp() END,
        scheduled_at = CASE WHEN failed THEN q.scheduled_at
                            ELSE clock_timestamp() + @extschema@._pems_backoff(q.retry_count) END,
        retry_count = q.retry_count + CASE WHEN failed THEN 0 ELSE 1 END,
        error_code = 'DATABASE_ERROR', last_error = 'The database could not read what the item needs: ' || problem
    WHERE q.id = item_id
    -- not the payload, which may be what cannot be read
    RETURNING q.status, q.organization_id, q.pfa_id, q.modification_id, q.job_id, q.error_code, q.last_error
    INTO changed;
    INSERT INTO @extschema@.pems_audit_log
        (event_type, organization_id, pfa_id, modification_id, item_id, job_id, actor, error_code, error)
    VALUES ('NOT_SENT', changed.organization_id, changed.pfa_id, changed.modification_id, item_id, changed.job_id,
            'pems_sync',
            changed.error_code, changed.last_error);
    report.organization_id := changed.organization_id;
    report.pfa_id := changed.pfa_id;
    report.modification_id := changed.modification_id;
    report.job_id := changed.job_id;
    report.new_status := changed.status;
    report.delay_ms := 1;
    report.error := changed.last_error;
    messages := @extschema@._pems_messages(ARRAY[report]);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_postpone_first(text, timestamptz[], bigint[], text) IS
    'Internal: the first item of an organization after these positions cannot be claimed: it waits, and is a dead '
    'letter in the end';
