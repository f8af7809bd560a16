-- pems_field: the PFA record's fields as installed, what a row may say, and rules added without code.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;

SELECT name, label, type, writable, required_when, allowed_values, max_length, minimum, after_field FROM pems_field ORDER BY name COLLATE "C";
SELECT type, count(*) FROM pems_field GROUP BY type ORDER BY type COLLATE "C";
SELECT string_agg(name, ' ' ORDER BY name COLLATE "C") AS read_only FROM pems_field WHERE NOT writable;
SELECT count(*) AS customized FROM pems_field WHERE customized;

-- What a row may not say.
SELECT regress.state($$INSERT INTO pems_field (name, label, type) VALUES ('site', 'Site', 'varchar')$$);
SELECT regress.state($$INSERT INTO pems_field (name, label, type) VALUES ('1site', 'Site', 'text')$$);
SELECT regress.state($$INSERT INTO pems_field (name, label, type) VALUES ('a.b', 'Site', 'text')$$);
SELECT regress.state($$INSERT INTO pems_field (name, label, type) VALUES ('site', '', 'text')$$);
SELECT regress.state($$INSERT INTO pems_field (name, label, type, allowed_values) VALUES ('site', 'Site', 'text', '"A"')$$);
SELECT regress.state($$INSERT INTO pems_field (name, label, type, required_when) VALUES ('site', 'Site', 'text', '{"field": "source"}')$$);
SELECT regress.state($$INSERT INTO pems_field (name, label, type, max_length) VALUES ('site', 'Site', 'text', 0)$$);
SELECT regress.state($$INSERT INTO pems_field (name, label, type, minimum) VALUES ('size', 'Size', 'number', 'NaN')$$);
SELECT regress.state($$INSERT INTO pems_field (name, label, type, after_field) VALUES ('day', 'Day', 'date', 'day')$$);
SELECT regress.state($$INSERT INTO pems_field (name, label, type) VALUES (NULL, 'Site', 'text')$$);
SELECT count(*) FROM pems_field;

-- Rows of one's own: each kind of rule, without code.
INSERT INTO pems_field (name, label, type, allowed_values) VALUES ('region', 'Region', 'text', '["EMEA", "APAC", "AMER"]');
INSERT INTO pems_field (name, label, type, allowed_values) VALUES ('shift', 'Shift', 'integer', '[1, 2]');
INSERT INTO pems_field (name, label, type, max_length) VALUES ('site', 'Site', 'text', 4);
INSERT INTO pems_field (name, label, type, minimum) VALUES ('share', 'Share', 'number', 12.5);
INSERT INTO pems_field (name, label, type, minimum) VALUES ('units', 'Units', 'integer', 1);
INSERT INTO pems_field (name, label, type, required_when) VALUES ('reason', 'Reason', 'text', '{"field": "isDiscontinued", "equals": true, "label": "discontinued records"}');
INSERT INTO pems_field (name, label, type, after_field) VALUES ('inspectedOn', 'Inspected on', 'date', 'builtOn'), ('builtOn', 'DOB', 'date', NULL);
INSERT INTO pems_field (name, label, type) VALUES ('extra', 'Extra', 'json');
INSERT INTO pems_field (name, label, type, writable) VALUES ('owner', 'Owner', 'text', false);
SELECT count(*) AS customized FROM pems_field WHERE customized;
SELECT pems_validate('{"region": "MARS", "shift": 3, "site": "ABCDE", "share": 12.49, "units": 0, "isDiscontinued": true, "inspectedOn": "2025-01-01", "builtOn": "2025-01-01", "owner": "me"}') -> 'errors';
SELECT pems_validate('{"region": "APAC", "shift": 2.0, "site": "ÄÖÜß", "share": 12.5, "units": 1, "isDiscontinued": true, "reason": "old", "inspectedOn": "2025-01-02", "builtOn": "2025-01-01", "extra": [{"a": null}]}');
SELECT pems_validate('{"shift": "2", "units": 1.5, "share": true, "inspectedOn": "2025-02-30", "site": 4, "extra": 1}') -> 'errors';
-- a rule that names a field that does not exist speaks for no one
INSERT INTO pems_field (name, label, type, required_when) VALUES ('ghost', 'Ghost', 'text', '{"field": "nowhere", "equals": 1, "label": "ghosts"}');
SELECT pems_validate('{"ghost": ""}');

-- A row of the extension may be changed; it then counts as one's own.
UPDATE pems_field SET max_length = 10 WHERE name = 'description';
SELECT name, customized FROM pems_field WHERE name IN ('description', 'model') ORDER BY name COLLATE "C";
SELECT pems_validate('{"description": "12345678901"}') -> 'errors';
UPDATE pems_field SET writable = false WHERE name = 'model';
SELECT pems_validate('{"model": "LR 1300"}') -> 'errors';
DELETE FROM pems_field WHERE name = 'contract';
SELECT pems_validate('{"contract": "C-1"}') -> 'errors';

-- A restored row takes the place of the one that CREATE EXTENSION installed, but not of another of one's own.
INSERT INTO pems_field (name, label, type, max_length, customized) VALUES ('equipment', 'Equipment', 'text', 3, true);
SELECT name, max_length, customized FROM pems_field WHERE name = 'equipment';
SELECT regress.state($$INSERT INTO pems_field (name, label, type) VALUES ('equipment', 'Equipment', 'text')$$);
COPY pems_field (name, label, type, writable, required_when, allowed_values, max_length, minimum, after_field, customized) FROM STDIN;
category	Category	text	t	\N	["Cranes"]	\N	\N	\N	t
\.
SELECT pems_validate('{"category": "Cars"}') -> 'errors';

-- What the worker could not read is refused: it would stop all sending.  In 510 levels there is just room for two more.
CREATE FUNCTION regress.nested(levels integer) RETURNS jsonb LANGUAGE sql AS $$ SELECT (repeat('[', levels) || repeat(']', levels))::jsonb $$;
SELECT regress.attempt($$INSERT INTO pems_field (name, label, type, allowed_values) VALUES ('deep', 'Deep', 'json', regress.nested(2000))$$);
SELECT regress.state($$UPDATE pems_field SET required_when = jsonb_build_object('field', 'source', 'label', 'x', 'equals', regress.nested(510)) WHERE name = 'manufacturer'$$);
SELECT regress.state($$INSERT INTO pems_field (name, label, type, allowed_values) VALUES ('deep', 'Deep', 'json', regress.nested(510))$$);
DELETE FROM pems_field WHERE name = 'deep';
SELECT regress.attempt($$INSERT INTO pems_field (name, label, type, allowed_values) VALUES ('large', 'Large', 'json', (SELECT jsonb_agg('1e131071'::numeric) FROM generate_series(1, 2000)))$$);
SELECT pems_validate('{"manufacturer": "x"}'), count(*) FROM pems_field WHERE name = 'deep';
-- a change that is rolled back is none
BEGIN;
UPDATE pems_field SET max_length = 1 WHERE name = 'manufacturer';
SELECT pems_validate('{"manufacturer": "xx"}') -> 'valid';
ROLLBACK;
SELECT pems_validate('{"manufacturer": "xx"}') -> 'valid';

-- Only administrators may change it, readers and users may not.
CREATE ROLE regress_pems_user;
GRANT pems_sync_user TO regress_pems_user;
SET ROLE regress_pems_user;
SELECT regress.state($$UPDATE pems_field SET writable = true$$);
SELECT regress.state($$INSERT INTO pems_field (name, label, type) VALUES ('a', 'A', 'text')$$);
RESET ROLE;
GRANT pems_sync_admin TO regress_pems_user;
SET ROLE regress_pems_user;
SELECT regress.state($$INSERT INTO pems_field (name, label, type) VALUES ('a', 'A', 'text')$$);
SELECT regress.state($$UPDATE pems_field SET label = 'B' WHERE name = 'a'$$);
SELECT regress.state($$DELETE FROM pems_field WHERE name = 'a'$$);
RESET ROLE;
DROP ROLE regress_pems_user;

DROP EXTENSION pems_sync;
DROP SCHEMA regress CASCADE;
DROP TABLE pfa_modification, pfa_mirror, organization;
