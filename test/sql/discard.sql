-- pems_discard(): a draft, an item that waits, is held, is in conflict or dead; in flight it is too late; and what is not found.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
\set ECHO none
\i test/support/regress_application.sql
\set ECHO all
SET client_min_messages = error;
CREATE ROLE regress_pems_app;
GRANT pems_sync_user TO regress_pems_app;
CREATE VIEW regress.state AS
    SELECT m.id, m.sync_status, q.status, q.waits_for, q.completed_at IS NOT NULL AS completed
    FROM pfa_modification m LEFT JOIN pfa_write_queue q ON q.modification_id = m.id ORDER BY m.id COLLATE "C";

-- A draft.
SELECT regress.draft('draft', 'PFA-1');
SET ROLE regress_pems_app;
SELECT pems_discard('draft');
RESET ROLE;
SELECT * FROM regress.state;
SELECT event_type, organization_id, pfa_id, modification_id, item_id, actor FROM pems_audit_log;
SELECT count(*) FROM pems_recheck;

-- What waits: ready, for a time, for its turn; in conflict; a dead letter.
SELECT regress.queue('ready', 'PFA-1'), regress.queue('timed', 'PFA-2'), regress.queue('ahead', 'PFA-3'), regress.queue('held', 'PFA-3'),
       regress.queue('conflict', 'PFA-4'), regress.queue('dead', 'PFA-5');
UPDATE pfa_write_queue SET waits_for = 'time', scheduled_at = now() + interval '1 hour' WHERE modification_id = 'timed';
UPDATE pfa_write_queue SET status = 'conflict' WHERE modification_id = 'conflict';
INSERT INTO pfa_sync_conflict (pfa_id, organization_id, modification_id, item_id, local_version, pems_version, local_data, kind)
SELECT pfa_id, organization_id, modification_id, id, 1, 2, payload, 'update_update' FROM pfa_write_queue WHERE modification_id = 'conflict';
UPDATE pfa_write_queue SET status = 'failed', completed_at = now() WHERE modification_id = 'dead';
UPDATE pfa_modification SET sync_status = id WHERE id IN ('conflict');
UPDATE pfa_modification SET sync_status = 'failed', sync_error = 'PEMS said no' WHERE id IN ('dead');
DELETE FROM pems_recheck;
SELECT pems_discard('ready', 'alice'), pems_discard('timed', 'alice', 'org-rio');
SELECT pems_discard('held', discarded_by => 'bob', organization_id => 'org-rio');
SELECT pems_discard('conflict', 'carol'), pems_discard('dead', 'dave');
SELECT * FROM regress.state;
SELECT sync_error FROM pfa_modification WHERE id = 'dead';
SELECT status, resolution, resolved_by, resolved_at IS NOT NULL FROM pfa_sync_conflict;
SELECT event_type, modification_id, actor, item_id IS NOT NULL AS item, job_id IS NOT NULL AS job FROM pems_audit_log WHERE event_type = 'DISCARDED' ORDER BY at;
-- the items behind them are looked at again
SELECT pfa_id FROM pems_recheck ORDER BY pfa_id COLLATE "C";

-- Keys of the result.
SELECT regress.draft('keys', 'PFA-1');
SELECT string_agg(key, ' ' ORDER BY key COLLATE "C") AS keys FROM jsonb_object_keys(pems_discard('keys')) key;

-- In flight: too late, and nothing changes.
SELECT regress.queue('flying', 'PFA-1'), regress.queue('unknown', 'PFA-2'), regress.queue('written', 'PFA-3'), regress.queue('reading', 'PFA-4');
UPDATE pfa_write_queue SET status = 'processing', claim_token = 1 WHERE modification_id IN ('flying', 'reading');
UPDATE pfa_write_queue SET outcome_unknown = true, next_request = 'read', waits_for = 'time' WHERE modification_id = 'unknown';
UPDATE pfa_write_queue SET next_request = 'refresh' WHERE modification_id = 'written';
SELECT pems_discard('flying'), pems_discard('unknown'), pems_discard('written'), pems_discard('reading');
SELECT * FROM regress.state WHERE id IN ('flying', 'unknown', 'written', 'reading');
SELECT count(*) FROM pems_audit_log WHERE event_type = 'DISCARDED' AND modification_id IN ('flying', 'unknown', 'written', 'reading');
-- read before anything was written: it may still be taken back
SELECT regress.queue('looking', 'PFA-5');
UPDATE pfa_write_queue SET next_request = 'read', waits_for = 'time' WHERE modification_id = 'looking';
SELECT pems_discard('looking');

-- Finished: 55000.
UPDATE pfa_write_queue SET status = 'completed', completed_at = now() WHERE modification_id = 'flying';
UPDATE pfa_modification SET sync_status = 'synced' WHERE id = 'flying';
SELECT regress.attempt($$SELECT pems_discard('flying')$$);
SELECT regress.attempt($$SELECT pems_discard('ready')$$);
SELECT regress.attempt($$SELECT pems_discard('draft')$$);
SELECT regress.draft('imported', 'PFA-1');
UPDATE pfa_modification SET sync_status = 'superseded' WHERE id = 'imported';
SELECT regress.attempt($$SELECT pems_discard('imported')$$);

-- Not found: the same words whether it does not exist or is another organization's.
SELECT regress.queue('theirs', 'PFA-9', organization_id => 'org-port');
SELECT regress.attempt($$SELECT pems_discard('nowhere')$$);
SELECT regress.attempt($$SELECT pems_discard('nowhere', NULL, 'org-rio')$$);
SELECT regress.attempt($$SELECT pems_discard('theirs', NULL, 'org-rio')$$);
SELECT regress.attempt($$SELECT pems_discard('theirs', NULL, 'PORTARTHUR')$$);
SELECT regress.attempt($$SELECT pems_discard('theirs', NULL, '')$$);
SELECT regress.attempt($$SELECT pems_discard(NULL)$$);
SELECT regress.attempt($$SELECT pems_discard('')$$);
SELECT * FROM regress.state WHERE id = 'theirs';
SELECT pems_discard('theirs', NULL, 'org-port') -> 'outcome';

-- A discard that is rolled back.
SELECT regress.queue('back', 'PFA-6');
BEGIN;
SELECT pems_discard('back') -> 'outcome';
ROLLBACK;
SELECT * FROM regress.state WHERE id = 'back';

-- A modification that was discarded cannot be committed.
SELECT pems_commit('org-rio', ARRAY['draft']) -> 'rejected';

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
DROP ROLE regress_pems_app;
