/*
 * sending/endpoint.h
 *		Endpoints: one base URL of PEMS each, with its rate limit, its breaker and the counts of
 *		what is claimed and under way for it.  The counts are changed here and nowhere else.
 *
 * Process: the background worker.  Endpoints are never freed while the worker serves one
 * installation of the extension, because requests under way point to them;
 * pems_endpoints_clear() ends that.
 */
#ifndef PEMS_ENDPOINT_H
#define PEMS_ENDPOINT_H

#include "postgres.h"

#include "pems/judge.h"
#include "sending/limiter.h"
#include "shared/shmem.h"

typedef struct PemsEndpoint
{
	char *name; /* scheme://host:port */
	PemsLimiter *limiter;
	size_t last_turn; /* the organization that was served last */

	int claimed;      /* items that are not recorded yet, nor wait for somebody's lock */
	int waiting;      /* those of them whose request has not started */
	int under_way;    /* requests */
	int since_pull;   /* requests of items that started since the last pull's */
	int answered;     /* requests that ended since the last claim: how fast it is */
	int64 latency_us; /* of its answers, the last ones weigh most; 0: none yet */

	bool breaker_was_open; /* for the log */
	char last_error[256];  /* of a request that says something of the endpoint */
	TimestampTz last_error_at;
	struct PemsEndpoint *next;
} PemsEndpoint;

extern PemsEndpoint *pems_endpoints(void);
/* Finds it, or makes it.  An ERROR when out of memory. */
extern PemsEndpoint *pems_endpoint_for(const char *name, int64 now);
/* New settings: rate limit. */
extern void pems_endpoints_configure(int64 now);
/* Endpoints that are made from now on are new: no predecessor can have called them a moment ago. */
extern void pems_endpoints_all_known(void);
extern void pems_endpoints_clear(void);

/* How many items may be claimed for it: what may start, and a stock for the next moment. */
extern int pems_endpoint_claimable(const PemsEndpoint *endpoint, int64 now);
/* The same without limiter and breaker: how many could be claimed. */
extern int pems_endpoint_free_slots(const PemsEndpoint *endpoint);
/* May one more request be under way, of those that max_in_flight allows? */
extern bool pems_endpoint_has_slot(const PemsEndpoint *endpoint);

/*
 * What happens to an item: it is claimed; waits for its request to start; waits no more; its
 * request is under way; is answered; and the item is recorded, or forgotten.
 */
extern void pems_endpoint_item_claimed(PemsEndpoint *endpoint);
extern void pems_endpoint_item_waits(PemsEndpoint *endpoint);
extern void pems_endpoint_item_waits_no_more(PemsEndpoint *endpoint);
extern void pems_endpoint_item_under_way(PemsEndpoint *endpoint);
extern void pems_endpoint_item_answered(PemsEndpoint *endpoint);
extern void pems_endpoint_item_released(PemsEndpoint *endpoint);
/* The request of a pull starts; it has ended; and its page is stored, or dropped. */
extern void pems_endpoint_pull_under_way(PemsEndpoint *endpoint);
extern void pems_endpoint_pull_answered(PemsEndpoint *endpoint);
extern void pems_endpoint_pull_over(void);
/*
 * May one more request of a pull be under way?  Pulls, with the pages that wait to be stored, have
 * at most a quarter of max_in_flight, and none while claimed items wait for a slot of the endpoint.
 */
extern bool pems_endpoint_has_slot_for_pull(const PemsEndpoint *endpoint);
/*
 * How many requests of pulls may start now.  before_items: one, where nine of items have started
 * since the last one: so pulls have a tenth of a limit that items use up.
 */
extern int pems_endpoint_free_for_pulls(const PemsEndpoint *endpoint, bool before_items, int64 now);
/* A claim was made for all endpoints. */
extern void pems_endpoints_claim_made(void);

/* A request starts, for an item or for a health check.  Returns the limiter's ticket for it. */
extern uint64 pems_endpoint_start(PemsEndpoint *endpoint, int64 now);
/* Its first byte leaves now: the limiter knows from now on when it arrives. */
extern void pems_endpoint_sent(PemsEndpoint *endpoint, uint64 ticket);
/*
 * The request has ended.  What the judged answer says of the endpoint goes to the limiter, the
 * breaker and last_error.
 */
extern void pems_endpoint_end(PemsEndpoint *endpoint, uint64 ticket, const PemsAnswer *answer,
							  const PemsOutcome *outcome, int64 now);
extern bool pems_endpoint_breaker_is_open(const PemsEndpoint *endpoint, int64 now);

/* Say in the log which breakers have opened or closed since the last call. */
extern void pems_endpoints_log_breakers(int64 now);
extern int pems_endpoints_open_breakers(int64 now);
/* For other processes to see.  Fills in at most that many; returns how many. */
extern int pems_endpoints_describe(PemsEndpointState *states, int most);

#endif /* PEMS_ENDPOINT_H */
