/*
 * 50_commit: pems_commit(): drafts are checked and queued.
 *
 * The functions of the files 50 to 78 are what applications and administrators call.  They run with the rights of
 * pems_sync_worker (90_grants), check their arguments first, and change nothing when they raise an error.
 */

/*
 * _pems_waiting_now(organization, endpoint): how many items go to PEMS before, and with, the last one that the
 * organization has waiting now.  Organizations that share an endpoint take turns, so of each as many as the
 * organization has itself; of at most 100 others, and not of those that are paused.  From the summed statistics and the
 * newest 50 differences that are not summed yet: a busy database has thousands of those, and each commit would add them
 * all up.
 * Tables: pems_sync_stats, pems_credential, pems_pause.
 */
CREATE FUNCTION @extschema@._pems_waiting_now(organization text, endpoint text) RETURNS bigint
-- a session plans this once, maybe while the tables are empty
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $function$
DECLARE
    folded_until CONSTANT xid8 := @extschema@._pems_folded_until();
    ids          text[];
    differences  bigint[];
    own          bigint;
    everybodys   bigint;
BEGIN
    SELECT array_agg(d.organization_id), array_agg(d.waiting) INTO ids, differences
    FROM (SELECT n.organization_id, n.pending + n.processing AS waiting FROM @extschema@.pems_sync_stats n
          WHERE NOT n.folded AND n.transaction >= folded_until ORDER BY n.transaction DESC LIMIT 50) d;
    SELECT sum(s.waiting) FILTER (WHERE s.id = organization), sum(s.waiting) FILTER (WHERE s.everybody)
    INTO own, everybodys
    FROM (SELECT f.organization_id AS id, f.organization_id = '*' AS everybody, f.pending + f.processing AS waiting
          FROM @extschema@.pems_sync_stats f
          WHERE f.folded AND f.organization_id IN (organization, '*') AND f.hour = '-infinity'
          UNION ALL
          SELECT u.id, true, u.waiting FROM unnest(ids, differences) u (id, waiting)) s;
    own := greatest(own, 0);
    IF own = 0 OR everybodys <= own THEN
        RETURN own;
    END IF;
    RETURN own + coalesce((
        SELECT sum(greatest(0, least(own, coalesce(f.waiting, 0) + coalesce(
                   (SELECT sum(u.waiting) FROM unnest(ids, differences) u (id, waiting) WHERE u.id = c.organization_id),
                   0))))
        FROM (SELECT o.organization_id FROM @extschema@.pems_credential o
              WHERE o.endpoint = $2 AND o.organization_id <> organization LIMIT 100) c
        LEFT JOIN LATERAL (SELECT s.pending + s.processing AS waiting FROM @extschema@.pems_sync_stats s
                           WHERE s.folded AND s.organization_id = c.organization_id AND s.hour = '-infinity') f ON true
        WHERE NOT EXISTS (SELECT FROM @extschema@.pems_pause p WHERE p.organization_id = c.organization_id)), 0);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_waiting_now(text, text) IS
    'Internal: how many items go to PEMS before the last one that an organization has waiting';

/*
 * _pems_estimate(organization_id): when what waits now will probably be done: the items ahead at the speed that the
 * worker sees its endpoint have: that of the rate limit, or a lower one where answers take so long that all requests
 * that may be under way are.  Where it knows neither, at 1000 items per second, which is about what a database records.
 * Tables: pems_credential, and those of _pems_waiting_now().
 */
CREATE FUNCTION @extschema@._pems_estimate(organization_id text) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $function$
DECLARE
    most       CONSTANT double precision := 1000;
    rate_limit CONSTANT double precision := nullif(@extschema@._pems_setting('rate_limit'::text)::integer, 0);
    -- the mirror is read after each write
    requests   CONSTANT double precision :=
        CASE @extschema@._pems_setting('refresh_after_write'::text) WHEN 'always' THEN 2 ELSE 1 END;
    target     CONSTANT text := (SELECT c.endpoint FROM @extschema@.pems_credential c WHERE c.organization_id = $1);
    seen       record;
    waiting    bigint;
BEGIN
    waiting := @extschema@._pems_waiting_now($1, target);
    SELECT e.per_second, e.latency, e.waits_until INTO seen
    FROM (SELECT) one LEFT JOIN @extschema@._pems_endpoint_states() e ON e.endpoint = target;
    RETURN greatest(clock_timestamp(), seen.waits_until) + make_interval(
        secs => waiting / least(coalesce(seen.per_second, rate_limit, most) / requests, most)
                + CASE WHEN waiting > 0 THEN coalesce(seen.latency, 0) ELSE 0 END);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_estimate(text) IS 'Internal: when what waits now will probably be done';

/*
 * _pems_estimate_json(organization): estimatedCompletionTime of a call: as _pems_estimate() says; NULL when nothing of
 * the organization is being sent.
 */
CREATE FUNCTION @extschema@._pems_estimate_json(organization text) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RETURN CASE WHEN @extschema@._pems_why_not_sent(organization) IS NULL
                THEN @extschema@._pems_iso(@extschema@._pems_estimate(organization)) END;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_estimate_json(text) IS
    'Internal: when what waits now will probably be done, as JSON has it; NULL when nothing is being sent';

/*
 * _pems_commit_problem(sync_status, created_by, committed_by, pfa_id, operation, base_version, mirrored): why a
 * modification may not be committed, apart from its delta; NULL when it may. Written to be inlined into its query: no
 * SET clause.
 *
 * Parameters: mirrored: there is a mirror of the record.
 * Returns: {code, errors}; the codes are those of pems_commit().
 */
CREATE FUNCTION @extschema@._pems_commit_problem(
    sync_status text, created_by text, committed_by text, pfa_id text, operation text,
    base_version integer, mirrored boolean) RETURNS jsonb
LANGUAGE sql STABLE AS $function$
    SELECT CASE
        WHEN sync_status IS DISTINCT FROM 'draft' THEN pg_catalog.jsonb_build_object('code', 'NOT_DRAFT', 'errors',
            pg_catalog.jsonb_build_array('Modification is '
                || coalesce(pg_catalog.left(sync_status, 100), 'without a status') || ', not a draft'))
        WHEN committed_by IS NOT NULL AND committed_by IS DISTINCT FROM created_by THEN
            '{"code": "NOT_OWNER", "errors": ["Modification belongs to another user"]}'
        WHEN NOT coalesce(@extschema@._pems_valid_pfa_id(pfa_id), false) THEN
            '{"code": "INVALID_PFA_ID", '
            '"errors": ["PFA id must be 1 to 64 letters, digits, dots, underscores or hyphens"]}'
        WHEN NOT mirrored THEN
            '{"code": "NO_MIRROR", '
            '"errors": ["The record is not in pfa_mirror; read it from PEMS first, with pems_pull()"]}'
        WHEN base_version IS NULL THEN
            '{"code": "VALIDATION_FAILED", "errors": ["base_version is missing"]}'
        WHEN operation IS NULL OR operation NOT IN ('UPDATE', 'DELETE') THEN
            '{"code": "VALIDATION_FAILED", "errors": ["operation must be UPDATE or DELETE"]}' END
$function$;
COMMENT ON FUNCTION @extschema@._pems_commit_problem(text, text, text, text, text, integer, boolean) IS
    'Internal: why a modification may not be committed, apart from its delta; NULL when it may';

/*
 * _pems_size_problem(id, created_by, change_reason, delta_size, max_delta_size, record_size, max_record_size): why a
 * modification is too large to be committed, as _pems_commit_problem() says it; NULL when it is not.  Nothing that is
 * too large is fetched. Written to be inlined into its query: no SET clause.
 *
 * Parameters: sizes and limits in bytes.
 * Returns: {code, errors}
 */
CREATE FUNCTION @extschema@._pems_size_problem(
    id text, created_by text, change_reason text, delta_size integer, max_delta_size integer, record_size integer,
    max_record_size integer) RETURNS jsonb
LANGUAGE sql STABLE AS $function$
    SELECT CASE
        WHEN @extschema@._pems_long_id(id) THEN
            '{"code": "VALIDATION_FAILED", "errors": ["id must be at most 200 characters long"]}'
        WHEN pg_catalog.octet_length(created_by) > 1024 THEN
            '{"code": "VALIDATION_FAILED", "errors": ["created_by must be at most 1 kB long"]}'
        WHEN pg_catalog.octet_length(change_reason) > 1024 THEN
            '{"code": "VALIDATION_FAILED", "errors": ["change_reason must be at most 1 kB long"]}'
        WHEN delta_size > max_delta_size THEN pg_catalog.jsonb_build_object('code', 'VALIDATION_FAILED', 'errors',
            pg_catalog.jsonb_build_array('The changes must be at most '
                                         || pg_catalog.pg_size_pretty(max_delta_size::bigint)
                                         || ' (pems_sync.max_delta_size)'))
        WHEN record_size > max_record_size THEN pg_catalog.jsonb_build_object('code', 'VALIDATION_FAILED', 'errors',
            pg_catalog.jsonb_build_array('The record must be at most '
                                         || pg_catalog.pg_size_pretty(max_record_size::bigint)
                                         || ' (pems_sync.max_record_size)')) END
$function$;
COMMENT ON FUNCTION @extschema@._pems_size_problem(text, text, text, integer, integer, integer, integer) IS
    'Internal: why a modification is too large to be committed; NULL when it is not';

/*
 * _pems_draft_problem(id, sync_status, created_by, owner, pfa_id, operation, base_version, change_reason, delta,
 *                     max_delta_size, record, max_record_size): why a modification may not be committed; NULL when it
 * may. Written to be inlined into its query: no SET clause.
 *
 * Parameters: sync_status, record: as _pems_draft_facts() returns them.  owner: who must have made it; NULL: anybody.
 *   Sizes in bytes.
 * Returns: {code, errors}; the codes are those of pems_commit().
 */
CREATE FUNCTION @extschema@._pems_draft_problem(
    id text, sync_status text, created_by text, owner text, pfa_id text, operation text, base_version integer,
    change_reason text, delta jsonb, max_delta_size integer, record jsonb, max_record_size integer) RETURNS jsonb
LANGUAGE sql STABLE AS $function$
    SELECT coalesce(
        @extschema@._pems_commit_problem(sync_status, created_by, owner, pfa_id, operation, base_version,
                                         record IS NOT NULL),
        @extschema@._pems_size_problem(id, created_by, change_reason,
                                       @extschema@._pems_size(delta, max_delta_size::bigint), max_delta_size,
                                       @extschema@._pems_size(record, max_record_size::bigint), max_record_size),
        CASE WHEN operation = 'UPDATE'
             THEN @extschema@._pems_delta_problem(delta, nullif(record, 'null'::pg_catalog.jsonb)) END)
$function$;
COMMENT ON FUNCTION @extschema@._pems_draft_problem(text, text, text, text, text, text, integer, text, jsonb, integer,
    jsonb, integer) IS 'Internal: why a modification may not be committed; NULL when it may';

/*
 * _pems_draft_facts(organization_id, modification_id, pfa_id, sync_status): what must be known of a modification to say
 * whether it may be committed.  Written to be inlined into its query: no SET clause.
 *
 * Returns: one row: found_status: its sync_status, but queued where it has an unfinished item: an application that sets
 *   sync_status back does not remove an item from the queue; record: the mirror's data, null for none in it; NULL:
 *   there is no mirror.
 * Tables: pfa_write_queue, pfa_mirror.
 */
CREATE FUNCTION @extschema@._pems_draft_facts(
    organization_id text, modification_id text, pfa_id text, sync_status text)
RETURNS TABLE (found_status text, record jsonb)
LANGUAGE sql STABLE ROWS 1 AS $function$
    -- read by the modification's index: no other has this condition, and with LIMIT it cannot be a hash of all that
    -- waits
    SELECT CASE WHEN (SELECT true FROM @extschema@.pfa_write_queue q WHERE q.modification_id = $2
                      AND q.status IN ('pending', 'processing', 'conflict', 'failed') LIMIT 1)
                THEN 'queued' ELSE $4 END,
           -- no join: its plan, made when there were few records, would later read all of them for each commit
           (SELECT coalesce(m.data, 'null') FROM @extschema@.pfa_mirror m
            WHERE m.organization_id = $1 AND m.pfa_id = $3)
$function$;
COMMENT ON FUNCTION @extschema@._pems_draft_facts(text, text, text, text) IS
    'Internal: what must be known of a modification to say whether it may be committed';

/*
 * _pems_all_drafts(organization, author): the ids of the drafts of an organization, or of that user of it.
 * Tables: pfa_modification.
 */
CREATE FUNCTION @extschema@._pems_all_drafts(organization text, author text) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS $function$
BEGIN
    RETURN ARRAY(SELECT m.id FROM @extschema@.pfa_modification m
                 WHERE m.organization_id = organization AND m.sync_status = 'draft'
                   AND (author IS NULL OR m.created_by = author));
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_all_drafts(text, text) IS
    'Internal: the ids of the drafts of an organization, or of one user of it';

/*
 * _pems_add_missing(rejections, modification_ids, queued_ids): these rejections of a commit, and one more for each of
 * the modifications that is neither queued nor rejected, because it does not exist.  Of an id that is too long it has
 * the beginning.
 * Returns: [{modificationId, code, errors}]
 */
CREATE FUNCTION @extschema@._pems_add_missing(
    rejections jsonb, modification_ids text[], queued_ids text[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT coalesce(jsonb_agg(a.rejection ORDER BY a.rejection ->> 'modificationId'), '[]')
    FROM (SELECT r.rejection FROM jsonb_array_elements(rejections) r (rejection)
          UNION ALL
          SELECT jsonb_build_object('modificationId', m.id, 'code', 'NOT_FOUND', 'errors',
                                    jsonb_build_array('Modification not found'))
          FROM (SELECT left(w.id, 200) AS id FROM unnest(modification_ids) w (id) WHERE w.id IS NOT NULL
                EXCEPT SELECT q.id FROM unnest(queued_ids) q (id)
                EXCEPT SELECT r.rejection ->> 'modificationId' FROM jsonb_array_elements(rejections) r (rejection)) m) a
$function$;
COMMENT ON FUNCTION @extschema@._pems_add_missing(jsonb, text[], text[]) IS
    'Internal: the rejections of a commit, and one for each modification that does not exist';

/*
 * _pems_queue_drafts(organization, modification_ids, author, owner, actor, rank, kind): what pems_commit() does, for a
 * job of any kind.  One statement, in these steps: checked (drafts, locked, and what is wrong with each), ordered
 * (those without a problem, and which of them must wait for an earlier edit of the record), queued, audited, recheck.
 *
 * Parameters:
 *   modification_ids  the drafts; NULL: all of the organization (of author, if given)
 *   owner             who must have made each of them; NULL: anybody
 *   actor             for job and audit log
 *   rank              priority
 *   kind              of the job
 * Returns: job_id, NULL when nothing was queued; queued: how many were; rejections: [{modificationId, code, errors}].
 * Errors: none of its own; WARNING when no worker runs.
 * Tables: pfa_modification, pfa_mirror, pfa_write_queue, pems_sync_job, pems_audit_log, pems_recheck.
 */
CREATE FUNCTION @extschema@._pems_queue_drafts(
    organization text, modification_ids text[], author text, owner text, actor text, rank integer, kind text,
    OUT job_id text, OUT queued integer, OUT rejections jsonb)
-- Planning that statement takes longer than queueing one draft, so a session plans it once.  That may be while the
-- queue is still empty, when reading all of it looks cheap: the settings forbid that.
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    job        CONSTANT text := @extschema@._pems_uuid();
    retries    CONSTANT integer := @extschema@._pems_setting('max_retries'::text)::integer;
    max_delta  CONSTANT integer := @extschema@._pems_setting('max_delta_size'::text)::integer * 1024;
    max_record CONSTANT integer := @extschema@._pems_setting('max_record_size'::text)::integer * 1024;
    wanted_ids text[] := modification_ids;
    queued_ids text[];
BEGIN
    IF modification_ids IS NULL THEN
        wanted_ids := @extschema@._pems_all_drafts(organization, author);
    END IF;
    -- a dump that was loaded may have set it back: a later edit must not overtake
    IF @extschema@._pems_raise_sequence('@extschema@.pems_commit_order'::regclass,
        (SELECT q.commit_seq FROM @extschema@.pfa_write_queue q WHERE q.organization_id = organization
         ORDER BY q.commit_seq DESC LIMIT 1)) THEN
        PERFORM @extschema@._pems_keep_order(), @extschema@._pems_keep_states();
    END IF;
    WITH checked AS MATERIALIZED (
        SELECT d.id, d.pfa_id, d.operation, d.delta, d.base_version, d.created_by, d.change_reason, d.created_at,
               @extschema@._pems_draft_problem(d.id, d.found_status, d.created_by, owner, d.pfa_id, d.operation,
                                               d.base_version, d.change_reason, d.delta, max_delta, d.record,
                                               max_record) AS problem
        FROM (SELECT l.id, l.pfa_id, l.operation, l.delta, l.base_version, l.created_by, l.change_reason, l.created_at,
                     f.found_status, f.record
              FROM (-- locked in one order, so that two commits of the same drafts queue up instead of deadlocking
                    SELECT DISTINCT u.id FROM unnest(wanted_ids) u (id) ORDER BY u.id) w
              CROSS JOIN LATERAL (
                    SELECT m.id, m.pfa_id, m.operation, m.delta, m.base_version, m.created_by, m.change_reason,
                           m.created_at, m.sync_status
                    FROM @extschema@.pfa_modification m
                    -- the organization said so that no index over it fits: a plan for few drafts would read all of the
                    -- organization's later on
                    WHERE m.id = w.id AND (m.organization_id = organization) IS TRUE
                    FOR NO KEY UPDATE) l
              CROSS JOIN LATERAL @extschema@._pems_draft_facts(organization, l.id, l.pfa_id, l.sync_status) f
              -- where all drafts were asked for, one that another session has just committed is left out
              WHERE modification_ids IS NOT NULL OR l.sync_status = 'draft'
              -- not to be flattened: then _pems_draft_problem() would be called instead of inlined
              OFFSET 0) d
    ), ordered AS (
        SELECT c.*, row_number() OVER (PARTITION BY c.pfa_id ORDER BY c.created_at, c.id) > 1 OR (
                   -- in an order that only the index of the record has
                   SELECT true FROM @extschema@.pfa_write_queue e
                   WHERE e.organization_id = organization AND e.pfa_id = c.pfa_id AND e.unfinished
                   ORDER BY e.held, e.commit_seq LIMIT 1) IS NOT NULL AS held
        FROM checked c WHERE c.problem IS NULL
        ORDER BY c.created_at, c.id
    ), queued AS (
        INSERT INTO @extschema@.pfa_write_queue
            (commit_seq, modification_id, pfa_id, organization_id, operation, payload, base_version, base_at,
             created_by,
             change_reason, priority, waits_for, max_retries, job_id)
        SELECT nextval('@extschema@.pems_commit_order'), o.id, o.pfa_id, organization, o.operation,
               CASE WHEN o.operation = 'UPDATE' THEN o.delta ELSE '{}' END, o.base_version,
               coalesce(o.created_at, clock_timestamp()), o.created_by, o.change_reason, rank,
               CASE WHEN o.held THEN 'turn' END, retries, job
        FROM ordered o
        RETURNING id, modification_id, pfa_id, waits_for
    ), audited AS (
        INSERT INTO @extschema@.pems_audit_log (event_type, organization_id, pfa_id, modification_id, item_id, job_id,
                                                actor)
        SELECT 'COMMITTED', organization, q.pfa_id, q.modification_id, q.id, job, actor FROM queued q
    ), recheck AS (
        INSERT INTO @extschema@.pems_recheck (organization_id, pfa_id)
        SELECT DISTINCT organization, q.pfa_id FROM queued q WHERE q.waits_for = 'turn'
    )
    SELECT (SELECT array_agg(q.modification_id) FROM queued q),
           (SELECT coalesce(jsonb_agg(jsonb_build_object('modificationId', left(c.id, 200)) || c.problem
                                      ORDER BY c.id), '[]')
            FROM checked c WHERE c.problem IS NOT NULL)
    INTO queued_ids, rejections;
    queued := coalesce(cardinality(queued_ids), 0);
    IF cardinality(modification_ids) > queued + jsonb_array_length(rejections) THEN
        rejections := @extschema@._pems_add_missing(rejections, modification_ids, queued_ids);
    END IF;

    IF queued_ids IS NOT NULL THEN
        INSERT INTO @extschema@.pems_sync_job (id, organization_id, kind, requested_by, queued, rejected)
        VALUES (job, organization, kind, actor, queued, jsonb_array_length(rejections));
        PERFORM @extschema@._pems_app_mark_all(queued_ids, 'queued'::text);
        PERFORM @extschema@._pems_wake(false);
        PERFORM @extschema@._pems_warn_if_idle();
    END IF;
    job_id := CASE WHEN queued > 0 THEN job END;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_queue_drafts(text, text[], text, text, text, integer, text) IS
    'Internal: checks drafts and queues them, for a job of any kind';

/*
 * pems_commit(organization_id, modification_ids, committed_by, priority)
 *
 * Validates drafts and queues them for PEMS, in the caller's transaction: nothing leaves before
 * that commits, and nothing at all if it rolls back.
 *
 * Parameters:
 *   organization_id   organization.id
 *   modification_ids  the drafts; NULL: all of the organization (of committed_by, if given)
 *   committed_by      the user who commits; must be created_by of each draft unless the caller is a
 *                     member of pems_sync_admin; NULL: the database role is recorded, no check
 *   priority          high, normal or low
 * Returns: {success, jobId, queuedCount, rejected: [{modificationId, code, errors}],
 *   estimatedCompletionTime}.  A rejected draft stays a draft.  success is false when nothing was
 *   queued because everything was rejected.  modificationId: at most 200 characters.  estimatedCompletionTime: null
 *   when nothing was queued, or nothing of the organization is being sent.
 * Errors: P0002 unknown organization; 22023 unknown priority, modification_ids empty or too long, committed_by longer
 *   than 1 kB; 55000 not attached.
 *   WARNING when the worker is not running; the edits are queued all the same.
 * Tables: pfa_modification, pfa_mirror, pfa_write_queue, pems_sync_job, pems_audit_log, pems_recheck.
 */
CREATE FUNCTION @extschema@.pems_commit(
    organization_id text, modification_ids text[] DEFAULT NULL, committed_by text DEFAULT NULL,
    priority text DEFAULT 'normal')
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    organization CONSTANT text := @extschema@._pems_organization(organization_id);
    rank         CONSTANT integer := @extschema@._pems_priority(priority);
    actor        CONSTANT text := @extschema@._pems_actor(committed_by);
    owner        CONSTANT text := CASE WHEN NOT @extschema@._pems_is_admin() THEN committed_by END;
    wanted       CONSTANT text[] := @extschema@._pems_id_list(modification_ids, 'modification_ids'::text);
    done         record;
BEGIN
    SELECT d.* INTO done
    FROM @extschema@._pems_queue_drafts(
        organization, wanted, committed_by, owner, actor, rank, 'commit'::text) d;
    RETURN jsonb_build_object(
        'success', done.queued > 0 OR done.rejections = '[]',
        'jobId', done.job_id,
        'queuedCount', done.queued,
        'rejected', done.rejections,
        'estimatedCompletionTime', CASE WHEN done.queued > 0 THEN @extschema@._pems_estimate_json(organization) END);
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_commit(text, text[], text, text) IS
    'Validates drafts (NULL: all of the organization, or of committed_by) and queues them for PEMS. Returns {success, '
    'jobId, queuedCount, rejected, estimatedCompletionTime}; a rejected draft stays a draft. Errors: P0002, 22023, '
    '55000.';
