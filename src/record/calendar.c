/*
 * record/calendar.c
 *		Days and instants; see calendar.h.
 *
 * Pure; any process.  No memory is allocated.  ctype.h and strptime() ask the locale, so neither
 * is used.
 */
#include "record/calendar.h"

/* ---------- days ---------- */

static int
days_in_month(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return month == 2 && leap ? 29 : days[month - 1];
}

bool
pems_calendar_days(int year, int month, int day, long long *days)
{
	int earlier = year - 1;

	if (year < 1 || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month))
		return false;
	/* 719162 days lie between 0001-01-01 and 1970-01-01. */
	*days = earlier * 365LL + earlier / 4 - earlier / 100 + earlier / 400 - 719162;
	for (int i = 1; i < month; i++)
		*days += days_in_month(year, i);
	*days += day - 1;
	return true;
}

/* ---------- ISO 8601: each reader moves the cursor behind what it has read ---------- */

/* Read exactly count digits and move the cursor behind them. */
static bool
read_digits(const char **cursor, int count, int *value)
{
	*value = 0;
	while (count-- > 0)
	{
		if (**cursor < '0' || **cursor > '9')
			return false;
		*value = *value * 10 + (*(*cursor)++ - '0');
	}
	return true;
}

static bool
skip(const char **cursor, char c)
{
	if (**cursor != c)
		return false;
	(*cursor)++;
	return true;
}

/* YYYY-MM-DD */
static bool
read_day(const char **cursor, long long *days)
{
	int year;
	int month;
	int day;

	if (!read_digits(cursor, 4, &year) || !skip(cursor, '-') || !read_digits(cursor, 2, &month) ||
		!skip(cursor, '-') || !read_digits(cursor, 2, &day))
		return false;
	return pems_calendar_days(year, month, day, days);
}

/* ".5" and so on, if it is there: nanoseconds, what is finer is cut off. */
static bool
read_fraction(const char **cursor, long *nanoseconds)
{
	long unit = 100000000;

	*nanoseconds = 0;
	if (!skip(cursor, '.'))
		return true;
	if (**cursor < '0' || **cursor > '9')
		return false;
	for (; **cursor >= '0' && **cursor <= '9'; (*cursor)++)
	{
		*nanoseconds += (**cursor - '0') * unit;
		unit /= 10;
	}
	return true;
}

/* hh:mm, hh:mm:ss or hh:mm:ss.fraction */
static bool
read_time(const char **cursor, int *seconds, long *nanoseconds)
{
	int hour;
	int minute;
	int second = 0;

	*nanoseconds = 0;
	if (!read_digits(cursor, 2, &hour) || !skip(cursor, ':') || !read_digits(cursor, 2, &minute))
		return false;
	if (skip(cursor, ':') &&
		(!read_digits(cursor, 2, &second) || !read_fraction(cursor, nanoseconds)))
		return false;
	if (hour > 23 || minute > 59 || second > 59)
		return false;
	*seconds = (hour * 60 + minute) * 60 + second;
	return true;
}

/* Z, +hh, +hhmm, +hh:mm or nothing, which means UTC; seconds east of Greenwich. */
static bool
read_zone(const char **cursor, int *offset)
{
	bool west = **cursor == '-';
	int hours;
	int minutes = 0;

	*offset = 0;
	if (skip(cursor, 'Z') || skip(cursor, 'z') || **cursor == '\0')
		return true;
	if (!skip(cursor, '+') && !skip(cursor, '-'))
		return false;
	if (!read_digits(cursor, 2, &hours))
		return false;
	if ((skip(cursor, ':') || **cursor != '\0') && !read_digits(cursor, 2, &minutes))
		return false;
	if (hours > 15 || minutes > 59)
		return false;
	*offset = (hours * 60 + minutes) * (west ? -60 : 60);
	return true;
}

/* What a text says: a day, a time on it, and where that is. */
typedef struct Reading
{
	long long days; /* since 1970-01-01, as it is written */
	int seconds;
	long nanoseconds;
	int offset; /* seconds east of Greenwich */
} Reading;

static bool
read_day_and_time(const char *text, Reading *reading)
{
	const char *cursor = text;

	*reading = (Reading){0};
	if (!read_day(&cursor, &reading->days))
		return false;
	if (*cursor == '\0')
		return true;
	if (!skip(&cursor, 'T') && !skip(&cursor, 't') && !skip(&cursor, ' '))
		return false;
	return read_time(&cursor, &reading->seconds, &reading->nanoseconds) &&
		   read_zone(&cursor, &reading->offset) && *cursor == '\0';
}

bool
pems_calendar_read_instant(const char *text, PemsInstant *instant)
{
	Reading reading;

	if (!read_day_and_time(text, &reading))
		return false;
	instant->seconds = reading.days * PEMS_SECONDS_PER_DAY + reading.seconds - reading.offset;
	instant->nanoseconds = reading.nanoseconds;
	return true;
}

bool
pems_calendar_read_day(const char *text, PemsInstant *midnight)
{
	Reading reading;

	if (!read_day_and_time(text, &reading))
		return false;
	*midnight = (PemsInstant){.seconds = reading.days * PEMS_SECONDS_PER_DAY};
	return true;
}

int
pems_calendar_compare(const PemsInstant *a, const PemsInstant *b)
{
	if (a->seconds != b->seconds)
		return a->seconds < b->seconds ? -1 : 1;
	if (a->nanoseconds != b->nanoseconds)
		return a->nanoseconds < b->nanoseconds ? -1 : 1;
	return 0;
}
