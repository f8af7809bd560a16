/*
 * clock.h
 *		The two clocks, and times as text.
 *
 * Times of day are microseconds since 1970 in UTC.
 */
#ifndef MOCK_CLOCK_H
#define MOCK_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define MOCK_CLOCK_ISO_SIZE  28 /* "2026-01-31T23:59:59.123456Z" and NUL */
#define MOCK_CLOCK_HTTP_SIZE 30 /* "Sun, 06 Nov 1994 08:49:37 GMT" and NUL */

extern int64_t mock_clock_monotonic_us(void);
extern int64_t mock_clock_wall_us(void);

/* Year 0 to 9999; out holds MOCK_CLOCK_ISO_SIZE bytes. */
extern void mock_clock_format_iso(int64_t wall_us, char *out);
/* RFC 3339 with Z or an offset; false when the text is anything else. */
extern bool mock_clock_parse_iso(const char *text, int64_t *wall_us);
/* The date of an HTTP header; out holds MOCK_CLOCK_HTTP_SIZE bytes. */
extern void mock_clock_format_http(int64_t seconds, char *out);

#endif /* MOCK_CLOCK_H */
