/*
 * 43_record: the worker records what became of the items that it claimed, a batch at a time.
 */

CREATE TYPE @extschema@._pems_report AS (
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
    new_status      text,
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
COMMENT ON TYPE @extschema@._pems_report IS
    'Internal: the worker''s report on one claimed item: what became of it. From item_id to was_unknown: the item and '
    'its modification when it was claimed (step: next_request, was_unknown: outcome_unknown); new_status: of the item; '
    'delay_ms: NULL = at once; pems_version with mirror_data (a record read), mirror_patch (the changes that a write '
    'made) or mirror_deleted: what the mirror becomes; seen_version: the mirror''s version when the item was claimed; '
    'known_version: the version that PEMS named in its answer to a write';

/*
 * _pems_unlocked_reports(reports): those reports of which no other session has the item, its modification or its
 * mirror locked; they are locked then.
 * Returns: NULL: none.
 * Tables: pfa_write_queue, pfa_modification, pfa_mirror.
 */
CREATE FUNCTION @extschema@._pems_unlocked_reports(reports @extschema@._pems_report[])
RETURNS @extschema@._pems_report[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RETURN (SELECT array_agg(l.r) FROM (
        SELECT r FROM unnest(reports) r
        JOIN @extschema@.pfa_write_queue q ON q.id = r.item_id AND q.claim_token = r.claim_token
             AND q.status = 'processing'
        WHERE (SELECT true FROM @extschema@.pfa_modification m
               WHERE m.id = q.modification_id FOR NO KEY UPDATE SKIP LOCKED)
          AND coalesce((SELECT true FROM @extschema@.pfa_mirror m
                        WHERE m.organization_id = q.organization_id AND m.pfa_id = q.pfa_id
                        FOR NO KEY UPDATE SKIP LOCKED),
                       NOT EXISTS (SELECT FROM @extschema@.pfa_mirror m
                                   WHERE m.organization_id = q.organization_id AND m.pfa_id = q.pfa_id))
        FOR NO KEY UPDATE OF q SKIP LOCKED) l);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_unlocked_reports(@extschema@._pems_report[]) IS
    'Internal: the reports of a batch whose rows no other session has locked';

/*
 * _pems_record_items(reports): queue and audit log after a batch.  A report whose claim token is no longer the
 * item's is not ours: the item was claimed again or put back by somebody else, who has written the audit row for that
 * attempt.
 *
 * Returns: the reports that are ours; NULL: none.
 * Tables: pfa_write_queue, pems_audit_log.
 */
CREATE FUNCTION @extschema@._pems_record_items(reports @extschema@._pems_report[]) RETURNS @extschema@._pems_report[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    ours @extschema@._pems_report[];
BEGIN
    WITH changed AS (
        UPDATE @extschema@.pfa_write_queue q
        SET status = r.new_status, next_request = r.next_request, outcome_unknown = r.outcome_unknown,
            waits_for = CASE WHEN r.new_status = 'pending' AND r.delay_ms > 0 THEN 'time' END,
            scheduled_at = CASE WHEN r.new_status = 'pending' AND r.delay_ms > 0
                                THEN clock_timestamp() + r.delay_ms * interval '1 millisecond' ELSE q.scheduled_at END,
            retry_count = r.retry_count, rounds = r.rounds, error_code = r.error_code, last_error = r.error,
            -- a claim that was given back made no request
            attempt = q.attempt - CASE WHEN r.new_status = 'pending' AND r.event_type IS NULL THEN 1 ELSE 0 END,
            known_version = coalesce(r.known_version, q.known_version),
            completed_at = CASE WHEN r.new_status IN ('completed', 'failed') THEN clock_timestamp() END
        FROM unnest(reports) r
        WHERE q.id = r.item_id AND q.claim_token = r.claim_token AND q.status = 'processing'
        RETURNING r, r.*
    ), logged AS (
        INSERT INTO @extschema@.pems_audit_log
            (event_type, organization_id, pfa_id, modification_id, item_id, job_id, actor, attempt, http_method,
             path, http_status, latency_ms, request, response, error_code, error)
        SELECT c.event_type, c.organization_id, c.pfa_id, c.modification_id, c.item_id, c.job_id, 'pems_sync',
               c.attempt, c.http_method, c.path, c.http_status, c.latency_ms, c.request, c.response, c.error_code,
               c.error
        FROM changed c WHERE c.event_type IS NOT NULL
    )
    SELECT array_agg(c.r) INTO ours FROM changed c;
    RETURN ours;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_record_items(@extschema@._pems_report[]) IS
    'Internal: queue and audit log after a batch; returns the reports whose items are still ours';

/*
 * _pems_record_mirrors(reports): the mirror as PEMS has it now, with its version history. A write that PEMS applied
 * on the version that the mirror shows is added to the mirror's data.  A record that was read replaces the mirror,
 * unless somebody (a pull) wrote a newer one since the item was claimed.
 *
 * Tables: pfa_mirror, pems_mirror_version, pfa_write_queue.
 */
CREATE FUNCTION @extschema@._pems_record_mirrors(reports @extschema@._pems_report[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    organization_ids text[];
    pfa_ids          text[];
    versions         integer[];
    records          jsonb[];
    deleted          boolean[];
BEGIN
    WITH new_mirror AS MATERIALIZED (
        -- a record that a read finds deleted keeps the version whose data the mirror has: nobody has seen a later one
        SELECT r.organization_id, r.pfa_id,
               CASE WHEN r.mirror_deleted AND r.step NOT IN ('write', 'refresh') THEN m.version
                    ELSE r.pems_version END AS version,
               coalesce(r.mirror_deleted, false) AS deleted,
               CASE WHEN r.mirror_patch IS NOT NULL THEN @extschema@._pems_apply_delta(m.data, r.mirror_patch)
                    ELSE coalesce(r.mirror_data, m.data) END AS data,
               -- a record that is there after a delete was made again, by somebody else
               r.new_status = 'completed' AND (r.event_type = 'WRITE_ATTEMPT' OR r.step = 'refresh')
               AND (r.mirror_data IS NULL OR q.operation <> 'DELETE') AS ours,
               r.modification_id, r.created_by, r.change_reason
        FROM unnest(reports) r
        JOIN @extschema@.pfa_write_queue q ON q.id = r.item_id
        LEFT JOIN @extschema@.pfa_mirror m ON m.organization_id = r.organization_id AND m.pfa_id = r.pfa_id
        WHERE r.pems_version IS NOT NULL
          AND (r.mirror_patch IS NOT NULL OR r.mirror_data IS NOT NULL OR r.mirror_deleted)
          AND (m.version IS NOT DISTINCT FROM r.seen_version OR (m.version < r.pems_version AND r.mirror_patch IS NULL))
    ), history AS (
        INSERT INTO @extschema@.pems_mirror_version
            (organization_id, pfa_id, version, data, source, modification_id, changed_by, change_reason)
        SELECT n.organization_id, n.pfa_id, n.version, n.data, CASE WHEN n.ours THEN 'write' ELSE 'pems' END,
               CASE WHEN n.ours THEN n.modification_id END, CASE WHEN n.ours THEN n.created_by END,
               CASE WHEN n.ours THEN n.change_reason END
        FROM new_mirror n
        WHERE n.data IS NOT NULL
          AND NOT @extschema@._pems_is_newest_state(n.organization_id, n.pfa_id, n.version, n.data)
    )
    SELECT array_agg(n.organization_id), array_agg(n.pfa_id), array_agg(n.version), array_agg(n.data),
           array_agg(n.deleted)
    INTO organization_ids, pfa_ids, versions, records, deleted
    FROM new_mirror n WHERE n.data IS NOT NULL;

    PERFORM @extschema@._pems_app_write_mirror(organization_ids, pfa_ids, versions, records, deleted);

    -- A write whose answer was lost was found to be in PEMS: the version that shows it gets its modification, so that
    -- the author's next edit finds there which changes were the author's own.  Not where more than one version was made
    -- meanwhile: somebody else may have set the same values.
    UPDATE @extschema@.pems_mirror_version v SET modification_id = r.modification_id
    FROM unnest(reports) r JOIN @extschema@.pfa_write_queue q ON q.id = r.item_id
    WHERE r.event_type = 'SYNCED_WITHOUT_REQUEST' AND r.was_unknown
      AND v.organization_id = r.organization_id AND v.pfa_id = r.pfa_id AND v.version = r.pems_version
      AND v.state_seq = @extschema@._pems_base_seq(r.organization_id, r.pfa_id, r.pems_version, 'infinity'::timestamptz)
      AND v.version = q.sent_version + 1 AND v.modification_id IS NULL;

    -- A pull has shown our own write before its answer was handled: the first state of that version since the claim is
    -- ours all the same.
    UPDATE @extschema@.pems_mirror_version v
    SET source = 'write', modification_id = r.modification_id, changed_by = r.created_by,
        change_reason = r.change_reason
    FROM unnest(reports) r JOIN @extschema@.pfa_write_queue q ON q.id = r.item_id
    WHERE r.new_status = 'completed' AND r.event_type = 'WRITE_ATTEMPT' AND q.operation = 'UPDATE'
      AND v.organization_id = r.organization_id AND v.pfa_id = r.pfa_id AND v.version = r.pems_version
      AND v.source = 'pems' AND v.modification_id IS NULL AND v.recorded_at >= q.last_attempt_at
      AND NOT EXISTS (SELECT FROM @extschema@.pems_mirror_version f
                      WHERE f.organization_id = r.organization_id AND f.pfa_id = r.pfa_id AND f.version = r.pems_version
                        AND f.state_seq < v.state_seq AND f.recorded_at >= q.last_attempt_at);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_record_mirrors(@extschema@._pems_report[]) IS
    'Internal: mirror and version history after a batch';

/*
 * _pems_record_conflicts(reports): the conflicts of a batch, with their rows in the audit log.
 * Tables: pfa_sync_conflict, pems_audit_log; reads pfa_write_queue, pfa_mirror, pems_mirror_version.
 */
CREATE FUNCTION @extschema@._pems_record_conflicts(reports @extschema@._pems_report[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    WITH found AS (
        INSERT INTO @extschema@.pfa_sync_conflict
            (pfa_id, organization_id, modification_id, item_id, local_version, pems_version, base_data, local_data,
             pems_data, conflict_fields, kind, previous_conflict_id, seen_at)
        SELECT q.pfa_id, q.organization_id, q.modification_id, q.id, q.base_version, coalesce(d.version, m.version),
               b.data, q.payload, CASE WHEN r.conflict_kind <> 'deleted_in_pems' THEN coalesce(d.data, m.data) END,
               coalesce(r.conflict_fields, '[]'), r.conflict_kind,
               (SELECT max(p.id) FROM @extschema@.pfa_sync_conflict p
                WHERE p.modification_id = q.modification_id AND p.item_id = q.id),
               q.last_attempt_at
        FROM unnest(reports) r JOIN @extschema@.pfa_write_queue q ON q.id = r.item_id
        LEFT JOIN @extschema@.pfa_mirror m ON m.organization_id = q.organization_id AND m.pfa_id = q.pfa_id
        LEFT JOIN @extschema@.pems_mirror_version b
             ON b.organization_id = q.organization_id AND b.pfa_id = q.pfa_id AND b.version = q.base_version
            AND b.state_seq = @extschema@._pems_base_seq(q.organization_id, q.pfa_id, q.base_version, q.base_at)
        -- the state that the worker compared with, and that the user is to see; the mirror may have changed since
        LEFT JOIN @extschema@.pems_mirror_version d
             ON d.organization_id = q.organization_id AND d.pfa_id = q.pfa_id
            AND d.version = coalesce(r.pems_version, r.seen_version)
            AND d.state_seq = @extschema@._pems_base_seq(q.organization_id, q.pfa_id, d.version, q.last_attempt_at)
        WHERE r.new_status = 'conflict'
        RETURNING id, item_id
    )
    INSERT INTO @extschema@.pems_audit_log
        (event_type, organization_id, pfa_id, modification_id, item_id, job_id, conflict_id, actor, error_code, error)
    SELECT 'CONFLICT_DETECTED', r.organization_id, r.pfa_id, r.modification_id, r.item_id, r.job_id, f.id, 'pems_sync',
           r.error_code, r.error
    FROM found f JOIN unnest(reports) r ON r.item_id = f.item_id;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_record_conflicts(@extschema@._pems_report[]) IS
    'Internal: the conflicts of a batch';

/*
 * _pems_pause_refused(organization, reason): PEMS refused the credential of that organization: it is paused, once, and
 * audit log and server log say so once.
 *
 * Returns: the message for listeners; NULL: it was paused already.
 * Tables: pems_pause, pems_audit_log.
 */
CREATE FUNCTION @extschema@._pems_pause_refused(organization text, reason text) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    INSERT INTO @extschema@.pems_pause (organization_id, cause, reason, paused_by)
    VALUES (organization, 'credential', $2, 'pems_sync') ON CONFLICT (organization_id, cause) DO NOTHING;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO @extschema@.pems_audit_log (event_type, organization_id, actor, error)
    VALUES ('PAUSED', organization, 'pems_sync', $2);
    RAISE WARNING 'pems_sync: PEMS refuses the credential of organization "%"', organization
        USING DETAIL = $2, HINT = 'Set a new one with pems-credential set; its edits wait meanwhile.';
    RETURN @extschema@._pems_payload(jsonb_build_object(
        'type', 'SYNC_PAUSED', 'organizationId', organization, 'errorMessage', left($2, 1000),
        'at', @extschema@._pems_iso(clock_timestamp())));
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pause_refused(text, text) IS
    'Internal: pauses an organization whose credential PEMS refused';

/*
 * _pems_record_pauses(reports): pauses the organizations of a batch whose credential PEMS refused.
 * Tables: pems_pause, pems_audit_log.
 */
CREATE FUNCTION @extschema@._pems_record_pauses(reports @extschema@._pems_report[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    PERFORM @extschema@._pems_pause_refused(r.organization_id, r.error)
    FROM (SELECT o.organization_id, min(o.error) AS error FROM unnest(reports) o
          WHERE o.pause GROUP BY o.organization_id) r;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_record_pauses(@extschema@._pems_report[]) IS
    'Internal: pauses organizations whose credential PEMS refused';

/*
 * _pems_record(reports, careful, done_claims): records what became of claimed items, in one transaction: queue, audit
 * log, mirror and history, conflicts, modifications, and which items may be sent next.
 *
 * Parameters:
 *   careful      leave out what other sessions have locked instead of waiting for them
 *   done_claims  claims of which all reports were recorded before this call: their rows in pems_claim are deleted
 * Returns:
 *   recorded  ids of the items that are done with (recorded, or no longer ours), in the order of reports
 *   messages  for _pems_send_notifications(), once this is committed; NULL: none
 * Tables: pems_claim, pfa_modification, and those of the functions above.
 */
CREATE FUNCTION @extschema@._pems_record(
    reports @extschema@._pems_report[], careful boolean, done_claims bigint[] DEFAULT '{}',
    OUT recorded text[], OUT messages text[])
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    ours @extschema@._pems_report[] := CASE WHEN careful THEN @extschema@._pems_unlocked_reports(reports)
                                            ELSE reports END;
BEGIN
    DELETE FROM @extschema@.pems_claim c WHERE c.claim_token = ANY (done_claims);
    ours := @extschema@._pems_record_items(ours);
    IF ours IS NOT NULL THEN
        PERFORM @extschema@._pems_record_mirrors(ours);
        PERFORM @extschema@._pems_record_conflicts(ours)
        WHERE EXISTS (SELECT FROM unnest(ours) r WHERE r.new_status = 'conflict');
        PERFORM @extschema@._pems_record_pauses(ours) WHERE EXISTS (SELECT FROM unnest(ours) r WHERE r.pause);

        PERFORM @extschema@._pems_app_mark(array_agg(r.modification_id),
                    array_agg(CASE r.new_status WHEN 'completed' THEN 'synced' WHEN 'pending' THEN 'queued'
                                   ELSE r.new_status END),
                    array_agg(CASE WHEN r.new_status = 'completed' THEN r.pems_version END),
                    array_agg(r.error))
        FROM unnest(ours) r
        WHERE r.new_status <> 'pending' OR r.delay_ms > 0
        HAVING count(*) > 0;

        PERFORM @extschema@._pems_release_next(array_agg(r.organization_id), array_agg(r.pfa_id)) FROM unnest(ours) r;
        messages := @extschema@._pems_messages(ours);
    END IF;
    IF NOT careful THEN
        recorded := (SELECT array_agg(r.item_id ORDER BY r.ordinality) FROM unnest(reports) WITH ORDINALITY r);
    ELSE
        recorded := (SELECT array_agg(r.item_id ORDER BY r.ordinality) FROM unnest(reports) WITH ORDINALITY r
                     WHERE NOT EXISTS (SELECT FROM @extschema@.pfa_write_queue q
                                       WHERE q.id = r.item_id AND q.claim_token = r.claim_token
                                         AND q.status = 'processing'));
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_record(@extschema@._pems_report[], boolean, bigint[]) IS
    'Internal: records what became of claimed items; returns the ids of those that are done with, and what listeners '
    'are to be told';
