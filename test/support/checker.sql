/*
 * checker.sql: compares database, audit log and the log of the fake PEMS, and
 * leaves a row in check_finding for everything that contradicts I1 to I8.
 *
 * Run by the program checker, inside a transaction that is rolled back.  Before: search_path is the
 * extension's schema, and
 *   check_line (log, line)      every line of the fakes' logs; log: number of the log
 *   check_pems (records)        GET /_control/records of each fake, if there is one
 *   check_initial (document)    records files that the fakes were started with, if any
 *   check_option (quiet,        false: items may be unfinished, and I8 is not looked at
 *                 complete)     true: a full pull of each organization was complete after the last change in PEMS, and
 *                               no edit since: the mirror is all that PEMS has
 *
 * The states of PEMS are built from the log alone: nothing here takes the extension's word for what
 * PEMS had at some version.
 */

CREATE TEMP TABLE check_finding (number serial, invariant text NOT NULL, finding text NOT NULL);

/* ---------- helpers ---------- */

-- Two values of a field of the record, compared by its type.  SQL's NULL: the field is missing.
CREATE FUNCTION pg_temp.same(field text, a jsonb, b jsonb) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    field_type text;
BEGIN
    IF a IS NOT DISTINCT FROM b THEN
        RETURN true;
    ELSIF a IS NULL OR b IS NULL OR jsonb_typeof(a) <> 'string' OR jsonb_typeof(b) <> 'string' THEN
        RETURN false;
    END IF;
    SELECT f.type INTO field_type FROM pems_field f WHERE f.name = field;
    IF field_type NOT IN ('date', 'timestamp') THEN
        RETURN false;
    END IF;
    IF field_type = 'date' THEN
        RETURN left(a #>> '{}', 10) = left(b #>> '{}', 10);
    END IF;
    RETURN (a #>> '{}')::timestamptz = (b #>> '{}')::timestamptz;
EXCEPTION WHEN data_exception THEN
    RETURN false;
END
$$;

-- Two records, field by field.
CREATE FUNCTION pg_temp.same_record(a jsonb, b jsonb) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT a = b OR NOT EXISTS (
        SELECT FROM (SELECT jsonb_object_keys(a) UNION SELECT jsonb_object_keys(b)) AS k (key)
        WHERE NOT pg_temp.same(k.key, a -> k.key, b -> k.key))
$$;

-- The values at the ends of an object's branches; arrays and empty objects are ends.
CREATE FUNCTION pg_temp.leaves(tree jsonb, above text[] DEFAULT '{}') RETURNS TABLE (path text[], value jsonb)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    member record;
BEGIN
    IF jsonb_typeof(tree) IS DISTINCT FROM 'object' THEN
        RETURN;
    END IF;
    FOR member IN SELECT e.key, e.value FROM jsonb_each(tree) e LOOP
        IF jsonb_typeof(member.value) = 'object' AND member.value <> '{}' THEN
            RETURN QUERY SELECT * FROM pg_temp.leaves(member.value, above || member.key);
        ELSE
            path := above || member.key;
            value := member.value;
            RETURN NEXT;
        END IF;
    END LOOP;
END
$$;

-- A record with changes on top, as PEMS does it: objects field by field, all else replaces.
CREATE FUNCTION pg_temp.patched(data jsonb, changes jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    result jsonb := data;
    member record;
BEGIN
    IF jsonb_typeof(data) IS DISTINCT FROM 'object' OR jsonb_typeof(changes) IS DISTINCT FROM 'object' THEN
        RETURN changes;
    END IF;
    FOR member IN SELECT e.key, e.value FROM jsonb_each(changes) e LOOP
        result := result || jsonb_build_object(member.key,
            CASE WHEN data ? member.key THEN pg_temp.patched(data -> member.key, member.value) ELSE member.value END);
    END LOOP;
    RETURN result;
END
$$;

/* ---------- the log as tables ---------- */

CREATE TEMP TABLE check_request AS
SELECT r.*, CASE WHEN j.id IS NULL THEN substring(r.request_id FROM '^(.+):[0-9]+$') END AS item_id, j.id AS pull_id,
       substring(r.request_id FROM ':([0-9]{1,9})$')::integer AS attempt
FROM (SELECT l.log, (l.line ->> 'seq')::bigint AS seq, (l.line ->> 'at')::timestamptz AS at, l.line ->> 'call' AS call,
             l.line ->> 'method' AS method, l.line ->> 'path' AS path, l.line ->> 'organizationCode' AS code,
             l.line ->> 'pfaId' AS pfa_id, l.line ->> 'requestId' AS request_id, l.line ->> 'idempotencyKey' AS idempotency_key,
             (l.line ->> 'version')::numeric AS version, nullif(l.line -> 'changes', 'null') AS changes,
             l.line ->> 'modifiedBy' AS modified_by, (l.line ->> 'status')::integer AS status,
             (l.line ->> 'applied')::boolean AS applied, l.line ->> 'fault' AS fault
      FROM check_line l WHERE l.line ->> 'kind' = 'request') r
-- a pull's requests name its job
LEFT JOIN pems_sync_job j ON j.kind = 'pull' AND j.id = substring(r.request_id FROM '^(.+):[0-9]+$');
CREATE UNIQUE INDEX ON check_request (log, seq);
CREATE INDEX ON check_request (item_id, attempt);
CREATE INDEX ON check_request (code, pfa_id, seq);

CREATE TEMP TABLE check_change AS
SELECT c.*, r.item_id, r.request_id, r.version AS request_version
FROM (SELECT l.log, (l.line ->> 'seq')::bigint AS seq, l.line ->> 'organizationCode' AS code, l.line ->> 'pfaId' AS pfa_id,
             (l.line ->> 'fromVersion')::bigint AS from_version, (l.line ->> 'toVersion')::bigint AS to_version,
             l.line ->> 'by' = 'client' AS ours, l.line ->> 'user' AS author, nullif(l.line -> 'changes', 'null') AS changes,
             (l.line ->> 'whole')::boolean AS whole, (l.line ->> 'deleted')::boolean AS deleted,
             (l.line ->> 'requestSeq')::bigint AS request_seq
      FROM check_line l WHERE l.line ->> 'kind' = 'change') c
LEFT JOIN check_request r ON r.log = c.log AND r.seq = c.request_seq;
CREATE INDEX ON check_change (code, pfa_id, seq);
CREATE INDEX ON check_change (item_id);
ANALYZE check_request, check_change;

-- Every state that a record ever had in PEMS.
CREATE TEMP TABLE check_state (code text, pfa_id text, seq bigint, version bigint, data jsonb, deleted boolean);
CREATE INDEX ON check_state (code, pfa_id, seq);
CREATE INDEX ON check_state (code, pfa_id, version);
INSERT INTO check_state
SELECT r ->> 'organizationCode', r ->> 'pfaId', 0, coalesce((r ->> 'version')::bigint, 1), r -> 'data',
       coalesce((r ->> 'deleted')::boolean, false)
FROM check_initial i CROSS JOIN LATERAL jsonb_array_elements(i.document -> 'records') r;

DO $$
DECLARE
    change record;
    before record;
BEGIN
    FOR change IN SELECT * FROM check_change c ORDER BY c.log, c.seq LOOP
        SELECT * INTO before FROM check_state s
        WHERE s.code = change.code AND s.pfa_id = change.pfa_id ORDER BY s.seq DESC LIMIT 1;
        IF before.data IS NULL AND NOT change.whole THEN
            INSERT INTO check_finding (invariant, finding) VALUES ('log',
                format('%s/%s: the log does not say what the record was before change %s', change.code, change.pfa_id, change.seq));
            CONTINUE;
        END IF;
        IF change.from_version <> coalesce(before.version, 0) THEN
            INSERT INTO check_finding (invariant, finding) VALUES ('I3',
                format('%s/%s: change %s goes from version %s to %s, but the record was at %s', change.code, change.pfa_id,
                       change.seq, change.from_version, change.to_version, before.version));
        END IF;
        INSERT INTO check_state VALUES (change.code, change.pfa_id, change.seq, change.to_version,
            CASE WHEN change.whole THEN change.changes
                 WHEN change.deleted OR change.changes IS NULL THEN before.data
                 ELSE pg_temp.patched(before.data, change.changes) END, change.deleted);
    END LOOP;
END
$$;

-- Which change touched which field: gave it another value.
CREATE TEMP TABLE check_touch AS
SELECT c.code, c.pfa_id, c.seq, c.ours, c.author, f.path
FROM check_change c
CROSS JOIN LATERAL (SELECT s.data FROM check_state s WHERE s.code = c.code AND s.pfa_id = c.pfa_id AND s.seq < c.seq
                    ORDER BY s.seq DESC LIMIT 1) before
CROSS JOIN LATERAL (
    SELECT l.path FROM (SELECT path FROM pg_temp.leaves(c.changes)
                        UNION SELECT path FROM pg_temp.leaves(before.data) WHERE c.whole) l
    WHERE NOT pg_temp.same(l.path[1], c.changes #> l.path, before.data #> l.path)) f;
CREATE INDEX ON check_touch (code, pfa_id, seq);
ANALYZE check_state, check_touch;

/* ---------- the database as tables ---------- */

CREATE TEMP TABLE check_item AS
SELECT q.*, o.code, m.sync_status, m.pems_version AS modification_version
FROM pfa_write_queue q
LEFT JOIN organization o ON o.id = q.organization_id
LEFT JOIN pfa_modification m ON m.id = q.modification_id;
CREATE UNIQUE INDEX ON check_item (id);
CREATE INDEX ON check_item (code, pfa_id, commit_seq);
CREATE INDEX ON check_item (modification_id);

CREATE TEMP TABLE check_audit AS
SELECT a.*, pg_xact_commit_timestamp(a.xmin) AS committed_at FROM pems_audit_log a WHERE current_setting('track_commit_timestamp')::boolean
UNION ALL
SELECT a.*, NULL FROM pems_audit_log a WHERE NOT current_setting('track_commit_timestamp')::boolean;
CREATE INDEX ON check_audit (item_id, attempt);
ANALYZE check_item, check_audit;

-- What was committed: the item, or, where the modification was deleted since, its line in the audit log.
CREATE TEMP TABLE check_committed AS
SELECT a.item_id, min(a.modification_id) AS modification_id, min(o.code) AS code, min(a.pfa_id) AS pfa_id,
       min(a.job_id) AS job_id, min(a.at) AS at, min(a.committed_at) AS committed_at, count(*) AS lines
FROM check_audit a LEFT JOIN organization o ON o.id = a.organization_id
WHERE a.event_type = 'COMMITTED' GROUP BY a.item_id;
CREATE UNIQUE INDEX ON check_committed (item_id);
CREATE INDEX ON check_committed (code, pfa_id);
CREATE INDEX ON check_audit (conflict_id) WHERE conflict_id IS NOT NULL;
ANALYZE check_committed;

-- What an item stands for, and since when.  Edit 0 is what the user committed; each resolution that sends
-- something is a new edit, on the version that the user saw then.
CREATE TEMP TABLE check_edit AS
SELECT e.*, coalesce(lead(e.since) OVER (PARTITION BY e.item_id ORDER BY e.since), 'infinity') AS until,
       row_number() OVER (PARTITION BY e.item_id ORDER BY e.since) - 1 AS edit,
       lead(e.since) OVER (PARTITION BY e.item_id ORDER BY e.since) IS NULL AS last
FROM (SELECT i.id AS item_id, '-infinity'::timestamptz AS since, coalesce(f.local_version, i.base_version) AS base_version,
             coalesce(f.local_data, i.payload) AS payload
      FROM check_item i
      LEFT JOIN (SELECT DISTINCT ON (c.item_id) c.* FROM pfa_sync_conflict c ORDER BY c.item_id, c.created_at, c.id) f ON f.item_id = i.id
      UNION ALL
      SELECT c.item_id, a.at, coalesce(c.pems_version, c.local_version),
             CASE c.resolution WHEN 'merge' THEN c.merged_data ELSE c.local_data END
      FROM pfa_sync_conflict c
      JOIN check_audit a ON a.conflict_id = c.id AND a.event_type = 'CONFLICT_RESOLVED'
      WHERE c.resolution IN ('use_local', 'merge')) e;
CREATE INDEX ON check_edit (item_id, since);

-- Who sent each request of an item: for which of its edits; and late: after the claim had been taken away
-- from its worker.  A worker that does not know yet that there is another one can do that; PEMS's
-- versions protect the record then, so such requests count for I3 and I4, but not for the order.
CREATE TEMP TABLE check_sent AS
SELECT r.log, r.seq, e.edit, e.base_version, e.payload,
       EXISTS (SELECT FROM check_audit a WHERE a.item_id = r.item_id AND a.attempt = r.attempt
               AND a.error_code = 'OUTCOME_UNKNOWN' AND a.at < r.at) AS late
FROM check_request r
LEFT JOIN check_edit e ON e.item_id = r.item_id AND r.at >= e.since AND r.at < e.until
WHERE r.item_id IS NOT NULL;
CREATE UNIQUE INDEX ON check_sent (log, seq);
ANALYZE check_edit, check_sent;

/* ---------- I1: nothing is lost ---------- */

INSERT INTO check_finding (invariant, finding)
SELECT 'I1', format('item %s has %s lines COMMITTED in the audit log', c.item_id, c.lines) FROM check_committed c WHERE c.lines <> 1
UNION ALL
SELECT 'I1', format('item %s was committed and is gone without a line DISCARDED', c.item_id)
FROM check_committed c
WHERE NOT EXISTS (SELECT FROM check_item i WHERE i.id = c.item_id)
  AND NOT EXISTS (SELECT FROM check_audit d WHERE d.item_id = c.item_id AND d.event_type = 'DISCARDED')
  -- the application deleted the modification when it was finished: the last that is known of it says so
  AND NOT (NOT EXISTS (SELECT FROM pfa_modification m WHERE m.id = c.modification_id)
           AND coalesce((SELECT CASE a.event_type
                                WHEN 'SYNCED_WITHOUT_REQUEST' THEN true
                                WHEN 'CONFLICT_RESOLVED' THEN a.request ->> 'resolution' = 'use_pems'
                                ELSE a.error_code IS NULL AND a.http_status IN (200, 404)
                                     AND EXISTS (SELECT FROM check_change w WHERE w.item_id = c.item_id) END
                         FROM check_audit a WHERE a.item_id = c.item_id ORDER BY a.at DESC LIMIT 1), false))
UNION ALL
SELECT 'I1', format('item %s is not in the audit log as COMMITTED', i.id)
FROM check_item i
WHERE NOT EXISTS (SELECT FROM check_committed c WHERE c.item_id = i.id)
UNION ALL
SELECT 'I1', format('modification %s is %s and has no item', m.id, m.sync_status)
FROM pfa_modification m
WHERE m.sync_status NOT IN ('draft', 'discarded') AND NOT EXISTS (SELECT FROM check_item i WHERE i.modification_id = m.id)
UNION ALL
-- an item whose outcome the application's own table refused could not mark its modification
SELECT 'I1', format('item %s is %s, but its modification %s', i.id, i.status, coalesce(i.sync_status, 'without a status'))
FROM check_item i
WHERE i.error_code IS DISTINCT FROM 'DATABASE_ERROR'
  AND CASE i.status WHEN 'completed' THEN i.sync_status <> 'synced'
                    WHEN 'failed' THEN i.sync_status <> 'failed'
                    WHEN 'conflict' THEN i.sync_status <> 'conflict'
                    WHEN 'cancelled' THEN i.sync_status IS DISTINCT FROM
                        CASE WHEN EXISTS (SELECT FROM check_audit d WHERE d.item_id = i.id AND d.event_type = 'DISCARDED')
                             THEN 'discarded' ELSE 'superseded' END
                    ELSE i.sync_status NOT IN ('queued', 'syncing') END IS NOT FALSE
  AND NOT EXISTS (SELECT FROM check_item later WHERE later.modification_id = i.modification_id AND later.commit_seq > i.commit_seq)
UNION ALL
SELECT 'I1', format('item %s is in conflict and has no unresolved conflict record', i.id)
FROM check_item i
WHERE i.status = 'conflict'
  AND NOT EXISTS (SELECT FROM pfa_sync_conflict c WHERE c.item_id = i.id AND c.status = 'unresolved')
UNION ALL
SELECT 'I1', format('conflict %s is unresolved, but its item is %s', c.id, coalesce(i.status, 'gone'))
FROM pfa_sync_conflict c LEFT JOIN check_item i ON i.id = c.item_id
WHERE c.status = 'unresolved' AND i.status IS DISTINCT FROM 'conflict'
UNION ALL
SELECT 'I1', format('item %s is cancelled, and nobody decided that', i.id)
FROM check_item i
WHERE i.status = 'cancelled'
  AND NOT EXISTS (SELECT FROM check_audit a WHERE a.item_id = i.id AND a.actor <> 'pems_sync'
                  AND (a.event_type = 'DISCARDED' OR (a.event_type = 'CONFLICT_RESOLVED' AND a.request ->> 'resolution' = 'use_pems')))
UNION ALL
SELECT 'I1', format('request %s was sent after its item had been cancelled', r.request_id)
FROM check_request r JOIN check_sent s ON s.log = r.log AND s.seq = r.seq AND NOT s.late
JOIN check_audit a ON a.item_id = r.item_id AND a.at < r.at
 AND (a.event_type = 'DISCARDED' OR (a.event_type = 'CONFLICT_RESOLVED' AND a.request ->> 'resolution' = 'use_pems'))
UNION ALL
SELECT 'I1', format('conflict %s is %s with %s, which the audit log has %s times', c.id, c.status, coalesce(c.resolution, 'nothing'), count(a.item_id))
FROM pfa_sync_conflict c
LEFT JOIN check_audit a ON a.conflict_id = c.id AND a.actor IS NOT DISTINCT FROM c.resolved_by
 AND CASE a.event_type WHEN 'CONFLICT_RESOLVED' THEN a.request ->> 'resolution' = c.resolution
                       WHEN 'DISCARDED' THEN c.resolution = 'use_pems' END
WHERE c.status <> 'unresolved'
GROUP BY c.id, c.status, c.resolution HAVING count(a.item_id) <> 1
UNION ALL
SELECT 'I1', format('conflict %s is unresolved, and the audit log says that it was decided', c.id)
FROM pfa_sync_conflict c
WHERE c.status = 'unresolved' AND EXISTS (SELECT FROM check_audit a WHERE a.conflict_id = c.id AND a.event_type = 'CONFLICT_RESOLVED')
UNION ALL
-- each conflict is about the edit that stood then, and names the one before it
SELECT 'I1', format('conflict %s has base %s and changes %s, its item had base %s and changes %s', c.id, c.local_version, c.local_data,
                    e.base_version, e.payload)
FROM pfa_sync_conflict c JOIN check_edit e ON e.item_id = c.item_id AND c.created_at >= e.since AND c.created_at < e.until
WHERE c.local_version <> e.base_version OR c.local_data <> e.payload
UNION ALL
SELECT 'I1', format('conflict %s follows %s, but names %s', c.id, coalesce(c.before, 'none'), coalesce(c.previous_conflict_id, 'none'))
FROM (SELECT c.*, lag(c.id) OVER (PARTITION BY c.item_id ORDER BY c.created_at, c.id) AS before FROM pfa_sync_conflict c) c
WHERE c.previous_conflict_id IS DISTINCT FROM c.before
UNION ALL
SELECT 'I1', format('item %s has base %s and changes %s, but what was decided is base %s and changes %s', i.id, i.base_version, i.payload,
                    e.base_version, e.payload)
FROM check_item i JOIN check_edit e ON e.item_id = i.id AND e.last
WHERE i.base_version <> e.base_version OR i.payload <> e.payload
UNION ALL
SELECT 'I1', format('item %s waits for its turn for ever: no earlier item of %s/%s is unfinished', i.id, i.code, i.pfa_id)
FROM check_item i
WHERE i.status = 'pending' AND i.waits_for = 'turn'
  AND NOT EXISTS (SELECT FROM check_item e WHERE e.code = i.code AND e.pfa_id = i.pfa_id AND e.commit_seq < i.commit_seq
                  AND e.status IN ('pending', 'processing', 'conflict', 'failed'))
  AND NOT EXISTS (SELECT FROM pems_recheck r WHERE r.organization_id = i.organization_id AND r.pfa_id = i.pfa_id)
UNION ALL
-- "synced" must be true
SELECT 'I1', format('item %s is completed, but PEMS applied nothing of it and nothing says why', i.id)
FROM check_item i JOIN check_edit e ON e.item_id = i.id AND e.last
WHERE i.status = 'completed'
  AND NOT EXISTS (SELECT FROM check_change c JOIN check_sent s ON s.log = c.log AND s.seq = c.request_seq
                  WHERE c.item_id = i.id AND s.edit = e.edit)
  AND NOT EXISTS (SELECT FROM check_audit a WHERE a.item_id = i.id AND a.event_type = 'SYNCED_WITHOUT_REQUEST' AND a.at > e.since)
  AND NOT (i.operation = 'DELETE' AND EXISTS (SELECT FROM check_audit a WHERE a.item_id = i.id AND a.http_status = 404 AND a.at > e.since))
UNION ALL
SELECT 'I1', format('item %s is completed without a request at version %s, but PEMS does not have its %s there', i.id, i.modification_version,
                    array_to_string(l.path, '.'))
FROM check_item i
JOIN check_edit e ON e.item_id = i.id AND e.last
CROSS JOIN LATERAL pg_temp.leaves(e.payload) l
WHERE i.status = 'completed' AND i.operation = 'UPDATE'
  AND NOT EXISTS (SELECT FROM check_change c WHERE c.item_id = i.id)
  AND EXISTS (SELECT FROM check_state s WHERE s.code = i.code AND s.pfa_id = i.pfa_id AND s.version = i.modification_version)
  AND NOT EXISTS (SELECT FROM check_state s WHERE s.code = i.code AND s.pfa_id = i.pfa_id AND s.version = i.modification_version
                  AND pg_temp.same(l.path[1], s.data #> l.path, l.value))
  AND NOT EXISTS (SELECT FROM check_request r WHERE r.code = i.code AND r.pfa_id = i.pfa_id AND r.fault LIKE '%roundNumbers%')
UNION ALL
SELECT 'I1', format('item %s is a completed delete of %s/%s, which PEMS always had', i.id, i.code, i.pfa_id)
FROM check_item i
WHERE i.status = 'completed' AND i.operation = 'DELETE'
  AND NOT EXISTS (SELECT FROM check_state s WHERE s.code = i.code AND s.pfa_id = i.pfa_id AND s.deleted)
  AND EXISTS (SELECT FROM check_state s WHERE s.code = i.code AND s.pfa_id = i.pfa_id)
UNION ALL
SELECT 'I1', format('item %s made version %s in PEMS, but its modification says %s', i.id, c.to_version, coalesce(i.modification_version::text, 'none'))
FROM check_item i JOIN check_change c ON c.item_id = i.id
-- a read that finds the record gone says no version
WHERE i.status = 'completed' AND i.operation = 'UPDATE' AND coalesce(i.modification_version < c.to_version, true)
  -- PEMS went back to a backup afterwards, and the edit was made once more
  AND NOT EXISTS (SELECT FROM check_change b WHERE b.code = c.code AND b.pfa_id = c.pfa_id AND b.seq > c.seq AND b.to_version < b.from_version);

/* ---------- I2: nothing uncommitted is sent ---------- */

INSERT INTO check_finding (invariant, finding)
SELECT 'I2', format('request %s of log %s (%s %s) names no item', r.seq, r.log, r.method, r.path)
FROM check_request r WHERE r.call IN ('update', 'delete', 'read', 'list', 'unknown') AND r.item_id IS NULL AND r.pull_id IS NULL
UNION ALL
SELECT 'I2', format('request %s of a pull is a %s', r.request_id, r.method)
FROM check_request r WHERE r.pull_id IS NOT NULL AND r.call NOT IN ('read', 'list')
UNION ALL
SELECT 'I2', format('request %s was sent for an item that was never committed', r.request_id)
FROM check_request r
WHERE r.item_id IS NOT NULL AND NOT EXISTS (SELECT FROM check_item i WHERE i.id = r.item_id)
  AND NOT EXISTS (SELECT FROM check_committed c WHERE c.item_id = r.item_id)
UNION ALL
SELECT 'I2', format('request %s is about %s/%s, its item about %s/%s', r.request_id, r.code, r.pfa_id, c.code, c.pfa_id)
FROM check_request r JOIN check_committed c ON c.item_id = r.item_id
WHERE (r.code, r.pfa_id) IS DISTINCT FROM (c.code, c.pfa_id)
UNION ALL
SELECT 'I2', format('request %s arrived before its item was queued', r.request_id)
FROM check_request r JOIN check_committed c ON c.item_id = r.item_id WHERE r.at < c.at
UNION ALL
SELECT 'I2', format('request %s is a %s, its item %s', r.request_id, r.method, i.operation)
FROM check_request r JOIN check_item i ON i.id = r.item_id
WHERE r.call IN ('update', 'delete') AND (r.call = 'delete') <> (i.operation = 'DELETE')
UNION ALL
SELECT 'I2', format('request %s sends %s, which its item does not', r.request_id, array_to_string(l.path, '.'))
FROM check_request r JOIN check_sent s ON s.log = r.log AND s.seq = r.seq CROSS JOIN LATERAL pg_temp.leaves(r.changes) l
WHERE r.call = 'update' AND s.edit IS NOT NULL AND s.payload #> l.path IS DISTINCT FROM l.value
  -- objects are sent whole: members that the edit does not name have the value that PEMS has
  AND NOT (cardinality(l.path) > 1 AND EXISTS (SELECT FROM check_state p WHERE p.code = r.code AND p.pfa_id = r.pfa_id
                                               AND p.version = r.version AND p.data #> l.path = l.value))
UNION ALL
SELECT 'I2', format('request %s was sent in the name of %s, not of %s', r.request_id, coalesce(r.modified_by, 'nobody'), i.created_by)
FROM check_request r JOIN check_item i ON i.id = r.item_id
WHERE r.call IN ('update', 'delete') AND r.modified_by IS DISTINCT FROM i.created_by AND i.created_by IS NOT NULL
UNION ALL
SELECT 'I2', format('request %s has the idempotency key %s', r.request_id, coalesce(r.idempotency_key, 'none'))
FROM check_request r
WHERE r.call IN ('update', 'delete') AND r.idempotency_key IS DISTINCT FROM r.item_id || ':' || r.version;

/* ---------- I3: no lost update ---------- */

CREATE TEMP TABLE check_write AS
SELECT c.*, sent.edit, sent.late, sent.base_version, i.operation, i.commit_seq, before.seq AS before_seq, before.version AS before_version, before.data AS before_data,
       base.seq AS base_seq, base.data AS base_data
FROM check_change c
JOIN check_item i ON i.id = c.item_id
JOIN check_sent sent ON sent.log = c.log AND sent.seq = c.request_seq
LEFT JOIN LATERAL (SELECT * FROM check_state s WHERE s.code = c.code AND s.pfa_id = c.pfa_id AND s.seq < c.seq
                   ORDER BY s.seq DESC LIMIT 1) before ON true
LEFT JOIN LATERAL (SELECT * FROM check_state s WHERE s.code = c.code AND s.pfa_id = c.pfa_id AND s.seq < c.seq
                   AND s.version = sent.base_version ORDER BY s.seq DESC LIMIT 1) base ON true
WHERE c.ours;
CREATE INDEX ON check_write (code, pfa_id, seq);
ANALYZE check_write;

-- Had a state of the base version, before the write, that value?  A version has several states where PEMS went back to
-- a backup; which of them the user saw is not known here.
CREATE FUNCTION pg_temp.at_base(w check_write, path text[]) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM check_state s WHERE s.code = w.code AND s.pfa_id = w.pfa_id AND s.seq < w.seq
                   AND s.version = w.base_version AND pg_temp.same($2[1], w.before_data #> $2, s.data #> $2))
$$;

-- Is what PEMS had there the author's own doing, after the base: the value that an earlier edit of the author's gave
-- it?  (That somebody may have changed it in between and put it back is as with the base: A, B, A.)
CREATE FUNCTION pg_temp.own(w check_write, path text[]) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM check_touch t JOIN check_change c ON c.code = t.code AND c.pfa_id = t.pfa_id AND c.seq = t.seq
                   WHERE t.code = w.code AND t.pfa_id = w.pfa_id AND t.path = $2 AND t.seq > w.base_seq AND t.seq < w.seq
                     AND t.ours AND t.author IS NOT DISTINCT FROM w.author AND pg_temp.same($2[1], c.changes #> $2, w.before_data #> $2))
        -- its answer was lost, and the very next version had what it wanted: nobody can tell that somebody else made that
        OR EXISTS (SELECT FROM check_item e
                   WHERE e.code = w.code AND e.pfa_id = w.pfa_id AND e.commit_seq < w.commit_seq AND e.created_by = w.author
                     AND e.status = 'completed' AND e.operation = 'UPDATE' AND e.modification_version = e.sent_version + 1
                     AND e.modification_version > w.base_version AND NOT EXISTS (SELECT FROM check_change c WHERE c.item_id = e.id)
                     AND pg_temp.same($2[1], e.payload #> $2, w.before_data #> $2))
$$;

-- What each look of an item found in PEMS, and the write that followed it.
CREATE TEMP TABLE check_look AS
SELECT r.request_id AS look, r.code, r.pfa_id, r.seq, r.next_id AS write, r.next_version AS sent_version
FROM (SELECT r.*, lead(r.request_id) OVER item AS next_id, lead(r.call) OVER item AS next_call, lead(r.version) OVER item AS next_version,
             lead(s.late) OVER item AS next_late
      FROM check_request r JOIN check_sent s ON s.log = r.log AND s.seq = r.seq
      WINDOW item AS (PARTITION BY r.item_id ORDER BY r.attempt, r.seq)) r
JOIN check_audit a ON a.item_id = r.item_id AND a.attempt = r.attempt AND a.http_method = 'GET' AND a.http_status = 200 AND a.error_code IS NULL
WHERE r.call = 'read' AND r.next_call IN ('update', 'delete') AND NOT r.next_late;

INSERT INTO check_finding (invariant, finding)
SELECT 'I3', format('%s wrote on version %s of %s/%s, which was at %s', w.request_id, w.request_version, w.code, w.pfa_id, w.before_version)
FROM check_write w WHERE w.request_version IS DISTINCT FROM w.before_version
UNION ALL
SELECT 'I3', format('%s wrote %s.%s = %s over %s, which was %s at the base version %s', w.request_id, w.pfa_id, array_to_string(l.path, '.'),
                    l.value, coalesce((w.before_data #> l.path)::text, 'nothing'),
                    CASE WHEN w.base_seq IS NULL THEN 'unknown' ELSE coalesce((w.base_data #> l.path)::text, 'nothing') END, w.base_version)
FROM check_write w CROSS JOIN LATERAL pg_temp.leaves(w.changes) l
WHERE w.operation = 'UPDATE'
  AND NOT pg_temp.same(l.path[1], w.before_data #> l.path, l.value)
  AND NOT pg_temp.at_base(w, l.path)
  AND NOT pg_temp.own(w, l.path)
UNION ALL
SELECT 'I3', format('%s deleted %s/%s, which somebody had changed after the base version %s', w.request_id, w.code, w.pfa_id, w.base_version)
FROM check_write w
WHERE w.operation = 'DELETE' AND w.before_version <> w.base_version
  AND (w.base_seq IS NULL OR EXISTS (
       SELECT FROM (SELECT path FROM pg_temp.leaves(w.before_data) UNION SELECT path FROM pg_temp.leaves(w.base_data)) l
       WHERE NOT pg_temp.at_base(w, l.path) AND NOT pg_temp.own(w, l.path)))
UNION ALL
-- The version of a write is never an older one than PEMS was seen to have: that of the stale base, say.
SELECT 'I3', format('%s was sent on version %s, although %s had found version %s', k.write, k.sent_version, k.look, s.version)
FROM check_look k
CROSS JOIN LATERAL (SELECT s.version FROM check_state s WHERE s.code = k.code AND s.pfa_id = k.pfa_id AND s.seq < k.seq
                    ORDER BY s.seq DESC LIMIT 1) s
WHERE k.sent_version < s.version
UNION ALL
-- Who resolves a conflict decides on what it shows.
SELECT 'I3', format('conflict %s shows what %s/%s never was at version %s', c.id, o.code, c.pfa_id, side.version)
FROM pfa_sync_conflict c
JOIN organization o ON o.id = c.organization_id
CROSS JOIN LATERAL (VALUES (c.pems_version, c.pems_data), (c.local_version, c.base_data)) AS side (version, data)
WHERE side.data IS NOT NULL
  AND EXISTS (SELECT FROM check_state s WHERE s.code = o.code AND s.pfa_id = c.pfa_id AND s.version = side.version)
  AND NOT EXISTS (SELECT FROM check_state s WHERE s.code = o.code AND s.pfa_id = c.pfa_id AND s.version = side.version
                  AND pg_temp.same_record(s.data, side.data))
  AND NOT EXISTS (SELECT FROM check_request r WHERE r.code = o.code AND r.pfa_id = c.pfa_id AND r.fault LIKE '%roundNumbers%');

/* ---------- I4: at most one effect ---------- */

INSERT INTO check_finding (invariant, finding)
-- once per edit: a resolution in between is a new one; and so is the same edit where PEMS went back to a backup
SELECT 'I4', format('item %s changed PEMS %s times%s: versions %s', c.item_id, count(*),
                    CASE WHEN s.edit > 0 THEN ' after resolution ' || s.edit ELSE '' END,
                    string_agg(c.to_version::text, ', ' ORDER BY c.seq))
FROM check_change c LEFT JOIN check_sent s ON s.log = c.log AND s.seq = c.request_seq
CROSS JOIN LATERAL (SELECT count(*) AS times FROM check_change b WHERE b.code = c.code AND b.pfa_id = c.pfa_id
                    AND b.seq < c.seq AND NOT b.ours AND b.to_version <= b.from_version) back
WHERE c.ours GROUP BY c.item_id, s.edit, back.times HAVING count(*) > 1
UNION ALL
SELECT 'I4', format('modification %s changed PEMS %s times', i.modification_id, count(*))
FROM check_change c JOIN check_item i ON i.id = c.item_id
GROUP BY i.modification_id HAVING count(*) > 1 AND count(DISTINCT c.item_id) > 1
UNION ALL
-- Never a blind second write; and PEMS gets two seconds to commit the first, less what a request is on its way.
SELECT 'I4', format(CASE WHEN r.call = 'read' THEN '%s looked for the outcome of %s after only %s s' ELSE '%s was written again, without a look after %s (%s s before)' END,
                    r.request_id, r.before, round(extract(epoch FROM r.at - r.before_at), 3))
FROM (SELECT r.*, lag(r.request_id) OVER item AS before, lag(r.at) OVER item AS before_at, lag(r.call) OVER item AS before_call,
             lag(s.edit) OVER item AS before_edit, lag(s.late) OVER item AS before_late,
             lag(a.http_status IS NULL OR a.http_status >= 500
                 OR a.error_code IN ('BAD_RESPONSE', 'ACCEPTED', 'RESPONSE_TOO_LARGE', 'SERVER_ERROR', 'UNAVAILABLE')) OVER item AS lost,
             s.edit
      FROM check_request r
      JOIN check_sent s ON s.log = r.log AND s.seq = r.seq
      JOIN check_audit a ON a.item_id = r.item_id AND a.attempt = r.attempt AND a.http_method IS NOT NULL
      WINDOW item AS (PARTITION BY r.item_id ORDER BY r.attempt)) r
WHERE r.before_call IN ('update', 'delete') AND r.lost AND r.before <> r.request_id AND NOT r.before_late AND r.edit IS NOT DISTINCT FROM r.before_edit
  AND (r.call <> 'read' OR r.at < r.before_at + interval '1.5 seconds');

/* ---------- I5: order ---------- */

-- When each item was done with: a conflict or a dead letter is not, until somebody decides.
CREATE TEMP TABLE check_order AS
SELECT i.id AS item_id, i.code, i.pfa_id, i.commit_seq, c.job_id, coalesce(c.committed_at, c.at) AS committed_at,
       greatest(CASE WHEN i.status IN ('completed', 'cancelled') THEN i.completed_at ELSE 'infinity' END, r.at) AS finished_at
FROM check_item i
LEFT JOIN check_committed c ON c.item_id = i.id
LEFT JOIN (SELECT r.item_id, max(r.at) AS at FROM check_request r JOIN check_sent s ON s.log = r.log AND s.seq = r.seq AND NOT s.late
           GROUP BY r.item_id) r ON r.item_id = i.id;
CREATE UNIQUE INDEX ON check_order (item_id);
CREATE INDEX ON check_order (code, pfa_id, commit_seq);
ANALYZE check_order;

INSERT INTO check_finding (invariant, finding)
SELECT 'I5', format('%s/%s: request %s was sent while item %s, committed earlier, was not finished', i.code, i.pfa_id, r.request_id, e.item_id)
FROM (SELECT o.*, max(o.finished_at) OVER (PARTITION BY o.code, o.pfa_id ORDER BY o.commit_seq
                                           ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS earlier_finished_at
      FROM check_order o) i
JOIN check_request r ON r.item_id = i.item_id AND r.at < i.earlier_finished_at
JOIN check_sent s ON s.log = r.log AND s.seq = r.seq AND NOT s.late
-- only for the few that are suspicious: a join of all pairs would be quadratic
JOIN check_order e ON e.code = i.code AND e.pfa_id = i.pfa_id AND e.commit_seq < i.commit_seq AND e.finished_at > r.at
-- A lower number that was committed later, by a session that was slower, is not overtaken.
WHERE e.job_id = i.job_id OR e.committed_at < r.at - interval '100 milliseconds'
UNION ALL
-- An item that went with its modification counts until then.
SELECT 'I5', format('%s/%s: request %s was sent while item %s, committed earlier and deleted later, was not finished', r.code, r.pfa_id,
                    r.request_id, g.item_id)
FROM (SELECT c.*, coalesce(c.committed_at, c.at) AS since, (SELECT max(a.at) FROM check_audit a WHERE a.item_id = c.item_id) AS until
      FROM check_committed c WHERE NOT EXISTS (SELECT FROM check_item i WHERE i.id = c.item_id)
        -- one that was finished when it was deleted has been out of the way before
        AND EXISTS (SELECT FROM check_audit a WHERE a.item_id = c.item_id AND a.event_type = 'DISCARDED')) g
JOIN check_order i ON i.code = g.code AND i.pfa_id = g.pfa_id AND i.committed_at > g.since + interval '100 milliseconds'
JOIN check_request r ON r.item_id = i.item_id AND r.at > g.since + interval '100 milliseconds' AND r.at < g.until
JOIN check_sent s ON s.log = r.log AND s.seq = r.seq AND NOT s.late
UNION ALL
SELECT 'I5', format('%s/%s: item %s reached PEMS after item %s', a.code, a.pfa_id, a.item_id, b.item_id)
FROM (SELECT w.*, max(w.commit_seq) OVER (PARTITION BY w.code, w.pfa_id ORDER BY w.seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS highest
      FROM check_write w) a
JOIN check_write b ON b.code = a.code AND b.pfa_id = a.pfa_id AND b.seq < a.seq AND b.commit_seq > a.commit_seq
JOIN check_order ao ON ao.item_id = a.item_id
JOIN check_order bo ON bo.item_id = b.item_id
WHERE a.highest > a.commit_seq AND NOT a.late
  AND (ao.job_id = bo.job_id
       OR ao.committed_at < (SELECT r.at FROM check_request r WHERE r.log = b.log AND r.seq = b.request_seq) - interval '100 milliseconds')
UNION ALL
-- One request of a record at a time: each attempt is recorded before the next request of its record starts.
SELECT 'I5', format('%s/%s: request %s was sent before the outcome of %s was recorded', r.code, r.pfa_id, r.request_id, r.before)
FROM (SELECT r.*, lag(r.request_id) OVER record AS before, lag(a.at) OVER record AS recorded
      FROM check_request r
      JOIN check_sent s ON s.log = r.log AND s.seq = r.seq AND NOT s.late
      JOIN check_audit a ON a.item_id = r.item_id AND a.attempt = r.attempt AND a.http_method IS NOT NULL
      WINDOW record AS (PARTITION BY r.code, r.pfa_id ORDER BY r.at)) r
WHERE r.at < r.recorded AND r.before <> r.request_id;

/* ---------- I6: every attempt is in the audit log, exactly once ---------- */

INSERT INTO check_finding (invariant, finding)
SELECT 'I6', format('request %s is in the audit log %s times', r.request_id, count(a.item_id))
FROM check_request r LEFT JOIN check_audit a ON a.item_id = r.item_id AND a.attempt = r.attempt AND a.http_method IS NOT NULL
WHERE r.item_id IS NOT NULL
  AND NOT EXISTS (SELECT FROM check_item i WHERE i.id = r.item_id AND i.status = 'processing' AND i.attempt = r.attempt)
GROUP BY r.log, r.seq, r.request_id HAVING count(a.item_id) <> 1
UNION ALL
SELECT 'I6', format('request %s arrived %s times', r.request_id, count(*))
FROM check_request r WHERE r.item_id IS NOT NULL GROUP BY r.request_id HAVING count(*) > 1
UNION ALL
SELECT 'I6', format('attempt %s:%s is in the audit log %s times', a.item_id, a.attempt, count(*))
FROM check_audit a WHERE a.attempt IS NOT NULL GROUP BY a.item_id, a.attempt HAVING count(*) > 1
UNION ALL
SELECT 'I6', format('request %s was a %s with status %s, the audit log says %s with %s', r.request_id, r.method, r.status, a.http_method,
                    coalesce(a.http_status::text, a.error_code, 'nothing'))
FROM check_request r JOIN check_audit a ON a.item_id = r.item_id AND a.attempt = r.attempt AND a.http_method IS NOT NULL
WHERE a.http_method <> r.method OR a.http_status <> r.status
   OR (a.http_status IS NULL AND a.error_code NOT IN ('NETWORK_ERROR', 'TLS_ERROR', 'TIMEOUT', 'OUTCOME_UNKNOWN', 'RESPONSE_TOO_LARGE', 'BAD_RESPONSE'))
   OR a.event_type <> CASE WHEN r.method = 'GET' THEN 'READ_ATTEMPT' ELSE 'WRITE_ATTEMPT' END
UNION ALL
SELECT 'I6', format('attempt %s:%s got status %s, but no such request arrived', a.item_id, a.attempt, a.http_status)
FROM check_audit a
WHERE a.item_id IS NOT NULL AND a.http_status IS NOT NULL
  AND NOT EXISTS (SELECT FROM check_request r WHERE r.item_id = a.item_id AND r.attempt = a.attempt)
UNION ALL
SELECT 'I6', format('attempt %s:%s never arrived, and its error is %s', a.item_id, a.attempt, coalesce(a.error_code, 'none'))
FROM check_audit a
WHERE a.item_id IS NOT NULL AND a.http_method IS NOT NULL AND a.http_status IS NULL
  AND coalesce(a.error_code, '') NOT IN ('NETWORK_ERROR', 'TLS_ERROR', 'TIMEOUT', 'OUTCOME_UNKNOWN', 'FORBIDDEN_ADDRESS', 'CANCELLED',
                                         'INTERNAL_ERROR', 'DATABASE_ERROR')
  AND NOT EXISTS (SELECT FROM check_request r WHERE r.item_id = a.item_id AND r.attempt = a.attempt)
UNION ALL
-- A claim that needed no request has a line that says what was decided instead.  One that was given back, because
-- PEMS refused to be asked just then, has none; but it is never the last of an item that is done.
SELECT 'I6', format('of %s attempts of item %s the audit log has %s', i.attempt, i.id, coalesce(a.lines, 0))
FROM check_item i
LEFT JOIN (SELECT a.item_id, count(*) FILTER (WHERE a.attempt IS NOT NULL) AS attempts, max(a.attempt) AS newest,
                  count(*) FILTER (WHERE a.event_type = 'CONFLICT_DETECTED') AS conflicts,
                  count(*) FILTER (WHERE a.event_type = 'CONFLICT_RESOLVED') AS resolutions,
                  count(*) FILTER (WHERE a.attempt IS NOT NULL OR a.event_type = 'CONFLICT_DETECTED') AS lines
           FROM check_audit a GROUP BY a.item_id) a ON a.item_id = i.id
WHERE coalesce(a.attempts, 0) > i.attempt
   OR (coalesce(a.lines, 0) < i.attempt - CASE WHEN i.status = 'processing' THEN 1 ELSE 0 END
       AND ((i.status IN ('completed', 'failed') AND a.newest IS DISTINCT FROM i.attempt)
            OR (i.status = 'conflict' AND coalesce(a.conflicts <= a.resolutions, true))
            OR NOT EXISTS (SELECT FROM check_request r WHERE r.code IN (SELECT o.code FROM check_request o WHERE o.log IN (
                               SELECT l.log FROM check_request l WHERE l.code = i.code))
                           AND (r.status IN (0, 401, 403, 429) OR r.status >= 500 OR r.fault IS NOT NULL)
                           AND r.at BETWEEN i.created_at - interval '2 minutes' AND coalesce(i.completed_at, 'infinity'))))
UNION ALL
SELECT 'I6', format('conflict %s has %s lines CONFLICT_DETECTED', c.id, count(a.conflict_id))
FROM pfa_sync_conflict c LEFT JOIN check_audit a ON a.conflict_id = c.id AND a.event_type = 'CONFLICT_DETECTED'
GROUP BY c.id HAVING count(a.conflict_id) <> 1;

-- The requests of a pull are in no audit log, but numbered: a number is used once, and noted before its request leaves.
INSERT INTO check_finding (invariant, finding)
SELECT 'I6', format('request %s of a pull arrived %s times', r.request_id, count(*))
FROM check_request r WHERE r.pull_id IS NOT NULL GROUP BY r.request_id HAVING count(*) > 1
UNION ALL
SELECT 'I6', format('pull %s has made %s requests, but request %s arrived', r.pull_id, coalesce(s.requests, 0), max(r.attempt))
FROM check_request r LEFT JOIN pems_pull_state s ON s.job_id = r.pull_id
WHERE r.pull_id IS NOT NULL GROUP BY r.pull_id, s.requests HAVING max(r.attempt) > coalesce(s.requests, 0)
UNION ALL
SELECT 'I6', format('request %s asks for %s/%s, its pull reads %s of %s', r.request_id, r.code, coalesce(r.pfa_id, 'all'),
                    coalesce(s.pfa_id, 'all'), o.code)
FROM check_request r JOIN pems_pull_state s ON s.job_id = r.pull_id JOIN organization o ON o.id = s.organization_id
-- a listing asks for records that it has not shown by themselves
WHERE r.code <> o.code OR (s.pfa_id IS NOT NULL AND r.pfa_id IS DISTINCT FROM s.pfa_id)
   OR (s.pfa_id IS NULL AND r.pfa_id IS NOT NULL AND s.mode = 'delta');

/* ---------- I7: nothing is held while the network is waited for ---------- */

INSERT INTO check_finding (invariant, finding)
SELECT 'I7', format('worker %s has had a transaction open since %s', s.pid, s.xact_start)
FROM pg_stat_activity s
WHERE s.backend_type LIKE 'pems_sync%' AND s.datname = current_database()
  AND (s.xact_start < clock_timestamp() - interval '2 seconds' OR s.state = 'idle in transaction');

/* ---------- I8: when all is quiet, mirror = PEMS ---------- */

INSERT INTO check_finding (invariant, finding)
SELECT 'quiet', format('item %s of %s/%s is still %s (%s)', i.id, i.code, i.pfa_id, i.status, coalesce(i.error_code, 'no error'))
FROM check_item i, check_option o
WHERE o.quiet AND (i.status = 'processing' OR (i.status = 'pending' AND i.waits_for IS DISTINCT FROM 'turn'));

-- Writes that were made, and whose record PEMS did not show any more: the mirror stays behind until the next edit is due.
CREATE TEMP TABLE check_unread AS
SELECT w.item_id FROM check_audit w
WHERE w.event_type = 'WRITE_ATTEMPT' AND w.http_status = 200 AND w.error_code IS NULL
  AND (SELECT l.http_status = 404 AND l.http_method = 'GET' FROM check_audit l
       WHERE l.item_id = w.item_id AND l.http_method IS NOT NULL ORDER BY l.attempt DESC LIMIT 1);

-- The last time that we and PEMS agreed: our write, or a read that was answered.
CREATE TEMP TABLE check_contact AS
SELECT r.code, r.pfa_id, max(r.seq) AS seq
FROM check_request r
JOIN check_audit a ON a.item_id = r.item_id AND a.attempt = r.attempt AND a.http_method IS NOT NULL
WHERE (a.error_code IS NULL AND r.status = 200 OR r.status = 404 AND r.call = 'read' AND a.http_status = 404)
  AND r.item_id NOT IN (SELECT u.item_id FROM check_unread u)
GROUP BY r.code, r.pfa_id;

CREATE TEMP TABLE check_expected AS
SELECT c.code, c.pfa_id, s.seq, s.version, s.deleted,
       -- what PEMS says it has, where nothing happened since; a value that PEMS rounded is in no log
       CASE WHEN p.record IS NOT NULL AND s.seq = s.last THEN p.record -> 'data' ELSE s.data END AS data,
       s.seq = s.last AS newest, p.record
FROM check_contact c
CROSS JOIN LATERAL (SELECT s.*, (SELECT max(l.seq) FROM check_state l WHERE l.code = c.code AND l.pfa_id = c.pfa_id) AS last
                    FROM check_state s
                    WHERE s.code = c.code AND s.pfa_id = c.pfa_id AND s.seq <= c.seq + 1
                      -- the change that a request makes stands right behind it
                      AND (s.seq < c.seq OR EXISTS (SELECT FROM check_change x WHERE x.code = c.code AND x.pfa_id = c.pfa_id
                                                    AND x.seq = s.seq AND x.request_seq = c.seq))
                    ORDER BY s.seq DESC LIMIT 1) s
LEFT JOIN LATERAL (SELECT r AS record FROM check_pems d CROSS JOIN LATERAL jsonb_array_elements(d.records) r
                   WHERE r ->> 'organizationCode' = c.code AND r ->> 'pfaId' = c.pfa_id LIMIT 1) p ON true;

-- What the mirror has: a state that PEMS had after that one, and that a pull may have brought since?  One that takes
-- lower versions (adopt) may bring any, where what it reads lags behind.
CREATE FUNCTION pg_temp.pulled_since(e check_expected, m pfa_mirror) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM check_state l
        WHERE l.code = e.code AND l.pfa_id = e.pfa_id
          AND EXISTS (SELECT FROM check_request r JOIN check_contact c ON c.code = e.code AND c.pfa_id = e.pfa_id
                      JOIN pems_pull_state s ON s.job_id = r.pull_id
                      WHERE r.code = e.code AND r.seq > c.seq AND r.status IN (200, 404)
                        AND coalesce(r.pfa_id, e.pfa_id) = e.pfa_id AND (l.seq > e.seq OR s.mode = 'adopt'))
          AND l.deleted = (m.deleted_at IS NOT NULL)
          AND (l.deleted OR (l.version = m.version AND pg_temp.same_record(l.data, m.data))))
$$;

INSERT INTO check_finding (invariant, finding)
SELECT 'I8', f.finding
FROM (SELECT CASE
             WHEN m.version IS NULL AND e.deleted THEN NULL
             WHEN m.version IS NULL THEN format('%s/%s has no mirror', e.code, e.pfa_id)
             WHEN pg_temp.pulled_since(e, m) THEN NULL
             WHEN e.deleted <> (m.deleted_at IS NOT NULL) THEN format('%s/%s: deleted is %s in PEMS, %s in the mirror', e.code, e.pfa_id,
                                                                      e.deleted, m.deleted_at IS NOT NULL)
             WHEN e.deleted THEN NULL
             WHEN e.version <> m.version THEN format('%s/%s: PEMS has version %s, the mirror %s', e.code, e.pfa_id, e.version, m.version)
             WHEN NOT pg_temp.same_record(e.data, m.data) THEN format('%s/%s: at version %s PEMS has %s, the mirror %s', e.code, e.pfa_id,
                 e.version, (SELECT jsonb_object_agg(d.key, d.value) FROM jsonb_each(e.data) d WHERE NOT pg_temp.same(d.key, d.value, m.data -> d.key)),
                 (SELECT jsonb_object_agg(d.key, d.value) FROM jsonb_each(m.data) d WHERE NOT pg_temp.same(d.key, d.value, e.data -> d.key)))
             WHEN e.newest AND (e.record ->> 'version')::bigint <> m.version
                 THEN format('%s/%s: PEMS says version %s, the mirror %s', e.code, e.pfa_id, e.record ->> 'version', m.version)
             END AS finding
      FROM check_expected e
      CROSS JOIN check_option option
      JOIN organization o ON o.code = e.code
      LEFT JOIN pfa_mirror m ON m.organization_id = o.id AND m.pfa_id = e.pfa_id
      WHERE option.quiet) f
WHERE f.finding IS NOT NULL
UNION ALL
SELECT 'I8', format('%s/%s: the history of version %s is not what PEMS had', o.code, v.pfa_id, v.version)
FROM pems_mirror_version v JOIN organization o ON o.id = v.organization_id
WHERE v.source IN ('pems', 'write')
  AND EXISTS (SELECT FROM check_state s WHERE s.code = o.code AND s.pfa_id = v.pfa_id AND s.version = v.version)
  AND NOT EXISTS (SELECT FROM check_state s WHERE s.code = o.code AND s.pfa_id = v.pfa_id AND s.version = v.version
                  AND (pg_temp.same_record(s.data, v.data) OR s.deleted))
  AND NOT EXISTS (SELECT FROM check_request r WHERE r.code = o.code AND r.pfa_id = v.pfa_id AND r.fault LIKE '%roundNumbers%')
UNION ALL
SELECT 'I8', format('%s/%s: the mirror is at version %s, and the history does not have it', o.code, m.pfa_id, m.version)
FROM pfa_mirror m JOIN organization o ON o.id = m.organization_id
WHERE NOT EXISTS (SELECT FROM pems_mirror_version v WHERE v.organization_id = m.organization_id AND v.pfa_id = m.pfa_id
                  AND v.version = m.version AND v.data = m.data);

-- After a complete full pull: all that PEMS has is in the mirror, and nothing else.
CREATE TEMP TABLE check_all AS
SELECT o.id AS organization_id, o.code, r ->> 'pfaId' AS pfa_id, (r ->> 'version')::bigint AS version,
       (r ->> 'deleted')::boolean AS deleted, r -> 'data' AS data
FROM check_pems d CROSS JOIN LATERAL jsonb_array_elements(d.records) r JOIN organization o ON o.code = r ->> 'organizationCode'
WHERE (SELECT complete FROM check_option);
CREATE INDEX ON check_all (organization_id, pfa_id);
ANALYZE check_all;

INSERT INTO check_finding (invariant, finding)
SELECT 'I8', f.finding
FROM (SELECT CASE
             WHEN m.version IS NULL AND a.deleted THEN NULL
             WHEN m.version IS NULL THEN format('%s/%s is in PEMS, and not in the mirror', a.code, a.pfa_id)
             WHEN a.deleted <> (m.deleted_at IS NOT NULL)
                 THEN format('%s/%s: after a full pull deleted is %s in PEMS, %s in the mirror', a.code, a.pfa_id, a.deleted, m.deleted_at IS NOT NULL)
             WHEN a.deleted THEN NULL
             WHEN a.version <> m.version
                 THEN format('%s/%s: after a full pull PEMS has version %s, the mirror %s', a.code, a.pfa_id, a.version, m.version)
             WHEN NOT pg_temp.same_record(a.data, m.data)
                 THEN format('%s/%s: after a full pull PEMS has other data at version %s than the mirror', a.code, a.pfa_id, a.version)
             END AS finding
      FROM check_all a
      LEFT JOIN pfa_mirror m ON m.organization_id = a.organization_id AND m.pfa_id = a.pfa_id) f
WHERE f.finding IS NOT NULL
UNION ALL
SELECT 'I8', format('%s/%s is alive in the mirror, and PEMS has not got it', o.code, m.pfa_id)
FROM pfa_mirror m JOIN organization o ON o.id = m.organization_id
WHERE (SELECT complete FROM check_option) AND m.deleted_at IS NULL
  AND NOT EXISTS (SELECT FROM check_all a WHERE a.organization_id = m.organization_id AND a.pfa_id = m.pfa_id)
UNION ALL
SELECT 'I8', format('%s/%s is in quarantine (%s), but a full pull has stored it since', a.code, a.pfa_id, q.reason)
FROM pems_quarantined q JOIN check_all a ON a.organization_id = q.organization_id AND a.pfa_id = q.pfa_id
UNION ALL
SELECT 'quiet', format('pull %s of %s is not over: %s', s.job_id, o.code, s.phase)
FROM pems_pull_state s JOIN organization o ON o.id = s.organization_id
WHERE (SELECT complete FROM check_option) AND s.phase <> 'ended'
UNION ALL
SELECT 'quiet', format('no full pull of %s was complete that began after the last change in PEMS', o.code)
FROM organization o
WHERE (SELECT complete FROM check_option)
  AND NOT EXISTS (
      SELECT FROM pems_pull_state s JOIN pems_sync_job j ON j.id = s.job_id
      WHERE s.organization_id = o.id AND s.pfa_id IS NULL AND s.mode <> 'delta' AND j.status = 'completed'
        AND s.listing_since > coalesce((SELECT max((l.line ->> 'at')::timestamptz) FROM check_line l
                                        WHERE l.line ->> 'kind' = 'change' AND l.line ->> 'organizationCode' = o.code), '-infinity'));

/* ---------- the counts that the status shows ---------- */

INSERT INTO check_finding (invariant, finding)
SELECT 'counts', format('%s: %s is %s in the statistics and %s in the queue', q.code, v.name, v.counted, v.really)
FROM (SELECT o.id, o.code, count(*) FILTER (WHERE i.status = 'pending') AS pending,
             count(*) FILTER (WHERE i.status = 'pending' AND i.waits_for = 'turn') AS held,
             count(*) FILTER (WHERE i.status = 'processing') AS processing,
             count(*) FILTER (WHERE i.status = 'failed') AS failed, count(*) FILTER (WHERE i.status = 'conflict') AS conflict
      FROM organization o LEFT JOIN check_item i ON i.organization_id = o.id GROUP BY o.id, o.code) q
LEFT JOIN (SELECT s.organization_id, sum(s.pending) AS pending, sum(s.held) AS held, sum(s.processing) AS processing,
                  sum(s.failed) AS failed, sum(s.conflict) AS conflict
           FROM pems_sync_stats s GROUP BY s.organization_id) s ON s.organization_id = q.id
CROSS JOIN LATERAL (VALUES ('pending', coalesce(s.pending, 0), q.pending), ('held', coalesce(s.held, 0), q.held),
    ('processing', coalesce(s.processing, 0), q.processing), ('failed', coalesce(s.failed, 0), q.failed),
    ('conflict', coalesce(s.conflict, 0), q.conflict)) AS v (name, counted, really)
WHERE v.counted <> v.really;

/* ---------- the log itself ---------- */

INSERT INTO check_finding (invariant, finding)
SELECT 'log', format('log %s was reset at %s: what was before is unknown', l.log, l.line ->> 'seq')
FROM check_line l WHERE l.line ->> 'kind' = 'reset'
UNION ALL
SELECT 'log', format('log %s goes from entry %s to %s', g.log, g.before, g.seq)
FROM (SELECT l.log, (l.line ->> 'seq')::bigint AS seq, lag((l.line ->> 'seq')::bigint) OVER (PARTITION BY l.log ORDER BY (l.line ->> 'seq')::bigint) AS before
      FROM check_line l) g
WHERE g.seq <> coalesce(g.before, 0) + 1;
