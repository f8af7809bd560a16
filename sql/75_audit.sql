/*
 * 75_audit: the audit log is read.
 */

/*
 * _pems_check_event_types(event_types): raises an error when one of them is none that the audit log has.
 * Errors: 22023.
 */
CREATE FUNCTION @extschema@._pems_check_event_types(event_types text[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    known   CONSTANT text[] := '{COMMITTED, WRITE_ATTEMPT, READ_ATTEMPT, SYNCED_WITHOUT_REQUEST, NOT_SENT,
                                 RECORDING_FAILED, CONFLICT_DETECTED, CONFLICT_RESOLVED, RETRIED, ROLLBACK_REQUESTED,
                                 DISCARDED, PAUSED, RESUMED, CREDENTIAL_CHANGED, PURGED, ADOPTED, PULL_CANCELLED}';
    unknown CONSTANT text := (SELECT coalesce('"' || left(u.name, 100) || '"', 'NULL') FROM unnest(event_types) u (name)
                              WHERE (u.name = ANY (known)) IS NOT TRUE LIMIT 1);
BEGIN
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION 'unknown event type %', unknown
            USING ERRCODE = 'invalid_parameter_value', HINT = format('Use %s.', array_to_string(known, ', '));
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_check_event_types(text[]) IS
    'Internal: raises 22023 when the audit log has no such event type';

/*
 * pems_audit(organization_id, start_date, end_date, event_types, pfa_id, modification_id, actor, page_size, after_at,
 *            after_seq)
 *
 * The audit log, filtered and by pages, oldest first; for people and as an export:
 *   \copy (SELECT * FROM pems_audit(start_date => '2026-01-01', page_size => 1000000)) TO 'audit.csv' CSV HEADER
 *
 * Parameters: each filter NULL: all.  start_date is included, end_date is not.  page_size: 1 to 1,000,000 rows.
 *   after_at, after_seq: at and seq of the last row of the page before.
 * Returns: rows of pems_audit_log.
 * Errors: P0002 unknown organization; 22023 page_size out of range, end_date before start_date, an unknown event type,
 *   or one half of after_at and after_seq without the other.
 * Tables: pems_audit_log.
 */
CREATE FUNCTION @extschema@.pems_audit(
    organization_id text DEFAULT NULL, start_date timestamptz DEFAULT NULL, end_date timestamptz DEFAULT NULL,
    event_types text[] DEFAULT NULL, pfa_id text DEFAULT NULL, modification_id text DEFAULT NULL,
    actor text DEFAULT NULL,
    page_size integer DEFAULT 1000, after_at timestamptz DEFAULT NULL, after_seq bigint DEFAULT NULL)
RETURNS SETOF @extschema@.pems_audit_log
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan SET jit = off AS $function$
DECLARE
    organization CONSTANT text := CASE WHEN organization_id IS NOT NULL
                                       THEN @extschema@._pems_organization(organization_id) END;
BEGIN
    IF page_size IS NULL OR page_size NOT BETWEEN 1 AND 1000000 THEN
        RAISE EXCEPTION 'page_size must be between 1 and 1000000'
            USING ERRCODE = 'invalid_parameter_value', DETAIL = format('It is %s.', coalesce(page_size::text, 'NULL')),
                  HINT = 'Ask for a smaller page, and for the next one with after_at and after_seq.';
    END IF;
    IF end_date < start_date THEN
        RAISE EXCEPTION 'end_date is before start_date'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass the earlier time as start_date.';
    END IF;
    IF (after_at IS NULL) <> (after_seq IS NULL) THEN
        RAISE EXCEPTION 'after_at and after_seq go together'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass at and seq of the last row of the page before.';
    END IF;
    PERFORM @extschema@._pems_check_event_types(event_types);
    RETURN QUERY
    SELECT a.* FROM @extschema@.pems_audit_log a
    WHERE (organization IS NULL OR a.organization_id = organization)
      AND (start_date IS NULL OR a.at >= start_date) AND (end_date IS NULL OR a.at < end_date)
      AND (event_types IS NULL OR a.event_type = ANY (event_types))
      AND ($5 IS NULL OR a.pfa_id = $5) AND ($6 IS NULL OR a.modification_id = $6) AND ($7 IS NULL OR a.actor = $7)
      AND (after_at IS NULL OR (a.at >= after_at AND (a.at, a.seq) > (after_at, after_seq)))
    ORDER BY a.at, a.seq LIMIT page_size;
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_audit(text, timestamptz, timestamptz, text[], text, text, text, integer,
    timestamptz, bigint) IS
    'The audit log, filtered and by pages (after_at, after_seq: the last row of the page before), oldest first. '
    'Errors: P0002, 22023.';
