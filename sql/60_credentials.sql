/*
 * 60_credentials: credentials are set and rotated; the program pems-credential calls these functions.
 */

/*
 * _pems_lock_credentials(dropping): one administrator at a time sets credentials, until the transaction ends; and none
 * while a rotation drops keys.  It locks a row, and a table, that only functions of the extension can lock, so nobody
 * else can stop it.
 *
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
 * _pems_check_sealed(api_url, sealed_token, key_id): raises an error when they cannot be what pems-credential makes.
 * What is too large would only be read by the worker, in vain.
 * Errors: 22023.
 */
CREATE FUNCTION @extschema@._pems_check_sealed(api_url text, sealed_token bytea, key_id text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF api_url IS NULL OR coalesce(octet_length(sealed_token), 0) NOT BETWEEN 48 AND 65536
       OR octet_length(key_id) IS DISTINCT FROM 16
       OR key_id !~ '^[0-9a-f]{16}$' THEN
        RAISE EXCEPTION 'a credential needs api_url, sealed_token and key_id'
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Use the program pems-credential; it seals the token and calls this function.';
    END IF;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_check_sealed(text, bytea, text) IS
    'Internal: raises 22023 when the parts of a credential cannot be what pems-credential makes';

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
    PERFORM @extschema@._pems_check_short(api_url, 'api_url'::text);
    PERFORM @extschema@._pems_check_sealed(api_url, sealed_token, key_id);
    endpoint := @extschema@._pems_check_api_url(api_url);
    PERFORM @extschema@._pems_lock_credentials(dropping => false);

    INSERT INTO @extschema@.pems_credential AS c
        (organization_id, api_url, endpoint, sealed_token, key_id, generation, set_by)
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
COMMENT ON FUNCTION @extschema@.pems_set_credential(text, text, bytea, text, text) IS
    'Stores a sealed credential; called by the program pems-credential. Errors: P0002 unknown organization, 22023 '
    'api_url not allowed.';

/*
 * _pems_credential_target(code): for pems-credential: the organization with that code, and the generation that its
 * next credential gets.  Locks the credentials, so that two administrators who set one at the same time come one after
 * the other.
 * Errors: P0002 unknown code; 55000 when another session has locked them for ten seconds, or not attached.
 * Tables: organization, pems_credential.
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
COMMENT ON FUNCTION @extschema@._pems_credential_target(text) IS
    'Internal: for pems-credential, organization and next generation';

/*
 * _pems_sealed_credentials(): for pems-credential rotate: all credentials as they are stored.  They are sealed, so who
 * reads them has not read a token.
 * Errors: 55000 not attached.
 * Tables: pems_credential, organization.
 */
CREATE FUNCTION @extschema@._pems_sealed_credentials(
    OUT organization_id text, OUT code text, OUT api_url text, OUT sealed_token bytea, OUT key_id text,
    OUT generation bigint)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    PERFORM @extschema@._pems_attached();
    RETURN QUERY SELECT c.organization_id, o.code, c.api_url, c.sealed_token, c.key_id, c.generation
                 FROM @extschema@.pems_credential c JOIN @extschema@.organization o ON o.id = c.organization_id
                 ORDER BY o.code;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_sealed_credentials() IS
    'Internal: for pems-credential rotate, all credentials as they are stored';

/*
 * _pems_needed_keys(): for pems-credential rotate: the keys that credentials of this database are sealed to.  None can
 * be stored before the caller's transaction ends, so that it may drop all other keys meanwhile.  (A credential that is
 * stored afterwards is sealed to a key that is still there: pems-credential set looks before it commits.)
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
COMMENT ON FUNCTION @extschema@._pems_needed_keys() IS
    'Internal: for pems-credential rotate, the keys that credentials are sealed to; locks them';

/*
 * _pems_reseal_credential(organization_id, generation, old_key_id, sealed_token, key_id): for pems-credential rotate:
 * the same token, sealed to another key.  A pause stays, because nothing is new for PEMS.
 *
 * Returns: false when the credential is not that one any more: somebody has set a new one, which is sealed to the new
 *   key already.
 * Errors: 22023 nothing sealed; 55000 when another session has locked the credentials for ten seconds.
 * Tables: pems_credential, pems_audit_log.
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
COMMENT ON FUNCTION @extschema@._pems_reseal_credential(text, bigint, text, bytea, text) IS
    'Internal: for pems-credential rotate, the same token sealed to another key; false when somebody has set a new one';
