/*
 * answers.c
 *		Remembered answers by Idempotency-Key (option --idempotency).
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "answers.h"
#include "memory.h"

#define BUCKET_COUNT 65536

struct MockAnswer
{
	MockAnswer *chain;
	char *organization_code;
	char *key;
	char *body;
	size_t length;
};

void
mock_answers_initialize(MockAnswers *answers)
{
	memset(answers, 0, sizeof(*answers));
	pthread_mutex_init(&answers->lock, NULL);
	answers->bucket_count = BUCKET_COUNT;
	answers->buckets = mock_memory_allocate(BUCKET_COUNT * sizeof(MockAnswer *));
}

static MockAnswer **
bucket(const MockAnswers *answers, const char *key)
{
	uint32_t hash = 2166136261U;

	for (; *key != '\0'; key++)
		hash = (hash ^ (unsigned char) *key) * 16777619U;
	return &answers->buckets[(hash ^ hash >> 16) % answers->bucket_count];
}

void
mock_answers_clear(MockAnswers *answers)
{
	pthread_mutex_lock(&answers->lock);
	for (size_t i = 0; i < answers->bucket_count; i++)
	{
		MockAnswer *next;

		for (MockAnswer *answer = answers->buckets[i]; answer != NULL; answer = next)
		{
			next = answer->chain;
			free(answer->organization_code);
			free(answer->key);
			free(answer->body);
			free(answer);
		}
		answers->buckets[i] = NULL;
	}
	answers->count = 0;
	pthread_mutex_unlock(&answers->lock);
}

bool
mock_answers_find(MockAnswers *answers, const char *organization_code, const char *key,
				  JsonBuffer *body)
{
	const MockAnswer *answer;

	pthread_mutex_lock(&answers->lock);
	answer = *bucket(answers, key);
	while (answer != NULL && (strcmp(answer->key, key) != 0 ||
							  strcmp(answer->organization_code, organization_code) != 0))
		answer = answer->chain;
	if (answer != NULL)
		pems_json_append(body, answer->body, answer->length);
	pthread_mutex_unlock(&answers->lock);
	return answer != NULL;
}

void
mock_answers_add(MockAnswers *answers, const char *organization_code, const char *key,
				 const JsonBuffer *body)
{
	MockAnswer *answer = mock_memory_allocate(sizeof(*answer));
	MockAnswer **link = bucket(answers, key);

	answer->organization_code = mock_memory_copy(organization_code);
	answer->key = mock_memory_copy(key);
	answer->body = mock_memory_copy_bytes(body->data, body->length);
	answer->length = body->length;
	pthread_mutex_lock(&answers->lock);
	answer->chain = *link;
	*link = answer;
	answers->count++;
	pthread_mutex_unlock(&answers->lock);
}
