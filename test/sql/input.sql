-- Hostile input: every text, list and JSON argument of every function that an administrator may call.  Each call succeeds or ends
-- with one of the documented errors; no message is long, and what is stored comes back as the same text.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
\set ECHO none
\i test/support/regress_application.sql
\set ECHO all
CREATE ROLE regress_pems_admin IN ROLE pems_sync_admin;
SET client_min_messages = error;

CREATE TABLE regress.hostile (name text PRIMARY KEY, value text NOT NULL);
INSERT INTO regress.hostile VALUES
    ('quote', ''''), ('double quote', '"'), ('backslash', '\'), ('injection', '''; DROP TABLE organization; --'), ('comment', '/* ; */ --'),
    ('line end', E'a\r\nX-Evil: 1'), ('control', U&'\0001'), ('emoji', U&'\+01F4A5'), ('combining', U&'e\0301\202E'), ('megabyte', repeat('x', 1048576)),
    ('megabyte of quotes', repeat('''"\', 349525)), ('format', '%s%n%1$s%%'), ('path', '../..'), ('dot', '.'), ('encoded', '%2e%2e%2f%00'), ('script', '<script>alert(1)</script>'),
    ('empty', ''), ('blanks', '   '), ('wildcard', '%_*'), ('star', '*'), ('dollar', '$1 $$ $function$'), ('json', '{"a": [1, null]}'), ('number', '1e400'), ('null', 'null'), ('schema', 'pg_catalog.pg_class');

-- Some of them are what exists, too: as organization, record, modification, conflict.
INSERT INTO organization (id, code, name) SELECT h.value, h.value, h.value FROM regress.hostile h WHERE length(h.value) < 100;
INSERT INTO pfa_mirror (organization_id, pfa_id, version, data) SELECT h.value, h.value, 1, jsonb_build_object(h.value, h.value, 'description', h.value) FROM regress.hostile h WHERE length(h.value) < 100;
SELECT regress.draft(h.value, h.value, jsonb_build_object('description', h.value), h.value, organization_id => h.value, change_reason => h.value) FROM regress.hostile h WHERE length(h.value) < 100 \g /dev/null
SELECT regress.queue('m1', 'PFA-1'), regress.queue('m2', 'PFA-2');
UPDATE pfa_write_queue SET status = 'conflict' WHERE modification_id = 'm1';
UPDATE pfa_write_queue SET status = 'failed', completed_at = now() WHERE modification_id = 'm2';
INSERT INTO pfa_sync_conflict (id, pfa_id, organization_id, modification_id, item_id, local_version, pems_version, base_data, local_data, pems_data, conflict_fields, kind)
SELECT 'c1', pfa_id, organization_id, 'm1', id, 1, 1, '{"monthlyRate": 5000}', '{"monthlyRate": 5500}', '{"monthlyRate": 5200}', '["monthlyRate"]', 'update_update' FROM pfa_write_queue WHERE modification_id = 'm1';

UPDATE pems_sync_job SET id = 'j1' WHERE id = (SELECT job_id FROM pfa_write_queue WHERE modification_id = 'm1');
UPDATE pfa_write_queue SET job_id = 'j1' WHERE modification_id = 'm1';

-- A plain value for each argument that must be given.
CREATE TABLE regress.plain (name text PRIMARY KEY, expression text NOT NULL);
INSERT INTO regress.plain VALUES
    ('organization_id', '''org-rio'''), ('pfa_id', '''PFA-1'''), ('pfa_ids', '''{PFA-1}'''), ('modification_id', '''m1'''), ('conflict_id', '''c1'''), ('resolution', '''use_pems'''),
    ('changes', '''{"monthlyRate": 1}'''), ('version', '1'), ('reason', '''why'''), ('api_url', '''https://pems.invalid/api'''), ('sealed_token', 'decode(repeat(''ab'', 64), ''hex'')'),
    ('key_id', '''0123456789abcdef'''), ('code', '''RIO'''), ('generation', '1'), ('old_key_id', '''0123456789abcdef'''), ('job_id', '''j1''');
-- The functions, and their arguments that take a text in any form.
CREATE VIEW regress.argument AS
    SELECT p.oid, p.proname, p.pronargs, p.pronargdefaults, a.name, a.position, p.proargtypes[a.position - 1]::regtype AS type
    FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pems_sync' JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid,
         unnest(p.proargnames) WITH ORDINALITY a (name, position)
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND p.prokind = 'f' AND a.position <= p.pronargs
      AND has_function_privilege('pems_sync_admin', p.oid, 'EXECUTE');
-- An argument that must be given and has no plain value: the table above lacks it.
SELECT a.proname, a.name FROM regress.argument a WHERE a.position <= a.pronargs - a.pronargdefaults AND a.name NOT IN (SELECT p.name FROM regress.plain p);
-- Every public function is looked at, but for those that take no text.
SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pems_sync'
WHERE p.proname !~ '^_' AND NOT EXISTS (SELECT FROM regress.argument a WHERE a.oid = p.oid AND a.type IN ('text'::regtype, 'text[]'::regtype, 'jsonb'::regtype)) ORDER BY p.proname;

-- A call with that expression for one argument; a rolled back one, so that each meets the same database.
CREATE FUNCTION regress.call(function oid, argument text, hostile text, value text) RETURNS TABLE (state text, length integer) LANGUAGE plpgsql AS $$
DECLARE
    arguments text;
    message   text;
    detail    text;
    hint      text;
BEGIN
    SELECT string_agg(format('%I => %s', a.name, CASE WHEN a.name = argument THEN hostile ELSE p.expression END), ', ') INTO arguments
    FROM regress.argument a LEFT JOIN regress.plain p USING (name)
    WHERE a.oid = function AND (a.name = argument OR a.position <= a.pronargs - a.pronargdefaults);
    BEGIN
        EXECUTE format('SELECT count(f::text) FROM %s(%s) f', function::regproc, arguments) USING value;
        RAISE EXCEPTION USING ERRCODE = 'ROLLB';
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
        state := CASE SQLSTATE WHEN 'ROLLB' THEN 'ok' ELSE SQLSTATE END;
        length := octet_length(message || detail || hint);
        RETURN NEXT;
    END;
END
$$;
CREATE TABLE regress.shape (type regtype, expression text);
INSERT INTO regress.shape VALUES ('text', '$1'), ('text[]', 'ARRAY[$1]'), ('text[]', 'ARRAY[NULL, $1, $1]'), ('jsonb', 'to_jsonb($1)'), ('jsonb', 'jsonb_build_object($1, $1)'),
    ('jsonb', 'jsonb_build_object(''description'', $1)'), ('jsonb', 'jsonb_build_object(''monthlyRate'', $1)'), ('jsonb', 'jsonb_build_object(''monthlyRate'', jsonb_build_object($1, jsonb_build_array($1)))'), ('jsonb', 'jsonb_build_array($1)');
GRANT SELECT ON ALL TABLES IN SCHEMA regress TO PUBLIC;
SET ROLE regress_pems_admin;
CREATE TEMPORARY TABLE result AS
    SELECT a.proname, a.name, h.name AS value, c.state, c.length
    FROM regress.argument a JOIN regress.shape s ON s.type = a.type CROSS JOIN regress.hostile h CROSS JOIN LATERAL regress.call(a.oid, a.name, s.expression, h.value) c;
RESET ROLE;
-- Per argument, how its calls ended.  22023 bad value, P0002 not found, 55000 not now, 42501 not allowed.
SELECT r.proname, r.name, string_agg(DISTINCT r.state, ' ' ORDER BY r.state) FROM result r GROUP BY r.proname, r.name ORDER BY r.proname COLLATE "C", r.name COLLATE "C";
SELECT r.proname, r.name, r.value, r.state FROM result r WHERE r.state NOT IN ('ok', '22023', 'P0002', '55000');
SELECT r.proname, r.name, r.value, r.length FROM result r WHERE r.length > 2048;
SELECT count(*) > 1000 AS many_calls FROM result;
-- all is there still
SELECT count(*) FROM organization WHERE id IN ('org-rio', 'org-rio2', 'org-port');

-- PFA ids that lead elsewhere in a URL: rejected, and the draft stays a draft.
CREATE TABLE regress.id (id text);
INSERT INTO regress.id VALUES ('..'), ('.'), ('../../admin'), ('PFA-1/../../x'), ('PFA%2F1'), ('PFA?x=1'), ('PFA#1'), ('PFA 1'), (E'PFA\r\n1'), ('PFA;1'), ('PFA\1'), (repeat('x', 65)), ('é'), ('');
INSERT INTO pfa_mirror (organization_id, pfa_id, version, data) SELECT 'org-port', i.id, 1, '{}' FROM regress.id i;
SELECT regress.draft('path' || row_number() OVER (), i.id, organization_id => 'org-port') FROM regress.id i \g /dev/null
SELECT p -> 'queuedCount' AS queued, (SELECT string_agg(DISTINCT r ->> 'code', ' ') FROM jsonb_array_elements(p -> 'rejected') r) AS code, jsonb_array_length(p -> 'rejected') = (SELECT count(*) FROM regress.id) AS each FROM pems_commit('org-port') p;
SELECT DISTINCT sync_status FROM pfa_modification WHERE organization_id = 'org-port';

-- Values that are legal in JSON: what is said of them.
SELECT v.value, pems_validate(v.value::jsonb) -> 'errors' AS errors FROM unnest(ARRAY[
    '{"monthlyRate": -0}', '{"monthlyRate": 1e400}', '{"monthlyRate": 1e-400}', '{"monthlyRate": 0.1e1}', '{"monthlyRate": -1e-300}', '{"": 1}', '{"a.b": 1}', '{"monthlyRate.x": 1}', '{" monthlyRate": 1}',
    '{"MONTHLYRATE": 1}', '{"__proto__": {"x": 1}}', '{"<script>": 1}', '{"description": "<script>alert(1)</script>"}', '{"description": {"x": "y"}}', '{"description": ["x"]}', '{"description": "\u0001\ud83d\ude00"}',
    '{"monthlyRate": "1"}', '{"monthlyRate": true}', '{"monthlyRate": []}', '{"forecastStart": "2025-02-30T00:00:00Z"}', '{"forecastStart": "infinity"}', '{"forecastStart": "now"}', '{"pfaId": "x"}']) v (value);
SELECT octet_length((pems_validate(format('{"monthlyRate": %s}', repeat('9', 1000))::jsonb))::text) < 1000 AS thousand_digits, pems_validate(format('{"monthlyRate": 1.%s1}', repeat('0', 998))::jsonb) -> 'valid' AS also_behind_the_point;
SELECT regress.state(format('SELECT pems_validate(%L)', jsonb_build_object(repeat('k', 1048576), 1)));

-- 10,000 levels: a clean error, or what is rejected; nothing is lost.
CREATE FUNCTION regress.deep(levels integer, opening text DEFAULT '{"a":', closing text DEFAULT '}') RETURNS text LANGUAGE sql AS $$ SELECT repeat(opening, levels) || '1' || repeat(closing, levels) $$;
SELECT l AS levels, v.kind, regress.state(format('SELECT pems_validate(%L::jsonb)', '{"description": ' || v.value || '}')) ~ '^(ok$|22023|54001)' AS clean
FROM unnest(ARRAY[60, 100, 1000, 10000]) l, LATERAL (VALUES ('objects', regress.deep(l)), ('arrays', regress.deep(l, '[', ']'))) AS v (kind, value);
SELECT regress.state(format('SELECT pems_resolve_conflict(''c1'', ''merge'', %L::jsonb)', '{"monthlyRate": ' || regress.deep(10000) || '}')) ~ '^(22023|54001)' AS clean;
SELECT regress.state(format('SELECT pems_resolve_conflict(''c1'', ''merge'', %L::jsonb)', '{"monthlyRate": ' || regress.deep(1000) || '}')) AS clean;
SELECT status FROM pfa_sync_conflict WHERE id = 'c1';
SELECT regress.draft('deep', 'PFA-3', ('{"description": ' || regress.deep(1000) || '}')::jsonb), regress.draft('flat', 'PFA-4');
SELECT p -> 'queuedCount' AS queued, p -> 'rejected' AS rejected FROM pems_commit('org-rio', '{deep,flat}') p;
SELECT id, sync_status FROM pfa_modification WHERE id IN ('deep', 'flat') ORDER BY id COLLATE "C";

-- What is shown is what was stored, escaped as JSON and nothing else.
UPDATE pfa_sync_conflict SET local_data = '{"description": "<script>alert(''1'')</script> & \"quoted\" \\ \u0001"}', conflict_fields = '["description"]' WHERE id = 'c1';
SELECT pems_conflict('c1') -> 'localData' = local_data AS same, pems_conflict('c1') -> 'fields' FROM pfa_sync_conflict WHERE id = 'c1';
SELECT pems_sync_state('%_*', '{%_*}') -> '%_*' -> 'status';
SELECT pems_pause('org-rio', '<script>alert(1)</script>') -> 'success';
SELECT p ->> 0 ~ '<script>alert\(1\)</script>|No worker' AS told FROM jsonb_path_query_array(pems_health(), '$.problems[*] ? (@ like_regex "script")') p;

SET client_min_messages = warning;
DROP TABLE result;
DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
DROP ROLE regress_pems_admin;
