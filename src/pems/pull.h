/*
 * pems/pull.h
 *		What becomes of a pull after a request: as transition.h for an item, a pure function.
 *
 * Pure; any process.  No memory is allocated.  A pull is never given up because PEMS cannot be
 * reached: it waits, and says why.  It fails where waiting does not help: PEMS rejects the request,
 * or its listing has no end.
 */
#ifndef PEMS_PULL_H
#define PEMS_PULL_H

#include <stdbool.h>
#include <stdint.h>

#include "pems/judge.h"
#include "pems/sentence.h"

/* So many failures in a row wait retry_delay, and twice, and four times that; then it is a minute.
 */
#define PEMS_PULL_SHORT_WAITS 3
#define PEMS_PULL_WAIT_MS     60000

/* What a request was for. */
typedef enum PemsPullPhase
{
	PEMS_PULL_LISTING,   /* a page */
	PEMS_PULL_SINGLE,    /* the pull of one record */
	PEMS_PULL_CONFIRMING /* one record that a complete listing did not show */
} PemsPullPhase;

typedef struct PemsPullInput
{
	PemsPullPhase phase;
	int failures;        /* in a row, before this answer */
	bool restarted;      /* the listing was begun again already */
	bool cursor_repeats; /* of a page: pems_pull_cursor_repeats() says so */
	/*
	 * Something has told already that the record is gone, some seconds ago: a read, or, of a record
	 * to be confirmed, the complete listing, if the caller has let those seconds pass.
	 */
	bool gone_before;
	bool breaker_open; /* when the answer came */
	int64_t retry_delay_ms;
	double jitter; /* 0.0 to 1.0 */
} PemsPullInput;

typedef enum PemsPullAction
{
	PEMS_PULL_STORE,              /* the page (page.h), then go on, or end the listing */
	PEMS_PULL_RECORD,             /* the record (pems_page_read_one(), which may say a problem) */
	PEMS_PULL_CONFIRM,            /* the record seems to be gone: read it again after delay_ms */
	PEMS_PULL_GONE,               /* the record is gone */
	PEMS_PULL_KEEP,               /* to be confirmed, and PEMS does not show it: not marked */
	PEMS_PULL_WAIT,               /* the same request again after delay_ms */
	PEMS_PULL_BEGIN_AGAIN,        /* the listing, with its first page */
	PEMS_PULL_PAUSE_ORGANIZATION, /* the pull goes on when the organization does */
	PEMS_PULL_FAIL                /* the pull ends */
} PemsPullAction;

typedef struct PemsPullNext
{
	PemsPullAction action;
	int64_t delay_ms; /* CONFIRM, WAIT; else 0 */
	int failures;     /* to be remembered */
	bool gone_before; /* to be remembered, for this record */
	/*
	 * What stands in the way, as in an outcome, or CURSOR_REPEATED; NULL and "": nothing.  Of
	 * RECORD it says why PEMS's record cannot be stored.
	 */
	const char *error_code;
	PemsSentence error;
} PemsPullNext;

/*
 * What follows from an answer, as it was judged.  (Of a pull's read PemsAsked.version is 0: what a
 * lower version means is not PEMS's failure.)
 */
extern void pems_pull_after(const PemsPullInput *input, const PemsOutcome *outcome,
							PemsPullNext *next);

/*
 * What is remembered of the cursors of a listing, of any length; {0} before the first page.  To be
 * stored with the listing's position: after a crash the page is read again.
 */
typedef struct PemsPullCursors
{
	int64_t seen; /* cursors */
	int64_t last; /* hash of the last one */
	int64_t kept; /* hash of the last one whose number is a power of two */
} PemsPullCursors;

/*
 * Remember the nextCursor of a page.  True: PEMS has given it before, as far as is remembered.
 * (Brent's algorithm: a cursor that comes twice in a row is seen at once; where they go round in a
 * circle, that is seen within three times the larger of the circle and what came before it.)
 */
extern bool pems_pull_cursor_repeats(PemsPullCursors *cursors, const char *next_cursor);

#endif /* PEMS_PULL_H */
