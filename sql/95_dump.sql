/*
 * 95_dump: what pg_dump keeps, which indexes there are, and the first attach.  Last, because attach needs everything
 * above.
 */

-- Not dumped: CREATE EXTENSION fills it again.
INSERT INTO @extschema@.pems_index (name, table_name, command)
SELECT c.relname, t.relname,
       CASE WHEN k.oid IS NULL THEN pg_catalog.pg_get_indexdef(c.oid)
            ELSE pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s', t.oid::pg_catalog.regclass, k.conname,
                                   pg_catalog.pg_get_constraintdef(k.oid)) END
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'pems_sync'
JOIN pg_catalog.pg_class t ON t.oid = d.objid JOIN pg_catalog.pg_index i ON i.indrelid = t.oid
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = c.oid AND k.conrelid = t.oid AND k.contype IN ('p', 'u', 'x')
WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype = 'e'
  AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass;

-- pems_sync_stats is not among them: the triggers of the queue build it again while its rows are
-- loaded, and both would count twice.
DO $dump$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['pfa_write_queue', 'pems_claim', 'pems_recheck', 'pfa_sync_conflict',
        'pems_mirror_version', 'pems_audit_log_default', 'pems_audit_month', 'pems_sync_job', 'pems_credential',
        'pems_pause', 'pems_control',
        'pems_pull_state', 'pems_pull_organization', 'pems_pull_seen', 'pems_pull_missing', 'pems_quarantined',
        'pems_commit_order', 'pems_claim_order', 'pems_audit_order', 'pems_state_order']
    LOOP
        PERFORM pg_catalog.pg_extension_config_dump(pg_catalog.format('@extschema@.%I', name)::pg_catalog.regclass, '');
    END LOOP;
    PERFORM pg_catalog.pg_extension_config_dump('@extschema@.pems_field'::pg_catalog.regclass, 'WHERE customized');
END
$dump$;

DO $attach$
DECLARE
    problems text[] := @extschema@._pems_app_problems(false);
BEGIN
    IF problems = '{}' THEN
        -- all arguments: a function without any that somebody has planted would be called instead, with our rights
        PERFORM @extschema@.pems_attach(false);
    ELSE
        -- scripts of extensions run with client_min_messages = warning
        SET LOCAL client_min_messages = notice;
        RAISE NOTICE 'pems_sync is installed, but not attached to the tables of an application'
            USING DETAIL = pg_catalog.array_to_string(problems, E'\n'),
                  HINT = @extschema@._pems_attach_hint();
    END IF;
END
$attach$;
