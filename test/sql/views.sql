-- The views for psql.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
\set ECHO none
\i test/support/regress_application.sql
\i test/support/regress_conflicts.sql
\set ECHO all
CREATE ROLE regress_pems_reader;
GRANT pems_sync_reader TO regress_pems_reader;
CREATE FUNCTION regress.name(item text) RETURNS text LANGUAGE sql SECURITY DEFINER AS $$ SELECT modification_id FROM public.pfa_write_queue WHERE id = item $$;

SELECT regress.queue('a1', 'PFA-1'), regress.queue('a2', 'PFA-1'), regress.queue('a3', 'PFA-1'), regress.queue('b1', 'PFA-2'),
       regress.queue('c1', 'PFA-1', organization_id => 'org-rio2'), regress.queue('d1', 'PFA-3'), regress.queue('d2', 'PFA-3'), regress.queue('e1', 'PFA-4'), regress.queue('e2', 'PFA-4');
UPDATE pfa_write_queue SET status = 'processing' WHERE modification_id = 'a1';
UPDATE pfa_write_queue SET status = 'failed', error_code = 'INVALID_REQUEST', last_error = 'PEMS said no.', completed_at = now(), attempt = 4, retry_count = 3 WHERE modification_id = 'd1';
UPDATE pfa_write_queue SET status = 'completed', completed_at = now() WHERE modification_id = 'e1';
UPDATE pfa_write_queue SET status = 'cancelled', completed_at = now() WHERE modification_id = 'b1';
SET ROLE regress_pems_reader;
-- unfinished items, and for what each waits: the one right before it
SELECT modification_id, organization_id, pfa_id, status, operation, priority, retry_count, regress.name(held_by) AS held_by FROM pems_queue ORDER BY commit_seq;
SELECT modification_id, error_code, last_error, retry_count, attempt, holding, failed_at IS NOT NULL, payload FROM pems_dead_letters;
SELECT count(*) <= 1 AS at_most_one, count(*) FILTER (WHERE database <> current_database()) AS of_others FROM pems_worker;
RESET ROLE;

SELECT table_name, string_agg(column_name, ' ' ORDER BY ordinal_position) FROM information_schema.columns
WHERE table_name IN ('pems_queue', 'pems_dead_letters', 'pems_open_conflicts', 'pems_worker') GROUP BY table_name ORDER BY table_name COLLATE "C";
-- the views follow
UPDATE pfa_write_queue SET status = 'completed', completed_at = now() WHERE modification_id = 'a1';
SELECT modification_id, regress.name(held_by) AS held_by FROM pems_queue WHERE pfa_id = 'PFA-1' ORDER BY commit_seq;
UPDATE pfa_write_queue SET status = 'cancelled', completed_at = now() WHERE modification_id = 'd1';
SELECT count(*) FROM pems_dead_letters;
SELECT modification_id, regress.name(held_by) AS held_by FROM pems_queue WHERE pfa_id = 'PFA-3';
-- nobody writes through them
SELECT regress.state('DELETE FROM pems_queue') LIKE '%cannot delete%' OR NOT has_table_privilege('pems_sync_admin', 'pems_queue', 'DELETE') AS read_only;

-- Open conflicts, and what waits for them: later unfinished items of the same record, of the same organization.
SELECT regress.empty_queue() \g /dev/null
SELECT regress.conflict('k1', 'PFA-5', '{"monthlyRate": 5500}', '{"monthlyRate": 5800}', '["monthlyRate"]'), regress.conflict('g1', 'PFA-6', '{"monthlyRate": 5500}', NULL, '["monthlyRate"]', 'deleted_in_pems'),
       regress.conflict('x1', 'PFA-2', '{"model": "x"}', '{"model": "y"}', '["model"]', organization_id => 'org-rio2');
SELECT regress.queue('k2', 'PFA-5'), regress.queue('k3', 'PFA-5'), regress.queue('k4', 'PFA-5'), regress.queue('z1', 'PFA-2');
UPDATE pfa_write_queue SET status = 'cancelled', completed_at = now() WHERE modification_id = 'k4';
SET ROLE regress_pems_reader;
SELECT modification_id, organization_id, pfa_id, kind, conflict_fields, local_version, pems_version, local_data, holding, regress.name(item_id) AS item, previous_conflict_id IS NULL AS first FROM pems_open_conflicts ORDER BY id;
RESET ROLE;
-- resolved, discarded or deleted: gone from the view; a new one of the same edit names the one before
SELECT id AS first_id FROM pems_open_conflicts WHERE modification_id = 'k1' \gset
SET client_min_messages = error;
SELECT pems_resolve_conflict(:'first_id', 'use_local') -> 'success', pems_discard('g1') -> 'outcome';
SET client_min_messages = warning;
DELETE FROM pfa_modification WHERE id = 'x1';
SELECT count(*) FROM pems_open_conflicts;
UPDATE pfa_write_queue SET status = 'cancelled', completed_at = now() WHERE modification_id = 'z1';
SELECT regress.dispute('k1', '{"monthlyRate": 5900}', '["monthlyRate"]');
SELECT modification_id, local_version, pems_version, holding, previous_conflict_id = :'first_id' AS names_the_first FROM pems_open_conflicts;
SELECT regress.state('DELETE FROM pems_open_conflicts') LIKE '%cannot delete%' OR NOT has_table_privilege('pems_sync_admin', 'pems_open_conflicts', 'DELETE') AS read_only;

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
DROP ROLE regress_pems_reader;
