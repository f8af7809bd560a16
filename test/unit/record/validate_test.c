/*
 * record/validate_test.c
 *		Unit tests of src/record/validate.c.
 */
#include "unit.h"
#include "record/sample_catalogue.h"

#include "../../src/record/validate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static PemsCatalogue *
catalogue(void)
{
	static PemsCatalogue shared;

	if (shared.count == 0)
		CHECK(pems_field_read_catalogue(SAMPLE_CATALOGUE, strlen(SAMPLE_CATALOGUE), &shared, NULL));
	return &shared;
}

/* The code and all sentences: "VALIDATION_FAILED: sentence; sentence"; "valid". */
static const char *
judge(const char *delta, const char *current)
{
	static char result[8192];
	JsonDocument delta_document = {0};
	JsonDocument current_document = {0};
	PemsFindings findings = {0};
	size_t i;

	if (delta)
		CHECK(pems_json_parse(delta, strlen(delta), &delta_document, NULL));
	if (current)
		CHECK(pems_json_parse(current, strlen(current), &current_document, NULL));
	pems_validate_delta(catalogue(), delta_document.root, current_document.root, &findings);
	CHECK(!findings.failed);

	if (findings.verdict == PEMS_VERDICT_VALID)
	{
		CHECK_INT(findings.count, 0);
		snprintf(result, sizeof(result), "valid");
	}
	else
		snprintf(result, sizeof(result), "%s", pems_validate_code(findings.verdict));
	for (i = 0; i < findings.count; i++)
	{
		size_t length = strlen(result);

		snprintf(result + length, sizeof(result) - length, "%s%s", i == 0 ? ": " : "; ",
				 findings.errors[i]);
	}
	pems_validate_free(&findings);
	pems_json_free(&delta_document);
	pems_json_free(&current_document);
	return result;
}

/* Judge {"description": count times unit}. */
static const char *
judge_description(const char *unit, int count)
{
	JsonBuffer delta = {0};
	const char *result;

	pems_json_append_text(&delta, "{\"description\":\"");
	while (count-- > 0)
		pems_json_append_text(&delta, unit);
	pems_json_append_text(&delta, "\"}");
	result = judge(delta.data, NULL);
	pems_json_buffer_free(&delta);
	return result;
}

UNIT_TEST(a_good_delta_is_valid)
{
	CHECK_TEXT(judge("{\"forecastStart\":\"2025-01-15T00:00:00Z\","
					 "\"forecastEnd\":\"2025-06-30T00:00:00Z\",\"monthlyRate\":5500.00,"
					 "\"dor\":\"PROJECT\"}",
					 "{\"source\":\"Rental\",\"monthlyRate\":1}"),
			   "valid");
	CHECK_TEXT(judge("{\"custom\":{\"a\":[1]},\"active\":true,\"quantity\":5.0}", NULL), "valid");
	CHECK(pems_validate_code(PEMS_VERDICT_VALID) == NULL);
}

UNIT_TEST(a_delta_must_be_an_object_with_something_in_it)
{
	CHECK_TEXT(judge("{}", NULL), "EMPTY_DELTA: there are no changes");
	CHECK_TEXT(judge("null", NULL), "EMPTY_DELTA: there are no changes");
	CHECK_TEXT(judge(NULL, NULL), "EMPTY_DELTA: there are no changes");
	CHECK_TEXT(judge("[]", NULL), "VALIDATION_FAILED: changes must be an object");
	CHECK_TEXT(judge("\"a\"", NULL), "VALIDATION_FAILED: changes must be an object");
	CHECK_TEXT(judge("1", "{}"), "VALIDATION_FAILED: changes must be an object");
}

UNIT_TEST(names_are_checked)
{
	CHECK_TEXT(judge("{\"colour\":\"red\"}", NULL), "UNKNOWN_FIELD: colour is not a known field");
	CHECK_TEXT(judge("{\"pfaId\":\"PFA-2\"}", NULL), "READ_ONLY_FIELD: pfaId is read-only");
	CHECK_TEXT(judge("{\"pfaId\":5}", NULL), "READ_ONLY_FIELD: pfaId is read-only");
	CHECK_TEXT(judge("{\"DOR\":\"BEO\"}", NULL), "UNKNOWN_FIELD: DOR is not a known field");
	CHECK_TEXT(judge("{\"\":1,\"<script>\":2}", NULL),
			   "UNKNOWN_FIELD:  is not a known field; <script> is not a known field");
}

UNIT_TEST(all_errors_are_told_by_class)
{
	CHECK_TEXT(judge("{\"monthlyRate\":-1,\"pfaId\":\"x\",\"colour\":\"red\",\"dor\":\"X\"}", NULL),
			   "UNKNOWN_FIELD: colour is not a known field; pfaId is read-only;"
			   " DOR must be BEO or PROJECT; Monthly rate must be positive");
	CHECK_TEXT(judge("{\"monthlyRate\":\"a\",\"pfaId\":\"x\"}", NULL),
			   "READ_ONLY_FIELD: pfaId is read-only; monthlyRate must be a number");
}

UNIT_TEST(types_are_checked)
{
	CHECK_TEXT(judge("{\"monthlyRate\":\"5\"}", NULL),
			   "VALIDATION_FAILED: monthlyRate must be a number");
	CHECK_TEXT(judge("{\"quantity\":1.5}", NULL), "VALIDATION_FAILED: quantity must be an integer");
	CHECK_TEXT(judge("{\"active\":1}", NULL), "VALIDATION_FAILED: active must be a boolean");
	CHECK_TEXT(judge("{\"deliveryDate\":\"soon\"}", NULL),
			   "VALIDATION_FAILED: deliveryDate must be a date");
	CHECK_TEXT(judge("{\"forecastEnd\":\"2025-02-30\"}", NULL),
			   "VALIDATION_FAILED: forecastEnd must be a timestamp");
	CHECK_TEXT(judge("{\"forecastEnd\":\"\"}", NULL),
			   "VALIDATION_FAILED: forecastEnd must be a timestamp");
	CHECK_TEXT(judge("{\"dor\":5}", NULL), "VALIDATION_FAILED: dor must be text");
	CHECK_TEXT(judge("{\"monthlyRate\":null,\"dor\":null,\"active\":null}", NULL), "valid");
}

UNIT_TEST(the_end_must_be_after_the_start)
{
	const char *sentence = "VALIDATION_FAILED: Forecast end must be after forecast start";

	CHECK_TEXT(judge("{\"forecastStart\":\"2025-02-01\",\"forecastEnd\":\"2025-01-01\"}", NULL),
			   sentence);
	CHECK_TEXT(judge("{\"forecastEnd\":\"2025-01-01\"}", "{\"forecastStart\":\"2025-02-01\"}"),
			   sentence);
	CHECK_TEXT(judge("{\"forecastStart\":\"2025-02-01\"}", "{\"forecastEnd\":\"2025-01-01\"}"),
			   sentence);
	/* equal instants, written differently */
	CHECK_TEXT(judge("{\"forecastEnd\":\"2025-02-01T01:00:00+01:00\"}",
					 "{\"forecastStart\":\"2025-02-01\"}"),
			   sentence);
	CHECK_TEXT(judge("{\"forecastEnd\":\"2025-02-01T00:00:00.000000001Z\"}",
					 "{\"forecastStart\":\"2025-02-01\"}"),
			   "valid");
	/* nothing to compare with */
	CHECK_TEXT(judge("{\"forecastEnd\":\"2025-01-01\"}", NULL), "valid");
	CHECK_TEXT(judge("{\"forecastEnd\":\"2025-01-01\"}", "{\"forecastStart\":null}"), "valid");
	CHECK_TEXT(judge("{\"forecastEnd\":null}", "{\"forecastStart\":\"2025-02-01\"}"), "valid");
	/* neither field touched */
	CHECK_TEXT(judge("{\"dor\":\"BEO\"}",
					 "{\"forecastStart\":\"2025-02-01\",\"forecastEnd\":\"2025-01-01\"}"),
			   "valid");
}

UNIT_TEST(dates_compare_by_day_and_labels_keep_abbreviations)
{
	const char *sentence = "VALIDATION_FAILED: Delivery date must be after DOR date";

	CHECK_TEXT(judge("{\"deliveryDate\":\"2025-01-15T23:00:00Z\"}", "{\"DORDate\":\"2025-01-15\"}"),
			   sentence);
	CHECK_TEXT(judge("{\"deliveryDate\":\"2025-01-16\"}", "{\"DORDate\":\"2025-01-15T23:00:00Z\"}"),
			   "valid");
}

UNIT_TEST(a_wrong_type_silences_the_rules)
{
	CHECK_TEXT(judge("{\"forecastStart\":\"soon\",\"forecastEnd\":\"2025-01-01\"}", NULL),
			   "VALIDATION_FAILED: forecastStart must be a timestamp");
	CHECK_TEXT(judge("{\"forecastEnd\":\"2025-01-01\"}", "{\"forecastStart\":\"soon\"}"), "valid");
	CHECK_TEXT(judge("{\"source\":5}", NULL), "VALIDATION_FAILED: source must be text");
	CHECK_TEXT(judge("{\"monthlyRate\":null}", "{\"source\":5}"), "valid");
	CHECK_TEXT(judge("{\"source\":\"Rental\",\"monthlyRate\":\"\"}", NULL),
			   "VALIDATION_FAILED: monthlyRate must be a number");
	CHECK_TEXT(judge("{\"source\":\"Rental\"}", "{\"monthlyRate\":\"much\"}"), "valid");
}

UNIT_TEST(rentals_and_purchases_need_their_price)
{
	CHECK_TEXT(judge("{\"source\":\"Rental\"}", NULL),
			   "VALIDATION_FAILED: Monthly rate required for rentals");
	CHECK_TEXT(judge("{\"source\":\"Rental\"}", "{\"monthlyRate\":null}"),
			   "VALIDATION_FAILED: Monthly rate required for rentals");
	CHECK_TEXT(judge("{\"source\":\"Rental\"}", "{\"monthlyRate\":\"\"}"),
			   "VALIDATION_FAILED: Monthly rate required for rentals");
	CHECK_TEXT(judge("{\"monthlyRate\":null}", "{\"source\":\"Rental\",\"monthlyRate\":5}"),
			   "VALIDATION_FAILED: Monthly rate required for rentals");
	CHECK_TEXT(judge("{\"source\":\"Purchase\"}", "{\"monthlyRate\":5}"),
			   "VALIDATION_FAILED: Purchase price required for purchases");
	CHECK_TEXT(judge("{\"source\":\"Rental\"}", "{\"monthlyRate\":0}"), "valid");
	CHECK_TEXT(judge("{\"source\":\"Rental\",\"monthlyRate\":5}", NULL), "valid");
	CHECK_TEXT(judge("{\"source\":\"Owned\"}", NULL), "valid");
	CHECK_TEXT(judge("{\"source\":\"rental\",\"dor\":\"BEO\"}", NULL),
			   "VALIDATION_FAILED: Source must be Rental, Purchase or Owned");
	CHECK_TEXT(judge("{\"source\":null}", "{\"source\":\"Rental\"}"), "valid");
	/* neither field touched */
	CHECK_TEXT(judge("{\"dor\":\"BEO\"}", "{\"source\":\"Rental\"}"), "valid");
}

UNIT_TEST(allowed_values_are_listed)
{
	CHECK_TEXT(judge("{\"dor\":\"beo\"}", NULL), "VALIDATION_FAILED: DOR must be BEO or PROJECT");
	CHECK_TEXT(judge("{\"source\":\"Gift\"}", NULL),
			   "VALIDATION_FAILED: Source must be Rental, Purchase or Owned");
	CHECK_TEXT(judge("{\"priority\":3}", NULL), "VALIDATION_FAILED: Priority must be 1 or 2");
	CHECK_TEXT(judge("{\"priority\":2.00}", NULL), "valid");
	CHECK_TEXT(judge("{\"dor\":\"\"}", NULL), "valid");
	CHECK_TEXT(judge("{\"dor\":null}", NULL), "valid");
	/* a value that was wrong before is not this delta's fault */
	CHECK_TEXT(judge("{\"active\":true}", "{\"dor\":\"X\"}"), "valid");
}

UNIT_TEST(minimum_is_checked_by_value)
{
	CHECK_TEXT(judge("{\"monthlyRate\":-0.01}", NULL),
			   "VALIDATION_FAILED: Monthly rate must be positive");
	CHECK_TEXT(judge("{\"monthlyRate\":-1e-400}", NULL),
			   "VALIDATION_FAILED: Monthly rate must be positive");
	CHECK_TEXT(judge("{\"monthlyRate\":0}", NULL), "valid");
	CHECK_TEXT(judge("{\"monthlyRate\":-0.0}", NULL), "valid");
	CHECK_TEXT(judge("{\"quantity\":0}", NULL), "VALIDATION_FAILED: Quantity must be at least 1");
	CHECK_TEXT(judge("{\"quantity\":1}", NULL), "valid");
}

UNIT_TEST(length_counts_characters)
{
	CHECK_TEXT(judge_description("a", 500), "valid");
	CHECK_TEXT(judge_description("a", 501),
			   "VALIDATION_FAILED: Description must be less than 500 characters");
	CHECK_TEXT(judge_description("\xc3\xa9", 500), "valid");
	CHECK_TEXT(judge_description("\xf0\x9f\x98\x80", 500), "valid");
	CHECK_TEXT(judge_description("\xf0\x9f\x98\x80", 501),
			   "VALIDATION_FAILED: Description must be less than 500 characters");
	CHECK_TEXT(judge_description("", 1), "valid");
}

UNIT_TEST(many_unknown_fields_are_all_told)
{
	JsonBuffer delta = {0};
	JsonDocument document;
	PemsFindings findings = {0};
	char member[32];
	int i;

	for (i = 0; i < 50000; i++)
	{
		snprintf(member, sizeof(member), "%c\"x%d\":1", i == 0 ? '{' : ',', i);
		pems_json_append_text(&delta, member);
	}
	pems_json_append_text(&delta, "}");
	if (CHECK(pems_json_parse(delta.data, delta.length, &document, NULL)))
	{
		pems_validate_delta(catalogue(), document.root, NULL, &findings);
		CHECK_INT(findings.verdict, PEMS_VERDICT_UNKNOWN_FIELD);
		CHECK_INT(findings.count, 50000);
		CHECK_TEXT(findings.errors[49999], "x49999 is not a known field");
		pems_validate_free(&findings);
		CHECK(findings.errors == NULL && findings.count == 0);
		pems_json_free(&document);
	}
	pems_json_buffer_free(&delta);
}

UNIT_TEST(the_shared_catalogue_is_freed)
{
	pems_field_free_catalogue(catalogue());
}
