/*
 * 78_versions: the history of one record.
 */

/*
 * _pems_current_state(organization, pfa_id): the state of the history that the mirror of a record is in.
 * Returns: its state_seq; NULL: there is no mirror, or the record is deleted in PEMS.
 * Tables: pfa_mirror, pems_mirror_version.
 */
CREATE FUNCTION @extschema@._pems_current_state(organization text, pfa_id text) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
BEGIN
    RETURN (SELECT v.state_seq
            FROM (SELECT m.version FROM @extschema@.pfa_mirror m
                  WHERE m.organization_id = organization AND m.pfa_id = $2 AND m.deleted_at IS NULL LIMIT 1) r
            CROSS JOIN LATERAL (
                SELECT h.state_seq FROM @extschema@.pems_mirror_version h
                WHERE h.organization_id = organization AND h.pfa_id = $2 AND h.version = r.version
                ORDER BY h.state_seq DESC LIMIT 1) v);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_current_state(text, text) IS
    'Internal: the state of the version history that the mirror of a record is in';

/*
 * _pems_states(organization, pfa_id, before, most): states of a record that came before that one, newest first.
 * Parameters: before: its state_seq; most: at most so many.
 * Tables: pems_mirror_version.
 */
CREATE FUNCTION @extschema@._pems_states(organization text, pfa_id text, before bigint, most integer)
RETURNS SETOF @extschema@.pems_mirror_version
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
BEGIN
    RETURN QUERY
    SELECT v.* FROM @extschema@.pems_mirror_version v
    WHERE v.organization_id = organization AND v.pfa_id = $2 AND v.state_seq < before
    ORDER BY v.state_seq DESC LIMIT most;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_states(text, text, bigint, integer) IS
    'Internal: states of a record that came before one, newest first';

/*
 * pems_version_history(organization_id, pfa_id, page_size, before)
 *
 * The states that a record was in, as far as they are known here, in the order in which they came, the newest first.
 * Where PEMS changed a record without a new version, or counts from an older one again, a version is there several
 * times.
 *
 * Parameters: page_size: 1 to 1000.  before: next of the page before; NULL: from the newest on.
 * Returns: {versions: [{version, recordedAt, changedBy, changeReason, source, current}], next}.
 *   recordedAt  when this database learned of it
 *   changedBy, changeReason  as far as they are known: of our own edits, and (changedBy) of who wrote the mirror
 *   source      write: an edit of ours; pems: read from PEMS; external: somebody else wrote the mirror
 *   current     the mirror is in this state; of a record that is deleted in PEMS, in none
 *   next        only where there are older ones: what to pass as before
 * Errors: P0002 unknown organization or record; 22023 page_size out of range, pfa_id longer than 200 characters; 55000
 *   not attached.
 * Tables: pems_mirror_version, pfa_mirror.
 */
CREATE FUNCTION @extschema@.pems_version_history(
    organization_id text, pfa_id text, page_size integer DEFAULT 50, before bigint DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    organization CONSTANT text := @extschema@._pems_organization(organization_id);
    rows_wanted  CONSTANT integer := @extschema@._pems_page_size(page_size);
    record_id    CONSTANT text := @extschema@._pems_id(pfa_id, 'pfa_id'::text);
    current_seq  CONSTANT bigint := @extschema@._pems_current_state(organization, record_id);
    versions     jsonb;
    found        bigint;
    last_seq     bigint;
BEGIN
    SELECT jsonb_agg(jsonb_build_object(
               'version', s.version, 'recordedAt', @extschema@._pems_iso(s.recorded_at), 'changedBy', s.changed_by,
               'changeReason', s.change_reason, 'source', s.source,
               'current', s.state_seq IS NOT DISTINCT FROM current_seq) ORDER BY s.n) FILTER (WHERE s.n <= rows_wanted),
           count(*), min(s.state_seq) FILTER (WHERE s.n <= rows_wanted)
    INTO versions, found, last_seq
    FROM (SELECT p.*, row_number() OVER (ORDER BY p.state_seq DESC) AS n
          FROM @extschema@._pems_states(organization, record_id, coalesce(before, 9223372036854775807),
                                        rows_wanted + 1) p) s;
    IF versions IS NULL AND NOT @extschema@._pems_record_known(organization, record_id) THEN
        RAISE EXCEPTION 'PFA record % does not exist', coalesce('"' || left(record_id, 100) || '"', 'NULL')
            USING ERRCODE = 'no_data_found', HINT = 'Pass pfa_mirror.pfa_id of a record of this organization.';
    END IF;
    RETURN jsonb_build_object('versions', coalesce(versions, '[]'))
           || CASE WHEN found > rows_wanted THEN jsonb_build_object('next', last_seq) ELSE '{}' END;
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_version_history(text, text, integer, bigint) IS
    'The states that a record was in, newest first: {versions: [{version, recordedAt, changedBy, changeReason, source, '
    'current}]}, and next, for before, where there are older ones. Errors: P0002, 22023, 55000.';

/*
 * _pems_record_known(organization, pfa_id): is there a mirror of that record, or a state of it in the history?
 * Tables: pfa_mirror, pems_mirror_version.
 */
CREATE FUNCTION @extschema@._pems_record_known(organization text, pfa_id text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
BEGIN
    RETURN coalesce((SELECT true FROM @extschema@.pfa_mirror m
                     WHERE m.organization_id = organization AND m.pfa_id = $2 LIMIT 1),
                    (SELECT true FROM @extschema@.pems_mirror_version v
                     WHERE v.organization_id = organization AND v.pfa_id = $2 ORDER BY v.state_seq LIMIT 1), false);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_record_known(text, text) IS
    'Internal: is there a mirror of a record, or a state of it in the history?';
