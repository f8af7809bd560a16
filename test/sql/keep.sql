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
    SELECT replace(regress.timeless(p), 'role ' || current_user, 'role <installer>') FROM jsonb_array_elements_text(kept.pems_health() -> 'problems') p WHERE p !~ '^No worker'
$$;
/* Runs the commands that pems_health() gives for months. */
CREATE FUNCTION regress.do_as_told() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    command text;
BEGIN
    FOR command IN SELECT substring(p FROM ': ((UPDATE|DELETE) .*)') FROM jsonb_array_elements_text(kept.pems_health() -> 'problems') p WHERE p ~ '^Partition' LOOP
        EXECUTE command;
    END LOOP;
END $$;
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
RESET ROLE;
CREATE VIEW regress.indexes AS SELECT i.indexrelid::regclass AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
WHERE c.relnamespace = 'kept'::regnamespace AND c.relname ~ '^(pems_|pfa_write_queue$|pfa_sync_conflict$)' OFFSET 0;
SELECT count(*) > 20 AS many FROM regress.indexes;
GRANT SELECT ON regress.indexes TO PUBLIC;
SET ROLE regress_pems_landlord;
SELECT name FROM regress.indexes WHERE regress.attempt(format('DROP INDEX %s', name)) = 'ok';
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
-- Who runs the command is what counts, not whose session it is: his functions, where a superuser calls them, or as autovacuum does.
CREATE FUNCTION kept.drop_all() RETURNS text LANGUAGE sql SECURITY DEFINER AS $$
    SELECT concat_ws(' ', regress.state('DROP TABLE ' || regress.partition(1)), '|', regress.state('DROP INDEX kept.pfa_write_queue_ready'))
$$;
CREATE FUNCTION kept.drop_too(id integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF current_setting('regress.armed', true) = 'yes' THEN
        RAISE WARNING '%', regress.timeless(regress.state('DROP INDEX kept.pfa_write_queue_ready'));
    END IF;
    RETURN id;
END $$;
INSERT INTO kept.own VALUES (1);
CREATE INDEX own_expression ON kept.own (kept.drop_too(id));
RESET ROLE;
SELECT regress.timeless(kept.drop_all());
SET regress.armed = 'yes';
ANALYZE kept.own;
SET ROLE regress_pems_landlord;
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
INSERT INTO kept.pems_audit_month (name) VALUES (replace(regress.partition(-120), 'kept.', ''));
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
DO $$ BEGIN EXECUTE format('DROP TABLE %s, %s', regress.partition(0), regress.partition(1)); END $$;
SELECT substring(p FROM ': ((CREATE|ALTER|REINDEX) .*)') FROM regress.problems() p WHERE p ~ '^Index' \gexec
SELECT kept._pems_make_audit_partitions();
-- that months were gone is still to be seen when they are there again
SELECT regress.scrub(p) FROM regress.problems() p;
SELECT regress.do_as_told();
SELECT regress.problems();
-- an older one
INSERT INTO kept.pems_audit_month (name) VALUES (replace(regress.partition(-5), 'kept.', ''));
SELECT regress.problems();
SELECT regress.do_as_told();
SELECT regress.problems();

-- A name that we need is taken by somebody else's table: said by pems_health(), an error of pems_attach().
DO $$ BEGIN EXECUTE format('DROP TABLE %s', regress.partition(1)); END $$;
DROP INDEX kept.idx_modification_syncstatus;
SET ROLE regress_pems_landlord;
DO $$ BEGIN EXECUTE format('CREATE TABLE %s (x integer)', regress.partition(1)); END $$;
CREATE TABLE kept.idx_modification_syncstatus (x integer);
RESET ROLE;
SELECT regress.problems();
SELECT regress.timeless(regress.attempt('SELECT kept.pems_attach()'));
SELECT regress.timeless(regress.attempt('SELECT kept._pems_make_audit_partitions()'));
DO $$ BEGIN EXECUTE format('DROP TABLE %s, kept.idx_modification_syncstatus', regress.partition(1)); END $$;
SELECT kept.pems_attach() -> 'success';
SELECT regress.do_as_told();
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
