/*
 * sending/pull.h
 *		A pull on its way: its request, its answer, and the page that is being stored.
 *
 * Process: the background worker, outside any transaction.
 * Memory: a context of its own; the page is malloc'ed (page.h).
 */
#ifndef PEMS_SENDING_PULL_H
#define PEMS_SENDING_PULL_H

#include "postgres.h"

#include "lib/ilist.h"

#include "database/pulls.h"
#include "http/client.h"
#include "sending/roster.h"

/* What it is at. */
typedef enum PemsPullStep
{
	PEMS_PULL_ASKING,    /* its request is under way */
	PEMS_PULL_STORING,   /* a page or a record is there, and is being stored */
	PEMS_PULL_SEARCHING, /* for records that its listing did not show */
	PEMS_PULL_RECORDING  /* what `next` says is to be recorded */
} PemsPullStep;

typedef struct PemsPull
{
	MemoryContext memory;
	PemsPullWork work;
	PemsOrganization *organization;
	PemsEndpoint *endpoint;
	uint64 ticket; /* from the endpoint's limiter */
	PemsPullStep step;
	PemsPullNext next;

	/* --- while its page is stored --- */
	PemsPage page;
	bool has_page;
	size_t stored;
	bool one_by_one; /* a record of the page may be one that the database refuses */
	PemsTexts changed;
	int32 counts[3];

	bool counted;        /* it has a slot for pulls, until its page is stored */
	int refusals;        /* transactions in a row that failed */
	int64 not_before_us; /* the last of them did; monotonic */
	dlist_node node;
} PemsPull;

/* Makes it, with a copy of work. */
extern PemsPull *pems_pull_make(const PemsPullWork *work, PemsOrganization *organization);
extern void pems_pull_free(PemsPull *pull);
/* Start its request.  False: it could not be made; `next` says what is to be recorded. */
extern bool pems_pull_start(PemsPull *pull, PemsHttpClient *client, int64 now);
/*
 * It cannot go on now: a page that is there is dropped, and the same request is made again later.
 * error_code is static.
 */
extern void pems_pull_wait(PemsPull *pull, const char *error_code, const char *sentence);
/* Its answer is there: judge it; step says what is to be done. */
extern void pems_pull_finish(PemsPull *pull, const PemsAnswer *answer, int64 now);

#endif /* PEMS_SENDING_PULL_H */
