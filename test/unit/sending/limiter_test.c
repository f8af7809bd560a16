/*
 * sending/limiter_test.c
 *		Unit tests of src/sending/limiter.c: the window against a server that counts, and
 *		against a slow model that is obviously right.  The breaker: limiter_breaker_test.c.
 */
#include "unit.h"

#include "../../src/sending/limiter.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define MS      INT64_C(1000)
#define SECOND  INT64_C(1000000)
#define EPOCH   (INT64_C(1000) * SECOND)
#define ARRIVAL PEMS_LIMITER_ARRIVAL_US
#define WINDOW  PEMS_LIMITER_WINDOW_US

/* ---------- window ---------- */

/* A request whose connection stands already. */
static uint64_t
start_and_send(PemsLimiter *limiter, int64_t now)
{
	uint64_t ticket = pems_limiter_start(limiter, now);

	pems_limiter_sent(limiter, ticket, now);
	return ticket;
}

UNIT_TEST(unused_capacity_is_there_at_once)
{
	PemsLimiter *limiter = pems_limiter_create(10, false, EPOCH);

	CHECK_INT(pems_limiter_capacity(limiter, EPOCH), 10);
	CHECK_INT(pems_limiter_next(limiter, EPOCH), EPOCH);
	for (int i = 0; i < 10; i++)
		start_and_send(limiter, EPOCH);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH), 0);
	CHECK_INT(pems_limiter_next(limiter, EPOCH), EPOCH + WINDOW + ARRIVAL);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH + WINDOW + ARRIVAL - 1), 0);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH + WINDOW + ARRIVAL), 10);
	pems_limiter_destroy(limiter);
}

UNIT_TEST(an_answer_frees_the_permit_a_second_later)
{
	PemsLimiter *limiter = pems_limiter_create(2, false, EPOCH);
	uint64_t first = start_and_send(limiter, EPOCH);
	uint64_t second = start_and_send(limiter, EPOCH + MS);

	/* out of order; and an answer after the arrival bound changes nothing */
	pems_limiter_end(limiter, second, PEMS_LIMITER_ANSWERED, EPOCH + 20 * MS);
	CHECK_INT(pems_limiter_next(limiter, EPOCH + 20 * MS), EPOCH + 20 * MS + WINDOW);
	pems_limiter_end(limiter, first, PEMS_LIMITER_ANSWERED, EPOCH + 300 * MS);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH + 20 * MS + WINDOW), 1);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH + ARRIVAL + WINDOW), 2);
	pems_limiter_destroy(limiter);
}

UNIT_TEST(a_request_without_an_answer_keeps_its_permit_for_the_arrival_bound)
{
	PemsLimiter *limiter = pems_limiter_create(1, false, EPOCH);
	uint64_t ticket = start_and_send(limiter, EPOCH);

	pems_limiter_end(limiter, ticket, PEMS_LIMITER_ABANDONED, EPOCH + MS);
	CHECK_INT(pems_limiter_next(limiter, EPOCH + MS), EPOCH + WINDOW + ARRIVAL);
	pems_limiter_destroy(limiter);
}

UNIT_TEST(a_request_that_was_not_sent_keeps_its_permit)
{
	PemsLimiter *limiter = pems_limiter_create(2, false, EPOCH);
	uint64_t first = pems_limiter_start(limiter, EPOCH);
	uint64_t second = pems_limiter_start(limiter, EPOCH);
	uint64_t third;

	CHECK_INT(pems_limiter_capacity(limiter, EPOCH + 60 * SECOND), 0);
	CHECK_INT(pems_limiter_next(limiter, EPOCH + 60 * SECOND), PEMS_LIMITER_NEVER);
	pems_limiter_sent(limiter, second, EPOCH + 60 * SECOND);
	CHECK_INT(pems_limiter_next(limiter, EPOCH + 60 * SECOND),
			  EPOCH + 60 * SECOND + WINDOW + ARRIVAL);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH + 60 * SECOND + WINDOW + ARRIVAL), 1);
	third = start_and_send(limiter, EPOCH + 62 * SECOND);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH + 62 * SECOND), 0);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH + 62 * SECOND + WINDOW + ARRIVAL), 1);
	pems_limiter_end(limiter, third, PEMS_LIMITER_ANSWERED, EPOCH + 64 * SECOND);
	pems_limiter_end(limiter, second, PEMS_LIMITER_FAULT, EPOCH + 64 * SECOND);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH + 64 * SECOND), 1);
	/* nobody told when the first was sent; it ends */
	pems_limiter_end(limiter, first, PEMS_LIMITER_FAULT, EPOCH + 64 * SECOND);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH + 64 * SECOND + WINDOW + ARRIVAL - 1), 1);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH + 64 * SECOND + WINDOW + ARRIVAL), 2);
	/* the same with an answer */
	first = pems_limiter_start(limiter, EPOCH + 70 * SECOND);
	pems_limiter_end(limiter, first, PEMS_LIMITER_ANSWERED, EPOCH + 80 * SECOND);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH + 80 * SECOND + WINDOW - 1), 1);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH + 80 * SECOND + WINDOW), 2);
	pems_limiter_destroy(limiter);
}

UNIT_TEST(no_limit)
{
	PemsLimiter *limiter = pems_limiter_create(0, true, EPOCH);

	CHECK_INT(pems_limiter_capacity(limiter, EPOCH), INT_MAX);
	for (int i = 0; i < 1000; i++)
		pems_limiter_start(limiter, EPOCH);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH), INT_MAX);
	CHECK_INT(pems_limiter_next(limiter, EPOCH), EPOCH);
	pems_limiter_destroy(limiter);

	limiter = pems_limiter_create(PEMS_LIMITER_MAX_RATE + 1, true, EPOCH);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH), INT_MAX);
	pems_limiter_destroy(limiter);
	limiter = pems_limiter_create(-1, true, EPOCH);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH), INT_MAX);
	pems_limiter_destroy(limiter);
	pems_limiter_destroy(NULL);
}

UNIT_TEST(a_blind_start_waits)
{
	PemsLimiter *limiter = pems_limiter_create(10, true, EPOCH);

	CHECK_INT(pems_limiter_capacity(limiter, EPOCH), 0);
	CHECK_INT(pems_limiter_next(limiter, EPOCH), EPOCH + WINDOW + ARRIVAL);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH + WINDOW + ARRIVAL), 10);
	pems_limiter_destroy(limiter);
}

UNIT_TEST(a_new_rate_counts_the_starts_of_before)
{
	PemsLimiter *limiter = pems_limiter_create(10, false, EPOCH);

	for (int i = 0; i < 10; i++)
		start_and_send(limiter, EPOCH + i * MS);
	pems_limiter_set_rate(limiter, 3, EPOCH + 10 * MS);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH + 10 * MS), 0);
	/* the eighth of the old permits is the first to leave less than three */
	CHECK_INT(pems_limiter_next(limiter, EPOCH + 10 * MS), EPOCH + 7 * MS + WINDOW + ARRIVAL);
	pems_limiter_set_rate(limiter, 12, EPOCH + 20 * MS);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH + 20 * MS), 2);
	pems_limiter_destroy(limiter);
}

UNIT_TEST(no_limit_and_back_again)
{
	PemsLimiter *limiter = pems_limiter_create(2, false, EPOCH);
	uint64_t ticket;

	start_and_send(limiter, EPOCH);
	pems_limiter_set_rate(limiter, 0, EPOCH + MS);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH + MS), INT_MAX);
	pems_limiter_set_rate(limiter, 2, EPOCH + 2 * MS);
	CHECK(pems_limiter_capacity(limiter, EPOCH + 2 * MS) <= 1);
	CHECK(pems_limiter_next(limiter, EPOCH + 2 * MS) <= EPOCH + 2 * MS + WINDOW + ARRIVAL);

	pems_limiter_set_rate(limiter, 0, EPOCH + 10 * SECOND);
	pems_limiter_start(limiter, EPOCH + 10 * SECOND);
	pems_limiter_set_rate(limiter, 2, EPOCH + 10 * SECOND);
	CHECK(pems_limiter_capacity(limiter, EPOCH + 10 * SECOND) <= 1);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH + 12 * SECOND), 2);

	/* started without a limit, sent under one */
	pems_limiter_set_rate(limiter, 0, EPOCH + 20 * SECOND);
	ticket = pems_limiter_start(limiter, EPOCH + 20 * SECOND);
	pems_limiter_set_rate(limiter, 2, EPOCH + 20 * SECOND);
	pems_limiter_sent(limiter, ticket, EPOCH + 30 * SECOND);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH + 30 * SECOND), 0);
	CHECK_INT(pems_limiter_next(limiter, EPOCH + 30 * SECOND),
			  EPOCH + 30 * SECOND + WINDOW + ARRIVAL);
	pems_limiter_end(limiter, ticket, PEMS_LIMITER_ANSWERED, EPOCH + 40 * SECOND);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH + 40 * SECOND), 2);
	pems_limiter_destroy(limiter);
}

UNIT_TEST(a_429_stops_everything)
{
	PemsLimiter *limiter = pems_limiter_create(0, false, EPOCH);

	pems_limiter_throttle(limiter, EPOCH + 7 * SECOND);
	pems_limiter_throttle(limiter, EPOCH + 5 * SECOND); /* a shorter one shortens nothing */
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH + 6 * SECOND), 0);
	CHECK_INT(pems_limiter_next(limiter, EPOCH), EPOCH + 7 * SECOND);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH + 7 * SECOND), INT_MAX);
	CHECK_INT(pems_limiter_breaker(limiter, EPOCH), PEMS_BREAKER_CLOSED);
	pems_limiter_destroy(limiter);
}

/* ---------- window, against a server that counts ---------- */

typedef struct Flight
{
	uint64_t ticket;
	int64_t send;    /* when its connection stands */
	int64_t arrival; /* at the server */
	int64_t end;
	bool sent;
	bool tell; /* tell the limiter when it is sent */
	PemsLimiterEnding ending;
} Flight;

typedef struct Simulation
{
	PemsLimiter *limiter;
	Flight flights[256];
	int flying;
	int64_t arrivals[20000];
	int count;
} Simulation;

static int
by_time(const void *a, const void *b)
{
	int64_t left = *(const int64_t *) a;
	int64_t right = *(const int64_t *) b;

	return left < right ? -1 : left > right;
}

/*
 * Start a request that waits for its connection up to `connect` and is then under
 * way for up to `slowest`.
 */
static void
simulate_start(Simulation *simulation, int64_t now, unsigned connect, unsigned slowest)
{
	Flight *flight = &simulation->flights[simulation->flying++];
	bool cold = unit_random_below(3) == 0;

	flight->ticket = pems_limiter_start(simulation->limiter, now);
	flight->send = now + (cold ? unit_random_below(connect + 1) : 0);
	flight->arrival = flight->send + unit_random_below(slowest + 1);
	flight->sent = false;
	flight->tell = unit_random_below(10) > 0;
	flight->ending = PEMS_LIMITER_ANSWERED;
	flight->end = flight->arrival + unit_random_below(unit_random_below(4) == 0 ? 3000000 : 30000);
	if (unit_random_below(10) > 0)
		return;
	/* No answer comes, and the request may end before it arrives. */
	flight->ending = unit_random_below(2) == 0 ? PEMS_LIMITER_ABANDONED : PEMS_LIMITER_FAULT;
	flight->end = flight->send + unit_random_below(30000);
}

/* What happened until now, in its order as far as one flight is concerned. */
static void
simulate_events(Simulation *simulation, int64_t now)
{
	for (int i = 0; i < simulation->flying;)
	{
		Flight *flight = &simulation->flights[i];

		if (!flight->sent && flight->send <= now)
		{
			/* it leaves at the turn of the loop that sees its connection */
			flight->sent = true;
			flight->arrival += now - flight->send;
			flight->end += now - flight->send;
			simulation->arrivals[simulation->count++] = flight->arrival;
			if (flight->tell)
				pems_limiter_sent(simulation->limiter, flight->ticket, now);
		}
		if (!flight->sent || flight->end > now)
		{
			i++;
			continue;
		}
		pems_limiter_end(simulation->limiter, flight->ticket, flight->ending, now);
		*flight = simulation->flights[--simulation->flying];
	}
}

/*
 * Runs for `seconds`, always as fast as the limiter lets it; returns the most that one window held.
 */
static int
simulate(Simulation *simulation, int rate, int seconds, unsigned connect, unsigned slowest)
{
	int64_t now = EPOCH;
	int most = 0;

	memset(simulation, 0, sizeof(*simulation));
	simulation->limiter = pems_limiter_create(rate, false, now);
	while (now < EPOCH + seconds * SECOND)
	{
		int capacity;

		simulate_events(simulation, now);
		capacity = pems_limiter_capacity(simulation->limiter, now);
		while (capacity-- > 0 && simulation->flying < 256)
			simulate_start(simulation, now, connect, slowest);
		now += 1 + unit_random_below(2000);
	}
	pems_limiter_destroy(simulation->limiter);

	qsort(simulation->arrivals, (size_t) simulation->count, sizeof(int64_t), by_time);
	for (int i = 0, j = 0; i < simulation->count; i++)
	{
		while (j < simulation->count && simulation->arrivals[j] < simulation->arrivals[i] + SECOND)
			j++;
		if (j - i > most)
			most = j - i;
	}
	return most;
}

UNIT_TEST(no_window_of_the_server_holds_more_than_the_rate)
{
	static const int rates[] = {1, 2, 3, 10, 50};
	static const unsigned slowest[] = {0, 1000, 50000, 250000};
	static Simulation simulation;

	for (size_t r = 0; r < sizeof(rates) / sizeof(rates[0]); r++)
	{
		for (size_t l = 0; l < sizeof(slowest) / sizeof(slowest[0]); l++)
		{
			int most = simulate(&simulation, rates[r], 60, 2500000, slowest[l]);

			if (!CHECK(most <= rates[r]))
				unit_note("rate %d, latency %u us: a window of %d", rates[r], slowest[l], most);
			/* and with connections that stand the limit is used: rate per 1.25 s, nearly */
			most = simulate(&simulation, rates[r], 60, 0, slowest[l]);
			CHECK(most <= rates[r]);
			CHECK(simulation.count >= rates[r] * 60 * 6 / 10);
		}
	}
}

/* ---------- window, against a model ---------- */

#define MODEL_STARTS 4000

typedef struct Model
{
	int64_t release[MODEL_STARTS]; /* NEVER while unsent */
	uint64_t ticket[MODEL_STARTS];
	bool sent[MODEL_STARTS];
	bool ended[MODEL_STARTS];
	int count;
} Model;

static int
model_capacity(const Model *model, int rate, int64_t now)
{
	int used = 0;

	for (int i = 0; i < model->count; i++)
		used += model->release[i] > now;
	return used >= rate ? 0 : rate - used;
}

static void
model_send_one(Model *model, PemsLimiter *limiter, int64_t now)
{
	int i = (int) unit_random_below((unsigned) model->count);

	if (model->ended[i] || model->sent[i])
		return;
	model->sent[i] = true;
	model->release[i] = now + WINDOW + ARRIVAL;
	pems_limiter_sent(limiter, model->ticket[i], now);
}

static void
model_end_one(Model *model, PemsLimiter *limiter, int64_t now)
{
	int i = (int) unit_random_below((unsigned) model->count);
	PemsLimiterEnding ending =
		unit_random_below(4) == 0 ? PEMS_LIMITER_ABANDONED : PEMS_LIMITER_ANSWERED;
	int64_t arrived = ending == PEMS_LIMITER_ANSWERED ? now : now + ARRIVAL;

	if (model->ended[i])
		return;
	model->ended[i] = true;
	if (arrived + WINDOW < model->release[i])
		model->release[i] = arrived + WINDOW;
	pems_limiter_end(limiter, model->ticket[i], ending, now);
}

UNIT_TEST(the_window_equals_a_model)
{
	static Model model;
	PemsLimiter *limiter = pems_limiter_create(7, false, EPOCH);
	int failures = unit_failures();
	int64_t now = EPOCH;
	int rate = 7;

	memset(&model, 0, sizeof(model));
	while (model.count < MODEL_STARTS && unit_failures() == failures)
	{
		int64_t next;

		now += unit_random_below(unit_random_below(20) == 0 ? 1500000 : 30000);
		if (unit_random_below(40) == 0)
		{
			rate = 1 + (int) unit_random_below(30);
			pems_limiter_set_rate(limiter, rate, now);
		}
		/* the old ones are mostly ended; look harder, or unsent ones fill the window */
		for (int i = 0; i < model.count / 20 + 1 && model.count > 0; i++)
		{
			model_send_one(&model, limiter, now);
			model_end_one(&model, limiter, now);
		}
		CHECK_INT(pems_limiter_capacity(limiter, now), model_capacity(&model, rate, now));
		next = pems_limiter_next(limiter, now);
		CHECK(next >= now);
		CHECK(next == PEMS_LIMITER_NEVER || model_capacity(&model, rate, next) > 0);
		CHECK(next == now || model_capacity(&model, rate, next - 1) == 0);
		if (pems_limiter_capacity(limiter, now) > 0 && unit_random_below(3) > 0)
		{
			model.release[model.count] = PEMS_LIMITER_NEVER;
			model.ticket[model.count++] = pems_limiter_start(limiter, now);
		}
	}
	pems_limiter_destroy(limiter);
}
