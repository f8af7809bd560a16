/*
 * 82_event_triggers: event triggers that keep the schema's name, and the tables' parts.
 */

/*
 * _pems_keep_schema(): event trigger, after ALTER SCHEMA.  The functions name their schema, so it must not get another
 * name. (ALTER EXTENSION ... SET SCHEMA is refused by the server: relocatable = false.)
 * Errors: 0A000 when the schema of the extension was renamed.
 */
CREATE FUNCTION @extschema@._pems_keep_schema() RETURNS event_trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF (SELECT e.extnamespace FROM pg_extension e
        WHERE e.extname = 'pems_sync') IS DISTINCT FROM to_regnamespace('@extschema@')::oid THEN
        RAISE EXCEPTION 'schema @extschema@ cannot be renamed: pems_sync is installed in it'
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = 'The functions of pems_sync name the schema.',
                  HINT = 'Leave its name, or drop the extension first; its tables go with it.';
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_keep_schema() IS
    'Internal event trigger: the schema of the extension cannot be renamed';

CREATE EVENT TRIGGER pems_keep_schema ON ddl_command_end WHEN TAG IN ('ALTER SCHEMA')
    EXECUTE FUNCTION @extschema@._pems_keep_schema();
COMMENT ON EVENT TRIGGER pems_keep_schema IS 'pems_sync: the schema of the extension cannot be renamed';

/*
 * _pems_keep_tables(): event trigger, after DROP TABLE and DROP INDEX.  The owner of the schema may drop what is in it:
 * not the extension's tables, which are its members, but partitions of the audit log and indexes.
 *
 * Not SECURITY DEFINER: it asks who runs the command at that moment, which inside a trigger of the application, or
 * where autovacuum evaluates an expression, is not the session's user.  So it reads nothing but the catalogue: whoever
 * drops anything may have no right on our tables, or on the schema.
 * Errors: 42501 when one was dropped, by neither a superuser nor the extension's owner (as whom pems_purge() drops).
 */
CREATE FUNCTION @extschema@._pems_keep_tables() RETURNS event_trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    -- those of constraints cannot be dropped by themselves
    indexes CONSTANT text[] := '{pems_sync_job_organization, pfa_write_queue_ready, pfa_write_queue_timed,
        pfa_write_queue_record, pfa_write_queue_waiting, pfa_write_queue_stopped, pfa_write_queue_modification,
        pfa_write_queue_organization, pfa_write_queue_foreign, pfa_write_queue_job, pfa_write_queue_result,
        pems_sync_job_created, pems_sync_job_kind, pems_sync_job_past, pems_sync_job_status, pfa_sync_conflict_open,
        pfa_sync_conflict_organization, pfa_sync_conflict_modification, pems_mirror_version_order,
        pems_sync_stats_folded, pems_sync_stats_standing, pems_sync_stats_new, pems_pull_state_listing,
        pems_pull_state_open, pems_quarantined_record}';
    dropped record;
BEGIN
    SELECT d.object_type, d.object_name INTO dropped
    FROM pg_event_trigger_dropped_objects() d
    JOIN pg_namespace n ON n.nspname = d.schema_name
    JOIN pg_extension e ON e.extnamespace = n.oid AND e.extname = 'pems_sync'
    JOIN pg_roles r ON r.rolname = current_user AND NOT r.rolsuper AND r.oid <> e.extowner
    WHERE CASE d.object_type
              WHEN 'table' THEN d.object_name ~ '^pems_audit_log_[0-9]{4}_[0-9]{2}$'
              WHEN 'index' THEN d.object_name ~ '^pems_audit_log_[0-9]{4}_[0-9]{2}_'
                                OR d.object_name = ANY (indexes) END
    ORDER BY d.original DESC LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '% "%" belongs to pems_sync', dropped.object_type, dropped.object_name
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Only a superuser may drop it; months of the audit log leave it with pems_purge().';
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_keep_tables() IS
    'Internal event trigger: partitions of the audit log and indexes cannot be dropped by the owner of the schema';

CREATE EVENT TRIGGER pems_keep_tables ON sql_drop WHEN TAG IN ('DROP TABLE', 'DROP INDEX')
    EXECUTE FUNCTION @extschema@._pems_keep_tables();
COMMENT ON EVENT TRIGGER pems_keep_tables IS
    'pems_sync: partitions of the audit log and indexes cannot be dropped by the owner of the schema';
