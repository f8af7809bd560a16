-- pems_purge() and read sync: ended pulls go with their jobs and what they could not store; nothing of a pull that waits or runs goes.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
\set ECHO none
\i test/support/regress_application.sql
\set ECHO all
CREATE ROLE regress_pems_admin IN ROLE pems_sync_admin;
/* A pull that was asked for so long ago, and ended so long ago; NULL: it waits. */
CREATE FUNCTION regress.pull(name text, asked interval, ended interval, organization_id text DEFAULT 'org-rio', phase text DEFAULT 'waiting', mode text DEFAULT 'delta')
RETURNS void LANGUAGE sql AS $$
    INSERT INTO pems_sync_job (id, organization_id, kind, requested_by, created_at, status, finished_at)
    VALUES (name, organization_id, 'pull', 'alice', now() - asked, CASE WHEN ended IS NULL THEN 'running' ELSE 'completed' END, now() - ended);
    INSERT INTO pems_pull_state (job_id, organization_id, mode, phase, under_way) VALUES (name, organization_id, mode, CASE WHEN ended IS NULL THEN phase ELSE 'ended' END, phase = 'listing');
$$;
CREATE FUNCTION regress.bad(name text, job text, at interval) RETURNS void LANGUAGE sql AS
$$ INSERT INTO pems_quarantined (id, organization_id, pfa_id, identified, job_id, reason, raw, at) VALUES (name, 'org-rio', name, true, job, 'no version', '{}', now() - at) $$;
CREATE FUNCTION regress.purge(older_than interval, max_rows integer DEFAULT 100) RETURNS text LANGUAGE sql AS
$$ SELECT p - 'auditPartitions' - 'statistics' - 'conflicts' - 'versions' - 'items' FROM pems_purge(older_than, max_rows) p $$;
CREATE FUNCTION regress.left_over() RETURNS text LANGUAGE sql AS $$
    SELECT format('jobs: %s | pulls: %s | quarantine: %s', (SELECT string_agg(j.id, ' ' ORDER BY j.id COLLATE "C") FROM pems_sync_job j WHERE j.kind = 'pull'),
        (SELECT string_agg(s.job_id, ' ' ORDER BY s.job_id COLLATE "C") FROM pems_pull_state s), (SELECT string_agg(q.id, ' ' ORDER BY q.id COLLATE "C") FROM pems_quarantined q))
$$;

-- What is old goes, what has ended since stays, and so does what waits or runs, whatever its age.
SELECT regress.pull('old', '30 days', '29 days'), regress.pull('long', '30 days', '1 hour'), regress.pull('new', '1 hour', '1 minute'),
       regress.pull('waits', '30 days', NULL), regress.pull('runs', '30 days', NULL, 'org-rio', 'listing', 'full');
SELECT regress.bad('bad-old', 'old', '29 days'), regress.bad('bad-gone', 'gone', '29 days'), regress.bad('bad-long', 'long', '29 days'), regress.bad('bad-new', 'new', '1 hour'),
       regress.bad('bad-runs', 'runs', '29 days'), regress.bad('bad-no-job', NULL, '29 days'), regress.bad('late-no-job', NULL, '1 hour');
INSERT INTO pems_pull_seen (job_id, seq, pfa_ids) VALUES ('old', 1, '{PFA-1}'), ('runs', 1, '{PFA-1,PFA-2}');
INSERT INTO pems_pull_missing (job_id, pfa_id) VALUES ('old', 'PFA-3'), ('runs', 'PFA-3');
SELECT regress.left_over();
SELECT regress.purge('60 days');
SELECT regress.left_over();
SET ROLE regress_pems_admin;
SELECT p - 'auditPartitions' - 'statistics' FROM pems_purge('10 days') p;
RESET ROLE;
SELECT regress.left_over();
-- nothing is left of what the pulls that are gone had seen, and all of what one that runs has
SELECT job_id, seq, pfa_ids FROM pems_pull_seen;
SELECT job_id, pfa_id FROM pems_pull_missing;
SELECT request - 'auditPartitions' - 'statistics' FROM pems_audit_log WHERE event_type = 'PURGED' ORDER BY at;
-- all that has ended
SELECT regress.purge('0');
SELECT regress.left_over();
-- one that was cancelled, and one that failed
UPDATE pems_sync_job SET status = CASE id WHEN 'waits' THEN 'cancelled' ELSE 'completed_with_failures' END, finished_at = now() - interval '1 second';
UPDATE pems_pull_state SET phase = 'ended';
SELECT regress.purge('0');
SELECT regress.left_over();

-- At most so many rows of a kind, the oldest jobs first; more: call again.
SELECT regress.pull('p' || n, (10 - n) * interval '1 day', interval '1 day', 'org-port') FROM generate_series(1, 5) n \g /dev/null
SELECT regress.bad('b' || n, 'p1', '2 days') FROM generate_series(1, 3) n \g /dev/null
SELECT regress.purge('1 hour', 2);
SELECT regress.left_over();
SELECT regress.purge('1 hour', 2);
SELECT regress.purge('1 hour', 2);
SELECT regress.left_over();
-- only the quarantine has more than one call takes
SELECT regress.bad('b' || n, NULL, '2 days') FROM generate_series(1, 3) n \g /dev/null
SELECT regress.purge('1 hour', 3);
SELECT regress.purge('1 hour', 3);

-- The history that a pull needs: PEMS went back from version 3 to 1, which was adopted.  What the mirror has stays, so that a listing
-- knows how old that is; the base of a draft from before stays, too.
UPDATE pfa_mirror SET version = 2, data = data || '{"monthlyRate": 5200}' WHERE organization_id = 'org-rio' AND pfa_id IN ('PFA-1', 'PFA-2');
UPDATE pfa_mirror SET version = 3, data = data || '{"monthlyRate": 5300}' WHERE organization_id = 'org-rio' AND pfa_id IN ('PFA-1', 'PFA-2');
SELECT regress.draft('d1', 'PFA-1', base_version => 2);
INSERT INTO pems_sync_job (id, organization_id, kind, requested_by, status) VALUES ('adopt', 'org-rio', 'pull', 'alice', 'running');
INSERT INTO pems_pull_state (job_id, organization_id, mode, phase, under_way) VALUES ('adopt', 'org-rio', 'adopt', 'listing', true);
SELECT changed, counts FROM _pems_pull_store('adopt', 0, '{PFA-1,PFA-2}', '{1,1}', '{f,f}', '{bob,bob}',
    (SELECT array_agg(v.data::text ORDER BY v.pfa_id) FROM pems_mirror_version v WHERE v.organization_id = 'org-rio' AND v.pfa_id IN ('PFA-1', 'PFA-2') AND v.version = 1), '{}', '{}', '{}', '{}');
SELECT pg_sleep(0.01) \g /dev/null
SELECT p -> 'versions' AS versions FROM pems_purge('0') p;
SELECT m.pfa_id, m.version, array_agg(DISTINCT v.version) AS kept FROM pfa_mirror m JOIN pems_mirror_version v USING (organization_id, pfa_id)
WHERE m.organization_id = 'org-rio' AND m.pfa_id IN ('PFA-1', 'PFA-2') GROUP BY 1, 2 ORDER BY 1;
UPDATE pfa_mirror SET version = 4, data = data || '{"monthlyRate": 5400}' WHERE organization_id = 'org-rio' AND pfa_id IN ('PFA-1', 'PFA-2');
SELECT pg_sleep(0.01) \g /dev/null
SELECT p -> 'versions' AS versions FROM pems_purge('0') p;
SELECT m.pfa_id, m.version, array_agg(DISTINCT v.version) AS kept FROM pfa_mirror m JOIN pems_mirror_version v USING (organization_id, pfa_id)
WHERE m.organization_id = 'org-rio' AND m.pfa_id IN ('PFA-1', 'PFA-2') GROUP BY 1, 2 ORDER BY 1;

-- With its organization a pull goes that runs, and what it has seen; its job is over, and is purged as others.
DELETE FROM pems_pull_state;
DELETE FROM pems_sync_job WHERE kind = 'pull';
SELECT regress.pull('with', '1 hour', NULL, 'org-rio2', 'searching', 'full'), regress.pull('other', '1 hour', NULL, 'org-port', 'searching', 'full');
INSERT INTO pems_pull_seen (job_id, seq, pfa_ids) VALUES ('with', 1, '{PFA-1}'), ('other', 1, '{PFA-9}');
INSERT INTO pems_pull_missing (job_id, pfa_id) VALUES ('with', 'PFA-2'), ('other', 'PFA-8');
INSERT INTO pems_pull_sorted (job_id, pfa_id) VALUES ('with', 'PFA-1'), ('other', 'PFA-9');
INSERT INTO pems_pull_sorted_slice (job_id, seq) VALUES ('with', 1), ('other', 1);
DELETE FROM pfa_mirror WHERE organization_id = 'org-rio2';
DELETE FROM organization WHERE id = 'org-rio2';
SELECT job_id FROM pems_pull_seen UNION ALL SELECT job_id FROM pems_pull_missing UNION ALL SELECT job_id FROM pems_pull_sorted UNION ALL SELECT job_id FROM pems_pull_sorted_slice;
SELECT id, status, finished_at IS NOT NULL AS ended FROM pems_sync_job WHERE kind = 'pull' ORDER BY id COLLATE "C";
SELECT pg_sleep(0.01) \g /dev/null
SELECT regress.purge('0');
SELECT regress.left_over();

-- A thousand organizations with regular deltas: 20,000 jobs in one call, while a full pull of a million records runs; nothing is known
-- of the tables, and then all of it.
SELECT regress.pull('many', '30 days', NULL, 'org-rio', 'searching', 'full');
INSERT INTO pems_pull_seen (job_id, seq, pfa_ids) SELECT 'many', n, '{}' FROM generate_series(1, 20000) n;
INSERT INTO pems_pull_missing (job_id, pfa_id) SELECT 'many', 'PFA-' || n FROM generate_series(1, 50000) n;
CREATE FUNCTION regress.many() RETURNS void LANGUAGE sql AS $$
    INSERT INTO pems_sync_job (id, organization_id, kind, requested_by, created_at, status, finished_at)
    SELECT 'd' || n, 'org-rio', 'pull', 'pems_sync', now() - interval '2 days' + n * interval '1 second', 'completed', now() - interval '1 day' FROM generate_series(1, 20000) n;
    INSERT INTO pems_pull_state (job_id, organization_id, mode, phase) SELECT 'd' || n, 'org-rio', 'delta', 'ended' FROM generate_series(1, 20000) n;
$$;
SELECT regress.many();
SET statement_timeout = '15s';
SELECT regress.purge('1 hour', 1000000);
RESET statement_timeout;
SELECT regress.many();
ANALYZE pems_sync_job, pems_pull_state, pems_pull_seen, pems_pull_missing;
SET statement_timeout = '15s';
SELECT regress.purge('1 hour', 1000000);
RESET statement_timeout;
SELECT regress.left_over();

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
DROP ROLE regress_pems_admin;
