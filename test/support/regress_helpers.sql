/*
 * Helpers of the regression tests in test/sql.  Included with \i, from the directory that
 * `make installcheck` runs in.  Everything is in schema regress, which each test drops at its end.
 *
 * Nothing here may depend on a worker, the clock, ids, the locale or the server's settings: what
 * differs from run to run is written as <uuid>, <time> or <number>.
 */
\pset format unaligned
\pset tuples_only on
\pset null NULL
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';

CREATE SCHEMA regress;
GRANT USAGE ON SCHEMA regress TO PUBLIC;

/* Runs a statement and says how it ended: ok, or SQLSTATE, message, DETAIL and HINT. */
CREATE FUNCTION regress.attempt(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text;
    detail  text;
    hint    text;
BEGIN
    EXECUTE statement;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', SQLSTATE || ': ' || message, 'DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, ''));
END
$$;

/* The same without DETAIL and HINT. */
CREATE FUNCTION regress.state(statement text) RETURNS text LANGUAGE sql AS
$$ SELECT split_part(regress.attempt(statement), E'\n', 1) $$;

/* Text with what differs from run to run replaced. */
CREATE FUNCTION regress.scrub(value text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT regexp_replace(regexp_replace(value,
        '[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}', '<uuid>', 'g'),
        '\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z', '<time>', 'g')
$$;
CREATE FUNCTION regress.scrub(value jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT regress.scrub(value::text) $$;
