/*
 * 26_statistics: what happens to the queue is counted by a trigger and added up by the worker.
 *
 * Each statement that changes the queue leaves one row with the differences that it made (src/database/count.c).  The
 * worker adds those rows up now and then, per organization and hour.  A reader adds the sums and the rows that are not
 * in them yet; so no count reads the queue, and no two sessions wait for one counter.
 */

/*
 * _pems_count_changes(): statement trigger on pfa_write_queue.  Adds to the statistics what its new rows count for, and
 * subtracts what the old ones counted for, so no caller has to remember to count.  It also tells the worker which
 * organizations have something ready, and from when on.
 * Tables: pems_sync_stats.
 */
CREATE FUNCTION @extschema@._pems_count_changes() RETURNS trigger
AS 'MODULE_PATHNAME', 'pems_count_changes' LANGUAGE C SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION @extschema@._pems_count_changes() IS
    'Internal trigger: keeps pems_sync_stats in step with the queue, and tells the worker what is ready';

CREATE TRIGGER pems_count_inserted AFTER INSERT ON @extschema@.pfa_write_queue
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._pems_count_changes();
CREATE TRIGGER pems_count_updated AFTER UPDATE ON @extschema@.pfa_write_queue
    REFERENCING NEW TABLE AS new_rows OLD TABLE AS old_rows FOR EACH STATEMENT
    EXECUTE FUNCTION @extschema@._pems_count_changes();
CREATE TRIGGER pems_count_deleted AFTER DELETE ON @extschema@.pfa_write_queue
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._pems_count_changes();
-- also where session_replication_role is replica: sums that miss something stay wrong for ever
ALTER TABLE @extschema@.pfa_write_queue ENABLE ALWAYS TRIGGER pems_count_inserted;
ALTER TABLE @extschema@.pfa_write_queue ENABLE ALWAYS TRIGGER pems_count_updated;
ALTER TABLE @extschema@.pfa_write_queue ENABLE ALWAYS TRIGGER pems_count_deleted;

/*
 * _pems_add_counts(a, b): the sums of two lists of counts, element by element.
 */
CREATE FUNCTION @extschema@._pems_add_counts(a bigint[], b bigint[]) RETURNS bigint[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT array_agg(coalesce(u.x, 0) + coalesce(u.y, 0) ORDER BY u.i) FROM unnest(a, b) WITH ORDINALITY AS u (x, y, i)
$function$;
COMMENT ON FUNCTION @extschema@._pems_add_counts(bigint[], bigint[]) IS
    'Internal: sums of two lists of counts, element by element';

/*
 * _pems_sum_counts(counts): the sums of lists of counts, element by element; ten zeros where there is no list.
 */
CREATE AGGREGATE @extschema@._pems_sum_counts(bigint[])
    (SFUNC = @extschema@._pems_add_counts, STYPE = bigint[], INITCOND = '{0,0,0,0,0,0,0,0,0,0}');
COMMENT ON AGGREGATE @extschema@._pems_sum_counts(bigint[]) IS 'Internal: sums of lists of counts, element by element';

/*
 * _pems_folded_until(): differences of older transactions are in the sums already: none of them is left, nor will one
 * come.
 * Returns: a transaction id; differences of that one and of later ones may be left.
 * Tables: pems_sync_stats.
 */
CREATE FUNCTION @extschema@._pems_folded_until() RETURNS xid8
-- a session plans this once, maybe while the table is empty
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $function$
BEGIN
    RETURN coalesce((SELECT s.transaction FROM @extschema@.pems_sync_stats s
                     WHERE s.folded AND s.organization_id = '*' AND s.hour = '-infinity'), '0');
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_folded_until() IS 'Internal: differences of older transactions are folded';

/*
 * _pems_fold_stats(): adds the rows of differences to the sums of their organization and hour, and to those of all
 * organizations together.  What happened is summed by the hour; how many items there are now, under the hour
 * -infinity. Called by the worker now and then; readers see the same numbers before and after.
 *
 * Returns: whether there is more: a call adds at most 5000 differences, those of the oldest transactions.
 * Tables: pems_sync_stats.
 */
CREATE FUNCTION @extschema@._pems_fold_stats() RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    most  CONSTANT integer := 5000;
    until CONSTANT xid8 := @extschema@._pems_folded_until();
    more           boolean;
BEGIN
    -- one statement, and so one snapshot: what is left must be known exactly
    WITH oldest AS MATERIALIZED (
        SELECT s.ctid AS tid, s.transaction, row_number() OVER (ORDER BY s.transaction) AS n
        FROM @extschema@.pems_sync_stats s
        WHERE NOT s.folded AND s.transaction >= until ORDER BY s.transaction LIMIT most + 1
    ), removed AS (
        DELETE FROM @extschema@.pems_sync_stats d
        WHERE d.ctid = ANY (ARRAY(SELECT o.tid FROM oldest o WHERE o.n <= most)) RETURNING d.*
    ), assigned AS (
        SELECT w.organization_id, h.hour, h.stands, r.pending, r.held, r.processing, r.failed, r.conflict, r.queued,
               r.completed, r.cancelled, r.dead_lettered, r.conflicted, r.sync_seconds, r.latency_counts,
               r.last_completed_at
        FROM removed r
        CROSS JOIN LATERAL (VALUES (r.organization_id), ('*')) AS w (organization_id)
        CROSS JOIN LATERAL (VALUES (r.hour, false), ('-infinity', true)) AS h (hour, stands)
    ), summed AS (
        INSERT INTO @extschema@.pems_sync_stats AS s
            (organization_id, hour, folded, pending, held, processing, failed, conflict,
             queued, completed, cancelled, dead_lettered, conflicted, sync_seconds, latency_counts, last_completed_at,
             transaction)
        SELECT a.organization_id, a.hour, true,
               coalesce(sum(a.pending) FILTER (WHERE a.stands), 0), coalesce(sum(a.held) FILTER (WHERE a.stands), 0),
               coalesce(sum(a.processing) FILTER (WHERE a.stands), 0),
               coalesce(sum(a.failed) FILTER (WHERE a.stands), 0), coalesce(sum(a.conflict) FILTER (WHERE a.stands), 0),
               coalesce(sum(a.queued) FILTER (WHERE NOT a.stands), 0),
               coalesce(sum(a.completed) FILTER (WHERE NOT a.stands), 0),
               coalesce(sum(a.cancelled) FILTER (WHERE NOT a.stands), 0),
               coalesce(sum(a.dead_lettered) FILTER (WHERE NOT a.stands), 0),
               coalesce(sum(a.conflicted) FILTER (WHERE NOT a.stands), 0),
               coalesce(sum(a.sync_seconds) FILTER (WHERE NOT a.stands), 0),
               @extschema@._pems_sum_counts(a.latency_counts) FILTER (WHERE NOT a.stands),
               max(a.last_completed_at),
               -- what transactions that ended before the snapshot left was removed above, up to the limit; nothing
               -- older will ever be added
               least(pg_snapshot_xmin(pg_current_snapshot()), (SELECT o.transaction FROM oldest o WHERE o.n > most))
        FROM assigned a GROUP BY a.organization_id, a.hour
        ORDER BY a.organization_id, a.hour
        ON CONFLICT (organization_id, hour) WHERE folded DO UPDATE
        SET pending = s.pending + excluded.pending, held = s.held + excluded.held,
            processing = s.processing + excluded.processing, failed = s.failed + excluded.failed,
            conflict = s.conflict + excluded.conflict, queued = s.queued + excluded.queued,
            completed = s.completed + excluded.completed, cancelled = s.cancelled + excluded.cancelled,
            dead_lettered = s.dead_lettered + excluded.dead_lettered, conflicted = s.conflicted + excluded.conflicted,
            sync_seconds = s.sync_seconds + excluded.sync_seconds,
            latency_counts = @extschema@._pems_add_counts(s.latency_counts, excluded.latency_counts),
            last_completed_at = greatest(s.last_completed_at, excluded.last_completed_at),
            transaction = excluded.transaction
    )
    SELECT count(*) > most INTO more FROM oldest;
    RETURN more;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_fold_stats() IS
    'Internal: folds the rows of differences of pems_sync_stats into those of their hour';

/*
 * _pems_recount(): adds to the statistics what they lack of what stands in the queue, where the triggers that count
 * were disabled or the queue was truncated.  What happened by the hour stays as it is.
 * Tables: pfa_write_queue (locked against writers), pems_sync_stats.
 */
CREATE FUNCTION @extschema@._pems_recount() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    LOCK TABLE @extschema@.pfa_write_queue IN SHARE ROW EXCLUSIVE MODE;
    INSERT INTO @extschema@.pems_sync_stats (organization_id, hour, pending, held, processing, failed, conflict)
    SELECT c.organization_id, date_trunc('hour', now(), 'UTC'), sum(c.pending), sum(c.held), sum(c.processing),
           sum(c.failed), sum(c.conflict)
    FROM (SELECT q.organization_id, count(*) FILTER (WHERE q.status = 'pending') AS pending,
                 count(*) FILTER (WHERE q.held) AS held,
                 count(*) FILTER (WHERE q.status = 'processing') AS processing,
                 count(*) FILTER (WHERE q.status = 'failed') AS failed,
                 count(*) FILTER (WHERE q.status = 'conflict') AS conflict
          FROM @extschema@.pfa_write_queue q WHERE q.unfinished GROUP BY q.organization_id
          UNION ALL
          SELECT s.organization_id, -s.pending, -s.held, -s.processing, -s.failed, -s.conflict
          FROM @extschema@.pems_sync_stats s
          WHERE NOT s.folded OR (s.hour = '-infinity' AND s.organization_id <> '*')) c
    GROUP BY c.organization_id
    HAVING (sum(c.pending), sum(c.held), sum(c.processing), sum(c.failed), sum(c.conflict)) <> (0, 0, 0, 0, 0);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_recount() IS
    'Internal: adds to the statistics what they lack of what stands in the queue';
