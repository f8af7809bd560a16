/*
 * pull.sql: records of 1 kB for line 9, and the tables that the peers fill: a mirror and a history with the columns,
 * checks, indexes and foreign keys of ours, but without triggers.
 */

-- Record number i as PEMS has it, about 1 kB as text
CREATE FUNCTION bench.pull_data(i bigint) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT bench.record() || jsonb_build_object(
        'monthlyRate', 5000 + i % 977, 'equipmentNumber', 'EQ-' || i, 'category', 'CAT-' || i % 37,
        'class', 'CLASS-' || i % 101, 'area', 'AREA-' || i % 13, 'contract', 'C-' || i / 100,
        'purchasePrice', (i * 7919) % 1000000 + 0.25, 'manufacturer', 'Manufacturer ' || i % 211, 'isActualized', i % 2 = 0,
        'cost', jsonb_build_object('currency', 'USD', 'hours', i % 24, 'rate', i % 500),
        'description', repeat(md5(i::text) || ' ', 9), 'remarks', repeat(md5((i + 1)::text) || ' ', 9))
$$;

CREATE FUNCTION bench.pull_records(records bigint) RETURNS TABLE (pfa_id text, version integer, data jsonb) LANGUAGE sql AS $$
    SELECT 'PFA-' || i, 3, bench.pull_data(i) FROM generate_series(1, records) i
$$;

CREATE TABLE bench.mirror (LIKE pfa_mirror INCLUDING ALL, FOREIGN KEY (organization_id) REFERENCES organization (id));
CREATE TABLE bench.version (LIKE pems_mirror_version INCLUDING ALL);
CREATE UNLOGGED TABLE bench.staging (pfa_id text NOT NULL, version integer NOT NULL, data jsonb NOT NULL);

-- What a mirror has of organization o1: records; those that are as PEMS has them; those with one state in the history
CREATE FUNCTION bench.pull_found(mirror regclass, version regclass, records bigint)
RETURNS TABLE (mirrored bigint, equal bigint, remembered bigint) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT (SELECT count(*) FROM %1$s WHERE organization_id = ''o1''),
                (SELECT count(*) FROM %1$s m JOIN bench.pull_records(%3$s) r USING (pfa_id, version)
                 WHERE m.organization_id = ''o1'' AND m.data = r.data),
                (SELECT count(DISTINCT v.pfa_id) FROM %2$s v WHERE v.organization_id = ''o1'' AND v.version = 3
                 HAVING count(*) = count(DISTINCT v.pfa_id))', mirror, version, records);
END
$$;

-- o1 is as if it had never been pulled; the records that are edited, in o2, stay.
CREATE FUNCTION bench.pull_empty() RETURNS void LANGUAGE sql AS $$
    DELETE FROM pfa_mirror WHERE organization_id = 'o1';
    DELETE FROM pems_mirror_version WHERE organization_id = 'o1';
    DELETE FROM pems_pull_organization WHERE organization_id = 'o1';
    TRUNCATE bench.mirror, bench.version, bench.staging;
$$;
