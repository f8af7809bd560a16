/*
 * patch.c
 *		Applying the changes of a write to a record's JSON text.
 */
#include <stdio.h>
#include <stdlib.h>

#include "patch.h"
#include "text.h"

static void append_value(JsonBuffer *out, const JsonNode *value, bool round_numbers);

static void
append_key(JsonBuffer *out, const JsonNode *member)
{
	mock_text_comma(out);
	pems_json_append_string(out, member->key, member->key_length);
	pems_json_append(out, ":", 1);
}

static void
append_children(JsonBuffer *out, const JsonNode *value, bool round_numbers)
{
	bool object = value->kind == JSON_KIND_OBJECT;

	pems_json_append(out, object ? "{" : "[", 1);
	for (const JsonNode *child = value->first; child != NULL; child = child->next)
	{
		if (object)
			append_key(out, child);
		else
			mock_text_comma(out);
		append_value(out, child, round_numbers);
	}
	pems_json_append(out, object ? "}" : "]", 1);
}

static void
append_value(JsonBuffer *out, const JsonNode *value, bool round_numbers)
{
	char digits[400]; /* the largest double has 309 */

	if (round_numbers && value->kind == JSON_KIND_NUMBER)
	{
		snprintf(digits, sizeof(digits), "%.0f", strtod(value->text, NULL));
		pems_json_append_text(out, digits);
	}
	else if (round_numbers && (value->kind == JSON_KIND_OBJECT || value->kind == JSON_KIND_ARRAY))
		append_children(out, value, round_numbers);
	else
		pems_json_append_node(out, value);
}

static void
append_merged(JsonBuffer *out, const JsonNode *base, const JsonNode *changes, bool round_numbers)
{
	pems_json_append(out, "{", 1);
	for (const JsonNode *field = base->first; field != NULL; field = field->next)
	{
		const JsonNode *change = pems_json_get(changes, field->key);

		append_key(out, field);
		if (change == NULL)
			pems_json_append(out, field->raw, field->raw_length);
		else if (change->kind == JSON_KIND_OBJECT && field->kind == JSON_KIND_OBJECT)
			append_merged(out, field, change, round_numbers);
		else
			append_value(out, change, round_numbers);
	}
	for (const JsonNode *change = changes->first; change != NULL; change = change->next)
	{
		if (pems_json_get(base, change->key) != NULL)
			continue;
		append_key(out, change);
		append_value(out, change, round_numbers);
	}
	pems_json_append(out, "}", 1);
}

bool
mock_patch_apply(const char *data, size_t length, const JsonNode *changes, bool round_numbers,
				 JsonBuffer *out)
{
	JsonDocument document;
	bool object;

	if (!pems_json_parse(data, length, &document, NULL))
		return false;
	object = document.root->kind == JSON_KIND_OBJECT;
	if (object)
		append_merged(out, document.root, changes, round_numbers);
	pems_json_free(&document);
	return object;
}

void
mock_patch_differences(const char *data, size_t length, const JsonNode *changes, JsonBuffer *out)
{
	JsonDocument document;

	pems_json_append(out, "[", 1);
	if (changes != NULL && pems_json_parse(data, length, &document, NULL))
	{
		for (const JsonNode *change = changes->first; change != NULL; change = change->next)
		{
			const JsonNode *field = pems_json_get(document.root, change->key);

			if (field != NULL && pems_json_equal(field, change))
				continue;
			mock_text_comma(out);
			pems_json_append_string(out, change->key, change->key_length);
		}
		pems_json_free(&document);
	}
	pems_json_append(out, "]", 1);
}
