/*
 * 72_endpoints: credentials and endpoints as operators see them, and a call of PEMS right now.
 */

/*
 * _pems_endpoints(): the rows of the view pems_endpoints.  A function, because the application's table need not exist
 * yet when the view is made, and because readers may not read that table.
 * Errors: 55000 not attached.
 * Tables: organization, pems_credential, pems_pause.
 */
CREATE FUNCTION @extschema@._pems_endpoints(
    OUT organization_id text, OUT organization_code text, OUT api_url text, OUT endpoint text, OUT credential text,
    OUT credential_problem text, OUT key_id text, OUT generation bigint, OUT set_by text, OUT set_at timestamptz,
    OUT paused boolean, OUT breaker text, OUT rate integer, OUT in_flight integer, OUT faults integer,
    OUT waits_until timestamptz, OUT last_error text, OUT last_error_at timestamptz)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
#variable_conflict use_column
DECLARE
    key_file_problem CONSTANT text :=
        (SELECT coalesce(upper(left(w.last_error, 1)) || substr(w.last_error, 2) || '.', 'The key file cannot be used.')
         FROM @extschema@._pems_worker_state() w WHERE w.state = 'no_key');
BEGIN
    PERFORM @extschema@._pems_attached();
    RETURN QUERY
    SELECT o.id, o.code, c.api_url, c.endpoint,
           CASE WHEN c.organization_id IS NULL THEN 'no_credential'
                WHEN key_file_problem IS NOT NULL THEN 'no_key'
                WHEN c.state IS DISTINCT FROM 'no_key' AND c.state IS DISTINCT FROM 'cannot_open'
                     AND r.reason IS NOT NULL THEN 'refused_by_pems'
                ELSE c.state END,
           CASE WHEN c.organization_id IS NOT NULL THEN coalesce(key_file_problem, c.problem, r.reason) END,
           c.key_id, c.generation, c.set_by, c.set_at,
           EXISTS (SELECT FROM @extschema@.pems_pause p WHERE p.organization_id IN (o.id, '*')),
           e.breaker, e.rate_limit, e.in_flight, e.faults, e.waits_until, e.last_error, e.last_error_at
    FROM @extschema@.organization o
    LEFT JOIN @extschema@.pems_credential c ON c.organization_id = o.id
    LEFT JOIN LATERAL (SELECT coalesce(p.reason, 'PEMS refuses the credential.') AS reason FROM @extschema@.pems_pause p
                       WHERE p.organization_id = o.id AND p.cause = 'credential') r ON true
    LEFT JOIN @extschema@._pems_endpoint_states() e ON e.endpoint = c.endpoint;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_endpoints() IS 'Internal: the rows of the view pems_endpoints';

/*
 * pems_health_check(organization_id)
 *
 * Calls PEMS now: GET {api_url}/pems/health with the organization's credential.  The worker makes the call, within
 * the rate limit, and not while the breaker keeps everything away from the endpoint (a call that is due anyway closes
 * it again if PEMS answers).  The session waits: at most twice pems_sync.request_timeout
 * and five seconds.
 *
 * Returns: {healthy, latency, error}: latency in milliseconds, null when PEMS did not answer; error, a sentence, only
 *   when not healthy.  That there is no credential, no key or no worker is an answer, too.
 * Errors: P0002 unknown organization; 22023 NULL; 55000 not attached.
 * Tables: organization.
 */
CREATE FUNCTION @extschema@.pems_health_check(organization_id text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    -- An exception releases the locks on the application's tables: nobody who changes or drops them is to wait for a
    -- session that waits for PEMS.
    BEGIN
        PERFORM @extschema@._pems_organization(organization_id);
        RAISE EXCEPTION USING ERRCODE = 'PEMS0';
    EXCEPTION WHEN SQLSTATE 'PEMS0' THEN
        NULL;
    END;
    RETURN @extschema@._pems_ask_worker(organization_id);
END
$function$;
COMMENT ON FUNCTION @extschema@.pems_health_check(text) IS
    'Calls PEMS now: {healthy, latency} (ms), error when not healthy. Errors: P0002, 22023, 55000.';
