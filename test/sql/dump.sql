-- What pg_dump keeps: pg_extension.extconfig.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
SELECT c.relname, c.relkind, k.condition FROM pg_extension e CROSS JOIN LATERAL unnest(e.extconfig, e.extcondition) AS k (relation, condition)
JOIN pg_class c ON c.oid = k.relation WHERE e.extname = 'pems_sync' ORDER BY c.relname COLLATE "C";
-- every table of the extension is kept, apart from the statistics, which the restored queue builds again, the parent
-- of the audit log, whose rows are in its partitions, and the list of indexes, which the script itself fills
SELECT c.relname, c.relkind FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pems_sync'
JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
WHERE d.deptype = 'e' AND c.relkind IN ('r', 'p', 'S') AND NOT c.oid = ANY (e.extconfig) ORDER BY c.relname COLLATE "C";
-- nothing that the script itself inserts is dumped
SELECT count(*) FROM pems_field WHERE customized;
-- no index or key on the parent of the audit log: the restore of its partitions would collide with it
SELECT count(*) FROM pg_index WHERE indrelid = 'pems_audit_log'::regclass;
-- partitions are ordinary tables, not members of the extension, with indexes of their own: those that CREATE EXTENSION made,
-- and those that are made at run time
CREATE VIEW regress.partitions AS
    SELECT count(*) AS partitions, count(*) FILTER (WHERE EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')) AS members,
           count(*) FILTER (WHERE EXISTS (SELECT FROM pg_init_privs p WHERE p.objoid = c.oid AND p.classoid = 'pg_class'::regclass)) AS init_privs,
           bool_and((SELECT count(*) FROM pg_index x WHERE x.indrelid = c.oid) = 2) AS two_indexes,
           bool_and(obj_description(c.oid, 'pg_class') IS NOT NULL) AS with_comment, bool_and(c.relowner = (SELECT relowner FROM pg_class WHERE oid = 'pems_audit_log'::regclass)) AS same_owner
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'pems_audit_log'::regclass AND c.relname <> 'pems_audit_log_default';
TABLE regress.partitions;
CREATE FUNCTION regress.drop_partitions() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'pems_audit_log'::regclass AND c.relname ~ '\d$' LOOP
        EXECUTE format('DROP TABLE %I', name);
    END LOOP;
END $$;
SELECT regress.drop_partitions();
SET ROLE pems_sync_worker;
SELECT _pems_make_audit_partitions();
RESET ROLE;
TABLE regress.partitions;
SELECT _pems_make_audit_partitions();
TABLE regress.partitions;
-- their bounds do not depend on how the session writes dates, nor does their beginning on where it is
SELECT regress.drop_partitions();
SET datestyle = 'SQL, DMY';
SET timezone = 'Asia/Kolkata';
SET intervalstyle = 'sql_standard';
SELECT pems_attach() -> 'success';
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET intervalstyle = 'postgres';
CREATE FUNCTION regress.bounds() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg((format('FOR VALUES FROM (''%s 00:00:00+00'') TO (''%s 00:00:00+00'')', f::date, (f + interval '1 month')::date) =
                      pg_get_expr(c.relpartbound, c.oid))::text, ' ' ORDER BY f)
    FROM generate_series(date_trunc('month', now() AT TIME ZONE 'UTC'), now() AT TIME ZONE 'UTC' + interval '1 month', interval '1 month') f
    JOIN pg_class c ON c.oid = to_regclass('pems_audit_log_' || to_char(f, 'YYYY_MM'))
$$;
SELECT regress.bounds();
INSERT INTO pems_audit_log (event_type) VALUES ('TEST');
SELECT tableoid::regclass::text ~ '^pems_audit_log_\d{4}_\d\d$' AS in_its_month, seq > 0 AS with_default FROM pems_audit_log;
-- rows of a month that went to the default partition before its partition was made move there, and no others
SELECT regress.drop_partitions();
INSERT INTO pems_audit_log (event_type, at) VALUES ('NOW', now()), ('NOW', date_trunc('month', now(), 'UTC')), ('OLD', '2020-01-01'), ('LATER', date_trunc('month', now(), 'UTC') + interval '70 days');
SET ROLE pems_sync_worker;
SELECT _pems_make_audit_partitions();
RESET ROLE;
SELECT tableoid::regclass::text ~ '^pems_audit_log_\d{4}_\d\d$' AS in_its_month, event_type, count(*) FROM pems_audit_log GROUP BY 1, 2 ORDER BY 2;
-- too many stay where they are, and the month with them
SELECT regress.drop_partitions();
INSERT INTO pems_audit_log (event_type) SELECT 'NOW' FROM generate_series(1, 10001);
SELECT _pems_make_audit_partitions();
SELECT partitions FROM regress.partitions;
DELETE FROM pems_audit_log WHERE ctid IN (SELECT ctid FROM pems_audit_log WHERE event_type = 'NOW' LIMIT 1);
SELECT _pems_make_audit_partitions();
SELECT partitions FROM regress.partitions;
SELECT tableoid::regclass::text ~ '^pems_audit_log_\d{4}_\d\d$' AS in_its_month, event_type, count(*) FROM pems_audit_log GROUP BY 1, 2 ORDER BY 2;
DROP VIEW regress.partitions;
-- DROP EXTENSION takes them along
DROP EXTENSION pems_sync;
SELECT count(*) FROM pg_class WHERE relname ~ '^pems_audit';
-- where CREATE EXTENSION finds no tables of an application (a restore), it makes no partitions either: pems_attach() does
DROP TABLE pfa_modification, pfa_mirror, organization;
CREATE EXTENSION pems_sync;
SELECT count(*) FROM pg_inherits WHERE inhparent = 'pems_audit_log'::regclass;
SELECT pems_attach(create_missing => true) -> 'success';
SELECT count(*) FROM pg_inherits WHERE inhparent = 'pems_audit_log'::regclass;

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
