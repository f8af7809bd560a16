/*
 * http/redact.h
 *		Overwrites a token in a text that came from outside.
 *
 * Pure: no PostgreSQL, no libcurl, no I/O, no memory of its own.
 */
#ifndef PEMS_HTTP_REDACT_H
#define PEMS_HTTP_REDACT_H

#include <stddef.h>

/* Tokens that are shorter than this, and shorter beginnings of a token, are not overwritten. */
#define PEMS_REDACT_MINIMUM 8

/*
 * Overwrite every occurrence of the token in these bytes with asterisks.  It is found as it is, in
 * UTF-16, and where its characters are escaped as JSON, HTML or a URL allows.  Where the text ends
 * within the token, what is there of it is overwritten, too.  text may be NULL, and may hold NULs;
 * it needs no NUL at its end.
 */
extern void pems_http_redact(char *text, size_t length, const char *token);

#endif /* PEMS_HTTP_REDACT_H */
