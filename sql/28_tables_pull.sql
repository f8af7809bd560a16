/*
 * 28_tables_pull: read sync: what is being read from PEMS, how far it is, and what could not be stored.
 */

CREATE TABLE @extschema@.pems_pull_state (
    job_id            text PRIMARY KEY REFERENCES @extschema@.pems_sync_job (id) ON DELETE CASCADE,
    organization_id   text NOT NULL,
    pfa_id            text,
    mode              text NOT NULL CHECK (mode IN ('delta', 'full', 'adopt')),
    phase             text NOT NULL DEFAULT 'waiting'
                      CHECK (phase IN ('waiting', 'listing', 'absent', 'confirming', 'ended')),
    status            text NOT NULL DEFAULT 'running'
                      CHECK (status IN ('running', 'completed', 'completed_with_failures', 'cancelled')),
    updated_since     timestamptz,
    listing_since     timestamptz,
    newest_updated_at timestamptz,
    cursor            text,
    page              integer NOT NULL DEFAULT 0,
    stored            integer NOT NULL DEFAULT 0,
    restarted         boolean NOT NULL DEFAULT false,
    requests          integer NOT NULL DEFAULT 0,
    failures          integer NOT NULL DEFAULT 0,
    records           bigint NOT NULL DEFAULT 0,
    created           bigint NOT NULL DEFAULT 0,
    updated           bigint NOT NULL DEFAULT 0,
    deleted           bigint NOT NULL DEFAULT 0,
    unchanged         bigint NOT NULL DEFAULT 0,
    stale             bigint NOT NULL DEFAULT 0,
    quarantined       bigint NOT NULL DEFAULT 0,
    expected          bigint,
    next_at           timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    started_at        timestamptz,
    ended_at          timestamptz,
    error_code        text,
    last_error        text,
    cancelled_by      text
) WITH (fillfactor = 50);
-- at most one listing of an organization is not over; the worker looks here for what it has to do
CREATE UNIQUE INDEX pems_pull_state_listing ON @extschema@.pems_pull_state (organization_id)
    WHERE phase <> 'ended' AND pfa_id IS NULL;
CREATE INDEX pems_pull_state_record ON @extschema@.pems_pull_state (organization_id, pfa_id)
    WHERE phase <> 'ended' AND pfa_id IS NOT NULL;
COMMENT ON TABLE @extschema@.pems_pull_state IS
    'Pulls: how far each is, and what came of it. A row is written with each slice of a page, so that a crash loses '
    'nothing';
COMMENT ON COLUMN @extschema@.pems_pull_state.job_id IS 'Its job';
COMMENT ON COLUMN @extschema@.pems_pull_state.organization_id IS 'Organization whose records are read';
COMMENT ON COLUMN @extschema@.pems_pull_state.pfa_id IS 'The one record that is read; NULL: a listing';
COMMENT ON COLUMN @extschema@.pems_pull_state.mode IS
    'delta: what changed since the watermark; full: everything; adopt: everything, PEMS''s lower versions too';
COMMENT ON COLUMN @extschema@.pems_pull_state.phase IS
    'waiting; listing: pages are read; absent: records that no page had are looked for; confirming: they are asked for '
    'one by one; ended';
COMMENT ON COLUMN @extschema@.pems_pull_state.status IS
    'running (also while it waits), completed, completed_with_failures, cancelled';
COMMENT ON COLUMN @extschema@.pems_pull_state.updated_since IS
    'What a delta asks PEMS for: the watermark less pems_sync.pull_overlap; NULL: everything';
COMMENT ON COLUMN @extschema@.pems_pull_state.listing_since IS 'When the first page was asked for';
COMMENT ON COLUMN @extschema@.pems_pull_state.newest_updated_at IS
    'The highest updatedAt of the listing so far: the watermark once it is complete';
COMMENT ON COLUMN @extschema@.pems_pull_state.cursor IS 'Of the page that is read or stored; NULL: the first';
COMMENT ON COLUMN @extschema@.pems_pull_state.page IS 'Pages that were stored whole';
COMMENT ON COLUMN @extschema@.pems_pull_state.stored IS 'Records of the present page that are stored already';
COMMENT ON COLUMN @extschema@.pems_pull_state.restarted IS
    'PEMS refused a cursor, and the listing was begun again; a second time it fails';
COMMENT ON COLUMN @extschema@.pems_pull_state.requests IS 'Requests made; numbers them';
COMMENT ON COLUMN @extschema@.pems_pull_state.failures IS 'Requests in a row that failed; the wait grows with them';
COMMENT ON COLUMN @extschema@.pems_pull_state.records IS 'Records that were read';
COMMENT ON COLUMN @extschema@.pems_pull_state.created IS 'Records that the mirror did not have';
COMMENT ON COLUMN @extschema@.pems_pull_state.updated IS 'Records that the mirror had in another state';
COMMENT ON COLUMN @extschema@.pems_pull_state.deleted IS 'Records that were marked as deleted';
COMMENT ON COLUMN @extschema@.pems_pull_state.unchanged IS 'Records that the mirror had in this state';
COMMENT ON COLUMN @extschema@.pems_pull_state.stale IS 'Records of which the mirror has a higher version; not stored';
COMMENT ON COLUMN @extschema@.pems_pull_state.quarantined IS 'Records that could not be stored';
COMMENT ON COLUMN @extschema@.pems_pull_state.expected IS
    'Records of the organization in the mirror when a full listing began; NULL: not known';
COMMENT ON COLUMN @extschema@.pems_pull_state.next_at IS 'Not before';
COMMENT ON COLUMN @extschema@.pems_pull_state.started_at IS 'First request';
COMMENT ON COLUMN @extschema@.pems_pull_state.ended_at IS 'When it ended';
COMMENT ON COLUMN @extschema@.pems_pull_state.error_code IS 'What went wrong last, as a word';
COMMENT ON COLUMN @extschema@.pems_pull_state.last_error IS 'The same as a sentence';
COMMENT ON COLUMN @extschema@.pems_pull_state.cancelled_by IS 'Who cancelled it; it ends after the page in flight';

CREATE TABLE @extschema@.pems_pull_organization (
    organization_id text PRIMARY KEY,
    watermark       timestamptz,
    last_delta_at   timestamptz,
    last_full_at    timestamptz,
    next_delta_at   timestamptz,
    last_error      text
);
COMMENT ON TABLE @extschema@.pems_pull_organization IS 'What is known of the pulls of each organization';
COMMENT ON COLUMN @extschema@.pems_pull_organization.organization_id IS 'Organization';
COMMENT ON COLUMN @extschema@.pems_pull_organization.watermark IS
    'The highest updatedAt of the last complete listing, by PEMS''s clock';
COMMENT ON COLUMN @extschema@.pems_pull_organization.last_delta_at IS 'When the last delta was complete';
COMMENT ON COLUMN @extschema@.pems_pull_organization.last_full_at IS 'When the last full listing was complete';
COMMENT ON COLUMN @extschema@.pems_pull_organization.next_delta_at IS
    'When the worker begins the next delta by itself (pems_sync.pull_interval)';
COMMENT ON COLUMN @extschema@.pems_pull_organization.last_error IS 'Why the last pull did not end well; NULL: it did';

CREATE TABLE @extschema@.pems_pull_seen (
    job_id  text NOT NULL REFERENCES @extschema@.pems_sync_job (id) ON DELETE CASCADE,
    seq     integer NOT NULL,
    pfa_ids text[] NOT NULL,
    PRIMARY KEY (job_id, seq)
);
COMMENT ON TABLE @extschema@.pems_pull_seen IS
    'Which records a full listing has had so far; gone when its job ends';
COMMENT ON COLUMN @extschema@.pems_pull_seen.job_id IS 'The pull';
COMMENT ON COLUMN @extschema@.pems_pull_seen.seq IS 'Number of the slice';
COMMENT ON COLUMN @extschema@.pems_pull_seen.pfa_ids IS 'Records of the slice';

CREATE TABLE @extschema@.pems_quarantined (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization_id text NOT NULL,
    pfa_id          text,
    job_id          text,
    reason          text NOT NULL,
    raw             text,
    at              timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX pems_quarantined_record ON @extschema@.pems_quarantined (organization_id, pfa_id);
COMMENT ON TABLE @extschema@.pems_quarantined IS
    'Records of PEMS that could not be stored; a later good version of the record removes its row';
COMMENT ON COLUMN @extschema@.pems_quarantined.id IS 'Number';
COMMENT ON COLUMN @extschema@.pems_quarantined.organization_id IS 'Organization whose listing had it';
COMMENT ON COLUMN @extschema@.pems_quarantined.pfa_id IS 'Its id as far as it can be shown';
COMMENT ON COLUMN @extschema@.pems_quarantined.job_id IS 'The pull';
COMMENT ON COLUMN @extschema@.pems_quarantined.reason IS 'Why it cannot be stored';
COMMENT ON COLUMN @extschema@.pems_quarantined.raw IS 'The record as PEMS wrote it, cut at 64 kB';
COMMENT ON COLUMN @extschema@.pems_quarantined.at IS 'When it came';
