/*
 * pems/retry.h
 *		When to try again: exponential backoff and the bounds of Retry-After.  Pure.
 */
#ifndef PEMS_RETRY_H
#define PEMS_RETRY_H

#include <stdint.h>

/* Bounds of a Retry-After, and what a missing or senseless one counts as; milliseconds. */
#define PEMS_RETRY_AFTER_MINIMUM_MS 1000
#define PEMS_RETRY_AFTER_MAXIMUM_MS 600000
#define PEMS_RETRY_AFTER_DEFAULT_MS 5000

/*
 * Wait before retry number `retry` (0 = the first): delay_ms * 2^retry, plus or
 * minus 10 % by jitter (0.0 to 1.0, from the caller's random source).  Saturates
 * at one hour.
 */
extern int64_t pems_retry_backoff_ms(int64_t delay_ms, int retry, double jitter);

/*
 * How long an answer asks to wait.  seconds: of its Retry-After (http/retry_after.h); negative: it
 * has none, or none that can be read.  Clamped to the bounds above.
 */
extern int64_t pems_retry_after_ms(int64_t seconds);

#endif /* PEMS_RETRY_H */
