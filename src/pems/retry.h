/*
 * pems/retry.h
 *		When to try again: exponential backoff and the Retry-After header.  Pure.
 */
#ifndef PEMS_RETRY_H
#define PEMS_RETRY_H

#include <stdbool.h>
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
 * How long a 429 asks to wait.  value: the Retry-After header or NULL; date: the
 * response's Date header or NULL (an HTTP date is measured against it, because
 * the two clocks belong to the same machine); now: our clock in seconds since
 * 1970, for when there is no Date.  Clamped to the bounds above.
 */
extern int64_t pems_retry_after_ms(const char *value, const char *date, int64_t now);

/* IMF-fixdate, RFC 850 and asctime dates (RFC 9110, 5.6.7) to seconds since 1970. */
extern bool pems_retry_read_http_date(const char *text, int64_t *seconds);

#endif /* PEMS_RETRY_H */
