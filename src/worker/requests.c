/*
 * worker/requests.c
 *		Requests of items: started, answered, shown while they take their time.
 *
 * Process: the background worker, outside any transaction.
 */
#include "postgres.h"

#include "sending/health.h"
#include "shared/failpoint.h"
#include "shared/monotonic.h"
#include "shared/settings.h"
#include "worker/state.h"

/* A request that takes longer shows its modification as syncing. */
#define SLOW_US 250000
/* Showing them took too long: from when on it is tried again. */
#define SLOW_SHOW_US (INT64_C(60) * 1000000)

/* --- answers --- */

void
collect_answers(Turn *turn)
{
	void *owner;
	PemsAnswer answer;
	int64 now;

	pems_http_client_drive(turn->client);
	while (pems_http_client_next(turn->client, &owner, &answer))
	{
		PemsDelivery *delivery = owner;

		now = monotonic_us();
		if (pems_health_finish(owner, &answer, now))
		{
			pems_answer_free(&answer);
			continue;
		}
		if (finish_pull(turn, owner, &answer, now))
		{
			pems_answer_free(&answer);
			continue;
		}
		pems_delivery_finish(delivery, &turn->catalogue, &answer, now);
		pems_answer_free(&answer);
		weigh(turn, delivery);
		if (delivery->report.transition.pause_organization)
			delivery->organization->refused = true;
		list_remove(&turn->under_way, delivery);
		pems_endpoint_item_answered(delivery->endpoint);
		list_add(&turn->answered, delivery);
	}
}

/* --- start --- */

/*
 * The endpoint cannot take it now (breaker, throttle), the credential is gone, refused or names
 * another endpoint, nothing of its organization can be recorded since it was claimed (so
 * claims_from_us was set later than it was claimed), or it has been waiting here for too long: back
 * into the queue.
 */
static bool
must_withdraw(Turn *turn, const PemsDelivery *delivery, int64 now)
{
	const PemsOrganization *organization = delivery->organization;

	return organization->token == NULL || organization->refused ||
		   delivery->claim->claimed_us + UNRECORDABLE_US < organization->claims_from_us ||
		   turn->status != PEMS_WORKER_RUNNING || delivery->endpoint != organization->endpoint ||
		   now > delivery->claim->claimed_us + STOCK_US ||
		   pems_limiter_capacity(delivery->endpoint->limiter, now) == 0;
}

static void
leave_waiting(Turn *turn, PemsDelivery *delivery, DeliveryList *list)
{
	pems_endpoint_item_waits_no_more(delivery->endpoint);
	list_remove(&turn->waiting, delivery);
	list_add(list, delivery);
}

/* False: it could not be started, and its report says why. */
static bool
start_request(Turn *turn, PemsDelivery *delivery, int64 now)
{
	bool started = pems_delivery_start(delivery, turn->client, now);

	weigh(turn, delivery);
	leave_waiting(turn, delivery, started ? &turn->under_way : &turn->answered);
	if (!started)
	{
		report_problem(turn, "a request could not be started", delivery->report.error);
		pause_after_failure(turn);
		return false;
	}
	turn->requests++;
	pems_endpoint_item_under_way(delivery->endpoint);
	return true;
}

void
start_requests(Turn *turn, int64 now)
{
	PemsDelivery *next;

	for (PemsDelivery *delivery = list_first(&turn->waiting); delivery != NULL; delivery = next)
	{
		next = list_next(&turn->waiting, delivery);
		if (must_withdraw(turn, delivery, now))
		{
			pems_delivery_withdraw(delivery);
			leave_waiting(turn, delivery, &turn->answered);
		}
		else if (turn->under_way.count >= pems_max_in_flight || !has_room_for_request(turn))
			break;
		else if (pems_endpoint_has_slot(delivery->endpoint) && !start_request(turn, delivery, now))
			break;
	}
	pems_http_client_drive(turn->client);
	if (turn->under_way.count > 0)
		PEMS_FAILPOINT("request_sent");
}

/*
 * Only people look at it: where it fails nothing waits for it, and where it is slow it is left out
 * for a while.
 */
static void
show_as_syncing(Turn *turn, const char *const *ids, int count, int64 now)
{
	PemsDatabaseStatus done = pems_database_mark_syncing(ids, count);

	if (done == PEMS_DATABASE_SLOW)
		turn->no_show_before_us = now + SLOW_SHOW_US;
	if (done == PEMS_DATABASE_SLOW || done == PEMS_DATABASE_BUSY || done == PEMS_DATABASE_ERROR)
		report_problem(turn, CANNOT_SHOW, pems_database_problem());
	else
		went_well(turn, done, CANNOT_SHOW);
}

void
show_slow_requests(Turn *turn, int64 now)
{
	const char **ids = palloc(sizeof(char *) * Max(turn->under_way.count, 1));
	int count = 0;

	for (PemsDelivery *p = list_first(&turn->under_way);
		 p != NULL && p->started_at + SLOW_US <= now; p = list_next(&turn->under_way, p))
	{
		if (!p->shown_as_syncing && p->step == PEMS_STEP_WRITE)
		{
			if (now >= turn->no_show_before_us)
				ids[count++] = p->item.id;
			p->shown_as_syncing = true;
		}
	}
	if (count > 0)
		show_as_syncing(turn, ids, count, now);
}

int64
next_slow_us(const Turn *turn)
{
	for (PemsDelivery *p = list_first(&turn->under_way); p != NULL;
		 p = list_next(&turn->under_way, p))
	{
		if (!p->shown_as_syncing && p->step == PEMS_STEP_WRITE)
			return p->started_at + SLOW_US;
	}
	return INT64_MAX;
}
