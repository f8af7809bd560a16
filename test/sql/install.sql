-- CREATE EXTENSION with and without the application's tables, in a schema of its own, and again after DROP EXTENSION.
\set ECHO none
\i test/support/regress_helpers.sql
\set ECHO all

-- No host tables: installed, and a NOTICE says what is missing and what to run.
SET client_min_messages = notice;
\set VERBOSITY default
CREATE EXTENSION pems_sync;
\set VERBOSITY terse
SET client_min_messages = warning;
SELECT extname, nspname, extrelocatable, extversion = (SELECT default_version FROM pg_available_extensions WHERE name = 'pems_sync')
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'pems_sync';
SELECT count(*) AS attached FROM pems_control;

-- What needs the application's tables says so.
SELECT regress.attempt($$SELECT pems_commit('org-rio')$$);
SELECT regress.attempt($$SELECT pems_write_sync('org-rio')$$);
SELECT regress.attempt($$SELECT pems_discard('m1')$$);
SELECT regress.attempt($$SELECT pems_set_credential('org-rio', 'https://pems.invalid/api', '\x00', 'x')$$);
SELECT regress.attempt($$SELECT _pems_credential_target('RIO')$$);
-- What does not need them works.
SELECT pems_validate('{"dor": "BEO"}');
SELECT pems_sync_status() -> 'totalQueued';
SELECT count(*) FROM pems_queue;
SELECT pems_detach();

-- The control file: superusers only, fixed schema.
SELECT superuser, trusted, relocatable, schema FROM pg_available_extension_versions WHERE name = 'pems_sync' AND installed;
SELECT regress.state('ALTER EXTENSION pems_sync SET SCHEMA regress');

-- DROP EXTENSION takes everything of its own along; roles belong to the cluster and stay.
DROP EXTENSION pems_sync;
SELECT relname FROM pg_class WHERE relname ~ '^_?(pems_|pfa_)' AND relnamespace <> 'pg_catalog'::regnamespace;
SELECT proname FROM pg_proc WHERE proname ~ '^_?pems_';
SELECT typname FROM pg_type WHERE typname ~ '^_?_?pems_';
SELECT rolname, rolcanlogin, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls
FROM pg_roles WHERE rolname IN ('pems_sync_reader', 'pems_sync_user', 'pems_sync_admin', 'pems_sync_worker') ORDER BY rolname COLLATE "C";
-- reader < user < admin; nobody is a member of the worker
SELECT r.rolname AS role, m.rolname AS member FROM pg_auth_members a
JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
WHERE r.rolname ~ '^pems_sync_' AND m.rolname ~ '^pems_sync_' ORDER BY r.rolname COLLATE "C", m.rolname COLLATE "C";
SELECT count(*) AS members_of_worker FROM pg_auth_members WHERE roleid = 'pems_sync_worker'::regrole;

-- With host tables: CREATE EXTENSION attaches by itself, without a word, and takes the first snapshot.
CREATE TABLE organization (id text PRIMARY KEY, code text UNIQUE, name text);
CREATE TABLE pfa_mirror (id text PRIMARY KEY, organization_id text, pfa_id text, version integer, data jsonb, UNIQUE (organization_id, pfa_id));
CREATE TABLE pfa_modification (id text PRIMARY KEY, organization_id text, pfa_id text, base_version integer, delta jsonb,
                               created_by text, created_at timestamptz);
INSERT INTO organization VALUES ('org-rio', 'RIO', 'Rio Grande');
INSERT INTO pfa_mirror VALUES ('a', 'org-rio', 'PFA-1', 4, '{"dor": "BEO"}');
INSERT INTO pfa_modification VALUES ('m1', 'org-rio', 'PFA-1', 4, '{"dor": "PROJECT"}', 'alice', now());
SET client_min_messages = notice;
CREATE EXTENSION pems_sync;
SET client_min_messages = warning;
SELECT count(*) AS attached FROM pems_control;
SELECT organization_id, pfa_id, version, data, source FROM pems_mirror_version;
-- drafts that were there before are drafts
SELECT id, operation, sync_status FROM pfa_modification;
SET client_min_messages = error;
SELECT pems_commit('org-rio') -> 'queuedCount';
SET client_min_messages = warning;

-- DROP EXTENSION leaves the application's rows, columns and index; its triggers and foreign keys go.
DROP EXTENSION pems_sync;
SELECT id, sync_status FROM pfa_modification;
SELECT pfa_id, version, data FROM pfa_mirror;
SELECT count(*) AS columns_left FROM information_schema.columns
WHERE (table_name, column_name) IN (('pfa_mirror', 'deleted_at'), ('pfa_mirror', 'last_synced_at'), ('pfa_modification', 'operation'),
    ('pfa_modification', 'change_reason'), ('pfa_modification', 'sync_status'), ('pfa_modification', 'synced_at'),
    ('pfa_modification', 'sync_error'), ('pfa_modification', 'pems_version'));
SELECT count(*) AS triggers_left FROM pg_trigger WHERE tgname ~ '^pems_';
-- the tables are writable as before
UPDATE pfa_mirror SET version = 5;
DELETE FROM pfa_modification;
TRUNCATE organization, pfa_mirror, pfa_modification;

-- Again, over what the first time left.
INSERT INTO organization VALUES ('org-rio', 'RIO', 'Rio Grande');
CREATE EXTENSION pems_sync;
SELECT count(*) AS attached FROM pems_control;
SELECT count(*) AS items FROM pfa_write_queue;
SELECT pems_sync_status('org-rio') -> 'totalQueued';
DROP EXTENSION pems_sync;
DROP TABLE pfa_mirror, pfa_modification, organization;

-- In a schema whose name needs quotes, and with a foreign search_path.
CREATE SCHEMA "Pfa Vanguard";
SET search_path = "Pfa Vanguard";
\set ECHO none
\i test/support/regress_tables.sql
\set ECHO all
RESET search_path;
CREATE EXTENSION pems_sync SCHEMA "Pfa Vanguard";
SELECT count(*) AS attached FROM "Pfa Vanguard".pems_control;
SELECT relname, relnamespace::regnamespace FROM pg_class WHERE relname IN ('organization', 'pfa_mirror', 'pfa_modification') ORDER BY relname COLLATE "C";
SET search_path = regress;
SELECT "Pfa Vanguard".pems_attach(create_missing => true);
INSERT INTO "Pfa Vanguard".organization VALUES ('o', 'O', 'O');
INSERT INTO "Pfa Vanguard".pfa_mirror (organization_id, pfa_id, version, data) VALUES ('o', 'PFA-1', 1, '{}');
INSERT INTO "Pfa Vanguard".pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by) VALUES ('m1', 'o', 'PFA-1', 1, '{"dor": "BEO"}', 'alice');
SET client_min_messages = error;
SELECT regress.scrub("Pfa Vanguard".pems_commit('o'));
SELECT regress.scrub("Pfa Vanguard".pems_discard('m1'));
SET ROLE pems_sync_worker;
SELECT "Pfa Vanguard"._pems_maintain();
SELECT "Pfa Vanguard"._pems_maintain();
RESET ROLE;
SELECT "Pfa Vanguard".pems_detach();
SELECT count(*) AS triggers_left FROM pg_trigger WHERE tgname ~ '^pems_' AND tgrelid IN ('"Pfa Vanguard".organization'::regclass,
    '"Pfa Vanguard".pfa_mirror'::regclass, '"Pfa Vanguard".pfa_modification'::regclass);
SELECT count(*) AS keys_left FROM pg_constraint WHERE contype = 'f' AND conrelid = '"Pfa Vanguard".pfa_write_queue'::regclass;
RESET search_path;
SET client_min_messages = warning;
DROP EXTENSION pems_sync;
DROP SCHEMA "Pfa Vanguard" CASCADE;

\set ECHO none
\i test/support/regress_tables.sql
\set ECHO all
-- Objects that somebody planted in the schema are refused or left alone, and gain nothing.
CREATE TABLE public.pems_field (name text);
SELECT regress.state('CREATE EXTENSION pems_sync');
DROP TABLE public.pems_field;
CREATE FUNCTION public.pems_commit(text, text[] DEFAULT NULL, text DEFAULT NULL, text DEFAULT 'normal') RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
SELECT regress.state('CREATE EXTENSION pems_sync');
DROP FUNCTION public.pems_commit;
CREATE ROLE regress_pems_planter;
CREATE FUNCTION public.pems_planted() RETURNS name LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user';
ALTER FUNCTION public.pems_planted() OWNER TO regress_pems_planter;
CREATE EXTENSION pems_sync;
SELECT proowner::regrole, proacl FROM pg_proc WHERE proname = 'pems_planted';
DROP EXTENSION pems_sync;
DROP FUNCTION public.pems_planted();
DROP ROLE regress_pems_planter;

-- A role of one of our names that can log in is not ours.
ALTER ROLE pems_sync_reader LOGIN;
SELECT regress.attempt('CREATE EXTENSION pems_sync');
ALTER ROLE pems_sync_reader NOLOGIN;

-- Only superusers may install.
CREATE ROLE regress_pems_nobody;
GRANT CREATE ON SCHEMA public TO regress_pems_nobody;
SET ROLE regress_pems_nobody;
SELECT regress.state('CREATE EXTENSION pems_sync');
RESET ROLE;
REVOKE ALL ON SCHEMA public FROM regress_pems_nobody;
DROP ROLE regress_pems_nobody;

DROP TABLE pfa_modification, pfa_mirror, organization;
DROP SCHEMA regress CASCADE;
