-- The SQL API: names, named arguments, defaults, return types, JSON keys and SQLSTATEs, for the functions that exist.
\set QUIET 1
\set ON_ERROR_ROLLBACK off
\set ON_ERROR_STOP on
\pset format unaligned
\pset tuples_only on
\pset pager off

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION pems_sync CASCADE;
SET LOCAL client_min_messages = error;
DO $$ BEGIN PERFORM pems_attach(create_missing => true); END $$;
CREATE VIEW member AS
    SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pems_sync'
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e';

SELECT no_plan();

/* The whole contract.  A function that a later version adds is measured against its line without further ado. */
CREATE TABLE contract (name text PRIMARY KEY, arguments text, must_exist boolean DEFAULT true);
INSERT INTO contract VALUES
    ('pems_commit', 'organization_id text, modification_ids text[] DEFAULT NULL::text[], committed_by text DEFAULT NULL::text, priority text DEFAULT ''normal''::text'),
    ('pems_write_sync', 'organization_id text, modification_ids text[] DEFAULT NULL::text[], priority text DEFAULT ''normal''::text'),
    ('pems_sync_status', 'organization_id text DEFAULT NULL::text, status text DEFAULT NULL::text, start_date timestamp with time zone DEFAULT NULL::timestamp with time zone, end_date timestamp with time zone DEFAULT NULL::timestamp with time zone'),
    ('pems_discard', 'modification_id text, discarded_by text DEFAULT NULL::text, organization_id text DEFAULT NULL::text'),
    ('pems_validate', 'changes jsonb, current jsonb DEFAULT NULL::jsonb'),
    ('pems_attach', 'create_missing boolean DEFAULT false'),
    ('pems_detach', ''),
    ('pems_set_credential', 'organization_id text, api_url text, sealed_token bytea, key_id text, set_by text DEFAULT NULL::text'),
    ('pems_public_key', ''),
    ('pems_pause', 'organization_id text DEFAULT NULL::text, reason text DEFAULT NULL::text, paused_by text DEFAULT NULL::text'),
    ('pems_resume', 'organization_id text DEFAULT NULL::text, resumed_by text DEFAULT NULL::text'),
    ('pems_sync_state', 'organization_id text, pfa_ids text[]'),
    ('pems_conflicts', 'organization_id text, status text DEFAULT NULL::text, page_size integer DEFAULT 100, after text DEFAULT NULL::text'),
    ('pems_conflict', 'conflict_id text, organization_id text DEFAULT NULL::text'),
    ('pems_resolve_conflict', 'conflict_id text, resolution text, merged_data jsonb DEFAULT NULL::jsonb, resolved_by text DEFAULT NULL::text, organization_id text DEFAULT NULL::text'),
    ('pems_retry', 'item_ids text[] DEFAULT NULL::text[], organization_id text DEFAULT NULL::text, retried_by text DEFAULT NULL::text'),
    ('pems_rollback_preview', 'organization_id text, pfa_id text, version integer'),
    ('pems_rollback', 'organization_id text, pfa_id text, version integer, reason text, requested_by text DEFAULT NULL::text'),
    ('pems_health_check', 'organization_id text'),
    ('pems_health', ''),
    ('pems_purge', 'older_than interval DEFAULT NULL::interval, max_rows integer DEFAULT 100000, purged_by text DEFAULT NULL::text');
INSERT INTO contract VALUES
    ('pems_sync_history', 'organization_id text DEFAULT NULL::text, status text DEFAULT NULL::text, start_date timestamp with time zone DEFAULT NULL::timestamp with time zone, end_date timestamp with time zone DEFAULT NULL::timestamp with time zone, page_size integer DEFAULT 50, before text DEFAULT NULL::text, kind text DEFAULT NULL::text', true),
    ('pems_job', 'job_id text, organization_id text DEFAULT NULL::text, page_size integer DEFAULT 50, after text DEFAULT NULL::text', true),
    ('pems_version_history', 'organization_id text, pfa_id text, page_size integer DEFAULT 50, before bigint DEFAULT NULL::bigint', true),
    ('pems_cancel', 'job_id text, organization_id text DEFAULT NULL::text, cancelled_by text DEFAULT NULL::text', true),
    ('pems_commit_preview', 'organization_id text, modification_ids text[] DEFAULT NULL::text[], committed_by text DEFAULT NULL::text', true),
    ('pems_pull', 'organization_id text, pfa_id text DEFAULT NULL::text, mode text DEFAULT ''delta''::text, requested_by text DEFAULT NULL::text', false);
CREATE VIEW routine AS
    SELECT p.oid, p.proname::text AS name, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result
    FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid WHERE p.proname !~ '^_';

SELECT is_empty('SELECT name FROM contract WHERE must_exist EXCEPT SELECT name FROM routine', 'all functions are there');
SELECT is_empty('SELECT name, arguments FROM routine WHERE name IN (SELECT name FROM contract) EXCEPT SELECT name, arguments FROM contract', 'arguments, names and defaults');
SELECT is_empty('SELECT name, result FROM routine WHERE name IN (SELECT name FROM contract) AND result <> ''jsonb''', 'all return jsonb');
SELECT is_empty('SELECT name FROM routine GROUP BY name HAVING count(*) > 1', 'no overloads, so that named arguments never become ambiguous');
SELECT is_empty('SELECT name FROM routine EXCEPT SELECT name FROM contract EXCEPT VALUES (''pems_metrics''), (''pems_audit''), (''pems_schedule_maintenance'')', 'no public function that is not in the contract');

-- An application.
INSERT INTO organization VALUES ('org-rio', 'RIO', 'Rio Grande'), ('org-rio2', 'RIO2', 'Rio Grande 2');
INSERT INTO pfa_mirror (organization_id, pfa_id, version, data) VALUES ('org-rio', 'PFA-12345', 3, '{"monthlyRate": 5000, "dor": "BEO", "source": "Rental"}'), ('org-rio2', 'PFA-12345', 1, '{}');
INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by, change_reason) VALUES
    ('m1', 'org-rio', 'PFA-12345', 3, '{"forecastStart": "2025-01-15T00:00:00Z", "forecastEnd": "2025-06-30T00:00:00Z", "monthlyRate": 5500.00, "dor": "PROJECT"}', 'john.doe@example.com', 'Budget reallocation'),
    ('m2', 'org-rio', 'PFA-12345', 3, '{"monthlyRate": -1}', 'john.doe@example.com', NULL),
    ('m3', 'org-rio', 'PFA-12345', 3, '{"model": "LR"}', 'john.doe@example.com', NULL),
    ('m4', 'org-rio2', 'PFA-12345', 1, '{"model": "LR"}', 'john.doe@example.com', NULL);

/* Keys of an object with the types of their values. */
CREATE FUNCTION shape(value jsonb) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(key || ':' || jsonb_typeof(v), ' ' ORDER BY key COLLATE "C") FROM jsonb_each(value) e (key, v) $$;

-- nothing is sent without a worker, so nothing says when it will have been
SELECT is(shape(pems_write_sync('org-rio')), 'estimatedCompletionTime:null jobId:null queuedCount:number success:boolean', 'pems_write_sync: no time where nothing is being sent');
SELECT is(shape(pems_sync_status('org-rio') - 'health') ~ 'nextSyncAt:null', true, 'pems_sync_status: neither');
-- until pems_sync_state as if one ran
CREATE TEMPORARY TABLE original AS SELECT pg_get_functiondef('_pems_why_not_sent(text)'::regprocedure) AS definition;
CREATE OR REPLACE FUNCTION _pems_why_not_sent(organization text) RETURNS text LANGUAGE sql AS 'SELECT NULL::text';

-- pems_commit
CREATE TEMPORARY TABLE answer AS SELECT pems_commit(organization_id => 'org-rio', modification_ids => ARRAY['m1', 'm2', 'm3'], committed_by => 'john.doe@example.com', priority => 'high') AS r;
SELECT is((SELECT shape(r) FROM answer), 'estimatedCompletionTime:string jobId:string queuedCount:number rejected:array success:boolean', 'pems_commit: shape');
SELECT is((SELECT shape(r #> '{rejected,0}') FROM answer), 'code:string errors:array modificationId:string', 'pems_commit: shape of a rejection');
SELECT is((SELECT r #> '{rejected,0}' FROM answer), '{"modificationId": "m2", "code": "VALIDATION_FAILED", "errors": ["Monthly rate must be positive"]}', 'pems_commit: a rejection');
SELECT matches((SELECT r ->> 'estimatedCompletionTime' FROM answer), '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$', 'times are ISO 8601 in UTC with Z');
SELECT is((SELECT id FROM pems_sync_job), (SELECT r ->> 'jobId' FROM answer), 'jobId is the job''s');
SELECT is((SELECT (r -> 'queuedCount')::integer FROM answer), 2, 'queuedCount');
SELECT is((SELECT array_agg(priority) FROM pfa_write_queue), '{10,10}', 'priority high is 10');
SET LOCAL timezone = 'Asia/Kolkata';
SELECT matches((SELECT pems_write_sync('org-rio') ->> 'estimatedCompletionTime'), 'Z$', 'whatever the session''s time zone is');
SELECT ok(abs(extract(epoch FROM (pems_write_sync('org-rio') ->> 'estimatedCompletionTime')::timestamptz - now())) < 600, 'and it is the right time');
SET LOCAL timezone = 'UTC';
SET LOCAL datestyle = 'German, DMY';
SELECT matches((SELECT pems_sync_status('org-rio') ->> 'nextSyncAt'), '^\d{4}-\d\d-\d\dT', 'whatever the date style is');
RESET datestyle;

-- pems_write_sync
SELECT is(shape(pems_write_sync(organization_id => 'org-rio', modification_ids => ARRAY['m1'], priority => 'low')), 'estimatedCompletionTime:string jobId:string queuedCount:number success:boolean', 'pems_write_sync: shape');
SELECT is((SELECT priority FROM pfa_write_queue WHERE modification_id = 'm1'), -10, 'priority low is -10');

-- pems_sync_status
SELECT is(shape(pems_sync_status(organization_id => 'org-rio', status => 'pending', start_date => now() - interval '1 day', end_date => now())),
    'avgSyncTime:null completed:number conflicts:number failed:number health:string held:number items:array lastSyncAt:null nextSyncAt:string oldestQueuedSeconds:number paused:boolean processing:number totalQueued:number', 'pems_sync_status: shape');
SELECT is(shape(pems_sync_status()), 'avgSyncTime:null completed:number conflicts:number failed:number health:string held:number lastSyncAt:null nextSyncAt:string oldestQueuedSeconds:number paused:boolean processing:number totalQueued:number', 'pems_sync_status: without status no items');
SELECT is((pems_sync_status('org-rio') -> 'totalQueued')::integer, 2, 'totalQueued: pending items');
SELECT is((pems_sync_status('org-rio') -> 'held')::integer, 1, 'held: those that wait for an earlier one');
SELECT matches(pems_sync_status('org-rio') ->> 'health', '^(healthy|degraded|unhealthy)$', 'health');

-- pems_discard
SELECT is(shape(pems_discard(modification_id => 'm3', discarded_by => 'john.doe@example.com', organization_id => 'org-rio')), 'modificationId:string outcome:string success:boolean', 'pems_discard: shape');
UPDATE pfa_write_queue SET status = 'processing' WHERE modification_id = 'm1';
SELECT is(pems_discard('m1'), '{"success": false, "modificationId": "m1", "outcome": "in_flight"}', 'pems_discard: in flight');

-- pems_sync_state
SELECT definition FROM original \gexec
UPDATE pfa_write_queue SET last_attempt_at = now() WHERE modification_id = 'm1';
SELECT is(shape(pems_sync_state(organization_id => 'org-rio', pfa_ids => ARRAY['PFA-12345', 'nowhere'])), 'PFA-12345:object', 'pems_sync_state: one member for each record that is known');
SELECT is(shape(pems_sync_state('org-rio', ARRAY['PFA-12345']) -> 'PFA-12345'), 'conflictId:null error:string etaSeconds:null modificationId:string since:string status:string', 'pems_sync_state: shape of a record');
SELECT is(pems_sync_state('org-rio', ARRAY['PFA-12345']) #>> '{PFA-12345,status}', 'syncing', 'pems_sync_state: status');
SELECT is(shape(pems_sync_state('org-rio2', ARRAY['PFA-12345']) -> 'PFA-12345'), 'conflictId:null error:null etaSeconds:null modificationId:string since:string status:string', 'pems_sync_state: shape of a draft');
SELECT matches(pems_sync_state('org-rio', ARRAY['PFA-12345']) #>> '{PFA-12345,since}', '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$', 'pems_sync_state: since is ISO 8601 in UTC');

-- of a draft whose record has changed since
UPDATE pfa_mirror SET version = 2, data = '{"model": "x"}' WHERE organization_id = 'org-rio2';
SELECT is(shape(pems_sync_state('org-rio2', ARRAY['PFA-12345']) -> 'PFA-12345'), 'changedFields:array conflictId:null error:null etaSeconds:null modificationId:string since:string stale:boolean status:string', 'pems_sync_state: shape of a stale draft');

-- pems_commit_preview
SELECT is(shape(pems_commit_preview(organization_id => 'org-rio2', modification_ids => ARRAY['m4'], committed_by => 'john.doe@example.com')), 'drafts:array', 'pems_commit_preview: shape');
SELECT is(pems_commit_preview('org-rio2') #> '{drafts,0}', '{"modificationId": "m4", "pfaId": "PFA-12345", "decision": "conflict", "fields": ["model"], "errors": []}', 'pems_commit_preview: a draft');

-- pems_sync_history, pems_job
SELECT is(shape(pems_sync_history(organization_id => 'org-rio', status => 'running', start_date => now() - interval '1 day', end_date => now() + interval '1 day', page_size => 10, before => NULL)), 'jobs:array total:number', 'pems_sync_history: shape');
SELECT is(shape(pems_sync_history('org-rio', 'running') #> '{jobs,0}'), 'conflicts:number createdAt:string durationSeconds:null failed:number id:string kind:string organizationId:string queued:number requestedBy:string status:string synced:number', 'pems_sync_history: shape of a job');
SELECT is(shape(pems_job(job_id => (SELECT r ->> 'jobId' FROM answer), organization_id => 'org-rio')),
    'conflicts:number createdAt:string durationSeconds:null failed:number id:string items:array kind:string organizationId:string queued:number rejected:number requestedBy:string status:string synced:number', 'pems_job: shape');
SELECT is(shape(pems_job((SELECT r ->> 'jobId' FROM answer)) #> '{items,0}'),
    'attempts:array completedAt:null createdAt:string error:null errorCode:null id:string jobId:string modificationId:string operation:string organizationId:string pfaId:string priority:number retryCount:number scheduledAt:string status:string', 'pems_job: shape of an item');

-- pems_version_history
SELECT is(shape(pems_version_history(organization_id => 'org-rio', pfa_id => 'PFA-12345', page_size => 10)), 'versions:array', 'pems_version_history: shape');
SELECT is(shape(pems_version_history('org-rio', 'PFA-12345') #> '{versions,0}'), 'changeReason:null changedBy:string current:boolean recordedAt:string source:string version:number', 'pems_version_history: shape of a version');

-- pems_conflicts, pems_conflict: PEMS has moved on to version 4
UPDATE pfa_write_queue SET status = 'conflict' WHERE modification_id = 'm1';
INSERT INTO pfa_sync_conflict (id, pfa_id, organization_id, modification_id, item_id, local_version, pems_version, base_data, local_data, pems_data, conflict_fields, kind, previous_conflict_id)
SELECT 'c1', pfa_id, organization_id, modification_id, id, 3, 4, '{"monthlyRate": 5000}', payload, '{"monthlyRate": 5750, "source": "Rental"}', '["monthlyRate"]', 'update_update', 'c0' FROM pfa_write_queue WHERE modification_id = 'm1';
SELECT is(shape(pems_conflicts(organization_id => 'org-rio', status => 'unresolved', page_size => 10, after => 'a')), 'conflicts:array total:number', 'pems_conflicts: shape');
SELECT is(shape(pems_conflicts('org-rio') #> '{conflicts,0}'), 'conflictFields:array createdAt:string id:string kind:string modificationId:string pfaId:string status:string', 'pems_conflicts: shape of a conflict');
SELECT is(pems_conflicts('org-rio2'), '{"conflicts": [], "total": 0}', 'pems_conflicts: none');
SELECT is(shape(pems_conflict(conflict_id => 'c1', organization_id => 'org-rio')),
    'baseData:object changeReason:string conflictFields:array createdAt:string createdBy:string errors:array fields:array id:string itemId:string kind:string localData:object localVersion:number mergedData:null '
    'modificationId:string operation:string organizationId:string pemsData:object pemsVersion:number pfaId:string previousConflictId:string resolution:null resolvedAt:null resolvedBy:null status:string', 'pems_conflict: shape');
SELECT is(pems_conflict('c1') #> '{fields,0}', '{"field": "monthlyRate", "base": 5000, "local": 5500.00, "pems": 5750, "conflicting": true}', 'pems_conflict: a field');
SELECT is(shape(pems_conflict('c1') #> '{fields,1}'), 'base:null conflicting:boolean field:string local:string pems:null', 'pems_conflict: a field that only the edit sets');

-- pems_resolve_conflict
SELECT throws_ok($$SELECT pems_resolve_conflict('c1', 'mine')$$, '22023', 'unknown resolution "mine"', 'pems_resolve_conflict: unknown resolution');
SELECT throws_ok($$SELECT pems_resolve_conflict('c1', 'merge')$$, '22023', NULL, 'pems_resolve_conflict: merge without merged_data');
SELECT throws_ok($$SELECT pems_resolve_conflict('c1', 'merge', '{"dor": "BEO"}')$$, '22023', NULL, 'pems_resolve_conflict: merged_data that leaves a conflicting field out');
SELECT throws_ok($$SELECT pems_resolve_conflict('c1', 'merge', '{"monthlyRate": -1}')$$, '22023', NULL, 'pems_resolve_conflict: merged_data that breaks a rule');
SELECT throws_ok($$SELECT pems_resolve_conflict('c1', 'use_pems', organization_id => 'org-rio2')$$, 'P0002', 'conflict "c1" does not exist', 'pems_resolve_conflict: of another organization, in the words for none');
SELECT throws_ok($$SELECT pems_resolve_conflict('nowhere', 'use_pems')$$, 'P0002', 'conflict "nowhere" does not exist', 'pems_resolve_conflict: unknown conflict');
CREATE TEMPORARY TABLE resolved AS SELECT pems_resolve_conflict(conflict_id => 'c1', resolution => 'merge', merged_data => '{"monthlyRate": 5600}', resolved_by => 'jane.doe@example.com', organization_id => 'org-rio') AS r;
SELECT is((SELECT shape(r) FROM resolved), 'appliedChanges:object conflictId:string resolvedAt:string success:boolean', 'pems_resolve_conflict: shape');
SELECT is((SELECT r - 'resolvedAt' FROM resolved), '{"success": true, "conflictId": "c1", "appliedChanges": {"monthlyRate": 5600}}', 'pems_resolve_conflict: the answer');
SELECT matches((SELECT r ->> 'resolvedAt' FROM resolved), '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$', 'pems_resolve_conflict: resolvedAt is ISO 8601 in UTC');
SELECT is((SELECT r -> 'resolvedAt' FROM resolved), pems_conflict('c1') -> 'resolvedAt', 'and what pems_conflict shows');
SELECT is(shape(pems_conflict('c1')),
    'baseData:object changeReason:string conflictFields:array createdAt:string createdBy:string errors:array fields:array id:string itemId:string kind:string localData:object localVersion:number mergedData:object '
    'modificationId:string operation:string organizationId:string pemsData:object pemsVersion:number pfaId:string previousConflictId:string resolution:string resolvedAt:string resolvedBy:string status:string', 'pems_conflict: shape when it is resolved');
SELECT throws_ok($$SELECT pems_resolve_conflict('c1', 'use_pems')$$, '55000', 'conflict "c1" is already resolved', 'pems_resolve_conflict: already resolved');

-- pems_retry
UPDATE pfa_write_queue SET status = 'failed' WHERE modification_id = 'm1';
CREATE TEMPORARY TABLE retried AS SELECT pems_retry(item_ids => ARRAY(SELECT id FROM pfa_write_queue WHERE status = 'failed'), organization_id => 'org-rio', retried_by => 'carol') AS r;
SELECT is((SELECT shape(r) FROM retried), 'jobId:string requeuedCount:number success:boolean', 'pems_retry: shape');
SELECT is((SELECT id FROM pems_sync_job WHERE kind = 'retry'), (SELECT r ->> 'jobId' FROM retried), 'pems_retry: jobId is the job''s');
SELECT is(pems_retry(), '{"success": true, "requeuedCount": 0, "jobId": null}', 'pems_retry: nothing to retry');

-- pems_validate
SELECT is(pems_validate(changes => '{"dor": "BEO"}', current => '{}'), '{"valid": true, "errors": []}', 'pems_validate: valid');
SELECT is(pems_validate('{"dor": "X", "source": "Rental"}'), '{"valid": false, "errors": ["DOR must be BEO or PROJECT", "Monthly rate required for rentals"]}', 'pems_validate: not valid');
SELECT is(pems_validate('{"source": "Purchase", "monthlyRate": -1, "forecastStart": "2025-02-01", "forecastEnd": "2025-01-01"}') -> 'errors',
    '["Forecast end must be after forecast start", "Monthly rate must be positive", "Purchase price required for purchases"]', 'pems_validate: the words of the contract');
SELECT is(pems_validate(jsonb_build_object('description', repeat('x', 501))) -> 'errors', '["Description must be less than 500 characters"]', 'pems_validate: length');

-- pems_pause, pems_resume, pems_attach, pems_detach
SELECT is(pems_pause(organization_id => 'org-rio', reason => 'why', paused_by => 'carol') -> 'success', 'true', 'pems_pause');
SELECT is(pems_sync_status('org-rio') -> 'paused', 'true', 'paused in the status');
SELECT is(pems_resume(organization_id => 'org-rio', resumed_by => 'carol') -> 'success', 'true', 'pems_resume');
SELECT is(pems_attach(create_missing => false) -> 'success', 'true', 'pems_attach');

-- SQLSTATEs: 22023 for an argument, P0002 for what is not there, 55000 for what is not possible now, 42501 for what is not allowed.
SELECT throws_ok($$SELECT pems_commit('nowhere')$$, 'P0002', 'organization "nowhere" does not exist', 'pems_commit: unknown organization');
SELECT throws_ok($$SELECT pems_commit('org-rio', priority => 'x')$$, '22023', 'unknown priority "x"', 'pems_commit: unknown priority');
SELECT throws_ok($$SELECT pems_write_sync('nowhere')$$, 'P0002', NULL, 'pems_write_sync: unknown organization');
SELECT throws_ok($$SELECT pems_write_sync('org-rio', priority => 'x')$$, '22023', NULL, 'pems_write_sync: unknown priority');
SELECT throws_ok($$SELECT pems_sync_status('nowhere')$$, 'P0002', NULL, 'pems_sync_status: unknown organization');
SELECT throws_ok($$SELECT pems_sync_status(status => 'x')$$, '22023', NULL, 'pems_sync_status: unknown status');
SELECT throws_ok($$SELECT pems_discard('nowhere')$$, 'P0002', NULL, 'pems_discard: unknown modification');
SELECT throws_ok($$SELECT pems_discard('m4', NULL, 'org-rio')$$, 'P0002', 'modification "m4" does not exist', 'pems_discard: of another organization, in the same words');
SELECT throws_ok($$SELECT pems_discard('m3')$$, '55000', NULL, 'pems_discard: finished');
SELECT throws_ok($$SELECT pems_validate('[]')$$, '22023', NULL, 'pems_validate: no object');
SELECT throws_ok($$SELECT pems_set_credential('org-rio', 'http://pems.invalid', decode(repeat('00', 64), 'hex'), '0123456789abcdef')$$, '22023', NULL, 'pems_set_credential: not https');
SELECT throws_ok($$SELECT pems_pause('nowhere')$$, 'P0002', NULL, 'pems_pause: unknown organization');
SELECT throws_ok($$SELECT pems_conflicts('nowhere')$$, 'P0002', 'organization "nowhere" does not exist', 'pems_conflicts: unknown organization');
SELECT throws_ok($$SELECT pems_conflicts('org-rio', 'open')$$, '22023', 'unknown status "open"', 'pems_conflicts: unknown status');
SELECT throws_ok($$SELECT pems_conflicts('org-rio', page_size => 0)$$, '22023', NULL, 'pems_conflicts: page_size');
SELECT throws_ok($$SELECT pems_conflict('nowhere')$$, 'P0002', 'conflict "nowhere" does not exist', 'pems_conflict: unknown conflict');
SELECT throws_ok($$SELECT pems_conflict('c1', 'org-rio2')$$, 'P0002', 'conflict "c1" does not exist', 'pems_conflict: of another organization, in the same words');
SELECT throws_ok($$SELECT pems_sync_state('nowhere', '{x}')$$, 'P0002', NULL, 'pems_sync_state: unknown organization');
SELECT throws_ok($$SELECT pems_sync_state('org-rio', NULL)$$, '22023', NULL, 'pems_sync_state: no records');
SELECT throws_ok($$SELECT pems_sync_history('nowhere')$$, 'P0002', NULL, 'pems_sync_history: unknown organization');
SELECT throws_ok($$SELECT pems_sync_history(status => 'x')$$, '22023', 'unknown status "x"', 'pems_sync_history: unknown status');
SELECT throws_ok($$SELECT pems_sync_history(page_size => 0)$$, '22023', NULL, 'pems_sync_history: page_size');
SELECT throws_ok($$SELECT pems_job('nowhere')$$, 'P0002', 'job "nowhere" does not exist', 'pems_job: unknown job');
SELECT throws_ok(format('SELECT pems_job(%L, %L)', r ->> 'jobId', 'org-rio2'), 'P0002', NULL, 'pems_job: of another organization') FROM answer;
SELECT throws_ok($$SELECT pems_version_history('org-rio', 'nowhere')$$, 'P0002', NULL, 'pems_version_history: unknown record');
SELECT throws_ok($$SELECT pems_version_history('org-rio', 'PFA-12345', 0)$$, '22023', NULL, 'pems_version_history: page_size');
SELECT throws_ok($$SELECT pems_commit_preview('nowhere')$$, 'P0002', NULL, 'pems_commit_preview: unknown organization');
SELECT throws_ok($$SELECT pems_commit_preview('org-rio', '{}')$$, '22023', NULL, 'pems_commit_preview: no ids');
-- pems_pull, pems_cancel
SELECT is(shape(pems_pull(organization_id => 'org-rio2', pfa_id => NULL, mode => 'full', requested_by => 'anna')), 'jobId:string success:boolean', 'pems_pull: shape');
SELECT is(pems_pull('org-rio2', mode => 'full'), pems_pull('org-rio2'), 'pems_pull: the first delta is a full listing, and one that waits is not asked for twice');
SELECT is(shape(pems_job(pems_pull('org-rio2') ->> 'jobId')), 'cancelledBy:null conflicts:number created:number createdAt:string deleted:number durationSeconds:null error:string errorCode:null etaSeconds:null failed:number id:string items:array kind:string missing:number mode:string organizationId:string pages:number percent:null pfaId:null phase:string quarantined:number queued:number records:number recordsPerSecond:null rejected:number requestedBy:string stale:number status:string synced:number unchanged:number updated:number', 'pems_job: shape of a pull');
SELECT throws_ok($$SELECT pems_pull('nowhere')$$, 'P0002', NULL, 'pems_pull: unknown organization');
SELECT throws_ok($$SELECT pems_pull('org-rio2', mode => 'all')$$, '22023', NULL, 'pems_pull: unknown mode');
SELECT throws_ok($$SELECT pems_pull('org-rio2', '..')$$, '22023', NULL, 'pems_pull: no pfa_id');
SELECT is(shape(pems_cancel(job_id => pems_pull('org-rio2') ->> 'jobId', organization_id => 'org-rio2', cancelled_by => 'anna')), 'jobId:string success:boolean', 'pems_cancel: shape');
SELECT is(pems_job((SELECT id FROM pems_sync_job WHERE kind = 'pull')) ->> 'status', 'cancelled', 'pems_cancel: one that waits is over at once');
SELECT throws_ok($$SELECT pems_cancel((SELECT id FROM pems_sync_job WHERE kind = 'pull'))$$, '55000', NULL, 'pems_cancel: one that is over');
SELECT throws_ok($$SELECT pems_cancel((SELECT min(id) FROM pems_sync_job WHERE kind <> 'pull'))$$, '55000', NULL, 'pems_cancel: a job that is no pull');
SELECT throws_ok($$SELECT pems_cancel('nowhere')$$, 'P0002', NULL, 'pems_cancel: unknown job');
SELECT throws_ok($$SELECT pems_retry(ARRAY['nowhere'])$$, 'P0002', 'no such item', 'pems_retry: unknown item');
SELECT throws_ok($$SELECT pems_retry(organization_id => 'nowhere')$$, 'P0002', NULL, 'pems_retry: unknown organization');
SELECT throws_ok($$SELECT pems_retry(ARRAY(SELECT id FROM pfa_write_queue WHERE modification_id = 'm1'))$$, '55000', 'an item is no dead letter', 'pems_retry: no dead letter');
CREATE ROLE pgtap_pems_nobody;
SELECT ok(NOT has_function_privilege('pgtap_pems_nobody', oid, 'EXECUTE'), 'nobody may call ' || name) FROM routine ORDER BY name COLLATE "C";
SELECT is(pems_detach() -> 'success', 'true', 'pems_detach');
SELECT throws_ok($$SELECT pems_commit('org-rio')$$, '55000', NULL, 'pems_commit: not attached');

SELECT * FROM finish();
ROLLBACK;
