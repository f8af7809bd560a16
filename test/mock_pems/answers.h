/*
 * answers.h
 *		Remembered answers by Idempotency-Key (option --idempotency).
 *
 * Only the answer of a write that took effect is remembered: a refused write may
 * be sent again with the same key and is looked at again.  Nothing expires
 * before a reset.
 */
#ifndef MOCK_ANSWERS_H
#define MOCK_ANSWERS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "record/json.h"

typedef struct MockAnswer MockAnswer;

typedef struct MockAnswers
{
	pthread_mutex_t lock;
	MockAnswer **buckets;
	size_t bucket_count;
	size_t count;
} MockAnswers;

extern void mock_answers_initialize(MockAnswers *answers);
extern void mock_answers_clear(MockAnswers *answers);
/* Append the body remembered for this key of the organization; false: there is none. */
extern bool mock_answers_find(MockAnswers *answers, const char *organization_code, const char *key,
							  JsonBuffer *body);
extern void mock_answers_add(MockAnswers *answers, const char *organization_code, const char *key,
							 const JsonBuffer *body);

#endif /* MOCK_ANSWERS_H */
