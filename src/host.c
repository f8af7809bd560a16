/*
 * host.c
 *		Writes to the application's tables, as their owner.
 *
 * Process: any backend, and the worker.  Runs inside the caller's transaction.
 *
 * An UPDATE runs whatever the application's role hung on its table: triggers,
 * defaults, generated columns, index expressions.  Run with our rights, they could do
 * what we may; run with the owner's, in a security-restricted operation, they can do what
 * the owner could do anyway.  Where the owner is a superuser (somebody else may
 * have been granted TRIGGER on the table) we stay pems_sync_worker, which may
 * write these tables and little else.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "compat.h"

PG_FUNCTION_INFO_V1(pems_host_mark);
PG_FUNCTION_INFO_V1(pems_host_write_mirror);
PG_FUNCTION_INFO_V1(pems_host_add_modification);

#define HOST_MAX_ARGUMENTS 7

/* A statement on one of the application's tables; each %s in text is the schema, quoted. */
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
			"synced_at = CASE WHEN r.status = 'synced' THEN pg_catalog.clock_timestamp() "
			"ELSE m.synced_at END "
			"FROM unnest($1, $2, $3, $4) AS r (id, status, version, error) "
			"WHERE m.id = r.id",
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
		"WHERE m.organization_id = r.organization_id AND m.pfa_id = r.pfa_id",
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
			"WHERE m.organization_id = r.organization_id AND m.pfa_id = r.pfa_id)",
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

static Oid
table_owner(const char *table, Oid schema)
{
	Oid relation = get_relname_relid(table, schema);
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("table \"%s\" does not exist in schema \"%s\"", table,
							   get_namespace_name(schema)),
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
	text = psprintf(statement->text, quote_identifier(get_namespace_name(schema)),
					quote_identifier(get_namespace_name(schema)));
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
		elog(ERROR, "could not write \"%s\": %s", statement->table, SPI_result_code_string(code));
	return SPI_processed;
}

static void
set_search_path(Oid schema)
{
	char *path = psprintf("pg_catalog, %s, pg_temp", quote_identifier(get_namespace_name(schema)));

	(void) set_config_option("search_path", path, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
							 0, false);
}

/* Switch to the table's owner, execute, switch back.  On an ERROR the transaction's end switches
 * back. */
static uint64
execute_as_owner(HostStatement *statement, FunctionCallInfo fcinfo)
{
	Oid schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	Oid owner = table_owner(statement->table, schema);
	Oid saved_user;
	int saved_context;
	int guc_level;
	uint64 rows;

	GetUserIdAndSecContext(&saved_user, &saved_context);
	SetUserIdAndSecContext(superuser_arg(owner) ? saved_user : owner,
						   saved_context | SECURITY_LOCAL_USERID_CHANGE |
							   SECURITY_RESTRICTED_OPERATION);
	guc_level = NewGUCNestLevel();
	set_search_path(schema);
	SPI_connect();
	rows = execute(statement, schema, fcinfo);
	SPI_finish();
	AtEOXact_GUC(false, guc_level);
	SetUserIdAndSecContext(saved_user, saved_context);
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
