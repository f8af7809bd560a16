/*
 * sending/health.c
 *		Health checks; see health.h.
 *
 * Processes: any backend (pems_health_ask), and the background worker (all else).  They meet in
 * entries of shared memory (PemsHealthEntry).  PemsShared.lock protects these, and is never held
 * while anybody waits.  A session that goes away frees its entry, or leaves that to the worker if
 * it is at it already.
 *
 * The worker keeps a HealthCheck for each entry; libcurl hands that back as the owner.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

#include "pems/judge.h"
#include "sending/health.h"
#include "sending/roster.h"
#include "shared/compat.h"
#include "shared/settings.h"

/* How often a session looks whether the worker is still there; milliseconds. */
#define LOOK_MS 1000
/* What a session waits longer than the worker does: for the worker's turn. */
#define MARGIN_MS 5000

/* --- a session --- */

/* Where a session's question stands. */
typedef struct Question
{
	PemsHealthEntry *entry;
	uint64 number;
	int worker; /* its entry */
	int pid;
} Question;

static void
answer_with(PemsHealthAnswer *answer, const char *error)
{
	answer->healthy = false;
	answer->latency_us = -1;
	strlcpy(answer->error, error, sizeof(answer->error));
}

static PemsHealthEntry *
free_entry(int worker)
{
	for (int i = 0; i < PEMS_MAX_HEALTH_CHECKS; i++)
		if (pems_shared->health_checks[worker][i].state == PEMS_HEALTH_FREE)
			return &pems_shared->health_checks[worker][i];
	return NULL;
}

/* NULL, or why nobody can be asked. */
static const char *
put_question(const char *organization_id, Question *question)
{
	const char *problem = NULL;
	int worker_proc = -1;

	if (pems_shared == NULL)
		return "The worker is not running: pems_sync is not in shared_preload_libraries.";
	LWLockAcquire(pems_shared->lock, LW_EXCLUSIVE);
	question->worker = pems_shmem_worker_of(MyDatabaseId);
	question->entry = question->worker < 0 ? NULL : free_entry(question->worker);
	if (question->worker < 0)
		problem = "The worker of this database is not running.";
	else if (question->entry == NULL)
		problem = "Too many health checks are under way; try again.";
	else
	{
		question->pid = pems_shared->workers[question->worker].pid;
		question->number = ++pems_shared->health_count;
		question->entry->number = question->number;
		question->entry->state = PEMS_HEALTH_ASKED;
		question->entry->asker = pems_my_proc_number();
		strlcpy(question->entry->organization_id, organization_id, PEMS_HEALTH_ID_SIZE);
		pg_atomic_fetch_or_u32(&pems_shared->workers[question->worker].wake, PEMS_WAKE_HEALTH);
		worker_proc = pems_shared->workers[question->worker].proc_number;
	}
	LWLockRelease(pems_shared->lock);
	if (worker_proc >= 0)
		SetLatch(pems_proc_latch(worker_proc));
	return problem;
}

/* Let go of the question: cancelled, timed out, or answered. */
static void
withdraw_question(int code, Datum argument)
{
	Question *question = (Question *) DatumGetPointer(argument);
	PemsHealthEntry *entry = question->entry;

	LWLockAcquire(pems_shared->lock, LW_EXCLUSIVE);
	if (entry->number == question->number)
	{
		entry->asker = -1;
		if (entry->state != PEMS_HEALTH_ACCEPTED)
			entry->state = PEMS_HEALTH_FREE;
	}
	LWLockRelease(pems_shared->lock);
}

/* Is there an answer, or will there never be one? */
static bool
look_for_answer(const Question *question, PemsHealthAnswer *answer)
{
	const PemsHealthEntry *entry = question->entry;
	bool found = true;

	LWLockAcquire(pems_shared->lock, LW_SHARED);
	if (entry->number == question->number && entry->state == PEMS_HEALTH_ANSWERED)
	{
		answer->healthy = entry->healthy;
		answer->latency_us = entry->latency_us;
		strlcpy(answer->error, entry->error, sizeof(answer->error));
	}
	else if (entry->number != question->number ||
			 pems_shared->workers[question->worker].pid != question->pid)
		answer_with(answer, "The worker ended before PEMS answered.");
	else
		found = false;
	LWLockRelease(pems_shared->lock);
	return found;
}

static void
wait_for_answer(const Question *question, PemsHealthAnswer *answer)
{
	TimestampTz end =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 2 * pems_request_timeout + MARGIN_MS);

	while (!look_for_answer(question, answer))
	{
		if (GetCurrentTimestamp() >= end)
		{
			answer_with(answer, "The worker did not get to it in time.");
			return;
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOOK_MS,
						 pems_wait_event());
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
pems_health_ask(const char *organization_id, PemsHealthAnswer *answer)
{
	Question question;
	const char *problem = strlen(organization_id) < PEMS_HEALTH_ID_SIZE
							  ? put_question(organization_id, &question)
							  : "The organization's id is too long for a health check.";

	if (problem != NULL)
	{
		answer_with(answer, problem);
		return;
	}
	PG_ENSURE_ERROR_CLEANUP(withdraw_question, PointerGetDatum(&question));
	{
		wait_for_answer(&question, answer);
	}
	PG_END_ENSURE_ERROR_CLEANUP(withdraw_question, PointerGetDatum(&question));
	withdraw_question(0, PointerGetDatum(&question));
}

/* --- the worker --- */

typedef enum Step
{
	STEP_NONE,
	STEP_WAITING, /* for the endpoint's limiter */
	STEP_SENT
} Step;

typedef struct HealthCheck
{
	PemsHealthEntry *entry;
	uint64 number;
	int64 asked_us;
	PemsEndpoint *endpoint; /* and the ticket from its limiter, once sent */
	uint64 ticket;
	Step step;
	char organization_id[PEMS_HEALTH_ID_SIZE];
} HealthCheck;

static HealthCheck checks[PEMS_MAX_HEALTH_CHECKS];
static int check_count = 0;

static void
finish(HealthCheck *check, bool healthy, int64 latency_us, const char *error)
{
	PemsHealthEntry *entry = check->entry;
	int asker = -1;

	LWLockAcquire(pems_shared->lock, LW_EXCLUSIVE);
	if (entry->number == check->number && entry->state == PEMS_HEALTH_ACCEPTED)
	{
		entry->healthy = healthy;
		entry->latency_us = latency_us;
		pems_shmem_copy_text(entry->error, error, PEMS_WORKER_ERROR_SIZE);
		asker = entry->asker;
		entry->state = asker < 0 ? PEMS_HEALTH_FREE : PEMS_HEALTH_ANSWERED;
	}
	LWLockRelease(pems_shared->lock);
	check->step = STEP_NONE;
	check_count--;
	if (asker >= 0)
		SetLatch(pems_proc_latch(asker));
}

static void
refuse(HealthCheck *check, const char *error)
{
	finish(check, false, -1, error);
}

void
pems_health_accept(int64 now)
{
	int worker;

	LWLockAcquire(pems_shared->lock, LW_EXCLUSIVE);
	worker = pems_shmem_worker_of(MyDatabaseId);
	for (int i = 0; worker >= 0 && i < PEMS_MAX_HEALTH_CHECKS; i++)
	{
		PemsHealthEntry *entry = &pems_shared->health_checks[worker][i];
		HealthCheck *check = &checks[i];

		if (entry->state != PEMS_HEALTH_ASKED || check->step != STEP_NONE)
			continue;
		entry->state = PEMS_HEALTH_ACCEPTED;
		*check = (HealthCheck){
			.step = STEP_WAITING, .entry = entry, .number = entry->number, .asked_us = now};
		strlcpy(check->organization_id, entry->organization_id, PEMS_HEALTH_ID_SIZE);
		check_count++;
	}
	LWLockRelease(pems_shared->lock);
}

/* A predecessor that was killed left its checks accepted; nobody answers those any more. */
void
pems_health_initialize(void)
{
	int worker;

	LWLockAcquire(pems_shared->lock, LW_EXCLUSIVE);
	worker = pems_shmem_worker_of(MyDatabaseId);
	for (int i = 0; worker >= 0 && i < PEMS_MAX_HEALTH_CHECKS; i++)
		if (pems_shared->health_checks[worker][i].state == PEMS_HEALTH_ACCEPTED)
			pems_shared->health_checks[worker][i].state = PEMS_HEALTH_FREE;
	LWLockRelease(pems_shared->lock);
}

/* NULL, or why PEMS cannot be called for that organization. */
static const char *
why_not(PemsWorkerStatus status, const PemsOrganization *organization)
{
	if (status == PEMS_WORKER_COPY)
		return "This database is a copy; it calls nobody until an administrator resumes it.";
	if (status == PEMS_WORKER_NO_KEY)
		return "The key file cannot be used; see the view pems_worker.";
	if (status != PEMS_WORKER_RUNNING && status != PEMS_WORKER_DISABLED)
		return "The worker is not ready; see the view pems_worker.";
	if (organization == NULL || !organization->listed)
		return "The organization has no credential for PEMS.";
	if (organization->token == NULL)
		return organization->trouble;
	return NULL;
}

static void
note_sent(void *owner)
{
	HealthCheck *check = owner;

	pems_endpoint_sent(check->endpoint, check->ticket);
}

static void
send_check(HealthCheck *check, const PemsOrganization *organization, PemsHttpClient *client,
		   int64 now)
{
	PemsRequest texts;
	PemsHttpClientRequest request = {.call = PEMS_CALL_HEALTH,
									 .api_url = organization->api_url,
									 .token = organization->token,
									 .owner = check,
									 .sent = note_sent};
	bool composed =
		pems_request_compose(request.call, organization->api_url, NULL, NULL, 0, &texts);

	request.url = texts.url;
	check->endpoint = organization->endpoint;
	if (!composed || !pems_http_client_start(client, &request))
		refuse(check, "Out of memory.");
	else
	{
		check->ticket = pems_endpoint_start(check->endpoint, now);
		check->step = STEP_SENT;
	}
	pems_request_free(&texts);
}

/* Was it sent? */
static bool
start_check(HealthCheck *check, PemsHttpClient *client, PemsWorkerStatus status, int64 now)
{
	const PemsOrganization *organization = pems_roster_find(check->organization_id);
	const char *problem = why_not(status, organization);

	if (problem != NULL)
		refuse(check, problem);
	else if (pems_limiter_capacity(organization->endpoint->limiter, now) > 0)
		send_check(check, organization, client, now);
	else if (pems_endpoint_breaker_is_open(organization->endpoint, now))
		refuse(check, "PEMS does not answer, and it is not time for the next try; see the view "
					  "pems_endpoints.");
	else if (now > check->asked_us + (int64) pems_request_timeout * 1000)
		refuse(check, "The rate limit, or PEMS itself, let no request through in time.");
	return check->step == STEP_SENT;
}

int
pems_health_start(PemsHttpClient *client, PemsWorkerStatus status, int64 now, int most)
{
	int sent = 0;

	if (check_count == 0)
		return 0;
	for (int i = 0; i < PEMS_MAX_HEALTH_CHECKS && sent < most; i++)
		if (checks[i].step == STEP_WAITING && start_check(&checks[i], client, status, now))
			sent++;
	pems_http_client_drive(client);
	return sent;
}

bool
pems_health_finish(void *owner, const PemsAnswer *answer, int64 now)
{
	HealthCheck *check = owner;
	PemsAsked asked = {.call = PEMS_CALL_HEALTH};
	PemsOutcome outcome;
	bool healthy;

	if (check < checks || check >= checks + PEMS_MAX_HEALTH_CHECKS)
		return false;
	pems_judge_answer(&asked, answer, &outcome);
	pems_endpoint_end(check->endpoint, check->ticket, answer, &outcome, now);
	healthy = outcome.class == PEMS_OUTCOME_RECORD;
	finish(check, healthy, answer->status == 0 ? -1 : answer->latency_us,
		   healthy         ? ""
		   : outcome.error ? outcome.error
						   : "PEMS is not healthy.");
	pems_outcome_free(&outcome);
	return true;
}

int64
pems_health_next_us(int64 now)
{
	int64 next = INT64_MAX;

	for (int i = 0; check_count > 0 && i < PEMS_MAX_HEALTH_CHECKS; i++)
	{
		const PemsOrganization *organization;

		if (checks[i].step != STEP_WAITING)
			continue;
		organization = pems_roster_find(checks[i].organization_id);
		next = Min(next, checks[i].asked_us + (int64) pems_request_timeout * 1000 + 1);
		if (organization != NULL && organization->endpoint != NULL)
			next = Min(next, pems_limiter_next(organization->endpoint->limiter, now));
	}
	return next;
}

bool
pems_health_forget(void)
{
	bool sent = false;

	for (int i = 0; i < PEMS_MAX_HEALTH_CHECKS; i++)
	{
		sent |= checks[i].step == STEP_SENT;
		if (checks[i].step != STEP_NONE)
			refuse(&checks[i], "The extension was dropped.");
	}
	return sent;
}
