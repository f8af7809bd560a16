/*
 * timer.h
 *		Requests that wait: their connections are suspended, and one thread wakes them.
 *
 * The thread calls the owner's function when a request is due; whatever is to
 * happen to records happens there, because a connection whose client has gone
 * away never comes back to the handler, and PEMS would commit all the same.
 */
#ifndef MOCK_TIMER_H
#define MOCK_TIMER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct MockRequest MockRequest;

typedef struct MockTimerEntry
{
	int64_t due_us; /* monotonic */
	MockRequest *request;
} MockTimerEntry;

typedef struct MockTimer
{
	pthread_mutex_t lock;
	pthread_cond_t wake;
	pthread_t thread;
	void (*due)(MockRequest *); /* runs without the lock */
	MockTimerEntry *heap;       /* soonest first */
	size_t count;
	size_t capacity;
	bool stopping;
} MockTimer;

extern void mock_timer_start(MockTimer *timer, void (*due)(MockRequest *));
/*
 * Suspend the request's connection until its time.  The request belongs to the
 * timer from here on: the caller must not touch it any more.  False: the server
 * is going down, nothing was suspended.
 */
extern bool mock_timer_suspend(MockTimer *timer, MockRequest *request, int64_t delay_us);
/* The same for a request whose connection is suspended already. */
extern bool mock_timer_again(MockTimer *timer, MockRequest *request, int64_t delay_us);
/* Give every waiting request to the function; the timer goes on. */
extern void mock_timer_cancel(MockTimer *timer, void (*cancel)(MockRequest *));
/* Take no more requests, and end the thread.  mock_timer_cancel() afterwards. */
extern void mock_timer_stop(MockTimer *timer);
extern size_t mock_timer_count(MockTimer *timer);

#endif /* MOCK_TIMER_H */
