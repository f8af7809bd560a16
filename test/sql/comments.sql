-- Everything that the extension makes says what it is: \d+ and \df+ show a comment.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
CREATE VIEW regress.member AS
    SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pems_sync'
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e';

SELECT count(*) > 15 AS relations FROM regress.member WHERE classid = 'pg_class'::regclass;
SELECT count(*) > 40 AS functions FROM regress.member WHERE classid = 'pg_proc'::regclass;
-- none of these has a row
SELECT c.oid::regclass, c.relkind FROM regress.member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
WHERE c.relkind <> 'c' AND obj_description(c.oid, 'pg_class') IS NULL ORDER BY c.relname COLLATE "C";
SELECT a.attrelid::regclass, a.attname FROM regress.member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition AND col_description(a.attrelid, a.attnum) IS NULL ORDER BY c.relname COLLATE "C", a.attnum;
SELECT p.oid::regprocedure FROM regress.member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
WHERE obj_description(p.oid, 'pg_proc') IS NULL ORDER BY p.proname COLLATE "C";
SELECT t.oid::regtype FROM regress.member m JOIN pg_type t ON m.classid = 'pg_type'::regclass AND t.oid = m.objid
LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE t.typelem = 0 AND (t.typrelid = 0 OR c.relkind = 'c') AND obj_description(t.oid, 'pg_type') IS NULL;
SELECT obj_description(oid, 'pg_extension') <> '' FROM pg_extension WHERE extname = 'pems_sync';
SELECT rolname FROM pg_roles WHERE rolname IN ('pems_sync_reader', 'pems_sync_user', 'pems_sync_admin', 'pems_sync_worker') AND shobj_description(oid, 'pg_authid') IS NULL;
-- the settings, too
SELECT name FROM pg_settings WHERE name ~ '^pems_sync\.' AND coalesce(short_desc, '') = '' ORDER BY name COLLATE "C";
-- internal names begin with _pems_ and say "Internal"; the others are for people
SELECT p.proname FROM regress.member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
WHERE (p.proname ~ '^_pems_') <> (obj_description(p.oid, 'pg_proc') ~ '^Internal') ORDER BY p.proname COLLATE "C";

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
