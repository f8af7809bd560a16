/*
 * sending/limiter.h
 *		Rate limit and breaker of one endpoint.
 *
 * Pure: the clock is passed in, as microseconds of any monotonic clock.
 *
 * Rate.  No 1-second window that the *server* sees may hold more than `rate`
 * requests.  A request that we start now may arrive late, so its permit is not
 * free one second after the start, but one second after we know that it arrived:
 * its answer, or PEMS_LIMITER_ARRIVAL_US after it was sent, whichever comes first.
 * Sent is not started: a connection may have to be made before, which takes three
 * round trips or more, so that ten requests on new connections may arrive together
 * with ten later ones on connections that stand.  Until the limiter is told that
 * a request was sent, or that it ended, its permit stays taken.
 * Unused capacity is available at once: there is no bucket to fill.
 *
 * A limiter that starts knows nothing of the second before (its predecessor may
 * have been killed), so `blind` makes it begin with every permit taken just now.
 */
#ifndef PEMS_LIMITER_H
#define PEMS_LIMITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/limits.h"

/*
 * One second, and a fiftieth more: the clock that the server measures with may run a little faster
 * or slower.
 */
#define PEMS_LIMITER_WINDOW_US  1020000
#define PEMS_LIMITER_ARRIVAL_US 250000
#define PEMS_BREAKER_THRESHOLD  5 /* endpoint faults in a row that open it */
#define PEMS_BREAKER_FIRST_US   INT64_C(5000000)
#define PEMS_BREAKER_LAST_US    INT64_C(60000000)
#define PEMS_LIMITER_NEVER      INT64_MAX

typedef struct PemsLimiter PemsLimiter;

/*
 * rate: requests per second; 0, or more than PEMS_LIMITER_MAX_RATE: no limit.  NULL when out of
 * memory.
 */
extern PemsLimiter *pems_limiter_create(int rate, bool blind, int64_t now);
extern void pems_limiter_destroy(PemsLimiter *limiter);
/* Takes effect at once; starts of the last second still count. */
extern void pems_limiter_set_rate(PemsLimiter *limiter, int rate, int64_t now);

/*
 * How many requests may start now (INT_MAX without limit; 0 while throttled or the breaker is open;
 * 1 when a probe is due).
 */
extern int pems_limiter_capacity(const PemsLimiter *limiter, int64_t now);
/*
 * The earliest time at which capacity may be above 0: now, a later time, or NEVER
 * (only pems_limiter_sent() or pems_limiter_end() can change it: a probe is under
 * way, or every permit belongs to a request that has not been sent).
 */
extern int64_t pems_limiter_next(const PemsLimiter *limiter, int64_t now);
/* A request starts.  The ticket is handed back with its end. */
extern uint64_t pems_limiter_start(PemsLimiter *limiter, int64_t now);
/*
 * Its connection stands, and its first byte leaves now.  Whoever does not know may
 * leave this out: the permit is then free one second after the answer.
 */
extern void pems_limiter_sent(PemsLimiter *limiter, uint64_t ticket, int64_t now);

typedef enum PemsLimiterEnding
{
	PEMS_LIMITER_ANSWERED, /* the endpoint is alive, whatever it said */
	PEMS_LIMITER_FAULT,    /* endpoint fault: 502, 503, 504, refused, reset, DNS, TLS, timeout */
	PEMS_LIMITER_ABANDONED /* never left, or cancelled by us: says nothing about the endpoint */
} PemsLimiterEnding;

extern void pems_limiter_end(PemsLimiter *limiter, uint64_t ticket, PemsLimiterEnding ending,
							 int64_t now);
/* 429: nothing starts before `until`. */
extern void pems_limiter_throttle(PemsLimiter *limiter, int64_t until);

extern PemsBreakerState pems_limiter_breaker(const PemsLimiter *limiter, int64_t now);
extern int pems_limiter_faults(const PemsLimiter *limiter); /* in a row */

#endif /* PEMS_LIMITER_H */
