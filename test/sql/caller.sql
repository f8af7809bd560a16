-- Who the caller is: the session's user, or SET ROLE, also inside SECURITY DEFINER; in a trigger of the application that runs while
-- we write its table, the table's owner.
\set ECHO none
\i test/support/regress_helpers.sql
\i test/support/regress_tables.sql
\set ECHO all
CREATE EXTENSION pems_sync;
\set ECHO none
\i test/support/regress_application.sql
\set ECHO all
SET client_min_messages = error;
CREATE ROLE regress_pems_owner IN ROLE pems_sync_user;
CREATE ROLE regress_pems_manager IN ROLE pems_sync_admin;
GRANT CREATE ON SCHEMA public TO regress_pems_owner;
GRANT SELECT, INSERT ON pfa_modification TO regress_pems_manager;
CREATE TABLE regress.said (n integer GENERATED ALWAYS AS IDENTITY, what text);
GRANT SELECT, INSERT ON regress.said TO PUBLIC;

SELECT count(regress.draft('d' || n, 'PFA-1')) FROM generate_series(1, 9) n;

-- An owner's trigger that wants what only an administrator may: to commit drafts of others in the name of somebody else.
CREATE FUNCTION regress.abuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_ARGV[0] = 'fail' THEN
        RAISE EXCEPTION 'the trigger fails';
    END IF;
    INSERT INTO regress.said (what)
    SELECT concat_ws(' ', NEW.id, NEW.sync_status, current_user, r ->> 'queuedCount', r #>> '{rejected,0,code}')
    FROM pems_commit('org-rio', ARRAY['d9'], 'mallory') r;
    PERFORM pems_discard('d8') WHERE NEW.id = 'd1';
    RETURN NULL;
END
$$;
CREATE TRIGGER abuse AFTER UPDATE ON pfa_modification FOR EACH ROW WHEN (NEW.id IN ('d1', 'd2')) EXECUTE FUNCTION regress.abuse();
ALTER TABLE pfa_modification OWNER TO regress_pems_owner;
ALTER FUNCTION regress.abuse() OWNER TO regress_pems_owner;
SELECT pems_attach() -> 'success';

SET ROLE regress_pems_manager;
SELECT pems_commit('org-rio', ARRAY['d7'], 'mallory') -> 'queuedCount';
SELECT pems_discard('d1') -> 'success';
SELECT pems_discard('d2', 'bob') -> 'success';
RESET ROLE;
SELECT what FROM regress.said ORDER BY n;
SELECT modification_id, actor FROM pems_audit_log WHERE event_type = 'DISCARDED' ORDER BY modification_id COLLATE "C";
SELECT id, sync_status FROM pfa_modification ORDER BY id COLLATE "C";

-- After an error in a subtransaction the caller is the session's user again.
DROP TRIGGER abuse ON pfa_modification;
CREATE TRIGGER abuse AFTER UPDATE ON pfa_modification FOR EACH ROW WHEN (NEW.id = 'd3') EXECUTE FUNCTION regress.abuse('fail');
SET ROLE regress_pems_manager;
BEGIN;
SAVEPOINT before;
\set VERBOSITY terse
SELECT pems_discard('d3');
\set VERBOSITY default
ROLLBACK TO before;
SELECT pems_discard('d4') -> 'success';
COMMIT;
SELECT regress.attempt($$SELECT pems_discard('d3')$$), pems_discard('d5') -> 'success';
RESET ROLE;
SELECT modification_id, actor FROM pems_audit_log WHERE modification_id IN ('d4', 'd5') AND event_type = 'DISCARDED' ORDER BY modification_id COLLATE "C";

-- A table of a superuser is written as pems_sync_worker, and in its name: others may have made the trigger.
DROP TRIGGER abuse ON pfa_modification;
ALTER TABLE pfa_modification OWNER TO CURRENT_USER;
ALTER FUNCTION regress.abuse() SECURITY DEFINER;
GRANT TRIGGER ON pfa_modification TO regress_pems_owner;
SET ROLE regress_pems_owner;
CREATE TRIGGER abuse AFTER UPDATE ON pfa_modification FOR EACH ROW WHEN (NEW.id = 'd6') EXECUTE FUNCTION regress.abuse();
RESET ROLE;
SELECT pems_attach() -> 'success';
TRUNCATE regress.said;
SET ROLE regress_pems_manager;
SELECT pems_discard('d6') -> 'success';
RESET ROLE;
SELECT pems_discard('d3') -> 'success';
SELECT what FROM regress.said ORDER BY n;
SELECT id, sync_status FROM pfa_modification WHERE id = 'd9';

DROP SCHEMA regress CASCADE;
DROP EXTENSION pems_sync;
DROP TABLE pfa_modification, pfa_mirror, organization;
DROP OWNED BY regress_pems_owner, regress_pems_manager;
DROP ROLE regress_pems_owner, regress_pems_manager;
