/*
 * held.sql: what is looked at while a snapshot is held.
 */

-- Shared buffers that the worker's claims touched per claimed item, since the statistics were reset
CREATE FUNCTION bench.claim_buffers() RETURNS numeric LANGUAGE sql AS $$
    SELECT round(sum(shared_blks_hit + shared_blks_read)::numeric / nullif(sum(rows), 0), 2)
    FROM pg_stat_statements WHERE query LIKE '%\_pems\_claim(%'
$$;

-- Every table of the extension, and the application's
CREATE VIEW bench.dead_tuples AS
    SELECT relname AS "table", n_live_tup AS live, n_dead_tup AS dead, n_tup_upd AS updated, n_tup_hot_upd AS hot,
           pg_size_pretty(pg_total_relation_size(relid)) AS size
    FROM pg_stat_user_tables WHERE schemaname = 'public' AND n_tup_ins > 0
    ORDER BY n_dead_tup DESC, relname;
