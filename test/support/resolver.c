/*
 * resolver.c
 *		Names as a test wants them, for a program that is started with this library preloaded.
 *
 * PEMS_TEST_NAMES names a file with lines "name address".  It is read with each call.
 * For other names getaddrinfo() says what it always says.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* RTLD_NEXT */
#endif
#include <dlfcn.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NAME_SIZE 256

typedef int (*Resolver)(const char *name, const char *service, const struct addrinfo *hints,
						struct addrinfo **found);

/* Is the name in the file?  address, of NAME_SIZE bytes, gets what stands beside it. */
static bool
look_up(const char *name, char *address)
{
	const char *path = getenv("PEMS_TEST_NAMES");
	FILE *file = name != NULL && path != NULL ? fopen(path, "re") : NULL;
	char known[NAME_SIZE];
	bool found = false;

	if (file == NULL)
		return false;
	while (!found && fscanf(file, "%255s %255s", known, address) == 2)
		found = strcasecmp(name, known) == 0;
	fclose(file);
	return found;
}

int
getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
			struct addrinfo **found)
{
	Resolver resolver = (Resolver) dlsym(RTLD_NEXT, "getaddrinfo");
	char address[NAME_SIZE];

	return resolver(look_up(name, address) ? address : name, service, hints, found);
}
