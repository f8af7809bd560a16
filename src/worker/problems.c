/*
 * worker/problems.c
 *		What went wrong: once in the log, and in the view pems_worker until it is over.
 *
 * Process: the background worker.
 */
#include "postgres.h"

#include "shared/monotonic.h"
#include "worker/state.h"

/* The same problem again and again is logged once. */
void
report_problem(Turn *turn, const char *what, const char *problem)
{
	char text[PEMS_WORKER_ERROR_SIZE];

	snprintf(text, sizeof(text), "%s: %s", what, problem ? problem : "unknown");
	if (strcmp(text, turn->last_error) != 0)
		ereport(WARNING,
				(errmsg("pems_sync: %s", what), errdetail("%s", problem ? problem : "unknown"),
				 errhint("The worker goes on and tries again; see the view pems_worker.")));
	strlcpy(turn->last_error, text, sizeof(turn->last_error));
}

void
problem_is_over(Turn *turn, const char *what)
{
	size_t length = strlen(what);

	if (strncmp(turn->last_error, what, length) == 0 && turn->last_error[length] == ':')
		turn->last_error[0] = '\0';
}

void
exchange_problems_are_over(Turn *turn)
{
	static const char *const problems[] = {CANNOT_CLAIM, CANNOT_RECORD, CANNOT_RECORD_ONE,
										   CANNOT_SHOW, TABLES_CHANGED};

	for (int i = 0; i < (int) lengthof(problems); i++)
		problem_is_over(turn, problems[i]);
}

void
pause_after_failure(Turn *turn)
{
	turn->not_before_us = monotonic_us() + RETRY_PAUSE_MS * 1000;
}

bool
went_well(Turn *turn, PemsDatabaseStatus done, const char *what)
{
	if (done == PEMS_DATABASE_OK)
	{
		problem_is_over(turn, what);
		return true;
	}
	if (done == PEMS_DATABASE_GONE)
		forget_everything(turn);
	else if (done == PEMS_DATABASE_CHANGED)
	{
		/* the status is to say so, and reports wait until the tables are in order again */
		turn->setup_wanted = true;
		report_problem(turn, TABLES_CHANGED, pems_database_problem());
		pause_after_failure(turn);
	}
	else
	{
		report_problem(turn, what, pems_database_problem());
		pause_after_failure(turn);
	}
	return false;
}
