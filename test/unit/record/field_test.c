/*
 * record/field_test.c
 *		Unit tests of src/record/field.c.
 */
#include "unit.h"
#include "record/sample_catalogue.h"

#include "../../src/record/field.h"

#include <stdio.h>
#include <string.h>

static const char *
catalogue_error(const char *json)
{
	PemsCatalogue catalogue;
	const char *error = "(no error set)";

	if (!pems_field_read_catalogue(json, strlen(json), &catalogue, &error))
	{
		CHECK(catalogue.fields == NULL && catalogue.source == NULL);
		return error;
	}
	pems_field_free_catalogue(&catalogue);
	return "(none)";
}

/* One entry with these members besides name, type and writable. */
static const char *
entry_error(const char *members)
{
	static char json[512];

	snprintf(json, sizeof(json), "[{\"name\":\"a\",\"type\":\"text\",\"writable\":true,%s}]",
			 members);
	return catalogue_error(json);
}

static bool
accepts(PemsFieldType type, const char *json)
{
	PemsField field = {.name = "a", .label = "A", .type = type};
	JsonDocument document;
	bool result;

	if (!CHECK(pems_json_parse(json, strlen(json), &document, NULL)))
		return false;
	result = pems_field_accepts(&field, document.root);
	pems_json_free(&document);
	return result;
}

static bool
equal(PemsFieldType type, const char *a, const char *b)
{
	PemsField field = {.name = "a", .label = "A", .type = type};
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
	result = pems_field_equal(&field, left.root, right.root);
	CHECK(result == pems_field_equal(&field, right.root, left.root));
	CHECK(pems_field_equal(&field, left.root, left.root));
	pems_json_free(&left);
	pems_json_free(&right);
	return result;
}

UNIT_TEST(the_catalogue_is_read)
{
	PemsCatalogue catalogue;
	const PemsField *field;
	size_t i;

	if (!CHECK(pems_field_read_catalogue(SAMPLE_CATALOGUE, strlen(SAMPLE_CATALOGUE), &catalogue,
										 NULL)))
		return;
	CHECK_INT(catalogue.count, 14);
	for (i = 1; i < catalogue.count; i++)
		CHECK(strcmp(catalogue.fields[i - 1].name, catalogue.fields[i].name) < 0);

	field = pems_field_find(&catalogue, "monthlyRate");
	CHECK_TEXT(field->label, "Monthly rate");
	CHECK_INT(field->type, PEMS_FIELD_NUMBER);
	CHECK(field->writable);
	CHECK_TEXT(field->required_field, "source");
	CHECK_TEXT(field->required_equals->text, "Rental");
	CHECK_TEXT(field->required_label, "rentals");
	CHECK_TEXT(field->minimum, "0");
	CHECK(field->allowed == NULL && field->after == NULL && field->max_length == -1);

	CHECK_INT(pems_field_find(&catalogue, "description")->max_length, 500);
	CHECK_INT(pems_field_find(&catalogue, "dor")->allowed->count, 2);
	CHECK_TEXT(pems_field_find(&catalogue, "forecastEnd")->after, "forecastStart");
	CHECK(!pems_field_find(&catalogue, "pfaId")->writable);
	CHECK(pems_field_find(&catalogue, "monthlyrate") == NULL);
	CHECK(pems_field_find(&catalogue, "") == NULL);
	pems_field_free_catalogue(&catalogue);
	CHECK(catalogue.fields == NULL && catalogue.count == 0);
}

UNIT_TEST(an_empty_catalogue_knows_no_field)
{
	PemsCatalogue catalogue;

	if (!CHECK(pems_field_read_catalogue("[]", 2, &catalogue, NULL)))
		return;
	CHECK(pems_field_find(&catalogue, "a") == NULL);
	pems_field_free_catalogue(&catalogue);
}

UNIT_TEST(a_wrong_catalogue_is_refused)
{
	CHECK_TEXT(catalogue_error(""), "unexpected end of the text");
	CHECK_TEXT(catalogue_error("{}"), "the field catalogue is not an array");
	CHECK_TEXT(catalogue_error("[1]"), "an entry of the field catalogue has no name");
	CHECK_TEXT(catalogue_error("[{\"name\":\"a\",\"type\":\"money\",\"writable\":true}]"),
			   "an entry of the field catalogue has no known type");
	CHECK_TEXT(catalogue_error("[{\"name\":\"a\",\"type\":\"text\"}]"),
			   "an entry of the field catalogue does not say whether it is writable");
	CHECK_TEXT(catalogue_error("[{\"name\":\"a\",\"type\":\"text\",\"writable\":true},"
							   " {\"name\":\"a\",\"type\":\"text\",\"writable\":true}]"),
			   "the field catalogue has two entries with the same name");
	CHECK_TEXT(entry_error("\"requiredWhen\":{\"field\":\"b\"}"),
			   "requiredWhen in the field catalogue needs field, equals and label");
	CHECK_TEXT(entry_error("\"maxLength\":1.5"),
			   "allowedValues, maxLength or minimum in the field catalogue is of the wrong kind");
	CHECK(strcmp(entry_error("\"maxLength\":-1"), "(none)") != 0);
	CHECK(strcmp(entry_error("\"maxLength\":1e99"), "(none)") != 0);
	CHECK(strcmp(entry_error("\"minimum\":\"0\""), "(none)") != 0);
	CHECK(strcmp(entry_error("\"allowedValues\":\"A\""), "(none)") != 0);
	CHECK_TEXT(entry_error("\"allowedValues\":[],\"label\":null,\"comment\":1"), "(none)");
}

UNIT_TEST(types_accept_their_values)
{
	CHECK(accepts(PEMS_FIELD_TEXT, "\"a\""));
	CHECK(!accepts(PEMS_FIELD_TEXT, "1"));
	CHECK(accepts(PEMS_FIELD_NUMBER, "1.5"));
	CHECK(!accepts(PEMS_FIELD_NUMBER, "\"1.5\""));
	CHECK(accepts(PEMS_FIELD_INTEGER, "5.00"));
	CHECK(accepts(PEMS_FIELD_INTEGER, "9007199254740993"));
	CHECK(accepts(PEMS_FIELD_INTEGER, "1e30"));
	CHECK(!accepts(PEMS_FIELD_INTEGER, "5.5"));
	CHECK(!accepts(PEMS_FIELD_INTEGER, "\"5\""));
	CHECK(accepts(PEMS_FIELD_BOOLEAN, "false"));
	CHECK(!accepts(PEMS_FIELD_BOOLEAN, "0"));
	CHECK(accepts(PEMS_FIELD_DATE, "\"2025-01-15\""));
	CHECK(accepts(PEMS_FIELD_DATE, "\"2025-01-15T10:00:00Z\""));
	CHECK(!accepts(PEMS_FIELD_DATE, "\"15.01.2025\""));
	CHECK(!accepts(PEMS_FIELD_DATE, "\"\""));
	CHECK(accepts(PEMS_FIELD_TIMESTAMP, "\"2025-01-15\""));
	CHECK(!accepts(PEMS_FIELD_TIMESTAMP, "20250115"));
	CHECK(accepts(PEMS_FIELD_JSON, "{\"a\":[1]}"));
	CHECK(accepts(PEMS_FIELD_TEXT, "null"));
	CHECK(accepts(PEMS_FIELD_INTEGER, "null"));
	CHECK(accepts(PEMS_FIELD_DATE, "null"));
	CHECK_TEXT(pems_field_type_phrase(PEMS_FIELD_INTEGER), "an integer");
	CHECK_TEXT(pems_field_type_phrase(PEMS_FIELD_TEXT), "text");
}

UNIT_TEST(values_compare_by_their_type)
{
	CHECK(equal(PEMS_FIELD_NUMBER, "5500.00", "5500.0"));
	CHECK(!equal(PEMS_FIELD_NUMBER, "9007199254740993", "9007199254740992"));
	CHECK(!equal(PEMS_FIELD_NUMBER, "1", "\"1\""));
	CHECK(!equal(PEMS_FIELD_TEXT, "\"a\"", "\"a \""));
	CHECK(!equal(PEMS_FIELD_TEXT, "\"2025-01-15T00:00:00Z\"", "\"2025-01-15T00:00:00+00:00\""));
	CHECK(!equal(PEMS_FIELD_TEXT, "\"\"", "null"));
	CHECK(equal(PEMS_FIELD_TIMESTAMP, "\"2025-01-15T00:00:00Z\"", "\"2025-01-15T00:00:00+00:00\""));
	CHECK(equal(PEMS_FIELD_TIMESTAMP, "\"2025-01-15T00:00:00Z\"", "\"2025-01-15\""));
	CHECK(equal(PEMS_FIELD_TIMESTAMP, "\"2025-01-15 01:30:00.50+0130\"",
				"\"2025-01-15T00:00:00.500000Z\""));
	CHECK(!equal(PEMS_FIELD_TIMESTAMP, "\"2025-01-15T00:00:00.001Z\"", "\"2025-01-15\""));
	CHECK(!equal(PEMS_FIELD_TIMESTAMP, "\"2025-01-15T00:00:00Z\"", "null"));
	CHECK(!equal(PEMS_FIELD_TIMESTAMP, "\"soon\"", "\"later\""));
	CHECK(equal(PEMS_FIELD_DATE, "\"2025-01-15\"", "\"2025-01-15T23:59:59.999Z\""));
	/* the day that is written, whatever zone follows */
	CHECK(equal(PEMS_FIELD_DATE, "\"2025-01-15\"", "\"2025-01-15T00:30:00+01:00\""));
	CHECK(equal(PEMS_FIELD_DATE, "\"2025-07-01\"", "\"2025-07-01T00:00:00+02:00\""));
	CHECK(equal(PEMS_FIELD_DATE, "\"2025-07-01 23:59:59-11:00\"", "\"2025-07-01T00:00:00+14:00\""));
	CHECK(!equal(PEMS_FIELD_DATE, "\"2025-07-01\"", "\"2025-07-02T00:00:00+05:30\""));
	CHECK(!equal(PEMS_FIELD_DATE, "\"2025-01-14\"", "\"2025-01-15T00:30:00+01:00\""));
	CHECK(!equal(PEMS_FIELD_DATE, "\"2025-01-15\"", "\"2025-01-16\""));
	CHECK(equal(PEMS_FIELD_DATE, "\"1969-12-31\"", "\"1969-12-31T23:59:59Z\""));
	CHECK(equal(PEMS_FIELD_JSON, "{\"a\":1,\"b\":2}", "{\"b\":2.0,\"a\":1}"));
	CHECK(!equal(PEMS_FIELD_JSON, "[1,2]", "[2,1]"));
}

UNIT_TEST(impossible_days_and_times_are_no_dates)
{
	static const char *const texts[] = {
		"\"2025-02-30\"",
		"\"2025-02-29T00:00:00Z\"",
		"\"2025-13-01\"",
		"\"2025-00-10\"",
		"\"2025-07-00\"",
		"\"2025-07-01T24:00:01\"",
		"\"2025-07-01T24:00:00\"",
		"\"2025-07-01T12:60\"",
		"\"2025-07-01T12:00:61\"",
		"\"2025-07-01T12:00:00+99:00\"",
		"\"2025-07-01T12:00:00+02:60\"",
		"\"2025-07-01T12:00:00Z!\"",
		"\"2025-07-01T\"",
		"\"2025-07-01 \"",
		"\"2025-7-1\"",
		"\"20250701\"",
		"20250701",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		if (!CHECK(!accepts(PEMS_FIELD_DATE, texts[i])) ||
			!CHECK(!accepts(PEMS_FIELD_TIMESTAMP, texts[i])))
			unit_note("%s", texts[i]);
	}
	CHECK(accepts(PEMS_FIELD_DATE, "\"2024-02-29\""));
	CHECK(accepts(PEMS_FIELD_DATE, "\"2025-07-01T23:59:59.999999999-12:00\""));
}

UNIT_TEST(null_and_missing_differ)
{
	PemsField field = {.name = "a", .label = "A", .type = PEMS_FIELD_DATE};
	JsonDocument document;

	if (!CHECK(pems_json_parse("null", 4, &document, NULL)))
		return;
	CHECK(!pems_field_equal(&field, document.root, NULL));
	CHECK(!pems_field_equal(&field, NULL, document.root));
	CHECK(pems_field_equal(&field, NULL, NULL));
	CHECK(pems_field_equal(&field, document.root, document.root));
	CHECK(pems_field_equal(NULL, document.root, document.root));
	CHECK(!pems_field_equal(NULL, document.root, NULL));
	pems_json_free(&document);
}
