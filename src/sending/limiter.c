/*
 * sending/limiter.c
 *		Sliding window and circuit breaker of one endpoint.
 *
 * Process: any; pure, without PostgreSQL, I/O or a clock of its own.
 * Memory: malloc.  A limiter is one block plus three rings that grow with the
 * rate that is really used, so a thousand quiet endpoints cost next to nothing.
 *
 * The window.  Each request that started takes a permit until one second after it
 * arrived.  When that was is known only within bounds: not after its answer, and
 * not later than PEMS_LIMITER_ARRIVAL_US after it was sent.  Take `rate` + 1
 * requests and call the one that started last L.  When L started, a permit was free,
 * so one of the others had its latest possible arrival a full second before: no
 * 1-second window can hold them all, in whatever order they arrived or ended.
 *
 * A permit's life: unsent, then sent or answered, then free.  `permits` holds the
 * states by ticket.  `sent` holds the times at which requests without an answer
 * become free, in the order in which they were sent, `answered` those of requests
 * with an early answer, in the order of the answers.  So each of these two is
 * sorted by itself, and every operation looks at heads and tails only.
 */
#include "sending/limiter.h"

#include <limits.h>
#include <stdlib.h>

/* The longest time for which a request that was sent keeps its permit. */
#define SENT_LIFE_US (PEMS_LIMITER_WINDOW_US + PEMS_LIMITER_ARRIVAL_US)

typedef enum PermitState
{
	PERMIT_UNSENT,
	PERMIT_SENT,     /* in the ring `sent` */
	PERMIT_ANSWERED, /* in the ring `answered`; if it is still in `sent`, that one counts no more */
	PERMIT_FREE
} PermitState;

/* One entry of a ring; each ring uses what it needs. */
typedef struct Entry
{
	uint64_t ticket;   /* sent */
	int64_t release;   /* when the permit becomes free; not of an unsent one */
	PermitState state; /* permits */
} Entry;

typedef struct Ring
{
	Entry *entries;
	size_t head;
	size_t count;
	size_t capacity; /* a power of two, or 0 */
} Ring;

typedef struct Window
{
	Ring permits;
	Ring sent;
	Ring answered;
	uint64_t first_ticket; /* ticket of the head of permits */
	int used;              /* permits that are not free */
	int64_t closed_until;  /* stands for starts that are in no ring */
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
	/* a pointer, so that reading through a const limiter may drop expired permits */
	Window *window;
};

/* ---------- rings ---------- */

static Entry *
ring_at(const Ring *ring, size_t index)
{
	return &ring->entries[(ring->head + index) & (ring->capacity - 1)];
}

static bool
ring_push(Ring *ring, Entry entry)
{
	if (ring->count == ring->capacity)
	{
		size_t capacity = ring->capacity == 0 ? 16 : ring->capacity * 2;
		Entry *grown = malloc(capacity * sizeof(Entry));

		if (grown == NULL)
			return false;
		for (size_t i = 0; i < ring->count; i++)
			grown[i] = *ring_at(ring, i);
		free(ring->entries);
		ring->entries = grown;
		ring->capacity = capacity;
		ring->head = 0;
	}
	ring->count++;
	*ring_at(ring, ring->count - 1) = entry;
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
	free(ring->entries);
	*ring = (Ring){0};
}

/* ---------- window ---------- */

/* The permit of a ticket, or NULL when it is free or was never kept. */
static Entry *
window_permit(const Window *window, uint64_t ticket)
{
	if (ticket < window->first_ticket || ticket - window->first_ticket >= window->permits.count)
		return NULL;
	return ring_at(&window->permits, ticket - window->first_ticket);
}

static bool
is_sent(const Window *window, uint64_t ticket)
{
	const Entry *permit = window_permit(window, ticket);

	return permit != NULL && permit->state == PERMIT_SENT;
}

static void
window_clear(Window *window)
{
	ring_clear(&window->permits);
	ring_clear(&window->sent);
	ring_clear(&window->answered);
	window->used = 0;
}

/*
 * Replace all permits by one date at which the last of them is free.  This is how
 * unlimited traffic is remembered, what a limiter that begins blind starts from,
 * and how a lack of memory errs on the side of the limit.
 */
static void
window_close(Window *window, int64_t now)
{
	window_clear(window);
	window->closed_until = now + SENT_LIFE_US;
}

static void
window_expire(Window *window, int64_t now)
{
	while (window->answered.count > 0 && ring_at(&window->answered, 0)->release <= now)
	{
		ring_pop(&window->answered);
		window->used--;
	}
	/* Those that were answered meanwhile go at once, so that the head is one that counts. */
	while (window->sent.count > 0)
	{
		const Entry *head = ring_at(&window->sent, 0);

		if (is_sent(window, head->ticket))
		{
			if (head->release > now)
				break;
			window_permit(window, head->ticket)->state = PERMIT_FREE;
			window->used--;
		}
		ring_pop(&window->sent);
	}
	/* An answered permit has no more use for its state: its release stands in the ring. */
	while (window->permits.count > 0 && ring_at(&window->permits, 0)->state >= PERMIT_ANSWERED)
	{
		ring_pop(&window->permits);
		window->first_ticket++;
	}
}

static void
window_start(Window *window, uint64_t ticket, int64_t now)
{
	window_expire(window, now);
	if (window->permits.count == 0)
		window->first_ticket = ticket;
	if (ring_push(&window->permits, (Entry){.state = PERMIT_UNSENT}))
		window->used++;
	else
		window_close(window, now);
}

/* The request leaves now. */
static void
window_sent(Window *window, uint64_t ticket, int64_t now)
{
	Entry *permit = window_permit(window, ticket);

	if (permit == NULL)
	{
		/* It started without a limit, or its permit was lost for lack of memory. */
		window->closed_until = now + SENT_LIFE_US;
		return;
	}
	if (permit->state != PERMIT_UNSENT)
		return;
	permit->state = PERMIT_SENT;
	permit->release = now + SENT_LIFE_US;
	if (!ring_push(&window->sent, (Entry){.ticket = ticket, .release = permit->release}))
		window_close(window, now);
}

/*
 * The request ended without an answer.  When it arrived, or whether it still will,
 * is not known; if nobody told when it was sent, that may have been just now.
 */
static void
window_lost(Window *window, uint64_t ticket, int64_t now)
{
	const Entry *permit = window_permit(window, ticket);

	if (permit != NULL && permit->state == PERMIT_UNSENT)
		window_sent(window, ticket, now);
}

/* The request has been answered, so it arrived by now. */
static void
window_answered(Window *window, uint64_t ticket, int64_t now)
{
	Entry *permit;

	window_expire(window, now);
	permit = window_permit(window, ticket);
	if (permit == NULL || permit->state >= PERMIT_ANSWERED)
		return;
	/* A late answer must not keep the permit for longer than the bound did. */
	if (permit->state == PERMIT_SENT && permit->release <= now + PEMS_LIMITER_WINDOW_US)
		return;
	permit->state = PERMIT_ANSWERED;
	if (!ring_push(&window->answered, (Entry){.release = now + PEMS_LIMITER_WINDOW_US}))
		window_close(window, now);
}

/*
 * When permit number `nth` (1 = the first) is free.  One step while the rate stays;
 * more only while the starts under an older, higher rate still count.
 */
static int64_t
window_release(const Window *window, int nth)
{
	size_t sent = 0;
	size_t answered = 0;
	int64_t release = PEMS_LIMITER_NEVER;

	while (nth > 0)
	{
		const Entry *early =
			answered < window->answered.count ? ring_at(&window->answered, answered) : NULL;
		const Entry *late = sent < window->sent.count ? ring_at(&window->sent, sent) : NULL;

		if (late != NULL && !is_sent(window, late->ticket))
		{
			sent++;
			continue;
		}
		if (early == NULL && late == NULL)
			return PEMS_LIMITER_NEVER; /* what is left was not sent yet */
		if (late == NULL || (early != NULL && early->release <= late->release))
		{
			release = early->release;
			answered++;
		}
		else
		{
			release = late->release;
			sent++;
		}
		nth--;
	}
	return release;
}

/* Free permits under a limit. */
static int
window_capacity(Window *window, int rate, int64_t now)
{
	window_expire(window, now);
	return window->closed_until > now || window->used >= rate ? 0 : rate - window->used;
}

/* When a permit is free under a limit. */
static int64_t
window_next(Window *window, int rate, int64_t now)
{
	int64_t next = now;

	window_expire(window, now);
	if (window->used >= rate)
		next = window_release(window, window->used - rate + 1);
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
	window_clear(limiter->window);
	free(limiter->window);
	free(limiter);
}

void
pems_limiter_set_rate(PemsLimiter *limiter, int rate, int64_t now)
{
	rate = effective_rate(rate);
	if (rate == 0 && limiter->rate != 0)
	{
		/* Without a limit nothing fills or drops permits; keep what they mean. */
		window_expire(limiter->window, now);
		if (limiter->window->used > 0)
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
		window_start(limiter->window, ticket, now);
	else
		limiter->window->closed_until = now + SENT_LIFE_US;
	if (limiter->breaker.open && limiter->breaker.probe == 0)
		limiter->breaker.probe = ticket;
	return ticket;
}

void
pems_limiter_sent(PemsLimiter *limiter, uint64_t ticket, int64_t now)
{
	if (limiter->rate > 0)
		window_sent(limiter->window, ticket, now);
	else
		limiter->window->closed_until = now + SENT_LIFE_US;
}

void
pems_limiter_end(PemsLimiter *limiter, uint64_t ticket, PemsLimiterEnding ending, int64_t now)
{
	switch (ending)
	{
		case PEMS_LIMITER_ANSWERED:
			window_answered(limiter->window, ticket, now);
			breaker_close(&limiter->breaker);
			break;
		case PEMS_LIMITER_FAULT:
			window_lost(limiter->window, ticket, now);
			breaker_fault(&limiter->breaker, ticket, limiter->next_ticket, now);
			break;
		case PEMS_LIMITER_ABANDONED:
			window_lost(limiter->window, ticket, now);
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
