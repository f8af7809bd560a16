/*
 * pems/pull.c
 *		What becomes of a pull after a request; see pull.h.
 *
 * Pure; any process: no PostgreSQL, no I/O, no clock.  No memory is allocated.
 */
#include "pems/pull.h"

#include <limits.h>
#include <string.h>

#include "pems/retry.h"
#include "pems/transition.h"

/* ---------- what stands in the way ---------- */

/* "<lead><what the outcome says>" */
static void
say(PemsPullNext *next, const char *error_code, const char *lead, const PemsOutcome *outcome)
{
	next->error_code = error_code;
	pems_sentence_add(&next->error, "%s", lead);
	if (outcome->error != NULL)
		pems_sentence_add_foreign(&next->error, outcome->error, strlen(outcome->error),
								  PEMS_SENTENCE_MAXIMUM);
}

/* The outcome's own words */
static void
act(PemsPullNext *next, PemsPullAction action, const PemsOutcome *outcome)
{
	next->action = action;
	say(next, outcome->error_code, "", outcome);
}

/* ---------- waiting ---------- */

/*
 * How long to wait after a failure.  With the breaker open it is a minute: a pull that came back
 * earlier would be the breaker's next probe, and where pulls alone fail, no write would be.
 */
static int64_t
wait_ms(const PemsPullInput *input, const PemsOutcome *outcome)
{
	int64_t wait = pems_retry_backoff_ms(input->retry_delay_ms, input->failures, 0.5);

	if (wait > PEMS_PULL_WAIT_MS || input->failures >= PEMS_PULL_SHORT_WAITS ||
		(input->breaker_open && outcome->endpoint_fault))
		wait = PEMS_PULL_WAIT_MS;
	wait = pems_retry_backoff_ms(wait, 0, input->jitter);
	return wait > outcome->retry_after_ms ? wait : outcome->retry_after_ms;
}

static void
wait_after_failure(const PemsPullInput *input, const PemsOutcome *outcome, PemsPullNext *next)
{
	act(next, PEMS_PULL_WAIT, outcome);
	next->delay_ms = wait_ms(input, outcome);
	next->failures = input->failures < INT_MAX ? input->failures + 1 : INT_MAX;
}

/* PEMS works, and says when: no failure. */
static void
wait_as_asked(const PemsOutcome *outcome, PemsPullNext *next)
{
	act(next, PEMS_PULL_WAIT, outcome);
	next->delay_ms = outcome->retry_after_ms;
}

/* ---------- one class each ---------- */

static void
after_page(const PemsPullInput *input, const PemsOutcome *outcome, PemsPullNext *next)
{
	next->action = PEMS_PULL_STORE;
	next->failures = 0;
	if (!input->cursor_repeats)
		return;
	next->action = PEMS_PULL_FAIL;
	say(next, "CURSOR_REPEATED",
		"the listing would never end: PEMS's nextCursor is one that it has given before", outcome);
}

/* Also one that cannot be stored: page.h says why. */
static void
after_record(const PemsOutcome *outcome, PemsPullNext *next)
{
	act(next, PEMS_PULL_RECORD, outcome);
	next->failures = 0;
	next->gone_before = false;
}

/* A replica may lag, so one that is not found is looked for again. */
static void
after_gone(const PemsPullInput *input, const PemsOutcome *outcome, PemsPullNext *next)
{
	next->failures = 0;
	next->gone_before = true;
	if (input->gone_before)
	{
		next->action = PEMS_PULL_GONE;
		return;
	}
	act(next, PEMS_PULL_CONFIRM, outcome);
	next->delay_ms = PEMS_TRANSITION_CONFIRM_MS;
}

static void
after_cursor_refused(const PemsPullInput *input, const PemsOutcome *outcome, PemsPullNext *next)
{
	next->failures = 0;
	next->action = input->restarted ? PEMS_PULL_FAIL : PEMS_PULL_BEGIN_AGAIN;
	say(next, outcome->error_code,
		input->restarted ? "PEMS refused a cursor, also after the listing had been begun again: "
						 : "PEMS refused a cursor, so the listing is begun again: ",
		outcome);
}

/* One record that PEMS does not let us see is no reason to give up a whole listing. */
static void
after_rejection(const PemsPullInput *input, const PemsOutcome *outcome, PemsPullNext *next)
{
	next->failures = 0;
	act(next, input->phase == PEMS_PULL_CONFIRMING ? PEMS_PULL_KEEP : PEMS_PULL_FAIL, outcome);
}

void
pems_pull_after(const PemsPullInput *input, const PemsOutcome *outcome, PemsPullNext *next)
{
	*next = (PemsPullNext){.failures = input->failures, .gone_before = input->gone_before};
	switch (outcome->class)
	{
		case PEMS_OUTCOME_PAGE:
			after_page(input, outcome, next);
			break;
		case PEMS_OUTCOME_RECORD:
		case PEMS_OUTCOME_UNUSABLE:
			after_record(outcome, next);
			break;
		case PEMS_OUTCOME_GONE:
			after_gone(input, outcome, next);
			break;
		case PEMS_OUTCOME_CURSOR_REFUSED:
			after_cursor_refused(input, outcome, next);
			break;
		case PEMS_OUTCOME_REJECTED:
			after_rejection(input, outcome, next);
			break;
		case PEMS_OUTCOME_CREDENTIAL:
			act(next, PEMS_PULL_PAUSE_ORGANIZATION, outcome);
			break;
		case PEMS_OUTCOME_THROTTLED:
			wait_as_asked(outcome, next);
			break;
		case PEMS_OUTCOME_TRANSIENT:
		case PEMS_OUTCOME_UNKNOWN:
		case PEMS_OUTCOME_DONE: /* no pull writes */
		case PEMS_OUTCOME_VERSION:
			wait_after_failure(input, outcome, next);
			break;
	}
}

/* ---------- cursors that repeat ---------- */

/* FNV-1a.  Who makes cursors collide spoils nothing but the own listing. */
static int64_t
hash_of(const char *text)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);
	int64_t result;

	for (const unsigned char *c = (const unsigned char *) text; *c != '\0'; c++)
		hash = (hash ^ *c) * UINT64_C(0x100000001b3);
	memcpy(&result, &hash, sizeof(result));
	return result;
}

bool
pems_pull_cursor_repeats(PemsPullCursors *cursors, const char *next_cursor)
{
	int64_t hash = hash_of(next_cursor);
	bool repeats = cursors->seen > 0 && (hash == cursors->last || hash == cursors->kept);

	cursors->seen++;
	cursors->last = hash;
	if ((cursors->seen & (cursors->seen - 1)) == 0)
		cursors->kept = hash;
	return repeats;
}
