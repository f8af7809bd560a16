/*
 * 15_c_functions: functions written in C.  Before the tables, because defaults and the bodies of SQL functions name
 * them. What each does, its parameters, what it returns and its errors stand above its code: pems_api_* in src/session,
 * pems_app_* and pems_guard_* in src/database.
 */

CREATE FUNCTION @extschema@._pems_uuid() RETURNS text
AS 'MODULE_PATHNAME', 'pems_api_uuid' LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@._pems_uuid() IS 'Internal: a time-ordered UUID (version 7) as text';

CREATE FUNCTION @extschema@._pems_caller() RETURNS text
AS 'MODULE_PATHNAME', 'pems_api_caller' LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@._pems_caller() IS
    'Internal: the role that called the outermost function (session user, or the role set with SET ROLE), also inside '
    'SECURITY DEFINER; in a trigger that runs while pems_sync writes a table of the application, the table''s owner '
    '(pems_sync_worker, where that is a superuser)';

CREATE FUNCTION @extschema@._pems_cluster() RETURNS text
AS 'MODULE_PATHNAME', 'pems_api_cluster' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@._pems_cluster() IS
    'Internal: system identifier of the cluster and oid of the database, to notice a restored copy';

CREATE FUNCTION @extschema@._pems_database_id() RETURNS bigint
AS 'MODULE_PATHNAME', 'pems_api_database_id' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@._pems_database_id() IS
    'Internal: the same as a number: each item carries that of the database that queued it';

CREATE FUNCTION @extschema@._pems_wake(configuration boolean DEFAULT false) RETURNS void
AS 'MODULE_PATHNAME', 'pems_api_wake' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION @extschema@._pems_wake(boolean) IS
    'Internal: wakes the worker of this database when the transaction commits; configuration: it reads credentials, '
    'pauses and the catalogue again';

CREATE FUNCTION @extschema@._pems_wake_pulls() RETURNS void
AS 'MODULE_PATHNAME', 'pems_api_wake_pulls' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@._pems_wake_pulls() IS
    'Internal: at commit, wakes the worker of this database: there is something to pull';

CREATE FUNCTION @extschema@._pems_announce(organization_id text, ready_from timestamptz) RETURNS void
AS 'MODULE_PATHNAME', 'pems_api_announce' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION @extschema@._pems_announce(text, timestamptz) IS
    'Internal: wakes the worker of this database when the transaction commits: the organization may have items that '
    'are ready, and have been waiting since that time';

CREATE FUNCTION @extschema@._pems_setting(name text) RETURNS text
AS 'MODULE_PATHNAME', 'pems_api_setting' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION @extschema@._pems_setting(text) IS
    'Internal: a pems_sync setting in its own unit (ms, kB, minutes), whoever asks';

CREATE FUNCTION @extschema@._pems_forget_catalogue() RETURNS void
AS 'MODULE_PATHNAME', 'pems_api_forget_catalogue' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@._pems_forget_catalogue() IS
    'Internal: all processes read the field catalogue again after this transaction';

CREATE FUNCTION @extschema@._pems_size(value jsonb, most bigint) RETURNS integer
AS 'MODULE_PATHNAME', 'pems_api_size' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@._pems_size(jsonb, bigint) IS
    'Internal: bytes of a value, its numbers written with all their digits. Of one that is larger than most, at least '
    'so many: what is stored compressed or elsewhere is not fetched for that';

CREATE FUNCTION @extschema@._pems_delta_problem(delta jsonb, current jsonb) RETURNS jsonb
AS 'MODULE_PATHNAME', 'pems_api_delta_problem' LANGUAGE C STABLE;
COMMENT ON FUNCTION @extschema@._pems_delta_problem(jsonb, jsonb) IS
    'Internal: NULL when the delta is valid on top of current, otherwise {"code", "errors"}';

CREATE FUNCTION @extschema@._pems_apply_delta(record jsonb, delta jsonb) RETURNS jsonb
AS 'MODULE_PATHNAME', 'pems_api_apply_delta' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@._pems_apply_delta(jsonb, jsonb) IS
    'Internal: record with delta on top; objects merge field by field, everything else replaces';

CREATE FUNCTION @extschema@._pems_has_object(delta jsonb) RETURNS boolean
AS 'MODULE_PATHNAME', 'pems_api_has_object' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@._pems_has_object(jsonb) IS
    'Internal: is one of the values of the delta an object?  Objects are sent whole';

CREATE FUNCTION @extschema@._pems_decide(
    delta jsonb, base jsonb, own jsonb, other_bases jsonb, remote jsonb, is_delete boolean, base_version integer,
    remote_version integer) RETURNS jsonb
AS 'MODULE_PATHNAME', 'pems_api_decide' LANGUAGE C STABLE;
COMMENT ON FUNCTION @extschema@._pems_decide(jsonb, jsonb, jsonb, jsonb, jsonb, boolean, integer, integer) IS
    'Internal: what would become of an edit that is sent now, as the worker decides: {decision, fields, errors}; NULL '
    'when a value is nested too deeply';

CREATE FUNCTION @extschema@._pems_restore_delta(record jsonb, old_record jsonb) RETURNS jsonb
AS 'MODULE_PATHNAME', 'pems_api_restore_delta' LANGUAGE C STABLE STRICT;
COMMENT ON FUNCTION @extschema@._pems_restore_delta(jsonb, jsonb) IS
    'Internal: the delta that gives the writable fields of record their values in old_record; {} when there is '
    'nothing to change';

CREATE FUNCTION @extschema@._pems_valid_pfa_id(pfa_id text) RETURNS boolean
AS 'MODULE_PATHNAME', 'pems_api_valid_pfa_id' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@._pems_valid_pfa_id(text) IS 'Internal: may the PFA id stand in a URL of PEMS?';

CREATE FUNCTION @extschema@._pems_check_api_url(api_url text) RETURNS text
AS 'MODULE_PATHNAME', 'pems_api_check_api_url' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION @extschema@._pems_check_api_url(text) IS
    'Internal: raises an error when api_url may not be used; otherwise returns its endpoint, scheme://host:port';

CREATE FUNCTION @extschema@.pems_public_key() RETURNS jsonb
AS 'MODULE_PATHNAME', 'pems_api_public_key' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@.pems_public_key() IS
    'The key that credentials are sealed to, {keyId, publicKey} with base64, read from pems_sync.key_file. Errors: '
    '55000 when the file is missing or not private';

CREATE FUNCTION @extschema@._pems_worker_state(
    OUT database text, OUT pid integer, OUT state text, OUT version text, OUT started_at timestamptz,
    OUT last_heartbeat timestamptz, OUT in_flight integer, OUT requests bigint, OUT open_breakers integer,
    OUT last_error text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pems_api_worker_state' LANGUAGE C VOLATILE ROWS 1;
COMMENT ON FUNCTION @extschema@._pems_worker_state() IS
    'Internal: what the worker of this database says of itself in shared memory; no row when the library is not '
    'preloaded for it';

CREATE FUNCTION @extschema@._pems_endpoint_states(
    OUT endpoint text, OUT breaker text, OUT rate_limit integer, OUT in_flight integer, OUT faults integer,
    OUT waits_until timestamptz, OUT last_error text, OUT last_error_at timestamptz, OUT per_second double precision,
    OUT latency double precision)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'pems_api_endpoint_states' LANGUAGE C VOLATILE ROWS 1;
COMMENT ON FUNCTION @extschema@._pems_endpoint_states() IS
    'Internal: what the worker of this database says of its endpoints in shared memory, at most 32; per_second: '
    'requests that it can take; latency: seconds that an answer takes, about';

CREATE FUNCTION @extschema@._pems_ask_worker(organization_id text) RETURNS jsonb
AS 'MODULE_PATHNAME', 'pems_api_health_check' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION @extschema@._pems_ask_worker(text) IS
    'Internal: asks the worker for a health check and waits for it: {healthy, latency, error}';

CREATE FUNCTION @extschema@._pems_app_intact(exclusively boolean DEFAULT false) RETURNS boolean
AS 'MODULE_PATHNAME', 'pems_app_intact' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION @extschema@._pems_app_intact(boolean) IS
    'Internal: are the application''s tables ordinary tables with the columns and types that pems_attach() demands? '
    'Locks them until the transaction ends; exclusively: against everybody';

CREATE FUNCTION @extschema@._pems_app_mark(
    modification_ids text[], sync_statuses text[], pems_versions integer[], sync_errors text[])
RETURNS integer
AS 'MODULE_PATHNAME', 'pems_app_mark' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION @extschema@._pems_app_mark(text[], text[], integer[], text[]) IS
    'Internal: sets sync_status and its companions on modifications, as the owner of pfa_modification; the arrays go '
    'in step; returns the number of rows';

CREATE FUNCTION @extschema@._pems_app_mark_all(modification_ids text[], sync_status text) RETURNS integer
AS 'MODULE_PATHNAME', 'pems_app_mark_all' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION @extschema@._pems_app_mark_all(text[], text) IS
    'Internal: the same sync_status for all these modifications, without version and error, as the owner of '
    'pfa_modification; returns the number of rows';

CREATE FUNCTION @extschema@._pems_app_write_mirror(
    organization_ids text[], pfa_ids text[], versions integer[], records jsonb[], deleted boolean[])
RETURNS integer
AS 'MODULE_PATHNAME', 'pems_app_write_mirror' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION @extschema@._pems_app_write_mirror(text[], text[], integer[], jsonb[], boolean[]) IS
    'Internal: updates mirrors and inserts those that are missing, as the owner of pfa_mirror; the arrays go in step; '
    'returns the number of rows';

CREATE FUNCTION @extschema@._pems_app_add_modification(
    id text, organization_id text, pfa_id text, base_version integer, delta jsonb, created_by text, change_reason text)
RETURNS void
AS 'MODULE_PATHNAME', 'pems_app_add_modification' LANGUAGE C VOLATILE STRICT;
COMMENT ON FUNCTION @extschema@._pems_app_add_modification(text, text, text, integer, jsonb, text, text) IS
    'Internal: inserts a draft, as the owner of pfa_modification';

CREATE FUNCTION @extschema@._pems_app_refused_words(constraint_id oid, words text[]) RETURNS text[]
AS 'MODULE_PATHNAME', 'pems_app_refused_words' LANGUAGE C STABLE STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION @extschema@._pems_app_refused_words(oid, text[]) IS
    'Internal: which of these values a CHECK constraint on sync_status alone forbids, asked as the owner of '
    'pfa_modification';

CREATE FUNCTION @extschema@._pems_demand_guard() RETURNS void
AS 'MODULE_PATHNAME', 'pems_guard_demand' LANGUAGE C VOLATILE;
COMMENT ON FUNCTION @extschema@._pems_demand_guard() IS
    'Internal: first statement of the functions that set pems_sync.guarded; an error where it is off';
