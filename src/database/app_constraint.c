/*
 * database/app_constraint.c
 *		Would a CHECK constraint of the application let us write what we write?
 *
 * Process: any backend.  Runs inside the caller's transaction, in pems_attach() and wherever the
 * application's tables are looked at.  Holds no state.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "database/app_owner.h"

PG_FUNCTION_INFO_V1(pems_app_refused_words);

typedef struct Question
{
	Datum constraint;
	Datum words;
	Datum refused; /* the answer: text[], palloc'ed ... */
	bool none;     /* ... or no word is */
} Question;

static const char *
expression_of(Datum constraint)
{
	static const char *const query =
		"SELECT pg_catalog.pg_get_expr(c.conbin, c.conrelid) FROM pg_catalog.pg_constraint c "
		"WHERE c.oid OPERATOR(pg_catalog.=) $1";

	if (SPI_execute_with_args(query, 1, (Oid[]){OIDOID}, &constraint, NULL, true, 1) !=
			SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not read a constraint of \"pfa_modification\"");
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
}

static void
answer(void *argument)
{
	Question *question = argument;
	char *query;

	SPI_connect();
	query = psprintf("SELECT pg_catalog.array_agg(t.sync_status) "
					 "FROM pg_catalog.unnest($1) AS t (sync_status) WHERE NOT (%s)",
					 expression_of(question->constraint));
	if (SPI_execute_with_args(query, 1, (Oid[]){TEXTARRAYOID}, &question->words, NULL, true, 1) !=
			SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not try a constraint of \"pfa_modification\"");
	question->refused =
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &question->none);
	if (!question->none)
		question->refused = SPI_datumTransfer(question->refused, false, -1);
	SPI_finish();
}

/*
 * pems_app_refused_words(constraint_id, words): _pems_app_refused_words()
 *		Which of these values does a CHECK constraint on sync_status forbid?  Evaluated with
 *		the rights of who writes the table, as a write would.
 *
 * Parameters: constraint_id: of a constraint of pfa_modification that looks at sync_status alone.
 * Returns: {} when it forbids none.
 * Errors: whatever the constraint's expression raises.
 */
Datum
pems_app_refused_words(PG_FUNCTION_ARGS)
{
	Question question = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), (Datum) 0, false};

	pems_app_owner_do("pfa_modification", get_func_namespace(fcinfo->flinfo->fn_oid), answer,
					  &question);
	if (question.none)
		PG_RETURN_ARRAYTYPE_P(construct_empty_array(TEXTOID));
	PG_RETURN_DATUM(question.refused);
}
