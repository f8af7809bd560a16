/*
 * sending/share.h
 *		Whose turn it is on an endpoint that several organizations use.
 *
 * Pure.
 */
#ifndef PEMS_SHARE_H
#define PEMS_SHARE_H

#include <stddef.h>

/*
 * Divide `capacity` request slots among `count` organizations with work, one each in turn,
 * beginning behind the one served last (*cursor, an index that is moved on).  wanted[i] bounds what
 * organization i can use; grants[i] receives its share.  Returns the number of slots given.
 */
extern int pems_share_slots(int capacity, size_t count, const int *wanted, size_t *cursor,
							int *grants);

#endif /* PEMS_SHARE_H */
