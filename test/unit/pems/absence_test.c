/*
 * pems/absence_test.c
 *		Unit tests of src/pems/absence.c.
 */
#include "unit.h"

#include "pems/absence.h"

static bool
may_mark(int64_t known, int64_t missing, int max_missing)
{
	PemsSentence why = {0};
	bool may = pems_absence_may_mark(known, missing, max_missing, &why);

	CHECK(may == (why.length == 0));
	return may;
}

UNIT_TEST(where_nothing_is_missing_nothing_is_in_the_way)
{
	CHECK(may_mark(0, 0, 10));
	CHECK(may_mark(0, 0, 0));
	CHECK(may_mark(100, 0, 0));
}

UNIT_TEST(exactly_the_percentage_may_be_missing)
{
	CHECK(may_mark(100, 10, 10));
	CHECK(!may_mark(100, 11, 10));
	CHECK(may_mark(10, 1, 10));
	CHECK(!may_mark(9, 1, 10));
	CHECK(may_mark(1000, 100, 10));
	CHECK(!may_mark(999, 100, 10));
	CHECK(may_mark(1000000000, 100000000, 10));
	CHECK(!may_mark(1000000000, 100000001, 10));
}

UNIT_TEST(small_organizations)
{
	CHECK(!may_mark(1, 1, 10));
	CHECK(!may_mark(1, 1, 99));
	CHECK(may_mark(1, 1, 100));
	CHECK(may_mark(2, 1, 50));
	CHECK(!may_mark(2, 1, 49));
}

UNIT_TEST(zero_and_hundred_percent)
{
	CHECK(!may_mark(100, 1, 0));
	CHECK(may_mark(100, 100, 100));
}

UNIT_TEST(nonsense_marks_nothing)
{
	CHECK(!may_mark(0, 1, 10));
	CHECK(!may_mark(-5, 1, 100));
	CHECK(!may_mark(5, 6, 100));
	CHECK(!may_mark(5, 6, 1000));
	CHECK(!may_mark(100, 1, -1));
	CHECK(may_mark(5, -1, 10));
	CHECK(may_mark(INT64_MAX, INT64_MAX / 1000, 10));
	CHECK(may_mark(INT64_MAX, 5, 10));
}

UNIT_TEST(the_sentence_says_how_many)
{
	PemsSentence why = {0};

	CHECK(!pems_absence_may_mark(100, 11, 10, &why));
	CHECK_TEXT(why.text,
			   "PEMS's listing does not show 11 of 100 records, more than 10 % "
			   "(pems_sync.pull_max_missing): none of them was marked as deleted, because the "
			   "listing may be incomplete");
}
