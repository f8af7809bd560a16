/*
 * stats.h
 *		Counts and rates, for GET /_control/stats.
 *
 * Control calls are not counted.  A request arrives when it was read whole: from
 * that moment its organization is known.
 */
#ifndef MOCK_STATS_H
#define MOCK_STATS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "record/json.h"
#include "store.h"

typedef enum MockCall
{
	MOCK_CALL_UPDATE,
	MOCK_CALL_DELETE,
	MOCK_CALL_READ,
	MOCK_CALL_LIST,
	MOCK_CALL_HEALTH,
	MOCK_CALL_UNKNOWN /* no such path, or not with that method */
} MockCall;

#define MOCK_CALL_COUNT 6

/* "update" ..., "unknown" */
extern const char *mock_call_name(MockCall call);

#define MOCK_STATS_STATUS_COUNT 1000

typedef struct MockStats
{
	pthread_mutex_t lock; /* everything that is not atomic, and the rates of the organizations */
	MockRate rate;        /* all organizations, and requests that name none */
	int64_t requests;
	int64_t by_call[MOCK_CALL_COUNT];
	int64_t by_status[MOCK_STATS_STATUS_COUNT]; /* 0: no answer */
	int64_t in_progress;                        /* arrived and not yet answered */
	int64_t most_in_progress;
	atomic_llong changes;
	atomic_llong connections_accepted;
	atomic_llong connections_open;
	atomic_llong connections_used; /* that carried a PEMS request */
} MockStats;

extern void mock_stats_initialize(MockStats *stats);
extern void mock_stats_clear(MockStats *stats, MockStore *store);

/*
 * A request has arrived; organization may be NULL.  The times are taken under
 * the lock, so that they are in order.
 */
extern void mock_stats_arrive(MockStats *stats, MockOrganization *organization, MockCall call,
							  int64_t *monotonic_us, int64_t *wall_us);
/* Its answer is about to leave, or there will be none (status 0). */
extern void mock_stats_leave(MockStats *stats, int status);
/* Append the members of a JSON object. */
extern void mock_stats_describe(MockStats *stats, MockStore *store, JsonBuffer *out);

#endif /* MOCK_STATS_H */
