/*
 * 73_health_problems: what is wrong, for pems_health(): a sentence each, with what to do.
 */

/*
 * _pems_worker_problem(): what is wrong with the worker, a sentence with what to do; NULL when it runs.
 */
CREATE FUNCTION @extschema@._pems_worker_problem() RETURNS text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT CASE
        WHEN w.database IS NULL
            THEN format('No worker is configured for database "%s": set shared_preload_libraries = ''pems_sync'' '
                        'and list the database in pems_sync.databases, then restart the server.', current_database())
        WHEN w.pid IS NULL AND pg_is_in_recovery()
            THEN 'This server is a standby: the worker starts when it is promoted.'
        WHEN w.pid IS NULL
            THEN format('The worker is not running; see the server''s log. If it never started, max_worker_processes '
                        '(%s) is used up: raise it and restart the server.', current_setting('max_worker_processes'))
        WHEN w.last_heartbeat
             < clock_timestamp() - interval '1 minute'
               - 2 * @extschema@._pems_setting('poll_interval'::text)::integer * interval '1 millisecond'
            THEN format('The worker (process %s) has not gone round its loop since %s; pg_stat_activity shows what it '
                        'waits for.', w.pid, @extschema@._pems_iso(w.last_heartbeat))
        ELSE CASE w.state
            WHEN 'running' THEN NULL
            WHEN 'copy' THEN 'This database is a copy (restored, or made from another cluster) and sends nothing; '
                             'if it is to write to PEMS, run SELECT pems_resume().'
            WHEN 'no_key' THEN format('The key file cannot be used%s.',
                                      ': ' || regexp_replace(w.last_error, '^the key file cannot be used: ', ''))
            WHEN 'not_attached' THEN 'pems_sync is not attached to the tables of the application; '
                                     'run SELECT pems_attach().'
            WHEN 'disabled' THEN 'Sending is switched off by pems_sync.enabled.'
            ELSE format('The worker is in state %s.', w.state) END END
    FROM (SELECT) one LEFT JOIN @extschema@._pems_worker_state() w ON true
$function$;
COMMENT ON FUNCTION @extschema@._pems_worker_problem() IS 'Internal: what is wrong with the worker; NULL when it runs';

/*
 * _pems_lock_problems(): sessions that hold a lock on one of our tables or the application's which lets nobody write,
 * or that wait for such a lock, so that everybody else waits for them; a sentence each.
 */
CREATE FUNCTION @extschema@._pems_lock_problems() RETURNS SETOF text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT format('%s %s %s: edits wait meanwhile.', coalesce('Session ' || l.pid, 'A prepared transaction'),
                  CASE WHEN bool_or(l.granted) THEN 'has locked' ELSE 'waits for a lock on' END,
                  string_agg(DISTINCT c.relname, ', '))
    FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
    WHERE l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
      AND c.relkind IN ('r', 'p') AND c.relnamespace = '@extschema@'::regnamespace
      AND (c.relname IN (SELECT h.table_name FROM @extschema@._pems_app_columns() h)
           OR EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pems_sync'
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
                        AND d.refclassid = 'pg_extension'::regclass))
      AND l.pid IS DISTINCT FROM pg_backend_pid()
      AND l.pid IS DISTINCT FROM (SELECT w.pid FROM @extschema@._pems_worker_state() w)
    GROUP BY l.pid ORDER BY l.pid
$function$;
COMMENT ON FUNCTION @extschema@._pems_lock_problems() IS
    'Internal: which sessions keep everybody from writing one of the tables';

/*
 * _pems_edit_problems(): what only many edits together show, a sentence each: writes that PEMS does not know although
 * it shows the records, and items that another database queued.  Reads at most a thousand of each kind.
 * Tables: pfa_write_queue.
 */
CREATE FUNCTION @extschema@._pems_edit_problems() RETURNS SETOF text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT format('PEMS answers 404 to writes of records that it shows when they are read (%s): a route or a right for '
                  'writing may be missing there. When it is mended, run SELECT pems_retry().',
                  string_agg(DISTINCT u.pfa_id, ', '))
    FROM (SELECT e.pfa_id FROM (
              (SELECT q.pfa_id, q.error_code, q.last_error FROM @extschema@.pfa_write_queue q
               WHERE q.stopped AND q.status = 'failed' LIMIT 1000)
              UNION ALL
              (SELECT q.pfa_id, q.error_code, q.last_error FROM @extschema@.pfa_write_queue q
               WHERE q.open AND q.waits_for = 'time' LIMIT 1000)) e
          WHERE e.error_code = 'NOT_FOUND' AND starts_with(e.last_error, 'PEMS answers 404 to this write') LIMIT 5) u
    HAVING count(*) > 0
    UNION ALL
    SELECT CASE count(*) WHEN 1 THEN '1 edit was' WHEN 1000 THEN '1000 edits or more were'
                ELSE count(*) || ' edits were' END
           || ' queued by another database (a dump was loaded into this one), and nothing of that is sent. '
              'If this database is to send it, run SELECT pems_resume(); otherwise discard it with pems_discard().'
    FROM (SELECT FROM (
              (SELECT q.id FROM @extschema@.pfa_write_queue q WHERE q.open AND q.waits_for = 'resume' LIMIT 1000)
              UNION
              -- what it was sending when the dump was made
              (SELECT q.id FROM @extschema@.pems_claim c CROSS JOIN LATERAL unnest(c.item_ids) AS i (id)
               JOIN @extschema@.pfa_write_queue q ON q.id = i.id
               WHERE q.status = 'processing' AND q.queued_in <> @extschema@._pems_database_id() LIMIT 1000)) e
          LIMIT 1000) f
    -- in a copy all are
    WHERE @extschema@._pems_standing() <> 'copy'
    HAVING count(*) > 0
$function$;
COMMENT ON FUNCTION @extschema@._pems_edit_problems() IS
    'Internal: what only many edits together show, a sentence each';

/*
 * _pems_table_problems(): what is gone of the extension's own tables, a sentence each, with the command that makes it
 * again: the partition of this month, those that were there before, and indexes.
 * Tables: pems_audit_month, pems_index; the partitions of pems_audit_log in the system catalogue.
 */
CREATE FUNCTION @extschema@._pems_table_problems() RETURNS SETOF text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT 'The audit log has no partition for this month: its rows go to pems_audit_log_default, which pems_purge() '
           'never drops. SELECT @extschema@._pems_make_audit_partitions() makes it.'
    WHERE NOT EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                      WHERE i.inhparent = '@extschema@.pems_audit_log'::regclass
                        AND c.relname = 'pems_audit_log_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM'))
    UNION ALL
    SELECT CASE WHEN m.made_again_at IS NULL
                THEN format('Partition %s of the audit log is gone with its rows, and pems_purge() did not drop it. '
                            'Put it back from a backup, or let it go: '
                            'DELETE FROM @extschema@.pems_audit_month WHERE name = %L', m.name, m.name)
                ELSE format('Partition %s of the audit log was gone, and was made again at %s: its rows before that '
                            'are lost. When that is settled: '
                            'UPDATE @extschema@.pems_audit_month SET made_again_at = NULL WHERE name = %L',
                            m.name, @extschema@._pems_iso(m.made_again_at), m.name) END
    FROM @extschema@.pems_audit_month m
    WHERE m.made_again_at IS NOT NULL
       OR NOT EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid AND c.relname = m.name
                      WHERE i.inhparent = '@extschema@.pems_audit_log'::regclass)
    UNION ALL
    SELECT CASE WHEN x.indexrelid IS NULL THEN format('Index %s of %s is gone: %s', i.name, i.table_name, i.command)
                ELSE format('Index %s of %s is not valid: REINDEX INDEX %s', i.name, i.table_name,
                            x.indexrelid::regclass) END
    FROM @extschema@.pems_index i
    LEFT JOIN pg_index x ON x.indexrelid = to_regclass(format('@extschema@.%I', i.name))
                        AND x.indrelid = to_regclass(format('@extschema@.%I', i.table_name))
    WHERE x.indisvalid IS NOT TRUE
$function$;
COMMENT ON FUNCTION @extschema@._pems_table_problems() IS 'Internal: what is missing of the extension''s own tables';

/*
 * _pems_role_problems(): who can become pems_sync_worker, and so do all that the extension may, and what else was done
 * to that role since CREATE EXTENSION looked at it; a sentence each.  A superuser can anyway.  From PostgreSQL 16 on,
 * who makes a role gets the right to grant it, and nothing else.
 */
CREATE FUNCTION @extschema@._pems_role_problems() RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT format('Role %s is a member of pems_sync_worker, and can do what the extension may: '
                  'REVOKE pems_sync_worker FROM %I', m.rolname, m.rolname)
    FROM (SELECT DISTINCT r.rolname
          FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.member AND NOT r.rolsuper
          CROSS JOIN LATERAL jsonb_to_record(to_jsonb(a)) AS o (inherit_option boolean, set_option boolean)
          WHERE a.roleid = 'pems_sync_worker'::regrole
            AND (o.inherit_option, o.set_option) IS DISTINCT FROM (false, false)) m
    UNION ALL
    SELECT 'Role pems_sync_worker may log in, or has another attribute that it did not have: '
           'ALTER ROLE pems_sync_worker NOLOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION'
    FROM pg_roles r
    WHERE r.rolname = 'pems_sync_worker'
      AND (r.rolcanlogin OR r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication)
    UNION ALL
    SELECT format('Role pems_sync_worker owns %s, which is not of the extension: drop it, or give it to another role.',
                  pg_describe_object(s.classid, s.objid, s.objsubid))
    FROM pg_shdepend s
    WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = 'pems_sync_worker'::regrole AND s.deptype = 'o'
      AND s.dbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND NOT EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pems_sync'
                      WHERE d.classid = s.classid AND d.objid = s.objid AND d.deptype = 'e'
                        AND d.refclassid = 'pg_extension'::regclass)
$function$;
COMMENT ON FUNCTION @extschema@._pems_role_problems() IS
    'Internal: who can become pems_sync_worker, and what else was done to that role';

/*
 * _pems_credential_problems(): organizations whose edits are not sent because of their credential, a sentence each.
 * That there is none matters only where something waits for it.
 * Tables: organization, pems_credential, pems_pause, pfa_write_queue.
 */
CREATE FUNCTION @extschema@._pems_credential_problems() RETURNS SETOF text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT format('Organization %s: %s', e.organization_code, CASE e.credential
               WHEN 'no_credential' THEN 'there is no credential, and edits wait for one; set it with '
                                         'pems-credential set.'
               WHEN 'no_key' THEN 'there is no key that opens its credential.'
               WHEN 'cannot_open' THEN 'its credential cannot be opened.'
               ELSE 'PEMS refuses its credential.' END)
           || coalesce(' ' || e.credential_problem, '')
    FROM @extschema@._pems_endpoints() e
    WHERE e.credential IN ('no_key', 'cannot_open', 'refused_by_pems')
       OR (e.credential = 'no_credential' AND EXISTS (
               SELECT FROM @extschema@.pfa_write_queue q
               WHERE q.organization_id = e.organization_id AND q.unfinished AND q.open))
    ORDER BY e.organization_code
$function$;
COMMENT ON FUNCTION @extschema@._pems_credential_problems() IS
    'Internal: organizations whose edits are not sent because of their credential, a sentence each';

/*
 * _pems_pull_problems(): listings of read sync that did not end well, or that showed what could not be stored; a
 * sentence each.
 * Tables: organization, pems_pull_organization, pems_quarantined.
 */
CREATE FUNCTION @extschema@._pems_pull_problems() RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT p.problem FROM @extschema@.organization o
    LEFT JOIN @extschema@.pems_pull_organization l ON l.organization_id = o.id
    CROSS JOIN LATERAL (
        SELECT 1 AS rank, format('Organization %s: the last %s did not end well: %s.', o.code,
                                 CASE WHEN l.full_error IS NULL THEN 'listing' ELSE 'full listing' END,
                                 rtrim(coalesce(l.full_error, l.last_error), '.')) AS problem
        -- what is in quarantine is said below
        WHERE coalesce(l.full_error, l.last_error) NOT LIKE '%; see pems\_quarantine'
        UNION ALL
        SELECT 2, format('Organization %s: the last full listing showed %s in a lower version than the mirror has, and '
                         'nothing of that was stored. If PEMS was restored from a backup, take its versions over: '
                         'SELECT @extschema@.pems_pull(%L, mode => ''adopt'').', o.code,
                         @extschema@._pems_number_of(l.stale, 'record'::text, 'records'::text), o.id)
        WHERE l.stale > 0
        UNION ALL
        SELECT 3, format('Organization %s: %s of PEMS could not be stored; see the view pems_quarantine.', o.code,
                         @extschema@._pems_number_of(q.n, 'record'::text, 'records'::text))
        FROM (SELECT count(*) AS n FROM (SELECT FROM @extschema@.pems_quarantined q
                                         WHERE q.organization_id = o.id LIMIT 1000) q) q
        WHERE q.n > 0) p
    ORDER BY o.code, p.rank
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_problems() IS
    'Internal: listings that did not end well, or showed what could not be stored, a sentence each';

/*
 * _pems_problems(failed, conflicts, oldest_seconds): all that an operator should know, a sentence each, the worst
 * first.
 * Returns: level: down or degraded; problem: the sentence.
 * Tables: pems_control, pems_pause, pfa_write_queue; the application's (locked).
 */
CREATE FUNCTION @extschema@._pems_problems(failed bigint, conflicts bigint, oldest_seconds double precision)
RETURNS TABLE (level text, problem text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    attached   CONSTANT boolean := EXISTS (SELECT FROM @extschema@.pems_control)
                                   AND @extschema@._pems_app_intact(false);
    unattached CONSTANT boolean := EXISTS (SELECT FROM @extschema@._pems_worker_state() w
                                           WHERE w.state = 'not_attached');
    wrong      CONSTANT text[] := @extschema@._pems_app_problems(EXISTS (SELECT FROM @extschema@.pems_control));
BEGIN
    -- whether the worker has noticed yet makes no difference
    RETURN QUERY SELECT 'down', w FROM @extschema@._pems_worker_problem() w WHERE w IS NOT NULL AND NOT unattached;
    RETURN QUERY SELECT 'down', 'pems_sync is not attached to the tables of the application; run SELECT pems_attach().'
                 WHERE NOT attached OR unattached;
    RETURN QUERY SELECT 'down', 'The tables of the application: ' || p FROM unnest(wrong) p;
    RETURN QUERY SELECT 'degraded', format('What pems_attach() made is not as it was: %s; run SELECT pems_attach().',
                                           string_agg(m, ', '))
                 FROM @extschema@._pems_app_missing() m
                 WHERE attached AND @extschema@._pems_standing() = 'ok' HAVING count(*) > 0;
    RETURN QUERY SELECT 'degraded', l FROM @extschema@._pems_lock_problems() l;
    RETURN QUERY SELECT 'degraded', 'The worker says: ' || w.last_error FROM @extschema@._pems_worker_state() w
                 WHERE w.state = 'running' AND w.last_error IS NOT NULL;
    RETURN QUERY SELECT 'degraded', CASE p.organization_id WHEN '*' THEN 'Sending is paused'
                                         ELSE format('Organization %s is paused', p.organization_id) END
                        || format(' by %s since %s', p.paused_by, @extschema@._pems_iso(p.paused_at))
                        || coalesce(': ' || p.reason, '.')
                 FROM @extschema@.pems_pause p WHERE p.cause = 'administrator' ORDER BY p.organization_id;
    IF attached THEN
        RETURN QUERY SELECT 'degraded', 'The edits of an organization cannot be sent: its id is *, which stands for '
                                        'all organizations. Give it another id.'
                     FROM @extschema@.organization o WHERE o.id = '*';
        RETURN QUERY SELECT 'degraded', c FROM @extschema@._pems_credential_problems() c;
        RETURN QUERY SELECT 'degraded', p FROM @extschema@._pems_pull_problems() p;
    END IF;
    RETURN QUERY SELECT 'degraded', format('PEMS at %s does not answer (%s in a row)', e.endpoint,
                        @extschema@._pems_number_of(e.faults::bigint, 'fault'::text, 'faults'::text))
                        || coalesce(': ' || e.last_error, '.')
                 FROM @extschema@._pems_endpoint_states() e WHERE e.breaker <> 'closed' ORDER BY e.endpoint;
    RETURN QUERY SELECT 'degraded', @extschema@._pems_number_of(failed, 'dead letter'::text, 'dead letters'::text)
                        || '; see the view pems_dead_letters.' WHERE failed > 0;
    RETURN QUERY SELECT 'degraded', e FROM @extschema@._pems_edit_problems() e;
    RETURN QUERY SELECT 'degraded',
                        @extschema@._pems_number_of(conflicts, 'conflict waits'::text, 'conflicts wait'::text)
                        || ' for a user; see the view pems_open_conflicts.' WHERE conflicts > 0;
    RETURN QUERY SELECT 'degraded', format('The oldest edit has been waiting for %s seconds.',
                                           floor(oldest_seconds)::bigint) WHERE oldest_seconds > 300;
    RETURN QUERY SELECT 'degraded', l FROM @extschema@._pems_table_problems() l WHERE attached;
    RETURN QUERY SELECT 'degraded', r FROM @extschema@._pems_role_problems() r;
    RETURN QUERY SELECT 'degraded', s.line || ': rename or drop it, then run SELECT pems_attach().'
                 FROM @extschema@._pems_names_in_use() s;
    RETURN QUERY SELECT 'degraded', 'F' || substr(f, 2) || '.' FROM @extschema@._pems_foreign_functions() f;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_problems(bigint, bigint, double precision) IS
    'Internal: all that an operator should know, each a sentence';
