/*
 * 31_attach_parts: triggers and foreign keys that pems_attach() makes, and whether they are still as it made them.
 */

/*
 * _pems_app_triggers(): the triggers of the extension on the application's tables.
 * enabled: as in pg_trigger.tgenabled: A, always; R, where session_replication_role is replica.
 * Returns: definition: what follows the name in CREATE TRIGGER, with %s for the table.
 */
CREATE FUNCTION @extschema@._pems_app_triggers()
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
        ('organization', 'pems_refuse_truncate', 'A',
         'BEFORE TRUNCATE ON %s FOR EACH STATEMENT', '_pems_refuse_truncate'),
        ('pfa_mirror', 'pems_refuse_truncate', 'A',
         'BEFORE TRUNCATE ON %s FOR EACH STATEMENT', '_pems_refuse_truncate'),
        ('pfa_modification', 'pems_refuse_truncate', 'A',
         'BEFORE TRUNCATE ON %s FOR EACH STATEMENT', '_pems_refuse_truncate')
        ) AS t (table_name, trigger_name, enabled, event, function)
$function$;
COMMENT ON FUNCTION @extschema@._pems_app_triggers() IS
    'Internal: triggers of the extension on the application''s tables';

/*
 * _pems_app_foreign_keys(): the foreign keys from the extension's tables to the application's.  NOT VALID, because we
 * do not read the application's tables with the rights of a superuser: _pems_app_check_rows() looks at the rows that
 * there are already.
 * Returns: a row for each; definition: what follows ADD CONSTRAINT and the name; app_table: the table that it refers
 *   to.
 */
CREATE FUNCTION @extschema@._pems_app_foreign_keys()
RETURNS TABLE (table_name text, constraint_name text, definition text, app_table text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT k.table_name, k.table_name || '_' || k.column_name || '_fkey',
           format('FOREIGN KEY (%I) REFERENCES @extschema@.%I (id)%s NOT VALID', k.column_name, k.app_table, k.action),
           k.app_table
    FROM (VALUES ('pfa_write_queue', 'modification_id', 'pfa_modification', ' ON DELETE CASCADE'),
                 ('pfa_write_queue', 'organization_id', 'organization', ' ON DELETE CASCADE'),
                 ('pfa_sync_conflict', 'modification_id', 'pfa_modification', ' ON DELETE CASCADE'),
                 ('pfa_sync_conflict', 'organization_id', 'organization', ' ON DELETE CASCADE'),
                 ('pems_credential', 'organization_id', 'organization', ' ON DELETE CASCADE'),
                 ('pems_pause', 'of_organization', 'organization', ' ON DELETE CASCADE'),
                 ('pems_pull_state', 'organization_id', 'organization', ' ON DELETE CASCADE'),
                 ('pems_pull_organization', 'organization_id', 'organization', ' ON DELETE CASCADE'),
                 ('pems_quarantined', 'organization_id', 'organization', ' ON DELETE CASCADE')
         ) AS k (table_name, column_name, app_table, action)
$function$;
COMMENT ON FUNCTION @extschema@._pems_app_foreign_keys() IS
    'Internal: foreign keys from the extension''s tables to the application''s tables';

/*
 * _pems_foreign_key_states(): our foreign keys to the application's tables, and what is wrong with them.
 * Returns: a row for each; state: NULL: nothing is; missing; replaced: it refers to another table than the one that has
 *   the name now.
 */
CREATE FUNCTION @extschema@._pems_foreign_key_states()
RETURNS TABLE (table_name text, constraint_name text, app_table text, definition text, state text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RETURN QUERY
    SELECT f.table_name, f.constraint_name, f.app_table, f.definition,
           CASE WHEN c.oid IS NULL THEN 'missing'
                WHEN c.confrelid <> to_regclass(format('@extschema@.%I', f.app_table))::oid
                THEN 'replaced' END
    FROM @extschema@._pems_app_foreign_keys() f
    LEFT JOIN pg_constraint c ON c.conname = f.constraint_name AND c.contype = 'f'
                             AND c.conrelid = to_regclass(format('@extschema@.%I', f.table_name));
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_foreign_key_states() IS
    'Internal: foreign keys of the extension to the application''s tables: missing, replaced, or (NULL) as they were '
    'made';

/*
 * _pems_own_triggers(): the triggers of the extension on its own tables.
 * Returns: a row for each; definition: as the server shows it.
 */
CREATE FUNCTION @extschema@._pems_own_triggers() RETURNS TABLE (table_name text, trigger_name text, definition text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT t.table_name, t.trigger_name,
           format('%s ON %%s %s EXECUTE FUNCTION @extschema@.%I()', t.event, t.each, t.function)
    FROM (VALUES
        ('pfa_write_queue', 'pems_count_inserted', 'AFTER INSERT',
         'REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT', '_pems_count_changes'),
        ('pfa_write_queue', 'pems_count_updated', 'AFTER UPDATE',
         'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT', '_pems_count_changes'),
        ('pfa_write_queue', 'pems_count_deleted', 'AFTER DELETE',
         'REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT', '_pems_count_changes'),
        ('pfa_write_queue', 'pems_item_delete', 'BEFORE DELETE',
         'FOR EACH ROW WHEN (old.unfinished)', '_pems_item_delete'),
        ('pfa_write_queue', 'pems_refuse_truncate', 'BEFORE TRUNCATE', 'FOR EACH STATEMENT', '_pems_refuse_truncate'),
        ('pems_claim', 'pems_refuse_truncate', 'BEFORE TRUNCATE', 'FOR EACH STATEMENT', '_pems_refuse_truncate'),
        ('pems_recheck', 'pems_refuse_truncate', 'BEFORE TRUNCATE', 'FOR EACH STATEMENT', '_pems_refuse_truncate'),
        ('pfa_sync_conflict', 'pems_refuse_truncate', 'BEFORE TRUNCATE', 'FOR EACH STATEMENT', '_pems_refuse_truncate'),
        ('pems_credential', 'pems_forget_credential', 'AFTER DELETE', 'FOR EACH ROW', '_pems_forget_credential'),
        ('pems_pull_state', 'pems_forget_pull', 'AFTER DELETE',
         'FOR EACH ROW WHEN ((old.phase <> ''ended''::text))', '_pems_forget_pull'),
        ('pems_field', 'pems_field_customize', 'BEFORE INSERT OR UPDATE', 'FOR EACH ROW', '_pems_field_customize'),
        ('pems_field', 'pems_field_announce', 'AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE',
         'FOR EACH STATEMENT', '_pems_field_announce')
        ) AS t (table_name, trigger_name, event, each, function)
$function$;
COMMENT ON FUNCTION @extschema@._pems_own_triggers() IS 'Internal: triggers of the extension on its own tables';

/*
 * _pems_app_trigger_states(): the triggers of the extension on the application's tables and on its own, and what is
 * wrong with them.  The commands are compared as texts, which must not depend on quote_all_identifiers.
 * Returns: a row for each; command: what makes it; state: NULL: nothing is wrong; missing; replaced by another of its
 *   name; disabled, also when it fires with another session_replication_role than it should (which is what a load with
 *   --disable-triggers leaves behind).
 */
CREATE FUNCTION @extschema@._pems_app_trigger_states()
RETURNS TABLE (table_name text, trigger_name text, enabled text, command text, state text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $function$
    SELECT t.table_name, t.trigger_name, t.enabled, c.command,
           CASE WHEN g.oid IS NULL THEN 'missing' WHEN pg_get_triggerdef(g.oid) <> c.command THEN 'replaced'
                WHEN g.tgenabled::text <> t.enabled THEN 'disabled' END
    FROM (SELECT h.table_name, h.trigger_name, h.enabled, h.definition FROM @extschema@._pems_app_triggers() h
          UNION ALL
          SELECT o.table_name, o.trigger_name, 'A', o.definition FROM @extschema@._pems_own_triggers() o) t
    CROSS JOIN LATERAL (SELECT format('@extschema@.%I', t.table_name) AS name) r
    CROSS JOIN LATERAL (
        SELECT format('CREATE TRIGGER %I ', t.trigger_name) || format(t.definition, r.name) AS command) c
    LEFT JOIN pg_trigger g ON g.tgname = t.trigger_name AND g.tgrelid = to_regclass(r.name)
$function$;
COMMENT ON FUNCTION @extschema@._pems_app_trigger_states() IS
    'Internal: triggers of the extension on the application''s tables and on its own: missing, replaced, disabled, or '
    '(NULL) as they were made';

/*
 * _pems_app_missing(): what an attach would make or make again, because somebody has removed or changed it, or the
 * table is another one than it was, or a restore has left it out.
 * Returns: a sentence each.
 */
CREATE FUNCTION @extschema@._pems_app_missing() RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT format('USAGE on schema %s was taken from role %s', '@extschema@'::regnamespace, r.role)
    FROM (VALUES ('pems_sync_reader'::name), ('pems_sync_worker')) AS r (role)
    WHERE NOT has_schema_privilege(r.role, '@extschema@'::regnamespace, 'USAGE')
    UNION ALL
    SELECT format(CASE t.state WHEN 'missing' THEN 'trigger %s of %s is missing' ELSE 'trigger %s of %s was %s' END,
                  t.trigger_name, t.table_name, t.state)
    FROM @extschema@._pems_app_trigger_states() t WHERE t.state IS NOT NULL
    UNION ALL
    SELECT format('foreign key %s of %s is %s', f.constraint_name, f.table_name, f.state)
    FROM @extschema@._pems_foreign_key_states() f WHERE f.state IS NOT NULL
    UNION ALL
    SELECT 'index idx_modification_syncstatus of pfa_modification is missing'
    WHERE NOT EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = to_regclass('@extschema@.idx_modification_syncstatus')
                      AND i.indrelid = to_regclass('@extschema@.pfa_modification'))
$function$;
COMMENT ON FUNCTION @extschema@._pems_app_missing() IS
    'Internal: what an attach would make or make again, a sentence each';
