/*
 * 23_tables_statistics: the statistics of the queue.  26_statistics fills and reads them.
 */

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
COMMENT ON TABLE @extschema@.pems_sync_stats IS
    'Rollups per organization and hour. What changes is inserted as a row of differences; the worker folds these '
    'together now and then. So no count reads the queue and no two sessions wait for one counter.';
COMMENT ON COLUMN @extschema@.pems_sync_stats.organization_id IS
    'Organization; of a folded row also *: all organizations';
COMMENT ON COLUMN @extschema@.pems_sync_stats.hour IS
    'Hour in which it happened; of a folded row also -infinity: the numbers that stand now (pending, held, '
    'processing, failed, conflict) and last_completed_at';
COMMENT ON COLUMN @extschema@.pems_sync_stats.folded IS
    'One row per organization and hour; false: a difference that is not in any of them yet';
COMMENT ON COLUMN @extschema@.pems_sync_stats.transaction IS
    'Of a difference: the transaction that made it. Of the folded row * at -infinity: what older transactions made is '
    'folded';
COMMENT ON COLUMN @extschema@.pems_sync_stats.pending IS
    'Change in the number of pending items; the sum over the rows of an organization is the number now';
COMMENT ON COLUMN @extschema@.pems_sync_stats.held IS 'The same for held items (they are pending, too)';
COMMENT ON COLUMN @extschema@.pems_sync_stats.processing IS 'The same for items in processing';
COMMENT ON COLUMN @extschema@.pems_sync_stats.failed IS 'The same for dead letters';
COMMENT ON COLUMN @extschema@.pems_sync_stats.conflict IS 'The same for items in conflict';
COMMENT ON COLUMN @extschema@.pems_sync_stats.queued IS 'Items queued in this hour';
COMMENT ON COLUMN @extschema@.pems_sync_stats.completed IS 'Items completed in this hour';
COMMENT ON COLUMN @extschema@.pems_sync_stats.cancelled IS 'Items cancelled in this hour';
COMMENT ON COLUMN @extschema@.pems_sync_stats.dead_lettered IS 'Items that became dead letters in this hour';
COMMENT ON COLUMN @extschema@.pems_sync_stats.conflicted IS 'Items that came into conflict in this hour';
COMMENT ON COLUMN @extschema@.pems_sync_stats.sync_seconds IS
    'Seconds from commit to completion, summed over the completed items';
COMMENT ON COLUMN @extschema@.pems_sync_stats.latency_counts IS
    'Completed items by those seconds: up to 0.1, 0.5, 1, 5, 15, 30, 60, 120, 300, and above';
COMMENT ON COLUMN @extschema@.pems_sync_stats.last_completed_at IS 'When the last of them completed';
CREATE UNIQUE INDEX pems_sync_stats_folded ON @extschema@.pems_sync_stats (organization_id, hour) WHERE folded;
CREATE INDEX pems_sync_stats_standing ON @extschema@.pems_sync_stats (organization_id)
    WHERE folded AND hour = '-infinity';
-- By transaction, so that readers pass over what was folded and cannot be removed yet.
CREATE INDEX pems_sync_stats_new ON @extschema@.pems_sync_stats (transaction) WHERE NOT folded;
-- It has no key: where a publication publishes it (FOR ALL TABLES), no row could be removed otherwise.
ALTER TABLE @extschema@.pems_sync_stats REPLICA IDENTITY FULL;
