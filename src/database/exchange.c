/*
 * database/exchange.c
 *		The worker's main transaction: it records what became of items, makes others ready whose
 *		turn or time has come, and claims the next.
 *
 * Process: the background worker.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/timestamp.h"

#include "database/claim.h"
#include "database/database.h"
#include "database/recording.h"
#include "database/statement.h"
#include "database/transaction.h"
#include "shared/failpoint.h"

static const PemsColumn prepare_columns[] = {{"_pems_prepare", TIMESTAMPTZOID}};
static PemsStatement prepare_statement = {
	.text = "SELECT %s._pems_prepare()",
	.result = SPI_OK_SELECT,
	.columns = PEMS_COLUMNS("_pems_prepare()", prepare_columns),
};

typedef struct ExchangeWork
{
	MemoryContext context;
	PemsExchange *exchange;
} ExchangeWork;

/* Items whose turn or time has come. */
static void
make_ready(PemsExchange *exchange)
{
	PemsRow row;

	pems_statement_run(&prepare_statement, pems_transaction_schema(), NULL, NULL);
	row = pems_statement_row(&prepare_statement, 0);
	exchange->next_due = pems_row_timestamp(&row, 0, DT_NOEND);
}

static void
do_exchange(void *argument)
{
	ExchangeWork *work = argument;
	PemsExchange *exchange = work->exchange;

	pems_statement_watch_sizes(pems_transaction_schema());
	if (exchange->report_count > 0)
	{
		pems_recording_run(exchange, work->context);
		PEMS_FAILPOINT("record_uncommitted");
		PEMS_FAILPOINT_IN_COMMIT("record_in_commit");
	}
	if (!exchange->only_record)
		make_ready(exchange);
	if (exchange->grant_count > 0)
		pems_claim_run(exchange, work->context);
	if (exchange->item_count > 0)
		PEMS_FAILPOINT("claim_uncommitted");
}

PemsDatabaseStatus
pems_database_exchange(PemsExchange *exchange)
{
	ExchangeWork work = {CurrentMemoryContext, exchange};

	exchange->recorded = palloc0(sizeof(bool) * Max(exchange->report_count, 1));
	exchange->items = NULL;
	exchange->item_count = 0;
	exchange->room_missing = 0;
	exchange->messages = (PemsTexts){NULL, 0};
	return pems_transaction_run("recording outcomes and claiming items", PEMS_TABLES_APPLICATION,
								do_exchange, &work);
}
