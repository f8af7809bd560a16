/*
 * http/request.h
 *		What a transfer sends: header lines and a body that leaves once.
 *
 * Process: the background worker.  No PostgreSQL.
 * Memory: malloc; the token is zeroed when the request is released.
 */
#ifndef PEMS_HTTP_REQUEST_H
#define PEMS_HTTP_REQUEST_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>

#include "http/client.h"

/* Authorization, Accept, Content-Type, Expect, Idempotency-Key, X-Request-Id */
#define HTTP_REQUEST_HEADERS 6

/* A copy of what one request needs.  The address must not change while an easy handle has it. */
typedef struct HttpRequest
{
	char *authorization; /* "Authorization: Bearer <token>" */
	char *idempotency_key;
	char *request_id;
	struct curl_slist headers[HTTP_REQUEST_HEADERS]; /* linked with each other, not on the heap */
	char *body;
	size_t body_length;
	size_t body_sent;
} HttpRequest;

/* Make the easy handle take the body from request. */
extern CURLcode pems_http_request_attach(CURL *easy, HttpRequest *request);
/* Why token, keys or body of this request cannot be sent, or NULL. */
extern const char *pems_http_request_problem(const PemsHttpClientRequest *asked);
/* False: out of memory; the caller releases what was copied. */
extern bool pems_http_request_copy(HttpRequest *request, const PemsHttpClientRequest *asked);
/* Method, URL, headers and size of what was copied. */
extern CURLcode pems_http_request_set_options(CURL *easy, HttpRequest *request,
											  const PemsHttpClientRequest *asked);
/* The token of a request that was copied. */
extern const char *pems_http_request_token(const HttpRequest *request);
/* Zero the token and free everything; the easy handle must not send this request any more. */
extern void pems_http_request_release(HttpRequest *request);

#endif /* PEMS_HTTP_REQUEST_H */
