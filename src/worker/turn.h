/*
 * worker/turn.h
 *		One turn of the worker: what is finished is recorded, what may go is claimed and started.
 *
 * Process: the background worker.  The loop in worker.c knows no more of it than this.
 */
#ifndef PEMS_TURN_H
#define PEMS_TURN_H

#include "postgres.h"

#include "shared/shmem.h"

extern void pems_turn_initialize(void);
/* An epoll descriptor to wait on beside the latch; it is another one when *number changes. */
extern int pems_turn_descriptor(uint32 *number);
/* Milliseconds until the next turn is due, if nothing happens before. */
extern long pems_turn_timeout_ms(void);
/* The settings were reloaded. */
extern void pems_turn_reconfigure(void);
/*
 * One turn.  reasons: the wake bits that were set since the last one; ready_since: what was
 * announced, by bucket (shmem.h), or NULL.
 */
extern void pems_turn_run(uint32 reasons, const TimestampTz *ready_since);

/* For the worker's entry in shared memory. */
typedef struct PemsTurnState
{
	PemsWorkerStatus status;
	int in_flight;
	int64 requests;
	int open_breakers;
	const char *last_error; /* NULL: none */
} PemsTurnState;

extern void pems_turn_state(PemsTurnState *state);
#endif /* PEMS_TURN_H */
