-- pems_sync_state(): the state of single records, from the first unfinished edit, the newest draft, or the mirror.
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
INSERT INTO pems_credential (organization_id, api_url, endpoint, sealed_token, key_id, generation, set_by)
SELECT o, 'https://pems.invalid', 'https://pems.invalid:443', '\x00', '0123456789abcdef', 1, 'admin' FROM unnest(ARRAY['org-rio', 'org-rio2']) o;
/* One record: its state; that conflictId is the open conflict's; and which time since is. */
CREATE FUNCTION regress.badge(wanted text, organization_id text DEFAULT 'org-rio') RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = public AS $$
    SELECT coalesce(string_agg(concat_ws(' | ', v ->> 'status', coalesce(v ->> 'modificationId', 'no edit'), coalesce('eta ' || (v ->> 'etaSeconds'), 'no eta'), coalesce(v ->> 'error', 'no error'),
        CASE WHEN v ->> 'conflictId' IS NULL THEN 'no conflict'
             WHEN EXISTS (SELECT FROM pfa_sync_conflict c WHERE c.id = v ->> 'conflictId' AND c.status = 'unresolved' AND c.modification_id = v ->> 'modificationId') THEN 'its conflict' ELSE 'wrong conflict' END,
        'since ' || CASE v ->> 'since'
            WHEN (SELECT _pems_iso(q.created_at) FROM pfa_write_queue q WHERE q.modification_id = v ->> 'modificationId' AND v ->> 'status' = 'queued') THEN 'queued'
            WHEN (SELECT _pems_iso(q.last_attempt_at) FROM pfa_write_queue q WHERE q.modification_id = v ->> 'modificationId' AND v ->> 'status' = 'syncing') THEN 'sent'
            WHEN (SELECT _pems_iso(q.completed_at) FROM pfa_write_queue q WHERE q.modification_id = v ->> 'modificationId' AND v ->> 'status' = 'failed') THEN 'failed'
            WHEN (SELECT _pems_iso(c.created_at) FROM pfa_sync_conflict c WHERE c.id = v ->> 'conflictId') THEN 'in conflict'
            WHEN (SELECT _pems_iso(m.created_at) FROM pfa_modification m WHERE m.id = v ->> 'modificationId' AND v ->> 'status' = 'draft') THEN 'drafted'
            WHEN (SELECT _pems_iso(max(h.recorded_at)) FROM pems_mirror_version h WHERE h.organization_id = $2 AND h.pfa_id = wanted AND v ->> 'status' = 'synced') THEN 'mirrored'
            ELSE 'another time' END), ' and '), 'nothing')
    FROM jsonb_each(pems_sync_state($2, ARRAY[wanted])) AS e (key, v)
$$;

-- Shape: the known ones of the records asked for, by id; each once.
SET ROLE regress_pems_reader;
SELECT regress.scrub(pems_sync_state('org-rio', ARRAY['PFA-1', 'PFA-1', 'nowhere', NULL, 'PFA-9']));
SELECT pems_sync_state('org-rio', ARRAY[NULL, '', 'pfa-1', 'PFA-%']::text[]);
SELECT string_agg(key, ' ' ORDER BY key COLLATE "C") FROM jsonb_object_keys(pems_sync_state(organization_id => 'org-rio', pfa_ids => ARRAY['PFA-6', 'PFA-2', 'PFA-4'])) key;
-- more than one dimension is no other list
SELECT string_agg(key, ' ' ORDER BY key COLLATE "C") FROM jsonb_object_keys(pems_sync_state('org-rio', ARRAY[ARRAY['PFA-1'], ARRAY['PFA-2']])) key;
RESET ROLE;

-- Nothing under way.
SELECT regress.badge('PFA-1');
-- A draft; of two, the newest.
SELECT regress.draft('d1', 'PFA-1');
SELECT regress.badge('PFA-1');
SELECT regress.draft('d2', 'PFA-1', '{"dor": "PROJECT"}', 'bob');
SELECT regress.badge('PFA-1');
-- the record of the same id of another organization knows nothing of it
SELECT regress.badge('PFA-1', 'org-rio2');
-- a draft of a record that is not mirrored
SELECT regress.draft('new', 'PFA-77');
SELECT regress.badge('PFA-77');

-- Queued: and why nothing is being sent.
SELECT regress.commit(ARRAY['d1']);
SELECT regress.badge('PFA-1');
SELECT pems_pause('org-rio', 'month end') -> 'paused';
SELECT regress.badge('PFA-1');
SELECT pems_pause(NULL, 'move of the data centre') -> 'paused';
SELECT regress.badge('PFA-1');
SELECT pems_resume('org-rio') -> 'paused';
SELECT regress.badge('PFA-1');
SELECT pems_resume() -> 'paused', pems_pause('org-rio') -> 'paused';
SELECT regress.badge('PFA-1');
SELECT pems_resume('org-rio') -> 'paused';
BEGIN;
DELETE FROM pems_credential WHERE organization_id = 'org-rio';
SELECT regress.badge('PFA-1');
UPDATE pems_control SET cluster = 'elsewhere';
SELECT regress.badge('PFA-1');
ROLLBACK;
-- a credential that the worker could not open, and one that PEMS has refused
BEGIN;
SELECT _pems_note_credentials('{org-rio}', '{cannot_open}', '{"It is damaged, or sealed for another organization."}');
SELECT regress.badge('PFA-1');
SELECT regress.badge('PFA-1', 'org-rio2');
SELECT _pems_note_credentials('{org-rio}', '{no_key}', '{"Key 0123456789abcdef is not in the key file."}');
SELECT regress.badge('PFA-1');
SELECT _pems_note_credentials('{org-rio}', '{cannot_open}', '{""}');
SELECT regress.badge('PFA-1');
SELECT _pems_note_credentials('{org-rio}', '{ok}', '{""}');
SELECT regress.badge('PFA-1');
INSERT INTO pems_pause (organization_id, cause, reason, paused_by) VALUES ('org-rio', 'credential', 'Invalid token', 'pems_sync');
SELECT regress.badge('PFA-1');
UPDATE pems_pause SET reason = NULL;
SELECT regress.badge('PFA-1');
-- what an administrator has done comes first
SELECT pems_pause('org-rio', 'month end') -> 'paused';
SELECT regress.badge('PFA-1');
ROLLBACK;
-- a later edit is behind it: the first one counts
SELECT regress.commit(ARRAY['d2']);
SELECT regress.badge('PFA-1');
-- waiting for a retry
UPDATE pfa_write_queue SET waits_for = 'time', scheduled_at = now() + interval '1 hour', last_error = 'PEMS is down.', error_code = 'UNAVAILABLE' WHERE modification_id = 'd1';
SELECT regress.badge('PFA-1');
UPDATE pfa_write_queue SET waits_for = NULL, scheduled_at = now(), last_error = NULL, error_code = NULL WHERE modification_id = 'd1';

-- Syncing.
SELECT regress.claim();
SELECT regress.badge('PFA-1');

-- A conflict: which, and who waits for it.
SELECT regress.record(regress.report('d1', 'conflict', '{"conflict_kind": "update_update", "conflict_fields": ["monthlyRate"], "error_code": "CONFLICT", "error": "PEMS has other values."}'));
SELECT regress.badge('PFA-1');
SELECT pems_sync_state('org-rio', ARRAY['PFA-1']) #>> '{PFA-1,conflictId}' = regress.conflict_of('d1') AS the_same;
SELECT regress.queue('d3', 'PFA-1', '{"model": "x"}');
SELECT regress.badge('PFA-1');
SELECT regress.queue('more' || n, 'PFA-1', '{"model": "x"}') FROM generate_series(1, 98) n \g /dev/null
SELECT regress.badge('PFA-1');
DELETE FROM pfa_modification WHERE id LIKE 'more%';
-- resolved: queued again, and the resolved conflict is not shown
SELECT pems_resolve_conflict(regress.conflict_of('d1'), 'use_local') -> 'success';
SELECT regress.badge('PFA-1');
-- a second one is
SELECT _pems_prepare() IS NULL AS nothing_waits;
SELECT regress.claim();
SELECT regress.record(regress.report('d1', 'conflict', '{"conflict_kind": "update_update", "conflict_fields": ["monthlyRate"], "error_code": "CONFLICT", "error": "PEMS has other values."}'));
SELECT regress.badge('PFA-1');
-- decided for PEMS: the next edit is first
SELECT pems_resolve_conflict(regress.conflict_of('d1'), 'use_pems') -> 'success';
SELECT regress.badge('PFA-1');

-- A dead letter, also before a draft; retried.
SELECT regress.draft('d4', 'PFA-1');
SELECT _pems_prepare() IS NULL AS nothing_waits;
SELECT regress.claim();
SELECT regress.record(regress.report('d2', 'failed', '{"http_status": 422, "error_code": "INVALID_REQUEST", "error": "PEMS said no."}'));
SELECT regress.badge('PFA-1');
SELECT pems_retry() -> 'requeuedCount';
SELECT regress.badge('PFA-1');
SELECT pems_discard('d2') -> 'outcome', pems_discard('d3') -> 'outcome';
SELECT regress.badge('PFA-1');
SELECT pems_discard('d4') -> 'outcome';
-- synced: by which edit, when the newest version is one of ours
SELECT regress.badge('PFA-1');
SELECT regress.queue('s1', 'PFA-2', '{"model": "s1"}');
SELECT regress.claim();
SELECT regress.record(regress.applied('s1'));
SELECT regress.badge('PFA-2');
UPDATE pfa_mirror SET version = 3, data = data || '{"dor": "PROJECT"}' WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-2';
SELECT regress.badge('PFA-2');
-- an application that never told when, and a history that was purged
DELETE FROM pems_mirror_version WHERE pfa_id = 'PFA-3';
SELECT regress.scrub(pems_sync_state('org-rio', ARRAY['PFA-3']));

-- Many at once, each with its own.
SELECT regress.queue('q4', 'PFA-4'), regress.queue('q5', 'PFA-5');
SELECT e.key, e.v ->> 'status', e.v ->> 'modificationId' FROM jsonb_each(pems_sync_state('org-rio', ARRAY(SELECT 'PFA-' || n FROM generate_series(1, 500) n))) AS e (key, v) ORDER BY key COLLATE "C";
-- 10,000 of an organization with 100,000 drafts: comparing each with each would take ten seconds
INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by) SELECT 'many' || n, 'org-rio', 'MANY-' || n, 1, '{}', 'alice' FROM generate_series(1, 100000) n;
SET statement_timeout = '4s';
SELECT count(*) FROM jsonb_object_keys(pems_sync_state('org-rio', ARRAY(SELECT 'NONE-' || n FROM generate_series(1, 9999) n) || 'MANY-7'::text));
RESET statement_timeout;
DELETE FROM pfa_modification WHERE id LIKE 'many%';
-- the application's mirror of an unfinished edit is gone: the edit is still there
DELETE FROM pfa_mirror WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-4';
SELECT regress.badge('PFA-4');

-- Errors.
SELECT regress.attempt($$SELECT pems_sync_state('nowhere', '{x}')$$);
SELECT regress.attempt($$SELECT pems_sync_state('org-rio', '{}')$$);
SELECT regress.attempt($$SELECT pems_sync_state('org-rio', ARRAY[NULL]::text[])$$);
SELECT regress.attempt($$SELECT pems_sync_state('RIO', ARRAY['PFA-1'])$$);
SELECT regress.attempt($$SELECT pems_sync_state(NULL, ARRAY['PFA-1'])$$);
SELECT regress.attempt($$SELECT pems_sync_state('org-rio', NULL)$$);
SELECT pems_detach() -> 'success';
SELECT regress.state($$SELECT pems_sync_state('org-rio', ARRAY['PFA-1'])$$);

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
DROP ROLE regress_pems_reader;
