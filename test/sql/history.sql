-- pems_mirror_version: complete no matter who writes the mirror, and how.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
\set ECHO none
\i test/support/regress_application.sql
\set ECHO all
DELETE FROM pfa_mirror;
DELETE FROM pems_mirror_version;
CREATE VIEW regress.history AS SELECT organization_id, pfa_id, version, data, source, modification_id, changed_by, change_reason
    FROM pems_mirror_version ORDER BY organization_id COLLATE "C", pfa_id COLLATE "C", version;
CREATE ROLE regress_pems_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON pfa_mirror TO regress_pems_app;

-- INSERT, one row and many, by the application's role, which may not touch the history itself.
SET ROLE regress_pems_app;
INSERT INTO pfa_mirror (id, organization_id, pfa_id, version, data) VALUES ('1', 'org-rio', 'PFA-1', 1, '{"dor": "BEO"}');
INSERT INTO pfa_mirror (id, organization_id, pfa_id, version, data) VALUES ('2', 'org-rio', 'PFA-2', 5, '{"n": 2}'), ('3', 'org-rio2', 'PFA-1', 1, '{"n": 3}');
SELECT regress.state('SELECT * FROM pems_mirror_version');
SELECT regress.state('DELETE FROM pems_mirror_version');
RESET ROLE;
SELECT * FROM regress.history;

-- UPDATE, of some and of all.
SET ROLE regress_pems_app;
UPDATE pfa_mirror SET version = 2, data = '{"dor": "PROJECT"}' WHERE id = '1';
UPDATE pfa_mirror SET version = version + 10;
RESET ROLE;
SELECT pfa_id, version, data FROM regress.history;
-- no change of version or data: no new row, and the old one stays as it was
UPDATE pems_mirror_version SET source = 'pems', changed_by = 'reader';
UPDATE pfa_mirror SET version = version, data = data;
UPDATE pfa_mirror SET deleted_at = now(), last_synced_at = now() WHERE id = '2';
UPDATE pfa_mirror SET data = '{"gone": true}' WHERE false;
SELECT count(*), count(*) FILTER (WHERE source = 'pems' AND changed_by = 'reader') AS untouched FROM pems_mirror_version;
-- the same data in other words is no change
UPDATE pfa_mirror SET data = '{"dor" : "PROJECT"}' WHERE id = '1';
SELECT source FROM pems_mirror_version WHERE pfa_id = 'PFA-1' AND version = 12;
-- other data under the same version: the history has both states
UPDATE pfa_mirror SET data = '{"dor": "BEO", "model": "x"}' WHERE id = '1';
SELECT data, source, modification_id, change_reason FROM regress.history WHERE pfa_id = 'PFA-1' AND version = 12;

-- INSERT ... ON CONFLICT, both ways at once.
INSERT INTO pfa_mirror (id, organization_id, pfa_id, version, data) VALUES ('4', 'org-rio', 'PFA-1', 13, '{"n": 13}'), ('5', 'org-rio', 'PFA-5', 1, '{"n": 5}')
ON CONFLICT (organization_id, pfa_id) DO UPDATE SET version = excluded.version, data = excluded.data;
INSERT INTO pfa_mirror (id, organization_id, pfa_id, version, data) VALUES ('6', 'org-rio', 'PFA-5', 9, '{"n": 9}') ON CONFLICT DO NOTHING;
SELECT pfa_id, version, data, source FROM regress.history WHERE organization_id = 'org-rio' AND (pfa_id = 'PFA-5' OR version = 13);
-- COPY
COPY pfa_mirror (id, organization_id, pfa_id, version, data) FROM STDIN;
7	org-rio	PFA-7	3	{"n": 7}
8	org-rio	PFA-8	4	{"n": 8}
\.
SELECT pfa_id, version, data FROM regress.history WHERE pfa_id IN ('PFA-7', 'PFA-8');
-- a version that goes down (a record restored in PEMS) is recorded, too
UPDATE pfa_mirror SET version = 1, data = '{"n": "restored"}' WHERE id = '7';
SELECT pfa_id, version, data FROM regress.history WHERE pfa_id = 'PFA-7';
-- a row of the record changes its key
UPDATE pfa_mirror SET pfa_id = 'PFA-70' WHERE id = '7';
SELECT pfa_id, version FROM regress.history WHERE pfa_id IN ('PFA-7', 'PFA-70');
-- DELETE keeps the history
DELETE FROM pfa_mirror WHERE id = '8';
SELECT pfa_id, version FROM regress.history WHERE pfa_id = 'PFA-8';
-- rolled back: nothing
BEGIN;
UPDATE pfa_mirror SET version = 99 WHERE id = '1';
ROLLBACK;
SELECT count(*) FROM pems_mirror_version WHERE version = 99;
-- who wrote it is the role that did, not the function's owner
INSERT INTO pfa_mirror (id, organization_id, pfa_id, version, data) VALUES ('9', 'org-rio', 'PFA-9', 1, '{}');
SELECT changed_by = current_user FROM pems_mirror_version WHERE pfa_id = 'PFA-9';
SET ROLE regress_pems_app;
UPDATE pfa_mirror SET version = 2 WHERE id = '9';
RESET ROLE;
SELECT source, changed_by FROM pems_mirror_version WHERE pfa_id = 'PFA-9' AND version = 2;
-- 10,000 rows in one statement
INSERT INTO pfa_mirror (id, organization_id, pfa_id, version, data) SELECT 'bulk' || n, 'org-port', 'BULK-' || n, 1, '{}' FROM generate_series(1, 10000) n;
UPDATE pfa_mirror SET version = 2 WHERE organization_id = 'org-port';
SELECT version, count(*) FROM pems_mirror_version WHERE organization_id = 'org-port' GROUP BY version ORDER BY version;

-- pems_version_history(): the states of a record, the newest first.
DELETE FROM pfa_mirror;
DELETE FROM pems_mirror_version;
CREATE ROLE regress_pems_reader IN ROLE pems_sync_reader;
/* A line for each state, and whether there are older ones. */
CREATE FUNCTION regress.versions(history jsonb) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', v ->> 'version', v ->> 'source', CASE v ->> 'changedBy' WHEN session_user THEN 'me' ELSE v ->> 'changedBy' END, v ->> 'changeReason', CASE v ->> 'current' WHEN 'true' THEN 'current' END)
    FROM jsonb_array_elements(history -> 'versions') WITH ORDINALITY e (v, n)
    UNION ALL SELECT 'and older ones' WHERE history ? 'next'
$$;
INSERT INTO pfa_mirror (id, organization_id, pfa_id, version, data) VALUES ('h1', 'org-rio', 'H-1', 1, '{"model": "a"}'), ('h2', 'org-rio2', 'H-1', 1, '{"model": "other"}');
SET ROLE regress_pems_app;
UPDATE pfa_mirror SET version = 2, data = '{"model": "b"}' WHERE id = 'h1';
UPDATE pfa_mirror SET data = '{"model": "c"}' WHERE id = 'h1';
UPDATE pfa_mirror SET version = 5 WHERE id = 'h1';
RESET ROLE;
UPDATE pems_mirror_version SET source = 'pems', changed_by = 'mary' WHERE version = 1 AND organization_id = 'org-rio';
UPDATE pems_mirror_version SET source = 'write', changed_by = 'alice', change_reason = 'Budget', modification_id = 'm' WHERE version = 5;
SET ROLE regress_pems_reader;
SELECT regress.scrub(pems_version_history('org-rio', 'H-1', 1) #- '{next}'), jsonb_typeof(pems_version_history('org-rio', 'H-1', 1) -> 'next');
SELECT regress.versions(pems_version_history('org-rio', 'H-1'));
SELECT regress.versions(pems_version_history('org-rio', 'H-1', 3));
SELECT regress.versions(pems_version_history('org-rio', 'H-1', 3, (pems_version_history('org-rio', 'H-1', 3) -> 'next')::bigint));
SELECT regress.versions(pems_version_history('org-rio', 'H-1', 4)), pems_version_history('org-rio', 'H-1', 4) ? 'next' AS more;
SELECT regress.versions(pems_version_history('org-rio', 'H-1', 4, 0));
RESET ROLE;
-- each once, whatever the pages
CREATE FUNCTION regress.walk(size integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer jsonb;
    seen   text := '';
BEGIN
    LOOP
        answer := pems_version_history('org-rio', 'H-1', size, (answer -> 'next')::bigint);
        seen := concat_ws(' ', seen, (SELECT string_agg(v ->> 'version', ' ' ORDER BY n) FROM jsonb_array_elements(answer -> 'versions') WITH ORDINALITY e (v, n)));
        EXIT WHEN NOT answer ? 'next';
    END LOOP;
    RETURN seen;
END
$$;
SELECT regress.walk(1), regress.walk(2), regress.walk(3), regress.walk(1000);
-- PEMS was restored and counts from 2 again, with what version 2 had last: that state comes once more
UPDATE pfa_mirror SET version = 2, data = '{"model": "c"}' WHERE id = 'h1';
SELECT regress.versions(pems_version_history('org-rio', 'H-1'));
-- with other data
UPDATE pfa_mirror SET data = '{"model": "d"}' WHERE id = 'h1';
SELECT regress.versions(pems_version_history('org-rio', 'H-1'));
-- deleted in PEMS; and no mirror at all
UPDATE pfa_mirror SET deleted_at = now() WHERE id = 'h1';
SELECT regress.versions(pems_version_history('org-rio', 'H-1', 1));
DELETE FROM pfa_mirror WHERE id = 'h1';
SELECT regress.versions(pems_version_history('org-rio', 'H-1', 1));
SELECT regress.versions(pems_version_history('org-rio2', 'H-1'));
-- a mirror without history (triggers were off)
DELETE FROM pems_mirror_version WHERE organization_id = 'org-rio2';
SELECT pems_version_history('org-rio2', 'H-1');
-- Errors.
SELECT regress.attempt($$SELECT pems_version_history('nowhere', 'H-1')$$);
SELECT regress.attempt($$SELECT pems_version_history('org-rio', 'H')$$);
SELECT regress.attempt($$SELECT pems_version_history('org-port', 'H-1')$$);
SELECT regress.attempt($$SELECT pems_version_history('org-rio', NULL)$$);
SELECT regress.attempt($$SELECT pems_version_history('org-rio', repeat('x', 201))$$);
SELECT regress.attempt($$SELECT pems_version_history('org-rio', 'H-1', 0)$$);
SELECT regress.attempt($$SELECT pems_version_history('org-rio', 'H-1', NULL)$$);
SELECT pems_detach() -> 'success';
SELECT regress.state($$SELECT pems_version_history('org-rio', 'H-1')$$);

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
DROP ROLE regress_pems_app, regress_pems_reader;
