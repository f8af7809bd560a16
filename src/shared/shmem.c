/*
 * shared/shmem.c
 *		Shared memory: one entry per worker, and the wake-up at commit.
 *
 * Processes: the postmaster makes it, workers write their own entry, backends read
 * entries and set wake bits.  The wake-up costs a backend nothing until it commits
 * something: pems_shmem_wake_at_commit() only sets a flag, and the transaction
 * callback, registered once per process when the library is loaded, acts on it.
 * A worker that is not connected yet needs no wake-up: it looks when it starts.
 *
 * Limit: a transaction that is prepared (two-phase commit) is not announced; its
 * items are found by the worker's next thorough claim, which begins at the first item then.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_extension.h"
#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "utils/varlena.h"

#include "shared/compat.h"
#include "shared/settings.h"
#include "shared/shmem.h"

PemsShared *pems_shared = NULL;

static object_access_hook_type previous_object_access_hook = NULL;
static shmem_startup_hook_type previous_shmem_startup_hook = NULL;
#ifdef PEMS_HAVE_SHMEM_REQUEST_HOOK
static shmem_request_hook_type previous_shmem_request_hook = NULL;
#endif

/* What this backend's transaction will announce when it commits. */
static uint32 wake_reasons = 0;
static bool has_ready_since = false;
static TimestampTz ready_since[PEMS_READY_BUCKETS]; /* valid while has_ready_since */

static const char *const status_names[] = {
	[PEMS_WORKER_ABSENT] = "absent",     [PEMS_WORKER_STARTING] = "starting",
	[PEMS_WORKER_WAITING] = "waiting",   [PEMS_WORKER_NOT_ATTACHED] = "not_attached",
	[PEMS_WORKER_COPY] = "copy",         [PEMS_WORKER_NO_KEY] = "no_key",
	[PEMS_WORKER_DISABLED] = "disabled", [PEMS_WORKER_RUNNING] = "running",
};

const char *
pems_shmem_status_name(PemsWorkerStatus status)
{
	return status_names[status];
}

static void
request_shmem(void)
{
#ifdef PEMS_HAVE_SHMEM_REQUEST_HOOK
	if (previous_shmem_request_hook)
		previous_shmem_request_hook();
#endif
	RequestAddinShmemSpace(MAXALIGN(sizeof(PemsShared)));
	RequestNamedLWLockTranche("pems_sync", 1);
}

static void
add_worker(const char *database)
{
	PemsWorkerEntry *entry;
	pg_atomic_uint64 *buckets;

	for (int i = 0; i < pems_shared->count; i++)
		if (strcmp(pems_shared->workers[i].database, database) == 0)
			return;
	if (pems_shared->count == PEMS_MAX_WORKERS)
		return;
	buckets = pems_shared->ready_since[pems_shared->count];
	entry = &pems_shared->workers[pems_shared->count++];
	strlcpy(entry->database, database, NAMEDATALEN);
	pg_atomic_init_u32(&entry->wake, 0);
	for (int i = 0; i < PEMS_READY_BUCKETS; i++)
		pg_atomic_init_u64(&buckets[i], (uint64) DT_NOEND);
	entry->proc_number = -1;
	entry->status = PEMS_WORKER_ABSENT;
}

static void
startup_shmem(void)
{
	bool found;
	List *names = NIL;
	ListCell *cell;
	char *copy;

	if (previous_shmem_startup_hook)
		previous_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	pems_shared = ShmemInitStruct("pems_sync", sizeof(PemsShared), &found);
	if (!found)
	{
		memset(pems_shared, 0, sizeof(PemsShared));
		pems_shared->lock = &(GetNamedLWLockTranche("pems_sync"))->lock;
		copy = pstrdup(pems_databases ? pems_databases : "");
		if (SplitIdentifierString(copy, ',', &names))
			foreach (cell, names)
				add_worker(lfirst(cell));
	}
	LWLockRelease(AddinShmemInitLock);
}

static void
lower(pg_atomic_uint64 *bucket, TimestampTz time)
{
	uint64 known = pg_atomic_read_u64(bucket);

	while (time < (TimestampTz) known &&
		   !pg_atomic_compare_exchange_u64(bucket, &known, (uint64) time))
		;
}

static void
publish_ready_since(pg_atomic_uint64 *buckets)
{
	for (int i = 0; i < PEMS_READY_BUCKETS; i++)
		if (ready_since[i] != DT_NOEND)
			lower(&buckets[i], ready_since[i]);
}

static void
wake_worker(uint32 reasons)
{
	int latch_of = -1;

	if (pems_shared == NULL)
		return;
	LWLockAcquire(pems_shared->lock, LW_SHARED);
	for (int i = 0; i < pems_shared->count; i++)
	{
		PemsWorkerEntry *entry = &pems_shared->workers[i];

		if (entry->database_oid == MyDatabaseId)
		{
			if (has_ready_since)
				publish_ready_since(pems_shared->ready_since[i]);
			pg_atomic_fetch_or_u32(&entry->wake, reasons);
			latch_of = entry->proc_number;
		}
	}
	LWLockRelease(pems_shared->lock);
	if (latch_of >= 0)
		SetLatch(pems_proc_latch(latch_of));
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	uint32 reasons = wake_reasons;

	switch (event)
	{
		case XACT_EVENT_COMMIT:
			wake_reasons = 0;
			if (reasons != 0)
				wake_worker(reasons);
			has_ready_since = false;
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			wake_reasons = 0;
			has_ready_since = false;
			break;
		default:
			break;
	}
}

void
pems_shmem_wake_at_commit(uint32 reasons)
{
	wake_reasons |= reasons;
}

int
pems_shmem_bucket(const char *organization_id, size_t length)
{
	return (int) (DatumGetUInt32(hash_any((const unsigned char *) organization_id, (int) length)) %
				  PEMS_READY_BUCKETS);
}

void
pems_shmem_read_ready_since(const PemsWorkerEntry *entry, TimestampTz *earliest)
{
	pg_atomic_uint64 *buckets = pems_shared->ready_since[entry - pems_shared->workers];

	for (int i = 0; i < PEMS_READY_BUCKETS; i++)
	{
		earliest[i] = (TimestampTz) pg_atomic_read_u64(&buckets[i]);
		if (earliest[i] != DT_NOEND)
			earliest[i] = (TimestampTz) pg_atomic_exchange_u64(&buckets[i], (uint64) DT_NOEND);
	}
}

void
pems_shmem_note_ready_at_commit(Datum organization_id, TimestampTz ready_from)
{
	text *id = DatumGetTextPP(organization_id);
	int bucket = pems_shmem_bucket(VARDATA_ANY(id), VARSIZE_ANY_EXHDR(id));

	if (!has_ready_since)
		for (int i = 0; i < PEMS_READY_BUCKETS; i++)
			ready_since[i] = DT_NOEND;
	has_ready_since = true;
	ready_since[bucket] = Min(ready_since[bucket], ready_from);
	wake_reasons |= PEMS_WAKE_WORK;
}

void
pems_shmem_copy_text(char *to, const char *from, size_t size)
{
	int length = pg_mbcliplen(from, (int) strlen(from), (int) size - 1);

	memcpy(to, from, length);
	to[length] = '\0';
}

int
pems_shmem_worker_of(Oid database)
{
	for (int i = 0; i < pems_shared->count; i++)
		if (pems_shared->workers[i].database_oid == database)
			return i;
	return -1;
}

/*
 * pems_shmem_read_worker
 *		By oid, or by name while the worker is not connected.
 */
bool
pems_shmem_read_worker(Oid database, const char *database_name, PemsWorkerEntry *copy)
{
	bool found = false;

	if (pems_shared == NULL)
		return false;
	LWLockAcquire(pems_shared->lock, LW_SHARED);
	for (int i = 0; i < pems_shared->count && !found; i++)
	{
		PemsWorkerEntry *entry = &pems_shared->workers[i];

		found = entry->database_oid == database ||
				(entry->database_oid == InvalidOid && strcmp(entry->database, database_name) == 0);
		if (found)
			memcpy(copy, entry, sizeof(*copy));
	}
	LWLockRelease(pems_shared->lock);
	return found;
}

/* DROP EXTENSION: the worker is to let go of its requests, not to find out at the next poll. */
static void
wake_at_drop(ObjectAccessType access, Oid class, Oid object, int column, void *argument)
{
	if (previous_object_access_hook)
		previous_object_access_hook(access, class, object, column, argument);
	if (access == OAT_DROP && class == ExtensionRelationId)
		pems_shmem_wake_at_commit(PEMS_WAKE_CONFIG);
}

/*
 * pems_shmem_install_hooks
 *		Called once from _PG_init.  Shared memory only when preloaded; the
 *		others always, they do nothing until there is something to announce.
 */
void
pems_shmem_install_hooks(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
	previous_object_access_hook = object_access_hook;
	object_access_hook = wake_at_drop;
	if (!process_shared_preload_libraries_in_progress)
		return;
#ifdef PEMS_HAVE_SHMEM_REQUEST_HOOK
	previous_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
#else
	request_shmem();
#endif
	previous_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}
