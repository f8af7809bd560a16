/*
 * 67_health: for operators: credentials and endpoints, a call of PEMS right now, and one answer to "is all well?".
 */

/*
 * _pems_note_credentials(organization_ids, states, problems): what the worker found when it opened the credentials.
 */
CREATE FUNCTION @extschema@._pems_note_credentials(organization_ids text[], states text[], problems text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    UPDATE @extschema@.pems_credential c SET state = n.state, problem = nullif(n.problem, '')
    FROM unnest(organization_ids, states, problems) AS n (id, state, problem)
    WHERE c.organization_id = n.id AND (c.state, c.problem) IS DISTINCT FROM (n.state, nullif(n.problem, ''));
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_note_credentials(text[], text[], text[]) IS 'Internal: what the worker found when it opened the credentials';

/*
 * _pems_endpoints(): the rows of the view pems_endpoints.  A function, because the application's table need not
 * exist yet when the view is made, and because readers may not read that table.
 */
CREATE FUNCTION @extschema@._pems_endpoints(
    OUT organization_id text, OUT organization_code text, OUT api_url text, OUT endpoint text, OUT credential text,
    OUT credential_problem text, OUT key_id text, OUT generation bigint, OUT set_by text, OUT set_at timestamptz,
    OUT paused boolean, OUT breaker text, OUT rate integer, OUT in_flight integer, OUT faults integer,
    OUT waits_until timestamptz, OUT last_error text, OUT last_error_at timestamptz)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
#variable_conflict use_column
DECLARE
    key_file_problem CONSTANT text := (SELECT coalesce(upper(left(w.last_error, 1)) || substr(w.last_error, 2) || '.', 'The key file cannot be used.')
                                       FROM @extschema@._pems_worker_state() w WHERE w.state = 'no_key');
BEGIN
    PERFORM @extschema@._pems_attached();
    RETURN QUERY
    SELECT o.id, o.code, c.api_url, c.endpoint,
           CASE WHEN c.organization_id IS NULL THEN 'no_credential'
                WHEN key_file_problem IS NOT NULL THEN 'no_key'
                WHEN c.state IS DISTINCT FROM 'no_key' AND c.state IS DISTINCT FROM 'cannot_open' AND r.reason IS NOT NULL THEN 'refused_by_pems'
                ELSE c.state END,
           CASE WHEN c.organization_id IS NOT NULL THEN coalesce(key_file_problem, c.problem, r.reason) END,
           c.key_id, c.generation, c.set_by, c.set_at,
           EXISTS (SELECT FROM @extschema@.pems_pause p WHERE p.organization_id IN (o.id, '*')),
           e.breaker, e.rate_limit, e.in_flight, e.faults, e.waits_until, e.last_error, e.last_error_at
    FROM @extschema@.organization o
    LEFT JOIN @extschema@.pems_credential c ON c.organization_id = o.id
    LEFT JOIN LATERAL (SELECT coalesce(p.reason, 'PEMS refuses the credential.') AS reason FROM @extschema@.pems_pause p
                       WHERE p.organization_id = o.id AND p.cause = 'credential') r ON true
    LEFT JOIN @extschema@._pems_endpoint_states() e ON e.endpoint = c.endpoint;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_endpoints() IS 'Internal: the rows of the view pems_endpoints';

/*
 * pems_health_check(organization_id)
 *
 * Calls PEMS now: GET {api_url}/pems/health with the organization's credential.  The worker makes the call, within
 * the rate limit, and not while the breaker keeps everything away from the endpoint (a call that is due anyway closes
 * it again if PEMS answers).  The session waits: at the most twice pems_sync.request_timeout
 * and five seconds.
 *
 * Returns: {healthy, latency, error}: latency in milliseconds, null when PEMS did not answer; error, a sentence, only
 *   when not healthy.  That there is no credential, no key or no worker is an answer, too.
 * Errors: P0002 unknown organization; 22023 NULL; 55000 not attached.
 * Tables: organization.
 */
CREATE FUNCTION @extschema@.pems_health_check(organization_id text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    -- An exception lets go of the locks on the application's tables: who changes or drops them, and whoever comes
    -- behind, is not to wait for a session that waits for PEMS.
    BEGIN
        PERFORM @extschema@._pems_organization(organization_id);
        RAISE EXCEPTION USING ERRCODE = 'PEMS0';
    EXCEPTION WHEN SQLSTATE 'PEMS0' THEN
        NULL;
    END;
    RETURN @extschema@._pems_ask_worker(organization_id);
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_health_check(text) IS 'Calls PEMS now: {healthy, latency} (ms), error when not healthy. Errors: P0002, 22023, 55000.';

/*
 * _pems_worker_problem(): what is wrong with the worker, a sentence with what to do; NULL when it runs.
 */
CREATE FUNCTION @extschema@._pems_worker_problem() RETURNS text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT CASE
        WHEN w.database IS NULL THEN format('No worker is configured for database "%s": set shared_preload_libraries = ''pems_sync'' and list the database in pems_sync.databases, then restart the server.', current_database())
        WHEN w.pid IS NULL AND pg_is_in_recovery() THEN 'This server is a standby: the worker starts when it is promoted.'
        WHEN w.pid IS NULL THEN format('The worker is not running; see the server''s log. If it never started, max_worker_processes (%s) is used up: raise it and restart the server.', current_setting('max_worker_processes'))
        WHEN w.last_heartbeat < clock_timestamp() - interval '1 minute' - 2 * @extschema@._pems_setting('poll_interval'::text)::integer * interval '1 millisecond'
            THEN format('The worker (process %s) has not gone round its loop since %s.', w.pid, @extschema@._pems_iso(w.last_heartbeat))
        ELSE CASE w.state
            WHEN 'running' THEN NULL
            WHEN 'copy' THEN 'This database is a copy (restored, or made from another cluster) and sends nothing; if it is to write to PEMS, run SELECT pems_resume().'
            WHEN 'no_key' THEN format('The key file cannot be used%s. Correct pems_sync.key_file.', ': ' || regexp_replace(w.last_error, '^the key file cannot be used: ', ''))
            WHEN 'not_attached' THEN 'pems_sync is not attached to the tables of the application; run SELECT pems_attach().'
            WHEN 'disabled' THEN 'Sending is switched off by pems_sync.enabled.'
            ELSE format('The worker is in state %s.', w.state) END END
    FROM (SELECT) one LEFT JOIN @extschema@._pems_worker_state() w ON true
$function$;
COMMENT ON FUNCTION @extschema@._pems_worker_problem() IS 'Internal: what is wrong with the worker; NULL when it runs';

/*
 * _pems_lock_problems(): sessions that hold a lock on one of our tables or the application's which lets nobody write, or wait
 * for one, so that everybody else waits behind them; a sentence each.
 */
CREATE FUNCTION @extschema@._pems_lock_problems() RETURNS SETOF text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT format('%s %s %s: edits wait meanwhile.', coalesce('Session ' || l.pid, 'A prepared transaction'),
                  CASE WHEN bool_or(l.granted) THEN 'has locked' ELSE 'waits for a lock on' END, string_agg(DISTINCT c.relname, ', '))
    FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
    WHERE l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
      AND c.relkind IN ('r', 'p') AND c.relnamespace = '@extschema@'::regnamespace
      AND (c.relname IN (SELECT h.table_name FROM @extschema@._pems_host_columns() h)
           OR EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pems_sync'
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
                        AND d.refclassid = 'pg_extension'::regclass))
      AND l.pid IS DISTINCT FROM pg_backend_pid()
      AND l.pid IS DISTINCT FROM (SELECT w.pid FROM @extschema@._pems_worker_state() w)
    GROUP BY l.pid ORDER BY l.pid
$function$;
COMMENT ON FUNCTION @extschema@._pems_lock_problems() IS 'Internal: who keeps everybody from writing one of the tables';

/*
 * _pems_edit_problems(): what many edits tell together, a sentence each: writes that PEMS does not know although it shows
 * the records, and items that another database queued.  Looks at a thousand of each kind at most.
 */
CREATE FUNCTION @extschema@._pems_edit_problems() RETURNS SETOF text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT format('PEMS answers 404 to writes of records that it shows when they are read (%s): a route or a right for writing may '
                  'be missing there. When it is mended, run SELECT pems_retry().', string_agg(DISTINCT u.pfa_id, ', '))
    FROM (SELECT e.pfa_id FROM (
              (SELECT q.pfa_id, q.error_code, q.last_error FROM @extschema@.pfa_write_queue q
               WHERE q.stopped AND q.status = 'failed' LIMIT 1000)
              UNION ALL
              (SELECT q.pfa_id, q.error_code, q.last_error FROM @extschema@.pfa_write_queue q
               WHERE q.in_line AND q.waits_for = 'time' LIMIT 1000)) e
          WHERE e.error_code = 'NOT_FOUND' AND starts_with(e.last_error, 'PEMS answers 404 to this write') LIMIT 5) u
    HAVING count(*) > 0
    UNION ALL
    SELECT CASE count(*) WHEN 1 THEN '1 edit was' WHEN 1000 THEN '1000 edits or more were' ELSE count(*) || ' edits were' END
           || ' queued by another database (a dump was loaded into this one), and nothing of that is sent. If this database is to '
              'send it, run SELECT pems_resume(); otherwise discard it with pems_discard().'
    FROM (SELECT FROM @extschema@.pfa_write_queue q WHERE q.in_line AND q.waits_for = 'resume' LIMIT 1000) f
    HAVING count(*) > 0
$function$;
COMMENT ON FUNCTION @extschema@._pems_edit_problems() IS 'Internal: what many edits tell together, a sentence each';

/*
 * _pems_table_problems(): what is gone of the extension's own tables, a sentence each, with the command that makes it
 * again: the partition of this month, and indexes.
 */
CREATE FUNCTION @extschema@._pems_table_problems() RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT 'The audit log has no partition for this month: its rows go to pems_audit_log_default, which pems_purge() '
           'never drops. SELECT @extschema@._pems_make_audit_partitions() makes it.'
    WHERE NOT EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                      WHERE i.inhparent = '@extschema@.pems_audit_log'::regclass
                        AND c.relname = 'pems_audit_log_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM'))
    UNION ALL
    SELECT CASE WHEN x.indexrelid IS NULL THEN format('Index %s of %s is gone: %s', i.name, i.table_name, i.command)
                ELSE format('Index %s of %s is not valid: REINDEX INDEX %s', i.name, i.table_name,
                            x.indexrelid::regclass) END
    FROM @extschema@.pems_index i
    LEFT JOIN pg_index x ON x.indexrelid = to_regclass(format('@extschema@.%I', i.name))
                        AND x.indrelid = to_regclass(format('@extschema@.%I', i.table_name))
    WHERE x.indisvalid IS NOT TRUE
$function$;
COMMENT ON FUNCTION @extschema@._pems_table_problems() IS 'Internal: what is gone of the extension''s own tables';

/*
 * _pems_keep_tables(): event trigger, after DROP TABLE and DROP INDEX.  The owner of the schema may drop what is in it:
 * not the extension's tables, which are its members, but partitions of the audit log and indexes.
 * Errors: 42501 when one was dropped, by nobody who has the rights of a superuser nor by pems_purge().
 */
CREATE FUNCTION @extschema@._pems_keep_tables() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    dropped record;
BEGIN
    SELECT d.object_type, d.object_name INTO dropped
    FROM pg_event_trigger_dropped_objects() d
    WHERE d.schema_name = (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
                           WHERE e.extname = 'pems_sync')
      AND CASE d.object_type
              WHEN 'table' THEN d.object_name ~ '^pems_audit_log_[0-9]{4}_[0-9]{2}$'
              WHEN 'index' THEN d.object_name ~ '^pems_audit_log_[0-9]{4}_[0-9]{2}_'
                                OR EXISTS (SELECT FROM @extschema@.pems_index i WHERE i.name = d.object_name) END
    ORDER BY d.original DESC LIMIT 1;
    IF NOT FOUND OR @extschema@._pems_guarded()
       OR (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = @extschema@._pems_caller()::name) THEN
        RETURN;
    END IF;
    RAISE EXCEPTION '% "%" belongs to pems_sync', dropped.object_type, dropped.object_name
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'Only a superuser may drop it; months of the audit log leave it with pems_purge().';
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_keep_tables() IS
    'Internal event trigger: partitions of the audit log and indexes cannot be dropped by the owner of the schema';

CREATE EVENT TRIGGER pems_keep_tables ON sql_drop WHEN TAG IN ('DROP TABLE', 'DROP INDEX')
    EXECUTE FUNCTION @extschema@._pems_keep_tables();
COMMENT ON EVENT TRIGGER pems_keep_tables IS
    'pems_sync: partitions of the audit log and indexes cannot be dropped by the owner of the schema';

/*
 * _pems_counted(number, one, many): the number with the words for one or for many: 1 dead letter, 2 dead letters.
 */
CREATE FUNCTION @extschema@._pems_counted(number bigint, one text, many text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT format('%s %s', number, CASE number WHEN 1 THEN one ELSE many END)
$function$;
COMMENT ON FUNCTION @extschema@._pems_counted(bigint, text, text) IS
    'Internal: a number with the words for one or for many';

/*
 * _pems_problems(failed, conflicts, oldest_seconds): all that an operator should know, each a sentence, the worst first; level: down or degraded.
 */
CREATE FUNCTION @extschema@._pems_problems(failed bigint, conflicts bigint, oldest_seconds double precision)
RETURNS TABLE (level text, problem text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    attached CONSTANT boolean := EXISTS (SELECT FROM @extschema@.pems_control) AND @extschema@._pems_host_intact(false);
    wrong    CONSTANT text[] := @extschema@._pems_host_problems(EXISTS (SELECT FROM @extschema@.pems_control));
BEGIN
    RETURN QUERY SELECT 'down', w FROM @extschema@._pems_worker_problem() w WHERE w IS NOT NULL;
    RETURN QUERY SELECT 'down', 'The tables of the application: ' || p FROM unnest(wrong) p;
    RETURN QUERY SELECT 'down', 'pems_sync is not attached to the tables of the application; run SELECT pems_attach().'
                 WHERE NOT attached AND wrong = '{}'
                   AND NOT EXISTS (SELECT FROM @extschema@._pems_worker_state() w WHERE w.state = 'not_attached');
    RETURN QUERY SELECT 'degraded', format('What pems_attach() made is not as it was: %s; run SELECT pems_attach().',
                                           string_agg(m, ', '))
                 FROM @extschema@._pems_host_missing() m WHERE attached AND @extschema@._pems_standing() = 'ok' HAVING count(*) > 0;
    RETURN QUERY SELECT 'degraded', l FROM @extschema@._pems_lock_problems() l;
    RETURN QUERY SELECT 'degraded', 'The worker says: ' || w.last_error FROM @extschema@._pems_worker_state() w
                 WHERE w.state = 'running' AND w.last_error IS NOT NULL;
    RETURN QUERY SELECT 'degraded', CASE p.organization_id WHEN '*' THEN 'Sending is paused' ELSE format('Organization %s is paused', p.organization_id) END
                        || format(' by %s since %s', p.paused_by, @extschema@._pems_iso(p.paused_at)) || coalesce(': ' || p.reason, '.')
                 FROM @extschema@.pems_pause p WHERE p.cause = 'administrator' ORDER BY p.organization_id;
    IF attached THEN
        RETURN QUERY SELECT 'degraded', format('Organization %s: credential %s', e.organization_code, e.credential) || coalesce('. ' || e.credential_problem, '.')
                     FROM @extschema@._pems_endpoints() e
                     WHERE e.credential IN ('no_key', 'cannot_open', 'refused_by_pems')
                        OR (e.credential = 'no_credential' AND EXISTS (SELECT FROM @extschema@.pfa_write_queue q
                            WHERE q.organization_id = e.organization_id AND q.unfinished AND q.in_line))
                     ORDER BY e.organization_code;
    END IF;
    RETURN QUERY SELECT 'degraded', format('PEMS at %s does not answer (%s in a row)', e.endpoint,
                        @extschema@._pems_counted(e.faults::bigint, 'fault'::text, 'faults'::text))
                        || coalesce(': ' || e.last_error, '.')
                 FROM @extschema@._pems_endpoint_states() e WHERE e.breaker <> 'closed' ORDER BY e.endpoint;
    RETURN QUERY SELECT 'degraded', @extschema@._pems_counted(failed, 'dead letter'::text, 'dead letters'::text)
                        || '; see the view pems_dead_letters.' WHERE failed > 0;
    RETURN QUERY SELECT 'degraded', e FROM @extschema@._pems_edit_problems() e;
    RETURN QUERY SELECT 'degraded', @extschema@._pems_counted(conflicts, 'conflict waits'::text, 'conflicts wait'::text)
                        || ' for a user; see the view pems_open_conflicts.' WHERE conflicts > 0;
    RETURN QUERY SELECT 'degraded', format('The oldest edit has been waiting for %s seconds.', floor(oldest_seconds)::bigint) WHERE oldest_seconds > 300;
    RETURN QUERY SELECT 'degraded', l FROM @extschema@._pems_table_problems() l WHERE attached;
    RETURN QUERY SELECT 'degraded', 'F' || substr(f, 2) || '.' FROM @extschema@._pems_foreign_functions() f;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_problems(bigint, bigint, double precision) IS 'Internal: all that an operator should know, each a sentence';

/*
 * _pems_worker_json(), _pems_endpoints_json(): the parts of pems_health() that come from shared memory alone.
 */
CREATE FUNCTION @extschema@._pems_worker_json() RETURNS jsonb
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT jsonb_build_object('running', w.pid IS NOT NULL, 'pid', w.pid, 'state', coalesce(w.state, 'absent'),
                              'lastHeartbeat', @extschema@._pems_iso(w.last_heartbeat), 'version', w.version)
    FROM (SELECT) one LEFT JOIN @extschema@._pems_worker_state() w ON true
$function$;
COMMENT ON FUNCTION @extschema@._pems_worker_json() IS 'Internal: the worker as pems_health() shows it';

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
 * _pems_health_locked(): what pems_health() can say while a session has locked a table that it would read.
 */
CREATE FUNCTION @extschema@._pems_health_locked() RETURNS jsonb
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT jsonb_build_object(
        'status', CASE WHEN w.problem IS NULL THEN 'degraded' ELSE 'down' END, 'worker', @extschema@._pems_worker_json(),
        'attached', NULL, 'paused', NULL, 'queue', NULL, 'credentials', '{}'::jsonb, 'endpoints', @extschema@._pems_endpoints_json(),
        'problems', to_jsonb(array_remove(ARRAY[w.problem, 'A table that must be read is locked, so nothing can be said of the queue.'], NULL)
            || ARRAY(SELECT @extschema@._pems_lock_problems())
            || ARRAY(SELECT 'The worker says: ' || s.last_error FROM @extschema@._pems_worker_state() s WHERE s.state = 'running' AND s.last_error IS NOT NULL)))
    FROM @extschema@._pems_worker_problem() AS w (problem)
$function$;
COMMENT ON FUNCTION @extschema@._pems_health_locked() IS 'Internal: what pems_health() can say while a table is locked';

/*
 * pems_health()
 *
 * One answer for a load balancer or a pager.  Never raises an error because something is wrong: that is what it
 * tells.  Works where the library is not preloaded and where the tables of the application are missing.  Waits a second
 * at the most for a table that a session has locked; then attached, paused and queue are null.
 *
 * Returns: {status, worker, attached, paused, queue, credentials, endpoints, problems}.
 *   status       ok; degraded: something waits for a person; down: nothing is sent
 *   worker       {running, pid, state, lastHeartbeat, version}
 *   queue        {pending, held, processing, failed, conflicts, oldestQueuedSeconds}
 *   credentials  how many organizations are in each state, {ok, no_credential, no_key, cannot_open, refused_by_pems, not_opened_yet}
 *   endpoints    [{endpoint, breaker, rateLimit, inFlight, faults, waitsUntil, lastError, lastErrorAt}]
 *   problems     sentences, the worst first; empty when all is well
 * Tables: pems_sync_stats, pems_pause, pems_credential, pems_control, organization.
 */
CREATE FUNCTION @extschema@.pems_health() RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RETURN @extschema@._pems_health_in_time();
END
$function$;

/*
 * _pems_health_in_time(): waits a second for a table that is locked, then says what can be said without it.
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
 * _pems_health_full(): what pems_health() returns when no table that it reads is locked.
 */
CREATE FUNCTION @extschema@._pems_health_full() RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    attached CONSTANT boolean := EXISTS (SELECT FROM @extschema@.pems_control) AND @extschema@._pems_host_intact(false);
    sums     CONSTANT record := @extschema@._pems_sums(NULL::text, 'infinity'::timestamptz, 'infinity'::timestamptz);
    age      double precision;
    levels   text[];
    problems jsonb;
    states   jsonb := '{}';
BEGIN
    SELECT extract(epoch FROM clock_timestamp() - @extschema@._pems_oldest_pending(NULL::text)) INTO age WHERE sums.pending > 0;
    -- less than nothing: the clock was set back
    age := greatest(0, age);
    SELECT array_agg(p.level), coalesce(jsonb_agg(p.problem), '[]') INTO levels, problems
    FROM @extschema@._pems_problems(sums.failed, sums.conflict, age) p;
    IF attached THEN
        SELECT jsonb_object_agg(s.state, s.n) INTO states
        FROM (SELECT coalesce(e.credential, 'not_opened_yet') AS state, count(*) AS n FROM @extschema@._pems_endpoints() e GROUP BY 1) s;
    END IF;

    RETURN jsonb_build_object(
        'status', CASE WHEN 'down' = ANY (levels) THEN 'down' WHEN levels IS NULL THEN 'ok' ELSE 'degraded' END,
        'worker', @extschema@._pems_worker_json(),
        'attached', attached,
        'paused', EXISTS (SELECT FROM @extschema@._pems_worker_state() w WHERE w.state = 'copy') OR EXISTS (SELECT FROM @extschema@.pems_pause),
        'queue', jsonb_build_object('pending', sums.pending, 'held', sums.held, 'processing', sums.processing, 'failed', sums.failed,
                                    'conflicts', sums.conflict, 'oldestQueuedSeconds', floor(age)::bigint),
        'credentials', coalesce(states, '{}'),
        'endpoints', @extschema@._pems_endpoints_json(),
        'problems', problems);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_health_full() IS 'Internal: what pems_health() returns when no table is locked';
COMMENT ON FUNCTION @extschema@.pems_health() IS 'For a load balancer or pager: {status: ok, degraded or down, worker: {running, pid, state, lastHeartbeat, version}, attached, paused, queue, credentials, endpoints, problems}. Works, and says so, when the worker never started.';
