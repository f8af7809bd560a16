/*
 * http/retry_after.h
 *		The Retry-After header: how many seconds an answer asks to wait.
 *
 * Any process; reads no clock.  Its bounds are for pems/retry.h.
 */
#ifndef PEMS_HTTP_RETRY_AFTER_H
#define PEMS_HTTP_RETRY_AFTER_H

#include <stdint.h>

/*
 * value: the Retry-After header; date: the answer's Date header, or NULL.  (A date is
 * measured against Date, because the two clocks belong to the same machine.)  now: our clock, in
 * seconds since 1970, for when there is no Date that can be read.
 *
 * Returns seconds, 0 for a date that is over; -1 where it says neither a number nor a date.
 */
extern int64_t pems_http_retry_after_seconds(const char *value, const char *date, int64_t now);

#endif /* PEMS_HTTP_RETRY_AFTER_H */
