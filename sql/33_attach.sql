/*
 * 33_attach: pems_attach() and pems_detach(), and the names that others must not have.
 */

/*
 * _pems_names_in_use(): what has a name that we need and is not ours.
 * Returns: name: that name; line: a sentence about what has it.
 */
CREATE FUNCTION @extschema@._pems_names_in_use() RETURNS TABLE (name text, line text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT n.name, format('%s of role %s has the name of %s', c.oid::regclass, c.relowner::regrole, n.purpose)
    FROM (SELECT m.name, 'the audit log''s partition of a month' AS purpose,
                 '@extschema@.pems_audit_log'::regclass::oid AS parent
          FROM @extschema@._pems_audit_months() m
          UNION ALL
          SELECT 'idx_modification_syncstatus', 'an index of pfa_modification',
                 to_regclass('@extschema@.pfa_modification')) n
    JOIN pg_class c ON c.relname = n.name AND c.relnamespace = '@extschema@'::regnamespace
    WHERE NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid AND i.inhparent = n.parent)
      AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = c.oid AND i.indrelid = n.parent)
    ORDER BY n.name
$function$;
COMMENT ON FUNCTION @extschema@._pems_names_in_use() IS
    'Internal: what has a name that the extension needs and is not the extension''s';

/*
 * _pems_check_names(beginning): is any name taken that we need and that begins so?
 * Errors: 55000 when something that is not ours has it.
 */
CREATE FUNCTION @extschema@._pems_check_names(beginning text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    lines CONSTANT text := (SELECT string_agg(t.line, E'\n') FROM @extschema@._pems_names_in_use() t
                            WHERE starts_with(t.name, beginning));
BEGIN
    IF lines IS NOT NULL THEN
        RAISE EXCEPTION 'a name that pems_sync needs is taken'
            USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = lines,
                  HINT = 'Rename or drop it, then run SELECT @extschema@.pems_attach().';
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_check_names(text) IS
    'Internal: 55000 when something that is not the extension''s has a name that it needs';

/*
 * _pems_foreign_functions(): functions in the extension's schema that are named like ours and are not ours: a call of
 * ours could mean them.
 * Returns: a sentence each.
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
    'Internal: functions in the schema that are named like those of the extension and are not';

/*
 * _pems_app_unfilled(app_table): columns of a table of the application that need a value which we do not have when
 * we insert a row: a mirror that is missing, the modification of a rollback.  Where a trigger of the application sees
 * the new rows first, it may fill them: none then.
 * Returns: their names.
 */
CREATE FUNCTION @extschema@._pems_app_unfilled(app_table text) RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT a.attname
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = to_regclass(format('@extschema@.%I', app_table)) AND a.attnum > 0 AND NOT a.attisdropped
      AND (a.attnotnull OR t.typnotnull) AND NOT a.atthasdef AND a.attidentity = '' AND t.typdefault IS NULL
      AND a.attname <> ALL (CASE app_table
              WHEN 'pfa_mirror' THEN '{id,organization_id,pfa_id,version,data,last_synced_at}'::text[]
              ELSE '{id,organization_id,pfa_id,base_version,delta,created_by,created_at,operation,change_reason,
                     sync_status}'::text[] END)
      -- 7: row, before, insert; a domain's NOT NULL is checked before
      AND (t.typnotnull OR NOT EXISTS (SELECT FROM pg_trigger g
                                       WHERE g.tgrelid = a.attrelid AND g.tgtype & 7 = 7 AND g.tgenabled IN ('O', 'A')))
    ORDER BY a.attnum
$function$;
COMMENT ON FUNCTION @extschema@._pems_app_unfilled(text) IS
    'Internal: columns of a table of the application that need a value which the extension does not have when it '
    'inserts a row';

/*
 * _pems_attach_warnings(): what does not make pems_attach() fail, but is a danger later.
 * Returns: a row for each; code: a word for programs.
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
    CROSS JOIN LATERAL @extschema@._pems_app_unfilled(h.name) AS c
$function$;
COMMENT ON FUNCTION @extschema@._pems_attach_warnings() IS 'Internal: what pems_attach() warns of';

/*
 * _pems_attach_hint(): what to do about the problems of the application's tables that keep pems_attach() from its work.
 * Where tables are missing, and one other schema has all three, they are there.
 * Returns: a sentence.
 */
CREATE FUNCTION @extschema@._pems_attach_hint() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    WITH wanted AS (
        SELECT DISTINCT h.table_name FROM @extschema@._pems_app_columns() h
    ), elsewhere AS (
        SELECT c.relnamespace AS schema FROM wanted w JOIN pg_class c ON c.relname = w.table_name AND c.relkind = 'r'
        WHERE c.relpersistence <> 't' GROUP BY c.relnamespace HAVING count(*) = (SELECT count(*) FROM wanted)
    )
    SELECT CASE
        WHEN NOT EXISTS (SELECT FROM wanted w WHERE to_regclass(format('@extschema@.%I', w.table_name)) IS NULL)
            THEN 'Correct that in schema @extschema@, then run SELECT @extschema@.pems_attach().'
        WHEN (SELECT count(*) FROM elsewhere) = 1
            THEN (SELECT format('Schema %1$s has tables of these names. If they are the application''s, run '
                                'DROP EXTENSION pems_sync; CREATE EXTENSION pems_sync SCHEMA %1$s.',
                                e.schema::regnamespace) FROM elsewhere e)
        ELSE 'Correct that in schema @extschema@ and run SELECT @extschema@.pems_attach(); in a new database, '
             'SELECT @extschema@.pems_attach(create_missing => true) makes tables that are missing.' END
$function$;
COMMENT ON FUNCTION @extschema@._pems_attach_hint() IS
    'Internal: what to do when the application''s tables are not as pems_attach() needs them';

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
 * A copy (restored, or made from another cluster) stays one: only pems_resume() makes a sender of it.
 *
 * Parameters: create_missing: make tables that do not exist, as ordinary tables of the caller.
 * Returns: {success, created: [table names], snapshot: number of versions added, warnings: [{code, message}]}; each
 *   warning is a WARNING, too.  FOREIGN_FUNCTION: somebody else's function is called like one of ours; UNFILLED_COLUMN:
 *   a column of the application must not be NULL, and we have no value for it; COPY: this database is one, and sends
 *   nothing.
 * Errors: 55000 with every missing table, column and wrong type in DETAIL, and what would run with the rights of the
 *   extension; 55000 when items or conflicts refer to modifications or organizations that do not exist, or an
 *   organization has the id *; 55000 when something else has the name of our index of pfa_modification, or of a month's
 *   partition; 55000 when other transactions have the tables for ten seconds.
 * Tables: the application's; pems_mirror_version, pems_control.
 */
CREATE FUNCTION @extschema@.pems_attach(create_missing boolean DEFAULT false) RETURNS jsonb
-- constraint_exclusion: the planner is not to evaluate the CHECK constraints of tables that are not ours
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET constraint_exclusion = partition AS $function$
DECLARE
    made      text[] := '{}';
    problems  text[];
    snapshot  bigint;
    warning   record;
    warnings  jsonb := '[]';
BEGIN
    PERFORM @extschema@._pems_demand_guard();
    IF create_missing THEN
        made := @extschema@._pems_app_create(@extschema@._pems_caller());
    END IF;

    -- nobody is to change anything about them between this look and the end
    PERFORM @extschema@._pems_app_lock();
    problems := @extschema@._pems_app_problems(false);
    IF problems <> '{}' THEN
        RAISE EXCEPTION 'the tables of the application are not as pems_sync needs them'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = array_to_string(problems, E'\n'),
                  HINT = @extschema@._pems_attach_hint();
    END IF;

    PERFORM @extschema@._pems_check_names(''::text);
    PERFORM @extschema@._pems_app_extend();
    PERFORM @extschema@._pems_app_check_rows();
    PERFORM @extschema@._pems_keep_order(), @extschema@._pems_keep_states();
    snapshot := @extschema@._pems_app_snapshot();
    PERFORM @extschema@._pems_make_audit_partitions();

    INSERT INTO @extschema@.pems_control AS c (cluster) VALUES (@extschema@._pems_cluster())
    ON CONFLICT (singleton) DO UPDATE SET attached_at = now();
    PERFORM @extschema@._pems_wake(configuration => true);

    FOR warning IN
        SELECT w.code, w.message, w.hint FROM @extschema@._pems_attach_warnings() w
        UNION ALL
        SELECT 'COPY', 'this database is a copy and sends nothing',
               'If it is to write to PEMS, run SELECT @extschema@.pems_resume().'
        WHERE @extschema@._pems_standing() = 'copy'
    LOOP
        RAISE WARNING '%', warning.message USING HINT = warning.hint;
        warnings := warnings || jsonb_build_object('code', warning.code, 'message', warning.message);
    END LOOP;
    RETURN jsonb_build_object('success', true, 'created', to_jsonb(made), 'snapshot', snapshot, 'warnings', warnings);
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_attach(boolean) IS
    'Checks the application''s tables and adds columns, indexes, triggers and foreign keys; create_missing makes '
    'tables that do not exist. Idempotent. Error 55000 lists everything that is missing or of the wrong type.';

/*
 * pems_detach()
 *
 * Removes the triggers and foreign keys from the application's tables again; columns and data stay.  Nothing is sent
 * until pems_attach() runs.
 *
 * Returns: {success}
 * Errors: 55000 when other transactions have the tables for ten seconds.
 * Tables: the application's; pems_control.
 */
CREATE FUNCTION @extschema@.pems_detach() RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    item record;
BEGIN
    PERFORM @extschema@._pems_demand_guard();
    PERFORM @extschema@._pems_app_lock();
    FOR item IN
        SELECT format('DROP TRIGGER %I ON %s', g.tgname, g.tgrelid::regclass) AS command
        FROM @extschema@._pems_app_triggers() t
        JOIN pg_trigger g ON g.tgname = t.trigger_name
             AND g.tgrelid = to_regclass(format('@extschema@.%I', t.table_name))
        UNION ALL
        SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', c.conrelid::regclass, c.conname)
        FROM @extschema@._pems_app_foreign_keys() f
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
COMMENT ON FUNCTION @extschema@.pems_detach() IS
    'Removes the triggers and foreign keys from the application''s tables; nothing is sent until pems_attach() runs '
    'again';
