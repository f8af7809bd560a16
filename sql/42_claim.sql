/*
 * 42_claim: the worker claims items: it makes them its own, and reads what it needs to decide about them.  What is
 * compared with what, it shares with pems_commit_preview() and pems_sync_state().
 */

/*
 * _pems_first_ready(organization_ids, after_at, after_seq): the first ready item of each organization and priority
 * after these positions, locked or not.
 *
 * Parameters: after_at, after_seq: as for _pems_claim().
 * Returns: turn: which of the organizations, from 1; priority; the item's position (scheduled_at, commit_seq).  No row
 *   where there is none.
 * Tables: pfa_write_queue.
 */
CREATE FUNCTION @extschema@._pems_first_ready(
    organization_ids text[], after_at timestamptz[], after_seq bigint[],
    OUT turn bigint, OUT priority integer, OUT scheduled_at timestamptz, OUT commit_seq bigint)
RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT g.turn, p.priority, f.scheduled_at, f.commit_seq
    FROM unnest(organization_ids) WITH ORDINALITY AS g (id, turn)
    CROSS JOIN (VALUES (10, -2), (0, -1), (-10, 0)) AS p (priority, element)
    CROSS JOIN LATERAL (
        SELECT q.scheduled_at, q.commit_seq FROM @extschema@.pfa_write_queue q
        WHERE q.organization_id = g.id AND q.in_line AND q.waits_for IS NULL AND q.priority = p.priority
          AND (q.scheduled_at, q.commit_seq) > (after_at[3 * g.turn + p.element], after_seq[3 * g.turn + p.element])
          AND q.status = 'pending'
        ORDER BY q.scheduled_at, q.commit_seq LIMIT 1) f
$function$;
COMMENT ON FUNCTION @extschema@._pems_first_ready(text[], timestamptz[], bigint[]) IS
    'Internal: the first ready item of each organization and priority after these positions, locked or not';

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
 * _pems_claim(organization_ids, slots, after_at, after_seq): claims ready items, and returns what is needed to decide
 * about them and to send them.
 *
 * Of each organization the best ready items, by priority and then by age; at most one per record.  An item may be
 * ready although an earlier one of its record is not finished: two sessions that committed at the same time did not
 * see each other.  Such an item goes back to wait for its turn.  An item that another database queued (a dump that was
 * loaded into this one) goes back to wait for pems_resume().
 *
 * sent_version stays that of the first write whose answer was lost, until it is known what became of that write: a
 * worker that ends in between must leave the doubt in the row.
 *
 * base_is_mirror: the mirror is in the state that the user saw: at its version, which has had no other data.  Only
 * where it is not, base_data and own_data are returned.  mirror_data is returned then, and where objects are sent,
 * which are sent whole, and for a refresh, which looks whether the write was made.  So the usual edit moves no records.
 * Where the version has had other data, other_bases has the states that the user may have seen as well
 * (_pems_other_bases()).
 * A record that is larger than pems_sync.max_record_size is not read: it is missing then, and too_large says so.
 *
 * Parameters:
 *   slots                how many items of each organization at most
 *   after_at, after_seq  per organization three positions (scheduled_at, commit_seq), for high, normal and low
 *                        priority: only items after them are read; NULL: all.  So items that are done are not read
 *                        again by each claim, which makes a queue slow while they cannot be vacuumed.
 * Returns: one row per item; the best of each organization first, then the second best of each ...
 * Tables: pfa_write_queue, pems_claim, pems_pause, pfa_mirror, pems_mirror_version.
 */
CREATE FUNCTION @extschema@._pems_claim(
    organization_ids text[], slots integer[], after_at timestamptz[] DEFAULT NULL, after_seq bigint[] DEFAULT NULL)
RETURNS TABLE (
    item_id text, claim_token bigint, organization_id text, pfa_id text, operation text, next_request text,
    attempt integer, retry_count integer, max_retries integer, rounds integer, outcome_unknown boolean,
    previous_version integer, payload jsonb, base_version integer, mirror_version integer, mirror_deleted boolean,
    created_by text, change_reason text, base_data jsonb, own_data jsonb, mirror_data jsonb,
    modification_id text, job_id text, priority integer, scheduled_at timestamptz, commit_seq bigint,
    known_version integer, base_is_mirror boolean, too_large boolean, other_bases jsonb)
LANGUAGE plpgsql VOLATILE ROWS 100 SET search_path = pg_catalog, pg_temp AS $function$
#variable_conflict use_column
DECLARE
    token         CONSTANT bigint := nextval('@extschema@.pems_claim_order');
    this_database CONSTANT bigint := @extschema@._pems_database_id();
    largest       CONSTANT bigint := @extschema@._pems_setting('max_record_size'::text)::bigint * 1024;
BEGIN
    RETURN QUERY
    WITH sending AS (
        -- the organizations that are not paused
        SELECT g.id, g.slots, g.turn::integer AS turn
        FROM unnest(organization_ids, slots) WITH ORDINALITY AS g (id, slots, turn)
        WHERE NOT EXISTS (SELECT FROM @extschema@.pems_pause p WHERE p.organization_id IN (g.id, '*'))
    ), locked AS MATERIALIZED (
        -- their first ready items, high priority first, until the slots are full; element: which of the three positions
        SELECT i.*, s.turn FROM sending s CROSS JOIN LATERAL (
            SELECT c.* FROM (VALUES (10, -2), (0, -1), (-10, 0)) AS p (priority, element) CROSS JOIN LATERAL (
                SELECT q.ctid AS tid, q.id, q.organization_id, q.pfa_id, q.commit_seq, q.priority, q.scheduled_at,
                       q.sent_version, q.base_version, q.base_at, q.queued_in
                FROM @extschema@.pfa_write_queue q
                WHERE q.organization_id = s.id AND q.in_line AND q.waits_for IS NULL AND q.priority = p.priority
                  AND (q.scheduled_at, q.commit_seq) > (coalesce(after_at[3 * s.turn + p.element], '-infinity'),
                                                        coalesce(after_seq[3 * s.turn + p.element], 0))
                  AND q.status = 'pending'
                ORDER BY q.scheduled_at, q.commit_seq LIMIT s.slots FOR NO KEY UPDATE SKIP LOCKED) c
            LIMIT s.slots) i
    ), examined AS MATERIALIZED (
        -- whether an earlier item of the record, or one in processing, is in the way
        SELECT l.*,
               row_number() OVER (PARTITION BY l.turn ORDER BY l.priority DESC, l.scheduled_at, l.commit_seq) AS rank,
               EXISTS (SELECT FROM @extschema@.pfa_write_queue e
                       WHERE e.organization_id = l.organization_id AND e.pfa_id = l.pfa_id AND e.unfinished
                         AND NOT e.held AND e.id <> l.id AND (e.commit_seq < l.commit_seq OR e.status = 'processing'))
               OR EXISTS (SELECT FROM @extschema@.pfa_write_queue e
                          WHERE e.organization_id = l.organization_id AND e.pfa_id = l.pfa_id AND e.unfinished
                            AND e.held AND e.commit_seq < l.commit_seq) AS blocked,
               l.queued_in <> this_database AS is_foreign
        FROM locked l
    ), put_back AS (
        -- they used up slots: the worker must not believe that there is nothing more
        UPDATE @extschema@.pfa_write_queue q SET waits_for = CASE WHEN e.is_foreign THEN 'resume' ELSE 'turn' END
        FROM examined e WHERE q.id = e.id AND (e.blocked OR e.is_foreign)
        RETURNING @extschema@._pems_announce(q.organization_id, q.scheduled_at)
    ), compared AS NOT MATERIALIZED (
        SELECT e.tid, e.rank, e.turn, e.sent_version AS previous_version, m.version, m.deleted_at, m.data,
               m.base_is_mirror, m.several_bases
        FROM examined e
        CROSS JOIN LATERAL @extschema@._pems_compare_mirror(e.organization_id, e.pfa_id, e.base_version) m
        WHERE NOT e.blocked AND NOT e.is_foreign
    ), claimed AS (
        -- by ctid, which cannot change while we hold the lock; a row that was changed just before we locked it is not
        -- found here, and its change was announced
        UPDATE @extschema@.pfa_write_queue q
        SET status = 'processing', claim_token = token, attempt = q.attempt + 1, last_attempt_at = clock_timestamp(),
            sent_version = CASE WHEN q.next_request = 'write' AND NOT q.outcome_unknown THEN c.version
                                ELSE q.sent_version END,
            known_version = CASE WHEN q.next_request <> 'write' THEN q.known_version END
        FROM compared c
        WHERE q.ctid = c.tid
        RETURNING q.id, q.organization_id, q.pfa_id, q.operation, q.next_request, q.attempt, q.retry_count,
                  q.max_retries, q.rounds, q.outcome_unknown, q.payload, q.base_version, q.base_at, q.created_by,
                  q.change_reason, q.modification_id, q.job_id, q.priority, q.scheduled_at, q.commit_seq,
                  q.known_version, c.turn, c.rank, c.previous_version, c.version AS mirror_version, c.base_is_mirror,
                  c.several_bases,
                  c.deleted_at IS NOT NULL AS mirror_deleted,
                  CASE WHEN NOT c.base_is_mirror OR q.next_request = 'refresh'
                            OR @extschema@._pems_has_object(q.payload)
                       THEN c.data END AS needed_data
    ), claim_row AS (
        INSERT INTO @extschema@.pems_claim (claim_token, item_ids)
        SELECT token, array_agg(c.id) FROM claimed c HAVING count(*) > 0
    ), measured AS NOT MATERIALIZED (
        -- OFFSET: measured once
        SELECT m.*, CASE WHEN NOT m.too_large THEN m.needed_data END AS mirror_data
        FROM (SELECT c.*, @extschema@._pems_size(c.needed_data, largest) > largest AS too_large
              FROM claimed c OFFSET 0) m
    )
    SELECT t.id, token, t.organization_id, t.pfa_id, t.operation, t.next_request, t.attempt, t.retry_count,
           t.max_retries, t.rounds, t.outcome_unknown, t.previous_version, t.payload, t.base_version, t.mirror_version,
           t.mirror_deleted, t.created_by, t.change_reason, b.base_data, b.own_data, t.mirror_data, t.modification_id,
           t.job_id, t.priority, t.scheduled_at, t.commit_seq, t.known_version, t.base_is_mirror,
           coalesce(t.too_large, false) OR b.too_large, b.other_bases
    FROM measured t
    CROSS JOIN LATERAL @extschema@._pems_bases(
        t.organization_id, t.pfa_id, t.base_version, t.base_at, t.modification_id, t.created_by, t.payload,
        t.mirror_data, t.base_is_mirror, t.several_bases, largest) b
    ORDER BY t.rank, t.turn;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_claim(text[], integer[], timestamptz[], bigint[]) IS
    'Internal: claims ready items after these positions, at most one per record, and returns what is needed to send '
    'them';

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
 * paths: as _pems_disputed_paths() returns them.
 * Returns: an object, like a delta; {}: none.
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
            FOR place IN REVERSE cardinality(mine.keys) .. 1 LOOP
                mine.value := jsonb_build_object(mine.keys[place], mine.value);
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

/*
 * _pems_mark_syncing(item_ids): shows the modifications as syncing whose requests take long.  This is only information
 * for people, so rows that somebody has locked are left out.
 * Tables: pfa_modification, pfa_write_queue.
 */
CREATE FUNCTION @extschema@._pems_mark_syncing(item_ids text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    slow text[];
BEGIN
    SELECT array_agg(f.id) INTO slow
    FROM (SELECT m.id FROM @extschema@.pfa_modification m
          WHERE m.id IN (SELECT q.modification_id FROM @extschema@.pfa_write_queue q
                         WHERE q.id = ANY (item_ids) AND q.status = 'processing')
            AND m.sync_status = 'queued'
          FOR NO KEY UPDATE SKIP LOCKED) f;
    IF slow IS NULL THEN
        RETURN;
    END IF;
    PERFORM @extschema@._pems_app_mark_all(slow, 'syncing'::text);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_mark_syncing(text[]) IS
    'Internal: sync_status syncing for requests that take long';
