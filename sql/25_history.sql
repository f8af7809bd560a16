/*
 * 25_history: the triggers that keep derived tables complete no matter who
 * writes: the version history of the mirror and the statistics of the queue.
 */

/*
 * _pems_base_seq(organization_id, pfa_id, version, at): which state of that version a user saw who looked at that time:
 * the newest that had come by then; where all came later (the first snapshot, say), the first.
 *
 * Returns: its state_seq; NULL: the history has no state of that version.
 * Tables: pems_mirror_version.
 */
CREATE FUNCTION @extschema@._pems_base_seq(organization_id text, pfa_id text, version integer, at timestamptz) RETURNS bigint
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
COMMENT ON FUNCTION @extschema@._pems_base_seq(text, text, integer, timestamptz) IS 'Internal: which state of a version was current at a time';

/*
 * _pems_is_newest_state(organization_id, pfa_id, version, data): is that what the history has last of that version?
 */
CREATE FUNCTION @extschema@._pems_is_newest_state(organization_id text, pfa_id text, version integer, data jsonb) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $function$
BEGIN
    RETURN coalesce((SELECT v.data = $4 FROM @extschema@.pems_mirror_version v
                     WHERE v.organization_id = $1 AND v.pfa_id = $2 AND v.version = $3
                     ORDER BY v.state_seq DESC LIMIT 1), false);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_is_newest_state(text, text, integer, jsonb) IS 'Internal: is that what the history has last of that version?';

/*
 * _pems_record_versions(): statement trigger on pfa_mirror, after insert and after update.
 * Adds each state that is not the newest of its version yet.  No state is ever replaced: an edit may have been drafted on
 * it.  The worker puts its own states there first, with their modification; of those there is nothing left to do.
 *
 * Tables: pems_mirror_version.
 */
CREATE FUNCTION @extschema@._pems_record_versions() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
BEGIN
    PERFORM @extschema@._pems_attached();
    INSERT INTO @extschema@.pems_mirror_version (organization_id, pfa_id, version, data, source, changed_by)
    SELECT n.organization_id, n.pfa_id, n.version, n.data, 'external', @extschema@._pems_caller()
    FROM new_rows n
    WHERE n.organization_id IS NOT NULL AND n.pfa_id IS NOT NULL AND n.version IS NOT NULL AND n.data IS NOT NULL
      AND NOT @extschema@._pems_is_newest_state(n.organization_id, n.pfa_id, n.version, n.data);
    RETURN NULL;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_record_versions() IS 'Internal trigger: keeps the version history of the mirror complete';

/*
 * _pems_tally(): statement trigger on pfa_write_queue.  The statistics are sums over the rows of the queue;
 * so each statement adds what its new rows weigh and takes off what the old ones weighed, and no caller has to
 * remember to count.  It also tells the worker which organizations have something ready, from when on.
 */
CREATE FUNCTION @extschema@._pems_tally() RETURNS trigger
AS 'MODULE_PATHNAME', 'pems_tally' LANGUAGE C SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION @extschema@._pems_tally() IS 'Internal trigger: keeps pems_sync_stats in step with the queue, and tells the worker what is ready';

CREATE TRIGGER pems_count_inserted AFTER INSERT ON @extschema@.pfa_write_queue
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._pems_tally();
CREATE TRIGGER pems_count_updated AFTER UPDATE ON @extschema@.pfa_write_queue
    REFERENCING NEW TABLE AS new_rows OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._pems_tally();
CREATE TRIGGER pems_count_deleted AFTER DELETE ON @extschema@.pfa_write_queue
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._pems_tally();
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
COMMENT ON FUNCTION @extschema@._pems_add_counts(bigint[], bigint[]) IS 'Internal: sums of two lists of counts, element by element';

CREATE AGGREGATE @extschema@._pems_sum_counts(bigint[]) (SFUNC = @extschema@._pems_add_counts, STYPE = bigint[], INITCOND = '{0,0,0,0,0,0,0,0,0,0}');
COMMENT ON AGGREGATE @extschema@._pems_sum_counts(bigint[]) IS 'Internal: sums of lists of counts, element by element';

/*
 * _pems_folded_until(): differences of older transactions are folded: none of them is left, nor will one come.
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
 * _pems_fold_stats(): puts the rows of differences into those of their organization and hour, and of all
 * organizations together: what happened by the hour, what stands under the hour -infinity.  Called by the
 * worker now and then; readers see the same sums before and after.
 * Returns: whether there is more: a call folds 5000 differences at most, those of the oldest transactions.
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
        SELECT s.ctid AS place, s.transaction, row_number() OVER (ORDER BY s.transaction) AS n
        FROM @extschema@.pems_sync_stats s
        WHERE NOT s.folded AND s.transaction >= until ORDER BY s.transaction LIMIT most + 1
    ), taken AS (
        DELETE FROM @extschema@.pems_sync_stats d
        WHERE d.ctid = ANY (ARRAY(SELECT o.place FROM oldest o WHERE o.n <= most)) RETURNING d.*
    ), placed AS (
        SELECT w.organization_id, h.hour, h.stands, t.pending, t.held, t.processing, t.failed, t.conflict, t.queued, t.completed,
               t.cancelled, t.dead_lettered, t.conflicted, t.sync_seconds, t.latency_counts, t.last_completed_at
        FROM taken t
        CROSS JOIN LATERAL (VALUES (t.organization_id), ('*')) AS w (organization_id)
        CROSS JOIN LATERAL (VALUES (t.hour, false), ('-infinity', true)) AS h (hour, stands)
    ), folded AS (
        INSERT INTO @extschema@.pems_sync_stats AS s
            (organization_id, hour, folded, pending, held, processing, failed, conflict,
             queued, completed, cancelled, dead_lettered, conflicted, sync_seconds, latency_counts, last_completed_at, transaction)
        SELECT p.organization_id, p.hour, true,
               coalesce(sum(p.pending) FILTER (WHERE p.stands), 0), coalesce(sum(p.held) FILTER (WHERE p.stands), 0),
               coalesce(sum(p.processing) FILTER (WHERE p.stands), 0), coalesce(sum(p.failed) FILTER (WHERE p.stands), 0),
               coalesce(sum(p.conflict) FILTER (WHERE p.stands), 0),
               coalesce(sum(p.queued) FILTER (WHERE NOT p.stands), 0), coalesce(sum(p.completed) FILTER (WHERE NOT p.stands), 0),
               coalesce(sum(p.cancelled) FILTER (WHERE NOT p.stands), 0), coalesce(sum(p.dead_lettered) FILTER (WHERE NOT p.stands), 0),
               coalesce(sum(p.conflicted) FILTER (WHERE NOT p.stands), 0), coalesce(sum(p.sync_seconds) FILTER (WHERE NOT p.stands), 0),
               @extschema@._pems_sum_counts(p.latency_counts) FILTER (WHERE NOT p.stands),
               max(p.last_completed_at),
               -- what ended before the snapshot is in it, as far as it was taken; nothing older will ever be added
               least(pg_snapshot_xmin(pg_current_snapshot()), (SELECT o.transaction FROM oldest o WHERE o.n > most))
        FROM placed p GROUP BY p.organization_id, p.hour
        ORDER BY p.organization_id, p.hour
        ON CONFLICT (organization_id, hour) WHERE folded DO UPDATE
        SET pending = s.pending + excluded.pending, held = s.held + excluded.held, processing = s.processing + excluded.processing,
            failed = s.failed + excluded.failed, conflict = s.conflict + excluded.conflict, queued = s.queued + excluded.queued,
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
COMMENT ON FUNCTION @extschema@._pems_fold_stats() IS 'Internal: folds the rows of differences of pems_sync_stats into those of their hour';

/*
 * _pems_guard_item(): row trigger on pfa_write_queue, before an unfinished item is deleted, which happens with its
 * modification (foreign key).  On our own table, because the application's owner can take off what is on his.
 * Errors: 55000 while the item is in flight.  One that waits is gone then; its successors may take their turn.
 */
CREATE FUNCTION @extschema@._pems_guard_item() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    -- a claim that has not committed yet was waited for: OLD is the item as it is now
    IF OLD.status = 'processing'
       OR (OLD.status = 'pending' AND (OLD.outcome_unknown OR OLD.next_request = 'refresh')) THEN
        RAISE EXCEPTION 'modification "%" is being sent to PEMS', OLD.modification_id
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'Its item in pfa_write_queue is in flight, or its outcome is not known yet.',
                  HINT = 'Delete it when its sync_status has changed.';
    END IF;
    INSERT INTO @extschema@.pems_recheck (organization_id, pfa_id) VALUES (OLD.organization_id, OLD.pfa_id);
    INSERT INTO @extschema@.pems_audit_log
        (event_type, organization_id, pfa_id, modification_id, item_id, job_id, actor, error)
    VALUES ('DISCARDED', OLD.organization_id, OLD.pfa_id, OLD.modification_id, OLD.id, OLD.job_id,
            @extschema@._pems_caller(), 'the modification was deleted');
    PERFORM @extschema@._pems_wake(false);
    RETURN OLD;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_guard_item() IS
    'Internal trigger: an item in flight cannot be deleted, nor can its modification';

CREATE TRIGGER pems_guard_delete BEFORE DELETE ON @extschema@.pfa_write_queue
    FOR EACH ROW WHEN (OLD.unfinished) EXECUTE FUNCTION @extschema@._pems_guard_item();
-- also where session_replication_role is replica
ALTER TABLE @extschema@.pfa_write_queue ENABLE ALWAYS TRIGGER pems_guard_delete;

/*
 * _pems_forget_credential(): row trigger on pems_credential, after delete, which happens with the organization (foreign
 * key).  The worker is to let go of the token.
 */
CREATE FUNCTION @extschema@._pems_forget_credential() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    INSERT INTO @extschema@.pems_audit_log (event_type, organization_id, actor, path, error)
    VALUES ('CREDENTIAL_CHANGED', OLD.organization_id, @extschema@._pems_caller(), OLD.api_url,
            'the organization was deleted');
    PERFORM @extschema@._pems_wake(true);
    RETURN NULL;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_forget_credential() IS
    'Internal trigger: a credential that goes with its organization is in the audit log, and the worker lets go of '
    'it';

CREATE TRIGGER pems_forget_credential AFTER DELETE ON @extschema@.pems_credential
    FOR EACH ROW EXECUTE FUNCTION @extschema@._pems_forget_credential();

/*
 * _pems_guard_truncate(): statement trigger, before truncate, on the host tables and on those of ours that say what is under
 * way.  Errors: 55000 while an item is unfinished.
 */
CREATE FUNCTION @extschema@._pems_guard_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
BEGIN
    IF EXISTS (SELECT FROM @extschema@.pfa_write_queue q
               WHERE q.unfinished) THEN
        RAISE EXCEPTION 'cannot truncate "%" while edits wait to be sent to PEMS', TG_TABLE_NAME
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'pfa_write_queue has unfinished items.',
                  HINT = 'Wait for them, resolve them, or discard them with pems_discard(); see the view pems_queue.';
    END IF;
    RETURN NULL;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_guard_truncate() IS 'Internal trigger: what unfinished items need cannot be truncated';

CREATE TRIGGER pems_guard_truncate BEFORE TRUNCATE ON @extschema@.pfa_write_queue
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._pems_guard_truncate();
CREATE TRIGGER pems_guard_truncate BEFORE TRUNCATE ON @extschema@.pems_claim
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._pems_guard_truncate();
CREATE TRIGGER pems_guard_truncate BEFORE TRUNCATE ON @extschema@.pems_recheck
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._pems_guard_truncate();
CREATE TRIGGER pems_guard_truncate BEFORE TRUNCATE ON @extschema@.pfa_sync_conflict
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._pems_guard_truncate();
