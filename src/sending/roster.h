/*
 * sending/roster.h
 *		Organizations: their opened credentials, their endpoints, their cursors.
 *
 * Process: the background worker.  Organizations are never freed while the worker serves one
 * installation of the extension, because requests under way point to them; pems_roster_clear() ends
 * that, and frees the endpoints, too.
 */
#ifndef PEMS_ROSTER_H
#define PEMS_ROSTER_H

#include "postgres.h"

#include "database/database.h"
#include "sending/cursor.h"
#include "sending/endpoint.h"

typedef struct PemsOrganization
{
	char *id;
	char *code;
	char *api_url;
	char *token; /* sodium memory; NULL: nothing can be sent, see trouble */
	int64 generation;
	PemsEndpoint *endpoint;
	bool listed;            /* false: its credential is gone */
	bool refused;           /* PEMS refuses the token; until the setup is read again */
	int unrecordable;       /* reports in a row that the database refused */
	int64 claims_from_us;   /* ... and so nothing is claimed before that; monotonic */
	int64 pulls_from_us;    /* it has something to pull, from then on; monotonic; INT64_MAX: no */
	int64 pulled_us;        /* when it was its turn last */
	bool pulling;           /* a pull of it is under way here */
	bool maybe_ready;       /* a claim may find something behind the cursor */
	PemsCursor cursor;      /* where the next claim begins */
	int used;               /* scratch for a claim */
	const char *credential; /* ok, no_key or cannot_open */
	char trouble[256];      /* why there is no token */
	struct PemsOrganization *next;
	struct PemsOrganization *next_in_bucket; /* of those that announce in the same bucket */
} PemsOrganization;

extern PemsOrganization *pems_roster_organizations(void);
extern PemsOrganization *pems_roster_find(const char *id);

/*
 * Take over what the database says.  Opens credentials with the key file of the settings.  Returns
 * false when the key file cannot be used; *problem (static) then says why.
 */
extern bool pems_roster_update(const PemsDatabaseSetup *setup, int64 now, const char **problem);
/* Something may be ready anywhere in every organization. */
extern void pems_roster_start_over(void);
/* Something may be ready behind the cursor of every organization. */
extern void pems_roster_expect_work(void);
/* Items may have been passed over: the next claims are thorough (cursor.h). */
extern void pems_roster_make_thorough(void);
/*
 * What was announced, by the buckets of pems_shmem_bucket(): items became ready that are scheduled
 * for then or later; DT_NOEND: none.
 */
extern void pems_roster_announced(const TimestampTz *since);
/*
 * Go back once more to what was announced since the last call: a session may have had it locked,
 * for a moment, when it was looked for.
 */
extern void pems_roster_look_twice(void);
extern void pems_roster_clear(void);

#endif /* PEMS_ROSTER_H */
