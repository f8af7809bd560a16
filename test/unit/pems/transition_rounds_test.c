/*
 * pems/transition_rounds_test.c
 *		Unit tests of src/pems/transition.c: whatever makes the worker ask again ends.
 */
#include "unit.h"

#include <string.h>

#include "pems/transitions.h"

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
