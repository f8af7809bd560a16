/*
 * shared/monotonic.h
 *		The clock of limiter, breaker and timers: it only ever goes forward.  And processor time.
 */
#ifndef PEMS_MONOTONIC_H
#define PEMS_MONOTONIC_H

#include <stdint.h>
#include <time.h>

/* Microseconds since some moment in the past. */
static inline int64_t
monotonic_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Microseconds of processor time that this process has taken: not those in which others had it. */
static inline int64_t
processor_us(void)
{
	struct timespec used;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	return (int64_t) used.tv_sec * 1000000 + used.tv_nsec / 1000;
}

#endif /* PEMS_MONOTONIC_H */
