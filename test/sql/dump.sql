-- What pg_dump keeps: pg_extension.extconfig.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
SELECT c.relname, c.relkind, k.condition FROM pg_extension e CROSS JOIN LATERAL unnest(e.extconfig, e.extcondition) AS k (relation, condition)
JOIN pg_class c ON c.oid = k.relation WHERE e.extname = 'pems_sync' ORDER BY c.relname COLLATE "C";
-- every table of the extension is kept, apart from the statistics, which the restored queue builds again, and the parent
-- of the audit log, whose rows are in its partitions
SELECT c.relname, c.relkind FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pems_sync'
JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
WHERE d.deptype = 'e' AND c.relkind IN ('r', 'p', 'S') AND NOT c.oid = ANY (e.extconfig) ORDER BY c.relname COLLATE "C";
-- nothing that the script itself inserts is dumped
SELECT count(*) FROM pems_field WHERE customized;
-- no index or key on the parent of the audit log: the restore of its partitions would collide with it
SELECT count(*) FROM pg_index WHERE indrelid = 'pems_audit_log'::regclass;
-- partitions made at run time are ordinary tables, not members of the extension, with indexes of their own
SET ROLE pems_sync_worker;
SELECT _pems_make_audit_partitions();
RESET ROLE;
SELECT count(*) AS partitions, count(*) FILTER (WHERE EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')) AS members,
       bool_and((SELECT count(*) FROM pg_index x WHERE x.indrelid = c.oid) = 2) AS two_indexes,
       bool_and(obj_description(c.oid, 'pg_class') IS NOT NULL) AS with_comment
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'pems_audit_log'::regclass AND c.relname <> 'pems_audit_log_default';
SELECT _pems_make_audit_partitions();
SELECT count(*) FROM pg_inherits WHERE inhparent = 'pems_audit_log'::regclass;
INSERT INTO pems_audit_log (event_type) VALUES ('TEST');
SELECT tableoid::regclass::text ~ '^pems_audit_log_\d{4}_\d\d$' FROM pems_audit_log;
-- DROP EXTENSION takes them along
DROP EXTENSION pems_sync;
SELECT count(*) FROM pg_class WHERE relname ~ '^pems_audit';
-- a month that already has rows in the default partition stays there
CREATE EXTENSION pems_sync;
INSERT INTO pems_audit_log (event_type) VALUES ('TEST');
SELECT _pems_make_audit_partitions();
SELECT count(*) FROM pg_inherits WHERE inhparent = 'pems_audit_log'::regclass;
INSERT INTO pems_audit_log (event_type) VALUES ('TEST');
SELECT tableoid::regclass, count(*) FROM pems_audit_log GROUP BY 1;

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
