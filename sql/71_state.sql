/*
 * 71_state: the state of single records, for badges in a list.
 */

/*
 * _pems_why_not_sent(organization): why nothing of the organization, or (NULL) of none, is being sent, a sentence for
 * people; NULL when it is.
 * Tables: pems_control, pems_pause, pems_credential.
 */
CREATE FUNCTION @extschema@._pems_why_not_sent(organization text) RETURNS text
-- plpgsql keeps the plans, for those who ask with each commit
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RETURN coalesce(
        (SELECT 'This database is a copy; it sends nothing until an administrator resumes it.'
         WHERE @extschema@._pems_standing() = 'copy'),
        (SELECT CASE p.cause WHEN 'credential' THEN 'PEMS refuses the credential of the organization'
                             ELSE 'Sending is paused' END
                || coalesce(': ' || p.reason, '.') FROM @extschema@.pems_pause p
         WHERE p.organization_id IN (organization, '*') ORDER BY p.organization_id DESC, p.cause LIMIT 1),
        (SELECT 'The organization has no credential for PEMS.'
         WHERE organization IS NOT NULL
           AND NOT EXISTS (SELECT FROM @extschema@.pems_credential c WHERE c.organization_id = organization)),
        (SELECT coalesce(upper(left(w.last_error, 1)) || substr(w.last_error, 2) || '.', 'The key file cannot be used.')
         FROM @extschema@._pems_worker_state() w WHERE w.state = 'no_key' LIMIT 1),
        (SELECT CASE c.state WHEN 'no_key' THEN 'There is no key for the credential of the organization'
                             ELSE 'The credential of the organization cannot be opened' END
                || coalesce(': ' || c.problem, '.')
         FROM @extschema@.pems_credential c
         WHERE c.organization_id = organization AND c.state IN ('no_key', 'cannot_open')),
        (SELECT 'The worker is not running.'
         WHERE NOT EXISTS (SELECT FROM @extschema@._pems_worker_state() w WHERE w.state = 'running')));
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_why_not_sent(text) IS
    'Internal: why nothing of the organization, or (NULL) of none, is being sent; NULL when it is';

/*
 * _pems_newest_drafts(organization, pfa_ids): the newest draft of each of these records that has one.  The
 * application's index knows the drafts of an organization and not their records, so all of them are read, once: the ids
 * must be hashed.
 * Returns: pfa_id, and id and created_at of the draft.
 * Tables: pfa_modification.
 */
CREATE FUNCTION @extschema@._pems_newest_drafts(
    organization text, pfa_ids text[], OUT pfa_id text, OUT id text, OUT created_at timestamptz)
RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
SET enable_hashjoin = on SET enable_seqscan = off SET enable_nestloop = off SET enable_mergejoin = off SET jit = off
AS $function$
    SELECT DISTINCT ON (m.pfa_id) m.pfa_id, m.id, m.created_at FROM @extschema@.pfa_modification m
    WHERE m.organization_id = organization AND m.sync_status = 'draft' AND m.pfa_id IN (SELECT unnest(pfa_ids))
    ORDER BY m.pfa_id, m.created_at DESC, m.id DESC
$function$;
COMMENT ON FUNCTION @extschema@._pems_newest_drafts(text, text[]) IS
    'Internal: the newest draft of each of these records';

/*
 * _pems_record_states(organization, pfa_ids): for each record that is known the edit that its state comes from: the
 * first unfinished item; else the newest draft; else what the mirror came from.
 *
 * Returns: pfa_id, status, since, due (NULL: nothing will be sent by itself), error, conflict_id, modification_id;
 *   later: unfinished items after the first, counted up to 100.
 * Tables: pfa_write_queue, pfa_modification, pfa_mirror, pems_mirror_version, pfa_sync_conflict.
 */
CREATE FUNCTION @extschema@._pems_record_states(
    organization text, pfa_ids text[],
    OUT pfa_id text, OUT status text, OUT since timestamptz, OUT due timestamptz, OUT error text, OUT conflict_id text,
    OUT modification_id text, OUT later bigint)
RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
    WITH wanted AS (
        SELECT DISTINCT u.id FROM unnest(pfa_ids) u (id)
    ), head AS (
        SELECT h.* FROM wanted w CROSS JOIN LATERAL (
            SELECT f.* FROM (VALUES (false), (true)) AS k (held) CROSS JOIN LATERAL (
                SELECT q.* FROM @extschema@.pfa_write_queue q
                WHERE q.organization_id = organization AND q.pfa_id = w.id AND q.unfinished AND q.held = k.held
                ORDER BY q.commit_seq LIMIT 1) f
            ORDER BY f.commit_seq LIMIT 1) h
    ), draft AS (
        SELECT n.* FROM @extschema@._pems_newest_drafts(organization, pfa_ids) n
    ), mirror AS (
        SELECT r.pfa_id, coalesce(v.recorded_at, r.last_synced_at) AS at, v.modification_id
        -- each by itself: a join may be planned to read all of a table
        FROM wanted w CROSS JOIN LATERAL (
            SELECT m.pfa_id, m.version, m.last_synced_at FROM @extschema@.pfa_mirror m
            WHERE m.organization_id = organization AND m.pfa_id = w.id LIMIT 1) r
        LEFT JOIN LATERAL (
            SELECT h.recorded_at, h.modification_id FROM @extschema@.pems_mirror_version h
            WHERE h.organization_id = organization AND h.pfa_id = r.pfa_id AND h.version = r.version
            ORDER BY h.state_seq DESC LIMIT 1) v ON true
    )
    SELECT h.pfa_id, CASE h.status WHEN 'processing' THEN 'syncing' WHEN 'pending' THEN 'queued' ELSE h.status END,
           CASE h.status WHEN 'processing' THEN h.last_attempt_at WHEN 'conflict' THEN c.created_at
                         WHEN 'failed' THEN h.completed_at ELSE h.created_at END,
           CASE WHEN h.waits_for = 'resume' THEN NULL WHEN h.status = 'pending' THEN h.scheduled_at
                WHEN h.status = 'processing' THEN h.last_attempt_at END,
           CASE WHEN h.waits_for = 'resume'
                THEN 'Another database queued this edit (a dump was loaded into this one); '
                     'it is not sent until an administrator resumes it.'
                ELSE h.last_error END, c.id, h.modification_id,
           (SELECT count(*) FROM (SELECT FROM @extschema@.pfa_write_queue l
                WHERE l.organization_id = h.organization_id AND l.pfa_id = h.pfa_id AND l.commit_seq > h.commit_seq
                  AND l.unfinished LIMIT 100) behind)
    FROM head h
    LEFT JOIN LATERAL (SELECT o.id, o.created_at FROM @extschema@.pfa_sync_conflict o
                       WHERE o.item_id = h.id AND o.status = 'unresolved' LIMIT 1) c ON true
    UNION ALL
    SELECT d.pfa_id, 'draft', d.created_at, NULL, NULL, NULL, d.id, 0
    FROM draft d WHERE d.pfa_id NOT IN (SELECT h.pfa_id FROM head h)
    UNION ALL
    SELECT m.pfa_id, 'synced', m.at, NULL, NULL, NULL, m.modification_id, 0
    FROM mirror m WHERE m.pfa_id NOT IN (SELECT h.pfa_id FROM head h UNION ALL SELECT d.pfa_id FROM draft d)
$function$;
COMMENT ON FUNCTION @extschema@._pems_record_states(text, text[]) IS
    'Internal: for each record the edit that its state comes from';

/*
 * pems_sync_state(organization_id, pfa_ids)
 *
 * The state of single records, for badges in a list.  A record is as far as its first unfinished edit;
 * what is behind that one is held.
 *
 * Parameters: pfa_ids: the records; 1 to 10,000 (administrators: 100,000).
 * Returns: {"PFA-1": {status, since, etaSeconds, error, conflictId, modificationId}, ...}; records that are
 *   neither mirrored nor edited are left out.
 *   status      draft, queued, syncing, conflict, failed, or synced: nothing is under way
 *   etaSeconds  when it will probably be in PEMS; null when nothing is under way, or nothing is being sent
 *   error       what went wrong, what it waits for, and how many later edits wait for it; null: all is well
 *   stale       true, only of a draft: the record has other data now than the user saw
 *   changedFields  only of a stale draft: the values of it that differ now from both, with dots as in conflictFields:
 *               those that would be in conflict
 * Errors: P0002 unknown organization; 22023 pfa_ids is NULL, empty or too long; 55000 not attached.
 * Tables: pfa_write_queue, pfa_modification, pfa_mirror, pfa_sync_conflict, pems_mirror_version, pems_pause.
 */
CREATE FUNCTION @extschema@.pems_sync_state(organization_id text, pfa_ids text[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    organization CONSTANT text := @extschema@._pems_organization(organization_id);
    wanted       CONSTANT text[] := @extschema@._pems_id_list(pfa_ids, 'pfa_ids'::text);
    blocked      CONSTANT text := @extschema@._pems_why_not_sent(organization);
    at_earliest  CONSTANT timestamptz := @extschema@._pems_estimate(organization);
BEGIN
    IF wanted IS NULL THEN
        RAISE EXCEPTION 'pfa_ids must not be null'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass the ids of the records in the list.';
    END IF;
    RETURN (
        WITH state AS MATERIALIZED (
            SELECT s.* FROM @extschema@._pems_record_states(organization, wanted) s
        ), stale AS (
            -- the rules of a conflict of kind validation are broken by fields that have not changed
            SELECT c.id, CASE WHEN c.decision ->> 'decision' = 'conflict' AND c.decision -> 'errors' = '[]'
                              THEN c.decision -> 'fields' ELSE '[]' END AS changed_fields
            FROM @extschema@._pems_compare_drafts(
                organization, ARRAY(SELECT s.modification_id FROM state s WHERE s.status = 'draft')) c
            WHERE c.moved_on
        )
        SELECT coalesce(jsonb_object_agg(s.pfa_id, jsonb_build_object(
            'status', s.status, 'since', @extschema@._pems_iso(s.since),
            'etaSeconds', CASE WHEN s.due IS NOT NULL AND blocked IS NULL
                               THEN ceil(greatest(0, extract(epoch FROM greatest(s.due, at_earliest)
                                                                        - clock_timestamp())))::bigint END,
            'error', nullif(concat_ws(' ', s.error || CASE WHEN s.error LIKE '%.' THEN '' ELSE '.' END,
                                      CASE WHEN s.due IS NOT NULL THEN blocked END,
                     CASE WHEN s.later > 0 AND s.due IS NULL THEN
                         format('%s later %s for this one.', CASE WHEN s.later < 100 THEN s.later::text
                                                                  ELSE 'At least 100' END,
                                CASE s.later WHEN 1 THEN 'edit waits' ELSE 'edits wait' END) END), ''),
            'conflictId', s.conflict_id, 'modificationId', s.modification_id)
            || CASE WHEN d.id IS NOT NULL THEN jsonb_build_object('stale', true, 'changedFields', d.changed_fields)
                    ELSE '{}' END), '{}')
        FROM state s LEFT JOIN stale d ON d.id = s.modification_id AND s.status = 'draft');
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_sync_state(text, text[]) IS
    'State of records for badges in a list: {"PFA-1": {status, since, etaSeconds, error, conflictId, '
    'modificationId}}; of a draft whose record has changed since also stale and changedFields. Errors: P0002, 22023, '
    '55000.';
