/*
 * database/pulls.c
 *		The worker's transactions for read sync; see pulls.h.
 *
 * Process: the background worker.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "database/array.h"
#include "database/pulls.h"
#include "database/statement.h"
#include "database/transaction.h"
#include "shared/failpoint.h"

/* The result of the functions that return messages for listeners. */
static const PemsColumn message_columns[] = {{"messages", TEXTARRAYOID}};
#define MESSAGE_COLUMNS PEMS_COLUMNS("a pull's messages", message_columns)

/* Messages of the statement that was just run, in that context. */
static PemsTexts
read_messages(const PemsStatement *statement, MemoryContext context)
{
	PemsRow row = pems_statement_row(statement, 0);

	return pems_row_texts(&row, 0, context);
}

/* --- what may go on --- */

static PemsStatement schedule_statement = {
	.text = "SELECT %s._pems_pull_schedule($1)",
	.result = SPI_OK_SELECT,
	.argument_count = 1,
	.types = {TEXTARRAYOID},
};

typedef enum TimeColumn
{
	TIME_ORGANIZATION_ID,
	TIME_NEXT_AT
} TimeColumn;

static const PemsColumn time_columns[] = {
	[TIME_ORGANIZATION_ID] = {"organization_id", TEXTOID},
	[TIME_NEXT_AT] = {"next_at", TIMESTAMPTZOID},
};
static PemsStatement times_statement = {
	.text = "SELECT * FROM %s._pems_pull_times($1)",
	.result = SPI_OK_SELECT,
	.argument_count = 1,
	.types = {TEXTARRAYOID},
	.columns = PEMS_COLUMNS("_pems_pull_times()", time_columns),
};

typedef enum DueColumn
{
	DUE_JOB_ID,
	DUE_ORGANIZATION_ID,
	DUE_PHASE,
	DUE_ASKED,
	DUE_UPDATED_SINCE,
	DUE_CURSOR,
	DUE_REQUESTS,
	DUE_FAILURES,
	DUE_RESTARTED,
	DUE_GONE_BEFORE,
	DUE_CURSOR_COUNT,
	DUE_CURSOR_LAST,
	DUE_CURSOR_KEPT
} DueColumn;

static const PemsColumn due_columns[] = {
	[DUE_JOB_ID] = {"job_id", TEXTOID},
	[DUE_ORGANIZATION_ID] = {"organization_id", TEXTOID},
	[DUE_PHASE] = {"phase", TEXTOID},
	[DUE_ASKED] = {"asked", TEXTOID},
	[DUE_UPDATED_SINCE] = {"updated_since", TEXTOID},
	[DUE_CURSOR] = {"cursor", TEXTOID},
	[DUE_REQUESTS] = {"requests", INT4OID},
	[DUE_FAILURES] = {"failures", INT4OID},
	[DUE_RESTARTED] = {"restarted", BOOLOID},
	[DUE_GONE_BEFORE] = {"gone_before", BOOLOID},
	[DUE_CURSOR_COUNT] = {"cursor_count", INT8OID},
	[DUE_CURSOR_LAST] = {"cursor_last", INT8OID},
	[DUE_CURSOR_KEPT] = {"cursor_kept", INT8OID},
};
static PemsStatement due_statement = {
	.text = "SELECT * FROM %s._pems_pull_due($1, $2)",
	.result = SPI_OK_SELECT,
	.argument_count = 2,
	.types = {TEXTARRAYOID, INT4OID},
	.columns = PEMS_COLUMNS("_pems_pull_due()", due_columns),
};

typedef struct LookWork
{
	MemoryContext context;
	const char *const *organization_ids;
	int count;
	int most; /* 0: only the times */
	PemsPullLook *look;
} LookWork;

static void
read_phase(PemsPullWork *work, const char *phase)
{
	if (strcmp(phase, "listing") == 0)
		work->phase = PEMS_PULL_LISTING;
	else if (strcmp(phase, "reading") == 0)
		work->phase = PEMS_PULL_SINGLE;
	else if (strcmp(phase, "confirming") == 0)
		work->phase = PEMS_PULL_CONFIRMING;
	else
		work->searches = true;
}

static PemsPullWork
read_work(const PemsRow *row, MemoryContext context)
{
	PemsPullWork work = {
		.job_id = pems_row_text(row, DUE_JOB_ID, context),
		.organization_id = pems_row_text(row, DUE_ORGANIZATION_ID, context),
		.asked = pems_row_text(row, DUE_ASKED, context),
		.updated_since = pems_row_text(row, DUE_UPDATED_SINCE, context),
		.cursor = pems_row_text(row, DUE_CURSOR, context),
		.requests = pems_row_integer(row, DUE_REQUESTS, 0),
		.failures = (int) pems_row_integer(row, DUE_FAILURES, 0),
		.restarted = pems_row_boolean(row, DUE_RESTARTED),
		.gone_before = pems_row_boolean(row, DUE_GONE_BEFORE),
		.cursors = {.seen = pems_row_integer(row, DUE_CURSOR_COUNT, 0),
					.last = pems_row_integer(row, DUE_CURSOR_LAST, 0),
					.kept = pems_row_integer(row, DUE_CURSOR_KEPT, 0)},
	};

	read_phase(&work, pems_row_text(row, DUE_PHASE, context));
	return work;
}

static void
find_due(LookWork *work, Datum organization_ids)
{
	PemsPullLook *look = work->look;
	Datum values[] = {organization_ids, Int32GetDatum(work->most)};

	pems_statement_run(&due_statement, pems_transaction_schema(), values, NULL);
	look->work_count = (int) SPI_processed;
	look->works =
		MemoryContextAllocZero(work->context, sizeof(PemsPullWork) * Max(look->work_count, 1));
	for (int i = 0; i < look->work_count; i++)
	{
		PemsRow row = pems_statement_row(&due_statement, i);

		look->works[i] = read_work(&row, work->context);
	}
}

static void
find_times(LookWork *work, Datum organization_ids)
{
	PemsPullLook *look = work->look;

	pems_statement_run(&times_statement, pems_transaction_schema(), &organization_ids, NULL);
	look->time_count = (int) SPI_processed;
	look->times =
		MemoryContextAllocZero(work->context, sizeof(PemsPullTime) * Max(look->time_count, 1));
	for (int i = 0; i < look->time_count; i++)
	{
		PemsRow row = pems_statement_row(&times_statement, i);

		look->times[i] = (PemsPullTime){pems_row_text(&row, TIME_ORGANIZATION_ID, work->context),
										pems_row_timestamp(&row, TIME_NEXT_AT, DT_NOEND)};
	}
}

static void
do_look(void *argument)
{
	LookWork *work = argument;
	Datum organization_ids = pems_text_array(work->organization_ids, work->count);

	pems_statement_run(&schedule_statement, pems_transaction_schema(), &organization_ids, NULL);
	if (work->most > 0)
		find_due(work, organization_ids);
	find_times(work, organization_ids);
	if (work->look->work_count > 0)
		PEMS_FAILPOINT("pull_start_uncommitted");
}

PemsDatabaseStatus
pems_database_pull_start(const char *const *organization_ids, int count, int most,
						 PemsPullLook *look)
{
	LookWork work = {CurrentMemoryContext, organization_ids, count, most, look};

	*look = (PemsPullLook){0};
	return pems_transaction_run("looking for pulls", PEMS_TABLES_APPLICATION, do_look, &work);
}

PemsDatabaseStatus
pems_database_pull_look(const char *const *organization_ids, int count, PemsPullLook *look)
{
	return pems_database_pull_start(organization_ids, count, 0, look);
}

/* --- storing --- */

typedef enum StoreColumn
{
	STORE_OURS,
	STORE_CHANGED,
	STORE_CREATED,
	STORE_UPDATED,
	STORE_DELETED
} StoreColumn;

static const PemsColumn store_columns[] = {
	[STORE_OURS] = {"ours", BOOLOID},       [STORE_CHANGED] = {"changed", TEXTARRAYOID},
	[STORE_CREATED] = {"created", INT4OID}, [STORE_UPDATED] = {"updated", INT4OID},
	[STORE_DELETED] = {"deleted", INT4OID},
};
static PemsStatement store_statement = {
	.text = "SELECT s.ours, s.changed, s.counts[1] AS created, s.counts[2] AS updated, "
			"s.counts[3] AS deleted "
			"FROM %s._pems_pull_store($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) s",
	.result = SPI_OK_SELECT,
	.argument_count = 11,
	.types = {TEXTOID, INT4OID, TEXTARRAYOID, INT4ARRAYOID, BOOLARRAYOID, TEXTARRAYOID,
			  TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, BOOLARRAYOID},
	.columns = PEMS_COLUMNS("_pems_pull_store()", store_columns),
};

static PemsStatement page_done_statement = {
	.text = "SELECT %s._pems_pull_page_done($1, $2, $3, $4, $5, $6, $7, $8, $9) AS messages",
	.result = SPI_OK_SELECT,
	.argument_count = 9,
	.types = {TEXTOID, INT4OID, TEXTOID, INT8OID, INT8OID, INT8OID, TEXTOID, TEXTARRAYOID,
			  INT4ARRAYOID},
	.columns = MESSAGE_COLUMNS,
};

/* Of records that can be stored, or that cannot, what the statement takes as arrays. */
typedef struct Good
{
	const char **pfa_ids;
	int32 *versions;
	bool *deleted;
	const char **authors;
	const char **records;
	int count;
} Good;

typedef struct Bad
{
	const char **pfa_ids;
	const char **reasons;
	const char **raws;
	bool *seen;
	int count;
} Bad;

static void
add_good(Good *good, const PemsPageRecord *record)
{
	int i = good->count++;

	good->pfa_ids[i] = record->pfa_id;
	good->versions[i] = record->version;
	good->deleted[i] = record->deleted;
	good->authors[i] = record->modified_by;
	good->records[i] = record->data;
}

/* reason: why the database refuses it, or NULL: it says so itself. */
static void
add_bad(Bad *bad, const PemsPageRecord *record, const char *reason)
{
	int i = bad->count++;

	bad->pfa_ids[i] = record->pfa_id;
	bad->reasons[i] = reason ? reason : record->problem;
	bad->raws[i] = record->raw ? record->raw : record->data;
	bad->seen[i] = record->identified;
}

static void
sort_records(const PemsPullSlice *slice, Good *good, Bad *bad)
{
	size_t room = Max(slice->count, 1);

	*good = (Good){palloc(sizeof(char *) * room), palloc(sizeof(int32) * room),
				   palloc(sizeof(bool) * room),   palloc(sizeof(char *) * room),
				   palloc(sizeof(char *) * room), 0};
	*bad = (Bad){palloc(sizeof(char *) * room), palloc(sizeof(char *) * room),
				 palloc(sizeof(char *) * room), palloc(sizeof(bool) * room), 0};
	for (size_t i = slice->first; i < slice->first + slice->count; i++)
	{
		const PemsPageRecord *record = &slice->page->records[i];

		if (record->problem != NULL || slice->refused != NULL)
			add_bad(bad, record, slice->refused);
		else
			add_good(good, record);
	}
}

static void
store_records(PemsPullSlice *slice)
{
	Good good;
	Bad bad;
	Datum values[11];

	sort_records(slice, &good, &bad);
	values[0] = CStringGetTextDatum(slice->job_id);
	values[1] = Int32GetDatum((int32) slice->first);
	values[2] = pems_text_array(good.pfa_ids, good.count);
	values[3] = pems_integer_array(good.versions, good.count);
	values[4] = pems_boolean_array(good.deleted, good.count);
	values[5] = pems_text_array(good.authors, good.count);
	values[6] = pems_text_array(good.records, good.count);
	values[7] = pems_text_array(bad.pfa_ids, bad.count);
	values[8] = pems_text_array(bad.reasons, bad.count);
	values[9] = pems_text_array(bad.raws, bad.count);
	values[10] = pems_boolean_array(bad.seen, bad.count);
	pems_transaction_begin_timed_write((int) slice->count);
	pems_statement_run(&store_statement, pems_transaction_schema(), values, NULL);
	pems_transaction_end_timed_write();
}

/* Listeners are told of so many records of a page by name; of one more, only how many. */
#define NAMED_MAXIMUM 100

/* What this slice has changed comes to what others of its page have. */
static void
add_changes(PemsPullSlice *slice, const PemsRow *row, MemoryContext context)
{
	PemsTexts here = pems_row_texts(row, STORE_CHANGED, context);
	int most = NAMED_MAXIMUM + 1 - slice->changed.count;
	char **all = MemoryContextAlloc(context, sizeof(char *) * (NAMED_MAXIMUM + 1));

	for (int i = 0; i < slice->changed.count; i++)
		all[i] = slice->changed.texts[i];
	for (int i = 0; i < Min(here.count, most); i++)
		all[slice->changed.count++] = here.texts[i];
	slice->changed.texts = all;
	slice->counts[0] += (int32) pems_row_integer(row, STORE_CREATED, 0);
	slice->counts[1] += (int32) pems_row_integer(row, STORE_UPDATED, 0);
	slice->counts[2] += (int32) pems_row_integer(row, STORE_DELETED, 0);
}

static Datum
text_or_null(const char *text, char *null)
{
	*null = text == NULL ? 'n' : ' ';
	return text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

static void
end_page(PemsPullSlice *slice, MemoryContext context)
{
	const PemsPage *page = slice->page;
	Datum values[9];
	char nulls[10] = "         ";

	values[0] = CStringGetTextDatum(slice->job_id);
	values[1] = Int32GetDatum((int32) page->repeated);
	values[2] = text_or_null(page->next_cursor, &nulls[2]);
	values[3] = Int64GetDatum(slice->cursors.seen);
	values[4] = Int64GetDatum(slice->cursors.last);
	values[5] = Int64GetDatum(slice->cursors.kept);
	values[6] = text_or_null(page->newest_updated_at, &nulls[6]);
	values[7] = pems_text_array((const char *const *) slice->changed.texts, slice->changed.count);
	values[8] = pems_integer_array(slice->counts, 3);
	pems_statement_run(&page_done_statement, pems_transaction_schema(), values, nulls);
	slice->messages = read_messages(&page_done_statement, context);
}

typedef struct StoreWork
{
	MemoryContext context;
	PemsPullSlice *slice;
} StoreWork;

static void
do_store(void *argument)
{
	StoreWork *work = argument;
	PemsPullSlice *slice = work->slice;
	PemsRow row;

	pems_statement_watch_sizes(pems_transaction_schema());
	store_records(slice);
	row = pems_statement_row(&store_statement, 0);
	slice->ours = pems_row_boolean(&row, STORE_OURS);
	if (!slice->ours)
		return;
	add_changes(slice, &row, work->context);
	if (slice->is_last)
		end_page(slice, work->context);
	PEMS_FAILPOINT("pull_slice_uncommitted");
}

PemsDatabaseStatus
pems_database_pull_store(PemsPullSlice *slice)
{
	StoreWork work = {CurrentMemoryContext, slice};

	slice->messages = (PemsTexts){NULL, 0};
	return pems_transaction_run("storing records of a pull", PEMS_TABLES_APPLICATION, do_store,
								&work);
}

/* --- what failed, what is gone --- */

static PemsStatement failed_statement = {
	.text =
		"SELECT ARRAY(SELECT m FROM unnest(%s._pems_pull_failed($1, $2, $3, $4, $5, $6, $7, $8, "
		"$9)) m WHERE m IS NOT NULL) AS messages",
	.result = SPI_OK_SELECT,
	.argument_count = 9,
	.types = {TEXTOID, INT8OID, INT4OID, BOOLOID, TEXTOID, TEXTOID, BOOLOID, BOOLOID, BOOLOID},
	.columns = MESSAGE_COLUMNS,
};
static PemsStatement gone_statement = {
	.text = "SELECT %s._pems_pull_gone($1, $2, $3) AS messages",
	.result = SPI_OK_SELECT,
	.argument_count = 3,
	.types = {TEXTOID, BOOLOID, TEXTOID},
	.columns = MESSAGE_COLUMNS,
};
static PemsStatement searched_statement = {
	.text = "SELECT %s._pems_pull_searched($1, $2) AS messages",
	.result = SPI_OK_SELECT,
	.argument_count = 2,
	.types = {TEXTOID, TEXTOID},
	.columns = MESSAGE_COLUMNS,
};

/* A call that returns messages. */
typedef struct MessageWork
{
	MemoryContext context;
	PemsStatement *statement;
	const Datum *values;
	const char *nulls;
	PemsTexts *messages;
} MessageWork;

static void
do_message(void *argument)
{
	MessageWork *work = argument;

	/* what is gone is marked in the application's table, which may have triggers */
	if (work->statement == &gone_statement)
		pems_transaction_begin_timed_write(1);
	pems_statement_run(work->statement, pems_transaction_schema(), work->values, work->nulls);
	if (work->statement == &gone_statement)
		pems_transaction_end_timed_write();
	*work->messages = read_messages(work->statement, work->context);
	PEMS_FAILPOINT("pull_step_uncommitted");
}

static PemsDatabaseStatus
run_message(const char *activity, PemsStatement *statement, const Datum *values, const char *nulls,
			PemsTexts *messages)
{
	MessageWork work = {CurrentMemoryContext, statement, values, nulls, messages};

	*messages = (PemsTexts){NULL, 0};
	return pems_transaction_run(activity, PEMS_TABLES_APPLICATION, do_message, &work);
}

PemsDatabaseStatus
pems_database_pull_failed(const char *job_id, const PemsPullNext *next, PemsTexts *messages)
{
	const char *error = next->error.text[0] ? next->error.text : NULL;
	char nulls[10] = "         ";
	Datum values[9];

	values[0] = CStringGetTextDatum(job_id);
	values[1] = Int64GetDatum(next->delay_ms);
	values[2] = Int32GetDatum(next->failures);
	values[3] = BoolGetDatum(next->gone_before);
	values[4] = text_or_null(next->error_code, &nulls[4]);
	values[5] = text_or_null(error, &nulls[5]);
	values[6] = BoolGetDatum(next->action == PEMS_PULL_BEGIN_AGAIN);
	values[7] = BoolGetDatum(next->action == PEMS_PULL_FAIL);
	values[8] = BoolGetDatum(next->action == PEMS_PULL_PAUSE_ORGANIZATION);
	return run_message("recording a failure of a pull", &failed_statement, values, nulls, messages);
}

PemsDatabaseStatus
pems_database_pull_gone(const char *job_id, bool gone, const char *refused, PemsTexts *messages)
{
	char nulls[4] = "   ";
	Datum values[3];

	values[0] = CStringGetTextDatum(job_id);
	values[1] = BoolGetDatum(gone);
	values[2] = text_or_null(refused, &nulls[2]);
	return run_message("recording what is gone", &gone_statement, values, nulls, messages);
}

/* --- what is missing --- */

typedef enum SearchColumn
{
	SEARCH_DONE,
	SEARCH_KNOWN,
	SEARCH_MISSING
} SearchColumn;

static const PemsColumn search_columns[] = {
	[SEARCH_DONE] = {"done", BOOLOID},
	[SEARCH_KNOWN] = {"known", INT8OID},
	[SEARCH_MISSING] = {"missing", INT8OID},
};
static PemsStatement search_statement = {
	.text = "SELECT * FROM %s._pems_pull_search($1, $2)",
	.result = SPI_OK_SELECT,
	.argument_count = 2,
	.types = {TEXTOID, INT4OID},
	.columns = PEMS_COLUMNS("_pems_pull_search()", search_columns),
};

typedef struct SearchWork
{
	const char *job_id;
	int most;
	PemsPullSearch *search;
} SearchWork;

static void
do_search(void *argument)
{
	SearchWork *work = argument;
	Datum values[] = {CStringGetTextDatum(work->job_id), Int32GetDatum(work->most)};
	PemsRow row;

	pems_statement_watch_sizes(pems_transaction_schema());
	pems_statement_run(&search_statement, pems_transaction_schema(), values, NULL);
	row = pems_statement_row(&search_statement, 0);
	work->search->done = pems_row_boolean(&row, SEARCH_DONE);
	work->search->known = pems_row_integer(&row, SEARCH_KNOWN, 0);
	work->search->missing = pems_row_integer(&row, SEARCH_MISSING, 0);
	PEMS_FAILPOINT("pull_search_uncommitted");
}

PemsDatabaseStatus
pems_database_pull_search(const char *job_id, int most, PemsPullSearch *search)
{
	SearchWork work = {job_id, most, search};

	return pems_transaction_run("searching for records that a listing did not show",
								PEMS_TABLES_APPLICATION, do_search, &work);
}

PemsDatabaseStatus
pems_database_pull_searched(const char *job_id, const char *error, PemsTexts *messages)
{
	char nulls[3] = "  ";
	Datum values[2];

	values[0] = CStringGetTextDatum(job_id);
	values[1] = text_or_null(error, &nulls[1]);
	return run_message("ending a search", &searched_statement, values, nulls, messages);
}

/* --- what a dead worker left --- */

static PemsStatement put_back_statement = {
	.text = "SELECT %s._pems_pull_put_back()",
	.result = SPI_OK_SELECT,
};

static void
do_put_back(void *argument)
{
	pems_statement_run(&put_back_statement, pems_transaction_schema(), NULL, NULL);
}

PemsDatabaseStatus
pems_database_pull_put_back(void)
{
	return pems_transaction_run("taking up the pulls that the last worker left",
								PEMS_TABLES_APPLICATION, do_put_back, NULL);
}
