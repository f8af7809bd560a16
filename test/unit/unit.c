/*
 * unit.c
 *		Runs the tests that registered themselves and prints TAP; see unit.h.
 */
#include "unit.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static UnitTest *first_test;
static UnitTest **last_link = &first_test;
static int failures;
static uint64_t seed = 20250115;
static uint64_t random_state;

void
unit_register(UnitTest *test)
{
	*last_link = test;
	last_link = &test->next;
}

int
unit_failures(void)
{
	return failures;
}

void
unit_note(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	printf("# ");
	vprintf(format, arguments);
	printf("\n");
	va_end(arguments);
}

bool
unit_check(bool holds, const char *expression, const char *file, int line)
{
	if (!holds)
	{
		failures++;
		unit_note("%s:%d: %s does not hold", file, line, expression);
	}
	return holds;
}

bool
unit_check_text(const char *actual, const char *expected, const char *expression, const char *file,
				int line)
{
	if (actual == expected || (actual && expected && strcmp(actual, expected) == 0))
		return true;
	failures++;
	unit_note("%s:%d: %s", file, line, expression);
	unit_note("       is: %s", actual ? actual : "(null)");
	unit_note("should be: %s", expected ? expected : "(null)");
	return false;
}

bool
unit_check_int(long long actual, long long expected, const char *expression, const char *file,
			   int line)
{
	if (actual == expected)
		return true;
	failures++;
	unit_note("%s:%d: %s is %lld, should be %lld", file, line, expression, actual, expected);
	return false;
}

/* splitmix64: passes the usual tests, and any seed will do. */
uint64_t
unit_random(void)
{
	uint64_t mixed = (random_state += UINT64_C(0x9e3779b97f4a7c15));

	mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
	return mixed ^ (mixed >> 31);
}

unsigned
unit_random_below(unsigned limit)
{
	return limit == 0 ? 0 : (unsigned) (unit_random() % limit);
}

int
main(int argc, char **argv)
{
	int number = 0;
	UnitTest *test;

	if (argc > 1)
		seed = strtoull(argv[1], NULL, 10);
	printf("# seed %llu\n", (unsigned long long) seed);

	for (test = first_test; test; test = test->next)
	{
		int before = failures;

		random_state = seed;
		test->run();
		printf("%s %d - %s\n", failures == before ? "ok" : "not ok", ++number, test->name);
		fflush(stdout);
	}
	printf("1..%d\n", number);
	return failures > 0 ? 1 : 0;
}
