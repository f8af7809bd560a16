/*
 * 21_tables_records: conflicts, and the version history of the mirror.
 */

CREATE SEQUENCE @extschema@.pems_state_order AS bigint;
COMMENT ON SEQUENCE @extschema@.pems_state_order IS 'Order in which states of records came into the version history';

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
COMMENT ON TABLE @extschema@.pfa_sync_conflict IS
    'Conflicts: fields that a user and somebody in PEMS both changed, with all three sides as they were';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.id IS 'Conflict id, time-ordered UUID';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.pfa_id IS 'PFA record';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.organization_id IS 'Organization of the record';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.modification_id IS 'The modification in conflict';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.item_id IS 'Its item in the queue';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.local_version IS 'Base version: what the user saw';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.pems_version IS 'What PEMS had';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.base_data IS
    'The record at local_version; NULL when the history does not have it';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.local_data IS 'The delta';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.pems_data IS 'The whole record at pems_version';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.conflict_fields IS
    'Array of dotted paths; a dot or backslash in a key has a backslash before it';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.kind IS
    'update_update, deleted_in_pems, changed_in_pems_before_delete, validation or base_missing';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.status IS 'unresolved, resolved_auto or resolved_manual';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.resolution IS 'use_local, use_pems or merge';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.merged_data IS 'The delta that a merge put in place of local_data';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.resolved_by IS 'Who resolved it';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.resolved_at IS 'When';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.created_at IS 'When it was detected';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.previous_conflict_id IS 'The conflict whose resolution met this one';
COMMENT ON COLUMN @extschema@.pfa_sync_conflict.seen_at IS
    'When pems_data was current: a resolution builds on that state of pems_version';
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

-- A version says nothing about the order: a PEMS that was restored counts from an older one again.
CREATE INDEX pems_mirror_version_order ON @extschema@.pems_mirror_version (organization_id, pfa_id, state_seq);
COMMENT ON TABLE @extschema@.pems_mirror_version IS
    'Version history: every state that the mirror ever had; a version whose data changed has several. The base of '
    'each modification is found here.';
COMMENT ON COLUMN @extschema@.pems_mirror_version.organization_id IS 'Organization of the record';
COMMENT ON COLUMN @extschema@.pems_mirror_version.pfa_id IS 'PFA record';
COMMENT ON COLUMN @extschema@.pems_mirror_version.version IS 'PEMS version';
COMMENT ON COLUMN @extschema@.pems_mirror_version.data IS 'The record at that version';
COMMENT ON COLUMN @extschema@.pems_mirror_version.source IS
    'pems = read from PEMS; write = one of our modifications; external = another program wrote the mirror';
COMMENT ON COLUMN @extschema@.pems_mirror_version.modification_id IS
    'The modification that made this version, or that was found in it after its answer had been lost';
COMMENT ON COLUMN @extschema@.pems_mirror_version.changed_by IS 'Who changed it, as far as known';
COMMENT ON COLUMN @extschema@.pems_mirror_version.change_reason IS 'Why, as the modification says';
COMMENT ON COLUMN @extschema@.pems_mirror_version.recorded_at IS 'When this database learned of it';
COMMENT ON COLUMN @extschema@.pems_mirror_version.state_seq IS 'Order in which the states came';
