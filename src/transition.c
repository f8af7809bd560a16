/*
 * transition.c
 *		What becomes of an item after a request.
 *
 * Pure: no PostgreSQL, no I/O, no clock.
 */
#include "transition.h"

#include <string.h>

#include "retry.h"

static const char *const step_names[] = {
	[PEMS_STEP_WRITE] = "write",
	[PEMS_STEP_READ] = "read",
	[PEMS_STEP_REFRESH] = "refresh",
};

static const char *const status_names[] = {
	[PEMS_ITEM_PENDING] = "pending",
	[PEMS_ITEM_COMPLETED] = "completed",
	[PEMS_ITEM_FAILED] = "failed",
	[PEMS_ITEM_CONFLICT] = "conflict",
};

const char *
pems_transition_step_name(PemsStep step)
{
	return step_names[step];
}

PemsStep
pems_transition_step(const char *name)
{
	if (strcmp(name, step_names[PEMS_STEP_READ]) == 0)
		return PEMS_STEP_READ;
	if (strcmp(name, step_names[PEMS_STEP_REFRESH]) == 0)
		return PEMS_STEP_REFRESH;
	return PEMS_STEP_WRITE;
}

const char *
pems_transition_status_name(PemsVerdictStatus status)
{
	return status_names[status];
}

static int64_t
at_least(int64_t delay_ms, int64_t minimum_ms)
{
	return delay_ms > minimum_ms ? delay_ms : minimum_ms;
}

static int64_t
at_most(int64_t delay_ms, int64_t maximum_ms)
{
	return delay_ms < maximum_ms ? delay_ms : maximum_ms;
}

/* A write that may have arrived makes the item unknown, and an unknown item is read first. */
static void
remember_unknown(const PemsTransitionInput *input, const PemsOutcome *outcome, PemsTransition *t)
{
	if (input->step != PEMS_STEP_WRITE || !outcome->unknown)
		return;
	t->outcome_unknown = true;
	t->next = PEMS_STEP_READ;
}

/* A write that was applied is not a failure because the mirror cannot be read. */
static void
give_up(const PemsTransitionInput *input, PemsTransition *t)
{
	t->status = input->step == PEMS_STEP_REFRESH ? PEMS_ITEM_COMPLETED : PEMS_ITEM_FAILED;
	t->delay_ms = 0;
}

/* Reading what a write has made goes on until it is read: nothing could be won by giving up. */
static bool
has_retries_left(const PemsTransitionInput *input)
{
	return input->step == PEMS_STEP_REFRESH || input->retry_count < input->max_retries;
}

static void
try_later(const PemsTransitionInput *input, const PemsOutcome *outcome, PemsTransition *t)
{
	bool free_of_charge = outcome->endpoint_fault && input->breaker_open;

	remember_unknown(input, outcome, t);
	if (!free_of_charge)
	{
		if (!has_retries_left(input))
		{
			give_up(input, t);
			return;
		}
		t->delay_ms =
			pems_retry_backoff_ms(input->retry_delay_ms, input->retry_count, input->jitter);
		if (input->step == PEMS_STEP_REFRESH)
			t->delay_ms = at_most(t->delay_ms, PEMS_TRANSITION_REFRESH_MS);
		t->retry_count = input->retry_count + 1;
	}
	if (t->outcome_unknown)
		t->delay_ms = at_least(t->delay_ms, PEMS_TRANSITION_SETTLE_MS);
}

static void
after_done(const PemsTransitionInput *input, const PemsOutcome *outcome, PemsTransition *t)
{
	t->outcome_unknown = false;
	t->rounds = 0;
	if (input->is_delete)
	{
		t->status = PEMS_ITEM_COMPLETED;
		t->mirror_is_deleted = true;
	}
	else if (!input->refresh_always && outcome->new_version == input->sent_version + 1)
	{
		/* nobody can have written in between, so we know the record without asking */
		t->status = PEMS_ITEM_COMPLETED;
		t->mirror_adds_changes = true;
	}
	else
		t->next = PEMS_STEP_REFRESH;
}

static void
after_record(const PemsTransitionInput *input, PemsTransition *t)
{
	t->mirror_is_record = true;
	if (input->step == PEMS_STEP_REFRESH)
		t->status = PEMS_ITEM_COMPLETED;
	else
		t->next = PEMS_STEP_WRITE;
}

static void
after_gone(const PemsTransitionInput *input, PemsTransition *t)
{
	if (input->step == PEMS_STEP_WRITE)
	{
		t->next = PEMS_STEP_READ; /* a 404 is confirmed by a read */
		return;
	}
	t->outcome_unknown = false;
	t->mirror_is_deleted = input->record_known;
	if (input->is_delete || input->step == PEMS_STEP_REFRESH)
		t->status = PEMS_ITEM_COMPLETED;
	else
		t->status = input->record_known ? PEMS_ITEM_CONFLICT : PEMS_ITEM_FAILED;
}

static void
after_version_conflict(const PemsTransitionInput *input, const PemsOutcome *outcome,
					   PemsTransition *t)
{
	t->next = PEMS_STEP_READ;
	t->rounds = input->rounds + 1;
	if (t->rounds < PEMS_TRANSITION_MAX_ROUNDS)
		return;
	t->rounds = 0;
	try_later(input, outcome, t);
}

/*
 * pems_transition_after
 *		The item's next state, from the request that was made and its outcome.
 */
void
pems_transition_after(const PemsTransitionInput *input, const PemsOutcome *outcome,
					  PemsTransition *transition)
{
	PemsTransition *t = transition;

	memset(t, 0, sizeof(*t));
	t->status = PEMS_ITEM_PENDING;
	t->next = input->step;
	t->outcome_unknown = input->outcome_unknown;
	t->retry_count = input->retry_count;
	t->rounds = input->rounds;

	switch (outcome->class)
	{
		case PEMS_OUTCOME_DONE:
			after_done(input, outcome, t);
			break;
		case PEMS_OUTCOME_RECORD:
			after_record(input, t);
			break;
		case PEMS_OUTCOME_GONE:
			after_gone(input, t);
			break;
		case PEMS_OUTCOME_REJECTED:
			remember_unknown(input, outcome, t);
			give_up(input, t);
			break;
		case PEMS_OUTCOME_CREDENTIAL:
			t->pause_organization = true;
			break;
		case PEMS_OUTCOME_VERSION:
			after_version_conflict(input, outcome, t);
			break;
		case PEMS_OUTCOME_THROTTLED:
			break; /* the endpoint waits, not the item */
		case PEMS_OUTCOME_TRANSIENT:
		case PEMS_OUTCOME_UNKNOWN:
			try_later(input, outcome, t);
			break;
	}
}
