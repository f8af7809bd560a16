-- _pems_claim(), as the worker calls it: one item per record, in commit order, the best first, and nothing that is held or paused.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
\set ECHO none
\i test/support/regress_application.sql
\set ECHO all

-- An empty queue.
SET ROLE pems_sync_worker;
SELECT regress.claim();
RESET ROLE;

-- What a claim gives and does.
SELECT regress.queue('m1', 'PFA-1', '{"monthlyRate": 5500}', change_reason => 'Budget reallocation');
SET ROLE pems_sync_worker;
SELECT operation, next_request, attempt, retry_count, rounds, outcome_unknown, previous_version, payload, base_version, mirror_version, mirror_deleted,
       created_by, change_reason, base_data, own_data, mirror_data, claim_token IS NOT NULL AS token, max_retries = current_setting('pems_sync.max_retries')::integer AS retries_as_set
FROM _pems_claim(ARRAY['org-rio'], ARRAY[10]);
RESET ROLE;
SELECT status, waits_for, attempt, sent_version, claim_token IS NOT NULL AS token, last_attempt_at IS NOT NULL AS attempted FROM pfa_write_queue;
SELECT sync_status FROM pfa_modification;
-- what is claimed is not claimed again
SELECT count(*) FROM regress.claim();
SELECT regress.empty_queue() \g /dev/null

-- At most one of a record, the first in commit order, whatever the priorities; the others wait for their turn.
SELECT regress.queue('a1', 'PFA-1', priority => 'low'), regress.queue('a2', 'PFA-1', priority => 'high'), regress.queue('a3', 'PFA-1'),
       regress.queue('b1', 'PFA-2'), regress.queue('c1', 'PFA-3', priority => 'high'), regress.queue('c2', 'PFA-3', priority => 'low'), regress.queue('d1', 'PFA-4');
SET ROLE pems_sync_worker;
-- by priority, then schedule, then commit order
SELECT regress.claim(2);
SELECT regress.claim(2);
SELECT regress.claim(2);
RESET ROLE;
SELECT modification_id, status, waits_for FROM regress.items;
SELECT regress.empty_queue() \g /dev/null
SELECT regress.queue('s1', 'PFA-1'), regress.queue('s2', 'PFA-2'), regress.queue('s3', 'PFA-3');
UPDATE pfa_write_queue SET scheduled_at = scheduled_at - interval '1 hour' WHERE modification_id = 's3';
SELECT regress.claim(2);
SELECT regress.empty_queue() \g /dev/null

-- Several organizations in one call, each with its own number; the answer takes turns among them.
SELECT regress.queue('r1', 'PFA-1'), regress.queue('r2', 'PFA-2'), regress.queue('r3', 'PFA-3'),
       regress.queue('q1', 'PFA-1', organization_id => 'org-rio2'), regress.queue('q2', 'PFA-2', organization_id => 'org-rio2'),
       regress.queue('p1', 'PFA-9', organization_id => 'org-port');
SET ROLE pems_sync_worker;
SELECT q.modification_id FROM _pems_claim(ARRAY['org-rio', 'org-rio2', 'org-nowhere'], ARRAY[2, 10, 5]) WITH ORDINALITY c JOIN pfa_write_queue q ON q.id = c.item_id ORDER BY c.ordinality;
SELECT regress.claim(0, 'org-port');
SELECT count(*) FROM _pems_claim('{}', '{}');
RESET ROLE;
SELECT regress.empty_queue() \g /dev/null

-- Held by an earlier item that waits for a retry, is in flight, in conflict or dead; a finished one holds nobody.
CREATE FUNCTION regress.after(first_status text, first_waits text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    claimed text;
BEGIN
    PERFORM regress.empty_queue();
    PERFORM regress.draft(first_status || coalesce('-' || first_waits, '') || n, 'PFA-1') FROM generate_series(1, 2) n;
    PERFORM regress.commit(NULL);
    UPDATE pfa_write_queue SET status = first_status, waits_for = first_waits, scheduled_at = now() + interval '1 hour', claim_token = 0 WHERE waits_for IS NULL;
    -- also if the second was taken for ready
    UPDATE pfa_write_queue SET waits_for = NULL WHERE waits_for = 'turn';
    SELECT string_agg(c, ' ') INTO claimed FROM regress.claim() c;
    RETURN concat('claimed ', coalesce(claimed, 'nothing'), ', the second ', (SELECT concat_ws(' ', status, 'waits for ' || waits_for) FROM pfa_write_queue ORDER BY commit_seq DESC LIMIT 1));
END
$$;
SELECT s, regress.after(s) FROM unnest(ARRAY['processing', 'conflict', 'failed']) s;
SELECT regress.after('pending', 'time');
SELECT s, regress.after(s) FROM unnest(ARRAY['completed', 'cancelled']) s;
-- a later item in flight holds an earlier one, too: two sessions had committed at the same time, and one of them was sent already
SELECT regress.empty_queue() \g /dev/null
SELECT regress.queue('early', 'PFA-1'), regress.queue('late', 'PFA-1');
UPDATE pfa_write_queue SET waits_for = NULL;
UPDATE pfa_write_queue SET status = 'processing', claim_token = 0 WHERE modification_id = 'late';
SELECT regress.claim();
SELECT modification_id, status, waits_for FROM regress.items;
SELECT regress.empty_queue() \g /dev/null
-- both ready: the first goes, the second is sent back
SELECT regress.queue('first', 'PFA-1', priority => 'low'), regress.queue('second', 'PFA-1', priority => 'high');
UPDATE pfa_write_queue SET waits_for = NULL;
SELECT regress.claim();
SELECT modification_id, status, waits_for FROM regress.items;
SELECT regress.empty_queue() \g /dev/null
-- other records, and the same record of another organization, never wait for it
SELECT regress.queue('h' || n, 'PFA-1') FROM generate_series(1, 50) n \g /dev/null
SELECT regress.queue('other', 'PFA-2'), regress.queue('rio2', 'PFA-1', organization_id => 'org-rio2');
UPDATE pfa_write_queue SET status = 'failed' WHERE modification_id = 'h1';
SELECT regress.claim(1), regress.claim(1, 'org-rio2');
SELECT regress.empty_queue() \g /dev/null

-- Paused: one organization, or all.
SELECT regress.queue('x1', 'PFA-1'), regress.queue('x2', 'PFA-1', organization_id => 'org-rio2');
SELECT pems_pause('org-rio') -> 'paused';
SELECT 'rio', regress.claim() UNION ALL SELECT 'rio2', regress.claim(1, 'org-rio2');
SELECT pems_resume('org-rio') -> 'paused', pems_pause() -> 'paused';
SELECT regress.claim();
INSERT INTO pems_pause (organization_id, cause, paused_by) VALUES ('org-rio', 'credential', 'pems_sync');
SELECT pems_resume() -> 'paused';
SELECT regress.claim();
SELECT regress.empty_queue() \g /dev/null

-- What the decision needs, when the mirror has moved on from what the user saw: base, own changes, mirror.
SELECT regress.draft('o1', 'PFA-5', '{"model": "mine"}'), regress.draft('o2', 'PFA-5', '{"dor": "PROJECT", "model": "mine again"}'), regress.draft('o3', 'PFA-5', '{"model": "hers"}', 'bob');
SELECT regress.commit(ARRAY['o1']);
SELECT regress.claim();
SET ROLE pems_sync_worker;
SELECT regress.record(regress.applied('o1'));
RESET ROLE;
UPDATE pfa_mirror SET version = 3, data = data || '{"category": "Trucks"}' WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-5';
SELECT regress.commit(ARRAY['o2']);
SELECT base_version, mirror_version, base_data -> 'model' AS base_model, base_data -> 'category' AS base_category, own_data, mirror_data -> 'model' AS model, mirror_data -> 'category' AS category
FROM _pems_claim(ARRAY['org-rio'], ARRAY[1]);
SELECT regress.empty_queue('o2') \g /dev/null
-- bob's edit: alice's is not his own
SELECT regress.commit(ARRAY['o3']);
SELECT base_version, mirror_version, own_data, mirror_data -> 'model' AS model FROM _pems_claim(ARRAY['org-rio'], ARRAY[1]);
SELECT regress.empty_queue('o3') \g /dev/null
-- of own changes the fields that are asked for and no others; which are those that differ on all three sides, or, for a DELETE, all
UPDATE pfa_write_queue SET payload = payload || '{"contract": "C-1"}' WHERE modification_id = 'o1';
UPDATE pems_mirror_version SET data = data || '{"contract": "C-1"}' WHERE pfa_id = 'PFA-5' AND version IN (2, 3);
SELECT keys, _pems_own_changes('org-rio', 'PFA-5', _pems_base_seq('org-rio', 'PFA-5', 1, 'infinity'), 'o3', 'alice', keys) AS own
FROM (VALUES (ARRAY['{model}']), (ARRAY['{model}', '{contract}', '{dor}']), (ARRAY['{dor}']), (NULL)) AS v (keys);
-- what PEMS made of an own write counts as it is, where no version is missing before it
UPDATE pfa_write_queue SET sent_version = 1, known_version = 2 WHERE modification_id = 'o1';
UPDATE pems_mirror_version SET data = data || '{"model": "MINE", "dor": "made"}' WHERE pfa_id = 'PFA-5' AND version IN (2, 3);
SELECT _pems_own_changes('org-rio', 'PFA-5', _pems_base_seq('org-rio', 'PFA-5', 1, 'infinity'), 'o3', 'alice', ARRAY['{model}', '{dor}', '{category}']);
UPDATE pfa_write_queue SET known_version = 3 WHERE modification_id = 'o1';
SELECT _pems_own_changes('org-rio', 'PFA-5', _pems_base_seq('org-rio', 'PFA-5', 1, 'infinity'), 'o3', 'alice', ARRAY['{model}', '{dor}', '{category}']);
UPDATE pfa_write_queue SET known_version = 2 WHERE modification_id = 'o1';
UPDATE pems_mirror_version SET data = data || '{"model": "mine"}' WHERE pfa_id = 'PFA-5' AND version IN (2, 3);
-- what PEMS had already when the edit came was somebody else's
UPDATE pems_mirror_version SET data = data || '{"model": "mine"}' WHERE pfa_id = 'PFA-5' AND version = 1;
SELECT _pems_own_changes('org-rio', 'PFA-5', _pems_base_seq('org-rio', 'PFA-5', 1, 'infinity'), 'o3', 'alice', ARRAY['{model}', '{contract}']);
SELECT _pems_disputed_paths('{"a": 1, "b": 1, "c": 1, "d": null}', '{"a": 2, "b": 2, "c": 3, "d": 1}', '{"a": 2, "b": 3, "c": 1, "e": 1}');
SELECT _pems_disputed_paths(v.payload, '{"o": {"a": 1, "b": 1, "x y": {"c,d": [1]}}, "n": 1, "m": {"a": 1}}', '{"o": {"a": 2, "b": 1, "x y": {"c,d": [2]}}, "n": {"a": 1}, "m": 2}')
FROM (VALUES (1, '{"o": {"a": 3}}'::jsonb), (2, '{"o": {"b": 3}}'), (3, '{"o": {"a": 2, "x y": {"c,d": [1], "e": 1}}}'), (4, '{"o": {}}'), (5, '{"o": 3}'), (6, '{"n": {"a": 2}, "m": {"a": 2}}')) v (n, payload) ORDER BY v.n;
SELECT _pems_disputed_paths('{}', '{"a": 2, "b": 2}', '{"a": 2, "e": 1}');
-- what is no object has none, whichever of the two it is
SELECT _pems_disputed_paths('{}', v.base, v.mirror) FROM (VALUES ('{"a": 1}'::jsonb, '[1]'::jsonb), ('1', '{"a": 1}'), ('[1]', '"x"'), ('null', 'null')) v (base, mirror);
-- the base is missing from the history; the mirror is deleted; there is no mirror any more
SELECT regress.queue('o4', 'PFA-6', base_version => 99);
UPDATE pfa_mirror SET deleted_at = now() WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-6';
SELECT base_version, mirror_version, mirror_deleted, base_data, mirror_data IS NOT NULL AS mirror FROM _pems_claim(ARRAY['org-rio'], ARRAY[1]);
SELECT regress.queue('o5', 'PFA-4');
DELETE FROM pfa_mirror WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-4';
SELECT base_version, mirror_version, mirror_deleted, base_data, mirror_data FROM _pems_claim(ARRAY['org-rio'], ARRAY[1]);
SELECT modification_id, status, sent_version FROM regress.items WHERE modification_id IN ('o4', 'o5');
SELECT regress.empty_queue() \g /dev/null

-- A read keeps the version of the write before it; so does the next write while its outcome is unknown, and then it takes the mirror's.
SELECT regress.queue('v1', 'PFA-1');
UPDATE pfa_write_queue SET next_request = 'read', sent_version = 7, outcome_unknown = true, attempt = 4;
SELECT next_request, previous_version, outcome_unknown, attempt FROM _pems_claim(ARRAY['org-rio'], ARRAY[1]);
SELECT sent_version, attempt FROM pfa_write_queue;
UPDATE pfa_write_queue SET status = 'pending', next_request = 'write';
SELECT next_request, previous_version, mirror_version, attempt FROM _pems_claim(ARRAY['org-rio'], ARRAY[1]);
SELECT sent_version FROM pfa_write_queue;
UPDATE pfa_write_queue SET status = 'pending', outcome_unknown = false;
SELECT previous_version FROM _pems_claim(ARRAY['org-rio'], ARRAY[1]);
SELECT sent_version FROM pfa_write_queue;
-- each claim has a token of its own, and they grow
UPDATE pfa_write_queue SET status = 'pending';
SELECT (SELECT claim_token FROM pfa_write_queue) < (SELECT claim_token FROM _pems_claim(ARRAY['org-rio'], ARRAY[1])) AS grows;

-- Whole records again for what follows.
SELECT regress.empty_queue() \g /dev/null
DELETE FROM pfa_modification;
DELETE FROM pfa_mirror WHERE organization_id = 'org-rio';
INSERT INTO pfa_mirror (organization_id, pfa_id, version, data) SELECT 'org-rio', 'PFA-' || n, 1, '{"monthlyRate": 5000}' FROM generate_series(1, 6) n;

-- Positions: what stands at a position or before it is not looked at, what stands behind it is claimed.
SELECT regress.queue('p' || n, 'PFA-' || n) FROM generate_series(1, 5) n \g /dev/null
UPDATE pfa_write_queue SET scheduled_at = CASE modification_id WHEN 'p1' THEN '2025-01-01 10:00+00' WHEN 'p5' THEN '2025-01-01 12:00+00' ELSE '2025-01-01 11:00+00' END::timestamptz;
-- the place of an item, as the worker keeps it; of a modification that is none: the beginning
CREATE FUNCTION regress.claim_behind(high text DEFAULT '', normal text DEFAULT '', low text DEFAULT '', slots integer DEFAULT 100) RETURNS SETOF text
LANGUAGE sql AS $$
    SELECT q.modification_id
    FROM (SELECT array_agg(coalesce(i.scheduled_at, '-infinity') ORDER BY p.line) AS at, array_agg(coalesce(i.commit_seq, 0) ORDER BY p.line) AS seq
          FROM unnest(ARRAY[high, normal, low]) WITH ORDINALITY AS p (modification, line) LEFT JOIN pfa_write_queue i ON i.modification_id = p.modification) a
    CROSS JOIN LATERAL _pems_claim(ARRAY['org-rio'], ARRAY[slots], a.at, a.seq) WITH ORDINALITY AS c
    JOIN pfa_write_queue q ON q.id = c.item_id ORDER BY c.ordinality
$$;
GRANT EXECUTE ON FUNCTION regress.claim_behind TO PUBLIC;
SET ROLE pems_sync_worker;
SELECT regress.claim_behind(normal => 'p5');
-- of those of one time the ones with a later commit order
SELECT regress.claim_behind(normal => 'p3', slots => 1);
SELECT regress.claim_behind(normal => 'p3');
-- those before it were left, and are there for a claim from the start
SELECT regress.claim_behind();
RESET ROLE;
SELECT regress.empty_queue() \g /dev/null
DELETE FROM pfa_modification;
-- each priority has a place of its own
SELECT regress.queue('h' || n, 'PFA-' || n, priority => 'high'), regress.queue('n' || n, 'PFA-' || n + 2), regress.queue('l' || n, 'PFA-' || n + 4, priority => 'low') FROM generate_series(1, 2) n \g /dev/null
BEGIN;
SELECT regress.claim_behind(high => 'h2', normal => 'n1');
ROLLBACK;
BEGIN;
SELECT regress.claim_behind(normal => 'n2', low => 'l1');
ROLLBACK;
BEGIN;
SELECT regress.claim_behind(high => 'h1', low => 'l2');
ROLLBACK;
SELECT regress.claim_behind('h2', 'n2', 'l2');
SELECT regress.empty_queue() \g /dev/null
-- and so has each organization; NULL places are the beginning
SELECT regress.queue('r1', 'PFA-1'), regress.queue('r2', 'PFA-2'), regress.queue('q1', 'PFA-1', organization_id => 'org-rio2'), regress.queue('q2', 'PFA-2', organization_id => 'org-rio2');
BEGIN;
SELECT q.modification_id
FROM _pems_claim(ARRAY['org-rio', 'org-rio2'], ARRAY[5, 5], ARRAY[NULL, NULL, NULL, NULL, 'infinity', NULL]::timestamptz[], ARRAY[NULL, NULL, NULL, NULL, 0, NULL]::bigint[]) c JOIN pfa_write_queue q ON q.id = c.item_id
ORDER BY q.commit_seq;
ROLLBACK;
SELECT q.modification_id FROM _pems_claim(ARRAY['org-rio', 'org-rio2'], ARRAY[5, 5], NULL, NULL) c JOIN pfa_write_queue q ON q.id = c.item_id ORDER BY q.commit_seq;
SELECT regress.empty_queue() \g /dev/null
-- the answer says the position of each item
SELECT regress.queue('s1', 'PFA-1', priority => 'high'), regress.queue('s2', 'PFA-2'), regress.queue('s3', 'PFA-3', priority => 'low');
SELECT q.modification_id, c.priority, (c.scheduled_at, c.commit_seq) = (q.scheduled_at, q.commit_seq) AS its_place FROM _pems_claim(ARRAY['org-rio'], ARRAY[5]) c JOIN pfa_write_queue q ON q.id = c.item_id ORDER BY q.commit_seq;
SELECT regress.empty_queue() \g /dev/null

-- There are three lines, so there are three priorities.
SELECT regress.queue('t1', 'PFA-1');
SELECT p, regress.state(format('UPDATE pfa_write_queue SET priority = %s', p)) FROM unnest(ARRAY[-11, -10, -1, 0, 1, 10, 100]) p;
SELECT regress.empty_queue() \g /dev/null

-- A claim is a heap-only update: it writes no index.
TRUNCATE pfa_write_queue;
CREATE VIEW regress.updates AS SELECT pg_stat_get_xact_tuples_updated('pfa_write_queue'::regclass) AS updated, pg_stat_get_xact_tuples_hot_updated('pfa_write_queue'::regclass) AS heap_only;
SELECT regress.queue('u' || n, 'PFA-' || n) FROM generate_series(1, 6) n \g /dev/null
-- the numbers of a transaction begin with what the session has not reported yet
BEGIN;
CREATE TEMPORARY TABLE updates_before ON COMMIT DROP AS TABLE regress.updates;
SELECT count(*) FROM regress.claim(5);
SELECT u.updated - b.updated AS updated, u.heap_only - b.heap_only AS heap_only FROM regress.updates u, updates_before b;
-- recording their reports is none: they are open no more
SELECT regress.record(VARIADIC (SELECT array_agg(regress.applied(modification_id) ORDER BY commit_seq) FROM pfa_write_queue WHERE status = 'processing'));
SELECT u.updated - b.updated AS updated, u.heap_only - b.heap_only AS heap_only FROM regress.updates u, updates_before b;
ROLLBACK;
SELECT count(*) FROM regress.claim(5);
SELECT status, count(*), bool_and(unfinished) AS unfinished, bool_and(open) AS open, bool_or(held) AS held FROM pfa_write_queue GROUP BY status ORDER BY status;
-- what the indexes look at is derived from status and waits_for, whoever changes those
CREATE FUNCTION regress.derived(new_status text, new_waits_for text, OUT unfinished boolean, OUT open boolean, OUT held boolean) LANGUAGE sql AS $$
    UPDATE pfa_write_queue q SET status = new_status, waits_for = new_waits_for WHERE q.modification_id = 'u6' RETURNING q.unfinished, q.open, q.held
$$;
SELECT s.status, s.waits_for, q.unfinished, q.open, q.held
FROM unnest(ARRAY['pending', 'pending', 'pending', 'processing', 'conflict', 'failed', 'completed', 'cancelled'], ARRAY[NULL, 'time', 'turn']) WITH ORDINALITY AS s (status, waits_for, n)
CROSS JOIN LATERAL (SELECT * FROM regress.derived(s.status, s.waits_for)) q ORDER BY s.n;
SELECT regress.empty_queue() \g /dev/null

-- pems_claim: one row for each claim that took something, with what it took.
DELETE FROM pems_claim;
CREATE VIEW regress.claims AS
    SELECT row_number() OVER (ORDER BY c.claim_token) AS claim, (SELECT string_agg(q.modification_id, ' ' ORDER BY q.commit_seq) FROM pfa_write_queue q WHERE q.id = ANY (c.item_ids)) AS items,
           (SELECT bool_and(q.claim_token = c.claim_token) FROM pfa_write_queue q WHERE q.id = ANY (c.item_ids)) AS its_token
    FROM pems_claim c;
GRANT SELECT ON regress.claims TO PUBLIC;
SELECT regress.queue('v' || n, 'PFA-' || n) FROM generate_series(1, 5) n \g /dev/null
SELECT regress.queue('w1', 'PFA-1', organization_id => 'org-rio2');
SET ROLE pems_sync_worker;
SELECT regress.claim(2);
-- of several organizations in one call
SELECT count(*), count(DISTINCT c.claim_token) AS tokens FROM _pems_claim(ARRAY['org-rio', 'org-rio2'], ARRAY[2, 2]) c;
SELECT regress.claim(2);
-- one that takes nothing leaves no row
SELECT regress.claim(2);
RESET ROLE;
SELECT * FROM regress.claims;
-- recording takes away the rows of the claims that it is told of, and no others
CREATE FUNCTION regress.token(modification text) RETURNS bigint LANGUAGE sql AS $$ SELECT q.claim_token FROM pfa_write_queue q WHERE q.modification_id = modification $$;
SET ROLE pems_sync_worker;
SELECT cardinality((_pems_record(ARRAY[regress.applied('v1')], false)).recorded) AS recorded;
SELECT count(*) FROM pems_claim;
SELECT cardinality((_pems_record(ARRAY[regress.applied('v2')], false, ARRAY[regress.token('v3')])).recorded) AS recorded;
SELECT * FROM regress.claims;
SELECT cardinality((_pems_record(ARRAY[regress.applied('v3')], true, ARRAY[regress.token('v1'), regress.token('v5'), -1])).recorded) AS recorded;
SELECT count(*) FROM pems_claim;
RESET ROLE;
-- the claim that was told of too early left its items as they were
SELECT modification_id, status FROM regress.items;

-- Objects are sent whole, for which the worker needs the mirror: which edits have one, at the top?
SELECT v.delta, _pems_has_object(v.delta) FROM unnest(ARRAY['{}', '{"a": 1, "b": null}', '{"a": [{"b": 1}]}', '{"a": "{}"}', '{"a": {}}', '{"a": 1, "b": {"c": {}}}',
    '[{"a": {}}]', '"a"', '1', 'null']::jsonb[]) WITH ORDINALITY AS v (delta, place) ORDER BY v.place;
-- Records that are too large are not read: the item says so, and has neither the mirror nor its own changes.
SELECT _pems_size('{}', 0), _pems_size(NULL, 0), _pems_size(to_jsonb(repeat('x', 1000)), 0) BETWEEN 1000 AND 1100 AS plain, _pems_size(jsonb_build_object('x', repeat('x', 1000000)), 0) > 1000000 AS compressed;
SELECT regress.empty_queue() \g /dev/null
DELETE FROM pfa_modification;
SELECT regress.queue('big', 'PFA-1', '{"model": "x"}'), regress.queue('small', 'PFA-2', '{"model": "x"}'), regress.queue('base', 'PFA-4', '{"model": "x"}'),
       regress.queue('numbers', 'PFA-5', '{"model": "x"}');
UPDATE pfa_mirror SET version = version + 1, data = data || CASE pfa_id WHEN 'PFA-1' THEN jsonb_build_object('description', repeat('x', 5000000)) ELSE '{}' END
WHERE organization_id = 'org-rio' AND pfa_id IN ('PFA-1', 'PFA-2', 'PFA-4');
-- stored in a few hundred bytes, written in five million
UPDATE pfa_mirror SET version = version + 1, data = data || jsonb_build_object('custom', (SELECT jsonb_agg('1e131071'::numeric) FROM generate_series(1, 40)))
WHERE organization_id = 'org-rio' AND pfa_id = 'PFA-5';
UPDATE pems_mirror_version v SET data = data || jsonb_build_object('description', repeat('x', 5000000)) FROM pfa_write_queue q WHERE q.modification_id = 'base' AND v.pfa_id = q.pfa_id AND v.organization_id = q.organization_id AND v.version = q.base_version;
SET ROLE pems_sync_worker;
SELECT q.modification_id, c.too_large, c.base_data IS NOT NULL AS base, c.own_data IS NOT NULL AS own, c.mirror_data IS NOT NULL AS mirror FROM _pems_claim(ARRAY['org-rio'], ARRAY[10]) c JOIN pfa_write_queue q ON q.id = c.item_id ORDER BY q.commit_seq;
RESET ROLE;

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
