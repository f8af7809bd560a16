-- pems_validate(): every rule with its message, every type, and when a rule speaks.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
CREATE FUNCTION regress.errors(changes jsonb, current jsonb DEFAULT NULL) RETURNS text LANGUAGE sql AS
$$ SELECT CASE WHEN (v ->> 'valid')::boolean THEN 'valid' ELSE v ->> 'errors' END FROM pems_validate(changes, current) v $$;
-- a record that breaks every rule
CREATE FUNCTION regress.broken() RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object(
    'forecastStart', '2025-06-30T00:00:00Z', 'forecastEnd', '2025-01-15T00:00:00Z', 'source', 'Rental', 'dor', 'NOBODY',
    'description', repeat('x', 501), 'monthlyRate', NULL, 'purchasePrice', NULL) $$;

-- Forecast end must be after forecast start.
SELECT regress.errors('{"forecastStart": "2025-01-15T00:00:00Z", "forecastEnd": "2025-06-30T00:00:00Z"}');
SELECT regress.errors('{"forecastStart": "2025-06-30T00:00:00Z", "forecastEnd": "2025-01-15T00:00:00Z"}');
SELECT regress.errors('{"forecastStart": "2025-06-30T00:00:00Z", "forecastEnd": "2025-06-30T00:00:00Z"}');
SELECT regress.errors('{"forecastStart": "2025-06-30", "forecastEnd": "2025-06-30T00:00:00Z"}');
SELECT regress.errors('{"forecastStart": "2025-06-30", "forecastEnd": "2025-06-30T00:00:00.001Z"}');
-- instants, not texts: 01:00+02:00 is before 00:00Z
SELECT regress.errors('{"forecastStart": "2025-06-30T00:00:00Z", "forecastEnd": "2025-06-30T01:00:00+02:00"}');
SELECT regress.errors('{"forecastStart": "2025-06-30T01:00:00+02:00", "forecastEnd": "2025-06-30T00:00:00Z"}');
-- merged with current, from either side
SELECT regress.errors('{"forecastEnd": "2025-01-14"}', '{"forecastStart": "2025-01-15"}');
SELECT regress.errors('{"forecastStart": "2025-07-01"}', '{"forecastEnd": "2025-06-30"}');
SELECT regress.errors('{"forecastStart": "2025-07-01"}', '{"forecastStart": "2025-01-01", "forecastEnd": "2025-07-02"}');
-- one side without a value: nothing to compare
SELECT regress.errors('{"forecastStart": "2025-07-01"}');
SELECT regress.errors('{"forecastStart": null}', '{"forecastEnd": "2025-06-30"}');
SELECT regress.errors('{"forecastEnd": "2025-01-14"}', '{"forecastStart": null}');

-- Monthly rate required for rentals.
SELECT regress.errors('{"source": "Rental"}');
SELECT regress.errors('{"source": "Rental", "monthlyRate": 5500}');
SELECT regress.errors('{"source": "Rental"}', '{"monthlyRate": 5500}');
SELECT regress.errors('{"monthlyRate": null}', '{"source": "Rental", "monthlyRate": 5500}');
SELECT regress.errors('{"source": "Rental", "monthlyRate": null}', '{"monthlyRate": 5500}');
SELECT regress.errors('{"source": "Purchase", "purchasePrice": 1, "monthlyRate": null}');
SELECT regress.errors('{"source": "rental"}');
SELECT regress.errors('{"source": null}');
SELECT regress.errors('{"monthlyRate": null}');
-- Purchase price required for purchases.
SELECT regress.errors('{"source": "Purchase"}');
SELECT regress.errors('{"source": "Purchase", "purchasePrice": 0}');
SELECT regress.errors('{"purchasePrice": null}', '{"source": "Purchase", "purchasePrice": 100}');
SELECT regress.errors('{"purchasePrice": -1}', '{"source": "Purchase", "purchasePrice": 100}');

-- DOR must be BEO or PROJECT.
SELECT regress.errors('{"dor": "BEO"}');
SELECT regress.errors('{"dor": "PROJECT"}');
SELECT regress.errors('{"dor": "beo"}');
SELECT regress.errors('{"dor": "BEO "}');
SELECT regress.errors('{"dor": null}');
SELECT regress.errors('{"dor": ""}');

-- Monthly rate must be positive: error below 0.
SELECT regress.errors('{"monthlyRate": -0.01}');
SELECT regress.errors('{"monthlyRate": 0}');
SELECT regress.errors('{"monthlyRate": -0}');
SELECT regress.errors('{"monthlyRate": -1e-300}');
SELECT regress.errors('{"monthlyRate": 12345678901234567890.123}');

-- Description must be less than 500 characters: error above 500, counted in characters.
SELECT regress.errors(jsonb_build_object('description', repeat('x', 500)));
SELECT regress.errors(jsonb_build_object('description', repeat('x', 501)));
SELECT regress.errors(jsonb_build_object('description', repeat(U&'\00e9', 500)));
SELECT regress.errors(jsonb_build_object('description', repeat(U&'\00e9', 501)));
SELECT regress.errors(jsonb_build_object('description', repeat(U&'\+01F3D7', 500)));

-- A rule speaks only when the delta touches one of its fields.
SELECT regress.errors('{"model": "LR 1300"}', regress.broken());
SELECT regress.errors('{"forecastEnd": "2025-01-16"}', regress.broken());
SELECT regress.errors('{"source": "Rental"}', regress.broken());
SELECT regress.errors('{"dor": "NOBODY"}', regress.broken());
SELECT regress.errors('{"description": ""}', regress.broken());
-- all at once, and all in one answer
SELECT regress.errors(regress.broken() || '{"monthlyRate": -1, "purchasePrice": "much", "pfaId": "PFA-2", "colour": "red"}');
SELECT pems_validate(regress.broken()) -> 'valid';

-- Wrong types: one message for each, for every field of the catalogue.
SELECT f.name, f.type, pems_validate(jsonb_build_object(f.name, v.value)) ->> 'errors'
FROM pems_field f, LATERAL (SELECT CASE WHEN f.type IN ('text') THEN '5'::jsonb ELSE '"no"' END AS value) v
WHERE f.writable ORDER BY f.name COLLATE "C";
SELECT v.value, regress.errors(jsonb_build_object('monthlyRate', v.value)) FROM (VALUES ('"5500"'::jsonb), ('true'), ('{}'), ('[]'), ('""'), ('5500.00'), ('1e3')) v (value);
SELECT v.value, regress.errors(jsonb_build_object('isActualized', v.value)) FROM (VALUES ('"true"'::jsonb), ('1'), ('""'), ('true'), ('false'), ('null')) v (value);
SELECT v.value, regress.errors(jsonb_build_object('model', v.value)) FROM (VALUES ('5'::jsonb), ('true'), ('{}'), ('["a"]'), ('""'), ('"a"')) v (value);
SELECT v.value, regress.errors(jsonb_build_object('actualStart', v.value)) FROM (VALUES ('"2025-01-15"'::jsonb), ('"2025-01-15T00:00:00Z"'), ('"2025-01-15T10:20:30.123456+05:30"'), ('"2025-02-29"'), ('"2024-02-29"'),
    ('"2025-13-01"'), ('"15.01.2025"'), ('"2025-01-15T25:00:00Z"'), ('"tomorrow"'), ('"now"'), ('"infinity"'), ('""'), ('20250115'), ('true'), ('null')) v (value);
-- a value of the wrong type gives its type error only
SELECT regress.errors('{"monthlyRate": "-5", "source": "Rental"}');
SELECT regress.errors('{"forecastEnd": 5}', '{"forecastStart": "2025-01-15"}');
-- a wrong type in current is not the delta's fault
SELECT regress.errors('{"forecastEnd": "2025-01-01"}', '{"forecastStart": 7}');

-- A date is the day that is written, whatever time and zone follow; these must be right all the same.
INSERT INTO pems_field (name, label, type, after_field) VALUES ('dayFrom', 'First day', 'date', NULL), ('dayTo', 'Last day', 'date', 'dayFrom');
SELECT v.value, regress.errors(jsonb_build_object('dayFrom', v.value)) FROM unnest(ARRAY['"2025-07-01"', '"2024-02-29"', '"2025-07-01T00:00:00+05:30"', '"2025-07-01T23:59:59.999-12:00"', '"2025-07-01 12:30"', 'null',
    '"2025-02-29"', '"2025-02-30"', '"2025-13-01"', '"2025-07-00"', '"2025-07-01T24:00:00"', '"2025-07-01T24:00:01"', '"2025-07-01T12:60"', '"2025-07-01T12:30:60Z"', '"2025-07-01T12:30:00+99:00"',
    '"2025-07-01T12:30:00+02:60"', '"2025-07-01Z"', '"2025-07-01 or so"', '"2025-07-01T12:30:00Z "', '"01.07.2025"', '"today"', '""', '20250701']::jsonb[]) WITH ORDINALITY AS v (value, place) ORDER BY v.place;
-- later by the day, not by the instant
SELECT regress.errors('{"dayFrom": "2025-07-01", "dayTo": "2025-07-02T00:00:00+05:30"}');
SELECT regress.errors('{"dayFrom": "2025-07-01T23:30:00-05:00", "dayTo": "2025-07-02"}');
SELECT regress.errors('{"dayFrom": "2025-07-01T00:00:00Z", "dayTo": "2025-07-01T23:00:00Z"}');
SELECT regress.errors('{"dayTo": "2025-07-01T00:00:00-11:00"}', '{"dayFrom": "2025-07-01T00:00:00+14:00"}');

-- Unknown and read-only fields.
SELECT regress.errors('{"colour": "red", "Dor": "BEO"}');
SELECT regress.errors('{"pfaId": "PFA-1"}');
SELECT regress.errors('{"pfaId": null, "originalStart": "2025-01-01", "originalEnd": null, "hasPlan": true, "hasActuals": true, "lastModified": null, "lastModifiedBy": "me"}');
SELECT regress.errors('{"": 1}');
SELECT regress.errors(jsonb_build_object('<script>alert(1)</script>', 1));

-- Nothing to check, and what is no object.
SELECT pems_validate('{}');
SELECT pems_validate('{}', regress.broken());
SELECT pems_validate(changes => '{"dor": "BEO"}', current => NULL);
SELECT pems_validate('{"dor": "BEO"}', 'null');
SELECT regress.attempt('SELECT pems_validate(NULL)');
SELECT regress.attempt($$SELECT pems_validate('null')$$);
SELECT regress.attempt($$SELECT pems_validate('[]')$$);
SELECT regress.attempt($$SELECT pems_validate('"a"')$$);
SELECT regress.attempt($$SELECT pems_validate('{}', '[]')$$);
SELECT regress.attempt($$SELECT pems_validate('{"dor": "BEO"}', '5')$$);
-- nested deeper than can be processed: an answer, not a crash, and as a value of the right type it is refused
SELECT regress.state(format('SELECT pems_validate(%L)', '{"model": ' || repeat('[', 5000) || repeat(']', 5000) || '}')) IN ('ok', '22023: JSON value cannot be processed') AS answered;
INSERT INTO pems_field (name, label, type) VALUES ('extra', 'Extra', 'json');
SELECT regress.errors('{"extra": {"a": [{"b": [1, null]}]}}');
SELECT regress.errors(('{"extra": ' || repeat('[', 5000) || repeat(']', 5000) || '}')::jsonb) <> 'valid' AS refused;

DROP EXTENSION pems_sync;
DROP SCHEMA regress CASCADE;
DROP TABLE pfa_modification, pfa_mirror, organization;
