/*
 * record/calendar_test.c
 *		Unit tests of src/record/calendar.c.
 */
#include "unit.h"

#include <stdio.h>

#include "record/calendar.h"

/* Seconds of an instant, NO_INSTANT when the text is none. */
#define NO_INSTANT (-999999999999999LL)

static long long
seconds(const char *text)
{
	PemsInstant instant;

	return pems_calendar_read_instant(text, &instant) ? instant.seconds : NO_INSTANT;
}

static long
nanoseconds(const char *text)
{
	PemsInstant instant;

	return pems_calendar_read_instant(text, &instant) ? instant.nanoseconds : -1;
}

UNIT_TEST(instants_are_read)
{
	CHECK_INT(seconds("1970-01-01"), 0);
	CHECK_INT(seconds("1970-01-01T00:00:00Z"), 0);
	CHECK_INT(seconds("2025-01-15T00:00:00Z"), 1736899200);
	CHECK_INT(seconds("2025-01-15t00:00:00z"), 1736899200);
	CHECK_INT(seconds("2025-01-15 00:00:00"), 1736899200);
	CHECK_INT(seconds("2025-01-15T00:00"), 1736899200);
	CHECK_INT(seconds("2025-01-15T00:00Z"), 1736899200);
	CHECK_INT(seconds("2025-01-15T02:00:00+02:00"), 1736899200);
	CHECK_INT(seconds("2025-01-15T02:00:00+0200"), 1736899200);
	CHECK_INT(seconds("2025-01-15T02:00:00+02"), 1736899200);
	CHECK_INT(seconds("2025-01-14T18:15:00-05:45"), 1736899200);
	CHECK_INT(seconds("2025-01-15T15:59:00+15:59"), 1736899200);
	CHECK_INT(seconds("2025-01-15T00:00:00-00:00"), 1736899200);
	CHECK_INT(seconds("1969-12-31T23:59:59Z"), -1);
	CHECK_INT(seconds("0001-01-01"), -62135596800);
	CHECK_INT(seconds("9999-12-31T23:59:59Z"), 253402300799);
	CHECK_INT(seconds("2000-02-29"), 951782400);
	CHECK_INT(seconds("2024-02-29"), 1709164800);
	CHECK_INT(seconds("1600-03-01"), seconds("1600-02-29") + 86400);
}

UNIT_TEST(fractions_are_kept_to_the_nanosecond)
{
	CHECK_INT(nanoseconds("2025-01-15T00:00:00Z"), 0);
	CHECK_INT(nanoseconds("2025-01-15T00:00:00.5+02:00"), 500000000);
	CHECK_INT(nanoseconds("2025-01-15T00:00:00.000000001Z"), 1);
	CHECK_INT(nanoseconds("2025-01-15T00:00:00.1234567899999999999999Z"), 123456789);
	CHECK_INT(nanoseconds("2025-01-15T00:00:00.250"), 250000000);
}

UNIT_TEST(what_is_no_instant_is_refused)
{
	static const char *const texts[] = {
		"",
		"2025",
		"2025-01",
		"2025-1-15",
		"2025-01-15T",
		"2025-01-15 ",
		" 2025-01-15",
		"2025-01-15Z",
		"2025-01-15T00",
		"2025-01-15T00:00:00 Z",
		"2025-01-15T00:00:00Zx",
		"2025-01-15T00:00:00.Z",
		"2025-01-15T00:00:00,5Z",
		"2025-01-15T00:00.5Z",
		"2025-01-15T24:00:00Z",
		"2025-01-15T23:60:00Z",
		"2016-12-31T23:59:60Z",
		"2025-01-15T00:00:00+16:00",
		"2025-01-15T00:00:00+02:60",
		"2025-01-15T00:00:00+2",
		"2025-01-15T00:00:00+02:",
		"2025-01-15T00:00:00+02:0",
		"2025-01-15T00:00:00+02:000",
		"2025-01-15T0:00:00Z",
		"2025-02-29",
		"1900-02-29",
		"2100-02-29",
		"2025-04-31",
		"2025-00-10",
		"2025-13-10",
		"2025-01-00",
		"2025-01-32",
		"0000-01-01",
		"-001-01-01",
		"+2025-01-15",
		"10000-01-01",
		"20250115T000000Z",
		"2025-W03-3",
		"15/01/2025",
		"now",
		"infinity",
	};
	size_t i;

	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		if (!CHECK_INT(seconds(texts[i]), NO_INSTANT))
			unit_note("accepted: %s", texts[i]);
	}
}

/* Every day of 0001 to 9999 follows the one before it. */
UNIT_TEST(the_calendar_has_no_gap)
{
	static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	long long expected = -62135596800LL;
	int year;
	int month;
	int day;

	for (year = 1; year <= 9999; year++)
	{
		for (month = 1; month <= 12; month++)
		{
			bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
			int length = lengths[month - 1] + (month == 2 && leap ? 1 : 0);

			for (day = 1; day <= length; day++)
			{
				char text[40];

				snprintf(text, sizeof(text), "%04d-%02d-%02d", year, month, day);
				if (seconds(text) != expected)
				{
					CHECK_INT(seconds(text), expected);
					return;
				}
				expected += 86400;
			}
		}
	}
	CHECK_INT(expected, 253402300800);
}

UNIT_TEST(days_that_do_not_exist_have_no_number)
{
	long long days = 0;

	CHECK(pems_calendar_days(1970, 1, 2, &days));
	CHECK_INT(days, 1);
	CHECK(pems_calendar_days(2000, 2, 29, &days));
	CHECK(!pems_calendar_days(1900, 2, 29, &days));
	CHECK(!pems_calendar_days(2025, 0, 1, &days));
	CHECK(!pems_calendar_days(2025, 13, 1, &days));
	CHECK(!pems_calendar_days(2025, 4, 31, &days));
	CHECK(!pems_calendar_days(2025, 4, 0, &days));
	CHECK(!pems_calendar_days(0, 1, 1, &days));
}

UNIT_TEST(the_day_of_a_text_is_the_one_that_is_written)
{
	PemsInstant midnight;
	PemsInstant instant;

	CHECK(pems_calendar_read_day("2025-01-15T23:30:00.5-11:00", &midnight));
	CHECK(pems_calendar_read_instant("2025-01-15", &instant));
	CHECK_INT(pems_calendar_compare(&midnight, &instant), 0);
	CHECK(pems_calendar_read_instant("2025-01-15T00:00:00.000000001Z", &instant));
	CHECK_INT(pems_calendar_compare(&midnight, &instant), -1);
	CHECK_INT(pems_calendar_compare(&instant, &midnight), 1);
	CHECK(!pems_calendar_read_day("2025-02-29T00:00:00Z", &midnight));
}
