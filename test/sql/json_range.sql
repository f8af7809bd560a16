-- What a number must be to fit into jsonb, as this server sees it.  test/unit/record/number_test.c has the same numbers: answers of PEMS are
-- asked there whether jsonb can hold them, before it is tried.
CREATE FUNCTION pg_temp.held(literal text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM literal::jsonb;
    RETURN true;
EXCEPTION WHEN numeric_value_out_of_range THEN
    RETURN false;
END $$;
SELECT n.before || CASE WHEN n.count > 0 THEN format(' %s times %s ', n.count, n.unit) ELSE '' END || n.after AS number,
       pg_temp.held(n.before || repeat(n.unit, n.count) || n.after)
FROM (VALUES
    (1, '1e131071', '', 0, ''), (2, '-9.99e131071', '', 0, ''), (3, '0.1e131072', '', 0, ''), (4, '0.001e131074', '', 0, ''),
    (5, '1', '0', 131071, ''), (6, '9', '9', 131071, '.5'), (7, '1', '0', 131071, '0e-1'),
    (8, '1e131072', '', 0, ''), (9, '-1E+131072', '', 0, ''), (10, '10e131071', '', 0, ''), (11, '0.1e131073', '', 0, ''),
    (12, '1', '0', 131072, ''), (13, '1e999999', '', 0, ''), (14, '1e99999999999999999999', '', 0, ''),
    (15, '1e-16383', '', 0, ''), (16, '0.1e-16382', '', 0, ''), (17, '0.', '0', 16383, ''), (18, '1.', '0', 16383, ''),
    (19, '1.', '0', 16384, 'e1'), (20, '1e-16384', '', 0, ''), (21, '10e-16384', '', 0, ''), (22, '1.0e-16383', '', 0, ''),
    (23, '0.', '0', 16384, ''), (24, '1.', '0', 16384, ''), (25, '0e-16384', '', 0, ''), (26, '1e-99999999999999999999', '', 0, ''),
    (27, '0e999999', '', 0, ''), (28, '0e1073741822', '', 0, ''), (29, '0e1073741824', '', 0, ''),
    (30, '0e99999999999999999999', '', 0, ''), (31, '-0.0', '', 0, '')) n (place, before, unit, count, after)
ORDER BY n.place;
-- The other things that jsonb refuses and JSON has; a value that a later one of the same key replaces is read, too.
\set VERBOSITY sqlstate
SELECT '"\u0000"'::jsonb;
SELECT '"\ud800"'::jsonb;
SELECT '{"a": 1e999999, "a": 1}'::jsonb;
-- nested as deeply as the library reads
SELECT jsonb_typeof((repeat('[', 512) || repeat(']', 512))::jsonb);
