/*
 * 20_tables_queue: the queue, and the tables that say in which order it is sent.
 *
 * Foreign keys to the application's tables, from here and from the tables of the next files, are made by
 * pems_attach(), because those tables may not exist yet.
 */

-- Commit order.  One sequence for all records: the order within a record is what counts.
CREATE SEQUENCE @extschema@.pems_commit_order AS bigint;
COMMENT ON SEQUENCE @extschema@.pems_commit_order IS 'Order in which modifications were committed';

CREATE SEQUENCE @extschema@.pems_claim_order AS bigint;
COMMENT ON SEQUENCE @extschema@.pems_claim_order IS 'Fencing tokens: each claim of the worker has the next number';

CREATE TABLE @extschema@.pems_sync_job (
    id              text PRIMARY KEY DEFAULT @extschema@._pems_uuid(),
    organization_id text,
    kind            text NOT NULL CHECK (kind IN ('commit', 'write_sync', 'retry', 'rollback', 'pull')),
    requested_by    text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT pg_catalog.now(),
    queued          integer NOT NULL DEFAULT 0,
    rejected        integer NOT NULL DEFAULT 0,
    past_synced     integer NOT NULL DEFAULT 0,
    past_failed     integer NOT NULL DEFAULT 0,
    past_cancelled  integer NOT NULL DEFAULT 0,
    status          text CHECK (status IN ('running', 'completed', 'completed_with_conflicts',
                                           'completed_with_failures', 'cancelled')),
    finished_at     timestamptz
);
COMMENT ON TABLE @extschema@.pems_sync_job IS 'Jobs: the items queued by one call';
COMMENT ON COLUMN @extschema@.pems_sync_job.id IS 'Time-ordered UUID';
COMMENT ON COLUMN @extschema@.pems_sync_job.organization_id IS
    'Organization that the job belongs to; NULL: an administrator''s job over several';
COMMENT ON COLUMN @extschema@.pems_sync_job.kind IS 'commit, write_sync, retry, rollback or pull';
COMMENT ON COLUMN @extschema@.pems_sync_job.requested_by IS 'The user named by the caller, or the database role';
COMMENT ON COLUMN @extschema@.pems_sync_job.created_at IS 'When it was asked for';
COMMENT ON COLUMN @extschema@.pems_sync_job.queued IS 'Items that the call queued or made due';
COMMENT ON COLUMN @extschema@.pems_sync_job.rejected IS 'Drafts that the call rejected';
COMMENT ON COLUMN @extschema@.pems_sync_job.past_synced IS
    'Synced items of the job that have been purged since: the status of a job follows from its items, and from these '
    'numbers';
COMMENT ON COLUMN @extschema@.pems_sync_job.past_failed IS
    'Items that failed and were retried since: they belong to the retry''s job now';
COMMENT ON COLUMN @extschema@.pems_sync_job.past_cancelled IS 'Items that were taken back and have been purged since';
COMMENT ON COLUMN @extschema@.pems_sync_job.status IS
    'Of a pull; NULL: it follows from the items of the job';
COMMENT ON COLUMN @extschema@.pems_sync_job.finished_at IS
    'When the last of those items ended that the job does not have any more; of a pull, when it ended';
-- Newest jobs of an organization, and of all.  The second one is read backwards, DESC NULLS LAST, which no other index
-- has: a plan made for few jobs must not read those of all organizations.
CREATE INDEX pems_sync_job_organization ON @extschema@.pems_sync_job (organization_id, created_at, id);
CREATE INDEX pems_sync_job_created ON @extschema@.pems_sync_job (created_at NULLS FIRST, id NULLS FIRST);
-- Newest jobs of a kind that is no commit
CREATE INDEX pems_sync_job_kind ON @extschema@.pems_sync_job (organization_id, kind, created_at, id)
    WHERE kind <> 'commit';
-- Jobs with a status that few have, in so far as their items do not say it (with an order that the key does not have)
CREATE INDEX pems_sync_job_past ON @extschema@.pems_sync_job (organization_id, id NULLS FIRST)
    WHERE past_failed > 0 OR past_cancelled > 0;
CREATE INDEX pems_sync_job_status ON @extschema@.pems_sync_job (organization_id, status, id NULLS FIRST)
    WHERE status IS NOT NULL;

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
    unfinished      boolean NOT NULL GENERATED ALWAYS
                    AS (status IN ('pending', 'processing', 'conflict', 'failed')) STORED,
    open            boolean NOT NULL GENERATED ALWAYS AS (status IN ('pending', 'processing')) STORED,
    held            boolean NOT NULL GENERATED ALWAYS
                    AS (status = 'pending' AND waits_for IS NOT DISTINCT FROM 'turn') STORED,
    stopped         boolean NOT NULL GENERATED ALWAYS AS (status IN ('conflict', 'failed')) STORED,
    result          text NOT NULL GENERATED ALWAYS
                    AS (CASE WHEN status IN ('pending', 'processing') THEN 'open' ELSE status END) STORED
) WITH (fillfactor = 50);
COMMENT ON TABLE @extschema@.pfa_write_queue IS
    'Write queue: one item per committed modification. A row in processing is also the crash record of its request.';
COMMENT ON COLUMN @extschema@.pfa_write_queue.id IS
    'Item id, time-ordered UUID; first half of Idempotency-Key and X-Request-Id';
COMMENT ON COLUMN @extschema@.pfa_write_queue.commit_seq IS
    'Commit order; items of one PFA record are sent in this order';
COMMENT ON COLUMN @extschema@.pfa_write_queue.modification_id IS 'The modification that the item sends';
COMMENT ON COLUMN @extschema@.pfa_write_queue.pfa_id IS 'PFA record';
COMMENT ON COLUMN @extschema@.pfa_write_queue.organization_id IS 'Organization of the record';
COMMENT ON COLUMN @extschema@.pfa_write_queue.operation IS 'UPDATE (PUT) or DELETE';
COMMENT ON COLUMN @extschema@.pfa_write_queue.payload IS 'The delta being sent, as it was when it was committed';
COMMENT ON COLUMN @extschema@.pfa_write_queue.base_version IS 'PEMS version of the record that the user saw';
COMMENT ON COLUMN @extschema@.pfa_write_queue.base_at IS
    'When the user saw it: of several states of that version, the one that was current then is the base';
COMMENT ON COLUMN @extschema@.pfa_write_queue.created_by IS
    'Author of the modification, as it was when it was committed; modifiedBy of the request';
COMMENT ON COLUMN @extschema@.pfa_write_queue.change_reason IS
    'Why, as it was when it was committed; changeReason or reason of the request';
COMMENT ON COLUMN @extschema@.pfa_write_queue.queued_in IS
    'Database that queued the item. One that another database queued (a dump that was loaded into this one) is not '
    'sent before pems_resume()';
COMMENT ON COLUMN @extschema@.pfa_write_queue.status IS
    'pending, processing (claimed by the worker), completed, failed (dead letter), conflict, cancelled';
COMMENT ON COLUMN @extschema@.pfa_write_queue.waits_for IS
    'Of a pending item: NULL = ready; turn = held by an earlier item of the record; time = until scheduled_at; resume '
    '= queued by another database, until pems_resume()';
COMMENT ON COLUMN @extschema@.pfa_write_queue.priority IS
    'Higher goes first (10 high, 0 normal, -10 low); never past an earlier item of the same record';
COMMENT ON COLUMN @extschema@.pfa_write_queue.scheduled_at IS 'Not before this time';
COMMENT ON COLUMN @extschema@.pfa_write_queue.next_request IS
    'write; read = look at PEMS before deciding again; confirm = a read found the record gone, a second one decides; '
    'refresh = written, the mirror is still to be read';
COMMENT ON COLUMN @extschema@.pfa_write_queue.outcome_unknown IS
    'A write was sent and nobody knows whether PEMS applied it';
COMMENT ON COLUMN @extschema@.pfa_write_queue.sent_version IS
    'Version that the last write was based on; while outcome_unknown, the first one whose answer was lost';
COMMENT ON COLUMN @extschema@.pfa_write_queue.known_version IS
    'Version that PEMS named when it answered the last write (newVersion, currentVersion): a read that shows an older '
    'one comes from a replica that lags; 0: it refused the version sent and did not name its own';
COMMENT ON COLUMN @extschema@.pfa_write_queue.retry_count IS 'Retries used up';
COMMENT ON COLUMN @extschema@.pfa_write_queue.max_retries IS
    'Retries allowed (pems_sync.max_retries when it was queued)';
COMMENT ON COLUMN @extschema@.pfa_write_queue.rounds IS
    'Times that PEMS was looked at again (version conflict, 404 of a write, a read that was too old) since the last '
    'backoff';
COMMENT ON COLUMN @extschema@.pfa_write_queue.attempt IS
    'Claims of the item that were not given back; each makes at most one HTTP request, a read or a write. Second half '
    'of X-Request-Id';
COMMENT ON COLUMN @extschema@.pfa_write_queue.claim_token IS
    'Fencing token of the last claim, the same for all items of that claim: a report with another token is not '
    'recorded';
COMMENT ON COLUMN @extschema@.pfa_write_queue.last_attempt_at IS 'When the last request was about to start';
COMMENT ON COLUMN @extschema@.pfa_write_queue.last_error IS 'What went wrong last, a sentence for administrators';
COMMENT ON COLUMN @extschema@.pfa_write_queue.error_code IS
    'The same as a word: INVALID_REQUEST, UNAVAILABLE, TIMEOUT ...';
COMMENT ON COLUMN @extschema@.pfa_write_queue.created_at IS 'When it was queued';
COMMENT ON COLUMN @extschema@.pfa_write_queue.completed_at IS 'When it was completed, cancelled or failed';
COMMENT ON COLUMN @extschema@.pfa_write_queue.job_id IS 'Job that queued it';
COMMENT ON COLUMN @extschema@.pfa_write_queue.unfinished IS
    'pending, processing, conflict or failed: later items of the record wait';
COMMENT ON COLUMN @extschema@.pfa_write_queue.open IS
    'pending or processing: neither done with nor stopped';
COMMENT ON COLUMN @extschema@.pfa_write_queue.held IS 'pending, and held by an earlier item of the record';
COMMENT ON COLUMN @extschema@.pfa_write_queue.stopped IS 'conflict or failed: waits for a person';
COMMENT ON COLUMN @extschema@.pfa_write_queue.result IS
    'What became of it for its job: status, but open for pending and processing';

-- A claim changes no column that an index contains: status is only in the generated columns, and those have the same
-- value for pending and processing.  So a claim is a heap-only update, with room for it on the page (the fillfactor),
-- and no index grows by it.
--
-- Each index with the question that it answers.
-- What may be sent now, per organization and priority, after a given position? (claim)
CREATE INDEX pfa_write_queue_ready ON @extschema@.pfa_write_queue
    (organization_id, priority, scheduled_at, commit_seq) WHERE open AND waits_for IS NULL;
-- Whose time has come? (claim)
CREATE INDEX pfa_write_queue_timed ON @extschema@.pfa_write_queue (scheduled_at) WHERE open AND waits_for = 'time';
-- Which item of this record is the first unfinished one? (order, held_by)  Held ones apart, because a record may have
-- thousands of them.
CREATE INDEX pfa_write_queue_record ON @extschema@.pfa_write_queue (organization_id, pfa_id, held, commit_seq)
    WHERE unfinished;
-- What waits, the oldest first? (status)  Two conditions, so that no plan for the questions above can take it instead:
-- an ANALYZE that finds the queue empty makes all its indexes look the same.
CREATE INDEX pfa_write_queue_waiting ON @extschema@.pfa_write_queue (organization_id, created_at)
    WHERE unfinished AND open;
-- What waits for a person? (status, dead letters)
CREATE INDEX pfa_write_queue_stopped ON @extschema@.pfa_write_queue (organization_id, commit_seq) WHERE stopped;
-- Items of a modification (foreign key, discard)
CREATE INDEX pfa_write_queue_modification ON @extschema@.pfa_write_queue (modification_id);
-- Newest items of an organization (status with items; foreign key)
CREATE INDEX pfa_write_queue_organization ON @extschema@.pfa_write_queue (organization_id, commit_seq);
-- What became of the items of a job? (history, purge)  It answers from the index alone where vacuum has been.
CREATE INDEX pfa_write_queue_job ON @extschema@.pfa_write_queue (job_id, result, commit_seq) INCLUDE (completed_at);
-- Which jobs have items with that result, the newest first? (history)  Not for completed, which nearly all have.
CREATE INDEX pfa_write_queue_result ON @extschema@.pfa_write_queue (organization_id, result, job_id NULLS FIRST)
    WHERE result <> 'completed';

-- Which items were queued by another database? (resume, health)  Nearly always empty.
CREATE INDEX pfa_write_queue_foreign ON @extschema@.pfa_write_queue (organization_id)
    WHERE open AND waits_for = 'resume';

CREATE TABLE @extschema@.pems_claim (
    claim_token bigint PRIMARY KEY,
    item_ids    text[] NOT NULL
);
COMMENT ON TABLE @extschema@.pems_claim IS
    'Claims of which something may not be recorded yet: how the next worker finds what a dead one left, without an '
    'index on status';
COMMENT ON COLUMN @extschema@.pems_claim.claim_token IS 'Fencing token of the claim';
COMMENT ON COLUMN @extschema@.pems_claim.item_ids IS 'Items that it claimed';

CREATE TABLE @extschema@.pems_recheck (
    organization_id text NOT NULL,
    pfa_id          text NOT NULL
);
COMMENT ON TABLE @extschema@.pems_recheck IS
    'Records whose first unfinished item the worker must look for again. Only the worker decides whose turn it is; '
    'others leave a row here.';
COMMENT ON COLUMN @extschema@.pems_recheck.organization_id IS 'Organization of the record';
COMMENT ON COLUMN @extschema@.pems_recheck.pfa_id IS 'PFA record';
-- It has no key: where a publication publishes it (FOR ALL TABLES), no row could be removed otherwise.
ALTER TABLE @extschema@.pems_recheck REPLICA IDENTITY FULL;
