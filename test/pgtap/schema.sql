-- The schema as docs and the programs written against it expect it: tables, columns, types, defaults, keys, indexes.
\set QUIET 1
\set ON_ERROR_ROLLBACK off
\set ON_ERROR_STOP on
\pset format unaligned
\pset tuples_only on
\pset pager off

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION pems_sync CASCADE;
SET LOCAL client_min_messages = error;
DO $$ BEGIN PERFORM pems_attach(create_missing => true); END $$;
CREATE VIEW member AS
    SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pems_sync'
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e';

/* One line for each column: name, type, default ('-': none), and "not null" where it is. */
CREATE FUNCTION columns_of(wanted text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), coalesce('= ' || pg_get_expr(d.adbin, d.adrelid), '-'), CASE WHEN a.attnotnull THEN 'not null' END)
    FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = wanted::regclass AND a.attnum > 0 AND NOT a.attisdropped
$$;
/* Which of these columns (lines as above) the table does not have. */
CREATE FUNCTION has_columns(wanted text, lines text[]) RETURNS text LANGUAGE sql AS $$
    SELECT is_empty(format('SELECT unnest(%L::text[]) EXCEPT SELECT columns_of(%L)', lines, wanted), 'columns of ' || wanted)
$$;
/* The words that a CHECK of the column allows, in the order in which they stand. */
CREATE FUNCTION words_of(wanted text, column_name text) RETURNS text[] LANGUAGE sql AS $$
    SELECT array_agg(m[1]) FROM pg_constraint c, regexp_matches(pg_get_constraintdef(c.oid), '''([a-z_A-Z]+)''::text', 'g') m
    WHERE c.conrelid = wanted::regclass AND c.contype = 'c' AND c.conkey = ARRAY[(SELECT attnum FROM pg_attribute WHERE attrelid = wanted::regclass AND attname = column_name)]
$$;

SELECT no_plan();

-- Tables, sequences, views.
SELECT set_has($$SELECT c.relname::text FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid AND c.relkind IN ('r', 'p') $$,
    $$VALUES ('pfa_write_queue'), ('pfa_sync_conflict'), ('pems_mirror_version'), ('pems_audit_log'), ('pems_sync_job'), ('pems_sync_stats'), ('pems_credential'), ('pems_field')$$, 'the tables of the contract');
SELECT has_view(v, 'view ' || v) FROM unnest(ARRAY['pems_queue', 'pems_dead_letters', 'pems_open_conflicts', 'pems_worker', 'pems_endpoints']) v;
SELECT has_sequence(s, 'sequence ' || s) FROM unnest(ARRAY['pems_commit_order', 'pems_claim_order', 'pems_audit_order']) s;
SELECT is((SELECT extrelocatable FROM pg_extension WHERE extname = 'pems_sync'), false, 'not relocatable');
SELECT is((SELECT count(*) FROM pg_tables t JOIN member m ON m.objid = format('%I.%I', t.schemaname, t.tablename)::regclass WHERE t.schemaname <> 'public'), 0::bigint, 'everything is in the schema chosen');

-- Columns that the outside may rely on.
SELECT has_columns('pfa_write_queue', ARRAY['id text = _pems_uuid() not null', 'modification_id text - not null', 'pfa_id text - not null', 'organization_id text - not null', 'operation text - not null',
    'payload jsonb - not null', 'status text = ''pending''::text not null', 'priority integer = 0 not null', 'retry_count integer = 0 not null', 'max_retries integer = 3 not null', 'last_attempt_at timestamp with time zone -',
    'last_error text -', 'error_code text -', 'scheduled_at timestamp with time zone = now() not null', 'completed_at timestamp with time zone -', 'created_at timestamp with time zone = clock_timestamp() not null',
    'job_id text -', 'claim_token bigint -']);
SELECT has_columns('pfa_sync_conflict', ARRAY['id text = _pems_uuid() not null', 'pfa_id text - not null', 'organization_id text - not null', 'modification_id text - not null', 'local_version integer - not null',
    'pems_version integer -', 'base_data jsonb -', 'local_data jsonb - not null', 'pems_data jsonb -', 'conflict_fields jsonb = ''[]''::jsonb not null', 'kind text - not null', 'status text = ''unresolved''::text not null',
    'resolution text -', 'merged_data jsonb -', 'resolved_by text -', 'resolved_at timestamp with time zone -', 'created_at timestamp with time zone = clock_timestamp() not null', 'previous_conflict_id text -']);
SELECT has_columns('pems_mirror_version', ARRAY['organization_id text - not null', 'pfa_id text - not null', 'version integer - not null', 'data jsonb - not null', 'source text - not null', 'modification_id text -',
    'changed_by text -', 'change_reason text -', 'recorded_at timestamp with time zone = clock_timestamp() not null']);
SELECT has_columns('pems_audit_log', ARRAY['at timestamp with time zone = clock_timestamp() not null', 'event_type text - not null', 'organization_id text -', 'pfa_id text -', 'modification_id text -', 'item_id text -',
    'job_id text -', 'conflict_id text -', 'actor text -', 'attempt integer -', 'http_method text -', 'path text -', 'http_status integer -', 'latency_ms numeric(12,3) -', 'request jsonb -', 'response jsonb -',
    'error_code text -', 'error text -', 'seq bigint = nextval(''pems_audit_order''::regclass) not null']);
SELECT has_columns('pems_endpoints', ARRAY['organization_id text -', 'organization_code text -', 'api_url text -', 'endpoint text -', 'credential text -', 'breaker text -', 'rate integer -', 'last_error text -', 'last_error_at timestamp with time zone -']);
SELECT has_columns('pems_sync_job', ARRAY['id text = _pems_uuid() not null', 'organization_id text -', 'kind text - not null', 'requested_by text - not null', 'created_at timestamp with time zone = now() not null']);
SELECT has_columns('pems_field', ARRAY['name text - not null', 'type text - not null', 'writable boolean = true not null', 'required_when jsonb -', 'allowed_values jsonb -', 'max_length integer -', 'minimum numeric -']);
SELECT has_columns('pfa_mirror', ARRAY['id text = (gen_random_uuid())::text not null', 'organization_id text - not null', 'pfa_id text - not null', 'version integer - not null', 'data jsonb - not null',
    'deleted_at timestamp with time zone -', 'last_synced_at timestamp with time zone -']);
SELECT has_columns('pfa_modification', ARRAY['id text = (gen_random_uuid())::text not null', 'organization_id text - not null', 'pfa_id text - not null', 'base_version integer - not null', 'delta jsonb = ''{}''::jsonb not null',
    'created_by text - not null', 'created_at timestamp with time zone = now() not null', 'operation text = ''UPDATE''::text', 'change_reason text -', 'sync_status text = ''draft''::text', 'synced_at timestamp with time zone -',
    'sync_error text -', 'pems_version integer -']);
SELECT has_columns('organization', ARRAY['id text - not null', 'code text - not null', 'name text - not null']);
-- all times are timestamptz, all ids text
SELECT is_empty($$SELECT a.attrelid::regclass, a.attname FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid AND c.relkind IN ('r', 'p', 'v')
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE (a.attname ~ '_at$' AND a.atttypid <> 'timestamptz'::regtype) OR (a.atttypid IN ('timestamp'::regtype, 'json'::regtype, 'uuid'::regtype, 'varchar'::regtype))
       OR (a.attname ~ '(^|_)id$' AND a.attname <> 'pid' AND a.atttypid <> 'text'::regtype)$$, 'times are timestamptz, ids text, JSON jsonb');

-- Words.
SELECT is(words_of('pfa_write_queue', 'status'), '{pending,processing,completed,failed,conflict,cancelled}', 'statuses of an item');
SELECT is(words_of('pfa_write_queue', 'operation'), '{UPDATE,DELETE}', 'operations');
SELECT is(words_of('pfa_sync_conflict', 'kind'), '{update_update,deleted_in_pems,changed_in_pems_before_delete,validation,base_missing}', 'kinds of conflicts');
SELECT is(words_of('pfa_sync_conflict', 'status'), '{unresolved,resolved_auto,resolved_manual}', 'statuses of a conflict');
SELECT is(words_of('pfa_sync_conflict', 'resolution'), '{use_local,use_pems,merge}', 'resolutions');
SELECT is(words_of('pems_mirror_version', 'source'), '{pems,write,external}', 'sources of a version');
SELECT is(words_of('pems_sync_job', 'kind'), '{commit,write_sync,retry,rollback,pull}', 'kinds of jobs');
SELECT is(words_of('pems_field', 'type'), '{text,number,integer,boolean,date,timestamp,json}', 'types of fields');

-- Keys.
SELECT col_is_pk('pfa_write_queue', 'id');
SELECT col_is_pk('pfa_sync_conflict', 'id');
SELECT col_is_pk('pems_mirror_version', ARRAY['organization_id', 'pfa_id', 'version', 'state_seq']);
SELECT col_is_pk('pems_sync_job', 'id');
SELECT col_is_pk('pems_credential', 'organization_id');
SELECT col_is_pk('pems_field', 'name');
SELECT fk_ok(t, 'modification_id', 'pfa_modification', 'id') FROM unnest(ARRAY['pfa_write_queue', 'pfa_sync_conflict']) t;
SELECT fk_ok(t, 'organization_id', 'organization', 'id') FROM unnest(ARRAY['pfa_write_queue', 'pfa_sync_conflict']) t;
SELECT results_eq($$SELECT conrelid::regclass::text COLLATE "C", conname::text COLLATE "C", confdeltype FROM pg_constraint WHERE contype = 'f' AND conrelid IN ('pfa_write_queue'::regclass, 'pfa_sync_conflict'::regclass) ORDER BY 1, 2$$,
    $$VALUES ('pfa_sync_conflict' COLLATE "C", 'pfa_sync_conflict_modification_id_fkey' COLLATE "C", 'c'::"char"), ('pfa_sync_conflict', 'pfa_sync_conflict_organization_id_fkey', 'c'),
             ('pfa_write_queue', 'pfa_write_queue_modification_id_fkey', 'c'), ('pfa_write_queue', 'pfa_write_queue_organization_id_fkey', 'c')$$, 'both go with what they belong to');

-- Indexes: every foreign key has one that begins with its column, none of the queue's is a duplicate of the beginning of another, and the claim's is what it needs.
SELECT is_empty($$SELECT c.conrelid::regclass, c.conname FROM pg_constraint c WHERE c.contype = 'f' AND c.conrelid IN ('pfa_write_queue'::regclass, 'pfa_sync_conflict'::regclass)
    AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indpred IS NULL AND i.indkey[0] = c.conkey[1])$$, 'foreign keys have indexes');
SELECT is_empty($$SELECT a.indexrelid::regclass, b.indexrelid::regclass FROM pg_index a JOIN pg_index b ON b.indrelid = a.indrelid AND b.indexrelid <> a.indexrelid
    WHERE a.indrelid IN (SELECT objid FROM member WHERE classid = 'pg_class'::regclass) AND NOT a.indisunique AND a.indpred IS NOT DISTINCT FROM b.indpred AND a.indoption::text = b.indoption::text
      AND (b.indkey::text || ' ') LIKE (a.indkey::text || ' %')$$, 'no index is the beginning of another');
SELECT has_index('pfa_modification', 'idx_modification_syncstatus', ARRAY['organization_id', 'sync_status'], 'the index that attach adds');
SELECT is(pg_get_indexdef('pfa_write_queue_ready'::regclass), 'CREATE INDEX pfa_write_queue_ready ON public.pfa_write_queue USING btree (organization_id, priority, scheduled_at, commit_seq) WHERE (open AND (waits_for IS NULL))', 'claim: from a place on, per priority');
SELECT is_empty($$SELECT i.indexrelid::regclass FROM pg_index i
    CROSS JOIN LATERAL (SELECT DISTINCT d.refobjsubid AS attnum FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refobjid = i.indrelid) k
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    WHERE i.indrelid = 'pfa_write_queue'::regclass AND a.attname IN ('status', 'attempt', 'claim_token', 'last_attempt_at', 'sent_version')$$, 'no index looks at what a claim changes');
SELECT ok((SELECT indisunique FROM pg_index WHERE indexrelid = 'pfa_sync_conflict_open'::regclass), 'one open conflict per item');

-- The audit log: range-partitioned by time, a default partition, nothing on the parent.
SELECT is((SELECT partstrat::text FROM pg_partitioned_table WHERE partrelid = 'pems_audit_log'::regclass), 'r', 'partitioned by range');
SELECT is(pg_get_partkeydef('pems_audit_log'::regclass), 'RANGE (at)', 'of the time');
SELECT is((SELECT partdefid::regclass::text FROM pg_partitioned_table WHERE partrelid = 'pems_audit_log'::regclass), 'pems_audit_log_default', 'with a default partition');

-- No table is unlogged or temporary: the queue survives a crash.
SELECT is_empty($$SELECT c.oid::regclass FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid WHERE c.relpersistence <> 'p' AND c.relname !~ '^pems_pull_sorted'$$, 'everything is logged but what is made again from something that is');

-- Ids are version 7 UUIDs that grow.
CREATE TEMPORARY TABLE ids AS SELECT n, _pems_uuid() AS id FROM generate_series(1, 2000) n;
SELECT is_empty($$SELECT id FROM ids WHERE id !~ '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$'$$, 'version 7');
SELECT is((SELECT count(DISTINCT id) FROM ids), 2000::bigint, 'unique');
SELECT results_eq('SELECT n FROM ids ORDER BY id COLLATE "C"', 'SELECT n FROM ids ORDER BY n', 'in the order in which they were made');
SELECT ok(abs(extract(epoch FROM clock_timestamp()) - (('x' || lpad(replace(left(_pems_uuid(), 13), '-', ''), 16, '0'))::bit(64)::bigint / 1000.0)) < 60, 'the time is the clock''s');

SELECT * FROM finish();
ROLLBACK;
