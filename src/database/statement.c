/*
 * database/statement.c
 *		Prepared statements: one cache of plans for all that this process runs again and again.
 *
 * Process: any backend, and the worker; inside a transaction that is connected to SPI.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/rel.h"

#include "database/extension.h"
#include "database/statement.h"

/* All that have been prepared so far, in this process. */
static PemsStatement *statements = NULL;

/*
 * A plan that runs is not freed: a trigger of the application may call us, and so run the statement
 * that has fired it.  (That one is left to the process's end.)
 */
static void
forget_plan(PemsStatement *statement)
{
	if (statement->plan != NULL && statement->running == 0)
		SPI_freeplan(statement->plan);
	statement->plan = NULL;
}

void
pems_statement_forget_all(void)
{
	for (PemsStatement *statement = statements; statement != NULL; statement = statement->next)
		forget_plan(statement);
}

static void
add_to_list(PemsStatement *statement)
{
	if (statement->is_listed)
		return;
	statement->is_listed = true;
	statement->next = statements;
	statements = statement;
}

static void
prepare(PemsStatement *statement, Oid schema)
{
	const char *name = quote_identifier(pems_schema_name(schema));
	char *text = psprintf(statement->text, name, name); /* one %s ignores the second name */
	SPIPlanPtr plan;

	forget_plan(statement);
	plan = SPI_prepare(text, statement->argument_count, statement->types);
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", text, SPI_result_code_string(SPI_result));
	SPI_keepplan(plan);
	statement->plan = plan;
	statement->schema = schema;
	add_to_list(statement);
}

static void
fail(const PemsStatement *statement, int code)
{
	if (statement->table != NULL)
		elog(ERROR, "could not write \"%s\": %s", statement->table, SPI_result_code_string(code));
	elog(ERROR, "could not run \"%s\": %s", statement->text, SPI_result_code_string(code));
}

/* Returns SPI's code. */
static int
execute(PemsStatement *statement, const Datum *values, const char *nulls)
{
	int code;

	statement->running++;
	PG_TRY();
	{
		code = SPI_execute_plan(statement->plan, (Datum *) values, nulls, false, 0);
	}
	PG_FINALLY();
	{
		statement->running--;
	}
	PG_END_TRY();
	return code;
}

void
pems_statement_run(PemsStatement *statement, Oid schema, const Datum *values, const char *nulls)
{
	int code;

	if (statement->plan == NULL || statement->schema != schema)
		prepare(statement, schema);
	code = execute(statement, values, nulls);
	if (code != statement->result)
	{
		/*
		 * A rule on the table has emptied or replaced the plan.  Nothing in such a plan names the
		 * table any more, so the server would not make it anew when the rule is gone.
		 */
		forget_plan(statement);
		fail(statement, code);
	}
	if (statement->columns.count > 0)
		pems_columns_find(&statement->columns, SPI_tuptable->tupdesc);
}

PemsRow
pems_statement_row(const PemsStatement *statement, uint64 number)
{
	return pems_row(&statement->columns, SPI_tuptable->tupdesc, SPI_tuptable->vals[number]);
}

/* --- the sizes of tables --- */

/* Those that the worker's statements join: a plan fits their sizes when it was made. */
static const char *const sized_tables[] = {"pfa_write_queue", "pfa_modification", "pfa_mirror",
										   "pems_mirror_version"};

/*
 * A table of fewer blocks is small, however much it grows: whatever a plan reads of it costs less
 * than planning anew, which takes longer than sending an edit.
 */
#define SMALL_TABLE_BLOCKS 32

/* How large a table is, small ones all alike; 0: there is no such table. */
static BlockNumber
size_of_table(const char *table, Oid schema)
{
	Oid oid = get_relname_relid(table, schema);
	Relation relation = OidIsValid(oid) ? try_relation_open(oid, AccessShareLock) : NULL;
	BlockNumber blocks;

	if (relation == NULL)
		return 0;
	blocks = RelationGetNumberOfBlocks(relation);
	relation_close(relation, NoLock);
	return Max(blocks, SMALL_TABLE_BLOCKS);
}

/*
 * Plans are kept for the life of the process, and one that was made while a table was empty may
 * read all of some index later on.  So all plans are made anew when a table has doubled, or shrunk
 * to a quarter, since.
 */
void
pems_statement_watch_sizes(Oid schema)
{
	static BlockNumber planned[lengthof(sized_tables)];
	bool changed = false;

	for (int i = 0; i < (int) lengthof(sized_tables); i++)
	{
		BlockNumber blocks = size_of_table(sized_tables[i], schema);

		if (blocks == 0 || (blocks <= planned[i] * 2 && blocks >= planned[i] / 4))
			continue;
		planned[i] = blocks;
		changed = true;
	}
	if (changed)
		ResetPlanCache();
}
