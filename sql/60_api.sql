/*
 * 60_api: the functions that applications and administrators call.  They run with the
 * rights of pems_sync_worker (90_grants), check their arguments first, and change nothing when they
 * raise an error.
 */

/*
 * _pems_attached(): raises 55000 when the host tables are not attached, or are not what they were then.  Whatever
 * names a host table with rights that its owner does not have calls this first.
 */
CREATE FUNCTION @extschema@._pems_attached() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF NOT EXISTS (SELECT FROM @extschema@.pems_control) OR NOT @extschema@._pems_host_intact(false) THEN
        RAISE EXCEPTION 'pems_sync is not attached to the tables of the application'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = coalesce(nullif(array_to_string(@extschema@._pems_host_problems(
                                        EXISTS (SELECT FROM @extschema@.pems_control)), E'\n'), ''),
                                    'pems_attach() has not run.'),
                  HINT = 'Run SELECT @extschema@.pems_attach().';
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_attached() IS 'Internal: raises 55000 when the host tables are not attached, or not what they were then';

/*
 * _pems_short(value, argument): returns the value; raises 22023 when it is longer than 1 kB.  It is measured without
 * being fetched.
 */
CREATE FUNCTION @extschema@._pems_short(value text, argument text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF octet_length(value) > 1024 THEN
        RAISE EXCEPTION '% is longer than 1 kB', argument
            USING ERRCODE = 'invalid_parameter_value', DETAIL = format('It has %s bytes.', octet_length(value)),
                  HINT = 'Pass a shorter text.';
    END IF;
    RETURN value;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_short(text, text) IS 'Internal: raises 22023 when a text is longer than 1 kB';

/*
 * _pems_actor(named): who acts: the user that the caller names, or the database role.
 * Errors: 22023 when the name is longer than 1 kB.
 */
CREATE FUNCTION @extschema@._pems_actor(named text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RETURN coalesce(@extschema@._pems_short(named, 'the name of the user'::text), @extschema@._pems_caller());
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_actor(text) IS 'Internal: the user that the caller names, or the database role; 22023 when the name is longer than 1 kB';

/*
 * _pems_long_id(id): is an id longer than 200 characters?  One that is much longer is not fetched for that.  Written to be
 * inlined into its query: no SET clause.
 */
CREATE FUNCTION @extschema@._pems_long_id(id text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $function$
    SELECT CASE WHEN pg_catalog.octet_length(id) <= 200 THEN false
                WHEN pg_catalog.octet_length(id) > 800 THEN true
                ELSE pg_catalog.length(id) > 200 END
$function$;
COMMENT ON FUNCTION @extschema@._pems_long_id(text) IS 'Internal: is an id longer than 200 characters?';

/*
 * _pems_id(id, argument): returns the id; raises 22023 when it is longer than 200 characters.
 */
CREATE FUNCTION @extschema@._pems_id(id text, argument text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF @extschema@._pems_long_id(id) THEN
        RAISE EXCEPTION '% is longer than 200 characters', argument
            USING ERRCODE = 'invalid_parameter_value', DETAIL = format('It has %s bytes.', octet_length(id)),
                  HINT = 'Use shorter ids.';
    END IF;
    RETURN id;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_id(text, text) IS 'Internal: raises 22023 when an id is longer than 200 characters';

/*
 * _pems_organization(organization_id): returns it when it exists, else raises P0002; 22023 when it is NULL or longer than
 * 200 characters; 55000 when the host tables are not attached.
 */
CREATE FUNCTION @extschema@._pems_organization(organization_id text) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
BEGIN
    PERFORM @extschema@._pems_attached();
    IF organization_id IS NULL THEN
        RAISE EXCEPTION 'organization_id must not be null'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass organization.id of the organization.';
    END IF;
    PERFORM @extschema@._pems_id(organization_id, 'organization_id'::text);
    IF NOT EXISTS (SELECT FROM @extschema@.organization o WHERE o.id = organization_id) THEN
        RAISE EXCEPTION 'organization "%" does not exist', left(organization_id, 100)
            USING ERRCODE = 'no_data_found', HINT = 'Pass organization.id, not the code or the name.';
    END IF;
    RETURN organization_id;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_organization(text) IS 'Internal: raises P0002 when the organization does not exist';

/*
 * _pems_priority(name): high = 10, normal = 0, low = -10; 22023 for anything else.
 */
CREATE FUNCTION @extschema@._pems_priority(name text) RETURNS integer
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    priority integer := CASE name WHEN 'high' THEN 10 WHEN 'normal' THEN 0 WHEN 'low' THEN -10 END;
BEGIN
    IF priority IS NULL THEN
        RAISE EXCEPTION 'unknown priority %', coalesce('"' || left(name, 100) || '"', 'NULL')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use high, normal or low.';
    END IF;
    RETURN priority;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_priority(text) IS 'Internal: number of a priority';

/*
 * _pems_page_size(rows): how many rows a page may have, 1 to 1000; 22023 for anything else.
 */
CREATE FUNCTION @extschema@._pems_page_size(rows integer) RETURNS integer
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF rows IS NULL OR rows NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION 'page_size must be between 1 and 1000'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', coalesce(rows::text, 'NULL')),
                  HINT = 'Ask for a smaller page, and for the next one with the id of its last row.';
    END IF;
    RETURN rows;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_page_size(integer) IS 'Internal: raises 22023 when a page size is out of range';

/*
 * _pems_is_admin(): is the caller a member of pems_sync_admin (or a superuser)?
 */
CREATE FUNCTION @extschema@._pems_is_admin() RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RETURN pg_has_role(@extschema@._pems_caller()::name, 'pems_sync_admin', 'USAGE');
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_is_admin() IS 'Internal: is the caller an administrator of pems_sync?';

/*
 * _pems_warn_if_idle(): a WARNING when nobody will send what was just queued.
 */
CREATE FUNCTION @extschema@._pems_warn_if_idle() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF NOT EXISTS (SELECT FROM @extschema@._pems_worker_state() w WHERE w.pid IS NOT NULL) THEN
        RAISE WARNING 'the pems_sync worker of database "%" is not running', current_database()
            USING DETAIL = 'The edits are queued and will be sent when it runs.',
                  HINT = CASE WHEN EXISTS (SELECT FROM @extschema@._pems_worker_state())
                              THEN 'See the server''s log. If the worker never started, raise max_worker_processes and restart the server.'
                              ELSE 'Set shared_preload_libraries = ''pems_sync'' and list the database in pems_sync.databases, then restart the server.' END;
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_warn_if_idle() IS 'Internal: WARNING when the worker is not running';

/*
 * _pems_estimate(organization_id): when what waits now will probably be done: the pending items at the rate limit, or
 * at 1000 per second without one.  From the folded statistics and the newest 50 differences that are not folded yet: a
 * busy database has thousands of those, and each commit would add them all up.
 */
CREATE FUNCTION @extschema@._pems_estimate(organization_id text) RETURNS timestamptz
-- a session plans this once, maybe while the table is empty
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $function$
DECLARE
    folded_until CONSTANT xid8 := @extschema@._pems_folded_until();
    waiting      bigint;
BEGIN
    SELECT sum(w.waiting) INTO waiting
    FROM (SELECT s.pending + s.processing AS waiting FROM @extschema@.pems_sync_stats s
          WHERE s.folded AND s.organization_id = $1 AND s.hour = '-infinity'
          UNION ALL
          (SELECT CASE WHEN d.organization_id = $1 THEN d.pending + d.processing END FROM @extschema@.pems_sync_stats d
           WHERE NOT d.folded AND d.transaction >= folded_until ORDER BY d.transaction DESC LIMIT 50)) w;
    RETURN clock_timestamp() + make_interval(secs => greatest(0, coalesce(waiting, 0))::double precision
                                   / coalesce(nullif(@extschema@._pems_setting('rate_limit'::text)::integer, 0), 1000));
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_estimate(text) IS 'Internal: when what waits now will probably be done';

/*
 * _pems_check_draft(): why a modification may not be committed, apart from what is wrong with its delta; NULL when it may.
 * Returns {code, errors}; the codes are those of pems_commit().  Written to be inlined into its query: no SET clause.
 */
CREATE FUNCTION @extschema@._pems_check_draft(
    sync_status text, created_by text, committed_by text, pfa_id text, operation text,
    base_version integer, mirrored boolean) RETURNS jsonb
LANGUAGE sql STABLE AS $function$
    SELECT CASE
        WHEN sync_status IS DISTINCT FROM 'draft' THEN pg_catalog.jsonb_build_object('code', 'NOT_DRAFT', 'errors',
            pg_catalog.jsonb_build_array('Modification is ' || coalesce(pg_catalog.left(sync_status, 100), 'without a status') || ', not a draft'))
        WHEN committed_by IS NOT NULL AND committed_by IS DISTINCT FROM created_by THEN
            '{"code": "NOT_OWNER", "errors": ["Modification belongs to another user"]}'
        WHEN NOT coalesce(@extschema@._pems_valid_pfa_id(pfa_id), false) THEN
            '{"code": "INVALID_PFA_ID", "errors": ["PFA id must be 1 to 64 letters, digits, dots, underscores or hyphens"]}'
        WHEN NOT mirrored THEN
            '{"code": "NO_MIRROR", "errors": ["The record is not mirrored; pull it from PEMS first"]}'
        WHEN base_version IS NULL THEN
            '{"code": "VALIDATION_FAILED", "errors": ["base_version is missing"]}'
        WHEN operation IS NULL OR operation NOT IN ('UPDATE', 'DELETE') THEN
            '{"code": "VALIDATION_FAILED", "errors": ["operation must be UPDATE or DELETE"]}' END
$function$;
COMMENT ON FUNCTION @extschema@._pems_check_draft(text, text, text, text, text, integer, boolean) IS 'Internal: why a modification may not be committed, apart from its delta; NULL when it may';

/*
 * _pems_check_size(id, created_by, change_reason, delta_size, max_delta_size, record_size, max_record_size): why a
 * modification is too large to be committed, as _pems_check_draft() says it; NULL when it is not.  Nothing is fetched that
 * is too large.  Written to be inlined into its query: no SET clause.
 *
 * Parameters: sizes and limits in bytes.
 */
CREATE FUNCTION @extschema@._pems_check_size(
    id text, created_by text, change_reason text, delta_size integer, max_delta_size integer, record_size integer,
    max_record_size integer) RETURNS jsonb
LANGUAGE sql STABLE AS $function$
    SELECT CASE
        WHEN @extschema@._pems_long_id(id) THEN
            '{"code": "VALIDATION_FAILED", "errors": ["id must not be longer than 200 characters"]}'
        WHEN pg_catalog.octet_length(created_by) > 1024 THEN
            '{"code": "VALIDATION_FAILED", "errors": ["created_by must not be longer than 1 kB"]}'
        WHEN pg_catalog.octet_length(change_reason) > 1024 THEN
            '{"code": "VALIDATION_FAILED", "errors": ["change_reason must not be longer than 1 kB"]}'
        WHEN delta_size > max_delta_size THEN pg_catalog.jsonb_build_object('code', 'VALIDATION_FAILED', 'errors',
            pg_catalog.jsonb_build_array('The changes must not be larger than ' || pg_catalog.pg_size_pretty(max_delta_size::bigint)
                                         || ' (pems_sync.max_delta_size)'))
        WHEN record_size > max_record_size THEN pg_catalog.jsonb_build_object('code', 'VALIDATION_FAILED', 'errors',
            pg_catalog.jsonb_build_array('The record must not be larger than ' || pg_catalog.pg_size_pretty(max_record_size::bigint)
                                         || ' (pems_sync.max_record_size)')) END
$function$;
COMMENT ON FUNCTION @extschema@._pems_check_size(text, text, text, integer, integer, integer, integer) IS 'Internal: why a modification is too large to be committed; NULL when it is not';

/*
 * _pems_add_missing(rejections, modification_ids, queued_ids): these rejections of a commit, and one for each of the
 * modifications that is neither queued nor rejected: there is none such.  Of an id that is too long the beginning.
 */
CREATE FUNCTION @extschema@._pems_add_missing(rejections jsonb, modification_ids text[], queued_ids text[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT coalesce(jsonb_agg(a.rejection ORDER BY a.rejection ->> 'modificationId'), '[]')
    FROM (SELECT r.rejection FROM jsonb_array_elements(rejections) r (rejection)
          UNION ALL
          SELECT jsonb_build_object('modificationId', m.id, 'code', 'NOT_FOUND', 'errors', jsonb_build_array('Modification not found'))
          FROM (SELECT left(w.id, 200) AS id FROM unnest(modification_ids) w (id) WHERE w.id IS NOT NULL
                EXCEPT SELECT q.id FROM unnest(queued_ids) q (id)
                EXCEPT SELECT r.rejection ->> 'modificationId' FROM jsonb_array_elements(rejections) r (rejection)) m) a
$function$;
COMMENT ON FUNCTION @extschema@._pems_add_missing(jsonb, text[], text[]) IS 'Internal: the rejections of a commit, and one for each modification that does not exist';

/*
 * _pems_queue_drafts(organization, modification_ids, author, owner, actor, rank, kind): what pems_commit() does,
 * for a job of any kind.
 *
 * Parameters:
 *   modification_ids  the drafts; NULL: all of the organization (of author, if given)
 *   owner             who must have made each of them; NULL: no check
 *   actor             for job and audit log
 *   rank              priority
 * Returns: job_id, NULL when nothing was queued; queued: how many were; rejections: [{modificationId, code, errors}].
 */
CREATE FUNCTION @extschema@._pems_queue_drafts(
    organization text, modification_ids text[], author text, owner text, actor text, rank integer, kind text,
    OUT job_id text, OUT queued integer, OUT rejections jsonb)
-- planning that statement takes longer than queueing one draft; so a session plans it once, and that may be when the
-- queue is still empty, where reading all of it looks cheap
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    job        CONSTANT text := @extschema@._pems_uuid();
    retries    CONSTANT integer := @extschema@._pems_setting('max_retries'::text)::integer;
    max_delta  CONSTANT integer := @extschema@._pems_setting('max_delta_size'::text)::integer * 1024;
    max_record CONSTANT integer := @extschema@._pems_setting('max_record_size'::text)::integer * 1024;
    wanted_ids text[] := modification_ids;
    queued_ids text[];
BEGIN
    IF modification_ids IS NULL THEN
        wanted_ids := ARRAY(SELECT m.id FROM @extschema@.pfa_modification m
                            WHERE m.organization_id = organization AND m.sync_status = 'draft'
                              AND (author IS NULL OR m.created_by = author));
    END IF;
    WITH checked AS MATERIALIZED (
        -- the delta is checked here and not inside _pems_check_draft(): so the field catalogue is read once
        SELECT d.id, d.pfa_id, d.operation, d.delta, d.base_version, d.created_by, d.change_reason, d.created_at,
               coalesce(@extschema@._pems_check_draft(d.sync_status, d.created_by, owner, d.pfa_id, d.operation,
                                                      d.base_version, d.record IS NOT NULL),
                        @extschema@._pems_check_size(d.id, d.created_by, d.change_reason, @extschema@._pems_size(d.delta), max_delta,
                                                     @extschema@._pems_size(d.record), max_record),
                        CASE WHEN d.operation = 'UPDATE' THEN @extschema@._pems_check_delta(d.delta, nullif(d.record, 'null'::jsonb)) END) AS problem
        FROM (SELECT l.id, l.pfa_id, l.operation, l.delta, l.base_version, l.created_by, l.change_reason, l.created_at,
                     -- an application that sets sync_status back does not take an item out of the queue
                     -- (by the modification's index: no other has this condition, and with LIMIT it cannot be a hash of all that waits)
                     CASE WHEN (SELECT true FROM @extschema@.pfa_write_queue q WHERE q.modification_id = l.id
                                AND q.status IN ('pending', 'processing', 'conflict', 'failed') LIMIT 1)
                          THEN 'queued' ELSE l.sync_status END AS sync_status,
                     -- no join: its plan, made when there were few records, would go on to read all of them for each commit
                     (SELECT coalesce(m.data, 'null') FROM @extschema@.pfa_mirror m
                      WHERE m.organization_id = organization AND m.pfa_id = l.pfa_id) AS record
              FROM (-- locked in one order, so that two commits of the same drafts queue up instead of deadlocking
                    SELECT DISTINCT u.id FROM unnest(wanted_ids) u (id) ORDER BY u.id) w
              CROSS JOIN LATERAL (
                    SELECT m.id, m.pfa_id, m.operation, m.delta, m.base_version, m.created_by, m.change_reason, m.created_at,
                           m.sync_status
                    FROM @extschema@.pfa_modification m
                    -- the organization said so that no index over it fits: a plan for few drafts would read all of the
                    -- organization's later on
                    WHERE m.id = w.id AND (m.organization_id = organization) IS TRUE
                    FOR NO KEY UPDATE) l
              -- asked for all drafts: one that another session has just committed is simply none any more
              WHERE modification_ids IS NOT NULL OR l.sync_status = 'draft'
              -- not to be flattened: then _pems_check_draft() would be called instead of inlined
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
            (commit_seq, modification_id, pfa_id, organization_id, operation, payload, base_version, base_at, created_by,
             change_reason, priority, waits_for, max_retries, job_id)
        SELECT nextval('@extschema@.pems_commit_order'), o.id, o.pfa_id, organization, o.operation,
               CASE WHEN o.operation = 'UPDATE' THEN o.delta ELSE '{}' END, o.base_version,
               coalesce(o.created_at, clock_timestamp()), o.created_by, o.change_reason, rank,
               CASE WHEN o.held THEN 'turn' END, retries, job
        FROM ordered o
        RETURNING id, modification_id, pfa_id, waits_for
    ), audited AS (
        INSERT INTO @extschema@.pems_audit_log (event_type, organization_id, pfa_id, modification_id, item_id, job_id, actor)
        SELECT 'COMMITTED', organization, q.pfa_id, q.modification_id, q.id, job, actor FROM queued q
    ), recheck AS (
        INSERT INTO @extschema@.pems_recheck (organization_id, pfa_id)
        SELECT DISTINCT organization, q.pfa_id FROM queued q WHERE q.waits_for = 'turn'
    )
    SELECT (SELECT array_agg(q.modification_id) FROM queued q),
           (SELECT coalesce(jsonb_agg(jsonb_build_object('modificationId', left(c.id, 200)) || c.problem ORDER BY c.id), '[]')
            FROM checked c WHERE c.problem IS NOT NULL)
    INTO queued_ids, rejections;
    queued := coalesce(cardinality(queued_ids), 0);
    IF cardinality(modification_ids) > queued + jsonb_array_length(rejections) THEN
        rejections := @extschema@._pems_add_missing(rejections, modification_ids, queued_ids);
    END IF;

    IF queued_ids IS NOT NULL THEN
        INSERT INTO @extschema@.pems_sync_job (id, organization_id, kind, requested_by, queued, rejected)
        VALUES (job, organization, kind, actor, queued, jsonb_array_length(rejections));
        PERFORM @extschema@._pems_host_mark(queued_ids, array_fill('queued'::text, ARRAY[cardinality(queued_ids)]),
                    array_fill(NULL::integer, ARRAY[cardinality(queued_ids)]), array_fill(NULL::text, ARRAY[cardinality(queued_ids)]));
        PERFORM @extschema@._pems_wake(false);
        PERFORM @extschema@._pems_warn_if_idle();
    END IF;
    job_id := CASE WHEN queued > 0 THEN job END;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_queue_drafts(text, text[], text, text, text, integer, text) IS 'Internal: checks drafts and queues them, for a job of any kind';

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
 *   queued because everything was rejected.  modificationId: 200 characters at the most.
 * Errors: P0002 unknown organization; 22023 unknown priority, committed_by longer than 1 kB; 55000 not attached.
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
    done         record;
BEGIN
    SELECT d.* INTO done
    FROM @extschema@._pems_queue_drafts(organization, modification_ids, committed_by, owner, actor, rank, 'commit'::text) d;
    RETURN jsonb_build_object(
        'success', done.queued > 0 OR done.rejections = '[]',
        'jobId', done.job_id,
        'queuedCount', done.queued,
        'rejected', done.rejections,
        'estimatedCompletionTime', CASE WHEN done.queued > 0
            THEN @extschema@._pems_iso(@extschema@._pems_estimate(organization)) END);
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_commit(text, text[], text, text) IS 'Validates drafts (NULL: all of the organization, or of committed_by) and queues them for PEMS. Returns {success, jobId, queuedCount, rejected, estimatedCompletionTime}; a rejected draft stays a draft. Errors: P0002, 22023, 55000.';

/*
 * _pems_due_at(outcome_unknown, last_attempt_at): when an item may be due at the earliest: now, or two seconds after a
 * write that may still be under way.  Written to be inlined into its query: no SET clause.
 */
CREATE FUNCTION @extschema@._pems_due_at(outcome_unknown boolean, last_attempt_at timestamptz) RETURNS timestamptz
LANGUAGE sql VOLATILE AS $function$
    SELECT greatest(pg_catalog.clock_timestamp(), CASE WHEN outcome_unknown THEN last_attempt_at + interval '2 seconds' END)
$function$;
COMMENT ON FUNCTION @extschema@._pems_due_at(boolean, timestamptz) IS 'Internal: when an item may be due at the earliest';

/*
 * _pems_waiting(organization, modification_ids, rank): the items of pems_write_sync(), without locking them.
 *
 * Returns: to_change: ids of those that have another priority, or are not due yet; NULL: none; due: how many others wait.
 * Finished items are not read: all that wait come from their own index (whose order nobody else's has), others by
 * their modification.
 */
CREATE FUNCTION @extschema@._pems_waiting(
    organization text, modification_ids text[], rank integer, OUT to_change text[], OUT due integer)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_sort = off SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
    SELECT array_agg(w.id) FILTER (WHERE w.changes), (count(*) FILTER (WHERE NOT w.changes))::integer
    FROM (SELECT i.id, i.priority <> rank OR (i.waits_for IS NOT NULL
                     AND i.scheduled_at > @extschema@._pems_due_at(i.outcome_unknown, i.last_attempt_at)) AS changes
          FROM (
              (SELECT q.id, q.organization_id, q.priority, q.waits_for, q.scheduled_at, q.outcome_unknown, q.last_attempt_at
               FROM @extschema@.pfa_write_queue q
               WHERE modification_ids IS NULL AND q.organization_id = organization AND q.unfinished AND q.in_line
                 AND q.status = 'pending'
               ORDER BY q.created_at OFFSET 0)
              UNION ALL
              SELECT f.* FROM (SELECT DISTINCT u.id FROM unnest(modification_ids) u (id)) m CROSS JOIN LATERAL (
                  SELECT q.id, q.organization_id, q.priority, q.waits_for, q.scheduled_at, q.outcome_unknown, q.last_attempt_at
                  FROM @extschema@.pfa_write_queue q
                  -- not to be flattened: no other index than the modification's is to be thought of
                  WHERE q.modification_id = m.id AND q.status = 'pending' OFFSET 0) f
              WHERE f.organization_id = organization) i) w
$function$;
COMMENT ON FUNCTION @extschema@._pems_waiting(text, text[], integer) IS 'Internal: the items of pems_write_sync(), those that it has to change and how many others';

/*
 * _pems_hasten(item_ids, rank): makes those of these items that still wait due, with that priority.
 * Returns: how many.
 */
CREATE FUNCTION @extschema@._pems_hasten(item_ids text[], rank integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    places  tid[];
    changed integer;
BEGIN
    SELECT array_agg(l.place) INTO places
    FROM (SELECT DISTINCT u.id FROM unnest(item_ids) u (id) ORDER BY u.id) w
    CROSS JOIN LATERAL (SELECT q.ctid AS place FROM @extschema@.pfa_write_queue q
                        WHERE q.id = w.id AND q.status = 'pending' FOR NO KEY UPDATE) l;
    -- by place, which cannot change while we hold the lock: a join by id may be planned to read all of the queue
    UPDATE @extschema@.pfa_write_queue q
    SET priority = rank, scheduled_at = @extschema@._pems_due_at(q.outcome_unknown, q.last_attempt_at),
        waits_for = CASE WHEN q.waits_for IN ('turn', 'resume') THEN q.waits_for
                         WHEN @extschema@._pems_due_at(q.outcome_unknown, q.last_attempt_at) > clock_timestamp() THEN 'time' END
    FROM unnest(places) p (place) WHERE q.ctid = p.place;
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_hasten(text[], integer) IS 'Internal: makes waiting items due, with a priority; returns how many';

/*
 * pems_write_sync(organization_id, modification_ids, priority)
 *
 * Makes waiting items due now, with that priority.  Items that wait for their turn keep waiting, but
 * take the priority with them.  An item whose write may still be under way in PEMS waits out its
 * two seconds.  What is due already, with that priority, is neither locked nor written; the others are locked in the order of
 * their ids, so that several who call this at once queue up instead of deadlocking.
 *
 * Parameters: organization_id; modification_ids: NULL = all that wait; priority: high, normal, low.
 * Returns: {success, jobId, queuedCount, estimatedCompletionTime}; queuedCount: the items that were asked for and wait.
 * Errors: P0002 unknown organization; 22023 unknown priority; 55000 not attached.
 * Tables: pfa_write_queue, pems_sync_job.
 */
CREATE FUNCTION @extschema@.pems_write_sync(
    organization_id text, modification_ids text[] DEFAULT NULL, priority text DEFAULT 'normal')
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    organization CONSTANT text := @extschema@._pems_organization(organization_id);
    rank         CONSTANT integer := @extschema@._pems_priority(priority);
    job          CONSTANT text := @extschema@._pems_uuid();
    waiting      record;
    changed      integer := 0;
    touched      integer;
BEGIN
    SELECT w.* INTO waiting FROM @extschema@._pems_waiting(organization, modification_ids, rank) w;
    IF waiting.to_change IS NOT NULL THEN
        changed := @extschema@._pems_hasten(waiting.to_change, rank);
    END IF;
    touched := waiting.due + changed;

    IF touched > 0 THEN
        INSERT INTO @extschema@.pems_sync_job (id, organization_id, kind, requested_by, queued)
        VALUES (job, organization, 'write_sync', @extschema@._pems_caller(), touched);
        PERFORM @extschema@._pems_wake(false);
        PERFORM @extschema@._pems_warn_if_idle();
    END IF;
    RETURN jsonb_build_object(
        'success', true, 'jobId', CASE WHEN touched > 0 THEN job END, 'queuedCount', touched,
        'estimatedCompletionTime', @extschema@._pems_iso(@extschema@._pems_estimate(organization)));
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_write_sync(text, text[], text) IS 'Makes waiting items due now, with that priority. Returns {success, jobId, queuedCount, estimatedCompletionTime}. Errors: P0002, 22023, 55000.';

/*
 * pems_discard(modification_id, discarded_by, organization_id)
 *
 * Takes a modification back before it is sent.  A draft is discarded; an item that waits, is in
 * conflict or is a dead letter is cancelled, and the items behind it go on.
 *
 * Returns: {success, modificationId, outcome}: cancelled; in_flight when it is being sent or may
 *   already have arrived: too late, the result will be recorded.
 * Errors: P0002 no such modification (or of another organization); 55000 already finished; 22023 modification_id longer
 *   than 200 characters, discarded_by longer than 1 kB.
 * Tables: pfa_modification, pfa_write_queue, pfa_sync_conflict, pems_audit_log, pems_recheck.
 */
CREATE FUNCTION @extschema@.pems_discard(
    modification_id text, discarded_by text DEFAULT NULL, organization_id text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    wanted       CONSTANT text := @extschema@._pems_id(modification_id, 'modification_id'::text);
    scope        CONSTANT text := organization_id;
    actor        CONSTANT text := @extschema@._pems_actor(discarded_by);
    modification record;
    item         record;
    conflict     text;
BEGIN
    PERFORM @extschema@._pems_attached();

    SELECT m.id, m.organization_id, m.pfa_id, m.sync_status INTO modification
    FROM @extschema@.pfa_modification m
    WHERE m.id = wanted AND m.organization_id = coalesce(scope, m.organization_id) FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'modification % does not exist', coalesce('"' || left(wanted, 100) || '"', 'NULL')
            USING ERRCODE = 'no_data_found', HINT = 'Pass pfa_modification.id, and the organization that it belongs to.';
    END IF;

    SELECT q.id, q.status, q.job_id, q.outcome_unknown OR q.next_request = 'refresh' AS sent INTO item
    FROM @extschema@.pfa_write_queue q
    WHERE q.modification_id = wanted ORDER BY q.commit_seq DESC LIMIT 1 FOR NO KEY UPDATE;

    IF item.status = 'processing' OR (item.status = 'pending' AND item.sent) THEN
        RETURN jsonb_build_object('success', false, 'modificationId', wanted, 'outcome', 'in_flight');
    END IF;
    IF coalesce(item.status, modification.sync_status) NOT IN ('draft', 'committed', 'pending', 'conflict', 'failed') THEN
        RAISE EXCEPTION 'modification "%" is finished', wanted
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('Its status is %s.', left(modification.sync_status, 100)),
                  HINT = 'To undo a change that PEMS has, make a new modification.';
    END IF;

    UPDATE @extschema@.pfa_write_queue q SET status = 'cancelled', waits_for = NULL, completed_at = clock_timestamp()
    WHERE q.id = item.id;
    UPDATE @extschema@.pfa_sync_conflict c
    SET status = 'resolved_manual', resolution = 'use_pems', resolved_by = actor, resolved_at = clock_timestamp()
    WHERE c.item_id = item.id AND c.status = 'unresolved'
    RETURNING c.id INTO conflict;
    INSERT INTO @extschema@.pems_audit_log
        (event_type, organization_id, pfa_id, modification_id, item_id, job_id, conflict_id, actor)
    VALUES ('DISCARDED', modification.organization_id, modification.pfa_id, wanted, item.id, item.job_id, conflict, actor);
    INSERT INTO @extschema@.pems_recheck (organization_id, pfa_id)
    SELECT modification.organization_id, modification.pfa_id WHERE item.id IS NOT NULL;
    PERFORM @extschema@._pems_host_mark(ARRAY[wanted], ARRAY['discarded'::text], ARRAY[NULL::integer], ARRAY[NULL::text]);
    PERFORM @extschema@._pems_wake(false);
    RETURN jsonb_build_object('success', true, 'modificationId', wanted, 'outcome', 'cancelled');
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_discard(text, text, text) IS 'Takes a modification back before it is sent. Returns {success, modificationId, outcome}: cancelled, or in_flight (too late; the result will be recorded). Errors: P0002, 55000.';

/*
 * _pems_check_json(value, argument, setting): raises 22023 when the value is larger than that setting allows.
 */
CREATE FUNCTION @extschema@._pems_check_json(value jsonb, argument text, setting text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    most CONSTANT integer := @extschema@._pems_setting(setting)::integer * 1024;
BEGIN
    IF @extschema@._pems_size(value) > most THEN
        RAISE EXCEPTION '% is larger than %', argument, pg_size_pretty(most::bigint)
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It has %s bytes, and pems_sync.%s is %s.', @extschema@._pems_size(value), setting,
                                  pg_size_pretty(most::bigint)),
                  HINT = 'Pass less, or have a superuser raise the setting.';
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_check_json(jsonb, text, text) IS 'Internal: raises 22023 when a value is larger than a setting allows';

/*
 * pems_validate(changes, current)
 *
 * Checks changes against the field catalogue and the business rules, on the record as it would
 * become (current with changes on top).
 *
 * Returns: {valid, errors}
 * Errors: 22023 when changes or current is no JSON object, or larger than pems_commit() would take.
 * Tables: pems_field.
 */
CREATE FUNCTION @extschema@.pems_validate(changes jsonb, current jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    problem jsonb;
BEGIN
    PERFORM @extschema@._pems_check_json(changes, 'changes'::text, 'max_delta_size'::text);
    PERFORM @extschema@._pems_check_json(current, 'current'::text, 'max_record_size'::text);
    IF jsonb_typeof(changes) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'changes must be a JSON object'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', coalesce(jsonb_typeof(changes), 'NULL')),
                  HINT = 'Pass the changed fields, for example {"monthlyRate": 5500}.';
    END IF;
    IF jsonb_typeof(current) NOT IN ('object', 'null') THEN
        RAISE EXCEPTION 'current must be a JSON object'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = format('It is %s.', jsonb_typeof(current)),
                  HINT = 'Pass pfa_mirror.data of the record, or leave it out.';
    END IF;
    IF changes <> '{}' THEN
        problem := @extschema@._pems_check_delta(changes, nullif(current, 'null'::jsonb));
    END IF;
    RETURN jsonb_build_object('valid', problem IS NULL, 'errors', coalesce(problem -> 'errors', '[]'));
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_validate(jsonb, jsonb) IS 'Checks changes against the field catalogue and the rules, on current with changes on top. Returns {valid, errors}. Error 22023 when an argument is no object.';

/*
 * _pems_pick_dead_letters(item_ids, organization): locks the dead letters with these ids, or (NULL) all, and
 * returns their ids.
 * Errors: P0002 when one does not exist (or belongs to another organization); 55000 when one is no dead letter.
 */
CREATE FUNCTION @extschema@._pems_pick_dead_letters(item_ids text[], organization text) RETURNS text[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    wanted  text[] := item_ids;
    picked  text[];
    missing text;
    wrong   text;
BEGIN
    IF item_ids IS NULL THEN
        SELECT array_agg(q.id) INTO wanted FROM @extschema@.pfa_write_queue q
        WHERE q.stopped AND q.status = 'failed' AND (organization IS NULL OR q.organization_id = organization);
    END IF;
    -- Modifications first, as everywhere; what others did to them meanwhile is seen below.  Each row is looked up by
    -- itself: a join may be planned to read all of a table.
    PERFORM FROM (
        SELECT DISTINCT i.modification_id
        FROM unnest(wanted) u (id) CROSS JOIN LATERAL (
            SELECT q.modification_id FROM @extschema@.pfa_write_queue q
            WHERE q.id = u.id AND (organization IS NULL OR q.organization_id = organization) LIMIT 1) i
        ORDER BY i.modification_id) w
    CROSS JOIN LATERAL (SELECT m.id FROM @extschema@.pfa_modification m WHERE m.id = w.modification_id FOR NO KEY UPDATE) l;
    PERFORM FROM (SELECT DISTINCT u.id FROM unnest(wanted) u (id) ORDER BY u.id) w
    CROSS JOIN LATERAL (
        SELECT q.id FROM @extschema@.pfa_write_queue q
        WHERE q.id = w.id AND (organization IS NULL OR q.organization_id = organization) FOR NO KEY UPDATE) l;

    SELECT array_agg(q.id) FILTER (WHERE item_ids IS NOT NULL OR q.status = 'failed'),
           string_agg(format('%s is %s', q.id, q.status), ', ' ORDER BY q.commit_seq) FILTER (WHERE q.status <> 'failed')
    INTO picked, wrong
    FROM (SELECT DISTINCT u.id FROM unnest(wanted) u (id)) w
    CROSS JOIN LATERAL (
        SELECT i.id, i.status, i.commit_seq FROM @extschema@.pfa_write_queue i
        WHERE i.id = w.id AND (organization IS NULL OR i.organization_id = organization) LIMIT 1) q;
    IF item_ids IS NULL THEN
        RETURN picked;
    END IF;
    SELECT string_agg(DISTINCT left(u.id, 100), ', ') INTO missing
    FROM unnest(item_ids) u (id) WHERE u.id IS NOT NULL AND u.id <> ALL (coalesce(picked, '{}'));
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'no such item'
            USING ERRCODE = 'no_data_found', DETAIL = format('Not found: %s.', left(missing, 1000)),
                  HINT = 'Pass ids from the view pems_dead_letters, and the organization that they belong to.';
    END IF;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'an item is no dead letter'
            USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = format('%s.', left(wrong, 1000)),
                  HINT = 'Only items in status failed can be retried; see the view pems_dead_letters.';
    END IF;
    RETURN picked;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pick_dead_letters(text[], text) IS 'Internal: locks dead letters for a retry; P0002 or 55000 when one of them is none';

/*
 * pems_retry(item_ids, organization_id, retried_by)
 *
 * Queues dead letters again, with all their retries and at their old place in the order of their record.
 * Each begins with a read: it is decided again against PEMS as it is now.
 *
 * Parameters:
 *   item_ids         from the view pems_dead_letters; NULL: all (of the organization, if given)
 *   organization_id  whose they must be; NULL: any
 *   retried_by       the administrator; NULL: the database role
 * Returns: {success, requeuedCount, jobId}; jobId: the job that the items belong to from now on, null when
 *   there was nothing to retry.
 * Errors, which leave everything as it was: P0002 unknown organization or item; 55000 an item is no dead letter,
 *   or not attached; 22023 retried_by longer than 1 kB.
 * Tables: pfa_write_queue, pfa_modification, pems_sync_job, pems_audit_log, pems_recheck.
 */
CREATE FUNCTION @extschema@.pems_retry(
    item_ids text[] DEFAULT NULL, organization_id text DEFAULT NULL, retried_by text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $function$
DECLARE
    actor        CONSTANT text := @extschema@._pems_actor(retried_by);
    job          CONSTANT text := @extschema@._pems_uuid();
    organization text;
    picked       text[];
BEGIN
    PERFORM @extschema@._pems_attached();
    IF organization_id IS NOT NULL THEN
        organization := @extschema@._pems_organization(organization_id);
    END IF;
    picked := @extschema@._pems_pick_dead_letters(item_ids, organization);

    IF picked IS NOT NULL THEN
        INSERT INTO @extschema@.pems_sync_job (id, organization_id, kind, requested_by, queued)
        SELECT job, CASE WHEN min(q.organization_id) = max(q.organization_id) THEN min(q.organization_id) END, 'retry', actor, count(*)
        FROM @extschema@.pfa_write_queue q WHERE q.id = ANY (picked);
        INSERT INTO @extschema@.pems_audit_log
            (event_type, organization_id, pfa_id, modification_id, item_id, job_id, actor, error_code, error)
        SELECT 'RETRIED', q.organization_id, q.pfa_id, q.modification_id, q.id, job, actor, q.error_code, q.last_error
        FROM @extschema@.pfa_write_queue q WHERE q.id = ANY (picked);
        PERFORM @extschema@._pems_requeue(picked, 'read'::text, job);
    END IF;
    RETURN jsonb_build_object('success', true, 'requeuedCount', coalesce(cardinality(picked), 0),
                              'jobId', CASE WHEN picked IS NOT NULL THEN job END);
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_retry(text[], text, text) IS 'Queues dead letters again (NULL: all), to be decided against PEMS as it is now. Returns {success, requeuedCount, jobId}. Errors: P0002 unknown organization or item, 55000 no dead letter.';

/*
 * _pems_lock_credentials(dropping): one administrator at a time sets credentials, until the transaction ends; and none
 * while a rotation drops keys.  What is locked is a row, and a table, that only functions of the extension can lock, so
 * nobody else can stop it.
 * Parameters: dropping: keys are to be dropped; else a credential is to be set.
 * Errors: 55000 when another session has it for ten seconds.
 * Tables: pems_control (locked), pems_credential (locked).
 */
CREATE FUNCTION @extschema@._pems_lock_credentials(dropping boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s' AS $function$
DECLARE
    holders text;
BEGIN
    IF dropping THEN
        LOCK TABLE @extschema@.pems_credential IN SHARE MODE;
    ELSE
        PERFORM FROM @extschema@.pems_control c FOR NO KEY UPDATE;
        LOCK TABLE @extschema@.pems_credential IN ROW EXCLUSIVE MODE;
    END IF;
EXCEPTION WHEN lock_not_available THEN
    -- who waits for the row, as we did, has a lock on its table, too
    SELECT string_agg(DISTINCT l.pid::text, ', ') INTO holders
    FROM pg_locks l
    WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_backend_pid()
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND CASE l.relation WHEN '@extschema@.pems_control'::regclass THEN NOT dropping AND l.mode <> 'AccessShareLock'
                          WHEN '@extschema@.pems_credential'::regclass THEN
                              l.mode IN ('ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
                              OR l.mode = CASE WHEN dropping THEN 'RowExclusiveLock' ELSE 'ShareLock' END
                          ELSE false END
      AND NOT EXISTS (SELECT FROM pg_locks w WHERE w.pid = l.pid AND NOT w.granted);
    RAISE EXCEPTION 'another session has locked the credentials'
        USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = concat('Ten seconds were not enough for it to end its transaction.',
                              ' It is process ' || holders || '.'),
              HINT = 'It sets or rotates credentials, or attaches the tables. Try again when it has ended; '
                     'pg_stat_activity shows what it does.';
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_lock_credentials(boolean) IS
    'Internal: one administrator at a time sets credentials, none while keys are dropped';

/*
 * _pems_credential_target(code): for pems-credential: the organization and the generation that its
 * next credential gets.  Locks the credentials, so that two administrators who set one at the same time come one
 * after the other.
 * Errors: P0002 unknown code; 55000 when another session has locked them for ten seconds.
 */
CREATE FUNCTION @extschema@._pems_credential_target(code text, OUT organization_id text, OUT generation bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    PERFORM @extschema@._pems_attached();
    SELECT o.id INTO organization_id FROM @extschema@.organization o WHERE o.code = $1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no organization has the code %', coalesce('"' || left($1, 100) || '"', 'NULL')
            USING ERRCODE = 'no_data_found', HINT = 'See the column code of table organization.';
    END IF;
    PERFORM @extschema@._pems_lock_credentials(dropping => false);
    SELECT coalesce(max(c.generation), 0) + 1 INTO generation
    FROM @extschema@.pems_credential c WHERE c.organization_id = _pems_credential_target.organization_id;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_credential_target(text) IS 'Internal: for pems-credential, organization and next generation';

/*
 * _pems_sealed_credentials(): for pems-credential rotate: all credentials as they are stored.  They are sealed, so who
 * reads them has not read a token.
 */
CREATE FUNCTION @extschema@._pems_sealed_credentials(
    OUT organization_id text, OUT code text, OUT api_url text, OUT sealed_token bytea, OUT key_id text, OUT generation bigint)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    PERFORM @extschema@._pems_attached();
    RETURN QUERY SELECT c.organization_id, o.code, c.api_url, c.sealed_token, c.key_id, c.generation
                 FROM @extschema@.pems_credential c JOIN @extschema@.organization o ON o.id = c.organization_id
                 ORDER BY o.code;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_sealed_credentials() IS 'Internal: for pems-credential rotate, all credentials as they are stored';

/*
 * _pems_needed_keys(): for pems-credential rotate: the keys that credentials of this database are sealed to.  None
 * can be stored before the caller's transaction ends, so that it may drop all other keys meanwhile.  (A credential that
 * is stored afterwards is sealed to a key that is still there: pems-credential set looks before it commits.)
 * Errors: 55000 when another session has locked them for ten seconds.
 * Tables: pems_credential (locked).
 */
CREATE FUNCTION @extschema@._pems_needed_keys() RETURNS SETOF text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    PERFORM @extschema@._pems_lock_credentials(dropping => true);
    RETURN QUERY SELECT DISTINCT c.key_id FROM @extschema@.pems_credential c;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_needed_keys() IS 'Internal: for pems-credential rotate, the keys that credentials are sealed to; locks them';

/*
 * _pems_check_sealed(api_url, sealed_token, key_id): raises 22023 when they cannot be what pems-credential makes.  What is
 * too large would only be read by the worker, in vain.
 */
CREATE FUNCTION @extschema@._pems_check_sealed(api_url text, sealed_token bytea, key_id text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF api_url IS NULL OR coalesce(octet_length(sealed_token), 0) NOT BETWEEN 48 AND 65536 OR octet_length(key_id) IS DISTINCT FROM 16
       OR key_id !~ '^[0-9a-f]{16}$' THEN
        RAISE EXCEPTION 'a credential needs api_url, sealed_token and key_id'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Use the program pems-credential; it seals the token and calls this function.';
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_check_sealed(text, bytea, text) IS 'Internal: raises 22023 when the parts of a credential cannot be what pems-credential makes';

/*
 * _pems_reseal_credential(organization_id, generation, old_key_id, sealed_token, key_id): for pems-credential rotate: the same
 * token, sealed to another key.  Nothing that was paused goes on, because nothing is new for PEMS.
 * Returns: false when the credential is not that one any more: somebody has set a new one, which is sealed to the new key
 *   already.
 * Errors: 55000 when another session has locked the credentials for ten seconds.
 */
CREATE FUNCTION @extschema@._pems_reseal_credential(
    organization_id text, generation bigint, old_key_id text, sealed_token bytea, key_id text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    PERFORM @extschema@._pems_check_sealed(''::text, $4, $5);
    PERFORM @extschema@._pems_lock_credentials(dropping => false);
    UPDATE @extschema@.pems_credential c SET sealed_token = $4, key_id = $5, state = NULL, problem = NULL
    WHERE c.organization_id = $1 AND c.generation = $2 AND c.key_id = $3;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO @extschema@.pems_audit_log (event_type, organization_id, actor, request)
    VALUES ('CREDENTIAL_CHANGED', $1, @extschema@._pems_caller(), jsonb_build_object('resealedTo', $5, 'before', $3));
    PERFORM @extschema@._pems_wake(configuration => true);
    RETURN true;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_reseal_credential(text, bigint, text, bytea, text) IS 'Internal: for pems-credential rotate, the same token sealed to another key; false when somebody has set a new one';

/*
 * pems_set_credential(organization_id, api_url, sealed_token, key_id, set_by)
 *
 * Stores a sealed credential; the program pems-credential calls it.  A token in the clear never
 * comes near SQL.  Items of an organization that was paused because PEMS refused its credential go on.
 *
 * Parameters: api_url: https://host/path, host in pems_sync.allowed_hosts; sealed_token:
 *   crypto_box_seal of organization code, URL, generation and token; key_id: key it is sealed to.
 * Returns: {success, organizationId, generation}
 * Errors: P0002 unknown organization; 22023 api_url not allowed, nothing sealed, or set_by longer than 1 kB; 55000 when
 *   another session has locked the credentials for ten seconds.
 * Tables: pems_credential, pems_pause, pems_audit_log.
 */
CREATE FUNCTION @extschema@.pems_set_credential(
    organization_id text, api_url text, sealed_token bytea, key_id text, set_by text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    organization CONSTANT text := @extschema@._pems_organization(organization_id);
    actor        CONSTANT text := @extschema@._pems_actor(set_by);
    generation   bigint;
    endpoint     text;
BEGIN
    PERFORM @extschema@._pems_short(api_url, 'api_url'::text);
    PERFORM @extschema@._pems_check_sealed(api_url, sealed_token, key_id);
    endpoint := @extschema@._pems_check_api_url(api_url);
    PERFORM @extschema@._pems_lock_credentials(dropping => false);

    INSERT INTO @extschema@.pems_credential AS c (organization_id, api_url, endpoint, sealed_token, key_id, generation, set_by)
    VALUES (organization, pems_set_credential.api_url, endpoint, pems_set_credential.sealed_token,
            pems_set_credential.key_id, 1, actor)
    ON CONFLICT ON CONSTRAINT pems_credential_pkey DO UPDATE
        SET api_url = excluded.api_url, endpoint = excluded.endpoint, sealed_token = excluded.sealed_token,
            key_id = excluded.key_id, generation = c.generation + 1, set_by = excluded.set_by, set_at = now(),
            state = NULL, problem = NULL
    RETURNING c.generation INTO generation;
    DELETE FROM @extschema@.pems_pause p WHERE p.organization_id = organization AND p.cause = 'credential';
    INSERT INTO @extschema@.pems_audit_log (event_type, organization_id, actor, path)
    VALUES ('CREDENTIAL_CHANGED', organization, actor, api_url);
    PERFORM @extschema@._pems_wake(configuration => true);
    RETURN jsonb_build_object('success', true, 'organizationId', organization, 'generation', generation);
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_set_credential(text, text, bytea, text, text) IS 'Stores a sealed credential; called by the program pems-credential. Errors: P0002 unknown organization, 22023 api_url not allowed.';

/*
 * _pems_take_over(target): items that another database queued (this one is a copy, or a dump was loaded into it) are ours from
 * now on, and go on.
 *
 * Parameters: target: the organization; *: all.
 * Returns: how many.
 * Tables: pfa_write_queue, pems_recheck.
 */
CREATE FUNCTION @extschema@._pems_take_over(target text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $function$
DECLARE
    this_database CONSTANT bigint := @extschema@._pems_database_id();
    taken         bigint;
BEGIN
    WITH changed AS (
        UPDATE @extschema@.pfa_write_queue q
        SET queued_in = this_database, waits_for = CASE q.waits_for WHEN 'resume' THEN 'turn' ELSE q.waits_for END
        WHERE q.unfinished AND target IN (q.organization_id, '*') AND q.queued_in <> this_database
        RETURNING q.organization_id, q.pfa_id
    ), recheck AS (
        INSERT INTO @extschema@.pems_recheck (organization_id, pfa_id) SELECT DISTINCT c.organization_id, c.pfa_id FROM changed c
    )
    SELECT count(*) INTO taken FROM changed;
    RETURN taken;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_take_over(text) IS 'Internal: items that another database queued are ours from now on';

/*
 * pems_pause(organization_id, reason, paused_by), pems_resume(organization_id, resumed_by)
 *
 * Stop and start sending, for one organization or (NULL) all.  Requests in flight finish.  Resume also
 * lifts a pause that came from a refused credential; resume of all runs pems_attach() first where that has something to
 * do, which is how a restored copy is put to work.  (Not always, because it locks the application's tables.)  Items that
 * another database queued, which are not sent before, become ours.
 *
 * Returns: {success, paused}
 * Errors: P0002 unknown organization; 22023 reason or the name of the user longer than 1 kB; 55000 from pems_attach().
 * Tables: pems_pause, pems_audit_log.
 */
CREATE FUNCTION @extschema@.pems_pause(
    organization_id text DEFAULT NULL, reason text DEFAULT NULL, paused_by text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    target CONSTANT text := CASE WHEN organization_id IS NULL THEN '*' ELSE @extschema@._pems_organization(organization_id) END;
    actor  CONSTANT text := @extschema@._pems_actor(paused_by);
BEGIN
    PERFORM @extschema@._pems_short(reason, 'reason'::text);
    INSERT INTO @extschema@.pems_pause (organization_id, cause, reason, paused_by)
    VALUES (target, 'administrator', pems_pause.reason, actor)
    ON CONFLICT ON CONSTRAINT pems_pause_pkey DO UPDATE
        SET reason = excluded.reason, paused_by = excluded.paused_by, paused_at = now();
    INSERT INTO @extschema@.pems_audit_log (event_type, organization_id, actor, error)
    VALUES ('PAUSED', pems_pause.organization_id, actor, pems_pause.reason);
    PERFORM @extschema@._pems_wake(configuration => true);
    RETURN jsonb_build_object('success', true, 'paused', true);
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_pause(text, text, text) IS 'Stops sending for one organization, or (NULL) for all; requests in flight finish. Error P0002.';

CREATE FUNCTION @extschema@.pems_resume(organization_id text DEFAULT NULL, resumed_by text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    target  CONSTANT text := CASE WHEN organization_id IS NULL THEN '*' ELSE @extschema@._pems_organization(organization_id) END;
    actor   CONSTANT text := @extschema@._pems_actor(resumed_by);
    -- looked at before pems_attach() makes it an original
    is_copy CONSTANT boolean := @extschema@._pems_standing() = 'copy';
BEGIN
    IF target = '*' AND (@extschema@._pems_standing() <> 'ok' OR NOT @extschema@._pems_host_intact(false)
                         OR EXISTS (SELECT FROM @extschema@._pems_host_missing())) THEN
        PERFORM @extschema@.pems_attach(false);
    END IF;
    IF is_copy OR EXISTS (SELECT FROM @extschema@.pfa_write_queue q WHERE q.in_line AND q.waits_for = 'resume') THEN
        PERFORM @extschema@._pems_take_over(target);
    END IF;
    DELETE FROM @extschema@.pems_pause p WHERE target IN (p.organization_id, '*');
    INSERT INTO @extschema@.pems_audit_log (event_type, organization_id, actor)
    VALUES ('RESUMED', pems_resume.organization_id, actor);
    PERFORM @extschema@._pems_wake(configuration => true);
    RETURN jsonb_build_object('success', true, 'paused',
        EXISTS (SELECT FROM @extschema@.pems_pause p WHERE p.organization_id IN (target, '*')));
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_resume(text, text) IS 'Starts sending again, for one organization or (NULL) all; for all, pems_attach() runs first where something of it is missing. Errors: P0002, 55000.';
