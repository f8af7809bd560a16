/*
 * clock.c
 *		The two clocks, and times as text.
 *
 * The calendar is computed here and not by gmtime(): that one takes a lock that
 * all threads share, and every logged request formats two times.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"

#define SECONDS_PER_DAY         86400
#define MICROSECONDS_PER_SECOND INT64_C(1000000)

typedef struct CalendarDay
{
	int year;
	int month; /* 1 to 12 */
	int day;   /* 1 to 31 */
} CalendarDay;

static int64_t
read_clock(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64_t) now.tv_sec * MICROSECONDS_PER_SECOND + now.tv_nsec / 1000;
}

int64_t
mock_clock_monotonic_us(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

int64_t
mock_clock_wall_us(void)
{
	return read_clock(CLOCK_REALTIME);
}

/* Days since 1970-01-01, by counting in years that begin in March (the leap day comes last). */
static int64_t
day_number(CalendarDay date)
{
	int64_t year = date.month <= 2 ? date.year - 1 : date.year;
	int64_t era = (year >= 0 ? year : year - 399) / 400;
	int64_t year_of_era = year - era * 400;
	int64_t month = (date.month + 9) % 12;
	int64_t day_of_year = (153 * month + 2) / 5 + date.day - 1;

	return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
		   719468;
}

static CalendarDay
calendar_day(int64_t days)
{
	int64_t shifted = days + 719468;
	int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
	int64_t day = shifted - era * 146097;
	int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
	int64_t day_of_year = day - (365 * year + year / 4 - year / 100);
	int64_t month = (5 * day_of_year + 2) / 153;
	CalendarDay date;

	date.day = (int) (day_of_year - (153 * month + 2) / 5 + 1);
	date.month = (int) (month < 10 ? month + 3 : month - 9);
	date.year = (int) (year + era * 400 + (date.month <= 2 ? 1 : 0));
	return date;
}

/* Write value with exactly that many digits; return the place behind them. */
static char *
put_digits(char *out, int64_t value, int digits)
{
	for (int i = digits - 1; i >= 0; i--)
	{
		out[i] = (char) ('0' + value % 10);
		value /= 10;
	}
	return out + digits;
}

static int64_t
floor_divide(int64_t value, int64_t divisor)
{
	return value / divisor - (value % divisor < 0 ? 1 : 0);
}

void
mock_clock_format_iso(int64_t wall_us, char *out)
{
	int64_t seconds = floor_divide(wall_us, MICROSECONDS_PER_SECOND);
	int64_t days = floor_divide(seconds, SECONDS_PER_DAY);
	int64_t second = seconds - days * SECONDS_PER_DAY;
	CalendarDay date = calendar_day(days);

	out = put_digits(out, date.year, 4);
	*out++ = '-';
	out = put_digits(out, date.month, 2);
	*out++ = '-';
	out = put_digits(out, date.day, 2);
	*out++ = 'T';
	out = put_digits(out, second / 3600, 2);
	*out++ = ':';
	out = put_digits(out, second / 60 % 60, 2);
	*out++ = ':';
	out = put_digits(out, second % 60, 2);
	*out++ = '.';
	out = put_digits(out, wall_us - seconds * MICROSECONDS_PER_SECOND, 6);
	*out++ = 'Z';
	*out = '\0';
}

void
mock_clock_format_http(int64_t seconds, char *out)
{
	static const char weekdays[7][4] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"};
	static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
									   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	int64_t days = floor_divide(seconds, SECONDS_PER_DAY);
	int second = (int) (seconds - days * SECONDS_PER_DAY);
	CalendarDay date = calendar_day(days);
	int weekday = (int) (days - floor_divide(days, 7) * 7);
	char text[64];

	snprintf(text, sizeof(text), "%s, %02d %s %04d %02d:%02d:%02d GMT", weekdays[weekday], date.day,
			 months[date.month - 1], date.year, second / 3600, second / 60 % 60, second % 60);
	memcpy(out, text, MOCK_CLOCK_HTTP_SIZE - 1);
	out[MOCK_CLOCK_HTTP_SIZE - 1] = '\0';
}

/* Exactly that many digits; NULL when there are fewer. */
static const char *
take_digits(const char *text, int digits, int *value)
{
	*value = 0;
	for (; digits > 0; digits--, text++)
	{
		if (*text < '0' || *text > '9')
			return NULL;
		*value = *value * 10 + (*text - '0');
	}
	return text;
}

static const char *
take_numbers(const char *text, const char *pattern, int *values)
{
	/* pattern: '4' and '2' are fields of that many digits, the rest stands for itself */
	for (; *pattern != '\0' && text != NULL; pattern++)
	{
		if (*pattern == '4' || *pattern == '2')
			text = take_digits(text, *pattern - '0', values++);
		else if (*text == *pattern)
			text++;
		else
			return NULL;
	}
	return text;
}

/* ".123456789": digits beyond the sixth are cut off */
static const char *
take_fraction(const char *text, int *microseconds)
{
	int scale = 100000;

	*microseconds = 0;
	if (*text != '.')
		return text;
	text++;
	if (*text < '0' || *text > '9')
		return NULL;
	for (; *text >= '0' && *text <= '9'; text++, scale /= 10)
		*microseconds += (*text - '0') * scale;
	return text;
}

/* "Z" or "+01:00" at the end of the text */
static bool
take_offset(const char *text, int *seconds)
{
	int parts[2];

	*seconds = 0;
	if (strcmp(text, "Z") == 0)
		return true;
	if (*text != '+' && *text != '-')
		return false;
	const char *rest = take_numbers(text + 1, "2:2", parts);

	if (rest == NULL || *rest != '\0' || parts[0] > 23 || parts[1] > 59)
		return false;
	*seconds = (parts[0] * 60 + parts[1]) * (*text == '-' ? -60 : 60);
	return true;
}

bool
mock_clock_parse_iso(const char *text, int64_t *wall_us)
{
	int parts[6];
	int fraction = 0;
	int offset = 0;
	const char *rest = take_numbers(text, "4-2-2T2:2:2", parts);
	CalendarDay date;

	if (rest == NULL)
		return false;
	rest = take_fraction(rest, &fraction);
	if (rest == NULL || !take_offset(rest, &offset))
		return false;
	if (parts[1] < 1 || parts[1] > 12 || parts[2] < 1 || parts[2] > 31 || parts[3] > 23 ||
		parts[4] > 59 || parts[5] > 60)
		return false;
	date = (CalendarDay){.year = parts[0], .month = parts[1], .day = parts[2]};
	*wall_us =
		(day_number(date) * SECONDS_PER_DAY + parts[3] * 3600 + parts[4] * 60 + parts[5] - offset) *
			MICROSECONDS_PER_SECOND +
		fraction;
	return true;
}
