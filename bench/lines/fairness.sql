/*
 * fairness.sql: the longest time from the commit of a mark to the arrival of its PUT, in seconds.
 *
 *   log    the fake PEMS's log
 */
SELECT round(max(extract(epoch FROM (e ->> 'at')::timestamptz - pg_xact_commit_timestamp(m.xmin))), 3)
FROM (SELECT line::jsonb AS e FROM string_to_table(pg_read_file(:'log'), E'\n') line WHERE line LIKE '%}') l
JOIN bench.mark m ON m.name = e ->> 'pfaId'
WHERE e ->> 'kind' = 'request';
