/*
 * session/state.c
 *		What the worker of this database says of itself and of its endpoints in shared memory.
 *
 * Process: any backend.
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "shared/compat.h"
#include "shared/monotonic.h"
#include "shared/shmem.h"

PG_FUNCTION_INFO_V1(pems_api_worker_state);
PG_FUNCTION_INFO_V1(pems_api_endpoint_states);

static Datum
timestamp_or_null(TimestampTz at, bool *isnull)
{
	*isnull = at == 0;
	return TimestampTzGetDatum(at);
}

/* By how long ago it was: a clock that was set since makes no heartbeat old or young. */
static TimestampTz
heartbeat_of(const PemsWorkerEntry *entry)
{
	if (entry->heartbeat_us == 0)
		return 0;
	return GetCurrentTimestamp() - (monotonic_us() - entry->heartbeat_us);
}

/*
 * pems_api_worker_state(): _pems_worker_state()
 *		What the worker of this database says of itself in shared memory.
 *
 * Returns: one row (columns: sql/15_c_functions.sql; pid, times and last_error NULL: none); no row
 * where the library is not preloaded, or pems_sync.databases does not name this database.
 */
Datum
pems_api_worker_state(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	PemsWorkerEntry entry;
	Datum values[10];
	bool nulls[10] = {false};

	pems_begin_set(fcinfo);
	if (!pems_shmem_read_worker(MyDatabaseId, get_database_name(MyDatabaseId), &entry))
		return (Datum) 0;
	values[0] = CStringGetTextDatum(entry.database);
	values[1] = Int32GetDatum(entry.pid);
	nulls[1] = entry.pid == 0;
	values[2] = CStringGetTextDatum(pems_shmem_status_name(entry.status));
	values[3] = CStringGetTextDatum(PEMS_SYNC_VERSION);
	values[4] = timestamp_or_null(entry.started_at, &nulls[4]);
	values[5] = timestamp_or_null(heartbeat_of(&entry), &nulls[5]);
	values[6] = Int32GetDatum(entry.in_flight);
	values[7] = Int64GetDatum(entry.requests);
	values[8] = Int32GetDatum(entry.open_breakers);
	nulls[9] = entry.last_error[0] == '\0';
	values[9] = nulls[9] ? (Datum) 0 : CStringGetTextDatum(entry.last_error);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	return (Datum) 0;
}

static const char *const breaker_names[] = {
	[PEMS_BREAKER_CLOSED] = "closed",
	[PEMS_BREAKER_OPEN] = "open",
	[PEMS_BREAKER_PROBING] = "probing",
};

static void
put_endpoint(ReturnSetInfo *result, const PemsEndpointState *state)
{
	Datum values[10];
	bool nulls[10] = {false};

	values[0] = CStringGetTextDatum(state->name);
	values[1] = CStringGetTextDatum(breaker_names[state->breaker]);
	values[2] = Int32GetDatum(state->rate_limit);
	values[3] = Int32GetDatum(state->in_flight);
	values[4] = Int32GetDatum(state->faults);
	values[5] = timestamp_or_null(state->waits_until, &nulls[5]);
	nulls[6] = state->last_error[0] == '\0';
	values[6] = nulls[6] ? (Datum) 0 : CStringGetTextDatum(state->last_error);
	values[7] = timestamp_or_null(state->last_error_at, &nulls[7]);
	nulls[8] = state->per_second <= 0;
	values[8] = Float8GetDatum(state->per_second);
	nulls[9] = state->latency_us <= 0;
	values[9] = Float8GetDatum(state->latency_us / 1e6);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * pems_api_endpoint_states(): _pems_endpoint_states()
 *		What the worker of this database says of its endpoints in shared memory.
 *
 * Returns: a row for each endpoint, at most PEMS_MAX_ENDPOINTS; rate_limit 0: none; per_second:
 * requests per second that it can take, latency: of its answers in seconds, both NULL: not known;
 * waits_until NULL: it waits for nothing.  No row where there is no worker.
 */
Datum
pems_api_endpoint_states(PG_FUNCTION_ARGS)
{
	PemsEndpointState *states = palloc(sizeof(PemsEndpointState) * PEMS_MAX_ENDPOINTS);
	int count = 0;
	int worker;

	pems_begin_set(fcinfo);
	if (pems_shared == NULL)
		return (Datum) 0;
	LWLockAcquire(pems_shared->lock, LW_SHARED);
	worker = pems_shmem_worker_of(MyDatabaseId);
	if (worker >= 0)
		count = pems_shared->endpoint_counts[worker];
	if (count > 0)
		memcpy(states, pems_shared->endpoints[worker], sizeof(PemsEndpointState) * count);
	LWLockRelease(pems_shared->lock);
	for (int i = 0; i < count; i++)
		put_endpoint((ReturnSetInfo *) fcinfo->resultinfo, &states[i]);
	return (Datum) 0;
}
