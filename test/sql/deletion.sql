-- Deleting modifications and truncating the application's tables while items are unfinished.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
\set ECHO none
\i test/support/regress_application.sql
\set ECHO all
CREATE ROLE regress_pems_app;
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON pfa_modification, pfa_mirror, organization TO regress_pems_app;

-- Drafts and finished ones can be deleted.
SELECT regress.draft('draft', 'PFA-1'), regress.queue('done', 'PFA-2');
UPDATE pfa_write_queue SET status = 'completed', completed_at = now();
SET ROLE regress_pems_app;
DELETE FROM pfa_modification;
RESET ROLE;
SELECT count(*) FROM pfa_write_queue;
SELECT count(*) FROM pems_audit_log WHERE event_type = 'DISCARDED';

-- In flight, or nobody knows whether it arrived, or written and the mirror not read yet: 55000.
SELECT regress.queue('flying', 'PFA-1'), regress.queue('unknown', 'PFA-2'), regress.queue('written', 'PFA-3');
UPDATE pfa_write_queue SET status = 'processing', claim_token = 1 WHERE modification_id = 'flying';
UPDATE pfa_write_queue SET outcome_unknown = true, next_request = 'read' WHERE modification_id = 'unknown';
UPDATE pfa_write_queue SET next_request = 'refresh' WHERE modification_id = 'written';
SET ROLE regress_pems_app;
SELECT regress.attempt($$DELETE FROM pfa_modification WHERE id = 'flying'$$);
SELECT regress.attempt($$DELETE FROM pfa_modification WHERE id = 'unknown'$$);
SELECT regress.attempt($$DELETE FROM pfa_modification WHERE id = 'written'$$);
RESET ROLE;
-- the owner of the table cannot help it, nor can who deletes the item itself
ALTER TABLE pfa_modification DISABLE TRIGGER USER;
SELECT regress.state($$DELETE FROM pfa_modification WHERE id = 'flying'$$);
ALTER TABLE pfa_modification ENABLE TRIGGER USER;
SELECT regress.state($$DELETE FROM pfa_write_queue WHERE modification_id = 'flying'$$);
SET session_replication_role = replica;
SELECT regress.state($$DELETE FROM pfa_write_queue WHERE modification_id = 'unknown'$$);
RESET session_replication_role;
SET ROLE regress_pems_app;
-- one of many: none is deleted
SELECT regress.draft('draft', 'PFA-1');
SELECT regress.state('DELETE FROM pfa_modification');
SELECT count(*) FROM pfa_modification;
RESET ROLE;
SELECT count(*) FROM pfa_write_queue;

-- What waits goes with its modification: its item is cancelled, the audit log says so, its successors are looked at, the numbers follow.
UPDATE pfa_write_queue SET status = 'completed', next_request = 'write', outcome_unknown = false, completed_at = now();
SELECT regress.queue('w1', 'PFA-4'), regress.queue('w2', 'PFA-4'), regress.queue('w3', 'PFA-5'), regress.queue('dead', 'PFA-6'), regress.queue('conflict', 'PFA-3');
UPDATE pfa_write_queue SET status = 'failed', completed_at = now() WHERE modification_id = 'dead';
UPDATE pfa_write_queue SET status = 'conflict' WHERE modification_id = 'conflict';
INSERT INTO pfa_sync_conflict (pfa_id, organization_id, modification_id, item_id, local_version, pems_version, local_data, kind)
SELECT pfa_id, organization_id, modification_id, id, 1, 2, payload, 'update_update' FROM pfa_write_queue WHERE modification_id = 'conflict';
DELETE FROM pems_recheck;
SET ROLE regress_pems_app;
DELETE FROM pfa_modification WHERE id IN ('w1', 'w3', 'dead', 'conflict');
RESET ROLE;
SELECT modification_id, status, waits_for FROM regress.items WHERE modification_id NOT IN ('flying', 'unknown', 'written');
SELECT count(*) FROM pfa_sync_conflict;
SELECT pfa_id FROM pems_recheck ORDER BY pfa_id COLLATE "C";
SELECT event_type, modification_id, actor, error FROM pems_audit_log WHERE event_type = 'DISCARDED' ORDER BY modification_id COLLATE "C";
SELECT s -> 'totalQueued', s -> 'held', s -> 'failed', s -> 'conflicts' FROM pems_sync_status('org-rio') s;
SET ROLE pems_sync_worker;
SELECT _pems_prepare();
RESET ROLE;
SELECT modification_id, status, waits_for FROM regress.items WHERE modification_id = 'w2';

-- An organization goes when the application's own foreign keys let it, with what is finished or waits, but not while an edit is being sent.
SELECT regress.state($$DELETE FROM organization WHERE id = 'org-rio'$$);
ALTER TABLE pfa_mirror DROP CONSTRAINT pfa_mirror_organization_id_fkey, ADD FOREIGN KEY (organization_id) REFERENCES organization (id) ON DELETE CASCADE;
ALTER TABLE pfa_modification DROP CONSTRAINT pfa_modification_organization_id_fkey, ADD FOREIGN KEY (organization_id) REFERENCES organization (id) ON DELETE CASCADE;
SELECT regress.queue('p-done', 'PFA-9', organization_id => 'org-port'), regress.queue('p-flying', 'PFA-9', organization_id => 'org-port'), regress.queue('p-waits', 'PFA-9', organization_id => 'org-port');
INSERT INTO pfa_sync_conflict (pfa_id, organization_id, modification_id, item_id, local_version, pems_version, local_data, kind, status, resolution)
SELECT pfa_id, organization_id, modification_id, id, 1, 2, payload, 'update_update', 'resolved_manual', 'use_local' FROM pfa_write_queue WHERE modification_id = 'p-done';
UPDATE pfa_write_queue SET status = 'completed', completed_at = now() WHERE modification_id = 'p-done';
UPDATE pfa_write_queue SET status = 'processing' WHERE modification_id = 'p-flying';
SET ROLE regress_pems_app;
SELECT regress.attempt($$DELETE FROM organization WHERE id = 'org-port'$$);
RESET ROLE;
SELECT modification_id, status FROM regress.items WHERE modification_id LIKE 'p-%';
UPDATE pfa_write_queue SET status = 'completed', completed_at = now() WHERE modification_id = 'p-flying';
SET ROLE regress_pems_app;
SELECT regress.attempt($$DELETE FROM organization WHERE id = 'org-port'$$);
RESET ROLE;
SELECT (SELECT count(*) FROM pfa_write_queue WHERE organization_id = 'org-port') AS items, (SELECT count(*) FROM pfa_sync_conflict WHERE organization_id = 'org-port') AS conflicts,
       (SELECT count(*) FROM pfa_modification WHERE organization_id = 'org-port') AS modifications;
SELECT event_type, modification_id, actor FROM pems_audit_log WHERE event_type = 'DISCARDED' AND organization_id = 'org-port';
-- Where the application keeps the modifications of an organization that goes, those that waited are discarded, and the audit log says why.
ALTER TABLE pfa_modification DROP CONSTRAINT pfa_modification_organization_id_fkey;
INSERT INTO organization (id, code, name) VALUES ('org-gone', 'GONE', 'gone');
INSERT INTO pfa_mirror (id, organization_id, pfa_id, version, data) VALUES ('g', 'org-gone', 'PFA-1', 1, '{}');
SELECT regress.queue('g-done', 'PFA-1', organization_id => 'org-gone', base_version => 1), regress.queue('g-waits', 'PFA-1', organization_id => 'org-gone', base_version => 1), regress.queue('g-failed', 'PFA-1', organization_id => 'org-gone', base_version => 1);
UPDATE pfa_write_queue SET status = 'completed', completed_at = now() WHERE modification_id = 'g-done';
UPDATE pfa_modification SET sync_status = 'synced' WHERE id = 'g-done';
UPDATE pfa_write_queue SET status = 'failed', completed_at = now() WHERE modification_id = 'g-failed';
SET ROLE regress_pems_app;
SELECT regress.attempt($$DELETE FROM organization WHERE id = 'org-gone'$$);
RESET ROLE;
SELECT id, sync_status FROM pfa_modification WHERE organization_id = 'org-gone' ORDER BY id;
SELECT event_type, modification_id, actor, error FROM pems_audit_log WHERE event_type = 'DISCARDED' AND organization_id = 'org-gone' ORDER BY modification_id;
DELETE FROM pfa_modification WHERE organization_id = 'org-gone';
ALTER TABLE pfa_modification ADD CONSTRAINT pfa_modification_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organization (id) ON DELETE CASCADE;

-- TRUNCATE of each table, alone, together, and with CASCADE, while an item is unfinished.
SELECT regress.attempt('TRUNCATE pfa_mirror');
SELECT regress.attempt('TRUNCATE pfa_modification CASCADE');
SELECT regress.attempt('TRUNCATE organization CASCADE');
SELECT regress.state('TRUNCATE pfa_modification, pfa_write_queue, pfa_sync_conflict');
SELECT regress.state('TRUNCATE organization, pfa_mirror, pfa_modification, pfa_write_queue, pfa_sync_conflict, pems_credential, pems_pause, pems_pull_state, pems_pull_organization, pems_quarantined');
SET ROLE regress_pems_app;
SELECT regress.state('TRUNCATE pfa_mirror');
RESET ROLE;
CREATE FUNCTION regress.truncate_with(wanted text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    UPDATE pfa_write_queue SET status = wanted, waits_for = NULL WHERE modification_id = 'w2';
    RETURN regress.state('TRUNCATE pfa_mirror');
END
$$;
SELECT s, regress.truncate_with(s) FROM unnest(ARRAY['processing', 'conflict', 'failed']) s;
SELECT count(*) > 0 AS still_there FROM pfa_mirror;
-- finished or cancelled: nothing in the way
SELECT regress.truncate_with('cancelled');
SELECT count(*) FROM pfa_mirror;
SELECT regress.state('TRUNCATE pfa_modification CASCADE');
SELECT count(*) FROM pfa_write_queue;
SELECT s -> 'totalQueued', s -> 'held', s -> 'failed', s -> 'conflicts' FROM pems_sync_status('org-rio') s;

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
DROP ROLE regress_pems_app;
