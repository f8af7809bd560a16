/*
 * record/json_reader.h
 *		What the files of the JSON reader share: json.c calls json_string.c and json_value.c.
 *		Nobody else includes it.
 */
#ifndef PEMS_JSON_READER_H
#define PEMS_JSON_READER_H

#include "record/json.h"

/*
 * Decode a string: the text between its quotes, which ends before `stop`.  Writes to *out,
 * which has pems_json_decoded_size() bytes, and moves *out behind what was written.
 *
 * False when the string is refused, and then *error says why.  With `lenient`, what jsonb
 * cannot hold is U+FFFD instead (json.h has the list), and *unstorable says why, if it was NULL.
 */
extern bool pems_json_decode_string(const char *text, const char *stop, bool lenient, char **out,
									const char **error, const char **unstorable);

/* Bytes that the string may have when it is decoded, at most. */
extern size_t pems_json_decoded_size(const char *text, const char *stop, bool lenient);

/*
 * Behind the last member of an object: sort the members into object->sorted, an array of
 * object->count pointers that the caller has allocated, and drop all but the last of each key.
 */
extern void pems_json_index_members(JsonNode *object);

#endif /* PEMS_JSON_READER_H */
