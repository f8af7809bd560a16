-- Who may do what, tried.  What is granted to whom: acl.sql.
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
CREATE VIEW regress.public_function AS SELECT p.proname AS name FROM regress.routine p WHERE p.proname !~ '^_';

-- Every statement as every role: 42501, or it gets past the privileges, whatever it says then.
CREATE TABLE regress.statement (n serial, what text);
INSERT INTO regress.statement (what) VALUES
    ($$SELECT pems_sync_status()$$), ($$SELECT pems_sync_state('org-rio', ARRAY['PFA-1'])$$), ($$SELECT pems_conflicts('org-rio')$$), ($$SELECT pems_conflict('c1')$$),
    ($$SELECT pems_health()$$), ($$SELECT pems_sync_history()$$), ($$SELECT pems_job('j1')$$), ($$SELECT pems_version_history('org-rio', 'PFA-1')$$), ($$SELECT pems_commit_preview('org-rio')$$), ($$SELECT pems_pull('org-rio')$$), ($$SELECT pems_cancel('j1')$$),
    ($$SELECT pems_validate('{}')$$), ($$SELECT pems_commit('org-rio')$$), ($$SELECT pems_write_sync('org-rio')$$), ($$SELECT pems_discard('m1')$$),
    ($$SELECT pems_resolve_conflict('c1', 'use_pems')$$),
    ($$SELECT pems_attach()$$), ($$SELECT pems_attach(true)$$), ($$SELECT pems_detach()$$), ($$SELECT pems_public_key()$$), ($$SELECT pems_set_credential('org-rio', 'x', 'x', 'x')$$),
    ($$SELECT pems_retry()$$), ($$SELECT pems_pause('org-rio')$$), ($$SELECT pems_resume('org-rio')$$), ($$SELECT pems_resume()$$),
    ($$SELECT pems_rollback_preview('org-rio', 'PFA-1', 1)$$), ($$SELECT pems_rollback('org-rio', 'PFA-1', 1, 'why')$$), ($$SELECT pems_health_check('org-rio')$$),
    ($$SELECT pems_audit()$$), ($$SELECT pems_purge('90 days')$$),
    ($$SELECT _pems_credential_target('nowhere')$$), ($$SELECT _pems_sealed_credentials()$$), ($$SELECT _pems_reseal_credential('org-rio', 1, 'x', 'x', 'x')$$),
    ($$SELECT _pems_worker_state()$$), ($$SELECT _pems_endpoints()$$), ($$SELECT _pems_endpoint_states()$$), ($$SELECT _pems_ask_worker('org-rio')$$), ($$SELECT _pems_drop_audit_partitions()$$),
    ($$SELECT * FROM _pems_claim(ARRAY['org-rio'], ARRAY[1])$$), ($$SELECT _pems_record(NULL, false)$$), ($$SELECT _pems_put_back_orphans()$$), ($$SELECT _pems_wake()$$), ($$SELECT _pems_setting('key_file')$$),
    ($$SELECT _pems_app_mark('{}', '{}', '{}', '{}')$$), ($$SELECT _pems_app_mark_all('{}', 'queued')$$), ($$SELECT * FROM _pems_organizations()$$), ($$SELECT _pems_make_audit_partitions()$$), ($$SELECT _pems_is_admin()$$),
    ($$SELECT * FROM pems_queue$$), ($$SELECT * FROM pems_dead_letters$$), ($$SELECT * FROM pems_open_conflicts$$), ($$SELECT * FROM pems_worker$$), ($$SELECT * FROM pems_endpoints$$), ($$SELECT * FROM pems_pulls$$), ($$SELECT * FROM pems_quarantine$$),
    ($$SELECT * FROM pems_pull_state$$), ($$SELECT * FROM pems_pull_organization$$), ($$SELECT * FROM pems_pull_seen$$), ($$SELECT * FROM pems_pull_sorted$$), ($$SELECT * FROM pems_pull_sorted_slice$$), ($$SELECT * FROM pems_pull_missing$$), ($$SELECT * FROM pems_quarantined$$),
    ($$SELECT * FROM _pems_pulls()$$), ($$SELECT * FROM _pems_pull_due(ARRAY['org-rio'], 1)$$),
    ($$SELECT * FROM pfa_write_queue$$), ($$UPDATE pfa_write_queue SET status = 'cancelled'$$), ($$DELETE FROM pfa_write_queue$$), ($$TRUNCATE pfa_write_queue$$),
    ($$INSERT INTO pfa_write_queue (modification_id, pfa_id, organization_id, operation, payload, base_version) VALUES ('m1', 'PFA-1', 'org-rio', 'UPDATE', '{}', 1)$$),
    ($$SELECT * FROM pfa_sync_conflict$$), ($$SELECT * FROM pems_mirror_version$$), ($$SELECT * FROM pems_audit_log$$), ($$INSERT INTO pems_audit_log (event_type) VALUES ('X')$$),
    ($$SELECT * FROM pems_audit_log_default$$), ($$SELECT * FROM pems_credential$$), ($$UPDATE pems_credential SET api_url = 'https://evil.invalid'$$), ($$DELETE FROM pems_pause$$),
    ($$DELETE FROM pems_control$$), ($$SELECT * FROM pems_sync_job$$), ($$SELECT * FROM pems_sync_stats$$), ($$SELECT * FROM pems_recheck$$), ($$SELECT * FROM pems_claim$$),
    ($$SELECT * FROM pems_field$$), ($$SELECT * FROM pems_index$$), ($$SELECT * FROM pems_audit_month$$), ($$SELECT nextval('pems_commit_order')$$), ($$SELECT nextval('pems_claim_order')$$), ($$SELECT nextval('pems_audit_order')$$), ($$SELECT nextval('pems_state_order')$$),
    ($$CREATE TRIGGER t BEFORE INSERT ON pfa_write_queue FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()$$),
    ($$CREATE TRIGGER t AFTER INSERT ON regress.own REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION _pems_record_versions()$$);
CREATE TABLE regress.own (organization_id text, pfa_id text, version integer, data jsonb);
GRANT TRIGGER, INSERT ON regress.own TO PUBLIC;
/* Whatever it does is undone. */
CREATE FUNCTION regress.tried(statement text, role text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('role', role, true), set_config('client_min_messages', 'error', true);
    EXECUTE statement;
    RAISE EXCEPTION USING ERRCODE = 'PM000';
EXCEPTION
    WHEN SQLSTATE 'PM000' THEN RETURN 'may';
    WHEN insufficient_privilege THEN RETURN '42501';
    WHEN OTHERS THEN RETURN 'may';
END
$$;
\pset tuples_only off
\pset footer off
SELECT regress.tried(s.what, 'regress_pems_nobody') AS nobody, regress.tried(s.what, 'regress_pems_reader') AS reader, regress.tried(s.what, 'regress_pems_user') AS "user",
       regress.tried(s.what, 'regress_pems_admin') AS admin, s.what
FROM regress.statement s ORDER BY s.n;
\pset tuples_only on
-- No public function is missing from the list, and no table, view or sequence.
SELECT f.name FROM regress.public_function f WHERE NOT EXISTS (SELECT FROM regress.statement s WHERE s.what ~ ('\m' || f.name || '\('));
SELECT c.relname FROM regress.member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
WHERE c.relkind IN ('r', 'p', 'v', 'S') AND NOT EXISTS (SELECT FROM regress.statement s WHERE s.what ~ ('\m' || c.relname || '\M'));

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
