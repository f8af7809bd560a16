-- pems_commit(): what is queued, what is rejected and why, errors, roles, and that a rolled-back commit leaves nothing.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
\set ECHO none
\i test/support/regress_application.sql
\set ECHO all
CREATE ROLE regress_pems_app;
GRANT pems_sync_user TO regress_pems_app;
GRANT SELECT, INSERT, UPDATE ON pfa_modification TO regress_pems_app;
CREATE ROLE regress_pems_boss;
GRANT pems_sync_admin TO regress_pems_boss;

-- One draft.
SELECT regress.draft('m1', 'PFA-1', '{"monthlyRate": 5500.00, "dor": "PROJECT"}', change_reason => 'Budget reallocation');
SET ROLE regress_pems_app;
\set VERBOSITY default
SELECT regress.scrub(pems_commit('org-rio', ARRAY['m1'], 'alice'));
\set VERBOSITY terse
SET client_min_messages = error;
RESET ROLE;
SELECT string_agg(key, ' ' ORDER BY key COLLATE "C") AS keys FROM jsonb_object_keys(pems_commit('org-rio', ARRAY['nowhere'])) key;
SELECT modification_id, pfa_id, organization_id, operation, payload, base_version, status, waits_for, priority, scheduled_at <= now() AS due, next_request,
       outcome_unknown, sent_version, retry_count, max_retries = current_setting('pems_sync.max_retries')::integer AS retries_as_set, attempt, claim_token,
       last_attempt_at, last_error, error_code, completed_at FROM pfa_write_queue;
SELECT id, sync_status, sync_error, synced_at, pems_version, delta FROM pfa_modification;
SELECT event_type, organization_id, pfa_id, modification_id, actor, item_id = (SELECT id FROM pfa_write_queue) AS of_the_item, job_id = (SELECT id FROM pems_sync_job) AS of_the_job FROM pems_audit_log;
SELECT organization_id, kind, requested_by, queued, rejected FROM pems_sync_job;
SELECT id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$' AS uuid7 FROM pfa_write_queue;

-- Every rejection; a rejected draft stays a draft, and the good ones are queued all the same.
SELECT regress.draft('r01', 'PFA-2', '{"forecastEnd": "2024-01-01", "dor": "X"}');
SELECT regress.draft('r02', 'PFA-2', '{}');
SELECT regress.draft('r03', 'PFA-2', 'null');
SELECT regress.draft('r04', 'PFA-2', '["dor"]');
SELECT regress.draft('r05', 'PFA-2', '{"colour": "red"}');
SELECT regress.draft('r06', 'PFA-2', '{"lastModifiedBy": "me"}');
SELECT regress.draft('r07', 'PFA-404');
SELECT regress.draft('r08', '../PFA');
SELECT regress.draft('r09', '');
SELECT regress.draft('r10', repeat('x', 65));
SELECT regress.draft('r11', '..');
SELECT regress.draft('r12', 'PFA-2', created_by => 'bob');
SELECT regress.draft('r13', 'PFA-2', operation => 'UPSERT');
SELECT regress.draft('r14', 'PFA-9', organization_id => 'org-port');
SELECT regress.draft('r15', 'PFA-1', organization_id => 'org-rio2');
SELECT regress.draft('r16', 'PFA-2', '{"dor": "PROJECT"}');
UPDATE pfa_modification SET sync_status = 'synced' WHERE id = 'r16';
SELECT regress.draft('r17', 'PFA-2', '{"dor": "PROJECT"}');
UPDATE pfa_modification SET sync_status = NULL WHERE id = 'r17';
SELECT regress.draft('ok1', 'PFA-2', '{"model": "LR 1300"}');
SET ROLE regress_pems_app;
SELECT r ->> 'modificationId', r ->> 'code', r ->> 'errors'
FROM pems_commit('org-rio', ARRAY['r01', 'r02', 'r03', 'r04', 'r05', 'r06', 'r07', 'r08', 'r09', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15', 'r16', 'r17',
    'm1', 'nowhere', 'ok1', 'ok1', NULL], 'alice') c, jsonb_array_elements(c -> 'rejected') r ORDER BY r ->> 'modificationId' COLLATE "C";
RESET ROLE;
SELECT modification_id, status, waits_for FROM regress.items;
SELECT sync_status, count(*), string_agg(id, ' ' ORDER BY id COLLATE "C") FROM pfa_modification GROUP BY sync_status ORDER BY sync_status COLLATE "C";
SELECT queued, rejected FROM pems_sync_job ORDER BY id;
-- one object per rejection, with exactly these keys
SELECT DISTINCT string_agg(k, ' ' ORDER BY k COLLATE "C") FROM jsonb_array_elements(pems_commit('org-rio', ARRAY['r01', 'r02']) -> 'rejected') WITH ORDINALITY r (v, n), jsonb_object_keys(r.v) k GROUP BY r.n;

-- Nothing but rejections: no job, success false.
SELECT pems_commit('org-rio', ARRAY['nowhere']);
SELECT count(*) FROM pems_sync_job;
-- Nothing to do is a success; a list without ids is a mistake.
SELECT pems_commit('org-port', committed_by => 'nobody');
SELECT count(*) FROM pems_sync_job;
-- The rejected draft, repaired.
UPDATE pfa_modification SET delta = '{"forecastEnd": "2025-12-31"}' WHERE id = 'r01';
SELECT pems_commit('org-rio', ARRAY['r01'], 'alice') -> 'queuedCount';
DELETE FROM pfa_modification WHERE id ~ '^r';

-- A user's own drafts, everybody's drafts, and who may commit whose.
SELECT regress.draft('o1', 'PFA-3', '{"model": "1"}', 'alice');
SELECT regress.draft('o2', 'PFA-3', '{"model": "2"}', 'bob');
SELECT regress.draft('o3', 'PFA-4', '{"model": "3"}', 'bob');
SELECT regress.draft('o4', 'PFA-4', '{"model": "4"}', 'carol');
SELECT regress.draft('o5', 'PFA-1', '{"model": "5"}', 'bob', 'org-rio2');
SET ROLE regress_pems_app;
SELECT c -> 'success', c -> 'queuedCount', c -> 'rejected' FROM pems_commit('org-rio', committed_by => 'bob') c;
SELECT c -> 'success', c -> 'queuedCount', c -> 'rejected' FROM pems_commit('org-rio', ARRAY['o1'], 'bob') c;
SELECT c -> 'success', c -> 'queuedCount', c -> 'rejected' FROM pems_commit('org-rio', ARRAY['o1'], '') c;
-- another organization's drafts are not found, RIO2's neither
SELECT c -> 'success', c -> 'queuedCount', c -> 'rejected' FROM pems_commit('org-rio', ARRAY['o5'], 'bob') c;
RESET ROLE;
-- an administrator may
SET ROLE regress_pems_boss;
SELECT c -> 'success', c -> 'queuedCount', c -> 'rejected' FROM pems_commit('org-rio', ARRAY['o1'], 'bob') c;
RESET ROLE;
-- without committed_by the database role is what is recorded, and nobody's drafts are refused
SET ROLE regress_pems_app;
SELECT c -> 'queuedCount', c -> 'rejected' FROM pems_commit('org-rio') c;
RESET ROLE;
SELECT event_type, modification_id, actor FROM pems_audit_log WHERE modification_id ~ '^o' ORDER BY modification_id COLLATE "C";
SELECT requested_by, queued FROM pems_sync_job ORDER BY id DESC LIMIT 3;
SELECT id, sync_status FROM pfa_modification WHERE id = 'o5';

-- Commit order is the order in which they were drafted; later ones of a record wait for their turn.
SELECT modification_id, status, waits_for FROM regress.items WHERE modification_id ~ '^o';
SELECT organization_id, pfa_id FROM pems_recheck GROUP BY 1, 2 ORDER BY pfa_id COLLATE "C";
SELECT regress.empty_queue() \g /dev/null
DELETE FROM pfa_modification WHERE id <> 'o5';
SELECT regress.draft('b', 'PFA-5', '{"model": "2"}');
SELECT regress.draft('a', 'PFA-5', '{"model": "1"}');
SELECT regress.draft('c', 'PFA-5', '{"model": "3"}');
UPDATE pfa_modification SET created_at = '2025-01-01' WHERE id IN ('a', 'b');  -- at the same moment: by id
SELECT regress.commit(ARRAY['c', 'b', 'a']);
SELECT modification_id, waits_for FROM regress.items;

-- Priority.
SELECT regress.draft('p1', 'PFA-6', '{"model": "1"}');
SELECT regress.draft('p2', 'PFA-6', '{"model": "2"}');
SELECT regress.draft('p3', 'PFA-6', '{"model": "3"}');
SELECT regress.commit(ARRAY['p1'], priority => 'low'), regress.commit(ARRAY['p2']), regress.commit(ARRAY['p3'], priority => 'high');
SELECT modification_id, priority FROM pfa_write_queue WHERE modification_id ~ '^p' ORDER BY commit_seq;

-- DELETE needs no delta, and its delta is not sent.
SELECT regress.empty_queue() \g /dev/null
SELECT regress.draft('d1', 'PFA-1', '{}', operation => 'DELETE', change_reason => 'Sold');
SELECT regress.draft('d2', 'PFA-2', '{"colour": "red"}', operation => 'DELETE');
SELECT regress.commit(ARRAY['d1', 'd2']);
SELECT modification_id, operation, payload FROM pfa_write_queue ORDER BY commit_seq;
-- the payload is the delta as it was when it was committed
SELECT regress.queue('e1', 'PFA-3', '{"model": "before"}');
UPDATE pfa_modification SET delta = '{"model": "after"}' WHERE id = 'e1';
SELECT payload FROM pfa_write_queue WHERE modification_id = 'e1';

-- A draft that says not on which version it builds is rejected, and does not take the others with it.
ALTER TABLE pfa_modification ALTER COLUMN base_version DROP NOT NULL;
SELECT regress.draft('n1', 'PFA-4', '{"model": "n1"}', base_version => NULL), regress.draft('n2', 'PFA-4', '{"model": "n2"}');
SELECT c -> 'queuedCount', c #> '{rejected,0,modificationId}', c #> '{rejected,0,code}' FROM pems_commit('org-rio', ARRAY['n1', 'n2'], 'alice') c;

-- Errors.
SELECT regress.attempt($$SELECT pems_commit('RIO')$$);
SELECT regress.attempt($$SELECT pems_commit('org-ri')$$);
SELECT regress.attempt($$SELECT pems_commit('org-rio%')$$);
SELECT regress.attempt($$SELECT pems_commit('')$$);
SELECT regress.attempt($$SELECT pems_commit(NULL)$$);
SELECT regress.attempt($$SELECT pems_commit('org-rio', '{}')$$);
SELECT regress.attempt($$SELECT pems_commit('org-rio', ARRAY[NULL, NULL]::text[])$$);
SELECT regress.attempt($$SELECT pems_commit('org-rio', priority => 'urgent')$$);
SELECT regress.attempt($$SELECT pems_commit('org-rio', priority => NULL)$$);
SELECT regress.attempt(format($$SELECT pems_commit(%L)$$, repeat('x', 200)));
SELECT regress.state($$SELECT pems_commit('org-rio''; DROP TABLE pfa_write_queue; --')$$);

-- A commit that is rolled back leaves nothing.
SELECT regress.draft('t1', 'PFA-5', '{"model": "t"}');
CREATE TEMPORARY TABLE before AS SELECT (SELECT count(*) FROM pfa_write_queue) AS items, (SELECT count(*) FROM pems_audit_log) AS lines,
    (SELECT count(*) FROM pems_sync_job) AS jobs, (SELECT count(*) FROM pems_recheck) AS rechecks, (SELECT count(*) FROM pems_sync_stats) AS stats;
BEGIN;
SELECT pems_commit('org-rio', ARRAY['t1']) -> 'queuedCount';
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT pems_commit('org-rio', ARRAY['t1']) -> 'queuedCount';
ROLLBACK TO s;
COMMIT;
SELECT (SELECT count(*) FROM pfa_write_queue) = items AND (SELECT count(*) FROM pems_audit_log) = lines AND (SELECT count(*) FROM pems_sync_job) = jobs
   AND (SELECT count(*) FROM pems_recheck) = rechecks AND (SELECT count(*) FROM pems_sync_stats) = stats AS as_before FROM before;
SELECT sync_status FROM pfa_modification WHERE id = 't1';

-- 10,000 drafts in one call; the bad ones among them are named.
DELETE FROM pfa_modification;
INSERT INTO pfa_mirror (organization_id, pfa_id, version, data) SELECT 'org-port', 'BULK-' || n, 1, '{"source": "Purchase", "purchasePrice": 1}' FROM generate_series(1, 2500) n;
INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by)
SELECT 'bulk-' || n, 'org-port', 'BULK-' || (n % 2500 + 1), 1, jsonb_build_object('monthlyRate', CASE WHEN n % 1000 = 0 THEN -1 ELSE n END), 'alice'
FROM generate_series(1, 10000) n;
SELECT c -> 'success', c -> 'queuedCount', jsonb_array_length(c -> 'rejected'), (SELECT DISTINCT r -> 'code' FROM jsonb_array_elements(c -> 'rejected') r)
FROM pems_commit('org-port', committed_by => 'alice') c;
SELECT count(*), count(DISTINCT commit_seq), count(*) FILTER (WHERE waits_for = 'turn') AS held, count(DISTINCT job_id) FROM pfa_write_queue WHERE organization_id = 'org-port';
SELECT sync_status, count(*) FROM pfa_modification GROUP BY sync_status ORDER BY sync_status COLLATE "C";
SELECT s -> 'totalQueued', s -> 'held' FROM pems_sync_status('org-port') s;

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
DROP ROLE regress_pems_app, regress_pems_boss;
