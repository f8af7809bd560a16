/*
 * memory.h
 *		malloc that ends the process when there is none.
 *
 * A test double that goes on without its log or its records would prove things
 * that are not true, so running out of memory is the end.
 */
#ifndef MOCK_MEMORY_H
#define MOCK_MEMORY_H

#include <stddef.h>

extern void *mock_memory_allocate(size_t size); /* zeroed */
extern void *mock_memory_resize(void *old, size_t size);
extern char *mock_memory_copy(const char *text);                       /* NULL stays NULL */
extern char *mock_memory_copy_bytes(const char *bytes, size_t length); /* NUL-terminated */
/*
 * The one copy of a text that comes again and again, as users' names do; it is never
 * freed.  NULL stays NULL.  Any thread.
 */
extern const char *mock_memory_intern(const char *text);
/* A sentence to stderr, then exit status 1. */
extern void mock_memory_die(const char *format, ...)
	__attribute__((noreturn, format(printf, 1, 2)));

#endif /* MOCK_MEMORY_H */
