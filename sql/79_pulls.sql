/*
 * 79_pulls: how far pulls are, for pems_job() and the view pems_pulls.
 */

/*
 * _pems_pull_obstacle(organization): why no request can be made for it now, whatever is to be read; NULL: one can.
 * Tables: pems_pause, pems_credential.
 */
CREATE FUNCTION @extschema@._pems_pull_obstacle(organization text) RETURNS text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT coalesce(
        (SELECT CASE p.organization_id WHEN '*' THEN 'Sending is paused' ELSE 'The organization is paused' END
                || coalesce(': ' || p.reason, '.')
         FROM @extschema@.pems_pause p WHERE p.organization_id IN (organization, '*')
         ORDER BY p.organization_id, p.cause LIMIT 1),
        CASE WHEN c.organization_id IS NULL
             THEN 'The organization has no credential; set it with pems-credential set.' END,
        c.problem,
        CASE WHEN e.breaker <> 'closed'
             THEN format('PEMS at %s does not answer', e.endpoint) || coalesce(': ' || e.last_error, '.')
             WHEN e.waits_until > clock_timestamp()
             THEN format('PEMS at %s is asked again at %s', e.endpoint, @extschema@._pems_iso(e.waits_until))
                  || coalesce(': ' || e.last_error, '.') END)
    FROM (SELECT) one
    LEFT JOIN @extschema@.pems_credential c ON c.organization_id = organization
    LEFT JOIN @extschema@._pems_endpoint_states() e ON e.endpoint = c.endpoint
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_obstacle(text) IS
    'Internal: why no request can be made for an organization now';

/*
 * _pems_pull_progress(job): how far a pull is; no row: the job is no pull.
 *
 * Returns: the pull, and
 *   records_per_second  since it has started
 *   last_error          what went wrong last, or why no request can be made now
 *   percent, eta_seconds  where it is known how many records there are: from the last full listing, or from a mirror
 *                       that is not large; 100 and 0 when it is complete; NULL: not known
 * Tables: pems_pull_state, pems_pause, pems_credential.
 */
CREATE FUNCTION @extschema@._pems_pull_progress(
    job @extschema@.pems_sync_job, OUT mode text, OUT pfa_id text, OUT phase text, OUT pages integer,
    OUT records bigint, OUT created bigint, OUT updated bigint, OUT deleted bigint, OUT unchanged bigint,
    OUT stale bigint, OUT quarantined bigint, OUT missing bigint, OUT records_per_second numeric, OUT percent integer,
    OUT eta_seconds integer, OUT cancelled_by text, OUT error_code text, OUT last_error text,
    OUT next_at timestamptz)
RETURNS SETOF record
LANGUAGE sql VOLATILE ROWS 1 SET search_path = pg_catalog, pg_temp AS $function$
    SELECT s.mode, s.pfa_id, s.phase, s.pages, s.records, s.created, s.updated, s.deleted,
           -- below 0 while what was stored before a crash is read again
           greatest(0, s.unchanged), s.stale,
           s.quarantined, s.missing, round(r.rate, 1),
           CASE WHEN s.phase = 'ended'
                THEN CASE WHEN job.status = 'completed' OR s.error_code = 'QUARANTINED' THEN 100 END
                WHEN s.expected > 0 THEN least(99, 100 * s.records / s.expected)::integer END,
           CASE WHEN s.phase = 'ended'
                THEN CASE WHEN job.status = 'completed' OR s.error_code = 'QUARANTINED' THEN 0 END
                WHEN s.expected > 0 AND r.rate > 0
                THEN least(ceil(greatest(0, s.expected - s.records) / r.rate), 2147483647)::integer END,
           s.cancelled_by, s.error_code,
           coalesce(s.last_error, CASE WHEN s.phase <> 'ended' AND NOT s.under_way
                                       THEN @extschema@._pems_pull_obstacle(s.organization_id) END),
           s.next_at
    FROM @extschema@.pems_pull_state s
    CROSS JOIN LATERAL (
        SELECT s.records / nullif(greatest(extract(epoch FROM coalesce(job.finished_at, clock_timestamp())
                                                           - s.started_at), 0), 0) AS rate) r
    WHERE s.job_id = job.id
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_progress(@extschema@.pems_sync_job) IS 'Internal: how far a pull is';

/*
 * _pems_pulls(): the rows of the view pems_pulls.  A function, because the application's table need not exist yet when
 * the view is made, and because readers may not read our tables.
 * Errors: 55000 not attached.
 * Tables: organization, pems_pull_organization, pems_pull_state, pems_sync_job.
 */
CREATE FUNCTION @extschema@._pems_pulls(
    OUT organization_id text, OUT job_id text, OUT requested_by text, OUT created_at timestamptz, OUT mode text,
    OUT pfa_id text, OUT phase text, OUT pages integer, OUT records bigint, OUT created bigint, OUT updated bigint,
    OUT deleted bigint, OUT unchanged bigint, OUT stale bigint, OUT quarantined bigint,
    OUT records_per_second numeric, OUT percent integer, OUT eta_seconds integer, OUT next_at timestamptz,
    OUT last_error text, OUT watermark timestamptz, OUT last_delta_at timestamptz, OUT last_full_at timestamptz,
    OUT next_delta_at timestamptz)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
#variable_conflict use_column
BEGIN
    PERFORM @extschema@._pems_attached();
    RETURN QUERY
    SELECT a.id, j.id, j.requested_by, j.created_at, p.mode, p.pfa_id, p.phase, p.pages, p.records, p.created,
           p.updated, p.deleted, p.unchanged, p.stale, p.quarantined, p.records_per_second, p.percent, p.eta_seconds,
           p.next_at, CASE WHEN j.id IS NULL THEN coalesce(o.last_error, o.full_error) ELSE p.last_error END,
           o.watermark, o.last_delta_at, o.last_full_at,
           CASE WHEN @extschema@._pems_setting('pull_interval'::text) <> '0' THEN o.next_delta_at END
    FROM @extschema@.organization a
    LEFT JOIN @extschema@.pems_pull_organization o ON o.organization_id = a.id
    LEFT JOIN @extschema@.pems_pull_state s ON s.organization_id = a.id AND s.phase <> 'ended'
    LEFT JOIN @extschema@.pems_sync_job j ON j.id = s.job_id
    LEFT JOIN LATERAL @extschema@._pems_pull_progress(j) p ON j.id IS NOT NULL;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pulls() IS 'Internal: the rows of the view pems_pulls';
