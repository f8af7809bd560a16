-- pems_pull() and pems_cancel(): bad input, privileges, one job for two calls; and what the worker's steps make of records
-- that PEMS has shown, one call at a time.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
\set ECHO none
\i test/support/regress_application.sql
\set ECHO all
SET client_min_messages = error;
CREATE ROLE regress_pems_reader IN ROLE pems_sync_reader;
CREATE ROLE regress_pems_user IN ROLE pems_sync_user;
CREATE ROLE regress_pems_nobody;

/* What a statement raises: SQLSTATE, message, detail, hint. */
CREATE FUNCTION regress.raises(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text;
    detail  text;
    hint    text;
BEGIN
    EXECUTE statement;
    RETURN 'nothing';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', SQLSTATE, regexp_replace(message, '[0-9a-f]{8}-[0-9a-f-]{27}', '<id>', 'g'), nullif(detail, ''), nullif(hint, ''));
END $$;
/* The pulls that are not over. */
CREATE VIEW regress.open AS
    SELECT s.organization_id, s.pfa_id, s.mode, s.phase, j.requested_by FROM pems_pull_state s JOIN pems_sync_job j ON j.id = s.job_id WHERE s.phase <> 'ended' ORDER BY s.job_id;
/* What became of a pull. */
CREATE FUNCTION regress.pull(job text) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', j ->> 'status', j ->> 'mode', j ->> 'phase', 'pages ' || (j ->> 'pages'), 'records ' || (j ->> 'records'), 'created ' || (j ->> 'created'), 'updated ' || (j ->> 'updated'), 'deleted ' || (j ->> 'deleted'),
                     'unchanged ' || (j ->> 'unchanged'), 'stale ' || (j ->> 'stale'), 'quarantined ' || (j ->> 'quarantined'), j ->> 'errorCode', j ->> 'error')
    FROM pems_job(job) j
$$;

/* The slices of a search, as the worker asks for them: phase and what is known after each. */
CREATE FUNCTION regress.search(job text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    found record;
BEGIN
    LOOP
        SELECT * INTO found FROM _pems_pull_search(job, 4);
        RETURN NEXT concat_ws(' ', (SELECT s.phase FROM pems_pull_state s WHERE s.job_id = job), 'known ' || found.known, 'missing ' || found.missing, CASE WHEN found.done THEN 'done' END);
        EXIT WHEN found.done;
    END LOOP;
END $$;

-- Bad input.
SELECT s, regress.raises(s) FROM unnest(ARRAY[
    $$SELECT pems_pull(NULL)$$, $$SELECT pems_pull('')$$, $$SELECT pems_pull('org-none')$$, $$SELECT pems_pull('RIO')$$, $$SELECT pems_pull('org-ri')$$, $$SELECT pems_pull('*')$$,
    $$SELECT pems_pull('org-rio', mode => 'everything')$$, $$SELECT pems_pull('org-rio', mode => NULL)$$, $$SELECT pems_pull('org-rio', mode => 'FULL')$$, $$SELECT pems_pull('org-rio', mode => '')$$,
    $$SELECT pems_pull('org-rio', '')$$, $$SELECT pems_pull('org-rio', '..')$$, $$SELECT pems_pull('org-rio', 'a/b')$$, $$SELECT pems_pull('org-rio', repeat('x', 65))$$, $$SELECT pems_pull('org-rio', U&'PFA\0001')$$,
    $$SELECT pems_pull('org-rio', requested_by => repeat('x', 1025))$$,
    $$SELECT pems_cancel(NULL)$$, $$SELECT pems_cancel('')$$, $$SELECT pems_cancel('nothing')$$, $$SELECT pems_cancel('nothing', 'org-none')$$, $$SELECT pems_cancel('nothing', cancelled_by => repeat('x', 1025))$$,
    $$SELECT pems_job('nothing')$$, $$SELECT pems_job(NULL)$$]) s;
SELECT * FROM regress.open;
SELECT count(*) AS jobs FROM pems_sync_job;

-- A pull: delta without a watermark is a full one.  Two calls give one job, in a mode each, and by record.
SELECT pems_pull('org-rio', requested_by => 'anna') ->> 'jobId' AS full \gset
SELECT pems_pull('org-rio', requested_by => 'otto') ->> 'jobId' = :'full' AS again, pems_pull('org-rio', mode => 'full') ->> 'jobId' = :'full' AS full_too, pems_pull('org-rio2') ->> 'jobId' <> :'full' AS of_another_organization;
SELECT pems_pull('org-rio', mode => 'adopt') ->> 'jobId' AS adopt \gset
SELECT :'adopt' <> :'full' AS differs, pems_pull('org-rio', mode => 'adopt') ->> 'jobId' = :'adopt' AS one_job;
SELECT pems_pull('org-rio', 'PFA-1') ->> 'jobId' AS single \gset
SELECT :'single' <> :'full' AS differs, pems_pull('org-rio', 'PFA-1', 'full') ->> 'jobId' = :'single' AS one_job, pems_pull('org-rio', 'PFA-2') ->> 'jobId' <> :'single' AS of_another_record,
       pems_pull('org-rio', 'PFA-1', 'adopt') ->> 'jobId' <> :'single' AS to_adopt;
SELECT * FROM regress.open;
-- a transaction that rolls back leaves nothing
BEGIN;
SELECT pems_pull('org-port') ->> 'success' AS success;
ROLLBACK;
SELECT count(*) FROM pems_pull_state WHERE organization_id = 'org-port';
SELECT regress.pull(:'full');
-- page size and place of pems_job()
SELECT s, regress.raises(format(s, :'full')) FROM unnest(ARRAY[$$SELECT pems_job(%L, page_size => 0)$$, $$SELECT pems_job(%L, page_size => 1001)$$, $$SELECT pems_job(%L, page_size => NULL)$$, $$SELECT pems_job(%L, after => 'nothing')$$,
    $$SELECT pems_job(%L, 'org-rio2')$$]) s;
-- settings
ALTER SYSTEM SET pems_sync.pull_page_size = 0;
ALTER SYSTEM SET pems_sync.pull_page_size = 5001;
ALTER SYSTEM SET pems_sync.pull_max_missing = 101;
ALTER SYSTEM SET pems_sync.pull_overlap = -1;
ALTER SYSTEM SET pems_sync.pull_interval = -1;
\echo :LAST_ERROR_SQLSTATE

-- pems_cancel(): not a commit's job, nor that of another organization, nor twice.
SELECT regress.draft('m1', 'PFA-1'), regress.commit(ARRAY['m1']);
SELECT job_id AS commit FROM pfa_write_queue WHERE modification_id = 'm1' \gset
SELECT regress.raises(format('SELECT pems_cancel(%L)', :'commit'));
SELECT regress.raises(format('SELECT pems_cancel(%L, %L)', :'full', 'org-rio2')), regress.raises(format('SELECT pems_cancel(%L, %L)', :'full', 'org-none'));
SELECT pems_cancel(:'adopt', 'org-rio', 'otto') - 'jobId';
SELECT regress.raises(format('SELECT pems_cancel(%L)', :'adopt'));
SELECT regress.pull(:'adopt');
SELECT event_type, organization_id, pfa_id, job_id = :'adopt' AS its_job, actor FROM pems_audit_log WHERE event_type = 'PULL_CANCELLED';
SELECT pems_pull('org-rio', mode => 'adopt') ->> 'jobId' <> :'adopt' AS a_new_one;

-- Who may what.
CREATE FUNCTION regress.as_role(role text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    raised text;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role);
    BEGIN
        EXECUTE statement;
        raised := 'may';
    EXCEPTION WHEN OTHERS THEN
        raised := SQLSTATE;
    END;
    RESET ROLE;
    RETURN raised;
END $$;
GRANT USAGE ON SCHEMA regress TO PUBLIC;
SELECT regexp_replace(s.statement, '[0-9a-f]{8}-[0-9a-f-]{27}', '<id>') AS statement, regress.as_role('regress_pems_nobody', s.statement) AS nobody, regress.as_role('regress_pems_reader', s.statement) AS reader, regress.as_role('regress_pems_user', s.statement) AS "user"
FROM unnest(ARRAY[$$SELECT pems_pull('org-port', 'PFA-9')$$, format('SELECT pems_cancel(%L)', (SELECT job_id FROM pems_pull_state WHERE organization_id = 'org-rio2')), $$SELECT * FROM pems_pulls$$, $$SELECT * FROM pems_quarantine$$,
    'SELECT * FROM pems_pull_state', 'SELECT * FROM pems_quarantined', 'UPDATE pems_pull_organization SET watermark = now()', $$SELECT _pems_pull_put_back()$$, $$SELECT _pems_begin_pull('org-rio', NULL, 'full', 'x')$$]) s (statement);

-- The worker's steps.  A single record goes before a listing, and an organization has one at a time.
SELECT organization_id, phase, asked, updated_since, cursor, requests FROM _pems_pull_due('{org-rio,org-port,org-none}', 10) ORDER BY organization_id;
SELECT pems_cancel(job_id) ->> 'success' AS cancelled FROM pems_pull_state WHERE phase <> 'ended' AND organization_id = 'org-rio' ORDER BY job_id;
-- what is under way ends with its answer
SELECT * FROM regress.open;
SELECT jsonb_path_query_array(array_to_json(_pems_pull_failed(job_id, 0, 1, false, 'TIMEOUT', 'slow', false, false, false))::jsonb, '$[*]') ->> 0 LIKE '%SYNC_PULLED%cancelled%' AS told FROM pems_pull_state WHERE under_way AND organization_id = 'org-rio';
SELECT * FROM regress.open;

-- Records of a page: created, updated, deleted, unchanged, stale, refused, in two slices.
SELECT pems_pull('org-rio', mode => 'full') ->> 'jobId' AS full \gset
SELECT phase, cursor FROM _pems_pull_due('{org-rio}', 1);
SELECT * FROM _pems_pull_store(:'full', 0, '{PFA-1,PFA-2,PFA-3,NEW}', '{2,1,3,1}', '{f,f,t,f}', '{zoe,NULL,NULL,zoe}', ARRAY['{"a": 1}', (SELECT data::text FROM pfa_mirror WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-2'), NULL, '{"n": 1}'], '{}', '{}', '{}', '{}');
-- the same slice a second time: not ours
SELECT * FROM _pems_pull_store(:'full', 0, '{PFA-1}', '{9}', '{f}', '{NULL}', ARRAY['{"a": 9}'], '{}', '{}', '{}', '{}');
UPDATE pfa_mirror SET version = 5 WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-4';
SELECT * FROM _pems_pull_store(:'full', 4, '{PFA-4}', '{4}', '{f}', '{NULL}', ARRAY['{"a": 4}'], '{PFA-5,PFA-2,NULL}', '{bad,strange,none}', '{raw5,raw2,raw}', '{t,f,f}');
SELECT records, created, updated, deleted, unchanged, stale, quarantined, stored, stored_stale, stored_bad, seen FROM pems_pull_state WHERE job_id = :'full';
SELECT pfa_id, version, deleted_at IS NOT NULL AS deleted, data FROM pfa_mirror WHERE organization_id = 'org-rio' ORDER BY pfa_id;
SELECT pfa_id, version, source, changed_by FROM pems_mirror_version WHERE organization_id = 'org-rio' AND source = 'pems' ORDER BY state_seq;
SELECT organization_id, pfa_id, job_id = :'full' AS its_job, reason, raw FROM pems_quarantine ORDER BY raw;
-- The worker ends in the middle of the page: what was stored comes once more, and is counted once.
SELECT _pems_pull_put_back();
SELECT records, created, updated, deleted, unchanged, stale, quarantined, stored FROM pems_pull_state WHERE job_id = :'full';
SELECT phase, cursor FROM _pems_pull_due('{org-rio}', 1);
SELECT ours, changed, counts FROM _pems_pull_store(:'full', 0, '{PFA-1,PFA-2,PFA-3,NEW,PFA-4}', '{2,1,3,1,4}', '{f,f,t,f,f}', '{zoe,NULL,NULL,zoe,NULL}', ARRAY['{"a": 1}', (SELECT data::text FROM pfa_mirror WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-2'), NULL, '{"n": 1}', '{"a": 4}'],
    '{PFA-5,PFA-2,NULL}', '{bad,strange,none}', '{raw5,raw2,raw}', '{t,f,f}');
SELECT records, created, updated, deleted, unchanged, stale, quarantined, stored FROM pems_pull_state WHERE job_id = :'full';
SELECT pfa_id, reason FROM pems_quarantine ORDER BY raw;
-- The page is the last one: the search begins.  PFA-6 was not shown, nor LATE, which came after the listing had begun.
INSERT INTO pfa_mirror (id, organization_id, pfa_id, version, data) VALUES ('late', 'org-rio', 'LATE', 1, '{}');
SELECT _pems_pull_page_done(:'full', 1, NULL, 0, 0, 0, '2026-01-01T00:00:00Z', '{PFA-1,PFA-3,NEW}', '{1,1,1}') IS NOT NULL AS told;
SELECT phase, pages, records, unchanged FROM pems_pull_state WHERE job_id = :'full';
SELECT phase FROM _pems_pull_due('{org-rio}', 1);
SELECT regress.search(:'full');
SELECT pfa_id FROM pems_pull_missing;
SELECT _pems_pull_searched(:'full', NULL);
SELECT phase, next_at > clock_timestamp() AS waits FROM pems_pull_state WHERE job_id = :'full';
UPDATE pems_pull_state SET next_at = clock_timestamp() WHERE job_id = :'full';
SELECT phase, asked FROM _pems_pull_due('{org-rio}', 1);
SELECT cardinality(_pems_pull_gone(:'full', true, NULL)) AS messages;
SELECT regress.pull(:'full');
SELECT deleted_at IS NOT NULL AS deleted FROM pfa_mirror WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-6';
SELECT watermark = '2026-01-01T00:00:00Z' AS watermark, last_full_at IS NOT NULL AS last_full, records, stale, last_error = full_error AS both FROM pems_pull_organization WHERE organization_id = 'org-rio';
SELECT p FROM jsonb_array_elements_text(pems_health() -> 'problems') p WHERE p LIKE 'Organization RIO:%';
-- now a delta is a delta, and begins pems_sync.pull_overlap before the watermark
SELECT pems_pull('org-rio') ->> 'jobId' AS delta \gset
SELECT phase, updated_since FROM _pems_pull_due('{org-rio}', 1);
-- the mirror is locked by nobody: an empty page ends it
SELECT ours FROM _pems_pull_store(:'delta', 0, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}');
SELECT _pems_pull_page_done(:'delta', 0, NULL, 0, 0, 0, NULL, '{}', '{0,0,0}') IS NOT NULL AS told;
SELECT regress.pull(:'delta');
SELECT watermark = '2026-01-01T00:00:00Z' AS watermark_stays, last_error, full_error IS NOT NULL AS full_error_stays FROM pems_pull_organization WHERE organization_id = 'org-rio';

-- Paused: nothing is due, and nothing has a time.
SELECT pems_pull('org-rio') ->> 'jobId' AS delta \gset
SELECT pems_pause('org-rio', 'for a test') IS NOT NULL AS paused;
SELECT count(*) FROM _pems_pull_due('{org-rio}', 1);
SELECT * FROM _pems_pull_times('{org-rio}');
SELECT last_error FROM pems_pulls WHERE organization_id = 'org-rio';
SELECT pems_resume('org-rio') IS NOT NULL AS resumed;
SELECT organization_id FROM _pems_pull_times('{org-rio}');
SELECT last_error FROM pems_pulls WHERE organization_id = 'org-rio';
-- a listing behind one that waits has no time of its own; a single record has
UPDATE pems_pull_state SET next_at = clock_timestamp() + interval '1 hour' WHERE job_id = :'delta';
SELECT pems_pull('org-rio', mode => 'adopt') \g /dev/null
SELECT next_at > clock_timestamp() + interval '30 minutes' AS later FROM _pems_pull_times('{org-rio}');
SELECT pems_pull('org-rio', 'PFA-1') \g /dev/null
SELECT next_at <= clock_timestamp() AS now FROM _pems_pull_times('{org-rio}');

-- With its organization a pull goes, and its job is over.
SELECT pems_pull('org-port', mode => 'full') ->> 'jobId' AS port \gset
DELETE FROM pfa_mirror WHERE organization_id = 'org-port';
DELETE FROM organization WHERE id = 'org-port';
SELECT count(*) FROM pems_pull_state WHERE organization_id = 'org-port';
SELECT regress.raises(format('SELECT pems_cancel(%L)', :'port'));

-- Not attached.
SELECT pems_detach() -> 'success';
SELECT regress.raises($$SELECT pems_pull('org-rio')$$), regress.raises('SELECT * FROM pems_pulls');

REVOKE USAGE ON SCHEMA regress FROM PUBLIC;
DROP VIEW regress.open;
DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
DROP ROLE regress_pems_reader, regress_pems_user, regress_pems_nobody;
