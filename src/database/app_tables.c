/*
 * database/app_tables.c
 *		The application's tables: are they still what was attached?
 *
 * Process: any backend, and the worker.  Runs inside the caller's transaction.  The answer is
 * kept for the process until the server says that one of the tables was changed.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "database/app_tables.h"
#include "database/extension.h"

PG_FUNCTION_INFO_V1(pems_app_intact);

const char *const pems_app_tables[PEMS_APP_TABLE_COUNT] = {"organization", "pfa_mirror",
														   "pfa_modification"};

/* Those that were looked at last. */
static Oid seen_tables[PEMS_APP_TABLE_COUNT];
/* They were in order, and nobody has changed them since. */
static bool seen_are_intact = false;
/* How often the server has said that one of them was changed. */
static uint64 change_count = 0;

static void
forget_answer(Datum argument, Oid relation)
{
	for (int i = 0; i < PEMS_APP_TABLE_COUNT; i++)
		if (!OidIsValid(relation) || relation == seen_tables[i])
		{
			seen_are_intact = false;
			change_count++;
		}
}

/* The owner's right to use the schema may be gone. */
static void
forget_for_schema(Datum argument, int cache, uint32 hash)
{
	forget_answer(argument, InvalidOid);
}

/* Locked until the transaction ends: what is found out about them now stays true. */
static bool
lock_tables(Oid schema, LOCKMODE mode, Oid *tables)
{
	for (int i = 0; i < PEMS_APP_TABLE_COUNT; i++)
	{
		tables[i] = get_relname_relid(pems_app_tables[i], schema);
		if (!OidIsValid(tables[i]))
			return false;
		LockRelationOid(tables[i], mode);
		if (get_relname_relid(pems_app_tables[i], schema) != tables[i])
			return false;
	}
	return true;
}

static bool
have_no_problem(Oid schema)
{
	char *query = psprintf("SELECT %s._pems_app_problems(true) OPERATOR(pg_catalog.=) "
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

static void
listen_for_changes(void)
{
	static bool registered = false;

	if (!registered)
	{
		CacheRegisterRelcacheCallback(forget_answer, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, forget_for_schema, (Datum) 0);
	}
	registered = true;
}

static bool
are_intact(Oid schema, LOCKMODE mode)
{
	Oid tables[PEMS_APP_TABLE_COUNT];
	uint64 changes_before;
	bool intact;

	listen_for_changes();
	if (!lock_tables(schema, mode, tables))
		return false;
	if (seen_are_intact && memcmp(tables, seen_tables, sizeof(tables)) == 0)
		return true;
	memcpy(seen_tables, tables, sizeof(tables));
	seen_are_intact = false; /* stays so when an ERROR ends the check */
	changes_before = change_count;
	intact = have_no_problem(schema);
	seen_are_intact = intact && changes_before == change_count;
	return intact;
}

bool
pems_app_tables_are_intact(Oid schema)
{
	return are_intact(schema, AccessShareLock);
}

/*
 * pems_app_intact(exclusively): _pems_app_intact()
 *		Are the application's tables what was attached: ordinary tables with the columns, types and
 *		keys that pems_attach() demands?  Locks them until the transaction ends.
 *
 * Parameters: exclusively: lock them against everybody (for pems_attach()), not
 * only against changes of their definition.
 * Returns: false also when one is missing.
 * Errors: 25006 when exclusively, on a standby; 55P03 after lock_timeout.
 * Tables: organization, pfa_mirror, pfa_modification (locked); pems_control.
 */
Datum
pems_app_intact(PG_FUNCTION_ARGS)
{
	bool exclusively = PG_GETARG_BOOL(0);

	if (exclusively)
		PreventCommandDuringRecovery("pems_attach()");
	PG_RETURN_BOOL(are_intact(get_func_namespace(fcinfo->flinfo->fn_oid),
							  exclusively ? AccessExclusiveLock : AccessShareLock));
}
