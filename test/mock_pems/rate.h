/*
 * rate.h
 *		The most events that any window of one second ever saw, exactly.
 *
 * Not locked: the owner is.  Times come in order.
 */
#ifndef MOCK_RATE_H
#define MOCK_RATE_H

#include <stddef.h>
#include <stdint.h>

#define MOCK_RATE_WINDOW_US INT64_C(1000000)

/* A ring with the times of the last second; two events exactly a second apart share no window. */
typedef struct MockRate
{
	int64_t *times;
	size_t capacity; /* power of two, 0 before the first event */
	size_t first;
	size_t count;
	int64_t peak;
} MockRate;

extern void mock_rate_add(MockRate *rate, int64_t time_us);
extern void mock_rate_clear(MockRate *rate);

#endif /* MOCK_RATE_H */
