/*
 * json_fuzz.c
 *		libFuzzer target of the JSON reader: what parses is written as a text that
 *		parses to an equal value, and so is every value's raw text.  The lenient parser
 *		reads the same, and more; what it does not call unstorable, the strict one reads.
 */
#include <stdint.h>
#include <stdlib.h>

#include "record/json.h"
#include "record/number.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* abort() is what the fuzzer notices. */
static void
require(bool holds)
{
	if (!holds)
		abort();
}

static void
require_equal_text(const JsonNode *node, const char *text, size_t length)
{
	JsonDocument document;

	require(pems_json_parse(text, length, &document, NULL));
	require(pems_json_equal(node, document.root));
	require(pems_json_equal(document.root, node));
	pems_json_free(&document);
}

/* What every node promises, and each member is found by its key. */
static void
walk(const JsonNode *node)
{
	const JsonNode *child;
	size_t count = 0;
	long long integer;

	if (pems_json_integer(node, &integer))
		require(pems_json_is_integral(node));
	if (node->kind == JSON_KIND_NUMBER)
		require(pems_number_compare(node->text, node->text) == 0);
	for (child = node->first; child; child = child->next)
	{
		count++;
		require((child->key != NULL) == (node->kind == JSON_KIND_OBJECT));
		if (child->key)
			require(pems_json_get(node, child->key) == child);
		walk(child);
	}
	require(count == node->count);
}

/*
 * A value that jsonb can hold is read by the strict parser; one that it cannot hold makes what is
 * around it such a value, too.
 */
static void
check_lenient(const JsonNode *node)
{
	const JsonNode *child;

	if (node->unstorable == NULL)
		require_equal_text(node, node->raw, node->raw_length);
	for (child = node->first; child; child = child->next)
	{
		require(child->unstorable == NULL || node->unstorable != NULL);
		if (child->unstorable)
			check_lenient(child);
	}
}

/* What both have is the same, and below the outer levels there is nothing. */
static void
require_same_outer(const JsonNode *outer, const JsonNode *whole, size_t levels)
{
	const JsonNode *a = outer->first;
	const JsonNode *b;

	if (whole == NULL)
		abort();
	b = whole->first;
	require(outer->kind == whole->kind && outer->raw == whole->raw);
	require(outer->raw_length == whole->raw_length && outer->unstorable == whole->unstorable);
	if (levels == 0)
	{
		require(a == NULL && outer->count == 0);
		return;
	}
	require(outer->count == whole->count);
	for (; a && b; a = a->next, b = b->next)
		require_same_outer(a, b, levels - 1);
	require(a == NULL && b == NULL);
}

/* lenient: what the lenient parser made of it, or NULL. */
static void
parse_outer_levels(const uint8_t *data, size_t size, const JsonNode *lenient)
{
	for (size_t levels = 1; levels <= 4; levels++)
	{
		JsonDocument document;

		if (!pems_json_parse_outer((const char *) data, size, levels, size + 1, &document, NULL))
		{
			require(lenient == NULL);
			continue;
		}
		require(lenient != NULL);
		require_same_outer(document.root, lenient, levels);
		pems_json_free(&document);
	}
}

static void
parse_leniently(const uint8_t *data, size_t size, const JsonNode *strict)
{
	const char *error = NULL;
	JsonBuffer written = {0};
	JsonDocument document;
	JsonDocument again;

	if (!pems_json_parse_lenient((const char *) data, size, &document, &error))
	{
		require(error != NULL && document.root == NULL && strict == NULL);
		parse_outer_levels(data, size, NULL);
		return;
	}
	parse_outer_levels(data, size, document.root);
	walk(document.root);
	check_lenient(document.root);
	require(strict || document.root->unstorable);
	require(strict == NULL || pems_json_equal(strict, document.root));
	/* What was replaced is text like any other: the strict parser reads what is written of it. */
	pems_json_append_node(&written, document.root);
	require(pems_json_parse(written.data, written.length, &again, NULL));
	pems_json_free(&again);
	pems_json_buffer_free(&written);
	pems_json_free(&document);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *error = NULL;
	JsonBuffer written = {0};
	JsonDocument document;

	if (!pems_json_parse((const char *) data, size, &document, &error))
	{
		require(error != NULL && document.root == NULL);
		parse_leniently(data, size, NULL);
		return 0;
	}
	walk(document.root);
	parse_leniently(data, size, document.root);
	pems_json_append_node(&written, document.root);
	require_equal_text(document.root, written.data, written.length);
	require_equal_text(document.root, document.root->raw, document.root->raw_length);
	pems_json_buffer_free(&written);
	pems_json_free(&document);
	return 0;
}
