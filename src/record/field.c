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

#define SECONDS_PER_DAY 86400LL

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
	size_t i;

	for (i = 0; name && i < FIELD_TYPE_COUNT; i++)
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

/* ---------- instants ---------- */

/* Read exactly count digits and move the cursor behind them. */
static bool
read_digits(const char **cursor, int count, int *value)
{
	*value = 0;
	while (count-- > 0)
	{
		if (**cursor < '0' || **cursor > '9')
			return false;
		*value = *value * 10 + (*(*cursor)++ - '0');
	}
	return true;
}

static bool
skip(const char **cursor, char c)
{
	if (**cursor != c)
		return false;
	(*cursor)++;
	return true;
}

static int
days_in_month(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return month == 2 && leap ? 29 : days[month - 1];
}

/* Days since 1970-01-01 in the Gregorian calendar, also before it was introduced. */
static long long
days_since_epoch(int year, int month, int day)
{
	long long days;
	int earlier = year - 1;
	int i;

	/* 719162 days lie between 0001-01-01 and 1970-01-01. */
	days = earlier * 365LL + earlier / 4 - earlier / 100 + earlier / 400 - 719162;
	for (i = 1; i < month; i++)
		days += days_in_month(year, i);
	return days + day - 1;
}

/* YYYY-MM-DD */
static bool
read_day(const char **cursor, long long *days)
{
	int year;
	int month;
	int day;

	if (!read_digits(cursor, 4, &year) || !skip(cursor, '-') || !read_digits(cursor, 2, &month) ||
		!skip(cursor, '-') || !read_digits(cursor, 2, &day))
		return false;
	if (year < 1 || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month))
		return false;
	*days = days_since_epoch(year, month, day);
	return true;
}

/* ".5" and so on, if it is there: nanoseconds, what is finer is cut off. */
static bool
read_fraction(const char **cursor, long *nanoseconds)
{
	long unit = 100000000;

	*nanoseconds = 0;
	if (!skip(cursor, '.'))
		return true;
	if (**cursor < '0' || **cursor > '9')
		return false;
	for (; **cursor >= '0' && **cursor <= '9'; (*cursor)++)
	{
		*nanoseconds += (**cursor - '0') * unit;
		unit /= 10;
	}
	return true;
}

/* hh:mm, hh:mm:ss or hh:mm:ss.fraction */
static bool
read_time(const char **cursor, int *seconds, long *nanoseconds)
{
	int hour;
	int minute;
	int second = 0;

	*nanoseconds = 0;
	if (!read_digits(cursor, 2, &hour) || !skip(cursor, ':') || !read_digits(cursor, 2, &minute))
		return false;
	if (skip(cursor, ':') &&
		(!read_digits(cursor, 2, &second) || !read_fraction(cursor, nanoseconds)))
		return false;
	if (hour > 23 || minute > 59 || second > 59)
		return false;
	*seconds = (hour * 60 + minute) * 60 + second;
	return true;
}

/* Z, +hh, +hhmm, +hh:mm or nothing, which means UTC; seconds east of Greenwich. */
static bool
read_zone(const char **cursor, int *offset)
{
	bool west = **cursor == '-';
	int hours;
	int minutes = 0;

	*offset = 0;
	if (skip(cursor, 'Z') || skip(cursor, 'z') || **cursor == '\0')
		return true;
	if (!skip(cursor, '+') && !skip(cursor, '-'))
		return false;
	if (!read_digits(cursor, 2, &hours))
		return false;
	if ((skip(cursor, ':') || **cursor != '\0') && !read_digits(cursor, 2, &minutes))
		return false;
	if (hours > 15 || minutes > 59)
		return false;
	*offset = (hours * 60 + minutes) * (west ? -60 : 60);
	return true;
}

/* What a text says: a day, a time on it, and where that is. */
typedef struct Reading
{
	long long days; /* since 1970-01-01, as it is written */
	int seconds;
	long nanoseconds;
	int offset; /* seconds east of Greenwich */
} Reading;

static bool
read_day_and_time(const char *text, Reading *reading)
{
	const char *cursor = text;

	*reading = (Reading){0};
	if (!read_day(&cursor, &reading->days))
		return false;
	if (*cursor == '\0')
		return true;
	if (!skip(&cursor, 'T') && !skip(&cursor, 't') && !skip(&cursor, ' '))
		return false;
	return read_time(&cursor, &reading->seconds, &reading->nanoseconds) &&
		   read_zone(&cursor, &reading->offset) && *cursor == '\0';
}

bool
pems_field_read_instant(const char *text, PemsInstant *instant)
{
	Reading reading;

	if (!read_day_and_time(text, &reading))
		return false;
	instant->seconds = reading.days * SECONDS_PER_DAY + reading.seconds - reading.offset;
	instant->nanoseconds = reading.nanoseconds;
	return true;
}

bool
pems_field_instant(const PemsField *field, const JsonNode *value, PemsInstant *instant)
{
	Reading reading;

	if (value == NULL || value->kind != JSON_KIND_STRING)
		return false;
	if (field->type != PEMS_FIELD_DATE)
		return pems_field_read_instant(value->text, instant);
	if (!read_day_and_time(value->text, &reading))
		return false;
	/* the day that is written: what another zone would call it is nobody's business */
	*instant = (PemsInstant){.seconds = reading.days * SECONDS_PER_DAY};
	return true;
}

int
pems_field_compare_instants(const PemsInstant *a, const PemsInstant *b)
{
	if (a->seconds != b->seconds)
		return a->seconds < b->seconds ? -1 : 1;
	if (a->nanoseconds != b->nanoseconds)
		return a->nanoseconds < b->nanoseconds ? -1 : 1;
	return 0;
}

/* ---------- values ---------- */

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
		return pems_field_compare_instants(&left, &right) == 0;
	/* All other types are equal when their JSON is. */
	return pems_json_equal(a, b);
}
