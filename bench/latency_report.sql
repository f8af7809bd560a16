/*
 * latency_report.sql: the table that bench/latency.sh prints.
 *
 *   log    the fake PEMS's log
 *   rest   drafts up to this number were committed at rest; draft 0 was the warm-up
 *   rate   commits per second of the others
 */
WITH arrival AS (
    SELECT split_part(e ->> 'requestId', ':', 1) AS item_id, (e ->> 'at')::timestamptz AS at
    FROM (SELECT line::jsonb AS e FROM string_to_table(pg_read_file(:'log'), E'\n') line WHERE line LIKE '%}') l
    WHERE e ->> 'kind' = 'request' AND e ->> 'requestId' LIKE '%:1'
), latency AS (
    SELECT split_part(a.modification_id, '-', 2)::integer <= :rest AS resting,
           extract(epoch FROM r.at - pg_xact_commit_timestamp(a.xmin)) * 1000 AS ms
    FROM pems_audit_log a JOIN arrival r USING (item_id)
    WHERE a.event_type = 'COMMITTED' AND a.modification_id <> 'draft-0'
)
SELECT CASE WHEN resting THEN 'at rest' ELSE format('steady, %s commits per second', :'rate') END AS "COMMIT to PUT",
       count(*) AS commits,
       round(min(ms), 2) AS "min ms",
       round(percentile_cont(0.50) WITHIN GROUP (ORDER BY ms)::numeric, 2) AS "p50 ms",
       round(percentile_cont(0.99) WITHIN GROUP (ORDER BY ms)::numeric, 2) AS "p99 ms",
       round(max(ms), 2) AS "max ms"
FROM latency GROUP BY resting ORDER BY resting DESC;
