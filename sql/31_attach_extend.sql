/*
 * 31_attach_extend: what pems_attach() makes: the application's tables where they are missing; columns, triggers,
 * foreign keys and rights.
 */

/*
 * _pems_host_create(owner): makes the tables of the application that do not exist, owned by that role.
 * Returns: their names.
 */
CREATE FUNCTION @extschema@._pems_host_create(owner text) RETURNS text[]
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
COMMENT ON FUNCTION @extschema@._pems_host_create(text) IS
    'Internal: makes the tables of the application that do not exist';

/*
 * _pems_host_triggers(): the triggers of the extension on the application's tables.
 * enabled: as in pg_trigger.tgenabled: A, always; R, where session_replication_role is replica.
 * Returns: definition: what follows the name in CREATE TRIGGER, with %s for the table.
 */
CREATE FUNCTION @extschema@._pems_host_triggers()
RETURNS TABLE (table_name text, trigger_name text, enabled text, definition text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT t.table_name, t.trigger_name, t.enabled, t.event || ' EXECUTE FUNCTION @extschema@.' || t.function || '()'
    FROM (VALUES
        ('pfa_mirror', 'pems_versions_inserted', 'A',
         'AFTER INSERT ON %s REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT', '_pems_record_versions'),
        ('pfa_mirror', 'pems_versions_updated', 'A',
         'AFTER UPDATE ON %s REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT', '_pems_record_versions'),
        ('pfa_mirror', 'pems_versions_replicated', 'R',
         'AFTER INSERT OR UPDATE ON %s FOR EACH ROW', '_pems_record_replicated_version'),
        ('organization', 'pems_guard_truncate', 'A',
         'BEFORE TRUNCATE ON %s FOR EACH STATEMENT', '_pems_guard_truncate'),
        ('pfa_mirror', 'pems_guard_truncate', 'A',
         'BEFORE TRUNCATE ON %s FOR EACH STATEMENT', '_pems_guard_truncate'),
        ('pfa_modification', 'pems_guard_truncate', 'A',
         'BEFORE TRUNCATE ON %s FOR EACH STATEMENT', '_pems_guard_truncate')
        ) AS t (table_name, trigger_name, enabled, event, function)
$function$;
COMMENT ON FUNCTION @extschema@._pems_host_triggers() IS
    'Internal: triggers of the extension on the application''s tables';

/*
 * _pems_host_foreign_keys(): the foreign keys from the extension's tables to the application's.  NOT VALID, because we
 * do not read the application's tables with the rights of a superuser: _pems_host_check_rows() looks at the rows that
 * there are already.
 */
CREATE FUNCTION @extschema@._pems_host_foreign_keys()
RETURNS TABLE (table_name text, constraint_name text, definition text, host_table text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT k.table_name, k.table_name || '_' || k.column_name || '_fkey',
           format('FOREIGN KEY (%I) REFERENCES @extschema@.%I (id)%s NOT VALID', k.column_name, k.host_table, k.action),
           k.host_table
    FROM (VALUES ('pfa_write_queue', 'modification_id', 'pfa_modification', ' ON DELETE CASCADE'),
                 ('pfa_write_queue', 'organization_id', 'organization', ' ON DELETE CASCADE'),
                 ('pfa_sync_conflict', 'modification_id', 'pfa_modification', ' ON DELETE CASCADE'),
                 ('pfa_sync_conflict', 'organization_id', 'organization', ' ON DELETE CASCADE'),
                 ('pems_credential', 'organization_id', 'organization', ' ON DELETE CASCADE'),
                 ('pems_pause', 'of_organization', 'organization', ' ON DELETE CASCADE')
         ) AS k (table_name, column_name, host_table, action)
$function$;
COMMENT ON FUNCTION @extschema@._pems_host_foreign_keys() IS
    'Internal: foreign keys from the extension''s tables to the application''s tables';

/*
 * _pems_foreign_key_states(): our foreign keys to the application's tables, each with its state: NULL; missing;
 * replaced, where it refers to another table than the one that has the name now.
 */
CREATE FUNCTION @extschema@._pems_foreign_key_states()
RETURNS TABLE (table_name text, constraint_name text, host_table text, definition text, state text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RETURN QUERY
    SELECT f.table_name, f.constraint_name, f.host_table, f.definition,
           CASE WHEN c.oid IS NULL THEN 'missing'
                WHEN c.confrelid <> to_regclass(format('@extschema@.%I', f.host_table))::oid
                THEN 'replaced' END
    FROM @extschema@._pems_host_foreign_keys() f
    LEFT JOIN pg_constraint c ON c.conname = f.constraint_name AND c.contype = 'f'
                             AND c.conrelid = to_regclass(format('@extschema@.%I', f.table_name));
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_foreign_key_states() IS
    'Internal: foreign keys of the extension to the application''s tables: missing, replaced, or (NULL) as they were '
    'made';

/*
 * _pems_own_triggers(): the triggers of the extension on its own tables, as the server shows them.
 */
CREATE FUNCTION @extschema@._pems_own_triggers() RETURNS TABLE (table_name text, trigger_name text, definition text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT t.table_name, t.trigger_name,
           format('%s ON %%s %s EXECUTE FUNCTION @extschema@.%I()', t.event, t.each, t.function)
    FROM (VALUES
        ('pfa_write_queue', 'pems_count_inserted', 'AFTER INSERT',
         'REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT', '_pems_tally'),
        ('pfa_write_queue', 'pems_count_updated', 'AFTER UPDATE',
         'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT', '_pems_tally'),
        ('pfa_write_queue', 'pems_count_deleted', 'AFTER DELETE',
         'REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT', '_pems_tally'),
        ('pfa_write_queue', 'pems_guard_delete', 'BEFORE DELETE',
         'FOR EACH ROW WHEN (old.unfinished)', '_pems_guard_item'),
        ('pfa_write_queue', 'pems_guard_truncate', 'BEFORE TRUNCATE', 'FOR EACH STATEMENT', '_pems_guard_truncate'),
        ('pems_claim', 'pems_guard_truncate', 'BEFORE TRUNCATE', 'FOR EACH STATEMENT', '_pems_guard_truncate'),
        ('pems_recheck', 'pems_guard_truncate', 'BEFORE TRUNCATE', 'FOR EACH STATEMENT', '_pems_guard_truncate'),
        ('pfa_sync_conflict', 'pems_guard_truncate', 'BEFORE TRUNCATE', 'FOR EACH STATEMENT', '_pems_guard_truncate'),
        ('pems_credential', 'pems_forget_credential', 'AFTER DELETE', 'FOR EACH ROW', '_pems_forget_credential'),
        ('pems_field', 'pems_field_customize', 'BEFORE INSERT OR UPDATE', 'FOR EACH ROW', '_pems_field_customize'),
        ('pems_field', 'pems_field_announce', 'AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE',
         'FOR EACH STATEMENT', '_pems_field_announce')
        ) AS t (table_name, trigger_name, event, each, function)
$function$;
COMMENT ON FUNCTION @extschema@._pems_own_triggers() IS 'Internal: triggers of the extension on its own tables';

/*
 * _pems_host_trigger_states(): the triggers of the extension on the application's tables and on its own, each with the
 * command that makes it and its state: NULL; missing; replaced, by another of its name; disabled, also when it fires
 * with another session_replication_role than it should (which is what a load with --disable-triggers leaves behind).
 * The commands are compared as texts, which must not depend on quote_all_identifiers.
 */
CREATE FUNCTION @extschema@._pems_host_trigger_states()
RETURNS TABLE (table_name text, trigger_name text, enabled text, command text, state text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $function$
    SELECT t.table_name, t.trigger_name, t.enabled, c.command,
           CASE WHEN g.oid IS NULL THEN 'missing' WHEN pg_get_triggerdef(g.oid) <> c.command THEN 'replaced'
                WHEN g.tgenabled::text <> t.enabled THEN 'disabled' END
    FROM (SELECT h.table_name, h.trigger_name, h.enabled, h.definition FROM @extschema@._pems_host_triggers() h
          UNION ALL
          SELECT o.table_name, o.trigger_name, 'A', o.definition FROM @extschema@._pems_own_triggers() o) t
    CROSS JOIN LATERAL (SELECT format('@extschema@.%I', t.table_name) AS name) r
    CROSS JOIN LATERAL (
        SELECT format('CREATE TRIGGER %I ', t.trigger_name) || format(t.definition, r.name) AS command) c
    LEFT JOIN pg_trigger g ON g.tgname = t.trigger_name AND g.tgrelid = to_regclass(r.name)
$function$;
COMMENT ON FUNCTION @extschema@._pems_host_trigger_states() IS
    'Internal: triggers of the extension on the application''s tables and on its own: missing, replaced, disabled, or '
    '(NULL) as they were made';

/*
 * _pems_host_missing(): what an attach would make or make again, because somebody has removed or changed it, or the
 * table is another one than it was, or a restore has left it out.
 * Returns: a sentence each.
 */
CREATE FUNCTION @extschema@._pems_host_missing() RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT format('USAGE on schema %s was taken from role %s', '@extschema@'::regnamespace, r.role)
    FROM (VALUES ('pems_sync_reader'::name), ('pems_sync_worker')) AS r (role)
    WHERE NOT has_schema_privilege(r.role, '@extschema@'::regnamespace, 'USAGE')
    UNION ALL
    SELECT format(CASE t.state WHEN 'missing' THEN 'trigger %s of %s is missing' ELSE 'trigger %s of %s was %s' END,
                  t.trigger_name, t.table_name, t.state)
    FROM @extschema@._pems_host_trigger_states() t WHERE t.state IS NOT NULL
    UNION ALL
    SELECT format('foreign key %s of %s is %s', f.constraint_name, f.table_name, f.state)
    FROM @extschema@._pems_foreign_key_states() f WHERE f.state IS NOT NULL
    UNION ALL
    SELECT 'index idx_modification_syncstatus of pfa_modification is missing'
    WHERE NOT EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = to_regclass('@extschema@.idx_modification_syncstatus')
                      AND i.indrelid = to_regclass('@extschema@.pfa_modification'))
$function$;
COMMENT ON FUNCTION @extschema@._pems_host_missing() IS
    'Internal: what an attach would make or make again, a sentence each';

/*
 * _pems_host_extend(): adds what is not there yet: columns, index, triggers, foreign keys,
 * grants for the worker.  Where the triggers that count were gone or disabled, counts anew.
 */
CREATE FUNCTION @extschema@._pems_host_extend() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    item      record;
    uncounted CONSTANT boolean := EXISTS (SELECT FROM @extschema@._pems_host_trigger_states() t
                                          WHERE t.state IS NOT NULL AND t.trigger_name ~ '^pems_count_');
BEGIN
    FOR item IN
        SELECT format('ALTER TABLE @extschema@.%I ADD COLUMN %I %s', a.table_name, a.column_name, a.definition)
                   AS command
        FROM @extschema@._pems_host_added() a
        WHERE NOT EXISTS (SELECT FROM pg_attribute c WHERE c.attname = a.column_name AND NOT c.attisdropped
                          AND c.attrelid = format('@extschema@.%I', a.table_name)::regclass)
        UNION ALL
        SELECT 'CREATE INDEX idx_modification_syncstatus ON @extschema@.pfa_modification (organization_id, sync_status)'
        WHERE to_regclass('@extschema@.idx_modification_syncstatus') IS NULL
        UNION ALL
        SELECT x.command FROM @extschema@._pems_host_trigger_states() t
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
        FROM @extschema@._pems_host_triggers() h
        UNION ALL
        -- the history is complete whoever writes the mirror, also with session_replication_role = replica
        SELECT format('ALTER TABLE @extschema@.%I ENABLE %s TRIGGER %I', t.table_name,
                      CASE t.enabled WHEN 'R' THEN 'REPLICA' ELSE 'ALWAYS' END, t.trigger_name)
        FROM @extschema@._pems_host_trigger_states() t WHERE t.state = 'disabled'
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
COMMENT ON FUNCTION @extschema@._pems_host_extend() IS
    'Internal: adds columns, index, triggers, foreign keys and grants to the application''s tables';

/*
 * _pems_host_lock(): locks the application's tables against everybody until the transaction ends.
 *
 * An application may have written one of them and be about to use the next, for which it would wait while we have it,
 * and we wait for the first: a deadlock, which may end its transaction instead of ours.  So nothing is locked while we
 * wait for long: after a moment all that was locked is let go, and it is tried again.  The moment is shorter than the
 * time after which the server looks for deadlocks.
 * Errors: 55000 when other transactions have them for ten seconds.
 */
CREATE FUNCTION @extschema@._pems_host_lock() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms' AS $function$
DECLARE
    until_deadlock CONSTANT interval := current_setting('deadlock_timeout')::interval;
    holders        text;
BEGIN
    PERFORM set_config('lock_timeout',
                       least(200, greatest(1, extract(epoch FROM until_deadlock) * 500)::integer)::text, true);
    FOR attempt IN 1 .. 35 LOOP
        BEGIN
            PERFORM @extschema@._pems_host_intact(exclusively => true);
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
      AND c.relname IN (SELECT h.table_name FROM @extschema@._pems_host_columns() h);
    RAISE EXCEPTION 'other transactions have the tables of the application'
        USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = concat('Ten seconds were not enough for them to end.',
                              ' They are of process ' || holders || '.'),
              HINT = 'Try again when they have ended; pg_stat_activity shows what they do.';
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_host_lock() IS
    'Internal: locks the application''s tables against everybody, without a deadlock; 55000 when others have them for '
    'ten seconds';

/*
 * _pems_host_check_rows(): do the rows of the extension's tables refer to rows of the application that exist?
 * Credentials and pauses that do not are deleted, as they would be with their organization.
 * Errors: 55000 with the tables and how many rows of the others do not; 55000 when an organization has the id *.
 */
CREATE FUNCTION @extschema@._pems_host_check_rows() RETURNS void
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
                      @extschema@._pems_counted(count(*), 'row'::text, 'rows'::text), r.table_name, r.host_table,
                      left(min(r.id), 100)) AS line
        FROM (
            SELECT 'pfa_write_queue' AS table_name, 'pfa_modification' AS host_table, q.modification_id AS id
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
        GROUP BY r.table_name, r.host_table) o;
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
COMMENT ON FUNCTION @extschema@._pems_host_check_rows() IS
    'Internal: 55000 when rows of the extension refer to rows of the application that do not exist';

/*
 * _pems_host_snapshot(): adds to the history what the mirror has and the history has not.
 * Returns: how many versions.
 * Tables: pfa_mirror, pems_mirror_version.
 */
CREATE FUNCTION @extschema@._pems_host_snapshot() RETURNS bigint
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
COMMENT ON FUNCTION @extschema@._pems_host_snapshot() IS
    'Internal: adds to the history what the mirror has and the history has not';
