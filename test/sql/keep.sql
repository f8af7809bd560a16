-- What the owner of the schema cannot take away: partitions of the audit log and indexes.  What is gone all the same is named.
\set ECHO none
\i test/support/regress_helpers.sql
\set ECHO all
CREATE ROLE regress_pems_landlord LOGIN;
CREATE ROLE regress_pems_admin IN ROLE pems_sync_admin;
CREATE SCHEMA kept AUTHORIZATION regress_pems_landlord;
CREATE EXTENSION pems_sync SCHEMA kept;
SELECT kept.pems_attach(create_missing => true) -> 'created';
/* With what differs from month to month replaced. */
CREATE FUNCTION regress.timeless(value text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT regexp_replace(value, '\d{4}_\d\d', '<month>', 'g') $$;
CREATE FUNCTION regress.partition(months integer) RETURNS text LANGUAGE sql AS $$
    SELECT 'kept.pems_audit_log_' || to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + months * interval '1 month', 'YYYY_MM')
$$;
CREATE FUNCTION regress.problems() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT regress.timeless(p) FROM jsonb_array_elements_text(kept.pems_health() -> 'problems') p WHERE p !~ '^No worker'
$$;
CREATE TABLE kept.own (id integer PRIMARY KEY, note text);
CREATE INDEX own_note ON kept.own (note);
ALTER TABLE kept.own OWNER TO regress_pems_landlord;

-- attach made this month's partition and the next, and there is nothing to say
SELECT to_regclass(regress.partition(0)) IS NOT NULL, to_regclass(regress.partition(1)) IS NOT NULL;
SELECT regress.problems();
-- what stands in the list of indexes is what there is
SELECT i.indexrelid::regclass FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pems_sync' JOIN pg_index i ON i.indrelid = d.objid
WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'e' AND NOT EXISTS (SELECT FROM kept.pems_index x WHERE format('kept.%I', x.name)::regclass = i.indexrelid);

SET ROLE regress_pems_landlord;
SELECT regress.timeless(regress.attempt('DROP TABLE ' || regress.partition(0)));
SELECT regress.timeless(regress.attempt('DROP TABLE ' || regress.partition(1)));
SELECT regress.timeless(regress.attempt(format('DROP INDEX %s', indexrelid::regclass))) FROM pg_index WHERE indrelid = regress.partition(0)::regclass;
SELECT regress.attempt('DROP INDEX kept.pfa_write_queue_ready');
SELECT regress.attempt('DROP INDEX kept.pfa_sync_conflict_open');
DROP INDEX CONCURRENTLY kept.pfa_write_queue_ready;
SELECT format('DROP INDEX CONCURRENTLY %s', indexrelid::regclass) AS drop_index FROM pg_index WHERE indrelid = regress.partition(0)::regclass ORDER BY 1 LIMIT 1 \gset
\set VERBOSITY sqlstate
:drop_index;
\set VERBOSITY terse
-- also where the session says that it is one of the extension's functions
SET pems_sync.guarded = on;
SELECT regress.state('DROP INDEX kept.pfa_write_queue_ready');
-- with everything that is in the schema and that is his
SELECT regress.timeless(regress.state(format('DROP TABLE kept.own, %s CASCADE', regress.partition(0))));
-- members of the extension are refused by PostgreSQL
SELECT regress.state('DROP TABLE kept.pems_audit_log_default');
SELECT regress.state('DROP TABLE kept.pfa_write_queue CASCADE');
-- what is his own goes
DROP INDEX kept.own_note;
DROP TABLE kept.own;
RESET ROLE;
SELECT bool_and(indisvalid) FROM pg_index WHERE indrelid IN ('kept.pfa_write_queue'::regclass, regress.partition(0)::regclass);
SELECT regress.problems();

-- pems_purge() drops old months, whoever calls it.
DO $$
DECLARE
    month CONSTANT timestamp := date_trunc('month', now() AT TIME ZONE 'UTC') - interval '10 years';
BEGIN
    EXECUTE format('CREATE TABLE kept.pems_audit_log_%s PARTITION OF kept.pems_audit_log FOR VALUES FROM (%L) TO (%L)', to_char(month, 'YYYY_MM'),
                   month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
END
$$;
GRANT USAGE ON SCHEMA kept TO regress_pems_admin;
SET ROLE regress_pems_admin;
SELECT regress.timeless((kept.pems_purge() -> 'auditPartitions')::text);
RESET ROLE;

-- A superuser may; then pems_health() says at once what is gone, and what makes it again.
-- (A table that is named like this month's partition is none.)
DO $$ BEGIN EXECUTE format('DROP TABLE %1$s; CREATE TABLE %1$s (LIKE kept.pems_audit_log)', regress.partition(0)); END $$;
DROP INDEX kept.pfa_write_queue_ready, kept.pfa_sync_conflict_open;
ALTER TABLE kept.pems_mirror_version DROP CONSTRAINT pems_mirror_version_pkey;
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'kept.pfa_write_queue_timed'::regclass;
SELECT regress.problems();
DO $$ BEGIN EXECUTE format('DROP TABLE %s', regress.partition(0)); END $$;
SELECT substring(p FROM ': ((CREATE|ALTER|REINDEX) .*)') FROM regress.problems() p WHERE p ~ '^Index' \gexec
SELECT kept._pems_make_audit_partitions();
SELECT regress.problems();

-- The owner drops the schema, and with it the extension; so does a superuser.
SET client_min_messages = error;
ALTER TABLE kept.organization OWNER TO regress_pems_landlord;
SET ROLE regress_pems_landlord;
SELECT regress.state('DROP SCHEMA kept CASCADE');
RESET ROLE;
SELECT count(*) FROM pg_extension WHERE extname = 'pems_sync';
SELECT evtname FROM pg_event_trigger WHERE evtname ~ 'pems';
CREATE EXTENSION pems_sync;
SELECT pems_attach(true) -> 'success';
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
DROP SCHEMA regress CASCADE;
DROP ROLE regress_pems_landlord, regress_pems_admin;
