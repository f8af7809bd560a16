/*
 * 30_attach: the application's tables: what they must look like, and what the
 * extension adds to them.
 */

/*
 * _pems_host_columns(): the columns that the host tables must have.
 */
CREATE FUNCTION @extschema@._pems_host_columns()
RETURNS TABLE (table_name text, column_name text, column_type regtype)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    VALUES ('organization', 'id', 'text'::regtype), ('organization', 'code', 'text'), ('organization', 'name', 'text'),
           ('pfa_mirror', 'id', 'text'), ('pfa_mirror', 'organization_id', 'text'), ('pfa_mirror', 'pfa_id', 'text'),
           ('pfa_mirror', 'version', 'integer'), ('pfa_mirror', 'data', 'jsonb'),
           ('pfa_modification', 'id', 'text'), ('pfa_modification', 'organization_id', 'text'),
           ('pfa_modification', 'pfa_id', 'text'), ('pfa_modification', 'base_version', 'integer'),
           ('pfa_modification', 'delta', 'jsonb'), ('pfa_modification', 'created_by', 'text'),
           ('pfa_modification', 'created_at', 'timestamptz')
$function$;
COMMENT ON FUNCTION @extschema@._pems_host_columns() IS 'Internal: columns that the host tables must have';

/*
 * _pems_host_added(): the columns that attach adds, with what stands behind their name in
 * ALTER TABLE.
 */
CREATE FUNCTION @extschema@._pems_host_added()
RETURNS TABLE (table_name text, column_name text, column_type regtype, definition text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    VALUES ('pfa_mirror', 'deleted_at', 'timestamptz'::regtype, 'timestamptz'),
           ('pfa_mirror', 'last_synced_at', 'timestamptz', 'timestamptz'),
           ('pfa_modification', 'operation', 'text', 'text DEFAULT ''UPDATE'''),
           ('pfa_modification', 'change_reason', 'text', 'text'),
           ('pfa_modification', 'sync_status', 'text', 'text DEFAULT ''draft'''),
           ('pfa_modification', 'synced_at', 'timestamptz', 'timestamptz'),
           ('pfa_modification', 'sync_error', 'text', 'text'),
           ('pfa_modification', 'pems_version', 'integer', 'integer')
$function$;
COMMENT ON FUNCTION @extschema@._pems_host_added() IS 'Internal: columns that pems_attach() adds to the host tables';

/*
 * _pems_host_keys(): the keys that the host tables must have (a primary key, or a unique
 * index or constraint over just these columns).
 */
CREATE FUNCTION @extschema@._pems_host_keys() RETURNS TABLE (table_name text, columns text[])
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    VALUES ('organization', '{id}'::text[]), ('organization', '{code}'), ('pfa_mirror', '{id}'),
           ('pfa_mirror', '{organization_id,pfa_id}'), ('pfa_modification', '{id}')
$function$;
COMMENT ON FUNCTION @extschema@._pems_host_keys() IS 'Internal: keys that the host tables must have';

/*
 * _pems_host_foreign_code(relation): what the planner evaluates whenever somebody reads that table, and what does not
 * come with PostgreSQL: functions, operators, types and collations in the expressions and conditions of its indexes and
 * in its statistics.  A type may have a CHECK that calls a function, so it does not matter whose it is.  We would run
 * them, with our rights.
 */
CREATE FUNCTION @extschema@._pems_host_foreign_code(relation oid) RETURNS TABLE (place text, name text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    WITH expression AS (
        SELECT 'pg_class'::regclass AS class, i.indexrelid AS object, format('index %s', c.relname) AS place
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        WHERE i.indrelid = relation AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)
        UNION ALL
        SELECT 'pg_statistic_ext'::regclass, s.oid, format('statistics %s', s.stxname)
        FROM pg_statistic_ext s WHERE s.stxrelid = relation
    )
    -- what PostgreSQL itself needs has no rows in pg_depend
    SELECT DISTINCT e.place, format('%s %s', o.type, o.identity)
    FROM expression e
    JOIN pg_depend d ON d.classid = e.class AND d.objid = e.object AND d.refobjid <> relation
         AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass,
                              'pg_collation'::regclass, 'pg_class'::regclass)
    CROSS JOIN LATERAL pg_identify_object(d.refclassid, d.refobjid, 0) o
    WHERE o.schema <> 'pg_catalog'
$function$;
COMMENT ON FUNCTION @extschema@._pems_host_foreign_code(oid) IS
    'Internal: what expressions of indexes and statistics of a table use that does not come with PostgreSQL';

/*
 * _pems_host_obstacles(relation): what would keep us from writing one of the host tables, from referring to it, or from
 * comparing its keys: a line each, with the statement that mends it.
 */
CREATE FUNCTION @extschema@._pems_host_obstacles(relation oid) RETURNS TABLE (name text, line text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    WITH host AS (
        SELECT c.oid, n.nspname, c.relname, c.relname <> 'organization' AS written, c.relpersistence, c.relreplident,
               c.relrowsecurity AND c.relforcerowsecurity AS forced,
               format('ALTER TABLE %s', c.oid::regclass) AS command
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation
    ), used AS (
        SELECT h.relname, h.command, a.attname, a.attnotnull, a.attcollation
        FROM host h JOIN pg_attribute a ON a.attrelid = h.oid AND NOT a.attisdropped
        JOIN (SELECT e.table_name, e.column_name FROM @extschema@._pems_host_columns() e
              UNION ALL SELECT d.table_name, d.column_name FROM @extschema@._pems_host_added() d) u
          ON u.table_name = h.relname AND u.column_name = a.attname
    )
    SELECT '', format('%s has FORCE ROW LEVEL SECURITY, which may hide rows from its owner, who writes them: '
                      '%s NO FORCE ROW LEVEL SECURITY', h.relname, h.command)
    FROM host h WHERE h.written AND h.forced
    UNION ALL
    SELECT '', format('%s is unlogged, so nothing can refer to it: %s SET LOGGED', h.relname, h.command)
    FROM host h WHERE h.relpersistence = 'u'
    UNION ALL
    SELECT '', format('%s is published without a replica identity, so its rows cannot be updated: '
                      '%s REPLICA IDENTITY FULL', h.relname, h.command)
    FROM host h
    WHERE h.written AND h.relreplident <> 'f'
      AND NOT EXISTS (SELECT FROM pg_index i
                      WHERE i.indrelid = h.oid AND i.indisvalid AND i.indimmediate
                        AND CASE h.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END)
      AND EXISTS (SELECT FROM pg_publication p JOIN pg_publication_tables t ON t.pubname = p.pubname
                  WHERE p.pubupdate AND t.schemaname = h.nspname AND t.tablename = h.relname)
    UNION ALL
    SELECT u.attname, format('column %s.%s has the nondeterministic collation %s: '
                             '%s ALTER COLUMN %I TYPE text COLLATE pg_catalog."default"',
                             u.relname, u.attname, c.oid::regcollation, u.command, u.attname)
    FROM used u JOIN pg_collation c ON c.oid = u.attcollation WHERE NOT c.collisdeterministic
    UNION ALL
    SELECT u.attname, format('column %s.%s must accept NULL: %s ALTER COLUMN %I DROP NOT NULL',
                             u.relname, u.attname, u.command, u.attname)
    FROM used u
    WHERE u.attnotnull AND (u.relname, u.attname) IN (('pfa_mirror', 'deleted_at'), ('pfa_modification', 'sync_error'))
$function$;
COMMENT ON FUNCTION @extschema@._pems_host_obstacles(oid) IS
    'Internal: what would keep the extension from writing a host table, with the statement that mends it';

/*
 * _pems_host_key_problem(relation, columns): NULL when a unique index of the table has just these columns and foreign
 * keys may refer to it; else a line.
 */
CREATE FUNCTION @extschema@._pems_host_key_problem(relation oid, columns text[]) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    WITH key AS (
        SELECT i.indexrelid, i.indimmediate FROM pg_index i
        WHERE i.indrelid = relation AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
          AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute a
               WHERE a.attrelid = relation AND a.attnum = ANY ((i.indkey::smallint[])[0:i.indnkeyatts - 1]))
              = (SELECT array_agg(u.c ORDER BY u.c) FROM unnest(columns) u (c))
    )
    SELECT coalesce(
        (SELECT format('the key of %s on (%s) is deferrable, so nothing can refer to it: '
                       'ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s',
                       r.relname, array_to_string(columns, ', '), relation::regclass, c.conname, c.conname,
                       replace(replace(pg_get_constraintdef(c.oid), ' INITIALLY DEFERRED', ''), ' DEFERRABLE', ''))
         FROM key k
         JOIN pg_constraint c ON c.conindid = k.indexrelid AND c.conrelid = relation AND c.contype IN ('p', 'u')
         ORDER BY c.conname LIMIT 1),
        format('%s needs a primary key or unique constraint on (%s)', r.relname, array_to_string(columns, ', ')))
    FROM pg_class r WHERE r.oid = relation AND NOT EXISTS (SELECT FROM key k WHERE k.indimmediate)
$function$;
COMMENT ON FUNCTION @extschema@._pems_host_key_problem(oid, text[]) IS
    'Internal: a line when a host table has no key on these columns that foreign keys may refer to';

/*
 * _pems_host_problems(attached): one line for each table, column or key that is missing or of the
 * wrong type, for what would run with our rights, and for what we could not write; an empty array when all is well.
 * attached: the columns that attach adds must be there, too.
 */
CREATE FUNCTION @extschema@._pems_host_problems(attached boolean) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    WITH host AS (
        SELECT t.table_name, c.oid, c.relkind
        FROM (SELECT DISTINCT h.table_name FROM @extschema@._pems_host_columns() h) t
        LEFT JOIN pg_class c ON c.relname = t.table_name AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
                            AND c.relnamespace = '@extschema@'::regnamespace
    ), expected AS (
        SELECT e.table_name, e.column_name, e.column_type, true AS required, '' AS remedy
        FROM @extschema@._pems_host_columns() e
        UNION ALL
        SELECT a.table_name, a.column_name, a.column_type, attached, '; pems_attach() adds it again'
        FROM @extschema@._pems_host_added() a
    ), problem AS (
        SELECT h.table_name, 1 AS rank, '' AS name, format('table %s is missing', h.table_name) AS line
        FROM host h WHERE h.oid IS NULL
        UNION ALL
        SELECT h.table_name, 1, '', format('%s is not an ordinary table', h.table_name)
        FROM host h WHERE h.relkind <> 'r'
        UNION ALL
        SELECT h.table_name, 2, e.column_name, format('column %s.%s (%s) is missing%s', h.table_name, e.column_name,
                   e.column_type, e.remedy)
        FROM host h JOIN expected e USING (table_name)
        LEFT JOIN pg_attribute a ON a.attrelid = h.oid AND a.attname = e.column_name AND NOT a.attisdropped
        WHERE h.relkind = 'r' AND e.required AND a.attname IS NULL
        UNION ALL
        SELECT h.table_name, 2, e.column_name, format('column %s.%s must be %s, not %s', h.table_name, e.column_name,
                   e.column_type, format_type(a.atttypid, a.atttypmod))
        FROM host h JOIN expected e USING (table_name)
        JOIN pg_attribute a ON a.attrelid = h.oid AND a.attname = e.column_name AND NOT a.attisdropped
        WHERE h.relkind = 'r' AND a.atttypid <> e.column_type
        UNION ALL
        SELECT h.table_name, 3, k.columns::text, @extschema@._pems_host_key_problem(h.oid, k.columns)
        FROM host h JOIN @extschema@._pems_host_keys() k USING (table_name)
        WHERE h.relkind = 'r'
        UNION ALL
        SELECT h.table_name, 4, '', format('%s has child tables, whose rows its keys do not know', h.table_name)
        FROM host h WHERE h.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = h.oid)
        UNION ALL
        SELECT h.table_name, 5, f.place || f.name,
               format('%s of %s uses %s, which does not come with PostgreSQL', f.place, h.table_name, f.name)
        FROM host h CROSS JOIN LATERAL @extschema@._pems_host_foreign_code(h.oid) f
        WHERE h.relkind = 'r'
        UNION ALL
        SELECT h.table_name, 6, o.name, o.line FROM host h CROSS JOIN LATERAL @extschema@._pems_host_obstacles(h.oid) o
        WHERE h.relkind = 'r'
    )
    SELECT coalesce(array_agg(p.line ORDER BY p.table_name, p.rank, p.name), '{}')
    FROM problem p WHERE p.line IS NOT NULL
$function$;
COMMENT ON FUNCTION @extschema@._pems_host_problems(boolean) IS
    'Internal: everything that is wrong with the host tables, a line each';

/*
 * _pems_host_create(owner): makes the host tables that do not exist, owned by that role.
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
                'delta jsonb NOT NULL DEFAULT ''{}'', created_by text NOT NULL, created_at timestamptz NOT NULL DEFAULT now()')
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
COMMENT ON FUNCTION @extschema@._pems_host_create(text) IS 'Internal: makes the host tables that do not exist';

/*
 * _pems_host_triggers(): the triggers of the extension on the host tables.
 */
CREATE FUNCTION @extschema@._pems_host_triggers() RETURNS TABLE (table_name text, trigger_name text, definition text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    VALUES ('pfa_mirror', 'pems_versions_inserted', 'AFTER INSERT ON %s REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._pems_record_versions()'),
           ('pfa_mirror', 'pems_versions_updated', 'AFTER UPDATE ON %s REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._pems_record_versions()'),
           ('organization', 'pems_guard_truncate', 'BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._pems_guard_truncate()'),
           ('pfa_mirror', 'pems_guard_truncate', 'BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._pems_guard_truncate()'),
           ('pfa_modification', 'pems_guard_truncate', 'BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._pems_guard_truncate()')
$function$;
COMMENT ON FUNCTION @extschema@._pems_host_triggers() IS 'Internal: triggers of the extension on the host tables';

/*
 * _pems_host_foreign_keys(): the foreign keys from the extension's tables to the host tables.  NOT VALID, because we
 * do not read the host tables with the rights of a superuser: _pems_host_check_rows() looks at what is there already.
 */
CREATE FUNCTION @extschema@._pems_host_foreign_keys() RETURNS TABLE (table_name text, constraint_name text, definition text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT k.table_name, k.table_name || '_' || k.column_name || '_fkey',
           format('FOREIGN KEY (%I) REFERENCES @extschema@.%I (id)%s NOT VALID', k.column_name, k.host_table, k.action)
    FROM (VALUES ('pfa_write_queue', 'modification_id', 'pfa_modification', ' ON DELETE CASCADE'),
                 ('pfa_write_queue', 'organization_id', 'organization', ''),
                 ('pfa_sync_conflict', 'modification_id', 'pfa_modification', ' ON DELETE CASCADE'),
                 ('pfa_sync_conflict', 'organization_id', 'organization', ''),
                 ('pems_credential', 'organization_id', 'organization', ' ON DELETE CASCADE'),
                 ('pems_pause', 'of_organization', 'organization', ' ON DELETE CASCADE')
         ) AS k (table_name, column_name, host_table, action)
$function$;
COMMENT ON FUNCTION @extschema@._pems_host_foreign_keys() IS 'Internal: foreign keys from the extension''s tables to the host tables';

/*
 * _pems_host_trigger_states(): the triggers of the extension on the host tables, each with the command that makes it
 * and its state: NULL; missing; replaced, by another of its name; disabled, also when it fires only with
 * session_replication_role = origin.  The commands are compared as texts, which must not depend on
 * quote_all_identifiers.
 */
CREATE FUNCTION @extschema@._pems_host_trigger_states()
RETURNS TABLE (table_name text, trigger_name text, command text, state text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $function$
    SELECT t.table_name, t.trigger_name, c.command,
           CASE WHEN g.oid IS NULL THEN 'missing' WHEN pg_get_triggerdef(g.oid) <> c.command THEN 'replaced'
                WHEN g.tgenabled <> 'A' THEN 'disabled' END
    FROM @extschema@._pems_host_triggers() t
    CROSS JOIN LATERAL (SELECT format('@extschema@.%I', t.table_name) AS name) r
    CROSS JOIN LATERAL (
        SELECT format('CREATE TRIGGER %I ', t.trigger_name) || format(t.definition, r.name) AS command) c
    LEFT JOIN pg_trigger g ON g.tgname = t.trigger_name AND g.tgrelid = to_regclass(r.name)
$function$;
COMMENT ON FUNCTION @extschema@._pems_host_trigger_states() IS
    'Internal: triggers of the extension on the host tables: missing, replaced, disabled, or (NULL) as they were '
    'made';

/*
 * _pems_host_missing(): what an attach would make or make again, because somebody has taken it off or changed it, or
 * the table is another one than it was, or a restore has left it out.  A line for each.
 */
CREATE FUNCTION @extschema@._pems_host_missing() RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT format(CASE t.state WHEN 'missing' THEN 'trigger %s of %s is missing' ELSE 'trigger %s of %s was %s' END,
                  t.trigger_name, t.table_name, t.state)
    FROM @extschema@._pems_host_trigger_states() t WHERE t.state IS NOT NULL
    UNION ALL
    SELECT format('foreign key %s of %s is missing', f.constraint_name, f.table_name)
    FROM @extschema@._pems_host_foreign_keys() f
    WHERE NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conname = f.constraint_name
                      AND c.conrelid = to_regclass(format('@extschema@.%I', f.table_name)))
    UNION ALL
    SELECT 'index idx_modification_syncstatus of pfa_modification is missing'
    WHERE to_regclass('@extschema@.idx_modification_syncstatus') IS NULL
$function$;
COMMENT ON FUNCTION @extschema@._pems_host_missing() IS
    'Internal: what an attach would make or make again, a line each';

/*
 * _pems_host_extend(): adds what is not there yet: columns, index, triggers, foreign keys,
 * grants for the worker.
 */
CREATE FUNCTION @extschema@._pems_host_extend() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    item  record;
BEGIN
    FOR item IN
        SELECT format('ALTER TABLE @extschema@.%I ADD COLUMN %I %s', a.table_name, a.column_name, a.definition) AS command
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
        SELECT format('ALTER TABLE @extschema@.%I ADD CONSTRAINT %I %s', f.table_name, f.constraint_name, f.definition)
        FROM @extschema@._pems_host_foreign_keys() f
        WHERE NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conname = f.constraint_name
                          AND c.conrelid = format('@extschema@.%I', f.table_name)::regclass)
    LOOP
        EXECUTE item.command;
    END LOOP;

    FOR item IN
        SELECT t.trigger_name, t.table_name, g.tgenabled FROM @extschema@._pems_host_triggers() t
        JOIN pg_trigger g ON g.tgname = t.trigger_name AND g.tgrelid = format('@extschema@.%I', t.table_name)::regclass
    LOOP
        -- DROP EXTENSION then takes the triggers along instead of complaining about them
        EXECUTE format('ALTER TRIGGER %I ON @extschema@.%I DEPENDS ON EXTENSION pems_sync', item.trigger_name, item.table_name);
        -- the history is complete whoever writes the mirror, also with session_replication_role = replica
        IF item.tgenabled <> 'A' THEN
            EXECUTE format('ALTER TABLE @extschema@.%I ENABLE ALWAYS TRIGGER %I', item.table_name, item.trigger_name);
        END IF;
    END LOOP;

    -- SELECT to read; the rest for tables whose owner is a superuser: the worker writes
    -- those as itself, because an owner's triggers must not run as a superuser.
    GRANT SELECT, INSERT, UPDATE ON @extschema@.pfa_mirror, @extschema@.pfa_modification TO pems_sync_worker;
    GRANT SELECT ON @extschema@.organization TO pems_sync_worker;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_host_extend() IS 'Internal: adds columns, index, triggers, foreign keys and grants to the host tables';

/*
 * _pems_host_check_rows(): do the rows of the extension's tables refer to rows of the host tables that exist?
 * Credentials and pauses that do not are deleted, as they would be with their organization.
 * Errors: 55000 with the tables and how many rows of the others do not.
 */
CREATE FUNCTION @extschema@._pems_host_check_rows() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    orphans text;
BEGIN
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
    'Internal: 55000 when rows of the extension refer to rows of the host tables that do not exist';

/*
 * _pems_host_snapshot(): adds to the history what the mirror has and the history has not.
 * Returns: how many versions.
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

/*
 * _pems_foreign_functions(): functions in the extension's schema that are called like ours and are not: a call of ours
 * could mean them.
 */
CREATE FUNCTION @extschema@._pems_foreign_functions() RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT format('function %s of role %s is called like one of pems_sync: drop or rename it',
                  p.oid::regprocedure, p.proowner::regrole)
    FROM pg_proc p
    WHERE p.pronamespace = '@extschema@'::regnamespace AND p.proname ~ '^_?pems_'
      AND NOT EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pems_sync'
                      WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
                        AND d.refclassid = 'pg_extension'::regclass)
    ORDER BY p.oid::regprocedure::text
$function$;
COMMENT ON FUNCTION @extschema@._pems_foreign_functions() IS
    'Internal: functions in the schema that are called like those of the extension and are not';

/*
 * _pems_host_unfilled(host_table): columns of a host table that need a value which we do not have when we insert a row:
 * a mirror that is missing, the modification of a rollback.  Where a trigger of the application looks at the new rows
 * first, it may fill them: none then.
 */
CREATE FUNCTION @extschema@._pems_host_unfilled(host_table text) RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT a.attname
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = to_regclass(format('@extschema@.%I', host_table)) AND a.attnum > 0 AND NOT a.attisdropped
      AND (a.attnotnull OR t.typnotnull) AND NOT a.atthasdef AND a.attidentity = '' AND t.typdefault IS NULL
      AND a.attname <> ALL (CASE host_table
              WHEN 'pfa_mirror' THEN '{id,organization_id,pfa_id,version,data,last_synced_at}'::text[]
              ELSE '{id,organization_id,pfa_id,base_version,delta,created_by,created_at,operation,change_reason,
                     sync_status}'::text[] END)
      -- 7: row, before, insert; a domain's NOT NULL is checked before
      AND (t.typnotnull OR NOT EXISTS (SELECT FROM pg_trigger g
                                       WHERE g.tgrelid = a.attrelid AND g.tgtype & 7 = 7 AND g.tgenabled IN ('O', 'A')))
    ORDER BY a.attnum
$function$;
COMMENT ON FUNCTION @extschema@._pems_host_unfilled(text) IS
    'Internal: columns of a host table that need a value which the extension does not have when it inserts a row';

/*
 * _pems_attach_warnings(): what does not keep pems_attach() from working, but somebody from using it: a row each.
 */
CREATE FUNCTION @extschema@._pems_attach_warnings() RETURNS TABLE (code text, message text, hint text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT 'FOREIGN_FUNCTION', f, 'A call that is meant for pems_sync could run it.'
    FROM @extschema@._pems_foreign_functions() f
    UNION ALL
    SELECT 'UNFILLED_COLUMN',
           format('column %s.%s needs a value that pems_sync does not have: %s fails', h.name, c, h.use),
           format('Give it a default: ALTER TABLE @extschema@.%I ALTER COLUMN %I SET DEFAULT ...', h.name, c)
    FROM (VALUES ('pfa_mirror'::text, 'inserting a mirror that is missing'),
                 ('pfa_modification', 'pems_rollback()')) AS h (name, use)
    CROSS JOIN LATERAL @extschema@._pems_host_unfilled(h.name) AS c
$function$;
COMMENT ON FUNCTION @extschema@._pems_attach_warnings() IS 'Internal: what pems_attach() warns of';

/*
 * pems_attach(create_missing)
 *
 * Checks the application's tables (organization, pfa_mirror, pfa_modification in the
 * extension's schema), adds the columns, indexes, triggers and foreign keys that the
 * extension needs, and takes the first snapshot of the mirror.  May be called again at any time.
 *
 * Runs with the rights of the extension's owner, and so reads none of the application's rows: what does, runs as
 * pems_sync_worker.
 *
 * Parameters: create_missing: make tables that do not exist, as ordinary tables of the caller.
 * Returns: {success, created: [table names], snapshot: number of versions added, warnings: [{code, message}]}; each
 *   warning is a WARNING, too.  FOREIGN_FUNCTION: somebody else's function is called like one of ours; UNFILLED_COLUMN:
 *   a column of a host table must not be NULL, and we have no value for it.
 * Errors: 55000 with every missing table, column and wrong type in DETAIL, and what would run with the rights of the
 *   extension; 55000 when items or conflicts refer to modifications or organizations that do not exist.
 * Tables: host tables; pems_mirror_version, pems_control.
 */
CREATE FUNCTION @extschema@.pems_attach(create_missing boolean DEFAULT false) RETURNS jsonb
-- constraint_exclusion: the planner is not to evaluate the CHECK constraints of tables that are not ours
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET constraint_exclusion = partition AS $function$
DECLARE
    made      text[] := '{}';
    problems  text[];
    snapshot  bigint;
    partition text;
    warning   record;
    warnings  jsonb := '[]';
BEGIN
    PERFORM @extschema@._pems_demand_guard();
    IF create_missing THEN
        made := @extschema@._pems_host_create(@extschema@._pems_caller());
    END IF;

    -- nobody is to change anything about them between this look and the end
    PERFORM @extschema@._pems_host_intact(exclusively => true);
    problems := @extschema@._pems_host_problems(false);
    IF problems <> '{}' THEN
        RAISE EXCEPTION 'the tables of the application are not as pems_sync needs them'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = array_to_string(problems, E'\n'),
                  HINT = 'Correct them in schema @extschema@, or, in a new database, run '
                         'SELECT @extschema@.pems_attach(create_missing => true).';
    END IF;

    PERFORM @extschema@._pems_host_extend();
    PERFORM @extschema@._pems_host_check_rows();
    snapshot := @extschema@._pems_host_snapshot();
    PERFORM @extschema@._pems_make_audit_partitions();
    -- those that CREATE EXTENSION makes would be its members, whose rows pg_dump leaves out
    FOR partition IN
        SELECT format('@extschema@.%I', c.relname)
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid AND c.relname <> 'pems_audit_log_default'
        JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
        WHERE i.inhparent = '@extschema@.pems_audit_log'::regclass
    LOOP
        EXECUTE 'ALTER EXTENSION pems_sync DROP TABLE ' || partition;
    END LOOP;

    INSERT INTO @extschema@.pems_control AS c (cluster) VALUES (@extschema@._pems_cluster())
    ON CONFLICT (singleton) DO UPDATE SET cluster = excluded.cluster, attached_at = now();
    PERFORM @extschema@._pems_wake(configuration => true);
    PERFORM @extschema@._pems_make_audit_partitions();

    FOR warning IN SELECT w.code, w.message, w.hint FROM @extschema@._pems_attach_warnings() w LOOP
        RAISE WARNING '%', warning.message USING HINT = warning.hint;
        warnings := warnings || jsonb_build_object('code', warning.code, 'message', warning.message);
    END LOOP;
    RETURN jsonb_build_object('success', true, 'created', to_jsonb(made), 'snapshot', snapshot, 'warnings', warnings);
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_attach(boolean) IS 'Checks the application''s tables and adds columns, indexes, triggers and foreign keys; create_missing makes tables that do not exist. Idempotent. Error 55000 lists everything that is missing or of the wrong type.';

/*
 * pems_detach()
 *
 * Takes the triggers and foreign keys off the application's tables again; columns and data
 * stay.  Nothing is sent until pems_attach() runs.
 *
 * Returns: {success}
 * Tables: host tables; pems_control.
 */
CREATE FUNCTION @extschema@.pems_detach() RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    item record;
BEGIN
    PERFORM @extschema@._pems_demand_guard();
    FOR item IN
        SELECT format('DROP TRIGGER %I ON %s', g.tgname, g.tgrelid::regclass) AS command
        FROM @extschema@._pems_host_triggers() t
        JOIN pg_trigger g ON g.tgname = t.trigger_name
             AND g.tgrelid = to_regclass(format('@extschema@.%I', t.table_name))
        UNION ALL
        SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', c.conrelid::regclass, c.conname)
        FROM @extschema@._pems_host_foreign_keys() f
        JOIN pg_constraint c ON c.conname = f.constraint_name
             AND c.conrelid = format('@extschema@.%I', f.table_name)::regclass
    LOOP
        EXECUTE item.command;
    END LOOP;
    DELETE FROM @extschema@.pems_control;
    PERFORM @extschema@._pems_wake(configuration => true);
    RETURN jsonb_build_object('success', true);
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_detach() IS 'Takes the triggers and foreign keys off the application''s tables; nothing is sent until pems_attach() runs again';

/*
 * _pems_keep_schema(): event trigger, after ALTER SCHEMA.  The functions name their schema, so it must not get another name.
 * (ALTER EXTENSION ... SET SCHEMA is refused by the server: relocatable = false.)
 * Errors: 0A000 when the schema of the extension was renamed.
 */
CREATE FUNCTION @extschema@._pems_keep_schema() RETURNS event_trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF (SELECT e.extnamespace FROM pg_extension e WHERE e.extname = 'pems_sync') IS DISTINCT FROM to_regnamespace('@extschema@')::oid THEN
        RAISE EXCEPTION 'schema @extschema@ cannot be renamed: pems_sync is installed in it'
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = 'The functions of pems_sync name the schema.',
                  HINT = 'Leave its name, or drop the extension first; its tables go with it.';
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_keep_schema() IS 'Internal event trigger: the schema of the extension cannot be renamed';

CREATE EVENT TRIGGER pems_keep_schema ON ddl_command_end WHEN TAG IN ('ALTER SCHEMA')
    EXECUTE FUNCTION @extschema@._pems_keep_schema();
COMMENT ON EVENT TRIGGER pems_keep_schema IS 'pems_sync: the schema of the extension cannot be renamed';
