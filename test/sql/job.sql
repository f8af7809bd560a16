-- pems_sync_history() and pems_job(): what became of jobs; their status follows from their items.
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
CREATE ROLE regress_pems_reader IN ROLE pems_sync_reader;
/* The job that an edit is in. */
CREATE FUNCTION regress.job_of(modification text) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS
$$ SELECT q.job_id FROM public.pfa_write_queue q WHERE q.modification_id = modification $$;
/* The jobs of a call of pems_sync_history(), a line each, newest first; then the total. */
CREATE FUNCTION regress.jobs(history jsonb) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', j ->> 'kind', coalesce(j ->> 'organizationId', 'several'), j ->> 'status', 'queued ' || (j ->> 'queued'), 'synced ' || (j ->> 'synced'), 'conflicts ' || (j ->> 'conflicts'),
                     'failed ' || (j ->> 'failed'), CASE jsonb_typeof(j -> 'durationSeconds') WHEN 'number' THEN 'ended' ELSE 'no duration' END, 'by ' || CASE j ->> 'requestedBy' WHEN session_user THEN 'me' ELSE j ->> 'requestedBy' END)
    FROM jsonb_array_elements(history -> 'jobs') WITH ORDINALITY e (j, n)
    UNION ALL SELECT 'total ' || (history ->> 'total')
$$;
/* An edit that was claimed becomes what the worker says. */
CREATE FUNCTION regress.fail(modification text) RETURNS text LANGUAGE sql AS
$$ SELECT regress.record(regress.report(modification, 'failed', '{"http_status": 422, "error_code": "INVALID_REQUEST", "error": "PEMS said no."}')) $$;

-- Nothing yet.
SELECT pems_sync_history(), pems_sync_history('org-rio'), pems_sync_history('org-rio', 'running');

-- One commit with five edits.
SELECT regress.draft('a' || n, 'PFA-' || n) FROM generate_series(1, 5) n \g /dev/null
SELECT c -> 'queuedCount', c -> 'rejected' FROM pems_commit('org-rio', ARRAY['a1', 'a2', 'a3', 'a4', 'a5', 'nowhere'], 'alice') c;
SELECT regress.job_of('a1') AS job \gset
SET ROLE regress_pems_reader;
SELECT regress.scrub(pems_sync_history('org-rio'));
SELECT regress.scrub(pems_job(:'job', page_size => 1));
RESET ROLE;
SELECT regress.claim();
SELECT regress.jobs(pems_sync_history());
SELECT regress.record(regress.applied('a1'), regress.applied('a2'));
SELECT regress.jobs(pems_sync_history());
SELECT pems_discard('a5', 'alice') -> 'outcome';
SELECT regress.record(regress.report('a3', 'conflict', '{"conflict_kind": "update_update", "conflict_fields": ["monthlyRate"], "error_code": "CONFLICT", "error": "PEMS has other values."}'));
SELECT regress.record(regress.report('a5', 'pending', '{"event_type": null}'));
SELECT pems_discard('a5', 'alice') -> 'outcome';
SELECT regress.jobs(pems_sync_history());
-- one failed, and one is in conflict
SELECT regress.fail('a4');
SELECT regress.jobs(pems_sync_history());
-- Each status, asked for.
SELECT s, regress.jobs(pems_sync_history('org-rio', s)) FROM unnest(ARRAY['running', 'completed', 'completed_with_conflicts', 'completed_with_failures', 'cancelled']) s;

-- The failed one is retried: it belongs to the retry's job now, and stays what it was in the history of the first.
SELECT pems_retry(retried_by => 'root') -> 'requeuedCount';
SELECT regress.jobs(pems_sync_history());
SELECT s, regress.jobs(pems_sync_history('org-rio', s)) FROM unnest(ARRAY['running', 'completed_with_failures']) s;
SELECT _pems_prepare() IS NULL AS nothing_waits;
SELECT regress.claim();
SELECT regress.record(regress.applied('a4'));
SELECT regress.jobs(pems_sync_history());
-- The conflict is resolved: the job runs again, and ends.
SELECT pems_resolve_conflict(regress.conflict_of('a3'), 'use_local') -> 'success';
SELECT regress.jobs(pems_sync_history(status => 'running'));
SELECT _pems_prepare() IS NULL AS nothing_waits;
SELECT regress.claim();
SELECT regress.record(regress.applied('a3'));
SELECT regress.jobs(pems_sync_history());

-- Other kinds: a job that only makes due, a rollback, one that was taken back, one with a conflict only.
SELECT regress.queue('b1', 'PFA-6');
SELECT pems_write_sync('org-rio', NULL, 'high') -> 'queuedCount';
SELECT pems_discard('b1') -> 'outcome';
SELECT jsonb_array_length(pems_rollback('org-rio', 'PFA-1', 1, 'typing error', 'carol') -> 'changes');
SELECT regress.conflict('c1', 'PFA-1', '{"model": "a"}', '{"model": "b"}', '["model"]', organization_id => 'org-rio2');
SELECT regress.jobs(pems_sync_history());
SELECT s, regress.jobs(pems_sync_history(status => s)) FROM unnest(ARRAY['running', 'completed', 'completed_with_conflicts', 'completed_with_failures', 'cancelled']) s;
SELECT regress.jobs(pems_sync_history('org-rio2', 'completed_with_conflicts')), regress.jobs(pems_sync_history('org-rio', 'completed_with_conflicts'));
SELECT k, regress.jobs(pems_sync_history('org-rio', kind => k)) FROM unnest(ARRAY['commit', 'write_sync', 'retry', 'rollback', 'pull']) k;
SELECT regress.jobs(pems_sync_history(kind => 'retry', status => 'completed'));
SELECT regress.jobs(pems_sync_history(kind => 'retry', status => 'cancelled'));
-- a pull says itself how it stands
BEGIN;
INSERT INTO pems_sync_job (organization_id, kind, requested_by, created_at, status, finished_at) VALUES ('org-rio', 'pull', 'root', now(), 'running', NULL), ('org-rio', 'pull', 'root', now() - interval '1 minute', 'cancelled', now());
SELECT s, regress.jobs(pems_sync_history('org-rio', s, kind => 'pull')) FROM unnest(ARRAY['running', 'completed', 'cancelled']) s;
ROLLBACK;
-- RIO is not RIO2
SELECT regress.jobs(pems_sync_history('org-rio2')), regress.jobs(pems_sync_history('org-port'));

-- A window: its start is in it, its end is not.
BEGIN;
UPDATE pems_sync_job SET created_at = '2026-01-01 12:00:00Z' WHERE kind = 'retry';
UPDATE pems_sync_job SET created_at = '2026-01-02 12:00:00Z' WHERE kind = 'rollback';
SELECT regress.jobs(pems_sync_history(start_date => '2026-01-01 12:00:00Z', end_date => '2026-01-02 12:00:00Z'));
SELECT regress.jobs(pems_sync_history('org-rio', start_date => '2026-01-02', end_date => '2026-01-03'));
SELECT regress.jobs(pems_sync_history('org-rio', 'running', '2026-01-02', '2026-01-03')), regress.jobs(pems_sync_history('org-rio', 'running', '2026-01-03'));
SELECT regress.jobs(pems_sync_history(end_date => '2020-01-01'));
ROLLBACK;

-- Pages, and the total of all of them.
CREATE FUNCTION regress.pages(size integer, wanted text DEFAULT NULL, organization text DEFAULT 'org-port') RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    answer jsonb;
    last   text;
BEGIN
    LOOP
        answer := pems_sync_history(organization, wanted, page_size => size, before => last);
        EXIT WHEN answer -> 'jobs' = '[]';
        RETURN NEXT (SELECT string_agg(j ->> 'requestedBy', ' ' ORDER BY n) || ' of ' || (answer ->> 'total') FROM jsonb_array_elements(answer -> 'jobs') WITH ORDINALITY e (j, n));
        last := answer #>> '{jobs,-1,id}';
    END LOOP;
END
$$;
SELECT regress.draft('p' || n, 'PFA-9', format('{"model": "%s"}', n)::jsonb, 'user' || n, 'org-port') FROM generate_series(1, 7) n \g /dev/null
DO $$ BEGIN FOR n IN 1 .. 7 LOOP PERFORM pems_commit('org-port', ARRAY['p' || n], 'user' || n); END LOOP; END $$;
SELECT regress.pages(3);
SELECT regress.pages(3, organization => NULL) LIMIT 2;
SELECT regress.pages(2, 'running');
SELECT pems_discard('p' || n) -> 'outcome' FROM unnest(ARRAY[2, 3, 5]) n;
SELECT regress.pages(2, 'running'), regress.pages(2, 'cancelled');
SELECT regress.pages(4, 'completed');
SELECT regress.pages(10, 'completed_with_failures');
-- two jobs of the same moment
UPDATE pems_sync_job SET created_at = '2026-01-01' WHERE organization_id = 'org-port';
SELECT regress.pages(3), regress.pages(100);
-- many jobs: counted up to 200
BEGIN;
INSERT INTO pems_sync_job (organization_id, kind, requested_by) SELECT 'org-rio2', 'write_sync', 'many' FROM generate_series(1, 1200);
SELECT pems_sync_history('org-rio2', page_size => 1) -> 'total', pems_sync_history('org-rio2', 'completed', page_size => 1) -> 'total', jsonb_array_length(pems_sync_history('org-rio2', page_size => 1000) -> 'jobs');
ROLLBACK;

-- Items of a job, by page, with their attempts.
SELECT regress.draft('i' || n, 'ITEM-' || n, organization_id => 'org-port') FROM generate_series(1, 5) n \g /dev/null
INSERT INTO pfa_mirror (organization_id, pfa_id, version, data) SELECT 'org-port', 'ITEM-' || n, 1, '{"source": "Rental", "monthlyRate": 1}' FROM generate_series(1, 5) n;
SELECT regress.commit(ARRAY['i1', 'i2', 'i3', 'i4', 'i5'], 'org-port', 'high');
SELECT regress.job_of('i1') AS job \gset
SELECT count(*) FROM regress.claim(3, 'org-port');
SELECT regress.record(regress.applied('i1'), regress.fail_of) FROM (SELECT regress.report('i2', 'pending', '{"http_status": 503, "error_code": "UNAVAILABLE", "error": "PEMS is down.", "delay_ms": 1, "retry_count": 1}') AS fail_of) regress;
CREATE FUNCTION regress.items_of(job jsonb) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', i ->> 'modificationId', i ->> 'status', (SELECT string_agg(concat_ws('/', a ->> 'attempt', a ->> 'eventType', a ->> 'httpMethod', a ->> 'httpStatus', a ->> 'errorCode', a ->> 'latencyMs'), ', ') FROM jsonb_array_elements(i -> 'attempts') a))
    FROM jsonb_array_elements(job -> 'items') WITH ORDINALITY e (i, n) ORDER BY n
$$;
SELECT regress.items_of(pems_job(:'job'));
SELECT regress.items_of(pems_job(:'job', 'org-port', 2));
SELECT regress.items_of(pems_job(:'job', 'org-port', 2, pems_job(:'job', 'org-port', 2) #>> '{items,-1,id}'));
SELECT regress.items_of(pems_job(:'job', page_size => 2, after => (SELECT id FROM pfa_write_queue WHERE modification_id = 'i4')));
SELECT regress.items_of(pems_job(:'job', page_size => 2, after => (SELECT id FROM pfa_write_queue WHERE modification_id = 'i5')));
SELECT regress.scrub((pems_job(:'job', page_size => 1) - 'requestedBy') #- '{items,0,attempts,0,at}');
-- of an item that was tried often, the newest twenty
INSERT INTO pems_audit_log (event_type, organization_id, pfa_id, modification_id, item_id, attempt) SELECT 'READ_ATTEMPT', 'org-port', 'ITEM-2', 'i2', q.id, n FROM pfa_write_queue q, generate_series(2, 40) n WHERE q.modification_id = 'i2';
SELECT jsonb_array_length(i -> 'attempts'), i #> '{attempts,0,attempt}', i #> '{attempts,-1,attempt}' FROM jsonb_path_query(pems_job(:'job'), '$.items[*] ? (@.modificationId == "i2")') i;

-- An administrator's retry of several organizations: its job belongs to none of them.
SELECT regress.record(regress.report('i3', 'failed', '{"error_code": "X", "error": "no"}'));
SELECT regress.draft('e1', 'PFA-5', '{"model": "e"}', base_version => 1) \g /dev/null
SELECT regress.commit(ARRAY['e1']);
SELECT _pems_prepare() IS NULL AS nothing_waits;
SELECT 'e1' IN (SELECT regress.claim()) AS claimed;
SELECT regress.fail('e1');
SELECT pems_retry() -> 'requeuedCount';
SELECT regress.jobs(pems_sync_history(kind => 'retry', status => 'running'));
SELECT regress.jobs(pems_sync_history('org-rio', kind => 'retry', status => 'running'));
SELECT regress.job_of('e1') = regress.job_of('i3') AS one_job, regress.job_of('e1') AS job \gset
SELECT :'one_job', regress.items_of(pems_job(:'job'));
SELECT regress.scrub(regress.state(format('SELECT pems_job(%L, %L)', :'job', 'org-rio')));

-- Retention: a job keeps what became of items that are purged while it has others, and is deleted with its last one.
BEGIN;
SELECT regress.draft('r' || n, 'PFA-' || n, '{"model": "r"}', organization_id => 'org-rio2') FROM generate_series(2, 2) n \g /dev/null
INSERT INTO pfa_mirror (organization_id, pfa_id, version, data) SELECT 'org-rio2', 'R-' || n, 1, '{}' FROM generate_series(1, 4) n;
SELECT regress.draft('s' || n, 'R-' || n, '{"model": "s"}', organization_id => 'org-rio2') FROM generate_series(1, 4) n \g /dev/null
SELECT regress.commit(ARRAY['s1', 's2', 's3', 's4'], 'org-rio2');
SELECT regress.job_of('s1') AS job \gset
SELECT count(*) FROM regress.claim(100, 'org-rio2');
SELECT regress.record(regress.applied('s1'), regress.applied('s2'), regress.report('s4', 'pending', '{"event_type": null}'));
SELECT pems_discard('s4') -> 'outcome';
SELECT regress.record(regress.report('s3', 'failed', '{"error_code": "X", "error": "no"}'));
SELECT regress.jobs(jsonb_build_object('jobs', jsonb_build_array(pems_job(:'job'))));
UPDATE pems_sync_job SET created_at = now() - interval '2 days';
UPDATE pfa_write_queue SET completed_at = now() - interval '1 day' WHERE completed_at IS NOT NULL;
SELECT p -> 'items' > '0' AS items, p -> 'jobs' > '0' AS jobs FROM pems_purge('1 hour', 100) p;
SELECT regress.jobs(jsonb_build_object('jobs', jsonb_build_array(pems_job(:'job'))));
SELECT past_synced, past_failed, past_cancelled, finished_at < now() AS ended FROM pems_sync_job WHERE id = :'job';
SELECT regress.items_of(pems_job(:'job'));
-- in bits, the same
SELECT pems_discard('s3') -> 'outcome';
UPDATE pfa_write_queue SET completed_at = now() - interval '1 day' WHERE completed_at IS NOT NULL;
SELECT p -> 'items', p -> 'jobs' FROM pems_purge('1 hour', 1) p;
SELECT regress.scrub(regress.state(format('SELECT pems_job(%L)', :'job')));
-- a pull that runs is kept, whatever its age
INSERT INTO pems_sync_job (organization_id, kind, requested_by, created_at, status) VALUES ('org-rio', 'pull', 'root', now() - interval '1 year', 'running'), ('org-rio', 'pull', 'root', now() - interval '1 year', 'completed');
SELECT pems_purge('1 hour', 100) -> 'jobs';
SELECT status FROM pems_sync_job WHERE kind = 'pull';
ROLLBACK;

-- Errors.
SELECT regress.attempt($$SELECT pems_sync_history('nowhere')$$);
SELECT regress.attempt($$SELECT pems_sync_history('org-rio', 'pending')$$);
SELECT regress.attempt($$SELECT pems_sync_history(kind => 'delete')$$);
SELECT regress.attempt($$SELECT pems_sync_history(page_size => 0)$$);
SELECT regress.attempt($$SELECT pems_sync_history(page_size => 1001)$$);
SELECT regress.attempt($$SELECT pems_sync_history(start_date => '2026-01-02', end_date => '2026-01-01')$$);
SELECT regress.attempt($$SELECT pems_sync_history(before => 'nowhere')$$);
SELECT regress.attempt(format('SELECT pems_sync_history(%L, before => %L)', 'org-rio', regress.job_of('c1'))) ~ '^P0002: job "[-0-9a-f]{36}" does not exist' AS not_found;
SELECT regress.attempt($$SELECT pems_job('nowhere')$$);
SELECT regress.attempt($$SELECT pems_job(NULL)$$);
SELECT regress.attempt(format('SELECT pems_job(%L, %L)', regress.job_of('c1'), 'org-rio')) ~ '^P0002: job "[-0-9a-f]{36}" does not exist' AS not_found;
SELECT regress.state(format('SELECT pems_job(%L, %L)', regress.job_of('c1'), 'org-rio2'));
SELECT regress.attempt(format('SELECT pems_job(%L, page_size => 1001)', regress.job_of('c1')));
SELECT regress.attempt(format('SELECT pems_job(%L, after => %L)', regress.job_of('c1'), 'nowhere'));
SELECT pems_detach() -> 'success';
SELECT regress.state($$SELECT pems_sync_history()$$), regress.state($$SELECT pems_job('x')$$);

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
DROP ROLE regress_pems_reader;
