/*
 * http/retry_after.c
 *		The Retry-After header; see retry_after.h.
 *
 * Any process.  No memory is allocated.  libcurl reads the dates.
 */
#include "http/retry_after.h"

#include <curl/curl.h>
#include <stdbool.h>
#include <string.h>

/* More than a century: far above every bound, and far below an overflow. */
#define SECONDS_MAXIMUM INT64_C(4000000000)

#define BLANKS " \t"

/* delay-seconds: digits and nothing else. */
static bool
read_delay(const char *text, int64_t *seconds)
{
	const char *begin = text + strspn(text, BLANKS);
	const char *end = begin + strspn(begin, "0123456789");

	*seconds = 0;
	for (const char *digit = begin; digit < end && *seconds < SECONDS_MAXIMUM; digit++)
		*seconds = *seconds * 10 + (*digit - '0');
	return end > begin && end[strspn(end, BLANKS)] == '\0';
}

/* curl_getdate() takes a number alone for a date, too. */
static bool
read_date(const char *text, int64_t *instant)
{
	if (text == NULL || strpbrk(text, ":") == NULL)
		return false;
	*instant = (int64_t) curl_getdate(text, NULL);
	return *instant >= 0;
}

int64_t
pems_http_retry_after_seconds(const char *value, const char *date, int64_t now)
{
	int64_t seconds;
	int64_t until;
	int64_t since = now;

	if (read_delay(value, &seconds))
		return seconds;
	if (!read_date(value, &until))
		return -1;
	if (!read_date(date, &since))
		since = now;
	return until > since ? until - since : 0;
}
