/*
 * pems/absence.c
 *		May records that a listing did not show be marked; see absence.h.
 *
 * Pure; any process.  No memory is allocated.
 */
#include "pems/absence.h"

#include <inttypes.h>

/* Records of an organization; more would not fit into a table, and times 100 it is no overflow. */
#define RECORDS_MAXIMUM (INT64_MAX / 100)

static int64_t
between(int64_t value, int64_t least, int64_t most)
{
	return value < least ? least : value > most ? most : value;
}

bool
pems_absence_may_mark(int64_t known, int64_t missing, int max_missing, PemsSentence *why)
{
	int64_t percent = between(max_missing, 0, 100);

	known = between(known, 0, RECORDS_MAXIMUM);
	missing = between(missing, 0, RECORDS_MAXIMUM);
	/* exact: 10 of 100 are 10 percent, and not more */
	if (missing * 100 <= known * percent)
		return true;
	pems_sentence_add(why,
					  "PEMS's listing does not show %" PRId64 " of %" PRId64
					  " records, more than %" PRId64
					  " %% (pems_sync.pull_max_missing): none of them was marked as deleted, "
					  "because the listing may be incomplete",
					  missing, known, percent);
	return false;
}
