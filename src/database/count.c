/*
 * database/count.c
 *		What a statement did to the queue: the statistics, and what became ready.
 *
 * Process: any backend, and the worker; in the statement triggers of pfa_write_queue.
 *
 * In C, because it runs with every claim and every commit, and twenty aggregates of SQL took many
 * times as long.
 *
 * Memory: what is counted, in the context of the trigger call; kept for the process: the plan of
 * the INSERT and the numbers of columns.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "database/array.h"
#include "database/columns.h"
#include "database/statement.h"
#include "shared/shmem.h"

PG_FUNCTION_INFO_V1(pems_count_changes);

/* Upper bounds of the latency histogram, seconds; what is above them all is counted last. */
static const double latency_bounds[] = {0.1, 0.5, 1, 5, 15, 30, 60, 120, 300};
#define LATENCY_BUCKETS ((int) lengthof(latency_bounds) + 1)

/* The columns of pems_sync_stats that are sums, in the order of its columns. */
typedef enum Count
{
	COUNT_PENDING,
	COUNT_HELD,
	COUNT_PROCESSING,
	COUNT_FAILED,
	COUNT_CONFLICT,
	COUNT_QUEUED,
	COUNT_COMPLETED,
	COUNT_CANCELLED,
	COUNT_DEAD_LETTERED,
	COUNT_CONFLICTED,
	COUNT_COUNT
} Count;

/* What a statement did to the items of one organization. */
typedef struct Changes
{
	Datum organization_id;
	int64 counts[COUNT_COUNT];
	int64 latencies[LATENCY_BUCKETS];
	double sync_seconds;
	TimestampTz last_completed_at; /* DT_NOBEGIN: none */
	TimestampTz ready_from;        /* DT_NOEND: nothing became ready */
	struct Changes *next;
} Changes;

/* The columns of pfa_write_queue that are looked at. */
typedef enum QueueColumn
{
	ORGANIZATION_ID,
	STATUS,
	WAITS_FOR,
	SCHEDULED_AT,
	CREATED_AT,
	COMPLETED_AT
} QueueColumn;

static const PemsColumn queue_columns[] = {
	[ORGANIZATION_ID] = {"organization_id", TEXTOID},
	[STATUS] = {"status", TEXTOID},
	[WAITS_FOR] = {"waits_for", TEXTOID},
	[SCHEDULED_AT] = {"scheduled_at", TIMESTAMPTZOID},
	[CREATED_AT] = {"created_at", TIMESTAMPTZOID},
	[COMPLETED_AT] = {"completed_at", TIMESTAMPTZOID},
};
static PemsColumns columns = PEMS_COLUMNS("pfa_write_queue", queue_columns);

static Datum
value_of(TupleTableSlot *slot, QueueColumn column, bool *isnull)
{
	return slot_getattr(slot, columns.numbers[column], isnull);
}

static Changes *
changes_of(Changes **list, Datum organization_id)
{
	text *wanted = DatumGetTextPP(organization_id);
	Changes *changes;

	for (changes = *list; changes != NULL; changes = changes->next)
	{
		text *known = DatumGetTextPP(changes->organization_id);

		if (VARSIZE_ANY_EXHDR(known) == VARSIZE_ANY_EXHDR(wanted) &&
			memcmp(VARDATA_ANY(known), VARDATA_ANY(wanted), VARSIZE_ANY_EXHDR(wanted)) == 0)
			return changes;
	}
	changes = palloc0(sizeof(Changes));
	changes->organization_id = datumCopy(organization_id, false, -1);
	changes->last_completed_at = DT_NOBEGIN;
	changes->ready_from = DT_NOEND;
	changes->next = *list;
	*list = changes;
	return changes;
}

static int
latency_bucket(double seconds)
{
	int bucket = 0;

	while (bucket < (int) lengthof(latency_bounds) && seconds >= latency_bounds[bucket])
		bucket++;
	return bucket;
}

static void
count_completed(Changes *changes, TupleTableSlot *slot, int sign)
{
	bool no_start;
	bool no_end;
	TimestampTz created_at = DatumGetTimestampTz(value_of(slot, CREATED_AT, &no_start));
	TimestampTz completed_at = DatumGetTimestampTz(value_of(slot, COMPLETED_AT, &no_end));
	double seconds;

	changes->counts[COUNT_COMPLETED] += sign;
	if (no_start || no_end)
		return;
	seconds = (double) (completed_at - created_at) / USECS_PER_SEC;
	changes->sync_seconds += sign * seconds;
	changes->latencies[latency_bucket(seconds)] += sign;
	if (sign > 0)
		changes->last_completed_at = Max(changes->last_completed_at, completed_at);
}

static void
count_pending(Changes *changes, TupleTableSlot *slot, int sign)
{
	bool is_ready;
	bool isnull;
	Datum waits_for = value_of(slot, WAITS_FOR, &is_ready);
	TimestampTz scheduled_at;

	changes->counts[COUNT_PENDING] += sign;
	if (!is_ready)
	{
		if (strcmp(TextDatumGetCString(waits_for), "turn") == 0)
			changes->counts[COUNT_HELD] += sign;
		return;
	}
	scheduled_at = DatumGetTimestampTz(value_of(slot, SCHEDULED_AT, &isnull));
	if (sign > 0)
		changes->ready_from = Min(changes->ready_from, scheduled_at);
}

/*
 * sign: 1 for a row as it is after the statement, -1 as it was before.  is_flow: also what happened
 * is counted, not only what is there; a DELETE (of old rows) does not undo that an item was
 * completed.
 */
static void
count_row(Changes **list, TupleTableSlot *slot, int sign, bool is_flow)
{
	bool isnull;
	Datum organization_id = value_of(slot, ORGANIZATION_ID, &isnull);
	char *status = TextDatumGetCString(value_of(slot, STATUS, &isnull));
	Changes *changes = changes_of(list, organization_id);
	bool came = is_flow && sign > 0;

	if (is_flow)
		changes->counts[COUNT_QUEUED] += sign;
	if (strcmp(status, "pending") == 0)
		count_pending(changes, slot, sign);
	else if (strcmp(status, "processing") == 0)
		changes->counts[COUNT_PROCESSING] += sign;
	else if (strcmp(status, "failed") == 0)
	{
		changes->counts[COUNT_FAILED] += sign;
		changes->counts[COUNT_DEAD_LETTERED] += came;
	}
	else if (strcmp(status, "conflict") == 0)
	{
		changes->counts[COUNT_CONFLICT] += sign;
		changes->counts[COUNT_CONFLICTED] += came;
	}
	else if (strcmp(status, "cancelled") == 0 && is_flow)
		changes->counts[COUNT_CANCELLED] += sign;
	else if (strcmp(status, "completed") == 0 && is_flow)
		count_completed(changes, slot, sign);
}

static void
count_rows(Changes **list, Relation queue, Tuplestorestate *rows, int sign, bool is_flow)
{
	TupleDesc descriptor = RelationGetDescr(queue);
	TupleTableSlot *slot;

	if (rows == NULL)
		return;
	pems_columns_find(&columns, descriptor);
	slot = MakeSingleTupleTableSlot(descriptor, &TTSOpsMinimalTuple);
	tuplestore_rescan(rows);
	while (tuplestore_gettupleslot(rows, true, false, slot))
		count_row(list, slot, sign, is_flow);
	ExecDropSingleTupleTableSlot(slot);
}

/* --- into the statistics --- */

static bool
is_zero(const Changes *changes)
{
	for (int i = 0; i < COUNT_COUNT; i++)
		if (changes->counts[i] != 0)
			return false;
	for (int i = 0; i < LATENCY_BUCKETS; i++)
		if (changes->latencies[i] != 0)
			return false;
	return changes->sync_seconds == 0;
}

/* One difference.  $2 has the counts in the order of the enum. */
static PemsStatement insert_statement = {
	.table = "pems_sync_stats",
	.text = "INSERT INTO %s.pems_sync_stats (organization_id, hour, pending, held, processing, "
			"failed, conflict, queued, completed, cancelled, dead_lettered, conflicted, "
			"sync_seconds, latency_counts, last_completed_at) "
			"VALUES ($1, date_trunc('hour', clock_timestamp(), 'UTC'), $2[1], $2[2], $2[3], $2[4], "
			"$2[5], $2[6], $2[7], $2[8], $2[9], $2[10], $3, $4, $5)",
	.result = SPI_OK_INSERT,
	.argument_count = 5,
	.types = {TEXTOID, INT8ARRAYOID, FLOAT8OID, INT8ARRAYOID, TIMESTAMPTZOID},
};

static void
insert_difference(const Changes *changes, Oid schema)
{
	Datum values[] = {changes->organization_id, pems_bigint_array(changes->counts, COUNT_COUNT),
					  Float8GetDatum(changes->sync_seconds),
					  pems_bigint_array(changes->latencies, LATENCY_BUCKETS),
					  TimestampTzGetDatum(changes->last_completed_at)};
	char nulls[] = {' ', ' ', ' ', ' ', changes->last_completed_at == DT_NOBEGIN ? 'n' : ' '};

	pems_statement_run(&insert_statement, schema, values, nulls);
}

/*
 * pems_count_changes()
 */
Datum
pems_count_changes(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Changes *list = NULL;
	bool is_flow;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("_pems_count_changes() must be called as a statement trigger")));
	is_flow = !TRIGGER_FIRED_BY_DELETE(trigger->tg_event);
	SPI_connect();
	count_rows(&list, trigger->tg_relation, trigger->tg_newtable, 1, is_flow);
	count_rows(&list, trigger->tg_relation, trigger->tg_oldtable, -1, is_flow);
	for (Changes *changes = list; changes != NULL; changes = changes->next)
	{
		if (!is_zero(changes))
			insert_difference(changes, get_func_namespace(fcinfo->flinfo->fn_oid));
		if (changes->ready_from != DT_NOEND)
			pems_shmem_note_ready_at_commit(changes->organization_id, changes->ready_from);
	}
	SPI_finish();
	return PointerGetDatum(NULL);
}
