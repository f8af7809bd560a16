/*
 * database/count.c
 *		What a statement did to the queue: the statistics, and what became ready.
 *
 * Process: any backend, and the worker; in the statement triggers of pfa_write_queue.
 *
 * In C, because it runs with every claim and every commit, and twenty aggregates of SQL took many
 * times as long.
 *
 * Memory: all of it in the context of the trigger call.
 */
#include "postgres.h"

#include "access/tupdesc.h"
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

#include "database/arrays.h"
#include "shared/compat.h"
#include "database/app_tables.h"
#include "shared/shmem.h"

PG_FUNCTION_INFO_V1(pems_tally);

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
typedef struct Tally
{
	Datum organization_id;
	int64 counts[COUNT_COUNT];
	int64 latencies[LATENCY_BUCKETS];
	double sync_seconds;
	TimestampTz last_completed_at; /* DT_NOBEGIN: none */
	TimestampTz ready_from;        /* DT_NOEND: nothing became ready */
	struct Tally *next;
} Tally;

/* The columns of pfa_write_queue that are looked at. */
typedef struct Columns
{
	AttrNumber organization_id;
	AttrNumber status;
	AttrNumber waits_for;
	AttrNumber scheduled_at;
	AttrNumber created_at;
	AttrNumber completed_at;
} Columns;

static AttrNumber
column(TupleDesc descriptor, const char *name)
{
	int number = SPI_fnumber(descriptor, name);

	if (number <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("column \"%s\" does not exist", name),
				 errhint("The queue of pems_sync must not be changed; install it again.")));
	return (AttrNumber) number;
}

static Columns
find_columns(TupleDesc descriptor)
{
	return (Columns){column(descriptor, "organization_id"), column(descriptor, "status"),
					 column(descriptor, "waits_for"),       column(descriptor, "scheduled_at"),
					 column(descriptor, "created_at"),      column(descriptor, "completed_at")};
}

static Tally *
tally_for(Tally **tallies, Datum organization_id)
{
	text *wanted = DatumGetTextPP(organization_id);
	Tally *tally;

	for (tally = *tallies; tally != NULL; tally = tally->next)
	{
		text *known = DatumGetTextPP(tally->organization_id);

		if (VARSIZE_ANY_EXHDR(known) == VARSIZE_ANY_EXHDR(wanted) &&
			memcmp(VARDATA_ANY(known), VARDATA_ANY(wanted), VARSIZE_ANY_EXHDR(wanted)) == 0)
			return tally;
	}
	tally = palloc0(sizeof(Tally));
	tally->organization_id = datumCopy(organization_id, false, -1);
	tally->last_completed_at = DT_NOBEGIN;
	tally->ready_from = DT_NOEND;
	tally->next = *tallies;
	*tallies = tally;
	return tally;
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
count_completed(Tally *tally, TupleTableSlot *slot, const Columns *columns, int sign)
{
	bool no_start;
	bool no_end;
	TimestampTz created_at =
		DatumGetTimestampTz(slot_getattr(slot, columns->created_at, &no_start));
	TimestampTz completed_at =
		DatumGetTimestampTz(slot_getattr(slot, columns->completed_at, &no_end));
	double seconds;

	tally->counts[COUNT_COMPLETED] += sign;
	if (no_start || no_end)
		return;
	seconds = (double) (completed_at - created_at) / USECS_PER_SEC;
	tally->sync_seconds += sign * seconds;
	tally->latencies[latency_bucket(seconds)] += sign;
	if (sign > 0)
		tally->last_completed_at = Max(tally->last_completed_at, completed_at);
}

static void
count_pending(Tally *tally, TupleTableSlot *slot, const Columns *columns, int sign)
{
	bool is_ready;
	bool isnull;
	Datum waits_for = slot_getattr(slot, columns->waits_for, &is_ready);
	TimestampTz scheduled_at;

	tally->counts[COUNT_PENDING] += sign;
	if (!is_ready)
	{
		if (strcmp(TextDatumGetCString(waits_for), "turn") == 0)
			tally->counts[COUNT_HELD] += sign;
		return;
	}
	scheduled_at = DatumGetTimestampTz(slot_getattr(slot, columns->scheduled_at, &isnull));
	if (sign > 0)
		tally->ready_from = Min(tally->ready_from, scheduled_at);
}

/* flows: the statement makes things happen; deleting rows (a purge) undoes no completion. */
static void
count_row(Tally **tallies, TupleTableSlot *slot, const Columns *columns, int sign, bool flows)
{
	bool isnull;
	Datum organization_id = slot_getattr(slot, columns->organization_id, &isnull);
	char *status = TextDatumGetCString(slot_getattr(slot, columns->status, &isnull));
	Tally *tally = tally_for(tallies, organization_id);
	bool came = flows && sign > 0;

	if (flows)
		tally->counts[COUNT_QUEUED] += sign;
	if (strcmp(status, "pending") == 0)
		count_pending(tally, slot, columns, sign);
	else if (strcmp(status, "processing") == 0)
		tally->counts[COUNT_PROCESSING] += sign;
	else if (strcmp(status, "failed") == 0)
	{
		tally->counts[COUNT_FAILED] += sign;
		tally->counts[COUNT_DEAD_LETTERED] += came;
	}
	else if (strcmp(status, "conflict") == 0)
	{
		tally->counts[COUNT_CONFLICT] += sign;
		tally->counts[COUNT_CONFLICTED] += came;
	}
	else if (strcmp(status, "cancelled") == 0 && flows)
		tally->counts[COUNT_CANCELLED] += sign;
	else if (strcmp(status, "completed") == 0 && flows)
		count_completed(tally, slot, columns, sign);
}

static void
count_rows(Tally **tallies, Relation queue, Tuplestorestate *rows, int sign, bool flows)
{
	TupleDesc descriptor = RelationGetDescr(queue);
	Columns columns;
	TupleTableSlot *slot;

	if (rows == NULL)
		return;
	columns = find_columns(descriptor);
	slot = MakeSingleTupleTableSlot(descriptor, &TTSOpsMinimalTuple);
	tuplestore_rescan(rows);
	while (tuplestore_gettupleslot(rows, true, false, slot))
		count_row(tallies, slot, &columns, sign, flows);
	ExecDropSingleTupleTableSlot(slot);
}

/* --- what comes of it --- */

static bool
is_zero(const Tally *tally)
{
	for (int i = 0; i < COUNT_COUNT; i++)
		if (tally->counts[i] != 0)
			return false;
	for (int i = 0; i < LATENCY_BUCKETS; i++)
		if (tally->latencies[i] != 0)
			return false;
	return tally->sync_seconds == 0;
}

/* One difference; the plan is kept for the life of the process, as long as the schema stays. */
static SPIPlanPtr
insert_plan(Oid schema)
{
	static SPIPlanPtr plan = NULL;
	static Oid planned_for = InvalidOid;
	Oid types[] = {TEXTOID, INT8ARRAYOID, FLOAT8OID, INT8ARRAYOID, TIMESTAMPTZOID};
	char *text;

	if (plan != NULL && planned_for == schema)
		return plan;
	if (plan != NULL)
		SPI_freeplan(plan);
	text = psprintf(
		"INSERT INTO %s.pems_sync_stats (organization_id, hour, pending, held, processing, "
		"failed, conflict, queued, completed, cancelled, dead_lettered, conflicted, "
		"sync_seconds, latency_counts, last_completed_at) "
		"VALUES ($1, date_trunc('hour', clock_timestamp(), 'UTC'), $2[1], $2[2], $2[3], $2[4], "
		"$2[5], $2[6], $2[7], $2[8], $2[9], $2[10], $3, $4, $5)",
		quote_identifier(pems_schema_name(schema)));
	plan = SPI_prepare(text, lengthof(types), types);
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", text, SPI_result_code_string(SPI_result));
	SPI_keepplan(plan);
	planned_for = schema;
	return plan;
}

static void
insert_difference(const Tally *tally, Oid schema)
{
	Datum values[] = {tally->organization_id,
					  PointerGetDatum(pems_bigint_array(tally->counts, COUNT_COUNT)),
					  Float8GetDatum(tally->sync_seconds),
					  PointerGetDatum(pems_bigint_array(tally->latencies, LATENCY_BUCKETS)),
					  TimestampTzGetDatum(tally->last_completed_at)};
	char nulls[] = {' ', ' ', ' ', ' ', tally->last_completed_at == DT_NOBEGIN ? 'n' : ' '};
	int code = SPI_execute_plan(insert_plan(schema), values, nulls, false, 0);

	if (code != SPI_OK_INSERT)
		elog(ERROR, "could not count: %s", SPI_result_code_string(code));
}

/*
 * pems_tally()
 */
Datum
pems_tally(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Tally *tallies = NULL;
	bool flows;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("_pems_tally() must be called as a statement trigger")));
	flows = !TRIGGER_FIRED_BY_DELETE(trigger->tg_event);
	SPI_connect();
	count_rows(&tallies, trigger->tg_relation, trigger->tg_newtable, 1, flows);
	count_rows(&tallies, trigger->tg_relation, trigger->tg_oldtable, -1, flows);
	for (Tally *tally = tallies; tally != NULL; tally = tally->next)
	{
		if (!is_zero(tally))
			insert_difference(tally, get_func_namespace(fcinfo->flinfo->fn_oid));
		if (tally->ready_from != DT_NOEND)
			pems_shmem_note_ready_at_commit(tally->organization_id, tally->ready_from);
	}
	SPI_finish();
	return PointerGetDatum(NULL);
}
