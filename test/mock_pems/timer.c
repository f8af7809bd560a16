/*
 * timer.c
 *		Requests that wait: their connections are suspended, and one thread wakes them.
 *
 * A binary heap of deadlines.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <microhttpd.h>

#include "clock.h"
#include "memory.h"
#include "request.h"
#include "timer.h"

/* ---------- the heap; the caller holds the lock ---------- */

static void
push(MockTimer *timer, MockTimerEntry entry)
{
	size_t at = timer->count++;

	if (timer->count > timer->capacity)
	{
		timer->capacity = timer->capacity == 0 ? 64 : timer->capacity * 2;
		timer->heap = mock_memory_resize(timer->heap, timer->capacity * sizeof(*timer->heap));
	}
	while (at > 0 && timer->heap[(at - 1) / 2].due_us > entry.due_us)
	{
		timer->heap[at] = timer->heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	timer->heap[at] = entry;
}

static MockRequest *
pop(MockTimer *timer)
{
	MockRequest *soonest = timer->heap[0].request;
	MockTimerEntry last = timer->heap[--timer->count];
	size_t at = 0;

	for (;;)
	{
		size_t child = at * 2 + 1;

		if (child >= timer->count)
			break;
		if (child + 1 < timer->count && timer->heap[child + 1].due_us < timer->heap[child].due_us)
			child++;
		if (timer->heap[child].due_us >= last.due_us)
			break;
		timer->heap[at] = timer->heap[child];
		at = child;
	}
	timer->heap[at] = last;
	return soonest;
}

/* ---------- the thread ---------- */

static void
wait_until(MockTimer *timer, int64_t due_us)
{
	struct timespec until = {.tv_sec = due_us / 1000000, .tv_nsec = due_us % 1000000 * 1000};

	pthread_cond_timedwait(&timer->wake, &timer->lock, &until);
}

static void *
run(void *argument)
{
	MockTimer *timer = argument;

	pthread_mutex_lock(&timer->lock);
	while (!timer->stopping)
	{
		MockRequest *request;

		if (timer->count == 0)
		{
			pthread_cond_wait(&timer->wake, &timer->lock);
			continue;
		}
		if (timer->heap[0].due_us > mock_clock_monotonic_us())
		{
			wait_until(timer, timer->heap[0].due_us);
			continue;
		}
		request = pop(timer);
		pthread_mutex_unlock(&timer->lock);
		timer->due(request);
		pthread_mutex_lock(&timer->lock);
	}
	pthread_mutex_unlock(&timer->lock);
	return NULL;
}

void
mock_timer_start(MockTimer *timer, void (*due)(MockRequest *))
{
	pthread_condattr_t attributes;
	int error;

	memset(timer, 0, sizeof(*timer));
	timer->due = due;
	pthread_mutex_init(&timer->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&timer->wake, &attributes);
	pthread_condattr_destroy(&attributes);
	error = pthread_create(&timer->thread, NULL, run, timer);
	if (error != 0)
		mock_memory_die("could not start a thread: %s", strerror(error));
}

static bool
add(MockTimer *timer, MockRequest *request, int64_t delay_us, bool suspend)
{
	MockTimerEntry entry = {mock_clock_monotonic_us() + delay_us, request};
	bool taken;

	pthread_mutex_lock(&timer->lock);
	taken = !timer->stopping;
	if (taken)
	{
		/* under the lock: the thread must not resume what is not suspended yet */
		if (suspend)
			MHD_suspend_connection(request->connection);
		push(timer, entry);
		pthread_cond_signal(&timer->wake);
	}
	pthread_mutex_unlock(&timer->lock);
	return taken;
}

bool
mock_timer_suspend(MockTimer *timer, MockRequest *request, int64_t delay_us)
{
	return add(timer, request, delay_us, true);
}

bool
mock_timer_again(MockTimer *timer, MockRequest *request, int64_t delay_us)
{
	return add(timer, request, delay_us, false);
}

void
mock_timer_cancel(MockTimer *timer, void (*cancel)(MockRequest *))
{
	MockTimerEntry *entries;
	size_t count;

	pthread_mutex_lock(&timer->lock);
	entries = timer->heap;
	count = timer->count;
	timer->heap = NULL;
	timer->count = 0;
	timer->capacity = 0;
	pthread_mutex_unlock(&timer->lock);
	for (size_t i = 0; i < count; i++)
		cancel(entries[i].request);
	free(entries);
}

void
mock_timer_stop(MockTimer *timer)
{
	pthread_mutex_lock(&timer->lock);
	timer->stopping = true;
	pthread_cond_signal(&timer->wake);
	pthread_mutex_unlock(&timer->lock);
	pthread_join(timer->thread, NULL);
}

size_t
mock_timer_count(MockTimer *timer)
{
	size_t count;

	pthread_mutex_lock(&timer->lock);
	count = timer->count;
	pthread_mutex_unlock(&timer->lock);
	return count;
}
