/*
 * pems.sql: windows into the fake PEMS, for comparisons.  Only the demo looks this way;
 * pems_sync knows PEMS by HTTP alone.
 *
 *   log       the fake's log
 *   records   file that demo/lib.sh fills with the records of PEMS
 */

SELECT format('CREATE VIEW demo.pems_log AS SELECT line::jsonb AS entry FROM string_to_table(pg_read_file(%L), E''\n'') line WHERE line LIKE ''%%}''', :'log')
\gexec

SELECT format('CREATE VIEW demo.pems_document AS SELECT pg_read_file(%L)::jsonb AS document', :'records')
\gexec

-- Requests as they arrived.
CREATE VIEW demo.pems_request AS
    SELECT (entry ->> 'at')::timestamptz AS arrived_at, entry ->> 'method' AS method, entry ->> 'call' AS call,
           entry ->> 'organizationCode' AS code, entry ->> 'pfaId' AS pfa_id, (entry ->> 'status')::integer AS status, (entry ->> 'applied')::boolean AS applied,
           split_part(entry ->> 'requestId', ':', 1) AS item_id, split_part(entry ->> 'requestId', ':', 2)::integer AS attempt
    FROM demo.pems_log WHERE entry ->> 'kind' = 'request';

-- Records as they are.
CREATE VIEW demo.pems_record AS
    SELECT r ->> 'organizationCode' AS code, r ->> 'pfaId' AS pfa_id, (r ->> 'version')::integer AS version,
           (r ->> 'deleted')::boolean AS deleted, r -> 'data' AS data
    FROM demo.pems_document d, jsonb_array_elements(d.document -> 'records') r;

-- From COMMIT to the arrival of the first request, in milliseconds.  The audit log is append-only, so
-- the transaction that made a COMMITTED row is the user's.
CREATE VIEW demo.latency AS
    SELECT a.modification_id, extract(epoch FROM r.arrived_at - pg_xact_commit_timestamp(a.xmin)) * 1000 AS ms
    FROM pems_audit_log a JOIN demo.pems_request r ON r.item_id = a.item_id AND r.attempt = 1
    WHERE a.event_type = 'COMMITTED';
