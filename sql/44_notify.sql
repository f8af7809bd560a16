/*
 * 44_notify: what listeners on channel pems_sync are told.
 */

/*
 * _pems_payload(message): a notification as text.  The server accepts less than 8000 bytes: of a longer message the
 * sentence is shortened first, then its longest members are left out.
 * Returns: the text.
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
                                  WHERE m.key NOT IN ('type', 'at') ORDER BY octet_length(m.value) DESC NULLS LAST
                                  LIMIT 1);
        END IF;
    END LOOP;
    RETURN message::text;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_payload(jsonb) IS 'Internal: a notification as text that NOTIFY accepts';

/*
 * _pems_messages(reports): what listeners on channel pems_sync are to be told: one message per item, or one for all
 * when more than 20 belong to one organization.
 *
 * Returns: payloads for _pems_send_notifications(); NULL: none.
 * Tables: pfa_sync_conflict.
 */
CREATE FUNCTION @extschema@._pems_messages(reports @extschema@._pems_report[]) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RETURN (
    WITH event AS (
        SELECT r.organization_id, r.pfa_id, r.modification_id, r.job_id, r.error,
               CASE r.new_status WHEN 'completed' THEN 'SYNC_SUCCESS' WHEN 'conflict' THEN 'SYNC_CONFLICT'
                              WHEN 'failed' THEN 'SYNC_FAILED' ELSE 'SYNC_RETRY' END AS type,
               CASE WHEN r.new_status = 'conflict' THEN (
                   SELECT c.id FROM @extschema@.pfa_sync_conflict c
                   WHERE c.item_id = r.item_id AND c.status = 'unresolved') END AS conflict_id
        FROM unnest(reports) r
        WHERE r.new_status <> 'pending' OR r.delay_ms > 0
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
        SELECT jsonb_build_object('type', 'SYNC_PAUSED', 'organizationId', r.organization_id,
                   'errorMessage', left(min(r.error), 1000))
        FROM unnest(reports) r WHERE r.pause GROUP BY r.organization_id
    )
    SELECT array_agg(@extschema@._pems_payload(
               m.body || jsonb_build_object('at', @extschema@._pems_iso(clock_timestamp()))))
    FROM message m);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_messages(@extschema@._pems_report[]) IS
    'Internal: what listeners are to be told of a batch';

/*
 * _pems_send_notifications(messages): tells listeners on channel pems_sync.  It runs in a transaction of its own,
 * after the changes that it tells of are committed: where the server's queue of notifications is full, only the
 * messages are lost.  It changes no table, so it does not wait for the disk.
 */
CREATE FUNCTION @extschema@._pems_send_notifications(messages text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM pg_notify('pems_sync', m) FROM unnest(messages) m;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_send_notifications(text[]) IS 'Internal: sends notifications';
