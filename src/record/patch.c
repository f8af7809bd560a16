/*
 * record/patch.c
 *		Records with changes on top; see patch.h.
 *
 * Pure; runs in backends, in the worker and in tests.  It recurses once per level of a record,
 * and no record is deeper than PEMS_JSON_MAX_DEPTH.
 */
#include "record/patch.h"

#include <string.h>

static bool
is_object(const JsonNode *node)
{
	return node && node->kind == JSON_KIND_OBJECT;
}

static bool
is_empty(const JsonNode *node)
{
	return node == NULL || node->kind == JSON_KIND_NULL;
}

void
pems_patch_apply(const JsonNode *record, const JsonNode *changes, JsonBuffer *result)
{
	const JsonNode *member;

	if (!is_object(record) || !is_object(changes))
	{
		pems_json_append_node(result, changes);
		return;
	}
	pems_json_append_text(result, "{");
	for (member = record->first; member; member = member->next)
	{
		const JsonNode *change = pems_json_get(changes, member->key);

		pems_json_append_key(result, member->key, member->key_length);
		if (change)
			pems_patch_apply(member, change, result);
		else
			pems_json_append_node(result, member);
	}
	for (member = changes->first; member; member = member->next)
	{
		if (pems_json_get(record, member->key))
			continue;
		pems_json_append_key(result, member->key, member->key_length);
		pems_json_append_node(result, member);
	}
	pems_json_append_text(result, "}");
}

/* Is it as it was?  No member, and an empty one, are the same. */
static bool
is_as_it_was(const PemsField *field, const JsonNode *now, const JsonNode *then)
{
	if (is_empty(now) || is_empty(then))
		return is_empty(now) && is_empty(then);
	if (!is_object(now) || !is_object(then))
		return pems_field_equal(field, now, then);
	for (const JsonNode *member = then->first; member; member = member->next)
	{
		if (!is_as_it_was(NULL, pems_json_get(now, member->key), member))
			return false;
	}
	for (const JsonNode *member = now->first; member; member = member->next)
	{
		if (!is_empty(member) && pems_json_get(then, member->key) == NULL)
			return false;
	}
	return true;
}

/*
 * Append the old value, null where there was none.  An edit of an object leaves what it does not
 * name, so members that came since are named as null.
 */
static void
append_old_value(const JsonNode *now, const JsonNode *then, JsonBuffer *delta)
{
	if (!is_object(now) || !is_object(then))
	{
		pems_json_append_node(delta, then);
		return;
	}
	pems_json_append_text(delta, "{");
	for (const JsonNode *member = then->first; member; member = member->next)
	{
		pems_json_append_key(delta, member->key, member->key_length);
		append_old_value(pems_json_get(now, member->key), member, delta);
	}
	for (const JsonNode *member = now->first; member; member = member->next)
	{
		if (is_empty(member) || pems_json_get(then, member->key))
			continue;
		pems_json_append_key(delta, member->key, member->key_length);
		pems_json_append_text(delta, "null");
	}
	pems_json_append_text(delta, "}");
}

void
pems_patch_restore(const PemsCatalogue *catalogue, const JsonNode *record,
				   const JsonNode *old_record, JsonBuffer *delta)
{
	pems_json_append_text(delta, "{");
	for (size_t i = 0; i < catalogue->count; i++)
	{
		const PemsField *field = &catalogue->fields[i];
		const JsonNode *now = pems_json_get(record, field->name);
		const JsonNode *then = pems_json_get(old_record, field->name);

		if (!field->writable || is_as_it_was(field, now, then))
			continue;
		pems_json_append_key(delta, field->name, strlen(field->name));
		append_old_value(now, then, delta);
	}
	pems_json_append_text(delta, "}");
}

void
pems_patch_complete(const JsonNode *delta, const JsonNode *record, JsonBuffer *changes)
{
	pems_json_append_text(changes, "{");
	for (const JsonNode *member = delta->first; member; member = member->next)
	{
		pems_json_append_key(changes, member->key, member->key_length);
		pems_patch_apply(is_object(member) ? pems_json_get(record, member->key) : NULL, member,
						 changes);
	}
	pems_json_append_text(changes, "}");
}

bool
pems_patch_has_object(const JsonNode *delta)
{
	const JsonNode *member = is_object(delta) ? delta->first : NULL;

	for (; member; member = member->next)
	{
		if (is_object(member))
			return true;
	}
	return false;
}
