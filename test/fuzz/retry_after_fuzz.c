/*
 * retry_after_fuzz.c
 *		libFuzzer target: no Retry-After, with no Date, waits outside of the bounds.
 *
 * Input: eight bytes for our clock, Retry-After up to a NUL, then Date.
 */
#include "http/retry_after.h"
#include "pems/retry.h"

#include <stdlib.h>
#include <string.h>

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_wait(const char *value, const char *date, int64_t now)
{
	int64_t seconds = pems_http_retry_after_seconds(value, date, now);
	int64_t wait = pems_retry_after_ms(seconds);

	if (seconds < -1 || wait < PEMS_RETRY_AFTER_MINIMUM_MS || wait > PEMS_RETRY_AFTER_MAXIMUM_MS)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t clock;
	int64_t now;
	char *value;
	const char *date;

	if (size < sizeof(clock))
		return 0;
	memcpy(&clock, data, sizeof(clock));
	/* any clock within a million years of 1970 */
	now = (int64_t) (clock % UINT64_C(60000000000000)) - INT64_C(30000000000000);
	value = malloc(size - sizeof(clock) + 1);
	memcpy(value, data + sizeof(clock), size - sizeof(clock));
	value[size - sizeof(clock)] = '\0';
	date = value + strlen(value);
	if (date < value + size - sizeof(clock))
		date++;

	check_wait(value, date, now);
	check_wait(value, NULL, now);
	free(value);
	return 0;
}
