/*
 * latency.sql: milliseconds from the commit of each mark to the arrival of its PUT: p50 and p99 at rest, p50 and p99
 * of the steady row, in one line.
 *
 *   log    the fake PEMS's log
 *   rest   edits 2 to rest + 1 were committed at rest; edit 1 was the warm-up
 */
WITH arrival AS (
    SELECT e ->> 'pfaId' AS name, min((e ->> 'at')::timestamptz) AS at
    FROM (SELECT line::jsonb AS e FROM string_to_table(pg_read_file(:'log'), E'\n') line WHERE line LIKE '%}') l
    WHERE e ->> 'kind' = 'request' GROUP BY 1
), latency AS (
    SELECT split_part(m.name, '-', 2)::integer <= :rest + 1 AS resting,
           extract(epoch FROM a.at - pg_xact_commit_timestamp(m.xmin)) * 1000 AS ms
    FROM bench.mark m JOIN arrival a USING (name)
    WHERE m.name LIKE 'edit-%' AND m.name <> 'edit-1'
)
SELECT string_agg(format('%s %s', round(p50::numeric, 3), round(p99::numeric, 3)), ' ' ORDER BY resting DESC)
FROM (SELECT resting, percentile_cont(0.50) WITHIN GROUP (ORDER BY ms) AS p50,
             percentile_cont(0.99) WITHIN GROUP (ORDER BY ms) AS p99
      FROM latency GROUP BY resting) p;
