/*
 * pems/retry.c
 *		When to try again: exponential backoff and the bounds of Retry-After.
 *
 * Process: any; pure, without PostgreSQL, I/O or a clock of its own.
 * Memory: none is allocated.
 */
#include "pems/retry.h"

/* No wait is longer than this, whatever the settings say. */
#define BACKOFF_MAXIMUM_MS INT64_C(3600000)

int64_t
pems_retry_backoff_ms(int64_t delay_ms, int retry, double jitter)
{
	int64_t wait = delay_ms > 0 ? delay_ms : 0;

	for (; retry > 0 && wait > 0 && wait < BACKOFF_MAXIMUM_MS; retry--)
		wait = wait > BACKOFF_MAXIMUM_MS / 2 ? BACKOFF_MAXIMUM_MS : wait * 2;
	if (wait > BACKOFF_MAXIMUM_MS)
		wait = BACKOFF_MAXIMUM_MS;
	if (!(jitter >= 0.0))
		jitter = 0.0;
	else if (jitter > 1.0)
		jitter = 1.0;
	wait = (int64_t) ((double) wait * (0.9 + 0.2 * jitter) + 0.5);
	return wait > BACKOFF_MAXIMUM_MS ? BACKOFF_MAXIMUM_MS : wait;
}

int64_t
pems_retry_after_ms(int64_t seconds)
{
	if (seconds < 0)
		return PEMS_RETRY_AFTER_DEFAULT_MS;
	if (seconds <= PEMS_RETRY_AFTER_MINIMUM_MS / 1000)
		return PEMS_RETRY_AFTER_MINIMUM_MS;
	if (seconds >= PEMS_RETRY_AFTER_MAXIMUM_MS / 1000)
		return PEMS_RETRY_AFTER_MAXIMUM_MS;
	return seconds * 1000;
}
