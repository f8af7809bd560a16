/*
 * record/field.c
 *		Reads the field catalogue and compares values by their field's type.
 *
 * Pure; runs in backends, in the worker and in tests.  A catalogue owns a copy
 * of its source and the document made of it; the texts and nodes in its fields
 * point into that document.
 */
#include "record/field.h"

#include <stdlib.h>
#include <string.h>

/* The names of pems_field.type, and how messages call the types. */
static const struct
{
	const char *name;
	const char *phrase;
} field_types[] = {
	[PEMS_FIELD_TEXT] = {"text", "text"},
	[PEMS_FIELD_NUMBER] = {"number", "a number"},
	[PEMS_FIELD_INTEGER] = {"integer", "an integer"},
	[PEMS_FIELD_BOOLEAN] = {"boolean", "a boolean"},
	[PEMS_FIELD_DATE] = {"date", "a date"},
	[PEMS_FIELD_TIMESTAMP] = {"timestamp", "a timestamp"},
	[PEMS_FIELD_JSON] = {"json", "a JSON value"},
};

#define FIELD_TYPE_COUNT (sizeof(field_types) / sizeof(field_types[0]))

const char *
pems_field_type_phrase(PemsFieldType type)
{
	return field_types[type].phrase;
}

/* ---------- the catalogue ---------- */

/* Text of a member, or NULL when it is missing or no string. */
static const char *
text_member(const JsonNode *object, const char *key)
{
	const JsonNode *node = pems_json_get(object, key);

	return node && node->kind == JSON_KIND_STRING ? node->text : NULL;
}

static bool
read_type(const JsonNode *entry, PemsFieldType *type)
{
	const char *name = text_member(entry, "type");

	for (size_t i = 0; name && i < FIELD_TYPE_COUNT; i++)
	{
		if (strcmp(name, field_types[i].name) == 0)
		{
			*type = (PemsFieldType) i;
			return true;
		}
	}
	return false;
}

/* requiredWhen: {"field": ..., "equals": ..., "label": ...}, or nothing. */
static bool
read_required(const JsonNode *entry, PemsField *field)
{
	const JsonNode *rule = pems_json_get(entry, "requiredWhen");

	if (rule == NULL || rule->kind == JSON_KIND_NULL)
		return true;
	field->required_field = text_member(rule, "field");
	field->required_equals = pems_json_get(rule, "equals");
	field->required_label = text_member(rule, "label");
	return field->required_field && field->required_equals && field->required_label;
}

static bool
read_limits(const JsonNode *entry, PemsField *field)
{
	const JsonNode *allowed = pems_json_get(entry, "allowedValues");
	const JsonNode *max_length = pems_json_get(entry, "maxLength");
	const JsonNode *minimum = pems_json_get(entry, "minimum");
	long long length;

	field->max_length = -1;
	/* A list without values would refuse everything: taken as no list. */
	if (allowed && allowed->kind == JSON_KIND_ARRAY)
		field->allowed = allowed->count > 0 ? allowed : NULL;
	else if (allowed && allowed->kind != JSON_KIND_NULL)
		return false;
	if (max_length && max_length->kind != JSON_KIND_NULL)
	{
		if (!pems_json_integer(max_length, &length) || length < 0 || length > 0x7FFFFFFF)
			return false;
		field->max_length = (long) length;
	}
	if (minimum && minimum->kind == JSON_KIND_NUMBER)
		field->minimum = minimum->text;
	else if (minimum && minimum->kind != JSON_KIND_NULL)
		return false;
	return true;
}

/* The sentence about what is wrong with the entry, or NULL. */
static const char *
read_entry(const JsonNode *entry, PemsField *field)
{
	const JsonNode *writable = pems_json_get(entry, "writable");

	memset(field, 0, sizeof(*field));
	field->name = text_member(entry, "name");
	field->label = text_member(entry, "label");
	field->after = text_member(entry, "after");
	if (field->name == NULL)
		return "an entry of the field catalogue has no name";
	if (field->label == NULL)
		field->label = field->name;
	if (!read_type(entry, &field->type))
		return "an entry of the field catalogue has no known type";
	if (writable == NULL || writable->kind != JSON_KIND_BOOLEAN)
		return "an entry of the field catalogue does not say whether it is writable";
	field->writable = writable->boolean;
	if (!read_required(entry, field))
		return "requiredWhen in the field catalogue needs field, equals and label";
	if (!read_limits(entry, field))
		return "allowedValues, maxLength or minimum in the field catalogue is of the wrong kind";
	return NULL;
}

static int
compare_fields(const void *a, const void *b)
{
	return strcmp(((const PemsField *) a)->name, ((const PemsField *) b)->name);
}

/* Fill catalogue->fields from the parsed document. */
static const char *
read_entries(PemsCatalogue *catalogue)
{
	const JsonNode *entry;
	size_t i;

	if (catalogue->document.root->kind != JSON_KIND_ARRAY)
		return "the field catalogue is not an array";
	if (catalogue->document.root->count == 0)
		return NULL;
	catalogue->fields = calloc(catalogue->document.root->count, sizeof(PemsField));
	if (catalogue->fields == NULL)
		return "out of memory";
	for (entry = catalogue->document.root->first; entry; entry = entry->next)
	{
		const char *wrong = read_entry(entry, &catalogue->fields[catalogue->count]);

		if (wrong)
			return wrong;
		catalogue->count++;
	}
	qsort(catalogue->fields, catalogue->count, sizeof(PemsField), compare_fields);
	for (i = 1; i < catalogue->count; i++)
	{
		if (compare_fields(&catalogue->fields[i - 1], &catalogue->fields[i]) == 0)
			return "the field catalogue has two entries with the same name";
	}
	return NULL;
}

bool
pems_field_read_catalogue(const char *json, size_t length, PemsCatalogue *catalogue,
						  const char **error)
{
	const char *wrong = NULL;

	memset(catalogue, 0, sizeof(*catalogue));
	/* One byte more, because malloc(0) may return NULL. */
	catalogue->source = malloc(length + 1);
	if (catalogue->source == NULL)
		wrong = "out of memory";
	else
	{
		if (length > 0)
			memcpy(catalogue->source, json, length);
		if (pems_json_parse(catalogue->source, length, &catalogue->document, &wrong))
			wrong = read_entries(catalogue);
	}
	if (wrong)
	{
		pems_field_free_catalogue(catalogue);
		if (error)
			*error = wrong;
	}
	return wrong == NULL;
}

void
pems_field_free_catalogue(PemsCatalogue *catalogue)
{
	free(catalogue->fields);
	pems_json_free(&catalogue->document);
	free(catalogue->source);
	memset(catalogue, 0, sizeof(*catalogue));
}

const PemsField *
pems_field_find(const PemsCatalogue *catalogue, const char *name)
{
	PemsField wanted = {.name = name};

	/* bsearch may not be given the NULL array of an empty catalogue. */
	if (catalogue->count == 0)
		return NULL;
	return bsearch(&wanted, catalogue->fields, catalogue->count, sizeof(PemsField), compare_fields);
}

/* ---------- values ---------- */

bool
pems_field_instant(const PemsField *field, const JsonNode *value, PemsInstant *instant)
{
	if (value == NULL || value->kind != JSON_KIND_STRING)
		return false;
	if (field->type == PEMS_FIELD_DATE)
		return pems_calendar_read_day(value->text, instant);
	return pems_calendar_read_instant(value->text, instant);
}

bool
pems_field_accepts(const PemsField *field, const JsonNode *value)
{
	PemsInstant instant;

	if (value->kind == JSON_KIND_NULL)
		return true;
	switch (field->type)
	{
		case PEMS_FIELD_TEXT:
			return value->kind == JSON_KIND_STRING;
		case PEMS_FIELD_NUMBER:
			return value->kind == JSON_KIND_NUMBER;
		case PEMS_FIELD_INTEGER:
			return pems_json_is_integral(value);
		case PEMS_FIELD_BOOLEAN:
			return value->kind == JSON_KIND_BOOLEAN;
		case PEMS_FIELD_DATE:
		case PEMS_FIELD_TIMESTAMP:
			return pems_field_instant(field, value, &instant);
		case PEMS_FIELD_JSON:
			return true;
	}
	return false;
}

bool
pems_field_equal(const PemsField *field, const JsonNode *a, const JsonNode *b)
{
	PemsInstant left;
	PemsInstant right;

	if (field && (field->type == PEMS_FIELD_DATE || field->type == PEMS_FIELD_TIMESTAMP) &&
		pems_field_instant(field, a, &left) && pems_field_instant(field, b, &right))
		return pems_calendar_compare(&left, &right) == 0;
	/* All other types are equal when their JSON is. */
	return pems_json_equal(a, b);
}
