/*
 * pems/sentence.h
 *		Sentences about an answer of PEMS, for administrators: our words, and texts of PEMS among
 *		them.
 *
 * Pure; any process.  No memory is allocated: a sentence is a struct of its full size, and what
 * does not fit is cut off.  Whatever is added, the text is valid UTF-8 without control
 * characters, and NUL-terminated.
 */
#ifndef PEMS_SENTENCE_H
#define PEMS_SENTENCE_H

#include "record/json.h"

/* Bytes that a sentence may have. */
#define PEMS_SENTENCE_MAXIMUM 1000

/* {0} is an empty sentence. */
typedef struct PemsSentence
{
	char text[PEMS_SENTENCE_MAXIMUM + 1];
	size_t length;
} PemsSentence;

/* Add words of our own, printf style; callers keep them far below the maximum. */
extern void pems_sentence_add(PemsSentence *sentence, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * Add a text that comes from outside, at most `limit` bytes of it: invalid UTF-8 as '?', control
 * characters and others that deceive the eye as blanks, runs of blanks as one.  "..." shows that
 * something was cut off.
 */
extern void pems_sentence_add_foreign(PemsSentence *sentence, const char *text, size_t length,
									  size_t limit);

/* Add the beginning of a body, as pems_sentence_add_foreign(). */
extern void pems_sentence_add_snippet(PemsSentence *sentence, const char *text, size_t length);

/* Add "PEMS answered 503 (Service Unavailable)". */
extern void pems_sentence_add_status(PemsSentence *sentence, int status);

/*
 * Add what a body says of an error: ": <its member error>: <its member message>"; of a body that
 * is no JSON (value is NULL) its beginning, unless it is a page of HTML, which says nothing to an
 * administrator.  body: may be NULL.
 */
extern void pems_sentence_add_body(PemsSentence *sentence, const JsonNode *value, const char *body,
								   size_t length);

#endif /* PEMS_SENTENCE_H */
