-- Who may do what: the matrix of functions, tables and views over the roles, tried as well as looked up.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
\set ECHO none
\i test/support/regress_application.sql
\set ECHO all
CREATE ROLE regress_pems_nobody;
CREATE ROLE regress_pems_reader IN ROLE pems_sync_reader;
CREATE ROLE regress_pems_user IN ROLE pems_sync_user;
CREATE ROLE regress_pems_admin IN ROLE pems_sync_admin;
CREATE VIEW regress.member AS
    SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pems_sync'
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e';
CREATE VIEW regress.routine AS SELECT p.* FROM regress.member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid;
CREATE VIEW regress.relation AS SELECT c.* FROM regress.member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid WHERE c.relkind IN ('r', 'p', 'v', 'S');

-- PUBLIC gets nothing: functions, tables, views, sequences, types.
SELECT p.oid::regprocedure FROM regress.routine p WHERE has_function_privilege('regress_pems_nobody', p.oid, 'EXECUTE') ORDER BY p.proname COLLATE "C";
SELECT p.oid::regprocedure FROM regress.routine p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0 ORDER BY p.proname COLLATE "C";
SELECT c.oid::regclass, a.privilege_type FROM regress.relation c, aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) a WHERE a.grantee = 0;
SELECT t.oid::regtype FROM regress.member m JOIN pg_type t ON m.classid = 'pg_type'::regclass AND t.oid = m.objid LEFT JOIN pg_class c ON c.oid = t.typrelid,
    aclexplode(coalesce(t.typacl, acldefault('T', t.typowner))) a WHERE a.grantee = 0 AND t.typelem = 0 AND (t.typrelid = 0 OR c.relkind = 'c');

-- Functions: what each role may call more than the one before it.
SELECT r.name, f.signature FROM (VALUES (1, 'reader'), (2, 'user'), (3, 'admin')) AS r (n, name) CROSS JOIN LATERAL (
    SELECT p.oid::regprocedure::text AS signature FROM regress.routine p
    WHERE has_function_privilege('pems_sync_' || r.name, p.oid, 'EXECUTE')
      AND NOT (r.n > 1 AND has_function_privilege('pems_sync_' || CASE r.n WHEN 2 THEN 'reader' ELSE 'user' END, p.oid, 'EXECUTE'))) f
ORDER BY r.n, f.signature COLLATE "C";
-- and nobody has a function that the one after it has not
SELECT p.oid::regprocedure FROM regress.routine p
WHERE has_function_privilege('pems_sync_reader', p.oid, 'EXECUTE') > has_function_privilege('pems_sync_user', p.oid, 'EXECUTE')
   OR has_function_privilege('pems_sync_user', p.oid, 'EXECUTE') > has_function_privilege('pems_sync_admin', p.oid, 'EXECUTE');
-- every public function is somebody's
SELECT p.oid::regprocedure FROM regress.routine p WHERE p.proname !~ '^_' AND NOT has_function_privilege('pems_sync_admin', p.oid, 'EXECUTE');

-- Tables, views and sequences.
SELECT c.oid::regclass, r.role, string_agg(v.privilege, ' ' ORDER BY v.privilege COLLATE "C") AS may
FROM regress.relation c CROSS JOIN (VALUES (1, 'pems_sync_reader'), (2, 'pems_sync_user'), (3, 'pems_sync_admin'), (4, 'pems_sync_worker')) AS r (n, role)
CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS v (privilege)
WHERE c.relkind <> 'S' AND has_table_privilege(r.role, c.oid, v.privilege) GROUP BY c.oid, c.relname, r.n, r.role ORDER BY c.relname COLLATE "C", r.n;
SELECT c.oid::regclass, r.role FROM regress.relation c CROSS JOIN (VALUES ('pems_sync_admin'), ('pems_sync_worker')) AS r (role)
WHERE c.relkind = 'S' AND has_sequence_privilege(r.role, c.oid, 'USAGE') ORDER BY c.relname COLLATE "C";
-- columns carry no privileges of their own
SELECT count(*) FROM regress.relation c JOIN pg_attribute a ON a.attrelid = c.oid WHERE a.attacl IS NOT NULL;
-- the application's tables: what the worker may
SELECT t.name, string_agg(v.privilege, ' ' ORDER BY v.privilege COLLATE "C")
FROM unnest(ARRAY['organization', 'pfa_mirror', 'pfa_modification']) t (name), unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS v (privilege)
WHERE has_table_privilege('pems_sync_worker', t.name, v.privilege) GROUP BY t.name ORDER BY t.name COLLATE "C";

-- Definers: fixed search_path; owned by pems_sync_worker, but for three that do nothing but DDL.
SELECT p.oid::regprocedure FROM regress.routine p WHERE p.prosecdef AND NOT coalesce(p.proconfig, '{}') @> ARRAY['search_path=pg_catalog, pg_temp'] ORDER BY p.proname COLLATE "C";
SELECT p.oid::regprocedure FROM regress.routine p WHERE p.prosecdef AND p.proowner <> 'pems_sync_worker'::regrole ORDER BY p.proname COLLATE "C";
SELECT p.oid::regprocedure FROM regress.routine p WHERE NOT p.prosecdef AND p.proowner = 'pems_sync_worker'::regrole ORDER BY p.proname COLLATE "C";
SELECT rolname FROM pg_roles WHERE rolname = 'pems_sync_worker' AND (rolsuper OR rolcanlogin OR rolcreaterole OR rolcreatedb OR rolreplication);

-- Tried.  Nobody: nothing at all.
CREATE FUNCTION regress.tries() RETURNS TABLE (what text, result text) LANGUAGE plpgsql AS $$
DECLARE
    statement text;
BEGIN
    SET LOCAL client_min_messages = error;
    FOREACH statement IN ARRAY ARRAY[
        'SELECT pems_sync_status()', 'SELECT * FROM pems_queue', 'SELECT * FROM pems_dead_letters', 'SELECT * FROM pems_worker',
        'SELECT pems_validate(''{}'')', 'SELECT pems_commit(''org-rio'')', 'SELECT pems_write_sync(''org-rio'')', 'SELECT pems_discard(''m1'')',
        'SELECT pems_pause(''org-rio'')', 'SELECT pems_resume(''org-rio'')', 'SELECT pems_resume()', 'SELECT pems_attach()', 'SELECT pems_attach(true)', 'SELECT pems_detach()',
        'SELECT pems_public_key()', 'SELECT pems_set_credential(''org-rio'', ''x'', ''x'', ''x'')', 'SELECT _pems_credential_target(''nowhere'')',
        'SELECT * FROM _pems_claim(ARRAY[''org-rio''], ARRAY[1])', 'SELECT _pems_record(NULL, false)', 'SELECT _pems_adopt()', 'SELECT _pems_wake()', 'SELECT _pems_setting(''key_file'')',
        'SELECT _pems_host_mark(''{}'', ''{}'', ''{}'', ''{}'')', 'SELECT * FROM _pems_organizations()', 'SELECT _pems_make_audit_partitions()', 'SELECT _pems_is_admin()',
        'SELECT * FROM pfa_write_queue', 'UPDATE pfa_write_queue SET status = ''cancelled''', 'DELETE FROM pfa_write_queue', 'TRUNCATE pfa_write_queue',
        'INSERT INTO pfa_write_queue (modification_id, pfa_id, organization_id, operation, payload, base_version) VALUES (''m1'', ''PFA-1'', ''org-rio'', ''UPDATE'', ''{}'', 1)',
        'SELECT * FROM pfa_sync_conflict', 'SELECT * FROM pems_mirror_version', 'SELECT * FROM pems_audit_log', 'INSERT INTO pems_audit_log (event_type) VALUES (''X'')',
        'SELECT * FROM pems_audit_log_default', 'SELECT * FROM pems_credential', 'UPDATE pems_credential SET api_url = ''https://evil.invalid''', 'DELETE FROM pems_pause',
        'DELETE FROM pems_control', 'SELECT * FROM pems_sync_job', 'SELECT * FROM pems_sync_stats', 'SELECT * FROM pems_recheck', 'SELECT * FROM pems_field',
        'SELECT nextval(''pems_commit_order'')', 'SELECT nextval(''pems_claim_order'')', 'CREATE TRIGGER t BEFORE INSERT ON pfa_write_queue FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()']
    LOOP
        what := statement;
        BEGIN
            EXECUTE statement;
            result := 'may';
        EXCEPTION WHEN insufficient_privilege THEN result := NULL;
                  WHEN OTHERS THEN result := 'may (' || SQLSTATE || ')';
        END;
        IF result IS NOT NULL THEN
            RETURN NEXT;
        END IF;
    END LOOP;
END
$$;
SET ROLE regress_pems_nobody;
SELECT * FROM regress.tries();
RESET ROLE;
SET ROLE regress_pems_reader;
SELECT * FROM regress.tries();
RESET ROLE;
SET ROLE regress_pems_user;
SELECT * FROM regress.tries();
RESET ROLE;
BEGIN;
SET ROLE regress_pems_admin;
SELECT * FROM regress.tries() WHERE what <> 'SELECT pems_public_key()';
ROLLBACK;

-- The audit log takes INSERT only, from the worker, too; partitions made later as well.
SELECT _pems_make_audit_partitions();
SET ROLE pems_sync_worker;
SELECT regress.state($$INSERT INTO pems_audit_log (event_type) VALUES ('TEST')$$), regress.state('SELECT count(*) FROM pems_audit_log');
SELECT regress.state('UPDATE pems_audit_log SET actor = NULL'), regress.state('DELETE FROM pems_audit_log'), regress.state('TRUNCATE pems_audit_log');
SELECT regress.state('UPDATE pems_audit_log_default SET actor = NULL'), regress.state('DELETE FROM pems_audit_log_default'), regress.state('TRUNCATE pems_audit_log_default');
SELECT regress.state(format('%s %s', c.command, i.inhrelid::regclass)) ~ '^42501' FROM pg_inherits i, unnest(ARRAY['DELETE FROM', 'TRUNCATE']) c (command)
WHERE i.inhparent = 'pems_audit_log'::regclass;
RESET ROLE;

-- Who did it: the role that was set, not the function's owner; or the user that the application names.
SELECT regress.draft('m1', 'PFA-1'), regress.draft('m2', 'PFA-2');
SET client_min_messages = error;
SET ROLE regress_pems_user;
SELECT pems_commit('org-rio', ARRAY['m1']) -> 'queuedCount', pems_commit('org-rio', ARRAY['m2'], 'alice') -> 'queuedCount';
SELECT pems_discard('m1') -> 'outcome', pems_discard('m2', 'bob') -> 'outcome';
SET ROLE regress_pems_admin;
SELECT pems_pause('org-rio', 'why') -> 'paused', pems_resume('org-rio', 'carol') -> 'paused';
RESET ROLE;
SELECT event_type, modification_id, actor FROM pems_audit_log WHERE event_type <> 'TEST' ORDER BY at;
SELECT requested_by FROM pems_sync_job ORDER BY id;

-- The application's role works with grants on its own tables and membership in pems_sync_user alone.
GRANT SELECT, INSERT, UPDATE ON pfa_modification TO regress_pems_user;
GRANT SELECT ON pfa_mirror TO regress_pems_user;
SET ROLE regress_pems_user;
INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by) VALUES ('own', 'org-rio', 'PFA-5', 1, '{"dor": "PROJECT"}', 'alice');
SELECT pems_commit('org-rio', committed_by => 'alice') -> 'queuedCount';
SELECT sync_status FROM pfa_modification WHERE id = 'own';
RESET ROLE;

-- Row security of the application hides nothing from the extension's functions, and a trigger on its table gains nothing:
-- it runs as the owner of the table.
ALTER TABLE pfa_modification ENABLE ROW LEVEL SECURITY;
ALTER TABLE pfa_modification OWNER TO regress_pems_nobody;
CREATE TABLE regress.seen (who name, may_see_credentials boolean);
GRANT USAGE ON SCHEMA regress TO regress_pems_nobody;
GRANT INSERT ON regress.seen TO PUBLIC;
CREATE FUNCTION regress.spy() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO regress.seen VALUES (current_user, has_table_privilege('public.pems_credential', 'SELECT'));
    RETURN NEW;
END
$$;
CREATE TRIGGER spy BEFORE UPDATE ON pfa_modification FOR EACH ROW EXECUTE FUNCTION regress.spy();
SELECT regress.draft('m3', 'PFA-3');
SET ROLE regress_pems_user;
SELECT pems_commit('org-rio', ARRAY['m3']) -> 'queuedCount';
RESET ROLE;
SELECT * FROM regress.seen;
SELECT sync_status FROM pfa_modification WHERE id = 'm3';
-- Where row security binds the owner as well, an item is never queued without its modification being marked.
ALTER TABLE pfa_modification FORCE ROW LEVEL SECURITY;
SELECT regress.draft('m4', 'PFA-4');
SELECT regress.state($$SELECT pems_commit('org-rio', ARRAY['m4'])$$) \g /dev/null
SELECT (SELECT sync_status FROM pfa_modification WHERE id = 'm4') = CASE WHEN EXISTS (SELECT FROM pfa_write_queue WHERE modification_id = 'm4') THEN 'queued' ELSE 'draft' END AS consistent;
ALTER TABLE pfa_modification NO FORCE ROW LEVEL SECURITY;
-- the same where a trigger of the application swallows the update
CREATE FUNCTION regress.swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER swallow BEFORE UPDATE ON pfa_modification FOR EACH ROW EXECUTE FUNCTION regress.swallow();
SELECT regress.draft('m5', 'PFA-6');
SELECT regress.state($$SELECT pems_commit('org-rio', ARRAY['m5'])$$) \g /dev/null
SELECT (SELECT sync_status FROM pfa_modification WHERE id = 'm5') = CASE WHEN EXISTS (SELECT FROM pfa_write_queue WHERE modification_id = 'm5') THEN 'queued' ELSE 'draft' END AS consistent;
DROP TRIGGER swallow ON pfa_modification;

-- A search_path that leads elsewhere, and objects of the same names there, change nothing.
CREATE SCHEMA regress_pems_evil;
GRANT ALL ON SCHEMA regress_pems_evil TO regress_pems_user;
SET ROLE regress_pems_user;
CREATE TABLE regress_pems_evil.organization (id text, code text, name text);
CREATE FUNCTION regress_pems_evil.coalesce(text, text) RETURNS text LANGUAGE sql AS 'SELECT ''evil''';
CREATE FUNCTION regress_pems_evil.left(text, integer) RETURNS text LANGUAGE sql AS 'SELECT ''evil''';
CREATE FUNCTION regress_pems_evil.equal(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR regress_pems_evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = regress_pems_evil.equal);
SET search_path = regress_pems_evil, public, pg_catalog;
SELECT regress.state($$SELECT pems_commit('org-nowhere')$$);
SELECT jsonb_typeof(pems_sync_status('org-rio') -> 'totalQueued');
RESET search_path;
RESET ROLE;

SET client_min_messages = warning;
DROP SCHEMA regress_pems_evil CASCADE;
DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
DROP ROLE regress_pems_nobody, regress_pems_reader, regress_pems_user, regress_pems_admin;
