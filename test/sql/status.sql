-- pems_sync_status(): its keys, one organization or all, the window, the items, and that the numbers follow whatever happens to the queue.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
\set ECHO none
\i test/support/regress_application.sql
\set ECHO all
SET client_min_messages = error;
-- the numbers as one line; what depends on the clock or a worker left out
CREATE FUNCTION regress.numbers(organization_id text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT format('queued %s, held %s, processing %s, completed %s, failed %s, conflicts %s', s -> 'totalQueued', s -> 'held',
                  s -> 'processing', s -> 'completed', s -> 'failed', s -> 'conflicts') FROM pems_sync_status(organization_id) s $$;
-- the same, counted
CREATE FUNCTION regress.counted(organization text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT format('queued %s, held %s, processing %s, completed %s, failed %s, conflicts %s', count(*) FILTER (WHERE status = 'pending'),
                  count(*) FILTER (WHERE waits_for = 'turn'), count(*) FILTER (WHERE status = 'processing'), count(*) FILTER (WHERE status = 'completed'),
                  count(*) FILTER (WHERE status = 'failed'), count(*) FILTER (WHERE status = 'conflict'))
    FROM pfa_write_queue WHERE organization IS NULL OR organization_id = organization $$;

-- An empty queue.
SELECT string_agg(key, ' ' ORDER BY key COLLATE "C") AS keys FROM jsonb_object_keys(pems_sync_status()) key;
SELECT string_agg(key, ' ' ORDER BY key COLLATE "C") AS keys FROM jsonb_object_keys(pems_sync_status('org-rio', 'failed')) key;
SELECT pems_sync_status() - 'health', pems_sync_status() ->> 'health' IN ('healthy', 'degraded', 'unhealthy');
SELECT pems_sync_status('org-rio', 'pending') - 'health';
-- where no worker runs, it says so
SELECT EXISTS (SELECT FROM pems_worker WHERE pid IS NOT NULL) OR pems_sync_status() ->> 'health' = 'unhealthy' AS unhealthy_without_worker;

-- Some items, in two organizations whose codes share a prefix.
SELECT regress.queue('a1', 'PFA-1'), regress.queue('a2', 'PFA-1'), regress.queue('a3', 'PFA-2'), regress.queue('a4', 'PFA-3'), regress.queue('a5', 'PFA-4'),
       regress.queue('b1', 'PFA-1', organization_id => 'org-rio2');
SELECT regress.numbers('org-rio'), regress.numbers('org-rio2'), regress.numbers('org-port');
SELECT regress.numbers();
-- types of the values, and when the next one is due: now
SELECT key, jsonb_typeof(value) FROM jsonb_each(pems_sync_status('org-rio') - 'health') ORDER BY key COLLATE "C";
-- but nothing is due where nothing is sent, without a worker or without a credential; from here on as if there were both
SELECT pems_sync_status() -> 'nextSyncAt', pems_sync_status('org-rio') -> 'nextSyncAt', _pems_why_not_sent(NULL), _pems_why_not_sent('org-rio');
CREATE OR REPLACE FUNCTION _pems_why_not_sent(organization text) RETURNS text LANGUAGE sql AS
$$ SELECT p.cause FROM public.pems_pause p WHERE p.organization_id IN (organization, '*') LIMIT 1 $$;
SELECT abs(extract(epoch FROM (pems_sync_status('org-rio') ->> 'nextSyncAt')::timestamptz - now())) < 60 AS now;
UPDATE pfa_write_queue SET created_at = clock_timestamp() - interval '90 seconds' WHERE modification_id = 'a1';
SELECT (pems_sync_status('org-rio') -> 'oldestQueuedSeconds')::numeric BETWEEN 90 AND 120 AS ninety, (pems_sync_status('org-rio2') -> 'oldestQueuedSeconds')::numeric < 90 AS less,
       (pems_sync_status() -> 'oldestQueuedSeconds')::numeric BETWEEN 90 AND 120 AS all_of_them;

-- The numbers follow what a superuser does by hand, in one statement or many.
UPDATE pfa_write_queue SET status = 'processing' WHERE modification_id IN ('a1', 'b1');
SELECT regress.numbers(), regress.counted();
UPDATE pfa_write_queue SET status = CASE modification_id WHEN 'a1' THEN 'completed' WHEN 'a3' THEN 'failed' WHEN 'a4' THEN 'conflict' ELSE status END,
    waits_for = CASE WHEN modification_id = 'a2' THEN NULL ELSE waits_for END,
    completed_at = CASE WHEN modification_id = 'a1' THEN created_at + interval '4 seconds' END;
SELECT regress.numbers('org-rio'), regress.numbers('org-rio') = regress.counted('org-rio') AS as_counted;
SELECT regress.numbers('org-rio2'), regress.numbers('org-rio2') = regress.counted('org-rio2') AS as_counted;
UPDATE pfa_write_queue SET status = 'pending', waits_for = 'time', scheduled_at = '2030-01-01 00:00+00' WHERE status = 'failed';
SELECT regress.numbers() = regress.counted() AS as_counted;
UPDATE pfa_write_queue SET organization_id = 'org-port' WHERE modification_id = 'a4';
SELECT regress.numbers('org-rio') = regress.counted('org-rio') AS rio, regress.numbers('org-port') = regress.counted('org-port') AS port;
SELECT regress.empty_queue('a4', 'b1') \g /dev/null
SELECT regress.numbers(), regress.numbers() = regress.counted() AS as_counted;
UPDATE pfa_write_queue SET priority = 10;
UPDATE pfa_write_queue SET priority = 0 WHERE false;
SELECT regress.numbers() = regress.counted() AS as_counted;
-- a change that is rolled back
BEGIN;
DELETE FROM pfa_write_queue WHERE status = 'pending';
SELECT regress.numbers() = regress.counted() AS as_counted;
ROLLBACK;
SELECT regress.numbers() = regress.counted() AS as_counted;

-- Averages and times: 4 seconds for a1.
SELECT pems_sync_status('org-rio') -> 'avgSyncTime', (SELECT completed_at FROM pfa_write_queue WHERE modification_id = 'a1') - (pems_sync_status('org-rio') ->> 'lastSyncAt')::timestamptz < interval '1 ms' AS last_sync,
       pems_sync_status('org-rio2') -> 'avgSyncTime', pems_sync_status('org-rio2') -> 'lastSyncAt';
-- only one waits, for a time
UPDATE pfa_write_queue SET status = 'cancelled', waits_for = NULL, completed_at = now() WHERE modification_id IN ('a2', 'a5');
SELECT pems_sync_status('org-rio') ->> 'nextSyncAt';
-- purged: what was completed stays counted
DELETE FROM pfa_write_queue WHERE status = 'completed';
SELECT pems_sync_status('org-rio') -> 'completed', pems_sync_status('org-rio') -> 'avgSyncTime';

-- The window is for completed and avgSyncTime only; default the last 24 hours.
TRUNCATE pems_sync_stats;
INSERT INTO pems_sync_stats (organization_id, hour, completed, sync_seconds, failed) VALUES
    ('org-rio', date_trunc('hour', now()), 2, 4, 1), ('org-rio', date_trunc('hour', now() - interval '23 hours'), 2, 8, 0),
    ('org-rio', date_trunc('hour', now() - interval '30 hours'), 4, 40, 0), ('org-port', date_trunc('hour', now() - interval '1 hour'), 1, 0.0005, 0);
SELECT s -> 'completed', s -> 'avgSyncTime', s -> 'failed' FROM pems_sync_status('org-rio') s;
SELECT s -> 'completed', s -> 'avgSyncTime', s -> 'failed' FROM pems_sync_status('org-rio', NULL, now() - interval '40 hours') s;
SELECT s -> 'completed', s -> 'avgSyncTime', s -> 'failed' FROM pems_sync_status('org-rio', start_date => now() - interval '40 hours', end_date => now() - interval '26 hours') s;
SELECT s -> 'completed', s -> 'avgSyncTime', s -> 'failed' FROM pems_sync_status('org-rio', end_date => now() - interval '10 hours') s;
SELECT s -> 'completed', s -> 'avgSyncTime', s -> 'failed' FROM pems_sync_status('org-rio', start_date => now() - interval '400 hours', end_date => now() - interval '300 hours') s;
SELECT s -> 'completed', s -> 'failed' FROM pems_sync_status(start_date => now() - interval '40 hours') s;

-- Paused: one organization, all, and because PEMS refused the credential.
SELECT pems_pause('org-rio', 'maintenance', 'carol');
SELECT pems_sync_status('org-rio') -> 'paused', pems_sync_status('org-rio2') -> 'paused', pems_sync_status() -> 'paused';
-- nothing is due while it is paused
UPDATE pfa_write_queue SET status = 'pending', waits_for = NULL WHERE modification_id = 'a5';
SELECT pems_sync_status('org-rio') -> 'nextSyncAt', pems_write_sync('org-rio') -> 'estimatedCompletionTime';
SELECT pems_resume('org-rio', 'carol');
SELECT jsonb_typeof(pems_sync_status('org-rio') -> 'nextSyncAt'), jsonb_typeof(pems_write_sync('org-rio') -> 'estimatedCompletionTime');
SELECT pems_pause();
SELECT pems_sync_status('org-rio') -> 'paused', pems_sync_status('org-rio2') -> 'paused', pems_sync_status() -> 'paused';
SELECT pems_resume('org-rio');
SELECT pems_resume();
SELECT pems_sync_status('org-rio') -> 'paused', pems_sync_status('org-rio2') -> 'paused', pems_sync_status() -> 'paused';
INSERT INTO pems_pause (organization_id, cause, paused_by) VALUES ('org-rio', 'credential', 'pems_sync');
SELECT pems_pause('org-rio', 'and by hand');
SELECT pems_sync_status('org-rio') -> 'paused', pems_resume('org-rio'), pems_sync_status('org-rio') -> 'paused';
SELECT event_type, organization_id, actor = current_user AS by_me, CASE WHEN actor <> current_user THEN actor END AS other, error FROM pems_audit_log WHERE event_type IN ('PAUSED', 'RESUMED') ORDER BY at;
SELECT regress.attempt($$SELECT pems_pause('RIO')$$);
SELECT regress.attempt($$SELECT pems_resume('RIO')$$);
-- a restored copy is paused
UPDATE pems_control SET cluster = '1:1';
SELECT pems_sync_status('org-rio') -> 'paused', _pems_standing();
-- pems_attach() may run in it, and says that it stays one; only pems_resume() of all makes a sender of it
SELECT pems_attach();
SELECT regress.attempt($$SELECT pems_resume('org-rio')$$);
SELECT pems_pause('org-rio'), _pems_standing();
SELECT pems_resume();
SELECT pems_sync_status() -> 'paused', _pems_standing();

-- Items: the newest 100 of a status.
SELECT regress.empty_queue() \g /dev/null
DELETE FROM pfa_modification;
INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by)
SELECT 'i' || to_char(n, 'FM000'), 'org-rio', 'PFA-' || (n % 6 + 1), 1, '{"model": "x"}', 'alice' FROM generate_series(1, 120) n;
SELECT regress.commit(NULL);
SELECT regress.queue('other', 'PFA-1', organization_id => 'org-rio2');
SELECT jsonb_array_length(s -> 'items'), s #>> '{items,0,modificationId}', s #>> '{items,99,modificationId}' FROM pems_sync_status('org-rio', 'pending') s;
SELECT jsonb_array_length(s -> 'items'), s #>> '{items,0,modificationId}' FROM pems_sync_status(NULL, 'pending') s;
SELECT jsonb_array_length(s -> 'items') FROM pems_sync_status('org-rio2', 'pending') s;
SELECT s -> 'items' FROM pems_sync_status('org-rio', 'completed') s;
UPDATE pfa_write_queue SET status = 'failed', waits_for = NULL, last_error = '<script>alert("x")</script>', error_code = 'INVALID_REQUEST', completed_at = now() WHERE modification_id = 'i007';
SELECT regress.scrub(s -> 'items') FROM pems_sync_status('org-rio', 'failed') s;
SELECT pems_sync_status('org-rio', wanted) ? 'items' FROM unnest(ARRAY['pending', 'processing', 'completed', 'failed', 'conflict', 'cancelled']) wanted;

-- Errors.
SELECT regress.attempt($$SELECT pems_sync_status('RIO')$$);
SELECT regress.attempt($$SELECT pems_sync_status('')$$);
SELECT regress.attempt($$SELECT pems_sync_status('org-rio', 'queued')$$);
SELECT regress.attempt($$SELECT pems_sync_status(status => 'Pending')$$);
SELECT regress.attempt($$SELECT pems_sync_status(start_date => '2025-02-01', end_date => '2025-01-01')$$);
-- the first and the last times that there are
SELECT s, pems_sync_status(end_date => s) -> 'completed' AS until, pems_sync_status(start_date => s) -> 'completed' AS since
FROM unnest(ARRAY['-infinity', '4714-11-24 00:00:00+00 BC', '4714-11-25 00:00:00+00 BC', '4713-01-01 00:00:00+00 BC', '294276-12-31 23:59:59+00', 'infinity']::timestamptz[]) s;

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
