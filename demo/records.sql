/*
 * records.sql: 500 PFA records for the fake PEMS, 300 of RIO and 200 of PORTARTHUR, the same in every run:
 * every choice is a hash of the record's id and of what is chosen, with a fixed seed.
 */

CREATE SCHEMA demo;

-- A number from 0 to choices - 1.
CREATE FUNCTION demo.pick(key text, choices integer) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT ((hashtextextended(key, 20250115) & 2147483647) % choices)::integer $$;

CREATE FUNCTION demo.instant(day date) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT to_char(day, 'YYYY-MM-DD"T00:00:00Z"') $$;

CREATE TABLE demo.equipment (
    number            integer GENERATED ALWAYS AS IDENTITY,
    prefix            text,
    category          text,
    forecast_category text,
    class             text,
    manufacturer      text,
    model             text,
    description       text,
    monthly_rate      numeric(12, 2),
    purchase_price    numeric(12, 2)
);

INSERT INTO demo.equipment
    (prefix, category, forecast_category, class, manufacturer, model, description, monthly_rate, purchase_price) VALUES
    ('CC', 'Cranes', 'Crawler crane', '600 t', 'Liebherr', 'LR 1600/2', 'Crawler crane 600 t, luffing jib', 148000, 9800000),
    ('CC', 'Cranes', 'Crawler crane', '300 t', 'Manitowoc', 'MLC300', 'Crawler crane 300 t with main boom', 61500, 3950000),
    ('CC', 'Cranes', 'Crawler crane', '200 t', 'Kobelco', 'CK2000G-3', 'Crawler crane 200 t', 38500, 2100000),
    ('AT', 'Cranes', 'All-terrain crane', '130 t', 'Liebherr', 'LTM 1130-5.1', 'All-terrain crane 130 t, five axles', 41200, 1850000),
    ('AT', 'Cranes', 'All-terrain crane', '100 t', 'Grove', 'GMK4100L-2', 'All-terrain crane 100 t', 33800, 1320000),
    ('RT', 'Cranes', 'Rough-terrain crane', '90 t', 'Tadano', 'GR-1000XL-4', 'Rough-terrain crane 90 t', 24600, 870000),
    ('RT', 'Cranes', 'Rough-terrain crane', '60 t', 'Grove', 'RT765E-2', 'Rough-terrain crane 60 t', 17900, 640000),
    ('BL', 'Aerial lifts', 'Boom lift', '125 ft', 'JLG', '1250AJP', 'Articulating boom lift, 125 ft', 9800, 285000),
    ('BL', 'Aerial lifts', 'Boom lift', '80 ft', 'Genie', 'S-85 XC', 'Telescopic boom lift, 85 ft', 4950, 148000),
    ('BL', 'Aerial lifts', 'Boom lift', '60 ft', 'JLG', '600S', 'Telescopic boom lift, 60 ft', 3450, 98500),
    ('SL', 'Aerial lifts', 'Scissor lift', '40 ft', 'Skyjack', 'SJ9243 RT', 'Rough-terrain scissor lift, 43 ft', 2350, 64000),
    ('EX', 'Earthmoving', 'Excavator', '36 t', 'Caterpillar', '336', 'Hydraulic excavator 36 t', 12400, 412000),
    ('EX', 'Earthmoving', 'Excavator', '20 t', 'Komatsu', 'PC210LC-11', 'Hydraulic excavator 21 t', 7600, 236000),
    ('DZ', 'Earthmoving', 'Dozer', 'D6', 'Caterpillar', 'D6 XE', 'Track dozer with GPS grade control', 14200, 545000),
    ('WL', 'Earthmoving', 'Wheel loader', '3 m3', 'Volvo', 'L90H', 'Wheel loader 3 m3', 8300, 265000),
    ('GR', 'Earthmoving', 'Motor grader', '14 ft', 'Caterpillar', '140', 'Motor grader', 11300, 389000),
    ('CP', 'Earthmoving', 'Compactor', '12 t', 'Bomag', 'BW 213', 'Single-drum roller 12 t', 5100, 152000),
    ('TH', 'Material handling', 'Telehandler', '12,000 lb', 'JLG', '1255', 'Telehandler 12,000 lb, 55 ft', 5850, 176000),
    ('TH', 'Material handling', 'Telehandler', '10,000 lb', 'SkyTrak', '10054', 'Telehandler 10,000 lb, 54 ft', 4700, 149000),
    ('FL', 'Material handling', 'Forklift', '8 t', 'Hyster', 'H8XM6', 'Yard forklift 8 t', 3950, 118000),
    ('GN', 'Power', 'Generator', '500 kVA', 'Caterpillar', 'XQ500', 'Containerized generator 500 kVA', 8900, 238000),
    ('GN', 'Power', 'Generator', '100 kVA', 'Atlas Copco', 'QAS 100', 'Mobile generator 100 kVA', 2450, 61500),
    ('LT', 'Power', 'Light tower', 'LED', 'Generac', 'MLT6SMD', 'Light tower, LED, vertical mast', 890, 19800),
    ('AC', 'Air', 'Compressor', '900 cfm', 'Sullair', '900XHH', 'Air compressor 900 cfm, high pressure', 5600, 168000),
    ('WM', 'Welding', 'Welding machine', '400 A', 'Lincoln', 'Vantage 400', 'Engine-driven welder 400 A', 1150, 24500),
    ('WM', 'Welding', 'Welding machine', 'rack of 6', 'Miller', 'XMT 350', 'Welding rack, six units', 2600, 58000),
    ('PU', 'Pumps', 'Dewatering pump', '6 in', 'Godwin', 'CD150S', 'Dri-Prime dewatering pump 6 in', 2900, 71000),
    ('TR', 'Vehicles', 'Pick-up truck', '3/4 t', 'Ford', 'F-250', 'Crew-cab pick-up with safety kit', 1950, 62000),
    ('TR', 'Vehicles', 'Water truck', '4,000 gal', 'Kenworth', 'T370', 'Water truck 4,000 gal', 6900, 184000);

-- Where it is used, by organization.
CREATE FUNCTION demo.area(code text, number integer) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT (CASE code
               WHEN 'RIO' THEN ARRAY['Process plant', 'Crushing', 'Rail loop', 'Port stockyard', 'Camp and utilities']
               ELSE ARRAY['LNG train 1', 'LNG train 2', 'Storage tanks', 'Marine terminal', 'Utilities'] END)[1 + number] $$;

CREATE VIEW demo.choice AS
    SELECT o.id AS organization_id, o.code, r.pfa_id, e.*,
           1 + demo.pick(r.pfa_id || 'version', 6) AS version,
           demo.area(o.code, demo.pick(r.pfa_id || 'area', 5)) AS area,
           CASE WHEN demo.pick(r.pfa_id || 'source', 10) < 7 THEN 'Rental' ELSE 'Purchase' END AS source,
           CASE WHEN demo.pick(r.pfa_id || 'dor', 10) < 6 THEN 'PROJECT' ELSE 'BEO' END AS dor,
           0.90 + demo.pick(r.pfa_id || 'price', 21) / 100.0 AS price_factor,
           date '2025-01-06' + 7 * demo.pick(r.pfa_id || 'start', 70) AS original_start,
           30 * (1 + demo.pick(r.pfa_id || 'months', 18)) AS days,
           demo.pick(r.pfa_id || 'shift', 60) - 14 AS shift,
           30 * demo.pick(r.pfa_id || 'extension', 3) AS extension,
           demo.pick(r.pfa_id || 'unit', 90) + 1 AS unit,
           demo.pick(r.pfa_id || 'contract', 40) + 1 AS contract
    FROM organization o
    JOIN (SELECT 'org-rio' AS organization_id, 'PFA-' || n AS pfa_id FROM generate_series(10001, 10300) n
          UNION ALL
          SELECT 'org-portarthur', 'PFA-' || n FROM generate_series(20001, 20200) n) r ON r.organization_id = o.id
    JOIN demo.equipment e ON e.number = 1 + demo.pick(r.pfa_id || 'equipment', (SELECT count(*)::integer FROM demo.equipment));

CREATE VIEW demo.record AS
    SELECT c.organization_id, c.code, c.pfa_id, c.version,
           jsonb_build_object(
               'pfaId', c.pfa_id, 'areaSilo', c.area, 'category', c.category,
               'forecastCategory', c.forecast_category, 'class', c.class, 'source', c.source, 'dor', c.dor,
               'isActualized', c.original_start + c.shift < date '2025-07-01', 'isDiscontinued', false,
               'isFundsTransferable', demo.pick(c.pfa_id || 'funds', 4) = 0,
               'monthlyRate', CASE WHEN c.source = 'Rental' THEN round(c.monthly_rate * c.price_factor, -1)::numeric(12, 2) END,
               'purchasePrice', CASE WHEN c.source = 'Purchase' THEN round(c.purchase_price * c.price_factor, -2)::numeric(12, 2) END,
               'manufacturer', c.manufacturer, 'model', c.model, 'description', c.description,
               'originalStart', demo.instant(c.original_start),
               'originalEnd', demo.instant(c.original_start + c.days), 'hasPlan', true,
               'forecastStart', demo.instant(c.original_start + c.shift),
               'forecastEnd', demo.instant(c.original_start + c.shift + c.days + c.extension),
               'actualStart', CASE WHEN c.original_start + c.shift < date '2025-07-01'
                                   THEN demo.instant(c.original_start + c.shift) END,
               'actualEnd', NULL, 'hasActuals', c.original_start + c.shift < date '2025-07-01',
               'contract', format('C-25-%s', lpad(c.contract::text, 3, '0')),
               'equipment', format('%s-%s', c.prefix, lpad(c.unit::text, 4, '0')),
               'lastModified', demo.instant(date '2024-12-02' + demo.pick(c.pfa_id || 'modified', 30)),
               'lastModifiedBy', 'pems.planning@example.com') AS data
    FROM demo.choice c;

-- As the fake PEMS reads them.
CREATE VIEW demo.pems_record_to_load AS
    SELECT r.code AS "organizationCode", r.pfa_id AS "pfaId", r.version, r.data ->> 'lastModified' AS "updatedAt",
           r.data ->> 'lastModifiedBy' AS "lastModifiedBy", r.data
    FROM demo.record r;

-- Records that steps of the demo keep for themselves; edits.sql leaves them alone.
CREATE TABLE demo.reserved AS
    SELECT unnest(ARRAY['PFA-10010', 'PFA-10020', 'PFA-10021', 'PFA-10030', 'PFA-10040', 'PFA-10043', 'PFA-10044',
                        'PFA-10050', 'PFA-10060', 'PFA-10070', 'PFA-10080', 'PFA-10081', 'PFA-10082',
                        'PFA-20010', 'PFA-20011', 'PFA-20012', 'PFA-20013']) AS pfa_id
    UNION ALL
    SELECT 'PFA-' || n FROM generate_series(20101, 20145) n;

GRANT USAGE ON SCHEMA demo TO vanguard;
GRANT SELECT ON ALL TABLES IN SCHEMA demo TO vanguard;
