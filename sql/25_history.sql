/*
 * 25_history: the version history of the mirror, kept complete by a trigger, whoever writes the mirror.
 */

/*
 * _pems_base_seq(organization_id, pfa_id, version, at): which state of that version a user saw who looked at that
 * time: the newest that had come by then; where all came later (the first snapshot, say), the first.
 *
 * Returns: its state_seq; NULL: the history has no state of that version.
 * Tables: pems_mirror_version.
 */
CREATE FUNCTION @extschema@._pems_base_seq(
    organization_id text, pfa_id text, version integer, at timestamptz) RETURNS bigint
-- a session plans this once, maybe while the table is empty
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $function$
BEGIN
    RETURN coalesce(
        (SELECT v.state_seq FROM @extschema@.pems_mirror_version v
         WHERE v.organization_id = $1 AND v.pfa_id = $2 AND v.version = $3 AND v.recorded_at <= $4
         ORDER BY v.state_seq DESC LIMIT 1),
        (SELECT v.state_seq FROM @extschema@.pems_mirror_version v
         WHERE v.organization_id = $1 AND v.pfa_id = $2 AND v.version = $3
         ORDER BY v.state_seq LIMIT 1));
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_base_seq(text, text, integer, timestamptz) IS
    'Internal: which state of a version was current at a time';

/*
 * _pems_is_newest_state(organization_id, pfa_id, version, data): is that the newest state that the history has of the
 * record?  False where it has none.  Not the newest of that version: where PEMS goes back to a backup, its state comes
 * once more, and what came between is no longer what the next one is compared with.
 * Tables: pems_mirror_version.
 */
CREATE FUNCTION @extschema@._pems_is_newest_state(
    organization_id text, pfa_id text, version integer, data jsonb) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $function$
BEGIN
    RETURN coalesce((SELECT v.version = $3 AND v.data = $4 FROM @extschema@.pems_mirror_version v
                     WHERE v.organization_id = $1 AND v.pfa_id = $2
                     ORDER BY v.state_seq DESC LIMIT 1), false);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_is_newest_state(text, text, integer, jsonb) IS
    'Internal: is that what the history has last of the record?';

/*
 * _pems_record_versions(): statement trigger on pfa_mirror, after insert and after update. Adds each state that is not
 * the newest of its record yet.  No state is ever replaced: an edit may have been drafted on it.  The worker has put
 * its own states there before it writes the mirror, with their modification; those are not added again.
 *
 * Errors: 55000 not attached.
 * Tables: pems_mirror_version.
 */
CREATE FUNCTION @extschema@._pems_record_versions() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
BEGIN
    -- the worker's UPDATE finds nothing of records that are new, and then inserts them
    IF NOT EXISTS (SELECT FROM new_rows) THEN
        RETURN NULL;
    END IF;
    PERFORM @extschema@._pems_attached();
    -- What _pems_is_newest_state() says, without a call for each row
    INSERT INTO @extschema@.pems_mirror_version (organization_id, pfa_id, version, data, source, changed_by)
    SELECT n.organization_id, n.pfa_id, n.version, n.data, 'external', @extschema@._pems_caller()
    FROM new_rows n
    WHERE n.organization_id IS NOT NULL AND n.pfa_id IS NOT NULL AND n.version IS NOT NULL AND n.data IS NOT NULL
      AND NOT coalesce((SELECT v.version = n.version AND v.data = n.data FROM @extschema@.pems_mirror_version v
                        WHERE v.organization_id = n.organization_id AND v.pfa_id = n.pfa_id
                        ORDER BY v.state_seq DESC LIMIT 1), false);
    RETURN NULL;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_record_versions() IS
    'Internal trigger: keeps the version history of the mirror complete';

/*
 * _pems_record_replicated_version(): the same as a row trigger on pfa_mirror, for rows that come by logical
 * replication: its apply workers fire no statement triggers.  Fires only where session_replication_role is replica;
 * where the statement trigger fires, too, one of them finds nothing left to do.
 *
 * Tables: pems_mirror_version.
 */
CREATE FUNCTION @extschema@._pems_record_replicated_version() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $function$
BEGIN
    PERFORM @extschema@._pems_attached();
    INSERT INTO @extschema@.pems_mirror_version (organization_id, pfa_id, version, data, source, changed_by)
    SELECT NEW.organization_id, NEW.pfa_id, NEW.version, NEW.data, 'external', @extschema@._pems_caller()
    WHERE NEW.organization_id IS NOT NULL AND NEW.pfa_id IS NOT NULL
      AND NEW.version IS NOT NULL AND NEW.data IS NOT NULL
      AND NOT @extschema@._pems_is_newest_state(NEW.organization_id, NEW.pfa_id, NEW.version, NEW.data);
    RETURN NULL;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_record_replicated_version() IS
    'Internal trigger: keeps the version history complete where the mirror comes by logical replication';
