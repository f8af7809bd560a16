/*
 * sending/roster.h
 *		Organizations with their opened credentials, and the endpoints that they share.
 *
 * Process: the background worker.  Organizations and endpoints are never freed while
 * the worker serves one installation of the extension, because requests under way
 * point to them; pems_roster_clear() ends that.
 */
#ifndef PEMS_ROSTER_H
#define PEMS_ROSTER_H

#include "postgres.h"

#include "sending/limiter.h"
#include "database/queue.h"

/* One PEMS base URL: rate limit and breaker belong to it. */
typedef struct PemsEndpoint
{
	char *name; /* scheme://host:port */
	PemsLimiter *limiter;
	size_t cursor;         /* whose turn it was last */
	int in_hand;           /* items claimed for it and not finished */
	int flying;            /* requests under way */
	int backlog;           /* those of them whose request has not started */
	int finished;          /* requests that ended since the last claim: how fast it takes them */
	bool breaker_was_open; /* for the log */
	char last_error[256];  /* of a request that says something of the endpoint */
	TimestampTz last_error_at;
	struct PemsEndpoint *next;
} PemsEndpoint;

typedef struct PemsOrganization
{
	char *id;
	char *code;
	char *api_url;
	char *token; /* sodium memory; NULL: nothing can be sent, see trouble */
	int64 generation;
	PemsEndpoint *endpoint;
	bool listed;                      /* false: its credential is gone */
	bool refused;                     /* PEMS refuses the token; until the setup is read again */
	bool maybe_ready;                 /* a claim may find something */
	PemsPlace after[PEMS_PRIORITIES]; /* ... behind these places; DT_NOBEGIN: anywhere */
	/*
	 * Nothing up to here is ready, apart from what is announced: at or before after.  What stands
	 * between the two may have been passed over, because a session had it locked.
	 */
	PemsPlace low_water[PEMS_PRIORITIES];
	bool sweep;                  /* the next claim looks from there */
	TimestampTz look_again_from; /* for pems_roster_look_again(); DT_NOEND: no need */
	int used;                    /* scratch for a claim */
	const char *credential;      /* ok, no_key or cannot_open */
	char trouble[256];           /* why there is no token */
	struct PemsOrganization *next;
	struct PemsOrganization *next_in_place; /* of those that share a place for news */
} PemsOrganization;

extern PemsOrganization *pems_roster_organizations(void);
extern PemsEndpoint *pems_roster_endpoints(void);
extern int pems_roster_endpoint_count(void);
extern PemsOrganization *pems_roster_find(const char *id);

/*
 * Take over what the database says.  Opens credentials with the key file of the settings.  Returns
 * false when the key file cannot be used; *problem (static) then says why.
 */
extern bool pems_roster_update(const PemsQueueSetup *setup, int64 now, const char **problem);
/* New settings: rate limit. */
extern void pems_roster_configure(int64 now);
/* Something may be ready anywhere in every organization. */
extern void pems_roster_start_over(void);
/* Something may be ready behind the last claim of every organization. */
extern void pems_roster_expect_work(void);
/* Something may have been passed over: the next claims look from the low-water marks on. */
extern void pems_roster_sweep(void);
/* A claim with this grant has swept. */
extern void pems_roster_swept(PemsOrganization *organization, const PemsGrant *grant);
/* What became ready, by pems_shmem_place(): since when, or DT_NOEND. */
extern void pems_roster_hear(const TimestampTz *news);
/*
 * Go back once more for what was heard of since the last call: a session may have had it locked,
 * for a moment, when it was looked for.
 */
extern void pems_roster_look_again(void);
/* The item was claimed: the next claim looks behind it. */
extern void pems_roster_move_on(PemsOrganization *organization, const PemsItem *item);
extern void pems_roster_clear(void);

#endif /* PEMS_ROSTER_H */
