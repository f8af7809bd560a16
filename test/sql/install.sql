-- CREATE EXTENSION with and without the application's tables, in a schema of its own, and again after DROP EXTENSION.
\set ECHO none
\i test/support/regress_helpers.sql
\set ECHO all

-- No tables of the application: installed, and a NOTICE says what is missing and what to run.
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

-- In a schema with a percent sign: the functions could not name it.
CREATE SCHEMA "50%";
SELECT regress.attempt('CREATE EXTENSION pems_sync SCHEMA "50%"');
DROP SCHEMA "50%";

-- With the application's tables: CREATE EXTENSION attaches by itself, without a word, and takes the first snapshot.
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
SELECT "Pfa Vanguard"._pems_fold_stats();
SELECT "Pfa Vanguard"._pems_make_audit_partitions();
SELECT "Pfa Vanguard"._pems_make_audit_partitions();
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
-- Objects that somebody planted in the schema: each name of ours is refused where it is taken, leaves nothing behind, and what was
-- planted stays as it was and its owner's.  The names are those of an installed extension.
CREATE EXTENSION pems_sync;
CREATE TABLE regress.squat AS
    SELECT x.kind, x.name, x.statement FROM (
        SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pems_sync'
        WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e') m
    CROSS JOIN LATERAL (
        SELECT CASE c.relkind WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view' ELSE 'table' END AS kind, c.relname::text AS name,
               format(CASE c.relkind WHEN 'S' THEN 'CREATE SEQUENCE public.%I' WHEN 'v' THEN 'CREATE VIEW public.%I AS SELECT 1 AS planted'
                                     ELSE 'CREATE TABLE public.%I (planted text)' END, c.relname) AS statement
        FROM pg_class c WHERE m.classid = 'pg_class'::regclass AND c.oid = m.objid AND c.relkind IN ('r', 'p', 'v', 'S')
        UNION ALL
        SELECT 'type', t.typname, format('CREATE TYPE public.%I AS (planted text)', t.typname)
        FROM pg_type t JOIN pg_class c ON c.oid = t.typrelid AND c.relkind = 'c' WHERE m.classid = 'pg_type'::regclass AND t.oid = m.objid
        UNION ALL
        -- a table takes the name of a type, too
        SELECT 'type of a table''s name', c.relname, format('CREATE TYPE public.%I AS ENUM (''planted'')', c.relname)
        FROM pg_class c WHERE m.classid = 'pg_class'::regclass AND c.oid = m.objid AND c.relkind IN ('r', 'p', 'v')
        UNION ALL
        SELECT 'function', p.oid::regprocedure::text,
               format('CREATE FUNCTION public.%I(%s) RETURNS integer LANGUAGE sql AS ''SELECT 1''', p.proname,
                      (SELECT string_agg(format_type(t.type, NULL), ', ' ORDER BY t.place) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS t (type, place)))
        FROM pg_proc p WHERE m.classid = 'pg_proc'::regclass AND p.oid = m.objid AND p.prorettype <> 'trigger'::regtype
          -- an argument of a type of ours needs that type, whose name is taken then
          AND NOT EXISTS (SELECT FROM unnest(p.proargtypes::oid[]) a JOIN pg_type t ON t.oid = a WHERE t.typnamespace = 'public'::regnamespace)
        UNION ALL
        SELECT 'function', p.oid::regprocedure::text, format('CREATE FUNCTION public.%I() RETURNS trigger LANGUAGE plpgsql AS ''BEGIN RETURN NULL; END''', p.proname)
        FROM pg_proc p WHERE m.classid = 'pg_proc'::regclass AND p.oid = m.objid AND p.prorettype = 'trigger'::regtype) x;
DROP EXTENSION pems_sync;
CREATE ROLE regress_pems_squatter;
GRANT CREATE ON SCHEMA public TO regress_pems_squatter;
CREATE FUNCTION regress.inventory() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(x.line, ', ' ORDER BY x.line COLLATE "C") FROM (
        SELECT format('%s %s %s', c.relkind, c.oid, c.relowner::regrole) AS line FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace
        UNION ALL SELECT format('%s %s %s %s', p.oid, p.proowner::regrole, p.proacl, p.prosrc) FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace
        UNION ALL SELECT format('%s %s', t.oid, t.typowner::regrole) FROM pg_type t WHERE t.typnamespace = 'public'::regnamespace) x
$$;
/* Plants one as the squatter, tries to install, and says how that ended; all of it is undone. */
CREATE FUNCTION regress.squatted(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before text;
    result text;
BEGIN
    SET LOCAL ROLE regress_pems_squatter;
    EXECUTE statement;
    RESET ROLE;
    before := regress.inventory();
    IF before !~ 'regress_pems_squatter' THEN
        RAISE EXCEPTION 'nothing was planted by %', statement;
    END IF;
    BEGIN
        CREATE EXTENSION pems_sync;
        result := 'installed';
    EXCEPTION WHEN OTHERS THEN result := SQLSTATE;
    END;
    IF regress.inventory() <> before OR EXISTS (SELECT FROM pg_extension WHERE extname = 'pems_sync') THEN
        result := result || ', and something is different';
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'PM000', MESSAGE = result;
EXCEPTION WHEN SQLSTATE 'PM000' THEN RETURN SQLERRM;
END
$$;
CREATE TABLE regress.squatted AS SELECT s.kind, s.name, regress.squatted(s.statement) AS result FROM regress.squat s;
SELECT s.kind, s.result FROM regress.squatted s GROUP BY 1, 2 ORDER BY s.kind COLLATE "C", 2;
SELECT s.kind, s.name, s.result FROM regress.squatted s WHERE s.result NOT IN ('42P07', '42710', '42723');
-- and they were all looked at, but for the functions that take a type of ours
SELECT count(*) FILTER (WHERE s.kind = 'table') >= 13, count(*) FILTER (WHERE s.kind = 'view') >= 5, count(*) FILTER (WHERE s.kind = 'sequence') >= 3,
       count(*) FILTER (WHERE s.kind = 'function') >= 90 FROM regress.squatted s;
-- A function of the same name with other arguments is left alone, and is not ours.
CREATE FUNCTION public.pems_commit(integer) RETURNS name LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user';
ALTER FUNCTION public.pems_commit(integer) OWNER TO regress_pems_squatter;
CREATE EXTENSION pems_sync;
SELECT p.oid::regprocedure, p.proowner::regrole, p.proacl, EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e') AS member
FROM pg_proc p WHERE p.proname = 'pems_commit' AND p.pronargs = 1;
DROP EXTENSION pems_sync;
SELECT public.pems_commit(1);
DROP FUNCTION public.pems_commit(integer);

-- A role of one of our names that can log in is not ours.
ALTER ROLE pems_sync_reader LOGIN;
SELECT regress.attempt('CREATE EXTENSION pems_sync');
ALTER ROLE pems_sync_reader NOLOGIN;

-- Nor is pems_sync_worker where somebody is a member of it, or it of another.
CREATE ROLE regress_pems_member;
GRANT pems_sync_worker TO regress_pems_member;
SELECT regress.attempt('CREATE EXTENSION pems_sync');
REVOKE pems_sync_worker FROM regress_pems_member;
GRANT regress_pems_member TO pems_sync_worker;
SELECT regress.attempt('CREATE EXTENSION pems_sync');
REVOKE regress_pems_member FROM pems_sync_worker;

-- Nor where it owns something: a function of its would do what the extension may.
CREATE FUNCTION regress.as_worker() RETURNS name LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user';
ALTER FUNCTION regress.as_worker() OWNER TO pems_sync_worker;
SELECT regress.attempt('CREATE EXTENSION pems_sync');
ALTER FUNCTION regress.as_worker() OWNER TO regress_pems_member;
ALTER DEFAULT PRIVILEGES FOR ROLE pems_sync_worker GRANT EXECUTE ON FUNCTIONS TO regress_pems_member;
SELECT regress.attempt('CREATE EXTENSION pems_sync');
ALTER DEFAULT PRIVILEGES FOR ROLE pems_sync_worker REVOKE EXECUTE ON FUNCTIONS FROM regress_pems_member;
ALTER ROLE pems_sync_admin BYPASSRLS;
SELECT regress.attempt('CREATE EXTENSION pems_sync');
ALTER ROLE pems_sync_admin NOBYPASSRLS;

-- What comes later is named by pems_health(): not superusers, who can do all that anyway.
CREATE EXTENSION pems_sync;
CREATE ROLE regress_pems_root SUPERUSER;
SELECT _pems_role_problems();
GRANT pems_sync_worker TO regress_pems_root;
SELECT _pems_role_problems();
GRANT pems_sync_worker TO regress_pems_member;
ALTER FUNCTION regress.as_worker() OWNER TO pems_sync_worker;
ALTER ROLE pems_sync_worker CREATEDB;
SELECT p FROM jsonb_array_elements_text(pems_health() -> 'problems') p WHERE p LIKE 'Role%';
REVOKE pems_sync_worker FROM regress_pems_member, regress_pems_root;
ALTER ROLE pems_sync_worker NOCREATEDB;
DROP FUNCTION regress.as_worker();
SELECT _pems_role_problems();
DROP EXTENSION pems_sync;
DROP ROLE regress_pems_member, regress_pems_root;

-- A table that cannot be attached is none of CREATE EXTENSION's errors.
ALTER TABLE pfa_modification DROP CONSTRAINT pfa_modification_pkey, ADD PRIMARY KEY (id) DEFERRABLE;
SET client_min_messages = notice;
\set VERBOSITY default
CREATE EXTENSION pems_sync;
\set VERBOSITY terse
SET client_min_messages = warning;
DROP EXTENSION pems_sync;

-- Only superusers may install.
CREATE ROLE regress_pems_nobody;
GRANT CREATE ON SCHEMA public TO regress_pems_nobody;
SET ROLE regress_pems_nobody;
SELECT regress.state('CREATE EXTENSION pems_sync');
RESET ROLE;
REVOKE ALL ON SCHEMA public FROM regress_pems_nobody, regress_pems_squatter;
DROP ROLE regress_pems_nobody, regress_pems_squatter;

DROP TABLE pfa_modification, pfa_mirror, organization;
DROP SCHEMA regress CASCADE;
