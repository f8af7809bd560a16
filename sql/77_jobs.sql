/*
 * 77_jobs: what became of jobs: pems_sync_history() lists them, pems_job() shows one with its items.
 *
 * How a job stands is nowhere stored: it follows from its items, so that no item that ends has to write its job.  The
 * queue's index by job answers it (pfa_write_queue_job), and a second one finds jobs by the few results that are rare
 * (pfa_write_queue_result).  Only what the queue does not have any more is kept in the job, as past_synced and so on
 * (_pems_keep_results()), and the status of a pull, which has no items.
 */

/*
 * _pems_keep_results(job_ids, results, ended_at): these items are about to be, or are already, none of their jobs any
 * more: their jobs keep how many they were.  The arrays go in step, an element for each item.
 * Tables: pems_sync_job (locked in the order of the ids).
 */
CREATE FUNCTION @extschema@._pems_keep_results(job_ids text[], results text[], ended_at timestamptz[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
BEGIN
    PERFORM FROM (SELECT DISTINCT u.id FROM unnest(job_ids) u (id) ORDER BY u.id) w
    CROSS JOIN LATERAL (SELECT j.id FROM @extschema@.pems_sync_job j WHERE j.id = w.id FOR NO KEY UPDATE) l;
    UPDATE @extschema@.pems_sync_job j
    SET past_synced = j.past_synced + c.synced, past_failed = j.past_failed + c.failed,
        past_cancelled = j.past_cancelled + c.cancelled, finished_at = greatest(j.finished_at, c.last_at)
    FROM (SELECT u.job_id, count(*) FILTER (WHERE u.result = 'completed') AS synced,
                 count(*) FILTER (WHERE u.result = 'failed') AS failed,
                 count(*) FILTER (WHERE u.result = 'cancelled') AS cancelled, max(u.at) AS last_at
          FROM unnest(job_ids, results, ended_at) u (job_id, result, at) GROUP BY u.job_id) c
    WHERE j.id = c.job_id;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_keep_results(text[], text[], timestamptz[]) IS
    'Internal: jobs keep what became of items that are none of theirs any more';

/*
 * _pems_job_status(job_id, status, past_synced, past_failed, past_cancelled): how a job stands, looking at no more than
 * one item of each result.  Written to be inlined into its query: no SET clause.
 *
 * Parameters: those of the job's row; status: of a pull.
 * Returns: one row: found_status:
 *   running                  an item waits or is being sent
 *   completed_with_failures  none does, and one failed (also where it was retried since, by another job)
 *   completed_with_conflicts none does or failed, and one is in conflict
 *   cancelled                all were taken back
 *   completed                else
 * Tables: pfa_write_queue.
 */
CREATE FUNCTION @extschema@._pems_job_status(
    job_id text, status text, past_synced integer, past_failed integer, past_cancelled integer)
RETURNS TABLE (found_status text)
LANGUAGE sql STABLE ROWS 1 AS $function$
    SELECT CASE
        WHEN $2 IS NOT NULL THEN $2
        WHEN EXISTS (SELECT FROM @extschema@.pfa_write_queue q WHERE q.job_id = $1 AND q.result = 'open')
        THEN 'running'
        WHEN $4 > 0 OR EXISTS (SELECT FROM @extschema@.pfa_write_queue q WHERE q.job_id = $1 AND q.result = 'failed')
        THEN 'completed_with_failures'
        WHEN EXISTS (SELECT FROM @extschema@.pfa_write_queue q WHERE q.job_id = $1 AND q.result = 'conflict')
        THEN 'completed_with_conflicts'
        WHEN $3 > 0 OR EXISTS (SELECT FROM @extschema@.pfa_write_queue q
                               WHERE q.job_id = $1 AND q.result = 'completed')
        THEN 'completed'
        WHEN $5 > 0 OR EXISTS (SELECT FROM @extschema@.pfa_write_queue q
                               WHERE q.job_id = $1 AND q.result = 'cancelled')
        THEN 'cancelled'
        ELSE 'completed' END
$function$;
COMMENT ON FUNCTION @extschema@._pems_job_status(text, text, integer, integer, integer) IS
    'Internal: how a job stands';

/*
 * _pems_job_details(job): what jobs of its kind have besides, as members for pems_job(): of a pull its mode, phase,
 * counters and progress.  {}: nothing.
 */
CREATE FUNCTION @extschema@._pems_job_details(job @extschema@.pems_sync_job) RETURNS jsonb
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT coalesce((SELECT jsonb_build_object(
        'mode', p.mode, 'pfaId', p.pfa_id, 'phase', p.phase, 'pages', p.pages, 'records', p.records,
        'created', p.created, 'updated', p.updated, 'deleted', p.deleted, 'unchanged', p.unchanged, 'stale', p.stale,
        'quarantined', p.quarantined, 'missing', p.missing, 'recordsPerSecond', p.records_per_second,
        'percent', p.percent, 'etaSeconds', p.eta_seconds, 'cancelledBy', p.cancelled_by,
        'errorCode', p.error_code, 'error', p.last_error)
        FROM @extschema@._pems_pull_progress(job) p), '{}')
$function$;
COMMENT ON FUNCTION @extschema@._pems_job_details(@extschema@.pems_sync_job) IS
    'Internal: what jobs of a kind have besides, as members for pems_job()';

/*
 * _pems_job_json(job): a job as pems_sync_history() shows it.
 * Returns: {id, organizationId, kind, status, queued, synced, conflicts, failed, durationSeconds, requestedBy,
 *   createdAt}
 * Tables: pfa_write_queue (its index by job alone, where vacuum has been there).
 */
CREATE FUNCTION @extschema@._pems_job_json(job @extschema@.pems_sync_job) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    counts record;
    found  text;
    ended  timestamptz;
BEGIN
    SELECT count(*) FILTER (WHERE q.result = 'completed') AS synced,
           count(*) FILTER (WHERE q.result = 'conflict') AS conflicts,
           count(*) FILTER (WHERE q.result = 'failed') AS failed, max(q.completed_at) AS last_at
    INTO counts FROM @extschema@.pfa_write_queue q WHERE q.job_id = job.id;
    SELECT s.found_status INTO found
    FROM @extschema@._pems_job_status(job.id, job.status, job.past_synced, job.past_failed, job.past_cancelled) s;
    ended := greatest(job.finished_at, counts.last_at);
    RETURN jsonb_build_object(
        'id', job.id, 'organizationId', job.organization_id, 'kind', job.kind, 'status', found, 'queued', job.queued,
        'synced', counts.synced + job.past_synced, 'conflicts', counts.conflicts,
        'failed', counts.failed + job.past_failed,
        -- not negative where the clock was set back
        'durationSeconds', CASE WHEN found <> 'running' AND ended IS NOT NULL
                                THEN greatest(0, round(extract(epoch FROM ended - job.created_at), 3)) END,
        'requestedBy', job.requested_by, 'createdAt', @extschema@._pems_iso(job.created_at));
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_job_json(@extschema@.pems_sync_job) IS
    'Internal: a job as pems_sync_history() shows it';

/*
 * _pems_newest_jobs(organization, wanted, job_kind, since, until, before_at, before_id, most): the ids of the newest
 * jobs that are as asked for, each job looked at in turn: for a status that most jobs have, or none.
 *
 * Parameters: NULL: all; before_at, before_id: created_at and id of the last job of the page before.
 * Tables: pems_sync_job, pfa_write_queue.
 */
CREATE FUNCTION @extschema@._pems_newest_jobs(
    organization text, wanted text, job_kind text, since timestamptz, until timestamptz, before_at timestamptz,
    before_id text, most integer) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
BEGIN
    IF organization IS NOT NULL THEN
        RETURN QUERY
        SELECT j.id FROM @extschema@.pems_sync_job j
        CROSS JOIN LATERAL @extschema@._pems_job_status(j.id, j.status, j.past_synced, j.past_failed,
                                                        j.past_cancelled) s
        WHERE j.organization_id = organization AND (job_kind IS NULL OR j.kind = job_kind)
          AND (since IS NULL OR j.created_at >= since) AND (until IS NULL OR j.created_at < until)
          AND (before_at IS NULL OR (j.created_at, j.id) < (before_at, before_id))
          AND (wanted IS NULL OR s.found_status = wanted)
        ORDER BY j.created_at DESC, j.id DESC LIMIT most;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT j.id FROM @extschema@.pems_sync_job j
    CROSS JOIN LATERAL @extschema@._pems_job_status(j.id, j.status, j.past_synced, j.past_failed, j.past_cancelled) s
    WHERE (job_kind IS NULL OR j.kind = job_kind)
      AND (since IS NULL OR j.created_at >= since) AND (until IS NULL OR j.created_at < until)
      AND (before_at IS NULL OR (j.created_at, j.id) < (before_at, before_id))
      AND (wanted IS NULL OR s.found_status = wanted)
    -- an order that only the index of all organizations has
    ORDER BY j.created_at DESC NULLS LAST, j.id DESC NULLS LAST LIMIT most;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_newest_jobs(
    text, text, text, timestamptz, timestamptz, timestamptz, text, integer) IS
    'Internal: the newest jobs that are as asked for, each looked at in turn';

/*
 * _pems_rare_jobs(organization, wanted, job_kind, since, until, before_id, most, in_order): the same for a status that
 * few jobs have: of 10 million jobs only those are looked at that have an item with such a result, in the order of
 * their ids, and those that keep such a result, or their status, themselves.  Organization by organization: where all
 * are asked for, the time grows with their number.
 *
 * Parameters: wanted: running, completed_with_conflicts, completed_with_failures or cancelled.  in_order: false: any
 *   that are as asked for, to be counted.
 * Tables: pfa_write_queue, pems_sync_job, organization.
 */
CREATE FUNCTION @extschema@._pems_rare_jobs(
    organization text, wanted text, job_kind text, since timestamptz, until timestamptz, before_id text, most integer,
    in_order boolean)
RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    telling CONSTANT text := CASE wanted WHEN 'running' THEN 'open' WHEN 'completed_with_conflicts' THEN 'conflict'
                                         WHEN 'completed_with_failures' THEN 'failed' ELSE 'cancelled' END;
BEGIN
    RETURN QUERY
    SELECT a.id FROM (
        SELECT f.id
        FROM (SELECT organization AS id WHERE organization IS NOT NULL
              UNION ALL
              SELECT o.id FROM @extschema@.organization o WHERE organization IS NULL) g
        CROSS JOIN LATERAL (
            -- from one job to the next, the newest first: all items of a job are passed over
            (WITH RECURSIVE walk AS (
                 (SELECT q.job_id FROM @extschema@.pfa_write_queue q
                  WHERE q.organization_id = g.id AND q.result = telling AND q.result <> 'completed'
                    AND (before_id IS NULL OR q.job_id < before_id)
                  ORDER BY q.job_id DESC NULLS LAST LIMIT 1)
                 UNION ALL
                 SELECT n.job_id FROM walk w CROSS JOIN LATERAL (
                     SELECT q.job_id FROM @extschema@.pfa_write_queue q
                     WHERE q.organization_id = g.id AND q.result = telling AND q.result <> 'completed'
                       AND q.job_id < w.job_id
                     ORDER BY q.job_id DESC NULLS LAST LIMIT 1) n
             )
             -- in the order of the walk, which a LIMIT ends: there is nothing to sort
             SELECT r.id FROM walk w
             CROSS JOIN LATERAL (SELECT j.* FROM @extschema@.pems_sync_job j WHERE j.id = w.job_id OFFSET 0) r
             CROSS JOIN LATERAL @extschema@._pems_job_status(r.id, r.status, r.past_synced, r.past_failed,
                                                             r.past_cancelled) s
             WHERE s.found_status = wanted AND r.organization_id = g.id AND (job_kind IS NULL OR r.kind = job_kind)
               AND (since IS NULL OR r.created_at >= since) AND (until IS NULL OR r.created_at < until)
             LIMIT most)
            UNION ALL
            (SELECT r.id FROM @extschema@.pems_sync_job r
             CROSS JOIN LATERAL @extschema@._pems_job_status(r.id, r.status, r.past_synced, r.past_failed,
                                                             r.past_cancelled) s
             WHERE r.organization_id = g.id AND (r.past_failed > 0 OR r.past_cancelled > 0) AND s.found_status = wanted
               AND NOT EXISTS (SELECT FROM @extschema@.pfa_write_queue q WHERE q.job_id = r.id AND q.result = telling)
               AND (before_id IS NULL OR r.id < before_id) AND (job_kind IS NULL OR r.kind = job_kind)
               AND (since IS NULL OR r.created_at >= since) AND (until IS NULL OR r.created_at < until)
             ORDER BY r.id DESC NULLS LAST LIMIT most)
            UNION ALL
            (SELECT r.id FROM @extschema@.pems_sync_job r
             WHERE r.organization_id = g.id AND r.status = wanted
               AND (before_id IS NULL OR r.id < before_id) AND (job_kind IS NULL OR r.kind = job_kind)
               AND (since IS NULL OR r.created_at >= since) AND (until IS NULL OR r.created_at < until)
             ORDER BY r.id DESC NULLS LAST LIMIT most)
        ) f
        UNION ALL
        -- an administrator's retry over several organizations: there are few
        (SELECT r.id FROM @extschema@.pems_sync_job r
         CROSS JOIN LATERAL @extschema@._pems_job_status(r.id, r.status, r.past_synced, r.past_failed,
                                                         r.past_cancelled) s
         WHERE organization IS NULL AND r.organization_id IS NULL AND s.found_status = wanted
           AND (before_id IS NULL OR r.id < before_id) AND (job_kind IS NULL OR r.kind = job_kind)
           AND (since IS NULL OR r.created_at >= since) AND (until IS NULL OR r.created_at < until))
    ) a
    ORDER BY CASE WHEN in_order THEN a.id END DESC LIMIT most;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_rare_jobs(
    text, text, text, timestamptz, timestamptz, text, integer, boolean) IS
    'Internal: the newest jobs with a status that few have';

/*
 * _pems_find_job(job_id, organization_id): the job.
 * Parameters: organization_id: NULL: of any organization.
 * Errors: P0002 when there is none, or it belongs to another organization (in the same words); 55000 not attached.
 * Tables: pems_sync_job.
 */
CREATE FUNCTION @extschema@._pems_find_job(job_id text, organization_id text) RETURNS @extschema@.pems_sync_job
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    found_job @extschema@.pems_sync_job;
BEGIN
    PERFORM @extschema@._pems_attached();
    SELECT j.* INTO found_job FROM @extschema@.pems_sync_job j
    WHERE j.id = $1 AND ($2 IS NULL OR j.organization_id = $2);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'job % does not exist', coalesce('"' || left($1, 100) || '"', 'NULL')
            USING ERRCODE = 'no_data_found',
                  HINT = 'Pass an id from pems_sync_history() or a jobId, and the organization that it belongs to. '
                         'pems_purge() deletes old jobs.';
    END IF;
    RETURN found_job;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_find_job(text, text) IS
    'Internal: a job by id; P0002 when there is none in that organization';

/*
 * pems_sync_history(organization_id, status, start_date, end_date, page_size, before, kind)
 *
 * The jobs, newest first.  The time of a call does not grow with the number of jobs.
 *
 * Parameters: NULL: all.
 *   status      running, completed, completed_with_conflicts, completed_with_failures or cancelled
 *   start_date, end_date  when it was asked for; start_date is included, end_date is not
 *   page_size   1 to 1000
 *   before      id of the last job of the page before
 *   kind        commit, write_sync, retry, rollback or pull
 * Returns: {jobs: [{id, organizationId, kind, status, queued, synced, conflicts, failed, durationSeconds, requestedBy,
 *   createdAt}], total}.
 *   queued           items that the call queued, or (write_sync) made due
 *   synced, conflicts, failed  of its items, as they are now; an item that failed and was retried counts as failed
 *                    here, and for the retry's job as what became of it then
 *   durationSeconds  until its last item was synced, failed or was taken back; null: it runs, or none has
 *   total            of all pages, counted up to 200
 * Errors: P0002 unknown organization, or before is no job of it; 22023 unknown status or kind, end_date before
 *   start_date, page_size out of range; 55000 not attached.
 * Tables: pems_sync_job, pfa_write_queue.
 */
CREATE FUNCTION @extschema@.pems_sync_history(
    organization_id text DEFAULT NULL, status text DEFAULT NULL, start_date timestamptz DEFAULT NULL,
    end_date timestamptz DEFAULT NULL, page_size integer DEFAULT 50, before text DEFAULT NULL, kind text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    organization CONSTANT text := CASE WHEN organization_id IS NOT NULL
                                       THEN @extschema@._pems_organization(organization_id) END;
    rows_wanted  CONSTANT integer := @extschema@._pems_page_size(page_size);
    most_counted CONSTANT integer := 200;
    last_job     @extschema@.pems_sync_job;
    page         text[];
    total        integer;
BEGIN
    PERFORM @extschema@._pems_attached();
    IF status NOT IN ('running', 'completed', 'completed_with_conflicts', 'completed_with_failures', 'cancelled') THEN
        RAISE EXCEPTION 'unknown status "%"', left(status, 100)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Use running, completed, completed_with_conflicts, completed_with_failures or cancelled.';
    END IF;
    IF kind NOT IN ('commit', 'write_sync', 'retry', 'rollback', 'pull') THEN
        RAISE EXCEPTION 'unknown kind "%"', left(kind, 100)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use commit, write_sync, retry, rollback or pull.';
    END IF;
    IF end_date < start_date THEN
        RAISE EXCEPTION 'end_date is before start_date'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass the earlier time as start_date.';
    END IF;
    IF before IS NOT NULL THEN
        last_job := @extschema@._pems_find_job(before, organization);
    END IF;
    IF status IS NULL OR status = 'completed' THEN
        page := ARRAY(SELECT @extschema@._pems_newest_jobs(
            organization, status, kind, start_date, end_date, last_job.created_at, last_job.id, rows_wanted));
        total := (SELECT count(*) FROM @extschema@._pems_newest_jobs(
            organization, status, kind, start_date, end_date, NULL::timestamptz, NULL::text, most_counted));
    ELSE
        page := ARRAY(SELECT @extschema@._pems_rare_jobs(
            organization, status, kind, start_date, end_date, last_job.id, rows_wanted, true));
        total := (SELECT count(*) FROM @extschema@._pems_rare_jobs(
            organization, status, kind, start_date, end_date, NULL::text, most_counted, false));
    END IF;
    RETURN jsonb_build_object('jobs', @extschema@._pems_jobs_json(page), 'total', total);
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_sync_history(text, text, timestamptz, timestamptz, integer, text, text) IS
    'Jobs, newest first, by status, time and kind: {jobs: [{id, organizationId, kind, status, queued, synced, '
    'conflicts, failed, durationSeconds, requestedBy, createdAt}], total}; total counts up to 200. before: id of the '
    'last job of the page before. Errors: P0002, 22023, 55000.';

/*
 * _pems_jobs_json(ids): these jobs, in that order.
 * Returns: an array of what _pems_job_json() writes.
 * Tables: pems_sync_job.
 */
CREATE FUNCTION @extschema@._pems_jobs_json(ids text[]) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
BEGIN
    RETURN (SELECT coalesce(jsonb_agg(@extschema@._pems_job_json(l.job) ORDER BY u.n), '[]')
            FROM unnest(ids) WITH ORDINALITY u (id, n)
            CROSS JOIN LATERAL (SELECT j AS job FROM @extschema@.pems_sync_job j WHERE j.id = u.id OFFSET 0) l);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_jobs_json(text[]) IS 'Internal: jobs as pems_sync_history() shows them';

/*
 * _pems_attempts(item_id, since): the newest 20 attempts of an item, oldest first, from the audit log.
 * Parameters: since: nothing of it is older; months of the log that ended before are not looked at.
 * Returns: [{attempt, at, eventType, httpMethod, path, httpStatus, latencyMs, errorCode, error}]
 * Tables: pems_audit_log.
 */
CREATE FUNCTION @extschema@._pems_attempts(item_id text, since timestamptz) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
BEGIN
    RETURN (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'attempt', n.attempt, 'at', @extschema@._pems_iso(n.at), 'eventType', n.event_type, 'httpMethod',
            n.http_method, 'path', n.path, 'httpStatus', n.http_status, 'latencyMs', n.latency_ms, 'errorCode',
            n.error_code, 'error', n.error) ORDER BY n.at, n.seq), '[]')
        FROM (SELECT a.* FROM @extschema@.pems_audit_log a
              WHERE a.item_id = $1 AND a.at >= $2 AND a.attempt IS NOT NULL
              ORDER BY a.at DESC, a.seq DESC LIMIT 20) n);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_attempts(text, timestamptz) IS
    'Internal: the newest attempts of an item, from the audit log';

/*
 * _pems_job_items(job_id, after_seq, most): the items of a job behind that one, in the order of their commits: of each
 * result as many as are wanted, by the index, and the first of these.
 *
 * Parameters: after_seq: commit_seq of the last item of the page before; most: at most so many.
 * Tables: pfa_write_queue.
 */
CREATE FUNCTION @extschema@._pems_job_items(job_id text, after_seq bigint, most integer)
RETURNS SETOF @extschema@.pfa_write_queue
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
BEGIN
    RETURN QUERY
    SELECT i.* FROM (VALUES ('open'), ('completed'), ('conflict'), ('failed'), ('cancelled')) r (result)
    CROSS JOIN LATERAL (
        SELECT q.* FROM @extschema@.pfa_write_queue q
        WHERE q.job_id = $1 AND q.result = r.result AND q.commit_seq > after_seq
        ORDER BY q.commit_seq LIMIT most) i
    ORDER BY i.commit_seq LIMIT most;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_job_items(text, bigint, integer) IS
    'Internal: items of a job after one of them, in the order of their commits';

/*
 * pems_job(job_id, organization_id, page_size, after)
 *
 * One job, with a page of its items in the order of their commits, and of each item the newest 20 attempts.
 *
 * Parameters: organization_id: whose job it must be; NULL: any.  page_size: items, 1 to 1000.  after: id of the last
 *   item of the page before.
 * Returns: as in pems_sync_history(), and {rejected, items: [{id, modificationId, pfaId, organizationId, operation,
 *   status, priority, retryCount, error, errorCode, jobId, createdAt, scheduledAt, completedAt, attempts: [{attempt,
 *   at, eventType, httpMethod, path, httpStatus, latencyMs, errorCode, error}]}]}.
 *   rejected  drafts that the call rejected
 *   items     those that belong to the job: a dead letter that was retried belongs to the retry's job; what
 *             pems_write_sync() made due, to the job that queued it
 *   attempts  lines of the audit log; bodies of requests and answers are in pems_audit() only
 * Errors: P0002 no such job, or of another organization, or after is no item of it; 22023 page_size out of range; 55000
 *   not attached.
 * Tables: pems_sync_job, pfa_write_queue, pems_audit_log.
 */
CREATE FUNCTION @extschema@.pems_job(
    job_id text, organization_id text DEFAULT NULL, page_size integer DEFAULT 50, after text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    rows_wanted CONSTANT integer := @extschema@._pems_page_size(page_size);
    job         CONSTANT @extschema@.pems_sync_job := @extschema@._pems_find_job(job_id, organization_id);
    after_seq   bigint := 0;
BEGIN
    IF after IS NOT NULL THEN
        SELECT q.commit_seq INTO after_seq FROM @extschema@.pfa_write_queue q WHERE q.id = after AND q.job_id = job.id;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'item "%" is none of the job', left(after, 100)
                USING ERRCODE = 'no_data_found',
                      HINT = 'Pass the id of the last item of the page before; where that has been purged or retried '
                             'since, begin with the first page.';
        END IF;
    END IF;
    RETURN @extschema@._pems_job_json(job) || @extschema@._pems_job_details(job) || jsonb_build_object(
        'rejected', job.rejected,
        'items', (SELECT coalesce(jsonb_agg(
                      @extschema@._pems_item_json(i) || jsonb_build_object(
                          -- the clock may have been set back a little
                          'attempts', @extschema@._pems_attempts(i.id, i.created_at - interval '1 day'))
                      ORDER BY i.commit_seq), '[]')
                  FROM @extschema@._pems_job_items(job.id, after_seq, rows_wanted) i));
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_job(text, text, integer, text) IS
    'One job as in pems_sync_history(), with a page of its items and their newest attempts. after: id of the last item '
    'of the page before. Errors: P0002, 22023, 55000.';
