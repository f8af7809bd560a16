/*
 * http/answer.h
 *		What a transfer receives: the body, a few headers, and limits for both.
 *
 * Process: the background worker.  No PostgreSQL.
 * Memory: malloc; what is in `received` becomes the owner's with the answer.
 */
#ifndef PEMS_HTTP_ANSWER_H
#define PEMS_HTTP_ANSWER_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>

#include "pems/judge.h"

/* Bytes of all header lines of an answer, informational ones included. */
#define HTTP_ANSWER_HEADERS_MAXIMUM ((size_t) 64 * 1024)

/* One answer as it arrives.  The address must not change while an easy handle has it. */
typedef struct HttpAnswer
{
	CURL *easy;
	size_t body_maximum;    /* bytes, decoded */
	long low_speed_seconds; /* for which an answer that has begun may be slow */

	bool too_large; /* so it was cut off */
	bool out_of_memory;
	size_t header_bytes;
	size_t body_capacity;
	PemsAnswer received;
} HttpAnswer;

/* Make the easy handle put what it receives into answer. */
extern CURLcode pems_http_answer_attach(CURL *easy, HttpAnswer *answer);
/* Before a request: as if nothing had come yet.  received must be empty. */
extern void pems_http_answer_reset(HttpAnswer *answer);
/* When the transfer has ended: read Retry-After and Date into received. */
extern void pems_http_answer_read_headers(HttpAnswer *answer);
/*
 * Which encoding the answer has, in the server's words, or NULL.  It belongs to the easy handle,
 * until its next transfer.
 */
extern const char *pems_http_answer_encoding(const HttpAnswer *answer);

#endif /* PEMS_HTTP_ANSWER_H */
