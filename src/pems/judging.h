/*
 * pems/judging.h
 *		What judge.c and judge_failure.c share; nobody else includes it.
 */
#ifndef PEMS_JUDGING_H
#define PEMS_JUDGING_H

#include "pems/judge.h"
#include "pems/sentence.h"
#include "record/json.h"

/* An answer that is being judged, and what is known of it. */
typedef struct Judge
{
	const PemsAsked *asked;
	const PemsAnswer *answer;
	const JsonNode *body;    /* the body's JSON value, or NULL */
	const char *parse_error; /* why there is none */
	PemsOutcome *outcome;
	PemsSentence sentence;
} Judge;

/* Is the answer one to an update or delete? */
extern bool pems_judge_is_write(const Judge *judge);

/* A string member of the body that is not empty, or NULL. */
extern const JsonNode *pems_judge_body_text(const Judge *judge, const char *key);
/* True, and *version set: the member is integral, from `minimum` to what a version column holds. */
extern bool pems_judge_body_version(const Judge *judge, const char *key, int64_t minimum,
									int64_t *version);

/*
 * Set the outcome's class and error code (NULL: nothing is wrong).  Its sentence is what was said
 * so far, so this comes last.
 */
extern void pems_judge_decide(Judge *judge, PemsOutcomeClass class, const char *error_code);
/* Take over how long PEMS asks to wait.  A 429 always does, others with a Retry-After only. */
extern void pems_judge_heed_retry_after(Judge *judge, bool always);

/*
 * Decide by a status that is no success: the answer's, or the one that stands for the `error` of
 * a success:false.
 */
extern void pems_judge_failure(Judge *judge, int status);

#endif /* PEMS_JUDGING_H */
