/*
 * 00_roles: what must hold before the first object is made, and the roles that own and use the objects. First, because
 * every later fragment names the roles.
 */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION pems_sync" to load this file. \quit

-- Objects that somebody planted in the target schema are not looked at: every name of ours is
-- written with its schema.
SET LOCAL search_path = pg_catalog, pg_temp;

-- The functions have the name of the schema in format strings.
DO $schema$
BEGIN
    IF pg_catalog.strpos('@extschema@', '%') > 0 THEN
        RAISE EXCEPTION 'pems_sync cannot be installed in schema %', '@extschema@'
            USING ERRCODE = 'feature_not_supported', DETAIL = 'There is a percent sign in its name.',
                  HINT = 'Use CREATE EXTENSION pems_sync SCHEMA ... with another schema.';
    END IF;
END
$schema$;

-- JSON goes to PEMS as UTF-8, and so do names in URLs.
DO $encoding$
BEGIN
    IF pg_catalog.getdatabaseencoding() <> 'UTF8' THEN
        RAISE EXCEPTION 'pems_sync needs a database with the encoding UTF8'
            USING ERRCODE = 'feature_not_supported',
                  DETAIL = pg_catalog.format('The encoding of this database is %s.', pg_catalog.getdatabaseencoding()),
                  HINT = 'Make a database with CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0.';
    END IF;
END
$encoding$;

-- Roles belong to the cluster, the extension to one database: a second database finds
-- them already there.  One that could log in or was made powerful is not ours.
DO $roles$
DECLARE
    role_name text;
    suspect   text;
    owned     text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['pems_sync_reader', 'pems_sync_user', 'pems_sync_admin', 'pems_sync_worker']
    LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = role_name) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', role_name);
            EXECUTE pg_catalog.format('COMMENT ON ROLE %I IS %L', role_name, CASE role_name
                WHEN 'pems_sync_reader' THEN 'pems_sync: read functions and views'
                WHEN 'pems_sync_user' THEN 'pems_sync: reader, and commit, write_sync, resolve, discard, validate'
                WHEN 'pems_sync_admin' THEN 'pems_sync: user, and credentials, pause, retry, retention'
                ELSE 'pems_sync: internal, what the worker and the SECURITY DEFINER functions run as' END);
        END IF;
    END LOOP;

    IF EXISTS (SELECT FROM pg_catalog.pg_auth_members a
               WHERE 'pems_sync_worker'::pg_catalog.regrole::pg_catalog.oid IN (a.roleid, a.member)) THEN
        RAISE EXCEPTION 'role "pems_sync_worker" has members, or is a member of another role'
            USING ERRCODE = 'duplicate_object',
                  DETAIL = (SELECT pg_catalog.string_agg(pg_catalog.format(
                            '%s is a member of %s.', a.member::pg_catalog.regrole, a.roleid::pg_catalog.regrole), ' ')
                            FROM pg_catalog.pg_auth_members a
                            WHERE 'pems_sync_worker'::pg_catalog.regrole::pg_catalog.oid IN (a.roleid, a.member)),
                  HINT = 'REVOKE the membership, then run CREATE EXTENSION again.';
    END IF;

    -- Whoever made a function that runs as pems_sync_worker before could do what the extension may.  (In other
    -- databases it owns functions of the extension.)
    SELECT pg_catalog.string_agg(
               CASE WHEN o.dbid IN (0, d.oid) THEN pg_catalog.pg_describe_object(o.classid, o.objid, o.objsubid)
                    ELSE pg_catalog.format('an object of database %s', o.dbid) END, ', ' ORDER BY o.classid, o.objid)
    INTO owned
    FROM pg_catalog.pg_shdepend o
    JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
    WHERE o.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND o.deptype = 'o'
      AND o.refobjid = 'pems_sync_worker'::pg_catalog.regrole::pg_catalog.oid
      AND (o.dbid IN (0, d.oid) OR o.classid <> 'pg_catalog.pg_proc'::pg_catalog.regclass);
    IF owned IS NOT NULL THEN
        RAISE EXCEPTION 'role "pems_sync_worker" owns something already'
            USING ERRCODE = 'duplicate_object', DETAIL = pg_catalog.left(pg_catalog.format('It owns %s.', owned), 1000),
                  HINT = 'Drop that, or give it to another role, then run CREATE EXTENSION again.';
    END IF;

    SELECT r.rolname INTO suspect
    FROM pg_catalog.pg_roles r
    WHERE r.rolname IN ('pems_sync_reader', 'pems_sync_user', 'pems_sync_admin', 'pems_sync_worker')
      AND (r.rolcanlogin OR r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication
           OR (r.rolbypassrls AND r.rolname <> 'pems_sync_worker'));
    IF suspect IS NOT NULL THEN
        RAISE EXCEPTION 'role "%" exists and is not the one that pems_sync makes', suspect
            USING ERRCODE = 'duplicate_object',
                  DETAIL = 'It may log in, or has an attribute such as SUPERUSER or CREATEROLE.',
                  HINT = 'Rename or drop that role, then run CREATE EXTENSION again.';
    END IF;
END
$roles$;

-- BYPASSRLS: a row security policy of the application must neither hide rows from the
-- worker nor run its functions with the worker's rights.
ALTER ROLE pems_sync_worker BYPASSRLS;
GRANT pems_sync_reader TO pems_sync_user;
GRANT pems_sync_user TO pems_sync_admin;
