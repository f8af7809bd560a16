/*
 * options.h
 *		The command line.
 */
#ifndef MOCK_OPTIONS_H
#define MOCK_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct MockOptions
{
	uint16_t port;            /* 0: a free one */
	const char *records_file; /* "-": none */
	const char *log_file;     /* NULL: none */
	size_t log_memory;        /* entries */
	const char *tls_cert_file;
	const char *tls_key_file;
	const char *tls_priorities; /* in GnuTLS's words */
	unsigned int threads;
	bool idempotency;
	bool no_auth;
	bool die_with_parent;
} MockOptions;

/* On a mistake: says it on stderr and ends the process with status 2. */
extern void mock_options_parse(MockOptions *options, int argc, char **argv);

#endif /* MOCK_OPTIONS_H */
