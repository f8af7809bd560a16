/*
 * 48_pull_store: what the worker calls for read sync (1): records that PEMS has shown go into the mirror, a slice of a
 * page at a time, so that the writes need not wait for a page.
 *
 * A slice is one transaction.  How far the pull is stands in pems_pull_state and is written with it.  It is committed
 * asynchronously: a crash takes the slice and the position together.
 */

/*
 * _pems_pull_hash(pfa_id): of these hashes the bits of all records are combined, to compare two sets of records.
 */
CREATE FUNCTION @extschema@._pems_pull_hash(pfa_id text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $function$
    SELECT pg_catalog.hashtextextended(pfa_id COLLATE pg_catalog."C", 0)
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_hash(text) IS 'Internal: hash of a record''s id';

/*
 * _pems_pull_step(adopt, version, deleted, data, mirror_version, mirror_deleted, mirror_data): what a record that PEMS
 * has shown does to the mirror.  Written to be inlined into its query: no SET clause.
 *
 * Parameters: adopt: a lower version of PEMS is the truth; mirror_version: NULL: the mirror has no such record.
 * Returns: created; updated; deleted; unchanged; stale: the mirror has a higher version.
 */
CREATE FUNCTION @extschema@._pems_pull_step(
    adopt boolean, version integer, deleted boolean, data jsonb, mirror_version integer, mirror_deleted boolean,
    mirror_data jsonb) RETURNS text
LANGUAGE sql IMMUTABLE AS $function$
    SELECT CASE WHEN mirror_version IS NULL THEN CASE WHEN deleted THEN 'unchanged' ELSE 'created' END
                WHEN version < mirror_version AND NOT adopt THEN 'stale'
                WHEN deleted THEN CASE WHEN mirror_deleted AND version = mirror_version THEN 'unchanged'
                                       ELSE 'deleted' END
                WHEN version = mirror_version AND NOT mirror_deleted AND data = mirror_data THEN 'unchanged'
                ELSE 'updated' END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_step(boolean, integer, boolean, jsonb, integer, boolean, jsonb) IS
    'Internal: what a record that PEMS has shown does to the mirror';

-- A record of a slice, as the functions below hand it on.
CREATE TYPE @extschema@._pems_pulled AS (
    pfa_id     text,
    version    integer,
    deleted    boolean,
    changed_by text,
    data       jsonb,
    step       text
);
COMMENT ON TYPE @extschema@._pems_pulled IS 'Internal: a record that PEMS has shown, and what it does to the mirror';

/*
 * _pems_pull_compare(organization, adopt, pulled): the same records with their steps, without a lock and without a
 * write: a listing that has nothing new leaves no trace.
 *
 * Returns: also seen, seen_hash: those that the mirror has now or will have, not as deleted.
 * Tables: pfa_mirror.
 */
CREATE FUNCTION @extschema@._pems_pull_compare(
    organization text, adopt boolean, pulled @extschema@._pems_pulled[],
    OUT compared @extschema@._pems_pulled[], OUT seen bigint, OUT seen_hash bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    WITH found AS (
        SELECT i.ordinality AS turn, i.pfa_id, i.version, i.deleted, i.changed_by, i.data,
               @extschema@._pems_pull_step(adopt, i.version, i.deleted, i.data, m.version, m.deleted_at IS NOT NULL,
                                           m.data) AS step,
               m.version IS NOT NULL AND m.deleted_at IS NULL AS was_alive
        FROM unnest(pulled) WITH ORDINALITY i
        LEFT JOIN @extschema@.pfa_mirror m ON m.organization_id = organization AND m.pfa_id = i.pfa_id
    )
    SELECT array_agg(ROW(f.pfa_id, f.version, f.deleted, f.changed_by,
                         CASE WHEN f.step NOT IN ('unchanged', 'stale') THEN f.data END, f.step)
                         ::@extschema@._pems_pulled ORDER BY f.turn),
           count(*) FILTER (WHERE f.is_seen),
           coalesce(bit_xor(@extschema@._pems_pull_hash(f.pfa_id)) FILTER (WHERE f.is_seen), 0)
    INTO compared, seen, seen_hash
    FROM (SELECT g.*, g.step IN ('created', 'updated') OR (g.was_alive AND g.step <> 'deleted') AS is_seen
          FROM found g) f;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_compare(text, boolean, @extschema@._pems_pulled[]) IS
    'Internal: what records that PEMS has shown do to the mirror';

/*
 * _pems_pull_write(organization, adopt, job, pulled): writes the records that change something.  Locks their mirrors
 * first, and looks again: what the application has written meanwhile is not overwritten.  History before mirror, as in
 * _pems_record_mirrors().
 *
 * Returns: the records that were written, with their steps; NULL: none.
 * Errors: 55P03 where another session has a row locked: the slice is tried again later.
 * Tables: pfa_mirror, pems_mirror_version, pems_audit_log.
 */
CREATE FUNCTION @extschema@._pems_pull_write(
    organization text, adopt boolean, job text, pulled @extschema@._pems_pulled[])
RETURNS @extschema@._pems_pulled[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    written  @extschema@._pems_pulled[];
    versions integer[];
BEGIN
    SELECT array_agg(ROW(l.pfa_id, l.version, l.deleted, l.changed_by, l.data, l.step)::@extschema@._pems_pulled
                     ORDER BY l.turn),
           array_agg(l.mirror_version ORDER BY l.turn)
    INTO written, versions
    FROM (
        SELECT i.ordinality AS turn, i.pfa_id, i.version, i.deleted, i.changed_by, coalesce(i.data, m.data) AS data,
               @extschema@._pems_pull_step(adopt, i.version, i.deleted, i.data, m.version, m.deleted_at IS NOT NULL,
                                           m.data) AS step,
               m.version AS mirror_version
        FROM unnest(pulled) WITH ORDINALITY i
        LEFT JOIN LATERAL (
            SELECT r.version, r.data, r.deleted_at FROM @extschema@.pfa_mirror r
            WHERE r.organization_id = organization AND r.pfa_id = i.pfa_id
            FOR NO KEY UPDATE NOWAIT) m ON true) l
    WHERE l.step NOT IN ('unchanged', 'stale');
    IF written IS NULL THEN
        RETURN NULL;
    END IF;

    INSERT INTO @extschema@.pems_mirror_version (organization_id, pfa_id, version, data, source, changed_by)
    SELECT organization, w.pfa_id, w.version, w.data, 'pems', w.changed_by
    FROM unnest(written) w
    WHERE NOT EXISTS (
        SELECT FROM (SELECT v.version, v.data FROM @extschema@.pems_mirror_version v
                     WHERE v.organization_id = organization AND v.pfa_id = w.pfa_id
                     ORDER BY v.state_seq DESC LIMIT 1) newest
        WHERE newest.version = w.version AND newest.data = w.data);

    IF adopt THEN
        INSERT INTO @extschema@.pems_audit_log (event_type, organization_id, pfa_id, job_id, actor, error)
        SELECT 'ADOPTED', organization, w.pfa_id, job, 'pems_sync',
               format('PEMS''s version %s took the place of version %s', w.version, w.mirror_version)
        FROM unnest(written, versions) AS w (pfa_id, version, deleted, changed_by, data, step, mirror_version)
        WHERE w.version < w.mirror_version;
    END IF;

    PERFORM @extschema@._pems_app_write_mirror(array_agg(organization), array_agg(w.pfa_id), array_agg(w.version),
                                               array_agg(w.data), array_agg(w.deleted))
    FROM unnest(written) w;
    RETURN written;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_write(text, boolean, text, @extschema@._pems_pulled[]) IS
    'Internal: writes what PEMS has shown into mirror and history';

/*
 * _pems_pull_quarantine(organization, job, pfa_ids, reasons, raws, are_identified): keeps what could not be stored: one
 * row per record, and one per text where the record has no id that can be read.
 * Tables: pems_quarantined.
 */
CREATE FUNCTION @extschema@._pems_pull_quarantine(
    organization text, job text, pfa_ids text[], reasons text[], raws text[], are_identified boolean[])
RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    DELETE FROM @extschema@.pems_quarantined q
    USING unnest(pfa_ids, raws, are_identified) AS b (pfa_id, raw, identified)
    WHERE q.organization_id = organization AND q.identified = b.identified
      AND (q.pfa_id = b.pfa_id OR (q.pfa_id IS NULL AND b.pfa_id IS NULL AND q.raw IS NOT DISTINCT FROM b.raw));
    INSERT INTO @extschema@.pems_quarantined (organization_id, pfa_id, job_id, reason, raw, identified)
    SELECT organization, b.pfa_id, job, b.reason, b.raw, b.identified
    FROM unnest(pfa_ids, reasons, raws, are_identified) AS b (pfa_id, reason, raw, identified);
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_quarantine(text, text, text[], text[], text[], boolean[]) IS
    'Internal: keeps records that could not be stored';

/*
 * _pems_pull_store(job, first, pfa_ids, versions, deleted, authors, records, bad_ids, bad_reasons, bad_raws, bad_seen):
 * stores the next slice of a page, or the one record of an answer.
 *
 * Parameters:
 *   first        how many records of the page are stored already
 *   pfa_ids …    the records that can be stored; arrays in step
 *   bad_ids …    those that cannot; bad_seen: PEMS has a record of that id all the same
 * Returns:
 *   ours     false: the pull has ended, or this is not the next slice: nothing was done
 *   changed  records whose mirror changed; NULL: none
 *   counts   how many were created, updated and deleted
 * Tables: pems_pull_state, pems_pull_seen, pems_quarantined, and those of the functions above.
 */
CREATE FUNCTION @extschema@._pems_pull_store(
    job text, first integer, pfa_ids text[], versions integer[], deleted boolean[], authors text[], records text[],
    bad_ids text[], bad_reasons text[], bad_raws text[], bad_seen boolean[],
    OUT ours boolean, OUT changed text[], OUT counts integer[])
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    pull     @extschema@.pems_pull_state;
    adopt    boolean;
    is_full  boolean;
    compared record;
    writable @extschema@._pems_pulled[];
    written  @extschema@._pems_pulled[];
    showed   text[];
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT s.* INTO pull FROM @extschema@.pems_pull_state s
    WHERE s.job_id = job AND s.under_way AND s.stored = first FOR NO KEY UPDATE NOWAIT;
    ours := FOUND;
    IF NOT ours THEN
        RETURN;
    END IF;
    adopt := pull.mode = 'adopt';
    is_full := pull.mode <> 'delta' AND pull.phase = 'listing';

    SELECT c.* INTO compared FROM @extschema@._pems_pull_compare(pull.organization_id, adopt, (
        SELECT array_agg(ROW(i.pfa_id, i.version, i.deleted, i.author, i.record::jsonb, NULL)
                         ::@extschema@._pems_pulled ORDER BY i.turn)
        FROM unnest(pfa_ids, versions, deleted, authors, records)
             WITH ORDINALITY AS i (pfa_id, version, deleted, author, record, turn))) c;
    writable := (SELECT array_agg(c::@extschema@._pems_pulled) FROM unnest(compared.compared) c
                 WHERE c.step NOT IN ('unchanged', 'stale'));
    IF writable IS NOT NULL THEN
        written := @extschema@._pems_pull_write(pull.organization_id, adopt, job, writable);
    END IF;
    IF cardinality(bad_ids) > 0 THEN
        PERFORM @extschema@._pems_pull_quarantine(pull.organization_id, job, bad_ids, bad_reasons, bad_raws, bad_seen);
    END IF;
    IF EXISTS (SELECT FROM @extschema@.pems_quarantined q WHERE q.organization_id = pull.organization_id) THEN
        DELETE FROM @extschema@.pems_quarantined q
        WHERE q.organization_id = pull.organization_id AND q.pfa_id = ANY (pfa_ids) AND q.identified;
    END IF;
    IF is_full THEN
        showed := pfa_ids || ARRAY(SELECT b.pfa_id FROM unnest(bad_ids, bad_seen) AS b (pfa_id, is_seen)
                                   WHERE b.is_seen);
        INSERT INTO @extschema@.pems_pull_seen (job_id, seq, pfa_ids)
        SELECT job, coalesce(max(s.seq), 0) + 1, showed FROM @extschema@.pems_pull_seen s
        WHERE s.job_id = job HAVING cardinality(showed) > 0;
    END IF;

    SELECT array_agg(w.pfa_id),
           ARRAY[count(*) FILTER (WHERE w.step = 'created'), count(*) FILTER (WHERE w.step = 'updated'),
                 count(*) FILTER (WHERE w.step = 'deleted')]::integer[]
    INTO changed, counts FROM unnest(written) w;
    UPDATE @extschema@.pems_pull_state s
    SET stored = s.stored + cardinality(pfa_ids) + cardinality(bad_ids),
        stored_stale = s.stored_stale + n.stale, stored_bad = s.stored_bad + cardinality(bad_ids),
        records = s.records + cardinality(pfa_ids) + cardinality(bad_ids),
        created = s.created + counts[1], updated = s.updated + counts[2], deleted = s.deleted + counts[3],
        stale = s.stale + n.stale, quarantined = s.quarantined + cardinality(bad_ids),
        unchanged = s.unchanged + cardinality(pfa_ids) - n.stale - (counts[1] + counts[2] + counts[3]),
        seen = s.seen + CASE WHEN is_full THEN compared.seen + b.seen ELSE 0 END,
        seen_hash = s.seen_hash # CASE WHEN is_full THEN compared.seen_hash # b.seen_hash ELSE 0 END
    FROM (SELECT count(*) FILTER (WHERE c.step = 'stale') AS stale FROM unnest(compared.compared) c) n,
         (SELECT count(*) AS seen, coalesce(bit_xor(@extschema@._pems_pull_hash(m.pfa_id)), 0) AS seen_hash
          FROM unnest(bad_ids, bad_seen) AS b (pfa_id, is_seen)
          JOIN @extschema@.pfa_mirror m ON m.organization_id = pull.organization_id AND m.pfa_id = b.pfa_id
          WHERE b.is_seen AND m.deleted_at IS NULL) b
    WHERE s.job_id = job;
END
$function$;
COMMENT ON FUNCTION @extschema@._pems_pull_store(
    text, integer, text[], integer[], boolean[], text[], text[], text[], text[], text[], boolean[]) IS
    'Internal: stores the next slice of a page';
