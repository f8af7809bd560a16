/*
 * sending/share.c
 *		Whose turn it is on an endpoint; see share.h.
 *
 * Pure; any process.  No memory is allocated.
 */
#include "sending/share.h"

#include <string.h>

/*
 * Give every organization up to `rounds` slots, as that many turns of one each would.  With more
 * than one round there are slots for all; with one round it may end early, at `capacity`.  Returns
 * the slots given and moves the cursor to who got the last.
 */
static int
share_rounds(int rounds, int capacity, size_t count, const int *wanted, size_t *cursor, int *grants)
{
	size_t begin = *cursor;
	int most = 0;
	int given = 0;

	for (size_t i = 1; i <= count && given < capacity; i++)
	{
		size_t who = (begin + i) % count;
		int rest = wanted[who] - grants[who];
		int share = rest < rounds ? rest : rounds;

		if (share <= 0)
			continue;
		grants[who] += share;
		given += share;
		if (share >= most)
		{
			most = share;
			*cursor = who;
		}
	}
	return given;
}

int
pems_share_slots(int capacity, size_t count, const int *wanted, size_t *cursor, int *grants)
{
	size_t begin;
	int total = 0;

	for (size_t i = 0; i < count; i++)
		grants[i] = 0;
	if (count == 0)
		return 0;
	begin = *cursor % count;

	while (total < capacity)
	{
		size_t unserved = 0;
		int left = capacity - total;
		int rounds;

		for (size_t i = 0; i < count; i++)
			unserved += wanted[i] > grants[i] ? 1 : 0;
		if (unserved == 0)
			break;
		/* As many whole rounds as the slots last for; then what is left of one. */
		rounds = unserved > (size_t) left ? 1 : left / (int) unserved;
		*cursor = begin;
		total += share_rounds(rounds, left, count, wanted, cursor, grants);
	}
	return total;
}
