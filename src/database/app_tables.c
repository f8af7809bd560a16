/*
 * database/app_tables.c
 *		The application's tables: are they still what was attached; and writes to them, as their
 *		owner.
 *
 * Process: any backend, and the worker.  Runs inside the caller's transaction.
 *
 * An UPDATE runs whatever the application's role hung on its table: triggers,
 * defaults, generated columns, index expressions.  Run with our rights, they could do
 * what we may; run with the owner's, in a security-restricted operation, they can do what
 * the owner could do anyway.  Where the owner is a superuser (somebody else may
 * have been granted TRIGGER on the table) we stay pems_sync_worker, which runs no function of
 * others (guard.c).
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/syscache.h"

#include "shared/compat.h"
#include "database/app_tables.h"

PG_FUNCTION_INFO_V1(pems_host_intact);
PG_FUNCTION_INFO_V1(pems_host_mark);
PG_FUNCTION_INFO_V1(pems_host_write_mirror);
PG_FUNCTION_INFO_V1(pems_host_add_modification);
PG_FUNCTION_INFO_V1(pems_host_refused_words);

#define HOST_MAX_ARGUMENTS 7

/*
 * A statement on one of the application's tables; each %s in text is the schema, quoted.  They are
 * analyzed with that schema in the path, so every name that is not in FROM or behind SET says that
 * it is PostgreSQL's own.  (unnest with several arrays always is.)
 */
typedef struct HostStatement
{
	const char *table;
	const char *text;
	int argument_count;
	Oid types[HOST_MAX_ARGUMENTS];
	SPIPlanPtr plan; /* kept for the life of the process ... */
	Oid schema;      /* ... as long as the extension stays in this schema */
} HostStatement;

static HostStatement mark_statement = {
	.table = "pfa_modification",
	.text = "UPDATE %s.pfa_modification m "
			"SET sync_status = r.status, sync_error = r.error, "
			"pems_version = coalesce(r.version, m.pems_version), "
			"synced_at = CASE WHEN r.status OPERATOR(pg_catalog.=) 'synced' THEN "
			"pg_catalog.clock_timestamp() "
			"ELSE m.synced_at END "
			"FROM unnest($1, $2, $3, $4) AS r (id, status, version, error) "
			"WHERE m.id OPERATOR(pg_catalog.=) r.id",
	.argument_count = 4,
	.types = {TEXTARRAYOID, TEXTARRAYOID, INT4ARRAYOID, TEXTARRAYOID},
};

static HostStatement mirror_statement = {
	.table = "pfa_mirror",
	.text =
		"UPDATE %s.pfa_mirror m "
		"SET version = r.version, data = r.data, last_synced_at = pg_catalog.clock_timestamp(), "
		"deleted_at = CASE WHEN r.deleted "
		"THEN coalesce(m.deleted_at, pg_catalog.clock_timestamp()) END "
		"FROM unnest($1, $2, $3, $4, $5) "
		"AS r (organization_id, pfa_id, version, data, deleted) "
		"WHERE m.organization_id OPERATOR(pg_catalog.=) r.organization_id "
		"AND m.pfa_id OPERATOR(pg_catalog.=) r.pfa_id",
	.argument_count = 5,
	.types = {TEXTARRAYOID, TEXTARRAYOID, INT4ARRAYOID, JSONBARRAYOID, BOOLARRAYOID},
};

/* The application may have deleted a mirror whose record it then edits on; id is the application's.
 */
static HostStatement missing_mirror_statement = {
	.table = "pfa_mirror",
	.text = "INSERT INTO %s.pfa_mirror "
			"(id, organization_id, pfa_id, version, data, last_synced_at, deleted_at) "
			"SELECT pg_catalog.gen_random_uuid()::text, r.organization_id, r.pfa_id, r.version, "
			"r.data, pg_catalog.clock_timestamp(), "
			"CASE WHEN r.deleted THEN pg_catalog.clock_timestamp() END "
			"FROM unnest($1, $2, $3, $4, $5) "
			"AS r (organization_id, pfa_id, version, data, deleted) "
			"WHERE NOT EXISTS (SELECT FROM %s.pfa_mirror m "
			"WHERE m.organization_id OPERATOR(pg_catalog.=) r.organization_id "
			"AND m.pfa_id OPERATOR(pg_catalog.=) r.pfa_id)",
	.argument_count = 5,
	.types = {TEXTARRAYOID, TEXTARRAYOID, INT4ARRAYOID, JSONBARRAYOID, BOOLARRAYOID},
};

static HostStatement add_modification_statement = {
	.table = "pfa_modification",
	.text = "INSERT INTO %s.pfa_modification (id, organization_id, pfa_id, base_version, delta, "
			"created_by, created_at, operation, change_reason, sync_status) "
			"VALUES ($1, $2, $3, $4, $5, $6, pg_catalog.clock_timestamp(), 'UPDATE', $7, 'draft')",
	.argument_count = 7,
	.types = {TEXTOID, TEXTOID, TEXTOID, INT4OID, JSONBOID, TEXTOID, TEXTOID},
};

/* --- the schema that all of it is in --- */

char *
pems_schema_name(Oid schema)
{
	char *name = get_namespace_name(schema);

	if (name == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the schema of pems_sync does not exist any more"),
						errdetail("The extension was dropped meanwhile."),
						errhint("Run CREATE EXTENSION pems_sync again.")));
	return name;
}

/* --- are they still the tables that were attached? --- */

static const char *const host_tables[] = {"organization", "pfa_mirror", "pfa_modification"};

/* Those that were looked at last; known when they were in order and nobody has changed them since.
 */
static Oid seen_tables[lengthof(host_tables)];
static bool tables_are_known = false;
static uint64 changes_heard_of = 0;

static void
forget_tables(Datum argument, Oid relation)
{
	for (int i = 0; i < (int) lengthof(host_tables); i++)
		if (!OidIsValid(relation) || relation == seen_tables[i])
		{
			tables_are_known = false;
			changes_heard_of++;
		}
}

/* The owner's right to use the schema may be gone. */
static void
forget_schema(Datum argument, int cache, uint32 hash)
{
	forget_tables(argument, InvalidOid);
}

/* Locked until the transaction ends: what is found out about them now stays true. */
static bool
lock_tables(Oid schema, LOCKMODE mode, Oid *tables)
{
	for (int i = 0; i < (int) lengthof(host_tables); i++)
	{
		tables[i] = get_relname_relid(host_tables[i], schema);
		if (!OidIsValid(tables[i]))
			return false;
		LockRelationOid(tables[i], mode);
		if (get_relname_relid(host_tables[i], schema) != tables[i])
			return false;
	}
	return true;
}

static bool
tables_have_no_problem(Oid schema)
{
	char *query = psprintf("SELECT %s._pems_host_problems(true) OPERATOR(pg_catalog.=) "
						   "'{}'::pg_catalog.text[]",
						   quote_identifier(pems_schema_name(schema)));
	bool isnull;
	bool intact;

	SPI_connect();
	if (SPI_execute(query, false, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not look at the tables of the application");
	intact = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	return intact && !isnull;
}

static bool
look_at_tables(Oid schema, LOCKMODE mode)
{
	static bool registered = false;
	Oid tables[lengthof(host_tables)];
	uint64 heard;
	bool intact;

	if (!registered)
	{
		CacheRegisterRelcacheCallback(forget_tables, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, forget_schema, (Datum) 0);
	}
	registered = true;
	if (!lock_tables(schema, mode, tables))
		return false;
	if (tables_are_known && memcmp(tables, seen_tables, sizeof(tables)) == 0)
		return true;
	memcpy(seen_tables, tables, sizeof(tables));
	tables_are_known = false; /* also when the look is cancelled */
	heard = changes_heard_of;
	intact = tables_have_no_problem(schema);
	tables_are_known = intact && heard == changes_heard_of;
	return intact;
}

bool
pems_host_is_intact(Oid schema)
{
	return look_at_tables(schema, AccessShareLock);
}

/*
 * pems_host_intact(exclusively)
 */
Datum
pems_host_intact(PG_FUNCTION_ARGS)
{
	bool exclusively = PG_GETARG_BOOL(0);

	if (exclusively)
		PreventCommandDuringRecovery("pems_attach()");
	PG_RETURN_BOOL(look_at_tables(get_func_namespace(fcinfo->flinfo->fn_oid),
								  exclusively ? AccessExclusiveLock : AccessShareLock));
}

/* --- as their owner --- */

static Oid
table_owner(const char *table, Oid schema)
{
	Oid relation = get_relname_relid(table, schema);
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("table \"%s\" does not exist in schema \"%s\"", table,
							   pems_schema_name(schema)),
						errhint("Make it again and run pems_attach().")));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

static SPIPlanPtr
plan_of(HostStatement *statement, Oid schema)
{
	char *text;

	if (statement->plan != NULL && statement->schema == schema)
		return statement->plan;
	if (statement->plan != NULL)
		SPI_freeplan(statement->plan);
	/* one that names the schema once ignores the second */
	text = psprintf(statement->text, quote_identifier(pems_schema_name(schema)),
					quote_identifier(pems_schema_name(schema)));
	statement->plan = SPI_prepare(text, statement->argument_count, statement->types);
	if (statement->plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", text, SPI_result_code_string(SPI_result));
	SPI_keepplan(statement->plan);
	statement->schema = schema;
	return statement->plan;
}

static uint64
execute(HostStatement *statement, Oid schema, FunctionCallInfo fcinfo)
{
	Datum values[HOST_MAX_ARGUMENTS];
	int code;

	for (int i = 0; i < statement->argument_count; i++)
		values[i] = PG_GETARG_DATUM(i);
	code = SPI_execute_plan(plan_of(statement, schema), values, NULL, false, 0);
	if (code != SPI_OK_UPDATE && code != SPI_OK_INSERT)
	{
		/* a rule did something else; what it has left of the plan would not notice that it is gone
		 */
		SPI_freeplan(statement->plan);
		statement->plan = NULL;
		elog(ERROR, "could not write \"%s\": %s", statement->table, SPI_result_code_string(code));
	}
	return SPI_processed;
}

static void
set_search_path(Oid schema)
{
	char *path = psprintf("pg_catalog, %s, pg_temp", quote_identifier(pems_schema_name(schema)));

	(void) set_config_option("search_path", path, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
							 0, false);
}

static void
set_row_security(void)
{
	(void) set_config_option("row_security", "on", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
}

/* Is that one of the tables that we write as this owner anyway? */
static bool
is_written_as(Oid owner, Oid relation, Oid schema)
{
	for (int i = 0; i < (int) lengthof(host_tables); i++)
		if (relation == get_relname_relid(host_tables[i], schema))
			return table_owner(host_tables[i], schema) == owner;
	return false;
}

/* Also of its partitions: their events are theirs. */
static bool
has_pending_events(Oid relation)
{
	ListCell *cell;

	foreach (cell, find_all_inheritors(relation, NoLock, NULL))
		if (AfterTriggerPendingOnRel(lfirst_oid(cell)))
			return true;
	return false;
}

/*
 * SET CONSTRAINTS means all constraints of that name in the schema.  Where somebody else's table
 * has one, what this transaction has deferred there would fire as the owner of ours.  (The worker
 * never defers anything, so it is never refused.)
 */
static void
demand_no_namesake(const char *constraint, Oid relation, Oid owner, Oid schema)
{
	Relation catalog = table_open(ConstraintRelationId, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&keys[0], Anum_pg_constraint_conname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum(constraint));
	ScanKeyInit(&keys[1], Anum_pg_constraint_connamespace, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(schema));
	scan = systable_beginscan(catalog, ConstraintNameNspIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Oid other = ((Form_pg_constraint) GETSTRUCT(tuple))->conrelid;

		if (OidIsValid(other) && other != relation && !is_written_as(owner, other, schema) &&
			has_pending_events(other))
			ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("constraint \"%s\" of table \"%s\" cannot be checked now",
								   constraint, get_rel_name(relation)),
							errdetail("Table \"%s\" has a constraint of that name, too, and this "
									  "transaction has changed it.",
									  get_rel_name(other)),
							errhint("Commit before, or rename one of the constraints.")));
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
}

/*
 * A deferred trigger of the application would run when we commit, as pems_sync_worker.  (PostgreSQL
 * forbids that: it refuses the whole statement.)  So the deferrable ones of the table fire at the
 * statement's end, while we are the owner, with what the caller's transaction has deferred so far.
 * Those that are deferred by nature are deferred again afterwards; whether the caller had deferred
 * others with SET CONSTRAINTS, nobody tells us.
 */
static char *
deferrable_constraints(Relation relation, bool by_nature)
{
	Oid schema = RelationGetNamespace(relation);
	const TriggerDesc *triggers = relation->trigdesc;
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];
		char *name;

		if (!(by_nature ? trigger->tginitdeferred : trigger->tgdeferrable) ||
			!OidIsValid(trigger->tgconstraint))
			continue;
		name = get_constraint_name(trigger->tgconstraint);
		demand_no_namesake(name, RelationGetRelid(relation), relation->rd_rel->relowner, schema);
		appendStringInfo(&names, "%s%s.%s", names.len > 0 ? ", " : "",
						 quote_identifier(pems_schema_name(schema)), quote_identifier(name));
	}
	return names.len > 0 ? names.data : NULL;
}

static void
set_constraints(const char *names, const char *mode)
{
	int code;

	if (names == NULL)
		return;
	code = SPI_execute(psprintf("SET CONSTRAINTS %s %s", names, mode), false, 0);
	if (code != SPI_OK_UTILITY)
		elog(ERROR, "could not set constraints: %s", SPI_result_code_string(code));
}

/*
 * The owner's code may have exchanged one of his tables while it ran, in this transaction, which no
 * lock of ours keeps him from; and our callers go on with our rights.
 */
static void
demand_intact_tables(Oid schema)
{
	if (pems_host_is_intact(schema))
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		 errmsg("the tables of the application were changed while they were written"),
		 errdetail("A trigger, a default or another expression of theirs has changed one of them."),
		 errhint("Take it off.")));
}

/*
 * Switch to the table's owner, execute, switch back.  On an ERROR the transaction's end switches
 * back.  The application's triggers find the schema in their path.
 */
static uint64
execute_as_owner(HostStatement *statement, FunctionCallInfo fcinfo)
{
	Oid schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	Oid owner = table_owner(statement->table, schema);
	Oid saved_user;
	int saved_context;
	int guc_level;
	Relation relation;
	char *deferrable;
	char *deferred;
	uint64 rows;

	GetUserIdAndSecContext(&saved_user, &saved_context);
	SetUserIdAndSecContext(superuser_arg(owner) ? saved_user : owner,
						   saved_context | SECURITY_LOCAL_USERID_CHANGE |
							   SECURITY_RESTRICTED_OPERATION);
	guc_level = NewGUCNestLevel();
	/* the session's own "off" would refuse what the table's policies allow */
	if (!row_security)
		set_row_security();
	set_search_path(schema);
	SPI_connect();
	relation = relation_open(get_relname_relid(statement->table, schema), AccessShareLock);
	deferrable = deferrable_constraints(relation, false);
	deferred = deferrable_constraints(relation, true);
	relation_close(relation, NoLock);
	set_constraints(deferrable, "IMMEDIATE");
	rows = execute(statement, schema, fcinfo);
	set_constraints(deferred, "DEFERRED");
	SPI_finish();
	AtEOXact_GUC(false, guc_level);
	SetUserIdAndSecContext(saved_user, saved_context);
	demand_intact_tables(schema);
	return rows;
}

/* A trigger or a policy that keeps the change out of the table must not go unnoticed. */
static void
demand_all_rows(const HostStatement *statement, uint64 rows, int wanted)
{
	if (rows == wanted)
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		 errmsg("not all rows of \"%s\" could be written", statement->table),
		 errdetail("Its owner could write " UINT64_FORMAT " of %d rows.", rows, wanted),
		 errhint("Look for triggers that suppress the change, and for FORCE ROW LEVEL SECURITY.")));
}

static int
length_of(ArrayType *array)
{
	return ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
}

/*
 * pems_host_mark(modification_ids, sync_statuses, pems_versions, sync_errors)
 */
Datum
pems_host_mark(PG_FUNCTION_ARGS)
{
	uint64 rows = execute_as_owner(&mark_statement, fcinfo);

	demand_all_rows(&mark_statement, rows, length_of(PG_GETARG_ARRAYTYPE_P(0)));
	PG_RETURN_INT32((int32) rows);
}

/*
 * pems_host_write_mirror(organization_ids, pfa_ids, versions, records, deleted)
 */
Datum
pems_host_write_mirror(PG_FUNCTION_ARGS)
{
	int wanted = length_of(PG_GETARG_ARRAYTYPE_P(0));
	uint64 rows = execute_as_owner(&mirror_statement, fcinfo);

	if (rows < wanted)
		rows += execute_as_owner(&missing_mirror_statement, fcinfo);
	demand_all_rows(&mirror_statement, rows, wanted);
	PG_RETURN_INT32((int32) rows);
}

/*
 * pems_host_add_modification(id, organization_id, pfa_id, base_version, delta, created_by,
 * change_reason)
 */
Datum
pems_host_add_modification(PG_FUNCTION_ARGS)
{
	uint64 rows = execute_as_owner(&add_modification_statement, fcinfo);

	demand_all_rows(&add_modification_statement, rows, 1);
	PG_RETURN_VOID();
}

/* The values that the CHECK constraint forbids, as an array; NULL: none. */
static Datum
refused_by(Datum constraint, Datum values, bool *isnull)
{
	static const char *const expression_of =
		"SELECT pg_catalog.pg_get_expr(c.conbin, c.conrelid) FROM pg_catalog.pg_constraint c "
		"WHERE c.oid OPERATOR(pg_catalog.=) $1";
	char *query;

	if (SPI_execute_with_args(expression_of, 1, (Oid[]){OIDOID}, &constraint, NULL, true, 1) !=
			SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not read a constraint of \"pfa_modification\"");
	query = psprintf("SELECT pg_catalog.array_agg(t.sync_status) "
					 "FROM pg_catalog.unnest($1) AS t (sync_status) WHERE NOT (%s)",
					 SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	if (SPI_execute_with_args(query, 1, (Oid[]){TEXTARRAYOID}, &values, NULL, true, 1) !=
			SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not try a constraint of \"pfa_modification\"");
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, isnull);
}

/*
 * pems_host_refused_words(constraint_id, words)
 *		Which of these values does the CHECK constraint on sync_status forbid?  Evaluated as who
 *		writes the table, as a write would.
 */
Datum
pems_host_refused_words(PG_FUNCTION_ARGS)
{
	Oid owner = table_owner("pfa_modification", get_func_namespace(fcinfo->flinfo->fn_oid));
	Datum refused;
	Oid saved_user;
	int saved_context;
	bool isnull;

	GetUserIdAndSecContext(&saved_user, &saved_context);
	SetUserIdAndSecContext(superuser_arg(owner) ? saved_user : owner,
						   saved_context | SECURITY_LOCAL_USERID_CHANGE |
							   SECURITY_RESTRICTED_OPERATION);
	SPI_connect();
	refused = refused_by(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), &isnull);
	if (!isnull)
		refused = SPI_datumTransfer(refused, false, -1);
	SPI_finish();
	SetUserIdAndSecContext(saved_user, saved_context);
	if (isnull)
		PG_RETURN_ARRAYTYPE_P(construct_empty_array(TEXTOID));
	PG_RETURN_DATUM(refused);
}
