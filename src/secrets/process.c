/*
 * secrets/process.c
 *		A process that holds secrets: what the system must not show of its memory.
 *
 * Process: the worker and pems-credential.  No PostgreSQL.
 *
 * Known limits: root sees everything; swap is kept from secrets by libsodium's
 * mlock alone.
 */
#include "secrets/process.h"

#include <stddef.h>
#include <sys/resource.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

void
pems_secrets_keep_process_private(void)
{
	const struct rlimit none = {0, 0};

	(void) setrlimit(RLIMIT_CORE, &none);
#ifdef __linux__
	(void) prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
}
