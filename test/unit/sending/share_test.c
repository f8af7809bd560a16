/*
 * sending/share_test.c
 *		Unit tests of src/sending/share.c.
 */
#include "unit.h"

#include <limits.h>
#include <string.h>

#include "sending/share.h"

#define SHARERS 6

/* One slot at a time, as the header says it. */
static int
share_slowly(int capacity, size_t count, const int *wanted, size_t *cursor, int *grants)
{
	int given = 0;

	memset(grants, 0, count * sizeof(int));
	while (given < capacity)
	{
		size_t step = 1;

		while (step <= count &&
			   grants[(*cursor + step) % count] >= wanted[(*cursor + step) % count])
			step++;
		if (step > count)
			break;
		*cursor = (*cursor + step) % count;
		grants[*cursor]++;
		given++;
	}
	return given;
}

UNIT_TEST(shares_equal_one_slot_at_a_time)
{
	int failures = unit_failures();

	for (int round = 0; round < 20000 && unit_failures() == failures; round++)
	{
		size_t count = 1 + unit_random_below(SHARERS);
		int capacity = (int) unit_random_below(60);
		size_t fast_cursor = unit_random_below((unsigned) count);
		size_t slow_cursor = fast_cursor;
		int wanted[SHARERS];
		int fast[SHARERS];
		int slow[SHARERS];

		for (size_t i = 0; i < count; i++)
			wanted[i] = unit_random_below(3) == 0 ? 0 : (int) unit_random_below(20);
		CHECK_INT(pems_share_slots(capacity, count, wanted, &fast_cursor, fast),
				  share_slowly(capacity, count, wanted, &slow_cursor, slow));
		CHECK(memcmp(fast, slow, count * sizeof(int)) == 0);
		CHECK_INT(fast_cursor, slow_cursor);
	}
}

UNIT_TEST(one_edit_behind_ten_thousand_gets_its_turn)
{
	int wanted[2] = {10000, 1};
	int grants[2];
	size_t cursor = 1;

	CHECK_INT(pems_share_slots(1, 2, wanted, &cursor, grants), 1);
	CHECK_INT(grants[0], 1);
	CHECK_INT(pems_share_slots(1, 2, wanted, &cursor, grants), 1);
	CHECK_INT(grants[1], 1);
	wanted[0] = INT_MAX;
	wanted[1] = INT_MAX;
	CHECK_INT(pems_share_slots(INT_MAX, 2, wanted, &cursor, grants), INT_MAX);
	CHECK(grants[0] - grants[1] <= 1 && grants[1] - grants[0] <= 1);
}

UNIT_TEST(shares_of_nothing)
{
	int wanted[2] = {-5, 3};
	int grants[2];
	size_t cursor = 99; /* organizations may have gone */

	CHECK_INT(pems_share_slots(0, 2, wanted, &cursor, grants), 0);
	CHECK_INT(pems_share_slots(-1, 2, wanted, &cursor, grants), 0);
	CHECK_INT(grants[0] + grants[1], 0);
	CHECK_INT(pems_share_slots(10, 2, wanted, &cursor, grants), 3);
	CHECK_INT(grants[0], 0);
	CHECK_INT(cursor, 1);
	CHECK_INT(pems_share_slots(10, 0, NULL, &cursor, NULL), 0);
}
