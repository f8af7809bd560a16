/*
 * 59_preview: what would become of drafts if they were committed now: pems_commit_preview(), and the early warning of
 * pems_sync_state().  The decision is the worker's (src/record/merge.c), on what the worker would read
 * (42_claim): nothing is asked of PEMS, and nothing is changed.
 */

/*
 * _pems_compare_drafts(organization, modification_ids): each of these drafts compared with the mirror as it is. A draft
 * that no commit would take, because it is too large or has no delta, is left out.
 *
 * Returns: id, pfa_id;
 *   moved_on   the mirror is not what the user saw
 *   too_large  a record that it is to be compared with is not read
 *   decision   {decision, fields, errors} as _pems_decide() says; NULL: too_large, or nested too deeply
 * Tables: pfa_modification, pfa_mirror, pems_mirror_version, pfa_write_queue, pfa_sync_conflict.
 */
CREATE FUNCTION @extschema@._pems_compare_drafts(
    organization text, modification_ids text[],
    OUT id text, OUT pfa_id text, OUT moved_on boolean, OUT too_large boolean, OUT decision jsonb)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
#variable_conflict use_column
DECLARE
    max_delta CONSTANT bigint := @extschema@._pems_setting('max_delta_size'::text)::bigint * 1024;
    largest   CONSTANT bigint := @extschema@._pems_setting('max_record_size'::text)::bigint * 1024;
BEGIN
    RETURN QUERY
    WITH compared AS NOT MATERIALIZED (
        SELECT d.*, m.version, m.base_is_mirror, m.several_bases, m.deleted_at IS NOT NULL AS deleted, m.data
        FROM (SELECT DISTINCT u.id FROM unnest(modification_ids) u (id)) w
        CROSS JOIN LATERAL (
            SELECT n.id, n.pfa_id, n.base_version, n.created_by,
                   coalesce(n.created_at, clock_timestamp()) AS base_at, n.operation = 'DELETE' AS is_delete,
                   CASE WHEN n.operation = 'DELETE' THEN '{}' ELSE n.delta END AS payload
            FROM @extschema@.pfa_modification n
            -- the organization said so that no index over it fits
            WHERE n.id = w.id AND (n.organization_id = organization) IS TRUE AND n.base_version IS NOT NULL
              AND CASE n.operation WHEN 'DELETE' THEN true
                       WHEN 'UPDATE' THEN @extschema@._pems_size(n.delta, max_delta) <= max_delta
                                          AND jsonb_typeof(n.delta) = 'object' END
            OFFSET 0) d
        CROSS JOIN LATERAL @extschema@._pems_compare_mirror(organization, d.pfa_id, d.base_version) m
        WHERE m.version IS NOT NULL
    ), measured AS NOT MATERIALIZED (
        -- OFFSET: measured once
        SELECT c.*, @extschema@._pems_size(c.data, largest) > largest AS mirror_too_large FROM compared c OFFSET 0
    ), prepared AS NOT MATERIALIZED (
        -- of a record that was deleted there is nothing to compare with, as of one that a read does not find
        SELECT m.*, coalesce(m.base_is_mirror AND NOT m.deleted, false) AS as_drafted,
               CASE WHEN NOT m.mirror_too_large AND NOT m.deleted THEN m.data END AS remote
        FROM measured m
    )
    SELECT p.id, p.pfa_id,
           NOT p.as_drafted AND (b.base_data IS DISTINCT FROM p.remote OR e.decision ->> 'decision' = 'conflict'),
           NOT p.as_drafted AND (p.mirror_too_large OR b.too_large), e.decision
    FROM prepared p
    CROSS JOIN LATERAL @extschema@._pems_bases(
        organization, p.pfa_id, p.base_version, p.base_at, p.id, p.created_by, p.payload, p.remote,
        p.base_is_mirror, p.several_bases, largest) b
    CROSS JOIN LATERAL (
        SELECT CASE WHEN p.as_drafted THEN
                        jsonb_build_object('decision', 'send', 'fields',
                            (SELECT coalesce(jsonb_agg(k.name), '[]') FROM jsonb_object_keys(p.payload) k (name)),
                            'errors', '[]'::jsonb)
                    WHEN NOT p.mirror_too_large AND NOT b.too_large THEN
                        @extschema@._pems_decide(p.payload, b.base_data, b.own_data, b.other_bases, p.remote,
                                                 p.is_delete, p.base_version, p.version) END AS decision
        OFFSET 0) e;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_compare_drafts(text, text[]) IS
    'Internal: what would become of drafts that were sent now, on the mirror as it is';

/*
 * _pems_draft_problems(organization, modification_ids, owner): why pems_commit() would reject each of these
 * modifications.
 *
 * Parameters: owner: who must have made it; NULL: anybody.
 * Returns: id and pfa_id (of each at most 200 characters), created_at; problem: {code, errors}; NULL: it would be
 *   queued.
 * Tables: pfa_modification, pfa_mirror, pfa_write_queue.
 */
CREATE FUNCTION @extschema@._pems_draft_problems(
    organization text, modification_ids text[], owner text,
    OUT id text, OUT pfa_id text, OUT created_at timestamptz, OUT problem jsonb)
RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
#variable_conflict use_column
DECLARE
    max_delta  CONSTANT integer := @extschema@._pems_setting('max_delta_size'::text)::integer * 1024;
    max_record CONSTANT integer := @extschema@._pems_setting('max_record_size'::text)::integer * 1024;
    not_found  CONSTANT jsonb := '{"code": "NOT_FOUND", "errors": ["Modification not found"]}';
BEGIN
    RETURN QUERY
    SELECT left(w.id, 200), left(d.pfa_id, 200), d.created_at,
           CASE WHEN d.id IS NULL THEN not_found
                ELSE @extschema@._pems_draft_problem(d.id, d.found_status, d.created_by, owner, d.pfa_id, d.operation,
                                                     d.base_version, d.change_reason, d.delta, max_delta, d.record,
                                                     max_record) END
    FROM (SELECT DISTINCT u.id FROM unnest(modification_ids) u (id) WHERE u.id IS NOT NULL) w
    LEFT JOIN LATERAL (
        SELECT m.id, m.pfa_id, m.operation, m.delta, m.base_version, m.created_by, m.change_reason, m.created_at,
               f.found_status, f.record
        FROM @extschema@.pfa_modification m
        CROSS JOIN LATERAL @extschema@._pems_draft_facts(organization, m.id, m.pfa_id, m.sync_status) f
        WHERE m.id = w.id AND (m.organization_id = organization) IS TRUE
        -- not to be flattened, as in _pems_queue_drafts()
        OFFSET 0) d ON true;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_draft_problems(text, text[], text) IS
    'Internal: why pems_commit() would reject modifications; NULL for those that it would queue';

/*
 * pems_commit_preview(organization_id, modification_ids, committed_by)
 *
 * What pems_commit() would do with drafts, and what the worker would then do with each: the same checks and the same
 * decision, on the mirror as it is.  Nothing is changed, nothing is locked, and PEMS is not asked: it may have
 * moved on since the mirror was read.  Each draft is looked at by itself, as if no other edit of its record were on its
 * way.
 *
 * Parameters: as for pems_commit().
 * Returns: {drafts: [{modificationId, pfaId, decision, fields, errors}]}, in the order in which they would be sent;
 *   what does not exist comes last.
 *   decision  send: as it was drafted; merge: the record has changed since, and what PEMS has not yet is sent;
 *             nothing: PEMS has all of it; conflict: somebody would have to decide; rejected: it stays a draft
 *   fields    send, merge: those that are sent; conflict: those in conflict, with dots as in conflictFields
 *   errors    rejected: why; conflict: the rules that the record as PEMS has it would break with the edit
 * Errors: P0002 unknown organization; 22023 modification_ids empty or too long, committed_by longer than 1 kB; 55000
 *   not attached.
 * Tables: pfa_modification, pfa_mirror, pems_mirror_version, pfa_write_queue, pfa_sync_conflict.
 */
CREATE FUNCTION @extschema@.pems_commit_preview(
    organization_id text, modification_ids text[] DEFAULT NULL, committed_by text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    organization CONSTANT text := @extschema@._pems_organization(organization_id);
    author       CONSTANT text := @extschema@._pems_check_short(committed_by, 'the name of the user'::text);
    owner        CONSTANT text := CASE WHEN NOT @extschema@._pems_is_admin() THEN author END;
    wanted       text[] := @extschema@._pems_id_list(modification_ids, 'modification_ids'::text);
    not_compared CONSTANT text := 'A record that the edit is to be compared with is larger than '
                                  'pems_sync.max_record_size';
BEGIN
    IF modification_ids IS NULL THEN
        wanted := @extschema@._pems_all_drafts(organization, author);
    END IF;
    RETURN (
        WITH examined AS MATERIALIZED (
            SELECT p.* FROM @extschema@._pems_draft_problems(organization, wanted, owner) p
        )
        SELECT jsonb_build_object('drafts', coalesce(jsonb_agg(
                   jsonb_build_object('modificationId', e.id, 'pfaId', e.pfa_id)
                   || CASE WHEN e.problem IS NULL AND c.decision IS NOT NULL THEN c.decision
                           ELSE jsonb_build_object('decision', 'rejected', 'fields', '[]'::jsonb, 'errors', coalesce(
                               e.problem -> 'errors',
                               jsonb_build_array(CASE WHEN c.too_large THEN not_compared
                                                      ELSE 'The record cannot be compared' END))) END
                   ORDER BY e.created_at, e.id), '[]'))
        FROM examined e
        LEFT JOIN @extschema@._pems_compare_drafts(
            organization, ARRAY(SELECT a.id FROM examined a WHERE a.problem IS NULL)) c ON c.id = e.id);
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_commit_preview(text, text[], text) IS
    'What would become of drafts (NULL: all of the organization, or of committed_by) that were committed now, on the '
    'mirror as it is: {drafts: [{modificationId, pfaId, decision, fields, errors}]}; decision send, merge, nothing, '
    'conflict or rejected. Nothing is changed. Errors: P0002, 22023, 55000.';
