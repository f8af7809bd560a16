/*
 * 32_attach_extend: what pems_attach() makes: the application's tables where they are missing; columns, triggers,
 * foreign keys and rights.
 */

/*
 * _pems_app_create(owner): makes the tables of the application that do not exist, owned by that role.
 * Returns: their names.
 */
CREATE FUNCTION @extschema@._pems_app_create(owner text) RETURNS text[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    made text[] := '{}';
    wanted record;
BEGIN
    FOR wanted IN
        SELECT v.table_name, v.definition FROM (VALUES
            ('organization', 'id text PRIMARY KEY, code text NOT NULL UNIQUE, name text NOT NULL'),
            ('pfa_mirror', 'id text PRIMARY KEY DEFAULT gen_random_uuid()::text, organization_id text NOT NULL '
                'REFERENCES @extschema@.organization (id), pfa_id text NOT NULL, version integer NOT NULL, '
                'data jsonb NOT NULL, UNIQUE (organization_id, pfa_id)'),
            ('pfa_modification', 'id text PRIMARY KEY DEFAULT gen_random_uuid()::text, organization_id text NOT NULL '
                'REFERENCES @extschema@.organization (id), pfa_id text NOT NULL, base_version integer NOT NULL, '
                'delta jsonb NOT NULL DEFAULT ''{}'', created_by text NOT NULL, '
                'created_at timestamptz NOT NULL DEFAULT now()')
            ) AS v (table_name, definition)
        WHERE to_regclass(format('@extschema@.%I', v.table_name)) IS NULL
    LOOP
        EXECUTE format('CREATE TABLE @extschema@.%I (%s)', wanted.table_name, wanted.definition);
        EXECUTE format('ALTER TABLE @extschema@.%I OWNER TO %I', wanted.table_name, owner);
        made := made || wanted.table_name;
    END LOOP;
    RETURN made;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_app_create(text) IS
    'Internal: makes the tables of the application that do not exist';

/*
 * _pems_app_extend(): adds what is not there yet: columns, index, triggers, foreign keys,
 * grants for the worker.  Where the triggers that count were gone or disabled, counts anew.
 * Tables: the application's and our own (ALTER TABLE); with _pems_recount() also pfa_write_queue and pems_sync_stats.
 */
CREATE FUNCTION @extschema@._pems_app_extend() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    item      record;
    uncounted CONSTANT boolean := EXISTS (SELECT FROM @extschema@._pems_app_trigger_states() t
                                          WHERE t.state IS NOT NULL AND t.trigger_name ~ '^pems_count_');
BEGIN
    FOR item IN
        SELECT format('ALTER TABLE @extschema@.%I ADD COLUMN %I %s', a.table_name, a.column_name, a.definition)
                   AS command
        FROM @extschema@._pems_app_added() a
        WHERE NOT EXISTS (SELECT FROM pg_attribute c WHERE c.attname = a.column_name AND NOT c.attisdropped
                          AND c.attrelid = format('@extschema@.%I', a.table_name)::regclass)
        UNION ALL
        SELECT 'CREATE INDEX idx_modification_syncstatus ON @extschema@.pfa_modification (organization_id, sync_status)'
        WHERE to_regclass('@extschema@.idx_modification_syncstatus') IS NULL
        UNION ALL
        SELECT x.command FROM @extschema@._pems_app_trigger_states() t
        CROSS JOIN LATERAL (
            SELECT 1 AS step, format('DROP TRIGGER %I ON @extschema@.%I', t.trigger_name, t.table_name) AS command
            WHERE t.state = 'replaced'
            UNION ALL
            SELECT 2, t.command WHERE t.state IN ('missing', 'replaced')
            ORDER BY step) x
        UNION ALL
        SELECT format('ALTER TABLE @extschema@.%I %sADD CONSTRAINT %I %s', f.table_name,
                      CASE f.state WHEN 'replaced' THEN format('DROP CONSTRAINT %I, ', f.constraint_name) END,
                      f.constraint_name, f.definition)
        FROM @extschema@._pems_foreign_key_states() f WHERE f.state IS NOT NULL
    LOOP
        EXECUTE item.command;
    END LOOP;

    FOR item IN
        -- DROP EXTENSION then takes the triggers along instead of complaining about them
        SELECT format('ALTER TRIGGER %I ON @extschema@.%I DEPENDS ON EXTENSION pems_sync', h.trigger_name,
                      h.table_name) AS command
        FROM @extschema@._pems_app_triggers() h
        UNION ALL
        -- the history is complete whoever writes the mirror, also with session_replication_role = replica
        SELECT format('ALTER TABLE @extschema@.%I ENABLE %s TRIGGER %I', t.table_name,
                      CASE t.enabled WHEN 'R' THEN 'REPLICA' ELSE 'ALWAYS' END, t.trigger_name)
        FROM @extschema@._pems_app_trigger_states() t WHERE t.state = 'disabled'
    LOOP
        EXECUTE item.command;
    END LOOP;
    IF uncounted THEN
        PERFORM @extschema@._pems_recount();
    END IF;

    -- SELECT to read; the rest for tables whose owner is a superuser: the worker writes
    -- those as itself, because an owner's triggers must not run as a superuser.
    GRANT SELECT, INSERT, UPDATE ON @extschema@.pfa_mirror, @extschema@.pfa_modification TO pems_sync_worker;
    GRANT SELECT ON @extschema@.organization TO pems_sync_worker;
    GRANT USAGE ON SCHEMA @extschema@ TO pems_sync_reader, pems_sync_worker;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_app_extend() IS
    'Internal: adds columns, index, triggers, foreign keys and grants to the application''s tables';

/*
 * _pems_app_lock(): locks the application's tables against everybody until the transaction ends.
 *
 * An application may have written one of them and be about to use the next, for which it would wait while we have it,
 * and we wait for the first: a deadlock, which may end its transaction instead of ours.  So nothing is locked while we
 * wait for long: after a moment all that was locked is let go, and it is tried again.  The moment is shorter than the
 * time after which the server looks for deadlocks.
 * Errors: 55000 when other transactions have them for ten seconds.
 */
CREATE FUNCTION @extschema@._pems_app_lock() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms' AS $function$
DECLARE
    until_deadlock CONSTANT interval := current_setting('deadlock_timeout')::interval;
    holders        text;
BEGIN
    PERFORM set_config('lock_timeout',
                       least(200, greatest(1, extract(epoch FROM until_deadlock) * 500)::integer)::text, true);
    FOR attempt IN 1 .. 35 LOOP
        BEGIN
            PERFORM @extschema@._pems_app_intact(exclusively => true);
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            NULL;   -- the exception has let go of what was locked
        END;
        PERFORM pg_sleep(0.1);
    END LOOP;
    SELECT string_agg(DISTINCT l.pid::text, ', ') INTO holders
    FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
    WHERE l.granted AND l.pid <> pg_backend_pid() AND c.relnamespace = '@extschema@'::regnamespace
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND c.relname IN (SELECT h.table_name FROM @extschema@._pems_app_columns() h);
    RAISE EXCEPTION 'other transactions have the tables of the application'
        USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = concat('Ten seconds were not enough for them to end.',
                              ' They are of process ' || holders || '.'),
              HINT = 'Try again when they have ended; pg_stat_activity shows what they do.';
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_app_lock() IS
    'Internal: locks the application''s tables against everybody, without a deadlock; 55000 when others have them for '
    'ten seconds';

/*
 * _pems_app_check_rows(): do the rows of the extension's tables refer to rows of the application that exist?
 * Credentials and pauses that do not are deleted, as they would be with their organization.
 * Errors: 55000 with the tables and how many rows of the others do not; 55000 when an organization has the id *.
 * Tables: pems_credential, pems_pause; reads organization, pfa_modification, pfa_write_queue, pfa_sync_conflict.
 */
CREATE FUNCTION @extschema@._pems_app_check_rows() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    orphans text;
BEGIN
    IF EXISTS (SELECT FROM @extschema@.organization o WHERE o.id = '*') THEN
        RAISE EXCEPTION 'an organization has the id *'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'In pems_sync it stands for all organizations.',
                  HINT = 'Give the organization another id.';
    END IF;
    SELECT string_agg(o.line, E'\n' ORDER BY o.line) INTO orphans
    FROM (
        SELECT format('%s of %s: %s does not exist, for example "%s"',
                      @extschema@._pems_number_of(count(*), 'row'::text, 'rows'::text), r.table_name, r.app_table,
                      left(min(r.id), 100)) AS line
        FROM (
            SELECT 'pfa_write_queue' AS table_name, 'pfa_modification' AS app_table, q.modification_id AS id
            FROM @extschema@.pfa_write_queue q
            WHERE NOT EXISTS (SELECT FROM @extschema@.pfa_modification m WHERE m.id = q.modification_id)
            UNION ALL
            SELECT 'pfa_write_queue', 'organization', q.organization_id FROM @extschema@.pfa_write_queue q
            WHERE NOT EXISTS (SELECT FROM @extschema@.organization o WHERE o.id = q.organization_id)
            UNION ALL
            SELECT 'pfa_sync_conflict', 'pfa_modification', c.modification_id FROM @extschema@.pfa_sync_conflict c
            WHERE NOT EXISTS (SELECT FROM @extschema@.pfa_modification m WHERE m.id = c.modification_id)
            UNION ALL
            SELECT 'pfa_sync_conflict', 'organization', c.organization_id FROM @extschema@.pfa_sync_conflict c
            WHERE NOT EXISTS (SELECT FROM @extschema@.organization o WHERE o.id = c.organization_id)) r
        GROUP BY r.table_name, r.app_table) o;
    DELETE FROM @extschema@.pems_credential c
    WHERE NOT EXISTS (SELECT FROM @extschema@.organization o WHERE o.id = c.organization_id);
    DELETE FROM @extschema@.pems_pause p
    WHERE p.of_organization IS NOT NULL
      AND NOT EXISTS (SELECT FROM @extschema@.organization o WHERE o.id = p.of_organization);
    IF orphans IS NOT NULL THEN
        RAISE EXCEPTION 'rows of pems_sync refer to rows of the application that do not exist'
            USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = orphans,
                  HINT = 'Put the rows of the application back, or delete those of pems_sync as a superuser.';
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_app_check_rows() IS
    'Internal: 55000 when rows of the extension refer to rows of the application that do not exist';

/*
 * _pems_app_snapshot(): adds to the history what the mirror has and the history has not.
 * Returns: how many versions.
 * Tables: pfa_mirror, pems_mirror_version.
 */
CREATE FUNCTION @extschema@._pems_app_snapshot() RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    added bigint;
BEGIN
    INSERT INTO @extschema@.pems_mirror_version (organization_id, pfa_id, version, data, source, changed_by)
    SELECT m.organization_id, m.pfa_id, m.version, m.data, 'external', @extschema@._pems_caller()
    FROM @extschema@.pfa_mirror m
    WHERE m.organization_id IS NOT NULL AND m.pfa_id IS NOT NULL AND m.version IS NOT NULL AND m.data IS NOT NULL
      AND NOT @extschema@._pems_is_newest_state(m.organization_id, m.pfa_id, m.version, m.data);
    GET DIAGNOSTICS added = ROW_COUNT;
    RETURN added;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_app_snapshot() IS
    'Internal: adds to the history what the mirror has and the history has not';
