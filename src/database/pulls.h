/*
 * database/pulls.h
 *		The worker's transactions for read sync: as database.h for items.
 *
 * Process: the background worker.  Each function below is one transaction of its own; none may be
 * called inside a transaction.  What comes out is allocated in the current memory context, and set
 * only with PEMS_DATABASE_OK.  All that is decided in SQL is in sql/48_pull_store.sql and
 * 49_pull_steps.sql.
 */
#ifndef PEMS_PULLS_H
#define PEMS_PULLS_H

#include "postgres.h"

#include "database/database.h"
#include "pems/page.h"
#include "pems/pull.h"

/* When an organization has something to pull. */
typedef struct PemsPullTime
{
	char *organization_id;
	TimestampTz next_at;
} PemsPullTime;

/* A pull that may go on. */
typedef struct PemsPullWork
{
	char *job_id;
	char *organization_id;
	bool searches;       /* nothing is asked of PEMS: call pems_database_pull_search() */
	PemsPullPhase phase; /* of its request */
	char *asked;         /* the record; NULL: a page */
	char *updated_since; /* NULL: all records */
	char *cursor;        /* NULL: the first page */
	int64 requests;      /* numbers this one */
	int failures;
	bool restarted;
	bool gone_before;
	PemsPullCursors cursors;
} PemsPullWork;

typedef struct PemsPullLook
{
	PemsPullWork *works;
	int work_count;
	PemsPullTime *times; /* of those organizations that have something, now or later */
	int time_count;
} PemsPullLook;

/* Which organizations have something to pull?  Begins regular deltas, too.  Fills in the times. */
extern PemsDatabaseStatus pems_database_pull_look(const char *const *organization_ids, int count,
												  PemsPullLook *look);
/* The same, and up to `most` pulls of these organizations, one of each, go on. */
extern PemsDatabaseStatus pems_database_pull_start(const char *const *organization_ids, int count,
												   int most, PemsPullLook *look);

/* Some records of a page. */
typedef struct PemsPullSlice
{
	const char *job_id;
	const PemsPage *page;
	size_t first; /* records of the page that are stored already */
	size_t count;
	const char *refused; /* the database refuses its one record, and this is why; NULL */

	/* Where it is the last slice: what is known of the page, and of those before. */
	bool is_last;
	PemsPullCursors cursors;
	PemsTexts changed; /* for listeners: records of the page that changed ... */
	int32 counts[3];   /* ... and how many were created, updated and deleted */

	/* out */
	bool ours; /* false: the pull has ended meanwhile */
	PemsTexts messages;
} PemsPullSlice;

/* Store it.  What changed is added to changed (a new array) and counts. */
extern PemsDatabaseStatus pems_database_pull_store(PemsPullSlice *slice);
/*
 * PEMS has not got the record that was asked for (gone), or does not show it.  refused: the
 * database does not take that, and why; NULL: not tried yet.
 */
extern PemsDatabaseStatus pems_database_pull_gone(const char *job_id, bool gone,
												  const char *refused, PemsTexts *messages);
/* The request failed. */
extern PemsDatabaseStatus pems_database_pull_failed(const char *job_id, const PemsPullNext *next,
													PemsTexts *messages);

/* How far the search for records that a listing did not show is. */
typedef struct PemsPullSearch
{
	bool done;
	int64 known;
	int64 missing;
} PemsPullSearch;

/* Search in so many records. */
extern PemsDatabaseStatus pems_database_pull_search(const char *job_id, int most,
													PemsPullSearch *search);
/* The search has ended.  error: why nothing may be marked as deleted, or NULL. */
extern PemsDatabaseStatus pems_database_pull_searched(const char *job_id, const char *error,
													  PemsTexts *messages);
/* Take up what a predecessor left. */
extern PemsDatabaseStatus pems_database_pull_put_back(void);

#endif /* PEMS_PULLS_H */
