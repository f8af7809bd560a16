/*
 * An application with three organizations and a few PFA records, for the regression tests that
 * need one.  After regress_helpers.sql, regress_tables.sql and CREATE EXTENSION.
 *
 * RIO and RIO2 share a prefix, and both have a record PFA-1, so that a filter that is not exact shows.
 */
INSERT INTO organization (id, code, name) VALUES
    ('org-rio', 'RIO', 'Rio Grande'), ('org-rio2', 'RIO2', 'Rio Grande 2'), ('org-port', 'PORTARTHUR', 'Port Arthur');
INSERT INTO pfa_mirror (id, organization_id, pfa_id, version, data)
SELECT 'mirror-' || m.org || m.n, m.org, 'PFA-' || m.n, 1,
       jsonb_build_object('pfaId', 'PFA-' || m.n, 'category', 'Cranes', 'source', 'Rental', 'dor', 'BEO',
                          'monthlyRate', 5000, 'description', 'Crawler crane',
                          'forecastStart', '2025-01-15T00:00:00Z', 'forecastEnd', '2025-06-30T00:00:00Z')
FROM (SELECT 'org-rio' AS org, n FROM generate_series(1, 6) n
      UNION ALL SELECT 'org-rio2', n FROM generate_series(1, 2) n
      UNION ALL SELECT 'org-port', 9) m;

/* A draft of alice's, unless it says otherwise.  created_at grows, so that commit order is the order of the calls. */
CREATE FUNCTION regress.draft(
    id text, pfa_id text, delta jsonb DEFAULT '{"monthlyRate": 5500}', created_by text DEFAULT 'alice',
    organization_id text DEFAULT 'org-rio', base_version integer DEFAULT 1, operation text DEFAULT 'UPDATE',
    change_reason text DEFAULT NULL)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by, created_at, operation, change_reason)
    VALUES (id, organization_id, pfa_id, base_version, delta, created_by, clock_timestamp(), operation, change_reason)
$$;

/* pems_commit() of these drafts; fails when one is rejected. */
CREATE FUNCTION regress.commit(ids text[], organization_id text DEFAULT 'org-rio', priority text DEFAULT 'normal')
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    result jsonb;
BEGIN
    SET LOCAL client_min_messages = error;
    result := pems_commit(organization_id, ids, priority => priority);
    IF result -> 'rejected' <> '[]' THEN
        RAISE EXCEPTION 'rejected: %', result -> 'rejected';
    END IF;
    RETURN result -> 'queuedCount';
END
$$;

/* Drafts and commits one edit. */
CREATE FUNCTION regress.queue(
    id text, pfa_id text, delta jsonb DEFAULT '{"monthlyRate": 5500}', created_by text DEFAULT 'alice',
    organization_id text DEFAULT 'org-rio', base_version integer DEFAULT 1, operation text DEFAULT 'UPDATE',
    change_reason text DEFAULT NULL, priority text DEFAULT 'normal')
RETURNS integer LANGUAGE sql AS $$
    SELECT regress.draft(id, pfa_id, delta, created_by, organization_id, base_version, operation, change_reason);
    SELECT regress.commit(ARRAY[id], organization_id, priority)
$$;

/* Items are deleted, also those in flight: of these modifications, or (none given) all. */
CREATE FUNCTION regress.empty_queue(VARIADIC modification_ids text[] DEFAULT NULL) RETURNS void LANGUAGE sql SECURITY DEFINER AS $$
    ALTER TABLE public.pfa_write_queue DISABLE TRIGGER pems_item_delete;
    DELETE FROM public.pfa_write_queue WHERE modification_ids IS NULL OR modification_id = ANY (modification_ids);
    ALTER TABLE public.pfa_write_queue ENABLE ALWAYS TRIGGER pems_item_delete;
$$;

/* The queue in commit order, by modification. */
CREATE VIEW regress.items AS
    SELECT q.modification_id, q.status, q.waits_for, q.next_request, q.outcome_unknown, q.attempt, q.retry_count,
           q.rounds, q.sent_version, q.error_code
    FROM pfa_write_queue q ORDER BY q.commit_seq;
GRANT SELECT ON regress.items TO PUBLIC;

/*
 * A report on the item of a modification, as the worker would give it to _pems_record(): a write
 * that was answered with 200, changed by what changes says.
 */
CREATE FUNCTION regress.report(modification text, new_status text, changes jsonb DEFAULT '{}') RETURNS _pems_report
LANGUAGE sql AS $$
    SELECT jsonb_populate_record(NULL::_pems_report, jsonb_build_object(
               'item_id', q.id, 'organization_id', q.organization_id, 'pfa_id', q.pfa_id, 'modification_id', q.modification_id,
               'job_id', q.job_id, 'created_by', d.created_by, 'change_reason', d.change_reason, 'step', q.next_request,
               'was_unknown', q.outcome_unknown, 'claim_token', q.claim_token, 'attempt', q.attempt, 'new_status', new_status,
               'next_request', 'write', 'outcome_unknown', false, 'retry_count', q.retry_count, 'rounds', q.rounds,
               'seen_version', m.version, 'mirror_deleted', false, 'event_type', 'WRITE_ATTEMPT', 'http_method', 'PUT',
               'path', '/pems/pfa/' || q.pfa_id, 'http_status', 200, 'latency_ms', 12.5, 'pause', false) || changes)
    FROM pfa_write_queue q
    LEFT JOIN pfa_modification d ON d.id = q.modification_id
    LEFT JOIN pfa_mirror m ON m.organization_id = q.organization_id AND m.pfa_id = q.pfa_id
    WHERE q.modification_id = modification ORDER BY q.commit_seq DESC LIMIT 1
$$;

/* PEMS applied the write: version sent + 1, mirror = mirror plus delta. */
CREATE FUNCTION regress.applied(modification text, changes jsonb DEFAULT '{}') RETURNS _pems_report
LANGUAGE sql AS $$
    SELECT regress.report(modification, 'completed', jsonb_build_object('pems_version', q.sent_version + 1, 'mirror_patch', q.payload) || changes)
    FROM pfa_write_queue q WHERE q.modification_id = modification ORDER BY q.commit_seq DESC LIMIT 1
$$;

/* Claims for one organization, as the worker does: what was claimed, by modification, in the order of the answer. */
CREATE FUNCTION regress.claim(slots integer DEFAULT 100, organization_id text DEFAULT 'org-rio') RETURNS SETOF text
LANGUAGE sql AS $$
    SELECT q.modification_id
    FROM _pems_claim(ARRAY[organization_id], ARRAY[slots]) WITH ORDINALITY AS c JOIN pfa_write_queue q ON q.id = c.item_id
    ORDER BY c.ordinality
$$;

/* _pems_record(): the modifications whose items are done with. */
CREATE FUNCTION regress.record(VARIADIC reports _pems_report[]) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT string_agg(q.modification_id, ' ' ORDER BY d.ordinality)
            FROM unnest((_pems_record(reports, false)).recorded) WITH ORDINALITY AS d (id) JOIN pfa_write_queue q ON q.id = d.id);
END
$$;
