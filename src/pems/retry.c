/*
 * pems/retry.c
 *		When to try again: exponential backoff and the Retry-After header.
 *
 * Process: any; pure, without PostgreSQL, I/O or a clock of its own.
 * Memory: none is allocated.  Locale: none; ctype.h and strptime() ask for one,
 * so neither is used.
 *
 * HTTP dates are read here and not by curl_getdate(), which takes texts that are no HTTP dates
 * (31 Nov is 1 Dec for it, and words behind the date do not matter) and says 0 for 1969-12-31
 * 23:59:59.  What is no date must count as none: the wait is the default then.
 */
#include "pems/retry.h"

#include <stddef.h>
#include <string.h>

#include "record/calendar.h"

/* No wait is longer than this, whatever the settings say. */
#define BACKOFF_MAXIMUM_MS INT64_C(3600000)

/* Two-digit years of RFC 850: 70 to 99 are 19xx, the rest 20xx. */
#define RFC850_PIVOT_YEAR 70

/* ---------- backoff ---------- */

int64_t
pems_retry_backoff_ms(int64_t delay_ms, int retry, double jitter)
{
	int64_t wait = delay_ms > 0 ? delay_ms : 0;

	for (; retry > 0 && wait > 0 && wait < BACKOFF_MAXIMUM_MS; retry--)
		wait = wait > BACKOFF_MAXIMUM_MS / 2 ? BACKOFF_MAXIMUM_MS : wait * 2;
	if (wait > BACKOFF_MAXIMUM_MS)
		wait = BACKOFF_MAXIMUM_MS;
	if (!(jitter >= 0.0))
		jitter = 0.0;
	else if (jitter > 1.0)
		jitter = 1.0;
	wait = (int64_t) ((double) wait * (0.9 + 0.2 * jitter) + 0.5);
	return wait > BACKOFF_MAXIMUM_MS ? BACKOFF_MAXIMUM_MS : wait;
}

/* ---------- HTTP dates: each reader moves *text behind what it has read ---------- */

typedef struct HttpDate
{
	int year;
	int month; /* 1 to 12 */
	int day;
	int hour;
	int minute;
	int second;
} HttpDate;

static bool
read_literal(const char **text, const char *literal)
{
	size_t length = strlen(literal);

	if (strncmp(*text, literal, length) != 0)
		return false;
	*text += length;
	return true;
}

/* Exactly `digits` decimal digits. */
static bool
read_number(const char **text, int digits, int *number)
{
	int value = 0;

	for (int i = 0; i < digits; i++)
	{
		char c = (*text)[i];

		if (c < '0' || c > '9')
			return false;
		value = value * 10 + (c - '0');
	}
	*text += digits;
	*number = value;
	return true;
}

/* One of `count` names; *index counts from 1. */
static bool
read_name(const char **text, const char *const *names, int count, int *index)
{
	for (int i = 0; i < count; i++)
	{
		if (read_literal(text, names[i]))
		{
			*index = i + 1;
			return true;
		}
	}
	return false;
}

static bool
read_month(const char **text, int *month)
{
	static const char *const names[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
										"Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

	return read_name(text, names, 12, month);
}

/* The weekday says nothing new: it must be one, but a wrong one does no harm. */
static bool
read_short_weekday(const char **text)
{
	static const char *const names[] = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};
	int ignored;

	return read_name(text, names, 7, &ignored);
}

static bool
read_long_weekday(const char **text)
{
	static const char *const names[] = {"Monday", "Tuesday",  "Wednesday", "Thursday",
										"Friday", "Saturday", "Sunday"};
	int ignored;

	return read_name(text, names, 7, &ignored);
}

/* 08:49:37 */
static bool
read_time(const char **text, HttpDate *date)
{
	return read_number(text, 2, &date->hour) && read_literal(text, ":") &&
		   read_number(text, 2, &date->minute) && read_literal(text, ":") &&
		   read_number(text, 2, &date->second);
}

/* Sun, 06 Nov 1994 08:49:37 GMT */
static bool
read_imf_fixdate(const char **text, HttpDate *date)
{
	return read_short_weekday(text) && read_literal(text, ", ") &&
		   read_number(text, 2, &date->day) && read_literal(text, " ") &&
		   read_month(text, &date->month) && read_literal(text, " ") &&
		   read_number(text, 4, &date->year) && read_literal(text, " ") && read_time(text, date) &&
		   read_literal(text, " GMT");
}

/* Sunday, 06-Nov-94 08:49:37 GMT */
static bool
read_rfc850(const char **text, HttpDate *date)
{
	if (!(read_long_weekday(text) && read_literal(text, ", ") && read_number(text, 2, &date->day) &&
		  read_literal(text, "-") && read_month(text, &date->month) && read_literal(text, "-") &&
		  read_number(text, 2, &date->year) && read_literal(text, " ") && read_time(text, date) &&
		  read_literal(text, " GMT")))
		return false;
	date->year += date->year < RFC850_PIVOT_YEAR ? 2000 : 1900;
	return true;
}

/* Sun Nov  6 08:49:37 1994 */
static bool
read_asctime(const char **text, HttpDate *date)
{
	if (!(read_short_weekday(text) && read_literal(text, " ") && read_month(text, &date->month) &&
		  read_literal(text, " ")))
		return false;
	if (read_literal(text, " "))
	{
		if (!read_number(text, 1, &date->day))
			return false;
	}
	else if (!read_number(text, 2, &date->day))
		return false;
	return read_literal(text, " ") && read_time(text, date) && read_literal(text, " ") &&
		   read_number(text, 4, &date->year);
}

/* Seconds since 1970; false when there is no such day or time. */
static bool
to_seconds(const HttpDate *date, int64_t *seconds)
{
	long long days;

	/* A second of 60 is a leap second. */
	if (date->hour > 23 || date->minute > 59 || date->second > 60 ||
		!pems_calendar_days(date->year, date->month, date->day, &days))
		return false;
	*seconds = days * PEMS_SECONDS_PER_DAY + date->hour * INT64_C(3600) +
			   date->minute * INT64_C(60) + date->second;
	return true;
}

static const char *
skip_blanks(const char *text)
{
	while (*text == ' ' || *text == '\t')
		text++;
	return text;
}

bool
pems_retry_read_http_date(const char *text, int64_t *seconds)
{
	typedef bool (*Reader)(const char **, HttpDate *);
	static const Reader readers[] = {read_imf_fixdate, read_rfc850, read_asctime};

	if (text == NULL)
		return false;
	text = skip_blanks(text);
	for (size_t i = 0; i < sizeof(readers) / sizeof(readers[0]); i++)
	{
		const char *rest = text;
		HttpDate date = {0};

		if (readers[i](&rest, &date) && *skip_blanks(rest) == '\0' && to_seconds(&date, seconds))
			return true;
	}
	return false;
}

/* ---------- Retry-After ---------- */

/* delay-seconds: digits and nothing else.  Saturates far above every bound. */
static bool
read_delay_seconds(const char *text, int64_t *seconds)
{
	int64_t value = 0;
	const char *begin = text = skip_blanks(text);

	for (; *text >= '0' && *text <= '9'; text++)
	{
		if (value < INT64_C(1000000000))
			value = value * 10 + (*text - '0');
	}
	*seconds = value;
	return text > begin && *skip_blanks(text) == '\0';
}

int64_t
pems_retry_after_ms(const char *value, const char *date, int64_t now)
{
	int64_t seconds;

	if (value == NULL)
		return PEMS_RETRY_AFTER_DEFAULT_MS;
	if (!read_delay_seconds(value, &seconds))
	{
		int64_t until;
		int64_t since = now;

		if (!pems_retry_read_http_date(value, &until))
			return PEMS_RETRY_AFTER_DEFAULT_MS;
		if (date != NULL)
			(void) pems_retry_read_http_date(date, &since);
		seconds = until - since;
	}
	if (seconds <= PEMS_RETRY_AFTER_MINIMUM_MS / 1000)
		return PEMS_RETRY_AFTER_MINIMUM_MS;
	if (seconds >= PEMS_RETRY_AFTER_MAXIMUM_MS / 1000)
		return PEMS_RETRY_AFTER_MAXIMUM_MS;
	return seconds * 1000;
}
