/*
 * worker/turn.h
 *		One turn of the worker: what is finished is recorded, what may go is claimed and started.
 *
 * Process: the background worker.  Joins the rooms queue (SQL), delivery, roster and
 * pems_client (HTTP), so that the loop in worker.c needs to know neither.
 */
#ifndef PEMS_DISPATCH_H
#define PEMS_DISPATCH_H

#include "postgres.h"

#include "shared/shmem.h"

extern void pems_dispatch_initialize(void);
/* An epoll descriptor to wait on beside the latch; it is another one when *number changes. */
extern int pems_dispatch_descriptor(uint32 *number);
/* Milliseconds until the next turn is due, if nothing happens before. */
extern long pems_dispatch_timeout_ms(void);
/* The settings were reloaded. */
extern void pems_dispatch_reconfigure(void);
/*
 * One turn.  reasons: the wake bits that were set since the last one; news: what became ready, by
 * pems_shmem_place().
 */
extern void pems_dispatch_turn(uint32 reasons, const TimestampTz *news);

/* For the worker's slot in shared memory. */
typedef struct PemsDispatchState
{
	PemsWorkerStatus status;
	int in_flight;
	int64 requests;
	int open_breakers;
	const char *last_error; /* NULL: none */
} PemsDispatchState;

extern void pems_dispatch_state(PemsDispatchState *state);
/* Fills in at most that many; returns how many. */
extern int pems_dispatch_endpoints(PemsEndpointState *states, int most);

#endif /* PEMS_DISPATCH_H */
