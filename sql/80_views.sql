/*
 * 80_views: views for people in psql, with comments on their columns.
 */

CREATE VIEW @extschema@.pems_queue AS
    SELECT q.id, q.commit_seq, q.organization_id, q.pfa_id, q.modification_id, q.operation, q.status, q.priority,
           q.scheduled_at, q.retry_count, q.max_retries, q.outcome_unknown, q.error_code, q.last_error,
           q.created_at, q.last_attempt_at, q.job_id,
           CASE WHEN q.status = 'pending' THEN (
               SELECT f.id FROM (VALUES (false), (true)) AS k (held) CROSS JOIN LATERAL (
                   SELECT e.id, e.commit_seq FROM @extschema@.pfa_write_queue e
                   WHERE e.organization_id = q.organization_id AND e.pfa_id = q.pfa_id AND e.unfinished
                     AND e.held = k.held
                     AND e.commit_seq < q.commit_seq
                   ORDER BY e.commit_seq DESC LIMIT 1) f
               ORDER BY f.commit_seq DESC LIMIT 1) END AS held_by,
           q.payload
    FROM @extschema@.pfa_write_queue q
    WHERE q.unfinished;
COMMENT ON VIEW @extschema@.pems_queue IS
    'Unfinished items. held_by: the earlier item of the same PFA record that this one waits for.';

CREATE VIEW @extschema@.pems_dead_letters AS
    SELECT q.id, q.organization_id, q.pfa_id, q.modification_id, q.operation, q.error_code, q.last_error, q.retry_count,
           q.attempt, q.created_at, q.last_attempt_at, q.completed_at AS failed_at, q.payload,
           (SELECT count(*) FROM @extschema@.pfa_write_queue h
            WHERE h.organization_id = q.organization_id AND h.pfa_id = q.pfa_id AND h.unfinished
              AND h.status = 'pending'
              AND h.commit_seq > q.commit_seq) AS holding
    FROM @extschema@.pfa_write_queue q
    WHERE q.stopped AND q.status = 'failed';
COMMENT ON VIEW @extschema@.pems_dead_letters IS
    'Items that PEMS rejected or that used up their retries. holding: later items of the record that wait for them.';

CREATE VIEW @extschema@.pems_open_conflicts AS
    SELECT c.id, c.organization_id, c.pfa_id, c.modification_id, c.item_id, c.kind, c.conflict_fields, c.local_version,
           c.pems_version, c.created_at, c.previous_conflict_id,
           (SELECT count(*) FROM @extschema@.pfa_write_queue q
            JOIN @extschema@.pfa_write_queue h ON h.organization_id = q.organization_id AND h.pfa_id = q.pfa_id
                 AND h.unfinished AND h.status = 'pending' AND h.commit_seq > q.commit_seq
            WHERE q.id = c.item_id) AS holding,
           c.local_data
    FROM @extschema@.pfa_sync_conflict c
    WHERE c.status = 'unresolved';
COMMENT ON VIEW @extschema@.pems_open_conflicts IS
    'Conflicts that wait for a user. holding: later items of the record that wait for them. Resolve with '
    'pems_resolve_conflict().';

CREATE VIEW @extschema@.pems_worker AS
    SELECT w.database, w.pid, w.state, w.version, w.started_at, w.last_heartbeat, w.in_flight, w.requests,
           w.open_breakers, w.last_error
    FROM @extschema@._pems_worker_state() w;
COMMENT ON VIEW @extschema@.pems_worker IS 'The worker of this database; no row when pems_sync is not preloaded for it';

CREATE VIEW @extschema@.pems_endpoints AS
    SELECT e.organization_id, e.organization_code, e.api_url, e.endpoint, e.credential, e.credential_problem, e.key_id,
           e.generation, e.set_by, e.set_at, e.paused, e.breaker, e.rate, e.in_flight, e.faults, e.waits_until,
           e.last_error, e.last_error_at
    FROM @extschema@._pems_endpoints() e;
COMMENT ON VIEW @extschema@.pems_endpoints IS
    'Organizations with their credentials and endpoints. Rate limit, breaker and last error belong to the endpoint, '
    'which several may share; NULL: no worker serves it. Error 55000 when not attached.';
COMMENT ON COLUMN @extschema@.pems_endpoints.organization_id IS 'Organization';
COMMENT ON COLUMN @extschema@.pems_endpoints.organization_code IS 'Its code in PEMS';
COMMENT ON COLUMN @extschema@.pems_endpoints.api_url IS 'Base URL of its PEMS API';
COMMENT ON COLUMN @extschema@.pems_endpoints.endpoint IS 'scheme://host:port of api_url';
COMMENT ON COLUMN @extschema@.pems_endpoints.credential IS
    'ok; no_credential; no_key: the key that opens it is missing; cannot_open: damaged, sealed for another '
    'organization or URL, or its host is not allowed; refused_by_pems; NULL: the worker has not opened it yet';
COMMENT ON COLUMN @extschema@.pems_endpoints.credential_problem IS 'Why it is not ok, for people';
COMMENT ON COLUMN @extschema@.pems_endpoints.key_id IS 'Key of the keyring that it is sealed to';
COMMENT ON COLUMN @extschema@.pems_endpoints.generation IS 'Counts the credentials set for the organization';
COMMENT ON COLUMN @extschema@.pems_endpoints.set_by IS 'Who set it';
COMMENT ON COLUMN @extschema@.pems_endpoints.set_at IS 'When';
COMMENT ON COLUMN @extschema@.pems_endpoints.paused IS 'Nothing is sent for the organization';
COMMENT ON COLUMN @extschema@.pems_endpoints.breaker IS
    'closed; open: nothing is sent to the endpoint; probing: one request is, to see whether it answers again';
COMMENT ON COLUMN @extschema@.pems_endpoints.rate IS 'Most requests per second against the endpoint; 0: no limit';
COMMENT ON COLUMN @extschema@.pems_endpoints.in_flight IS 'Requests under way to the endpoint';
COMMENT ON COLUMN @extschema@.pems_endpoints.faults IS 'Endpoint faults in a row';
COMMENT ON COLUMN @extschema@.pems_endpoints.waits_until IS
    'Nothing is sent before: the breaker is open, or PEMS asked for patience';
COMMENT ON COLUMN @extschema@.pems_endpoints.last_error IS
    'Last error that says something of the endpoint or a credential: code and sentence';
COMMENT ON COLUMN @extschema@.pems_endpoints.last_error_at IS 'When';

CREATE VIEW @extschema@.pems_pulls AS SELECT * FROM @extschema@._pems_pulls();
COMMENT ON VIEW @extschema@.pems_pulls IS
    'Read sync: a row for each pull that waits or runs, and one for each organization that has none, with what is '
    'known of the organization''s pulls. Error 55000 when not attached.';
COMMENT ON COLUMN @extschema@.pems_pulls.organization_id IS 'Organization';
COMMENT ON COLUMN @extschema@.pems_pulls.job_id IS 'Job of the pull; NULL: none waits or runs';
COMMENT ON COLUMN @extschema@.pems_pulls.requested_by IS 'Who asked for it; pems_sync: pems_sync.pull_interval';
COMMENT ON COLUMN @extschema@.pems_pulls.created_at IS 'When it was asked for';
COMMENT ON COLUMN @extschema@.pems_pulls.mode IS 'delta, full or adopt';
COMMENT ON COLUMN @extschema@.pems_pulls.pfa_id IS 'The one record that is read; NULL: a listing';
COMMENT ON COLUMN @extschema@.pems_pulls.phase IS
    'waiting; reading: the one record; listing: pages; counting, sorting, searching: is something missing?; '
    'confirming: what is missing is asked for';
COMMENT ON COLUMN @extschema@.pems_pulls.pages IS 'Pages stored';
COMMENT ON COLUMN @extschema@.pems_pulls.records IS 'Records read';
COMMENT ON COLUMN @extschema@.pems_pulls.created IS 'Records that the mirror did not have';
COMMENT ON COLUMN @extschema@.pems_pulls.updated IS 'Records that the mirror had in another state';
COMMENT ON COLUMN @extschema@.pems_pulls.deleted IS 'Records that were marked as deleted';
COMMENT ON COLUMN @extschema@.pems_pulls.unchanged IS 'Records that the mirror had in this state';
COMMENT ON COLUMN @extschema@.pems_pulls.stale IS 'Records of which the mirror has a higher version';
COMMENT ON COLUMN @extschema@.pems_pulls.quarantined IS 'Records that could not be stored';
COMMENT ON COLUMN @extschema@.pems_pulls.records_per_second IS 'Since it started';
COMMENT ON COLUMN @extschema@.pems_pulls.percent IS 'How much is done; NULL: nobody knows how much there is';
COMMENT ON COLUMN @extschema@.pems_pulls.eta_seconds IS 'Seconds that it will take; NULL: nobody knows';
COMMENT ON COLUMN @extschema@.pems_pulls.next_at IS 'It does nothing before';
COMMENT ON COLUMN @extschema@.pems_pulls.last_error IS
    'What stands in its way; of an organization without one, why the last listing did not end well';
COMMENT ON COLUMN @extschema@.pems_pulls.watermark IS
    'On PEMS''s clock: the newest change that the last complete listing has shown';
COMMENT ON COLUMN @extschema@.pems_pulls.last_delta_at IS 'When the last delta was complete';
COMMENT ON COLUMN @extschema@.pems_pulls.last_full_at IS 'When the last full listing was complete';
COMMENT ON COLUMN @extschema@.pems_pulls.next_delta_at IS
    'When the worker asks for changes by itself; NULL: it does not';

CREATE VIEW @extschema@.pems_quarantine AS
    SELECT q.organization_id, q.pfa_id, q.job_id, q.reason, q.raw, q.at FROM @extschema@.pems_quarantined q;
COMMENT ON VIEW @extschema@.pems_quarantine IS
    'Records of PEMS that a pull could not store. A later good version of the record removes its row.';
COMMENT ON COLUMN @extschema@.pems_quarantine.organization_id IS 'Organization whose pull had it';
COMMENT ON COLUMN @extschema@.pems_quarantine.pfa_id IS 'Its id, as far as it can be shown';
COMMENT ON COLUMN @extschema@.pems_quarantine.job_id IS 'Job of the pull';
COMMENT ON COLUMN @extschema@.pems_quarantine.reason IS 'Why it could not be stored';
COMMENT ON COLUMN @extschema@.pems_quarantine.raw IS 'The record as PEMS wrote it, cut at 64 kB';
COMMENT ON COLUMN @extschema@.pems_quarantine.at IS 'When';

-- Comments on the columns of a view: what the table of the view says of the column of that name.
DO $comments$
DECLARE
    comment record;
BEGIN
    FOR comment IN
        SELECT format('COMMENT ON COLUMN @extschema@.%I.%I IS %L', v.relname, a.attname, coalesce(
                   (SELECT pg_catalog.col_description(t.attrelid, t.attnum) FROM pg_catalog.pg_attribute t
                    WHERE t.attname = a.attname AND t.attrelid = CASE v.relname
                        WHEN 'pems_open_conflicts' THEN '@extschema@.pfa_sync_conflict'::pg_catalog.regclass
                        ELSE '@extschema@.pfa_write_queue'::pg_catalog.regclass END),
                   CASE a.attname
                       WHEN 'held_by' THEN 'The earlier item of the same PFA record that this one waits for'
                       WHEN 'holding' THEN 'Later items of the record that wait for this one'
                       WHEN 'failed_at' THEN 'When it became a dead letter'
                       WHEN 'database' THEN 'Database that the worker serves'
                       WHEN 'pid' THEN 'Process id; NULL: not running'
                       WHEN 'state' THEN 'starting, waiting (no extension yet), not_attached, '
                                         'copy (a restored dump: paused), no_key, disabled or running'
                       WHEN 'version' THEN 'Version of the library that the worker runs'
                       WHEN 'started_at' THEN 'When the process started'
                       WHEN 'last_heartbeat' THEN 'When it last went round its loop'
                       WHEN 'in_flight' THEN 'Requests under way'
                       WHEN 'requests' THEN 'Requests started since the process started'
                       WHEN 'open_breakers' THEN 'Endpoints whose breaker is open'
                       ELSE 'Last error of the worker itself' END)) AS command
        FROM pg_catalog.pg_class v JOIN pg_catalog.pg_attribute a ON a.attrelid = v.oid AND a.attnum > 0
        WHERE v.relnamespace = '@extschema@'::pg_catalog.regnamespace
          AND v.relname IN ('pems_queue', 'pems_dead_letters', 'pems_open_conflicts', 'pems_worker')
    LOOP
        EXECUTE comment.command;
    END LOOP;
END
$comments$;
