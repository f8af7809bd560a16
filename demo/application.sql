/*
 * application.sql: the tables of the application, as its own migrations make them.
 * pems_sync comes later and adds its columns to them.
 */

SET ROLE vanguard;

CREATE TABLE organization (
    id   text PRIMARY KEY,
    code text NOT NULL UNIQUE,
    name text NOT NULL
);

CREATE TABLE pfa_mirror (
    id              text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    organization_id text NOT NULL REFERENCES organization (id),
    pfa_id          text NOT NULL,
    version         integer NOT NULL,
    data            jsonb NOT NULL,
    UNIQUE (organization_id, pfa_id)
);

CREATE TABLE pfa_modification (
    id              text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    organization_id text NOT NULL REFERENCES organization (id),
    pfa_id          text NOT NULL,
    base_version    integer NOT NULL,
    delta           jsonb NOT NULL,
    created_by      text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now()
);

INSERT INTO organization VALUES
    ('org-rio', 'RIO', 'Rio Tinto, Pilbara expansion'),
    ('org-portarthur', 'PORTARTHUR', 'Port Arthur LNG, phase 1');

RESET ROLE;
