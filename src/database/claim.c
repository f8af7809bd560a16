/*
 * database/claim.c
 *		Which items the worker takes next, and what it learns of them.
 *
 * Process: the background worker.  pems_claim_run() runs inside the transaction of an exchange;
 * each function of database.h is a transaction of its own.
 *
 * Memory: each claimed item has a memory context of its own, with all its texts.  Texts of an
 * item for which there is no room are not read; their size is known before.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "database/array.h"
#include "database/claim.h"
#include "database/database.h"
#include "database/statement.h"
#include "database/transaction.h"

/* --- statements --- */

typedef enum ItemColumn
{
	ITEM_ID,
	CLAIM_TOKEN,
	ORGANIZATION_ID,
	PFA_ID,
	OPERATION,
	NEXT_REQUEST,
	ATTEMPT,
	RETRY_COUNT,
	MAX_RETRIES,
	ROUNDS,
	OUTCOME_UNKNOWN,
	PREVIOUS_VERSION,
	PAYLOAD,
	BASE_VERSION,
	MIRROR_VERSION,
	MIRROR_DELETED,
	CREATED_BY,
	CHANGE_REASON,
	BASE_DATA,
	OWN_DATA,
	MIRROR_DATA,
	MODIFICATION_ID,
	JOB_ID,
	PRIORITY,
	SCHEDULED_AT,
	COMMIT_SEQ,
	KNOWN_VERSION,
	BASE_IS_MIRROR,
	TOO_LARGE,
	OTHER_BASES
} ItemColumn;

static const PemsColumn item_columns[] = {
	[ITEM_ID] = {"item_id", TEXTOID},
	[CLAIM_TOKEN] = {"claim_token", INT8OID},
	[ORGANIZATION_ID] = {"organization_id", TEXTOID},
	[PFA_ID] = {"pfa_id", TEXTOID},
	[OPERATION] = {"operation", TEXTOID},
	[NEXT_REQUEST] = {"next_request", TEXTOID},
	[ATTEMPT] = {"attempt", INT4OID},
	[RETRY_COUNT] = {"retry_count", INT4OID},
	[MAX_RETRIES] = {"max_retries", INT4OID},
	[ROUNDS] = {"rounds", INT4OID},
	[OUTCOME_UNKNOWN] = {"outcome_unknown", BOOLOID},
	[PREVIOUS_VERSION] = {"previous_version", INT4OID},
	[PAYLOAD] = {"payload", JSONBOID},
	[BASE_VERSION] = {"base_version", INT4OID},
	[MIRROR_VERSION] = {"mirror_version", INT4OID},
	[MIRROR_DELETED] = {"mirror_deleted", BOOLOID},
	[CREATED_BY] = {"created_by", TEXTOID},
	[CHANGE_REASON] = {"change_reason", TEXTOID},
	[BASE_DATA] = {"base_data", JSONBOID},
	[OWN_DATA] = {"own_data", JSONBOID},
	[MIRROR_DATA] = {"mirror_data", JSONBOID},
	[MODIFICATION_ID] = {"modification_id", TEXTOID},
	[JOB_ID] = {"job_id", TEXTOID},
	[PRIORITY] = {"priority", INT4OID},
	[SCHEDULED_AT] = {"scheduled_at", TIMESTAMPTZOID},
	[COMMIT_SEQ] = {"commit_seq", INT8OID},
	[KNOWN_VERSION] = {"known_version", INT4OID},
	[BASE_IS_MIRROR] = {"base_is_mirror", BOOLOID},
	[TOO_LARGE] = {"too_large", BOOLOID},
	[OTHER_BASES] = {"other_bases", JSONBOID},
};
static PemsStatement claim_statement = {
	.text = "SELECT * FROM %s._pems_claim($1, $2, $3, $4)",
	.result = SPI_OK_SELECT,
	.argument_count = 4,
	.types = {TEXTARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID},
	.columns = PEMS_COLUMNS("_pems_claim()", item_columns),
};

typedef enum FirstColumn
{
	FIRST_TURN,
	FIRST_PRIORITY,
	FIRST_SCHEDULED_AT,
	FIRST_COMMIT_SEQ
} FirstColumn;

static const PemsColumn first_columns[] = {
	[FIRST_TURN] = {"turn", INT8OID},
	[FIRST_PRIORITY] = {"priority", INT4OID},
	[FIRST_SCHEDULED_AT] = {"scheduled_at", TIMESTAMPTZOID},
	[FIRST_COMMIT_SEQ] = {"commit_seq", INT8OID},
};
static PemsStatement first_ready_statement = {
	.text = "SELECT * FROM %s._pems_first_ready($1, $2, $3)",
	.result = SPI_OK_SELECT,
	.argument_count = 3,
	.types = {TEXTARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID},
	.columns = PEMS_COLUMNS("_pems_first_ready()", first_columns),
};

typedef enum PostponedColumn
{
	POSTPONED_ITEM_ID,
	POSTPONED_FAILED,
	POSTPONED_MESSAGES
} PostponedColumn;

static const PemsColumn postponed_columns[] = {
	[POSTPONED_ITEM_ID] = {"item_id", TEXTOID},
	[POSTPONED_FAILED] = {"failed", BOOLOID},
	[POSTPONED_MESSAGES] = {"messages", TEXTARRAYOID},
};
static PemsStatement postpone_statement = {
	.text = "SELECT * FROM %s._pems_postpone_first($1, $2, $3, $4)",
	.result = SPI_OK_SELECT,
	.argument_count = 4,
	.types = {TEXTOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, TEXTOID},
	.columns = PEMS_COLUMNS("_pems_postpone_first()", postponed_columns),
};

/* --- where claims begin: a position for each organization and priority --- */

/* The index of a priority in such arrays: high is 10, normal 0, low -10. */
static int
priority_index(int priority)
{
	if (priority > 0)
		return 0;
	return priority == 0 ? 1 : 2;
}

/* Two arrays of what the positions consist of. */
static void
position_arrays(const PemsPosition *positions, int count, Datum *at, Datum *seq)
{
	TimestampTz *times = palloc(sizeof(TimestampTz) * Max(count, 1));
	int64 *numbers = palloc(sizeof(int64) * Max(count, 1));

	for (int i = 0; i < count; i++)
	{
		times[i] = positions[i].scheduled_at;
		numbers[i] = positions[i].commit_seq;
	}
	*at = pems_timestamp_array(times, count);
	*seq = pems_bigint_array(numbers, count);
}

/* --- the first that is ready --- */

/*
 * Of some organizations, for each of their priorities; each organization has PEMS_PRIORITIES
 * positions.
 */
static void
find_first_ready(const char *const *organization_ids, const PemsPosition *positions, int count)
{
	Datum values[3];

	values[0] = pems_text_array(organization_ids, count);
	position_arrays(positions, count * PEMS_PRIORITIES, &values[1], &values[2]);
	pems_statement_run(&first_ready_statement, pems_transaction_schema(), values, NULL);
}

static int
first_priority_index(const PemsRow *row)
{
	return priority_index((int) pems_row_integer(row, FIRST_PRIORITY, 0));
}

static PemsPosition
first_position(const PemsRow *row)
{
	return (PemsPosition){pems_row_timestamp(row, FIRST_SCHEDULED_AT, 0),
						  pems_row_integer(row, FIRST_COMMIT_SEQ, 0)};
}

/*
 * Where nothing is ready: whatever is from now on will be announced.  (This moment and not the end
 * of time, so that a poll finds also what somebody made ready with the triggers off.)
 */
static void
move_to_now(PemsGrant *grant)
{
	TimestampTz now = GetCurrentTransactionStartTimestamp();

	for (int index = 0; index < PEMS_PRIORITIES; index++)
	{
		if (grant->after[index].scheduled_at < now)
			grant->after[index] = (PemsPosition){now, PG_INT64_MIN};
		grant->passed[index] = grant->after[index];
	}
}

static void
move_before(PemsGrant *grant, const PemsRow *row)
{
	int index = first_priority_index(row);
	PemsPosition position = first_position(row);

	position.commit_seq--;
	grant->after[index] = position;
	grant->passed[index] = position;
}

/* These grants move to just before the first ready item of each priority. */
static void
move_to_first_ready(PemsGrant **grants, int count)
{
	const char **ids = palloc(sizeof(char *) * count);
	PemsPosition *positions = palloc(sizeof(PemsPosition) * count * PEMS_PRIORITIES);

	for (int i = 0; i < count; i++)
	{
		ids[i] = grants[i]->organization_id;
		memcpy(&positions[i * PEMS_PRIORITIES], grants[i]->passed, sizeof(grants[i]->passed));
		move_to_now(grants[i]);
	}
	find_first_ready(ids, positions, count);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		PemsRow row = pems_statement_row(&first_ready_statement, i);

		move_before(grants[pems_row_integer(&row, FIRST_TURN, 0) - 1], &row);
	}
}

static void
make_thorough(PemsExchange *exchange)
{
	PemsGrant **thorough = palloc(sizeof(PemsGrant *) * exchange->grant_count);
	int count = 0;

	for (int i = 0; i < exchange->grant_count; i++)
		if (exchange->grants[i].thorough)
			thorough[count++] = &exchange->grants[i];
	if (count > 0)
		move_to_first_ready(thorough, count);
}

/* --- claim --- */

/* What may be long. */
static const ItemColumn long_columns[] = {PAYLOAD,  CREATED_BY,  CHANGE_REASON, BASE_DATA,
										  OWN_DATA, MIRROR_DATA, OTHER_BASES};

/* How much memory these take, without reading them. */
static int64
size_of_texts(const PemsRow *row)
{
	int64 size = 0;

	for (int i = 0; i < (int) lengthof(long_columns); i++)
		size += pems_row_size(row, long_columns[i]);
	return size;
}

static void
read_texts(const PemsRow *row, PemsItem *item)
{
	item->payload = pems_row_json(row, PAYLOAD, item->memory);
	item->created_by = pems_row_text(row, CREATED_BY, item->memory);
	item->change_reason = pems_row_text(row, CHANGE_REASON, item->memory);
	item->base_data = pems_row_json(row, BASE_DATA, item->memory);
	item->own_data = pems_row_json(row, OWN_DATA, item->memory);
	item->mirror_data = pems_row_json(row, MIRROR_DATA, item->memory);
	item->other_bases = pems_row_json(row, OTHER_BASES, item->memory);
}

static void
read_identity(const PemsRow *row, PemsItem *item)
{
	char *operation = pems_row_text(row, OPERATION, CurrentMemoryContext);

	item->id = pems_row_text(row, ITEM_ID, item->memory);
	item->claim_token = pems_row_integer(row, CLAIM_TOKEN, 0);
	item->organization_id = pems_row_text(row, ORGANIZATION_ID, item->memory);
	item->pfa_id = pems_row_text(row, PFA_ID, item->memory);
	item->modification_id = pems_row_text(row, MODIFICATION_ID, item->memory);
	item->job_id = pems_row_text(row, JOB_ID, item->memory);
	item->priority_index = priority_index((int) pems_row_integer(row, PRIORITY, 0));
	item->position.scheduled_at = pems_row_timestamp(row, SCHEDULED_AT, 0);
	item->position.commit_seq = pems_row_integer(row, COMMIT_SEQ, 0);
	item->is_delete = strcmp(operation, "DELETE") == 0;
}

static void
read_progress(const PemsRow *row, PemsItem *item)
{
	item->step = pems_transition_step(pems_row_text(row, NEXT_REQUEST, CurrentMemoryContext));
	item->attempt = (int) pems_row_integer(row, ATTEMPT, 0);
	item->retry_count = (int) pems_row_integer(row, RETRY_COUNT, 0);
	item->max_retries = (int) pems_row_integer(row, MAX_RETRIES, 0);
	item->rounds = (int) pems_row_integer(row, ROUNDS, 0);
	item->outcome_unknown = pems_row_boolean(row, OUTCOME_UNKNOWN);
	item->too_large = pems_row_boolean(row, TOO_LARGE);
}

static void
read_versions(const PemsRow *row, PemsItem *item)
{
	item->previous_version = pems_row_integer(row, PREVIOUS_VERSION, PEMS_NO_VERSION);
	item->known_version = pems_row_integer(row, KNOWN_VERSION, PEMS_NO_VERSION);
	item->base_version = pems_row_integer(row, BASE_VERSION, PEMS_NO_VERSION);
	item->mirror_version = pems_row_integer(row, MIRROR_VERSION, PEMS_NO_VERSION);
	item->mirror_deleted = pems_row_boolean(row, MIRROR_DELETED);
	item->base_is_mirror = pems_row_boolean(row, BASE_IS_MIRROR);
}

/* What there is no room for is not read, and goes back into the queue. */
static void
read_items(MemoryContext context, PemsExchange *exchange)
{
	int64 room = exchange->room;

	exchange->item_count = (int) SPI_processed;
	exchange->items = MemoryContextAllocZero(context, sizeof(PemsItem) * Max(SPI_processed, 1));
	for (int i = 0; i < exchange->item_count; i++)
	{
		PemsItem *item = &exchange->items[i];
		PemsRow row = pems_statement_row(&claim_statement, i);
		int64 size = size_of_texts(&row);

		item->memory = AllocSetContextCreate(context, "pems_sync item", ALLOCSET_SMALL_SIZES);
		read_identity(&row, item);
		read_progress(&row, item);
		read_versions(&row, item);
		item->put_back = size > room && !(exchange->one_fits_always && i == 0);
		if (item->put_back)
			exchange->room_missing = Max(exchange->room_missing, size);
		else
			read_texts(&row, item);
		room -= MemoryContextMemAllocated(item->memory, true);
	}
}

static void
claim(PemsExchange *exchange)
{
	int count = exchange->grant_count;
	const char **ids = palloc(sizeof(char *) * count);
	int32 *slots = palloc(sizeof(int32) * count);
	PemsPosition *after = palloc(sizeof(PemsPosition) * count * PEMS_PRIORITIES);
	Datum values[4];

	for (int i = 0; i < count; i++)
	{
		ids[i] = exchange->grants[i].organization_id;
		slots[i] = exchange->grants[i].slots;
		memcpy(&after[i * PEMS_PRIORITIES], exchange->grants[i].after,
			   sizeof(exchange->grants[i].after));
	}
	values[0] = pems_text_array(ids, count);
	values[1] = pems_integer_array(slots, count);
	position_arrays(after, count * PEMS_PRIORITIES, &values[2], &values[3]);
	pems_statement_run(&claim_statement, pems_transaction_schema(), values, NULL);
}

void
pems_claim_run(PemsExchange *exchange, MemoryContext context)
{
	make_thorough(exchange);
	claim(exchange);
	read_items(context, exchange);
}

/* --- what cannot be claimed --- */

typedef struct PostponeWork
{
	MemoryContext context;
	const PemsGrant *grant;
	const char *reason;
	PemsPostponed *postponed;
} PostponeWork;

static void
postpone_first(void *argument)
{
	PostponeWork *work = argument;
	Datum values[4];
	PemsRow row;

	values[0] = CStringGetTextDatum(work->grant->organization_id);
	position_arrays(work->grant->after, PEMS_PRIORITIES, &values[1], &values[2]);
	values[3] = CStringGetTextDatum(work->reason);
	pems_statement_run(&postpone_statement, pems_transaction_schema(), values, NULL);
	row = pems_statement_row(&postpone_statement, 0);
	work->postponed->item_id = pems_row_text(&row, POSTPONED_ITEM_ID, work->context);
	work->postponed->failed = pems_row_boolean(&row, POSTPONED_FAILED);
	work->postponed->messages = pems_row_texts(&row, POSTPONED_MESSAGES, work->context);
}

PemsDatabaseStatus
pems_database_postpone_first(const PemsGrant *grant, const char *reason, PemsPostponed *postponed)
{
	PostponeWork work = {CurrentMemoryContext, grant, reason, postponed};

	memset(postponed, 0, sizeof(*postponed));
	return pems_transaction_run("postponing an item", PEMS_TABLES_OURS, postpone_first, &work);
}

typedef struct SkipWork
{
	PemsGrant *grant;
	bool *moved;
} SkipWork;

static void
skip_first(void *argument)
{
	SkipWork *work = argument;
	PemsPosition position = {0, 0};
	int best = PEMS_PRIORITIES;

	find_first_ready(&work->grant->organization_id, work->grant->after, 1);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		PemsRow row = pems_statement_row(&first_ready_statement, i);

		if (first_priority_index(&row) >= best)
			continue;
		best = first_priority_index(&row);
		position = first_position(&row);
	}
	*work->moved = best < PEMS_PRIORITIES;
	if (*work->moved)
		work->grant->after[best] = position;
}

PemsDatabaseStatus
pems_database_skip_first(PemsGrant *grant, bool *moved)
{
	SkipWork work = {grant, moved};

	*moved = false;
	return pems_transaction_run("looking behind an item", PEMS_TABLES_OURS, skip_first, &work);
}
