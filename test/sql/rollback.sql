-- pems_rollback_preview() and pems_rollback(): an edit that gives the writable fields their old values.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
\set ECHO none
\i test/support/regress_application.sql
SET client_min_messages = error;
\set ECHO all
-- versions 1 to 4 of PFA-1: what only PEMS writes changes, too
UPDATE pfa_mirror SET version = 2, data = data || '{"monthlyRate": 5000.00, "lastModifiedBy": "pems"}' WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-1';
UPDATE pfa_mirror SET version = 3, data = data || '{"monthlyRate": 6000, "manufacturer": "Liebherr", "lastModifiedBy": "mary"}' WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-1';
UPDATE pfa_mirror SET version = 4, data = data - 'description' || '{"dor": "PROJECT"}' WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-1';
-- the preview names writable fields that differ; 5000.00 is 5000
SELECT pems_rollback_preview('org-rio', 'PFA-1', 3);
SELECT pems_rollback_preview('org-rio', 'PFA-1', 2);
SELECT pems_rollback_preview('org-rio', 'PFA-1', 1) = pems_rollback_preview('org-rio', 'PFA-1', 2);
SELECT pems_rollback_preview('org-rio', 'PFA-1', 4);
-- it changes nothing
SELECT count(*) FROM pfa_modification;
SELECT count(*) FROM pems_audit_log;

-- the rollback is an edit on today's version, by who asked for it
SELECT regress.scrub(pems_rollback('org-rio', 'PFA-1', 2, 'The rate was right before', 'alice'));
SELECT organization_id, pfa_id, base_version, delta, created_by, operation, change_reason, sync_status FROM pfa_modification;
SELECT operation, payload, base_version, status, waits_for, priority FROM pfa_write_queue;
SELECT kind, organization_id, requested_by, queued, rejected, id = (SELECT job_id FROM pfa_write_queue) AS items_job FROM pems_sync_job;
SELECT event_type, actor, request, error, modification_id = (SELECT id FROM pfa_modification) AS ours FROM pems_audit_log ORDER BY at, event_type DESC;
-- a second one waits for the first
SELECT pems_rollback('org-rio', 'PFA-1', 3, 'No, it was not') -> 'changes';
SELECT payload, base_version, waits_for FROM pfa_write_queue ORDER BY commit_seq;
SELECT created_by = current_user FROM pfa_modification ORDER BY created_at DESC LIMIT 1;
-- nothing to change is no edit
SELECT pems_rollback('org-rio', 'PFA-2', 1, 'for fun');
SELECT count(*) FROM pfa_modification;

-- members of an object that came later are emptied, at every depth
INSERT INTO pems_field (name, label, type) VALUES ('custom', 'Custom', 'json');
UPDATE pfa_mirror SET version = 2, data = data || '{"custom": {"a": 1, "deep": {"x": 1}}}' WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-2';
UPDATE pfa_mirror SET version = 3, data = data || '{"custom": {"a": 2, "b": 2, "deep": {"x": 1, "y": 2}, "none": null}}' WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-2';
SELECT pems_rollback_preview('org-rio', 'PFA-2', 2);
SELECT pems_rollback('org-rio', 'PFA-2', 2, 'as it was') -> 'changes' = pems_rollback_preview('org-rio', 'PFA-2', 2) -> 'changes';
UPDATE pfa_mirror m SET version = 4, data = _pems_apply_delta(m.data, q.payload) FROM pfa_write_queue q WHERE m.organization_id = 'org-rio' AND m.pfa_id = 'PFA-2' AND q.pfa_id = 'PFA-2';
SELECT data -> 'custom' FROM pfa_mirror WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-2';
SELECT pems_rollback_preview('org-rio', 'PFA-2', 2);

-- bad input changes nothing
CREATE TABLE regress.before AS SELECT (SELECT count(*) FROM pfa_modification) + (SELECT count(*) FROM pfa_write_queue) + (SELECT count(*) FROM pems_audit_log) + (SELECT count(*) FROM pems_sync_job) AS rows;
SELECT regress.attempt($$SELECT pems_rollback('org-rio', 'PFA-1', 2, NULL)$$);
SELECT regress.attempt($$SELECT pems_rollback('org-rio', 'PFA-1', 2, E' \t')$$);
SELECT regress.attempt($$SELECT pems_rollback('org-rio', 'PFA-1', 7, 'why')$$);
SELECT regress.attempt($$SELECT pems_rollback('org-rio', 'PFA-1', NULL, 'why')$$);
-- of many versions the newest 20 are named
BEGIN;
INSERT INTO pems_mirror_version (organization_id, pfa_id, version, data, source) SELECT 'org-rio', 'PFA-1', n, '{}', 'external' FROM generate_series(6, 30) n;
SELECT regress.attempt($$SELECT pems_rollback_preview('org-rio', 'PFA-1', 99)$$);
DELETE FROM pems_mirror_version WHERE pfa_id = 'PFA-1';
SELECT regress.attempt($$SELECT pems_rollback_preview('org-rio', 'PFA-1', 99)$$);
ROLLBACK;
SELECT regress.attempt($$SELECT pems_rollback('org-rio', 'PFA-99', 1, 'why')$$);
SELECT regress.attempt($$SELECT pems_rollback('org-rio', NULL, 1, 'why')$$);
SELECT regress.attempt($$SELECT pems_rollback('nowhere', 'PFA-1', 1, 'why')$$);
SELECT regress.attempt($$SELECT pems_rollback_preview('org-rio', 'PFA-1', 7)$$);
-- another organization's record is as unknown as one that does not exist
SELECT regress.attempt($$SELECT pems_rollback_preview('org-rio2', 'PFA-3', 1)$$);
SELECT regress.attempt($$SELECT pems_rollback_preview('org-rio2', 'PFA-1', 2)$$);
-- a record that is gone
UPDATE pfa_mirror SET deleted_at = '2026-01-02T03:04:05Z' WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-3';
SELECT regress.attempt($$SELECT pems_rollback('org-rio', 'PFA-3', 1, 'why')$$);
-- old values that today's rules do not allow
UPDATE pfa_mirror SET version = 2, data = data || '{"dor": "BEO", "monthlyRate": -1}' WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-4';
UPDATE pfa_mirror SET version = 3, data = data || '{"monthlyRate": 1}' WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-4';
SELECT regress.attempt($$SELECT pems_rollback('org-rio', 'PFA-4', 2, 'why')$$);
-- the application has a constraint on the author, and another on the reason
CREATE TABLE regress.users (name text PRIMARY KEY);
INSERT INTO regress.users SELECT DISTINCT created_by FROM pfa_modification;
ALTER TABLE pfa_modification ADD CONSTRAINT known_author FOREIGN KEY (created_by) REFERENCES regress.users (name), ADD CONSTRAINT good_reason CHECK (change_reason <> 'bad');
SELECT regress.attempt($$SELECT pems_rollback('org-rio', 'PFA-1', 2, 'why', 'nobody')$$);
SELECT regress.attempt($$SELECT pems_rollback('org-rio', 'PFA-1', 2, 'bad', 'alice')$$);
ALTER TABLE pfa_modification DROP CONSTRAINT known_author, DROP CONSTRAINT good_reason;
DROP TABLE regress.users;
SELECT rows = (SELECT count(*) FROM pfa_modification) + (SELECT count(*) FROM pfa_write_queue) + (SELECT count(*) FROM pems_audit_log) + (SELECT count(*) FROM pems_sync_job) FROM regress.before;

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
