/*
 * shared/compat.h
 *		Every difference between PostgreSQL 14 and 18 that concerns us.
 */
#ifndef PEMS_COMPAT_H
#define PEMS_COMPAT_H

#include "postgres.h"

#include "storage/proc.h"
#include "utils/guc.h"

/* 15: shared memory is asked for in a hook */
#if PG_VERSION_NUM >= 150000
#define PEMS_HAVE_SHMEM_REQUEST_HOOK 1
#endif

/* 15: MarkGUCPrefixReserved replaced EmitWarningsOnPlaceholders */
#if PG_VERSION_NUM >= 150000
#define pems_reserve_prefix(prefix) MarkGUCPrefixReserved(prefix)
#else
#define pems_reserve_prefix(prefix) EmitWarningsOnPlaceholders(prefix)
#endif

/* 17: a whole transaction may be timed; a setting that no older server knows */
#if PG_VERSION_NUM >= 170000
#define PEMS_TRANSACTION_TIMEOUT {"transaction_timeout", "0"},
#else
#define PEMS_TRANSACTION_TIMEOUT
#endif

/* 15: a pseudo-random generator with a name */
#if PG_VERSION_NUM >= 150000
#include "common/pg_prng.h"
#define pems_random_fraction() pg_prng_double(&pg_global_prng_state)
#else
#define pems_random_fraction() ((double) random() / ((double) MAX_RANDOM_VALUE + 1))
#endif

/* 17: a process knows its number in the shared process array by another name */
#if PG_VERSION_NUM >= 170000
#define pems_my_proc_number()   MyProcNumber
#define pems_proc_latch(number) (&GetPGProcByNumber(number)->procLatch)
#else
#define pems_my_proc_number()   (MyProc->pgprocno)
#define pems_proc_latch(number) (&ProcGlobal->allProcs[number].procLatch)
#endif

/* 17: custom wait events; before, what extensions wait for is just called Extension */
#if PG_VERSION_NUM >= 170000
#include "utils/wait_event.h"
#define pems_wait_event() WaitEventExtensionNew("PemsSyncMain")
#else
#define pems_wait_event() PG_WAIT_EXTENSION
#endif

/* 17: a wait event set belongs to a resource owner; NULL: it lives as long as the process. */
#if PG_VERSION_NUM >= 170000
#define pems_create_wait_set(events) CreateWaitEventSet(NULL, events)
#else
#define pems_create_wait_set(events) CreateWaitEventSet(TopMemoryContext, events)
#endif

/* 15: one call prepares a set-returning function that fills a tuplestore */
#if PG_VERSION_NUM >= 150000
#define pems_begin_set(fcinfo) InitMaterializedSRF(fcinfo, 0)
#else
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"
static inline void
pems_begin_set(FunctionCallInfo fcinfo)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext query = result->econtext->ecxt_per_query_memory;
	MemoryContext caller = MemoryContextSwitchTo(query);

	result->returnMode = SFRM_Materialize;
	result->setDesc = CreateTupleDescCopy(result->expectedDesc);
	result->setResult = tuplestore_begin_heap(false, false, work_mem);
	MemoryContextSwitchTo(caller);
}
#endif

/* 17: the number of this session's transaction, also of one that has written nothing */
#if PG_VERSION_NUM >= 170000
#define pems_my_local_transaction() (MyProc->vxid.lxid)
#else
#define pems_my_local_transaction() (MyProc->lxid)
#endif

/* 16: the schema of an extension is there for the asking */
#if PG_VERSION_NUM >= 160000
#include "commands/extension.h"
#define pems_extension_schema(extension) get_extension_schema(extension)
#else
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
static inline Oid
pems_extension_schema(Oid extension)
{
	Relation catalog = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	Oid schema = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(catalog, ExtensionOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return schema;
}
#endif

#endif /* PEMS_COMPAT_H */
