/*
 * record/calendar.h
 *		Days and instants: the calendar of the project, and ISO 8601 texts.
 *
 * Pure; any process.  No memory is allocated, and no locale or time zone of the machine matters.
 * The calendar is the Gregorian one, also for the years before it was introduced.
 */
#ifndef PEMS_CALENDAR_H
#define PEMS_CALENDAR_H

#include <stdbool.h>

#define PEMS_SECONDS_PER_DAY 86400LL

/* An instant: seconds since 1970-01-01 UTC and nanoseconds (0 to 999999999). */
typedef struct PemsInstant
{
	long long seconds;
	long nanoseconds;
} PemsInstant;

/*
 * Days from 1970-01-01 to this one, negative before.  False when there is no such day: month is
 * 1 to 12, day counts from 1, year is at least 1.
 */
extern bool pems_calendar_days(int year, int month, int day, long long *days);

/*
 * Read "2025-01-15", "2025-01-15T00:00:00Z", "2025-01-15T00:00:00.5+02:00" (also
 * with a blank for T, without seconds, +0200, +02, or no zone = UTC).  Digits
 * behind the nanosecond are cut off.  False when the text is none of these, when
 * the calendar has no such day, and for 24:00:00 and a leap second.
 */
extern bool pems_calendar_read_instant(const char *text, PemsInstant *instant);

/*
 * Read the same texts for their day, as it is written, whatever time and zone follow: the
 * midnight UTC that begins it.
 */
extern bool pems_calendar_read_day(const char *text, PemsInstant *midnight);

/* -1, 0 or 1 */
extern int pems_calendar_compare(const PemsInstant *a, const PemsInstant *b);

#endif /* PEMS_CALENDAR_H */
