-- pems_write_sync(): waiting items become due now, with a priority; nothing else changes.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
\set ECHO none
\i test/support/regress_application.sql
\set ECHO all
SET client_min_messages = error;

-- One item in every state there is.
SELECT regress.queue('ready', 'PFA-1'), regress.queue('later', 'PFA-2'), regress.queue('unknown', 'PFA-3'), regress.queue('first', 'PFA-4'),
       regress.queue('held', 'PFA-4'), regress.queue('done', 'PFA-5'), regress.queue('dead', 'PFA-6'),
       regress.queue('other', 'PFA-1', organization_id => 'org-rio2');
SELECT regress.queue('flying', 'PFA-5');
UPDATE pfa_write_queue SET status = 'completed', completed_at = now() WHERE modification_id = 'done';
UPDATE pfa_write_queue SET status = 'failed', completed_at = now() WHERE modification_id = 'dead';
UPDATE pfa_write_queue SET status = 'processing', waits_for = NULL, claim_token = 1 WHERE modification_id = 'flying';
UPDATE pfa_write_queue SET waits_for = 'time', scheduled_at = now() + interval '1 hour', retry_count = 2 WHERE modification_id = 'later';
UPDATE pfa_write_queue SET waits_for = 'time', scheduled_at = now() + interval '1 hour', outcome_unknown = true, next_request = 'read',
    last_attempt_at = clock_timestamp() + interval '1 minute' WHERE modification_id = 'unknown';
CREATE VIEW regress.due AS SELECT modification_id, status, waits_for, priority, retry_count, scheduled_at <= clock_timestamp() AS due FROM pfa_write_queue ORDER BY commit_seq;
SELECT * FROM regress.due;

SELECT regress.scrub(pems_write_sync('org-rio', ARRAY['later'], 'high'));
SELECT * FROM regress.due WHERE modification_id = 'later';
-- all that wait: not what is in flight, finished or of another organization; the held one keeps its turn and
-- takes the priority along; the one whose write may still be under way waits out its two seconds
SELECT regress.scrub(pems_write_sync('org-rio', priority => 'high'));
SELECT * FROM regress.due;
SELECT scheduled_at = last_attempt_at + interval '2 seconds' AS two_seconds_after_the_write FROM pfa_write_queue WHERE modification_id = 'unknown';
SELECT pems_write_sync('org-rio', priority => 'low') -> 'queuedCount';
SELECT priority, count(*) FROM pfa_write_queue GROUP BY priority ORDER BY priority;
SELECT pems_write_sync('org-rio') -> 'queuedCount';
SELECT priority, count(*) FROM pfa_write_queue GROUP BY priority ORDER BY priority;

-- Nothing that waits: no job.
SELECT string_agg(key, ' ' ORDER BY key COLLATE "C") AS keys FROM jsonb_object_keys(pems_write_sync('org-port')) key;
SELECT c -> 'success', c -> 'jobId', c -> 'queuedCount' FROM pems_write_sync('org-rio', ARRAY['done', 'dead', 'flying', 'nowhere']) c;
SELECT regress.attempt($$SELECT pems_write_sync('org-rio', '{}')$$);
SELECT regress.attempt($$SELECT pems_write_sync('org-rio', ARRAY[NULL]::text[])$$);
-- another organization's item
SELECT c -> 'queuedCount' FROM pems_write_sync('org-rio', ARRAY['other']) c;
SELECT c -> 'queuedCount' FROM pems_write_sync('org-rio2', ARRAY['other']) c;
SELECT organization_id, kind, queued FROM pems_sync_job WHERE kind = 'write_sync' ORDER BY id;

-- Errors.
SELECT regress.attempt($$SELECT pems_write_sync('RIO')$$);
SELECT regress.attempt($$SELECT pems_write_sync(NULL)$$);
SELECT regress.attempt($$SELECT pems_write_sync('org-rio', NULL, 'now')$$);
SELECT pems_detach() -> 'success';
SELECT regress.attempt($$SELECT pems_write_sync('org-rio')$$);

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
