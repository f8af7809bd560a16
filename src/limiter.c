/*
 * limiter.c
 *		Sliding window, circuit breaker and fair shares of one endpoint.
 *
 * Process: any; pure, without PostgreSQL, I/O or a clock of its own.
 * Memory: malloc.  A limiter is one block plus two rings that grow with the rate
 * that is really used, so a thousand quiet endpoints cost next to nothing.
 *
 * The window.  Each request that started takes a slot until one second after it
 * arrived.  When that was is known only within bounds: not after its answer, and
 * not later than PEMS_LIMITER_ARRIVAL_US after its start.  Take `rate` + 1
 * requests and call the one that started last L.  When L started, a slot was free,
 * so one of the others had its latest possible arrival a full second before: no
 * 1-second window can hold them all, in whatever order they arrived or ended.
 *
 * Slots lie in two rings, because each of them is sorted by itself: `flying`
 * holds the requests without an answer in the order of their starts, `answered`
 * those with an early answer in the order of the answers.  Every operation then
 * looks at heads and tails only.
 */
#include "limiter.h"

#include <limits.h>
#include <stdlib.h>

/* Mark of a flying slot that moved to the other ring. */
#define SLOT_MOVED INT64_MIN

/* The longest time for which a start can keep its slot. */
#define SLOT_LIFE_US (PEMS_LIMITER_WINDOW_US + PEMS_LIMITER_ARRIVAL_US)

/* Times at which slots become free again. */
typedef struct Ring
{
	int64_t *release;
	size_t head;
	size_t count;
	size_t capacity; /* a power of two, or 0 */
} Ring;

typedef struct Window
{
	Ring flying;
	Ring answered;
	uint64_t flying_ticket; /* ticket of the head of flying */
	int flying_live;        /* slots of flying that did not move */
	int64_t closed_until;   /* stands for starts that are in no ring */
} Window;

typedef struct Breaker
{
	bool open;
	int faults;            /* in a row */
	uint64_t stale_ticket; /* tickets below started before the breaker opened last */
	uint64_t probe;        /* ticket of the probe under way, 0: none */
	int64_t probe_wait;    /* wait before the next probe */
	int64_t probe_due;
} Breaker;

struct PemsLimiter
{
	int rate;
	uint64_t next_ticket;
	int64_t throttled_until;
	Breaker breaker;
	Window *window; /* a pointer, so that reading through a const limiter may drop expired slots */
};

/* ---------- rings ---------- */

static int64_t *
ring_at(const Ring *ring, size_t index)
{
	return &ring->release[(ring->head + index) & (ring->capacity - 1)];
}

static bool
ring_push(Ring *ring, int64_t release)
{
	if (ring->count == ring->capacity)
	{
		size_t capacity = ring->capacity == 0 ? 16 : ring->capacity * 2;
		int64_t *grown = malloc(capacity * sizeof(int64_t));

		if (grown == NULL)
			return false;
		for (size_t i = 0; i < ring->count; i++)
			grown[i] = *ring_at(ring, i);
		free(ring->release);
		ring->release = grown;
		ring->capacity = capacity;
		ring->head = 0;
	}
	ring->count++;
	*ring_at(ring, ring->count - 1) = release;
	return true;
}

static void
ring_pop(Ring *ring)
{
	ring->head = (ring->head + 1) & (ring->capacity - 1);
	ring->count--;
}

static void
ring_clear(Ring *ring)
{
	free(ring->release);
	*ring = (Ring){0};
}

/* ---------- window ---------- */

/*
 * Replace all slots by one date at which the last of them is free.  This is how
 * unlimited traffic is remembered, what a limiter that begins blind starts from,
 * and how a lack of memory errs on the side of the limit.
 */
static void
window_close(Window *window, int64_t now)
{
	ring_clear(&window->flying);
	ring_clear(&window->answered);
	window->flying_live = 0;
	window->closed_until = now + SLOT_LIFE_US;
}

static void
window_expire(Window *window, int64_t now)
{
	while (window->answered.count > 0 && *ring_at(&window->answered, 0) <= now)
		ring_pop(&window->answered);

	while (window->flying.count > 0 && *ring_at(&window->flying, 0) <= now)
	{
		if (*ring_at(&window->flying, 0) != SLOT_MOVED)
			window->flying_live--;
		ring_pop(&window->flying);
		window->flying_ticket++;
	}
}

/* Slots taken; expire first. */
static int
window_used(const Window *window)
{
	return window->flying_live + (int) window->answered.count;
}

static void
window_take(Window *window, uint64_t ticket, int64_t now)
{
	window_expire(window, now);
	if (window->flying.count == 0)
		window->flying_ticket = ticket;
	if (ring_push(&window->flying, now + SLOT_LIFE_US))
		window->flying_live++;
	else
		window_close(window, now);
}

/* The request of this ticket has been answered, so it arrived by now. */
static void
window_answered(Window *window, uint64_t ticket, int64_t now)
{
	int64_t release = now + PEMS_LIMITER_WINDOW_US;
	int64_t *slot;

	window_expire(window, now);
	if (ticket < window->flying_ticket || ticket - window->flying_ticket >= window->flying.count)
		return;
	slot = ring_at(&window->flying, ticket - window->flying_ticket);
	if (*slot <= release)
		return;
	*slot = SLOT_MOVED;
	window->flying_live--;
	if (!ring_push(&window->answered, release))
		window_close(window, now);
}

/*
 * When slot number `nth` (1 = the first) is free, with at least nth slots taken.
 * One step while the rate stays; more only while the starts under an older,
 * higher rate still count.
 */
static int64_t
window_release(const Window *window, int nth)
{
	size_t flying = 0;
	size_t answered = 0;
	int64_t release = 0;

	while (nth > 0)
	{
		bool has_flying = flying < window->flying.count;
		bool has_answered = answered < window->answered.count;

		if (has_flying && *ring_at(&window->flying, flying) == SLOT_MOVED)
		{
			flying++;
			continue;
		}
		if (has_flying && (!has_answered || *ring_at(&window->flying, flying) <=
												*ring_at(&window->answered, answered)))
			release = *ring_at(&window->flying, flying++);
		else if (has_answered)
			release = *ring_at(&window->answered, answered++);
		else
			break;
		nth--;
	}
	return release;
}

/* Free slots under a limit. */
static int
window_capacity(Window *window, int rate, int64_t now)
{
	int used;

	window_expire(window, now);
	used = window_used(window);
	return window->closed_until > now || used >= rate ? 0 : rate - used;
}

/* When a slot is free under a limit. */
static int64_t
window_next(Window *window, int rate, int64_t now)
{
	int64_t next = now;
	int used;

	window_expire(window, now);
	used = window_used(window);
	if (used >= rate)
		next = window_release(window, used - rate + 1);
	return next > window->closed_until ? next : window->closed_until;
}

/* ---------- breaker ---------- */

static void
breaker_close(Breaker *breaker)
{
	breaker->open = false;
	breaker->faults = 0;
	breaker->probe = 0;
}

static void
breaker_open(Breaker *breaker, uint64_t next_ticket, int64_t now)
{
	breaker->open = true;
	breaker->stale_ticket = next_ticket;
	breaker->probe = 0;
	breaker->probe_wait = PEMS_BREAKER_FIRST_US;
	breaker->probe_due = now + breaker->probe_wait;
}

/*
 * Requests that were under way when the breaker opened belong to the outage that
 * opened it.  Their faults tell nothing new: counted, thirty of them would push
 * the probe a minute away, or open the breaker again after it closed.
 */
static void
breaker_fault(Breaker *breaker, uint64_t ticket, uint64_t next_ticket, int64_t now)
{
	if (ticket < breaker->stale_ticket)
		return;
	if (!breaker->open)
	{
		if (++breaker->faults >= PEMS_BREAKER_THRESHOLD)
			breaker_open(breaker, next_ticket, now);
		return;
	}
	if (ticket != breaker->probe)
		return;
	if (breaker->faults < INT_MAX)
		breaker->faults++;
	breaker->probe = 0;
	breaker->probe_wait *= 2;
	if (breaker->probe_wait > PEMS_BREAKER_LAST_US)
		breaker->probe_wait = PEMS_BREAKER_LAST_US;
	breaker->probe_due = now + breaker->probe_wait;
}

/* ---------- the limiter ---------- */

static int
effective_rate(int rate)
{
	return rate <= 0 || rate > PEMS_LIMITER_MAX_RATE ? 0 : rate;
}

PemsLimiter *
pems_limiter_create(int rate, bool blind, int64_t now)
{
	PemsLimiter *limiter = calloc(1, sizeof(PemsLimiter));
	Window *window = calloc(1, sizeof(Window));

	if (limiter == NULL || window == NULL)
	{
		free(limiter);
		free(window);
		return NULL;
	}
	limiter->rate = effective_rate(rate);
	limiter->next_ticket = 1;
	limiter->throttled_until = INT64_MIN;
	limiter->window = window;
	window->closed_until = INT64_MIN;
	if (blind)
		window_close(window, now);
	return limiter;
}

void
pems_limiter_destroy(PemsLimiter *limiter)
{
	if (limiter == NULL)
		return;
	ring_clear(&limiter->window->flying);
	ring_clear(&limiter->window->answered);
	free(limiter->window);
	free(limiter);
}

void
pems_limiter_set_rate(PemsLimiter *limiter, int rate, int64_t now)
{
	rate = effective_rate(rate);
	if (rate == 0 && limiter->rate != 0)
	{
		/* Without a limit nothing fills or drops slots; keep what they mean. */
		window_expire(limiter->window, now);
		if (window_used(limiter->window) > 0)
			window_close(limiter->window, now);
	}
	limiter->rate = rate;
}

int
pems_limiter_capacity(const PemsLimiter *limiter, int64_t now)
{
	const Breaker *breaker = &limiter->breaker;
	int capacity = INT_MAX;

	if (now < limiter->throttled_until)
		return 0;
	if (breaker->open && (breaker->probe != 0 || now < breaker->probe_due))
		return 0;
	if (limiter->rate > 0)
		capacity = window_capacity(limiter->window, limiter->rate, now);
	return breaker->open && capacity > 1 ? 1 : capacity;
}

int64_t
pems_limiter_next(const PemsLimiter *limiter, int64_t now)
{
	const Breaker *breaker = &limiter->breaker;
	int64_t next = now;

	if (breaker->open && breaker->probe != 0)
		return PEMS_LIMITER_NEVER;
	if (limiter->rate > 0)
		next = window_next(limiter->window, limiter->rate, now);
	if (next < limiter->throttled_until)
		next = limiter->throttled_until;
	if (breaker->open && next < breaker->probe_due)
		next = breaker->probe_due;
	return next;
}

uint64_t
pems_limiter_start(PemsLimiter *limiter, int64_t now)
{
	uint64_t ticket = limiter->next_ticket++;

	if (limiter->rate > 0)
		window_take(limiter->window, ticket, now);
	else
		limiter->window->closed_until = now + SLOT_LIFE_US;
	if (limiter->breaker.open && limiter->breaker.probe == 0)
		limiter->breaker.probe = ticket;
	return ticket;
}

void
pems_limiter_end(PemsLimiter *limiter, uint64_t ticket, PemsLimiterOutcome outcome, int64_t now)
{
	switch (outcome)
	{
		case PEMS_LIMITER_ANSWERED:
			window_answered(limiter->window, ticket, now);
			breaker_close(&limiter->breaker);
			break;
		case PEMS_LIMITER_FAULT:
			/* No answer: when it arrived, or whether it still will, is not known. */
			breaker_fault(&limiter->breaker, ticket, limiter->next_ticket, now);
			break;
		case PEMS_LIMITER_ABANDONED:
			if (ticket == limiter->breaker.probe)
				limiter->breaker.probe = 0;
			break;
	}
}

void
pems_limiter_throttle(PemsLimiter *limiter, int64_t until)
{
	/* Several requests may be answered 429; the longest wait is the one to keep. */
	if (limiter->throttled_until < until)
		limiter->throttled_until = until;
}

PemsBreakerState
pems_limiter_breaker(const PemsLimiter *limiter, int64_t now)
{
	const Breaker *breaker = &limiter->breaker;

	if (!breaker->open)
		return PEMS_BREAKER_CLOSED;
	if (breaker->probe != 0 || now >= breaker->probe_due)
		return PEMS_BREAKER_PROBING;
	return PEMS_BREAKER_OPEN;
}

int
pems_limiter_faults(const PemsLimiter *limiter)
{
	return limiter->breaker.faults;
}

/* ---------- shares ---------- */

/*
 * Give every organization up to `rounds` slots, as that many turns of one each
 * would, but no more than `capacity` in all (only where rounds is 1 does that
 * bound).  Returns the slots given and moves the cursor to who got the last.
 */
static int
share_rounds(int rounds, int capacity, size_t count, const int *wanted, size_t *cursor, int *grants)
{
	size_t begin = *cursor;
	int most = 0;
	int given = 0;

	for (size_t i = 1; i <= count && given < capacity; i++)
	{
		size_t who = (begin + i) % count;
		int rest = wanted[who] - grants[who];
		int share = rest < rounds ? rest : rounds;

		if (share <= 0)
			continue;
		grants[who] += share;
		given += share;
		if (share >= most)
		{
			most = share;
			*cursor = who;
		}
	}
	return given;
}

int
pems_limiter_share(int capacity, size_t count, const int *wanted, size_t *cursor, int *grants)
{
	size_t begin;
	int total = 0;

	for (size_t i = 0; i < count; i++)
		grants[i] = 0;
	if (count == 0)
		return 0;
	begin = *cursor % count;

	while (total < capacity)
	{
		size_t hungry = 0;
		int left = capacity - total;
		int rounds;

		for (size_t i = 0; i < count; i++)
			hungry += wanted[i] > grants[i] ? 1 : 0;
		if (hungry == 0)
			break;
		/* As many whole rounds as the slots last for; then what is left of one. */
		rounds = hungry > (size_t) left ? 1 : left / (int) hungry;
		*cursor = begin;
		total += share_rounds(rounds, left, count, wanted, cursor, grants);
	}
	return total;
}
