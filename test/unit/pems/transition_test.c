/*
 * pems/transition_test.c
 *		Unit tests of src/pems/transition.c: each outcome class against each step.
 */
#include "unit.h"

#include "../../src/pems/transition.h"

#include <string.h>

/* A write on version 3 of a known record, no retries used, nothing unknown. */
static PemsTransitionInput
a_write(void)
{
	return (PemsTransitionInput){.step = PEMS_STEP_WRITE,
								 .record_known = true,
								 .max_retries = 3,
								 .sent_version = 3,
								 .retry_delay_ms = 5000,
								 .jitter = 0.5};
}

static PemsTransitionInput
a_read(PemsStep step)
{
	PemsTransitionInput input = a_write();

	input.step = step;
	return input;
}

static PemsTransition
after(const PemsTransitionInput *input, PemsOutcome outcome)
{
	PemsTransition transition;

	pems_transition_after(input, &outcome, &transition);
	return transition;
}

static PemsOutcome
outcome(PemsOutcomeClass class)
{
	return (PemsOutcome){.class = class};
}

UNIT_TEST(write_applied_without_gap_completes)
{
	PemsTransitionInput input = a_write();
	PemsTransition t = after(&input, (PemsOutcome){.class = PEMS_OUTCOME_DONE, .new_version = 4});

	CHECK_INT(t.status, PEMS_ITEM_COMPLETED);
	CHECK(t.mirror_adds_changes);
	CHECK(!t.mirror_is_record && !t.mirror_is_deleted);
}

UNIT_TEST(write_applied_with_gap_is_refreshed)
{
	PemsTransitionInput input = a_write();
	PemsTransition t = after(&input, (PemsOutcome){.class = PEMS_OUTCOME_DONE, .new_version = 5});

	CHECK_INT(t.status, PEMS_ITEM_PENDING);
	CHECK_INT(t.next, PEMS_STEP_REFRESH);
	CHECK(!t.mirror_adds_changes);
	CHECK_INT(t.delay_ms, 0);
}

UNIT_TEST(refresh_always_reads_also_without_gap)
{
	PemsTransitionInput input = a_write();
	PemsTransition t;

	input.refresh_always = true;
	t = after(&input, (PemsOutcome){.class = PEMS_OUTCOME_DONE, .new_version = 4});
	CHECK_INT(t.next, PEMS_STEP_REFRESH);
	CHECK_INT(t.status, PEMS_ITEM_PENDING);
}

UNIT_TEST(applied_write_is_no_longer_unknown)
{
	PemsTransitionInput input = a_write();
	PemsTransition t;

	input.outcome_unknown = true;
	t = after(&input, (PemsOutcome){.class = PEMS_OUTCOME_DONE, .new_version = 4});
	CHECK(!t.outcome_unknown);
}

UNIT_TEST(delete_applied_marks_the_mirror)
{
	PemsTransitionInput input = a_write();
	PemsTransition t;

	input.is_delete = true;
	t = after(&input, (PemsOutcome){.class = PEMS_OUTCOME_DONE, .new_version = 9});
	CHECK_INT(t.status, PEMS_ITEM_COMPLETED);
	CHECK(t.mirror_is_deleted);
}

/* The read after a delete, where the record is always read after a write. */
static PemsTransitionInput
a_look_after_a_delete(void)
{
	PemsTransitionInput input = a_read(PEMS_STEP_REFRESH);

	input.is_delete = true;
	input.refresh_always = true;
	return input;
}

UNIT_TEST(delete_is_looked_at_where_that_is_wanted)
{
	PemsTransitionInput input = a_look_after_a_delete();
	PemsTransition t;

	input.step = PEMS_STEP_WRITE;
	t = after(&input, (PemsOutcome){.class = PEMS_OUTCOME_DONE, .new_version = 4});
	CHECK_INT(t.status, PEMS_ITEM_PENDING);
	CHECK_INT(t.next, PEMS_STEP_REFRESH);
	CHECK(!t.mirror_is_deleted);
	/* gone: done.  Where PEMS refuses to show it, its answer to the delete counts. */
	input = a_look_after_a_delete();
	t = after(&input, outcome(PEMS_OUTCOME_GONE));
	CHECK_INT(t.status, PEMS_ITEM_COMPLETED);
	CHECK(t.mirror_is_deleted);
	t = after(&input, outcome(PEMS_OUTCOME_REJECTED));
	CHECK_INT(t.status, PEMS_ITEM_COMPLETED);
	CHECK(t.mirror_is_deleted);
	CHECK_INT(after(&input, outcome(PEMS_OUTCOME_TRANSIENT)).status, PEMS_ITEM_PENDING);
}

UNIT_TEST(delete_that_pems_did_not_make_fails)
{
	PemsTransitionInput input = a_look_after_a_delete();
	PemsTransition t;

	/* made again by somebody */
	t = after(&input, outcome(PEMS_OUTCOME_RECORD));
	CHECK_INT(t.status, PEMS_ITEM_COMPLETED);
	CHECK(t.mirror_is_record && !t.mirror_is_deleted);
	input.write_ignored = true;
	t = after(&input, outcome(PEMS_OUTCOME_RECORD));
	CHECK_INT(t.status, PEMS_ITEM_FAILED);
	CHECK_INT(t.next, PEMS_STEP_READ);
	CHECK(t.mirror_is_record && !t.mirror_is_deleted);
	/* what a replica that lags would show, too */
	input.write_ignored = false;
	for (int round = 1; round < PEMS_TRANSITION_MAX_ROUNDS; round++)
	{
		t = after(&input, outcome(PEMS_OUTCOME_UNUSABLE));
		CHECK_INT(t.status, PEMS_ITEM_PENDING);
		CHECK_INT(t.next, PEMS_STEP_REFRESH);
		CHECK_INT(t.retry_count, 0);
		input.rounds = t.rounds;
	}
	t = after(&input, outcome(PEMS_OUTCOME_UNUSABLE));
	CHECK_INT(t.status, PEMS_ITEM_FAILED);
	CHECK_INT(t.next, PEMS_STEP_READ);
	CHECK(!t.mirror_is_record && !t.mirror_is_deleted);
}

UNIT_TEST(record_read_leads_to_a_new_decision)
{
	PemsTransitionInput input = a_read(PEMS_STEP_READ);
	PemsTransition t;

	input.outcome_unknown = true;
	t = after(&input, outcome(PEMS_OUTCOME_RECORD));
	CHECK_INT(t.status, PEMS_ITEM_PENDING);
	CHECK_INT(t.next, PEMS_STEP_WRITE);
	CHECK(t.mirror_is_record);
	CHECK(t.outcome_unknown); /* until the decision has looked at it */
}

UNIT_TEST(record_refreshed_completes)
{
	PemsTransitionInput input = a_read(PEMS_STEP_REFRESH);
	PemsTransition t = after(&input, outcome(PEMS_OUTCOME_RECORD));

	CHECK_INT(t.status, PEMS_ITEM_COMPLETED);
	CHECK(t.mirror_is_record);
}

/* ---------- a record that is not found ---------- */

UNIT_TEST(not_found_is_confirmed_by_a_read)
{
	PemsTransitionInput input = a_write();
	PemsTransition t = after(&input, outcome(PEMS_OUTCOME_GONE));

	CHECK_INT(t.status, PEMS_ITEM_PENDING);
	CHECK_INT(t.next, PEMS_STEP_READ);
	CHECK_INT(t.delay_ms, 0);
	CHECK(!t.mirror_is_deleted);
}

UNIT_TEST(a_read_that_finds_nothing_is_confirmed_some_seconds_later)
{
	PemsTransitionInput input = a_read(PEMS_STEP_READ);
	PemsTransition t = after(&input, outcome(PEMS_OUTCOME_GONE));

	CHECK_INT(t.status, PEMS_ITEM_PENDING);
	CHECK_INT(t.next, PEMS_STEP_CONFIRM);
	CHECK_INT(t.delay_ms, PEMS_TRANSITION_CONFIRM_MS);
	CHECK_INT(t.retry_count, 0);
	CHECK(!t.mirror_is_deleted);
}

UNIT_TEST(a_record_that_is_there_after_all_is_alive)
{
	PemsTransitionInput input = a_read(PEMS_STEP_CONFIRM);
	PemsTransition t = after(&input, outcome(PEMS_OUTCOME_RECORD));

	CHECK_INT(t.next, PEMS_STEP_WRITE);
	CHECK(t.mirror_is_record);
	CHECK(!t.mirror_is_deleted);
}

UNIT_TEST(a_confirmation_that_fails_is_tried_again)
{
	PemsTransitionInput input = a_read(PEMS_STEP_CONFIRM);
	PemsTransition t = after(&input, outcome(PEMS_OUTCOME_TRANSIENT));

	CHECK_INT(t.next, PEMS_STEP_CONFIRM);
	CHECK_INT(t.retry_count, 1);
}

UNIT_TEST(where_the_mirror_says_deleted_one_read_is_enough)
{
	PemsTransitionInput input = a_read(PEMS_STEP_READ);
	PemsTransition t;

	input.record_deleted = true;
	t = after(&input, outcome(PEMS_OUTCOME_GONE));
	CHECK_INT(t.status, PEMS_ITEM_CONFLICT);
	t = after(&input, outcome(PEMS_OUTCOME_RECORD));
	CHECK_INT(t.next, PEMS_STEP_WRITE);
	CHECK(t.mirror_is_record);
}

UNIT_TEST(update_of_a_gone_record_is_a_conflict)
{
	PemsTransitionInput input = a_read(PEMS_STEP_CONFIRM);
	PemsTransition t = after(&input, outcome(PEMS_OUTCOME_GONE));

	CHECK_INT(t.status, PEMS_ITEM_CONFLICT);
	CHECK(t.mirror_is_deleted);
}

UNIT_TEST(update_of_a_record_never_known_fails)
{
	PemsTransitionInput input = a_read(PEMS_STEP_CONFIRM);
	PemsTransition t;

	input.record_known = false;
	t = after(&input, outcome(PEMS_OUTCOME_GONE));
	CHECK_INT(t.status, PEMS_ITEM_FAILED);
	CHECK(!t.mirror_is_deleted);
}

UNIT_TEST(delete_of_a_gone_record_is_done)
{
	PemsTransitionInput input = a_read(PEMS_STEP_CONFIRM);
	PemsTransition t;

	input.is_delete = true;
	t = after(&input, outcome(PEMS_OUTCOME_GONE));
	CHECK_INT(t.status, PEMS_ITEM_COMPLETED);
	CHECK(t.mirror_is_deleted);
}

UNIT_TEST(a_refresh_never_marks_the_mirror_as_deleted)
{
	PemsTransitionInput input = a_read(PEMS_STEP_REFRESH);

	for (int round = 1; round < PEMS_TRANSITION_MAX_ROUNDS; round++)
	{
		PemsTransition t = after(&input, outcome(PEMS_OUTCOME_GONE));

		CHECK_INT(t.status, PEMS_ITEM_PENDING);
		CHECK_INT(t.next, PEMS_STEP_REFRESH);
		CHECK_INT(t.delay_ms, PEMS_TRANSITION_CONFIRM_MS);
		CHECK(!t.mirror_is_deleted);
		input.rounds = t.rounds;
	}
	CHECK_INT(after(&input, outcome(PEMS_OUTCOME_GONE)).status, PEMS_ITEM_COMPLETED);
	CHECK(!after(&input, outcome(PEMS_OUTCOME_GONE)).mirror_is_deleted);
}

/* ---------- rounds: whatever makes us look again ends ---------- */

/*
 * Requests of an item that are always answered so, until it ends.  The mirror never changes,
 * whatever the item brings: something in the database undoes it.  Where it has no record, or one
 * that is deleted, the worker reads before it writes.
 */
static PemsTransition
play(PemsTransitionInput input, PemsOutcome to_write, PemsOutcome to_read, int *requests)
{
	PemsTransition t = {0};

	for (*requests = 0; *requests < 1000 && t.status == PEMS_ITEM_PENDING; (*requests)++)
	{
		if (input.step == PEMS_STEP_WRITE && (!input.record_known || input.record_deleted))
			input.step = PEMS_STEP_READ;
		t = after(&input, input.step == PEMS_STEP_WRITE ? to_write : to_read);
		input.step = t.next;
		input.rounds = t.rounds;
		input.retry_count = t.retry_count;
		input.outcome_unknown = t.outcome_unknown;
		input.attempt++;
	}
	return t;
}

/* What the mirror says for good, and what is asked for. */
static PemsTransitionInput
situation(int number)
{
	PemsTransitionInput input = a_write();

	input.record_known = number % 3 > 0;
	input.record_deleted = number % 3 == 2;
	input.is_delete = number / 3 % 2 == 1;
	input.version_refused = number / 6 % 2 == 1;
	input.refresh_always = number / 12 % 2 == 1;
	return input;
}

UNIT_TEST(no_answers_keep_an_item_busy_for_ever)
{
	static char data[] = "{}";
	static const PemsOutcome to_write[] = {
		{.class = PEMS_OUTCOME_DONE, .new_version = 4},
		{.class = PEMS_OUTCOME_DONE, .new_version = 9},
		{.class = PEMS_OUTCOME_GONE},
		{.class = PEMS_OUTCOME_VERSION},
		{.class = PEMS_OUTCOME_TRANSIENT, .unknown = true},
		{.class = PEMS_OUTCOME_UNKNOWN, .unknown = true},
	};
	static const PemsOutcome to_read[] = {
		{.class = PEMS_OUTCOME_RECORD},
		{.class = PEMS_OUTCOME_GONE},
		{.class = PEMS_OUTCOME_UNUSABLE},
		{.class = PEMS_OUTCOME_UNUSABLE, .version = 1, .data = data},
		{.class = PEMS_OUTCOME_TRANSIENT, .error_code = "BAD_RESPONSE"},
		{.class = PEMS_OUTCOME_TRANSIENT, .error_code = "ACCEPTED"},
		{.class = PEMS_OUTCOME_REJECTED},
	};

	for (size_t w = 0; w < sizeof(to_write) / sizeof(to_write[0]); w++)
		for (size_t r = 0; r < sizeof(to_read) / sizeof(to_read[0]); r++)
			for (int number = 0; number < 24; number++)
			{
				int requests;

				if (!CHECK(play(situation(number), to_write[w], to_read[r], &requests).status !=
						   PEMS_ITEM_PENDING) ||
					!CHECK(requests <= 60))
					unit_note("situation %d, class %d to writes, class %d to reads, %d requests",
							  number, to_write[w].class, to_read[r].class, requests);
			}
}

UNIT_TEST(a_404_of_a_write_whose_record_is_there_ends_as_a_dead_letter)
{
	PemsTransitionInput input = a_write();
	int requests;
	PemsTransition t =
		play(input, outcome(PEMS_OUTCOME_GONE), outcome(PEMS_OUTCOME_RECORD), &requests);

	CHECK_INT(t.status, PEMS_ITEM_FAILED);
	/* four times five writes, and the reads between them */
	CHECK_INT(requests, 39);
}

UNIT_TEST(each_round_waits_a_little_longer)
{
	static const int64_t expected[] = {0, 250, 500, 1000, 5000};
	PemsTransitionInput input = a_write();

	for (int round = 0; round < 5; round++)
	{
		PemsTransition t = after(&input, outcome(PEMS_OUTCOME_GONE));

		CHECK_INT(t.delay_ms, expected[round]);
		CHECK_INT(t.retry_count, round == 4 ? 1 : 0);
		input.rounds = t.rounds;
	}
}

UNIT_TEST(a_stale_read_is_repeated_and_never_kept)
{
	PemsTransitionInput input = a_read(PEMS_STEP_READ);
	PemsTransition t = after(&input, outcome(PEMS_OUTCOME_UNUSABLE));

	CHECK_INT(t.status, PEMS_ITEM_PENDING);
	CHECK_INT(t.next, PEMS_STEP_READ);
	CHECK_INT(t.delay_ms, PEMS_TRANSITION_SETTLE_MS);
	CHECK(!t.mirror_is_record);
	input.step = PEMS_STEP_REFRESH;
	t = after(&input, outcome(PEMS_OUTCOME_UNUSABLE));
	CHECK_INT(t.next, PEMS_STEP_REFRESH);
	CHECK(!t.mirror_is_record);
}

UNIT_TEST(a_record_stays_older_where_pems_refuses_the_version_of_the_mirror)
{
	char data[] = "{}";
	PemsOutcome stale = {.class = PEMS_OUTCOME_UNUSABLE, .version = 1, .data = data};
	PemsTransitionInput input = a_read(PEMS_STEP_READ);
	PemsTransition t;

	input.mirror_version = 10;
	input.version_refused = true;
	for (input.rounds = 0; input.rounds < PEMS_TRANSITION_MAX_ROUNDS - 1; input.rounds++)
		CHECK(!after(&input, stale).mirror_is_record);
	t = after(&input, stale);
	CHECK(t.mirror_is_record);
	CHECK_INT(t.status, PEMS_ITEM_PENDING);
	CHECK_INT(t.next, PEMS_STEP_WRITE);
	CHECK_INT(t.retry_count, 1);
	/* also where it was the last retry: the next edit finds a mirror that is right */
	input.retry_count = 3;
	t = after(&input, stale);
	CHECK_INT(t.status, PEMS_ITEM_FAILED);
	CHECK_INT(t.next, PEMS_STEP_READ);
	CHECK(t.mirror_is_record);
	/* one that cannot be stored cannot be taken either */
	input.retry_count = 0;
	stale.data = NULL;
	t = after(&input, stale);
	CHECK(!t.mirror_is_record);
	CHECK_INT(t.next, PEMS_STEP_READ);
	/* PEMS has said nothing against the mirror's version: never */
	stale.data = data;
	input.version_refused = false;
	CHECK(!after(&input, stale).mirror_is_record);
	CHECK_INT(after(&input, stale).next, PEMS_STEP_READ);
}

UNIT_TEST(a_refresh_that_stays_stale_ends_and_takes_what_is_newer_than_the_mirror)
{
	char data[] = "{}";
	PemsOutcome stale = {.class = PEMS_OUTCOME_UNUSABLE, .version = 2, .data = data};
	PemsTransitionInput input = a_read(PEMS_STEP_REFRESH);
	PemsTransition t = {0};

	for (int reads = 1; reads <= 100 && t.status == PEMS_ITEM_PENDING; reads++)
	{
		input.mirror_version = 1;
		t = after(&input, stale);
		input.rounds = t.rounds;
		input.retry_count = t.retry_count;
		if (t.status == PEMS_ITEM_PENDING)
			CHECK(!t.mirror_is_record);
		else
			CHECK_INT(reads, 20);
	}
	CHECK_INT(t.status, PEMS_ITEM_COMPLETED);
	CHECK(t.mirror_is_record);
	/* what is no newer, or cannot be stored, leaves the mirror as it is */
	input.mirror_version = 2;
	CHECK(!after(&input, stale).mirror_is_record);
	input.mirror_version = 1;
	stale.data = NULL;
	CHECK(!after(&input, stale).mirror_is_record);
}

UNIT_TEST(a_write_that_pems_ignored_is_a_dead_letter_not_a_success)
{
	PemsTransitionInput input = a_read(PEMS_STEP_REFRESH);
	PemsTransition t;

	input.write_ignored = true;
	t = after(&input, outcome(PEMS_OUTCOME_RECORD));
	CHECK_INT(t.status, PEMS_ITEM_FAILED);
	CHECK_INT(t.next, PEMS_STEP_READ);
	CHECK(t.mirror_is_record);
}

UNIT_TEST(nobody_comes_back_before_pems_wants)
{
	PemsTransitionInput input = a_write();
	PemsOutcome busy = {
		.class = PEMS_OUTCOME_TRANSIENT, .endpoint_fault = true, .retry_after_ms = 30000};

	CHECK_INT(after(&input, busy).delay_ms, 30000);
	busy.retry_after_ms = 1000;
	CHECK_INT(after(&input, busy).delay_ms, 5000);
	busy.retry_after_ms = 30000;
	input.breaker_open = true;
	CHECK_INT(after(&input, busy).delay_ms, 30000);
}

UNIT_TEST(rejection_is_final_and_costs_no_retry)
{
	PemsTransitionInput input = a_write();
	PemsTransition t = after(&input, outcome(PEMS_OUTCOME_REJECTED));

	CHECK_INT(t.status, PEMS_ITEM_FAILED);
	CHECK_INT(t.retry_count, 0);
	CHECK_INT(t.next, PEMS_STEP_WRITE);
}

UNIT_TEST(rejection_of_a_write_that_may_be_applied_is_redriven_with_a_read)
{
	PemsTransitionInput input = a_write();
	PemsTransition t =
		after(&input, (PemsOutcome){.class = PEMS_OUTCOME_REJECTED, .unknown = true});

	CHECK_INT(t.status, PEMS_ITEM_FAILED);
	CHECK_INT(t.next, PEMS_STEP_READ);
	CHECK(t.outcome_unknown);
}

UNIT_TEST(refused_credential_pauses_and_costs_nothing)
{
	PemsTransitionInput input = a_write();
	PemsTransition t = after(&input, outcome(PEMS_OUTCOME_CREDENTIAL));

	CHECK_INT(t.status, PEMS_ITEM_PENDING);
	CHECK(t.pause_organization);
	CHECK_INT(t.retry_count, 0);
	CHECK_INT(t.delay_ms, 0);
}

UNIT_TEST(version_conflict_reads_and_costs_no_retry)
{
	PemsTransitionInput input = a_write();
	PemsTransition t = after(&input, outcome(PEMS_OUTCOME_VERSION));

	CHECK_INT(t.status, PEMS_ITEM_PENDING);
	CHECK_INT(t.next, PEMS_STEP_READ);
	CHECK_INT(t.delay_ms, 0);
	CHECK_INT(t.retry_count, 0);
	CHECK_INT(t.rounds, 1);
}

UNIT_TEST(fifth_version_conflict_in_a_row_backs_off)
{
	PemsTransitionInput input = a_write();
	PemsTransition t;

	input.rounds = PEMS_TRANSITION_MAX_ROUNDS - 1;
	t = after(&input, outcome(PEMS_OUTCOME_VERSION));
	CHECK_INT(t.status, PEMS_ITEM_PENDING);
	CHECK_INT(t.next, PEMS_STEP_READ);
	CHECK_INT(t.rounds, 0);
	CHECK_INT(t.retry_count, 1);
	CHECK_INT(t.delay_ms, 5000);
}

UNIT_TEST(throttling_costs_nothing)
{
	PemsTransitionInput input = a_write();
	PemsTransition t = after(&input, outcome(PEMS_OUTCOME_THROTTLED));

	CHECK_INT(t.status, PEMS_ITEM_PENDING);
	CHECK_INT(t.next, PEMS_STEP_WRITE);
	CHECK_INT(t.retry_count, 0);
	CHECK_INT(t.delay_ms, 0);
}

UNIT_TEST(transient_failures_back_off_and_end)
{
	PemsTransitionInput input = a_write();
	int64_t expected[] = {5000, 10000, 20000};

	for (int i = 0; i < 3; i++)
	{
		PemsTransition t = after(&input, outcome(PEMS_OUTCOME_TRANSIENT));

		CHECK_INT(t.status, PEMS_ITEM_PENDING);
		CHECK_INT(t.next, PEMS_STEP_WRITE);
		CHECK_INT(t.delay_ms, expected[i]);
		CHECK_INT(t.retry_count, i + 1);
		input.retry_count = t.retry_count;
	}
	CHECK_INT(after(&input, outcome(PEMS_OUTCOME_TRANSIENT)).status, PEMS_ITEM_FAILED);
}

UNIT_TEST(lost_answer_is_followed_by_a_read_not_a_write)
{
	PemsTransitionInput input = a_write();
	PemsTransition t =
		after(&input, (PemsOutcome){.class = PEMS_OUTCOME_TRANSIENT, .unknown = true});

	CHECK_INT(t.next, PEMS_STEP_READ);
	CHECK(t.outcome_unknown);
	CHECK_INT(t.retry_count, 1);
}

UNIT_TEST(read_after_a_lost_answer_waits_two_seconds)
{
	PemsTransitionInput input = a_write();

	input.retry_delay_ms = 10;
	CHECK_INT(
		after(&input, (PemsOutcome){.class = PEMS_OUTCOME_TRANSIENT, .unknown = true}).delay_ms,
		PEMS_TRANSITION_SETTLE_MS);
	CHECK_INT(after(&input, (PemsOutcome){.class = PEMS_OUTCOME_UNKNOWN, .unknown = true}).delay_ms,
			  PEMS_TRANSITION_SETTLE_MS);
	CHECK_INT(after(&input, outcome(PEMS_OUTCOME_TRANSIENT)).delay_ms, 10);
}

UNIT_TEST(failed_read_is_read_again)
{
	PemsTransitionInput input = a_read(PEMS_STEP_READ);
	PemsTransition t = after(&input, outcome(PEMS_OUTCOME_TRANSIENT));

	CHECK_INT(t.next, PEMS_STEP_READ);
	CHECK_INT(t.retry_count, 1);
}

UNIT_TEST(endpoint_fault_with_an_open_breaker_costs_nothing)
{
	PemsTransitionInput input = a_write();
	PemsOutcome fault = {.class = PEMS_OUTCOME_TRANSIENT, .endpoint_fault = true};
	PemsTransition t;

	input.retry_count = 3;
	CHECK_INT(after(&input, fault).status, PEMS_ITEM_FAILED);
	input.breaker_open = true;
	t = after(&input, fault);
	CHECK_INT(t.status, PEMS_ITEM_PENDING);
	CHECK_INT(t.retry_count, 3);
	/* a server error is no endpoint fault: it costs a retry also then */
	CHECK_INT(after(&input, outcome(PEMS_OUTCOME_TRANSIENT)).status, PEMS_ITEM_FAILED);
}

UNIT_TEST(what_fails_with_an_open_breaker_goes_behind_the_others)
{
	static const int64_t expected[] = {4000, 8000, 16000, 32000, 60000, 60000};
	PemsTransitionInput input = a_write();
	PemsOutcome fault = {.class = PEMS_OUTCOME_TRANSIENT, .endpoint_fault = true};

	input.breaker_open = true;
	for (int step = PEMS_STEP_WRITE; step <= PEMS_STEP_REFRESH; step++)
		for (int i = 0; i < 6; i++)
		{
			input.step = (PemsStep) step;
			input.attempt = i + 1;
			CHECK_INT(after(&input, fault).delay_ms, expected[i]);
			CHECK_INT(after(&input, fault).retry_count, 0);
		}
	input.attempt = 1000000;
	CHECK_INT(after(&input, fault).delay_ms, PEMS_TRANSITION_PROBE_MS);
}

UNIT_TEST(a_write_that_is_done_never_becomes_a_dead_letter)
{
	PemsTransitionInput input = a_read(PEMS_STEP_REFRESH);

	input.retry_count = 3;
	CHECK_INT(after(&input, outcome(PEMS_OUTCOME_TRANSIENT)).status, PEMS_ITEM_PENDING);
	CHECK_INT(after(&input, outcome(PEMS_OUTCOME_TRANSIENT)).next, PEMS_STEP_REFRESH);
	CHECK_INT(after(&input, outcome(PEMS_OUTCOME_TRANSIENT)).delay_ms, 40000);
	input.retry_count = 9;
	CHECK_INT(after(&input, outcome(PEMS_OUTCOME_TRANSIENT)).delay_ms, PEMS_TRANSITION_REFRESH_MS);
	CHECK_INT(after(&input, outcome(PEMS_OUTCOME_REJECTED)).status, PEMS_ITEM_COMPLETED);
}

UNIT_TEST(a_refresh_that_gets_no_record_ends_with_its_retries)
{
	static const char *const senseless[] = {"BAD_RESPONSE", "ACCEPTED"};

	for (int i = 0; i < 2; i++)
	{
		PemsTransitionInput input = a_read(PEMS_STEP_REFRESH);
		PemsOutcome answer = {.class = PEMS_OUTCOME_TRANSIENT, .error_code = senseless[i]};

		input.retry_count = 2;
		CHECK_INT(after(&input, answer).status, PEMS_ITEM_PENDING);
		CHECK_INT(after(&input, answer).next, PEMS_STEP_REFRESH);
		input.retry_count = 3;
		CHECK_INT(after(&input, answer).status, PEMS_ITEM_COMPLETED);
		CHECK(!after(&input, answer).mirror_is_record);
		answer.error_code = "UNAVAILABLE";
		CHECK_INT(after(&input, answer).status, PEMS_ITEM_PENDING);
	}
}

UNIT_TEST(names)
{
	CHECK_TEXT(pems_transition_step_name(PEMS_STEP_REFRESH), "refresh");
	CHECK_INT(pems_transition_step("write"), PEMS_STEP_WRITE);
	CHECK_INT(pems_transition_step("read"), PEMS_STEP_READ);
	CHECK_INT(pems_transition_step("confirm"), PEMS_STEP_CONFIRM);
	CHECK_INT(pems_transition_step("refresh"), PEMS_STEP_REFRESH);
	CHECK_TEXT(pems_transition_status_name(PEMS_ITEM_PENDING), "pending");
	CHECK_TEXT(pems_transition_status_name(PEMS_ITEM_CONFLICT), "conflict");
}
