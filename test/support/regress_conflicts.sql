/*
 * Conflicts without a worker, for the regression tests that need them: what the worker would record after a
 * read.  After regress_application.sql.
 */

/*
 * The item of that modification, which must be the only one ready, comes into conflict: PEMS has made its
 * record a version newer, with these changes.  kind deleted_in_pems: the record is gone.
 */
CREATE FUNCTION regress.dispute(
    modification text, pems jsonb, fields jsonb, kind text DEFAULT 'update_update', error text DEFAULT 'PEMS has other values.')
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    item    pfa_write_queue;
    mirror  pfa_mirror;
    claimed text;
BEGIN
    PERFORM _pems_prepare();
    UPDATE pfa_write_queue SET next_request = 'read' WHERE modification_id = modification AND status = 'pending' AND waits_for IS NULL RETURNING * INTO item;
    SELECT string_agg(c, ' ') INTO claimed FROM regress.claim(100, item.organization_id) c;
    IF claimed IS DISTINCT FROM modification THEN
        RAISE EXCEPTION '% was claimed instead of %', coalesce(claimed, 'nothing'), modification;
    END IF;
    SELECT * INTO mirror FROM pfa_mirror m WHERE m.organization_id = item.organization_id AND m.pfa_id = item.pfa_id;
    IF kind = 'deleted_in_pems' THEN
        PERFORM regress.record(regress.report(modification, 'conflict', jsonb_build_object(
            'event_type', 'READ_ATTEMPT', 'http_method', 'GET', 'http_status', 404, 'pems_version', mirror.version, 'mirror_deleted', true,
            'conflict_kind', kind, 'conflict_fields', fields, 'error_code', 'CONFLICT', 'error', error)));
        RETURN;
    END IF;
    PERFORM regress.record(regress.report(modification, 'pending', jsonb_build_object(
        'event_type', 'READ_ATTEMPT', 'http_method', 'GET', 'pems_version', mirror.version + 1, 'mirror_data', mirror.data || pems)));
    PERFORM regress.claim(100, item.organization_id);
    PERFORM regress.record(regress.report(modification, 'conflict', jsonb_build_object(
        'event_type', NULL, 'http_method', NULL, 'path', NULL, 'http_status', NULL, 'latency_ms', NULL,
        'conflict_kind', kind, 'conflict_fields', fields, 'error_code', 'CONFLICT', 'error', error)));
END
$$;

/* An edit of alice's, committed and in conflict. */
CREATE FUNCTION regress.conflict(
    id text, pfa_id text, delta jsonb, pems jsonb, fields jsonb, kind text DEFAULT 'update_update',
    organization_id text DEFAULT 'org-rio', base_version integer DEFAULT 1, operation text DEFAULT 'UPDATE')
RETURNS void LANGUAGE sql AS $$
    SELECT regress.queue(id, pfa_id, delta, organization_id => organization_id, base_version => base_version, operation => operation);
    SELECT regress.dispute(id, pems, fields, kind)
$$;

/* The newest conflict of a modification.  As its owner: the roles under test may not look into the table. */
CREATE FUNCTION regress.conflict_of(modification text) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS
$$ SELECT max(c.id) FROM public.pfa_sync_conflict c WHERE c.modification_id = modification $$;
