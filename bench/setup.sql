/*
 * setup.sql: the application's tables with the extension, and functions that fill them; for all lines.
 *
 * A set of records has a name, and its records are called NAME-1, NAME-2 ...; each has one draft with the
 * same id, which changes it as the example of the protocol does.
 */
CREATE EXTENSION pems_sync;
CREATE EXTENSION pg_stat_statements;
SELECT pems_attach(create_missing => true) \g /dev/null

CREATE SCHEMA bench;

-- Moments that a run is measured from: the time of a mark is that of its commit.
CREATE TABLE bench.mark (name text PRIMARY KEY);

CREATE FUNCTION bench.record() RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT '{"source": "Rental", "monthlyRate": 5000, "dor": "BEO",
             "forecastStart": "2025-01-01T00:00:00Z", "forecastEnd": "2025-03-31T00:00:00Z"}'::jsonb
$$;

CREATE FUNCTION bench.changes() RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT '{"forecastStart": "2025-01-15T00:00:00Z", "forecastEnd": "2025-06-30T00:00:00Z",
             "monthlyRate": 5500.00, "dor": "PROJECT"}'::jsonb
$$;

-- Organizations o1 to on; their codes are ORG1 to ORGn.
CREATE FUNCTION bench.make_organizations(n integer) RETURNS void LANGUAGE sql AS $$
    INSERT INTO organization (id, code, name) SELECT 'o' || i, 'ORG' || i, 'Organization ' || i FROM generate_series(1, n) i
$$;

-- A set of n records and drafts of one organization
CREATE FUNCTION bench.make_set(organization text, name text, n integer) RETURNS void LANGUAGE sql AS $$
    INSERT INTO pfa_mirror (organization_id, pfa_id, version, data)
    SELECT organization, name || '-' || i, 3, bench.record() FROM generate_series(1, n) i;
    INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by, change_reason)
    SELECT name || '-' || i, organization, name || '-' || i, 3, bench.changes(), 'john.doe@example.com', 'Budget reallocation'
    FROM generate_series(1, n) i;
$$;

-- The drafts number first to last of a set
CREATE FUNCTION bench.drafts(name text, first integer, last integer) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT array_agg(name || '-' || i ORDER BY i) FROM generate_series(first, last) i
$$;

-- All mirrored records, as the fake PEMS is to be loaded with them
CREATE VIEW bench.pems_record AS
    SELECT json_build_object('organizationCode', o.code, 'pfaId', m.pfa_id, 'version', m.version, 'data', m.data) AS record
    FROM pfa_mirror m JOIN organization o ON o.id = m.organization_id;

-- Moments of commits, in seconds since the epoch
CREATE FUNCTION bench.seconds(transaction xid) RETURNS numeric LANGUAGE sql AS $$
    SELECT extract(epoch FROM pg_xact_commit_timestamp(transaction))
$$;
