/*
 * sending/cursor.c
 *		Where the next claim of an organization begins in its queue.
 *
 * Pure: no PostgreSQL, no I/O, no clock.
 */
#include "sending/cursor.h"

#include <string.h>

static bool
is_behind(const PemsPosition *position, const PemsPosition *other)
{
	return position->scheduled_at > other->scheduled_at ||
		   (position->scheduled_at == other->scheduled_at &&
			position->commit_seq > other->commit_seq);
}

void
pems_cursor_start_over(PemsCursor *cursor)
{
	cursor->thorough = true;
	for (int i = 0; i < PEMS_PRIORITIES; i++)
		cursor->passed[i] = cursor->after[i] = (PemsPosition){PEMS_CURSOR_BEGINNING, 0};
}

void
pems_cursor_move_on(PemsCursor *cursor, int priority, PemsPosition claimed)
{
	if (is_behind(&claimed, &cursor->after[priority]))
		cursor->after[priority] = claimed;
}

static void
move_back(PemsPosition *position, int64_t scheduled_since)
{
	if (position->scheduled_at >= scheduled_since)
		*position = (PemsPosition){scheduled_since, INT64_MIN};
}

/* Nobody says of which priority the items are. */
static void
go_back(PemsCursor *cursor, int64_t scheduled_since)
{
	for (int i = 0; i < PEMS_PRIORITIES; i++)
	{
		move_back(&cursor->after[i], scheduled_since);
		move_back(&cursor->passed[i], scheduled_since);
	}
}

void
pems_cursor_announce(PemsCursor *cursor, int64_t scheduled_since)
{
	go_back(cursor, scheduled_since);
	if (scheduled_since < cursor->announced_since)
		cursor->announced_since = scheduled_since;
}

bool
pems_cursor_look_twice(PemsCursor *cursor)
{
	if (cursor->announced_since == PEMS_CURSOR_NEVER)
		return false;
	go_back(cursor, cursor->announced_since);
	cursor->announced_since = PEMS_CURSOR_NEVER;
	return true;
}

bool
pems_cursor_make_thorough(PemsCursor *cursor)
{
	bool useful = false;

	for (int i = 0; i < PEMS_PRIORITIES; i++)
		useful |= is_behind(&cursor->after[i], &cursor->passed[i]);
	cursor->thorough |= useful;
	return useful;
}

void
pems_cursor_was_thorough(PemsCursor *cursor, const PemsPosition *first)
{
	memcpy(cursor->after, first, sizeof(cursor->after));
	memcpy(cursor->passed, first, sizeof(cursor->passed));
	cursor->thorough = false;
}
