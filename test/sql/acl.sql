-- The matrix of privileges: expected/acl.out is what was decided.  A line for each object of the extension; one that
-- is added or changed makes this test fail until somebody has decided about it.
--
-- Tables, views: r SELECT, a INSERT, w UPDATE, d DELETE, D TRUNCATE, x REFERENCES, t TRIGGER.  Sequences: r SELECT, w UPDATE,
-- U USAGE.  Types: U USAGE.  Functions: X EXECUTE.  What a role has through its memberships counts.
-- others: any other role that was granted something.  owner: installer is who ran CREATE EXTENSION.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
-- Default privileges of the installer are for his own tables, not for ours.
CREATE ROLE regress_pems_heir;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_pems_heir, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO regress_pems_heir, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO regress_pems_heir;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO regress_pems_heir;
CREATE EXTENSION pems_sync;
-- partitions of the audit log are made later, by the worker
SELECT _pems_make_audit_partitions() \g /dev/null
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM regress_pems_heir, PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SEQUENCES FROM regress_pems_heir, PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM regress_pems_heir;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TYPES FROM regress_pems_heir;
CREATE VIEW regress.member AS
    SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pems_sync'
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e';

CREATE TABLE regress.letter (kind "char", privilege text, letter text, place serial);
INSERT INTO regress.letter (kind, privilege, letter) VALUES
    ('r', 'SELECT', 'r'), ('r', 'INSERT', 'a'), ('r', 'UPDATE', 'w'), ('r', 'DELETE', 'd'), ('r', 'TRUNCATE', 'D'), ('r', 'REFERENCES', 'x'),
    ('r', 'TRIGGER', 't'), ('s', 'SELECT', 'r'), ('s', 'UPDATE', 'w'), ('s', 'USAGE', 'U'), ('f', 'EXECUTE', 'X'), ('T', 'USAGE', 'U');

/* Objects, with their acls written out.  acl_kind as acldefault() takes it. */
CREATE VIEW regress.object AS
    SELECT CASE c.relkind WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view' ELSE 'table' END AS kind, c.relname::text AS name,
           c.oid, c.relowner AS owner, NULL AS definer, k.acl_kind, coalesce(c.relacl, acldefault(k.acl_kind, c.relowner)) AS acl
    FROM pg_class c CROSS JOIN LATERAL (SELECT CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char") AS k (acl_kind)
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
      AND (c.oid IN (SELECT objid FROM regress.member WHERE classid = 'pg_class'::regclass)
           OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'pems_audit_log'::regclass)
           OR c.oid IN ('organization'::regclass, 'pfa_mirror'::regclass, 'pfa_modification'::regclass))
    UNION ALL
    SELECT 'function', p.oid::regprocedure::text, p.oid, p.proowner, CASE WHEN p.prosecdef THEN 'definer' END, 'f', coalesce(p.proacl, acldefault('f', p.proowner))
    FROM pg_proc p WHERE p.oid IN (SELECT objid FROM regress.member WHERE classid = 'pg_proc'::regclass)
    UNION ALL
    SELECT 'type', t.typname, t.oid, t.typowner, NULL, 'T', coalesce(t.typacl, acldefault('T', t.typowner))
    FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
    WHERE t.oid IN (SELECT objid FROM regress.member WHERE classid = 'pg_type'::regclass) AND t.typelem = 0 AND coalesce(c.relkind, 'c') = 'c';

CREATE FUNCTION regress.may(kind "char", role text, object oid, privilege text) RETURNS boolean LANGUAGE sql AS $$
    SELECT CASE kind WHEN 'r' THEN has_table_privilege(role, object, privilege) WHEN 's' THEN has_sequence_privilege(role, object, privilege)
                     WHEN 'f' THEN has_function_privilege(role, object, privilege) ELSE has_type_privilege(role, object, privilege) END
$$;
CREATE FUNCTION regress.letters(kind "char", role text, object oid) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(string_agg(l.letter, '' ORDER BY l.place) FILTER (WHERE regress.may($1, $2, $3, l.privilege)), '-') FROM regress.letter l WHERE l.kind = $1
$$;
/* What the acl says: PUBLIC (0) or all but our roles, PUBLIC and the owner (NULL). */
CREATE FUNCTION regress.granted(kind "char", acl aclitem[], owner oid, grantee oid) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(string_agg(DISTINCT l.letter, ''), '-')
    FROM aclexplode(acl) a JOIN regress.letter l ON l.kind = $1 AND l.privilege = a.privilege_type
    WHERE CASE WHEN $4 IS NOT NULL THEN a.grantee = $4
               ELSE a.grantee NOT IN (0, owner) AND a.grantee::regrole::text NOT IN ('pems_sync_reader', 'pems_sync_user', 'pems_sync_admin', 'pems_sync_worker') END
$$;
\pset tuples_only off
\pset footer off
\pset null ''
\set ECHO all
SELECT DISTINCT o.kind COLLATE "C" AS kind, regexp_replace(o.name, '^pems_audit_log_\d{4}_\d\d$', 'pems_audit_log_<month>') COLLATE "C" AS object,
       CASE o.owner WHEN e.extowner THEN 'installer' ELSE o.owner::regrole::text END AS owner, o.definer,
       regress.granted(o.acl_kind, o.acl, o.owner, 0) AS "PUBLIC", regress.letters(o.acl_kind, 'pems_sync_reader', o.oid) AS reader,
       regress.letters(o.acl_kind, 'pems_sync_user', o.oid) AS "user", regress.letters(o.acl_kind, 'pems_sync_admin', o.oid) AS admin,
       regress.letters(o.acl_kind, 'pems_sync_worker', o.oid) AS worker, regress.granted(o.acl_kind, o.acl, o.owner, NULL) AS others
FROM regress.object o, pg_extension e WHERE e.extname = 'pems_sync' ORDER BY kind, object;

\pset tuples_only on
-- Other kinds of objects have no privileges: what there is of them.
SELECT m.classid::regclass, count(*) > 0 FROM regress.member m
WHERE m.classid NOT IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass) GROUP BY m.classid ORDER BY m.classid::regclass::text COLLATE "C";
-- One column carries a privilege of its own, for pems_resume() and _pems_lock_credentials(); and nothing is granted with grant option.
SELECT a.attrelid::regclass, a.attname, x.grantee::regrole, x.privilege_type FROM regress.object o
JOIN pg_attribute a ON a.attrelid = o.oid AND o.acl_kind = 'r' CROSS JOIN LATERAL aclexplode(a.attacl) x;
SELECT o.name, a.grantee::regrole FROM regress.object o CROSS JOIN LATERAL aclexplode(o.acl) a WHERE a.is_grantable AND a.grantee <> o.owner;
-- The roles: reader, user and admin contain each other, nobody is the worker, and none has powers of its own.
SELECT a.roleid::regrole AS role, a.member::regrole AS member FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.member
WHERE a.roleid::regrole::text ~ '^pems_sync_' AND r.rolname ~ '^pems_sync_' ORDER BY 1, 2;
SELECT a.member::regrole FROM pg_auth_members a WHERE a.roleid = 'pems_sync_worker'::regrole;
SELECT r.rolname, r.rolsuper OR r.rolcanlogin OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication AS powerful, r.rolbypassrls FROM pg_roles r
WHERE r.rolname ~ '^pems_sync_' ORDER BY r.rolname COLLATE "C";

-- Definers: fixed search_path, and every function of the worker's is one.
SELECT p.oid::regprocedure FROM regress.object o JOIN pg_proc p ON p.oid = o.oid AND o.acl_kind = 'f'
WHERE p.prosecdef AND NOT coalesce(p.proconfig, '{}') @> ARRAY['search_path=pg_catalog, pg_temp'];
SELECT p.oid::regprocedure FROM regress.object o JOIN pg_proc p ON p.oid = o.oid AND o.acl_kind = 'f'
WHERE NOT p.prosecdef AND p.proowner = 'pems_sync_worker'::regrole;

\set ECHO none
DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
DROP ROLE regress_pems_heir;
