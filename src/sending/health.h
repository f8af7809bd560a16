/*
 * sending/health.h
 *		Health checks: a session asks, the worker calls PEMS, the session gets the answer.
 *
 * Through the worker, because it alone has the tokens, the rate limit and the breaker.
 */
#ifndef PEMS_HEALTH_H
#define PEMS_HEALTH_H

#include "postgres.h"

#include "http/client.h"
#include "shared/shmem.h"

/* --- a session --- */

typedef struct PemsHealthAnswer
{
	bool healthy;
	int64 latency_us;                   /* -1: PEMS did not answer */
	char error[PEMS_WORKER_ERROR_SIZE]; /* empty when healthy */
} PemsHealthAnswer;

/*
 * Ask the worker of this database for a health check of that organization's PEMS, and wait: not
 * longer than a request may take, and once more for its turn.  A missing worker is an answer, too.
 */
extern void pems_health_ask(const char *organization_id, PemsHealthAnswer *answer);

/* --- the worker --- */

/* Call once, when connected. */
extern void pems_health_initialize(void);

/* Accept what sessions have asked for. */
extern void pems_health_accept(int64 now);
/*
 * Start those whose endpoint lets them, as many as that at most, and answer those that cannot be
 * made.  Returns how many were started.
 */
extern int pems_health_start(PemsHttpClient *client, PemsWorkerStatus status, int64 now, int most);
/* The answer to a request: was it a check's? */
extern bool pems_health_finish(void *owner, const PemsAnswer *answer, int64 now);
/* When pems_health_start() must be called again; INT64_MAX: no need to. */
extern int64 pems_health_next_us(int64 now);
/* The extension was dropped: tell all who wait.  True when a request was under way. */
extern bool pems_health_forget(void);

#endif /* PEMS_HEALTH_H */
