/*
 * record/field.h
 *		The field catalogue (table pems_field) as plain structs, and what a value of each type is.
 *
 * Pure.  The catalogue is read from the JSON array that the SQL function
 * _pems_catalogue() returns, so that the worker, pems_validate() and the unit
 * tests share one reader:
 *
 *	[{"name":"monthlyRate","label":"Monthly rate","type":"number","writable":true,
 *	  "requiredWhen":{"field":"source","equals":"Rental","label":"rentals"},
 *	  "allowedValues":null,"maxLength":null,"minimum":0,"after":null}, ...]
 *
 * name, type and writable are required; a missing label is the name; a missing
 * rule, null and an empty list of allowed values are no rule.  Unknown keys are
 * left alone, so that SQL may know more than this file.
 */
#ifndef PEMS_FIELD_H
#define PEMS_FIELD_H

#include "record/calendar.h"
#include "record/json.h"

typedef enum PemsFieldType
{
	PEMS_FIELD_TEXT,
	PEMS_FIELD_NUMBER,
	PEMS_FIELD_INTEGER,
	PEMS_FIELD_BOOLEAN,
	PEMS_FIELD_DATE,      /* YYYY-MM-DD; of a timestamp the day that is written counts */
	PEMS_FIELD_TIMESTAMP, /* ISO 8601; a plain date means midnight UTC */
	PEMS_FIELD_JSON       /* anything; objects compare field by field */
} PemsFieldType;

typedef struct PemsField
{
	const char *name;  /* camelCase key in the record */
	const char *label; /* how messages name it: "Monthly rate" */
	PemsFieldType type;
	bool writable; /* false: only PEMS sets it */

	/* rules; NULL (or -1) where the field has none */
	const char *required_field;      /* a value is required when this field ... */
	const JsonNode *required_equals; /* ... equals this ... */
	const char *required_label;      /* ... in words, plural: "rentals" */
	const JsonNode *allowed;         /* array of allowed values */
	long max_length;                 /* characters, not bytes */
	const char *minimum;             /* number literal */
	const char *after;               /* must be later than this other field */
} PemsField;

typedef struct PemsCatalogue
{
	PemsField *fields; /* sorted by name (strcmp) */
	size_t count;
	JsonDocument document; /* owns the texts */
	char *source;          /* private copy of the JSON that was parsed */
} PemsCatalogue;

/* Copies json.  False (with a static sentence in *error) when it is no such array. */
extern bool pems_field_read_catalogue(const char *json, size_t length, PemsCatalogue *catalogue,
									  const char **error);
extern void pems_field_free_catalogue(PemsCatalogue *catalogue);
extern const PemsField *pems_field_find(const PemsCatalogue *catalogue, const char *name);

/*
 * Does the value fit the field's type?  null always does (it empties the field);
 * an integer may be written 5.0 or 5e3.
 */
extern bool pems_field_accepts(const PemsField *field, const JsonNode *value);
/* The end of "x must be ...": "a number", "an integer", "a date", "text" and so on. */
extern const char *pems_field_type_phrase(PemsFieldType type);

/*
 * Type-aware equality (docs/CONFLICTS.md): numbers by value, timestamps by instant,
 * dates by the day that is written, whatever time and zone follow, text exactly, json as
 * pems_json_equal.  A NULL pointer is a missing field; null and missing differ.  A value that does
 * not fit the type is compared as plain JSON.  field may be NULL (unknown field): plain JSON.
 */
extern bool pems_field_equal(const PemsField *field, const JsonNode *a, const JsonNode *b);

/*
 * The instant that a value of a date or timestamp field means: of a date, the
 * midnight UTC that begins the day that is written.  False when value is NULL, null or no instant.
 */
extern bool pems_field_instant(const PemsField *field, const JsonNode *value, PemsInstant *instant);

#endif /* PEMS_FIELD_H */
