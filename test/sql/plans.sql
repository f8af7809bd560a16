-- A session that has planned everything while the tables were empty, or nearly, reads a few rows of them later on, however
-- large they have become: the plans of a session outlive the growth.  The worker's, and commits: test/t/015_plans.t.
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

-- The rows that the transaction has read so far, and those that a call reads; without the statistics, which no worker folds here.
-- Its plans stay with the session.
CREATE FUNCTION regress.rows_read() RETURNS bigint LANGUAGE sql AS
$$ SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables WHERE schemaname = 'public' AND relname <> 'pems_sync_stats' $$;
CREATE FUNCTION regress.rows_read(statement text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    before CONSTANT bigint := regress.rows_read();
BEGIN
    EXECUTE statement;
    RETURN regress.rows_read() - before;
END
$$;

-- PostgreSQL's own plans for what is deleted along with a modification are not ours.
ALTER TABLE pfa_modification DISABLE TRIGGER ALL;
-- No autovacuum, and tables that are known to be small.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['pfa_write_queue', 'pems_mirror_version', 'pfa_modification', 'pfa_mirror', 'pfa_sync_conflict', 'organization', 'pems_sync_stats', 'pems_recheck', 'pems_sync_job',
                                'pems_audit_log_default']
    LOOP
        EXECUTE format('ALTER TABLE %I SET (autovacuum_enabled = off)', name);
    END LOOP;
END
$$;
VACUUM (ANALYZE) pfa_write_queue, pems_mirror_version, pfa_modification, pfa_mirror, pfa_sync_conflict, organization, pems_sync_stats, pems_recheck, pems_sync_job;

-- Drafts, edits, conflicts and dead letters for each round; a round is one call of each.
CREATE FUNCTION regress.prepare(round integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO pfa_mirror (organization_id, pfa_id, version, data)
    SELECT 'org-rio', format('R-%s-%s', round, i), 1, '{"monthlyRate": 5000, "model": "old"}' FROM generate_series(1, 9) i;
    UPDATE pfa_mirror SET version = 2, data = '{"monthlyRate": 5200, "model": "old"}' WHERE pfa_id = format('R-%s-9', round);
    INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by, created_at)
    SELECT format('r%s-%s', round, i), 'org-rio', format('R-%s-%s', round, CASE i WHEN 0 THEN 9 ELSE i END), 1, '{"monthlyRate": 5500}', 'alice', clock_timestamp() FROM generate_series(0, 8) i;
    PERFORM regress.commit(ARRAY(SELECT format('r%s-%s', round, i) FROM generate_series(2, 8) i));
    UPDATE pfa_write_queue SET status = 'failed', completed_at = now() WHERE modification_id IN (format('r%s-2', round), format('r%s-3', round));
    UPDATE pfa_write_queue SET status = 'conflict' WHERE modification_id IN (format('r%s-4', round), format('r%s-5', round));
    INSERT INTO pfa_sync_conflict (id, pfa_id, organization_id, modification_id, item_id, local_version, pems_version, base_data, local_data, pems_data, conflict_fields, kind)
    SELECT 'c-' || q.modification_id, q.pfa_id, q.organization_id, q.modification_id, q.id, 1, 2, '{"monthlyRate": 5000}', '{"monthlyRate": 5500}', '{"monthlyRate": 5200}', '["monthlyRate"]', 'update_update'
    FROM pfa_write_queue q WHERE q.modification_id IN (format('r%s-4', round), format('r%s-5', round));
END
$$;
CREATE TABLE regress.call (n serial, what text);
INSERT INTO regress.call (what) VALUES
    ($$INSERT INTO pfa_mirror (organization_id, pfa_id, version, data) SELECT 'org-rio', 'N-%1$s-' || i, 1, '{}' FROM generate_series(1, 3) i$$),
    ($$UPDATE pfa_mirror SET version = 2, data = '{"x": 1}' WHERE organization_id = 'org-rio' AND pfa_id IN ('N-%1$s-1', 'N-%1$s-2')$$),
    ($$SELECT pems_commit('org-rio', ARRAY['r%1$s-1'])$$),
    ($$SELECT pems_write_sync('org-rio', ARRAY['r%1$s-1', 'r%1$s-6', 'r%1$s-7'], 'high')$$),
    ($$SELECT pems_write_sync('org-rio2', NULL, 'high')$$),
    ($$SELECT pems_discard('r%1$s-6')$$),
    ($$SELECT pems_conflict('c-r%1$s-4')$$),
    ($$SELECT pems_resolve_conflict('c-r%1$s-4', 'use_local')$$),
    ($$SELECT pems_resolve_conflict('c-r%1$s-5', 'use_pems')$$),
    ($$SELECT pems_conflicts('org-rio', 'unresolved', 10)$$),
    ($$SELECT pems_conflicts('org-rio', 'unresolved', 10, 'c-r%1$s-3')$$),
    ($$SELECT pems_retry(ARRAY[(SELECT id FROM pfa_write_queue WHERE modification_id = 'r%1$s-2')])$$),
    ($$SELECT pems_retry(NULL, 'org-rio')$$),
    ($$SELECT pems_rollback_preview('org-rio', 'R-%1$s-9', 1)$$),
    ($$SELECT _pems_kept_versions('org-rio', 'R-%1$s-9')$$),
    ($$SELECT pems_rollback('org-rio', 'R-%1$s-9', 1, 'why')$$),
    ($$SELECT pems_sync_state('org-rio', ARRAY['R-%1$s-1', 'R-%1$s-7', 'R-%1$s-9'])$$),
    ($$SELECT pems_commit_preview('org-rio', ARRAY['r%1$s-0', 'r%1$s-1', 'r%1$s-7'])$$),
    ($$SELECT pems_version_history('org-rio', 'R-%1$s-9', 1)$$),
    ($$SELECT pems_job((SELECT job_id FROM pfa_write_queue WHERE modification_id = 'r%1$s-7'), page_size => 3)$$),
    ($$SELECT pems_sync_history('org-rio', page_size => 10)$$), ($$SELECT pems_sync_history(page_size => 10)$$),
    ($$SELECT pems_sync_history('org-rio', page_size => 10, kind => 'retry')$$),
    ($$SELECT pems_sync_history('org-rio', 'completed', page_size => 10)$$),
    ($$SELECT pems_sync_history('org-rio', 'running', page_size => 10)$$), ($$SELECT pems_sync_history('org-rio', 'completed_with_failures', page_size => 10)$$),
    ($$SELECT pems_sync_history(NULL, 'cancelled', page_size => 10)$$), ($$SELECT pems_sync_history('org-rio', 'completed_with_conflicts', page_size => 10)$$),
    ($$SELECT pems_sync_status('org-rio')$$),
    ($$SELECT pems_sync_status('org-rio', 'pending'), pems_sync_status('org-rio', 'failed'), pems_sync_status('org-rio', 'completed')$$),
    ($$SELECT * FROM pems_audit('org-rio', modification_id => 'r%1$s-1', start_date => clock_timestamp() - interval '1 minute')$$),
    ($$SELECT _pems_keep_order()$$),
    ($$DELETE FROM pfa_modification WHERE id = 'r%1$s-8'$$);
-- eight rounds: after five, PostgreSQL may go on with one plan for all values
DO $$
DECLARE
    call record;
BEGIN
    FOR i IN 1 .. 8 LOOP
        PERFORM regress.prepare(i);
        FOR call IN SELECT c.* FROM regress.call c ORDER BY c.n LOOP
            PERFORM regress.rows_read(format(call.what, i));
        END LOOP;
    END LOOP;
END
$$;
SELECT count(*) < 200 AS few FROM pfa_write_queue;

-- 20,000 edits that are finished, with their records, versions, conflicts and audit lines; nothing is analyzed.
INSERT INTO pfa_mirror (organization_id, pfa_id, version, data) SELECT 'org-rio', 'F-' || i, 1, '{"monthlyRate": 1, "model": "old"}' FROM generate_series(1, 20000) i;
INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by, sync_status)
SELECT 'f' || i, 'org-rio', 'F-' || i, 1, '{"monthlyRate": 1}', 'alice', 'synced' FROM generate_series(1, 20000) i;
INSERT INTO pems_sync_job (id, organization_id, kind, requested_by, created_at, queued) SELECT '0' || i, 'org-rio', 'commit', 'alice', now() - interval '1 day', 1 FROM generate_series(1, 20000) i;
INSERT INTO pfa_write_queue (id, modification_id, pfa_id, organization_id, operation, payload, base_version, status, completed_at, sent_version, job_id)
SELECT 'q' || i, 'f' || i, 'F-' || i, 'org-rio', 'UPDATE', '{"monthlyRate": 1}', 1, 'completed', now(), 1, '0' || i FROM generate_series(1, 20000) i;
INSERT INTO pfa_sync_conflict (id, pfa_id, organization_id, modification_id, item_id, local_version, local_data, kind, status)
SELECT 'a' || i, 'F-' || i, 'org-rio', 'f' || i, 'q' || i, 1, '{}', 'update_update', 'resolved_manual' FROM generate_series(1, 20000) i;
SELECT relname FROM pg_class WHERE relname IN ('pfa_write_queue', 'pems_mirror_version', 'pfa_modification', 'pfa_mirror', 'pfa_sync_conflict') AND pg_relation_size(oid) < 250 * 8192;

-- A call reads a few rows; pems_sync_history() counts up to 200 jobs, and looks at one or two items of each for that.
CREATE TABLE regress.result (n integer, round integer, rows_read bigint);
DO $$
DECLARE
    call record;
BEGIN
    FOR i IN 9 .. 10 LOOP
        PERFORM regress.prepare(i);
        FOR call IN SELECT c.* FROM regress.call c ORDER BY c.n LOOP
            INSERT INTO regress.result VALUES (call.n, i, regress.rows_read(format(call.what, i)));
        END LOOP;
    END LOOP;
END
$$;
SELECT c.what, max(r.rows_read) FROM regress.call c JOIN regress.result r USING (n) GROUP BY c.n, c.what HAVING max(r.rows_read) > CASE WHEN c.what ~ 'pems_sync_history' THEN 700 ELSE 300 END ORDER BY c.n;
SELECT count(*) > 30 AS all_were_called FROM regress.result;

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
