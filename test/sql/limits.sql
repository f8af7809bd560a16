-- What is too large or too long: said with the limit, before anything is changed, and nothing of it is shown in full.
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

-- A text and a JSON value of so many bytes, which stay so many: not all the same letter, so that compression does not make them small.
CREATE FUNCTION regress.text(bytes integer) RETURNS text LANGUAGE sql AS
$$ SELECT string_agg(md5(i::text), '' ORDER BY i) || repeat('x', bytes % 32) FROM generate_series(1, bytes / 32) i $$;
-- {"custom": "..."} of that size, as _pems_size() measures it; a field without a rule
INSERT INTO pems_field (name, label, type) VALUES ('custom', 'Custom', 'json');
CREATE FUNCTION regress.delta(bytes integer) RETURNS jsonb LANGUAGE sql AS
$$ SELECT jsonb_build_object('custom', regress.text(bytes - 18)) $$;
SELECT octet_length(regress.text(1025)), _pems_size(regress.delta(262144), 262144), _pems_size(regress.delta(262145), 262144), _pems_size('{}', 0);
SELECT name, setting, unit, min_val, max_val, context FROM pg_settings WHERE name IN ('pems_sync.max_delta_size', 'pems_sync.max_record_size') ORDER BY name;

-- What is stored elsewhere is measured without being fetched.
CREATE TABLE regress.stored (data jsonb);
ALTER TABLE regress.stored ALTER data SET STORAGE EXTERNAL;
INSERT INTO regress.stored SELECT regress.delta(4000000);
/* Blocks that a statement reads. */
CREATE FUNCTION regress.blocks(statement text) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT json) ' || statement INTO plan;
    RETURN (plan -> 0 -> 'Plan' ->> 'Shared Hit Blocks')::integer + (plan -> 0 -> 'Plan' ->> 'Shared Read Blocks')::integer;
END
$$;
SELECT _pems_size(data, 3999999) FROM regress.stored;
SELECT regress.blocks('SELECT _pems_size(data, 3999999) FROM regress.stored') < 10 AS few, regress.blocks('SELECT data::text FROM regress.stored') > 400 AS many;

-- A number that is stored in a few bytes counts with all its digits, and no more is counted than is needed.
SELECT n.number, _pems_size(jsonb_build_array(n.number::numeric), 1000000) - _pems_size(jsonb_build_array(n.number::numeric), 0) AS grown
FROM unnest(ARRAY['5500.00', '-1e20', '1e999', '1e-999']) n (number);
SELECT pg_column_size(l) < 13000 AS small, _pems_size(l, 262144) BETWEEN 262145 AND 500000 AS large, _pems_size(l, 2000000000) AS whole
FROM (SELECT jsonb_agg('1e131071'::numeric) AS l FROM generate_series(1, 800)) x;

-- Drafts: a clear word for each, they stay drafts, and the others are queued.
SELECT regress.draft('delta-fits', 'PFA-1', regress.delta(262144)), regress.draft('delta', 'PFA-1', regress.delta(262145)),
       regress.draft('author-fits', 'PFA-2', created_by => regress.text(1024)), regress.draft('author', 'PFA-2', created_by => regress.text(1025)),
       regress.draft('reason-fits', 'PFA-3', change_reason => regress.text(1024)), regress.draft('reason', 'PFA-3', change_reason => regress.text(1025)),
       regress.draft(repeat('i', 200), 'PFA-4'), regress.draft(repeat('i', 201), 'PFA-4'), regress.draft(repeat(U&'\+01F4A5', 200), 'PFA-4'), regress.draft(repeat('j', 10000), 'PFA-4'),
       regress.draft('delete', 'PFA-5', regress.delta(262145), operation => 'DELETE'),
       regress.draft('record', regress.text(10000)), regress.draft('status', 'PFA-5'),
       regress.draft('numbers', 'PFA-5', jsonb_build_object('custom', (SELECT jsonb_agg('1e131071'::numeric) FROM generate_series(1, 9000)))),
       regress.draft('digits-fit', 'PFA-5', '{"custom": [{"a": -1e999}, 1e-999, 12.5e997]}'),
       regress.draft('digits', 'PFA-5', '{"custom": {"a": [1, -1e1000]}}'), regress.draft('decimals', 'PFA-5', '{"custom": 1e-1000}');
UPDATE pfa_modification SET sync_status = repeat('s', 10000) WHERE id = 'status';
UPDATE pfa_mirror SET data = data || regress.delta(4194304 - 1000) WHERE organization_id = 'org-rio2' AND pfa_id = 'PFA-1';
UPDATE pfa_mirror SET data = data || regress.delta(4194304) WHERE organization_id = 'org-rio2' AND pfa_id = 'PFA-2';
INSERT INTO pfa_mirror (organization_id, pfa_id, version, data)
SELECT 'org-rio2', 'PFA-3', 1, jsonb_build_object('custom', (SELECT jsonb_agg('1e131071'::numeric) FROM generate_series(1, 40)));
SELECT regress.draft('mirror-fits', 'PFA-1', organization_id => 'org-rio2'), regress.draft('mirror', 'PFA-2', organization_id => 'org-rio2'),
       regress.draft('mirror-numbers', 'PFA-3', organization_id => 'org-rio2');
CREATE VIEW regress.short AS SELECT regexp_replace(left(id, 20), '[^a-z-]', '*', 'g') AS id, length(id), sync_status FROM pfa_modification;
SELECT left(r ->> 'modificationId', 20), length(r ->> 'modificationId'), r ->> 'code', r -> 'errors'
FROM pems_commit('org-rio', (SELECT array_agg(id ORDER BY id) FROM pfa_modification WHERE organization_id = 'org-rio')) c, jsonb_array_elements(c -> 'rejected') r
ORDER BY r ->> 'modificationId' COLLATE "C";
SELECT c -> 'queuedCount', c -> 'rejected' FROM pems_commit('org-rio2') c;
SELECT id, length, sync_status FROM regress.short WHERE sync_status <> 'draft' AND length(sync_status) < 100 ORDER BY id COLLATE "C", length;
SELECT count(*) FROM pfa_write_queue;
-- NULL, and ids that do not exist
SELECT DISTINCT r ->> 'code', length(r ->> 'modificationId') <= 200 FROM pems_commit('org-rio') c, jsonb_array_elements(c -> 'rejected') r WHERE c -> 'queuedCount' = '0';
SELECT left(r ->> 'modificationId', 20), length(r ->> 'modificationId'), r ->> 'code' FROM pems_commit('org-rio', ARRAY[repeat('n', 1000000)]) c, jsonb_array_elements(c -> 'rejected') r;

-- Lists of ids: 10,000, for administrators 100,000.
CREATE ROLE regress_pems_user;
GRANT pems_sync_user TO regress_pems_user;
GRANT USAGE ON SCHEMA regress TO regress_pems_user;
CREATE FUNCTION regress.ids(count integer) RETURNS text[] LANGUAGE sql AS $$ SELECT array_agg('none-' || i) FROM generate_series(1, count) i $$;
SET ROLE regress_pems_user;
SELECT regress.attempt($$SELECT pems_commit('org-rio', regress.ids(10001), 'alice')$$);
SELECT regress.state(s) FROM unnest(ARRAY[$$SELECT pems_write_sync('org-rio', regress.ids(10001))$$, $$SELECT pems_sync_state('org-rio', regress.ids(10001))$$]) s;
SELECT regress.state(s) FROM unnest(ARRAY[$$SELECT pems_commit('org-rio', regress.ids(10000), 'alice')$$, $$SELECT pems_write_sync('org-rio', regress.ids(10000))$$,
    $$SELECT pems_sync_state('org-rio', regress.ids(10000))$$]) s;
RESET ROLE;
SELECT regress.state(s) FROM unnest(ARRAY[$$SELECT pems_commit('org-rio', regress.ids(100001))$$, $$SELECT pems_write_sync('org-rio', regress.ids(100001))$$,
    $$SELECT pems_sync_state('org-rio', regress.ids(100001))$$, $$SELECT pems_retry(regress.ids(100001))$$]) s;
DROP OWNED BY regress_pems_user;
DROP ROLE regress_pems_user;

-- Names and reasons, 1 kB; ids, 200 characters.
SELECT regress.queue('m1', 'PFA-6'), regress.conflict('m2', 'PFA-9', '{"model": "a"}', '{"model": "b"}', '["model"]', organization_id => 'org-port');
CREATE TABLE regress.call (n serial, what text);
INSERT INTO regress.call (what) VALUES
    ($$SELECT pems_commit('org-rio', '{nowhere}', %L)$$), ($$SELECT pems_discard('m1', %L)$$), ($$SELECT pems_retry(NULL, NULL, %L)$$), ($$SELECT pems_pause('org-rio', NULL, %L)$$),
    ($$SELECT pems_pause('org-rio', %L)$$), ($$SELECT pems_resume('org-rio', %L)$$), ($$SELECT pems_purge(NULL, 1, %L)$$), ($$SELECT pems_rollback('org-rio', 'PFA-1', 1, %L)$$),
    ($$SELECT pems_rollback('org-rio', 'PFA-1', 1, 'why', %L)$$), ($$SELECT pems_set_credential('org-rio', 'https://pems.invalid/api', decode(repeat('ab', 48), 'hex'), '0123456789abcdef', %L)$$),
    ($$SELECT pems_set_credential('org-rio', 'https://pems.invalid/' || %L, decode(repeat('ab', 48), 'hex'), '0123456789abcdef')$$),
    ($$SELECT pems_resolve_conflict(regress.conflict_of('m2'), 'use_local', NULL, %L)$$);
SELECT regress.attempt(format(c.what, regress.text(1025))) FROM regress.call c ORDER BY c.n;
-- and what just fits is past that check
SELECT c.n, regress.state(format(c.what, regress.text(1024))) FROM regress.call c WHERE c.what !~ 'resolve|discard|pems.invalid/'' \|\|' ORDER BY c.n;
DELETE FROM pems_pause;
TRUNCATE regress.call;
INSERT INTO regress.call (what) VALUES
    ($$SELECT pems_commit(%L)$$), ($$SELECT pems_write_sync(%L)$$), ($$SELECT pems_write_sync('org-rio', ARRAY[%L]) -> 'queuedCount'$$), ($$SELECT pems_discard(%L)$$), ($$SELECT pems_discard('m1', 'me', %L)$$),
    ($$SELECT pems_retry(ARRAY[%L])$$), ($$SELECT pems_retry(NULL, %L)$$), ($$SELECT pems_pause(%L)$$), ($$SELECT pems_resume(%L)$$), ($$SELECT pems_rollback(%L, 'PFA-1', 1, 'why')$$), ($$SELECT pems_rollback('org-rio', %L, 1, 'why')$$),
    ($$SELECT pems_rollback_preview(%L, 'PFA-1', 1)$$), ($$SELECT pems_rollback_preview('org-rio', %L, 1)$$), ($$SELECT pems_set_credential(%L, 'https://pems.invalid/api', decode(repeat('ab', 48), 'hex'), '0123456789abcdef')$$),
    ($$SELECT pems_resolve_conflict(%L, 'use_local')$$), ($$SELECT pems_resolve_conflict(regress.conflict_of('m2'), 'use_local', organization_id => %L)$$), ($$SELECT pems_conflict(%L)$$), ($$SELECT pems_conflict('c', %L)$$),
    ($$SELECT pems_conflicts(%L)$$), ($$SELECT pems_sync_status(%L)$$), ($$SELECT pems_sync_state(%L, '{x}')$$), ($$SELECT pems_health_check(%L)$$), ($$SELECT pems_audit(%L)$$), ($$SELECT _pems_credential_target(%L)$$);
SELECT DISTINCT regexp_replace(regress.scrub(regress.attempt(format(c.what, repeat('y', 201)))), 'y{100}', '<100>') FROM regress.call c ORDER BY 1;
SELECT c.what, length(regress.attempt(format(c.what, repeat('y', 1000000)))) FROM regress.call c WHERE length(regress.attempt(format(c.what, repeat('y', 1000000)))) > 400;
-- what exists under such an id
INSERT INTO organization (id, code, name) VALUES (repeat('o', 201), 'LONG', 'Long');
INSERT INTO pfa_mirror (organization_id, pfa_id, version, data) VALUES ('org-rio', repeat('p', 201), 1, '{}');
SELECT regress.state($$SELECT pems_commit(repeat('o', 201))$$), regress.state($$SELECT pems_rollback('org-rio', repeat('p', 201), 1, 'why')$$), regress.state($$SELECT pems_discard(repeat('i', 201))$$);
SELECT regress.state($$SELECT pems_set_credential('org-rio', 'https://pems.invalid/api', decode(repeat('ab', 65537), 'hex'), '0123456789abcdef')$$);
SELECT regress.state($$SELECT _pems_reseal_credential('org-rio', 1, '0123456789abcdef', decode(repeat('ab', 65537), 'hex'), '0123456789abcdef')$$);

-- JSON values.
SELECT regress.attempt('SELECT pems_validate(regress.delta(262145))');
SELECT regress.attempt($$SELECT pems_validate('{"model": "x"}', regress.delta(4194305))$$);
SELECT pems_validate(regress.delta(262144)), pems_validate('{"model": "x"}', regress.delta(4194304)) -> 'valid';
SELECT regress.attempt($$SELECT pems_resolve_conflict(regress.conflict_of('m2'), 'merge', regress.delta(262145))$$);
SELECT regress.attempt($$SELECT pems_resolve_conflict(regress.conflict_of('m2'), 'merge', '{"model": "c", "custom": 1e1000}')$$);
SELECT pems_validate('{"custom": [1e1000]}'), pems_validate('{"custom": [1e999]}', '{"custom": 1e131071}');
SELECT regress.state($$SELECT pems_resolve_conflict(regress.conflict_of('m2'), 'merge', '{"model": "c"}' || regress.delta(262000))$$);
-- A record that is too large, and one that was.
SELECT regress.attempt($$SELECT pems_rollback('org-rio2', 'PFA-2', 1, 'why')$$);
UPDATE pfa_mirror SET version = 2, data = '{"source": "Rental", "monthlyRate": 1}' WHERE organization_id = 'org-rio2' AND pfa_id = 'PFA-2';
SELECT regress.state($$SELECT pems_rollback_preview('org-rio2', 'PFA-2', 1)$$);
-- Old values that are more than one edit may have.
UPDATE pfa_mirror SET version = 2, data = data - 'custom' WHERE organization_id = 'org-rio2' AND pfa_id = 'PFA-1';
UPDATE pfa_mirror SET version = 3, data = data || '{"model": "new"}' WHERE organization_id = 'org-rio2' AND pfa_id = 'PFA-1';
SELECT regress.attempt($$SELECT pems_rollback('org-rio2', 'PFA-1', 1, 'why')$$), regress.state($$SELECT pems_rollback('org-rio2', 'PFA-1', 2, 'why')$$);

-- The settings.
SELECT _pems_setting('max_delta_size'), _pems_setting('max_record_size');
SELECT regress.state($$SET pems_sync.max_delta_size = '1GB'$$);

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
