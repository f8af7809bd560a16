/*
 * pems/request.h
 *		Requests to PEMS: methods, paths, URLs, bodies, and the keys that go with them.
 *
 * Pure; any process.  The paths of PEMS's API stand in request.c and nowhere else.  Every
 * char * that a function returns is malloc'ed and freed by the caller; NULL: out of memory, or
 * what the function says.
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
	PEMS_CALL_HEALTH  /* GET health */
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

/* All texts of a request; malloc'ed, freed with pems_request_free(). */
typedef struct PemsRequest
{
	char *path; /* below api_url, with the query */
	char *url;
	char *body;            /* of a write; else NULL */
	char *idempotency_key; /* of a write; else NULL */
	char *request_id;      /* NULL: health */
} PemsRequest;

/*
 * Compose a request.  write: of a read only pfa_id and organization_code are looked at; NULL for
 * health.  item_id and attempt make the request's id, item_id and the version its idempotency key.
 * False: an invalid pfa_id, or out of memory; nothing is left to free then.
 */
extern bool pems_request_compose(PemsCall call, const char *api_url, const PemsWrite *write,
								 const char *item_id, int64_t attempt, PemsRequest *request);
extern void pems_request_free(PemsRequest *request);

/* Does the call change something in PEMS?  Update and delete do. */
extern bool pems_request_is_write(PemsCall call);
/* "PUT", "DELETE", "GET" */
extern const char *pems_protocol_method(PemsCall call);

/* [A-Za-z0-9._-]{1,64}, and neither "." nor ".." */
extern bool pems_protocol_valid_pfa_id(const char *pfa_id);
/* A header value may hold no CR, LF or other control character. */
extern bool pems_protocol_valid_header(const char *value);

/*
 * Path (with query) below api_url: "/pems/pfa/PFA-1?organizationCode=RIO"; everything escaped.
 * NULL also for an invalid pfa_id.
 */
extern char *pems_protocol_path(PemsCall call, const char *pfa_id, const char *organization_code);
/* api_url without its trailing slashes, and path behind it. */
extern char *pems_protocol_url(const char *api_url, const char *path);
/* The JSON body of an update or delete; NULL also for other calls. */
extern char *pems_protocol_write_body(PemsCall call, const PemsWrite *write);
/* "<item id>:<version>" and "<item id>:<attempt>" */
extern char *pems_protocol_idempotency_key(const char *item_id, int64_t version);
extern char *pems_protocol_request_id(const char *item_id, int64_t attempt);

#endif /* PEMS_REQUEST_H */
