/*
 * session/wake.c
 *		The worker is woken, or told what became ready, when this transaction commits.
 *
 * Process: any backend.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/timestamp.h"

#include "shared/shmem.h"

PG_FUNCTION_INFO_V1(pems_api_wake);
PG_FUNCTION_INFO_V1(pems_api_wake_pulls);
PG_FUNCTION_INFO_V1(pems_api_announce);

/*
 * pems_api_wake(configuration): _pems_wake()
 *		Wakes the worker of this database when the transaction commits; does nothing where there is
 *		none.
 *
 * Parameters: configuration: the worker reads credentials, pauses and the catalogue again.
 */
Datum
pems_api_wake(PG_FUNCTION_ARGS)
{
	pems_shmem_wake_at_commit(PG_GETARG_BOOL(0) ? PEMS_WAKE_WORK | PEMS_WAKE_CONFIG
												: PEMS_WAKE_WORK);
	PG_RETURN_VOID();
}

/*
 * pems_api_wake_pulls(): _pems_wake_pulls()
 *		Wakes the worker when the transaction commits: there may be something to pull.
 */
Datum
pems_api_wake_pulls(PG_FUNCTION_ARGS)
{
	pems_shmem_wake_at_commit(PEMS_WAKE_PULLS);
	PG_RETURN_VOID();
}

/*
 * pems_api_announce(organization_id, ready_from): _pems_announce()
 *		Tells the worker, and wakes it, when the transaction commits: the organization may have
 *		items that are ready.
 *
 * Parameters: ready_from: the earliest scheduled_at among them.
 */
Datum
pems_api_announce(PG_FUNCTION_ARGS)
{
	pems_shmem_note_ready_at_commit(PG_GETARG_DATUM(0), PG_GETARG_TIMESTAMPTZ(1));
	PG_RETURN_VOID();
}
