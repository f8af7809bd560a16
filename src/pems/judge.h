/*
 * pems/judge.h
 *		PEMS's answers to outcomes: what an answer means for the item that it is about.
 *
 * Pure; any process.  An answer is what the HTTP client hands over; an outcome is what
 * transition.c works with.  Both own their texts, which are malloc'ed.
 */
#ifndef PEMS_JUDGE_H
#define PEMS_JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pems/request.h"

/* How a transfer ended, in words that know no HTTP library. */
typedef enum PemsTransport
{
	PEMS_TRANSPORT_OK,      /* a whole response arrived */
	PEMS_TRANSPORT_REFUSED, /* could not connect */
	PEMS_TRANSPORT_DNS,
	PEMS_TRANSPORT_TLS,
	PEMS_TRANSPORT_TIMEOUT,   /* status is set when it happened in the middle of an answer */
	PEMS_TRANSPORT_RESET,     /* connection broke, empty reply, unreadable HTTP */
	PEMS_TRANSPORT_TRUNCATED, /* a status arrived, the body did not arrive whole */
	/* a status arrived, the body is encoded in a way that cannot be undone; detail says in which */
	PEMS_TRANSPORT_ENCODED,
	PEMS_TRANSPORT_TOO_LARGE,         /* body or headers above the cap; the transfer was cut */
	PEMS_TRANSPORT_FORBIDDEN_ADDRESS, /* the host's address is one that we must not connect to */
	PEMS_TRANSPORT_INTERNAL           /* out of memory, bad option: our own fault */
} PemsTransport;

/* What came back, before anybody judged it. */
typedef struct PemsAnswer
{
	PemsTransport transport;
	bool maybe_sent; /* at least one byte of the request left this machine */
	/* the HTTP library's sentence about a transport error; never holds the token */
	char detail[256];
	int status;            /* HTTP status, 0: none arrived */
	bool has_retry_after;  /* the header */
	int64_t retry_after_s; /* negative: it says neither a number nor a date */
	char *body;            /* NUL-terminated, or NULL */
	size_t body_length;
	int64_t latency_us; /* from start to end */
} PemsAnswer;

typedef enum PemsOutcomeClass
{
	PEMS_OUTCOME_DONE,   /* write: applied, new_version is set */
	PEMS_OUTCOME_RECORD, /* read: version, data are set; health: alive */
	/*
	 * read: a record that cannot be taken: older than what is known (version and data are set), or
	 * not to be stored
	 */
	PEMS_OUTCOME_UNUSABLE,
	PEMS_OUTCOME_GONE,       /* 404, 410 */
	PEMS_OUTCOME_REJECTED,   /* final: a dead letter */
	PEMS_OUTCOME_CREDENTIAL, /* the organization is to be paused */
	PEMS_OUTCOME_VERSION,    /* 409 VERSION_CONFLICT, 412: read, then decide */
	PEMS_OUTCOME_THROTTLED,  /* the endpoint waits retry_after_ms */
	PEMS_OUTCOME_TRANSIENT,  /* try again later, costs a retry */
	/* nothing is wrong with the endpoint, but we cannot tell what it did (202, broken 200) */
	PEMS_OUTCOME_UNKNOWN,
	PEMS_OUTCOME_PAGE,          /* listing: a page, which page.h reads out of the answer's body */
	PEMS_OUTCOME_CURSOR_REFUSED /* listing: PEMS does not know the cursor (any more) */
} PemsOutcomeClass;

typedef struct PemsOutcome
{
	PemsOutcomeClass class;
	/*
	 * the write may have been applied: a read comes before the next write; also of a REJECTED
	 * answer that was too large
	 */
	bool unknown;
	bool endpoint_fault;     /* counts for the breaker */
	int64_t new_version;     /* DONE */
	int64_t current_version; /* VERSION: what PEMS says that it has; 0: it does not say */
	int64_t version;         /* RECORD */
	char *data;              /* RECORD: the record's JSON object, malloc'ed */
	int64_t retry_after_ms;  /* THROTTLED, TRANSIENT, UNKNOWN: what PEMS asks to wait; 0: nothing */
	/*
	 * A static word, NULL when nothing is wrong: INVALID_REQUEST, UNAUTHORIZED, FORBIDDEN,
	 * NOT_FOUND, VERSION_CONFLICT, RATE_LIMITED, SERVER_ERROR, UNAVAILABLE, TIMEOUT, NETWORK_ERROR,
	 * TLS_ERROR, BAD_RESPONSE, REDIRECT, RESPONSE_TOO_LARGE, ACCEPTED (202), CONFLICT (409 with
	 * another error), NOT_APPLIED (a newVersion that is not above the version sent), STALE_READ,
	 * CURSOR_REFUSED, FORBIDDEN_ADDRESS, INTERNAL_ERROR
	 */
	const char *error_code;
	/*
	 * a sentence that an administrator understands, or NULL; malloc'ed, at most 1000 bytes, valid
	 * UTF-8, no control characters
	 */
	char *error;
} PemsOutcome;

/* What the request was. */
typedef struct PemsAsked
{
	PemsCall call;
	/* NULL for health and listing; an answer about another record is BAD_RESPONSE */
	const char *pfa_id;
	int64_t version; /* write: the one that it builds on; read: what PEMS must show at least */
	bool has_cursor; /* listing: it is not the first page */
} PemsAsked;

/*
 * Judge an answer by the table of docs/PROTOCOL.md.  The outcome is freed with
 * pems_outcome_free().
 */
extern void pems_judge_answer(const PemsAsked *asked, const PemsAnswer *answer,
							  PemsOutcome *outcome);
extern void pems_outcome_free(PemsOutcome *outcome);
extern void pems_answer_free(PemsAnswer *answer);

#endif /* PEMS_JUDGE_H */
