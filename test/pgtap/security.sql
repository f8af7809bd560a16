-- Security of what the extension installs: owners, definers, search_path, privileges, the append-only audit log.
\set QUIET 1
\set ON_ERROR_ROLLBACK off
\set ON_ERROR_STOP on
\pset format unaligned
\pset tuples_only on
\pset pager off

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION pems_sync CASCADE;
SET LOCAL client_min_messages = error;
DO $$ BEGIN PERFORM pems_attach(create_missing => true); END $$;
CREATE VIEW member AS
    SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pems_sync'
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e';
CREATE VIEW routine AS SELECT p.*, p.oid::regprocedure AS signature FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid;
CREATE VIEW relation AS SELECT c.*, c.oid::regclass AS name FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid;

SELECT no_plan();

SELECT cmp_ok((SELECT count(*) FROM routine), '>', 40::bigint, 'there are functions to look at');
-- Definers.
SELECT is_empty('SELECT signature FROM routine WHERE prosecdef AND NOT coalesce(proconfig, ''{}'') @> ARRAY[''search_path=pg_catalog, pg_temp'']', 'every SECURITY DEFINER function has search_path pg_catalog, pg_temp');
SELECT set_eq('SELECT proname::text FROM routine WHERE ''pems_sync.guarded=on'' = ANY (proconfig)', ARRAY['pems_attach', 'pems_detach', '_pems_make_audit_partitions', '_pems_drop_audit_partitions'], 'the four that have more rights run no code of others');
SELECT is((SELECT proconfig FROM routine WHERE proname = 'pems_attach'), ARRAY['search_path=pg_catalog, pg_temp', 'constraint_exclusion=partition', 'pems_sync.guarded=on'], 'and the planner does not evaluate CHECK constraints of others for pems_attach');
SELECT set_eq('SELECT proname::text FROM routine WHERE prosecdef AND proowner <> ''pems_sync_worker''::regrole', ARRAY['pems_attach', 'pems_detach', '_pems_make_audit_partitions', '_pems_drop_audit_partitions'], 'all but four are owned by pems_sync_worker');
SELECT is_empty('SELECT signature FROM routine WHERE NOT prosecdef AND proowner = ''pems_sync_worker''::regrole', 'and it owns nothing else');
SELECT set_eq('SELECT proname::text FROM routine WHERE prosecdef AND prolang = (SELECT oid FROM pg_language WHERE lanname = ''c'')', ARRAY['_pems_count_changes', '_pems_app_refused_words'], 'no C function is a definer but the trigger that counts, which writes one table of ours and runs nothing of others, and what asks a CHECK constraint as the owner of its table: pems_attach() would ask as a superuser');
SELECT is_empty('SELECT signature FROM routine r JOIN pg_language l ON l.oid = r.prolang WHERE l.lanname IN (''sql'', ''plpgsql'') AND NOT coalesce(proconfig, ''{}'') @> ARRAY[''search_path=pg_catalog, pg_temp''] AND proname NOT IN (''_pems_commit_problem'', ''_pems_size_problem'', ''_pems_long_id'', ''_pems_due_at'',
    ''_pems_draft_problem'', ''_pems_draft_facts'', ''_pems_compare_mirror'', ''_pems_bases'', ''_pems_job_status'', ''_pems_pull_hash'', ''_pems_pull_step'')',
    'other SQL functions have it as well, but for those that are inlined');
SELECT is_empty('SELECT name FROM relation WHERE relowner = ''pems_sync_worker''::regrole', 'the worker owns no table: it cannot drop the audit log');
SELECT set_eq('SELECT rolname::text FROM pg_roles WHERE rolname ~ ''^pems_sync_'' AND NOT (rolcanlogin OR rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication)',
    ARRAY['pems_sync_reader', 'pems_sync_user', 'pems_sync_admin', 'pems_sync_worker'], 'four roles, none of which can log in or has powers');
SELECT is_empty('SELECT member::regrole FROM pg_auth_members WHERE roleid = ''pems_sync_worker''::regrole', 'nobody is a member of pems_sync_worker');

-- PUBLIC, and a role that is granted nothing.
CREATE ROLE pgtap_pems_nobody;
SELECT is_empty('SELECT signature FROM routine WHERE has_function_privilege(''pgtap_pems_nobody'', oid, ''EXECUTE'')', 'no function for PUBLIC');
SELECT is_empty('SELECT name FROM relation WHERE relkind IN (''r'', ''p'', ''v'') AND (has_any_column_privilege(''pgtap_pems_nobody'', oid, ''SELECT, INSERT, UPDATE, REFERENCES'') OR has_table_privilege(''pgtap_pems_nobody'', oid, ''DELETE, TRUNCATE, TRIGGER''))', 'no table or view for PUBLIC');
SELECT is_empty('SELECT name FROM relation WHERE CASE WHEN relkind = ''S'' THEN has_sequence_privilege(''pgtap_pems_nobody'', oid, ''USAGE, SELECT, UPDATE'') END', 'no sequence for PUBLIC');
SELECT is_empty('SELECT t.oid::regtype FROM member m JOIN pg_type t ON m.classid = ''pg_type''::regclass AND t.oid = m.objid LEFT JOIN pg_class c ON c.oid = t.typrelid
    WHERE t.typelem = 0 AND (c.oid IS NULL OR c.relkind = ''c'') AND has_type_privilege(''pgtap_pems_nobody'', t.oid, ''USAGE'')', 'no type for PUBLIC');

-- Internal functions are nobody's but the worker's, with those that views and the program pems-credential need.
SELECT set_eq('SELECT proname::text FROM routine WHERE proname ~ ''^_'' AND has_function_privilege(''pems_sync_admin'', oid, ''EXECUTE'')', ARRAY['_pems_worker_state', '_pems_endpoints', '_pems_pulls', '_pems_credential_target', '_pems_sealed_credentials', '_pems_needed_keys', '_pems_reseal_credential'], 'internal functions');
SELECT set_eq('SELECT proname::text FROM routine WHERE proname ~ ''^_'' AND has_function_privilege(''pems_sync_user'', oid, ''EXECUTE'')', ARRAY['_pems_worker_state', '_pems_endpoints', '_pems_pulls'], 'and what users may call of them');
SELECT is_empty('SELECT name FROM relation WHERE relkind IN (''r'', ''p'') AND relname <> ''pems_field'' AND has_any_column_privilege(''pems_sync_admin'', oid, ''SELECT, INSERT, UPDATE, REFERENCES'')', 'administrators work through functions; their table is the catalogue');
SELECT is_empty('SELECT name FROM relation WHERE relkind IN (''r'', ''p'') AND has_any_column_privilege(''pems_sync_user'', oid, ''SELECT, INSERT, UPDATE, REFERENCES'')', 'users have no table at all');
SELECT is_empty('SELECT name FROM relation r WHERE relkind IN (''r'', ''p'', ''v'') AND has_table_privilege(''pems_sync_user'', oid, ''SELECT'') <> has_table_privilege(''pems_sync_reader'', oid, ''SELECT'')', 'what users see, readers see');

-- The audit log, with the partitions that are made later.
SELECT _pems_make_audit_partitions();
SELECT is_empty('SELECT c.oid::regclass FROM pg_class c WHERE c.relname ~ ''^pems_audit_log'' AND c.relkind IN (''r'', ''p'') AND has_table_privilege(''pems_sync_worker'', c.oid, ''UPDATE, DELETE, TRUNCATE'')', 'nobody changes the audit log');
SELECT is_empty('SELECT c.oid::regclass FROM pg_class c WHERE c.relname ~ ''^pems_audit_log'' AND c.relkind IN (''r'', ''p'') AND NOT has_table_privilege(''pems_sync_worker'', c.oid, ''INSERT'')', 'the worker adds to it');
SELECT is_empty('SELECT c.oid::regclass FROM pg_class c WHERE c.relname ~ ''^pems_audit_log'' AND c.relkind IN (''r'', ''p'') AND has_table_privilege(''pgtap_pems_nobody'', c.oid, ''SELECT'')', 'and nobody else reads it');
SELECT is_empty('SELECT rolname FROM pg_roles WHERE rolname IN (''pems_sync_reader'', ''pems_sync_user'', ''pems_sync_admin'') AND has_table_privilege(rolname, ''pems_credential'', ''SELECT'')', 'sealed tokens are the worker''s alone');

-- No SQL is put together from values: EXECUTE only where DDL is made from names of our own.
SELECT set_eq('SELECT proname::text FROM routine WHERE prosrc ~ ''\mEXECUTE\s+(format|item|pg_catalog|line|wanted|''''|[a-z_.]+;)''', ARRAY['_pems_app_create', '_pems_app_extend', 'pems_detach', '_pems_make_audit_partition', '_pems_drop_audit_partitions'], 'dynamic SQL');
-- Functions that look at rows say so: nothing that reads a table is IMMUTABLE, nothing that writes is STABLE.
SELECT is_empty('SELECT signature FROM routine WHERE provolatile = ''i'' AND prosrc ~ ''\m(FROM|JOIN|INTO|UPDATE) public\.(pfa_|pems_)\w+\M(?!\()''', 'IMMUTABLE');
SELECT is_empty('SELECT signature FROM routine WHERE provolatile IN (''i'', ''s'') AND prosrc ~ ''\m(INSERT INTO|DELETE FROM|nextval|FOR (NO KEY )?UPDATE)\M''', 'STABLE');
-- No setting turns verification off, and all of them are the superuser's.
SELECT is_empty('SELECT name FROM pg_settings WHERE name ~ ''^pems_sync\.'' AND context NOT IN (''sighup'', ''postmaster'', ''superuser'')', 'settings');
SELECT is_empty('SELECT name FROM pg_settings WHERE name ~ ''^pems_sync\..*(verify|insecure_tls|skip|peer)''', 'no switch for TLS verification');

SELECT * FROM finish();
ROLLBACK;
