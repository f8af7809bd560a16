/*
 * text.h
 *		JSON objects written member by member into a JsonBuffer.
 *
 * A comma is written before a member unless the object or array was just opened.
 * An empty buffer counts as "something stands before": the journal puts the
 * beginning of a line in front later.
 */
#ifndef MOCK_TEXT_H
#define MOCK_TEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "record/json.h"

/* Make room in an empty buffer at once, which saves growing step by step. */
extern void mock_text_reserve(JsonBuffer *out, size_t capacity);
extern void mock_text_comma(JsonBuffer *out);
extern void mock_text_key(JsonBuffer *out, const char *key);
extern void mock_text_integer(JsonBuffer *out, int64_t value);
extern void mock_text_string(JsonBuffer *out, const char *value); /* NULL: null */

extern void mock_text_add_string(JsonBuffer *out, const char *key, const char *value);
extern void mock_text_add_integer(JsonBuffer *out, const char *key, int64_t value);
extern void mock_text_add_boolean(JsonBuffer *out, const char *key, bool value);
extern void mock_text_add_time(JsonBuffer *out, const char *key, int64_t wall_us);
extern void mock_text_add_raw(JsonBuffer *out, const char *key, const char *json, size_t length);
extern void mock_text_add_node(JsonBuffer *out, const char *key, const JsonNode *node);

/* The text of a member that is a string, else NULL. */
extern const char *mock_text_get_string(const JsonNode *object, const char *key);

/*
 * Undo percent escapes; one that is none stays as it stands.  *length becomes the
 * length of the result, which may hold NUL bytes and has one behind its end.
 */
extern char *mock_text_unescape(const char *text, size_t text_length, size_t *length);

/* What is left of bytes that need not be UTF-8: everything else becomes '?'. */
extern void mock_text_replace_invalid(char *text);

#endif /* MOCK_TEXT_H */
