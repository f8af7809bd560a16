/*
 * pems/transition_test.c
 *		Unit tests of src/pems/transition.c: each outcome class against each step.  What makes the
 *		worker ask PEMS again and again is in transition_rounds_test.c.
 */
#include "unit.h"

#include <string.h>

#include "pems/transitions.h"

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
