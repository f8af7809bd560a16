/*
 * held_rate.sql: items per second of one burst, the drafts :first to :last.
 */
SELECT round((:last - :first + 1) / (max(bench.seconds(q.xmin)) - min(bench.seconds(a.xmin))), 1)
FROM pfa_write_queue q
JOIN pems_audit_log a ON a.item_id = q.id AND a.event_type = 'COMMITTED'
WHERE q.modification_id = ANY (bench.drafts('held', :first, :last));
