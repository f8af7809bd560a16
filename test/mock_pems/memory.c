/*
 * memory.c
 *		malloc that ends the process when there is none.
 */
#include <stdarg.h>
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
