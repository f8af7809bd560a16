/*
 * sending/endpoint.c
 *		Endpoints: limiter, breaker and counts.
 *
 * Process: the background worker.
 * Memory: a context of their own below TopMemoryContext; limiters are malloc'ed.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "sending/endpoint.h"
#include "shared/monotonic.h"
#include "shared/settings.h"

static MemoryContext endpoint_context = NULL;
static PemsEndpoint *endpoints = NULL;
static int endpoint_count = 0;
static int requests_under_way = 0; /* of all endpoints */
static int pulls_in_hand = 0;      /* of pulls: under way, or their pages are being stored */
static int idle_count = 0;         /* endpoints that have none */
/* The first endpoints may be those that a killed predecessor was talking to a moment ago. */
static bool blind = true;

PemsEndpoint *
pems_endpoints(void)
{
	return endpoints;
}

static PemsEndpoint *
make_endpoint(const char *name, int64 now)
{
	PemsEndpoint *endpoint;

	if (endpoint_context == NULL)
		endpoint_context =
			AllocSetContextCreate(TopMemoryContext, "pems_sync endpoints", ALLOCSET_DEFAULT_SIZES);
	endpoint = MemoryContextAllocZero(endpoint_context, sizeof(*endpoint));
	endpoint->name = MemoryContextStrdup(endpoint_context, name);
	endpoint->limiter = pems_limiter_create(pems_rate_limit, blind, now);
	if (endpoint->limiter == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	endpoint->next = endpoints;
	endpoints = endpoint;
	endpoint_count++;
	idle_count++;
	return endpoint;
}

PemsEndpoint *
pems_endpoint_for(const char *name, int64 now)
{
	for (PemsEndpoint *endpoint = endpoints; endpoint != NULL; endpoint = endpoint->next)
		if (strcmp(endpoint->name, name) == 0)
			return endpoint;
	return make_endpoint(name, now);
}

void
pems_endpoints_all_known(void)
{
	blind = false;
}

void
pems_endpoints_configure(int64 now)
{
	for (PemsEndpoint *endpoint = endpoints; endpoint != NULL; endpoint = endpoint->next)
		pems_limiter_set_rate(endpoint->limiter, pems_rate_limit, now);
}

void
pems_endpoints_clear(void)
{
	for (PemsEndpoint *endpoint = endpoints; endpoint != NULL; endpoint = endpoint->next)
		pems_limiter_destroy(endpoint->limiter);
	endpoints = NULL;
	endpoint_count = 0;
	requests_under_way = 0;
	pulls_in_hand = 0;
	idle_count = 0;
	if (endpoint_context)
		MemoryContextReset(endpoint_context);
}

/* --- how much --- */

/* One that hangs must not have all of max_in_flight, where there are others. */
static int
share_of_slots(void)
{
	return endpoint_count > 1 ? Max(1, pems_max_in_flight * 3 / 4) : pems_max_in_flight;
}

/* Nor must several that hang: of those that have no request under way each can start one. */
static int
kept_for_others(const PemsEndpoint *endpoint)
{
	int others = idle_count - (endpoint->under_way == 0);

	return Min(others, pems_max_in_flight / 4);
}

/*
 * Claimed items that were answered leave their slots, and as many again may be claimed as a stock
 * for the next moment.
 */
int
pems_endpoint_free_slots(const PemsEndpoint *endpoint)
{
	return share_of_slots() + endpoint->answered + Min(endpoint->answered, pems_batch_size) -
		   endpoint->claimed;
}

int
pems_endpoint_claimable(const PemsEndpoint *endpoint, int64 now)
{
	int startable = pems_limiter_capacity(endpoint->limiter, now);

	if (startable != INT_MAX)
		startable -= endpoint->waiting;
	return Max(0, Min(startable, pems_endpoint_free_slots(endpoint)));
}

bool
pems_endpoint_has_slot(const PemsEndpoint *endpoint)
{
	/* the first request of an endpoint takes a slot that was kept for it */
	int most = pems_max_in_flight - (endpoint->under_way > 0 ? kept_for_others(endpoint) : 0);

	return requests_under_way < most && endpoint->under_way < share_of_slots();
}

/* --- items --- */

void
pems_endpoint_item_claimed(PemsEndpoint *endpoint)
{
	endpoint->claimed++;
}

void
pems_endpoint_item_waits(PemsEndpoint *endpoint)
{
	endpoint->waiting++;
}

void
pems_endpoint_item_waits_no_more(PemsEndpoint *endpoint)
{
	endpoint->waiting--;
}

static void
count_start(PemsEndpoint *endpoint)
{
	idle_count -= endpoint->under_way == 0;
	endpoint->under_way++;
	requests_under_way++;
}

static void
count_end(PemsEndpoint *endpoint)
{
	endpoint->under_way--;
	idle_count += endpoint->under_way == 0;
	requests_under_way--;
}

void
pems_endpoint_item_under_way(PemsEndpoint *endpoint)
{
	count_start(endpoint);
	endpoint->since_pull++;
}

void
pems_endpoint_item_answered(PemsEndpoint *endpoint)
{
	count_end(endpoint);
	endpoint->answered++;
}

void
pems_endpoint_item_released(PemsEndpoint *endpoint)
{
	endpoint->claimed--;
}

/* --- pulls --- */

/* So many requests of items start before one of a pull, where both wait. */
#define ITEMS_PER_PULL 9

void
pems_endpoint_pull_under_way(PemsEndpoint *endpoint)
{
	count_start(endpoint);
	pulls_in_hand++;
	endpoint->since_pull = 0;
}

void
pems_endpoint_pull_answered(PemsEndpoint *endpoint)
{
	count_end(endpoint);
}

void
pems_endpoint_pull_over(void)
{
	pulls_in_hand--;
}

static int
slots_for_pulls(void)
{
	return Max(1, pems_max_in_flight / 4) - pulls_in_hand;
}

bool
pems_endpoint_has_slot_for_pull(const PemsEndpoint *endpoint)
{
	return slots_for_pulls() > 0 && endpoint->waiting == 0 && pems_endpoint_has_slot(endpoint);
}

int
pems_endpoint_free_for_pulls(const PemsEndpoint *endpoint, bool before_items, int64 now)
{
	int most = slots_for_pulls();

	if (most <= 0 || !pems_endpoint_has_slot(endpoint))
		return 0;
	if (before_items)
		most = endpoint->since_pull >= ITEMS_PER_PULL ? 1 : 0;
	else if (endpoint->waiting > 0)
		most = 0;
	return Min(most, pems_limiter_capacity(endpoint->limiter, now));
}

void
pems_endpoints_claim_made(void)
{
	for (PemsEndpoint *endpoint = endpoints; endpoint != NULL; endpoint = endpoint->next)
		endpoint->answered = 0;
}

/* --- requests --- */

uint64
pems_endpoint_start(PemsEndpoint *endpoint, int64 now)
{
	return pems_limiter_start(endpoint->limiter, now);
}

void
pems_endpoint_sent(PemsEndpoint *endpoint, uint64 ticket)
{
	pems_limiter_sent(endpoint->limiter, ticket, monotonic_us());
}

/* What says something of the endpoint or of the credential, not of one edit. */
static void
remember_error(PemsEndpoint *endpoint, const PemsOutcome *outcome)
{
	if (!outcome->endpoint_fault && outcome->class != PEMS_OUTCOME_THROTTLED &&
		outcome->class != PEMS_OUTCOME_CREDENTIAL)
		return;
	pems_shmem_copy_text(endpoint->last_error,
						 psprintf("%s: %s", outcome->error_code ? outcome->error_code : "ERROR",
								  outcome->error ? outcome->error : "no reason given"),
						 sizeof(endpoint->last_error));
	endpoint->last_error_at = GetCurrentTimestamp();
}

/* A mean over some twenty answers. */
static void
note_latency(PemsEndpoint *endpoint, int64 latency_us)
{
	if (endpoint->latency_us == 0)
		endpoint->latency_us = latency_us;
	else
		endpoint->latency_us += (latency_us - endpoint->latency_us) / 10;
}

void
pems_endpoint_end(PemsEndpoint *endpoint, uint64 ticket, const PemsAnswer *answer,
				  const PemsOutcome *outcome, int64 now)
{
	PemsLimiterEnding ended = PEMS_LIMITER_ANSWERED;

	if (outcome->endpoint_fault)
		ended = PEMS_LIMITER_FAULT;
	else if (answer->status == 0)
		ended = PEMS_LIMITER_ABANDONED;
	pems_limiter_end(endpoint->limiter, ticket, ended, now);
	if (ended != PEMS_LIMITER_ABANDONED)
		note_latency(endpoint, answer->latency_us);
	/* a 503 with Retry-After speaks of the endpoint, as a 429 does */
	if (outcome->class == PEMS_OUTCOME_THROTTLED ||
		(outcome->endpoint_fault && outcome->retry_after_ms > 0))
		pems_limiter_throttle(endpoint->limiter, now + outcome->retry_after_ms * 1000);
	remember_error(endpoint, outcome);
}

bool
pems_endpoint_breaker_is_open(const PemsEndpoint *endpoint, int64 now)
{
	return pems_limiter_breaker(endpoint->limiter, now) != PEMS_BREAKER_CLOSED;
}

/* --- what people see --- */

void
pems_endpoints_log_breakers(int64 now)
{
	for (PemsEndpoint *endpoint = endpoints; endpoint != NULL; endpoint = endpoint->next)
	{
		bool open = pems_endpoint_breaker_is_open(endpoint, now);

		if (open && !endpoint->breaker_was_open)
			ereport(
				WARNING,
				(errmsg("pems_sync: PEMS at %s does not answer", endpoint->name),
				 errdetail("%d requests in a row failed.", pems_limiter_faults(endpoint->limiter)),
				 errhint(
					 "Edits wait, and no retry is lost; a probe goes out every 5 to 60 seconds.")));
		else if (!open && endpoint->breaker_was_open)
			ereport(LOG, (errmsg("pems_sync: PEMS at %s answers again", endpoint->name)));
		endpoint->breaker_was_open = open;
	}
}

int
pems_endpoints_open_breakers(int64 now)
{
	int count = 0;

	for (PemsEndpoint *endpoint = endpoints; endpoint != NULL; endpoint = endpoint->next)
		count += pems_endpoint_breaker_is_open(endpoint, now);
	return count;
}

/*
 * How many requests per second it can take: as many as the limiter lets start, or as the slots that
 * it may have can carry, each for as long as an answer takes.  0: nobody knows.
 */
static double
requests_per_second(const PemsEndpoint *endpoint)
{
	double window_us = PEMS_LIMITER_WINDOW_US + Min(endpoint->latency_us, PEMS_LIMITER_ARRIVAL_US);
	double limited = pems_rate_limit * 1e6 / window_us;
	double carried =
		endpoint->latency_us > 0 ? share_of_slots() * 1e6 / (double) endpoint->latency_us : 0;

	if (pems_rate_limit == 0 || carried == 0)
		return Max(limited, carried);
	return Min(limited, carried);
}

/* When it takes a request again, if that is not in a moment; 0: it is, or nobody knows. */
static TimestampTz
waits_until(const PemsEndpoint *endpoint, int64 now)
{
	int64 next = pems_limiter_next(endpoint->limiter, now);

	if (next == PEMS_LIMITER_NEVER || next <= now + PEMS_LIMITER_WINDOW_US)
		return 0;
	return GetCurrentTimestamp() + (next - now);
}

int
pems_endpoints_describe(PemsEndpointState *states, int most)
{
	int64 now = monotonic_us();
	int count = 0;

	for (PemsEndpoint *e = endpoints; e != NULL && count < most; e = e->next)
	{
		PemsEndpointState *state = &states[count++];

		strlcpy(state->name, e->name, sizeof(state->name));
		state->breaker = pems_limiter_breaker(e->limiter, now);
		state->rate_limit = pems_rate_limit;
		state->in_flight = e->under_way;
		state->per_second = requests_per_second(e);
		state->latency_us = e->latency_us;
		state->faults = pems_limiter_faults(e->limiter);
		state->waits_until = waits_until(e, now);
		strlcpy(state->last_error, e->last_error, sizeof(state->last_error));
		state->last_error_at = e->last_error_at;
	}
	return count;
}
