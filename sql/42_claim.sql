/*
 * 42_claim: the worker claims items: it makes them its own, and reads what it needs to decide about them.
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
    -- the arrays have three elements per organization, and 3 * (turn - 1) of them come before those of this one
    SELECT g.turn, p.priority, f.scheduled_at, f.commit_seq
    FROM unnest(organization_ids) WITH ORDINALITY AS g (id, turn)
    CROSS JOIN (VALUES (10, 1), (0, 2), (-10, 3)) AS p (priority, element)
    CROSS JOIN LATERAL (
        SELECT q.scheduled_at, q.commit_seq FROM @extschema@.pfa_write_queue q
        WHERE q.organization_id = g.id AND q.open AND q.waits_for IS NULL AND q.priority = p.priority
          AND (q.scheduled_at, q.commit_seq) > (after_at[3 * (g.turn - 1) + p.element],
                                                after_seq[3 * (g.turn - 1) + p.element])
          AND q.status = 'pending'
        ORDER BY q.scheduled_at, q.commit_seq LIMIT 1) f
$function$;
COMMENT ON FUNCTION @extschema@._pems_first_ready(text[], timestamptz[], bigint[]) IS
    'Internal: the first ready item of each organization and priority after these positions, locked or not';

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
 * worker that ends in between leaves in the row which write that was.
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
        -- their first ready items, high priority first, until the slots are full.  The arrays of positions have three
        -- elements per organization, and 3 * (turn - 1) of them come before those of this one.
        SELECT i.*, s.turn FROM sending s CROSS JOIN LATERAL (
            SELECT c.* FROM (VALUES (10, 1), (0, 2), (-10, 3)) AS p (priority, element) CROSS JOIN LATERAL (
                SELECT q.ctid AS tid, q.id, q.organization_id, q.pfa_id, q.commit_seq, q.priority, q.scheduled_at,
                       q.sent_version, q.base_version, q.base_at, q.queued_in
                FROM @extschema@.pfa_write_queue q
                WHERE q.organization_id = s.id AND q.open AND q.waits_for IS NULL AND q.priority = p.priority
                  AND (q.scheduled_at, q.commit_seq) > (coalesce(after_at[3 * (s.turn - 1) + p.element], '-infinity'),
                                                        coalesce(after_seq[3 * (s.turn - 1) + p.element], 0))
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
