/*
 * pems/request.h
 *		Requests to PEMS: methods, paths, URLs, bodies, and the keys that go with them.
 *
 * Pure; any process.  The paths of PEMS's API stand in request.c and nowhere else.
 */
#ifndef PEMS_REQUEST_H
#define PEMS_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum PemsCall
{
	PEMS_CALL_UPDATE, /* PUT */
	PEMS_CALL_DELETE, /* DELETE */
	PEMS_CALL_READ,   /* GET one record */
	PEMS_CALL_HEALTH, /* GET health */
	PEMS_CALL_LIST    /* GET many records, a page of them */
} PemsCall;

/* What a request is about. */
typedef struct PemsWrite
{
	const char *pfa_id;
	const char *organization_code;
	const char *changes;     /* JSON object, as it is to be sent; update only */
	int64_t version;         /* the version that the write builds on */
	const char *modified_by; /* may be NULL: left out */
	const char *reason; /* changeReason of an update, reason of a delete; may be NULL: left out */
} PemsWrite;

/* Which page of an organization's records is asked for. */
typedef struct PemsListing
{
	const char *organization_code;
	const char *updated_since; /* an instant; NULL: all records */
	const char *cursor;        /* nextCursor of the page before; NULL: the first page */
	int limit;                 /* records that PEMS may put into the page, at least 1 */
} PemsListing;

/* All texts of a request; malloc'ed, freed with pems_request_free(). */
typedef struct PemsRequest
{
	char *path; /* below api_url, with the query, escaped: "/pems/pfa/PFA-1?organizationCode=RIO" */
	char *url;  /* api_url without its trailing slashes, and path behind it */
	char *body; /* JSON, of a write; else NULL */
	char *idempotency_key; /* "<item id>:<version>", of a write; else NULL */
	/* "<item id>:<attempt>", of a listing "<job id>:<number>"; NULL: health */
	char *request_id;
} PemsRequest;

/*
 * Compose a request.  write: of a read only pfa_id and organization_code are looked at; NULL for
 * health.  False: an invalid pfa_id, something missing, PEMS_CALL_LIST, or out of memory; nothing
 * is left to free then.
 */
extern bool pems_request_compose(PemsCall call, const char *api_url, const PemsWrite *write,
								 const char *item_id, int64_t attempt, PemsRequest *request);
/*
 * Compose the request for a page; number: of the job's requests.  False: no organization or job, an
 * empty cursor (PEMS might take it for the first page), a limit below 1, or out of memory; nothing
 * is left to free then.
 */
extern bool pems_request_compose_listing(const char *api_url, const PemsListing *listing,
										 const char *job_id, int64_t number, PemsRequest *request);
extern void pems_request_free(PemsRequest *request);

/* Does the call change something in PEMS?  Update and delete do. */
extern bool pems_request_is_write(PemsCall call);
/* "PUT", "DELETE", "GET" */
extern const char *pems_request_method(PemsCall call);

/* [A-Za-z0-9._-]{1,64}, and neither "." nor ".." */
extern bool pems_request_valid_pfa_id(const char *pfa_id);
/* A header value may hold no CR, LF or other control character. */
extern bool pems_request_valid_header(const char *value);

#endif /* PEMS_REQUEST_H */
