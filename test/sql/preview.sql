-- pems_commit_preview(): the checks of a commit and the worker's decision, on the mirror as it is; and the early warning of
-- pems_sync_state().
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
\set ECHO none
\i test/support/regress_application.sql
\i test/support/regress_conflicts.sql
\set ECHO all
SET client_min_messages = error;
CREATE ROLE regress_pems_user IN ROLE pems_sync_user;
/* A line for each draft. */
CREATE FUNCTION regress.preview(ids text[], committed_by text DEFAULT NULL, organization_id text DEFAULT 'org-rio') RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', d ->> 'modificationId', d ->> 'pfaId', d ->> 'decision', d ->> 'fields', nullif(d ->> 'errors', '[]'))
    FROM jsonb_array_elements(pems_commit_preview(organization_id, ids, committed_by) -> 'drafts') WITH ORDINALITY e (d, n) ORDER BY n
$$;
/* What the badge of a record says of a stale draft; and what the preview says of the same draft. */
CREATE FUNCTION regress.warning(pfa_id text) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', b ->> 'modificationId', CASE WHEN b ? 'stale' THEN 'stale ' || (b ->> 'stale') ELSE 'no key' END, CASE WHEN b ? 'changedFields' THEN b ->> 'changedFields' ELSE 'no key' END)
    FROM pems_sync_state('org-rio', ARRAY[pfa_id]) s, LATERAL (SELECT s -> pfa_id) r (b)
$$;
/* The mirror changes, as after a read. */
CREATE FUNCTION regress.moves(record text, changes jsonb) RETURNS void LANGUAGE sql AS $$
    UPDATE pfa_mirror SET version = version + 1, data = data || changes WHERE organization_id = 'org-rio' AND pfa_id = record
$$;

-- Nothing, and one: as it was drafted.
SELECT pems_commit_preview('org-rio'), pems_commit_preview('org-port', committed_by => 'nobody');
SELECT regress.draft('d1', 'PFA-1', '{"monthlyRate": 5500, "model": "x"}');
SET ROLE regress_pems_user;
SELECT pems_commit_preview('org-rio', ARRAY['d1'], 'alice');
RESET ROLE;
SELECT regress.warning('PFA-1');

-- The record moves on.  In another field:
SELECT regress.moves('PFA-1', '{"category": "Trucks"}');
SELECT regress.preview(ARRAY['d1']), regress.warning('PFA-1');
-- in one of the draft's, to the value that the draft wants:
SELECT regress.moves('PFA-1', '{"model": "x"}');
SELECT regress.preview(ARRAY['d1']), regress.warning('PFA-1');
-- in both, so nothing is left to send:
SELECT regress.moves('PFA-1', '{"monthlyRate": 5500.00}');
SELECT regress.preview(ARRAY['d1']), regress.warning('PFA-1');
-- to other values:
SELECT regress.moves('PFA-1', '{"monthlyRate": 5600}');
SELECT regress.preview(ARRAY['d1']), regress.warning('PFA-1');
SELECT regress.moves('PFA-1', '{"model": "y"}');
SELECT regress.preview(ARRAY['d1']), regress.warning('PFA-1');
-- and back to what the user saw, in a version of its own:
UPDATE pfa_mirror SET version = version + 1, data = (SELECT data FROM pems_mirror_version WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-1' AND version = 1) WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-1';
SELECT regress.preview(ARRAY['d1']), regress.warning('PFA-1');
-- a rule that the record as it is now would break
SELECT regress.draft('v1', 'PFA-2', '{"forecastEnd": "2025-05-01T00:00:00Z"}');
SELECT regress.moves('PFA-2', '{"forecastStart": "2025-05-15T00:00:00Z"}');
SELECT regress.preview(ARRAY['v1']), regress.warning('PFA-2');
-- deleted in PEMS: an update is in conflict, a delete has nothing to do
SELECT regress.draft('g1', 'PFA-3', '{"model": "g", "monthlyRate": 1}'), regress.draft('g2', 'PFA-3', '{}', operation => 'DELETE');
SELECT regress.preview(ARRAY['g1', 'g2']), regress.warning('PFA-3');
UPDATE pfa_mirror SET deleted_at = now() WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-3';
SELECT regress.preview(ARRAY['g1', 'g2']), regress.warning('PFA-3');
DELETE FROM pfa_modification WHERE id = 'g2';
SELECT regress.warning('PFA-3');
-- a delete of a record that changed
SELECT regress.draft('x1', 'PFA-4', '{}', operation => 'DELETE');
SELECT regress.preview(ARRAY['x1']), regress.warning('PFA-4');
SELECT regress.moves('PFA-4', '{"dor": "PROJECT", "model": "new"}');
SELECT regress.preview(ARRAY['x1']), regress.warning('PFA-4');
-- objects, value by value
SELECT regress.moves('PFA-5', '{"extra": {"a": 1, "b.c": 2, "d": 3}}');
INSERT INTO pems_field (name, label, type) VALUES ('extra', 'Extra', 'json');
SELECT regress.draft('o1', 'PFA-5', '{"extra": {"a": 7, "b.c": 8}}', base_version => 2);
SELECT regress.moves('PFA-5', '{"extra": {"a": 1, "b.c": 5, "d": 3}}');
SELECT regress.preview(ARRAY['o1']), regress.warning('PFA-5');
-- the base is missing from the history: what differs is in conflict
SELECT regress.draft('m1', 'PFA-6', '{"monthlyRate": 1, "dor": "BEO"}', base_version => 77);
SELECT regress.preview(ARRAY['m1']), regress.warning('PFA-6');

-- The same version with other data: what the user may have seen as well.
SELECT regress.empty_queue() \g /dev/null
INSERT INTO pfa_mirror (organization_id, pfa_id, version, data) VALUES ('org-rio', 'S-1', 1, '{"model": "a", "monthlyRate": 1}');
UPDATE pfa_mirror SET data = '{"model": "b", "monthlyRate": 1}' WHERE pfa_id = 'S-1';
SELECT regress.draft('s1', 'S-1', '{"model": "c"}'), regress.draft('s2', 'S-1', '{"monthlyRate": 2}');
SELECT regress.preview(ARRAY['s1', 's2']);

-- A user's own earlier edit is no conflict with the same user's later one; another's is.
INSERT INTO pfa_mirror (organization_id, pfa_id, version, data) VALUES ('org-rio', 'W-1', 1, '{"model": "a", "monthlyRate": 1}');
SELECT regress.draft('w2', 'W-1', '{"model": "c"}', 'alice'), regress.draft('w3', 'W-1', '{"model": "d"}', 'bob');
SELECT regress.queue('w1', 'W-1', '{"model": "b"}', 'alice');
SELECT regress.claim();
SELECT regress.record(regress.applied('w1', '{"known_version": 2}'));
SELECT regress.preview(ARRAY['w2', 'w3']), regress.warning('W-1');

-- The worker decides the same: what it gets of each edit when it claims it, and what becomes of that.
CREATE FUNCTION regress.worker_says(modification text) RETURNS jsonb LANGUAGE sql AS $$
    SELECT CASE WHEN c.base_is_mirror THEN '{"decision": "send"}'
                ELSE _pems_decide(c.payload, c.base_data, c.own_data, c.other_bases, c.mirror_data, c.operation = 'DELETE', c.base_version, c.mirror_version) END
    FROM (SELECT * FROM _pems_claim(ARRAY['org-rio'], ARRAY[1000])) c WHERE c.modification_id = modification
$$;
CREATE FUNCTION regress.both(modification text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before jsonb := pems_commit_preview('org-rio', ARRAY[modification]) #> '{drafts,0}';
    after  jsonb;
BEGIN
    BEGIN
        PERFORM regress.commit(ARRAY[modification]);
        after := regress.worker_says(modification);
        RAISE EXCEPTION USING ERRCODE = 'PM000';
    EXCEPTION WHEN SQLSTATE 'PM000' THEN
        NULL;
    END;
    RETURN concat_ws(' ', modification, before ->> 'decision', CASE WHEN before ->> 'decision' = after ->> 'decision'
        AND (before -> 'fields' = after -> 'fields' OR NOT after ? 'fields') AND (before -> 'errors' = after -> 'errors' OR NOT after ? 'errors') THEN 'as the worker' ELSE after::text END);
END
$$;
SELECT regress.both(m.id) FROM pfa_modification m WHERE m.organization_id = 'org-rio' AND m.sync_status = 'draft' AND m.pfa_id <> 'PFA-3' AND m.id <> 'v1' ORDER BY m.id COLLATE "C";

-- Rejections: those of pems_commit(), in the same words.
SELECT regress.draft('r1', 'PFA-6', '{"monthlyRate": -1, "dor": "X"}'), regress.draft('r2', 'PFA-6', '{}'), regress.draft('r3', 'PFA-6', '{"colour": "red"}'), regress.draft('r4', 'PFA-6', '{"pfaId": "x"}'),
       regress.draft('r5', 'nowhere'), regress.draft('r6', 'a/b'), regress.draft('r7', 'PFA-6', '[1]'), regress.draft('r8', 'PFA-6', created_by => 'bob'), regress.draft('r9', 'PFA-6', operation => 'UPSERT');
SELECT regress.draft('q1', 'PFA-6', '{"dor": "PROJECT"}');
SELECT regress.commit(ARRAY['q1']);
UPDATE pfa_modification SET sync_status = 'draft' WHERE id = 'q1';
CREATE TABLE regress.rejected AS SELECT ARRAY['r1', 'r2', 'r3', 'r4', 'r5', 'r6', 'r7', 'r8', 'r9', 'q1', 'w1', 'nowhere'] AS ids;
GRANT SELECT ON regress.rejected TO PUBLIC;
SET ROLE regress_pems_user;
SELECT regress.preview(r.ids, 'alice') FROM regress.rejected r;
WITH preview AS (
    SELECT d ->> 'modificationId' AS id, d -> 'errors' AS errors FROM regress.rejected r, jsonb_array_elements(pems_commit_preview('org-rio', r.ids, 'alice') -> 'drafts') d WHERE d ->> 'decision' = 'rejected'
), rejection AS (
    SELECT d ->> 'modificationId' AS id, d -> 'errors' AS errors FROM regress.rejected r, jsonb_array_elements(pems_commit('org-rio', r.ids, 'alice') -> 'rejected') d
)
SELECT count(*), bool_and(p.errors = c.errors) AS the_same FROM preview p FULL JOIN rejection c USING (id);
RESET ROLE;
-- an administrator may commit for others
SELECT regress.preview(ARRAY['r8'], 'alice');
-- another organization's drafts are not found
SELECT regress.preview(ARRAY['d1'], organization_id => 'org-rio2');
-- twice is once, NULL is nothing, and all of a user
SELECT regress.preview(ARRAY['d1', 'd1', NULL, 'v1']);
SELECT regress.preview(NULL, 'bob');
SELECT count(*) FROM regress.preview(NULL);
-- what is too large
SELECT regress.draft('big', 'PFA-6', jsonb_build_object('description', repeat('x', 300000)));
SELECT regress.preview(ARRAY['big']);
SELECT regress.warning('PFA-6');
-- a form that writes nonsense into its drafts
UPDATE pfa_modification SET delta = 'null' WHERE id = 'big';
SELECT regress.preview(ARRAY['big']), regress.warning('PFA-6');
DELETE FROM pfa_modification WHERE id = 'big';
-- and one that has put nonsense into the mirror
SELECT regress.draft('n1', 'PFA-6', '{"dor": "PROJECT"}'), regress.draft('n2', 'PFA-6', '{}', operation => 'DELETE');
UPDATE pfa_mirror SET version = 2, data = '[1]' WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-6';
SELECT regress.preview(ARRAY['n1', 'n2']), regress.warning('PFA-6');

-- Nothing is changed, and nothing locked.
CREATE FUNCTION regress.fingerprint() RETURNS text LANGUAGE sql AS $$
    SELECT md5(string_agg(t, '' ORDER BY t)) FROM (SELECT m.xmin::text || m::text AS t FROM pfa_modification m UNION ALL SELECT q.xmin::text || q::text FROM pfa_write_queue q UNION ALL SELECT m.xmin::text || m::text FROM pfa_mirror m
        UNION ALL SELECT count(*)::text FROM pems_audit_log UNION ALL SELECT count(*)::text FROM pems_sync_job) a
$$;
SELECT regress.fingerprint() AS before \gset
SELECT count(*) > 10 AS many FROM regress.preview(NULL);
SELECT regress.fingerprint() = :'before' AS unchanged;
BEGIN READ ONLY;
SELECT count(*) > 10 AS many FROM regress.preview(NULL);
COMMIT;
-- Of the records that are asked for, drafts only are compared; an edit on its way has no warning.
SELECT regress.commit(ARRAY['d1']);
SELECT regress.moves('PFA-1', '{"monthlyRate": 1}');
SELECT regress.warning('PFA-1'), regress.warning('W-1');

-- 10,000 drafts, all of them stale.
INSERT INTO pfa_mirror (organization_id, pfa_id, version, data) SELECT 'org-port', 'BULK-' || n, 1, '{"model": "a"}' FROM generate_series(1, 10000) n;
INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by) SELECT 'bulk' || n, 'org-port', 'BULK-' || n, 1, '{"model": "b"}', 'bulk' FROM generate_series(1, 10000) n;
UPDATE pfa_mirror SET version = 2, data = '{"model": "c"}' WHERE organization_id = 'org-port' AND pfa_id LIKE 'BULK-%';
SELECT count(*), min(d ->> 'decision'), max(d ->> 'fields') FROM jsonb_array_elements(pems_commit_preview('org-port', committed_by => 'bulk') -> 'drafts') d;
SELECT count(*), bool_and((v -> 'stale')::boolean), max(v ->> 'changedFields') FROM jsonb_each(pems_sync_state('org-port', ARRAY(SELECT 'BULK-' || n FROM generate_series(1, 10000) n))) e (k, v);

-- Errors.
SELECT regress.attempt($$SELECT pems_commit_preview('nowhere')$$);
SELECT regress.attempt($$SELECT pems_commit_preview(NULL)$$);
SELECT regress.attempt($$SELECT pems_commit_preview('org-rio', '{}')$$);
SELECT regress.attempt($$SELECT pems_commit_preview('org-rio', committed_by => repeat('x', 1025))$$);
SET ROLE regress_pems_user;
SELECT regress.attempt($$SELECT pems_commit_preview('org-rio', ARRAY(SELECT n::text FROM generate_series(1, 10001) n))$$);
RESET ROLE;
SELECT pems_detach() -> 'success';
SELECT regress.state($$SELECT pems_commit_preview('org-rio')$$);

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
DROP ROLE regress_pems_user;
