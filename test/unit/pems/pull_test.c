/*
 * pems/pull_test.c
 *		Unit tests of src/pems/pull.c: each outcome class in each phase, waits, and cursors.
 */
#include "unit.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "pems/pull.h"
#include "pems/transition.h"

static PemsPullInput
a_pull(PemsPullPhase phase)
{
	return (PemsPullInput){.phase = phase, .retry_delay_ms = 5000, .jitter = 0.5};
}

static PemsPullNext
after(const PemsPullInput *input, PemsOutcome outcome)
{
	PemsPullNext next;

	pems_pull_after(input, &outcome, &next);
	CHECK((next.error_code != NULL) == (next.error.length > 0));
	CHECK(next.delay_ms == 0 || next.action == PEMS_PULL_WAIT || next.action == PEMS_PULL_CONFIRM);
	return next;
}

static PemsOutcome
good(PemsOutcomeClass class)
{
	return (PemsOutcome){.class = class};
}

static PemsOutcome
bad(PemsOutcomeClass class, const char *error_code)
{
	static char sentence[] = "PEMS answered something";

	return (PemsOutcome){.class = class, .error_code = error_code, .error = sentence};
}

UNIT_TEST(a_page_is_stored)
{
	PemsPullInput input = a_pull(PEMS_PULL_LISTING);
	PemsPullNext next;

	input.failures = 7;
	input.restarted = true;
	next = after(&input, good(PEMS_OUTCOME_PAGE));
	CHECK_INT(next.action, PEMS_PULL_STORE);
	CHECK_INT(next.failures, 0);
	CHECK_TEXT(next.error_code, NULL);
}

UNIT_TEST(a_listing_without_end_fails)
{
	PemsPullInput input = a_pull(PEMS_PULL_LISTING);
	PemsPullNext next;

	input.cursor_repeats = true;
	next = after(&input, good(PEMS_OUTCOME_PAGE));
	CHECK_INT(next.action, PEMS_PULL_FAIL);
	CHECK_TEXT(next.error_code, "CURSOR_REPEATED");
	CHECK_TEXT(next.error.text,
			   "the listing would never end: PEMS's nextCursor is one that it has given before");
}

UNIT_TEST(a_refused_cursor_begins_the_listing_again_once)
{
	PemsPullInput input = a_pull(PEMS_PULL_LISTING);
	PemsPullNext next;

	input.failures = 2;
	next = after(&input, bad(PEMS_OUTCOME_CURSOR_REFUSED, "CURSOR_REFUSED"));
	CHECK_INT(next.action, PEMS_PULL_BEGIN_AGAIN);
	CHECK_INT(next.failures, 0);
	CHECK_TEXT(next.error.text, "PEMS refused a cursor, so the listing is begun again: PEMS "
								"answered something");
	input.restarted = true;
	next = after(&input, bad(PEMS_OUTCOME_CURSOR_REFUSED, "CURSOR_REFUSED"));
	CHECK_INT(next.action, PEMS_PULL_FAIL);
	CHECK_TEXT(next.error_code, "CURSOR_REFUSED");
	CHECK_TEXT(next.error.text, "PEMS refused a cursor, also after the listing had been begun "
								"again: PEMS answered something");
}

UNIT_TEST(what_pems_rejects_fails)
{
	PemsPullInput input = a_pull(PEMS_PULL_LISTING);
	PemsPullNext next = after(&input, bad(PEMS_OUTCOME_REJECTED, "FORBIDDEN"));

	CHECK_INT(next.action, PEMS_PULL_FAIL);
	CHECK_TEXT(next.error_code, "FORBIDDEN");
	CHECK_TEXT(next.error.text, "PEMS answered something");
	input.phase = PEMS_PULL_SINGLE;
	CHECK_INT(after(&input, bad(PEMS_OUTCOME_REJECTED, "FORBIDDEN")).action, PEMS_PULL_FAIL);
	/* of one of many records it is no reason to end */
	input.phase = PEMS_PULL_CONFIRMING;
	input.gone_before = true;
	next = after(&input, bad(PEMS_OUTCOME_REJECTED, "FORBIDDEN"));
	CHECK_INT(next.action, PEMS_PULL_KEEP);
	CHECK_TEXT(next.error_code, "FORBIDDEN");
}

UNIT_TEST(a_refused_credential_pauses_the_organization)
{
	static const PemsPullPhase phases[] = {PEMS_PULL_LISTING, PEMS_PULL_SINGLE,
										   PEMS_PULL_CONFIRMING};

	for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]); i++)
	{
		PemsPullInput input = a_pull(phases[i]);
		PemsPullNext next;

		input.failures = 2;
		next = after(&input, bad(PEMS_OUTCOME_CREDENTIAL, "UNAUTHORIZED"));
		CHECK_INT(next.action, PEMS_PULL_PAUSE_ORGANIZATION);
		CHECK_INT(next.failures, 2);
		CHECK_TEXT(next.error_code, "UNAUTHORIZED");
	}
}

/* ---------- waiting ---------- */

UNIT_TEST(transient_failures_wait_for_ever)
{
	static const int seconds[] = {5, 10, 20, 60, 60, 60, 60};
	PemsPullInput input = a_pull(PEMS_PULL_LISTING);
	PemsPullNext next;

	for (size_t i = 0; i < sizeof(seconds) / sizeof(seconds[0]); i++)
	{
		next = after(&input, bad(PEMS_OUTCOME_TRANSIENT, "UNAVAILABLE"));
		CHECK_INT(next.action, PEMS_PULL_WAIT);
		CHECK_INT(next.delay_ms, seconds[i] * 1000);
		CHECK_TEXT(next.error_code, "UNAVAILABLE");
		CHECK_TEXT(next.error.text, "PEMS answered something");
		CHECK_INT(next.failures, (int) i + 1);
		input.failures = next.failures;
	}
	input.failures = INT_MAX;
	next = after(&input, bad(PEMS_OUTCOME_TRANSIENT, "UNAVAILABLE"));
	CHECK_INT(next.action, PEMS_PULL_WAIT);
	CHECK_INT(next.failures, INT_MAX);
	input.phase = PEMS_PULL_SINGLE;
	CHECK_INT(after(&input, bad(PEMS_OUTCOME_UNKNOWN, "ACCEPTED")).action, PEMS_PULL_WAIT);
	input.phase = PEMS_PULL_CONFIRMING;
	CHECK_INT(after(&input, bad(PEMS_OUTCOME_TRANSIENT, "TIMEOUT")).action, PEMS_PULL_WAIT);
}

static int64_t
delay(int failures, double jitter, int64_t retry_delay_ms)
{
	PemsPullInput input = a_pull(PEMS_PULL_LISTING);

	input.failures = failures;
	input.jitter = jitter;
	input.retry_delay_ms = retry_delay_ms;
	return after(&input, bad(PEMS_OUTCOME_TRANSIENT, "TIMEOUT")).delay_ms;
}

UNIT_TEST(waits_vary_by_ten_percent)
{
	CHECK_INT(delay(0, 0.0, 5000), 4500);
	CHECK_INT(delay(0, 1.0, 5000), 5500);
	CHECK_INT(delay(3, 0.0, 5000), 54000);
	CHECK_INT(delay(3, 1.0, 5000), 66000);
	/* the setting is heeded, and a minute is the longest */
	CHECK_INT(delay(1, 0.5, 100), 200);
	CHECK_INT(delay(3, 0.5, 100), 60000);
	CHECK_INT(delay(0, 0.5, 600000), 60000);
	CHECK_INT(delay(-1, 0.5, 5000), 5000);
	CHECK_INT(delay(0, 0.5, 0), 0);
}

UNIT_TEST(pems_may_ask_for_a_longer_wait)
{
	PemsPullInput input = a_pull(PEMS_PULL_LISTING);
	PemsOutcome outcome = bad(PEMS_OUTCOME_TRANSIENT, "UNAVAILABLE");
	PemsPullNext next;

	outcome.retry_after_ms = 30000;
	CHECK_INT(after(&input, outcome).delay_ms, 30000);
	outcome.retry_after_ms = 1000;
	CHECK_INT(after(&input, outcome).delay_ms, 5000);
	/* a 429 is no failure */
	outcome = bad(PEMS_OUTCOME_THROTTLED, "RATE_LIMITED");
	outcome.retry_after_ms = 1000;
	input.failures = 2;
	next = after(&input, outcome);
	CHECK_INT(next.action, PEMS_PULL_WAIT);
	CHECK_INT(next.delay_ms, 1000);
	CHECK_INT(next.failures, 2);
}

UNIT_TEST(no_pull_is_every_probe_of_the_breaker)
{
	PemsPullInput input = a_pull(PEMS_PULL_LISTING);
	PemsOutcome outcome = bad(PEMS_OUTCOME_TRANSIENT, "UNAVAILABLE");

	input.breaker_open = true;
	CHECK_INT(after(&input, outcome).delay_ms, 5000);
	outcome.endpoint_fault = true;
	CHECK_INT(after(&input, outcome).delay_ms, 60000);
	input.breaker_open = false;
	CHECK_INT(after(&input, outcome).delay_ms, 5000);
}

/* ---------- one record ---------- */

UNIT_TEST(a_record_is_stored)
{
	PemsPullInput input = a_pull(PEMS_PULL_SINGLE);
	PemsPullNext next;

	input.failures = 2;
	input.gone_before = true; /* a replica that lagged */
	next = after(&input, good(PEMS_OUTCOME_RECORD));
	CHECK_INT(next.action, PEMS_PULL_RECORD);
	CHECK_INT(next.failures, 0);
	CHECK(!next.gone_before);
	/* one that cannot be stored is there all the same */
	input.phase = PEMS_PULL_CONFIRMING;
	next = after(&input, bad(PEMS_OUTCOME_UNUSABLE, "BAD_RESPONSE"));
	CHECK_INT(next.action, PEMS_PULL_RECORD);
	CHECK(!next.gone_before);
	CHECK_TEXT(next.error_code, "BAD_RESPONSE");
}

UNIT_TEST(a_record_is_gone_when_two_answers_say_so)
{
	static const PemsPullPhase phases[] = {PEMS_PULL_SINGLE, PEMS_PULL_CONFIRMING};

	for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]); i++)
	{
		PemsPullInput input = a_pull(phases[i]);
		PemsPullNext next = after(&input, bad(PEMS_OUTCOME_GONE, "NOT_FOUND"));

		CHECK_INT(next.action, PEMS_PULL_CONFIRM);
		CHECK_INT(next.delay_ms, PEMS_TRANSITION_CONFIRM_MS);
		CHECK(next.gone_before);
		CHECK_INT(next.failures, 0);
		/* a failure in between takes nothing back */
		input.gone_before = next.gone_before;
		next = after(&input, bad(PEMS_OUTCOME_TRANSIENT, "TIMEOUT"));
		CHECK_INT(next.action, PEMS_PULL_WAIT);
		CHECK(next.gone_before);
		next = after(&input, bad(PEMS_OUTCOME_GONE, "NOT_FOUND"));
		CHECK_INT(next.action, PEMS_PULL_GONE);
		CHECK_INT(next.delay_ms, 0);
		CHECK_TEXT(next.error_code, NULL);
	}
}

/* ---------- cursors ---------- */

/* Pages until a repetition is seen: `before` different cursors, then a circle of so many. */
static int
pages_until_seen(int before, int circle)
{
	PemsPullCursors cursors = {0};

	for (int page = 0; page < 100000; page++)
	{
		int number = page < before ? page : before + (page - before) % circle;
		char cursor[32];

		snprintf(cursor, sizeof(cursor), "c%d", number);
		if (pems_pull_cursor_repeats(&cursors, cursor))
			return page + 1;
	}
	return -1;
}

UNIT_TEST(cursors_that_go_round_in_a_circle_are_seen)
{
	for (int before = 0; before < 70; before++)
	{
		CHECK_INT(pages_until_seen(before, 1), before + 2); /* the same again: at once */
		for (int circle = 2; circle < 70; circle++)
		{
			int longest = before > circle ? before : circle;
			int pages = pages_until_seen(before, circle);

			if (!CHECK(pages > before + circle && pages <= 2 * longest + circle))
				unit_note("%d before, circle of %d: %d", before, circle, pages);
		}
	}
	CHECK_INT(pages_until_seen(0, 20000), 52768);
}

UNIT_TEST(cursors_that_go_on_are_not_seen)
{
	PemsPullCursors cursors = {0};
	char cursor[32];

	CHECK_INT(pages_until_seen(100000, 1), -1);
	for (int i = 0; i < 1000; i++)
	{
		snprintf(cursor, sizeof(cursor), "%0*d", i % 20 + 1, i);
		CHECK(!pems_pull_cursor_repeats(&cursors, cursor));
	}
	CHECK_INT(cursors.seen, 1000);
	/* no cursor is remembered before the first */
	cursors = (PemsPullCursors){0};
	CHECK(!pems_pull_cursor_repeats(&cursors, ""));
	CHECK(pems_pull_cursor_repeats(&cursors, ""));
}
