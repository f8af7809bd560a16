/*
 * database/database.h
 *		The worker's transactions: plain structs in and out, and SQL behind them.
 *
 * Process: the background worker.  Each function below is one transaction of its own, run as
 * pems_sync_worker; none may be called inside a transaction.  An ERROR in it aborts that
 * transaction only and comes back as PEMS_DATABASE_ERROR (or BUSY); pems_database_problem() has the
 * message.
 *
 * Files: transaction.c (begin, end, fail), setup.c, exchange.c, claim.c, recording.c with
 * report.c, housekeeping.c.
 */
#ifndef PEMS_DATABASE_H
#define PEMS_DATABASE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "database/array.h"
#include "pems/transition.h"
#include "shared/position.h"

typedef enum PemsDatabaseStatus
{
	PEMS_DATABASE_OK,
	PEMS_DATABASE_GONE, /* the extension is not there (any more): forget everything */
	PEMS_DATABASE_BUSY, /* a row was locked, a deadlock: the same call may succeed later */
	PEMS_DATABASE_SLOW, /* writing the application's tables took too long, and was canceled */
	/* the application's tables are not what was attached: nothing was done */
	PEMS_DATABASE_CHANGED,
	PEMS_DATABASE_ERROR
} PemsDatabaseStatus;

typedef enum PemsStanding
{
	PEMS_STANDING_OK,
	PEMS_STANDING_NOT_ATTACHED,
	PEMS_STANDING_COPY
} PemsStanding;

/* An organization with its sealed credential. */
typedef struct PemsDatabaseOrganization
{
	char *id;
	char *code;
	char *api_url;
	char *endpoint;
	unsigned char *sealed;
	size_t sealed_length;
	char *key_id;
	int64 generation;
} PemsDatabaseOrganization;

/* What the worker knows of the database; read anew when something in it changed. */
typedef struct PemsDatabaseSetup
{
	PemsStanding standing;
	PemsDatabaseOrganization *organizations;
	int organization_count;
	char *catalogue; /* field catalogue, JSON */
} PemsDatabaseSetup;

#define PEMS_NO_VERSION (-1)
/* In the place of known_version: PEMS refused the version sent, and did not name its own. */
#define PEMS_REFUSED_VERSION 0

/* A claimed item with all that is needed to decide and send. */
typedef struct PemsItem
{
	MemoryContext memory; /* of its texts, and of all that becomes of it */
	bool put_back;        /* there was no room for it: its texts were not read */
	bool too_large;       /* a record that it is to be compared with is, and was not read */
	char *id;
	int64 claim_token; /* the same for all items of a claim */
	char *organization_id;
	char *pfa_id;
	char *modification_id;
	char *job_id;       /* or NULL */
	int priority_index; /* 0 is the highest, PEMS_PRIORITIES - 1 the lowest */
	PemsPosition position;
	bool is_delete;
	PemsStep step;
	int attempt;
	int retry_count;
	int max_retries;
	int rounds;
	bool outcome_unknown;
	int64 previous_version; /* version that the item's last write was based on */
	int64 known_version;    /* version that PEMS named when it answered that write, or none */
	char *payload;          /* JSON */
	int64 base_version;
	int64 mirror_version; /* PEMS_NO_VERSION: no mirror */
	bool mirror_deleted;
	bool base_is_mirror; /* the mirror is as the user saw it */
	char *created_by;
	char *change_reason;
	char *base_data; /* JSON, or NULL; this and the next only when the mirror is not as he saw it */
	char *own_data;
	char *other_bases; /* JSON array, or NULL: what the user may have seen instead of base_data */
	char *mirror_data; /* the same, and where it is needed besides */
} PemsItem;

/* A report: what became of an item, for the database.  Texts may be NULL. */
typedef struct PemsReport
{
	const PemsItem *item;
	PemsTransition transition;
	int64 pems_version;       /* PEMS_NO_VERSION: not known */
	int64 known_version;      /* that PEMS named in its answer to a write; PEMS_NO_VERSION: none */
	const char *mirror_data;  /* JSON: the record that was read */
	const char *mirror_patch; /* JSON: the changes that PEMS applied */
	const char *conflict_kind;
	const char *conflict_fields; /* JSON array */
	const char *error_code;
	const char *error;
	const char *event_type; /* NULL: no request was made, and no audit line either */
	const char *http_method;
	const char *path;
	int http_status; /* 0: none */
	double latency_ms;
	const char *request;  /* JSON */
	const char *response; /* JSON */
} PemsReport;

/*
 * How many items of an organization may be claimed, and from where on.  A thorough claim begins at
 * the first ready item behind `passed`, and moves both there (sending/cursor.h says why).
 */
typedef struct PemsGrant
{
	const char *organization_id;
	int slots;
	bool thorough;
	PemsPosition after[PEMS_PRIORITIES];  /* what stands there or before is not looked at */
	PemsPosition passed[PEMS_PRIORITIES]; /* nothing that stands there or before is ready */
} PemsGrant;

/* What the last transaction that failed said. */
extern const char *pems_database_problem(void);
/*
 * Find the extension; PEMS_DATABASE_GONE when it is not installed.  Call again after
 * PEMS_DATABASE_GONE.
 */
extern PemsDatabaseStatus pems_database_open(void);
/* *setup is allocated in the current memory context. */
extern PemsDatabaseStatus pems_database_read_setup(PemsDatabaseSetup *setup);
/* Take up some of what a dead predecessor left; 0: there is nothing more. */
extern PemsDatabaseStatus pems_database_put_back_orphans(int *put_back);

/* What is known of a credential, for people. */
typedef struct PemsCredentialNote
{
	const char *organization_id;
	const char *state;   /* ok, no_key, cannot_open */
	const char *problem; /* NULL with ok */
} PemsCredentialNote;

extern PemsDatabaseStatus pems_database_note_credentials(const PemsCredentialNote *notes,
														 int count);

/* What goes into and comes out of one transaction that records reports and then claims. */
typedef struct PemsExchange
{
	PemsReport *const *reports;
	int report_count;
	/* nothing that has not to do with the reports: if it fails, they are at fault */
	bool only_record;
	bool careful; /* leave out reports whose rows others have locked, instead of waiting */
	const int64 *recorded_claims; /* claim tokens of which everything was recorded before */
	int recorded_claim_count;
	PemsGrant *grants;
	int grant_count;
	int64 room;           /* bytes that claimed items may take ... */
	bool one_fits_always; /* ... or one of them more, because there is nothing else in hand */

	bool *recorded;     /* per report: done with */
	PemsTexts messages; /* for pems_database_notify() */
	PemsItem *items;    /* what was claimed */
	int item_count;
	int64 room_missing;   /* for the largest that was put back; 0: there was room for all */
	TimestampTz next_due; /* when the next waiting item's time comes, or DT_NOEND */
} PemsExchange;

/* What comes out is allocated in the current memory context, and set only with PEMS_DATABASE_OK. */
extern PemsDatabaseStatus pems_database_exchange(PemsExchange *exchange);

/* An item that could not be claimed. */
typedef struct PemsPostponed
{
	char *item_id; /* NULL: there was none */
	bool failed;   /* it is a dead letter now */
	PemsTexts messages;
} PemsPostponed;

/* The item that a claim of one with this grant would take waits for its next retry. */
extern PemsDatabaseStatus pems_database_postpone_first(const PemsGrant *grant, const char *reason,
													   PemsPostponed *postponed);
/* Move the grant behind the item that a claim of one would take; *moved: there is one. */
extern PemsDatabaseStatus pems_database_skip_first(PemsGrant *grant, bool *moved);
/*
 * Make a dead letter of an item whose report the database refuses to record; touches no table of
 * the application.
 */
extern PemsDatabaseStatus pems_database_give_up(const PemsReport *report, const char *reason,
												PemsTexts *messages);
/* Show a dead letter in the application's table, if it lets us. */
extern PemsDatabaseStatus pems_database_mark_failed(const char *item_id);
/* Tell listeners.  What fails here is lost, and harms nothing else. */
extern PemsDatabaseStatus pems_database_notify(const PemsTexts *messages);
/* Show modifications of slow requests as syncing. */
extern PemsDatabaseStatus pems_database_mark_syncing(const char *const *item_ids, int count);
/* Fold some of the statistics; *more: call again soon. */
extern PemsDatabaseStatus pems_database_fold(bool *more);
/* The audit log's partitions of this month and the next. */
extern PemsDatabaseStatus pems_database_make_partitions(void);

#endif /* PEMS_DATABASE_H */
