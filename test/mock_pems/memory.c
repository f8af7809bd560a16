/*
 * memory.c
 *		malloc that ends the process when there is none.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory.h"

void
mock_memory_die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fputs("mock_pems: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	/* not exit(): other threads may be in the middle of anything */
	_exit(1);
}

void *
mock_memory_allocate(size_t size)
{
	void *memory = calloc(1, size > 0 ? size : 1);

	if (memory == NULL)
		mock_memory_die("out of memory");
	return memory;
}

void *
mock_memory_resize(void *old, size_t size)
{
	void *memory = realloc(old, size);

	if (memory == NULL)
		mock_memory_die("out of memory");
	return memory;
}

char *
mock_memory_copy_bytes(const char *bytes, size_t length)
{
	char *copy = malloc(length + 1);

	if (copy == NULL)
		mock_memory_die("out of memory");
	memcpy(copy, bytes, length);
	copy[length] = '\0';
	return copy;
}

char *
mock_memory_copy(const char *text)
{
	return text == NULL ? NULL : mock_memory_copy_bytes(text, strlen(text));
}

typedef struct Interned
{
	struct Interned *next; /* in its bucket */
	char text[];
} Interned;

#define INTERNED_BUCKETS 1024

const char *
mock_memory_intern(const char *text)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static Interned *buckets[INTERNED_BUCKETS];
	uint32_t hash = 0;
	Interned **link;

	if (text == NULL)
		return NULL;
	for (const char *at = text; *at != '\0'; at++)
		hash = hash * 31 + (unsigned char) *at;
	pthread_mutex_lock(&lock);
	link = &buckets[hash % INTERNED_BUCKETS];
	while (*link != NULL && strcmp((*link)->text, text) != 0)
		link = &(*link)->next;
	if (*link == NULL)
	{
		*link = mock_memory_allocate(sizeof(**link) + strlen(text) + 1);
		memcpy((*link)->text, text, strlen(text));
	}
	text = (*link)->text;
	pthread_mutex_unlock(&lock);
	return text;
}
