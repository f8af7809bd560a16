/*
 * http/transfer.h
 *		One easy handle of libcurl, with the request that it sends and the answer that it receives.
 *
 * Process: the background worker.  No PostgreSQL.
 * Memory: malloc, and what libcurl allocates.  A transfer is used again for the
 * next request, because setting up a handle costs more than a request.
 *
 * The life of a transfer: created, and for each request prepared, loaded, (by
 * http/client.c) run inside the multi handle, and ended; or refused instead of
 * run.  Its answer is then in answer.received, for its owner to take out.
 */
#ifndef PEMS_HTTP_TRANSFER_H
#define PEMS_HTTP_TRANSFER_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>

#include "http/answer.h"
#include "http/client.h"
#include "http/connection.h"
#include "http/request.h"

typedef struct HttpTransfer
{
	/* for http/client.c */
	struct HttpTransfer *next;     /* in the list of idle or of finished ones */
	struct HttpTransfer *next_all; /* in the list of all */
	bool under_way;                /* inside the multi handle */
	bool started_over;             /* on a new connection, because the first one was no good */

	CURL *easy;               /* NULL: made anew when the transfer is prepared */
	unsigned generation;      /* of the options that the easy handle has; 0: none */
	size_t max_response_size; /* of the options */
	int64_t started_us;
	HttpConnection connection;
	HttpRequest request;
	HttpAnswer answer;
	char error_buffer[CURL_ERROR_SIZE];
} HttpTransfer;

/* NULL when out of memory.  sockets: the client's. */
extern HttpTransfer *pems_http_transfer_create(HttpSockets *sockets);
/* The transfer must not be inside the multi handle. */
extern void pems_http_transfer_free(HttpTransfer *transfer);
/*
 * Give the handle these options, unless it has this generation of them (1, 2, ...), and forget the
 * last request.  False: out of memory.
 */
extern bool pems_http_transfer_prepare(HttpTransfer *transfer, const PemsHttpClientOptions *options,
									   unsigned generation);
/*
 * Copy a request into a prepared transfer.  authorities_seconds: for how long the certificate
 * authorities that libcurl has read from the CA file are good.  False: out of memory, or libcurl
 * does not take an option.
 */
extern bool pems_http_transfer_load(HttpTransfer *transfer, const PemsHttpClientRequest *request,
									long authorities_seconds);
/* What came of a transfer that was run, without the token; libcurl ended it with this code. */
extern void pems_http_transfer_end(HttpTransfer *transfer, CURLcode code);
/* A request that is not run at all. */
extern void pems_http_transfer_refuse(HttpTransfer *transfer, PemsTransport transport,
									  const char *detail);

#endif /* PEMS_HTTP_TRANSFER_H */
