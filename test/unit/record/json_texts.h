/*
 * record/json_texts.h
 *		What the tests of the JSON files share: parsing a text in one line, and building long ones.
 */
#ifndef JSON_TEXTS_H
#define JSON_TEXTS_H

#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "record/json.h"

/* Why a value cannot be held by jsonb: the sentences of the reader. */
#define TOO_LARGE "a number is too large for the database"
#define DIGITS    "a number has more than 1000 digits"
#define BAD_UTF8  "a text is not valid UTF-8"
#define NUL       "a text has \\u0000 in it, which the database cannot hold"
#define SURROGATE "a text has half a character in it (a lone surrogate)"
#define TOO_DEEP  "a value is nested too deeply"
#define FFFD      "\xef\xbf\xbd"

/* Does the text parse?  Checks on the way that a refusal says why and leaves nothing. */
static inline bool
parses_bytes(const char *text, size_t length)
{
	JsonDocument document;
	const char *error = NULL;

	if (pems_json_parse(text, length, &document, &error))
	{
		pems_json_free(&document);
		return true;
	}
	CHECK(error != NULL);
	CHECK(document.root == NULL && document.arena.newest == NULL);
	return false;
}

/* A copy of its exact size, so that the sanitizer sees a step behind the end. */
static inline char *
exact_copy(const char *text, size_t length)
{
	char *copy = malloc(length ? length : 1);

	memcpy(copy, text, length);
	return copy;
}

static inline bool
parses(const char *text)
{
	size_t length = strlen(text);
	char *copy = exact_copy(text, length);
	bool parsed = parses_bytes(copy, length);

	free(copy);
	return parsed;
}

/* text parsed and written again, in a static buffer; "(refused)" when it does not parse. */
static inline const char *
rewritten(const char *text)
{
	static char result[4096];
	JsonDocument document;
	JsonBuffer buffer = {0};

	if (!pems_json_parse(text, strlen(text), &document, NULL))
		return "(refused)";
	pems_json_append_node(&buffer, document.root);
	snprintf(result, sizeof(result), "%s", buffer.data);
	pems_json_buffer_free(&buffer);
	pems_json_free(&document);
	return result;
}

static inline bool
equal(const char *a, const char *b)
{
	JsonDocument left;
	JsonDocument right;
	bool result;

	if (!CHECK(pems_json_parse(a, strlen(a), &left, NULL)))
		return false;
	if (!CHECK(pems_json_parse(b, strlen(b), &right, NULL)))
	{
		pems_json_free(&left);
		return false;
	}
	result = pems_json_equal(left.root, right.root);
	CHECK(result == pems_json_equal(right.root, left.root));
	pems_json_free(&left);
	pems_json_free(&right);
	return result;
}

/* before, then count times unit, then after; malloc'ed. */
static inline char *
repeated(const char *before, const char *unit, size_t count, const char *after)
{
	JsonBuffer buffer = {0};
	size_t i;

	pems_json_append_text(&buffer, before);
	for (i = 0; i < count; i++)
		pems_json_append_text(&buffer, unit);
	pems_json_append_text(&buffer, after);
	return buffer.data;
}

/* Why the document's root cannot be held; "" when it can, "(refused)" when it does not parse. */
static inline const char *
reason(const char *text, bool lenient)
{
	size_t length = strlen(text);
	char *copy = exact_copy(text, length);
	JsonDocument document;
	const char *error = NULL;
	const char *result = "(refused)";

	if (lenient ? pems_json_parse_lenient(copy, length, &document, &error)
				: pems_json_parse(copy, length, &document, &error))
	{
		result = document.root->unstorable ? document.root->unstorable : "";
		pems_json_free(&document);
	}
	else
		CHECK(error != NULL);
	free(copy);
	return result;
}

/* text read leniently and written again, in a static buffer; "(refused)" when it does not parse. */
static inline const char *
lenient(const char *text)
{
	static char result[4096];
	size_t length = strlen(text);
	char *copy = exact_copy(text, length);
	JsonDocument document;
	JsonBuffer buffer = {0};

	snprintf(result, sizeof(result), "(refused)");
	if (pems_json_parse_lenient(copy, length, &document, NULL))
	{
		pems_json_append_node(&buffer, document.root);
		snprintf(result, sizeof(result), "%s", buffer.data);
		pems_json_buffer_free(&buffer);
		pems_json_free(&document);
	}
	free(copy);
	return result;
}

/* Levels of nesting around inner, without what closes them. */
static inline char *
nested(size_t levels, const char *inner, const char *closing)
{
	char *opened = repeated("", "[", levels, inner);
	char *whole = repeated(opened, closing, levels, "");

	free(opened);
	return whole;
}

static inline double
seconds_since(clock_t start)
{
	return (double) (clock() - start) / CLOCKS_PER_SEC;
}

#endif /* JSON_TEXTS_H */
