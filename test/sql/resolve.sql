-- pems_resolve_conflict(): each resolution of each kind of conflict, with all that goes with it; and what it refuses.
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
CREATE ROLE regress_pems_app IN ROLE pems_sync_user;
INSERT INTO pems_field (name, label, type) VALUES ('extra', 'Extra', 'json');
CREATE VIEW regress.queue AS SELECT modification_id, status, waits_for, next_request, base_version AS base, payload, outcome_unknown AS unknown, sent_version AS sent, retry_count AS retries, rounds,
    error_code, last_error, completed_at IS NOT NULL AS completed FROM pfa_write_queue ORDER BY commit_seq;
CREATE VIEW regress.modification AS SELECT id, sync_status, sync_error, synced_at IS NOT NULL AS synced, pems_version, delta FROM pfa_modification ORDER BY id COLLATE "C";
CREATE VIEW regress.decided AS SELECT modification_id, status, resolution, resolved_by, merged_data, resolved_at IS NOT NULL AS at, previous_conflict_id IS NOT NULL AS linked FROM pfa_sync_conflict ORDER BY id;
CREATE VIEW regress.audit AS SELECT a.event_type, a.modification_id, a.actor, a.request, a.error, a.item_id = q.id AS item, a.job_id = q.job_id AS job, a.organization_id, a.pfa_id,
    a.conflict_id = regress.conflict_of(a.modification_id) AS newest_conflict FROM pems_audit_log a LEFT JOIN pfa_write_queue q ON q.modification_id = a.modification_id
    WHERE a.event_type IN ('CONFLICT_RESOLVED', 'DISCARDED') ORDER BY a.at;
CREATE FUNCTION regress.resolve(
    modification text, resolution text, merged_data jsonb DEFAULT NULL, resolved_by text DEFAULT 'bob', organization_id text DEFAULT NULL)
RETURNS text LANGUAGE sql AS $$ SELECT regress.scrub(pems_resolve_conflict(regress.conflict_of(modification), resolution, merged_data, resolved_by, organization_id)) $$;
CREATE FUNCTION regress.clear() RETURNS void LANGUAGE sql AS $$
    SELECT regress.empty_queue(); DELETE FROM pfa_sync_conflict; DELETE FROM pfa_modification; DELETE FROM pems_recheck; TRUNCATE pems_audit_log;
    DELETE FROM pems_mirror_version; DELETE FROM pfa_mirror WHERE pfa_id = 'PFA-1' AND organization_id = 'org-rio';
    INSERT INTO pfa_mirror (organization_id, pfa_id, version, data) VALUES ('org-rio', 'PFA-1', 1, '{"pfaId": "PFA-1", "source": "Rental", "dor": "BEO", "monthlyRate": 5000, "description": "Crawler crane",
        "forecastStart": "2025-01-15T00:00:00Z", "forecastEnd": "2025-06-30T00:00:00Z", "extra": {"centre": {"code": "A", "name": "Alpha"}, "tags": [1, 2]}}')
$$;
/* Everything there is, as one text. */
CREATE FUNCTION regress.everything() RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(E'\n', (SELECT string_agg(q::text, E'\n' ORDER BY q.commit_seq) FROM pfa_write_queue q), (SELECT string_agg(m::text, E'\n' ORDER BY m.id) FROM pfa_modification m),
        (SELECT string_agg(c::text, E'\n' ORDER BY c.id) FROM pfa_sync_conflict c), (SELECT string_agg(r::text, E'\n' ORDER BY r.pfa_id) FROM pfa_mirror r),
        (SELECT string_agg(a::text, E'\n' ORDER BY a.at) FROM pems_audit_log a), (SELECT count(*) FROM pems_recheck), (SELECT count(*) FROM pems_sync_job), (SELECT sum(conflict) FROM pems_sync_stats))
$$;
/* What a resolution is refused with; fails where it is not refused, or leaves something changed. */
CREATE FUNCTION regress.refused(
    modification text, resolution text, merged_data jsonb DEFAULT NULL, organization_id text DEFAULT NULL)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before  CONSTANT text := regress.everything();
    outcome CONSTANT text := regress.attempt(format('SELECT pems_resolve_conflict(%L, %L, %L, ''bob'', %L)', regress.conflict_of(modification), resolution, merged_data, organization_id));
BEGIN
    IF outcome = 'ok' OR before IS DISTINCT FROM regress.everything() THEN
        RAISE EXCEPTION 'something happened: %', outcome;
    END IF;
    RETURN regress.scrub(outcome);
END
$$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA regress TO regress_pems_app;
SELECT regress.clear();

-- use_local: the same item again, at its old place, on the version that the user saw; what is behind it stays held until the worker looks.
SELECT regress.conflict('m1', 'PFA-1', '{"monthlyRate": 5500, "model": "mine"}', '{"monthlyRate": 5800}', '["monthlyRate"]');
SELECT regress.queue('m2', 'PFA-1', '{"dor": "PROJECT"}', 'carol');
UPDATE pfa_write_queue SET retry_count = 2, rounds = 3, outcome_unknown = true, sent_version = 1 WHERE modification_id = 'm1';
DELETE FROM pems_recheck;
SELECT id AS item, commit_seq AS place, attempt FROM pfa_write_queue WHERE modification_id = 'm1' \gset
SET ROLE regress_pems_app;
SELECT regress.resolve('m1', 'use_local', organization_id => 'org-rio');
RESET ROLE;
SELECT * FROM regress.queue;
SELECT id = :'item' AS same_item, commit_seq = :place AS same_place, attempt = :attempt AS same_attempt, scheduled_at <= clock_timestamp() AS due FROM pfa_write_queue WHERE modification_id = 'm1';
SELECT * FROM regress.modification;
SELECT * FROM regress.decided;
SELECT * FROM regress.audit;
SELECT organization_id, pfa_id FROM pems_recheck;
SELECT s -> 'conflicts', s -> 'totalQueued' FROM pems_sync_status('org-rio') s;
-- it may be claimed, with PEMS's version as its base; the one behind it not before it is done
SELECT _pems_prepare() IS NULL AS nothing_waits;
SELECT q.modification_id, c.base_version, c.mirror_version, c.payload, c.outcome_unknown, c.previous_version, c.retry_count, c.rounds FROM _pems_claim(ARRAY['org-rio'], ARRAY[10]) c JOIN pfa_write_queue q ON q.id = c.item_id;
SELECT regress.record(regress.applied('m1'));
SELECT version, data -> 'monthlyRate', data -> 'model' FROM pfa_mirror WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-1';
SELECT regress.claim();
SELECT base_version FROM pfa_write_queue WHERE modification_id = 'm2';
SELECT regress.clear();

-- use_pems: nothing is sent, PEMS keeps its value, the one behind it goes on with the base that its user saw.
SELECT regress.conflict('m1', 'PFA-1', '{"monthlyRate": 5500, "model": "mine"}', '{"monthlyRate": 5800}', '["monthlyRate"]');
SELECT regress.queue('m2', 'PFA-1', '{"dor": "PROJECT"}', 'carol');
DELETE FROM pems_recheck;
SET ROLE regress_pems_app;
SELECT regress.resolve('m1', 'use_pems', resolved_by => NULL);
RESET ROLE;
SELECT * FROM regress.queue;
SELECT * FROM regress.modification;
SELECT * FROM regress.decided;
SELECT * FROM regress.audit;
SELECT organization_id, pfa_id FROM pems_recheck;
SELECT version, data -> 'monthlyRate', data -> 'model' FROM pfa_mirror WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-1';
SELECT _pems_prepare() IS NULL AS nothing_waits;
SELECT q.modification_id, c.base_version, c.mirror_version, c.base_data -> 'monthlyRate' AS base FROM _pems_claim(ARRAY['org-rio'], ARRAY[10]) c JOIN pfa_write_queue q ON q.id = c.item_id;
SELECT regress.clear();

-- merge: merged_data takes the place of the edit; of what it leaves out, a NOTICE tells.
SELECT regress.conflict('m1', 'PFA-1', '{"monthlyRate": 5500, "model": "mine", "extra": {"centre": {"code": "B", "name": "Beta"}, "tags": [3]}}', '{"monthlyRate": 5800}', '["monthlyRate"]');
SET client_min_messages = notice;
DO $$ BEGIN SET LOCAL client_min_messages = notice; PERFORM regress.resolve('m1', 'merge', '{"monthlyRate": 5650, "description": null, "extra": {"tags": [], "centre": {"name": "Gamma"}}}'); END $$;
SET client_min_messages = error;
SELECT * FROM regress.queue;
SELECT * FROM regress.modification;
SELECT * FROM regress.decided;
SELECT * FROM regress.audit;
SELECT _pems_prepare() IS NULL AS nothing_waits;
SELECT regress.claim();
SELECT regress.record(regress.applied('m1'));
SELECT version, data -> 'monthlyRate', data -> 'model', data -> 'description', data -> 'extra' FROM pfa_mirror WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-1';
SELECT sync_status, pems_version FROM regress.modification;
SELECT regress.clear();
-- nothing left out: not a word; appliedChanges are what is queued, also where it is PEMS's own value, or null
SELECT regress.conflict('m1', 'PFA-1', '{"monthlyRate": 5500, "model": "mine"}', '{"monthlyRate": 5800, "model": "theirs"}', '["monthlyRate", "model"]');
SET client_min_messages = notice;
SELECT regress.resolve('m1', 'merge', '{"monthlyRate": 5800, "model": null}');
SET client_min_messages = error;
SELECT request FROM regress.audit;
SELECT regress.clear();

-- The warning that no worker runs: where something is queued, and only there.
SELECT regress.conflict('m1', 'PFA-1', '{"monthlyRate": 5500}', '{"monthlyRate": 5800}', '["monthlyRate"]'), regress.conflict('m2', 'PFA-2', '{"monthlyRate": 5500}', '{"monthlyRate": 5800}', '["monthlyRate"]');
SET client_min_messages = warning;
\set VERBOSITY terse
SELECT regress.resolve('m1', 'use_pems');
SELECT regress.resolve('m2', 'use_local') LIKE '%5500%' AS queued;
\set VERBOSITY default
SET client_min_messages = error;
SELECT regress.clear();
DELETE FROM pfa_mirror WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-2';
INSERT INTO pfa_mirror (organization_id, pfa_id, version, data) VALUES ('org-rio', 'PFA-2', 1, '{"monthlyRate": 5000}');

-- Gone in PEMS: use_pems is the only way.
SELECT regress.conflict('m1', 'PFA-1', '{"monthlyRate": 5500}', NULL, '["monthlyRate"]', 'deleted_in_pems');
SELECT regress.refused('m1', 'use_local');
SELECT regress.refused('m1', 'merge', '{"monthlyRate": 5600}');
SELECT regress.refused('m1', 'merge', '{"nonsense": true}');
SELECT regress.resolve('m1', 'use_pems');
SELECT status FROM regress.queue;
SELECT sync_status FROM regress.modification;
SELECT deleted_at IS NOT NULL AS still_deleted FROM pfa_mirror WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-1';
SELECT regress.clear();

-- A DELETE of a record that changed meanwhile: delete it all the same, on the version that was seen; or keep it; there is nothing to merge.
SELECT regress.conflict('m1', 'PFA-1', '{}', '{"monthlyRate": 5800}', '["monthlyRate"]', 'changed_in_pems_before_delete', operation => 'DELETE');
SELECT regress.refused('m1', 'merge', '{"monthlyRate": 5600}');
SELECT regress.refused('m1', 'merge', '{}');
BEGIN;
SELECT regress.resolve('m1', 'use_pems');
SELECT status FROM regress.queue;
ROLLBACK;
SELECT regress.resolve('m1', 'use_local');
SELECT modification_id, status, base, payload FROM regress.queue;
SELECT request FROM regress.audit;
SELECT _pems_prepare() IS NULL AS nothing_waits;
SELECT c.operation, c.base_version, c.mirror_version FROM _pems_claim(ARRAY['org-rio'], ARRAY[10]) c;
SELECT regress.clear();

-- A rule: use_local would break it still, merge may not, use_pems may.
SELECT regress.conflict('m1', 'PFA-1', '{"forecastEnd": "2025-05-01T00:00:00Z", "model": "mine"}', '{"forecastStart": "2025-05-15T00:00:00Z"}', '["forecastEnd", "model"]', 'validation');
SELECT regress.refused('m1', 'use_local');
SELECT regress.refused('m1', 'merge', '{"forecastEnd": "2025-05-02T00:00:00Z", "model": "mine"}');
SELECT regress.refused('m1', 'merge', '{"forecastEnd": "2025-05-20T00:00:00Z"}');
BEGIN;
SELECT regress.resolve('m1', 'merge', '{"forecastEnd": "2025-05-20T00:00:00Z", "model": "mine"}');
ROLLBACK;
BEGIN;
SELECT regress.resolve('m1', 'use_pems');
ROLLBACK;
-- a field of the other side may be part of the merge
SELECT regress.resolve('m1', 'merge', '{"forecastStart": "2025-01-15T00:00:00Z", "forecastEnd": "2025-05-01T00:00:00Z", "model": "mine"}');
SELECT regress.clear();

-- use_local of an edit that PEMS's other changes have made break a rule.
SELECT regress.conflict('m1', 'PFA-1', '{"forecastEnd": "2025-05-01T00:00:00Z", "dor": "PROJECT"}', '{"forecastStart": "2025-05-15T00:00:00Z", "forecastEnd": "2025-07-01T00:00:00Z"}', '["forecastEnd"]');
SELECT regress.refused('m1', 'use_local');
SELECT status FROM regress.queue;
SELECT regress.clear();

-- No base: use_local, merge and use_pems as with any other.
SELECT regress.conflict('m1', 'PFA-1', '{"monthlyRate": 5500, "dor": "BEO"}', '{"monthlyRate": 5800}', '["monthlyRate"]', 'base_missing', base_version => 99);
BEGIN;
SELECT regress.resolve('m1', 'use_pems');
ROLLBACK;
BEGIN;
SELECT regress.resolve('m1', 'merge', '{"monthlyRate": 5600}');
ROLLBACK;
SELECT regress.resolve('m1', 'use_local');
SELECT status, base FROM regress.queue;
-- from now on there is one
SELECT _pems_prepare() IS NULL AS nothing_waits;
SELECT c.base_version, c.mirror_version FROM _pems_claim(ARRAY['org-rio'], ARRAY[10]) c;
SELECT regress.clear();

-- PEMS moves on after the resolution: a second conflict, with the version that was seen as its base and the merge as the edit, linked to the first.
SELECT regress.conflict('m1', 'PFA-1', '{"monthlyRate": 5500, "model": "mine"}', '{"monthlyRate": 5800}', '["monthlyRate"]');
SELECT regress.conflict_of('m1') AS first \gset
SELECT regress.resolve('m1', 'merge', '{"monthlyRate": 5650}');
SELECT regress.dispute('m1', '{"monthlyRate": 5900}', '["monthlyRate"]');
SELECT regress.conflict_of('m1') AS second \gset
SELECT status, resolution, local_version, pems_version, local_data, base_data -> 'monthlyRate' AS base, pems_data -> 'monthlyRate' AS pems, previous_conflict_id = :'first' AS linked_to_first FROM pfa_sync_conflict ORDER BY id;
SELECT pems_conflict(:'second') ->> 'previousConflictId' = :'first' AS shown;
SELECT status, base, payload, error_code, last_error FROM regress.queue;
SELECT sync_status, sync_error FROM regress.modification;
-- the first stays resolved, and the second can be resolved for itself
SELECT regress.scrub(regress.attempt(format('SELECT pems_resolve_conflict(%L, ''use_local'')', :'first')));
SELECT regress.resolve('m1', 'use_local');
SELECT status, base, payload FROM regress.queue;
SELECT regress.dispute('m1', '{"monthlyRate": 6100}', '["monthlyRate"]');
SELECT previous_conflict_id = :'second' AS linked_to_second FROM pfa_sync_conflict WHERE id = regress.conflict_of('m1');
SELECT regress.resolve('m1', 'use_pems');
SELECT modification_id, resolution, linked FROM regress.decided;
SELECT event_type, request FROM regress.audit;
SELECT regress.clear();

-- Errors in the arguments.
SELECT regress.conflict('m1', 'PFA-1', '{"monthlyRate": 5500, "extra": {"centre": {"code": "B"}, "tags": [3]}, "model": "mine"}',
    '{"monthlyRate": 5800, "extra": {"centre": {"code": "C", "name": "Alpha"}, "tags": [1, 2, 4]}}', '["monthlyRate", "extra.centre.code", "extra.tags"]');
SELECT regress.refused('m1', NULL);
SELECT regress.refused('m1', '');
SELECT regress.refused('m1', 'USE_LOCAL');
SELECT regress.refused('m1', 'discard');
SELECT regress.refused('m1', 'use_local', '{"monthlyRate": 1}');
SELECT regress.refused('m1', 'use_pems', '{}');
SELECT regress.refused('m1', 'merge');
SELECT regress.refused('m1', 'merge', 'null');
SELECT regress.refused('m1', 'merge', '[{"monthlyRate": 1}]');
SELECT regress.refused('m1', 'merge', '"monthlyRate"');
SELECT regress.refused('m1', 'merge', '5');
SELECT regress.refused('m1', 'merge', '{}');
-- every conflicting field, also a nested one; the name of an object above it, with other members, does not decide it
SELECT regress.refused('m1', 'merge', '{"monthlyRate": 5600}');
SELECT regress.refused('m1', 'merge', '{"monthlyRate": 5600, "extra": {}}');
SELECT regress.refused('m1', 'merge', '{"monthlyRate": 5600, "extra": {"centre": {"name": "Gamma"}, "tags": null}}');
SELECT left(regress.refused('m1', 'merge', '{"monthlyRate": 5600, "extra.centre": {"code": "D"}, "extra": {"tags": [9]}}'), 5);
-- unknown and read-only fields, several broken rules: all of them
SELECT regress.refused('m1', 'merge', '{"monthlyRate": 5600, "extra": null, "nonsense": 1}');
SELECT regress.refused('m1', 'merge', '{"monthlyRate": 5600, "extra": null, "lastModified": "2025-01-01T00:00:00Z", "pfaId": "PFA-2"}');
SELECT regress.refused('m1', 'merge', '{"monthlyRate": -1, "extra": null, "dor": "X", "forecastEnd": "2024-01-01T00:00:00Z", "nonsense": 1, "hasPlan": true, "isActualized": "yes"}');
SELECT regress.refused('m1', 'merge', '{"monthlyRate": null, "extra": null}');
SELECT regress.refused('m1', 'merge', '{"monthlyRate": "5600", "extra": null}');
-- the message is no format, whatever names it is given
SELECT regress.refused('m1', 'merge', '{"monthlyRate": 5600, "extra": null, "%s%n% of $1": 1}');
-- who it belongs to
SELECT regress.refused('m1', 'use_local', organization_id => 'org-rio2');
SELECT regress.refused('m1', 'use_pems', organization_id => 'RIO');
SELECT regress.refused('m1', 'use_pems', organization_id => '');
SELECT regress.refused('nowhere', 'use_local');
SELECT regress.attempt($$SELECT pems_resolve_conflict('nowhere', 'use_local')$$);
SELECT regress.attempt($$SELECT pems_resolve_conflict('', 'use_local')$$);
SELECT replace(regress.attempt(format('SELECT pems_resolve_conflict(%L, ''use_pems'', NULL, NULL, ''org-rio2'')', regress.conflict_of('m1'))), regress.conflict_of('m1'), '<id>')
     = replace(regress.attempt('SELECT pems_resolve_conflict(''nowhere'', ''use_pems'', NULL, NULL, ''org-rio2'')'), 'nowhere', '<id>') AS same_words;
-- nothing of all that has touched it
SELECT status, resolution FROM regress.decided;
SELECT status, base FROM regress.queue;
SELECT count(*) FROM regress.audit;
-- an object above the disputed fields that is replaced decides them; JSON null for merged_data is none
BEGIN;
SELECT regress.resolve('m1', 'merge', '{"monthlyRate": 5600, "extra": null}');
ROLLBACK;
BEGIN;
SELECT regress.resolve('m1', 'merge', '{"monthlyRate": 5600, "extra": {"centre": "none", "tags": []}}');
ROLLBACK;
SELECT regress.resolve('m1', 'use_local', 'null');
-- already resolved: every way of resolving it again, by anybody
SELECT regress.refused('m1', r, CASE r WHEN 'merge' THEN '{"monthlyRate": 1}'::jsonb END) FROM unnest(ARRAY['use_local', 'use_pems', 'merge']) r;
SELECT regress.clear();

-- A key with a dot in it, below the top of the record: the edit that is in conflict can be sent as it is.
SELECT regress.conflict('m1', 'PFA-1', '{"extra": {"cost.centre": "B"}}', '{"extra": {"cost.centre": "C"}}', '["extra.cost\\.centre"]');
SELECT pems_conflict(regress.conflict_of('m1')) -> 'fields';
-- a merge that decides another place of nearly the same path decides nothing
SELECT regress.refused('m1', 'merge', '{"extra": {"cost": {"centre": "D"}}}');
BEGIN;
SELECT regress.resolve('m1', 'merge', '{"extra": {"cost.centre": "D"}}');
ROLLBACK;
SELECT regress.resolve('m1', 'use_local');
SELECT regress.clear();

-- Paths: no two places have the same one, and each leads back to its place.
SELECT l.path, _pems_path_keys(l.path) AS keys, _pems_at_path(d.delta, l.path) AS value, _pems_decides(d.delta, l.path) AS decided
FROM (SELECT '{"a": {"b": 1, "b.c": 2, "b\\.c": 3, "": 4, ".": 5, "\\": 6, "b": {"c": 7}}, "a.b": 8, "": {"": 9}, "x": [{"y": 1}], "e": {}}'::jsonb AS delta) d
CROSS JOIN LATERAL _pems_leaf_paths(d.delta) AS l (path) ORDER BY l.path COLLATE "C";
SELECT _pems_at_path('{"a": [1, 2]}', 'a.0') IS NULL AS no_element, _pems_at_path('{"a": "text"}', 'a.b') IS NULL AS not_below_a_text,
    _pems_decides('{"a": null}', 'a.b') AS replaced, _pems_decides('{"a": {}}', 'a.b') AS not_named;

-- Discarded in conflict: resolved for PEMS, and not to be resolved again.
SELECT regress.conflict('m1', 'PFA-1', '{"monthlyRate": 5500}', '{"monthlyRate": 5800}', '["monthlyRate"]');
SELECT regress.queue('m2', 'PFA-1', '{"dor": "PROJECT"}');
SELECT pems_discard('m1', 'dave');
SELECT modification_id, status FROM regress.queue;
SELECT id, sync_status FROM regress.modification;
SELECT * FROM regress.decided;
SELECT event_type, actor, newest_conflict FROM regress.audit;
SELECT regress.refused('m1', 'use_local');
SELECT _pems_prepare() IS NULL AS nothing_waits;
SELECT regress.claim();
SELECT regress.clear();
-- resolved, then discarded before it is sent
SELECT regress.conflict('m1', 'PFA-1', '{"monthlyRate": 5500}', '{"monthlyRate": 5800}', '["monthlyRate"]');
SELECT regress.resolve('m1', 'use_local');
SELECT pems_discard('m1', 'dave') -> 'outcome';
SELECT status, payload FROM regress.queue;
SELECT status, resolution, resolved_by FROM regress.decided;
SELECT regress.clear();
-- superseded: finished, for pems_discard and for pems_commit
SELECT regress.conflict('m1', 'PFA-1', '{"monthlyRate": 5500}', '{"monthlyRate": 5800}', '["monthlyRate"]');
SELECT regress.resolve('m1', 'use_pems');
SELECT regress.attempt($$SELECT pems_discard('m1')$$);
SELECT pems_commit('org-rio', ARRAY['m1']) -> 'rejected';
SELECT regress.clear();

-- The application deletes the modification: its item and its conflict go with it.
SELECT regress.conflict('m1', 'PFA-1', '{"monthlyRate": 5500}', '{"monthlyRate": 5800}', '["monthlyRate"]');
SELECT regress.conflict_of('m1') AS first \gset
DELETE FROM pfa_modification WHERE id = 'm1';
SELECT count(*) FROM pfa_sync_conflict;
SELECT regress.scrub(regress.attempt(format('SELECT pems_resolve_conflict(%L, ''use_local'')', :'first')));
SELECT regress.clear();

-- An item that is not in conflict any more, whatever took it out of there: said so, in a sentence.
SELECT regress.conflict('m1', 'PFA-1', '{"monthlyRate": 5500}', '{"monthlyRate": 5800}', '["monthlyRate"]');
UPDATE pfa_write_queue SET status = 'cancelled', completed_at = now();
SELECT regress.refused('m1', 'use_local');
SELECT regress.clear();

-- A trigger of the application that swallows the mark: nothing is resolved.
SELECT regress.conflict('m1', 'PFA-1', '{"monthlyRate": 5500}', '{"monthlyRate": 5800}', '["monthlyRate"]');
CREATE FUNCTION regress.swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER swallow BEFORE UPDATE ON pfa_modification FOR EACH ROW EXECUTE FUNCTION regress.swallow();
SELECT left(regress.refused('m1', 'use_local'), 5), left(regress.refused('m1', 'use_pems'), 5);
DROP TRIGGER swallow ON pfa_modification;

-- Not attached.
SELECT pems_detach() -> 'success';
SELECT left(regress.refused('m1', 'use_local'), 70);

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
DROP ROLE regress_pems_app;
