/*
 * 90_grants: who owns and may use what.  After everything else, because it goes through all objects of the extension.
 */

-- PUBLIC gets nothing.  The functions that run with their owner's rights belong to
-- pems_sync_worker, never to a superuser: a trigger or policy that the application's role
-- puts on its tables must not find itself powerful.  Four need more and do nothing but DDL:
-- pems_attach, pems_detach, _pems_make_audit_partitions and _pems_drop_audit_partitions.  In these no code of others
-- runs (src/database/guard.c).
-- Nor get roles anything to which the installer's default privileges (ALTER DEFAULT PRIVILEGES) grant what he makes.
-- Only members of the extension are touched: what another role planted under a name like ours
-- must not end up as ours.
DO $grants$
DECLARE
    change record;
BEGIN
    FOR change IN
        WITH member AS (
            SELECT d.classid, d.objid FROM pg_catalog.pg_depend d
            JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'pems_sync'
            WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'
        ), routine AS (
            SELECT p.oid::pg_catalog.regprocedure AS name, p.proowner, p.proacl,
                   p.prosecdef AND p.proname NOT IN ('pems_attach', 'pems_detach', '_pems_make_audit_partitions',
                                                     '_pems_drop_audit_partitions') AS for_worker
            FROM pg_catalog.pg_proc p
            JOIN member m ON m.objid = p.oid AND m.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
        ), object AS (
            SELECT format('ROUTINE %s', r.name) AS name, r.proowner AS owner,
                   coalesce(r.proacl, acldefault('f', r.proowner)) AS acl
            FROM routine r
            UNION ALL
            SELECT format('%s %s', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
                          c.oid::pg_catalog.regclass), c.relowner,
                   coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))
            FROM pg_catalog.pg_class c
            JOIN member m ON m.objid = c.oid AND m.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
            WHERE c.relkind IN ('r', 'p', 'v', 'S')
            UNION ALL
            SELECT format('TYPE %s', t.oid::pg_catalog.regtype), t.typowner,
                   coalesce(t.typacl, acldefault('T', t.typowner))
            FROM pg_catalog.pg_type t
            JOIN member m ON m.objid = t.oid AND m.classid = 'pg_catalog.pg_type'::pg_catalog.regclass
            WHERE t.typelem = 0
        )
        SELECT DISTINCT format('REVOKE ALL ON %s FROM %s', o.name,
                               CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::pg_catalog.regrole::text END)
                   AS command, 1 AS step
        FROM object o CROSS JOIN LATERAL aclexplode(o.acl) a WHERE a.grantee <> o.owner
        UNION ALL
        SELECT format('ALTER ROUTINE %s OWNER TO pems_sync_worker', r.name), 2 FROM routine r WHERE r.for_worker
        UNION ALL
        SELECT format('GRANT EXECUTE ON ROUTINE %s TO pems_sync_worker', r.name), 3 FROM routine r
        ORDER BY step
    LOOP
        EXECUTE change.command;
    END LOOP;
END
$grants$;

ALTER FUNCTION @extschema@.pems_attach(boolean) SET pems_sync.guarded = on;
ALTER FUNCTION @extschema@.pems_detach() SET pems_sync.guarded = on;
ALTER FUNCTION @extschema@._pems_make_audit_partitions() SET pems_sync.guarded = on;
ALTER FUNCTION @extschema@._pems_drop_audit_partitions() SET pems_sync.guarded = on;

GRANT USAGE ON TYPE @extschema@._pems_report, @extschema@._pems_pulled TO pems_sync_worker;
GRANT USAGE ON SCHEMA @extschema@ TO pems_sync_reader, pems_sync_worker;

-- What the worker's functions touch.  The audit log takes INSERT only.
GRANT SELECT, INSERT, UPDATE, DELETE ON
    @extschema@.pfa_write_queue, @extschema@.pems_recheck, @extschema@.pfa_sync_conflict,
    @extschema@.pems_mirror_version, @extschema@.pems_sync_job, @extschema@.pems_sync_stats,
    @extschema@.pems_credential, @extschema@.pems_pause,
    @extschema@.pems_pull_state, @extschema@.pems_pull_organization, @extschema@.pems_pull_seen,
    @extschema@.pems_pull_missing, @extschema@.pems_quarantined
    TO pems_sync_worker;
GRANT SELECT, INSERT, DELETE, TRUNCATE ON @extschema@.pems_pull_sorted, @extschema@.pems_pull_sorted_slice
    TO pems_sync_worker;
GRANT SELECT, INSERT, DELETE ON @extschema@.pems_claim TO pems_sync_worker;
GRANT SELECT, INSERT ON @extschema@.pems_audit_log, @extschema@.pems_audit_log_default TO pems_sync_worker;
GRANT SELECT ON @extschema@.pems_control, @extschema@.pems_field, @extschema@.pems_index,
    @extschema@.pems_audit_month TO pems_sync_worker;

-- pems_resume() makes a sender of a copy, and _pems_lock_credentials() locks the row.
GRANT UPDATE (cluster) ON @extschema@.pems_control TO pems_sync_worker;
GRANT USAGE ON SEQUENCE @extschema@.pems_commit_order, @extschema@.pems_claim_order, @extschema@.pems_audit_order,
    @extschema@.pems_state_order TO pems_sync_worker;

-- _pems_raise_sequence() sets these.
GRANT UPDATE ON SEQUENCE @extschema@.pems_commit_order, @extschema@.pems_claim_order, @extschema@.pems_state_order
    TO pems_sync_worker;

-- The administrators' own table: the field catalogue.
GRANT SELECT, INSERT, UPDATE, DELETE ON @extschema@.pems_field TO pems_sync_admin;

GRANT EXECUTE ON FUNCTION
    @extschema@.pems_sync_status(text, text, timestamptz, timestamptz),
    @extschema@.pems_sync_state(text, text[]),
    @extschema@.pems_conflicts(text, text, integer, text),
    @extschema@.pems_conflict(text, text),
    @extschema@.pems_health(),
    @extschema@.pems_sync_history(text, text, timestamptz, timestamptz, integer, text, text),
    @extschema@.pems_job(text, text, integer, text),
    @extschema@.pems_version_history(text, text, integer, bigint),
    @extschema@._pems_worker_state(),
    @extschema@._pems_pulls(),
    @extschema@._pems_endpoints()
    TO pems_sync_reader;
GRANT SELECT ON @extschema@.pems_queue, @extschema@.pems_dead_letters, @extschema@.pems_open_conflicts,
    @extschema@.pems_worker, @extschema@.pems_endpoints, @extschema@.pems_pulls, @extschema@.pems_quarantine
    TO pems_sync_reader;

GRANT EXECUTE ON FUNCTION
    @extschema@.pems_commit(text, text[], text, text),
    @extschema@.pems_write_sync(text, text[], text),
    @extschema@.pems_resolve_conflict(text, text, jsonb, text, text),
    @extschema@.pems_discard(text, text, text),
    @extschema@.pems_validate(jsonb, jsonb),
    @extschema@.pems_commit_preview(text, text[], text),
    @extschema@.pems_pull(text, text, text, text),
    @extschema@.pems_cancel(text, text, text)
    TO pems_sync_user;

GRANT EXECUTE ON FUNCTION
    @extschema@.pems_attach(boolean),
    @extschema@.pems_detach(),
    @extschema@.pems_public_key(),
    @extschema@.pems_health_check(text),
    @extschema@.pems_audit(text, timestamptz, timestamptz, text[], text, text, text, integer, timestamptz, bigint),
    @extschema@.pems_purge(interval, integer, text),
    @extschema@._pems_credential_target(text),
    @extschema@._pems_sealed_credentials(),
    @extschema@._pems_needed_keys(),
    @extschema@._pems_reseal_credential(text, bigint, text, bytea, text),
    @extschema@.pems_set_credential(text, text, bytea, text, text),
    @extschema@.pems_retry(text[], text, text),
    @extschema@.pems_rollback_preview(text, text, integer),
    @extschema@.pems_rollback(text, text, integer, text, text),
    @extschema@.pems_pause(text, text, text),
    @extschema@.pems_resume(text, text)
    TO pems_sync_admin;
