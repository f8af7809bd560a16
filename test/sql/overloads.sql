-- Functions that somebody plants beside ours, in the same schema, under the same names: none of them is ever called by us, and
-- none makes a call of ours ambiguous.  The planted ones take text for each argument, under its name, and every number of
-- arguments: what literals, NULL and defaults that are left out would fit better than our own.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
-- before CREATE EXTENSION, which attaches with the rights of a superuser
CREATE FUNCTION pems_attach() RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'planted pems_attach()'; END $$;
-- it warns of that function, with the name of the role that runs this test
SET client_min_messages = error;
CREATE EXTENSION pems_sync;
RESET client_min_messages;
SELECT count(*) AS attached FROM pems_control;
DROP FUNCTION pems_attach();
\set ECHO none
\i test/support/regress_application.sql
\i test/support/regress_conflicts.sql
\set ECHO all
SET client_min_messages = error;
CREATE ROLE regress_pems_reader IN ROLE pems_sync_reader;
CREATE ROLE regress_pems_user IN ROLE pems_sync_user;
CREATE ROLE regress_pems_admin IN ROLE pems_sync_admin;
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON organization, pfa_mirror, pfa_modification TO regress_pems_user, regress_pems_admin;

CREATE VIEW regress.routine AS
    SELECT p.* FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pems_sync' JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e';
DO $plant$
DECLARE
    one record;
    arguments text;
BEGIN
    FOR one IN SELECT r.proname, r.proargnames, n.n FROM regress.routine r CROSS JOIN LATERAL generate_series(0, r.pronargs) n (n)
    LOOP
        arguments := (SELECT string_agg(format('%I text', coalesce(nullif(one.proargnames[i], ''), 'x' || i)), ', ') FROM generate_series(1, one.n) i);
        -- one that takes the same is ours, or is there already
        IF to_regprocedure(format('public.%I(%s)', one.proname, (SELECT string_agg('text', ', ') FROM generate_series(1, one.n)))) IS NULL THEN
            EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION %L; END $$',
                           one.proname, coalesce(arguments, ''), format('planted %s(%s)', one.proname, coalesce(arguments, '')));
        END IF;
    END LOOP;
END
$plant$;
SELECT count(DISTINCT p.proname) > 80 AS beside_most_of_ours, count(*) > 150 AS many FROM pg_proc p
WHERE p.pronamespace = 'public'::regnamespace AND p.proname ~ '^_?pems_' AND p.oid NOT IN (SELECT r.oid FROM regress.routine r);

/* Runs a statement as that role; says what went wrong, but for the errors that it is allowed to end with. */
CREATE FUNCTION regress.run(role text, statement text, allowed text DEFAULT 'ok') RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    state text;
BEGIN
    PERFORM set_config('role', role, true);
    state := regress.attempt(statement);
    PERFORM set_config('role', 'none', true);
    IF split_part(state, ':', 1) <> ALL (string_to_array(allowed, ' ')) THEN
        RETURN NEXT role || ': ' || statement || E'\n' || state;
    END IF;
END
$$;
/* The pull of org-rio2 that is not over; and: it goes on. */
CREATE FUNCTION regress.pull() RETURNS text LANGUAGE sql SECURITY DEFINER AS $$ SELECT max(job_id) FROM public.pems_pull_state WHERE organization_id = 'org-rio2' AND phase <> 'ended' $$;
CREATE FUNCTION regress.pull_due() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM public._pems_pull_due(ARRAY['org-rio2'], 5) d;
    RETURN 'due';
END
$$;
CREATE TABLE regress.call (n serial, roles text, statement text, allowed text DEFAULT 'ok');

SET track_functions = 'all';
BEGIN;
-- Edits: queued, in conflict, failed, held; each twice, once for the superuser and once for a role.
SELECT regress.draft('d' || i, 'PFA-' || 1 + i % 6, format('{"model": "%s"}', i)::jsonb) FROM generate_series(1, 12) i \g /dev/null
SELECT regress.conflict('c' || i, 'PFA-' || i, '{"model": "a"}', '{"model": "b"}', '["model"]', organization_id => 'org-rio2') FROM generate_series(1, 2) i \g /dev/null
SELECT regress.conflict('e1', 'PFA-9', '{"monthlyRate": 1}', '{"model": "b"}', '["monthlyRate"]', 'validation', organization_id => 'org-port') \g /dev/null
INSERT INTO regress.call (roles, statement, allowed) VALUES
    ('reader user admin none', $$SELECT pems_sync_status(NULL::text, NULL::text, NULL::timestamptz, NULL::timestamptz)$$, 'ok'),
    ('reader user admin none', $$SELECT pems_sync_status('org-rio'::text, 'pending'::text, now() - interval '1 hour', now())$$, 'ok'),
    ('reader user admin none', $$SELECT pems_sync_status('org-rio2'::text, 'conflict'::text, now() - interval '1 hour', now())$$, 'ok'),
    ('reader user admin none', $$SELECT pems_sync_state('org-rio2'::text, ARRAY['PFA-1', 'PFA-2']::text[])$$, 'ok'),
    ('reader user admin none', $$SELECT pems_sync_state('org-rio'::text, ARRAY['PFA-1', 'PFA-2']::text[])$$, 'ok'),
    ('reader user admin none', $$SELECT pems_conflicts('org-rio2'::text, 'unresolved'::text, 10, NULL::text)$$, 'ok'),
    ('reader user admin none', $$SELECT pems_conflict(regress.conflict_of('c1'), NULL::text)$$, 'ok'),
    ('reader user admin none', $$SELECT pems_conflict(regress.conflict_of('e1'), NULL::text)$$, 'ok'),
    ('reader user admin none', $$SELECT pems_health()$$, 'ok'),
    ('reader user admin none', $$SELECT pems_sync_history(NULL::text, NULL::text, NULL::timestamptz, NULL::timestamptz, 10, NULL::text, NULL::text)$$, 'ok'),
    ('reader user admin none', $$SELECT pems_sync_history('org-rio2'::text, 'running'::text, now() - interval '1 hour', now(), 10, NULL::text, 'commit'::text)$$, 'ok'),
    ('reader user admin none', $$SELECT pems_job((pems_sync_history(NULL::text, NULL::text, NULL::timestamptz, NULL::timestamptz, 10, NULL::text, NULL::text) #>> '{jobs,0,id}'), NULL::text, 10, NULL::text)$$, 'ok'),
    ('reader user admin none', $$SELECT pems_version_history('org-rio2'::text, 'PFA-1'::text, 10, NULL::bigint)$$, 'ok'),
    ('reader user admin none', $$SELECT pems_version_history('org-rio2'::text, 'nowhere'::text, 10, NULL::bigint)$$, 'P0002'),
    ('none', $$SELECT regress.draft('moved', 'PFA-3', base_version => 77)$$, 'ok'),
    ('user admin none', $$SELECT pems_commit_preview('org-rio'::text, NULL::text[], NULL::text)$$, 'ok'),
    ('reader user admin none', $$SELECT pems_sync_state('org-rio'::text, ARRAY['PFA-3']::text[])$$, 'ok'),
    ('none', $$DELETE FROM pfa_modification WHERE id = 'moved'$$, 'ok'),
    ('user admin none', $$SELECT pems_commit_preview('org-rio'::text, ARRAY['d1', 'nowhere']::text[], 'alice'::text)$$, 'ok'),
    ('reader user admin none', $$SELECT * FROM pems_queue$$, 'ok'), ('reader user admin none', $$SELECT * FROM pems_dead_letters$$, 'ok'),
    ('reader user admin none', $$SELECT * FROM pems_open_conflicts$$, 'ok'), ('reader user admin none', $$SELECT * FROM pems_worker$$, 'ok'), ('reader user admin none', $$SELECT * FROM pems_endpoints$$, 'ok'),
    ('user admin none', $$SELECT pems_validate('{"model": "x"}'::jsonb, '{"model": "y"}'::jsonb)$$, 'ok'),
    ('user admin none', $$SELECT pems_validate('[]'::jsonb, NULL::jsonb)$$, '22023'),
    ('user', $$SELECT pems_commit('org-rio'::text, ARRAY['d1', 'd7', 'nowhere']::text[], 'alice'::text, 'high'::text)$$, 'ok'),
    ('admin', $$SELECT pems_commit('org-rio'::text, ARRAY['d2']::text[], 'somebody'::text, 'normal'::text)$$, 'ok'),
    ('none', $$SELECT pems_commit('org-rio'::text, NULL::text[], NULL::text, 'low'::text)$$, 'ok'),
    ('user admin none', $$SELECT pems_commit('org-rio'::text, NULL::text[], NULL::text, 'now'::text)$$, '22023'),
    ('user admin none', $$SELECT pems_write_sync('org-rio'::text, NULL::text[], 'high'::text)$$, 'ok'),
    ('user admin none', $$SELECT pems_write_sync('org-rio'::text, ARRAY['d1', 'd2']::text[], 'normal'::text)$$, 'ok'),
    ('user', $$SELECT pems_discard('d7'::text, 'alice'::text, 'org-rio'::text)$$, 'ok'),
    ('admin', $$SELECT pems_discard('d8'::text, NULL::text, NULL::text)$$, 'ok'),
    ('none', $$SELECT pems_discard('d9'::text, NULL::text, NULL::text)$$, 'ok'),
    ('none', $$SELECT pems_discard('nowhere'::text, NULL::text, NULL::text)$$, 'P0002'),
    ('user', $$SELECT pems_resolve_conflict(regress.conflict_of('c1'), 'merge'::text, '{"model": "c"}'::jsonb, 'alice'::text, 'org-rio2'::text)$$, 'ok'),
    ('admin', $$SELECT pems_resolve_conflict(regress.conflict_of('c2'), 'use_local'::text, NULL::jsonb, NULL::text, NULL::text)$$, 'ok'),
    ('none', $$SELECT pems_resolve_conflict(regress.conflict_of('c2'), 'use_pems'::text, NULL::jsonb, NULL::text, NULL::text)$$, '55000'),
    ('none', $$SELECT pems_resolve_conflict(regress.conflict_of('e1'), 'merge'::text, '{"monthlyRate": -1}'::jsonb, NULL::text, NULL::text)$$, '22023'),
    ('none', $$SELECT pems_resolve_conflict(regress.conflict_of('e1'), 'use_pems'::text, NULL::jsonb, NULL::text, NULL::text)$$, 'ok'),
    -- the worker
    ('pems_sync_worker', $$SELECT _pems_standing(), _pems_prepare(), _pems_put_back_orphans(), _pems_fold_stats(), _pems_catalogue(), _pems_mark_failed(NULL::text[]), _pems_send_notifications(NULL::text[])$$, 'ok'),
    ('pems_sync_worker', $$SELECT * FROM _pems_organizations()$$, 'ok'),
    ('pems_sync_worker', $$SELECT * FROM _pems_first_ready(ARRAY['org-rio'], ARRAY['-infinity', '-infinity', '-infinity']::timestamptz[], ARRAY[0, 0, 0]::bigint[])$$, 'ok'),
    -- two items of a record that believe that it is their turn
    ('none', $$UPDATE pfa_write_queue SET waits_for = NULL WHERE waits_for = 'turn'$$, 'ok'), ('none', $$SELECT regress.claim(100)$$, 'ok'),
    ('none', $$SELECT _pems_record(ARRAY(SELECT regress.report(modification_id, 'pending', '{"event_type": null}') FROM pfa_write_queue WHERE status = 'processing'), false, '{}'::bigint[])$$, 'ok'),
    ('none', $$SELECT regress.claim(1)$$, 'ok'),
    ('none', $$SELECT regress.record(regress.applied(modification_id)) FROM pfa_write_queue WHERE status = 'processing'$$, 'ok'),
    ('none', $$SELECT regress.claim(1)$$, 'ok'),
    ('none', $$SELECT _pems_mark_syncing((SELECT array_agg(id) FROM pfa_write_queue WHERE status = 'processing'))$$, 'ok'),
    ('none', $$SELECT _pems_record(ARRAY(SELECT regress.report(modification_id, 'failed', '{"error_code": "X", "error": "no", "event_type": "WRITE_ATTEMPT"}') FROM pfa_write_queue WHERE status = 'processing'), true, '{}'::bigint[])$$, 'ok'),
    ('none', $$SELECT regress.claim(1)$$, 'ok'),
    ('none', $$SELECT _pems_give_up((SELECT regress.applied(modification_id) FROM pfa_write_queue WHERE status = 'processing'), 'a trigger'::text)$$, 'ok'),
    ('none', $$SELECT regress.claim(1)$$, 'ok'),
    ('none', $$SELECT _pems_record(ARRAY(SELECT regress.report(modification_id, 'pending', '{"error": "refused", "pause": true, "delay_ms": 1}') FROM pfa_write_queue WHERE status = 'processing'), false, '{}'::bigint[])$$, 'ok'),
    ('none', $$UPDATE pfa_write_queue SET status = 'processing', waits_for = NULL WHERE id = (SELECT min(id) FROM pfa_write_queue WHERE status = 'pending')$$, 'ok'),
    ('pems_sync_worker', $$SELECT _pems_put_back_orphans()$$, 'ok'),
    ('none', $$UPDATE pfa_write_queue SET last_attempt_at = now() + interval '1 hour', scheduled_at = now() + interval '2 hours' WHERE waits_for = 'time'$$, 'ok'),
    ('none', $$DO 'BEGIN EXECUTE (SELECT format(''DROP TABLE %s'', max(inhrelid)::regclass) FROM pg_inherits WHERE inhparent = ''pems_audit_log''::regclass); END'$$, 'ok'),
    ('pems_sync_worker', $$SELECT _pems_make_audit_partitions()$$, 'ok'), ('none', $$SELECT _pems_recount()$$, 'ok'),
    ('pems_sync_worker', $$SELECT * FROM _pems_postpone_first('org-rio', ARRAY['-infinity', '-infinity', '-infinity']::timestamptz[], ARRAY[0, 0, 0]::bigint[], 'unreadable')$$, 'ok'),
    ('pems_sync_worker', $$SELECT _pems_prepare(), _pems_note_credentials(ARRAY['org-rio'], ARRAY['ok'], ARRAY[''])$$, 'ok'),
    -- read sync: a listing with every kind of record, and what is missing
    ('user', $$SELECT pems_pull('org-rio2'::text, NULL::text, 'full'::text, 'alice'::text)$$, 'ok'), ('admin none', $$SELECT pems_pull('org-rio2'::text, 'PFA-1'::text, 'adopt'::text, NULL::text)$$, 'ok'),
    ('user admin none', $$SELECT pems_pull('org-rio2'::text, NULL::text, 'wrong'::text, NULL::text)$$, '22023'), ('reader user admin none', $$SELECT * FROM pems_pulls$$, 'ok'), ('reader user admin none', $$SELECT * FROM pems_quarantine$$, 'ok'),
    ('user', $$SELECT pems_cancel((SELECT job_id FROM pems_pulls WHERE pfa_id = 'PFA-1'), NULL::text, 'alice'::text)$$, 'ok'), ('user admin none', $$SELECT pems_cancel('nowhere'::text, NULL::text, NULL::text)$$, 'P0002'),
    ('pems_sync_worker', $$SELECT _pems_pull_schedule(ARRAY['org-rio2']), _pems_pull_put_back()$$, 'ok'), ('pems_sync_worker', $$SELECT * FROM _pems_pull_times(ARRAY['org-rio2'])$$, 'ok'),
    ('pems_sync_worker', $$SELECT regress.pull_due()$$, 'ok'), ('pems_sync_worker', $$SELECT _pems_pull_failed(regress.pull(), 0::bigint, 1, false, 'CURSOR_REFUSED'::text, 'no'::text, true, false, false)$$, 'ok'),
    ('pems_sync_worker', $$SELECT regress.pull_due()$$, 'ok'),
    ('pems_sync_worker', $$SELECT _pems_pull_store(regress.pull(), 0, ARRAY['PFA-1', 'NEW', 'PFA-2'], ARRAY[97, 1, 0], ARRAY[false, false, false], ARRAY['x', NULL, 'y'], ARRAY['{"a": 1}', '{}', '{}'], ARRAY[NULL, 'PFA-3'], ARRAY['no id', 'bad'], ARRAY['x', 'y'], ARRAY[false, true])$$, 'ok'),
    ('pems_sync_worker', $$SELECT _pems_pull_page_done(regress.pull(), 1, NULL::text, 1::bigint, 1::bigint, 1::bigint, '2026-01-01T00:00:00Z'::text, ARRAY['PFA-1'], ARRAY[1, 1, 0])$$, 'ok'),
    ('none', $$UPDATE pems_mirror_version SET recorded_at = '-infinity'$$, 'ok'),
    ('pems_sync_worker', $$SELECT regress.pull_due()$$, 'ok'), ('pems_sync_worker', $$SELECT _pems_pull_search(regress.pull(), 1000) FROM generate_series(1, 5)$$, 'ok'),
    ('pems_sync_worker', $$SELECT _pems_pull_searched(regress.pull(), NULL::text)$$, 'ok'), ('none', $$UPDATE pems_pull_state SET next_at = now() - interval '1 day'$$, 'ok'),
    ('pems_sync_worker', $$SELECT regress.pull_due()$$, 'ok'), ('pems_sync_worker', $$SELECT _pems_pull_gone(regress.pull(), true, NULL::text)$$, 'ok'),
    ('none', $$SELECT _pems_pull_failed(regress.pull(), 0::bigint, 0, false, 'X'::text, 'refused'::text, false, true, true)$$, 'ok'),
    ('user', $$SELECT pems_pull('org-port'::text, NULL::text, 'adopt'::text, 'alice'::text)$$, 'ok'), ('none', $$DELETE FROM pems_pull_state WHERE organization_id = 'org-port'$$, 'ok'),
    -- administrators
    ('admin none', $$SELECT pems_retry(NULL::text[], 'org-rio'::text, 'root'::text)$$, 'ok'),
    ('admin none', $$SELECT pems_retry(ARRAY['nowhere']::text[], NULL::text, NULL::text)$$, 'P0002'),
    ('admin none', $$SELECT pems_rollback_preview('org-rio2'::text, 'PFA-1'::text, 1)$$, 'ok'),
    ('admin none', $$SELECT pems_rollback_preview('org-rio2'::text, 'PFA-1'::text, 99)$$, 'P0002'),
    ('none', $$SELECT _pems_kept_versions('org-rio2'::text, 'PFA-1'::text), _pems_attach_hint()$$, 'ok'),
    ('admin', $$SELECT pems_rollback('org-rio2'::text, 'PFA-1'::text, 1, 'why'::text, NULL::text)$$, 'ok'),
    ('none', $$SELECT pems_rollback('org-rio2'::text, 'PFA-2'::text, 1, 'why'::text, 'root'::text)$$, 'ok'),
    ('admin none', $$SELECT pems_pause('org-rio'::text, 'month end'::text, NULL::text)$$, 'ok'), ('admin none', $$SELECT pems_resume('org-rio'::text, NULL::text)$$, 'ok'),
    ('admin none', $$SELECT pems_pause(NULL::text, NULL::text, NULL::text)$$, 'ok'), ('admin none', $$SELECT pems_resume(NULL::text, NULL::text)$$, 'ok'),
    ('admin none', $$SELECT pems_audit('org-rio'::text, now() - interval '1 day', now(), NULL::text[], NULL::text, NULL::text, NULL::text, 10, NULL::timestamptz, NULL::bigint)$$, 'ok'),
    ('admin none', $$SELECT pems_purge('1 day'::interval, 100, NULL::text)$$, 'ok'), ('admin none', $$SELECT pems_purge(NULL::interval, 100, NULL::text)$$, 'ok'),
    ('admin none', $$SELECT pems_public_key()$$, 'ok 55000'), ('admin none', $$SELECT pems_health_check('org-rio'::text)$$, 'ok'),
    ('admin none', $$SELECT * FROM _pems_credential_target('RIO'::text)$$, 'ok'), ('admin none', $$SELECT * FROM _pems_sealed_credentials()$$, 'ok'), ('admin none', $$SELECT * FROM _pems_needed_keys()$$, 'ok'),
    ('admin none', $$SELECT pems_set_credential('org-rio'::text, 'https://pems.invalid/api'::text, decode(repeat('ab', 48), 'hex'), '0123456789abcdef'::text, NULL::text)$$, 'ok 22023'),
    ('none', $$INSERT INTO pems_credential (organization_id, api_url, endpoint, sealed_token, key_id, generation, set_by) VALUES ('org-rio', 'https://pems.invalid', 'https://pems.invalid:443', '\x00', '0123456789abcdef', 1, 'admin') ON CONFLICT DO NOTHING$$, 'ok'),
    ('admin none', $$SELECT _pems_reseal_credential('org-rio'::text, 1::bigint, '0123456789abcdef'::text, decode(repeat('ab', 48), 'hex'), '0123456789abcdef'::text)$$, 'ok'),
    ('admin none', $$UPDATE pems_field SET label = label || '.' WHERE name = 'model'$$, 'ok'),
    ('admin none', $$INSERT INTO pems_field (name, label, type) VALUES ('own' || replace(current_user, '_', ''), 'Own', 'text')$$, 'ok'),
    -- triggers on the application's tables, and on ours
    ('user admin none', $$INSERT INTO pfa_mirror (organization_id, pfa_id, version, data) VALUES ('org-rio', 'NEW-' || current_user, 1, '{}')$$, 'ok'),
    ('user admin none', $$UPDATE pfa_mirror SET version = 7, data = '{"x": 1}' WHERE pfa_id = 'NEW-' || current_user$$, 'ok'),
    ('user', $$DELETE FROM pfa_modification WHERE id = 'd10'$$, 'ok'), ('admin', $$DELETE FROM pfa_modification WHERE id = 'd11'$$, 'ok'), ('none', $$DELETE FROM pfa_modification WHERE id = 'd12'$$, 'ok'),
    ('none', $$UPDATE pfa_mirror SET version = 50$$, 'ok'), ('admin none', $$SELECT pems_purge('0'::interval, 100, NULL::text)$$, 'ok'),
    ('user admin none', $$TRUNCATE pfa_mirror CASCADE$$, '55000'), ('none', $$TRUNCATE pems_claim$$, '55000'),
    ('none', $$ALTER SCHEMA public RENAME TO elsewhere$$, '0A000'),
    -- detached, attached, and a copy
    ('admin none', $$SELECT pems_detach()$$, 'ok'), ('admin none', $$SELECT pems_commit('org-rio'::text, NULL::text[], NULL::text, 'normal'::text)$$, '55000'),
    ('admin none', $$SELECT pems_health()$$, 'ok'), ('admin none', $$SELECT pems_attach(false)$$, 'ok'), ('admin none', $$SELECT pems_attach(true)$$, 'ok'),
    ('none', $$UPDATE pems_control SET cluster = 'elsewhere'$$, 'ok'), ('admin none', $$SELECT pems_health(), pems_resume(NULL::text, NULL::text)$$, 'ok');
SELECT regress.run(CASE r.role WHEN 'none' THEN 'none' WHEN 'pems_sync_worker' THEN r.role ELSE 'regress_pems_' || r.role END, c.statement, c.allowed)
FROM (SELECT * FROM regress.call ORDER BY n) c CROSS JOIN LATERAL unnest(string_to_array(c.roles, ' ')) WITH ORDINALITY AS r (role, place)
ORDER BY c.n, r.place;
-- What of ours was not called: what is written into its query instead, or called by an aggregate, an aggregate itself, and what
-- pems_health() says while a table is locked.
SELECT r.proname FROM regress.routine r WHERE r.oid NOT IN (SELECT f.funcid FROM pg_stat_xact_user_functions f) ORDER BY r.proname COLLATE "C";
-- And of the planted ones none at all.
SELECT f.funcname, f.calls FROM pg_stat_xact_user_functions f
WHERE f.funcname ~ '^_?pems_' AND f.funcid NOT IN (SELECT r.oid FROM regress.routine r) ORDER BY f.funcname COLLATE "C";
COMMIT;

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT p.oid::regprocedure AS name FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.proname ~ '^_?pems_'
    LOOP
        EXECUTE format('DROP FUNCTION %s', one.name);
    END LOOP;
END
$$;
DROP ROLE regress_pems_reader, regress_pems_user, regress_pems_admin;
