/*
 * cursor.h
 *		The cursor of read many: a position in the order of the records, as opaque text.
 *
 * Ordinary base64, on purpose: '+', '/' and '=' punish a client that does not
 * escape what it puts into a URL.
 */
#ifndef MOCK_CURSOR_H
#define MOCK_CURSOR_H

#include "index.h"
#include "record/json.h"

/*
 * Append the cursor of a page as a JSON string.  The number of the page makes cursors
 * of one place differ, and lets a fault choose its page.
 */
extern void mock_cursor_append(JsonBuffer *out, int64_t page, const MockPosition *position);
/* position->pfa_id points to *storage, to be freed.  False: this was never a cursor. */
extern bool mock_cursor_parse(const char *text, int64_t *page, MockPosition *position,
							  char **storage);

#endif /* MOCK_CURSOR_H */
