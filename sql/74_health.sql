/*
 * 74_health: pems_health(): one answer to "is all well?".
 */

/*
 * _pems_worker_json(): the worker as pems_health() shows it; from shared memory alone.
 */
CREATE FUNCTION @extschema@._pems_worker_json() RETURNS jsonb
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT jsonb_build_object('running', w.pid IS NOT NULL, 'pid', w.pid, 'state', coalesce(w.state, 'absent'),
                              'lastHeartbeat', @extschema@._pems_iso(w.last_heartbeat), 'version', w.version)
    FROM (SELECT) one LEFT JOIN @extschema@._pems_worker_state() w ON true
$function$;
COMMENT ON FUNCTION @extschema@._pems_worker_json() IS 'Internal: the worker as pems_health() shows it';

/*
 * _pems_endpoints_json(): the endpoints as pems_health() shows them; from shared memory alone.
 */
CREATE FUNCTION @extschema@._pems_endpoints_json() RETURNS jsonb
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'endpoint', e.endpoint, 'breaker', e.breaker, 'rateLimit', e.rate_limit, 'inFlight', e.in_flight,
               'faults', e.faults, 'waitsUntil', @extschema@._pems_iso(e.waits_until), 'lastError', e.last_error,
               'lastErrorAt', @extschema@._pems_iso(e.last_error_at)) ORDER BY e.endpoint), '[]')
    FROM @extschema@._pems_endpoint_states() e
$function$;
COMMENT ON FUNCTION @extschema@._pems_endpoints_json() IS 'Internal: the endpoints as pems_health() shows them';

/*
 * _pems_health_full(): what pems_health() returns when no table that it reads is locked.
 * Errors: 55P03 when one is, after lock_timeout.
 * Tables: pems_control, pems_pause, and those of _pems_sums(), _pems_oldest_pending(), _pems_problems() and
 *   _pems_endpoints().
 */
CREATE FUNCTION @extschema@._pems_health_full() RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    attached CONSTANT boolean := EXISTS (SELECT FROM @extschema@.pems_control) AND @extschema@._pems_app_intact(false);
    sums     CONSTANT record := @extschema@._pems_sums(NULL::text, 'infinity'::timestamptz, 'infinity'::timestamptz);
    age      double precision;
    levels   text[];
    problems jsonb;
    states   jsonb := '{}';
BEGIN
    SELECT extract(epoch FROM clock_timestamp() - @extschema@._pems_oldest_pending(NULL::text)) INTO age
    WHERE sums.pending > 0;
    -- negative: the clock was set back
    age := greatest(0, age);
    SELECT array_agg(p.level), coalesce(jsonb_agg(p.problem), '[]') INTO levels, problems
    FROM @extschema@._pems_problems(sums.failed, sums.conflict, age) p;
    IF attached THEN
        SELECT jsonb_object_agg(s.state, s.n) INTO states
        FROM (SELECT coalesce(e.credential, 'not_opened_yet') AS state, count(*) AS n
              FROM @extschema@._pems_endpoints() e GROUP BY 1) s;
    END IF;

    RETURN jsonb_build_object(
        'status', CASE WHEN 'down' = ANY (levels) THEN 'down' WHEN levels IS NULL THEN 'ok' ELSE 'degraded' END,
        'worker', @extschema@._pems_worker_json(),
        'attached', attached,
        'paused', EXISTS (SELECT FROM @extschema@._pems_worker_state() w WHERE w.state = 'copy')
                  OR EXISTS (SELECT FROM @extschema@.pems_pause),
        'queue', jsonb_build_object('pending', sums.pending, 'held', sums.held, 'processing', sums.processing, 'failed',
                                    sums.failed,
                                    'conflicts', sums.conflict, 'oldestQueuedSeconds', floor(age)::bigint),
        'credentials', coalesce(states, '{}'),
        'endpoints', @extschema@._pems_endpoints_json(),
        'problems', problems);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_health_full() IS 'Internal: what pems_health() returns when no table is locked';

/*
 * _pems_health_locked(): what pems_health() can say while a session has locked a table that it would read.
 * Returns: the same members; null for what cannot be said.
 */
CREATE FUNCTION @extschema@._pems_health_locked() RETURNS jsonb
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT jsonb_build_object(
        'status', CASE WHEN w.problem IS NULL THEN 'degraded' ELSE 'down' END,
        'worker', @extschema@._pems_worker_json(),
        'attached', NULL, 'paused', NULL, 'queue', NULL, 'credentials', '{}'::jsonb,
        'endpoints', @extschema@._pems_endpoints_json(),
        'problems', to_jsonb(
            array_remove(ARRAY[w.problem,
                               'A table that must be read is locked, so nothing can be said of the queue.'], NULL)
            || ARRAY(SELECT @extschema@._pems_lock_problems())
            || ARRAY(SELECT 'The worker says: ' || s.last_error FROM @extschema@._pems_worker_state() s
                     WHERE s.state = 'running' AND s.last_error IS NOT NULL)))
    FROM @extschema@._pems_worker_problem() AS w (problem)
$function$;
COMMENT ON FUNCTION @extschema@._pems_health_locked() IS 'Internal: what pems_health() can say while a table is locked';

/*
 * _pems_health_in_time(): waits a second for a table that is locked, then says what can be said without it.
 * Returns: what _pems_health_full() does, or after that second _pems_health_locked().
 */
CREATE FUNCTION @extschema@._pems_health_in_time() RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $function$
BEGIN
    RETURN @extschema@._pems_health_full();
EXCEPTION WHEN lock_not_available THEN
    RETURN @extschema@._pems_health_locked();
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_health_in_time() IS 'Internal: pems_health(), without waiting for a locked table';

/*
 * pems_health()
 *
 * One answer for a load balancer or a pager.  Never raises an error because something is wrong: that is what it
 * tells.  Works where the library is not preloaded and where the tables of the application are missing.  Waits at most
 * a second for a table that a session has locked; then attached, paused and queue are null; where a right was taken
 * from pems_sync_worker, so may be worker.
 *
 * Returns: {status, worker, attached, paused, queue, credentials, endpoints, problems}.
 *   status       ok; degraded: something waits for a person; down: nothing is sent
 *   worker       {running, pid, state, lastHeartbeat, version}
 *   queue        {pending, held, processing, failed, conflicts, oldestQueuedSeconds}
 *   credentials  how many organizations are in each state, {ok, no_credential, no_key, cannot_open, refused_by_pems,
 *                not_opened_yet}
 *   endpoints    [{endpoint, breaker, rateLimit, inFlight, faults, waitsUntil, lastError, lastErrorAt}]
 *   problems     sentences, the worst first; empty when all is well
 * Tables: pems_sync_stats, pems_pause, pems_credential, pems_control, organization.
 */
CREATE FUNCTION @extschema@.pems_health() RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RETURN @extschema@._pems_health_in_time();
EXCEPTION WHEN insufficient_privilege THEN
    -- nothing of ours can be called where that is the right on the schema
    RETURN jsonb_build_object(
        'status', 'down', 'worker', NULL, 'attached', NULL, 'paused', NULL, 'queue', NULL, 'credentials', '{}'::jsonb,
        'endpoints', '[]'::jsonb, 'problems', jsonb_build_array(
            CASE WHEN has_schema_privilege('@extschema@'::regnamespace, 'USAGE')
                 THEN format('A right is missing: %s.', SQLERRM)
                 ELSE format('Role %s has no USAGE on schema %s, so nothing can be said; run '
                             'SELECT @extschema@.pems_attach().', current_user, '@extschema@'::regnamespace) END));
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_health() IS
    'For a load balancer or pager: {status: ok, degraded or down, worker: {running, pid, state, lastHeartbeat, '
    'version}, attached, paused, queue, credentials, endpoints, problems}. Works, and says so, when the worker never '
    'started.';
