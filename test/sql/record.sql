-- _pems_record(), as the worker calls it: each new status with everything that goes with it, in one transaction.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
\set ECHO none
\i test/support/regress_application.sql
\set ECHO all
CREATE VIEW regress.mirror AS SELECT pfa_id, version, data, deleted_at IS NOT NULL AS deleted, last_synced_at IS NOT NULL AS synced FROM pfa_mirror WHERE organization_id = 'org-rio' ORDER BY pfa_id COLLATE "C";
CREATE VIEW regress.history AS SELECT version, data -> 'monthlyRate' AS rate, data -> 'model' AS model, source, modification_id, CASE WHEN source <> 'external' THEN changed_by END AS changed_by, change_reason, pfa_id FROM pems_mirror_version WHERE organization_id = 'org-rio' ORDER BY version;
CREATE VIEW regress.modification AS SELECT id, sync_status, synced_at IS NOT NULL AS synced, sync_error, pems_version FROM pfa_modification ORDER BY id COLLATE "C";
CREATE VIEW regress.audit AS SELECT event_type, modification_id, actor, attempt, http_method, path, http_status, latency_ms, request, response, error_code, error, conflict_id IS NOT NULL AS conflict, job_id IS NOT NULL AS job
    FROM pems_audit_log WHERE event_type <> 'COMMITTED' ORDER BY at, event_type COLLATE "C";
CREATE VIEW regress.result AS SELECT modification_id, status, waits_for, next_request, outcome_unknown AS unknown, retry_count AS retries, rounds, sent_version AS sent, error_code, last_error, completed_at IS NOT NULL AS completed, attempt
    FROM pfa_write_queue ORDER BY commit_seq;
CREATE FUNCTION regress.clear() RETURNS void LANGUAGE sql AS $$ SELECT regress.empty_queue(); DELETE FROM pfa_modification; TRUNCATE pems_audit_log; $$;
GRANT SELECT ON ALL TABLES IN SCHEMA regress TO pems_sync_worker;

-- Applied: mirror = mirror plus delta at the new version, attributed history, modification synced, one line in the audit log, the successor goes on.
SELECT regress.queue('m1', 'PFA-1', '{"monthlyRate": 6000}', 'alice', change_reason => 'Budget'), regress.queue('m2', 'PFA-1', '{"model": "LR"}', 'bob');
SET ROLE pems_sync_worker;
SELECT regress.claim();
SELECT regress.record(regress.applied('m1', '{"request": {"changes": {"monthlyRate": 6000}}, "response": {"success": true, "newVersion": 2}}'));
SELECT * FROM regress.result;
RESET ROLE;
SELECT * FROM regress.mirror WHERE pfa_id = 'PFA-1';
SELECT * FROM regress.history WHERE pfa_id = 'PFA-1';
SELECT * FROM regress.modification;
SELECT * FROM regress.audit;
SELECT s -> 'totalQueued', s -> 'held', s -> 'processing', s -> 'completed' FROM pems_sync_status('org-rio') s;
-- the successor: claimed with the new version
SET ROLE pems_sync_worker;
SELECT regress.claim();
SELECT sent FROM regress.result WHERE modification_id = 'm2';
SELECT regress.record(regress.applied('m2'));
RESET ROLE;
SELECT version, data -> 'monthlyRate', data -> 'model' FROM regress.mirror WHERE pfa_id = 'PFA-1';
SELECT * FROM regress.history WHERE pfa_id = 'PFA-1';
SELECT regress.clear();

-- A nested delta is merged field by field; null empties a field; arrays are replaced whole.
INSERT INTO pems_field (name, label, type) VALUES ('extra', 'Extra', 'json');
UPDATE pfa_mirror SET data = '{"dor": "BEO", "model": "old", "extra": {"a": 1, "b": {"c": 2, "d": [1, 2]}}}' WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-2';
SELECT regress.queue('n1', 'PFA-2', '{"model": null, "extra": {"b": {"d": [3]}, "e": 5}}');
SELECT regress.claim();
SELECT regress.record(regress.applied('n1'));
SELECT version, data FROM regress.mirror WHERE pfa_id = 'PFA-2';
SELECT regress.clear();

-- A retry later: nothing but the item changes; it waits for its time, and so does its successor.
SELECT regress.queue('t1', 'PFA-3', '{"model": "t1"}'), regress.queue('t2', 'PFA-3', '{"model": "t2"}');
SELECT regress.claim();
SET ROLE pems_sync_worker;
SELECT regress.record(regress.report('t1', 'pending', '{"delay_ms": 5000, "retry_count": 1, "http_status": 503, "error_code": "UNAVAILABLE", "error": "PEMS is down."}'));
RESET ROLE;
SELECT * FROM regress.result;
SELECT scheduled_at - clock_timestamp() BETWEEN interval '3 seconds' AND interval '5 seconds' AS in_five_seconds FROM pfa_write_queue WHERE modification_id = 't1';
SELECT * FROM regress.modification;
SELECT * FROM regress.audit;
SELECT version FROM regress.mirror WHERE pfa_id = 'PFA-3';
SELECT count(*) FROM regress.claim();
-- its time comes; now the answer is lost: the next step is a read
UPDATE pfa_write_queue SET scheduled_at = now() WHERE modification_id = 't1';
SELECT _pems_prepare() IS NULL AS nothing_waits;
SELECT regress.claim();
SELECT regress.record(regress.report('t1', 'pending', '{"delay_ms": 10000, "retry_count": 2, "http_status": null, "outcome_unknown": true, "next_request": "read", "error_code": "TIMEOUT", "error": "No answer."}'));
SELECT * FROM regress.result WHERE modification_id = 't1';
-- the read says: not applied; at once again
UPDATE pfa_write_queue SET waits_for = NULL, scheduled_at = now() WHERE modification_id = 't1';
SELECT regress.claim();
SELECT regress.record(regress.report('t1', 'pending', '{"event_type": "READ_ATTEMPT", "http_method": "GET", "next_request": "write", "outcome_unknown": true, "retry_count": 2}'));
SELECT * FROM regress.result WHERE modification_id = 't1';
SELECT sync_status, sync_error FROM regress.modification WHERE id = 't1';
-- a version conflict: rounds count, no retry is lost
SELECT regress.claim();
SELECT regress.record(regress.report('t1', 'pending', '{"http_status": 409, "next_request": "read", "rounds": 1, "error_code": "VERSION_CONFLICT", "error": "Somebody wrote."}'));
SELECT * FROM regress.result WHERE modification_id = 't1';
-- dead: the successor stays held
SELECT regress.claim();
SELECT regress.record(regress.report('t1', 'failed', '{"event_type": "READ_ATTEMPT", "http_method": "GET", "http_status": 403, "error_code": "FORBIDDEN", "error": "PEMS refuses the record."}'));
SELECT * FROM regress.result;
SELECT * FROM regress.modification;
SELECT event_type, attempt, http_status, error_code FROM regress.audit;
SELECT _pems_prepare() IS NULL AS nothing_waits;
SELECT count(*) FROM regress.claim();
SELECT s -> 'failed', s -> 'held', s -> 'totalQueued' FROM pems_sync_status('org-rio') s;
-- discarded: the successor goes on
SELECT pems_discard('t1') -> 'outcome';
SELECT _pems_prepare() IS NULL AS nothing_waits;
SELECT regress.claim();
SELECT regress.clear();

-- A conflict after a read: the mirror becomes what PEMS has, the row holds all three sides as they were, the successor is held.
SELECT regress.queue('c1', 'PFA-4', '{"monthlyRate": 7000, "model": "mine"}'), regress.queue('c2', 'PFA-4', '{"dor": "PROJECT"}');
UPDATE pfa_write_queue SET next_request = 'read' WHERE modification_id = 'c1';
SELECT regress.claim();
SET ROLE pems_sync_worker;
SELECT regress.record(regress.report('c1', 'pending', jsonb_build_object('event_type', 'READ_ATTEMPT', 'http_method', 'GET', 'next_request', 'write', 'pems_version', 4,
    'mirror_data', (SELECT data FROM pfa_mirror WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-4') || '{"monthlyRate": 6500, "category": "Trucks"}')));
RESET ROLE;
SELECT version, data -> 'monthlyRate', data -> 'category' FROM regress.mirror WHERE pfa_id = 'PFA-4';
SELECT * FROM regress.history WHERE pfa_id = 'PFA-4';
SELECT regress.claim();
SET ROLE pems_sync_worker;
SELECT regress.record(regress.report('c1', 'conflict', '{"event_type": null, "http_method": null, "path": null, "http_status": null, "latency_ms": null, "conflict_kind": "update_update",
    "conflict_fields": ["monthlyRate"], "error_code": "CONFLICT", "error": "PEMS has other values."}'));
RESET ROLE;
SELECT * FROM regress.result;
SELECT pfa_id, organization_id, modification_id, local_version, pems_version, base_data -> 'monthlyRate' AS base, local_data, pems_data -> 'monthlyRate' AS pems, conflict_fields, kind, status,
       resolution, merged_data, resolved_by, resolved_at, previous_conflict_id, item_id = (SELECT id FROM pfa_write_queue WHERE modification_id = 'c1') AS of_the_item FROM pfa_sync_conflict;
SELECT * FROM regress.modification;
SELECT * FROM regress.audit;
SELECT count(*) FROM regress.claim();
SELECT s -> 'conflicts', s -> 'held' FROM pems_sync_status('org-rio') s;
SELECT regress.clear();

-- Gone in PEMS: conflict deleted_in_pems, the mirror is marked, its data and version stay.
SELECT regress.queue('g1', 'PFA-4', '{"model": "g1"}', base_version => 4);
UPDATE pfa_write_queue SET next_request = 'read';
SELECT regress.claim();
SELECT regress.record(regress.report('g1', 'conflict', '{"event_type": "READ_ATTEMPT", "http_method": "GET", "http_status": 404, "pems_version": 4, "mirror_deleted": true, "conflict_kind": "deleted_in_pems", "error_code": "NOT_FOUND", "error": "The record was deleted in PEMS."}'));
SELECT version, deleted, data -> 'monthlyRate' FROM regress.mirror WHERE pfa_id = 'PFA-4';
SELECT kind, pems_version, pems_data, conflict_fields, local_version FROM pfa_sync_conflict;
SELECT event_type, http_status, error_code, conflict FROM regress.audit;
SELECT regress.clear();

-- A DELETE that PEMS applied.
SELECT regress.queue('d1', 'PFA-5', operation => 'DELETE', change_reason => 'Sold');
SELECT regress.claim();
SELECT regress.record(regress.report('d1', 'completed', '{"http_method": "DELETE", "pems_version": 2, "mirror_deleted": true}'));
SELECT version, deleted FROM regress.mirror WHERE pfa_id = 'PFA-5';
SELECT * FROM regress.history WHERE pfa_id = 'PFA-5';
SELECT * FROM regress.modification;
SELECT regress.clear();

-- Written, then read again: the history says whose it is although the read brought it; fields that PEMS rounded are PEMS's.
SELECT regress.queue('w1', 'PFA-6', '{"monthlyRate": 10.005}', 'carol', change_reason => 'Rounding');
SELECT regress.claim();
SELECT regress.record(regress.report('w1', 'pending', '{"next_request": "refresh", "pems_version": 9}'));
SELECT * FROM regress.result;
SELECT version FROM regress.mirror WHERE pfa_id = 'PFA-6';
SELECT regress.claim();
SELECT regress.record(regress.report('w1', 'completed', '{"event_type": "READ_ATTEMPT", "http_method": "GET", "next_request": "refresh", "pems_version": 9, "mirror_data": {"monthlyRate": 10.01, "model": "theirs"}}'));
SELECT version, data FROM regress.mirror WHERE pfa_id = 'PFA-6';
SELECT * FROM regress.history WHERE pfa_id = 'PFA-6';
SELECT * FROM regress.modification;
SELECT regress.clear();

-- Nothing to send: synced without a request, and the log says so.
SELECT regress.queue('z1', 'PFA-6', '{"model": "theirs"}', base_version => 9);
SELECT regress.claim();
SELECT regress.record(regress.report('z1', 'completed', '{"event_type": "SYNCED_WITHOUT_REQUEST", "http_method": null, "path": null, "http_status": null, "latency_ms": null, "pems_version": 9}'));
SELECT * FROM regress.modification;
SELECT * FROM regress.audit;
SELECT count(*) FROM regress.history WHERE pfa_id = 'PFA-6';
SELECT regress.clear();

-- The answer to a write was lost, and what it wanted is there: in the very next version it counts as the edit's doing, two versions on as anybody's.
UPDATE pems_mirror_version SET modification_id = NULL WHERE pfa_id = 'PFA-6';
SELECT regress.queue('u1', 'PFA-6', '{"model": "theirs"}', base_version => 9);
SELECT regress.claim();
UPDATE pfa_write_queue SET outcome_unknown = true, sent_version = 7;
SELECT regress.record(regress.report('u1', 'completed', '{"event_type": "SYNCED_WITHOUT_REQUEST", "http_method": null, "pems_version": 9}'));
SELECT modification_id FROM pems_mirror_version WHERE pfa_id = 'PFA-6' AND version = 9;
SELECT regress.queue('u2', 'PFA-6', '{"model": "theirs"}', base_version => 9);
SELECT regress.claim();
UPDATE pfa_write_queue SET outcome_unknown = true, sent_version = 8 WHERE modification_id = 'u2';
SELECT regress.record(regress.report('u2', 'completed', '{"event_type": "SYNCED_WITHOUT_REQUEST", "http_method": null, "pems_version": 9}'));
SELECT modification_id FROM pems_mirror_version WHERE pfa_id = 'PFA-6' AND version = 9;
SELECT regress.clear();

-- Somebody (a pull) wrote a newer mirror meanwhile: a patch of ours is not put on top of it, and the mirror never goes back.
SELECT regress.queue('p1', 'PFA-1', '{"monthlyRate": 1}');
SELECT regress.claim();
CREATE TEMPORARY TABLE seen AS SELECT regress.applied('p1') AS report;
UPDATE pfa_mirror SET version = 10, data = '{"monthlyRate": 2}' WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-1';
SELECT regress.record(report) FROM seen;
SELECT version, data FROM regress.mirror WHERE pfa_id = 'PFA-1';
SELECT sync_status, pems_version FROM regress.modification;
DROP TABLE seen;
SELECT regress.clear();
SELECT regress.queue('p2', 'PFA-1', '{"monthlyRate": 1}', base_version => 10);
UPDATE pfa_write_queue SET next_request = 'read';
SELECT regress.claim();
CREATE TEMPORARY TABLE seen AS SELECT regress.report('p2', 'pending', '{"event_type": "READ_ATTEMPT", "next_request": "write", "pems_version": 11, "mirror_data": {"monthlyRate": 11}}') AS older,
    regress.report('p2', 'pending', '{"event_type": "READ_ATTEMPT", "next_request": "write", "pems_version": 13, "mirror_data": {"monthlyRate": 13}}') AS newer;
UPDATE pfa_mirror SET version = 12, data = '{"monthlyRate": 12}' WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-1';
BEGIN;
SELECT regress.record(older) FROM seen;
SELECT version, data FROM regress.mirror WHERE pfa_id = 'PFA-1';
ROLLBACK;
SELECT regress.record(newer) FROM seen;
SELECT version, data FROM regress.mirror WHERE pfa_id = 'PFA-1';
DROP TABLE seen;
SELECT regress.clear();
-- but a record that PEMS itself restored to a lower version is believed
SELECT regress.queue('p3', 'PFA-1', '{"monthlyRate": 1}', base_version => 13);
UPDATE pfa_write_queue SET next_request = 'read';
SELECT regress.claim();
SELECT regress.record(regress.report('p3', 'pending', '{"event_type": "READ_ATTEMPT", "next_request": "write", "pems_version": 3, "mirror_data": {"monthlyRate": 3}}'));
SELECT version, data FROM regress.mirror WHERE pfa_id = 'PFA-1';
SELECT regress.clear();

-- The application deleted the mirror: what PEMS has comes back.  Deleted while in flight: a patch has nothing to be put on, and the edit is synced all the same.
SELECT regress.queue('x1', 'PFA-1', '{"monthlyRate": 1}', base_version => 3), regress.queue('x2', 'PFA-2', '{"model": "x2"}', base_version => 2);
DELETE FROM pfa_mirror WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-1';
UPDATE pfa_write_queue SET next_request = 'read' WHERE modification_id = 'x1';
SELECT count(*) FROM regress.claim();
CREATE TEMPORARY TABLE seen AS SELECT regress.report('x1', 'pending', '{"event_type": "READ_ATTEMPT", "next_request": "write", "pems_version": 5, "mirror_data": {"monthlyRate": 5}}') AS report
    UNION ALL SELECT regress.applied('x2');
DELETE FROM pfa_mirror WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-2';
SELECT regress.record(VARIADIC array_agg(report)) FROM seen;
SELECT * FROM regress.mirror WHERE pfa_id IN ('PFA-1', 'PFA-2');
SELECT * FROM regress.history WHERE pfa_id = 'PFA-1' AND version = 5;
SELECT modification_id, status FROM regress.result;
SELECT id, sync_status FROM regress.modification;
DROP TABLE seen;
INSERT INTO pfa_mirror (organization_id, pfa_id, version, data) VALUES ('org-rio', 'PFA-2', 2, '{"dor": "BEO"}');
SELECT regress.clear();

-- Fencing: a report with a stale token, of an item that is no longer in flight or not there, changes nothing at all.
SELECT regress.queue('f1', 'PFA-2', '{"dor": "PROJECT"}');
SELECT regress.claim();
CREATE TEMPORARY TABLE stale AS SELECT regress.applied('f1') AS report;
SELECT _pems_put_back_orphans();
UPDATE pfa_write_queue SET waits_for = NULL, scheduled_at = now();
SELECT regress.claim();
CREATE TEMPORARY TABLE before AS SELECT (SELECT count(*) FROM pems_audit_log) AS lines, (SELECT count(*) FROM pems_mirror_version) AS versions;
SELECT regress.record(report) AS no_longer_ours FROM stale;
SELECT * FROM regress.result;
SELECT sync_status FROM regress.modification;
SELECT version FROM regress.mirror WHERE pfa_id = 'PFA-2';
SELECT (SELECT count(*) FROM pems_audit_log) - lines AS lines, (SELECT count(*) FROM pems_mirror_version) - versions AS versions FROM before;
-- the right token, twice: recorded once
CREATE TEMPORARY TABLE right_one AS SELECT regress.report('f1', 'completed', '{"event_type": "READ_ATTEMPT", "pems_version": 3, "mirror_data": {"dor": "PROJECT"}}') AS report;
SELECT regress.record(report) FROM right_one;
SELECT regress.record(report) FROM right_one;
SELECT (SELECT count(*) FROM pems_audit_log) - lines AS lines, (SELECT count(*) FROM pems_mirror_version) - versions AS versions FROM before;
-- an item that is gone; a batch in which one is stale and one is ours
SELECT regress.empty_queue() \g /dev/null
SELECT regress.record(report) FROM stale;
SELECT regress.queue('f2', 'PFA-3', '{"model": "f2"}');
SELECT regress.claim();
SELECT regress.record(s.report, regress.applied('f2')) FROM stale s;
SELECT status FROM regress.result;
DROP TABLE stale, right_one, before;
SELECT regress.clear();

-- A refused credential pauses the organization once, keeps the items and their retries, and warns once.
SELECT regress.queue('k1', 'PFA-1', '{"model": "k1"}'), regress.queue('k2', 'PFA-2', '{"model": "k2"}'), regress.queue('k3', 'PFA-3', '{"model": "k3"}');
SELECT regress.claim(2);
SELECT regress.record(regress.report('k1', 'pending', '{"pause": true, "http_status": 401, "error_code": "UNAUTHORIZED", "error": "PEMS refuses the token."}'),
                      regress.report('k2', 'pending', '{"pause": true, "http_status": 401, "error_code": "UNAUTHORIZED", "error": "PEMS refuses the token."}'));
SELECT organization_id, cause, reason, paused_by FROM pems_pause;
SELECT modification_id, status, waits_for, retries, error_code FROM regress.result;
SELECT event_type, count(*) FROM pems_audit_log WHERE event_type IN ('PAUSED', 'WRITE_ATTEMPT') GROUP BY event_type ORDER BY event_type COLLATE "C";
SELECT count(*) FROM regress.claim();
SELECT pems_resume('org-rio') -> 'paused';
SELECT count(*) FROM regress.claim();
SELECT regress.clear();

-- A batch of several organizations and new statuses; one line per attempt.
SELECT regress.queue('b' || n, 'PFA-' || n, '{"model": "b"}') FROM generate_series(1, 4) n;
SELECT regress.queue('b5', 'PFA-1', '{"model": "b"}', organization_id => 'org-rio2');
SELECT count(*) FROM (SELECT regress.claim() UNION ALL SELECT regress.claim(10, 'org-rio2')) c;
SELECT regress.record(regress.applied('b1'), regress.report('b2', 'failed', '{"http_status": 422}'), regress.report('b3', 'pending', '{"delay_ms": 1000, "retry_count": 1}'),
                      regress.report('b4', 'conflict', '{"conflict_kind": "update_update", "conflict_fields": ["model"]}'), regress.applied('b5'));
SELECT modification_id, status, waits_for FROM regress.result;
SELECT id, sync_status FROM regress.modification;
SELECT event_type, count(*) FROM regress.audit GROUP BY event_type ORDER BY event_type COLLATE "C";
SELECT organization_id, pfa_id, version FROM pfa_mirror WHERE last_synced_at > now() - interval '1 minute' AND data ->> 'model' = 'b' ORDER BY organization_id COLLATE "C", pfa_id COLLATE "C";
SELECT regress.clear();

-- Two sessions committed at the same time, and the later edit was sent first: the earlier one was sent back for it.  Whatever
-- becomes of the later one, the earlier one, which is the first of the record, goes on then.
CREATE FUNCTION regress.raced(new_status text, changes jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    claimed text;
BEGIN
    PERFORM regress.clear();
    PERFORM regress.queue('early', 'PFA-5', '{"model": "early"}'), regress.queue('late', 'PFA-5', '{"model": "late"}');
    -- neither saw the other, so both look ready, and nobody left a mark
    UPDATE pfa_write_queue SET waits_for = NULL;
    DELETE FROM pems_recheck;
    UPDATE pfa_write_queue SET status = 'processing', claim_token = 0, sent_version = 2, attempt = 1 WHERE modification_id = 'late';
    IF EXISTS (SELECT FROM regress.claim()) THEN
        RETURN 'two in flight at once';
    END IF;
    PERFORM regress.record(regress.report('late', new_status, changes));
    PERFORM _pems_prepare();
    SELECT string_agg(c, ' ') INTO claimed FROM regress.claim() c;
    RETURN coalesce(claimed, 'nothing') || ' claimed';
END
$$;
SELECT regress.raced('completed', '{}');
SELECT regress.raced('failed', '{"http_status": 422}');
SELECT regress.raced('conflict', '{"conflict_kind": "update_update"}');
SELECT regress.raced('pending', '{"delay_ms": 60000, "retry_count": 1}');
SELECT regress.raced('pending', '{}');
-- and in the end both arrive
CREATE FUNCTION regress.both() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    claimed text;
    order_of_arrival text := '';
BEGIN
    PERFORM regress.raced('pending', '{"delay_ms": 60000, "retry_count": 1}');
    FOR turn IN 1 .. 6 LOOP
        FOR claimed IN SELECT modification_id FROM pfa_write_queue WHERE status = 'processing' LOOP
            PERFORM regress.record(regress.report(claimed, 'completed'));
            order_of_arrival := order_of_arrival || ' ' || claimed;
        END LOOP;
        UPDATE pfa_write_queue SET scheduled_at = clock_timestamp() - interval '1 second' WHERE waits_for = 'time';
        PERFORM _pems_prepare();
        PERFORM regress.claim();
    END LOOP;
    RETURN coalesce(nullif(order_of_arrival, ''), 'nothing arrived');
END
$$;
SELECT regress.both();


-- Notifications: what is to be said is returned, not sent; whatever ids and sentences are, it is JSON of less than 8000 bytes.
SELECT regress.queue('s1', 'PFA-1', '{"model": "s1"}'), regress.queue('s2', 'PFA-2', '{"model": "s2"}');
SELECT count(*) FROM regress.claim();
SET ROLE pems_sync_worker;
SELECT regress.scrub(r.messages[1]), regress.scrub(r.messages[2]), cardinality(r.messages) FROM _pems_record(ARRAY[
    regress.report('s1', 'failed', jsonb_build_object('job_id', 'j', 'error_code', 'INVALID_REQUEST', 'error', 'No.')),
    regress.report('s2', 'failed', jsonb_build_object('job_id', repeat('j', 8000), 'error_code', 'INVALID_REQUEST', 'error', repeat('"', 2000)))], false) r;
RESET ROLE;
CREATE FUNCTION regress.payload(message jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT (octet_length(p) < 8000) || ' ' || (SELECT string_agg(m.key || ' ' || coalesce(length(m.value)::text, 'null'), ', ' ORDER BY m.key COLLATE "C") FROM jsonb_each_text(p::jsonb) m) FROM _pems_payload(message) p $$;
SELECT regress.payload('{"type": "SYNC_FAILED", "pfaId": "PFA-1", "jobId": null, "errorMessage": null}');
SELECT regress.payload(jsonb_build_object('type', 'SYNC_FAILED', 'at', 'now', 'organizationId', repeat('o', o), 'pfaId', repeat('p', p), 'modificationId', repeat(m, 4000), 'conflictId', NULL, 'errorMessage', e))
FROM (VALUES (7, 5, 'm', 'No.'), (4000, 5, 'm', 'No.'), (4000, 4000, 'm', 'No.'), (8000, 8000, 'm', 'No.'), (7, 5, 'ö', repeat('ß', 1000)), (7, 5, '"', repeat(E'\u0001', 1000)), (7, 5, E'\u0001', NULL)) v (o, p, m, e);
SELECT regress.payload(jsonb_build_object('type', 'SYNC_FAILED', 'pfaId', 'PFA-1', 'errorMessage', repeat(c, 1000))) FROM unnest(ARRAY['a', 'ß', '"', E'\u0001', '🙂']) c;
SELECT _pems_send_notifications(ARRAY[_pems_payload(jsonb_build_object('type', 'SYNC_PAUSED', 'organizationId', repeat(E'\u0001', 9000), 'errorMessage', repeat('"', 9000)))]);
SELECT regress.state($$SELECT _pems_send_notifications(ARRAY[repeat('x', 8000)])$$);
SELECT _pems_send_notifications(NULL), _pems_send_notifications('{}');
BEGIN; SELECT _pems_send_notifications('{}'), current_setting('synchronous_commit'); COMMIT;
SELECT regress.clear();

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
