/*
 * record/json_value_test.c
 *		Unit tests of src/record/json_value.c.
 */
#include "unit.h"
#include "record/json_texts.h"

#include <limits.h>

/* The value as an integer; -77 when it is none. */
static long long
integer(const char *text)
{
	JsonDocument document;
	long long value = -77;

	if (!CHECK(pems_json_parse(text, strlen(text), &document, NULL)))
		return value;
	if (!pems_json_integer(document.root, &value))
		value = -77;
	pems_json_free(&document);
	return value;
}

static bool
integral(const char *text)
{
	JsonDocument document;
	bool result;

	if (!CHECK(pems_json_parse(text, strlen(text), &document, NULL)))
		return false;
	result = pems_json_is_integral(document.root);
	pems_json_free(&document);
	return result;
}

UNIT_TEST(a_duplicate_key_keeps_its_last_value)
{
	CHECK_TEXT(rewritten("{\"a\":1,\"b\":2,\"a\":3}"), "{\"b\":2,\"a\":3}");
	CHECK_TEXT(rewritten("{\"a\":1,\"a\":2,\"a\":3}"), "{\"a\":3}");
	CHECK_TEXT(rewritten("{\"a\":1,\"\\u0061\":2}"), "{\"a\":2}");
	CHECK(equal("{\"a\":1,\"b\":2,\"a\":3}", "{\"a\":3,\"b\":2}"));
}

UNIT_TEST(equality_is_that_of_jsonb)
{
	CHECK(equal("{\"a\":1,\"b\":[1,2]}", "{\"b\":[1.0,2e0],\"a\":1}"));
	CHECK(equal("\"a\"", "\"\\u0061\""));
	CHECK(equal("5500.00", "55e2"));
	CHECK(!equal("[1,2]", "[2,1]"));
	CHECK(!equal("[1]", "[1,1]"));
	CHECK(!equal("{\"a\":null}", "{}"));
	CHECK(!equal("{\"a\":1}", "{\"b\":1}"));
	CHECK(!equal("{\"a\":1}", "{\"a\":2}"));
	CHECK(!equal("null", "false"));
	CHECK(!equal("0", "false"));
	CHECK(!equal("\"1\"", "1"));
	CHECK(!equal("true", "false"));
	CHECK(!equal("\"a\"", "\"A\""));
	CHECK(!equal("\"a\"", "\"a \""));
	CHECK(!equal("9007199254740993", "9007199254740992"));
	CHECK(pems_json_equal(NULL, NULL));
}

UNIT_TEST(integers_are_read)
{
	CHECK_INT(integer("0"), 0);
	CHECK_INT(integer("-0.0e5"), 0);
	CHECK_INT(integer("42"), 42);
	CHECK_INT(integer("-42.00"), -42);
	CHECK_INT(integer("55e2"), 5500);
	CHECK_INT(integer("5500e-2"), 55);
	CHECK_INT(integer("1.5e1"), 15);
	CHECK_INT(integer("9223372036854775807"), LLONG_MAX);
	CHECK(integer("-9223372036854775808") == LLONG_MIN);
	CHECK_INT(integer("9223372036854775808"), -77);
	CHECK_INT(integer("-9223372036854775809"), -77);
	CHECK_INT(integer("9999999999999999999"), -77);
	CHECK_INT(integer("10000000000000000000"), -77);
	CHECK_INT(integer("20000000000000000000"), -77);
	CHECK_INT(integer("1e999999999999"), -77);
	CHECK_INT(integer("1.5"), -77);
	CHECK_INT(integer("0.5"), -77);
	CHECK_INT(integer("15e-1"), -77);
	CHECK_INT(integer("1e-999999999999"), -77);
	CHECK_INT(integer("\"42\""), -77);
	CHECK_INT(integer("null"), -77);
	CHECK(integral("5e30"));
	CHECK(integral("-5.0"));
	CHECK(integral("0.0"));
	CHECK(!integral("5.1"));
	CHECK(!integral("\"5\""));
	CHECK(!pems_json_is_integral(NULL));
}
