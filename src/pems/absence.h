/*
 * pems/absence.h
 *		May records that a complete listing did not show be marked as deleted?
 *
 * Pure; any process.  No memory is allocated.  A listing that was cut off, or a permission that was
 * lost, must not empty a mirror.
 */
#ifndef PEMS_ABSENCE_H
#define PEMS_ABSENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "pems/sentence.h"

/*
 * known: records of the organization in the mirror that the listing had to show; missing: those of
 * them that it did not; max_missing: how many percent may be missing (0 to 100).
 *
 * True: they may be asked for, one by one, and marked.  False: none of them may, and the sentence,
 * an empty one, becomes why.
 */
extern bool pems_absence_may_mark(int64_t known, int64_t missing, int max_missing,
								  PemsSentence *why);

#endif /* PEMS_ABSENCE_H */
