/*
 * record/json_value.c
 *		Looking at values of a parsed JSON text: members by their key, equality, integers.
 *
 * Pure; any process.  No memory is allocated.  Whatever walks a parsed tree may recurse,
 * because no tree is deeper than PEMS_JSON_MAX_DEPTH.
 */
#include "record/json_reader.h"

#include <stdlib.h>
#include <string.h>

#include "record/number.h"

/* ---------- members ---------- */

/* The order of jsonb: shorter keys first, then by bytes. */
static int
compare_keys(const char *a, size_t a_length, const char *b, size_t b_length)
{
	if (a_length != b_length)
		return a_length < b_length ? -1 : 1;
	return memcmp(a, b, a_length);
}

static bool
same_key(const JsonNode *a, const JsonNode *b)
{
	return compare_keys(a->key, a->key_length, b->key, b->key_length) == 0;
}

/* For qsort: by key, equal keys in the order of the text. */
static int
compare_members(const void *a, const void *b)
{
	const JsonNode *left = *(JsonNode *const *) a;
	const JsonNode *right = *(JsonNode *const *) b;
	int order = compare_keys(left->key, left->key_length, right->key, right->key_length);

	if (order != 0)
		return order;
	return left->raw < right->raw ? -1 : left->raw > right->raw;
}

/* Unlink the members whose key is NULL. */
static void
drop_marked(JsonNode *object)
{
	JsonNode **link = &object->first;

	while (*link)
	{
		if ((*link)->key == NULL)
			*link = (*link)->next;
		else
			link = &(*link)->next;
	}
}

/*
 * Sorting, and no hash table: its worst case cannot be brought about by keys that somebody
 * chose to collide.
 */
void
pems_json_index_members(JsonNode *object)
{
	size_t kept = 0;
	size_t i = 0;
	JsonNode *child;

	for (child = object->first; child; child = child->next)
		object->sorted[i++] = child;
	qsort(object->sorted, object->count, sizeof(JsonNode *), compare_members);

	for (i = 0; i < object->count; i++)
	{
		child = object->sorted[i];
		if (i + 1 < object->count && same_key(child, object->sorted[i + 1]))
			child->key = NULL;
		else
			object->sorted[kept++] = child;
	}
	if (kept < object->count)
		drop_marked(object);
	object->count = kept;
}

const JsonNode *
pems_json_get(const JsonNode *object, const char *key)
{
	size_t length = strlen(key);
	size_t low = 0;
	size_t high;

	if (object == NULL || object->kind != JSON_KIND_OBJECT)
		return NULL;
	high = object->count;
	while (low < high)
	{
		size_t middle = low + (high - low) / 2;
		const JsonNode *member = object->sorted[middle];
		int order = compare_keys(key, length, member->key, member->key_length);

		if (order == 0)
			return member;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

/* ---------- equality ---------- */

static bool
arrays_equal(const JsonNode *a, const JsonNode *b)
{
	const JsonNode *left = a->first;
	const JsonNode *right = b->first;

	if (a->count != b->count)
		return false;
	for (; left && right; left = left->next, right = right->next)
	{
		if (!pems_json_equal(left, right))
			return false;
	}
	return true;
}

static bool
objects_equal(const JsonNode *a, const JsonNode *b)
{
	if (a->count != b->count)
		return false;
	/* Both are in the same order, so members of the same key are at the same place. */
	for (size_t i = 0; i < a->count; i++)
	{
		if (!same_key(a->sorted[i], b->sorted[i]) || !pems_json_equal(a->sorted[i], b->sorted[i]))
			return false;
	}
	return true;
}

bool
pems_json_equal(const JsonNode *a, const JsonNode *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	if (a->kind != b->kind)
		return false;
	switch (a->kind)
	{
		case JSON_KIND_NULL:
			return true;
		case JSON_KIND_BOOLEAN:
			return a->boolean == b->boolean;
		case JSON_KIND_NUMBER:
			return pems_number_compare(a->text, b->text) == 0;
		case JSON_KIND_STRING:
			return a->length == b->length && memcmp(a->text, b->text, a->length) == 0;
		case JSON_KIND_ARRAY:
			return arrays_equal(a, b);
		case JSON_KIND_OBJECT:
			return objects_equal(a, b);
	}
	return false;
}

/* ---------- integers ---------- */

bool
pems_json_is_integral(const JsonNode *node)
{
	return node && node->kind == JSON_KIND_NUMBER && pems_number_is_integral(node->text);
}

bool
pems_json_integer(const JsonNode *node, long long *value)
{
	return node && node->kind == JSON_KIND_NUMBER && pems_number_integer(node->text, value);
}
