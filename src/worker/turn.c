/*
 * worker/turn.c
 *		One turn of the worker.
 *
 * Process: the background worker.
 *
 * A turn: drive the HTTP transfers, judge the answers that are there, then, in one
 * transaction, record what became of the items and claim as many new items as may start now, then
 * start them.  While there is a stock of claimed items, turns only start requests and collect
 * answers, for COLLECT_US at most; so the faster PEMS is, the larger the batches.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "secrets/keyring.h"
#include "sending/health.h"
#include "sending/roster.h"
#include "shared/monotonic.h"
#include "shared/settings.h"
#include "worker/state.h"
#include "worker/turn.h"

/* While the extension or its attachment is missing: how often to look. */
#define LOOK_AGAIN_MS 1000
/*
 * While there is a stock of claimed items, answers are collected: at most this long, so that the
 * few that come from a slow PEMS are not kept waiting.
 */
#define COLLECT_US 10000
/* What was announced is looked for a second time: a session may have had it locked at the first. */
#define LOOK_TWICE_US  1000000
#define MAINTENANCE_US (INT64_C(60) * 1000000)
/* The same in a busy database: until then the status adds up all differences. */
#define FOLD_US (INT64_C(10) * 1000000)

static Turn the_turn;

/* --- the turn --- */

/* The default partition takes the rows meanwhile, so nothing need wait where that fails. */
static void
make_partitions(Turn *turn)
{
	PemsDatabaseStatus done = pems_database_make_partitions();

	if (done == PEMS_DATABASE_OK)
		problem_is_over(turn, CANNOT_PARTITION);
	else if (done != PEMS_DATABASE_GONE)
		report_problem(turn, CANNOT_PARTITION, pems_database_problem());
}

static void
maintain(Turn *turn, int64 now)
{
	bool more;

	if (now < turn->next_maintenance_us || !is_attached_here(turn))
		return;
	turn->next_maintenance_us = now + MAINTENANCE_US;
	turn->next_fold_us = now + FOLD_US;
	if (!went_well(turn, pems_database_fold(&more), "could not fold the statistics"))
		return;
	if (more)
		turn->next_maintenance_us = now; /* with the next turn */
	else
		make_partitions(turn);
}

/* Is a look at the queue due even if nothing happened? */
static bool
poll_is_due(Turn *turn, int64 now)
{
	if (now < turn->next_poll_us)
		return false;
	turn->next_poll_us = now + (int64) pems_poll_interval * 1000;
	/* a key file that was repaired, or an attach that nobody announced (two-phase commit) */
	if (turn->status != PEMS_WORKER_RUNNING)
		turn->setup_wanted = true;
	return true;
}

/* Can more requests start without a claim, and has nobody waited for the next one for long? */
static bool
may_go_on_collecting(const Turn *turn, int64 now)
{
	return turn->waiting.count > pems_max_in_flight - turn->under_way.count &&
		   turn->answered.count < pems_batch_size && now < turn->exchange_wanted_us + COLLECT_US;
}

/* Is there a reason to look at the queue, whether or not something is to be recorded? */
static bool
look_is_due(Turn *turn, uint32 reasons, int64 now)
{
	bool look = (reasons & ~PEMS_WAKE_PULLS) != 0 || now >= turn->next_due_us;

	turn->pull_look_wanted |= (reasons & PEMS_WAKE_PULLS) != 0;

	if (poll_is_due(turn, now))
	{
		look = true;
		pems_roster_expect_work();
		turn->pull_look_wanted = true;
	}
	if (turn->second_look_us != 0 && now >= turn->second_look_us)
	{
		pems_roster_look_twice();
		turn->second_look_us = 0;
		look = true;
	}
	return look || turn->setup_wanted;
}

static void
exchange_if_due(Turn *turn, int64 now)
{
	bool look = turn->look_wanted;

	if (turn->exchange_wanted_us == 0)
		turn->exchange_wanted_us = now;
	if (may_go_on_collecting(turn, now))
	{
		if (turn->answered.count == 0 && !turn->look_wanted)
			turn->exchange_wanted_us = 0;
		return;
	}
	turn->look_wanted = false;
	turn->exchange_wanted_us = 0;
	exchange(turn, look, now);
}

static void
work(Turn *turn, uint32 reasons)
{
	int64 now = monotonic_us();
	bool look;

	/* tables that come to be, as at the end of a restore, announce nothing */
	if ((reasons & PEMS_WAKE_CONFIG) || turn->status == PEMS_WORKER_NOT_ATTACHED)
		turn->setup_wanted = true;
	if (now < turn->not_before_us || !open_extension(turn))
		return;
	look = look_is_due(turn, reasons, now);
	if (!read_setup(turn))
		return;
	turn->look_wanted |= look;
	pems_endpoints_log_breakers(now);
	retry_locked(turn, now);
	if (turn->opened)
		start_pulls(turn, true, now);
	if (turn->opened)
		exchange_if_due(turn, now);
	if (turn->opened)
		start_requests(turn, monotonic_us());
	if (turn->opened)
		step_pulls(turn, monotonic_us());
	if (turn->opened)
		start_pulls(turn, false, monotonic_us());
	if (!turn->opened)
		return;
	send_notifications(turn);
	show_slow_requests(turn, monotonic_us());
	maintain(turn, now);
}

/*
 * A check goes before the items that wait for the same limiter, or it would be behind all of them;
 * and an item goes before the next check, or checks could keep edits from being sent.
 */
static void
start_health_check_first(Turn *turn)
{
	if (turn->requests != turn->requests_at_health &&
		pems_health_start(turn->client, turn->status, monotonic_us(), 1) > 0)
		turn->requests_at_health = turn->requests;
}

void
pems_turn_initialize(void)
{
	Turn *turn = &the_turn;
	const char *problem = NULL;

	if (!pems_secrets_initialize())
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not initialize cryptography")));
	if (!pems_http_client_initialize(&problem))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
						errmsg("could not initialize the HTTP library"), errdetail("%s", problem)));
	turn->status = PEMS_WORKER_STARTING;
	turn->setup_wanted = true;
	turn->next_due_us = INT64_MAX;
	turn->requests_at_health = -1;
	turn->memory =
		AllocSetContextCreate(TopMemoryContext, "pems_sync turn", ALLOCSET_DEFAULT_SIZES);
	list_clear(&turn->waiting);
	list_clear(&turn->under_way);
	list_clear(&turn->answered);
	list_clear(&turn->locked);
	dlist_init(&turn->pulls);
	turn->pull_slice = PULL_SLICE_FIRST;
	turn->search_slice = PULL_SLICE_FIRST;
	pems_health_initialize();
	make_client(turn);
}

int
pems_turn_descriptor(uint32 *number)
{
	Turn *turn = &the_turn;
	*number = turn->client_number;
	return pems_http_client_descriptor(turn->client);
}

void
pems_turn_reconfigure(void)
{
	Turn *turn = &the_turn;
	PemsHttpClientOptions options = client_options();

	if (!pems_http_client_configure(turn->client, &options))
		report_problem(turn, "the settings could not be applied", "out of memory");
	pems_endpoints_configure(monotonic_us());
	turn->next_poll_us = 0; /* it was computed from the old poll_interval */
	turn->setup_wanted = true;
}

void
pems_turn_run(uint32 reasons, const TimestampTz *ready_since)
{
	Turn *turn = &the_turn;
	MemoryContext caller = MemoryContextSwitchTo(turn->memory);

	/* what a turn that was cut short did not look at is looked at in the next */
	turn->pending_reasons |= reasons;
	if (ready_since != NULL)
	{
		pems_roster_announced(ready_since);
		if (turn->second_look_us == 0 && turn->opened)
			turn->second_look_us = monotonic_us() + LOOK_TWICE_US;
	}
	if (reasons & PEMS_WAKE_HEALTH)
		pems_health_accept(monotonic_us());
	collect_answers(turn);
	start_health_check_first(turn);
	if (monotonic_us() >= turn->not_before_us)
	{
		reasons = turn->pending_reasons;
		turn->pending_reasons = 0;
		work(turn, reasons);
	}
	pems_health_start(turn->client, turn->status, monotonic_us(), PEMS_MAX_HEALTH_CHECKS);
	turn->messages = NIL;
	MemoryContextSwitchTo(caller);
	MemoryContextReset(turn->memory);
}

/* --- how long to wait --- */

static int64
earliest(int64 a, int64 b)
{
	return a < b ? a : b;
}

static int64
next_start_us(const Turn *turn, int64 now)
{
	int64 next = INT64_MAX;

	for (PemsOrganization *o = pems_roster_organizations(); o != NULL; o = o->next)
	{
		PemsEndpoint *endpoint = o->endpoint;

		if (now < o->claims_from_us)
			next = earliest(next, o->claims_from_us);
		if ((endpoint->waiting > 0 && pems_endpoint_has_slot(endpoint) &&
			 has_room_for_request(turn)) ||
			(can_claim_for(o, endpoint) && pems_endpoint_free_slots(endpoint) > 0 &&
			 has_room(turn)))
			next = earliest(next, pems_limiter_next(endpoint->limiter, now));
	}
	return next;
}

long
pems_turn_timeout_ms(void)
{
	Turn *turn = &the_turn;
	int64 now = monotonic_us();
	int64 until = now + LOOK_AGAIN_MS * 1000;
	long client_ms = pems_http_client_timeout_ms(turn->client);

	if (turn->opened && turn->status == PEMS_WORKER_RUNNING)
	{
		until = earliest(turn->next_poll_us, turn->next_due_us);
		until = earliest(until, next_start_us(turn, now));
		until = earliest(until, next_slow_us(turn));
		until = earliest(until, next_pull_us(turn, now));
		until = earliest(until, turn->next_maintenance_us);
	}
	if (turn->second_look_us != 0)
		until = earliest(until, turn->second_look_us);
	until = earliest(until, pems_health_next_us(now));
	if (turn->waiting.count > 0)
		until = earliest(until, list_first(&turn->waiting)->claim->claimed_us + STOCK_US);
	if (turn->answered.count > 0 || turn->look_wanted)
		until = earliest(
			until, may_go_on_collecting(turn, now) ? turn->exchange_wanted_us + COLLECT_US : now);
	if (turn->locked.count > 0)
		until = earliest(until, turn->next_locked_us);
	until = Max(until, turn->not_before_us);
	if (client_ms >= 0)
		until = earliest(until, now + client_ms * 1000);
	/* round up, or the last millisecond is spent spinning */
	return until <= now ? 0 : (long) Min((until - now + 999) / 1000, 3600000);
}

void
pems_turn_state(PemsTurnState *state)
{
	Turn *turn = &the_turn;
	int64 now = monotonic_us();

	state->status = turn->status;
	state->in_flight = turn->under_way.count + turn->pulls_asking;
	state->requests = turn->requests;
	state->last_error = turn->last_error[0] ? turn->last_error : NULL;
	state->open_breakers = pems_endpoints_open_breakers(now);
}
