/*
 * 53_validate: pems_validate(): changes are checked without a draft.
 */

/*
 * pems_validate(changes, current)
 *
 * Checks changes against the field catalogue and the business rules, on the record as it would
 * become (current with changes on top).
 *
 * Parameters: changes: a delta; current: the record that it is for, NULL = an empty one.
 * Returns: {valid, errors}: errors: a sentence each
 * Errors: 22023 when changes or current is no JSON object, or larger than pems_commit() would take.
 * Tables: pems_field.
 */
CREATE FUNCTION @extschema@.pems_validate(changes jsonb, current jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    problem jsonb;
BEGIN
    PERFORM @extschema@._pems_check_json(changes, 'changes'::text, 'max_delta_size'::text);
    PERFORM @extschema@._pems_check_json(current, 'current'::text, 'max_record_size'::text);
    IF jsonb_typeof(changes) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'changes must be a JSON object'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', coalesce(jsonb_typeof(changes), 'NULL')),
                  HINT = 'Pass the changed fields, for example {"monthlyRate": 5500}.';
    END IF;
    IF jsonb_typeof(current) NOT IN ('object', 'null') THEN
        RAISE EXCEPTION 'current must be a JSON object'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', jsonb_typeof(current)),
                  HINT = 'Pass pfa_mirror.data of the record, or leave it out.';
    END IF;
    IF changes <> '{}' THEN
        problem := @extschema@._pems_delta_problem(changes, nullif(current, 'null'::jsonb));
    END IF;
    RETURN jsonb_build_object('valid', problem IS NULL, 'errors', coalesce(problem -> 'errors', '[]'));
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_validate(jsonb, jsonb) IS
    'Checks changes against the field catalogue and the rules, on current with changes on top. Returns {valid, '
    'errors}. Error 22023 when an argument is no object.';
