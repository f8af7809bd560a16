/*
 * pems/transition.c
 *		What becomes of an item after a request; see transition.h.
 *
 * Pure; any process: no PostgreSQL, no I/O, no clock.  No memory is allocated.
 */
#include "pems/transition.h"

#include <string.h>

#include "pems/retry.h"

static const char *const step_names[] = {
	[PEMS_STEP_WRITE] = "write",
	[PEMS_STEP_READ] = "read",
	[PEMS_STEP_CONFIRM] = "confirm",
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
	for (int step = PEMS_STEP_WRITE; step <= PEMS_STEP_REFRESH; step++)
		if (strcmp(name, step_names[step]) == 0)
			return (PemsStep) step;
	return PEMS_STEP_WRITE;
}

const char *
pems_transition_status_name(PemsItemStatus status)
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

/* After a write that may have arrived the outcome is unknown, and the item is read first. */
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
	t->mirror_is_deleted = input->step == PEMS_STEP_REFRESH && input->is_delete;
}

/* A read's 2xx without a record: a page of HTML, say.  PEMS works, and may never answer more. */
static bool
has_no_record(const PemsOutcome *outcome)
{
	return outcome->error_code != NULL && (strcmp(outcome->error_code, "BAD_RESPONSE") == 0 ||
										   strcmp(outcome->error_code, "ACCEPTED") == 0);
}

/* Reading what a write has made goes on until it is read: nothing could be won by giving up. */
static bool
has_retries_left(const PemsTransitionInput *input, const PemsOutcome *outcome)
{
	if (input->step == PEMS_STEP_REFRESH && !has_no_record(outcome))
		return true;
	return input->retry_count < input->max_retries;
}

static void
try_later(const PemsTransitionInput *input, const PemsOutcome *outcome, PemsTransition *t)
{
	bool free_of_charge = outcome->endpoint_fault && input->breaker_open;

	remember_unknown(input, outcome, t);
	if (free_of_charge)
		/*
		 * It waits behind the others.  Otherwise an item whose requests alone fail would be every
		 * probe of the breaker.
		 */
		t->delay_ms =
			at_most(pems_retry_backoff_ms(PEMS_TRANSITION_SETTLE_MS, input->attempt, input->jitter),
					PEMS_TRANSITION_PROBE_MS);
	else
	{
		if (!has_retries_left(input, outcome))
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
	t->delay_ms = at_least(t->delay_ms, outcome->retry_after_ms);
}

/*
 * One round more: the item makes the request `next`, after delay_ms at least.  Each round waits a
 * little longer than the one before, and the last one costs a retry, so that no answer can keep an
 * item busy for ever.
 */
static void
next_round(const PemsTransitionInput *input, const PemsOutcome *outcome, PemsStep next,
		   int64_t delay_ms, PemsTransition *t)
{
	t->next = next;
	t->rounds = input->rounds + 1;
	if (t->rounds >= PEMS_TRANSITION_MAX_ROUNDS)
	{
		t->rounds = 0;
		try_later(input, outcome, t);
		t->delay_ms = at_least(t->delay_ms, delay_ms);
		return;
	}
	if (t->rounds > 1)
		t->delay_ms = PEMS_TRANSITION_ROUND_MS << (t->rounds - 2);
	t->delay_ms = at_least(t->delay_ms, delay_ms);
}

static void
after_done(const PemsTransitionInput *input, const PemsOutcome *outcome, PemsTransition *t)
{
	t->outcome_unknown = false;
	t->rounds = 0;
	if (input->is_delete && !input->refresh_always)
	{
		t->status = PEMS_ITEM_COMPLETED;
		t->mirror_is_deleted = true;
	}
	else if (!input->is_delete && !input->refresh_always &&
			 outcome->new_version == input->sent_version + 1)
	{
		/* nobody can have written in between, so we know the record without asking */
		t->status = PEMS_ITEM_COMPLETED;
		t->mirror_adds_changes = true;
	}
	else
		t->next = PEMS_STEP_REFRESH;
}

static void
after_record(const PemsTransitionInput *input, const PemsOutcome *outcome, PemsTransition *t)
{
	t->mirror_is_record = true;
	if (input->step != PEMS_STEP_REFRESH)
	{
		t->next = PEMS_STEP_WRITE;
		/*
		 * an application that deletes the mirror again and again, or marks it as deleted, makes us
		 * read again and again
		 */
		if (!input->record_known || input->record_deleted)
			next_round(input, outcome, PEMS_STEP_WRITE, 0, t);
	}
	else if (input->write_ignored)
	{
		t->status = PEMS_ITEM_FAILED;
		t->next = PEMS_STEP_READ;
	}
	else
		t->status = PEMS_ITEM_COMPLETED;
}

/*
 * The record is older than the mirror, time after time, and PEMS refuses the mirror's version: then
 * it is the mirror that is wrong, and PEMS was restored from a backup.  (Where it is a replica that
 * lags for that long, the next write is refused again.)
 */
static void
use_older_record(const PemsOutcome *outcome, PemsTransition *t)
{
	t->mirror_is_record = outcome->data != NULL;
	if (t->mirror_is_record && t->status == PEMS_ITEM_PENDING)
		t->next = PEMS_STEP_WRITE;
}

/*
 * The record that was read cannot be used: it is read again.  A refresh that stays so is no
 * failure, because its write is done: when all retries are used, the item is completed, and the
 * mirror gets the record if that is at least newer than what it has.  (Then the version that PEMS
 * named in its answer to the write was wrong.)
 */
static void
after_unusable(const PemsTransitionInput *input, const PemsOutcome *outcome, PemsTransition *t)
{
	next_round(input, outcome, input->step, PEMS_TRANSITION_SETTLE_MS, t);
	if (input->step != PEMS_STEP_REFRESH)
	{
		if (input->version_refused && t->rounds == 0)
			use_older_record(outcome, t);
		return;
	}
	if (t->retry_count <= input->max_retries)
		return;
	t->status = PEMS_ITEM_COMPLETED;
	t->delay_ms = 0;
	t->mirror_is_record = outcome->data != NULL && outcome->version > input->mirror_version;
}

/*
 * PEMS still shows the record that it says it has deleted, at a version from before.  A replica may
 * lag; if that lasts, the record was not deleted.
 */
static void
after_delete_found_old_record(const PemsTransitionInput *input, PemsTransition *t)
{
	t->rounds = input->rounds + 1;
	t->delay_ms = PEMS_TRANSITION_CONFIRM_MS;
	if (t->rounds < PEMS_TRANSITION_MAX_ROUNDS)
		return;
	t->status = PEMS_ITEM_FAILED;
	t->next = PEMS_STEP_READ;
	t->rounds = 0;
	t->delay_ms = 0;
}

/* The record is gone: two reads say so, or one and the mirror. */
static void
confirm_gone(const PemsTransitionInput *input, PemsTransition *t)
{
	t->outcome_unknown = false;
	t->mirror_is_deleted = input->record_known;
	if (input->is_delete)
		t->status = PEMS_ITEM_COMPLETED;
	else
		t->status = input->record_known ? PEMS_ITEM_CONFLICT : PEMS_ITEM_FAILED;
}

/* After our own delete one read is enough. */
static void
confirm_delete(PemsTransition *t)
{
	t->status = PEMS_ITEM_COMPLETED;
	t->mirror_is_deleted = true;
}

/*
 * After our own write PEMS has the record, whatever a read says: the mirror is not marked.  A
 * record that cannot be read for long stays as it is in the mirror until the next edit of it is
 * due.
 */
static void
after_refresh_found_nothing(const PemsTransitionInput *input, PemsTransition *t)
{
	t->rounds = input->rounds + 1;
	t->delay_ms = PEMS_TRANSITION_CONFIRM_MS;
	if (t->rounds < PEMS_TRANSITION_MAX_ROUNDS)
		return;
	t->status = PEMS_ITEM_COMPLETED;
	t->delay_ms = 0;
}

static void
after_gone(const PemsTransitionInput *input, const PemsOutcome *outcome, PemsTransition *t)
{
	if (input->step == PEMS_STEP_WRITE)
		next_round(input, outcome, PEMS_STEP_READ, 0, t); /* a 404 is confirmed by reads */
	else if (input->step == PEMS_STEP_REFRESH && input->is_delete)
		confirm_delete(t);
	else if (input->step == PEMS_STEP_REFRESH)
		after_refresh_found_nothing(input, t);
	else if (input->step == PEMS_STEP_CONFIRM || input->record_deleted)
		confirm_gone(input, t);
	else
	{
		t->next = PEMS_STEP_CONFIRM;
		t->delay_ms = PEMS_TRANSITION_CONFIRM_MS;
	}
}

void
pems_transition_after(const PemsTransitionInput *input, const PemsOutcome *outcome,
					  PemsTransition *transition)
{
	PemsTransition *t = transition;

	*t = (PemsTransition){.status = PEMS_ITEM_PENDING,
						  .next = input->step,
						  .outcome_unknown = input->outcome_unknown,
						  .retry_count = input->retry_count,
						  .rounds = input->rounds};
	switch (outcome->class)
	{
		case PEMS_OUTCOME_DONE:
			after_done(input, outcome, t);
			break;
		case PEMS_OUTCOME_RECORD:
			after_record(input, outcome, t);
			break;
		case PEMS_OUTCOME_UNUSABLE:
			if (input->step == PEMS_STEP_REFRESH && input->is_delete)
				after_delete_found_old_record(input, t);
			else
				after_unusable(input, outcome, t);
			break;
		case PEMS_OUTCOME_GONE:
			after_gone(input, outcome, t);
			break;
		case PEMS_OUTCOME_REJECTED:
			remember_unknown(input, outcome, t);
			give_up(input, t);
			break;
		case PEMS_OUTCOME_CREDENTIAL:
			t->pause_organization = true;
			break;
		case PEMS_OUTCOME_VERSION:
			next_round(input, outcome, PEMS_STEP_READ, 0, t);
			break;
		case PEMS_OUTCOME_THROTTLED:
			break; /* the endpoint waits, not the item */
		case PEMS_OUTCOME_TRANSIENT:
		case PEMS_OUTCOME_UNKNOWN:
		case PEMS_OUTCOME_PAGE: /* no item asks for pages */
		case PEMS_OUTCOME_CURSOR_REFUSED:
			try_later(input, outcome, t);
			break;
	}
}
