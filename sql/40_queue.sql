/*
 * 40_queue: what the worker calls.  Everything here runs as pems_sync_worker,
 * in the worker's two short transactions, and waits for nothing but a row lock.
 *
 * Whose turn it is within a record is decided by the worker alone: pems_commit()
 * marks an item that has a predecessor as waiting for its turn, everybody who
 * finishes an item leaves a row in pems_recheck, and only the functions below take
 * the mark off.  So no two sessions can each believe that the other will do it.
 */

CREATE TYPE @extschema@._pems_outcome AS (
    item_id         text,
    organization_id text,
    pfa_id          text,
    modification_id text,
    job_id          text,
    created_by      text,
    change_reason   text,
    claim_token     bigint,
    attempt         integer,
    step            text,
    was_unknown     boolean,
    verdict         text,
    next_request    text,
    outcome_unknown boolean,
    delay_ms        bigint,
    retry_count     integer,
    rounds          integer,
    seen_version    integer,
    pems_version    integer,
    known_version   integer,
    mirror_data     jsonb,
    mirror_patch    jsonb,
    mirror_deleted  boolean,
    conflict_kind   text,
    conflict_fields jsonb,
    error_code      text,
    error           text,
    event_type      text,
    http_method     text,
    path            text,
    http_status     integer,
    latency_ms      double precision,
    request         jsonb,
    response        jsonb,
    pause           boolean
);
COMMENT ON TYPE @extschema@._pems_outcome IS 'Internal: what became of one claimed item. From item_id to was_unknown: the item and its modification when it was claimed (step: next_request, was_unknown: outcome_unknown); verdict: its new status; delay_ms: NULL = at once; pems_version with mirror_data (a record read), mirror_patch (the changes that a write made) or mirror_deleted: what the mirror becomes; seen_version: the mirror''s version when the item was claimed; known_version: the version that PEMS named in its answer to a write';

/*
 * _pems_standing(): may the worker send anything from this database?
 * Returns: ok; not_attached; copy (attached in another cluster or database: a restored dump).
 */
CREATE FUNCTION @extschema@._pems_standing() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT coalesce((SELECT CASE WHEN c.cluster = @extschema@._pems_cluster() THEN 'ok' ELSE 'copy' END
                     FROM @extschema@.pems_control c), 'not_attached')
$function$;
COMMENT ON FUNCTION @extschema@._pems_standing() IS 'Internal: ok, not_attached, or copy (a restored dump)';

/*
 * _pems_organizations(): organizations that have a credential, for the worker.
 */
CREATE FUNCTION @extschema@._pems_organizations(
    OUT organization_id text, OUT code text, OUT api_url text, OUT endpoint text, OUT sealed_token bytea,
    OUT key_id text, OUT generation bigint)
RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT c.organization_id, o.code, c.api_url, c.endpoint, c.sealed_token, c.key_id, c.generation
    FROM @extschema@.pems_credential c JOIN @extschema@.organization o ON o.id = c.organization_id
    ORDER BY c.organization_id
$function$;
COMMENT ON FUNCTION @extschema@._pems_organizations() IS 'Internal: organizations with their sealed credentials, for the worker';

/*
 * _pems_settle(organization_ids, pfa_ids): looks for the first unfinished item of each record
 * and lets it go, if it was waiting for its turn.  Where somebody has that item locked, the record
 * goes back into pems_recheck instead: the worker waits for nobody.
 * Returns: number of records that went back.
 */
CREATE FUNCTION @extschema@._pems_settle(organization_ids text[], pfa_ids text[]) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    went_back integer;
BEGIN
    WITH head AS MATERIALIZED (
        SELECT r.organization_id, r.pfa_id, first.id
        FROM (SELECT DISTINCT u.organization_id, u.pfa_id FROM unnest(organization_ids, pfa_ids) u (organization_id, pfa_id)) r
        CROSS JOIN LATERAL (
            SELECT u.id, u.commit_seq FROM @extschema@.pfa_write_queue u
            WHERE u.organization_id = r.organization_id AND u.pfa_id = r.pfa_id AND u.unfinished AND u.held
            ORDER BY u.commit_seq LIMIT 1) first
        WHERE NOT EXISTS (SELECT FROM @extschema@.pfa_write_queue e
                          WHERE e.organization_id = r.organization_id AND e.pfa_id = r.pfa_id AND e.unfinished AND NOT e.held
                            AND e.commit_seq < first.commit_seq)
    ), free AS MATERIALIZED (
        SELECT q.id FROM head h JOIN @extschema@.pfa_write_queue q ON q.id = h.id
        FOR NO KEY UPDATE OF q SKIP LOCKED
    ), later AS (
        INSERT INTO @extschema@.pems_recheck (organization_id, pfa_id)
        SELECT h.organization_id, h.pfa_id FROM head h WHERE h.id NOT IN (SELECT f.id FROM free f)
        RETURNING pfa_id
    ), settled AS (
        UPDATE @extschema@.pfa_write_queue q
        -- an item that was queued in the future: the clock was set back since, and nobody asked it to wait
        SET waits_for = CASE WHEN q.scheduled_at > clock_timestamp() AND q.created_at <= clock_timestamp() THEN 'time' END
        FROM free f WHERE q.id = f.id AND q.held
    )
    SELECT count(*) INTO went_back FROM later;
    RETURN went_back;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_settle(text[], text[]) IS 'Internal: lets the first unfinished item of each record go';

/*
 * _pems_heed_clock(): where the last attempt of an item lies in the future, the clock was set back since, and its
 * scheduled_at is of the old time.  Such items wait as long from now as they were to wait then, two seconds at least.
 *
 * Called with each claim, so it must cost next to nothing: of those that wait for a time only the last one is looked at.
 * When the clock was set back by more than a backoff lasts, what was put off before stands behind what was put off since.
 * Returns: whether there may be more of them; a call changes 500 at most.
 */
CREATE FUNCTION @extschema@._pems_heed_clock() RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    last_attempt timestamptz;
    changed      integer;
BEGIN
    SELECT q.last_attempt_at INTO last_attempt
    FROM @extschema@.pfa_write_queue q
    WHERE q.in_line AND q.waits_for = 'time' AND q.last_attempt_at IS NOT NULL
    ORDER BY q.scheduled_at DESC LIMIT 1;
    IF last_attempt IS NULL OR last_attempt <= clock_timestamp() + interval '1 second' THEN
        RETURN false;
    END IF;
    UPDATE @extschema@.pfa_write_queue q
    SET scheduled_at = clock_timestamp() + least(greatest(q.scheduled_at - q.last_attempt_at, '2 seconds'), '2 hours'),
        last_attempt_at = clock_timestamp()
    FROM (SELECT d.id FROM @extschema@.pfa_write_queue d
          WHERE d.in_line AND d.waits_for = 'time' AND d.last_attempt_at > clock_timestamp()
          ORDER BY d.scheduled_at LIMIT 500 FOR NO KEY UPDATE SKIP LOCKED) early
    WHERE q.id = early.id;
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed = 500;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_heed_clock() IS 'Internal: items that were put off before the clock was set back wait no longer than they were to';

/*
 * _pems_settle_some(): settles the records that others left in pems_recheck, 500 rows at most: a session may leave a
 * hundred thousand at once, and whoever else has something to be sent must not wait for all of them.
 * Returns: when to look again: now, where there may be more; soon, where somebody has a row locked; NULL: no need to.
 */
CREATE FUNCTION @extschema@._pems_settle_some() RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    organization_ids text[];
    pfa_ids          text[];
    went_back        integer;
BEGIN
    WITH taken AS (
        DELETE FROM @extschema@.pems_recheck r
        WHERE r.ctid = ANY (ARRAY(SELECT s.ctid FROM @extschema@.pems_recheck s LIMIT 500))
        RETURNING r.organization_id, r.pfa_id)
    SELECT array_agg(t.organization_id), array_agg(t.pfa_id) INTO organization_ids, pfa_ids FROM taken t;
    IF organization_ids IS NULL THEN
        RETURN NULL;
    END IF;
    went_back := @extschema@._pems_settle(organization_ids, pfa_ids);
    RETURN CASE -- a session has the next items of these records locked, and may end without waking anybody
                WHEN went_back > 250 OR (went_back > 0 AND cardinality(pfa_ids) < 500) THEN clock_timestamp() + interval '1 second'
                WHEN cardinality(pfa_ids) = 500 THEN clock_timestamp() END;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_settle_some() IS 'Internal: settles records that others left, 500 at most; returns when to look again';

/*
 * _pems_prepare(): what has to happen before a claim: settles the records that others left in pems_recheck, and makes
 * items ready whose time has come; 500 of each at most.
 * Returns: when to look again: now, where there is more; when the next item's time comes; soon, where somebody has a row
 * locked; NULL: no need to.
 */
CREATE FUNCTION @extschema@._pems_prepare() RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    settle_again CONSTANT timestamptz := @extschema@._pems_settle_some();
    clock_again  CONSTANT boolean := @extschema@._pems_heed_clock();
    due                   integer;
BEGIN
    UPDATE @extschema@.pfa_write_queue q SET waits_for = NULL
    FROM (SELECT d.id FROM @extschema@.pfa_write_queue d
          WHERE d.in_line AND d.waits_for = 'time' AND d.scheduled_at <= clock_timestamp()
          ORDER BY d.scheduled_at LIMIT 500 FOR NO KEY UPDATE SKIP LOCKED) ready
    WHERE q.id = ready.id;
    GET DIAGNOSTICS due = ROW_COUNT;
    IF due = 500 OR clock_again THEN
        RETURN clock_timestamp();
    END IF;
    RETURN least(settle_again,
                 (SELECT min(q.scheduled_at) FROM @extschema@.pfa_write_queue q
                  WHERE q.in_line AND q.waits_for = 'time' AND q.scheduled_at > clock_timestamp()));
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_prepare() IS 'Internal: settles records and makes items ready whose time has come; returns when to look again';

/*
 * _pems_first_ready(organization_ids, after_at, after_seq): the first ready item of each organization and priority
 * behind these places, locked or not.
 *
 * after_at, after_seq: as for _pems_claim().
 * Returns: turn: which of the organizations, from 1; priority; its place in line.  No row where there is none.
 */
CREATE FUNCTION @extschema@._pems_first_ready(
    organization_ids text[], after_at timestamptz[], after_seq bigint[],
    OUT turn bigint, OUT priority integer, OUT scheduled_at timestamptz, OUT commit_seq bigint)
RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT g.turn, l.priority, f.scheduled_at, f.commit_seq
    FROM unnest(organization_ids) WITH ORDINALITY AS g (id, turn)
    CROSS JOIN (VALUES (-2, 10), (-1, 0), (0, -10)) AS l (line, priority)
    CROSS JOIN LATERAL (
        SELECT q.scheduled_at, q.commit_seq FROM @extschema@.pfa_write_queue q
        WHERE q.organization_id = g.id AND q.in_line AND q.waits_for IS NULL AND q.priority = l.priority
          AND (q.scheduled_at, q.commit_seq) > (after_at[3 * g.turn + l.line], after_seq[3 * g.turn + l.line]) AND q.status = 'pending'
        ORDER BY q.scheduled_at, q.commit_seq LIMIT 1) f
$function$;
COMMENT ON FUNCTION @extschema@._pems_first_ready(text[], timestamptz[], bigint[]) IS 'Internal: the first ready item of each organization and priority behind these places, locked or not';

/*
 * _pems_claim(organization_ids, slots, after_at, after_seq)
 *
 * Claims the best ready items of each organization, at most slots[i] of organization i, at
 * most one per record, and returns what is needed to decide and send.
 *
 * after_at, after_seq: per organization three places in line, (scheduled_at, commit_seq), for high, normal and low
 * priority; only items behind them are looked at; NULL: all.  So the items that are done are not read again with each
 * claim, which is what makes a queue slow once something keeps them from being vacuumed.
 *
 * An item may be ready although an earlier one of its record is not finished: two
 * sessions that committed at the same time did not see each other.  Such an item is sent
 * back to wait for its turn.
 *
 * sent_version stays that of the first write whose answer was lost, until it is known what became
 * of it: a worker that dies in between must leave the doubt behind.
 *
 * base_is_mirror: the mirror is in the state that the user saw: at its version, and with the data that it had then.  Only
 * otherwise base_data and own_data are there, and mirror_data where it is needed besides (objects are sent whole, and a
 * refresh looks whether the write was made): the common case carries no records around.  A record that is larger than
 * pems_sync.max_record_size is not read: it is missing then, and too_large says so.
 *
 * An item that another database queued (a dump that was loaded into this one) is not claimed: it waits for pems_resume().
 */
CREATE FUNCTION @extschema@._pems_claim(
    organization_ids text[], slots integer[], after_at timestamptz[] DEFAULT NULL, after_seq bigint[] DEFAULT NULL)
RETURNS TABLE (
    item_id text, claim_token bigint, organization_id text, pfa_id text, operation text, next_request text,
    attempt integer, retry_count integer, max_retries integer, rounds integer, outcome_unknown boolean,
    previous_version integer, payload jsonb, base_version integer, mirror_version integer, mirror_deleted boolean,
    created_by text, change_reason text, base_data jsonb, own_data jsonb, mirror_data jsonb,
    modification_id text, job_id text, priority integer, scheduled_at timestamptz, commit_seq bigint,
    known_version integer, base_is_mirror boolean, too_large boolean)
LANGUAGE plpgsql VOLATILE ROWS 100 SET search_path = pg_catalog, pg_temp AS $function$
#variable_conflict use_column
DECLARE
    token         CONSTANT bigint := nextval('@extschema@.pems_claim_order');
    this_database CONSTANT bigint := @extschema@._pems_database_id();
    largest       CONSTANT bigint := @extschema@._pems_setting('max_record_size'::text)::bigint * 1024;
BEGIN
    RETURN QUERY
    WITH granted AS (
        SELECT g.id, g.slots, g.turn::integer AS turn FROM unnest(organization_ids, slots) WITH ORDINALITY AS g (id, slots, turn)
        WHERE NOT EXISTS (SELECT FROM @extschema@.pems_pause p WHERE p.organization_id IN (g.id, '*'))
    ), head AS MATERIALIZED (
        SELECT c.*, g.turn FROM granted g CROSS JOIN LATERAL (
            SELECT line.* FROM (
                SELECT * FROM (SELECT q.ctid AS place, q.id, q.organization_id, q.pfa_id, q.commit_seq, q.priority, q.scheduled_at, q.sent_version,
                                      q.base_version, q.base_at, q.queued_in
                               FROM @extschema@.pfa_write_queue q
                               WHERE q.organization_id = g.id AND q.in_line AND q.waits_for IS NULL AND q.priority = 10
                                 AND (q.scheduled_at, q.commit_seq) > (coalesce(after_at[3 * g.turn - 2], '-infinity'), coalesce(after_seq[3 * g.turn - 2], 0)) AND q.status = 'pending'
                               ORDER BY q.scheduled_at, q.commit_seq LIMIT g.slots FOR NO KEY UPDATE SKIP LOCKED) high
                UNION ALL
                SELECT * FROM (SELECT q.ctid AS place, q.id, q.organization_id, q.pfa_id, q.commit_seq, q.priority, q.scheduled_at, q.sent_version,
                                      q.base_version, q.base_at, q.queued_in
                               FROM @extschema@.pfa_write_queue q
                               WHERE q.organization_id = g.id AND q.in_line AND q.waits_for IS NULL AND q.priority = 0
                                 AND (q.scheduled_at, q.commit_seq) > (coalesce(after_at[3 * g.turn - 1], '-infinity'), coalesce(after_seq[3 * g.turn - 1], 0)) AND q.status = 'pending'
                               ORDER BY q.scheduled_at, q.commit_seq LIMIT g.slots FOR NO KEY UPDATE SKIP LOCKED) normal
                UNION ALL
                SELECT * FROM (SELECT q.ctid AS place, q.id, q.organization_id, q.pfa_id, q.commit_seq, q.priority, q.scheduled_at, q.sent_version,
                                      q.base_version, q.base_at, q.queued_in
                               FROM @extschema@.pfa_write_queue q
                               WHERE q.organization_id = g.id AND q.in_line AND q.waits_for IS NULL AND q.priority = -10
                                 AND (q.scheduled_at, q.commit_seq) > (coalesce(after_at[3 * g.turn], '-infinity'), coalesce(after_seq[3 * g.turn], 0)) AND q.status = 'pending'
                               ORDER BY q.scheduled_at, q.commit_seq LIMIT g.slots FOR NO KEY UPDATE SKIP LOCKED) low) line
            LIMIT g.slots) c
    ), judged AS MATERIALIZED (
        SELECT h.*, row_number() OVER (PARTITION BY h.turn ORDER BY h.priority DESC, h.scheduled_at, h.commit_seq) AS rank,
               EXISTS (SELECT FROM @extschema@.pfa_write_queue e
                       WHERE e.organization_id = h.organization_id AND e.pfa_id = h.pfa_id AND e.unfinished AND NOT e.held
                         AND e.id <> h.id AND (e.commit_seq < h.commit_seq OR e.status = 'processing'))
               OR EXISTS (SELECT FROM @extschema@.pfa_write_queue e
                          WHERE e.organization_id = h.organization_id AND e.pfa_id = h.pfa_id AND e.unfinished AND e.held
                            AND e.commit_seq < h.commit_seq) AS blocked,
               h.queued_in <> this_database AS is_foreign
        FROM head h
    ), sent_back AS (
        -- they used up slots: the worker must not believe that there is no more
        UPDATE @extschema@.pfa_write_queue q SET waits_for = CASE WHEN j.is_foreign THEN 'resume' ELSE 'turn' END
        FROM judged j WHERE q.id = j.id AND (j.blocked OR j.is_foreign)
        RETURNING @extschema@._pems_announce(q.organization_id, q.scheduled_at)
    ), taken AS (
        -- by place, which cannot change while we hold the lock; a row that was changed just before we locked it is
        -- not seen here, and its change was announced
        UPDATE @extschema@.pfa_write_queue q
        SET status = 'processing', claim_token = token, attempt = q.attempt + 1, last_attempt_at = clock_timestamp(),
            sent_version = CASE WHEN q.next_request = 'write' AND NOT q.outcome_unknown THEN j.version ELSE q.sent_version END,
            known_version = CASE WHEN q.next_request <> 'write' THEN q.known_version END
        FROM (SELECT h.place, h.rank, h.turn, h.sent_version AS previous_version, m.version, m.deleted_at, m.data,
                     m.version = h.base_version AND (
                         newest.recorded_at IS NULL OR newest.recorded_at <= h.base_at OR newest.state_seq = @extschema@._pems_base_seq(
                             h.organization_id, h.pfa_id, h.base_version, h.base_at)) AS base_is_mirror
              FROM judged h
              LEFT JOIN @extschema@.pfa_mirror m ON m.organization_id = h.organization_id AND m.pfa_id = h.pfa_id
              LEFT JOIN LATERAL (
                  SELECT v.state_seq, v.recorded_at FROM @extschema@.pems_mirror_version v
                  WHERE v.organization_id = h.organization_id AND v.pfa_id = h.pfa_id AND v.version = h.base_version
                  ORDER BY v.state_seq DESC LIMIT 1) newest ON true
              WHERE NOT h.blocked AND NOT h.is_foreign) j
        WHERE q.ctid = j.place
        RETURNING q.id, q.organization_id, q.pfa_id, q.operation, q.next_request, q.attempt, q.retry_count, q.max_retries,
                  q.rounds, q.outcome_unknown, q.payload, q.base_version, q.base_at, q.created_by, q.change_reason,
                  q.modification_id, q.job_id, q.priority, q.scheduled_at, q.commit_seq, q.known_version,
                  j.turn, j.rank, j.previous_version, j.version AS mirror_version, j.base_is_mirror,
                  j.deleted_at IS NOT NULL AS mirror_deleted,
                  CASE WHEN NOT j.base_is_mirror OR q.next_request = 'refresh' OR @extschema@._pems_has_object(q.payload)
                       THEN j.data END AS needed_data
    ), noted AS (
        INSERT INTO @extschema@.pems_claim (claim_token, item_ids) SELECT token, array_agg(t.id) FROM taken t HAVING count(*) > 0
    )
    SELECT t.id, token, t.organization_id, t.pfa_id, t.operation, t.next_request, t.attempt, t.retry_count,
           t.max_retries, t.rounds, t.outcome_unknown, t.previous_version, t.payload, t.base_version, t.mirror_version,
           t.mirror_deleted, t.created_by, t.change_reason, b.data,
           CASE WHEN b.data IS NOT NULL AND t.mirror_data IS NOT NULL THEN
               @extschema@._pems_own_changes(t.organization_id, t.pfa_id, t.base_version, b.state_seq, t.modification_id, t.created_by,
                   @extschema@._pems_disputed_keys(t.payload, b.data, t.mirror_data)) END,
           t.mirror_data, t.modification_id, t.job_id, t.priority, t.scheduled_at, t.commit_seq, t.known_version, t.base_is_mirror,
           coalesce(t.too_large, false) OR coalesce(b.too_large, false)
    FROM (SELECT k.*, CASE WHEN @extschema@._pems_size(k.needed_data) <= largest THEN k.needed_data END AS mirror_data,
                 @extschema@._pems_size(k.needed_data) > largest AS too_large
          FROM taken k) t
    LEFT JOIN LATERAL (
        SELECT CASE WHEN @extschema@._pems_size(v.data) <= largest THEN v.data END AS data,
               @extschema@._pems_size(v.data) > largest AS too_large, v.state_seq
        FROM @extschema@.pems_mirror_version v
        WHERE NOT t.base_is_mirror AND v.organization_id = t.organization_id AND v.pfa_id = t.pfa_id AND v.version = t.base_version
          AND v.state_seq = @extschema@._pems_base_seq(t.organization_id, t.pfa_id, t.base_version, t.base_at)) b ON true
    ORDER BY t.rank, t.turn;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_claim(text[], integer[], timestamptz[], bigint[]) IS 'Internal: claims ready items behind these places in line, at most one per record, and returns what is needed to send them';

/*
 * _pems_disputed_keys(payload, base_data, mirror_data): fields of an edit that would be in conflict if the author
 * had written nothing since; for a DELETE ({}) all fields of the record.
 */
CREATE FUNCTION @extschema@._pems_disputed_keys(payload jsonb, base_data jsonb, mirror_data jsonb) RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT array_agg(k.key)
    FROM jsonb_object_keys(CASE WHEN payload = '{}' THEN base_data || mirror_data ELSE payload END) AS k (key)
    WHERE payload = '{}'
       OR (base_data -> k.key IS DISTINCT FROM mirror_data -> k.key AND payload -> k.key IS DISTINCT FROM mirror_data -> k.key)
$function$;
COMMENT ON FUNCTION @extschema@._pems_disputed_keys(jsonb, jsonb, jsonb) IS 'Internal: fields of an edit that differ on all three sides; for a DELETE all fields';

/*
 * _pems_own_changes(organization_id, pfa_id, base_version, base_seq, modification_id, author, keys): those of these fields
 * that nobody but the author has changed last since that state of that version, by an earlier modification, with the value
 * that it wrote.  In a three-way decision they count as base: a user's own earlier edit is no conflict with the same
 * user's later one.
 *
 * Goes back from the newest state until it has found who changed each of the fields: of ten thousand edits of
 * one record the last must not read all the others.
 */
CREATE FUNCTION @extschema@._pems_own_changes(
    organization_id text, pfa_id text, base_version integer, base_seq bigint, modification_id text, author text, keys text[])
RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    own     jsonb := '{}';
    open    text[] := keys;
    changed text[];
    step    record;
BEGIN
    IF keys IS NULL THEN
        RETURN NULL;
    END IF;
    FOR step IN
        SELECT v.data, b.data AS before, q.payload AS written
        FROM @extschema@.pems_mirror_version v
        LEFT JOIN LATERAL (
            SELECT p.data FROM @extschema@.pems_mirror_version p
            WHERE p.organization_id = $1 AND p.pfa_id = $2 AND (p.version, p.state_seq) < (v.version, v.state_seq)
            ORDER BY p.version DESC, p.state_seq DESC LIMIT 1) b ON true
        LEFT JOIN @extschema@.pfa_write_queue q ON q.modification_id = v.modification_id AND q.modification_id <> $5
             AND q.created_by = $6 AND q.operation = 'UPDATE'
        WHERE v.organization_id = $1 AND v.pfa_id = $2 AND (v.version, v.state_seq) > ($3, $4)
        ORDER BY v.version DESC, v.state_seq DESC
    LOOP
        changed := ARRAY(SELECT k FROM unnest(open) k WHERE step.before -> k IS DISTINCT FROM step.data -> k);
        own := own || (SELECT coalesce(jsonb_object_agg(k, step.written -> k), '{}') FROM unnest(changed) k
                       -- PEMS may have done more than we wrote, where versions have a gap
                       WHERE CASE jsonb_typeof(step.written -> k) WHEN 'object' THEN (step.data -> k) @> (step.written -> k)
                                  ELSE (step.data -> k) = (step.written -> k) END);
        open := ARRAY(SELECT k FROM unnest(open) k WHERE k <> ALL (changed));
        EXIT WHEN open = '{}';
    END LOOP;
    RETURN own;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_own_changes(text, text, integer, bigint, text, text, text[]) IS 'Internal: which of these fields the author''s own earlier modifications changed last, with their values';

/*
 * _pems_adopt_items(item_ids): takes up those of these items that are in processing.  Nobody knows
 * whether their writes arrived: each gets its line in the audit log, and the next request
 * for it is a read, two seconds from now, because PEMS may still be at it (the claim may be older than
 * the request).
 * Returns: number of items.
 */
CREATE FUNCTION @extschema@._pems_adopt_items(item_ids text[]) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    adopted integer;
BEGIN
    WITH orphan AS (
        SELECT q.id, q.next_request FROM @extschema@.pfa_write_queue q
        WHERE q.id = ANY (item_ids) AND q.status = 'processing' FOR NO KEY UPDATE
    ), taken AS (
        UPDATE @extschema@.pfa_write_queue q
        SET status = 'pending', waits_for = 'time', claim_token = nextval('@extschema@.pems_claim_order'),
            scheduled_at = clock_timestamp() + interval '2 seconds',
            outcome_unknown = q.outcome_unknown OR q.next_request = 'write',
            next_request = CASE q.next_request WHEN 'write' THEN 'read' ELSE q.next_request END,
            error_code = 'OUTCOME_UNKNOWN', last_error = 'The worker ended before the answer of PEMS was recorded.'
        FROM orphan o WHERE q.id = o.id
        RETURNING q.*, o.next_request AS lost_request
    ), recheck AS (
        INSERT INTO @extschema@.pems_recheck (organization_id, pfa_id) SELECT t.organization_id, t.pfa_id FROM taken t
    )
    INSERT INTO @extschema@.pems_audit_log
        (event_type, organization_id, pfa_id, modification_id, item_id, job_id, actor, attempt, http_method, error_code, error)
    SELECT CASE t.lost_request WHEN 'write' THEN 'WRITE_ATTEMPT' ELSE 'READ_ATTEMPT' END, t.organization_id, t.pfa_id,
           t.modification_id, t.id, t.job_id, 'pems_sync', t.attempt,
           CASE WHEN t.lost_request <> 'write' THEN 'GET' WHEN t.operation = 'DELETE' THEN 'DELETE' ELSE 'PUT' END,
           t.error_code, t.last_error
    FROM taken t;
    GET DIAGNOSTICS adopted = ROW_COUNT;
    RETURN adopted;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_adopt_items(text[]) IS 'Internal: takes up those of these items that are in processing';

/*
 * _pems_adopt(): takes up the items that a worker left in processing when it ended, 1000 at most.
 * Called until it finds none, before the first claim: there is one worker per database, so every claim
 * that is there belongs to a dead one.
 *
 * They stand in pems_claim.  If the statistics know of more in processing (an administrator's UPDATE, say), all that
 * is unfinished is looked through.
 * Returns: number of items.
 */
CREATE FUNCTION @extschema@._pems_adopt() RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    most CONSTANT integer := 1000;
    adopted       integer;
BEGIN
    adopted := @extschema@._pems_adopt_items(ARRAY(
        SELECT DISTINCT i.id FROM @extschema@.pems_claim c CROSS JOIN LATERAL unnest(c.item_ids) i (id)
        JOIN @extschema@.pfa_write_queue q ON q.id = i.id AND q.status = 'processing' LIMIT most));
    IF adopted = most THEN
        RETURN adopted;
    END IF;
    DELETE FROM @extschema@.pems_claim;
    IF (SELECT s.processing FROM @extschema@._pems_sums(NULL::text, 'infinity'::timestamptz, 'infinity'::timestamptz) s) <> 0 THEN
        adopted := adopted + @extschema@._pems_adopt_items(ARRAY(
            SELECT q.id FROM @extschema@.pfa_write_queue q WHERE q.unfinished AND q.status = 'processing' LIMIT most - adopted));
    END IF;
    RETURN adopted;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_adopt() IS 'Internal: takes up what a dead worker left in processing';

/*
 * _pems_mark_syncing(item_ids): shows modifications as syncing whose request takes its time.
 * Only a courtesy to people who look: rows that somebody has locked are left out.
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
    PERFORM @extschema@._pems_host_mark(slow, array_fill('syncing'::text, ARRAY[cardinality(slow)]),
                array_fill(NULL::integer, ARRAY[cardinality(slow)]), array_fill(NULL::text, ARRAY[cardinality(slow)]));
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_mark_syncing(text[]) IS 'Internal: sync_status syncing for requests that take their time';

/*
 * _pems_payload(message): a notification as text.  The server takes less than 8000 bytes; of a longer message the
 * sentence is shortened first, then its longest members are left out.
 */
CREATE FUNCTION @extschema@._pems_payload(message jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    sentence text;
BEGIN
    WHILE octet_length(message::text) >= 8000 LOOP
        sentence := message ->> 'errorMessage';
        IF sentence <> '' THEN
            message := jsonb_set(message, '{errorMessage}', to_jsonb(left(sentence, length(sentence) / 2)));
        ELSE
            message := message - (SELECT m.key FROM jsonb_each_text(message) m
                                  WHERE m.key NOT IN ('type', 'at') ORDER BY octet_length(m.value) DESC NULLS LAST LIMIT 1);
        END IF;
    END LOOP;
    RETURN message::text;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_payload(jsonb) IS 'Internal: a notification as text that NOTIFY takes';

/*
 * _pems_messages(outcomes): what listeners on channel pems_sync are to be told: one message per item, or one for all
 * when more than 20 belong to one organization.
 * Returns: payloads for _pems_send_notifications(); NULL: none.
 * Tables: pfa_sync_conflict.
 */
CREATE FUNCTION @extschema@._pems_messages(outcomes @extschema@._pems_outcome[]) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RETURN (
    WITH event AS (
        SELECT o.organization_id, o.pfa_id, o.modification_id, o.job_id, o.error,
               CASE o.verdict WHEN 'completed' THEN 'SYNC_SUCCESS' WHEN 'conflict' THEN 'SYNC_CONFLICT'
                              WHEN 'failed' THEN 'SYNC_FAILED' ELSE 'SYNC_RETRY' END AS type,
               CASE WHEN o.verdict = 'conflict' THEN (
                   SELECT c.id FROM @extschema@.pfa_sync_conflict c
                   WHERE c.item_id = o.item_id AND c.status = 'unresolved') END AS conflict_id
        FROM unnest(outcomes) o
        WHERE o.verdict <> 'pending' OR o.delay_ms > 0
    ), batch AS (
        SELECT e.organization_id, jsonb_object_agg(e.type, e.n) AS counts, sum(e.n) AS n
        FROM (SELECT t.organization_id, t.type, count(*) AS n FROM event t GROUP BY t.organization_id, t.type) e
        GROUP BY e.organization_id
    ), message AS (
        SELECT jsonb_build_object('type', 'SYNC_BATCH', 'organizationId', b.organization_id, 'counts', b.counts) AS body
        FROM batch b WHERE b.n > 20
        UNION ALL
        SELECT jsonb_build_object('type', e.type, 'organizationId', e.organization_id, 'pfaId', e.pfa_id,
                   'modificationId', e.modification_id, 'jobId', e.job_id, 'conflictId', e.conflict_id,
                   'errorMessage', left(e.error, 1000))
        FROM event e JOIN batch b ON b.organization_id = e.organization_id AND b.n <= 20
        UNION ALL
        SELECT jsonb_build_object('type', 'SYNC_PAUSED', 'organizationId', o.organization_id,
                   'errorMessage', left(min(o.error), 1000))
        FROM unnest(outcomes) o WHERE o.pause GROUP BY o.organization_id
    )
    SELECT array_agg(@extschema@._pems_payload(
               m.body || jsonb_build_object('at', @extschema@._pems_iso(clock_timestamp()))))
    FROM message m);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_messages(@extschema@._pems_outcome[]) IS 'Internal: what listeners are to be told of a batch';

/*
 * _pems_send_notifications(messages): tells listeners on channel pems_sync.  A transaction of its own, after what it tells
 * of is committed: where the server's queue of notifications is full, nothing but the messages is lost.  It changes no
 * table, so nobody waits for the disk.
 */
CREATE FUNCTION @extschema@._pems_send_notifications(messages text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM pg_notify('pems_sync', m) FROM unnest(messages) m;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_send_notifications(text[]) IS 'Internal: sends notifications';

/*
 * _pems_iso(at): a time as the JSON of the API writes it, ISO 8601 in UTC with Z.
 */
CREATE FUNCTION @extschema@._pems_iso(at timestamptz) RETURNS text
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_iso(timestamptz) IS 'Internal: ISO 8601 in UTC with Z';

/*
 * _pems_record_mirrors(outcomes): the mirror as PEMS has it now, with its version history.
 * A write that PEMS applied on the version that the mirror shows makes the mirror the sum of
 * both.  A record that was read replaces the mirror, unless somebody (a pull) wrote a newer one
 * since the item was claimed.
 */
CREATE FUNCTION @extschema@._pems_record_mirrors(outcomes @extschema@._pems_outcome[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    organization_ids text[];
    pfa_ids          text[];
    versions         integer[];
    records          jsonb[];
    deleted          boolean[];
BEGIN
    WITH next AS MATERIALIZED (
        -- a record that a read finds gone keeps the version whose data the mirror has: what came after it, nobody has seen
        SELECT o.organization_id, o.pfa_id, CASE WHEN o.mirror_deleted AND o.step <> 'write' THEN m.version ELSE o.pems_version END AS version,
               coalesce(o.mirror_deleted, false) AS deleted,
               CASE WHEN o.mirror_patch IS NOT NULL THEN @extschema@._pems_apply_delta(m.data, o.mirror_patch)
                    ELSE coalesce(o.mirror_data, m.data) END AS data,
               o.verdict = 'completed' AND (o.event_type = 'WRITE_ATTEMPT' OR o.step = 'refresh') AS ours,
               o.modification_id, o.created_by, o.change_reason
        FROM unnest(outcomes) o
        LEFT JOIN @extschema@.pfa_mirror m ON m.organization_id = o.organization_id AND m.pfa_id = o.pfa_id
        WHERE o.pems_version IS NOT NULL
          AND (o.mirror_patch IS NOT NULL OR o.mirror_data IS NOT NULL OR o.mirror_deleted)
          AND (m.version IS NOT DISTINCT FROM o.seen_version OR (m.version < o.pems_version AND o.mirror_patch IS NULL))
    ), history AS (
        INSERT INTO @extschema@.pems_mirror_version
            (organization_id, pfa_id, version, data, source, modification_id, changed_by, change_reason)
        SELECT n.organization_id, n.pfa_id, n.version, n.data, CASE WHEN n.ours THEN 'write' ELSE 'pems' END,
               CASE WHEN n.ours THEN n.modification_id END, CASE WHEN n.ours THEN n.created_by END,
               CASE WHEN n.ours THEN n.change_reason END
        FROM next n
        WHERE n.data IS NOT NULL AND NOT @extschema@._pems_is_newest_state(n.organization_id, n.pfa_id, n.version, n.data)
    )
    SELECT array_agg(n.organization_id), array_agg(n.pfa_id), array_agg(n.version), array_agg(n.data), array_agg(n.deleted)
    INTO organization_ids, pfa_ids, versions, records, deleted
    FROM next n WHERE n.data IS NOT NULL;

    PERFORM @extschema@._pems_host_write_mirror(organization_ids, pfa_ids, versions, records, deleted);

    -- A write whose answer was lost turned out to be in PEMS: the version that showed it is the one to look at
    -- when the author's next edit asks which changes were the author's own.  Where more than one version was
    -- made meanwhile, it may as well have been somebody else who set the same values.
    UPDATE @extschema@.pems_mirror_version v SET modification_id = o.modification_id
    FROM unnest(outcomes) o JOIN @extschema@.pfa_write_queue q ON q.id = o.item_id
    WHERE o.event_type = 'SYNCED_WITHOUT_REQUEST' AND o.was_unknown
      AND v.organization_id = o.organization_id AND v.pfa_id = o.pfa_id AND v.version = o.pems_version
      AND v.state_seq = @extschema@._pems_base_seq(o.organization_id, o.pfa_id, o.pems_version, 'infinity'::timestamptz)
      AND v.version = q.sent_version + 1 AND v.modification_id IS NULL;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_record_mirrors(@extschema@._pems_outcome[]) IS 'Internal: mirror and version history after a batch';

/*
 * _pems_record_items(outcomes): queue and audit log after a batch.  An outcome whose claim token is no longer the
 * item's is not ours: somebody else has taken the item up, and has written the audit line for that attempt.
 * Returns: the outcomes that are ours; NULL: none.
 */
CREATE FUNCTION @extschema@._pems_record_items(outcomes @extschema@._pems_outcome[]) RETURNS @extschema@._pems_outcome[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    mine @extschema@._pems_outcome[];
BEGIN
    WITH changed AS (
        UPDATE @extschema@.pfa_write_queue q
        SET status = o.verdict, next_request = o.next_request, outcome_unknown = o.outcome_unknown,
            waits_for = CASE WHEN o.verdict = 'pending' AND o.delay_ms > 0 THEN 'time' END,
            scheduled_at = CASE WHEN o.verdict = 'pending' AND o.delay_ms > 0
                                THEN clock_timestamp() + o.delay_ms * interval '1 millisecond' ELSE q.scheduled_at END,
            retry_count = o.retry_count, rounds = o.rounds, error_code = o.error_code, last_error = o.error,
            -- a claim that was given back made no request
            attempt = q.attempt - CASE WHEN o.verdict = 'pending' AND o.event_type IS NULL THEN 1 ELSE 0 END,
            known_version = coalesce(o.known_version, q.known_version),
            completed_at = CASE WHEN o.verdict IN ('completed', 'failed') THEN clock_timestamp() END
        FROM unnest(outcomes) o
        WHERE q.id = o.item_id AND q.claim_token = o.claim_token AND q.status = 'processing'
        RETURNING o, o.*
    ), line AS (
        INSERT INTO @extschema@.pems_audit_log
            (event_type, organization_id, pfa_id, modification_id, item_id, job_id, actor, attempt, http_method,
             path, http_status, latency_ms, request, response, error_code, error)
        SELECT c.event_type, c.organization_id, c.pfa_id, c.modification_id, c.item_id, c.job_id, 'pems_sync', c.attempt,
               c.http_method, c.path, c.http_status, c.latency_ms, c.request, c.response, c.error_code, c.error
        FROM changed c WHERE c.event_type IS NOT NULL
    )
    SELECT array_agg(c.o) INTO mine FROM changed c;
    RETURN mine;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_record_items(@extschema@._pems_outcome[]) IS 'Internal: queue and audit log after a batch; returns the outcomes whose items are still ours';

/*
 * _pems_record_conflicts(outcomes): the conflicts that a batch ran into, with their lines in the audit log.
 */
CREATE FUNCTION @extschema@._pems_record_conflicts(outcomes @extschema@._pems_outcome[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    WITH found AS (
        INSERT INTO @extschema@.pfa_sync_conflict
            (pfa_id, organization_id, modification_id, item_id, local_version, pems_version, base_data, local_data,
             pems_data, conflict_fields, kind, previous_conflict_id, seen_at)
        SELECT q.pfa_id, q.organization_id, q.modification_id, q.id, q.base_version, coalesce(d.version, m.version), b.data, q.payload,
               CASE WHEN o.conflict_kind <> 'deleted_in_pems' THEN coalesce(d.data, m.data) END,
               coalesce(o.conflict_fields, '[]'), o.conflict_kind,
               (SELECT max(p.id) FROM @extschema@.pfa_sync_conflict p
                WHERE p.modification_id = q.modification_id AND p.item_id = q.id),
               q.last_attempt_at
        FROM unnest(outcomes) o JOIN @extschema@.pfa_write_queue q ON q.id = o.item_id
        LEFT JOIN @extschema@.pfa_mirror m ON m.organization_id = q.organization_id AND m.pfa_id = q.pfa_id
        LEFT JOIN @extschema@.pems_mirror_version b
             ON b.organization_id = q.organization_id AND b.pfa_id = q.pfa_id AND b.version = q.base_version
            AND b.state_seq = @extschema@._pems_base_seq(q.organization_id, q.pfa_id, q.base_version, q.base_at)
        -- the state that was decided on, and that the user will have seen; the mirror may have moved on since
        LEFT JOIN @extschema@.pems_mirror_version d
             ON d.organization_id = q.organization_id AND d.pfa_id = q.pfa_id
            AND d.version = coalesce(o.pems_version, o.seen_version)
            AND d.state_seq = @extschema@._pems_base_seq(q.organization_id, q.pfa_id, d.version, q.last_attempt_at)
        WHERE o.verdict = 'conflict'
        RETURNING id, item_id
    )
    INSERT INTO @extschema@.pems_audit_log
        (event_type, organization_id, pfa_id, modification_id, item_id, job_id, conflict_id, actor, error_code, error)
    SELECT 'CONFLICT_DETECTED', o.organization_id, o.pfa_id, o.modification_id, o.item_id, o.job_id, f.id, 'pems_sync',
           o.error_code, o.error
    FROM found f JOIN unnest(outcomes) o ON o.item_id = f.item_id;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_record_conflicts(@extschema@._pems_outcome[]) IS 'Internal: the conflicts of a batch';

/*
 * _pems_record_pauses(outcomes): PEMS refused the credential of an organization: it is paused,
 * once, and the log says so once.
 */
CREATE FUNCTION @extschema@._pems_record_pauses(outcomes @extschema@._pems_outcome[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    paused record;
BEGIN
    FOR paused IN
        INSERT INTO @extschema@.pems_pause (organization_id, cause, reason, paused_by)
        SELECT o.organization_id, 'credential', min(o.error), 'pems_sync'
        FROM unnest(outcomes) o WHERE o.pause GROUP BY o.organization_id
        ON CONFLICT (organization_id, cause) DO NOTHING
        RETURNING organization_id, reason
    LOOP
        INSERT INTO @extschema@.pems_audit_log (event_type, organization_id, actor, error)
        VALUES ('PAUSED', paused.organization_id, 'pems_sync', paused.reason);
        RAISE WARNING 'pems_sync: PEMS refuses the credential of organization "%"', paused.organization_id
            USING DETAIL = paused.reason, HINT = 'Set a new one with pems-credential set; its edits wait meanwhile.';
    END LOOP;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_record_pauses(@extschema@._pems_outcome[]) IS 'Internal: pauses organizations whose credential PEMS refused';

/*
 * _pems_unlocked(outcomes): those outcomes of which no other session has the item, its modification or its mirror
 * locked; the locks are taken.
 */
CREATE FUNCTION @extschema@._pems_unlocked(outcomes @extschema@._pems_outcome[]) RETURNS @extschema@._pems_outcome[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RETURN (SELECT array_agg(l.o) FROM (
        SELECT o FROM unnest(outcomes) o
        JOIN @extschema@.pfa_write_queue q ON q.id = o.item_id AND q.claim_token = o.claim_token AND q.status = 'processing'
        WHERE (SELECT true FROM @extschema@.pfa_modification m
               WHERE m.id = q.modification_id FOR NO KEY UPDATE SKIP LOCKED)
          AND coalesce((SELECT true FROM @extschema@.pfa_mirror r
                        WHERE r.organization_id = q.organization_id AND r.pfa_id = q.pfa_id
                        FOR NO KEY UPDATE SKIP LOCKED),
                       NOT EXISTS (SELECT FROM @extschema@.pfa_mirror r
                                   WHERE r.organization_id = q.organization_id AND r.pfa_id = q.pfa_id))
        FOR NO KEY UPDATE OF q SKIP LOCKED) l);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_unlocked(@extschema@._pems_outcome[]) IS 'Internal: the outcomes of a batch that no other session stands in the way of';

/*
 * _pems_record(outcomes, careful, landed): records what became of claimed items, in one transaction: queue, audit
 * log, mirror and history, conflicts, modifications, whose turn it is next.
 *
 * Parameters:
 *   careful  leave out what other sessions have locked instead of waiting for them
 *   landed   claims of which all outcomes were recorded before this call
 * Returns:
 *   recorded  ids of the items that are done with (recorded, or no longer ours), in the order of outcomes
 *   messages  for _pems_send_notifications(), once this is committed; NULL: none
 */
CREATE FUNCTION @extschema@._pems_record(
    outcomes @extschema@._pems_outcome[], careful boolean, landed bigint[] DEFAULT '{}', OUT recorded text[], OUT messages text[])
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    mine @extschema@._pems_outcome[] := CASE WHEN careful THEN @extschema@._pems_unlocked(outcomes) ELSE outcomes END;
BEGIN
    DELETE FROM @extschema@.pems_claim c WHERE c.claim_token = ANY (landed);
    mine := @extschema@._pems_record_items(mine);
    IF mine IS NOT NULL THEN
        PERFORM @extschema@._pems_record_mirrors(mine);
        PERFORM @extschema@._pems_record_conflicts(mine) WHERE EXISTS (SELECT FROM unnest(mine) o WHERE o.verdict = 'conflict');
        PERFORM @extschema@._pems_record_pauses(mine) WHERE EXISTS (SELECT FROM unnest(mine) o WHERE o.pause);

        PERFORM @extschema@._pems_host_mark(array_agg(o.modification_id),
                    array_agg(CASE o.verdict WHEN 'completed' THEN 'synced' WHEN 'pending' THEN 'queued' ELSE o.verdict END),
                    array_agg(CASE WHEN o.verdict = 'completed' THEN o.pems_version END),
                    array_agg(o.error))
        FROM unnest(mine) o
        WHERE o.verdict <> 'pending' OR o.delay_ms > 0
        HAVING count(*) > 0;

        PERFORM @extschema@._pems_settle(array_agg(o.organization_id), array_agg(o.pfa_id)) FROM unnest(mine) o;
        messages := @extschema@._pems_messages(mine);
    END IF;
    IF NOT careful THEN
        recorded := (SELECT array_agg(o.item_id ORDER BY o.ordinality) FROM unnest(outcomes) WITH ORDINALITY o);
    ELSE
        recorded := (SELECT array_agg(o.item_id ORDER BY o.ordinality) FROM unnest(outcomes) WITH ORDINALITY o
                     WHERE NOT EXISTS (SELECT FROM @extschema@.pfa_write_queue q
                                       WHERE q.id = o.item_id AND q.claim_token = o.claim_token AND q.status = 'processing'));
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_record(@extschema@._pems_outcome[], boolean, bigint[]) IS 'Internal: records what became of claimed items; returns the ids of those that are done with, and what listeners are to be told';

/*
 * _pems_quarantine(outcome, problem): the outcome of an item cannot be recorded, because something in the database (a
 * trigger on the application's table, say) raises an error or takes too long.  The item becomes a dead letter without
 * touching the application's tables, so that it does not block the others; _pems_mark_failed() then shows it there, if
 * that is possible.  The audit log has both what PEMS said and what the database said.
 *
 * Returns: messages for _pems_send_notifications(); NULL: the item is no longer ours, and nothing was done.
 * Tables: pfa_write_queue, pems_recheck, pems_audit_log.
 */
CREATE FUNCTION @extschema@._pems_quarantine(outcome @extschema@._pems_outcome, problem text) RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    WITH changed AS (
        UPDATE @extschema@.pfa_write_queue q
        SET status = 'failed', error_code = 'DATABASE_ERROR', completed_at = clock_timestamp(),
            outcome_unknown = q.outcome_unknown OR (q.next_request = 'write' AND outcome.http_method IS NOT NULL),
            next_request = CASE q.next_request WHEN 'write' THEN 'read' ELSE q.next_request END,
            last_error = 'The database could not record the outcome: ' || problem
        WHERE q.id = outcome.item_id AND q.claim_token = outcome.claim_token AND q.status = 'processing'
        RETURNING q.*
    ), recheck AS (
        INSERT INTO @extschema@.pems_recheck (organization_id, pfa_id) SELECT c.organization_id, c.pfa_id FROM changed c
    )
    INSERT INTO @extschema@.pems_audit_log
        (event_type, organization_id, pfa_id, modification_id, item_id, job_id, actor, attempt, http_method,
         path, http_status, latency_ms, request, response, error_code, error)
    -- what was decided without a request (a conflict, nothing to send) was no attempt, and is not so now
    SELECT CASE WHEN outcome.http_method IS NULL THEN 'RECORDING_FAILED' ELSE outcome.event_type END, c.organization_id, c.pfa_id, c.modification_id, c.id, c.job_id,
           'pems_sync', c.attempt, outcome.http_method, outcome.path, outcome.http_status, outcome.latency_ms,
           outcome.request, outcome.response, c.error_code, c.last_error
    FROM changed c;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    outcome.verdict := 'failed';
    outcome.error := problem;
    RETURN @extschema@._pems_messages(ARRAY[outcome]);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_quarantine(@extschema@._pems_outcome, text) IS 'Internal: makes a dead letter of an item whose outcome the database refuses to record; returns what listeners are to be told';

/*
 * _pems_mark_failed(item_ids): shows those of these items that are dead letters in the application's table, whose
 * triggers may refuse it.
 */
CREATE FUNCTION @extschema@._pems_mark_failed(item_ids text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    PERFORM @extschema@._pems_host_mark(array_agg(q.modification_id), array_agg('failed'::text), array_agg(NULL::integer),
                array_agg(q.last_error))
    FROM @extschema@.pfa_write_queue q
    WHERE q.id = ANY (item_ids) AND q.status = 'failed'
    HAVING count(*) > 0;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_mark_failed(text[]) IS 'Internal: sync_status failed for items that are dead letters';

/*
 * _pems_backoff(retry): how long an item waits before that retry, 0 the first: as pems_retry_backoff_ms() in src/pems/retry.c.
 */
CREATE FUNCTION @extschema@._pems_backoff(retry integer) RETURNS interval
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT least(least(@extschema@._pems_setting('retry_delay'::text)::double precision * 2 ^ least(retry, 30), 3600000)
                 * (0.9 + 0.2 * random()), 3600000) * interval '1 millisecond'
$function$;
COMMENT ON FUNCTION @extschema@._pems_backoff(integer) IS 'Internal: how long an item waits before that retry';

/*
 * _pems_put_off_first(organization_id, after_at, after_seq, problem): the claim of one item of an organization fails, because
 * something that is read with it (its mirror, a version of the history) cannot be read.  The item that such a claim would
 * take waits as after any failure that may pass, and becomes a dead letter when its retries are used up.  Looks at nothing
 * but the queue.
 *
 * Parameters:
 *   after_at, after_seq  three places in line, as for _pems_claim()
 *   problem              what the database said
 * Returns: item_id (NULL: there is none), failed: it is a dead letter now; messages for _pems_send_notifications().
 * Tables: pfa_write_queue, pems_audit_log.
 */
CREATE FUNCTION @extschema@._pems_put_off_first(
    organization_id text, after_at timestamptz[], after_seq bigint[], problem text,
    OUT item_id text, OUT failed boolean, OUT messages text[])
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    changed record;
    outcome @extschema@._pems_outcome;
BEGIN
    SELECT f.id, f.retry_count >= f.max_retries INTO item_id, failed
    FROM (VALUES (1, 10), (2, 0), (3, -10)) AS l (line, priority)
    CROSS JOIN LATERAL (
        SELECT q.id, q.retry_count, q.max_retries FROM @extschema@.pfa_write_queue q
        WHERE q.organization_id = $1 AND q.in_line AND q.waits_for IS NULL AND q.priority = l.priority
          AND (q.scheduled_at, q.commit_seq) > (after_at[l.line], after_seq[l.line]) AND q.status = 'pending'
        ORDER BY q.scheduled_at, q.commit_seq LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) f
    ORDER BY l.line LIMIT 1;
    IF item_id IS NULL THEN
        RETURN;
    END IF;
    UPDATE @extschema@.pfa_write_queue q
    SET status = CASE WHEN failed THEN 'failed' ELSE 'pending' END, waits_for = CASE WHEN NOT failed THEN 'time' END,
        completed_at = CASE WHEN failed THEN clock_timestamp() END,
        scheduled_at = CASE WHEN failed THEN q.scheduled_at ELSE clock_timestamp() + @extschema@._pems_backoff(q.retry_count) END,
        retry_count = q.retry_count + CASE WHEN failed THEN 0 ELSE 1 END,
        error_code = 'DATABASE_ERROR', last_error = 'The database could not read what the item needs: ' || problem
    WHERE q.id = item_id
    -- not the payload, which may be what cannot be read
    RETURNING q.status, q.organization_id, q.pfa_id, q.modification_id, q.job_id, q.error_code, q.last_error INTO changed;
    INSERT INTO @extschema@.pems_audit_log
        (event_type, organization_id, pfa_id, modification_id, item_id, job_id, actor, error_code, error)
    VALUES ('NOT_SENT', changed.organization_id, changed.pfa_id, changed.modification_id, item_id, changed.job_id, 'pems_sync',
            changed.error_code, changed.last_error);
    outcome.organization_id := changed.organization_id;
    outcome.pfa_id := changed.pfa_id;
    outcome.modification_id := changed.modification_id;
    outcome.job_id := changed.job_id;
    outcome.verdict := changed.status;
    outcome.delay_ms := 1;
    outcome.error := changed.last_error;
    messages := @extschema@._pems_messages(ARRAY[outcome]);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_put_off_first(text, timestamptz[], bigint[], text) IS 'Internal: the first item of an organization behind these places cannot be claimed: it waits, and is a dead letter in the end';

/*
 * _pems_make_audit_partition(name, since, until): one partition of the audit log.  Made as a table by itself, and then
 * attached, which does not keep others from writing the log (but for the default partition, for that moment).  Rows of
 * that month that are in the default partition already move there; more than 10000 stay, and the month with them.
 *
 * Within CREATE EXTENSION it would become a member of the extension, and pg_dump would not dump it.
 * Tables: pems_audit_log, pems_audit_log_default, the partition.
 */
CREATE FUNCTION @extschema@._pems_make_audit_partition(name text, since timestamptz, until timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    partition CONSTANT text := format('@extschema@.%I', name);
    stranger           text;
BEGIN
    IF (SELECT count(*) FROM (SELECT FROM @extschema@.pems_audit_log_default d
                              WHERE d.at >= since AND d.at < until LIMIT 10001) r) > 10000 THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %s (LIKE @extschema@.pems_audit_log INCLUDING DEFAULTS)', partition);
    EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', partition);
    EXECUTE format('COMMENT ON TABLE %s IS %L', partition, 'Audit rows of one month');
    EXECUTE format('CREATE INDEX ON %s (item_id)', partition);
    EXECUTE format('CREATE INDEX ON %s (organization_id, at)', partition);
    -- whom our owner's default privileges gave it
    FOR stranger IN
        SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
        FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a WHERE c.oid = partition::regclass AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', partition, stranger);
    END LOOP;
    EXECUTE format('GRANT SELECT, INSERT ON %s TO pems_sync_worker', partition);

    -- nobody adds to the default partition between the move and the end; in the order in which writers take these locks
    LOCK TABLE ONLY @extschema@.pems_audit_log IN SHARE UPDATE EXCLUSIVE MODE;
    LOCK TABLE @extschema@.pems_audit_log_default IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('WITH moved AS (DELETE FROM @extschema@.pems_audit_log_default d WHERE d.at >= %L AND d.at < %L RETURNING d.*)
                    INSERT INTO %s SELECT * FROM moved', since, until, partition);
    EXECUTE format('ALTER TABLE @extschema@.pems_audit_log ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', partition, since, until);
    IF EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = partition::regclass AND d.deptype = 'e') THEN
        EXECUTE format('ALTER EXTENSION pems_sync DROP TABLE %s', partition);
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_make_audit_partition(text, timestamptz, timestamptz) IS 'Internal: makes one partition of the audit log';

/*
 * _pems_make_audit_partitions(): makes the audit partitions of this month and the next.  Runs with the rights of the
 * audit log's owner, because the worker may only insert there.
 */
CREATE FUNCTION @extschema@._pems_make_audit_partitions() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    PERFORM @extschema@._pems_make_audit_partition(m.name, m.first AT TIME ZONE 'UTC', (m.first + interval '1 month') AT TIME ZONE 'UTC')
    FROM (SELECT f.first, 'pems_audit_log_' || to_char(f.first, 'YYYY_MM') AS name
          FROM (SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + i * interval '1 month' AS first
                FROM generate_series(0, 1) i) f) m
    WHERE to_regclass(format('@extschema@.%I', m.name)) IS NULL;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_make_audit_partitions() IS 'Internal: makes the audit partitions of this month and the next';
