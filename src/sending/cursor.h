/*
 * sending/cursor.h
 *		Where the next claim of an organization begins in its queue.
 *
 * Pure.
 *
 * The problem: the ready items of an organization stand in order (priority, schedule, commit
 * order).  If each claim looked for the first ones from the beginning, it would walk over the dead
 * versions of all that was claimed before, again and again, until a vacuum has removed them.
 *
 * The idea: a claim goes on where the last one ended.
 *
 *		order:    1   2   3   4   5   6   7   8
 *		          c   c   L   c   c   .   .   .      c claimed, L locked by a session, . ready
 *		              ^           ^
 *		              |           after: the next claim begins behind 5
 *		              passed: all up to 2 was claimed; between passed and after some may be left
 *
 * The rules:
 *	- What becomes ready further ahead is announced with its schedule, and the cursor goes back to
 *	  it.  Twice, because a session may still have had the item locked at the first look.
 *	- What a claim passed over because a session had it locked, and let go without a change, is
 *	  announced by nobody.  So now and then a claim is thorough: it begins behind `passed`.
 *	- Each priority has positions of its own.
 */
#ifndef PEMS_CURSOR_H
#define PEMS_CURSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/position.h"

#define PEMS_CURSOR_BEGINNING INT64_MIN
#define PEMS_CURSOR_NEVER     INT64_MAX

typedef struct PemsCursor
{
	PemsPosition after[PEMS_PRIORITIES];  /* the next claim begins behind these */
	PemsPosition passed[PEMS_PRIORITIES]; /* nothing there or before is ready */
	bool thorough;                        /* the next claim begins behind `passed` */
	int64_t announced_since; /* the earliest that was announced since the last second look */
} PemsCursor;

/* Anything may be ready anywhere. */
extern void pems_cursor_start_over(PemsCursor *cursor);
/* An item was claimed. */
extern void pems_cursor_move_on(PemsCursor *cursor, int priority, PemsPosition claimed);
/* Items became ready, scheduled for that time or later. */
extern void pems_cursor_announce(PemsCursor *cursor, int64_t scheduled_since);
/* Go back to what was announced since the last call.  False: nothing was. */
extern bool pems_cursor_look_twice(PemsCursor *cursor);
/* Let the next claim be thorough, if it could find anything by that. */
extern bool pems_cursor_make_thorough(PemsCursor *cursor);
/* A thorough claim found its first ready items behind these positions. */
extern void pems_cursor_was_thorough(PemsCursor *cursor, const PemsPosition *first);

#endif /* PEMS_CURSOR_H */
