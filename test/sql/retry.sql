-- pems_retry(): dead letters are queued again, at their old place, to be decided against PEMS as it is now; all or nothing.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
\set ECHO none
\i test/support/regress_application.sql
\set ECHO all
SET client_min_messages = error;
CREATE ROLE regress_pems_admin IN ROLE pems_sync_admin;
CREATE VIEW regress.queue AS SELECT modification_id, status, waits_for, next_request, outcome_unknown AS unknown, sent_version AS sent, retry_count AS retries, max_retries, rounds, base_version AS base,
    error_code, last_error, completed_at IS NOT NULL AS completed FROM pfa_write_queue ORDER BY commit_seq;
CREATE VIEW regress.modification AS SELECT id, sync_status, sync_error FROM pfa_modification ORDER BY id COLLATE "C";
CREATE VIEW regress.audit AS SELECT a.event_type, a.modification_id, a.organization_id, a.pfa_id, a.actor, a.error_code, a.error, a.item_id = q.id AS item, a.job_id = q.job_id AS items_job
    FROM pems_audit_log a JOIN pfa_write_queue q ON q.modification_id = a.modification_id WHERE a.event_type = 'RETRIED' ORDER BY a.modification_id COLLATE "C";
CREATE VIEW regress.job AS SELECT kind, organization_id, requested_by, queued, rejected FROM pems_sync_job WHERE kind = 'retry' ORDER BY created_at, id;
/* A committed edit becomes a dead letter: PEMS answered so. */
CREATE FUNCTION regress.die(VARIADIC modifications text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE pfa_write_queue SET status = 'failed', waits_for = NULL, completed_at = now(), error_code = 'INVALID_REQUEST', last_error = 'PEMS said no.', retry_count = 3, rounds = 2, attempt = 4,
        sent_version = 1, last_attempt_at = now() - interval '1 hour' WHERE modification_id = ANY (modifications);
    UPDATE pfa_modification SET sync_status = 'failed', sync_error = 'PEMS said no.' WHERE id = ANY (modifications);
    DELETE FROM pems_recheck;
END
$$;
CREATE FUNCTION regress.item(modification text) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS $$ SELECT id FROM public.pfa_write_queue WHERE modification_id = modification $$;
CREATE FUNCTION regress.clear() RETURNS void LANGUAGE sql AS $$
    SELECT regress.empty_queue(); DELETE FROM pfa_sync_conflict; DELETE FROM pfa_modification; DELETE FROM pems_recheck; DELETE FROM pems_sync_job; TRUNCATE pems_audit_log; $$;
CREATE FUNCTION regress.everything() RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(E'\n', (SELECT string_agg(q::text, E'\n' ORDER BY q.commit_seq) FROM pfa_write_queue q), (SELECT string_agg(m::text, E'\n' ORDER BY m.id) FROM pfa_modification m),
        (SELECT count(*) FROM pems_audit_log), (SELECT count(*) FROM pems_recheck), (SELECT count(*) FROM pems_sync_job))
$$;
/* What a retry is refused with; fails where it is not refused, or leaves something changed.  Ids as the modifications' names. */
CREATE FUNCTION regress.refused(items text[], organization_id text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before  CONSTANT text := regress.everything();
    outcome text := regress.attempt(format('SELECT pems_retry(%L, %L)', items, organization_id));
    item    record;
BEGIN
    IF outcome = 'ok' OR before IS DISTINCT FROM regress.everything() THEN
        RAISE EXCEPTION 'something happened: %', outcome;
    END IF;
    FOR item IN SELECT id, modification_id FROM pfa_write_queue LOOP
        outcome := replace(outcome, item.id, '<' || item.modification_id || '>');
    END LOOP;
    RETURN outcome;
END
$$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA regress TO regress_pems_admin;

-- One dead letter of several: a read first, all its retries, its old place and base; what is behind it stays held.
SELECT regress.queue('d1', 'PFA-1'), regress.queue('h1', 'PFA-1', '{"dor": "PROJECT"}'), regress.queue('d2', 'PFA-2'), regress.queue('p1', 'PFA-3');
SELECT regress.die('d1', 'd2');
SELECT commit_seq AS place, attempt FROM pfa_write_queue WHERE modification_id = 'd1' \gset
SET ROLE regress_pems_admin;
SELECT regress.scrub(pems_retry(ARRAY[regress.item('d1')], 'org-rio', 'carol'));
RESET ROLE;
SELECT * FROM regress.queue;
SELECT commit_seq = :place AS same_place, attempt = :attempt AS same_attempt, scheduled_at <= clock_timestamp() AS due FROM pfa_write_queue WHERE modification_id = 'd1';
SELECT * FROM regress.modification;
SELECT * FROM regress.audit;
SELECT * FROM regress.job;
SELECT (SELECT job_id FROM pfa_write_queue WHERE modification_id = 'd1') = (SELECT id FROM pems_sync_job WHERE kind = 'retry') AS belongs_to_the_job;
SELECT pfa_id FROM pems_recheck;
SELECT _pems_prepare() IS NULL AS nothing_waits;
SELECT q.modification_id, c.next_request, c.retry_count, c.attempt, c.base_version FROM _pems_claim(ARRAY['org-rio'], ARRAY[10]) c JOIN pfa_write_queue q ON q.id = c.item_id ORDER BY q.commit_seq;
SELECT regress.clear();

-- NULL: all dead letters of the organization, in commit order; none of another one's.
SELECT regress.queue('a1', 'PFA-1'), regress.queue('a2', 'PFA-2'), regress.queue('x1', 'PFA-1', organization_id => 'org-rio2'), regress.queue('y1', 'PFA-9', organization_id => 'org-port'), regress.queue('live', 'PFA-3');
SELECT regress.die('a1', 'a2', 'x1', 'y1');
SET ROLE regress_pems_admin;
SELECT regress.scrub(pems_retry(organization_id => 'org-rio'));
SELECT regress.scrub(pems_retry(organization_id => 'org-rio'));
RESET ROLE;
SELECT modification_id, status, next_request FROM regress.queue;
SELECT * FROM regress.audit;
SELECT * FROM regress.job;
-- without an organization: all that there are, in one job that is nobody's
SET ROLE regress_pems_admin;
SELECT regress.scrub(pems_retry());
SELECT regress.scrub(pems_retry());
RESET ROLE;
SELECT modification_id, status FROM regress.queue;
SELECT * FROM regress.job;
SELECT regress.clear();

-- Nothing to retry is no error, and no job.
SELECT pems_retry(NULL, 'org-rio');
SELECT count(*) FROM pems_sync_job;

-- A list without ids is a mistake.
SELECT regress.attempt($$SELECT pems_retry('{}')$$);
SELECT regress.attempt($$SELECT pems_retry(ARRAY[NULL]::text[])$$);

-- An id twice is one item.
SELECT regress.queue('d1', 'PFA-1');
SELECT regress.die('d1');
SELECT r -> 'requeuedCount' FROM pems_retry(ARRAY[regress.item('d1'), regress.item('d1'), NULL]) r;
SELECT count(*) FROM pems_audit_log WHERE event_type = 'RETRIED';
SELECT queued FROM regress.job;
SELECT regress.clear();

-- A write that may have arrived stays in doubt, and the step of a write whose mirror is to be read stays that one.
SELECT regress.queue('unknown', 'PFA-1'), regress.queue('written', 'PFA-2');
SELECT regress.die('unknown', 'written');
UPDATE pfa_write_queue SET outcome_unknown = true, next_request = 'read', sent_version = 7 WHERE modification_id = 'unknown';
UPDATE pfa_write_queue SET next_request = 'refresh', sent_version = 8 WHERE modification_id = 'written';
SELECT pems_retry() -> 'requeuedCount';
SELECT modification_id, status, next_request, unknown, sent FROM regress.queue;
-- such an item cannot be taken back any more
SELECT pems_discard('unknown') -> 'outcome', pems_discard('written') -> 'outcome';
SELECT regress.clear();
-- the read comes two seconds after the write at the earliest: PEMS may still be at it
SELECT regress.queue('d1', 'PFA-1');
SELECT regress.die('d1');
UPDATE pfa_write_queue SET outcome_unknown = true, next_request = 'read', last_attempt_at = clock_timestamp() + interval '1 hour';
SELECT pems_retry() -> 'requeuedCount';
SELECT scheduled_at >= last_attempt_at + interval '2 seconds' AS two_seconds_after FROM pfa_write_queue;
SELECT _pems_prepare() IS NOT NULL AS waits_for_its_time;
SELECT waits_for FROM regress.queue;
SELECT count(*) AS claimed FROM regress.claim();
SELECT regress.clear();

-- Several dead letters of one record, and one behind another that is not retried: order is kept.
SELECT regress.queue('r' || n, 'PFA-1') FROM generate_series(1, 4) n \g /dev/null
SELECT regress.die('r1', 'r3', 'r4');
SELECT pems_retry(ARRAY[regress.item('r4'), regress.item('r3')]) -> 'requeuedCount';
SELECT _pems_prepare() IS NULL AS nothing_waits;
SELECT count(*) AS claimed_behind_a_dead_letter FROM regress.claim();
SELECT modification_id, status, waits_for FROM regress.queue;
SELECT pems_retry() -> 'requeuedCount';
SELECT _pems_prepare() IS NULL AS nothing_waits;
SELECT regress.claim();
SELECT regress.clear();

-- Retried, rejected again, retried again: the old error is in the audit log each time, and gone from the item.
SELECT regress.queue('d1', 'PFA-1');
SELECT regress.die('d1');
SELECT pems_retry(retried_by => 'carol') -> 'success';
SELECT error_code, last_error FROM regress.queue;
SELECT regress.die('d1');
UPDATE pfa_write_queue SET error_code = 'FORBIDDEN', last_error = 'PEMS said no again.';
SET ROLE regress_pems_admin;
SELECT pems_retry() -> 'success';
RESET ROLE;
SELECT actor, error_code, error FROM pems_audit_log WHERE event_type = 'RETRIED' ORDER BY at;
SELECT s -> 'failed', s -> 'totalQueued' FROM pems_sync_status('org-rio') s;
SELECT regress.clear();

-- Refused: one wrong id, and nothing is retried.
SELECT regress.queue('dead', 'PFA-1'), regress.queue('wait', 'PFA-2'), regress.queue('fly', 'PFA-3'), regress.queue('done', 'PFA-4'), regress.queue('conflict', 'PFA-5'), regress.queue('gone', 'PFA-6'),
       regress.queue('theirs', 'PFA-9', organization_id => 'org-port');
SELECT regress.die('dead', 'theirs');
UPDATE pfa_write_queue SET status = CASE modification_id WHEN 'fly' THEN 'processing' WHEN 'done' THEN 'completed' WHEN 'gone' THEN 'cancelled' ELSE 'conflict' END WHERE modification_id IN ('fly', 'done', 'gone', 'conflict');
SELECT regress.refused(ARRAY[regress.item('dead'), 'nowhere']);
SELECT regress.refused(ARRAY['nowhere', 'b', 'a', regress.item('wait')]);
SELECT regress.refused(ARRAY['']);
SELECT m, regress.refused(ARRAY[regress.item('dead'), regress.item(m)]) FROM unnest(ARRAY['wait', 'fly', 'done', 'conflict', 'gone']) m;
SELECT regress.refused(ARRAY[regress.item('gone'), regress.item('wait'), regress.item('dead')]);
-- of another organization: in the words for one that does not exist
SELECT regress.refused(ARRAY[regress.item('dead'), regress.item('theirs')], 'org-rio');
SELECT replace(regress.refused(ARRAY[regress.item('theirs')], 'org-rio'), '<theirs>', 'nowhere') = regress.refused(ARRAY['nowhere'], 'org-rio') AS same_words;
SELECT regress.refused(NULL, 'RIO');
SELECT regress.refused(NULL, '');
SELECT regress.refused(ARRAY[regress.item('dead')], 'org-nowhere');
-- a thousand wrong ids make no endless message
SELECT length(regress.refused((SELECT array_agg('wrong' || n) FROM generate_series(1, 1000) n))) < 1300 AS short;
SELECT length(regress.refused(ARRAY[repeat('x', 100000)])) < 300 AS short;
-- Thirty thousand ids are looked up one by one: comparing each with each would take ten seconds.
INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by) SELECT 'many' || n, 'org-rio', 'PFA-1', 1, '{}', 'alice' FROM generate_series(1, 30000) n;
INSERT INTO pfa_write_queue (id, modification_id, pfa_id, organization_id, operation, payload, base_version, status)
SELECT 'many' || n, 'many' || n, 'PFA-1', 'org-rio', 'UPDATE', '{}', 1, 'failed' FROM generate_series(1, 30000) n;
SET statement_timeout = '8s';
SELECT cardinality(_pems_pick_dead_letters(ARRAY(SELECT 'many' || n FROM generate_series(1, 30000) n), NULL));
RESET statement_timeout;
-- not attached
SELECT pems_detach() -> 'success';
SELECT left(regress.refused(ARRAY['nowhere']), 66);

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
DROP ROLE regress_pems_admin;
