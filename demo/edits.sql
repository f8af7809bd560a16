/*
 * edits.sql: what the planners of both organizations changed today: drafts, one per record.
 * Every second record, chosen as the records are: by hash.
 */

SET ROLE vanguard;

-- Dates that moved, rates that were negotiated, equipment that changes hands.
WITH edited AS (
    SELECT m.organization_id, m.pfa_id, m.version, m.data, demo.pick(m.pfa_id || 'edit', 4) AS kind,
           (m.data ->> 'forecastStart')::timestamptz AS forecast_start, (m.data ->> 'forecastEnd')::timestamptz AS forecast_end
    FROM pfa_mirror m
    WHERE demo.pick(m.pfa_id || 'edited', 2) = 0 AND m.pfa_id NOT IN (SELECT r.pfa_id FROM demo.reserved r)
)
INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by, change_reason)
SELECT 'edit-' || e.pfa_id, e.organization_id, e.pfa_id, e.version,
       CASE e.kind
           WHEN 0 THEN jsonb_build_object('forecastEnd', demo.instant((e.forecast_end AT TIME ZONE 'UTC')::date + 30))
           WHEN 1 THEN jsonb_build_object('forecastStart', demo.instant((e.forecast_start AT TIME ZONE 'UTC')::date + 14),
                                          'forecastEnd', demo.instant((e.forecast_end AT TIME ZONE 'UTC')::date + 14))
           WHEN 2 THEN CASE e.data ->> 'source'
               WHEN 'Rental' THEN jsonb_build_object('monthlyRate', round((e.data ->> 'monthlyRate')::numeric * 1.045, 2))
               ELSE jsonb_build_object('purchasePrice', round((e.data ->> 'purchasePrice')::numeric * 0.98, 2)) END
           ELSE jsonb_build_object('dor', CASE e.data ->> 'dor' WHEN 'BEO' THEN 'PROJECT' ELSE 'BEO' END,
                                   'description', (e.data ->> 'description') || ', reassigned') END,
       (CASE e.organization_id WHEN 'org-rio' THEN ARRAY['alice.martin@example.com', 'ben.okafor@example.com']
                               ELSE ARRAY['carla.nguyen@example.com', 'dev.patel@example.com'] END)[1 + demo.pick(e.pfa_id || 'user', 2)],
       (ARRAY['Extended by a month', 'Start moved two weeks', 'Rate negotiated', 'Reassigned'])[1 + e.kind]
FROM edited e;

-- One record turned out to be a duplicate.
INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by, change_reason, operation)
SELECT 'delete-' || m.pfa_id, m.organization_id, m.pfa_id, m.version, '{}', 'ben.okafor@example.com',
       'Duplicate of PFA-10043', 'DELETE'
FROM pfa_mirror m WHERE m.organization_id = 'org-rio' AND m.pfa_id = 'PFA-10044';

RESET ROLE;
