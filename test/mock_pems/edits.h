/*
 * edits.h
 *		Edits that somebody else makes in PEMS, past the protocol.
 */
#ifndef MOCK_EDITS_H
#define MOCK_EDITS_H

#include <stdint.h>

#include "record/json.h"
#include "store.h"

typedef struct MockServer MockServer;

/* NULL: the JSON is an edit; else a sentence. */
extern const char *mock_edit_check(const JsonNode *node);
/* Make the edit, and log it.  NULL and its version, or why not. */
extern const char *mock_edit_make(MockServer *server, const JsonNode *node, int64_t *version);
/* The record becomes that state, whose data are taken over; what a log line needs besides. */
extern void mock_edit_put(MockServer *server, MockOrganization *organization, const char *pfa_id,
						  const MockRecordState *state, const char *user);

#endif /* MOCK_EDITS_H */
