/*
 * database/app_write.c
 *		Writes to the application's tables, as their owner (app_owner.c).
 *
 * Process: any backend, and the worker.  Runs inside the caller's transaction.  Kept for the
 * process: the statements' plans.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/syscache.h"

#include "database/app_owner.h"
#include "database/app_tables.h"
#include "database/array.h"
#include "database/extension.h"
#include "database/statement.h"

PG_FUNCTION_INFO_V1(pems_app_mark);
PG_FUNCTION_INFO_V1(pems_app_mark_all);
PG_FUNCTION_INFO_V1(pems_app_write_mirror);
PG_FUNCTION_INFO_V1(pems_app_add_modification);

/*
 * The statements are analyzed with the extension's schema in the search path, so every name that is
 * not in FROM or behind SET says that it is PostgreSQL's own.  (unnest with several arrays always
 * is.)
 */

static PemsStatement mark_write = {
	.table = "pfa_modification",
	.text = "UPDATE %s.pfa_modification m "
			"SET sync_status = r.status, sync_error = r.error, "
			"pems_version = coalesce(r.version, m.pems_version), "
			"synced_at = CASE WHEN r.status OPERATOR(pg_catalog.=) 'synced' THEN "
			"pg_catalog.clock_timestamp() "
			"ELSE m.synced_at END "
			"FROM unnest($1, $2, $3, $4) AS r (id, status, version, error) "
			"WHERE m.id OPERATOR(pg_catalog.=) r.id",
	.result = SPI_OK_UPDATE,
	.argument_count = 4,
	.types = {TEXTARRAYOID, TEXTARRAYOID, INT4ARRAYOID, TEXTARRAYOID},
};

static PemsStatement mirror_write = {
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
	.result = SPI_OK_UPDATE,
	.argument_count = 5,
	.types = {TEXTARRAYOID, TEXTARRAYOID, INT4ARRAYOID, JSONBARRAYOID, BOOLARRAYOID},
};

/*
 * The application may have deleted the mirror of a record that is still edited, and a pull brings
 * records that are new.  The column id is the application's own.
 */
#define INSERT_MIRRORS(id_column, id_value)                                                        \
	{                                                                                              \
		.table = "pfa_mirror",                                                                     \
		.text = "INSERT INTO %s.pfa_mirror (" id_column                                            \
				"organization_id, pfa_id, version, data, last_synced_at, deleted_at) "             \
				"SELECT " id_value "r.organization_id, r.pfa_id, r.version, r.data, "              \
				"pg_catalog.clock_timestamp(), "                                                   \
				"CASE WHEN r.deleted THEN pg_catalog.clock_timestamp() END "                       \
				"FROM unnest($1, $2, $3, $4, $5) "                                                 \
				"AS r (organization_id, pfa_id, version, data, deleted) "                          \
				"WHERE NOT EXISTS (SELECT FROM %s.pfa_mirror m "                                   \
				"WHERE m.organization_id OPERATOR(pg_catalog.=) r.organization_id "                \
				"AND m.pfa_id OPERATOR(pg_catalog.=) r.pfa_id)",                                   \
		.result = SPI_OK_INSERT, .argument_count = 5, .types = {                                   \
			TEXTARRAYOID,                                                                          \
			TEXTARRAYOID,                                                                          \
			INT4ARRAYOID,                                                                          \
			JSONBARRAYOID,                                                                         \
			BOOLARRAYOID                                                                           \
		}                                                                                          \
	}
static PemsStatement missing_mirror_write =
	INSERT_MIRRORS("id, ", "pg_catalog.gen_random_uuid()::text, ");
/* The same where the column has a default, which is then the application's way to make ids. */
static PemsStatement default_mirror_write = INSERT_MIRRORS("", "");

static PemsStatement add_modification_write = {
	.table = "pfa_modification",
	.text = "INSERT INTO %s.pfa_modification (id, organization_id, pfa_id, base_version, delta, "
			"created_by, created_at, operation, change_reason, sync_status) "
			"VALUES ($1, $2, $3, $4, $5, $6, pg_catalog.clock_timestamp(), 'UPDATE', $7, 'draft')",
	.result = SPI_OK_INSERT,
	.argument_count = 7,
	.types = {TEXTOID, TEXTOID, TEXTOID, INT4OID, JSONBOID, TEXTOID, TEXTOID},
};

/* --- as their owner --- */

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
	for (int i = 0; i < PEMS_APP_TABLE_COUNT; i++)
		if (relation == get_relname_relid(pems_app_tables[i], schema))
			return pems_app_owner_of(pems_app_tables[i], schema) == owner;
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
 * SET CONSTRAINTS means all constraints of that name in the schema.  Where a table of somebody else
 * has one, triggers that this transaction has deferred there would fire with the rights of the
 * owner of our table: that is refused.  (The worker never defers anything, so it is never refused.)
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
 * The deferrable constraints of the table as a list for SET CONSTRAINTS, or NULL;
 * initially_deferred: only those that are INITIALLY DEFERRED.
 *
 * A deferred trigger of the application would run when we commit, as pems_sync_worker.  (PostgreSQL
 * forbids that: it refuses the whole statement.)  So the deferrable ones fire at the statement's
 * end, while we are the owner, together with what the caller's transaction has deferred so far.
 * Those that are INITIALLY DEFERRED are deferred again afterwards.  Whether the caller had deferred
 * others with SET CONSTRAINTS cannot be found out.
 */
static char *
deferrable_constraints(Relation relation, bool initially_deferred)
{
	Oid schema = RelationGetNamespace(relation);
	const TriggerDesc *triggers = relation->trigdesc;
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];
		char *name;

		if (!(initially_deferred ? trigger->tginitdeferred : trigger->tgdeferrable) ||
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
 * The owner's code ran in this transaction, so no lock of ours kept it from replacing one of his
 * tables; and our callers go on with our rights.
 */
static void
demand_intact_tables(Oid schema)
{
	if (pems_app_tables_are_intact(schema))
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		 errmsg("the tables of the application were changed while they were written"),
		 errdetail("A trigger, a default or another expression of theirs has changed one of them."),
		 errhint("Take it off.")));
}

/* The deferrable constraints fire at the end of the statement. */
static uint64
run_with_constraints(PemsStatement *write, Oid schema, const Datum *values)
{
	Relation relation = relation_open(get_relname_relid(write->table, schema), AccessShareLock);
	char *deferrable = deferrable_constraints(relation, false);
	char *deferred = deferrable_constraints(relation, true);
	uint64 rows;

	relation_close(relation, NoLock);
	set_constraints(deferrable, "IMMEDIATE");
	pems_statement_run(write, schema, values, NULL);
	rows = SPI_processed;
	set_constraints(deferred, "DEFERRED");
	return rows;
}

typedef struct Write
{
	PemsStatement *statement;
	Oid schema;
	const Datum *values;
	uint64 rows;
} Write;

/* The application's triggers find the schema in their path. */
static void
do_write(void *argument)
{
	Write *write = argument;
	int guc_level = NewGUCNestLevel();

	/* the session's own "off" would refuse what the table's policies allow */
	if (!row_security)
		set_row_security();
	set_search_path(write->schema);
	SPI_connect();
	write->rows = run_with_constraints(write->statement, write->schema, write->values);
	SPI_finish();
	AtEOXact_GUC(false, guc_level);
}

/* Returns the number of rows. */
static uint64
write_as_owner(PemsStatement *statement, Oid schema, const Datum *values)
{
	Write write = {statement, schema, values, 0};

	pems_app_owner_do(statement->table, schema, do_write, &write);
	demand_intact_tables(schema);
	return write.rows;
}

/* A trigger or a policy that keeps the change out of the table must not go unnoticed. */
static void
demand_all_rows(const PemsStatement *write, uint64 rows, int wanted)
{
	if (rows == wanted)
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		 errmsg("not all rows of \"%s\" could be written", write->table),
		 errdetail("Its owner could write " UINT64_FORMAT " of %d rows.", rows, wanted),
		 errhint("Look for triggers that suppress the change, and for FORCE ROW LEVEL SECURITY.")));
}

/*
 * --- functions ---
 *
 * Each writes one table of the application as its owner (app_owner.h), whose triggers run.  Errors
 * of all of them: 55000 when the owner could not write all of the rows, when a constraint of the
 * table cannot be checked now, or when the tables are not what was attached after the write; and
 * whatever the application's triggers and constraints raise.
 */

static Oid
schema_of(FunctionCallInfo fcinfo)
{
	return get_func_namespace(fcinfo->flinfo->fn_oid);
}

/* The function's arguments are those of the statement. */
static uint64
write_arguments(PemsStatement *write, FunctionCallInfo fcinfo)
{
	Datum values[PEMS_MAX_ARGUMENTS];

	for (int i = 0; i < write->argument_count; i++)
		values[i] = PG_GETARG_DATUM(i);
	return write_as_owner(write, schema_of(fcinfo), values);
}

static int
length_of(ArrayType *array)
{
	return ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
}

/*
 * pems_app_mark(modification_ids, sync_statuses, pems_versions, sync_errors): _pems_app_mark()
 *		Sets sync_status, pems_version and sync_error of modifications.
 *
 * Parameters: arrays in step.
 * Returns: the number of rows.
 * Tables: pfa_modification.
 */
Datum
pems_app_mark(PG_FUNCTION_ARGS)
{
	uint64 rows = write_arguments(&mark_write, fcinfo);

	demand_all_rows(&mark_write, rows, length_of(PG_GETARG_ARRAYTYPE_P(0)));
	PG_RETURN_INT32((int32) rows);
}

/* A text[] with the same element so many times. */
static Datum
texts_of(const char *text, int count)
{
	const char **texts = palloc(sizeof(char *) * Max(count, 1));

	for (int i = 0; i < count; i++)
		texts[i] = text;
	return pems_text_array(texts, count);
}

/*
 * pems_app_mark_all(modification_ids, sync_status): _pems_app_mark_all()
 *		The same status for all of them, and neither a version nor an error.
 *
 * Returns: the number of rows.
 * Tables: pfa_modification.
 */
Datum
pems_app_mark_all(PG_FUNCTION_ARGS)
{
	int count = length_of(PG_GETARG_ARRAYTYPE_P(0));
	Datum values[4];
	uint64 rows;

	values[0] = PG_GETARG_DATUM(0);
	values[1] = texts_of(text_to_cstring(PG_GETARG_TEXT_PP(1)), count);
	/* unnest() gives NULL for what an array is too short for */
	values[2] = pems_integer_array(NULL, 0);
	values[3] = pems_text_array(NULL, 0);
	rows = write_as_owner(&mark_write, schema_of(fcinfo), values);
	demand_all_rows(&mark_write, rows, count);
	PG_RETURN_INT32((int32) rows);
}

/* Does the application's table make the ids of its rows itself? */
static bool
id_has_default(Oid schema)
{
	Oid relation = get_relname_relid(missing_mirror_write.table, schema);
	HeapTuple tuple = SearchSysCacheAttName(relation, "id");
	Form_pg_attribute attribute;
	bool has_default;

	if (!HeapTupleIsValid(tuple))
		return false;
	attribute = (Form_pg_attribute) GETSTRUCT(tuple);
	has_default = attribute->atthasdef || attribute->attidentity != '\0';
	ReleaseSysCache(tuple);
	return has_default;
}

/*
 * pems_app_write_mirror(organization_ids, pfa_ids, versions, records, deleted):
 * _pems_app_write_mirror()
 *		Updates mirrors, and inserts those that are missing.
 *
 * Parameters: arrays in step, each record once.
 * Returns: the number of rows.
 * Tables: pfa_mirror.
 */
Datum
pems_app_write_mirror(PG_FUNCTION_ARGS)
{
	int wanted = length_of(PG_GETARG_ARRAYTYPE_P(0));
	uint64 rows = write_arguments(&mirror_write, fcinfo);

	if (rows < wanted)
		rows += write_arguments(id_has_default(schema_of(fcinfo)) ? &default_mirror_write
																  : &missing_mirror_write,
								fcinfo);
	demand_all_rows(&mirror_write, rows, wanted);
	PG_RETURN_INT32((int32) rows);
}

/*
 * pems_app_add_modification(id, organization_id, pfa_id, base_version, delta, created_by,
 * change_reason): _pems_app_add_modification()
 *		Inserts a draft.
 *
 * Tables: pfa_modification.
 */
Datum
pems_app_add_modification(PG_FUNCTION_ARGS)
{
	uint64 rows = write_arguments(&add_modification_write, fcinfo);

	demand_all_rows(&add_modification_write, rows, 1);
	PG_RETURN_VOID();
}
