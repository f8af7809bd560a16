/*
 * worker/worker.c
 *		The background worker: registration, connection, the loop.
 *
 * Process: one per database of pems_sync.databases, started by the postmaster after
 * recovery (so a standby has none until it is promoted).  Ends with exit code 1 only
 * (0 would unregister it for ever, anything else restart the cluster) and is started again a
 * second later.
 *
 * The loop knows no SQL and no HTTP: turn.c does.
 *
 * A database that does not exist, or takes no connections, must not fill the log with a failed
 * start per second.  So a process marks its entry while it connects; if the mark is still there at
 * the next start, that process connects to no database at all and waits, quietly, until the
 * database is there and takes connections.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "secrets/process.h"
#include "sending/endpoint.h"
#include "shared/compat.h"
#include "shared/monotonic.h"
#include "shared/settings.h"
#include "shared/shmem.h"
#include "worker/turn.h"
#include "worker/worker.h"

#define RESTART_SECONDS  1
#define DATABASE_WAIT_MS 1000
/*
 * The worker waits this long, in milliseconds, for a row that another session has locked, then
 * records the others without it; see give_way_in_deadlocks().
 */
#define LOCK_WAIT_MS 200

static PemsWorkerEntry *entry = NULL;

/*
 * Settings of the worker's own session.  Fixed here, as autovacuum does, so that ALTER DATABASE
 * or ALTER ROLE ... SET cannot break the worker or reroute its statements.
 */
static const char *const session_settings[][2] = {
	{"application_name", "pems_sync worker"},
	{"search_path", "pg_catalog, pg_temp"},
	{"statement_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"idle_session_timeout", "0"},
	PEMS_TRANSACTION_TIMEOUT /* its comma is in there */
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_read_only", "off"},
	{"default_transaction_deferrable", "off"},
	{"session_replication_role", "origin"},
	{"row_security", "on"},
	/* Texts that go out and come in again: bounds of partitions, bytea, numbers. */
	{"DateStyle", "ISO, YMD"},
	{"IntervalStyle", "postgres"},
	{"TimeZone", "UTC"},
	{"bytea_output", "hex"},
	{"extra_float_digits", "1"},
	{"standard_conforming_strings", "on"},
	{"array_nulls", "on"},
	{"transform_null_equals", "off"},
	/* An error of a statement is recorded, and the worker goes on. */
	{"exit_on_error", "off"},
	/* What a batch needs must not depend on what a database allows its sessions. */
	{"work_mem", "16MB"},
	{"temp_file_limit", "-1"},
	{"max_parallel_workers_per_gather", "0"},
	{"jit", "off"},
	/*
	 * Every statement of ours goes from a handful of items to their rows by key.  A plan that
	 * reads a whole table, because the table was small when it was planned, would be kept.
	 */
	{"enable_seqscan", "off"},
	{"enable_hashjoin", "off"},
	{"enable_mergejoin", "off"},
	{"enable_nestloop", "on"},
	{"enable_indexscan", "on"},
	{"enable_indexonlyscan", "on"},
	{"enable_bitmapscan", "on"},
	{"enable_tidscan", "on"},
	{"enable_sort", "on"},
	{"enable_hashagg", "on"},
	{"enable_material", "on"},
	{"join_collapse_limit", "8"},
	{"from_collapse_limit", "8"},
	{"geqo_threshold", "12"},
	{"plan_cache_mode", "force_generic_plan"},
	/* The planner is not to evaluate CHECK constraints of tables that are not ours. */
	{"constraint_exclusion", "partition"},
	{"client_min_messages", "error"},
};

/* --- registration --- */

static void
register_worker(int number, const char *database)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = RESTART_SECONDS;
	worker.bgw_main_arg = Int32GetDatum(number);
	strlcpy(worker.bgw_library_name, "pems_sync", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "pems_worker_main", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "pems_sync worker", BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "pems_sync worker for %s", database);
	RegisterBackgroundWorker(&worker);
}

/*
 * The entries in shared memory are made later, from the same list and in the same order.
 */
void
pems_worker_register(void)
{
	List *names = NIL;
	List *seen = NIL;
	ListCell *cell;

	if (!process_shared_preload_libraries_in_progress)
		return;
	if (!SplitIdentifierString(pstrdup(pems_databases), ',', &names))
		ereport(
			FATAL,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid list in \"pems_sync.databases\""),
			 errhint("Separate the names with commas; quote a name that is not all lower case.")));
	foreach (cell, names)
	{
		ListCell *other;
		bool known = false;

		foreach (other, seen)
			known |= strcmp(lfirst(other), lfirst(cell)) == 0;
		if (known)
			continue;
		if (list_length(seen) == PEMS_MAX_WORKERS)
			ereport(FATAL,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("more than %d databases in \"pems_sync.databases\"", PEMS_MAX_WORKERS),
					 errhint("Name fewer databases.")));
		register_worker(list_length(seen), lfirst(cell));
		seen = lappend(seen, lfirst(cell));
	}
}

/* --- the entry --- */

static void
clear_entry(int code, Datum argument)
{
	LWLockAcquire(pems_shared->lock, LW_EXCLUSIVE);
	entry->pid = 0;
	entry->proc_number = -1;
	entry->database_oid = InvalidOid;
	entry->status = PEMS_WORKER_ABSENT;
	entry->in_flight = 0;
	pems_shared->endpoint_counts[entry - pems_shared->workers] = 0;
	LWLockRelease(pems_shared->lock);
}

static void
fill_entry(int number)
{
	entry = &pems_shared->workers[number];
	LWLockAcquire(pems_shared->lock, LW_EXCLUSIVE);
	entry->pid = MyProcPid;
	entry->proc_number = pems_my_proc_number();
	entry->status = PEMS_WORKER_STARTING;
	entry->started_at = GetCurrentTimestamp();
	entry->heartbeat_us = monotonic_us();
	entry->requests = 0;
	entry->last_error[0] = '\0';
	LWLockRelease(pems_shared->lock);
	before_shmem_exit(clear_entry, (Datum) 0);
}

static void
set_status(PemsWorkerStatus status)
{
	LWLockAcquire(pems_shared->lock, LW_EXCLUSIVE);
	entry->status = status;
	LWLockRelease(pems_shared->lock);
}

static void
report_state(void)
{
	PemsTurnState state;
	int number = (int) (entry - pems_shared->workers);

	pems_turn_state(&state);
	LWLockAcquire(pems_shared->lock, LW_EXCLUSIVE);
	entry->status = state.status;
	entry->heartbeat_us = monotonic_us();
	entry->in_flight = state.in_flight;
	entry->requests = state.requests;
	entry->open_breakers = state.open_breakers;
	pems_shmem_copy_text(entry->last_error, state.last_error ? state.last_error : "",
						 PEMS_WORKER_ERROR_SIZE);
	pems_shared->endpoint_counts[number] =
		pems_endpoints_describe(pems_shared->endpoints[number], PEMS_MAX_ENDPOINTS);
	LWLockRelease(pems_shared->lock);
}

/* --- connection --- */

/* datconnlimit of a database that was left half dropped and takes no connections; from 16 on. */
#define DATABASE_IS_INVALID (-2)

/*
 * Is the database there, and does it take connections?  Read without an index: before any session
 * has connected since the server's start, a process without a database knows none.
 */
static bool
database_is_ready(const char *name)
{
	Relation relation;
	TableScanDesc scan;
	HeapTuple tuple;
	bool ready = false;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		if (strcmp(NameStr(database->datname), name) == 0)
			ready = database->datallowconn && database->datconnlimit != DATABASE_IS_INVALID;
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
	return ready;
}

/*
 * The last process failed to connect: wait until the database takes connections, then end, so that
 * a new process starts.
 */
static void
wait_for_database(void)
{
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	set_status(PEMS_WORKER_WAITING);
	while (!database_is_ready(entry->database))
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, DATABASE_WAIT_MS,
						 pems_wait_event());
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	entry->connect_failed = false;
	proc_exit(1);
}

/* A claim that is lost after its request went out would be an attempt without an audit line. */
static void
keep_commits_durable(void)
{
	if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
		SetConfigOption("synchronous_commit", "local", PGC_SUSET, PGC_S_OVERRIDE);
}

/*
 * In a deadlock with a user's session the worker gives way: it stops waiting before the session
 * looks for one, at deadlock_timeout.
 */
static void
give_way_in_deadlocks(void)
{
	char wait[16];

	snprintf(wait, sizeof(wait), "%d", Max(1, Min(LOCK_WAIT_MS, DeadlockTimeout / 2)));
	SetConfigOption("lock_timeout", wait, PGC_SUSET, PGC_S_OVERRIDE);
}

static void
connect_to_database(void)
{
	if (entry->connect_failed)
		wait_for_database();
	entry->connect_failed = true;
	BackgroundWorkerInitializeConnection(entry->database, NULL, 0);
	entry->connect_failed = false;

	for (int i = 0; i < (int) lengthof(session_settings); i++)
		SetConfigOption(session_settings[i][0], session_settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	keep_commits_durable();
	give_way_in_deadlocks();

	LWLockAcquire(pems_shared->lock, LW_EXCLUSIVE);
	entry->database_oid = MyDatabaseId;
	LWLockRelease(pems_shared->lock);
}

/* --- the loop --- */

static WaitEventSet *
make_wait_set(int descriptor)
{
	WaitEventSet *set = pems_create_wait_set(3);

	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(set, WL_SOCKET_READABLE, descriptor, NULL, NULL);
	return set;
}

static void
wait_for_something(void)
{
	static WaitEventSet *set = NULL;
	static uint32 set_number = 0;
	WaitEvent event;
	uint32 number;
	int descriptor = pems_turn_descriptor(&number);

	if (set == NULL || set_number != number)
	{
		if (set != NULL)
			FreeWaitEventSet(set);
		set = make_wait_set(descriptor);
		set_number = number;
	}
	(void) WaitEventSetWait(set, pems_turn_timeout_ms(), &event, 1, pems_wait_event());
}

static void
reload_if_asked(void)
{
	if (!ConfigReloadPending)
		return;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	keep_commits_durable();
	give_way_in_deadlocks();
	pems_turn_reconfigure();
}

/*
 * SIGINT comes from the process itself when lock_timeout is over, or the time that writing the
 * application's tables may take (transaction.c); that is heard.
 * pg_cancel_backend() is not: a canceled wait for a synchronous standby would be a claim that is
 * durable here only.
 */
static void
cancel_at_timeout(SIGNAL_ARGS)
{
	if (get_timeout_indicator(LOCK_TIMEOUT, false) ||
		get_timeout_indicator(STATEMENT_TIMEOUT, false))
		StatementCancelHandler(postgres_signal_arg);
}

void
pems_worker_main(Datum worker_number)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, cancel_at_timeout);
	pems_secrets_keep_process_private();
	BackgroundWorkerUnblockSignals();
	fill_entry(DatumGetInt32(worker_number));
	connect_to_database();
	pems_turn_initialize();

	for (;;)
	{
		/* The wake bits are cleared before the queue is read: what comes after is not lost. */
		uint32 reasons = pg_atomic_exchange_u32(&entry->wake, 0);
		TimestampTz ready_since[PEMS_READY_BUCKETS];

		if (reasons != 0)
			pems_shmem_read_ready_since(entry, ready_since);
		pems_turn_run(reasons, reasons != 0 ? ready_since : NULL);
		report_state();
		wait_for_something();
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		reload_if_asked();
	}
}
