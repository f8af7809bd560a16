/*
 * shmem.h
 *		The one struct in shared memory: what workers say of themselves, and how they are woken.
 */
#ifndef PEMS_SHMEM_H
#define PEMS_SHMEM_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/lwlock.h"

#define PEMS_MAX_WORKERS       32
#define PEMS_WORKER_ERROR_SIZE 256

/*
 * Organizations share the places in which they announce what became ready, by a hash of their id: a
 * worker that looks for one too many finds nothing.
 */
#define PEMS_NEWS_PLACES 1024

/* Reasons to wake a worker; bits, collected until it looks. */
#define PEMS_WAKE_WORK   0x01 /* there may be items to send */
#define PEMS_WAKE_CONFIG 0x02 /* credentials, pauses, attach or the field catalogue changed */

typedef enum PemsWorkerStatus
{
	PEMS_WORKER_ABSENT, /* no process */
	PEMS_WORKER_STARTING,
	PEMS_WORKER_WAITING,      /* the database or the extension does not exist yet */
	PEMS_WORKER_NOT_ATTACHED, /* pems_attach() has not run */
	PEMS_WORKER_COPY,         /* a restored copy: paused until pems_resume() */
	PEMS_WORKER_NO_KEY,       /* the key file is missing, or not private */
	PEMS_WORKER_DISABLED,     /* pems_sync.enabled = off */
	PEMS_WORKER_RUNNING
} PemsWorkerStatus;

/* One per database in pems_sync.databases.  Guarded by PemsShared.lock unless it says otherwise. */
typedef struct PemsWorkerSlot
{
	char database[NAMEDATALEN]; /* set at server start, constant after */
	pg_atomic_uint32 wake;      /* PEMS_WAKE_* bits; atomic, no lock */
	bool connect_failed;        /* the last process ended while it connected */

	Oid database_oid; /* InvalidOid until the worker is connected */
	int pid;          /* 0: no process */
	int proc_number;  /* whose latch to set; -1: nobody's */
	PemsWorkerStatus status;
	TimestampTz started_at;
	TimestampTz heartbeat; /* end of its last turn */
	int in_flight;
	int64 requests; /* started since started_at */
	int open_breakers;
	char last_error[PEMS_WORKER_ERROR_SIZE];
} PemsWorkerSlot;

typedef struct PemsShared
{
	LWLock *lock;
	int count;
	PemsWorkerSlot slots[PEMS_MAX_WORKERS];
	/* Per slot: the earliest scheduled_at of what became ready, or DT_NOEND; atomic, no lock */
	pg_atomic_uint64 news[PEMS_MAX_WORKERS][PEMS_NEWS_PLACES];
} PemsShared;

/* NULL when the library was not preloaded. */
extern PemsShared *pems_shared;

extern void pems_shmem_install_hooks(void);
/* Wake the worker of this database when the current transaction commits. */
extern void pems_shmem_wake_at_commit(uint32 reasons);
/*
 * Tell the worker of this database when the current transaction commits: items of that organization
 * (text) are ready, the first in line since that time.  Wakes it, too.
 */
extern void pems_shmem_announce_at_commit(Datum organization_id, TimestampTz ready_from);
/* Takes the news of a slot, PEMS_NEWS_PLACES of them. */
extern void pems_shmem_take_news(const PemsWorkerSlot *slot, TimestampTz *taken);
/* Where an organization announces: 0 to PEMS_NEWS_PLACES - 1. */
extern int pems_shmem_place(const char *organization_id, size_t length);
/* A copy of what the worker of that database says; false: there is no slot for it. */
extern bool pems_shmem_read_slot(Oid database, const char *database_name, PemsWorkerSlot *copy);
extern const char *pems_shmem_status_name(PemsWorkerStatus status);

#endif /* PEMS_SHMEM_H */
