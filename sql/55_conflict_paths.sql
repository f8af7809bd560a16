/*
 * 55_conflict_paths: paths to values in JSON documents.
 *
 * A path has the keys that lead to a value, with dots between them: custom.costCentre.  A dot or a backslash in a key
 * has a backslash before it, so that no two values have the same path.  src/record/merge.c writes them in the same
 * way.
 *
 * The constants are E'...', in which a backslash is written twice: so they mean the same whatever
 * standard_conforming_strings says in the session.
 */

/*
 * _pems_path_key(key): a key as it is written in a path.
 */
CREATE FUNCTION @extschema@._pems_path_key(key text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT replace(replace(key, E'\\', E'\\\\'), '.', E'\\.')
$function$;
COMMENT ON FUNCTION @extschema@._pems_path_key(text) IS 'Internal: a key as it is written in a path';

/*
 * _pems_path_keys(path): the keys of a path.
 */
CREATE FUNCTION @extschema@._pems_path_keys(path text) RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT array_agg(regexp_replace(k.key[1], E'\\\\(.)', E'\\1', 'g') ORDER BY k.position)
    FROM regexp_matches('.' || path, E'\\.((?:[^.\\\\]|\\\\.)*)', 'g') WITH ORDINALITY AS k (key, position)
$function$;
COMMENT ON FUNCTION @extschema@._pems_path_keys(text) IS 'Internal: the keys of a path';

/*
 * _pems_at_path(document, path): the value at that path, NULL when there is none.
 */
CREATE FUNCTION @extschema@._pems_at_path(document jsonb, path text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    key   text;
    value jsonb := document;
BEGIN
    FOREACH key IN ARRAY @extschema@._pems_path_keys(path)
    LOOP
        IF jsonb_typeof(value) IS DISTINCT FROM 'object' THEN
            RETURN NULL;
        END IF;
        value := value -> key;
    END LOOP;
    RETURN value;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_at_path(jsonb, text) IS 'Internal: the value at a path';

/*
 * _pems_decides(delta, path): does the delta say what the value at that path becomes?  It does when it names it, or
 * when it puts something else in place of an object above it.
 */
CREATE FUNCTION @extschema@._pems_decides(delta jsonb, path text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    key   text;
    value jsonb := delta;
BEGIN
    FOREACH key IN ARRAY @extschema@._pems_path_keys(path)
    LOOP
        IF jsonb_typeof(value) <> 'object' THEN
            RETURN true;
        ELSIF NOT value ? key THEN
            RETURN false;
        END IF;
        value := value -> key;
    END LOOP;
    RETURN true;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_decides(jsonb, text) IS
    'Internal: does a delta say what the value at a path becomes?';

/*
 * _pems_leaf_paths(delta): paths of the values that a delta sets.  The members of an object have paths of their own;
 * arrays and empty objects are values.
 */
CREATE FUNCTION @extschema@._pems_leaf_paths(delta jsonb) RETURNS SETOF text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    WITH RECURSIVE leaf (path, value) AS (
        SELECT @extschema@._pems_path_key(m.key), m.value
        FROM jsonb_each(CASE WHEN jsonb_typeof(delta) = 'object' THEN delta ELSE '{}' END) m
        UNION ALL
        SELECT l.path || '.' || @extschema@._pems_path_key(m.key), m.value
        FROM leaf l
        CROSS JOIN LATERAL jsonb_each(CASE WHEN jsonb_typeof(l.value) = 'object' THEN l.value ELSE '{}' END) m
    )
    SELECT l.path FROM leaf l WHERE jsonb_typeof(l.value) <> 'object' OR l.value = '{}'
$function$;
COMMENT ON FUNCTION @extschema@._pems_leaf_paths(jsonb) IS 'Internal: paths of the values that a delta sets';
