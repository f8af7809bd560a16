/*
 * unit.h
 *		A unit test runner in one header and one file; prints TAP.
 *
 * A test program is one or more files of UNIT_TEST blocks, linked with unit.c,
 * which holds main():
 *
 *	#include "unit.h"
 *
 *	UNIT_TEST(two_and_two_make_four)
 *	{
 *		CHECK(2 + 2 == 4);
 *		CHECK_INT(2 + 2, 4);
 *		CHECK_TEXT(number_name(4), "four");
 *	}
 *
 * Tests run in the order in which they stand in their file.  A failed check
 * prints a line that begins with '#' and lets the test go on; every check is an
 * expression that is true when it holds, for "if (!CHECK(p)) return;".  The exit
 * status is 1 when any check failed.  The program takes one optional argument,
 * the seed of unit_random().
 */
#ifndef UNIT_H
#define UNIT_H

#include <stdbool.h>
#include <stdint.h>

typedef struct UnitTest
{
	const char *name;
	void (*run)(void);
	struct UnitTest *next;
} UnitTest;

/* Called by UNIT_TEST before main(); test must be static. */
extern void unit_register(UnitTest *test);

/* The work of the macros below: true when the check holds. */
extern bool unit_check(bool holds, const char *expression, const char *file, int line);
extern bool unit_check_text(const char *actual, const char *expected, const char *expression,
							const char *file, int line);
extern bool unit_check_int(long long actual, long long expected, const char *expression,
						   const char *file, int line);

/* A comment line of the TAP output, printf style. */
extern void unit_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Number of failed checks so far, to stop a long loop at its first failure. */
extern int unit_failures(void);

/*
 * A repeatable stream of random numbers.  Each test begins with the seed anew,
 * so that a test run alone and in company sees the same numbers.
 */
extern uint64_t unit_random(void);
/* 0 .. limit - 1 */
extern unsigned unit_random_below(unsigned limit);

#define UNIT_TEST(test)                                                                            \
	static void test(void);                                                                        \
	static UnitTest test##_entry = {#test, test, 0};                                               \
	__attribute__((constructor)) static void test##_register(void)                                 \
	{                                                                                              \
		unit_register(&test##_entry);                                                              \
	}                                                                                              \
	static void test(void)

#define CHECK(condition) unit_check((condition) ? true : false, #condition, __FILE__, __LINE__)
/* Either side may be NULL, which equals only NULL. */
#define CHECK_TEXT(actual, expected)                                                               \
	unit_check_text((actual), (expected), #actual, __FILE__, __LINE__)
#define CHECK_INT(actual, expected)                                                                \
	unit_check_int((long long) (actual), (long long) (expected), #actual, __FILE__, __LINE__)

#endif /* UNIT_H */
