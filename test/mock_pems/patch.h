/*
 * patch.h
 *		Applying the changes of a write to a record's JSON text.
 *
 * Pure.  Objects merge field by field at every depth; anything else, null and
 * arrays too, replaces what was there.
 */
#ifndef MOCK_PATCH_H
#define MOCK_PATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "record/json.h"

/*
 * Append data with changes to out.  round_numbers: numbers among the changes
 * are stored as integers ("PEMS may round").  False: data is no JSON object.
 */
extern bool mock_patch_apply(const char *data, size_t length, const JsonNode *changes,
							 bool round_numbers, JsonBuffer *out);

/* Append a JSON array: the changed fields whose present value is another one. */
extern void mock_patch_differences(const char *data, size_t length, const JsonNode *changes,
								   JsonBuffer *out);

#endif /* MOCK_PATCH_H */
