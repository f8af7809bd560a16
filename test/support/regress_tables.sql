/*
 * The application's own tables, as they are before CREATE EXTENSION, which then attaches by itself.
 */
CREATE TABLE organization (id text PRIMARY KEY, code text NOT NULL UNIQUE, name text NOT NULL);
CREATE TABLE pfa_mirror (
    id text PRIMARY KEY DEFAULT gen_random_uuid()::text, organization_id text NOT NULL REFERENCES organization (id),
    pfa_id text NOT NULL, version integer NOT NULL, data jsonb NOT NULL, UNIQUE (organization_id, pfa_id));
CREATE TABLE pfa_modification (
    id text PRIMARY KEY DEFAULT gen_random_uuid()::text, organization_id text NOT NULL REFERENCES organization (id),
    pfa_id text NOT NULL, base_version integer NOT NULL, delta jsonb NOT NULL DEFAULT '{}', created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now());
