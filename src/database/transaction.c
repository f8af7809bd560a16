/*
 * database/transaction.c
 *		The worker's transactions: one way to begin, end and fail for all of them.
 *
 * Process: the background worker.  Transactions are short, and none is open while the network is
 * waited for.  Each begins with a lock on the extension itself.  DROP EXTENSION takes that lock
 * first, too: so the two never block each other half-way, and after the lock it is clear whether
 * the extension is still there.
 *
 * Rights: the process was connected as the bootstrap superuser, which is needed to start without
 * a login role.  From pems_database_open() on, every statement runs as pems_sync_worker in a
 * security-restricted operation, so that nothing that an application's role hangs on its own
 * tables gets more rights than that.
 *
 * Memory: statements work in SPI's context; what is returned is copied to the context that was
 * current when the function was called.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "database/app_tables.h"
#include "database/extension.h"
#include "database/report.h"
#include "database/statement.h"
#include "database/transaction.h"
#include "shared/compat.h"
#include "shared/failpoint.h"
#include "shared/shmem.h"

/* How long writing the application's tables may take, and one more for each row; milliseconds. */
#define TIMED_WRITE_MS 2000

/* The extension that was found by pems_database_open(). */
static Oid extension_oid = InvalidOid;
static char extension_schema[NAMEDATALEN];

/* What the last transaction that failed said. */
static char problem[1024];

const char *
pems_database_problem(void)
{
	return problem;
}

/* Cut where a character ends: what becomes of it is stored in the database. */
static void
remember_problem(const char *text)
{
	pems_shmem_copy_text(problem, text, sizeof(problem));
}

Oid
pems_transaction_schema(void)
{
	return get_namespace_oid(extension_schema, true);
}

/* --- how long writes to the application's tables may take --- */

static bool write_is_timed = false;

void
pems_transaction_begin_timed_write(int rows)
{
	enable_timeout_after(STATEMENT_TIMEOUT, TIMED_WRITE_MS + rows);
	write_is_timed = true;
}

static void
forget_timer(void)
{
	if (write_is_timed)
		disable_timeout(STATEMENT_TIMEOUT, false);
	write_is_timed = false;
	QueryCancelPending = false;
}

/* After this nothing is canceled any more, above all not the commit. */
void
pems_transaction_end_timed_write(void)
{
	CHECK_FOR_INTERRUPTS();
	forget_timer();
}

/* In PG_CATCH: was it the timer that ended the work?  (Other requests to cancel are ignored.) */
static bool
took_too_long(int sqlstate)
{
	return sqlstate == ERRCODE_QUERY_CANCELED && write_is_timed &&
		   !get_timeout_active(STATEMENT_TIMEOUT);
}

/* --- begin, commit, abort --- */

static void
begin(const char *activity)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	pgstat_report_activity(STATE_RUNNING, activity);
}

static void
report_end(void)
{
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
}

static void
commit(void)
{
	CommitTransactionCommand();
	report_end();
}

static bool
may_succeed_later(int sqlstate)
{
	return sqlstate == ERRCODE_LOCK_NOT_AVAILABLE || sqlstate == ERRCODE_T_R_DEADLOCK_DETECTED ||
		   sqlstate == ERRCODE_T_R_SERIALIZATION_FAILURE ||
		   ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_INSUFFICIENT_RESOURCES;
}

static PemsDatabaseStatus
status_of(const ErrorData *error, bool slow)
{
	if (slow)
		return PEMS_DATABASE_SLOW;
	return may_succeed_later(error->sqlerrcode) ? PEMS_DATABASE_BUSY : PEMS_DATABASE_ERROR;
}

static void
remember_error(const ErrorData *error, bool slow)
{
	if (slow)
		remember_problem(psprintf("Writing the application's tables took longer than %d s.",
								  TIMED_WRITE_MS / 1000));
	else
		remember_problem(psprintf("%s%s%s", error->message, error->detail ? " " : "",
								  error->detail ? error->detail : ""));
}

/* In PG_CATCH: aborts the transaction, and remembers what the error said. */
static PemsDatabaseStatus
abandon(MemoryContext caller)
{
	ErrorData *error;
	PemsDatabaseStatus status;
	bool slow;

	MemoryContextSwitchTo(caller);
	error = CopyErrorData();
	slow = took_too_long(error->sqlerrcode);
	forget_timer();
	HOLD_INTERRUPTS();
	AbortCurrentTransaction();
	FlushErrorState();
	RESUME_INTERRUPTS();
	MemoryContextSwitchTo(caller);
	report_end();

	remember_error(error, slow);
	status = status_of(error, slow);
	FreeErrorData(error);
	return status;
}

/* What happens between begin and commit. */
typedef PemsDatabaseStatus (*Body)(void *argument);

static PemsDatabaseStatus
in_transaction(const char *activity, Body body, void *argument)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile PemsDatabaseStatus status = PEMS_DATABASE_OK;

	PG_TRY();
	{
		begin(activity);
		status = body(argument);
		commit();
	}
	PG_CATCH();
	{
		status = abandon(caller);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return status;
}

/* --- a piece of work --- */

typedef struct Task
{
	PemsTables tables;
	PemsWork work;
	void *argument;
} Task;

/* Is the extension that was opened still the one that is installed?  Holds its lock if so. */
static bool
lock_extension(void)
{
	if (!OidIsValid(extension_oid))
		return false;
	LockDatabaseObject(ExtensionRelationId, extension_oid, 0, AccessShareLock);
	return get_extension_oid(PEMS_EXTENSION, true) == extension_oid;
}

static bool
tables_are_intact(PemsTables tables)
{
	return tables == PEMS_TABLES_OURS || pems_app_tables_are_intact(pems_transaction_schema());
}

static PemsDatabaseStatus
do_task(void *argument)
{
	const Task *task = argument;
	PemsDatabaseStatus status = PEMS_DATABASE_OK;

	if (!lock_extension())
		return PEMS_DATABASE_GONE;
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (tables_are_intact(task->tables))
		task->work(task->argument);
	else
	{
		remember_problem("They are not as they were when they were attached; see pems_attach().");
		status = PEMS_DATABASE_CHANGED;
	}
	PopActiveSnapshot();
	SPI_finish();
	return status;
}

PemsDatabaseStatus
pems_transaction_run(const char *activity, PemsTables tables, PemsWork work, void *argument)
{
	Task task = {tables, work, argument};

	return in_transaction(activity, do_task, &task);
}

/* --- open --- */

static void
enter_worker_role(void)
{
	Oid role = get_role_oid(PEMS_WORKER_ROLE, false);

	SetUserIdAndSecContext(role, SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
}

/*
 * The extension that is installed, with its lock; InvalidOid: there is none.  Without the lock it
 * may be gone before its schema is looked up.
 */
static Oid
lock_installed_extension(void)
{
	Oid oid = get_extension_oid(PEMS_EXTENSION, true);

	if (!OidIsValid(oid))
		return InvalidOid;
	LockDatabaseObject(ExtensionRelationId, oid, 0, AccessShareLock);
	return get_extension_oid(PEMS_EXTENSION, true) == oid ? oid : InvalidOid;
}

static PemsDatabaseStatus
find_extension(void *argument)
{
	Oid oid = lock_installed_extension();
	Oid schema;

	extension_oid = InvalidOid;
	pems_statement_forget_all();
	if (!OidIsValid(oid))
		return PEMS_DATABASE_GONE;
	PEMS_FAILPOINT("extension_found");
	schema = pems_extension_schema(oid);
	strlcpy(extension_schema, get_namespace_name(schema), NAMEDATALEN);
	pems_report_find_type(schema);
	enter_worker_role();
	extension_oid = oid;
	return PEMS_DATABASE_OK;
}

PemsDatabaseStatus
pems_database_open(void)
{
	return in_transaction("looking for the extension", find_extension, NULL);
}
