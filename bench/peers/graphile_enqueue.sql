/*
 * graphile_enqueue.sql: the edits :first to :last of the set :set_name, as jobs, in one call of add_jobs(), and
 * the mark SET-FIRST.
 */
BEGIN;
SELECT count(*)
FROM graphile_worker.add_jobs((
    SELECT array_agg(('put', json_build_object('id', e.id, 'body', e.body), NULL, NULL, NULL, NULL, NULL, NULL)
                         ::graphile_worker.job_spec ORDER BY e.n)
    FROM bench.edit e WHERE e.set_name = :'set_name' AND e.n BETWEEN :first AND :last));
INSERT INTO bench.mark VALUES (:'set_name' || '-' || :'first');
COMMIT;
