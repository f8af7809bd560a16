-- pems_audit(): filters, pages, export; the log is append-only; pems_purge(): what goes, and what must stay.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
\set ECHO none
\i test/support/regress_application.sql
\set ECHO all
CREATE ROLE regress_pems_reader IN ROLE pems_sync_reader;
CREATE ROLE regress_pems_admin IN ROLE pems_sync_admin;
SET client_min_messages = error;

-- Rows of two organizations; three share a microsecond.
INSERT INTO pems_audit_log (at, event_type, organization_id, pfa_id, modification_id, actor, error, seq)
SELECT '2025-01-01 00:00+00'::timestamptz + (n / 3) * interval '1 day', (ARRAY['COMMITTED', 'WRITE_ATTEMPT', 'DISCARDED'])[1 + n % 3],
       CASE WHEN n % 4 = 0 THEN 'org-rio2' ELSE 'org-rio' END, 'PFA-' || n % 5, 'm' || n, CASE WHEN n % 2 = 0 THEN 'alice' ELSE 'bob' END,
       CASE n WHEN 3 THEN E'a "quote", a comma\nand a line end' WHEN 4 THEN '<script>alert(1)</script>' END, 1000 - n
FROM generate_series(1, 14) n;

-- Filters: each alone, and together.  The start is included, the end is not.
CREATE FUNCTION regress.found(VARIADIC filters text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    EXECUTE 'SELECT string_agg(modification_id, '' '' ORDER BY n) FROM (SELECT *, row_number() OVER () AS n FROM pems_audit(' || array_to_string(filters, ', ') || ')) a' INTO result;
    RETURN result;
END
$$;
GRANT EXECUTE ON FUNCTION regress.found(text[]) TO PUBLIC;
SET ROLE regress_pems_admin;
SELECT regress.found();
SELECT regress.found($$organization_id => 'org-rio2'$$);
SELECT regress.found($$start_date => '2025-01-03 00:00+00'$$);
SELECT regress.found($$end_date => '2025-01-03 00:00+00'$$);
SELECT regress.found($$start_date => '2025-01-02 00:00+00'$$, $$end_date => '2025-01-03 00:00+00'$$);
SELECT regress.found($$event_types => '{DISCARDED}'$$);
SELECT regress.found($$event_types => '{DISCARDED,COMMITTED}'$$);
SELECT regress.found($$event_types => '{}'$$);
SELECT regress.found($$pfa_id => 'PFA-1'$$);
SELECT regress.found($$modification_id => 'm7'$$);
SELECT regress.found($$actor => 'alice'$$);
SELECT regress.found($$organization_id => 'org-rio'$$, $$actor => 'alice'$$, $$event_types => '{COMMITTED}'$$, $$start_date => '2025-01-02'$$);
SELECT regress.found($$actor => 'alice'' OR true --'$$);
SELECT regress.found($$page_size => 2$$);
RESET ROLE;

-- Pages: every row exactly once, in order, whatever their size; rows of the same microsecond too.
CREATE FUNCTION regress.pages(size integer, filter text DEFAULT NULL) RETURNS TABLE (pages bigint, rows bigint, in_order boolean) LANGUAGE plpgsql AS $$
DECLARE
    seen  pems_audit_log[] := '{}';
    page  pems_audit_log[];
    last  pems_audit_log;
BEGIN
    pages := 0;
    LOOP
        page := ARRAY(SELECT a FROM pems_audit(organization_id => filter, page_size => size, after_at => last.at, after_seq => last.seq) a);
        EXIT WHEN page = '{}' OR pages > 1000;
        IF cardinality(page) > size THEN
            RAISE EXCEPTION 'a page of % rows', cardinality(page);
        END IF;
        pages := pages + 1;
        seen := seen || page;
        last := page[cardinality(page)];
    END LOOP;
    rows := cardinality(seen);
    in_order := seen = ARRAY(SELECT a FROM pems_audit_log a WHERE filter IS NULL OR a.organization_id = filter ORDER BY a.at, a.seq);
    RETURN NEXT;
END
$$;
SELECT n AS size, p.* FROM unnest(ARRAY[1, 2, 3, 5, 13, 14, 15, 1000]) n, regress.pages(n) p;
SELECT n AS size, p.* FROM unnest(ARRAY[1, 2, 3]) n, regress.pages(n, 'org-rio2') p;

-- An export.
SET ROLE regress_pems_admin;
\copy (SELECT at, event_type, pfa_id, actor, error FROM pems_audit(end_date => '2025-01-03') ORDER BY at, seq) TO STDOUT CSV HEADER
RESET ROLE;

-- What is refused.
SELECT regress.attempt($$SELECT pems_audit(page_size => 0)$$);
SELECT regress.attempt($$SELECT pems_audit(page_size => 1000001)$$);
SELECT regress.attempt($$SELECT pems_audit(page_size => NULL)$$);
SELECT regress.attempt($$SELECT pems_audit(start_date => '2025-01-02', end_date => '2025-01-01')$$);
SELECT regress.attempt($$SELECT pems_audit(after_at => '2025-01-02')$$);
SELECT regress.attempt($$SELECT pems_audit(after_seq => 1)$$);
SELECT regress.attempt($$SELECT pems_audit('org-nowhere')$$);
SELECT regress.attempt($$SELECT pems_audit(event_types => '{DISCARDED,committed}')$$);
SELECT regress.attempt($$SELECT pems_audit(event_types => ARRAY['DISCARDED', NULL])$$);
SET ROLE regress_pems_reader;
SELECT regress.state($$SELECT pems_audit()$$), regress.state($$SELECT pems_purge()$$), regress.state($$SELECT * FROM pems_audit_log$$);
RESET ROLE;

-- The event types that pems_audit() knows are those that the comment of the column names.
SELECT t.name, regress.state(format('SELECT pems_audit(event_types => %L)', ARRAY[t.name]))
FROM regexp_split_to_table(col_description('pems_audit_log'::regclass, 2), '(, )|( or )') t (name) ORDER BY t.name COLLATE "C";

-- Append-only: no role of the extension may change or remove a row, neither of the log nor of a partition, also of one that is made
-- later; nor may the functions that run with its owner's rights: none of them names it after UPDATE, DELETE or TRUNCATE, but the one that
-- moves rows of a month from the default partition to the partition of that month.
SELECT _pems_make_audit_partitions();
CREATE VIEW regress.log AS SELECT c.oid, c.relname FROM pg_class c WHERE c.oid = 'pems_audit_log'::regclass
    UNION ALL SELECT c.oid, c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'pems_audit_log'::regclass;
SELECT count(*) AS tables FROM regress.log;
SELECT l.relname, r.role, p.privilege FROM regress.log l,
    unnest(ARRAY['pems_sync_reader', 'pems_sync_user', 'pems_sync_admin', 'pems_sync_worker', 'regress_pems_admin']) r (role),
    unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p (privilege) WHERE has_table_privilege(r.role, l.oid, p.privilege);
SELECT l.relname FROM regress.log l, unnest(ARRAY['pems_sync_reader', 'pems_sync_user', 'pems_sync_admin']) r (role) WHERE has_any_column_privilege(r.role, l.oid, 'SELECT, INSERT, UPDATE');
SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pems_sync'
WHERE p.prosrc ~* '(update|delete\s+from|truncate(\s+table)?|alter\s+table)\s+(only\s+)?(\S+\.)?pems_audit_log';
SET ROLE pems_sync_worker;
SELECT regress.state('UPDATE pems_audit_log SET actor = ''mallory'''), regress.state('DELETE FROM pems_audit_log'), regress.state('TRUNCATE pems_audit_log'),
       regress.state('ALTER TABLE pems_audit_log DISABLE TRIGGER ALL'), regress.state('DROP TABLE pems_audit_log');
RESET ROLE;
SELECT count(*) FROM pems_audit();

-- pems_purge().  Items of every kind; those that are finished are a year old.
TRUNCATE pems_audit_log;
SELECT regress.queue(k.id, 'PFA-' || k.n) FROM (VALUES ('done', 1), ('cancelled', 2), ('failed', 3), ('conflict', 4), ('waits', 5)) k (id, n);
UPDATE pfa_write_queue SET status = CASE modification_id WHEN 'done' THEN 'completed' ELSE modification_id END, completed_at = now()
WHERE modification_id IN ('done', 'cancelled', 'failed');
UPDATE pfa_write_queue SET status = 'conflict' WHERE modification_id = 'conflict';
INSERT INTO pfa_sync_conflict (id, pfa_id, organization_id, modification_id, item_id, local_version, local_data, kind, status)
SELECT q.modification_id || '-' || s.status, q.pfa_id, q.organization_id, q.modification_id, q.id, 1, '{}', 'update_update', s.status
FROM pfa_write_queue q, (VALUES ('unresolved'), ('resolved_manual')) s (status) WHERE q.modification_id IN ('done', 'conflict') AND (q.modification_id, s.status) <> ('done', 'unresolved');
UPDATE pfa_write_queue SET created_at = now() - interval '1 year', completed_at = CASE WHEN completed_at IS NOT NULL THEN now() - interval '1 year' END;
UPDATE pems_sync_job SET created_at = now() - interval '1 year';
UPDATE pfa_modification SET sync_status = 'synced' WHERE id = 'done';
CREATE FUNCTION regress.left_over() RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' | ', (SELECT string_agg(q.modification_id, ' ' ORDER BY q.commit_seq) FROM pfa_write_queue q),
        (SELECT string_agg(c.id, ' ' ORDER BY c.id COLLATE "C") FROM pfa_sync_conflict c), (SELECT count(*) FROM pems_sync_job) || ' jobs', (SELECT count(*) FROM pems_mirror_version) || ' versions')
$$;
CREATE TEMPORARY TABLE status AS SELECT pems_sync_status() - 'oldestQueuedSeconds' - 'nextSyncAt' AS before;
SELECT regress.left_over();
SELECT pems_purge('2 years') - 'auditPartitions' - 'statistics';
SELECT regress.left_over();
SET ROLE regress_pems_admin;
SELECT pems_purge('300 days', purged_by => 'carol') - 'auditPartitions' - 'statistics';
RESET ROLE;
SELECT regress.left_over();
SELECT before = pems_sync_status() - 'oldestQueuedSeconds' - 'nextSyncAt' AS status_as_before FROM status;
SELECT actor, request - 'auditPartitions' - 'statistics' FROM pems_audit_log WHERE event_type = 'PURGED' ORDER BY at;
-- again: there is nothing left to do; and nothing of the application was touched
SELECT pems_purge('300 days') - 'auditPartitions' - 'statistics';
SELECT (SELECT count(*) FROM pfa_modification), (SELECT count(*) FROM pfa_mirror), (SELECT count(*) FROM organization);

-- At most so many rows of a kind; more: call again.
SELECT regress.queue('b' || n, 'PFA-6') FROM generate_series(1, 5) n \g /dev/null
UPDATE pfa_write_queue SET status = 'completed', waits_for = NULL, completed_at = now() - interval '1 year' WHERE modification_id LIKE 'b%';
UPDATE pfa_modification SET sync_status = 'synced' WHERE id LIKE 'b%';
SELECT p -> 'items' AS items, p -> 'more' AS more FROM (VALUES (1), (2), (3), (4)) n (n), LATERAL (SELECT pems_purge('300 days', 2) AS p WHERE n > 0) l;

-- The statistics: hours that are older go, what stands now and what completed since then stays.
SELECT _pems_fold_stats();
INSERT INTO pems_sync_stats (organization_id, hour, completed, sync_seconds, latency_counts, last_completed_at, folded)
SELECT o, h, 1, 2, '{0,0,0,1,0,0,0,0,0,0}', h, true FROM unnest(ARRAY['org-rio', '*']) o, unnest(ARRAY[date_trunc('hour', now()) - interval '400 days', date_trunc('hour', now()) - interval '3 hours']) h;
UPDATE status SET before = pems_sync_status() - 'oldestQueuedSeconds' - 'nextSyncAt';
SELECT pems_purge('300 days') -> 'statistics';
SELECT before = pems_sync_status() - 'oldestQueuedSeconds' - 'nextSyncAt' AS status_as_before, before -> 'completed' FROM status;
SELECT pems_sync_status(start_date => now() - interval '500 days') -> 'completed' = before -> 'completed' AS only_the_new_hours FROM status;

-- What is refused.
SELECT regress.attempt($$SELECT pems_purge('-1 day')$$);
SELECT regress.attempt($$SELECT pems_purge('1 day', 0)$$);
SELECT regress.attempt($$SELECT pems_purge('1 day', 10000001)$$);
SELECT regress.attempt($$SELECT pems_purge('1 day', NULL)$$);
SELECT regress.state($$SELECT pems_purge('100000 years')$$);
SELECT pems_detach();
SELECT regress.state($$SELECT pems_purge()$$);
SELECT pems_attach() -> 'success';

-- What an edit that is still a draft, or waits, will be compared with stays: everything is finished and may go, and each such edit is
-- claimed with the same base, the same own changes and the same mirror as before.  Records of all kinds, edited by two users.
SELECT regress.empty_queue() \g /dev/null
DELETE FROM pfa_modification;
DELETE FROM pems_recheck;
CREATE FUNCTION regress.edit(id text, pfa_id text, delta jsonb, author text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM regress.queue(id, pfa_id, delta, author, base_version => (SELECT m.version FROM pfa_mirror m WHERE m.organization_id = 'org-rio' AND m.pfa_id = $2));
    PERFORM regress.claim();
    PERFORM regress.record(regress.applied(id));
END
$$;
CREATE FUNCTION regress.decision(modification text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    decision jsonb;
BEGIN
    IF (SELECT sync_status = 'draft' FROM pfa_modification WHERE id = modification) THEN
        PERFORM regress.commit(ARRAY[modification]);
    END IF;
    SELECT to_jsonb(c) - 'item_id' - 'claim_token' - 'job_id' - 'commit_seq' - 'scheduled_at' INTO decision
    FROM _pems_claim(ARRAY['org-rio'], ARRAY[100]) c WHERE c.modification_id = modification;
    RAISE EXCEPTION USING ERRCODE = 'ROLLB';
EXCEPTION WHEN SQLSTATE 'ROLLB' THEN
    RETURN decision;
END
$$;
SELECT regress.edit(format('e%s-%s', r, n), 'PFA-' || r, CASE (r + n) % 3 WHEN 0 THEN jsonb_build_object('dor', (ARRAY['BEO', 'PROJECT'])[1 + n % 2]) ELSE jsonb_build_object('monthlyRate', 5000 + 10 * r + n) END,
                    CASE WHEN (r * n) % 2 = 0 THEN 'alice' ELSE 'bob' END)
FROM generate_series(1, 6) r, generate_series(1, 5) n \g /dev/null
-- a draft of alice's on each version; the last record has none
SELECT regress.draft(format('d%s', r), 'PFA-' || r, '{"monthlyRate": 9999, "dor": "PROJECT"}', 'alice', base_version => r) FROM generate_series(1, 5) r \g /dev/null
SELECT id, sync_status FROM pfa_modification WHERE sync_status <> 'synced' ORDER BY id COLLATE "C";
CREATE TEMPORARY TABLE decisions AS SELECT m.id, regress.decision(m.id) AS before FROM pfa_modification m WHERE m.id LIKE 'd%';
SELECT id, before -> 'base_version' AS base, before -> 'mirror_version' AS mirror, before -> 'own_data' AS own FROM decisions ORDER BY id COLLATE "C";
SELECT p - 'auditPartitions' - 'statistics' FROM pems_purge('0') p;
SELECT d.id, d.before = regress.decision(d.id) AS decided_as_before FROM decisions d ORDER BY d.id COLLATE "C";
SELECT pfa_id, array_agg(version ORDER BY version) AS versions FROM pems_mirror_version WHERE organization_id = 'org-rio' GROUP BY pfa_id ORDER BY pfa_id COLLATE "C";
SELECT pfa_id, count(*) AS items FROM pfa_write_queue GROUP BY pfa_id ORDER BY pfa_id COLLATE "C";
-- the same once the edits wait in the queue
SELECT regress.commit(ARRAY(SELECT id FROM decisions)) AS queued;
SELECT p -> 'items' AS items, p -> 'versions' AS versions FROM pems_purge('0') p;
SELECT d.id, d.before = regress.decision(d.id) AS decided_as_before FROM decisions d ORDER BY d.id COLLATE "C";
-- and once they are done, all goes but what the mirror has
UPDATE pfa_write_queue SET status = 'cancelled', waits_for = NULL, completed_at = now() WHERE status = 'pending';
SELECT pg_sleep(0.01) \g /dev/null
SELECT p -> 'items' AS items, p -> 'versions' AS versions, p -> 'more' AS more FROM pems_purge('0') p;
SELECT pfa_id, array_agg(version ORDER BY version) AS versions FROM pems_mirror_version WHERE organization_id = 'org-rio' GROUP BY pfa_id ORDER BY pfa_id COLLATE "C";

-- Right after a bulk load, when nothing is known of the tables: each row is looked up, not compared with each.
INSERT INTO pfa_mirror (organization_id, pfa_id, version, data) SELECT 'org-port', 'BULK-' || n, 1, '{}' FROM generate_series(1, 10000) n;
UPDATE pfa_mirror SET version = 2 WHERE pfa_id LIKE 'BULK-%';
INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by, sync_status)
SELECT 'bulk' || n, 'org-port', 'BULK-' || n, 1, '{}'::jsonb, 'alice', 'synced' FROM generate_series(1, 10000) n
UNION ALL SELECT 'draft' || n, 'org-port', 'BULK-' || n, 1, '{}', 'alice', 'draft' FROM generate_series(2, 10000, 2) n;
INSERT INTO pfa_write_queue (id, modification_id, pfa_id, organization_id, operation, payload, base_version, status, completed_at, sent_version)
SELECT 'bulk' || n, 'bulk' || n, 'BULK-' || n, 'org-port', 'UPDATE', '{}', 1, 'completed', now() - interval '1 hour', 1 FROM generate_series(1, 10000) n;
SET statement_timeout = '4s';
SELECT p -> 'items' AS items, p -> 'versions' AS versions FROM pems_purge('0') p;
RESET statement_timeout;

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
DROP ROLE regress_pems_reader, regress_pems_admin;
