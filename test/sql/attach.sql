-- pems_attach() and pems_detach(): what the application's tables must look like, and what is added to them.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
SELECT pems_detach();
DROP TABLE pfa_modification, pfa_mirror, organization;

-- Nothing there: one error names every table.
SELECT regress.attempt('SELECT pems_attach()');
-- in one other schema there are tables of these names; in two: nobody knows which are meant; in none all three
CREATE SCHEMA "the crm";
CREATE TABLE "the crm".organization (id text);
CREATE TABLE "the crm".pfa_mirror (id text);
SELECT regress.attempt('SELECT pems_attach()');
CREATE TABLE "the crm".pfa_modification (id text);
SELECT regress.attempt('SELECT pems_attach()');
CREATE SCHEMA regress_second;
CREATE TABLE regress_second.organization (id text);
CREATE TABLE regress_second.pfa_mirror (id text);
CREATE TABLE regress_second.pfa_modification (id text);
SELECT regress.attempt('SELECT pems_attach()');
SET client_min_messages = warning;
DROP SCHEMA "the crm", regress_second CASCADE;
RESET client_min_messages;
-- a view or a partitioned table is none of the application's tables
CREATE VIEW organization AS SELECT 'o'::text AS id, 'O'::text AS code, 'O'::text AS name;
CREATE TABLE pfa_mirror (id text, organization_id text) PARTITION BY LIST (organization_id);
SELECT regress.attempt('SELECT pems_attach()');
DROP VIEW organization;
DROP TABLE pfa_mirror;

-- Every missing column, wrong type and missing key, in one error.
CREATE TABLE organization (id integer PRIMARY KEY, code varchar(20) UNIQUE);
CREATE TABLE pfa_mirror (id text, organization_id text, pfa_id text, version bigint, data json, deleted_at timestamp, UNIQUE (pfa_id));
CREATE TABLE pfa_modification (id uuid, pfa_id text, delta jsonb, created_at date, sync_status integer, pems_version bigint);
SELECT regress.attempt('SELECT pems_attach()');
-- nothing was changed by it
SELECT count(*) AS columns FROM information_schema.columns WHERE table_schema = 'public' AND table_name IN ('organization', 'pfa_mirror', 'pfa_modification');
SELECT count(*) AS attached FROM pems_control;
DROP TABLE organization, pfa_mirror, pfa_modification;

-- Keys: in any order of columns, also as a unique index; but not partial, not on an expression, not with more columns.
CREATE TABLE organization (id text, code text, name text);
CREATE TABLE pfa_mirror (id text, organization_id text, pfa_id text, version integer, data jsonb);
CREATE TABLE pfa_modification (id text PRIMARY KEY, organization_id text, pfa_id text, base_version integer, delta jsonb, created_by text, created_at timestamptz);
CREATE UNIQUE INDEX organization_id_index ON organization (id) WHERE id <> '';
CREATE UNIQUE INDEX organization_code_index ON organization (lower(code));
CREATE UNIQUE INDEX pfa_mirror_id_index ON pfa_mirror (id, pfa_id);
SELECT regress.attempt('SELECT pems_attach()');
CREATE UNIQUE INDEX organization_id_full ON organization (id);
CREATE UNIQUE INDEX organization_code_full ON organization (code) INCLUDE (name);
ALTER TABLE pfa_mirror ADD PRIMARY KEY (id);
CREATE UNIQUE INDEX pfa_mirror_natural ON pfa_mirror (pfa_id, organization_id);
INSERT INTO organization VALUES ('org-rio', 'RIO', 'Rio Grande');
INSERT INTO pfa_mirror VALUES ('a', 'org-rio', 'PFA-1', 3, '{"dor": "BEO"}'), ('b', 'org-rio', 'PFA-2', 7, '{}'), ('c', 'org-rio', 'PFA-3', NULL, NULL);
SELECT pems_attach();

-- What was added.
SELECT table_name, column_name, data_type, column_default, is_nullable FROM information_schema.columns
WHERE table_schema = 'public' AND (table_name, column_name) IN (('pfa_mirror', 'deleted_at'), ('pfa_mirror', 'last_synced_at'), ('pfa_modification', 'operation'),
    ('pfa_modification', 'change_reason'), ('pfa_modification', 'sync_status'), ('pfa_modification', 'synced_at'),
    ('pfa_modification', 'sync_error'), ('pfa_modification', 'pems_version'))
ORDER BY table_name COLLATE "C", ordinal_position;
SELECT pg_get_indexdef('idx_modification_syncstatus'::regclass);
SELECT tgrelid::regclass, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname ~ '^pems_' AND tgrelid::regclass::text IN ('organization', 'pfa_mirror', 'pfa_modification')
ORDER BY tgrelid::regclass::text COLLATE "C", tgname COLLATE "C";
SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE contype = 'f' AND conrelid IN ('pfa_write_queue'::regclass, 'pfa_sync_conflict'::regclass) ORDER BY conrelid::regclass::text COLLATE "C", conname COLLATE "C";
SELECT pfa_id, version, data, source, modification_id FROM pems_mirror_version ORDER BY pfa_id COLLATE "C";
-- the columns of the application itself are as they were
SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'public' AND table_name = 'organization' ORDER BY ordinal_position;

-- Again: nothing new, no error, and a snapshot of what the history does not have.
SELECT pems_attach();
SELECT pems_attach(create_missing => true);
SELECT pems_attach(true);
SELECT count(*) FROM pg_trigger WHERE tgname ~ '^pems_' AND tgrelid::regclass::text IN ('organization', 'pfa_mirror', 'pfa_modification');
SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid IN ('pfa_write_queue'::regclass, 'pfa_sync_conflict'::regclass);

-- Something was taken off by hand: attach puts it back.
DROP TRIGGER pems_versions_updated ON pfa_mirror;
ALTER TABLE pfa_write_queue DROP CONSTRAINT pfa_write_queue_organization_id_fkey;
DROP INDEX idx_modification_syncstatus;
UPDATE pfa_mirror SET version = 8 WHERE pfa_id = 'PFA-2';
SELECT pems_attach();
SELECT count(*) FROM pg_trigger WHERE tgname ~ '^pems_' AND tgrelid::regclass::text IN ('organization', 'pfa_mirror', 'pfa_modification');
SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid IN ('pfa_write_queue'::regclass, 'pfa_sync_conflict'::regclass);
SELECT to_regclass('idx_modification_syncstatus');
SELECT version FROM pems_mirror_version WHERE pfa_id = 'PFA-2' ORDER BY version;

-- pems_health() says what is missing, and pems_resume() of all puts it back; where nothing is missing it locks no table of the application.
ALTER TABLE pfa_write_queue DROP CONSTRAINT pfa_write_queue_organization_id_fkey;
DROP TRIGGER pems_versions_updated ON pfa_mirror;
SELECT p FROM jsonb_array_elements_text(pems_health() -> 'problems') p WHERE p LIKE 'What pems_attach()%';
SELECT pems_resume();
SELECT p FROM jsonb_array_elements_text(pems_health() -> 'problems') p WHERE p LIKE 'What pems_attach()%';
SELECT count(*) FROM pg_trigger WHERE tgname ~ '^pems_' AND tgrelid::regclass::text IN ('organization', 'pfa_mirror', 'pfa_modification');
-- So it does where a trigger is there, but does not do what ours does.
CREATE TABLE regress.made AS SELECT tgrelid, tgname, tgtype, tgfoid, tgenabled, pg_get_triggerdef(oid) AS definition FROM pg_trigger WHERE tgname ~ '^pems_' AND tgrelid::regclass::text IN ('organization', 'pfa_mirror', 'pfa_modification');
CREATE FUNCTION regress.idle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
ALTER TABLE organization DISABLE TRIGGER pems_refuse_truncate;
ALTER TABLE pfa_modification ENABLE TRIGGER pems_refuse_truncate;
DROP TRIGGER pems_refuse_truncate ON pfa_mirror;
CREATE TRIGGER pems_refuse_truncate BEFORE TRUNCATE ON pfa_mirror FOR EACH STATEMENT EXECUTE FUNCTION regress.idle();
DROP TRIGGER pems_versions_inserted ON pfa_mirror;
CREATE CONSTRAINT TRIGGER pems_versions_inserted AFTER INSERT ON pfa_mirror FOR EACH ROW EXECUTE FUNCTION regress.idle();
DROP TRIGGER pems_versions_updated ON pfa_mirror;
CREATE TRIGGER pems_versions_updated AFTER UPDATE OF id ON pfa_mirror FOR EACH ROW WHEN (false) EXECUTE FUNCTION _pems_record_versions();
DROP INDEX idx_modification_syncstatus;
SELECT regexp_split_to_table(p, '[:,;] ') FROM jsonb_array_elements_text(pems_health() -> 'problems') p WHERE p LIKE 'What pems_attach()%';
SELECT pems_resume();
SELECT p FROM jsonb_array_elements_text(pems_health() -> 'problems') p WHERE p LIKE 'What pems_attach()%';
SELECT m.tgrelid::regclass, m.tgname FROM regress.made m WHERE NOT EXISTS (
    SELECT FROM pg_trigger t WHERE (t.tgrelid, t.tgname, t.tgtype, t.tgfoid, t.tgenabled, pg_get_triggerdef(t.oid)) = (m.tgrelid, m.tgname, m.tgtype, m.tgfoid, m.tgenabled, m.definition));
BEGIN;
SELECT pems_resume();
SELECT relation::regclass, mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation IN ('organization'::regclass, 'pfa_mirror'::regclass, 'pfa_modification'::regclass)
    AND mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock');
ROLLBACK;

-- The extension's own tables: as a load with --disable-triggers leaves them.  What was not counted meanwhile is counted then.
INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by, created_at)
SELECT 'n' || i, 'org-rio', 'PFA-1', 3, '{"dor": "PROJECT"}', 'alice', now() FROM generate_series(1, 4) i;
SET client_min_messages = error;
SELECT pems_commit('org-rio', '{n1,n2}') -> 'queuedCount';
SELECT _pems_fold_stats();
CREATE TABLE regress.own AS SELECT tgrelid::regclass AS name, array_agg(tgname ORDER BY tgname) AS triggers, string_agg(tgenabled, '') AS enabled FROM pg_trigger
WHERE NOT tgisinternal AND tgrelid IN (SELECT d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pems_sync' AND d.deptype = 'e' AND d.classid = 'pg_class'::regclass) GROUP BY 1;
SELECT * FROM regress.own ORDER BY name::text COLLATE "C";
DO $$
DECLARE
    name regclass;
BEGIN
    FOR name IN SELECT o.name FROM regress.own o LOOP
        EXECUTE format('ALTER TABLE %s DISABLE TRIGGER ALL', name);
    END LOOP;
    INSERT INTO pfa_write_queue (modification_id, pfa_id, organization_id, operation, payload, base_version, status, waits_for)
    VALUES ('n3', 'PFA-1', 'org-rio', 'UPDATE', '{}', 3, 'pending', 'turn'), ('n4', 'PFA-1', 'org-rio', 'UPDATE', '{}', 3, 'failed', NULL);
    DELETE FROM pfa_write_queue WHERE modification_id = 'n2';
    FOR name IN SELECT o.name FROM regress.own o LOOP
        EXECUTE format('ALTER TABLE %s ENABLE TRIGGER ALL', name);
    END LOOP;
    DROP TRIGGER pems_field_announce ON pems_field;
END
$$;
SELECT regexp_split_to_table(p, '[:,;] ') FROM jsonb_array_elements_text(pems_health() -> 'problems') p WHERE p LIKE 'What pems_attach()%';
SELECT s -> 'totalQueued', s -> 'held', s -> 'failed' FROM pems_sync_status('org-rio') s;
SELECT pems_resume();
SELECT p FROM jsonb_array_elements_text(pems_health() -> 'problems') p WHERE p LIKE 'What pems_attach()%';
SELECT s -> 'totalQueued', s -> 'held', s -> 'failed' FROM pems_sync_status('org-rio') s;
SELECT s -> 'totalQueued', s -> 'held', s -> 'failed' FROM pems_sync_status() s;
SELECT o.name FROM regress.own o WHERE (o.triggers, o.enabled) NOT IN (SELECT array_agg(tgname ORDER BY tgname), string_agg(tgenabled, '') FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = o.name);
-- nothing to count: nothing is added
SELECT _pems_fold_stats();
SELECT _pems_recount();
SELECT count(*) FROM pems_sync_stats WHERE NOT folded;
DELETE FROM pfa_modification;
SELECT s -> 'totalQueued', s -> 'held', s -> 'failed' FROM pems_sync_status('org-rio') s;
SET client_min_messages = warning;

-- An organization whose id stands for all organizations.
INSERT INTO organization VALUES ('*', 'STAR', 'Star');
SELECT p FROM jsonb_array_elements_text(pems_health() -> 'problems') p WHERE p ~ 'stands for';
SELECT regress.attempt($$SELECT pems_commit('*')$$);
SELECT c, regress.state(c) FROM unnest(ARRAY['SELECT pems_pause(''*'')', 'SELECT pems_resume(''*'')', 'SELECT pems_sync_status(''*'')', 'SELECT pems_sync_state(''*'', ''{}'')', 'SELECT pems_write_sync(''*'')',
    'SELECT pems_set_credential(''*'', ''https://x'', ''x'', ''x'')', 'SELECT pems_audit(''*'')', 'SELECT pems_retry(NULL, ''*'')', 'SELECT pems_conflicts(''*'')', 'SELECT pems_rollback(''*'', ''PFA-1'', 1, ''why'')']) c;
SELECT regress.attempt('SELECT pems_attach()');
DELETE FROM organization WHERE id = '*';
SELECT pems_attach() -> 'success';

-- The foreign keys go with the key that they need: nothing is sent until they are there again.
ALTER TABLE pfa_modification DROP CONSTRAINT pfa_modification_pkey CASCADE;
SELECT p FROM jsonb_array_elements_text(pems_health() -> 'problems') p WHERE p ~ '^The tables';
ALTER TABLE pfa_modification ADD PRIMARY KEY (id);
SELECT p FROM jsonb_array_elements_text(pems_health() -> 'problems') p WHERE p ~ '^The tables';
SELECT pems_health() -> 'status', regress.state($$SELECT pems_commit('org-rio')$$);
SELECT pems_resume() -> 'success';
SELECT p FROM jsonb_array_elements_text(pems_health() -> 'problems') p WHERE p ~ '^The tables';
SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid IN ('pfa_write_queue'::regclass, 'pfa_sync_conflict'::regclass);
-- or refer to a table that was put aside
ALTER TABLE pfa_modification RENAME TO old_modification;
ALTER INDEX idx_modification_syncstatus RENAME TO old_syncstatus;
CREATE TABLE pfa_modification (LIKE old_modification INCLUDING DEFAULTS INCLUDING CONSTRAINTS, PRIMARY KEY (id));
GRANT SELECT, INSERT, UPDATE ON pfa_modification TO pems_sync_worker;
SELECT p FROM jsonb_array_elements_text(pems_health() -> 'problems') p WHERE p ~ '^The tables';
SELECT pems_attach() -> 'success';
SELECT confrelid::regclass, count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid IN ('pfa_write_queue'::regclass, 'pfa_sync_conflict'::regclass) GROUP BY 1 ORDER BY 1::text COLLATE "C";
DROP TABLE old_modification;

-- Rights that were taken away: pems_health() answers and says which; attach and resume grant them again.
CREATE FUNCTION regress.what_is_wrong() RETURNS SETOF text LANGUAGE sql AS
$$ SELECT replace(p, current_user, '<installer>') FROM jsonb_array_elements_text(pems_health() -> 'problems') p WHERE p !~ '^No worker|^pems_sync is not attached' $$;
SELECT regress.what_is_wrong();
REVOKE SELECT ON organization FROM pems_sync_worker;
REVOKE UPDATE ON pfa_mirror FROM pems_sync_worker;
SELECT pems_health() -> 'status', pems_health() -> 'attached';
SELECT regress.what_is_wrong();
SELECT regress.attempt($$SELECT pems_commit('org-rio')$$);
SELECT pems_resume() -> 'success';
SELECT regress.what_is_wrong();
REVOKE ALL ON pfa_modification FROM pems_sync_worker;
SELECT regress.what_is_wrong();
SELECT pems_attach() -> 'success';
SELECT regress.what_is_wrong();
REVOKE USAGE ON SCHEMA public FROM PUBLIC, pems_sync_reader;
SELECT regress.what_is_wrong();
SELECT pems_resume() -> 'success';
REVOKE USAGE ON SCHEMA public FROM pems_sync_worker;
SELECT pems_health();
SELECT regress.state($$SELECT pems_commit('org-rio')$$);
SELECT pems_attach() -> 'success';
SELECT regress.what_is_wrong();
GRANT USAGE ON SCHEMA public TO PUBLIC;
-- of the owner, who writes
CREATE ROLE regress_pems_owner;
ALTER TABLE pfa_mirror OWNER TO regress_pems_owner;
REVOKE UPDATE ON pfa_mirror FROM pems_sync_worker;
SELECT regress.what_is_wrong();
REVOKE UPDATE ON pfa_mirror FROM regress_pems_owner;
SELECT regress.what_is_wrong();
SELECT regress.attempt('SELECT pems_attach()');
GRANT UPDATE ON pfa_mirror TO regress_pems_owner;
REVOKE USAGE ON SCHEMA public FROM PUBLIC;
SELECT regress.attempt('SELECT pems_attach()');
GRANT USAGE ON SCHEMA public TO PUBLIC;
DO $$ BEGIN EXECUTE format('ALTER TABLE pfa_mirror OWNER TO %I', current_user); END $$;
DROP ROLE regress_pems_owner;
SELECT pems_attach() -> 'success';

-- Detach: triggers and foreign keys go, rows and columns stay, and nothing is queued any more.
INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by, created_at) VALUES ('m1', 'org-rio', 'PFA-1', 3, '{"dor": "PROJECT"}', 'alice', now());
SELECT sync_status, operation FROM pfa_modification;
SELECT pems_detach();
SELECT count(*) FROM pg_trigger WHERE tgname ~ '^pems_' AND tgrelid::regclass::text IN ('organization', 'pfa_mirror', 'pfa_modification');
SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid IN ('pfa_write_queue'::regclass, 'pfa_sync_conflict'::regclass);
SELECT count(*) AS attached FROM pems_control;
SELECT count(*) AS history FROM pems_mirror_version;
SELECT regress.attempt($$SELECT pems_commit('org-rio')$$);
SELECT pems_detach();
-- while detached the mirror moves on; attach finds out
UPDATE pfa_mirror SET version = 4, data = '{"dor": "PROJECT"}' WHERE pfa_id = 'PFA-1';
SELECT count(*) AS history FROM pems_mirror_version;
SELECT pems_attach();
SELECT version, data, source FROM pems_mirror_version WHERE pfa_id = 'PFA-1' ORDER BY version;
SET client_min_messages = error;
SELECT pems_commit('org-rio') -> 'queuedCount';
SET client_min_messages = warning;

-- A foreign key that cannot hold: a clear error, and nothing half done.
SELECT pems_detach();
DELETE FROM pfa_modification;
SELECT regress.attempt('SELECT pems_attach()');
SELECT count(*) FROM pg_trigger WHERE tgname ~ '^pems_' AND tgrelid::regclass::text IN ('organization', 'pfa_mirror', 'pfa_modification');
DELETE FROM pfa_write_queue;
SELECT pems_attach() -> 'success';

SELECT pems_detach() -> 'success';
DROP TABLE organization, pfa_mirror, pfa_modification;

-- Tables to which no column can be added, or whose rows come without their triggers.
DELETE FROM pfa_write_queue;
CREATE TABLE organization (id text PRIMARY KEY, code text UNIQUE, name text);
CREATE TYPE regress.modification AS (id text, organization_id text, pfa_id text, base_version integer, delta jsonb, created_by text, created_at timestamptz);
CREATE TABLE pfa_modification OF regress.modification (PRIMARY KEY (id));
CREATE TABLE regress.mirrors (id text, organization_id text, pfa_id text, version integer, data jsonb) PARTITION BY LIST (organization_id);
CREATE TABLE pfa_mirror PARTITION OF regress.mirrors (PRIMARY KEY (id), UNIQUE (organization_id, pfa_id)) DEFAULT;
SELECT regress.attempt('SELECT pems_attach()');
ALTER TABLE public.pfa_modification NOT OF;
ALTER TABLE regress.mirrors DETACH PARTITION pfa_mirror;
CREATE TABLE regress.parent (id text NOT NULL);
ALTER TABLE pfa_modification INHERIT regress.parent;
SELECT regress.attempt('SELECT pems_attach()');
ALTER TABLE public.pfa_modification NO INHERIT regress.parent;
SELECT pems_attach() -> 'success', pems_detach() -> 'success';
DROP TABLE organization, pfa_mirror, pfa_modification;

-- What would keep us from writing the tables once they are attached, or from referring to them: with the statement that mends it.
DELETE FROM pfa_write_queue;
CREATE COLLATION regress.no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE organization (id text COLLATE regress.no_case, code text UNIQUE DEFERRABLE INITIALLY DEFERRED, name text COLLATE "C", PRIMARY KEY (id) DEFERRABLE);
CREATE UNLOGGED TABLE pfa_mirror (id text UNIQUE, organization_id text, pfa_id text COLLATE regress.no_case, version integer, data jsonb, deleted_at timestamptz NOT NULL DEFAULT now(),
                                  note text COLLATE regress.no_case, UNIQUE (organization_id, pfa_id));
CREATE TABLE pfa_modification (id text UNIQUE, organization_id text, pfa_id text, base_version integer, delta jsonb, created_by text, created_at timestamptz, sync_error text NOT NULL DEFAULT '');
ALTER TABLE organization ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE pfa_mirror FORCE ROW LEVEL SECURITY;
ALTER TABLE pfa_modification ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
SET client_min_messages = error;
CREATE PUBLICATION regress_pems_inserts FOR TABLE pfa_modification WITH (publish = 'insert, delete');
SET client_min_messages = warning;
SELECT regress.attempt('SELECT pems_attach()');
SET client_min_messages = error;
CREATE PUBLICATION regress_pems_updates FOR TABLE organization, pfa_modification WITH (publish = 'update');
SET client_min_messages = warning;
SELECT regress.attempt('SELECT pems_attach()');
/* Does what the lines say. */
DO $$
DECLARE
    command text;
BEGIN
    FOR command IN SELECT substring(p FROM 'ALTER TABLE .*') FROM unnest(_pems_app_problems(false)) p LOOP
        EXECUTE command;
    END LOOP;
END $$;
INSERT INTO organization VALUES ('org-rio', 'RIO', 'Rio');
SELECT pems_attach() -> 'success';
UPDATE pfa_modification SET sync_status = 'draft';
-- a primary key, or an index that is named, is an identity, too
ALTER TABLE pfa_modification REPLICA IDENTITY DEFAULT;
SELECT _pems_app_problems(true);
ALTER TABLE pfa_modification ADD PRIMARY KEY (id);
SELECT _pems_app_problems(true);
ALTER TABLE pfa_modification REPLICA IDENTITY NOTHING;
SELECT _pems_app_problems(true);
CREATE UNIQUE INDEX pfa_modification_identity ON pfa_modification (id);
ALTER TABLE pfa_modification REPLICA IDENTITY USING INDEX pfa_modification_identity;
SELECT _pems_app_problems(true);
-- Whatever comes later stops everything, until it is mended: also a publication of all tables, in the same session.
SELECT pems_commit('org-rio') -> 'queuedCount';
ALTER TABLE pfa_modification REPLICA IDENTITY NOTHING;
DROP PUBLICATION regress_pems_updates;
SELECT pems_commit('org-rio') -> 'queuedCount';
SET client_min_messages = error;
CREATE PUBLICATION regress_pems_updates FOR ALL TABLES;
SET client_min_messages = warning;
SELECT regress.attempt($$SELECT pems_commit('org-rio')$$);
DROP PUBLICATION regress_pems_inserts, regress_pems_updates;
SELECT pems_commit('org-rio') -> 'queuedCount';
ALTER TABLE pfa_mirror ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
SELECT regress.attempt($$SELECT pems_commit('org-rio')$$);
SELECT p FROM jsonb_array_elements_text(pems_health() -> 'problems') p WHERE p LIKE 'The tables%';
ALTER TABLE pfa_mirror NO FORCE ROW LEVEL SECURITY;
SELECT pems_commit('org-rio') -> 'queuedCount';
-- A column that attach added is dropped: nothing goes on without it, and attach, or resume, adds it again.
ALTER TABLE pfa_modification DROP COLUMN sync_error;
SELECT regress.attempt($$SELECT pems_commit('org-rio')$$);
SELECT p FROM jsonb_array_elements_text(pems_health() -> 'problems') p WHERE p LIKE 'The tables%';
SELECT pems_attach() -> 'success';
SELECT pems_commit('org-rio') -> 'queuedCount';
ALTER TABLE pfa_mirror DROP COLUMN last_synced_at, DROP COLUMN deleted_at;
SELECT pems_resume();
SELECT pems_commit('org-rio') -> 'queuedCount';
-- not attached: it is missing because attach has not run
SELECT pems_detach() -> 'success';
ALTER TABLE pfa_modification DROP COLUMN sync_error;
SELECT regress.attempt($$SELECT pems_commit('org-rio')$$);
DROP TABLE organization, pfa_mirror, pfa_modification;

-- What lets us write, as it seems, and does not: each with the statement that mends it.
CREATE ROLE regress_pems_owner;
GRANT USAGE ON SCHEMA public TO regress_pems_owner;
SELECT pems_attach(create_missing => true) -> 'created';
INSERT INTO organization VALUES ('org-rio', 'RIO', 'Rio');
INSERT INTO pfa_mirror VALUES ('a', 'org-rio', 'PFA-1', 1, '{}');
INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, created_by) VALUES ('m', 'org-rio', 'PFA-1', 1, 'me');
ALTER TABLE organization OWNER TO regress_pems_owner;
ALTER TABLE pfa_mirror OWNER TO regress_pems_owner;
ALTER TABLE pfa_modification OWNER TO regress_pems_owner;
/* What is wrong after that statement; then does what the lines say, and says what is still wrong, and whether the tables can be written. */
CREATE FUNCTION regress.mend(statement text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    command text;
    problems text[];
BEGIN
    EXECUTE statement;
    problems := _pems_app_problems(true);
    RETURN QUERY SELECT unnest(problems);
    FOR command IN SELECT regexp_replace(p, '^.*?: (?=[A-Z]+ )', '') FROM unnest(problems) p LOOP
        EXECUTE command;
    END LOOP;
    RETURN QUERY SELECT 'still: ' || p FROM unnest(_pems_app_problems(true)) p;
    PERFORM _pems_app_mark('{m}', '{queued}', '{1}', '{sentence}'), _pems_app_write_mirror('{org-rio}', '{PFA-1}', '{2}', '{"{}"}', '{f}'),
            _pems_app_write_mirror('{org-rio}', ARRAY['PFA-' || random()], '{2}', '{"{}"}', '{t}'), _pems_app_mark('{m}', '{draft}', '{1}', '{}');
END $$;
SELECT regress.mend('SELECT');
SELECT regress.mend('CREATE RULE nothing AS ON UPDATE TO pfa_mirror WHERE old.version = 7 DO INSTEAD NOTHING; CREATE RULE "Nor this" AS ON INSERT TO pfa_modification DO INSTEAD NOTHING');
CREATE TABLE regress.noted (id text);
SELECT regress.mend('CREATE RULE fine AS ON UPDATE TO pfa_mirror DO ALSO INSERT INTO regress.noted VALUES (new.id); GRANT INSERT ON regress.noted TO regress_pems_owner');
DROP RULE fine ON pfa_mirror;
SELECT regress.mend('CREATE RULE off AS ON UPDATE TO pfa_mirror DO INSTEAD NOTHING; ALTER TABLE pfa_mirror DISABLE RULE off; CREATE RULE deleted AS ON DELETE TO pfa_mirror DO INSTEAD NOTHING');
DROP RULE off ON pfa_mirror; DROP RULE deleted ON pfa_mirror;
SELECT regress.mend($$ALTER TABLE pfa_mirror DROP COLUMN deleted_at, ADD COLUMN deleted_at timestamptz GENERATED ALWAYS AS (NULL::timestamptz) STORED;
    ALTER TABLE pfa_modification DROP COLUMN sync_status, ADD COLUMN sync_status text GENERATED ALWAYS AS ('draft') STORED, DROP COLUMN pems_version,
        ADD COLUMN pems_version integer GENERATED ALWAYS AS IDENTITY, ADD COLUMN of_the_application text GENERATED ALWAYS AS (pfa_id) STORED$$);
SELECT regress.mend($$ALTER TABLE pfa_modification ADD CONSTRAINT few CHECK (sync_status IN ('draft', 'queued', 'syncing')) NOT VALID, ADD CONSTRAINT or_unknown CHECK (sync_status IN ('draft', NULL)), ADD CONSTRAINT "Short" CHECK (length(sync_status) < 9),
    ADD CONSTRAINT all_of_them CHECK (sync_status ~ '^[a-z]+$'), ADD CONSTRAINT two_columns CHECK (sync_status <> 'synced' OR synced_at IS NOT NULL), ADD CONSTRAINT other CHECK (operation IN ('UPDATE', 'DELETE'))$$);
-- what would run code of the application is not tried
CREATE FUNCTION regress.never(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'was run'; END $$;
ALTER TABLE pfa_modification ADD CONSTRAINT foreign_code CHECK (regress.never(sync_status)) NOT VALID;
SELECT _pems_app_problems(true);
ALTER TABLE pfa_modification DROP CONSTRAINT foreign_code;
SELECT regress.mend('REVOKE UPDATE, SELECT ON pfa_mirror FROM regress_pems_owner; REVOKE INSERT ON pfa_modification FROM regress_pems_owner');
SELECT regress.mend('REVOKE UPDATE ON pfa_mirror FROM regress_pems_owner; GRANT UPDATE (id, organization_id, pfa_id, version, data, deleted_at, last_synced_at) ON pfa_mirror TO regress_pems_owner');
GRANT UPDATE ON pfa_mirror TO regress_pems_owner;
-- publications: of some columns, and of some rows
SET client_min_messages = error;
SELECT regress.mend($$CREATE PUBLICATION regress_pems_rows FOR TABLE pfa_mirror WHERE (version > 0), pfa_modification WHERE (id <> 'x')$$);
ALTER TABLE pfa_mirror REPLICA IDENTITY DEFAULT;
DROP PUBLICATION regress_pems_rows;
SELECT regress.mend($$CREATE PUBLICATION regress_pems_columns FOR TABLE pfa_mirror (data, version) WHERE (id <> 'x'), pfa_modification (id, delta), organization (name)$$);
DROP PUBLICATION regress_pems_columns;
ALTER TABLE pfa_mirror REPLICA IDENTITY FULL;
SELECT regress.mend($$CREATE PUBLICATION regress_pems_columns FOR TABLE pfa_mirror (id, organization_id, pfa_id, version, data, deleted_at, last_synced_at)$$);
DROP PUBLICATION regress_pems_columns;
ALTER TABLE pfa_mirror REPLICA IDENTITY DEFAULT;
SELECT regress.mend($$CREATE PUBLICATION regress_pems_inserts FOR TABLE pfa_mirror (version) WHERE (version > 0) WITH (publish = 'insert')$$);
DROP PUBLICATION regress_pems_inserts;
RESET client_min_messages;
-- the rights of the worker, who writes the tables of a superuser
REVOKE UPDATE, INSERT ON pfa_mirror, pfa_modification FROM pems_sync_worker;
SELECT _pems_app_problems(true);
ALTER TABLE pfa_mirror OWNER TO CURRENT_USER;
REVOKE SELECT ON organization FROM pems_sync_worker;
SELECT _pems_app_problems(false), _pems_app_problems(true);
SELECT pems_health() -> 'problems' ->> 2;
SELECT pems_attach() -> 'success', _pems_app_problems(true);
-- whatever comes later stops everything, also in a session that has written the tables before
UPDATE pfa_modification SET delta = '{"model": "x"}';
SELECT pems_commit('org-rio', ARRAY['m']) -> 'queuedCount';
CREATE RULE nothing AS ON UPDATE TO pfa_modification DO INSTEAD NOTHING;
SELECT regress.attempt($$SELECT pems_discard('m')$$);
DROP RULE nothing ON pfa_modification;
-- nor does a rule that only replicas obey spoil what the session has kept of its statements
CREATE RULE nothing AS ON UPDATE TO pfa_modification DO INSTEAD NOTHING;
ALTER TABLE pfa_modification ENABLE REPLICA RULE nothing;
SET session_replication_role = replica;
SELECT regress.attempt($$SELECT pems_discard('m')$$);
DROP RULE nothing ON pfa_modification;
SELECT pems_discard('m') -> 'success';
RESET session_replication_role;
REVOKE USAGE ON SCHEMA public FROM PUBLIC, regress_pems_owner;
SELECT regress.attempt($$SELECT pems_commit('org-rio')$$);
SELECT pems_health() -> 'problems' ->> 2;
GRANT USAGE ON SCHEMA public TO PUBLIC;
SELECT pems_commit('org-rio') -> 'queuedCount';
SELECT pems_detach() -> 'success';
UPDATE pfa_write_queue SET status = 'cancelled', waits_for = NULL;
DELETE FROM pfa_write_queue;
DROP TABLE organization, pfa_mirror, pfa_modification, regress.noted;
DROP OWNED BY regress_pems_owner;
DROP ROLE regress_pems_owner;

-- What attach warns of: functions that are called like ours, and columns that our own rows could not fill.
CREATE ROLE regress_pems_planter;
CREATE DOMAIN regress.filled AS text DEFAULT 'x' NOT NULL;
CREATE DOMAIN regress.needed AS text NOT NULL;
CREATE TABLE organization (id text PRIMARY KEY, code text UNIQUE, name text NOT NULL, updated_at timestamptz NOT NULL);
CREATE TABLE pfa_mirror (id text PRIMARY KEY, organization_id text NOT NULL, pfa_id text NOT NULL, version integer NOT NULL, data jsonb NOT NULL, updated_at timestamptz NOT NULL,
                         seen_at timestamptz NOT NULL DEFAULT now(), n integer GENERATED ALWAYS AS IDENTITY, UNIQUE (organization_id, pfa_id));
CREATE TABLE pfa_modification (id text PRIMARY KEY, organization_id text NOT NULL, pfa_id text NOT NULL, base_version integer NOT NULL, delta jsonb NOT NULL, created_by text NOT NULL,
                               created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL, a regress.filled, b regress.needed, c text NOT NULL GENERATED ALWAYS AS (pfa_id) STORED, gone text NOT NULL);
ALTER TABLE pfa_modification DROP COLUMN gone;
CREATE FUNCTION public.pems_commit(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
CREATE PROCEDURE public._pems_anything() LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION public.pemsy() RETURNS integer LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION regress.pems_commit(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
ALTER FUNCTION public.pems_commit(text) OWNER TO regress_pems_planter;
ALTER PROCEDURE public._pems_anything() OWNER TO regress_pems_planter;
SELECT jsonb_pretty(pems_attach() -> 'warnings');
SELECT p FROM jsonb_array_elements_text(pems_health() -> 'problems') p WHERE p LIKE 'Function%';
INSERT INTO organization VALUES ('org-rio', 'RIO', 'Rio Grande', now());
INSERT INTO pfa_mirror VALUES ('a', 'org-rio', 'PFA-1', 1, '{"model": "old"}', now());
UPDATE pfa_mirror SET version = 2, data = '{"model": "new"}';
SELECT regress.attempt($$SELECT pems_rollback('org-rio', 'PFA-1', 1, 'why')$$);
-- a trigger of the application fills them, but for a domain, which is checked before
CREATE FUNCTION regress.fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
CREATE TRIGGER fill BEFORE INSERT ON pfa_modification FOR EACH ROW EXECUTE FUNCTION regress.fill();
SELECT regress.attempt($$SELECT pems_rollback('org-rio', 'PFA-1', 1, 'why')$$);
ALTER TABLE pfa_modification DROP COLUMN b;
DROP FUNCTION public.pems_commit(text);
DROP PROCEDURE public._pems_anything();
ALTER TABLE pfa_mirror ALTER updated_at SET DEFAULT now();
SELECT pems_attach() -> 'warnings';
SET client_min_messages = error;
SELECT pems_rollback('org-rio', 'PFA-1', 1, 'why') -> 'success';
SET client_min_messages = warning;
ALTER TABLE pfa_modification DISABLE TRIGGER fill;
SELECT regress.state($$SELECT pems_rollback('org-rio', 'PFA-1', 1, 'why')$$);
SELECT pems_detach() -> 'success';
UPDATE pfa_write_queue SET status = 'cancelled', waits_for = NULL;
DROP TABLE organization, pfa_mirror, pfa_modification;
DROP FUNCTION public.pemsy();
DROP ROLE regress_pems_planter;

-- create_missing makes what does not exist, and only that, as tables of the caller.
DELETE FROM pfa_write_queue;
DELETE FROM pems_mirror_version;
CREATE ROLE regress_pems_admin;
GRANT pems_sync_admin TO regress_pems_admin;
CREATE TABLE organization (id text PRIMARY KEY, code text NOT NULL UNIQUE, name text, region text);
SET ROLE regress_pems_admin;
SELECT pems_attach(create_missing => true);
RESET ROLE;
SELECT relname, relowner = 'regress_pems_admin'::regrole AS of_the_caller FROM pg_class
WHERE relname IN ('organization', 'pfa_mirror', 'pfa_modification') AND relnamespace = 'public'::regnamespace ORDER BY relname COLLATE "C";
SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = 'organization' ORDER BY ordinal_position;
-- create_missing does not repair a table that is there
ALTER TABLE pfa_mirror DROP COLUMN data;
SELECT regress.attempt('SELECT pems_attach(create_missing => true)');
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
DROP ROLE regress_pems_admin;

DROP SCHEMA regress CASCADE;
