/*
 * database/recording.c
 *		What became of items, into the database: reports after requests and decisions, and how
 *		modifications are shown to the application.
 *
 * Process: the background worker.  pems_recording_run() runs inside the transaction of an
 * exchange; each function of database.h is a transaction of its own.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "database/array.h"
#include "database/report.h"
#include "database/database.h"
#include "database/recording.h"
#include "database/statement.h"
#include "database/transaction.h"

/* --- reports --- */

typedef enum RecordColumn
{
	RECORDED,
	MESSAGES
} RecordColumn;

static const PemsColumn record_columns[] = {
	[RECORDED] = {"recorded", TEXTARRAYOID},
	[MESSAGES] = {"messages", TEXTARRAYOID},
};
static PemsStatement record_statement = {
	.text = "SELECT * FROM %s._pems_record($1, $2, $3)",
	.result = SPI_OK_SELECT,
	.argument_count = 3,
	.types = {InvalidOid /* _pems_report[] */, BOOLOID, INT8ARRAYOID},
	.columns = PEMS_COLUMNS("_pems_record()", record_columns),
};

/* The ids of the items that are done with are in the order of the reports. */
static void
note_recorded(PemsExchange *exchange, const PemsTexts *ids)
{
	int next = 0;

	for (int i = 0; i < exchange->report_count; i++)
	{
		exchange->recorded[i] =
			next < ids->count && strcmp(ids->texts[next], exchange->reports[i]->item->id) == 0;
		if (exchange->recorded[i])
			next++;
	}
}

void
pems_recording_run(PemsExchange *exchange, MemoryContext context)
{
	Datum values[3];
	PemsRow row;
	PemsTexts ids;

	record_statement.types[0] = pems_report_array_type();
	values[0] = pems_report_array(exchange->reports, exchange->report_count);
	values[1] = BoolGetDatum(exchange->careful);
	values[2] = pems_bigint_array(exchange->recorded_claims, exchange->recorded_claim_count);
	pems_transaction_begin_timed_write(exchange->report_count);
	pems_statement_run(&record_statement, pems_transaction_schema(), values, NULL);
	pems_transaction_end_timed_write();
	row = pems_statement_row(&record_statement, 0);
	ids = pems_row_texts(&row, RECORDED, CurrentMemoryContext);
	note_recorded(exchange, &ids);
	exchange->messages = pems_row_texts(&row, MESSAGES, context);
}

/* --- a report that cannot be recorded --- */

static const PemsColumn give_up_columns[] = {{"_pems_give_up", TEXTARRAYOID}};
static PemsStatement give_up_statement = {
	.text = "SELECT %s._pems_give_up($1, $2)",
	.result = SPI_OK_SELECT,
	.argument_count = 2,
	.types = {InvalidOid /* _pems_report */, TEXTOID},
	.columns = PEMS_COLUMNS("_pems_give_up()", give_up_columns),
};

typedef struct GiveUpWork
{
	MemoryContext context;
	const PemsReport *report;
	const char *reason;
	PemsTexts *messages;
} GiveUpWork;

static void
give_up(void *argument)
{
	GiveUpWork *work = argument;
	PemsReport bare = *work->report;
	Datum values[2];
	PemsRow row;

	/* what the database refused may be one of these, so they are left out */
	bare.mirror_data = bare.mirror_patch = bare.response = NULL;
	give_up_statement.types[0] = pems_report_type();
	values[0] = pems_report_value(&bare);
	values[1] = CStringGetTextDatum(work->reason);
	pems_statement_run(&give_up_statement, pems_transaction_schema(), values, NULL);
	row = pems_statement_row(&give_up_statement, 0);
	*work->messages = pems_row_texts(&row, 0, work->context);
}

PemsDatabaseStatus
pems_database_give_up(const PemsReport *report, const char *reason, PemsTexts *messages)
{
	GiveUpWork work = {CurrentMemoryContext, report, reason, messages};

	return pems_transaction_run("giving up an item", PEMS_TABLES_OURS, give_up, &work);
}

/* --- what the application sees --- */

static PemsStatement mark_failed_statement = {
	.text = "SELECT %s._pems_mark_failed($1)",
	.result = SPI_OK_SELECT,
	.argument_count = 1,
	.types = {TEXTARRAYOID},
};

static PemsStatement mark_syncing_statement = {
	.text = "SELECT %s._pems_mark_syncing($1)",
	.result = SPI_OK_SELECT,
	.argument_count = 1,
	.types = {TEXTARRAYOID},
};

typedef struct MarkWork
{
	PemsStatement *statement;
	const char *const *item_ids;
	int count;
} MarkWork;

static void
mark(void *argument)
{
	MarkWork *work = argument;
	Datum values[] = {pems_text_array(work->item_ids, work->count)};

	pems_transaction_begin_timed_write(work->count);
	pems_statement_run(work->statement, pems_transaction_schema(), values, NULL);
	pems_transaction_end_timed_write();
}

PemsDatabaseStatus
pems_database_mark_failed(const char *item_id)
{
	MarkWork work = {&mark_failed_statement, &item_id, 1};

	return pems_transaction_run("marking a modification as failed", PEMS_TABLES_APPLICATION, mark,
								&work);
}

PemsDatabaseStatus
pems_database_mark_syncing(const char *const *item_ids, int count)
{
	MarkWork work = {&mark_syncing_statement, item_ids, count};

	return pems_transaction_run("marking slow requests", PEMS_TABLES_APPLICATION, mark, &work);
}
