/*
 * pull_copy.sql: the same records by COPY from a file into a staging table, and from there into mirror and history.
 *
 *   file    text format of COPY: pfa_id, version, data
 */
BEGIN;
COPY bench.staging FROM :'file';
WITH written AS (
    INSERT INTO bench.mirror AS m (organization_id, pfa_id, version, data, last_synced_at)
    SELECT 'o1', s.pfa_id, s.version, s.data, clock_timestamp() FROM bench.staging s
    ON CONFLICT (organization_id, pfa_id) DO UPDATE
    SET version = excluded.version, data = excluded.data, last_synced_at = excluded.last_synced_at
    WHERE m.version < excluded.version OR (m.version = excluded.version AND m.data <> excluded.data)
    RETURNING m.organization_id, m.pfa_id, m.version, m.data
)
INSERT INTO bench.version (organization_id, pfa_id, version, data, source)
SELECT w.organization_id, w.pfa_id, w.version, w.data, 'pems' FROM written w;
COMMIT;
