/*
 * rate.c
 *		The most events that any window of one second ever saw, exactly.
 *
 * A window that holds the most events can be moved until it ends with one of
 * them, so it is enough to look at the windows that end with an event.
 */
#include <stdlib.h>

#include "memory.h"
#include "rate.h"

#define FIRST_CAPACITY 64

static void
grow(MockRate *rate)
{
	size_t capacity = rate->capacity == 0 ? FIRST_CAPACITY : rate->capacity * 2;
	int64_t *times = mock_memory_allocate(capacity * sizeof(*times));

	for (size_t i = 0; i < rate->count; i++)
		times[i] = rate->times[(rate->first + i) & (rate->capacity - 1)];
	free(rate->times);
	rate->times = times;
	rate->capacity = capacity;
	rate->first = 0;
}

void
mock_rate_add(MockRate *rate, int64_t time_us)
{
	while (rate->count > 0 && time_us - rate->times[rate->first] >= MOCK_RATE_WINDOW_US)
	{
		rate->first = (rate->first + 1) & (rate->capacity - 1);
		rate->count--;
	}
	if (rate->count == rate->capacity)
		grow(rate);
	rate->times[(rate->first + rate->count) & (rate->capacity - 1)] = time_us;
	rate->count++;
	if ((int64_t) rate->count > rate->peak)
		rate->peak = (int64_t) rate->count;
}

void
mock_rate_clear(MockRate *rate)
{
	rate->first = 0;
	rate->count = 0;
	rate->peak = 0;
}
