/*
 * 35_common: what the functions of several files below use: are the application's tables attached, are the arguments
 * of a call acceptable, who calls; and how times and numbers are written.
 */

/*
 * _pems_attached(): raises an error when the application's tables are not attached, or have changed since.  Whatever
 * names one of these tables with rights that its owner does not have calls this first.
 * Errors: 55000, with everything that is wrong in DETAIL.
 * Tables: pems_control; the application's (locked).
 */
CREATE FUNCTION @extschema@._pems_attached() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF NOT EXISTS (SELECT FROM @extschema@.pems_control) OR NOT @extschema@._pems_app_intact(false) THEN
        RAISE EXCEPTION 'pems_sync is not attached to the tables of the application'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = coalesce(nullif(array_to_string(@extschema@._pems_app_problems(
                                        EXISTS (SELECT FROM @extschema@.pems_control)), E'\n'), ''),
                                    'pems_attach() has not run.'),
                  HINT = 'Run SELECT @extschema@.pems_attach().';
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_attached() IS
    'Internal: raises 55000 when the application''s tables are not attached, or have changed since';

/*
 * _pems_organization(organization_id): returns it when it exists.
 * Errors: P0002 when it does not; 22023 when it is NULL, longer than 200 characters, or *, which stands for all
 *   organizations; 55000 not attached.
 * Tables: organization.
 */
CREATE FUNCTION @extschema@._pems_organization(organization_id text) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
BEGIN
    PERFORM @extschema@._pems_attached();
    IF organization_id IS NULL THEN
        RAISE EXCEPTION 'organization_id must not be null'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass organization.id of the organization.';
    END IF;
    IF organization_id = '*' THEN
        RAISE EXCEPTION 'organization_id must not be *'
            USING ERRCODE = 'invalid_parameter_value', DETAIL = 'In pems_sync it stands for all organizations.',
                  HINT = 'An organization needs another id; for all organizations, pass NULL where the function '
                         'takes it.';
    END IF;
    PERFORM @extschema@._pems_id(organization_id, 'organization_id'::text);
    IF NOT EXISTS (SELECT FROM @extschema@.organization o WHERE o.id = organization_id) THEN
        RAISE EXCEPTION 'organization "%" does not exist', left(organization_id, 100)
            USING ERRCODE = 'no_data_found', HINT = 'Pass organization.id, not the code or the name.';
    END IF;
    RETURN organization_id;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_organization(text) IS
    'Internal: raises P0002 when the organization does not exist';

/*
 * _pems_long_id(id): is an id longer than 200 characters?  One that is much longer is not fetched for that. Written to
 * be inlined into its query: no SET clause.
 */
CREATE FUNCTION @extschema@._pems_long_id(id text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $function$
    SELECT CASE WHEN pg_catalog.octet_length(id) <= 200 THEN false
                WHEN pg_catalog.octet_length(id) > 800 THEN true
                ELSE pg_catalog.length(id) > 200 END
$function$;
COMMENT ON FUNCTION @extschema@._pems_long_id(text) IS 'Internal: is an id longer than 200 characters?';

/*
 * _pems_id(id, argument): returns the id.
 * Parameters: argument: how the error calls it.
 * Errors: 22023 when it is longer than 200 characters.
 */
CREATE FUNCTION @extschema@._pems_id(id text, argument text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF @extschema@._pems_long_id(id) THEN
        RAISE EXCEPTION '% is longer than 200 characters', argument
            USING ERRCODE = 'invalid_parameter_value', DETAIL = format('It has %s bytes.', octet_length(id)),
                  HINT = 'Use shorter ids.';
    END IF;
    RETURN id;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_id(text, text) IS
    'Internal: raises 22023 when an id is longer than 200 characters';

/*
 * _pems_id_list(ids, argument): returns the list; NULL: none was given.
 * Errors: 22023 when there is no id in it, or more than 10,000 (100,000 for administrators).
 */
CREATE FUNCTION @extschema@._pems_id_list(ids text[], argument text) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    most    integer := 10000;
    problem text;
BEGIN
    -- asked only where it matters
    IF cardinality(ids) > most AND @extschema@._pems_is_admin() THEN
        most := 100000;
    END IF;
    problem := CASE WHEN cardinality(ids) > most THEN format('has more than %s ids', most)
                    WHEN NOT EXISTS (SELECT FROM unnest(ids) u (id) WHERE u.id IS NOT NULL) THEN 'has no id in it' END;
    IF ids IS NOT NULL AND problem IS NOT NULL THEN
        RAISE EXCEPTION '% %', argument, problem
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It has %s.', @extschema@._pems_number_of(cardinality(ids)::bigint, 'element'::text,
                                                                          'elements'::text)),
                  HINT = format('Pass a list of 1 to %s ids.', most);
    END IF;
    RETURN ids;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_id_list(text[], text) IS
    'Internal: raises 22023 when a list of ids is none, or too long';

/*
 * _pems_check_short(value, argument): returns the value, a text of at most 1 kB.  It is measured without being fetched.
 * Parameters: argument: how the error calls it.
 * Errors: 22023 when it is longer.
 */
CREATE FUNCTION @extschema@._pems_check_short(value text, argument text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF octet_length(value) > 1024 THEN
        RAISE EXCEPTION '% is longer than 1 kB', argument
            USING ERRCODE = 'invalid_parameter_value', DETAIL = format('It has %s bytes.', octet_length(value)),
                  HINT = 'Pass a shorter text.';
    END IF;
    RETURN value;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_check_short(text, text) IS
    'Internal: raises 22023 when a text is longer than 1 kB';

/*
 * _pems_actor(named): who acts: the user that the caller names, or the database role.
 * Errors: 22023 when the name is longer than 1 kB.
 */
CREATE FUNCTION @extschema@._pems_actor(named text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RETURN coalesce(@extschema@._pems_check_short(named, 'the name of the user'::text), @extschema@._pems_caller());
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_actor(text) IS
    'Internal: the user that the caller names, or the database role; 22023 when the name is longer than 1 kB';

/*
 * _pems_is_admin(): is the caller a member of pems_sync_admin (or a superuser)?
 */
CREATE FUNCTION @extschema@._pems_is_admin() RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RETURN pg_has_role(@extschema@._pems_caller()::name, 'pems_sync_admin', 'USAGE');
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_is_admin() IS 'Internal: is the caller an administrator of pems_sync?';

/*
 * _pems_priority(name): high = 10, normal = 0, low = -10.
 * Errors: 22023 for anything else.
 */
CREATE FUNCTION @extschema@._pems_priority(name text) RETURNS integer
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    priority integer := CASE name WHEN 'high' THEN 10 WHEN 'normal' THEN 0 WHEN 'low' THEN -10 END;
BEGIN
    IF priority IS NULL THEN
        RAISE EXCEPTION 'unknown priority %', coalesce('"' || left(name, 100) || '"', 'NULL')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use high, normal or low.';
    END IF;
    RETURN priority;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_priority(text) IS 'Internal: number of a priority';

/*
 * _pems_page_size(rows): returns how many rows a page may have, 1 to 1000.
 * Errors: 22023 for anything else.
 */
CREATE FUNCTION @extschema@._pems_page_size(rows integer) RETURNS integer
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF rows IS NULL OR rows NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION 'page_size must be between 1 and 1000'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', coalesce(rows::text, 'NULL')),
                  HINT = 'Ask for a smaller page, and for the next one with the id of its last row.';
    END IF;
    RETURN rows;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_page_size(integer) IS 'Internal: raises 22023 when a page size is out of range';

/*
 * _pems_check_json(value, argument, setting): raises an error when the value is larger than that setting allows.
 * Parameters: argument: how the error calls it; setting: without pems_sync, in kB.
 * Errors: 22023.
 */
CREATE FUNCTION @extschema@._pems_check_json(value jsonb, argument text, setting text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    most CONSTANT integer := @extschema@._pems_setting(setting)::integer * 1024;
    size CONSTANT integer := @extschema@._pems_size(value, most::bigint);
BEGIN
    IF size > most THEN
        RAISE EXCEPTION '% is larger than %', argument, pg_size_pretty(most::bigint)
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It has at least %s bytes, and pems_sync.%s is %s.', size, setting,
                                  pg_size_pretty(most::bigint)),
                  HINT = 'Pass less, or have a superuser raise the setting.';
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_check_json(jsonb, text, text) IS
    'Internal: raises 22023 when a value is larger than a setting allows';

/*
 * _pems_warn_if_idle(): a WARNING when no worker runs, so nobody will send what was just queued.
 */
CREATE FUNCTION @extschema@._pems_warn_if_idle() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF NOT EXISTS (SELECT FROM @extschema@._pems_worker_state() w WHERE w.pid IS NOT NULL) THEN
        RAISE WARNING 'the pems_sync worker of database "%" is not running', current_database()
            USING DETAIL = 'The edits are queued and will be sent when it runs.',
                  HINT = CASE WHEN EXISTS (SELECT FROM @extschema@._pems_worker_state())
                              THEN 'See the server''s log. If the worker never started, raise max_worker_processes '
                                   'and restart the server.'
                              ELSE 'Set shared_preload_libraries = ''pems_sync'' and list the database in '
                                   'pems_sync.databases, then restart the server.' END;
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_warn_if_idle() IS 'Internal: WARNING when the worker is not running';

/*
 * _pems_iso(at): a time as the JSON of the API writes it, ISO 8601 in UTC with Z.
 */
CREATE FUNCTION @extschema@._pems_iso(at timestamptz) RETURNS text
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_iso(timestamptz) IS 'Internal: ISO 8601 in UTC with Z';

/*
 * _pems_number_of(number, one, many): the number with the words for one or for many: 1 dead letter, 2 dead letters.
 */
CREATE FUNCTION @extschema@._pems_number_of(number bigint, one text, many text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT format('%s %s', number, CASE number WHEN 1 THEN one ELSE many END)
$function$;
COMMENT ON FUNCTION @extschema@._pems_number_of(bigint, text, text) IS
    'Internal: a number with the words for one or for many';
