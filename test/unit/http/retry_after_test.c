/*
 * http/retry_after_test.c
 *		Unit tests of src/http/retry_after.c.
 */
#include "unit.h"

#include <string.h>
#include <time.h>

#include "http/retry_after.h"

/* Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110 */
#define RFC_INSTANT INT64_C(784111777)

UNIT_TEST(seconds)
{
	CHECK_INT(pems_http_retry_after_seconds("7", NULL, 0), 7);
	CHECK_INT(pems_http_retry_after_seconds(" 7\t", NULL, 0), 7);
	CHECK_INT(pems_http_retry_after_seconds("007", NULL, 0), 7);
	CHECK_INT(pems_http_retry_after_seconds("0", NULL, 0), 0);
	CHECK_INT(pems_http_retry_after_seconds("86400", NULL, 0), 86400);
	CHECK(pems_http_retry_after_seconds("99999999999999999999999999", NULL, 0) > 86400);
	CHECK(pems_http_retry_after_seconds("18446744073709551617", NULL, 0) > 86400);
}

UNIT_TEST(nonsense_is_unreadable)
{
	static const char *const nonsense[] = {"",
										   "   ",
										   "-1",
										   "+1",
										   "1.5",
										   "1,5",
										   "1e3",
										   "0x10",
										   "soon",
										   "5s",
										   "5 seconds",
										   "5;",
										   "1 2",
										   "NaN",
										   "\xd9\xa3",
										   ":",
										   "infinity",

										   "99 Nov 1994 08:49:37 GMT",
										   "Sun, 06 Foo 1994 08:49:37 GMT",
										   "25:61:61"};

	for (size_t i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++)
	{
		if (!CHECK_INT(pems_http_retry_after_seconds(nonsense[i], NULL, 0), -1))
			unit_note("value: \"%s\"", nonsense[i]);
	}
}

UNIT_TEST(dates)
{
	const char *date = "Sun, 06 Nov 1994 08:49:37 GMT";

	/* against the server's clock, whatever ours says */
	CHECK_INT(pems_http_retry_after_seconds("Sun, 06 Nov 1994 08:49:57 GMT", date, 0), 20);
	CHECK_INT(pems_http_retry_after_seconds("Sunday, 06-Nov-94 08:49:57 GMT", date, INT64_MAX), 20);
	CHECK_INT(pems_http_retry_after_seconds("Sun Nov  6 08:49:57 1994", date, 0), 20);
	CHECK_INT(pems_http_retry_after_seconds("  Sun, 06 Nov 1994 08:49:57 GMT  ", date, 0), 20);
	CHECK_INT(pems_http_retry_after_seconds("Sun, 06 Nov 1994 08:49:57 GMT",
											"Sun Nov  6 08:49:37 1994", 0),
			  20);
	/* against ours where there is none, or none that can be read */
	CHECK_INT(pems_http_retry_after_seconds(date, NULL, RFC_INSTANT - 20), 20);
	CHECK_INT(pems_http_retry_after_seconds(date, "yesterday", RFC_INSTANT - 20), 20);
	/* over already */
	CHECK_INT(pems_http_retry_after_seconds(date, date, 0), 0);
	CHECK_INT(pems_http_retry_after_seconds("Sun, 06 Nov 1994 08:49:00 GMT", date, 0), 0);
	CHECK_INT(pems_http_retry_after_seconds("Thu, 01 Jan 1970 00:00:00 GMT", date, 0), 0);
	/* far away */
	CHECK_INT(pems_http_retry_after_seconds("Mon, 07 Nov 1994 08:49:37 GMT", date, 0), 86400);
	CHECK_INT(pems_http_retry_after_seconds("Fri, 31 Dec 9999 23:59:59 GMT", date, 0),
			  INT64_C(253402300799) - RFC_INSTANT);
}

/* Every day of a century, and a random second of it, against timegm(). */
UNIT_TEST(dates_equal_the_library)
{
	const time_t days = 100L * 366;
	int failures = unit_failures();

	for (time_t day = 1; day < days && unit_failures() == failures; day++)
	{
		time_t instant = day * 86400 + (time_t) unit_random_below(86400);
		char text[64];
		struct tm parts;

		gmtime_r(&instant, &parts);
		strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &parts);
		if (!CHECK_INT(pems_http_retry_after_seconds(text, NULL, 0), instant))
			unit_note("date: %s", text);
	}
}
