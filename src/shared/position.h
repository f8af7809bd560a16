/*
 * shared/position.h
 *		Where an item stands among those of its organization and priority.
 *
 * Pure.  Items are sent in the order of their schedules; of those with one schedule, the one that
 * was committed first goes first.
 */
#ifndef PEMS_POSITION_H
#define PEMS_POSITION_H

#include <stdint.h>

/* Priorities that an item can have, best first: high, normal, low. */
#define PEMS_PRIORITIES 3

typedef struct PemsPosition
{
	int64_t scheduled_at; /* a TimestampTz */
	int64_t commit_seq;
} PemsPosition;

#endif /* PEMS_POSITION_H */
