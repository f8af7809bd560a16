/*
 * database/housekeeping.c
 *		What the worker does besides recording and claiming: it takes up what a dead worker left,
 *		folds statistics, makes partitions of the audit log, and sends notifications.
 *
 * Process: the background worker; each public function is one transaction (database.h).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"

#include "database/array.h"
#include "database/database.h"
#include "database/statement.h"
#include "database/transaction.h"
#include "shared/failpoint.h"

/* --- what a dead worker left --- */

static const PemsColumn put_back_columns[] = {{"_pems_put_back_orphans", INT4OID}};
static PemsStatement put_back_statement = {
	.text = "SELECT %s._pems_put_back_orphans()",
	.result = SPI_OK_SELECT,
	.columns = PEMS_COLUMNS("_pems_put_back_orphans()", put_back_columns),
};

static void
put_back_orphans(void *argument)
{
	int *put_back = argument;
	PemsRow row;

	pems_statement_run(&put_back_statement, pems_transaction_schema(), NULL, NULL);
	row = pems_statement_row(&put_back_statement, 0);
	*put_back = (int) pems_row_integer(&row, 0, 0);
}

PemsDatabaseStatus
pems_database_put_back_orphans(int *put_back)
{
	return pems_transaction_run("taking up what the last worker left", PEMS_TABLES_OURS,
								put_back_orphans, put_back);
}

/* --- statistics --- */

static const PemsColumn fold_columns[] = {{"_pems_fold_stats", BOOLOID}};
static PemsStatement fold_statement = {
	.text = "SELECT %s._pems_fold_stats()",
	.result = SPI_OK_SELECT,
	.columns = PEMS_COLUMNS("_pems_fold_stats()", fold_columns),
};

static void
fold(void *argument)
{
	bool *more = argument;
	PemsRow row;

	pems_statement_run(&fold_statement, pems_transaction_schema(), NULL, NULL);
	row = pems_statement_row(&fold_statement, 0);
	*more = pems_row_boolean(&row, 0);
}

PemsDatabaseStatus
pems_database_fold(bool *more)
{
	*more = false;
	return pems_transaction_run("folding statistics", PEMS_TABLES_OURS, fold, more);
}

/* --- partitions of the audit log --- */

static PemsStatement make_partitions_statement = {
	.text = "SELECT %s._pems_make_audit_partitions()",
	.result = SPI_OK_SELECT,
};

static void
make_partitions(void *argument)
{
	pems_statement_run(&make_partitions_statement, pems_transaction_schema(), NULL, NULL);
}

PemsDatabaseStatus
pems_database_make_partitions(void)
{
	return pems_transaction_run("making partitions of the audit log", PEMS_TABLES_OURS,
								make_partitions, NULL);
}

/* --- notifications --- */

static PemsStatement notify_statement = {
	.text = "SELECT %s._pems_send_notifications($1)",
	.result = SPI_OK_SELECT,
	.argument_count = 1,
	.types = {TEXTARRAYOID},
};

static void
notify(void *argument)
{
	const PemsTexts *messages = argument;
	Datum values[] = {pems_text_array((const char *const *) messages->texts, messages->count)};

	pems_statement_run(&notify_statement, pems_transaction_schema(), values, NULL);
	PEMS_FAILPOINT("notify_uncommitted");
}

PemsDatabaseStatus
pems_database_notify(const PemsTexts *messages)
{
	return pems_transaction_run("telling listeners", PEMS_TABLES_OURS, notify, (void *) messages);
}
