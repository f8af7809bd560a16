-- pems_conflicts() and pems_conflict(): what users see of conflicts, and that nobody sees those of another organization.
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
CREATE FUNCTION regress.fields(modification text) RETURNS SETOF text LANGUAGE sql AS
$$ SELECT f::text FROM jsonb_array_elements(pems_conflict(regress.conflict_of(modification)) -> 'fields') WITH ORDINALITY AS e (f, place) ORDER BY place $$;
CREATE FUNCTION regress.page(VARIADIC arguments text[]) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', string_agg(c ->> 'modificationId', ' ' ORDER BY place), 'of', p.page -> 'total')
    FROM (SELECT pems_conflicts(arguments[1], status => arguments[2], page_size => arguments[3]::integer, after => arguments[4])) p (page)
    LEFT JOIN LATERAL jsonb_array_elements(p.page -> 'conflicts') WITH ORDINALITY AS e (c, place) ON true GROUP BY p.page
$$;

-- None yet.
SELECT pems_conflicts('org-rio');

-- One of each kind, and two of other organizations.
INSERT INTO pems_field (name, label, type) VALUES ('extra', 'Extra', 'json');
UPDATE pfa_mirror SET data = data || '{"extra": {"centre": {"code": "A", "name": "Alpha"}, "tags": [1, 2], "note": "old"}}' WHERE pfa_id = 'PFA-2' AND organization_id = 'org-rio';
SELECT regress.conflict('rate', 'PFA-1', '{"monthlyRate": 5500, "model": "mine", "category": null, "dor": "PROJECT"}', '{"monthlyRate": 5800, "model": null, "description": "theirs"}', '["monthlyRate"]');
SELECT regress.conflict('nested', 'PFA-2', '{"extra": {"centre": {"code": "B", "name": "Beta"}, "tags": [3], "note": null, "new": 1}, "dor": "PROJECT"}',
    '{"extra": {"centre": {"code": "C", "name": "Alpha"}, "tags": [1, 2, 4], "other": true}}', '["extra.centre.code", "extra.tags", "extra.note", "extra.new"]');
SELECT regress.conflict('gone', 'PFA-3', '{"monthlyRate": 5500}', NULL, '["monthlyRate"]', 'deleted_in_pems');
SELECT regress.conflict('delete', 'PFA-4', '{}', '{"monthlyRate": 6000, "model": "LR"}', '["monthlyRate", "model"]', 'changed_in_pems_before_delete', operation => 'DELETE');
SELECT regress.conflict('rule', 'PFA-5', '{"forecastEnd": "2025-05-01T00:00:00Z", "monthlyRate": 1}', '{"forecastStart": "2025-05-15T00:00:00Z"}', '["forecastEnd", "monthlyRate"]', 'validation');
SELECT regress.conflict('lost', 'PFA-6', '{"monthlyRate": 5500, "dor": "BEO"}', '{"monthlyRate": 5900}', '["monthlyRate"]', 'base_missing', base_version => 99);
SELECT regress.conflict('theirs', 'PFA-9', '{"monthlyRate": 5500}', '{"monthlyRate": 5800}', '["monthlyRate"]', organization_id => 'org-port');
SELECT regress.conflict('prefix', 'PFA-1', '{"monthlyRate": 5500}', '{"monthlyRate": 5800}', '["monthlyRate"]', organization_id => 'org-rio2');
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA regress TO regress_pems_reader;
SET ROLE regress_pems_reader;

-- The list: oldest first, this organization's only, exactly by its id.
SELECT regress.scrub(c) FROM jsonb_array_elements(pems_conflicts('org-rio') -> 'conflicts') WITH ORDINALITY AS e (c, place) ORDER BY place;
SELECT pems_conflicts('org-rio') -> 'total', pems_conflicts('org-port') -> 'total', pems_conflicts('org-rio2') -> 'total';
SELECT regress.page('org-port', NULL, '100'), regress.page('org-rio2', NULL, '100');

-- Pages: after is the id of the last one; total counts all pages.
SELECT regress.page('org-rio', NULL, '2');
SELECT regress.page('org-rio', NULL, '2', regress.conflict_of('nested'));
SELECT regress.page('org-rio', NULL, '2', regress.conflict_of('delete'));
SELECT regress.page('org-rio', NULL, '2', regress.conflict_of('lost'));
SELECT regress.page('org-rio', NULL, '1', regress.conflict_of('nested')), regress.page('org-rio', NULL, '1000', regress.conflict_of('nested'));
-- after: an id of another organization, or none at all, is but a place in the order; it lists nobody else's
SELECT regress.page('org-rio', NULL, '100', regress.conflict_of('theirs')), regress.page('org-rio', NULL, '100', ''), regress.page('org-rio', NULL, '100', 'zzz');
-- more than the default page
RESET ROLE;
INSERT INTO pfa_sync_conflict (pfa_id, organization_id, modification_id, item_id, local_version, pems_version, local_data, kind, status)
SELECT 'PFA-2', 'org-rio2', 'prefix', 'past-' || n, 1, 2, '{}', 'update_update', 'resolved_auto' FROM generate_series(1, 120) n;
SET ROLE regress_pems_reader;
SELECT jsonb_array_length(p -> 'conflicts') AS on_page, p -> 'total' AS total FROM pems_conflicts('org-rio2') p;
SELECT jsonb_array_length(p -> 'conflicts') AS on_page, p -> 'total' AS total FROM pems_conflicts('org-rio2', 'resolved_auto', 7) p;

-- All of one conflict.
SELECT jsonb_pretty(regress.scrub(pems_conflict(regress.conflict_of('rate'), 'org-rio'))::jsonb);
SELECT pems_conflict(regress.conflict_of('rate')) = pems_conflict(conflict_id => regress.conflict_of('rate'), organization_id => 'org-rio') AS same_without_organization;
SELECT pems_conflict(regress.conflict_of('theirs')) ->> 'organizationId';

-- The fields side by side: what is disputed first, in its order; a field that only the edit changed; null and missing shown as null.
SELECT regress.fields('rate');
-- nested: dotted paths, arrays as one value, what only the edit names, what it sets to null
SELECT regress.fields('nested');
-- the record is gone: no side of PEMS, and nothing of it in the row
SELECT regress.fields('gone');
SELECT c -> 'pemsData', c -> 'pemsVersion', c -> 'kind', c -> 'errors' FROM pems_conflict(regress.conflict_of('gone')) c;
-- a delete: what PEMS changed meanwhile; the edit itself says nothing of fields
SELECT regress.fields('delete');
SELECT c -> 'operation', c -> 'localData', c -> 'conflictFields' FROM pems_conflict(regress.conflict_of('delete')) c;
-- a rule: which
SELECT regress.fields('rule');
SELECT c -> 'kind', c -> 'errors' FROM pems_conflict(regress.conflict_of('rule')) c;
-- no base: nothing is made up
SELECT regress.fields('lost');
SELECT c -> 'baseData', c -> 'localVersion', c -> 'pemsVersion' FROM pems_conflict(regress.conflict_of('lost')) c;

-- The three sides stay as they were, whatever becomes of mirror, draft and history.
RESET ROLE;
CREATE TEMPORARY TABLE before AS SELECT pems_conflict(regress.conflict_of('rate')) AS c;
UPDATE pfa_mirror SET version = 9, data = '{"monthlyRate": 1}' WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-1';
UPDATE pfa_modification SET delta = '{"monthlyRate": 2}' WHERE id = 'rate';
DELETE FROM pems_mirror_version WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-1';
SELECT pems_conflict(regress.conflict_of('rate')) = c AS unchanged FROM before;

-- By status.
SELECT pems_resolve_conflict(regress.conflict_of('gone'), 'use_pems', resolved_by => 'bob') -> 'success', pems_discard('delete', 'carol') -> 'success';
SET ROLE regress_pems_reader;
SELECT regress.page('org-rio', 'unresolved', '100'), regress.page('org-rio', 'resolved_manual', '100'), regress.page('org-rio', 'resolved_auto', '100');
SELECT regress.page('org-rio', 'unresolved', '2', regress.conflict_of('nested'));
SELECT regress.page('org-rio', NULL, '100');
SELECT c -> 'status', c -> 'resolution', c -> 'resolvedBy', c -> 'mergedData', c ->> 'resolvedAt' IS NOT NULL FROM unnest(ARRAY['gone', 'delete']) m, pems_conflict(regress.conflict_of(m)) c;
RESET ROLE;

-- A rule that an administrator takes away is no error any more.
UPDATE pems_field SET after_field = NULL WHERE name = 'forecastEnd';
SELECT c -> 'kind', c -> 'errors' FROM pems_conflict(regress.conflict_of('rule')) c;

-- Somebody writes a newer mirror between the decision and its record: the row has the record that was decided on, so that what
-- nobody has looked at is compared again after the resolution.
SELECT regress.queue('raced', 'PFA-3', '{"monthlyRate": 5500, "model": "mine"}', base_version => 1);
UPDATE pfa_mirror SET version = 2, data = data || '{"monthlyRate": 5800}', deleted_at = NULL WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-3';
SELECT _pems_prepare() IS NULL AS nothing_waits;
SELECT regress.claim();
CREATE TEMPORARY TABLE decided AS SELECT regress.report('raced', 'conflict', '{"event_type": null, "conflict_kind": "update_update", "conflict_fields": ["monthlyRate"]}') AS report;
UPDATE pfa_mirror SET version = 3, data = data || '{"monthlyRate": 5900, "model": "theirs"}' WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-3';
SELECT regress.record(report) FROM decided;
SELECT regress.fields('raced');
SELECT pems_resolve_conflict(regress.conflict_of('raced'), 'use_local') -> 'success', _pems_prepare() IS NULL AS nothing_waits;
SELECT base_version, mirror_version, base_data -> 'model' AS base, mirror_data -> 'model' AS pems FROM _pems_claim(ARRAY['org-rio'], ARRAY[10]);
DROP TABLE decided;

-- Errors.
SELECT regress.attempt($$SELECT pems_conflicts('nowhere')$$);
SELECT regress.attempt($$SELECT pems_conflicts('RIO')$$);
SELECT regress.attempt($$SELECT pems_conflicts(NULL)$$);
SELECT regress.attempt($$SELECT pems_conflicts('org-rio', 'open')$$);
SELECT regress.attempt($$SELECT pems_conflicts('org-rio', '')$$);
SELECT regress.attempt(format('SELECT pems_conflicts(''org-rio'', %L)', repeat('x', 300)));
SELECT regress.attempt($$SELECT pems_conflicts('org-rio', page_size => 0)$$);
SELECT regress.attempt($$SELECT pems_conflicts('org-rio', page_size => 1001)$$);
SELECT regress.attempt($$SELECT pems_conflicts('org-rio', page_size => NULL)$$);
SELECT regress.attempt($$SELECT pems_conflict('nowhere')$$);
SELECT regress.attempt($$SELECT pems_conflict(NULL)$$);
SELECT regress.attempt($$SELECT pems_conflict('')$$);
-- of another organization: word for word what is said of one that does not exist
CREATE VIEW regress.refusal AS
    SELECT o AS organization, replace(regress.attempt(format('SELECT pems_conflict(%L, %L)', regress.conflict_of('theirs'), o)), regress.conflict_of('theirs'), '<id>') AS theirs,
           replace(regress.attempt(format('SELECT pems_conflict(%L, %L)', 'nowhere', o)), 'nowhere', '<id>') AS nobodys
    FROM unnest(ARRAY['org-rio', 'org-nowhere', 'PORTARTHUR', '', 'org-por%']) o;
SELECT DISTINCT theirs FROM regress.refusal;
SELECT count(*) FILTER (WHERE theirs = nobodys) AS same, count(*) FILTER (WHERE theirs IS DISTINCT FROM nobodys) AS differ FROM regress.refusal;
-- not attached
SELECT pems_detach() -> 'success';
SELECT regress.state($$SELECT pems_conflicts('org-rio')$$), regress.state($$SELECT pems_conflict('nowhere')$$);

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
DROP ROLE regress_pems_reader;
