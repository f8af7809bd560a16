/*
 * drain_recorded.sql: how many items of the set :name are recorded as done, in each of the five places.
 */
SELECT (SELECT count(*) FROM pfa_write_queue WHERE modification_id LIKE :'name' || '-%' AND status = 'completed'),
       (SELECT count(*) FROM pfa_modification WHERE id LIKE :'name' || '-%' AND sync_status = 'synced' AND pems_version = 4),
       (SELECT count(*) FROM pfa_mirror WHERE pfa_id LIKE :'name' || '-%' AND version = 4 AND data ->> 'dor' = 'PROJECT'),
       (SELECT count(*) FROM pems_mirror_version WHERE pfa_id LIKE :'name' || '-%' AND version = 4 AND source = 'write'),
       (SELECT count(*) FROM pems_audit_log
        WHERE modification_id LIKE :'name' || '-%' AND event_type = 'WRITE_ATTEMPT' AND http_status = 200);
