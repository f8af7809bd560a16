/*
 * 20_tables: the tables of the extension.  Foreign keys to the application's
 * tables are made by pems_attach(), because those tables may not exist yet.
 */

-- Commit order.  One sequence for all records: the order within a record is what counts.
CREATE SEQUENCE @extschema@.pems_commit_order AS bigint;
COMMENT ON SEQUENCE @extschema@.pems_commit_order IS 'Order in which modifications were committed';

CREATE SEQUENCE @extschema@.pems_audit_order AS bigint;
COMMENT ON SEQUENCE @extschema@.pems_audit_order IS 'Tells audit rows of the same microsecond apart';

CREATE SEQUENCE @extschema@.pems_state_order AS bigint;
COMMENT ON SEQUENCE @extschema@.pems_state_order IS 'Order in which states of records came into the version history';

CREATE SEQUENCE @extschema@.pems_claim_order AS bigint;
COMMENT ON SEQUENCE @extschema@.pems_claim_order IS 'Fencing tokens: each claim of the worker takes the next';

CREATE TABLE @extschema@.pems_sync_job (
    id              text PRIMARY KEY DEFAULT @extschema@._pems_uuid(),
    organization_id text,
    kind            text NOT NULL CHECK (kind IN ('commit', 'write_sync', 'retry', 'rollback', 'pull')),
    requested_by    text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT pg_catalog.now(),
    queued          integer NOT NULL DEFAULT 0,
    rejected        integer NOT NULL DEFAULT 0
);
COMMENT ON TABLE @extschema@.pems_sync_job IS 'Jobs: the items queued by one call';
COMMENT ON COLUMN @extschema@.pems_sync_job.id IS 'Time-ordered UUID';
COMMENT ON COLUMN @extschema@.pems_sync_job.organization_id IS 'Organization that the job belongs to; NULL: an administrator''s job over several';
COMMENT ON COLUMN @extschema@.pems_sync_job.kind IS 'commit, write_sync, retry, rollback or pull';
COMMENT ON COLUMN @extschema@.pems_sync_job.requested_by IS 'The user named by the caller, or the database role';
COMMENT ON COLUMN @extschema@.pems_sync_job.created_at IS 'When it was asked for';
COMMENT ON COLUMN @extschema@.pems_sync_job.queued IS 'Items that the call queued or made due';
COMMENT ON COLUMN @extschema@.pems_sync_job.rejected IS 'Drafts that the call rejected';
CREATE INDEX pems_sync_job_organization ON @extschema@.pems_sync_job (organization_id, created_at);

CREATE TABLE @extschema@.pfa_write_queue (
    id              text PRIMARY KEY DEFAULT @extschema@._pems_uuid(),
    commit_seq      bigint NOT NULL DEFAULT pg_catalog.nextval('@extschema@.pems_commit_order'),
    modification_id text NOT NULL,
    pfa_id          text NOT NULL,
    organization_id text NOT NULL,
    operation       text NOT NULL CHECK (operation IN ('UPDATE', 'DELETE')),
    payload         jsonb NOT NULL,
    base_version    integer NOT NULL,
    base_at         timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    created_by      text,
    change_reason   text,
    queued_in       bigint NOT NULL DEFAULT @extschema@._pems_database_id(),
    status          text NOT NULL DEFAULT 'pending'
                    CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'conflict', 'cancelled')),
    waits_for       text CHECK (waits_for IN ('turn', 'time', 'resume')),
    priority        integer NOT NULL DEFAULT 0 CHECK (priority IN (-10, 0, 10)),
    scheduled_at    timestamptz NOT NULL DEFAULT pg_catalog.now(),
    next_request    text NOT NULL DEFAULT 'write' CHECK (next_request IN ('write', 'read', 'confirm', 'refresh')),
    outcome_unknown boolean NOT NULL DEFAULT false,
    sent_version    integer,
    known_version   integer,
    retry_count     integer NOT NULL DEFAULT 0,
    max_retries     integer NOT NULL DEFAULT 3,
    rounds          integer NOT NULL DEFAULT 0,
    attempt         integer NOT NULL DEFAULT 0,
    claim_token     bigint,
    last_attempt_at timestamptz,
    last_error      text,
    error_code      text,
    created_at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    completed_at    timestamptz,
    job_id          text,
    unfinished      boolean NOT NULL GENERATED ALWAYS AS (status IN ('pending', 'processing', 'conflict', 'failed')) STORED,
    in_line         boolean NOT NULL GENERATED ALWAYS AS (status IN ('pending', 'processing')) STORED,
    held            boolean NOT NULL GENERATED ALWAYS AS (status = 'pending' AND waits_for IS NOT DISTINCT FROM 'turn') STORED,
    stopped         boolean NOT NULL GENERATED ALWAYS AS (status IN ('conflict', 'failed')) STORED
) WITH (fillfactor = 50);
COMMENT ON TABLE @extschema@.pfa_write_queue IS 'Write queue: one item per committed modification. A row in processing is also the crash record of its request.';
COMMENT ON COLUMN @extschema@.pfa_write_queue.id IS 'Item id, time-ordered UUID; first half of Idempotency-Key and X-Request-Id';
COMMENT ON COLUMN @extschema@.pfa_write_queue.commit_seq IS 'Commit order; items of one PFA record are sent in this order';
COMMENT ON COLUMN @extschema@.pfa_write_queue.modification_id IS 'The modification that the item sends';
COMMENT ON COLUMN @extschema@.pfa_write_queue.pfa_id IS 'PFA record';
COMMENT ON COLUMN @extschema@.pfa_write_queue.organization_id IS 'Organization of the record';
COMMENT ON COLUMN @extschema@.pfa_write_queue.operation IS 'UPDATE (PUT) or DELETE';
COMMENT ON COLUMN @extschema@.pfa_write_queue.payload IS 'The delta being sent, as it was when it was committed';
COMMENT ON COLUMN @extschema@.pfa_write_queue.base_version IS 'PEMS version of the record that the user saw';
COMMENT ON COLUMN @extschema@.pfa_write_queue.base_at IS 'When the user saw it: of several states of that version, the one that was current then is the base';
COMMENT ON COLUMN @extschema@.pfa_write_queue.created_by IS 'Author of the modification, as it was when it was committed; modifiedBy of the request';
COMMENT ON COLUMN @extschema@.pfa_write_queue.change_reason IS 'Why, as it was when it was committed; changeReason or reason of the request';
COMMENT ON COLUMN @extschema@.pfa_write_queue.queued_in IS 'Database that queued the item. One that another database queued (a dump that was loaded into this one) is not sent before pems_resume()';
COMMENT ON COLUMN @extschema@.pfa_write_queue.status IS 'pending, processing (claimed by the worker), completed, failed (dead letter), conflict, cancelled';
COMMENT ON COLUMN @extschema@.pfa_write_queue.waits_for IS 'Of a pending item: NULL = ready; turn = held by an earlier item of the record; time = until scheduled_at; resume = queued by another database, until pems_resume()';
COMMENT ON COLUMN @extschema@.pfa_write_queue.priority IS 'Higher goes first (10 high, 0 normal, -10 low); never past an earlier item of the same record';
COMMENT ON COLUMN @extschema@.pfa_write_queue.scheduled_at IS 'Not before this time';
COMMENT ON COLUMN @extschema@.pfa_write_queue.next_request IS 'write; read = look at PEMS before deciding again; confirm = a read found the record gone, a second one decides; refresh = written, the mirror is still to be read';
COMMENT ON COLUMN @extschema@.pfa_write_queue.outcome_unknown IS 'A write was sent and nobody knows whether PEMS applied it';
COMMENT ON COLUMN @extschema@.pfa_write_queue.sent_version IS 'Version that the last write was based on; while outcome_unknown, the first one whose answer was lost';
COMMENT ON COLUMN @extschema@.pfa_write_queue.known_version IS 'Version that PEMS named when it answered the last write (newVersion, currentVersion): a read that shows an older one comes from a replica that lags';
COMMENT ON COLUMN @extschema@.pfa_write_queue.retry_count IS 'Retries used up';
COMMENT ON COLUMN @extschema@.pfa_write_queue.max_retries IS 'Retries allowed (pems_sync.max_retries when it was queued)';
COMMENT ON COLUMN @extschema@.pfa_write_queue.rounds IS 'Times that PEMS was looked at again (version conflict, 404 of a write, a read that was too old) since the last backoff';
COMMENT ON COLUMN @extschema@.pfa_write_queue.attempt IS 'Claims of the item that were not given back; each makes at most one HTTP request, a read or a write. Second half of X-Request-Id';
COMMENT ON COLUMN @extschema@.pfa_write_queue.claim_token IS 'Fencing token of the last claim, the same for all items that it took: an outcome with another token is not recorded';
COMMENT ON COLUMN @extschema@.pfa_write_queue.last_attempt_at IS 'When the last request was about to start';
COMMENT ON COLUMN @extschema@.pfa_write_queue.last_error IS 'What went wrong last, a sentence for administrators';
COMMENT ON COLUMN @extschema@.pfa_write_queue.error_code IS 'The same as a word: INVALID_REQUEST, UNAVAILABLE, TIMEOUT ...';
COMMENT ON COLUMN @extschema@.pfa_write_queue.created_at IS 'When it was queued';
COMMENT ON COLUMN @extschema@.pfa_write_queue.completed_at IS 'When it was completed, cancelled or failed';
COMMENT ON COLUMN @extschema@.pfa_write_queue.job_id IS 'Job that queued it';
COMMENT ON COLUMN @extschema@.pfa_write_queue.unfinished IS 'pending, processing, conflict or failed: later items of the record wait';
COMMENT ON COLUMN @extschema@.pfa_write_queue.in_line IS 'pending or processing';
COMMENT ON COLUMN @extschema@.pfa_write_queue.held IS 'pending, and held by an earlier item of the record';
COMMENT ON COLUMN @extschema@.pfa_write_queue.stopped IS 'conflict or failed: waits for a person';

-- A claim changes no column that an index looks at: status is only in the generated columns, and those say
-- the same of pending and processing.  So a claim is a heap-only update, with room for it on the page (the
-- fillfactor), and no index grows by it.
--
-- Each index with the question that it answers.
-- What may be sent now, per organization and priority, from a place on? (claim)
CREATE INDEX pfa_write_queue_ready ON @extschema@.pfa_write_queue
    (organization_id, priority, scheduled_at, commit_seq) WHERE in_line AND waits_for IS NULL;
-- Whose time has come? (claim)
CREATE INDEX pfa_write_queue_timed ON @extschema@.pfa_write_queue (scheduled_at) WHERE in_line AND waits_for = 'time';
-- Which item of this record is the first unfinished one? (order, held_by)  Held ones apart, because a record may have
-- thousands of them.
CREATE INDEX pfa_write_queue_record ON @extschema@.pfa_write_queue (organization_id, pfa_id, held, commit_seq) WHERE unfinished;
-- What waits, the oldest first? (status)  Two conditions, so that no plan for the questions above can take it instead:
-- an ANALYZE that finds the queue empty makes all its indexes look the same.
CREATE INDEX pfa_write_queue_waiting ON @extschema@.pfa_write_queue (organization_id, created_at) WHERE unfinished AND in_line;
-- What waits for a person? (status, dead letters)
CREATE INDEX pfa_write_queue_stopped ON @extschema@.pfa_write_queue (organization_id, commit_seq) WHERE stopped;
-- Items of a modification (foreign key, discard)
CREATE INDEX pfa_write_queue_modification ON @extschema@.pfa_write_queue (modification_id);
-- Newest items of an organization (status with items; foreign key)
CREATE INDEX pfa_write_queue_organization ON @extschema@.pfa_write_queue (organization_id, commit_seq);

-- Which items were queued by another database? (resume, health)  Nearly always empty.
CREATE INDEX pfa_write_queue_foreign ON @extschema@.pfa_write_queue (organization_id) WHERE in_line AND waits_for = 'resume';

CREATE TABLE @extschema@.pems_claim (
    claim_token bigint PRIMARY KEY,
    item_ids    text[] NOT NULL
);
COMMENT ON TABLE @extschema@.pems_claim IS 'Claims of which an outcome may be missing still: how the next worker finds what a dead one left, without an index on status';
COMMENT ON COLUMN @extschema@.pems_claim.claim_token IS 'Fencing token of the claim';
COMMENT ON COLUMN @extschema@.pems_claim.item_ids IS 'Items that it took';

CREATE TABLE @extschema@.pems_recheck (
    organization_id text NOT NULL,
    pfa_id          text NOT NULL
);
COMMENT ON TABLE @extschema@.pems_recheck IS 'Records whose first unfinished item the worker must look for again. Only the worker decides whose turn it is; others leave a row here.';
COMMENT ON COLUMN @extschema@.pems_recheck.organization_id IS 'Organization of the record';
COMMENT ON COLUMN @extschema@.pems_recheck.pfa_id IS 'PFA record';

CREATE TABLE @extschema@.pfa_sync_conflict (
    id                   text PRIMARY KEY DEFAULT @extschema@._pems_uuid(),
    pfa_id               text NOT NULL,
    organization_id      text NOT NULL,
    modification_id      text NOT NULL,
    item_id              text NOT NULL,
    local_version        integer NOT NULL,
    pems_version         integer,
    base_data            jsonb,
    local_data           jsonb NOT NULL,
    pems_data            jsonb,
    conflict_fields      jsonb NOT NULL DEFAULT '[]' CHECK (pg_catalog.jsonb_typeof(conflict_fields) = 'array'),
    kind                 text NOT NULL CHECK (kind IN ('update_update', 'deleted_in_pems',
                             'changed_in_pems_before_delete', 'validation', 'base_missing')),
    status               text NOT NULL DEFAULT 'unresolved'
                         CHECK (status IN ('unresolved', 'resolved_auto', 'resolved_manual')),
    resolution           text CHECK (resolution IN ('use_local', 'use_pems', 'merge')),
    merged_data          jsonb,
    resolved_by          text,
    resolved_at          timestamptz,
    created_at           timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    previous_conflict_id text,
    seen_at              timestamptz
);
COMMENT ON TABLE @extschema@.pfa_sync_conflict IS 'Conflicts: fields that a user and somebody in PEMS both changed, with all three sides as they were';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.id IS 'Conflict id, time-ordered UUID';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.pfa_id IS 'PFA record';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.organization_id IS 'Organization of the record';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.modification_id IS 'The modification in conflict';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.item_id IS 'Its item in the queue';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.local_version IS 'Base version: what the user saw';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.pems_version IS 'What PEMS had';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.base_data IS 'The record at local_version; NULL when the history does not have it';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.local_data IS 'The delta';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.pems_data IS 'The whole record at pems_version';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.conflict_fields IS 'Array of dotted paths; a dot or backslash in a key has a backslash before it';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.kind IS 'update_update, deleted_in_pems, changed_in_pems_before_delete, validation or base_missing';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.status IS 'unresolved, resolved_auto or resolved_manual';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.resolution IS 'use_local, use_pems or merge';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.merged_data IS 'The delta that a merge put in place of local_data';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.resolved_by IS 'Who resolved it';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.resolved_at IS 'When';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.created_at IS 'When it was detected';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.previous_conflict_id IS 'The conflict whose resolution met this one';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.seen_at IS 'When pems_data was current: a resolution builds on that state of pems_version';
CREATE UNIQUE INDEX pfa_sync_conflict_open ON @extschema@.pfa_sync_conflict (item_id) WHERE status = 'unresolved';
CREATE INDEX pfa_sync_conflict_organization ON @extschema@.pfa_sync_conflict (organization_id, id);
CREATE INDEX pfa_sync_conflict_modification ON @extschema@.pfa_sync_conflict (modification_id);

CREATE TABLE @extschema@.pems_mirror_version (
    organization_id text NOT NULL,
    pfa_id          text NOT NULL,
    version         integer NOT NULL,
    data            jsonb NOT NULL,
    source          text NOT NULL CHECK (source IN ('pems', 'write', 'external')),
    modification_id text,
    changed_by      text,
    change_reason   text,
    recorded_at     timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    state_seq       bigint NOT NULL DEFAULT pg_catalog.nextval('@extschema@.pems_state_order'),
    PRIMARY KEY (organization_id, pfa_id, version, state_seq)
);
COMMENT ON TABLE @extschema@.pems_mirror_version IS 'Version history: every state that the mirror ever had; a version whose data changed has several. The base of each modification is found here.';
COMMENT ON COLUMN @extschema@.pems_mirror_version.organization_id IS 'Organization of the record';
COMMENT ON COLUMN @extschema@.pems_mirror_version.pfa_id IS 'PFA record';
COMMENT ON COLUMN @extschema@.pems_mirror_version.version IS 'PEMS version';
COMMENT ON COLUMN @extschema@.pems_mirror_version.data IS 'The record at that version';
COMMENT ON COLUMN @extschema@.pems_mirror_version.source IS 'pems = read from PEMS; write = one of our modifications; external = another program wrote the mirror';
COMMENT ON COLUMN @extschema@.pems_mirror_version.modification_id IS 'The modification that made this version, or that was found in it after its answer had been lost';
COMMENT ON COLUMN @extschema@.pems_mirror_version.changed_by IS 'Who changed it, as far as known';
COMMENT ON COLUMN @extschema@.pems_mirror_version.change_reason IS 'Why, as the modification says';
COMMENT ON COLUMN @extschema@.pems_mirror_version.recorded_at IS 'When this database learned of it';
COMMENT ON COLUMN @extschema@.pems_mirror_version.state_seq IS 'Order in which the states came';

-- No index and no primary key on the parent: pg_restore would collide with the indexes that
-- ATTACH PARTITION makes.  Monthly partitions carry their own.
CREATE TABLE @extschema@.pems_audit_log (
    at              timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    event_type      text NOT NULL,
    organization_id text,
    pfa_id          text,
    modification_id text,
    item_id         text,
    job_id          text,
    conflict_id     text,
    actor           text,
    attempt         integer,
    http_method     text,
    path            text,
    http_status     integer,
    latency_ms      numeric(12,3),
    request         jsonb,
    response        jsonb,
    error_code      text,
    error           text,
    seq             bigint NOT NULL DEFAULT pg_catalog.nextval('@extschema@.pems_audit_order')
) PARTITION BY RANGE (at);
COMMENT ON TABLE @extschema@.pems_audit_log IS 'Audit log: append-only; every attempt and every decision, once';
COMMENT ON COLUMN @extschema@.pems_audit_log.at IS 'When it was recorded';
COMMENT ON COLUMN @extschema@.pems_audit_log.event_type IS 'WRITE_ATTEMPT, READ_ATTEMPT, COMMITTED, SYNCED_WITHOUT_REQUEST, NOT_SENT, RECORDING_FAILED, CONFLICT_DETECTED, CONFLICT_RESOLVED, RETRIED, ROLLBACK_REQUESTED, DISCARDED, CREDENTIAL_CHANGED, PAUSED, RESUMED ...';
COMMENT ON COLUMN @extschema@.pems_audit_log.organization_id IS 'Organization concerned';
COMMENT ON COLUMN @extschema@.pems_audit_log.pfa_id IS 'PFA record concerned';
COMMENT ON COLUMN @extschema@.pems_audit_log.modification_id IS 'Modification concerned';
COMMENT ON COLUMN @extschema@.pems_audit_log.item_id IS 'Queue item concerned';
COMMENT ON COLUMN @extschema@.pems_audit_log.job_id IS 'Job concerned';
COMMENT ON COLUMN @extschema@.pems_audit_log.conflict_id IS 'Conflict concerned';
COMMENT ON COLUMN @extschema@.pems_audit_log.actor IS 'Who decided: the user named by the caller, or the database role; pems_sync for the worker';
COMMENT ON COLUMN @extschema@.pems_audit_log.attempt IS 'Number of the claim of the item; a claim makes at most one request, and its X-Request-Id is item:attempt';
COMMENT ON COLUMN @extschema@.pems_audit_log.http_method IS 'PUT, DELETE or GET';
COMMENT ON COLUMN @extschema@.pems_audit_log.path IS 'Path and query below api_url';
COMMENT ON COLUMN @extschema@.pems_audit_log.http_status IS 'Status of the answer; NULL when there was none';
COMMENT ON COLUMN @extschema@.pems_audit_log.latency_ms IS 'Milliseconds from start to end of the request';
COMMENT ON COLUMN @extschema@.pems_audit_log.request IS 'Body of the request; never a token';
COMMENT ON COLUMN @extschema@.pems_audit_log.response IS 'Body of the answer; tokens that PEMS echoes are redacted';
COMMENT ON COLUMN @extschema@.pems_audit_log.error_code IS 'What went wrong, a word; OUTCOME_UNKNOWN when the server ended before the answer was recorded';
COMMENT ON COLUMN @extschema@.pems_audit_log.error IS 'What went wrong, a sentence';
COMMENT ON COLUMN @extschema@.pems_audit_log.seq IS 'With at the order of the rows, for paging';

CREATE TABLE @extschema@.pems_audit_log_default PARTITION OF @extschema@.pems_audit_log DEFAULT;
COMMENT ON TABLE @extschema@.pems_audit_log_default IS 'Audit rows of months that have no partition of their own';

CREATE TABLE @extschema@.pems_sync_stats (
    organization_id   text NOT NULL,
    hour              timestamptz NOT NULL,
    pending           bigint NOT NULL DEFAULT 0,
    held              bigint NOT NULL DEFAULT 0,
    processing        bigint NOT NULL DEFAULT 0,
    failed            bigint NOT NULL DEFAULT 0,
    conflict          bigint NOT NULL DEFAULT 0,
    queued            bigint NOT NULL DEFAULT 0,
    completed         bigint NOT NULL DEFAULT 0,
    cancelled         bigint NOT NULL DEFAULT 0,
    dead_lettered     bigint NOT NULL DEFAULT 0,
    conflicted        bigint NOT NULL DEFAULT 0,
    sync_seconds      double precision NOT NULL DEFAULT 0,
    latency_counts    bigint[] NOT NULL DEFAULT '{0,0,0,0,0,0,0,0,0,0}',
    last_completed_at timestamptz,
    folded            boolean NOT NULL DEFAULT false,
    transaction       xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id()
);
COMMENT ON TABLE @extschema@.pems_sync_stats IS 'Rollups per organization and hour. What changes is inserted as a row of differences; the worker folds these together now and then. So no count reads the queue and no two sessions wait for one counter.';
COMMENT ON COLUMN @extschema@.pems_sync_stats.organization_id IS 'Organization; of a folded row also *: all organizations';
COMMENT ON COLUMN @extschema@.pems_sync_stats.hour IS 'Hour in which it happened; of a folded row also -infinity: the numbers that stand now (pending, held, processing, failed, conflict) and last_completed_at';
COMMENT ON COLUMN @extschema@.pems_sync_stats.folded IS 'One row per organization and hour; false: a difference that is not in any of them yet';
COMMENT ON COLUMN @extschema@.pems_sync_stats.transaction IS 'Of a difference: the transaction that made it. Of the folded row * at -infinity: what older transactions made is folded';
COMMENT ON COLUMN @extschema@.pems_sync_stats.pending IS 'Change in the number of pending items; the sum over the rows of an organization is the number now';
COMMENT ON COLUMN @extschema@.pems_sync_stats.held IS 'The same for held items (they are pending, too)';
COMMENT ON COLUMN @extschema@.pems_sync_stats.processing IS 'The same for items in processing';
COMMENT ON COLUMN @extschema@.pems_sync_stats.failed IS 'The same for dead letters';
COMMENT ON COLUMN @extschema@.pems_sync_stats.conflict IS 'The same for items in conflict';
COMMENT ON COLUMN @extschema@.pems_sync_stats.queued IS 'Items queued in this hour';
COMMENT ON COLUMN @extschema@.pems_sync_stats.completed IS 'Items completed in this hour';
COMMENT ON COLUMN @extschema@.pems_sync_stats.cancelled IS 'Items cancelled in this hour';
COMMENT ON COLUMN @extschema@.pems_sync_stats.dead_lettered IS 'Items that became dead letters in this hour';
COMMENT ON COLUMN @extschema@.pems_sync_stats.conflicted IS 'Items that came into conflict in this hour';
COMMENT ON COLUMN @extschema@.pems_sync_stats.sync_seconds IS 'Seconds from commit to completion, summed over the completed items';
COMMENT ON COLUMN @extschema@.pems_sync_stats.latency_counts IS 'Completed items by those seconds: up to 0.1, 0.5, 1, 5, 15, 30, 60, 120, 300, and above';
COMMENT ON COLUMN @extschema@.pems_sync_stats.last_completed_at IS 'When the last of them completed';
CREATE UNIQUE INDEX pems_sync_stats_folded ON @extschema@.pems_sync_stats (organization_id, hour) WHERE folded;
CREATE INDEX pems_sync_stats_standing ON @extschema@.pems_sync_stats (organization_id) WHERE folded AND hour = '-infinity';
-- By transaction, so that readers pass over what was folded and cannot be removed yet.
CREATE INDEX pems_sync_stats_new ON @extschema@.pems_sync_stats (transaction) WHERE NOT folded;

CREATE TABLE @extschema@.pems_credential (
    organization_id text PRIMARY KEY,
    api_url         text NOT NULL,
    endpoint        text NOT NULL,
    sealed_token    bytea NOT NULL,
    key_id          text NOT NULL,
    generation      bigint NOT NULL,
    set_by          text NOT NULL,
    set_at          timestamptz NOT NULL DEFAULT pg_catalog.now(),
    state           text CHECK (state IN ('ok', 'no_key', 'cannot_open')),
    problem         text
);
COMMENT ON TABLE @extschema@.pems_credential IS 'Sealed API credentials per organization; only the worker can open them';
COMMENT ON COLUMN @extschema@.pems_credential.organization_id IS 'Organization';
COMMENT ON COLUMN @extschema@.pems_credential.api_url IS 'Base URL of its PEMS API';
COMMENT ON COLUMN @extschema@.pems_credential.endpoint IS 'scheme://host:port of api_url: what the rate limit and the breaker belong to';
COMMENT ON COLUMN @extschema@.pems_credential.sealed_token IS 'crypto_box_seal of organization, URL, generation and token';
COMMENT ON COLUMN @extschema@.pems_credential.key_id IS 'Key of the keyring that opens it';
COMMENT ON COLUMN @extschema@.pems_credential.generation IS 'Counts the credentials set for the organization; bound into the sealed text';
COMMENT ON COLUMN @extschema@.pems_credential.set_by IS 'Who set it';
COMMENT ON COLUMN @extschema@.pems_credential.set_at IS 'When';
COMMENT ON COLUMN @extschema@.pems_credential.state IS 'What the worker found when it opened it last: ok, no_key or cannot_open; NULL: it has not tried yet';
COMMENT ON COLUMN @extschema@.pems_credential.problem IS 'Why it does not open, for people';

CREATE TABLE @extschema@.pems_pause (
    organization_id text NOT NULL,
    cause           text NOT NULL CHECK (cause IN ('administrator', 'credential')),
    reason          text,
    paused_by       text NOT NULL,
    paused_at       timestamptz NOT NULL DEFAULT pg_catalog.now(),
    of_organization text GENERATED ALWAYS AS (nullif(organization_id, '*')) STORED,
    PRIMARY KEY (organization_id, cause)
);
COMMENT ON TABLE @extschema@.pems_pause IS 'What is not being sent. organization_id * stands for all organizations.';
COMMENT ON COLUMN @extschema@.pems_pause.organization_id IS 'Organization, or * for all';
COMMENT ON COLUMN @extschema@.pems_pause.cause IS 'administrator (pems_pause) or credential (PEMS refused the token)';
COMMENT ON COLUMN @extschema@.pems_pause.reason IS 'Why, for people';
COMMENT ON COLUMN @extschema@.pems_pause.paused_by IS 'Who paused it';
COMMENT ON COLUMN @extschema@.pems_pause.paused_at IS 'Since when';
COMMENT ON COLUMN @extschema@.pems_pause.of_organization IS
    'organization_id without *: a pause goes with its organization (foreign key)';

CREATE TABLE @extschema@.pems_control (
    singleton   boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    cluster     text NOT NULL,
    attached_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE @extschema@.pems_control IS 'One row, made by pems_attach(): where this database was attached. A restored copy finds another cluster or database and sends nothing.';
COMMENT ON COLUMN @extschema@.pems_control.singleton IS 'Always true: there is one row';
COMMENT ON COLUMN @extschema@.pems_control.cluster IS 'System identifier and database oid at the time of pems_attach()';
COMMENT ON COLUMN @extschema@.pems_control.attached_at IS 'When pems_attach() ran last';

-- Tables without a key.  Where a publication publishes them (FOR ALL TABLES), no row could be removed otherwise.
ALTER TABLE @extschema@.pems_recheck REPLICA IDENTITY FULL;
ALTER TABLE @extschema@.pems_sync_stats REPLICA IDENTITY FULL;
ALTER TABLE @extschema@.pems_audit_log REPLICA IDENTITY FULL;
ALTER TABLE @extschema@.pems_audit_log_default REPLICA IDENTITY FULL;
CREATE TABLE @extschema@.pems_index (
    name       text PRIMARY KEY,
    table_name text NOT NULL,
    command    text NOT NULL
);
COMMENT ON TABLE @extschema@.pems_index IS
    'The indexes of the extension''s tables, as CREATE EXTENSION made them: pems_health() says when one is gone';
COMMENT ON COLUMN @extschema@.pems_index.name IS 'Index';
COMMENT ON COLUMN @extschema@.pems_index.table_name IS 'Its table';
COMMENT ON COLUMN @extschema@.pems_index.command IS 'What makes it again';
