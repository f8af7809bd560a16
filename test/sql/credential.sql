-- pems_set_credential() and pems_public_key(): what is refused, and what is stored.  Sealing and opening are tested elsewhere.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
\set ECHO none
\i test/support/regress_application.sql
\set ECHO all
CREATE ROLE regress_pems_admin IN ROLE pems_sync_admin;
CREATE FUNCTION regress.set(url text, sealed bytea DEFAULT decode(repeat('ab', 64), 'hex'), key text DEFAULT '0123456789abcdef', organization text DEFAULT 'org-rio') RETURNS text
LANGUAGE sql AS $$ SELECT regress.attempt(format('SELECT pems_set_credential(%L, %L, %L, %L)', organization, url, sealed, key)) $$;
SET ROLE regress_pems_admin;

-- Not https; http is for loopback only, whatever the server is set to.
SELECT regress.set('http://pems.invalid/api');
SELECT regress.set('ftp://pems.invalid/api');
SELECT regress.set('file:///etc/passwd');
SELECT regress.set('gopher://pems.invalid/');
SELECT regress.set('pems.invalid/api');
SELECT regress.set('https://');
SELECT regress.set('');
SELECT regress.set('not a url');
-- Host not allowed.
SELECT regress.set('https://pems.invalid/api');
SELECT regress.set('https://pems.invalid:8443/api');
SELECT regress.set('https://pems.invalid.example.com/api');
SELECT regress.set('https://[fe80::1]/api');
-- A user, a query, a fragment, line ends in the URL.
SELECT regress.set('https://user@pems.invalid/api');
SELECT regress.set('https://user:secret@pems.invalid/api');
SELECT regress.set('https://pems.invalid/api?token=secret');
SELECT regress.set('https://pems.invalid/api#secret');
SELECT regress.set(E'https://pems.invalid/api\r\nX: y');
SELECT regress.set('https://pems.invalid/../api');
SELECT regress.set('https://pems.invalid\@evil.invalid/api');
-- No message repeats a password.
SELECT count(*) FROM unnest(ARRAY['https://user:secret@pems.invalid/api', 'https://user:secret@pems.invalid:99999/', 'http://user:secret@pems.invalid']) u WHERE regress.set(u) LIKE '%secret%';
-- Nothing sealed, sealed too short, no key id.
SELECT regress.set('https://pems.invalid/api', sealed => NULL);
SELECT regress.state($$SELECT pems_set_credential('org-rio', 'https://pems.invalid/api', decode(repeat('ab', 47), 'hex'), '0123456789abcdef')$$);
SELECT regress.state($$SELECT pems_set_credential('org-rio', 'https://pems.invalid/api', '', '0123456789abcdef')$$);
SELECT regress.set('https://pems.invalid/api', key => '');
SELECT regress.set('https://pems.invalid/api', key => NULL);
SELECT regress.state($$SELECT pems_set_credential('org-rio', 'https://pems.invalid/api', decode(repeat('ab', 64), 'hex'), '0123456789ABCDEF')$$);
SELECT regress.state($$SELECT pems_set_credential('org-rio', 'https://pems.invalid/api', decode(repeat('ab', 64), 'hex'), '0123456789abcdef0')$$);
SELECT regress.state($$SELECT pems_set_credential('org-rio', NULL, decode(repeat('ab', 64), 'hex'), '0123456789abcdef')$$);
-- Unknown organization.
SELECT regress.set('https://pems.invalid/api', organization => 'RIO');
SELECT regress.set('https://pems.invalid/api', organization => NULL);
SELECT regress.attempt($$SELECT _pems_credential_target('rio')$$);
SELECT regress.attempt($$SELECT _pems_credential_target('RI')$$);
SELECT regress.attempt($$SELECT _pems_credential_target(NULL)$$);
RESET ROLE;
SELECT count(*) FROM pems_credential;
SELECT count(*) FROM pems_audit_log WHERE event_type = 'CREDENTIAL_CHANGED';

-- The program's question: which organization, and which generation comes next.
SET ROLE regress_pems_admin;
SELECT * FROM _pems_credential_target('RIO');
SELECT * FROM _pems_credential_target('RIO2');
RESET ROLE;
INSERT INTO pems_credential (organization_id, api_url, endpoint, sealed_token, key_id, generation, set_by)
VALUES ('org-rio', 'https://pems.invalid/api', 'https://pems.invalid:443', decode(repeat('ab', 64), 'hex'), '0123456789abcdef', 7, 'carol');
SET ROLE regress_pems_admin;
SELECT * FROM _pems_credential_target('RIO');
RESET ROLE;
-- what the worker reads: organizations with a credential, with their exact code
SET ROLE pems_sync_worker;
SELECT organization_id, code, api_url, endpoint, length(sealed_token), key_id, generation FROM _pems_organizations();
RESET ROLE;

-- A credential and the pauses of an organization go with it; where they could not, pems_attach() finds them.
INSERT INTO pems_credential (organization_id, api_url, endpoint, sealed_token, key_id, generation, set_by)
SELECT o.id, 'https://pems.invalid/api', 'https://pems.invalid:443', decode(repeat('ab', 64), 'hex'), '0123456789abcdef', 1, 'carol' FROM organization o WHERE o.id <> 'org-rio';
SELECT regress.state($$INSERT INTO pems_credential (organization_id, api_url, endpoint, sealed_token, key_id, generation, set_by)
SELECT 'nowhere', api_url, endpoint, sealed_token, key_id, generation, set_by FROM pems_credential LIMIT 1$$);
SELECT pems_pause(id) -> 'success', pems_pause() -> 'success' FROM organization;
DELETE FROM pfa_mirror;
DELETE FROM organization WHERE id = 'org-port';
SELECT organization_id FROM pems_credential ORDER BY organization_id COLLATE "C";
SELECT organization_id FROM pems_pause ORDER BY organization_id COLLATE "C";
SELECT pems_detach();
DELETE FROM organization WHERE id = 'org-rio2';
SELECT pems_attach() -> 'success';
SELECT organization_id FROM pems_credential ORDER BY organization_id COLLATE "C";
SELECT organization_id FROM pems_pause ORDER BY organization_id COLLATE "C";
SELECT event_type, organization_id, path, error FROM pems_audit_log WHERE event_type = 'CREDENTIAL_CHANGED' ORDER BY at, seq;

-- The public key: from the key file, or 55000 with what to do.  The server may or may not have one.
SET ROLE regress_pems_admin;
SELECT result = 'ok' OR (result ~ '^55000: the key file cannot be used\nDETAIL: .+\nHINT: (Make one with "pems-credential keygen FILE"|Correct that)') AS as_documented
FROM regress.attempt('SELECT pems_public_key()') result;
SELECT CASE WHEN regress.state('SELECT pems_public_key()') = 'ok'
            THEN regress.state($$SELECT 1 / (pems_public_key() ?& ARRAY['keyId', 'publicKey'] AND pems_public_key() ->> 'keyId' ~ '^[0-9a-f]{16}$' AND length(decode(pems_public_key() ->> 'publicKey', 'base64')) = 32)::integer$$)
            ELSE 'ok' END AS key_and_id;
RESET ROLE;

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
DROP ROLE regress_pems_admin;
