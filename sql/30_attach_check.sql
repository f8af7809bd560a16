/*
 * 30_attach_check: what the application's tables must look like, and what is wrong with those that there are.
 *
 * Functions named _pems_app_... are about the application's tables: organization, pfa_mirror and pfa_modification in
 * the schema of the extension.
 */

/*
 * _pems_app_columns(): the columns that the application's tables must have.
 * Returns: a row for each column.
 */
CREATE FUNCTION @extschema@._pems_app_columns()
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
COMMENT ON FUNCTION @extschema@._pems_app_columns() IS 'Internal: columns that the application''s tables must have';

/*
 * _pems_app_added(): the columns that attach adds to them.
 * Returns: a row for each column; definition: what follows its name in ALTER TABLE.
 */
CREATE FUNCTION @extschema@._pems_app_added()
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
COMMENT ON FUNCTION @extschema@._pems_app_added() IS
    'Internal: columns that pems_attach() adds to the application''s tables';

/*
 * _pems_app_keys(): the keys that the application's tables must have (a primary key, or a unique index or constraint
 * over just these columns).
 * Returns: a row for each key.
 */
CREATE FUNCTION @extschema@._pems_app_keys() RETURNS TABLE (table_name text, columns text[])
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    VALUES ('organization', '{id}'::text[]), ('organization', '{code}'), ('pfa_mirror', '{id}'),
           ('pfa_mirror', '{organization_id,pfa_id}'), ('pfa_modification', '{id}')
$function$;
COMMENT ON FUNCTION @extschema@._pems_app_keys() IS 'Internal: keys that the application''s tables must have';

/*
 * _pems_app_foreign_code(relation): what the planner evaluates whenever somebody reads that table, and what does not
 * come with PostgreSQL: functions, operators, types and collations in the expressions and conditions of its indexes
 * and in its statistics.  A type may have a CHECK that calls a function, so it does not matter whose it is.  We would
 * run them, with our rights.
 *
 * Returns: place: the index or the statistics; name: what it uses.
 */
CREATE FUNCTION @extschema@._pems_app_foreign_code(relation oid) RETURNS TABLE (place text, name text)
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
COMMENT ON FUNCTION @extschema@._pems_app_foreign_code(oid) IS
    'Internal: what expressions of indexes and statistics of a table use that does not come with PostgreSQL';

/*
 * _pems_app_publication_obstacles(relation): publications that make PostgreSQL refuse every UPDATE of that table.  What
 * is published of a row must have its replica identity, and a row filter may look at nothing else.
 * Returns: name: the publication; line: a sentence with the statement that corrects it.
 */
CREATE FUNCTION @extschema@._pems_app_publication_obstacles(relation oid) RETURNS TABLE (name text, line text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    WITH app_table AS (
        SELECT c.oid, n.nspname, c.relname, c.relreplident, (i.indkey::smallint[])[0:i.indnkeyatts - 1] AS identity
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisvalid AND i.indimmediate
             AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END
        WHERE c.oid = relation
    ), publication AS (
        SELECT p.oid, p.pubname, to_jsonb(t) ->> 'rowfilter' AS filter
        FROM app_table app JOIN pg_publication_tables t ON t.schemaname = app.nspname AND t.tablename = app.relname
        JOIN pg_publication p ON p.pubname = t.pubname WHERE p.pubupdate
    ), member AS (
        -- prqual and prattrs came with PostgreSQL 15
        SELECT p.pubname, p.filter, m.prattrs AS list,
               ARRAY(SELECT (v.number)[1]::smallint
                     FROM regexp_matches(m.prqual, ':varattno ([0-9]+)', 'g') AS v (number)) AS looked_at
        FROM publication p JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = relation
        CROSS JOIN LATERAL jsonb_to_record(to_jsonb(r)) AS m (prattrs smallint[], prqual text)
    )
    SELECT '', format('%s is published without a replica identity, so its rows cannot be updated: '
                      'ALTER TABLE %s REPLICA IDENTITY FULL', app.relname, app.oid::regclass)
    FROM app_table app WHERE app.relreplident <> 'f' AND app.identity IS NULL AND EXISTS (SELECT FROM publication)
    UNION ALL
    SELECT m.pubname, format('publication %s publishes columns of %s without its replica identity, so its rows cannot '
                             'be updated: ALTER PUBLICATION %I DROP TABLE %s; ALTER PUBLICATION %I ADD TABLE %s%s',
                             m.pubname, app.relname, m.pubname, app.oid::regclass, m.pubname, app.oid::regclass,
                             ' WHERE ' || m.filter)
    FROM app_table app CROSS JOIN member m
    WHERE m.list IS NOT NULL AND (app.relreplident = 'f' OR NOT app.identity <@ m.list)
    UNION ALL
    SELECT m.pubname, format('publication %s has a row filter over columns of %s that are not of its replica '
                             'identity, so its rows cannot be updated: ALTER TABLE %s REPLICA IDENTITY FULL',
                             m.pubname, app.relname, app.oid::regclass)
    FROM app_table app CROSS JOIN member m
    WHERE app.relreplident <> 'f' AND app.identity IS NOT NULL AND NOT m.looked_at <@ app.identity
$function$;
COMMENT ON FUNCTION @extschema@._pems_app_publication_obstacles(oid) IS
    'Internal: publications that keep the rows of a table of the application from being updated, with the '
    'statement that mends it';

/*
 * _pems_app_status_constraints(): CHECK constraints on sync_status alone that forbid a word which we write.  Those that
 * use what does not come with PostgreSQL are not tried: only a write shows what they do.
 * Returns: name: the constraint; words: those that it forbids.
 */
CREATE FUNCTION @extschema@._pems_app_status_constraints() RETURNS TABLE (name text, words text[])
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    -- MATERIALIZED: nothing else is tried
    WITH candidate AS MATERIALIZED (
        SELECT c.oid, c.conname
        FROM pg_attribute a
        JOIN pg_constraint c ON c.conrelid = a.attrelid AND c.contype = 'c' AND c.conkey = ARRAY[a.attnum]
        WHERE a.attrelid = to_regclass('@extschema@.pfa_modification') AND a.attname = 'sync_status'
          AND a.atttypid = 'text'::regtype AND NOT a.attisdropped
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_constraint'::regclass AND d.objid = c.oid
                          AND d.refobjid <> c.conrelid)
    )
    SELECT c.conname, r.words
    FROM candidate c
    CROSS JOIN LATERAL (
        SELECT @extschema@._pems_app_refused_words(
            c.oid, '{draft,queued,syncing,synced,conflict,failed,superseded,discarded}'::text[]) AS words) r
    WHERE r.words <> '{}'
$function$;
COMMENT ON FUNCTION @extschema@._pems_app_status_constraints() IS
    'Internal: CHECK constraints that forbid a word which the extension writes to sync_status';

/*
 * _pems_app_obstacles(relation): why we could not write one of the application's tables, not refer to it, or not
 * compare its keys.
 *
 * Returns: name: the column, or ''; line: a sentence with the statement that corrects it.
 */
CREATE FUNCTION @extschema@._pems_app_obstacles(relation oid) RETURNS TABLE (name text, line text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    WITH app_table AS (
        SELECT c.oid, c.relnamespace, c.relname, c.relowner, c.relname <> 'organization' AS written, c.relpersistence,
               c.relrowsecurity AND c.relforcerowsecurity AS forced,
               format('ALTER TABLE %s', c.oid::regclass) AS command
        FROM pg_class c WHERE c.oid = relation
    ), used AS (
        -- we write all that we use of the tables that we write
        SELECT app.relname, app.written, app.command, a.attname, a.attnum, a.attnotnull, a.attcollation, a.attgenerated,
               a.attidentity, format_type(a.atttypid, a.atttypmod) AS type
        FROM app_table app JOIN pg_attribute a ON a.attrelid = app.oid AND NOT a.attisdropped
        JOIN (SELECT e.table_name, e.column_name FROM @extschema@._pems_app_columns() e
              UNION ALL SELECT d.table_name, d.column_name FROM @extschema@._pems_app_added() d) u
          ON u.table_name = app.relname AND u.column_name = a.attname
    )
    SELECT '', format('%s has FORCE ROW LEVEL SECURITY, which may hide rows from its owner, who writes them: '
                      '%s NO FORCE ROW LEVEL SECURITY', app.relname, app.command)
    FROM app_table app WHERE app.written AND app.forced
    UNION ALL
    SELECT '', format('%s is a child of %s, through which its rows can be changed without its triggers: %s',
                      app.relname, i.inhparent::regclass,
                      CASE WHEN c.relispartition
                           THEN format('ALTER TABLE %s DETACH PARTITION %s', i.inhparent::regclass, app.oid::regclass)
                           ELSE format('%s NO INHERIT %s', app.command, i.inhparent::regclass) END)
    FROM app_table app JOIN pg_class c ON c.oid = app.oid JOIN pg_inherits i ON i.inhrelid = app.oid WHERE app.written
    UNION ALL
    SELECT '', format('%s is a typed table, to which no column can be added: %s NOT OF', app.relname, app.command)
    FROM app_table app JOIN pg_class c ON c.oid = app.oid
    WHERE c.reloftype <> 0 AND EXISTS (
        SELECT FROM @extschema@._pems_app_added() d
        WHERE d.table_name = app.relname AND NOT EXISTS (
            SELECT FROM pg_attribute a WHERE a.attrelid = app.oid AND a.attname = d.column_name AND NOT a.attisdropped))
    UNION ALL
    SELECT '', format('%s is unlogged, so nothing can refer to it: %s SET LOGGED', app.relname, app.command)
    FROM app_table app WHERE app.relpersistence = 'u'
    UNION ALL
    SELECT p.name, p.line
    FROM app_table app CROSS JOIN LATERAL @extschema@._pems_app_publication_obstacles(app.oid) p WHERE app.written
    UNION ALL
    SELECT r.rulename, format('rule %s of %s does something else in place of what we write: DROP RULE %I ON %s',
                              r.rulename, app.relname, r.rulename, app.oid::regclass)
    FROM app_table app JOIN pg_rewrite r ON r.ev_class = app.oid
    WHERE app.written AND r.is_instead AND r.ev_type IN ('2', '3') AND r.ev_enabled IN ('O', 'A') -- UPDATE, INSERT
    UNION ALL
    -- the owner writes, unless it is a superuser
    SELECT p.privilege, format('role %s, which owns and writes %s, has no %s on it: GRANT %s ON %s TO %s',
                               app.relowner::regrole, app.relname, p.privilege, p.privilege, app.oid::regclass,
                               app.relowner::regrole)
    FROM app_table app CROSS JOIN unnest('{SELECT,INSERT,UPDATE}'::text[]) AS p (privilege)
    WHERE app.written
      AND EXISTS (SELECT FROM used u WHERE NOT has_column_privilege(app.relowner, app.oid, u.attnum, p.privilege))
    UNION ALL
    SELECT '', format('role %s, which owns and writes %s, has no USAGE on its schema: GRANT USAGE ON SCHEMA %s TO %s',
                      app.relowner::regrole, app.relname, app.relnamespace::regnamespace, app.relowner::regrole)
    FROM app_table app WHERE app.written AND NOT has_schema_privilege(app.relowner, app.relnamespace, 'USAGE')
    UNION ALL
    SELECT k.name, format('constraint %s of %s forbids values of sync_status that we write (%s): %s DROP CONSTRAINT %I',
                          k.name, app.relname, array_to_string(k.words, ', '), app.command, k.name)
    FROM app_table app CROSS JOIN LATERAL @extschema@._pems_app_status_constraints() k
    WHERE app.relname = 'pfa_modification'
    UNION ALL
    SELECT u.attname, format('column %s.%s is generated, so we cannot write it: %s %s', u.relname, u.attname, u.command,
                             CASE WHEN u.attidentity = 'a' THEN format('ALTER COLUMN %I DROP IDENTITY', u.attname)
                                  WHEN u.attgenerated = 's' THEN format('ALTER COLUMN %I DROP EXPRESSION', u.attname)
                                  ELSE format('DROP COLUMN %1$I, ADD COLUMN %1$I %2$s', u.attname, u.type) END)
    FROM used u WHERE u.written AND (u.attgenerated <> '' OR u.attidentity = 'a')
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
COMMENT ON FUNCTION @extschema@._pems_app_obstacles(oid) IS
    'Internal: why the extension could not write a table of the application, with the statement that corrects it';

/*
 * _pems_app_key_problem(relation, columns): NULL when a unique index of the table has just these columns and foreign
 * keys may refer to it; else a sentence.
 */
CREATE FUNCTION @extschema@._pems_app_key_problem(relation oid, columns text[]) RETURNS text
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
COMMENT ON FUNCTION @extschema@._pems_app_key_problem(oid, text[]) IS
    'Internal: a sentence when a table of the application has no key on these columns that foreign keys may refer to';

/*
 * _pems_app_problems(attached): a sentence for each table, column or key that is missing or of the wrong type, for
 * what would run with our rights, and for what we could not write.
 *
 * Parameters: attached: the columns that attach adds, the rights that it grants and, but for a copy, its foreign keys
 *   must be there, too: without them a modification can be deleted while it is being sent.
 * Returns: an empty array when all is well.
 * Tables: pems_control; all else is in the system catalogue.
 */
CREATE FUNCTION @extschema@._pems_app_problems(attached boolean) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    WITH app_table AS (
        SELECT t.table_name, c.oid, c.relkind
        FROM (SELECT DISTINCT app.table_name FROM @extschema@._pems_app_columns() app) t
        LEFT JOIN pg_class c ON c.relname = t.table_name AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
                            AND c.relnamespace = '@extschema@'::regnamespace
    ), expected AS (
        SELECT e.table_name, e.column_name, e.column_type, true AS required, '' AS remedy
        FROM @extschema@._pems_app_columns() e
        UNION ALL
        SELECT a.table_name, a.column_name, a.column_type, attached, '; pems_attach() adds it again'
        FROM @extschema@._pems_app_added() a
    ), problem AS (
        SELECT app.table_name, 1 AS rank, '' AS name, format('table %s is missing', app.table_name) AS line
        FROM app_table app WHERE app.oid IS NULL
        UNION ALL
        SELECT app.table_name, 1, '', format('%s is not an ordinary table', app.table_name)
        FROM app_table app WHERE app.relkind <> 'r'
        UNION ALL
        SELECT app.table_name, 2, e.column_name, format('column %s.%s (%s) is missing%s', app.table_name, e.column_name,
                   e.column_type, e.remedy)
        FROM app_table app JOIN expected e USING (table_name)
        LEFT JOIN pg_attribute a ON a.attrelid = app.oid AND a.attname = e.column_name AND NOT a.attisdropped
        WHERE app.relkind = 'r' AND e.required AND a.attname IS NULL
        UNION ALL
        SELECT app.table_name, 2, e.column_name,
               format('column %s.%s must be %s, not %s', app.table_name, e.column_name, e.column_type,
                      format_type(a.atttypid, a.atttypmod))
        FROM app_table app JOIN expected e USING (table_name)
        JOIN pg_attribute a ON a.attrelid = app.oid AND a.attname = e.column_name AND NOT a.attisdropped
        WHERE app.relkind = 'r' AND a.atttypid <> e.column_type
        UNION ALL
        SELECT app.table_name, 3, k.columns::text, @extschema@._pems_app_key_problem(app.oid, k.columns)
        FROM app_table app JOIN @extschema@._pems_app_keys() k USING (table_name)
        WHERE app.relkind = 'r'
        UNION ALL
        SELECT app.table_name, 4, '', format('%s has child tables, whose rows its keys do not know', app.table_name)
        FROM app_table app WHERE app.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = app.oid)
        UNION ALL
        SELECT app.table_name, 5, f.place || f.name,
               format('%s of %s uses %s, which does not come with PostgreSQL', f.place, app.table_name, f.name)
        FROM app_table app CROSS JOIN LATERAL @extschema@._pems_app_foreign_code(app.oid) f
        WHERE app.relkind = 'r'
        UNION ALL
        SELECT app.table_name, 6, o.name, o.line
        FROM app_table app CROSS JOIN LATERAL @extschema@._pems_app_obstacles(app.oid) o
        WHERE app.relkind = 'r'
        UNION ALL
        SELECT app.table_name, 7, p.privilege,
               format('role pems_sync_worker has no %s on %s; pems_attach() grants it again', p.privilege,
                      app.table_name)
        FROM app_table app JOIN pg_class c ON c.oid = app.oid JOIN pg_roles r ON r.oid = c.relowner
        CROSS JOIN (VALUES ('SELECT'), ('UPDATE'), ('INSERT')) AS p (privilege)
        -- it writes those of a superuser itself
        WHERE attached AND (p.privilege = 'SELECT' OR (r.rolsuper AND app.table_name <> 'organization'))
          AND NOT has_table_privilege('pems_sync_worker', app.oid, p.privilege)
        UNION ALL
        SELECT k.app_table, 8, k.constraint_name,
               format('foreign key %s of %s %s; pems_attach() makes it again', k.constraint_name, k.table_name,
                      CASE k.state WHEN 'missing' THEN 'is missing' ELSE 'refers to another table' END)
        FROM app_table app JOIN @extschema@._pems_foreign_key_states() k ON k.app_table = app.table_name
        WHERE attached AND k.state IS NOT NULL AND app.oid IS NOT NULL
          AND EXISTS (SELECT FROM @extschema@.pems_control c WHERE c.cluster = @extschema@._pems_cluster())
    )
    SELECT coalesce(array_agg(p.line ORDER BY p.table_name, p.rank, p.name, p.line), '{}')
    FROM problem p WHERE p.line IS NOT NULL
$function$;
COMMENT ON FUNCTION @extschema@._pems_app_problems(boolean) IS
    'Internal: everything that is wrong with the application''s tables, a sentence each';
