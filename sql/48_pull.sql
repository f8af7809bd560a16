/*
 * 48_pull: what the worker calls for read sync: which pulls may go on, storing a slice of a page, and their end.
 */

/*
 * _pems_pull_due(organization_ids, most): pulls of these organizations that may make a request now, single records
 * before listings, at most one per organization.
 *
 * Tables: pems_pull_state, pems_pause.
 */
CREATE FUNCTION @extschema@._pems_pull_due(organization_ids text[], most integer)
RETURNS TABLE (job_id text, organization_id text, pfa_id text, mode text, phase text, updated_since text, cursor text,
               page integer, stored integer, restarted boolean, requests integer, failures integer, cancelled boolean)
LANGUAGE plpgsql VOLATILE ROWS 10 SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT s.job_id, s.organization_id, s.pfa_id, s.mode, s.phase, @extschema@._pems_iso(s.updated_since), s.cursor,
           s.page, s.stored, s.restarted, s.requests, s.failures, s.cancelled_by IS NOT NULL
    FROM unnest(organization_ids) WITH ORDINALITY AS g (id, turn)
    CROSS JOIN LATERAL (
        SELECT p.* FROM @extschema@.pems_pull_state p
        WHERE p.organization_id = g.id AND p.phase <> 'ended' AND p.next_at <= clock_timestamp()
        ORDER BY p.pfa_id IS NULL, p.job_id LIMIT 1) s
    WHERE NOT EXISTS (SELECT FROM @extschema@.pems_pause p WHERE p.organization_id IN (g.id, '*'))
    ORDER BY s.pfa_id IS NULL, g.turn LIMIT most;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_due(text[], integer) IS
    'Internal: pulls that may make a request now, at most one per organization';

/*
 * _pems_pull_compare(organization, mode, pfa_ids, versions, deleted, records): what each record that was read does to
 * the mirror.  Locks the mirror's rows: what the application writes meanwhile waits, and is not overwritten.
 *
 * Returns: step: created; updated; deleted; unchanged; stale, where the mirror has a higher version; in the order of
 *   the arrays.  was_alive: the mirror had it, and not as deleted.
 * Tables: pfa_mirror.
 */
CREATE FUNCTION @extschema@._pems_pull_compare(
    organization text, mode text, pfa_ids text[], versions integer[], deleted boolean[], records jsonb[])
RETURNS TABLE (pfa_id text, version integer, is_deleted boolean, data jsonb, was_alive boolean, step text, turn bigint)
LANGUAGE plpgsql VOLATILE ROWS 100 SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT i.pfa_id, i.version, i.deleted, coalesce(i.data, m.data), m.version IS NOT NULL AND m.deleted_at IS NULL,
           CASE WHEN m.version IS NULL THEN CASE WHEN i.deleted THEN 'unchanged' ELSE 'created' END
                WHEN i.version < m.version AND $2 <> 'adopt' THEN 'stale'
                WHEN i.deleted THEN CASE WHEN m.deleted_at IS NULL THEN 'deleted' ELSE 'unchanged' END
                WHEN i.version = m.version AND m.deleted_at IS NULL AND m.data = i.data THEN 'unchanged'
                ELSE 'updated' END,
           i.turn
    FROM unnest($3, $4, $5, $6) WITH ORDINALITY AS i (pfa_id, version, deleted, data, turn)
    LEFT JOIN LATERAL (
        SELECT r.version, r.data, r.deleted_at FROM @extschema@.pfa_mirror r
        WHERE r.organization_id = $1 AND r.pfa_id = i.pfa_id FOR NO KEY UPDATE) m ON true
    ORDER BY i.turn;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_compare(text, text, text[], integer[], boolean[], jsonb[]) IS
    'Internal: what each record that was read does to the mirror';

/*
 * _pems_pull_quarantine(organization, job, pfa_ids, reasons, raws): keeps what could not be stored, one row per record.
 * Tables: pems_quarantined.
 */
CREATE FUNCTION @extschema@._pems_pull_quarantine(
    organization text, job text, pfa_ids text[], reasons text[], raws text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    DELETE FROM @extschema@.pems_quarantined q WHERE q.organization_id = organization AND q.pfa_id = ANY (pfa_ids);
    INSERT INTO @extschema@.pems_quarantined (organization_id, pfa_id, job_id, reason, raw)
    SELECT organization, b.pfa_id, job, b.reason, b.raw FROM unnest(pfa_ids, reasons, raws) AS b (pfa_id, reason, raw);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_quarantine(text, text, text[], text[], text[]) IS
    'Internal: keeps records that could not be stored';
