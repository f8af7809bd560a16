/*
 * 24_tables_setup: credentials, pauses, where the extension is attached, and which indexes it has.
 */

CREATE TABLE @extschema@.pems_credential (
    organization_id text PRIMARY KEY,
    api_url         text NOT NULL,
    endpoint        text NOT NULL,
    sealed_token    bytea NOT NULL,
    key_id          text NOT NULL,
    generation      bigint NOT NULL,
    set_by          text NOT NULL,
    set_at          timestamptz NOT NULL DEFAULT pg_catalog.now(),
    state           text CHECK (state IN ('ok', 'no_key', 'cannot_open')),
    problem         text
);
COMMENT ON TABLE @extschema@.pems_credential IS
    'Sealed API credentials per organization; only the worker can open them';
COMMENT ON COLUMN @extschema@.pems_credential.organization_id IS 'Organization';
COMMENT ON COLUMN @extschema@.pems_credential.api_url IS 'Base URL of its PEMS API';
COMMENT ON COLUMN @extschema@.pems_credential.endpoint IS
    'scheme://host:port of api_url: what the rate limit and the breaker belong to';
COMMENT ON COLUMN @extschema@.pems_credential.sealed_token IS
    'crypto_box_seal of organization, URL, generation and token';
COMMENT ON COLUMN @extschema@.pems_credential.key_id IS 'Key of the keyring that opens it';
COMMENT ON COLUMN @extschema@.pems_credential.generation IS
    'Counts the credentials set for the organization; bound into the sealed text';
COMMENT ON COLUMN @extschema@.pems_credential.set_by IS 'Who set it';
COMMENT ON COLUMN @extschema@.pems_credential.set_at IS 'When';
COMMENT ON COLUMN @extschema@.pems_credential.state IS
    'What the worker found when it opened it last: ok, no_key or cannot_open; NULL: it has not tried yet';
COMMENT ON COLUMN @extschema@.pems_credential.problem IS 'Why it does not open, for people';

CREATE TABLE @extschema@.pems_pause (
    organization_id text NOT NULL,
    cause           text NOT NULL CHECK (cause IN ('administrator', 'credential')),
    reason          text,
    paused_by       text NOT NULL,
    paused_at       timestamptz NOT NULL DEFAULT pg_catalog.now(),
    of_organization text GENERATED ALWAYS AS (nullif(organization_id, '*')) STORED,
    PRIMARY KEY (organization_id, cause)
);
COMMENT ON TABLE @extschema@.pems_pause IS 'What is not being sent. organization_id * stands for all organizations.';
COMMENT ON COLUMN @extschema@.pems_pause.organization_id IS 'Organization, or * for all';
COMMENT ON COLUMN @extschema@.pems_pause.cause IS 'administrator (pems_pause) or credential (PEMS refused the token)';
COMMENT ON COLUMN @extschema@.pems_pause.reason IS 'Why, for people';
COMMENT ON COLUMN @extschema@.pems_pause.paused_by IS 'Who paused it';
COMMENT ON COLUMN @extschema@.pems_pause.paused_at IS 'Since when';
COMMENT ON COLUMN @extschema@.pems_pause.of_organization IS
    'organization_id without *: a pause goes with its organization (foreign key)';

CREATE TABLE @extschema@.pems_control (
    singleton   boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    cluster     text NOT NULL,
    attached_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE @extschema@.pems_control IS
    'One row, made by pems_attach(): where this database was attached. A restored copy finds another cluster or '
    'database and sends nothing.';
COMMENT ON COLUMN @extschema@.pems_control.singleton IS 'Always true: there is one row';
COMMENT ON COLUMN @extschema@.pems_control.cluster IS 'System identifier and database oid at the time of pems_attach()';
COMMENT ON COLUMN @extschema@.pems_control.attached_at IS 'When pems_attach() ran last';

CREATE TABLE @extschema@.pems_index (
    name       text PRIMARY KEY,
    table_name text NOT NULL,
    command    text NOT NULL
);
COMMENT ON TABLE @extschema@.pems_index IS
    'The indexes of the extension''s tables, as CREATE EXTENSION made them: pems_health() says when one is gone';
COMMENT ON COLUMN @extschema@.pems_index.name IS 'Index';
COMMENT ON COLUMN @extschema@.pems_index.table_name IS 'Its table';
COMMENT ON COLUMN @extschema@.pems_index.command IS 'What makes it again';
