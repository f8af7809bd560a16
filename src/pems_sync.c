/*
 * pems_sync.c
 *		Module magic and _PG_init.
 *
 * src/README.md tells how the parts hang together.
 */
#include "postgres.h"

#include "fmgr.h"

#include "database/guard.h"
#include "shared/settings.h"
#include "shared/shmem.h"
#include "worker/worker.h"

PG_MODULE_MAGIC;

void _PG_init(void);

void
_PG_init(void)
{
	pems_settings_define();
	pems_shmem_install_hooks();
	pems_guard_install_hooks();
	pems_worker_register();
}
