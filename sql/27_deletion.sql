/*
 * 27_deletion: triggers for what is deleted or truncated while edits still need it.
 */

/*
 * _pems_item_delete(): row trigger on pfa_write_queue, before an unfinished item is deleted, which happens with its
 * modification or its organization (foreign keys).  On our own table, because the application's owner can remove
 * triggers from his.  An item that waits is deleted; the next item of the record may be sent then.  A modification that
 * stays is discarded.
 *
 * Errors: 55000 while the item is in flight.
 * Tables: pfa_modification, pems_recheck, pems_audit_log.
 */
CREATE FUNCTION @extschema@._pems_item_delete() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    reason text := 'the modification was deleted';
BEGIN
    -- a claim that has not committed yet was waited for: OLD is the item as it is now
    IF OLD.queued_in = @extschema@._pems_database_id()
       AND (OLD.status = 'processing'
            OR (OLD.status = 'pending' AND (OLD.outcome_unknown OR OLD.next_request = 'refresh'))) THEN
        RAISE EXCEPTION 'modification "%" is being sent to PEMS', OLD.modification_id
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = 'Its item in pfa_write_queue is in flight, or its outcome is not known yet.',
                  HINT = 'Delete it when its sync_status has changed.';
    END IF;
    INSERT INTO @extschema@.pems_recheck (organization_id, pfa_id) VALUES (OLD.organization_id, OLD.pfa_id);
    -- with its organization, whose modifications the application keeps, or by itself: nobody is to wait for it
    IF EXISTS (SELECT FROM @extschema@.pfa_modification m WHERE m.id = OLD.modification_id) THEN
        PERFORM @extschema@._pems_app_mark_all(ARRAY[OLD.modification_id], 'discarded'::text);
        reason := 'the organization or the item was deleted';
    END IF;
    INSERT INTO @extschema@.pems_audit_log
        (event_type, organization_id, pfa_id, modification_id, item_id, job_id, actor, error)
    VALUES ('DISCARDED', OLD.organization_id, OLD.pfa_id, OLD.modification_id, OLD.id, OLD.job_id,
            @extschema@._pems_caller(), reason);
    PERFORM @extschema@._pems_wake(false);
    RETURN OLD;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_item_delete() IS
    'Internal trigger: an item in flight cannot be deleted, nor can its modification';

CREATE TRIGGER pems_item_delete BEFORE DELETE ON @extschema@.pfa_write_queue
    FOR EACH ROW WHEN (OLD.unfinished) EXECUTE FUNCTION @extschema@._pems_item_delete();
-- also where session_replication_role is replica
ALTER TABLE @extschema@.pfa_write_queue ENABLE ALWAYS TRIGGER pems_item_delete;

/*
 * _pems_forget_credential(): row trigger on pems_credential, after delete, which happens with the organization
 * (foreign key).  The worker forgets the token.
 * Tables: pems_audit_log.
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
    'Internal trigger: a credential that goes with its organization is in the audit log, and the worker forgets its '
    'token';

CREATE TRIGGER pems_forget_credential AFTER DELETE ON @extschema@.pems_credential
    FOR EACH ROW EXECUTE FUNCTION @extschema@._pems_forget_credential();

ALTER TABLE @extschema@.pems_credential ENABLE ALWAYS TRIGGER pems_forget_credential;

/*
 * _pems_refuse_truncate(): statement trigger, before truncate, on the application's tables and on those of ours that
 * say what is under way.
 * Errors: 55000 while an item is unfinished.
 * Tables: pfa_write_queue.
 */
CREATE FUNCTION @extschema@._pems_refuse_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
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
COMMENT ON FUNCTION @extschema@._pems_refuse_truncate() IS
    'Internal trigger: what unfinished items need cannot be truncated';

CREATE TRIGGER pems_refuse_truncate BEFORE TRUNCATE ON @extschema@.pfa_write_queue
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._pems_refuse_truncate();
CREATE TRIGGER pems_refuse_truncate BEFORE TRUNCATE ON @extschema@.pems_claim
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._pems_refuse_truncate();
CREATE TRIGGER pems_refuse_truncate BEFORE TRUNCATE ON @extschema@.pems_recheck
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._pems_refuse_truncate();
CREATE TRIGGER pems_refuse_truncate BEFORE TRUNCATE ON @extschema@.pfa_sync_conflict
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@._pems_refuse_truncate();

ALTER TABLE @extschema@.pfa_write_queue ENABLE ALWAYS TRIGGER pems_refuse_truncate;
ALTER TABLE @extschema@.pems_claim ENABLE ALWAYS TRIGGER pems_refuse_truncate;
ALTER TABLE @extschema@.pems_recheck ENABLE ALWAYS TRIGGER pems_refuse_truncate;
ALTER TABLE @extschema@.pfa_sync_conflict ENABLE ALWAYS TRIGGER pems_refuse_truncate;
