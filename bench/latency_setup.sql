/*
 * latency_setup.sql: an application with :n records and a draft for each; prints what the fake PEMS is
 * to be loaded with.
 */
CREATE EXTENSION pems_sync;
SELECT pems_attach(create_missing => true) \g /dev/null

INSERT INTO organization (id, code, name) VALUES ('o1', 'RIO', 'Rio');

INSERT INTO pfa_mirror (organization_id, pfa_id, version, data)
SELECT 'o1', 'PFA-' || i, 3, jsonb_build_object('source', 'Rental', 'monthlyRate', 5000, 'dor', 'BEO',
           'forecastStart', '2025-01-01T00:00:00Z', 'forecastEnd', '2025-03-31T00:00:00Z')
FROM generate_series(0, :n - 1) i;

INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by, change_reason)
SELECT 'draft-' || i, 'o1', 'PFA-' || i, 3,
       '{"forecastStart": "2025-01-15T00:00:00Z", "forecastEnd": "2025-06-30T00:00:00Z", "monthlyRate": 5500.00, "dor": "PROJECT"}',
       'john.doe@example.com', 'Budget reallocation'
FROM generate_series(0, :n - 1) i;

ANALYZE;

SELECT jsonb_build_object(
           'organizations', '[{"code": "RIO", "token": "benchmark-token"}]'::jsonb,
           'records', jsonb_agg(jsonb_build_object('organizationCode', 'RIO', 'pfaId', m.pfa_id, 'version', m.version,
                                                   'data', m.data)))
FROM pfa_mirror m;
