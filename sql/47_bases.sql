/*
 * 47_bases: with what the worker compares an edit: the states that its user may have seen, and the own changes since.
 * pems_commit_preview() and pems_sync_state() compare the same.
 */

/*
 * _pems_compare_mirror(organization_id, pfa_id, base_version): is the mirror of a record in the state that the user of
 * an edit saw?  Written to be inlined into its query: no SET clause, and all names qualified.
 *
 * Returns: one row: version, deleted_at, data: the mirror; NULL: there is none.
 *   base_is_mirror: it is at the base version, which has had no other data; several_bases: the base version has had
 *   several states.
 * Tables: pfa_mirror, pems_mirror_version.
 */
CREATE FUNCTION @extschema@._pems_compare_mirror(organization_id text, pfa_id text, base_version integer)
RETURNS TABLE (version integer, deleted_at timestamptz, data jsonb, base_is_mirror boolean, several_bases boolean)
LANGUAGE sql STABLE ROWS 1 AS $function$
    SELECT m.version, m.deleted_at, m.data,
           m.version = $3 AND NOT coalesce(several.states, true)
               -- a state that is missing in the history (triggers were off); a long one is not worth fetching
               AND CASE WHEN @extschema@._pems_size(m.data, 2000) <= 2000 THEN m.data = newest.data
                        ELSE true END,
           several.states
    FROM (SELECT) one
    LEFT JOIN @extschema@.pfa_mirror m ON m.organization_id = $1 AND m.pfa_id = $2
    LEFT JOIN LATERAL (
        SELECT v.state_seq, v.data FROM @extschema@.pems_mirror_version v
        WHERE v.organization_id = $1 AND v.pfa_id = $2 AND v.version = $3
        ORDER BY v.state_seq DESC LIMIT 1) newest ON true
    LEFT JOIN LATERAL (
        SELECT EXISTS (SELECT FROM @extschema@.pems_mirror_version v
                       WHERE v.organization_id = $1 AND v.pfa_id = $2
                         AND v.version = $3 AND v.state_seq < newest.state_seq) AS states
        WHERE newest.state_seq IS NOT NULL) several ON true
$function$;
COMMENT ON FUNCTION @extschema@._pems_compare_mirror(text, text, integer) IS
    'Internal: the mirror of a record, and whether it is in the state that the user of an edit saw';

/*
 * _pems_bases(organization_id, pfa_id, base_version, base_at, modification_id, author, payload, mirror_data,
 *             base_is_mirror, several_bases, largest): what an edit is compared with besides the mirror.  Written to be
 * inlined into its query: no SET clause, and all names qualified.
 *
 * Parameters: base_is_mirror, several_bases: as _pems_compare_mirror() says.  largest: a record with more bytes is not
 *   read.
 * Returns: one row: base_data: the record as the user saw it, where the mirror is another; own_data: what the author's
 *   own edits changed since; other_bases: what the user may have seen instead; too_large: one of them was not read.
 * Tables: pems_mirror_version, pfa_write_queue, pfa_sync_conflict.
 */
CREATE FUNCTION @extschema@._pems_bases(
    organization_id text, pfa_id text, base_version integer, base_at timestamptz, modification_id text, author text,
    payload jsonb, mirror_data jsonb, base_is_mirror boolean, several_bases boolean, largest bigint)
RETURNS TABLE (base_data jsonb, own_data jsonb, other_bases jsonb, too_large boolean)
LANGUAGE sql STABLE ROWS 1 AS $function$
    SELECT base.data,
           CASE WHEN base.data IS NOT NULL AND $8 IS NOT NULL THEN
               @extschema@._pems_own_changes($1, $2, base.state_seq, $5, $6,
                                             @extschema@._pems_disputed_paths($7, base.data, $8)) END,
           CASE WHEN @extschema@._pems_size(other.bases, $11) <= $11 THEN other.bases END,
           coalesce(base.too_large, false) OR coalesce(@extschema@._pems_size(other.bases, $11) > $11, false)
    FROM (SELECT) one
    LEFT JOIN LATERAL (
        SELECT CASE WHEN NOT s.too_large THEN s.data END AS data, s.too_large, s.state_seq
        FROM (SELECT v.data, @extschema@._pems_size(v.data, $11) > $11 AS too_large, v.state_seq
              FROM @extschema@.pems_mirror_version v
              WHERE NOT $9 AND v.organization_id = $1 AND v.pfa_id = $2 AND v.version = $3
                AND v.state_seq = @extschema@._pems_base_seq($1, $2, $3, $4)
              OFFSET 0) s
        ) base ON true
    CROSS JOIN LATERAL (
        SELECT CASE WHEN $10 AND base.data IS NOT NULL THEN
                   @extschema@._pems_other_bases($1, $2, $3, base.state_seq, $4, base.data, $7, $5) END AS bases) other
$function$;
COMMENT ON FUNCTION @extschema@._pems_bases(text, text, integer, timestamptz, text, text, jsonb, jsonb, boolean,
    boolean, bigint) IS
    'Internal: what an edit is compared with besides the mirror: base, own changes, other bases';

/*
 * _pems_disputed_paths(payload, base_data, mirror_data): the values of an edit that would be in conflict if the author
 * had written nothing since, objects value by value; for a DELETE ({}) all fields of the record.
 * Returns: the keys that lead to each of them, as the text of an array: {custom,costCentre}; NULL: none.
 */
CREATE FUNCTION @extschema@._pems_disputed_paths(payload jsonb, base_data jsonb, mirror_data jsonb) RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    WITH RECURSIVE part (path, ours, base, theirs) AS (
        SELECT ARRAY[m.key], m.value, base_data -> m.key, mirror_data -> m.key
        FROM jsonb_each(CASE WHEN payload <> '{}' THEN payload
                             -- the application may have put something else into the mirror than an object
                             WHEN jsonb_typeof(base_data) = 'object' AND jsonb_typeof(mirror_data) = 'object'
                             THEN base_data || mirror_data ELSE '{}' END) m
        UNION ALL
        SELECT p.path || m.key, m.value, p.base -> m.key, p.theirs -> m.key
        FROM part p CROSS JOIN LATERAL jsonb_each(CASE WHEN jsonb_typeof(p.ours) = 'object' THEN p.ours ELSE '{}' END) m
        WHERE payload <> '{}' AND jsonb_typeof(p.theirs) = 'object'
    )
    SELECT array_agg(p.path::text) FROM part p
    WHERE payload = '{}'
       OR (p.base IS DISTINCT FROM p.theirs AND p.ours IS DISTINCT FROM p.theirs
           -- of two objects the values in them
           AND (jsonb_typeof(p.theirs) = 'object' AND jsonb_typeof(p.ours) = 'object' AND p.ours <> '{}') IS NOT TRUE)
$function$;
COMMENT ON FUNCTION @extschema@._pems_disputed_paths(jsonb, jsonb, jsonb) IS
    'Internal: the values of an edit that differ on all three sides; for a DELETE all fields';

/*
 * _pems_other_bases(organization_id, pfa_id, version, base_seq, base_at, base_data, payload, modification_id): what the
 * user may have seen as well, where the base version has several states.  The base is the newest that had come when the
 * edit was drafted.  But the user may have read an older one: the form was open when the new one came, or the new one
 * was not committed yet.  A form is not open for longer than a day: what was replaced before that was not seen.
 *
 * A conflict shows its state, so who has resolved one has seen that, and nothing else counts.
 *
 * Returns: a JSON array of those that differ from the base in what the edit names, with just that of them; of a DELETE
 *   ({}): in a field that can be written, the whole records; NULL: none.
 * Tables: pems_mirror_version, pfa_sync_conflict, pems_field.
 */
CREATE FUNCTION @extschema@._pems_other_bases(
    organization_id text, pfa_id text, version integer, base_seq bigint, base_at timestamptz, base_data jsonb,
    payload jsonb, modification_id text)
RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    first_seq CONSTANT bigint := @extschema@._pems_base_seq($1, $2, $3, $5 - interval '1 day');
    names     CONSTANT text[] := CASE
        WHEN payload = '{}' THEN ARRAY(SELECT f.name FROM @extschema@.pems_field f WHERE f.writable)
        ELSE ARRAY(SELECT k FROM jsonb_object_keys(payload) k) END;
BEGIN
    IF EXISTS (SELECT FROM @extschema@.pfa_sync_conflict c
               WHERE c.modification_id = $8 AND c.status = 'resolved_manual' AND c.pems_version = $3
                 AND coalesce(c.seen_at, c.created_at) = $5 AND c.pems_data = $6) THEN
        RETURN NULL;
    END IF;
    RETURN (
        SELECT jsonb_agg(DISTINCT CASE WHEN payload = '{}' THEN base_data || d.differences ELSE d.seen END)
        FROM @extschema@.pems_mirror_version v
        CROSS JOIN LATERAL (
            SELECT coalesce(jsonb_object_agg(n.name, v.data -> n.name) FILTER (WHERE v.data ? n.name), '{}') AS seen,
                   jsonb_object_agg(n.name, coalesce(v.data -> n.name, 'null'))
                       FILTER (WHERE v.data -> n.name IS DISTINCT FROM base_data -> n.name) AS differences
            FROM unnest(names) n (name)) d
        WHERE v.organization_id = $1 AND v.pfa_id = $2 AND v.version = $3
          AND v.state_seq BETWEEN first_seq AND base_seq - 1
          AND d.differences IS NOT NULL);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_other_bases(text, text, integer, bigint, timestamptz, jsonb, jsonb, text) IS
    'Internal: other states of the base version that the user may have seen';

/*
 * _pems_own_changes(organization_id, pfa_id, base_seq, modification_id, author, paths): those of these values that
 * nobody but the author has changed last since that state, by an earlier modification: with the value that it wrote, or
 * that PEMS made of it.  In a three-way decision they count as base: a user's own earlier edit is no conflict with the
 * same user's later one.
 *
 * Goes back from the newest state until it has found who changed each of the values: of ten thousand edits of
 * one record the last must not read all the others.
 *
 * Parameters: paths: as _pems_disputed_paths() returns them; NULL: none.
 * Returns: an object, like a delta; {}: none; NULL: paths is NULL.
 * Tables: pems_mirror_version, pfa_write_queue.
 */
CREATE FUNCTION @extschema@._pems_own_changes(
    organization_id text, pfa_id text, base_seq bigint, modification_id text, author text, paths text[])
RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    own     jsonb := '{}';
    open    text[] := paths;
    changed text[];
    mine    record;
    step    record;
BEGIN
    IF paths IS NULL THEN
        RETURN NULL;
    END IF;
    FOR step IN
        SELECT v.data, b.data AS before, q.payload AS written,
               -- no version between the one that was sent and this one, which PEMS named in its answer: so all that
               -- changed is what PEMS made of the write, rounded or completed as it may be
               b.version = q.sent_version AND v.version = q.sent_version + 1
                   AND v.version = q.known_version AS made_by_it
        FROM @extschema@.pems_mirror_version v
        LEFT JOIN LATERAL (
            SELECT p.data, p.version FROM @extschema@.pems_mirror_version p
            WHERE p.organization_id = $1 AND p.pfa_id = $2 AND p.state_seq < v.state_seq
            ORDER BY p.state_seq DESC LIMIT 1) b ON true
        LEFT JOIN @extschema@.pfa_write_queue q ON q.modification_id = v.modification_id AND q.modification_id <> $4
             AND q.created_by = $5 AND q.operation = 'UPDATE' AND q.status = 'completed'
        WHERE v.organization_id = $1 AND v.pfa_id = $2 AND v.state_seq > $3
        ORDER BY v.state_seq DESC
    LOOP
        changed := ARRAY(SELECT p FROM unnest(open) p
                         WHERE step.before #> p::text[] IS DISTINCT FROM step.data #> p::text[]);
        FOR mine IN
            SELECT c.path::text[] AS keys,
                   CASE WHEN step.made_by_it THEN step.data ELSE step.written END #> c.path::text[] AS value
            FROM unnest(changed) c (path)
            WHERE step.made_by_it
               OR CASE jsonb_typeof(step.written #> c.path::text[])
                      WHEN 'object' THEN (step.data #> c.path::text[]) @> (step.written #> c.path::text[])
                      ELSE (step.data #> c.path::text[]) = (step.written #> c.path::text[]) END
        LOOP
            FOR level IN REVERSE cardinality(mine.keys) .. 1 LOOP
                mine.value := jsonb_build_object(mine.keys[level], mine.value);
            END LOOP;
            own := @extschema@._pems_apply_delta(own, mine.value);
        END LOOP;
        open := ARRAY(SELECT p FROM unnest(open) p WHERE p <> ALL (changed));
        EXIT WHEN open = '{}';
    END LOOP;
    RETURN own;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_own_changes(text, text, bigint, text, text, text[]) IS
    'Internal: which of these values the author''s own earlier modifications changed last, as PEMS has them';
