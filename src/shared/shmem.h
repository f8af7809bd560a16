/*
 * shared/shmem.h
 *		The one struct in shared memory: what workers say of themselves, and how they are woken.
 */
#ifndef PEMS_SHMEM_H
#define PEMS_SHMEM_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/lwlock.h"

#include "shared/limits.h"

#define PEMS_MAX_WORKERS        32
#define PEMS_WORKER_ERROR_SIZE  256
#define PEMS_MAX_ENDPOINTS      32 /* that a worker tells of; it serves more */
#define PEMS_ENDPOINT_NAME_SIZE 288
#define PEMS_MAX_HEALTH_CHECKS  8   /* health checks at a time, per worker */
#define PEMS_HEALTH_ID_SIZE     801 /* 200 characters, as in _pems_id() */

/*
 * A transaction that makes items ready announces them when it commits: the earliest of their
 * schedules, in the bucket of the organization.  Organizations share buckets, by a hash of their
 * id: a worker that looks for one too many finds nothing.
 */
#define PEMS_READY_BUCKETS 1024

/* Reasons to wake a worker; bits, collected until it looks. */
#define PEMS_WAKE_WORK   0x01 /* there may be items to send */
#define PEMS_WAKE_CONFIG 0x02 /* credentials, pauses, attach or the field catalogue changed */
#define PEMS_WAKE_HEALTH 0x04 /* a session asks for a health check; at once, not at commit */
#define PEMS_WAKE_PULLS  0x08 /* there may be something to pull */

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

/* One per database in pems_sync.databases.  PemsShared.lock protects it but for `wake`. */
typedef struct PemsWorkerEntry
{
	char database[NAMEDATALEN]; /* set at server start, constant after */
	pg_atomic_uint32 wake;      /* PEMS_WAKE_* bits; atomic, no lock */
	bool connect_failed;        /* the last process ended while it connected */

	Oid database_oid; /* InvalidOid until the worker is connected */
	int pid;          /* 0: no process */
	int proc_number;  /* whose latch to set; -1: nobody's */
	PemsWorkerStatus status;
	TimestampTz started_at;
	int64 heartbeat_us; /* end of its last turn; monotonic, 0: none */
	int in_flight;
	int64 requests; /* started since started_at */
	int open_breakers;
	char last_error[PEMS_WORKER_ERROR_SIZE];
} PemsWorkerEntry;

/* What a worker says of an endpoint.  Protected by PemsShared.lock. */
typedef struct PemsEndpointState
{
	char name[PEMS_ENDPOINT_NAME_SIZE]; /* scheme://host:port */
	PemsBreakerState breaker;
	int rate_limit; /* 0: none */
	int in_flight;
	double per_second;       /* requests that it can take; 0: nobody knows */
	int64 latency_us;        /* of its answers, about; 0: none yet */
	int faults;              /* endpoint faults in a row */
	TimestampTz waits_until; /* nothing starts before; 0: it may */
	TimestampTz last_error_at;
	char last_error[PEMS_WORKER_ERROR_SIZE];
} PemsEndpointState;

typedef enum PemsHealthState
{
	PEMS_HEALTH_FREE,
	PEMS_HEALTH_ASKED,    /* by a session, which waits */
	PEMS_HEALTH_ACCEPTED, /* the worker is at it */
	PEMS_HEALTH_ANSWERED  /* for the session to read */
} PemsHealthState;

/* A health check that a session asks the worker for.  Protected by PemsShared.lock. */
typedef struct PemsHealthEntry
{
	PemsHealthState state;
	uint64 number; /* of the question: an answer to an older one is nobody's */
	int asker;     /* whose latch to set; -1: it has gone */
	char organization_id[PEMS_HEALTH_ID_SIZE];
	bool healthy;
	int64 latency_us; /* -1: there was no answer */
	char error[PEMS_WORKER_ERROR_SIZE];
} PemsHealthEntry;

typedef struct PemsShared
{
	LWLock *lock;
	int count;
	PemsWorkerEntry workers[PEMS_MAX_WORKERS];
	/* Per entry, the first endpoint_counts[] of them */
	PemsEndpointState endpoints[PEMS_MAX_WORKERS][PEMS_MAX_ENDPOINTS];
	int endpoint_counts[PEMS_MAX_WORKERS];
	PemsHealthEntry health_checks[PEMS_MAX_WORKERS][PEMS_MAX_HEALTH_CHECKS];
	uint64 health_count; /* questions ever asked */
	/* Per entry: the earliest scheduled_at of what became ready, or DT_NOEND; atomic, no lock */
	pg_atomic_uint64 ready_since[PEMS_MAX_WORKERS][PEMS_READY_BUCKETS];
} PemsShared;

/* NULL when the library was not preloaded. */
extern PemsShared *pems_shared;

extern void pems_shmem_install_hooks(void);
/* Wake the worker of this database when the current transaction commits. */
extern void pems_shmem_wake_at_commit(uint32 reasons);
/*
 * Tell the worker of this database when the current transaction commits: items of that organization
 * (text) are ready, scheduled for ready_from or later.  Wakes it, too.
 */
extern void pems_shmem_note_ready_at_commit(Datum organization_id, TimestampTz ready_from);
/* Per bucket, what was announced since the last call; PEMS_READY_BUCKETS of them. */
extern void pems_shmem_read_ready_since(const PemsWorkerEntry *entry, TimestampTz *earliest);
/* Where an organization announces: 0 to PEMS_READY_BUCKETS - 1. */
extern int pems_shmem_bucket(const char *organization_id, size_t length);
/*
 * Which entry is that database's?  -1: none has a worker that is connected to it.  The caller holds
 * the lock.
 */
extern int pems_shmem_worker_of(Oid database);
/* A copy of what the worker of that database says; false: there is no entry for it. */
extern bool pems_shmem_read_worker(Oid database, const char *database_name, PemsWorkerEntry *copy);
extern const char *pems_shmem_status_name(PemsWorkerStatus status);
/* Copy what fits into size bytes, not cutting a character in two: others read it as text. */
extern void pems_shmem_copy_text(char *to, const char *from, size_t size);

#endif /* PEMS_SHMEM_H */
