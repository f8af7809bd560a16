/*
 * json_fuzz.c
 *		libFuzzer target of src/json.c: what parses is written as a text that
 *		parses to an equal value, and so is every value's raw text.
 *
 *	clang -g -O1 -fsanitize=fuzzer,address,undefined test/fuzz/json_fuzz.c src/json.c
 */
#include <stdint.h>
#include <stdlib.h>

#include "../../src/json.h"

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
		require(pems_json_compare_numbers(node->text, node->text) == 0);
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

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *error = NULL;
	JsonBuffer written = {0};
	JsonDocument document;

	if (!pems_json_parse((const char *) data, size, &document, &error))
	{
		require(error != NULL && document.root == NULL);
		return 0;
	}
	walk(document.root);
	pems_json_append_node(&written, document.root);
	require_equal_text(document.root, written.data, written.length);
	require_equal_text(document.root, document.root->raw, document.root->raw_length);
	pems_json_buffer_free(&written);
	pems_json_free(&document);
	return 0;
}
