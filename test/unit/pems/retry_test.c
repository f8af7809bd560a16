/*
 * pems/retry_test.c
 *		Unit tests of src/pems/retry.c.
 */
#include "unit.h"

#include "../../src/pems/retry.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <time.h>

/* Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110 */
#define RFC_INSTANT INT64_C(784111777)

UNIT_TEST(backoff_doubles)
{
	CHECK_INT(pems_retry_backoff_ms(5000, 0, 0.5), 5000);
	CHECK_INT(pems_retry_backoff_ms(5000, 1, 0.5), 10000);
	CHECK_INT(pems_retry_backoff_ms(5000, 2, 0.5), 20000);
	CHECK_INT(pems_retry_backoff_ms(5000, 0, 0.0), 4500);
	CHECK_INT(pems_retry_backoff_ms(5000, 0, 1.0), 5500);
}

UNIT_TEST(backoff_saturates_at_one_hour)
{
	CHECK_INT(pems_retry_backoff_ms(5000, 10, 0.5), 3600000);
	CHECK_INT(pems_retry_backoff_ms(5000, 10, 1.0), 3600000);
	CHECK_INT(pems_retry_backoff_ms(5000, 10, 0.0), 3240000);
	CHECK_INT(pems_retry_backoff_ms(5000, INT_MAX, 0.5), 3600000);
	CHECK_INT(pems_retry_backoff_ms(INT64_MAX, 0, 0.5), 3600000);
	CHECK_INT(pems_retry_backoff_ms(INT64_MAX, 3, 0.5), 3600000);
}

UNIT_TEST(backoff_of_nonsense)
{
	CHECK_INT(pems_retry_backoff_ms(0, INT_MAX, 0.5), 0);
	CHECK_INT(pems_retry_backoff_ms(-1, 3, 0.5), 0);
	CHECK_INT(pems_retry_backoff_ms(1000, -1, 0.5), 1000);
	CHECK_INT(pems_retry_backoff_ms(1000, INT_MIN, 0.5), 1000);
	CHECK_INT(pems_retry_backoff_ms(1000, 0, -3.0), 900);
	CHECK_INT(pems_retry_backoff_ms(1000, 0, 7.0), 1100);
	CHECK_INT(pems_retry_backoff_ms(1000, 0, NAN), 900);
}

UNIT_TEST(retry_after_in_seconds)
{
	CHECK_INT(pems_retry_after_ms("7", NULL, 0), 7000);
	CHECK_INT(pems_retry_after_ms(" 7\t", NULL, 0), 7000);
	CHECK_INT(pems_retry_after_ms("007", NULL, 0), 7000);
	CHECK_INT(pems_retry_after_ms("0", NULL, 0), 1000);
	CHECK_INT(pems_retry_after_ms("1", NULL, 0), 1000);
	CHECK_INT(pems_retry_after_ms("600", NULL, 0), 600000);
	CHECK_INT(pems_retry_after_ms("601", NULL, 0), 600000);
	CHECK_INT(pems_retry_after_ms("86400", NULL, 0), 600000);
	CHECK_INT(pems_retry_after_ms("99999999999999999999999999", NULL, 0), 600000);
	CHECK_INT(pems_retry_after_ms("18446744073709551617", NULL, 0), 600000);
}

UNIT_TEST(retry_after_of_nonsense_is_the_default)
{
	static const char *const nonsense[] = {"",    "   ",      "-1",   "+1",        "1.5", "1,5",
										   "1e3", "0x10",     "soon", "5 seconds", "5s",  "5;",
										   "1 2", "\xd9\xa3", "NaN",  "infinity"};

	CHECK_INT(pems_retry_after_ms(NULL, NULL, 0), PEMS_RETRY_AFTER_DEFAULT_MS);
	for (size_t i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++)
	{
		if (!CHECK_INT(pems_retry_after_ms(nonsense[i], NULL, 0), PEMS_RETRY_AFTER_DEFAULT_MS))
			unit_note("value: \"%s\"", nonsense[i]);
	}
}

UNIT_TEST(retry_after_as_a_date)
{
	const char *date = "Sun, 06 Nov 1994 08:49:37 GMT";

	/* against the server's clock, whatever ours says */
	CHECK_INT(pems_retry_after_ms("Sun, 06 Nov 1994 08:49:57 GMT", date, 0), 20000);
	CHECK_INT(pems_retry_after_ms("Sunday, 06-Nov-94 08:49:57 GMT", date, INT64_MAX), 20000);
	CHECK_INT(pems_retry_after_ms("Sun Nov  6 08:49:57 1994", date, 0), 20000);
	CHECK_INT(pems_retry_after_ms("Sun, 06 Nov 1994 08:49:57 GMT", "Sun Nov  6 08:49:37 1994", 0),
			  20000);
	/* against ours where there is none, or none that can be read */
	CHECK_INT(pems_retry_after_ms(date, NULL, RFC_INSTANT - 20), 20000);
	CHECK_INT(pems_retry_after_ms(date, "yesterday", RFC_INSTANT - 20), 20000);
	/* bounds: over already, and far away */
	CHECK_INT(pems_retry_after_ms(date, date, 0), 1000);
	CHECK_INT(pems_retry_after_ms("Sun, 06 Nov 1994 08:49:00 GMT", date, 0), 1000);
	CHECK_INT(pems_retry_after_ms("Thu, 01 Jan 1970 00:00:00 GMT", date, 0), 1000);
	CHECK_INT(pems_retry_after_ms("Mon, 07 Nov 1994 08:49:37 GMT", date, 0), 600000);
	CHECK_INT(pems_retry_after_ms("Fri, 31 Dec 9999 23:59:59 GMT", date, 0), 600000);
}

UNIT_TEST(http_dates_in_three_forms)
{
	static const struct
	{
		const char *text;
		int64_t instant;
	} dates[] = {{"Sun, 06 Nov 1994 08:49:37 GMT", RFC_INSTANT},
				 {"Sunday, 06-Nov-94 08:49:37 GMT", RFC_INSTANT},
				 {"Sun Nov  6 08:49:37 1994", RFC_INSTANT},
				 {"Sun Nov 06 08:49:37 1994", RFC_INSTANT},
				 {"  Sun, 06 Nov 1994 08:49:37 GMT  ", RFC_INSTANT},
				 {"Thu, 01 Jan 1970 00:00:00 GMT", 0},
				 {"Wed, 31 Dec 1969 23:59:59 GMT", -1},
				 {"Tue, 29 Feb 2000 12:00:00 GMT", 951825600},
				 {"Sat, 31 Dec 2016 23:59:60 GMT", 1483228800},
				 {"Tuesday, 19-Jan-38 03:14:08 GMT", INT64_C(2147483648)},
				 {"Fri, 31 Dec 9999 23:59:59 GMT", INT64_C(253402300799)}};

	for (size_t i = 0; i < sizeof(dates) / sizeof(dates[0]); i++)
	{
		int64_t instant = 12345;

		if (!CHECK(pems_retry_read_http_date(dates[i].text, &instant)) ||
			!CHECK_INT(instant, dates[i].instant))
			unit_note("date: %s", dates[i].text);
	}
}

UNIT_TEST(what_is_no_http_date)
{
	static const char *const texts[] = {"",
										"Sun",
										"Sun,",
										"06 Nov 1994 08:49:37 GMT",
										"Sun, 6 Nov 1994 08:49:37 GMT",
										"Sun, 06 Nov 94 08:49:37 GMT",
										"Sun, 06 Nov 1994 08:49:37",
										"Sun, 06 Nov 1994 08:49:37 CET",
										"Sun, 06 Nov 1994 08:49:37 +0000",
										"Sun, 06 Nov 1994 24:00:00 GMT",
										"Sun, 06 Nov 1994 08:60:00 GMT",
										"Sun, 06 Nov 1994 08:49:61 GMT",
										"Sun, 31 Nov 1994 08:49:37 GMT",
										"Tue, 29 Feb 1900 08:49:37 GMT",
										"Sun, 00 Nov 1994 08:49:37 GMT",
										"Sun, 06 Nov 0000 08:49:37 GMT",
										"Sun, 06 nov 1994 08:49:37 GMT",
										"Son, 06 Nov 1994 08:49:37 GMT",
										"Sun, 06 Nov 1994 08:49:37 GMT x",
										"Sun, 06 Nov 1994  08:49:37 GMT",
										"Sun, -6 Nov 1994 08:49:37 GMT",
										"1994-11-06T08:49:37Z",
										"Sunday, 06-Nov-1994 08:49:37 GMT",
										"Sun Nov   6 08:49:37 1994",
										"Sun Nov  6 08:49:37 1994 GMT"};
	int64_t instant;

	CHECK(!pems_retry_read_http_date(NULL, &instant));
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		if (!CHECK(!pems_retry_read_http_date(texts[i], &instant)))
			unit_note("text: \"%s\"", texts[i]);
	}
}

/* Every day of four centuries, and a random second of it, against timegm(). */
UNIT_TEST(http_dates_equal_the_library)
{
	const time_t days = 400L * 366;
	int failures = unit_failures();

	for (time_t day = -days; day < days && unit_failures() == failures; day++)
	{
		time_t instant = day * 86400 + (time_t) unit_random_below(86400);
		int64_t read = 0;
		char text[64];
		struct tm parts;

		gmtime_r(&instant, &parts);
		strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &parts);
		if (!CHECK(pems_retry_read_http_date(text, &read)) || !CHECK_INT(read, instant))
			unit_note("date: %s", text);
	}
}
