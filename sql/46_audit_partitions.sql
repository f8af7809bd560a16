/*
 * 46_audit_partitions: the monthly partitions of the audit log: how they are made and dropped.
 */

/*
 * _pems_make_audit_partition(name, since, until): one partition of the audit log.  It is made as a separate table and
 * attached afterwards, which does not keep others from writing the log (but for the default partition, for that
 * moment). Rows of that month that are in the default partition already move to it; where those are more than 10000,
 * they stay, and no partition is made.
 *
 * Its bounds go through text: so the formats of dates are fixed here, whatever those of the session are.
 *
 * Within CREATE EXTENSION it becomes a member of the extension, whose rows pg_dump leaves out: it is taken out again.
 *
 * Tables: pems_audit_log, pems_audit_log_default, the partition.
 */
CREATE FUNCTION @extschema@._pems_make_audit_partition(name text, since timestamptz, until timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET DateStyle = 'ISO, YMD' SET TimeZone = 'UTC' SET IntervalStyle = 'postgres' AS $function$
DECLARE
    partition CONSTANT text := format('@extschema@.%I', name);
    stranger           text;
BEGIN
    IF (SELECT count(*) FROM (SELECT FROM @extschema@.pems_audit_log_default d
                              WHERE d.at >= since AND d.at < until LIMIT 10001) r) > 10000 THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %s (LIKE @extschema@.pems_audit_log INCLUDING DEFAULTS)', partition);
    EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', partition);
    EXECUTE format('COMMENT ON TABLE %s IS %L', partition, 'Audit rows of one month');
    EXECUTE format('CREATE INDEX ON %s (item_id)', partition);
    EXECUTE format('CREATE INDEX ON %s (organization_id, at)', partition);
    -- from all who have rights on it by the default privileges of our owner
    FOR stranger IN
        SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
        FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
        WHERE c.oid = partition::regclass AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', partition, stranger);
    END LOOP;
    EXECUTE format('GRANT SELECT, INSERT ON %s TO pems_sync_worker', partition);

    -- nobody is to add to the default partition from here on; locked in the order in which writers lock them
    LOCK TABLE ONLY @extschema@.pems_audit_log IN SHARE UPDATE EXCLUSIVE MODE;
    LOCK TABLE @extschema@.pems_audit_log_default IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('WITH moved AS (DELETE FROM @extschema@.pems_audit_log_default d WHERE d.at >= %L AND d.at < %L '
                   'RETURNING d.*) INSERT INTO %s SELECT * FROM moved', since, until, partition);
    EXECUTE format('ALTER TABLE @extschema@.pems_audit_log ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)',
                   partition, since, until);
    IF EXISTS (SELECT FROM pg_depend d
               WHERE d.classid = 'pg_class'::regclass AND d.objid = partition::regclass AND d.deptype = 'e') THEN
        EXECUTE format('ALTER EXTENSION pems_sync DROP TABLE %s', partition);
    END IF;
    INSERT INTO @extschema@.pems_audit_month (name) VALUES (name)
    ON CONFLICT ON CONSTRAINT pems_audit_month_pkey DO UPDATE SET made_again_at = now();
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_make_audit_partition(text, timestamptz, timestamptz) IS
    'Internal: makes one partition of the audit log';

/*
 * _pems_audit_months(): this month and the next.
 * Returns: name: of the partition of that month; first: when it begins (UTC).
 */
CREATE FUNCTION @extschema@._pems_audit_months() RETURNS TABLE (name text, first timestamp)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT 'pems_audit_log_' || to_char(f.first, 'YYYY_MM'), f.first
    FROM (SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + i * interval '1 month' AS first
          FROM generate_series(0, 1) i) f
$function$;
COMMENT ON FUNCTION @extschema@._pems_audit_months() IS
    'Internal: names of the audit partitions of this month and the next, with their first moment';

/*
 * _pems_make_audit_partitions(): makes the audit partitions of this month and the next.  Runs with the rights of the
 * audit log's owner, because the worker may only insert there.
 * Errors: 55000 when another table has the name of one.
 */
CREATE FUNCTION @extschema@._pems_make_audit_partitions() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    PERFORM @extschema@._pems_check_names('pems_audit_log_'::text);
    PERFORM @extschema@._pems_make_audit_partition(m.name, m.first AT TIME ZONE 'UTC',
                                                   (m.first + interval '1 month') AT TIME ZONE 'UTC')
    FROM @extschema@._pems_audit_months() m
    WHERE to_regclass(format('@extschema@.%I', m.name)) IS NULL;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_make_audit_partitions() IS
    'Internal: makes the audit partitions of this month and the next';

/*
 * _pems_old_audit_partitions(): the monthly partitions that ended longer ago than pems_sync.retention, oldest first.
 * Returns: none where pems_sync.retention is 0.
 * Tables: pems_audit_log (its partitions, in the system catalogue).
 */
CREATE FUNCTION @extschema@._pems_old_audit_partitions() RETURNS SETOF regclass
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT c.oid::regclass FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = '@extschema@.pems_audit_log'::regclass AND c.relname ~ '^pems_audit_log_[0-9]{4}_[0-9]{2}$'
      AND (to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month') AT TIME ZONE 'UTC'
          < now() - make_interval(mins => nullif(@extschema@._pems_setting('retention'::text)::integer, 0))
    ORDER BY c.relname
$function$;
COMMENT ON FUNCTION @extschema@._pems_old_audit_partitions() IS
    'Internal: audit partitions that ended longer ago than pems_sync.retention';

/*
 * _pems_drop_audit_partitions(): drops the monthly partitions that ended longer ago than pems_sync.retention.  This is
 * the only way in which anything leaves the audit log.  The setting, which is a superuser's, says how old they must
 * be, not the caller.  Runs with the rights of the log's owner, because nobody else may.
 *
 * DROP TABLE locks the whole log against everybody.  While it waits for a transaction that has written there, all
 * others wait behind it; so it gives up soon, and what is left is for a later call.
 *
 * Returns: the names of what was dropped.
 * Tables: pems_audit_log, pems_audit_month.
 */
CREATE FUNCTION @extschema@._pems_drop_audit_partitions() RETURNS text[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms'
AS $function$
DECLARE
    dropped   text[] := '{}';
    partition record;
BEGIN
    PERFORM @extschema@._pems_demand_guard();
    FOR partition IN
        SELECT o.relation, c.relname AS name FROM @extschema@._pems_old_audit_partitions() o (relation)
        JOIN pg_class c ON c.oid = o.relation ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE %s', partition.relation);
        DELETE FROM @extschema@.pems_audit_month m WHERE m.name = partition.name;
        dropped := dropped || partition.name::text;
    END LOOP;
    RETURN dropped;
EXCEPTION WHEN lock_not_available THEN
    RETURN '{}';
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_drop_audit_partitions() IS
    'Internal: drops audit partitions that ended longer ago than pems_sync.retention; returns their names; none '
    'where somebody has the log locked';
