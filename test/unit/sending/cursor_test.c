/*
 * sending/cursor_test.c
 *		Unit tests of src/sending/cursor.c: single rules, and a queue that others change at random.
 */
#include "unit.h"

#include <string.h>

#include "sending/cursor.h"

static PemsCursor
new_cursor(void)
{
	PemsCursor cursor = {.announced_since = PEMS_CURSOR_NEVER};

	pems_cursor_start_over(&cursor);
	return cursor;
}

static bool
is_at(PemsPosition position, int64_t scheduled_at, int64_t commit_seq)
{
	return position.scheduled_at == scheduled_at && position.commit_seq == commit_seq;
}

UNIT_TEST(a_new_cursor_begins_at_the_beginning)
{
	PemsCursor cursor = new_cursor();

	for (int i = 0; i < PEMS_PRIORITIES; i++)
		CHECK(is_at(cursor.after[i], PEMS_CURSOR_BEGINNING, 0) &&
			  is_at(cursor.passed[i], PEMS_CURSOR_BEGINNING, 0));
	CHECK(cursor.thorough);
	CHECK(!pems_cursor_look_twice(&cursor));
}

UNIT_TEST(it_moves_on_in_its_own_priority_and_never_back)
{
	PemsCursor cursor = new_cursor();

	pems_cursor_move_on(&cursor, 1, (PemsPosition){100, 7});
	CHECK(is_at(cursor.after[1], 100, 7));
	pems_cursor_move_on(&cursor, 1, (PemsPosition){100, 6});
	pems_cursor_move_on(&cursor, 1, (PemsPosition){99, 8});
	CHECK(is_at(cursor.after[1], 100, 7));
	pems_cursor_move_on(&cursor, 1, (PemsPosition){100, 8});
	CHECK(is_at(cursor.after[1], 100, 8));
	CHECK(is_at(cursor.after[0], PEMS_CURSOR_BEGINNING, 0));
	CHECK(is_at(cursor.passed[1], PEMS_CURSOR_BEGINNING, 0));
}

UNIT_TEST(what_is_announced_further_ahead_moves_it_back_twice)
{
	PemsCursor cursor = new_cursor();

	pems_cursor_move_on(&cursor, 0, (PemsPosition){100, 7});
	pems_cursor_announce(&cursor, 50);
	CHECK(is_at(cursor.after[0], 50, INT64_MIN));
	/* it was looked for, and claimed */
	pems_cursor_move_on(&cursor, 0, (PemsPosition){120, 9});
	CHECK(pems_cursor_look_twice(&cursor));
	CHECK(is_at(cursor.after[0], 50, INT64_MIN));
	CHECK(!pems_cursor_look_twice(&cursor));
}

UNIT_TEST(of_several_announcements_the_earliest_counts)
{
	PemsCursor cursor = new_cursor();

	pems_cursor_move_on(&cursor, 2, (PemsPosition){100, 7});
	pems_cursor_announce(&cursor, 80);
	pems_cursor_announce(&cursor, 30);
	pems_cursor_announce(&cursor, 200);
	CHECK(is_at(cursor.after[2], 30, INT64_MIN));
	pems_cursor_move_on(&cursor, 2, (PemsPosition){150, 1});
	CHECK(pems_cursor_look_twice(&cursor));
	CHECK(is_at(cursor.after[2], 30, INT64_MIN));
}

UNIT_TEST(a_thorough_claim_is_made_only_where_it_could_find_something)
{
	PemsCursor cursor = new_cursor();
	PemsPosition first[PEMS_PRIORITIES] = {{10, 1}, {10, 1}, {10, 1}};

	pems_cursor_was_thorough(&cursor, first);
	CHECK(!cursor.thorough);
	CHECK(!pems_cursor_make_thorough(&cursor));
	CHECK(!cursor.thorough);
	pems_cursor_move_on(&cursor, 1, (PemsPosition){20, 1});
	CHECK(pems_cursor_make_thorough(&cursor));
	CHECK(cursor.thorough);
	pems_cursor_was_thorough(&cursor, first);
	CHECK(is_at(cursor.after[1], 10, 1) && is_at(cursor.passed[1], 10, 1));
}

/*
 * A queue of one priority.  Items become ready at any place, some while a session has them locked;
 * a claim takes the first few behind the cursor that are free.  Whatever happens, after a second
 * look or a thorough claim each item that is ready and free is claimed.
 */
#define PLACES 40

typedef struct Queue
{
	bool ready[PLACES];
	bool locked[PLACES];
} Queue;

static bool
stands_behind(int place, PemsPosition position)
{
	return place > position.scheduled_at ||
		   (place == position.scheduled_at && place > position.commit_seq);
}

static void
claim(Queue *queue, PemsCursor *cursor, int slots)
{
	if (cursor->thorough)
	{
		PemsPosition first[PEMS_PRIORITIES];
		int place = 0;

		while (place < PLACES && !(queue->ready[place] && stands_behind(place, cursor->passed[1])))
			place++;
		for (int i = 0; i < PEMS_PRIORITIES; i++)
			first[i] = (PemsPosition){place, INT64_MIN};
		pems_cursor_was_thorough(cursor, first);
	}
	for (int place = 0; place < PLACES && slots > 0; place++)
	{
		PemsPosition position = {place, place};

		if (!queue->ready[place] || queue->locked[place] || !stands_behind(place, cursor->after[1]))
			continue;
		queue->ready[place] = false;
		pems_cursor_move_on(cursor, 1, position);
		slots--;
	}
}

static int
left(const Queue *queue)
{
	int count = 0;

	for (int place = 0; place < PLACES; place++)
		count += queue->ready[place];
	return count;
}

UNIT_TEST(nothing_that_is_ready_is_forgotten)
{
	for (int round = 0; round < 2000 && unit_failures() == 0; round++)
	{
		PemsCursor cursor = new_cursor();
		Queue queue = {0};

		for (int step = 0; step < 60; step++)
		{
			int place = (int) unit_random_below(PLACES);

			switch (unit_random_below(5))
			{
				case 0:
				case 1:
					queue.ready[place] = true;
					queue.locked[place] = unit_random_below(3) == 0;
					pems_cursor_announce(&cursor, place);
					break;
				case 2:
					queue.locked[place] = false;
					break;
				case 3:
					pems_cursor_look_twice(&cursor);
					break;
				default:
					claim(&queue, &cursor, 1 + (int) unit_random_below(4));
					break;
			}
		}
		memset(queue.locked, 0, sizeof(queue.locked));
		pems_cursor_make_thorough(&cursor);
		claim(&queue, &cursor, PLACES);
		CHECK_INT(left(&queue), 0);
	}
}
