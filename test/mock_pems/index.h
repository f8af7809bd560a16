/*
 * index.h
 *		The records of one organization in the order of read many: (updatedAt, pfaId).
 *
 * A treap whose nodes are the records themselves, so that a page in the middle
 * of a million records costs what a page at the beginning costs, and a write
 * moves its record for a few pointer changes.  The caller holds the
 * organization's lock.
 */
#ifndef MOCK_INDEX_H
#define MOCK_INDEX_H

#include <stdbool.h>
#include <stdint.h>

typedef struct MockRecord MockRecord;

/* A place between records: everything up to and with (updated_at, pfa_id) is before it. */
typedef struct MockPosition
{
	int64_t updated_at;
	const char *pfa_id; /* NULL: before all records of that time */
} MockPosition;

/* False: stop. */
typedef bool (*MockIndexVisit)(const MockRecord *record, void *context);

extern void mock_index_insert(MockRecord **root, MockRecord *record);
extern void mock_index_remove(MockRecord **root, const MockRecord *record);
/* Is a record of that time and name behind the position? */
extern bool mock_index_behind(int64_t updated_at, const char *pfa_id, const MockPosition *position);
/* Visit the records behind position in order; false when a visit said stop. */
extern bool mock_index_walk(const MockRecord *root, const MockPosition *position,
							MockIndexVisit visit, void *context);

#endif /* MOCK_INDEX_H */
