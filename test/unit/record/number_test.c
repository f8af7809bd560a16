/*
 * record/number_test.c
 *		Unit tests of src/record/number.c.
 */
#include "unit.h"
#include "record/json_texts.h"

#include <limits.h>

#include "record/number.h"

UNIT_TEST(numbers_compare_by_value)
{
	static const struct
	{
		const char *a;
		const char *b;
		int order;
	} cases[] = {
		{"0", "-0", 0},
		{"0", "0.000e99", 0},
		{"0.1e1", "1", 0},
		{"5500.00", "5500", 0},
		{"5500", "55e2", 0},
		{"0.055E5", "5500.0", 0},
		{"100e-2", "1", 0},
		{"-1", "-1.0", 0},
		{"1e400", "1e401", -1},
		{"1e400", "10e399", 0},
		{"-1e400", "-1e401", 1},
		{"1e-400", "0", 1},
		{"-1e-400", "0", -1},
		{"0.001", "0.002", -1},
		{"0.1", "0.09", 1},
		{"1.05", "1.5", -1},
		{"10.5", "10.50000000000000000000000000000000000000000000000000001", -1},
		{"9007199254740993", "9007199254740992", 1},
		{"123456789012345678901234567890", "123456789012345678901234567891", -1},
		{"-2", "1", -1},
		{"1e999999999999", "1e1000", 1},
		{"1e-999999999999", "1e-1000", -1},
		{"1e99999999999999999999999999", "1e99999999999999999999999999", 0},
		{"-1e99999999999999999999999999", "5", -1},
		{"0e99999999999999999999999999", "0", 0},
		{"1e9223372036854775807", "1e-9223372036854775808", 1},
	};
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		if (!CHECK_INT(pems_number_compare(cases[i].a, cases[i].b), cases[i].order) ||
			!CHECK_INT(pems_number_compare(cases[i].b, cases[i].a), -cases[i].order))
			unit_note("%s against %s", cases[i].a, cases[i].b);
	}
}

/* Random literals whose value a double holds exactly, against the double. */
UNIT_TEST(random_numbers_compare_like_doubles)
{
	int i;

	for (i = 0; i < 20000; i++)
	{
		char a[64];
		char b[64];
		double left;
		double right;

		snprintf(a, sizeof(a), "%d.%02u", (int) unit_random_below(400) - 200,
				 unit_random_below(4) * 25);
		snprintf(b, sizeof(b), "%d%02ue-2", (int) unit_random_below(400) - 200,
				 unit_random_below(4) * 25);
		if (b[0] == '0')
			continue;
		left = strtod(a, NULL);
		right = strtod(b, NULL);
		if (!CHECK_INT(pems_number_compare(a, b), (left > right) - (left < right)))
		{
			unit_note("%s against %s", a, b);
			return;
		}
	}
}

/*
 * test/sql/json_range.sql asks the server about the same numbers: whatever it cannot hold has a
 * reason here.
 */
UNIT_TEST(numbers_beyond_numeric_are_known)
{
	static const struct
	{
		const char *before;
		const char *unit;
		size_t count;
		const char *after;
		const char *reason;
	} cases[] = {
		{"1e999", "", 0, "", ""},
		{"-9.99e999", "", 0, "", ""},
		{"9", "9", 999, "", ""},
		{"9", "9", 499, ".5e499", ""},
		{"1e-999", "", 0, "", ""},
		{"0.", "0", 999, "", ""},
		{"-12.", "5", 998, "", ""},
		{"1e1000", "", 0, "", DIGITS},
		{"9", "9", 1000, "", DIGITS},
		{"1e-1000", "", 0, "", DIGITS},
		{"12.", "5", 999, "", DIGITS},
		{"0.", "0", 1000, "", DIGITS},
		{"1e131071", "", 0, "", DIGITS},
		{"-9.99e131071", "", 0, "", DIGITS},
		{"0.1e131072", "", 0, "", DIGITS},
		{"0.001e131074", "", 0, "", DIGITS},
		{"1", "0", 131071, "", DIGITS},
		{"9", "9", 131071, ".5", DIGITS},
		{"1", "0", 131071, "0e-1", DIGITS},
		{"1e131072", "", 0, "", DIGITS},
		{"-1E+131072", "", 0, "", DIGITS},
		{"10e131071", "", 0, "", DIGITS},
		{"0.1e131073", "", 0, "", DIGITS},
		{"1", "0", 131072, "", DIGITS},
		{"1e999999", "", 0, "", DIGITS},
		{"1e99999999999999999999", "", 0, "", DIGITS},
		{"1e-16383", "", 0, "", DIGITS},
		{"0.1e-16382", "", 0, "", DIGITS},
		{"0.", "0", 16383, "", DIGITS},
		{"1.", "0", 16383, "", DIGITS},
		{"1.", "0", 16384, "e1", DIGITS},
		{"1e-16384", "", 0, "", DIGITS},
		{"10e-16384", "", 0, "", DIGITS},
		{"1.0e-16383", "", 0, "", DIGITS},
		{"0.", "0", 16384, "", DIGITS},
		{"1.", "0", 16384, "", DIGITS},
		{"0e-16384", "", 0, "", DIGITS},
		{"1e-99999999999999999999", "", 0, "", DIGITS},
		{"0e999999", "", 0, "", ""},
		{"0e1073741822", "", 0, "", ""},
		{"0e1073741823", "", 0, "", TOO_LARGE}, /* PostgreSQL 16 and later hold this one */
		{"0e1073741824", "", 0, "", TOO_LARGE},
		{"0e99999999999999999999", "", 0, "", TOO_LARGE},
		{"-0.0", "", 0, "", ""},
	};
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char *text = repeated(cases[i].before, cases[i].unit, cases[i].count, cases[i].after);

		if (!CHECK_TEXT(pems_number_unstorable(text),
						*cases[i].reason == '\0' ? NULL : cases[i].reason) ||
			!CHECK_TEXT(reason(text, false), cases[i].reason) ||
			!CHECK_TEXT(reason(text, true), cases[i].reason))
			unit_note("%s, %zu times %s, %s", cases[i].before, cases[i].count, cases[i].unit,
					  cases[i].after);
		free(text);
	}
}

UNIT_TEST(integers_are_taken_out_of_their_literal)
{
	long long value = 0;

	CHECK(pems_number_integer("-1.50e3", &value));
	CHECK_INT(value, -1500);
	CHECK(pems_number_integer("-0.0e99", &value));
	CHECK_INT(value, 0);
	CHECK(pems_number_integer("-9223372036854775808", &value) && value == LLONG_MIN);
	CHECK(!pems_number_integer("9223372036854775808", &value));
	CHECK(!pems_number_integer("1.5", &value));
	CHECK(pems_number_is_integral("1e30") && pems_number_is_integral("0e-9"));
	CHECK(!pems_number_is_integral("1e-1"));
}
