/*
 * pems/retry_test.c
 *		Unit tests of src/pems/retry.c.
 */
#include "unit.h"

#include "../../src/pems/retry.h"

#include <limits.h>
#include <math.h>

/* Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110 */
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

UNIT_TEST(retry_after_has_bounds)
{
	CHECK_INT(pems_retry_after_ms(0), 1000);
	CHECK_INT(pems_retry_after_ms(1), 1000);
	CHECK_INT(pems_retry_after_ms(7), 7000);
	CHECK_INT(pems_retry_after_ms(600), 600000);
	CHECK_INT(pems_retry_after_ms(601), 600000);
	CHECK_INT(pems_retry_after_ms(INT64_MAX), 600000);
	CHECK_INT(pems_retry_after_ms(-1), PEMS_RETRY_AFTER_DEFAULT_MS);
	CHECK_INT(pems_retry_after_ms(INT64_MIN), PEMS_RETRY_AFTER_DEFAULT_MS);
}
