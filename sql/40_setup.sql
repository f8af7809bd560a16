/*
 * 40_setup: what the worker reads before it sends: may it, and with which credentials; and what it found.
 *
 * The files 40 to 46 are what the worker calls.  They run as pems_sync_worker, in the worker's short transactions, and
 * wait for nothing but a row lock.
 */

/*
 * _pems_standing(): may the worker send anything from this database?
 * Returns: ok; not_attached; copy (attached in another cluster or database: a restored dump).
 * Tables: pems_control.
 */
CREATE FUNCTION @extschema@._pems_standing() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT coalesce((SELECT CASE WHEN c.cluster = @extschema@._pems_cluster() THEN 'ok' ELSE 'copy' END
                     FROM @extschema@.pems_control c), 'not_attached')
$function$;
COMMENT ON FUNCTION @extschema@._pems_standing() IS 'Internal: ok, not_attached, or copy (a restored dump)';

/*
 * _pems_organizations(): organizations that have a credential, for the worker.
 * Tables: pems_credential, organization.
 */
CREATE FUNCTION @extschema@._pems_organizations(
    OUT organization_id text, OUT code text, OUT api_url text, OUT endpoint text, OUT sealed_token bytea,
    OUT key_id text, OUT generation bigint)
RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT c.organization_id, o.code, c.api_url, c.endpoint, c.sealed_token, c.key_id, c.generation
    FROM @extschema@.pems_credential c JOIN @extschema@.organization o ON o.id = c.organization_id
    ORDER BY c.organization_id
$function$;
COMMENT ON FUNCTION @extschema@._pems_organizations() IS
    'Internal: organizations with their sealed credentials, for the worker';

/*
 * _pems_note_credentials(organization_ids, states, problems): writes down what the worker found when it opened the
 * credentials.
 * Parameters: arrays in step; states: ok, no_key or cannot_open; problems: a sentence, or ''.
 * Tables: pems_credential.
 */
CREATE FUNCTION @extschema@._pems_note_credentials(organization_ids text[], states text[], problems text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    UPDATE @extschema@.pems_credential c SET state = n.state, problem = nullif(n.problem, '')
    FROM unnest(organization_ids, states, problems) AS n (id, state, problem)
    WHERE c.organization_id = n.id AND (c.state, c.problem) IS DISTINCT FROM (n.state, nullif(n.problem, ''));
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_note_credentials(text[], text[], text[]) IS
    'Internal: what the worker found when it opened the credentials';
