-- What the worker does besides sending: _pems_prepare(), _pems_release_next(), _pems_put_back_orphans(), _pems_give_up(), _pems_mark_syncing(), _pems_fold_stats().
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
\set ECHO none
\i test/support/regress_application.sql
\set ECHO all
CREATE FUNCTION regress.clear() RETURNS void LANGUAGE sql AS $$ SELECT regress.empty_queue(); DELETE FROM pfa_modification; DELETE FROM pems_recheck; TRUNCATE pems_audit_log; $$;

-- prepare: items whose time has come are ready; the answer is when the next one's time comes.
SELECT regress.queue('a1', 'PFA-1'), regress.queue('a2', 'PFA-2'), regress.queue('a3', 'PFA-3'), regress.queue('a4', 'PFA-4');
UPDATE pfa_write_queue SET waits_for = 'time', scheduled_at = CASE modification_id WHEN 'a1' THEN now() - interval '1 second' WHEN 'a2' THEN '2040-01-01 00:00+00' ELSE '2041-01-01 00:00+00' END
WHERE modification_id <> 'a4';
SET ROLE pems_sync_worker;
SELECT _pems_prepare();
RESET ROLE;
SELECT modification_id, waits_for FROM regress.items;
SELECT regress.clear();
SELECT _pems_prepare() IS NULL AS nothing_waits;

-- prepare: records in pems_recheck get their turn, and only those; the first of each goes, at its time.
SELECT regress.queue('b1', 'PFA-1'), regress.queue('b2', 'PFA-1'), regress.queue('b3', 'PFA-1'), regress.queue('c1', 'PFA-2'), regress.queue('c2', 'PFA-2'),
       regress.queue('d1', 'PFA-3'), regress.queue('d2', 'PFA-3'), regress.queue('e1', 'PFA-1', organization_id => 'org-rio2'), regress.queue('e2', 'PFA-1', organization_id => 'org-rio2');
SET ROLE pems_sync_worker;
SELECT _pems_prepare() IS NULL AS nothing_waits;
RESET ROLE;
SELECT count(*) FROM pems_recheck;
SELECT modification_id, waits_for FROM regress.items;
UPDATE pfa_write_queue SET status = 'cancelled', completed_at = now() WHERE modification_id IN ('b1', 'd1', 'e1');
UPDATE pfa_write_queue SET status = 'failed', completed_at = now() WHERE modification_id = 'c1';
UPDATE pfa_write_queue SET scheduled_at = '2040-01-01 00:00+00' WHERE modification_id = 'd2';
INSERT INTO pems_recheck (organization_id, pfa_id) VALUES ('org-rio', 'PFA-1'), ('org-rio', 'PFA-1'), ('org-rio', 'PFA-2'), ('org-rio', 'PFA-3'), ('org-rio', 'PFA-99');
SELECT _pems_prepare();
SELECT modification_id, status, waits_for FROM regress.items WHERE modification_id NOT IN ('b1', 'd1', 'e1');
SELECT regress.clear();

-- adopt: what a dead worker left.  A write: nobody knows whether it arrived, so the next request is a read, two seconds after
-- the write; a read or a refresh is repeated.  Each gets its line in the audit log.
SELECT regress.queue('w1', 'PFA-1'), regress.queue('w2', 'PFA-2', operation => 'DELETE'), regress.queue('r1', 'PFA-3'), regress.queue('r2', 'PFA-4'), regress.queue('f1', 'PFA-5'), regress.queue('ready', 'PFA-6');
UPDATE pfa_write_queue SET next_request = 'read' WHERE modification_id IN ('r1', 'r2');
UPDATE pfa_write_queue SET outcome_unknown = true, sent_version = 5 WHERE modification_id = 'r2';
UPDATE pfa_write_queue SET next_request = 'refresh', sent_version = 2 WHERE modification_id = 'f1';
SET ROLE pems_sync_worker;
SELECT count(*) FROM regress.claim(5);
CREATE TEMPORARY TABLE tokens AS SELECT id, claim_token FROM pfa_write_queue;
SELECT _pems_put_back_orphans();
SELECT _pems_put_back_orphans();
RESET ROLE;
SELECT * FROM regress.items;
SELECT q.modification_id, q.claim_token > t.claim_token AS new_token, q.scheduled_at BETWEEN q.last_attempt_at + interval '2 seconds' AND clock_timestamp() + interval '2 seconds' AS two_seconds_later FROM pfa_write_queue q JOIN tokens t USING (id) WHERE q.claim_token IS NOT NULL ORDER BY q.commit_seq;
SELECT event_type, modification_id, actor, attempt, http_method, http_status, error_code, error FROM pems_audit_log WHERE event_type <> 'COMMITTED' ORDER BY modification_id COLLATE "C";
SELECT s -> 'processing', s -> 'totalQueued' FROM pems_sync_status('org-rio') s;
-- the claim is long ago, but nobody knows when its request left: two seconds all the same
UPDATE pfa_write_queue SET status = 'processing', waits_for = NULL, last_attempt_at = now() - interval '1 hour' WHERE modification_id = 'w1';
SELECT _pems_put_back_orphans();
SELECT scheduled_at > clock_timestamp() AS later FROM pfa_write_queue WHERE modification_id = 'w1';
SELECT _pems_prepare() IS NOT NULL AS others_wait;
SELECT regress.claim(1);
SELECT regress.clear();
-- a successor keeps its turn; an earlier item that was sent back for the orphan goes on
SELECT regress.queue('o1', 'PFA-1'), regress.queue('o2', 'PFA-1'), regress.queue('early', 'PFA-2'), regress.queue('late', 'PFA-2');
UPDATE pfa_write_queue SET status = 'processing', claim_token = 0, last_attempt_at = now(), attempt = 1, waits_for = NULL WHERE modification_id IN ('o1', 'late');
UPDATE pfa_write_queue SET waits_for = 'turn' WHERE modification_id = 'early';
DELETE FROM pems_recheck;
SELECT _pems_put_back_orphans();
SELECT _pems_prepare() IS NOT NULL AS orphans_wait;
SELECT modification_id, status, waits_for FROM regress.items;
SELECT regress.clear();

-- adopt: pems_claim names what to take up, and is empty afterwards; of what it names only what is still in processing.
SELECT _pems_fold_stats();
DELETE FROM pems_claim;
SELECT regress.queue('k' || n, 'PFA-' || 7 - n) FROM generate_series(1, 5) n \g /dev/null
SET ROLE pems_sync_worker;
SELECT regress.claim(2);
SELECT regress.claim(2);
SELECT regress.record(regress.applied('k1'));
SELECT regress.record(regress.report('k3', 'pending', '{"http_status": 503, "retry_count": 1, "delay_ms": 3600000}'));
RESET ROLE;
CREATE TEMPORARY TABLE untouched AS SELECT * FROM pfa_write_queue WHERE modification_id IN ('k1', 'k3', 'k5');
SELECT count(*) AS claims FROM pems_claim;
SET ROLE pems_sync_worker;
SELECT _pems_put_back_orphans();
RESET ROLE;
SELECT modification_id, status, waits_for, next_request, error_code FROM regress.items;
SELECT count(*) AS changed FROM (TABLE untouched EXCEPT TABLE pfa_write_queue) d;
SELECT count(*) AS claims FROM pems_claim;
SELECT modification_id FROM pems_audit_log WHERE error_code = 'OUTCOME_UNKNOWN' ORDER BY modification_id COLLATE "C";
SELECT regress.clear();
-- one that is in processing and that no claim names: an administrator's UPDATE; beside one that a claim names
SELECT regress.queue('j1', 'PFA-1'), regress.queue('j2', 'PFA-2'), regress.queue('j3', 'PFA-1', organization_id => 'org-rio2');
SELECT regress.claim(1);
UPDATE pfa_write_queue SET status = 'processing' WHERE modification_id = 'j3';
SELECT count(*) AS named FROM pems_claim c JOIN pfa_write_queue q ON q.id = ANY (c.item_ids) WHERE q.modification_id = 'j3';
SELECT _pems_put_back_orphans();
SELECT modification_id, status, waits_for, next_request FROM regress.items;
SELECT count(*) AS claims FROM pems_claim;
SELECT s -> 'processing', s -> 'totalQueued' FROM pems_sync_status() s;
-- its statistics are found whether they are folded or not
UPDATE pfa_write_queue SET status = 'processing', waits_for = NULL WHERE modification_id = 'j2';
SELECT _pems_fold_stats();
SELECT _pems_put_back_orphans();
-- nothing is in processing any more
SELECT _pems_put_back_orphans();
-- a claim of items that are gone
INSERT INTO pems_claim VALUES (-1, '{nowhere}'), (-2, '{}');
SELECT _pems_put_back_orphans();
SELECT count(*) AS claims FROM pems_claim;
SELECT regress.clear();

-- giving up: the database refuses to record; a dead letter, both stories in the audit log, the mirror untouched; a step of its own shows the modification as failed.
SELECT regress.queue('q1', 'PFA-1'), regress.queue('q2', 'PFA-1'), regress.queue('q3', 'PFA-2');
SELECT count(*) FROM regress.claim();
SET ROLE pems_sync_worker;
SELECT regress.scrub(_pems_give_up(regress.report('q1', 'completed', '{"request": {"changes": {}}, "pems_version": 2}'), 'a trigger says no')::text);
RESET ROLE;
SELECT sync_status FROM pfa_modification WHERE id = 'q1';
SET ROLE pems_sync_worker;
SELECT _pems_mark_failed(ARRAY(SELECT id FROM pfa_write_queue));
RESET ROLE;
SELECT * FROM regress.items;
SELECT last_error, completed_at IS NOT NULL FROM pfa_write_queue WHERE modification_id = 'q1';
SELECT id, sync_status, sync_error FROM pfa_modification ORDER BY id;
SELECT version FROM pfa_mirror WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-1';
SELECT event_type, modification_id, attempt, http_method, http_status, request, error_code, error FROM pems_audit_log WHERE event_type <> 'COMMITTED';
-- with a stale token: nothing; of a read: a write that may have arrived is not forgotten
UPDATE pfa_write_queue SET next_request = 'read', outcome_unknown = true WHERE modification_id = 'q3';
SELECT _pems_give_up(regress.report('q3', 'pending', '{"event_type": "READ_ATTEMPT", "http_method": "GET", "claim_token": 0}'), 'stale');
SELECT status FROM pfa_write_queue WHERE modification_id = 'q3';
SELECT cardinality(_pems_give_up(regress.report('q3', 'pending', '{"event_type": "READ_ATTEMPT", "http_method": "GET"}'), 'not now'));
SELECT * FROM regress.items WHERE modification_id = 'q3';
SELECT count(*) FROM pems_audit_log WHERE event_type = 'READ_ATTEMPT';
SELECT regress.clear();

-- giving up of what was decided without a request, a conflict or nothing to send: no attempt, and no write that may have arrived
SELECT regress.queue('d1', 'PFA-3'), regress.queue('d2', 'PFA-4'), regress.queue('d3', 'PFA-5');
SELECT count(*) FROM regress.claim();
UPDATE pfa_write_queue SET outcome_unknown = true WHERE modification_id = 'd3';
SET ROLE pems_sync_worker;
SELECT cardinality(_pems_give_up(regress.report('d1', 'conflict', '{"event_type": null, "http_method": null, "path": null, "http_status": null, "latency_ms": null, "conflict_kind": "update_update"}'), 'no'));
SELECT cardinality(_pems_give_up(regress.report(d, 'completed', '{"event_type": "SYNCED_WITHOUT_REQUEST", "http_method": null, "path": null, "http_status": null, "latency_ms": null}'), 'no')) FROM unnest(ARRAY['d2', 'd3']) d;
RESET ROLE;
SELECT * FROM regress.items WHERE modification_id LIKE 'd%';
SELECT event_type, modification_id, attempt, http_method, path, http_status, error_code, error FROM pems_audit_log WHERE modification_id LIKE 'd%' AND event_type <> 'COMMITTED' ORDER BY modification_id COLLATE "C";
SELECT regress.clear();

-- mark_syncing: what is in flight and queued; never what is finished, and nothing at all is no error.
SELECT regress.queue('s1', 'PFA-1'), regress.queue('s2', 'PFA-2'), regress.queue('s3', 'PFA-3');
SELECT count(*) FROM regress.claim(2);
UPDATE pfa_modification SET sync_status = 'synced' WHERE id = 's2';
SET ROLE pems_sync_worker;
SELECT _pems_mark_syncing((SELECT array_agg(id) FROM pfa_write_queue));
SELECT _pems_mark_syncing((SELECT array_agg(id) FROM pfa_write_queue));
SELECT _pems_mark_syncing('{}');
RESET ROLE;
SELECT id, sync_status FROM pfa_modification ORDER BY id COLLATE "C";
SELECT regress.record(regress.applied('s1'));
SELECT sync_status FROM pfa_modification WHERE id = 's1';
SELECT regress.clear();

TRUNCATE pems_sync_stats;
-- fold: readers see the same sums before and after, with one row for each organization and hour.
SELECT regress.queue('f' || n, 'PFA-' || (n % 6 + 1)) FROM generate_series(1, 20) n \g /dev/null
SELECT regress.queue('g1', 'PFA-1', organization_id => 'org-rio2');
SELECT count(*) FROM regress.claim();
SELECT regress.record(VARIADIC (SELECT array_agg(regress.applied(modification_id)) FROM pfa_write_queue WHERE status = 'processing')) <> '' AS recorded;
UPDATE pfa_write_queue SET completed_at = created_at + interval '7 seconds' WHERE status = 'completed';
INSERT INTO pems_sync_stats (organization_id, hour, completed, sync_seconds, latency_counts, last_completed_at)
SELECT 'org-rio', h, 1, 2, '{0,0,0,1,0,0,0,0,0,0}', h FROM unnest(ARRAY['2025-01-01 10:00+00', '2025-01-01 10:00+00', '2025-01-01 11:00+00']::timestamptz[]) h;
CREATE VIEW regress.sums AS
    SELECT organization_id, sum(pending) AS pending, sum(held) AS held, sum(processing) AS processing, sum(failed) AS failed, sum(conflict) AS conflict, sum(queued) AS queued, sum(completed) AS completed,
           sum(cancelled) AS cancelled, sum(dead_lettered) AS dead, sum(conflicted) AS conflicted, round(sum(sync_seconds)::numeric, 3) AS seconds, max(last_completed_at) AS last,
           (SELECT array_agg(n ORDER BY i) FROM (SELECT i, sum(n) AS n FROM pems_sync_stats t, unnest(t.latency_counts) WITH ORDINALITY l (n, i) WHERE t.organization_id = s.organization_id GROUP BY i) b) AS latency
    FROM pems_sync_stats s GROUP BY organization_id;
CREATE TEMPORARY TABLE sums AS SELECT * FROM regress.sums;
SELECT count(*) > 20 AS many FROM pems_sync_stats;
SET ROLE pems_sync_worker;
SELECT _pems_fold_stats();
RESET ROLE;
SELECT count(*) = count(DISTINCT (organization_id, hour)) AS one_each FROM pems_sync_stats;
SELECT organization_id, hour, completed, sync_seconds, latency_counts, last_completed_at = hour AS last FROM pems_sync_stats WHERE hour < '2025-02-01' AND hour <> '-infinity' ORDER BY organization_id COLLATE "C", hour;
-- what stands now is in one row for each organization, and in one for all
SELECT organization_id, pending, held, processing, failed, conflict, queued, last_completed_at IS NOT NULL AS last FROM pems_sync_stats WHERE hour = '-infinity' ORDER BY organization_id COLLATE "C";
SELECT count(*) AS changed FROM (TABLE sums EXCEPT TABLE regress.sums) d;
SELECT organization_id, pending, held, processing, completed, seconds, latency FROM regress.sums ORDER BY organization_id COLLATE "C";
-- again: nothing to do
SELECT _pems_fold_stats();
SELECT count(*) AS changed FROM (TABLE sums EXCEPT TABLE regress.sums) d;
-- what comes later is added to it
UPDATE pfa_write_queue SET status = 'failed', waits_for = NULL, completed_at = now() WHERE modification_id = 'g1';
CREATE TEMPORARY TABLE later AS SELECT * FROM regress.sums WHERE organization_id <> '*';
CREATE TEMPORARY TABLE seen AS SELECT pems_sync_status(NULL) - 'oldestQueuedSeconds' - 'nextSyncAt' AS all_of_them, pems_sync_status('org-rio2') - 'oldestQueuedSeconds' - 'nextSyncAt' AS one;
SELECT _pems_fold_stats();
SELECT count(*) AS changed FROM (TABLE later EXCEPT TABLE regress.sums) d;
SELECT all_of_them = pems_sync_status(NULL) - 'oldestQueuedSeconds' - 'nextSyncAt' AS same, one = pems_sync_status('org-rio2') - 'oldestQueuedSeconds' - 'nextSyncAt' AS same FROM seen;
SELECT organization_id, pending, failed, dead FROM regress.sums ORDER BY organization_id COLLATE "C";
-- latencies: up to 0.1, 0.5, 1, 5, 15, 30, 60, 120, 300 seconds, and above
TRUNCATE pems_sync_stats;
SELECT regress.empty_queue() \g /dev/null
TRUNCATE pems_sync_stats;
INSERT INTO pfa_write_queue (modification_id, pfa_id, organization_id, operation, payload, base_version, status, created_at, completed_at)
SELECT 'f1', 'PFA-1', 'org-rio', 'UPDATE', '{}', 1, 'completed', '2025-01-01 00:00+00', '2025-01-01 00:00+00'::timestamptz + make_interval(secs => s)
FROM unnest(ARRAY[0, 0.05, 0.3, 0.7, 3, 10, 20, 45, 90, 200, 301, 5000]) s;
SELECT latency, completed, seconds FROM regress.sums;

-- postponing: the item that a claim of one would take cannot be claimed: it waits for its next retry, and is a dead letter in the end.
DELETE FROM pfa_write_queue;
DELETE FROM pfa_modification;
TRUNCATE pems_audit_log;
SELECT regress.queue('low', 'PFA-1', priority => 'low'), regress.queue('first', 'PFA-2'), regress.queue('second', 'PFA-3'), regress.queue('high', 'PFA-4', priority => 'high');
CREATE FUNCTION regress.postpone(after_at timestamptz[] DEFAULT '{-infinity,-infinity,-infinity}', after_seq bigint[] DEFAULT '{0,0,0}') RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', q.modification_id, p.failed, p.messages[1]::jsonb ->> 'type', p.messages[1]::jsonb ->> 'modificationId', p.messages[1]::jsonb ->> 'errorMessage')
    FROM _pems_postpone_first('org-rio', after_at, after_seq, 'a page is damaged') p LEFT JOIN pfa_write_queue q ON q.id = p.item_id $$;
SET ROLE pems_sync_worker;
SELECT regress.postpone();
-- from a place on, as a claim
SELECT regress.postpone(ARRAY['-infinity', scheduled_at, '-infinity'], ARRAY[0, commit_seq, 0]) FROM pfa_write_queue WHERE modification_id = 'first';
SELECT regress.postpone();
SELECT regress.postpone();
SELECT regress.postpone();
RESET ROLE;
SELECT modification_id, status, waits_for, retry_count, error_code FROM regress.items;
SELECT count(*) FROM pfa_write_queue WHERE scheduled_at BETWEEN clock_timestamp() + interval '3 seconds' AND clock_timestamp() + interval '5.5 seconds';
UPDATE pfa_write_queue SET waits_for = NULL, retry_count = max_retries WHERE modification_id = 'high';
SELECT regress.postpone();
SELECT modification_id, status, waits_for, retry_count, error_code, last_error, completed_at IS NOT NULL AS completed FROM pfa_write_queue WHERE modification_id = 'high';
SELECT event_type, modification_id, actor, attempt, http_method, error_code, error FROM pems_audit_log WHERE event_type <> 'COMMITTED' ORDER BY at, seq;
-- the waits are those of pems_retry_backoff_ms()
SELECT n, _pems_backoff(n) BETWEEN least(5 * 2 ^ n, 3600) * 0.9 * interval '1 second' AND least(5 * 2 ^ n, 3600) * 1.1 * interval '1 second' AS as_ever FROM unnest(ARRAY[0, 1, 2, 5, 30, 100]) n;

-- Bounded steps, however much there is: whoever else has something to be sent must not wait for all of it.
DELETE FROM pfa_write_queue;
DELETE FROM pfa_modification;
DELETE FROM pems_recheck;
TRUNCATE pems_sync_stats;
INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by) VALUES ('many', 'org-rio', 'PFA-1', 1, '{"model": "x"}', 'alice');
CREATE FUNCTION regress.fill(items integer, status text, waits_for text, scheduled_at timestamptz DEFAULT now()) RETURNS void LANGUAGE sql AS $$
    -- what is in flight cannot be deleted, and what is deleted is looked at again
    UPDATE pfa_write_queue SET status = 'cancelled', outcome_unknown = false WHERE status = 'processing' OR outcome_unknown;
    DELETE FROM pfa_write_queue;
    DELETE FROM pems_recheck;
    INSERT INTO pfa_write_queue (modification_id, pfa_id, organization_id, operation, payload, base_version, status, waits_for, scheduled_at)
    SELECT 'many', 'MANY-' || n, 'org-rio', 'UPDATE', '{"model": "x"}', 1, status, waits_for, scheduled_at FROM generate_series(1, items) n $$;
-- settle: 500 a call, and the worker is to look again at once
SELECT regress.fill(1200, 'pending', 'turn');
INSERT INTO pems_recheck SELECT organization_id, pfa_id FROM pfa_write_queue;
CREATE FUNCTION regress.prepare() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    again timestamptz := _pems_prepare();
BEGIN
    RETURN concat_ws(' ', (SELECT count(*) FROM pems_recheck), (SELECT count(*) FROM pfa_write_queue WHERE waits_for IS NULL),
        CASE WHEN again <= clock_timestamp() THEN 'at once' WHEN again IS NULL THEN 'no need' ELSE 'later' END);
END $$;
SELECT regress.prepare();
SELECT regress.prepare();
SELECT regress.prepare();
SELECT regress.prepare();
-- due items
SELECT regress.fill(1200, 'pending', 'time', now() - interval '1 second');
SELECT regress.prepare();
SELECT regress.prepare();
SELECT regress.prepare();
-- the clock was set back: all of them wait for two seconds from now
SELECT regress.fill(1200, 'pending', 'time', now() + interval '2 days');
UPDATE pfa_write_queue SET last_attempt_at = scheduled_at - interval '1 second';
SELECT regress.prepare(), (SELECT count(*) FROM pfa_write_queue WHERE scheduled_at < now() + interval '1 day') AS before;
SELECT regress.prepare(), (SELECT count(*) FROM pfa_write_queue WHERE scheduled_at < now() + interval '1 day') AS before;
SELECT regress.prepare(), (SELECT count(*) FROM pfa_write_queue WHERE scheduled_at < now() + interval '1 day') AS before;
-- adopt: of claims, and of what no claim names
DELETE FROM pems_claim;
SELECT regress.fill(2500, 'processing', NULL);
INSERT INTO pems_claim SELECT -n, ARRAY(SELECT id FROM pfa_write_queue ORDER BY commit_seq OFFSET n * 300 LIMIT 300) FROM generate_series(0, 4) n;
SELECT _pems_put_back_orphans(), (SELECT count(*) FROM pems_claim) AS claims;
SELECT _pems_put_back_orphans(), (SELECT count(*) FROM pems_claim) AS claims;
SELECT _pems_put_back_orphans(), (SELECT count(*) FROM pems_claim) AS claims;
SELECT _pems_put_back_orphans(), (SELECT count(*) FROM pems_claim) AS claims;
SELECT count(*) FROM pems_audit_log WHERE error_code = 'OUTCOME_UNKNOWN' AND organization_id = 'org-rio';
-- fold: 5000 differences a call, the same sums after each, and none of those that are left is forgotten
SELECT regress.fill(0, 'pending', NULL);
TRUNCATE pems_sync_stats;
INSERT INTO pems_sync_stats (organization_id, hour, pending, queued) SELECT 'org-' || n % 3, '2025-01-01 10:00+00', 1, 1 FROM generate_series(1, 4999) n;
INSERT INTO pems_sync_stats (organization_id, hour, pending, queued) SELECT 'org-' || n % 3, '2025-01-01 10:00+00', 1, 1 FROM generate_series(1, 4000) n;
INSERT INTO pems_sync_stats (organization_id, hour, pending, queued) SELECT 'org-' || n % 3, '2025-01-01 11:00+00', 1, 1 FROM generate_series(1, 3001) n;
CREATE FUNCTION regress.fold() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    more boolean := _pems_fold_stats();
BEGIN
    RETURN concat_ws(' ', more, (SELECT count(*) FROM pems_sync_stats WHERE NOT folded),
        (SELECT count(*) FROM pems_sync_stats WHERE NOT folded AND transaction < _pems_folded_until()), (SELECT pending FROM _pems_sums(NULL, 'infinity', 'infinity')));
END $$;
SELECT regress.fold();
SELECT regress.fold();
SELECT regress.fold();
SELECT regress.fold();
SELECT organization_id, hour, pending, queued FROM pems_sync_stats ORDER BY organization_id COLLATE "C", hour;

-- A dump that was loaded has set the sequences back (pg_dump --data-only ends with setval()): what comes later still comes later.
SELECT regress.clear();
SELECT _pems_prepare() IS NULL AS settled;
CREATE FUNCTION regress.set_back() RETURNS void LANGUAGE sql AS $$
    SELECT setval(s, 1, false) FROM unnest('{pems_commit_order,pems_claim_order,pems_audit_order,pems_state_order}'::regclass[]) s
$$;
CREATE FUNCTION regress.behind() RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', CASE WHEN (SELECT max(commit_seq) FROM pfa_write_queue) > (SELECT last_value FROM pems_commit_order) THEN 'commits' END,
        CASE WHEN (SELECT max(claim_token) FROM pems_claim) > (SELECT last_value FROM pems_claim_order) THEN 'claims' END,
        CASE WHEN (SELECT max(state_seq) FROM pems_mirror_version) > (SELECT last_value FROM pems_state_order) THEN 'states' END)
$$;
SELECT regress.queue('s1', 'PFA-1'), regress.queue('s0', 'PFA-1', organization_id => 'org-rio2');
SELECT regress.claim(1), regress.set_back(), regress.behind();
-- an edit: in its organization
SELECT regress.queue('s2', 'PFA-1');
SELECT modification_id FROM pfa_write_queue WHERE pfa_id = 'PFA-1' AND organization_id = 'org-rio' ORDER BY commit_seq;
-- which sets all of them right
SELECT regress.behind() AS behind;
UPDATE pfa_mirror SET data = '{"dor": "PROJECT"}' WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-1';
SELECT data -> 'dor' AS newest FROM pems_mirror_version WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-1' ORDER BY version DESC, state_seq DESC LIMIT 1;
SELECT regress.record(regress.applied('s1', '{"pems_version": 3}'));
-- (the states: by attach, by the first commit, and by pems_resume() of what was loaded)
-- all of them: the worker when it starts, pems_attach(), pems_resume()
SELECT regress.set_back(), regress.behind();
SET client_min_messages = error;
SELECT pems_attach() -> 'success', regress.behind();
SELECT regress.set_back(), pems_resume() -> 'success', regress.behind();
SELECT regress.set_back();
SET ROLE pems_sync_worker;
SELECT _pems_put_back_orphans();
RESET ROLE;
SELECT regress.behind();
SET client_min_messages = warning;
-- never back
SELECT setval('pems_commit_order', 1000000), setval('pems_state_order', 1000000);
SELECT _pems_keep_order(), (SELECT last_value FROM pems_commit_order), (SELECT last_value FROM pems_state_order);

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
