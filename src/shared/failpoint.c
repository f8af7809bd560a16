/*
 * shared/failpoint.c
 *		Makes the worker die, or stop, at a named place.  Part of test builds only.
 *
 * Process: the background worker.
 *
 * A test arms one point by writing "NAME ACTION" into the file pems_failpoint in the data
 * directory.  The first process that reaches the point renames the file to
 * pems_failpoint.reached, which disarms it (also across the restart that follows) and
 * tells the test; then it does
 *
 *		crash	SIGKILL to itself: the postmaster restarts everything
 *		exit	ends with status 1: the postmaster starts another worker
 *		error	raises an ERROR; inside a transaction only
 *		hang	nothing more, until it is killed: for a stop of the server at this very place
 *		wait	nothing until the test removes pems_failpoint.reached, then it goes on
 */
#include "postgres.h"

#include <signal.h>
#include <unistd.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"

#include "shared/failpoint.h"

#define ARMED_FILE   "pems_failpoint"
#define REACHED_FILE "pems_failpoint.reached"

static const char *reached_in_commit = NULL;

/* What the file says of the point; false: another one is armed, or none. */
static bool
read_action(const char *name, char *action, size_t size)
{
	char armed[64];
	char wanted[64];
	FILE *file = fopen(ARMED_FILE, "r");

	if (file == NULL)
		return false;
	if (fscanf(file, "%63s %63s", armed, wanted) != 2)
		armed[0] = '\0';
	fclose(file);
	if (strcmp(armed, name) != 0)
		return false;
	strlcpy(action, wanted, size);
	return true;
}

static void
act(const char *name, const char *action)
{
	if (strcmp(action, "crash") == 0)
		kill(getpid(), SIGKILL);
	if (strcmp(action, "exit") == 0)
		proc_exit(1);
	if (strcmp(action, "error") == 0)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("failpoint %s", name)));
	while (strcmp(action, "wait") != 0 || access(REACHED_FILE, F_OK) == 0)
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(10000);
	}
}

void
pems_failpoint_reach(const char *name)
{
	char action[64];

	if (!read_action(name, action, sizeof(action)))
		return;
	if (rename(ARMED_FILE, REACHED_FILE) == 0)
		act(name, action);
}

static void
transaction_ended(XactEvent event, void *argument)
{
	const char *name = reached_in_commit;

	reached_in_commit = NULL;
	if (name != NULL && event == XACT_EVENT_COMMIT)
		pems_failpoint_reach(name);
	else if (event == XACT_EVENT_PRE_COMMIT)
		reached_in_commit = name;
}

void
pems_failpoint_reach_in_commit(const char *name)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(transaction_ended, NULL);
	registered = true;
	reached_in_commit = name;
}
