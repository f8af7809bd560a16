-- What the soak has found in pulls, each at its smallest.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
\set ECHO none
\i test/support/regress_application.sql
\set ECHO all
/* A pull of org-rio whose answer is there; its job. */
CREATE FUNCTION regress.pull(mode text, pfa_id text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    job text;
BEGIN
    INSERT INTO pems_sync_job (organization_id, kind, requested_by, status) VALUES ('org-rio', 'pull', 'alice', 'running') RETURNING id INTO job;
    INSERT INTO pems_pull_state (job_id, organization_id, pfa_id, mode) VALUES (job, 'org-rio', pfa_id, mode);
    PERFORM _pems_pull_due(ARRAY['org-rio'], 1);
    RETURN job;
END
$$;
/* The whole of a pull of one record, as PEMS has it then. */
CREATE FUNCTION regress.read(mode text, pfa_id text, version integer, record jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    job CONSTANT text := regress.pull(mode, pfa_id);
    counts integer[];
BEGIN
    counts := (_pems_pull_store(job, 0, ARRAY[pfa_id], ARRAY[version], '{f}', '{bob}', ARRAY[record::text], '{}', '{}', '{}', '{}')).counts;
    PERFORM _pems_pull_page_done(job, 0, NULL, 0, 0, 0, NULL, NULL, counts);
    RETURN (SELECT j.status FROM pems_sync_job j WHERE j.id = job);
END
$$;

-- PEMS refuses the credential of a pull: the organization is paused, which listeners are told once, and the pull waits.
SELECT regress.pull('full') AS job \gset
SELECT regress.scrub(_pems_pull_failed(:'job', 0, 0, false, 'UNAUTHORIZED', 'no', false, false, true)::text);
SELECT phase, under_way, error_code, (SELECT count(*) FROM pems_pause) AS paused FROM pems_pull_state;
SELECT _pems_pull_failed(:'job', 0, 0, false, 'UNAUTHORIZED', 'no', false, false, true);
SELECT pems_resume('org-rio') -> 'success';
-- one that is cancelled meanwhile
UPDATE pems_pull_state SET cancelled_by = 'bob';
SELECT substring(m FROM '"type": "(\w+)"') FROM unnest(_pems_pull_failed(:'job', 0, 0, false, 'UNAUTHORIZED', 'no', false, false, true)) m;
SELECT pems_resume('org-rio') -> 'success';

-- PEMS goes back from version 2, which alice made, to 1; the mirror follows.  Alice edits on version 1, and bob makes another version 2
-- in PEMS, with the same rate that alice had written once.  It is bob's, so it is no base of alice's edit.
SELECT regress.queue('a1', 'PFA-1', '{"monthlyRate": 6000}');
SELECT regress.claim();
SELECT regress.record(regress.applied('a1'));
SELECT data AS one FROM pems_mirror_version WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-1' AND version = 1 \gset
SELECT data AS two FROM pems_mirror_version WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-1' AND version = 2 \gset
SELECT regress.read('adopt', 'PFA-1', 1, :'one');
SELECT version, source, changed_by, data -> 'monthlyRate' AS rate FROM pems_mirror_version WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-1' ORDER BY state_seq;
SELECT regress.queue('a2', 'PFA-1', '{"monthlyRate": 7000}');
SELECT regress.read('delta', 'PFA-1', 2, :'two'::jsonb || '{"description": "bob''s"}');
SELECT c.base_version, c.mirror_version, c.own_data -> 'monthlyRate' AS own, c.base_data -> 'monthlyRate' AS base, c.mirror_data -> 'monthlyRate' AS pems
FROM _pems_claim(ARRAY['org-rio'], ARRAY[10]) c;

-- Version 2 was bob's before PEMS went back; alice's edit makes another one.  Bob's stays bob's.
SELECT data || '{"monthlyRate": 1}' AS bobs FROM pfa_mirror WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-2' \gset
SELECT data AS one FROM pfa_mirror WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-2' \gset
SELECT regress.read('delta', 'PFA-2', 2, :'bobs'), regress.read('adopt', 'PFA-2', 1, :'one');
SELECT regress.queue('b1', 'PFA-2', '{"monthlyRate": 2}');
SELECT regress.claim();
SELECT regress.record(regress.applied('b1'));
SELECT version, source, modification_id, changed_by, data -> 'monthlyRate' AS rate FROM pems_mirror_version WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-2' ORDER BY state_seq;
-- a pull that shows the write before its answer is handled: the state is hers
SELECT regress.queue('b2', 'PFA-2', '{"monthlyRate": 3}', base_version => 2);
SELECT regress.claim();
SELECT regress.read('delta', 'PFA-2', 3, :'one'::jsonb || '{"monthlyRate": 3}');
SELECT regress.record(regress.applied('b2'));
SELECT version, source, modification_id, changed_by, data -> 'monthlyRate' AS rate FROM pems_mirror_version WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-2' AND version = 3;

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
