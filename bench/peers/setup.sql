/*
 * setup.sql: a peer's side: the edits to be sent, where their results are recorded, and marks as in
 * bench/setup.sql.  The body is what pems_sync sends, too.
 */
CREATE SCHEMA bench;

CREATE TABLE bench.edit (
    id          text PRIMARY KEY,
    set_name    text NOT NULL,
    n           integer NOT NULL,
    body        jsonb NOT NULL,
    status      text NOT NULL DEFAULT 'queued',
    new_version integer,
    UNIQUE (set_name, n)
);

CREATE TABLE bench.mark (name text PRIMARY KEY);

CREATE FUNCTION bench.make_set(name text, size integer) RETURNS void LANGUAGE sql AS $$
    INSERT INTO bench.edit (id, set_name, n, body)
    SELECT name || '-' || i, name, i, jsonb_build_object('pfaId', name || '-' || i, 'organizationCode', 'ORG1',
               'changes', '{"forecastStart": "2025-01-15T00:00:00Z", "forecastEnd": "2025-06-30T00:00:00Z",
                            "monthlyRate": 5500.00, "dor": "PROJECT"}'::jsonb,
               'version', 3, 'modifiedBy', 'john.doe@example.com', 'changeReason', 'Budget reallocation')
    FROM generate_series(1, size) i
$$;

-- Forgets what came of a set, so that it can be sent again.
CREATE FUNCTION bench.renew(name text) RETURNS void LANGUAGE sql AS $$
    UPDATE bench.edit SET status = 'queued', new_version = NULL WHERE set_name = name;
    DELETE FROM bench.mark m WHERE m.name LIKE $1 || '-%';
$$;

CREATE FUNCTION bench.seconds(transaction xid) RETURNS numeric LANGUAGE sql AS $$
    SELECT extract(epoch FROM pg_xact_commit_timestamp(transaction))
$$;
