/*
 * http/client.h
 *		Requests in, answers out, many at a time.
 *
 * This folder is the only one that speaks HTTP.  (src/pems/api_url.c uses libcurl,
 * too, but only its parser of URLs.)
 *
 * Process: the background worker.  No PostgreSQL in here: no palloc, no ereport,
 * no longjmp across libcurl.
 * Memory: malloc.
 * Blocking: never; the owner waits on pems_http_client_descriptor() for at most
 * pems_http_client_timeout_ms() and then calls pems_http_client_drive().
 *
 * Nothing is retried in here.  libcurl would send a request again by itself when
 * a reused connection breaks before the first byte of the response.  Two measures
 * make it fail instead, so that the owner learns that the outcome is unknown: a
 * write's body comes from a callback that cannot rewind (http/request.c), and no
 * request, a read neither, gets past the callbacks that libcurl calls before a
 * second connection and a second sending (http/connection.c).
 *
 * One thing happens twice, because nothing was sent the first time: a reused
 * connection that has something to read before the request is dropped, and the
 * request goes over a new one.
 */
#ifndef PEMS_HTTP_CLIENT_H
#define PEMS_HTTP_CLIENT_H

#include "pems/judge.h"

typedef struct PemsHttpClient PemsHttpClient;

typedef struct PemsHttpClientOptions
{
	int max_in_flight; /* connections, too: an idle one is kept and reused */
	long connect_timeout_ms;
	long request_timeout_ms;  /* the whole transfer */
	size_t max_response_size; /* decoded bytes of a body */
	const char *ca_file;      /* NULL or "": the system's */
	bool allow_loopback;      /* http to loopback, and loopback addresses for any host name */
	const char *user_agent;
} PemsHttpClientOptions;

typedef struct PemsHttpClientRequest
{
	PemsCall call;
	const char *url;             /* as pems_request_compose() made it */
	const char *api_url;         /* the URL must stay inside it: scheme, host, port, path prefix */
	const char *token;           /* bearer token; copied, and zeroed after the transfer */
	const char *idempotency_key; /* NULL: none */
	const char *request_id;
	const char *body; /* NULL: none; copied */
	/* of this one, where it is not as in the options; 0: it is */
	size_t max_response_size;
	void *owner; /* handed back with the answer */

	/*
	 * NULL, or called when the connection stands and the first byte leaves (for
	 * pems_limiter_sent()); at most once, from pems_http_client_drive(), inside of
	 * libcurl: no ereport, no longjmp, no call of these functions.
	 */
	void (*sent)(void *owner);
} PemsHttpClientRequest;

/* Call once per process, before the first client.  False: *error is static. */
extern bool pems_http_client_initialize(const char **error);
/* NULL when out of memory or descriptors.  Options are copied. */
extern PemsHttpClient *pems_http_client_create(const PemsHttpClientOptions *options);
/* Take new options; requests under way keep theirs, idle connections are kept. */
extern bool pems_http_client_configure(PemsHttpClient *client,
									   const PemsHttpClientOptions *options);
/* Closes every connection at once; requests under way are dropped without an answer. */
extern void pems_http_client_destroy(PemsHttpClient *client);

/* An epoll descriptor that is readable when pems_http_client_drive() has something to do. */
extern int pems_http_client_descriptor(const PemsHttpClient *client);
/* Milliseconds until pems_http_client_drive() must be called again, -1: no timer. */
extern long pems_http_client_timeout_ms(const PemsHttpClient *client);
/* Start a request.  Problems, too, come through pems_http_client_next().  False: out of memory. */
extern bool pems_http_client_start(PemsHttpClient *client, const PemsHttpClientRequest *request);
/* Handle what is ready; returns without waiting. */
extern void pems_http_client_drive(PemsHttpClient *client);
/*
 * The next finished request: its owner, and its answer, to be freed by
 * pems_answer_free().  False: none.
 */
extern bool pems_http_client_next(PemsHttpClient *client, void **owner, PemsAnswer *answer);
extern int
pems_http_client_in_flight(const PemsHttpClient *client); /* started and not yet handed out */

#endif /* PEMS_HTTP_CLIENT_H */
