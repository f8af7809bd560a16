/*
 * 28_tables_pull: read sync: what is being read from PEMS, how far it is, and what could not be stored.
 */

CREATE TABLE @extschema@.pems_pull_state (
    job_id            text PRIMARY KEY REFERENCES @extschema@.pems_sync_job (id) ON DELETE CASCADE,
    organization_id   text NOT NULL,
    pfa_id            text,
    mode              text NOT NULL CHECK (mode IN ('delta', 'full', 'adopt')),
    phase             text NOT NULL DEFAULT 'waiting'
                      CHECK (phase IN ('waiting', 'reading', 'listing', 'counting', 'sorting', 'searching',
                                       'confirming', 'ended')),
    updated_since     timestamptz,
    listing_since     timestamptz,
    newest_updated_at timestamptz,
    cursor            text,
    cursor_count      bigint NOT NULL DEFAULT 0,
    cursor_last       bigint NOT NULL DEFAULT 0,
    cursor_kept       bigint NOT NULL DEFAULT 0,
    restarted         boolean NOT NULL DEFAULT false,
    pages             integer NOT NULL DEFAULT 0,
    stored            integer NOT NULL DEFAULT 0,
    stored_stale      integer NOT NULL DEFAULT 0,
    stored_bad        integer NOT NULL DEFAULT 0,
    requests          integer NOT NULL DEFAULT 0,
    under_way         boolean NOT NULL DEFAULT false,
    failures          integer NOT NULL DEFAULT 0,
    gone_before       boolean NOT NULL DEFAULT false,
    records           bigint NOT NULL DEFAULT 0,
    created           bigint NOT NULL DEFAULT 0,
    updated           bigint NOT NULL DEFAULT 0,
    deleted           bigint NOT NULL DEFAULT 0,
    unchanged         bigint NOT NULL DEFAULT 0,
    stale             bigint NOT NULL DEFAULT 0,
    quarantined       bigint NOT NULL DEFAULT 0,
    expected          bigint,
    seen              bigint NOT NULL DEFAULT 0,
    seen_hash         bigint NOT NULL DEFAULT 0,
    known             bigint NOT NULL DEFAULT 0,
    known_hash        bigint NOT NULL DEFAULT 0,
    walked_to         text NOT NULL DEFAULT '',
    missing           bigint NOT NULL DEFAULT 0,
    next_at           timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    started_at        timestamptz,
    error_code        text,
    last_error        text,
    cancelled_by      text
) WITH (fillfactor = 50);
-- What is not over: of each organization at most one listing in a mode; and all, in the order in which they were asked
-- for.  The worker looks here for what it has to do.
CREATE UNIQUE INDEX pems_pull_state_listing ON @extschema@.pems_pull_state (organization_id, mode)
    WHERE phase <> 'ended' AND pfa_id IS NULL AND cancelled_by IS NULL;
CREATE INDEX pems_pull_state_open ON @extschema@.pems_pull_state (organization_id, job_id)
    WHERE phase <> 'ended';
COMMENT ON TABLE @extschema@.pems_pull_state IS
    'Pulls: how far each is, and what came of it. A row is written with each slice of a page, so that a crash loses '
    'nothing';
COMMENT ON COLUMN @extschema@.pems_pull_state.job_id IS 'Its job';
COMMENT ON COLUMN @extschema@.pems_pull_state.organization_id IS 'Organization whose records are read';
COMMENT ON COLUMN @extschema@.pems_pull_state.pfa_id IS 'The one record that is read; NULL: a listing';
COMMENT ON COLUMN @extschema@.pems_pull_state.mode IS
    'delta: what changed since the watermark; full: everything; adopt: everything, PEMS''s lower versions too';
COMMENT ON COLUMN @extschema@.pems_pull_state.phase IS
    'waiting; reading: the one record; listing: pages are read; counting: the records of the mirror; sorting: what the '
    'listing has shown; searching: records that it has not shown; confirming: they are asked for one by one; ended';
COMMENT ON COLUMN @extschema@.pems_pull_state.updated_since IS
    'What a delta asks PEMS for: the watermark less pems_sync.pull_overlap; NULL: everything';
COMMENT ON COLUMN @extschema@.pems_pull_state.listing_since IS 'When the first page was asked for';
COMMENT ON COLUMN @extschema@.pems_pull_state.newest_updated_at IS
    'The highest updatedAt of the listing so far that is not dated ahead of our clock: the watermark once it is '
    'complete';
COMMENT ON COLUMN @extschema@.pems_pull_state.cursor IS 'Of the page that is read or stored; NULL: the first';
COMMENT ON COLUMN @extschema@.pems_pull_state.cursor_count IS 'Cursors that PEMS has given in this listing';
COMMENT ON COLUMN @extschema@.pems_pull_state.cursor_last IS 'Hash of the last of them: a listing may have no end';
COMMENT ON COLUMN @extschema@.pems_pull_state.cursor_kept IS
    'Hash of the last one whose number is a power of two: the same for cursors that go round in a circle';
COMMENT ON COLUMN @extschema@.pems_pull_state.restarted IS
    'PEMS refused a cursor, and the listing was begun again; a second time it fails';
COMMENT ON COLUMN @extschema@.pems_pull_state.pages IS 'Pages of the listing that were stored whole';
COMMENT ON COLUMN @extschema@.pems_pull_state.stored IS 'Records of the present page that are stored already';
COMMENT ON COLUMN @extschema@.pems_pull_state.stored_stale IS 'Those of them of which the mirror has a higher version';
COMMENT ON COLUMN @extschema@.pems_pull_state.stored_bad IS 'Those of them that could not be stored';
COMMENT ON COLUMN @extschema@.pems_pull_state.requests IS 'Requests made; numbers them';
COMMENT ON COLUMN @extschema@.pems_pull_state.under_way IS
    'A request is on its way, or its answer is being stored: a pull that is cancelled ends after that';
COMMENT ON COLUMN @extschema@.pems_pull_state.failures IS 'Requests in a row that failed; the wait grows with them';
COMMENT ON COLUMN @extschema@.pems_pull_state.gone_before IS
    'PEMS has answered once that it has not got the one record; a second answer some seconds later is believed';
COMMENT ON COLUMN @extschema@.pems_pull_state.records IS 'Records that were read';
COMMENT ON COLUMN @extschema@.pems_pull_state.created IS 'Records that the mirror did not have';
COMMENT ON COLUMN @extschema@.pems_pull_state.updated IS 'Records that the mirror had in another state';
COMMENT ON COLUMN @extschema@.pems_pull_state.deleted IS 'Records that were marked as deleted';
COMMENT ON COLUMN @extschema@.pems_pull_state.unchanged IS 'Records that the mirror had in this state';
COMMENT ON COLUMN @extschema@.pems_pull_state.stale IS 'Records of which the mirror has a higher version; not stored';
COMMENT ON COLUMN @extschema@.pems_pull_state.quarantined IS 'Records that could not be stored';
COMMENT ON COLUMN @extschema@.pems_pull_state.expected IS
    'Records of the organization in the mirror when a full listing began; NULL: not known';
COMMENT ON COLUMN @extschema@.pems_pull_state.seen IS
    'Records of a full listing that the mirror has, too, each as often as it was shown';
COMMENT ON COLUMN @extschema@.pems_pull_state.seen_hash IS
    'Hashes of their ids, combined: where number and hash are those of the mirror, nothing is missing';
COMMENT ON COLUMN @extschema@.pems_pull_state.known IS 'Records of the mirror, as far as they are counted';
COMMENT ON COLUMN @extschema@.pems_pull_state.known_hash IS 'Hashes of their ids, combined';
COMMENT ON COLUMN @extschema@.pems_pull_state.walked_to IS
    'How far the mirror is counted or searched: the last record that was looked at';
COMMENT ON COLUMN @extschema@.pems_pull_state.missing IS 'Records that a full listing did not show, as far as known';
COMMENT ON COLUMN @extschema@.pems_pull_state.next_at IS 'Not before';
COMMENT ON COLUMN @extschema@.pems_pull_state.started_at IS 'First request';
COMMENT ON COLUMN @extschema@.pems_pull_state.error_code IS 'What went wrong last, as a word';
COMMENT ON COLUMN @extschema@.pems_pull_state.last_error IS 'The same as a sentence';
COMMENT ON COLUMN @extschema@.pems_pull_state.cancelled_by IS 'Who cancelled it; it ends after the page in flight';

CREATE TABLE @extschema@.pems_pull_organization (
    organization_id text PRIMARY KEY,
    watermark       timestamptz,
    last_delta_at   timestamptz,
    last_full_at    timestamptz,
    next_delta_at   timestamptz,
    records         bigint,
    stale           bigint,
    last_error      text,
    full_error      text
);
COMMENT ON TABLE @extschema@.pems_pull_organization IS 'What is known of the pulls of each organization';
COMMENT ON COLUMN @extschema@.pems_pull_organization.organization_id IS 'Organization';
COMMENT ON COLUMN @extschema@.pems_pull_organization.watermark IS
    'The highest updatedAt of the last complete listing, by PEMS''s clock';
COMMENT ON COLUMN @extschema@.pems_pull_organization.last_delta_at IS 'When the last delta was complete';
COMMENT ON COLUMN @extschema@.pems_pull_organization.last_full_at IS 'When the last full listing was complete';
COMMENT ON COLUMN @extschema@.pems_pull_organization.next_delta_at IS
    'When the worker begins the next delta by itself (pems_sync.pull_interval)';
COMMENT ON COLUMN @extschema@.pems_pull_organization.records IS 'Records that the last full listing had';
COMMENT ON COLUMN @extschema@.pems_pull_organization.stale IS
    'Of these, records of which the mirror had a higher version';
COMMENT ON COLUMN @extschema@.pems_pull_organization.last_error IS
    'Why the last listing did not end well; NULL: it did';
COMMENT ON COLUMN @extschema@.pems_pull_organization.full_error IS
    'The same of the last full listing: a delta that ends well does not mend it';

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

-- Made from pems_pull_seen when it is needed, and after a crash made again: so it is not logged.
CREATE UNLOGGED TABLE @extschema@.pems_pull_sorted (
    job_id text NOT NULL,
    pfa_id text NOT NULL,
    PRIMARY KEY (job_id, pfa_id)
);
COMMENT ON TABLE @extschema@.pems_pull_sorted IS
    'The same, to be looked up by record; emptied when a job ends that has used it';
COMMENT ON COLUMN @extschema@.pems_pull_sorted.job_id IS 'The pull';
COMMENT ON COLUMN @extschema@.pems_pull_sorted.pfa_id IS 'Record that its listing has shown';

CREATE UNLOGGED TABLE @extschema@.pems_pull_sorted_slice (
    job_id text NOT NULL,
    seq    integer NOT NULL,
    PRIMARY KEY (job_id, seq)
);
COMMENT ON TABLE @extschema@.pems_pull_sorted_slice IS
    'Which rows of pems_pull_seen are in pems_pull_sorted already; a crash empties both';
COMMENT ON COLUMN @extschema@.pems_pull_sorted_slice.job_id IS 'The pull';
COMMENT ON COLUMN @extschema@.pems_pull_sorted_slice.seq IS 'Number of the slice';

CREATE TABLE @extschema@.pems_pull_missing (
    job_id text NOT NULL REFERENCES @extschema@.pems_sync_job (id) ON DELETE CASCADE,
    pfa_id text NOT NULL,
    PRIMARY KEY (job_id, pfa_id)
);
COMMENT ON TABLE @extschema@.pems_pull_missing IS
    'Records that a complete listing has not shown, until each was asked for by itself';
COMMENT ON COLUMN @extschema@.pems_pull_missing.job_id IS 'The pull';
COMMENT ON COLUMN @extschema@.pems_pull_missing.pfa_id IS 'The record';

CREATE TABLE @extschema@.pems_quarantined (
    id              text PRIMARY KEY DEFAULT @extschema@._pems_uuid(),
    organization_id text NOT NULL,
    pfa_id          text,
    identified      boolean NOT NULL,
    job_id          text,
    reason          text NOT NULL,
    raw             text,
    at              timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX pems_quarantined_record ON @extschema@.pems_quarantined (organization_id, pfa_id);
COMMENT ON TABLE @extschema@.pems_quarantined IS
    'Records of PEMS that could not be stored; a later good version of the record removes its row';
COMMENT ON COLUMN @extschema@.pems_quarantined.id IS 'Time-ordered UUID';
COMMENT ON COLUMN @extschema@.pems_quarantined.organization_id IS 'Organization whose listing had it';
COMMENT ON COLUMN @extschema@.pems_quarantined.pfa_id IS 'Its id as far as it can be shown';
COMMENT ON COLUMN @extschema@.pems_quarantined.identified IS
    'pfa_id is that of a record of this organization; else no version of such a record says anything about it';
COMMENT ON COLUMN @extschema@.pems_quarantined.job_id IS 'The pull';
COMMENT ON COLUMN @extschema@.pems_quarantined.reason IS 'Why it cannot be stored';
COMMENT ON COLUMN @extschema@.pems_quarantined.raw IS 'The record as PEMS wrote it, cut at 64 kB';
COMMENT ON COLUMN @extschema@.pems_quarantined.at IS 'When it came';

/*
 * _pems_forget_pull(): row trigger on pems_pull_state, after delete, which happens with the organization (foreign key).
 * Its job is over, and what only it needed goes.
 * Tables: pems_sync_job, pems_pull_seen, pems_pull_missing, pems_pull_sorted, pems_pull_sorted_slice.
 */
CREATE FUNCTION @extschema@._pems_forget_pull() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    UPDATE @extschema@.pems_sync_job j
    SET status = 'cancelled', finished_at = clock_timestamp() WHERE j.id = OLD.job_id;
    DELETE FROM @extschema@.pems_pull_seen s WHERE s.job_id = OLD.job_id;
    DELETE FROM @extschema@.pems_pull_missing m WHERE m.job_id = OLD.job_id;
    DELETE FROM @extschema@.pems_pull_sorted s WHERE s.job_id = OLD.job_id;
    DELETE FROM @extschema@.pems_pull_sorted_slice s WHERE s.job_id = OLD.job_id;
    RETURN NULL;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_forget_pull() IS
    'Internal trigger: the job of a pull that goes with its organization is over';

CREATE TRIGGER pems_forget_pull AFTER DELETE ON @extschema@.pems_pull_state
    FOR EACH ROW WHEN (OLD.phase <> 'ended') EXECUTE FUNCTION @extschema@._pems_forget_pull();
ALTER TABLE @extschema@.pems_pull_state ENABLE ALWAYS TRIGGER pems_forget_pull;
