/*
 * record/json_test.c
 *		Unit tests of src/record/json.c: the reader, strict and lenient.
 */
#include "unit.h"
#include "record/json_texts.h"

UNIT_TEST(values_are_read_and_written)
{
	CHECK_TEXT(rewritten("null"), "null");
	CHECK_TEXT(rewritten(" \t\r\n true \n"), "true");
	CHECK_TEXT(rewritten("false"), "false");
	CHECK_TEXT(rewritten("\"\""), "\"\"");
	CHECK_TEXT(rewritten("[ ]"), "[]");
	CHECK_TEXT(rewritten("{ }"), "{}");
	CHECK_TEXT(rewritten("[1, [2, {\"a\" : [ ]}], null ]"), "[1,[2,{\"a\":[]}],null]");
	CHECK_TEXT(rewritten("{ \"b\" : 1 , \"a\" : { \"c\" : true } }"),
			   "{\"b\":1,\"a\":{\"c\":true}}");
}

UNIT_TEST(numbers_keep_their_literal)
{
	CHECK_TEXT(rewritten("9007199254740993"), "9007199254740993");
	CHECK_TEXT(rewritten("5500.00"), "5500.00");
	CHECK_TEXT(rewritten("[-0, 0.10, 1E+5, 1e-400, 12345678901234567890.5]"),
			   "[-0,0.10,1E+5,1e-400,12345678901234567890.5]");
}

UNIT_TEST(a_tree_is_what_the_header_says)
{
	const char *text = "{\"name\": \"caf\\u00e9\", \"list\": [1, 2.50], \"\": null}";
	JsonDocument document;
	const JsonNode *node;

	if (!CHECK(pems_json_parse(text, strlen(text), &document, NULL)))
		return;
	CHECK(document.root->kind == JSON_KIND_OBJECT && document.root->key == NULL);
	CHECK_INT(document.root->count, 3);
	CHECK_INT(document.root->raw_length, strlen(text));

	node = pems_json_get(document.root, "name");
	CHECK(node == document.root->first);
	CHECK_TEXT(node->text, "caf\xc3\xa9");
	CHECK_INT(node->length, 5);
	CHECK_TEXT(node->key, "name");
	CHECK_INT(node->key_length, 4);
	CHECK(node->raw_length == 11 && memcmp(node->raw, "\"caf\\u00e9\"", 11) == 0);

	node = pems_json_get(document.root, "list");
	CHECK(node->kind == JSON_KIND_ARRAY && node->count == 2 && node->first->key == NULL);
	CHECK_TEXT(node->first->next->text, "2.50");
	CHECK(node->first->next->next == NULL);
	CHECK(node->raw_length == 9 && memcmp(node->raw, "[1, 2.50]", 9) == 0);

	CHECK(pems_json_get(document.root, "")->kind == JSON_KIND_NULL);
	CHECK(pems_json_get(document.root, "nam") == NULL);
	CHECK(pems_json_get(node, "name") == NULL);
	CHECK(pems_json_get(NULL, "name") == NULL);
	pems_json_free(&document);
	pems_json_free(&document);
}

UNIT_TEST(broken_texts_are_refused)
{
	static const char *const texts[] = {
		"",           "  ",        "nul",
		"nulll",      "True",      "[",
		"]",          "{",         "}",
		"[1",         "[1,",       "[1,]",
		"[,1]",       "[1 2]",     "[1}",
		"{\"a\"}",    "{\"a\"",    "{\"a\":",
		"{\"a\":}",   "{\"a\":1",  "{\"a\":1,",
		"{\"a\":1,}", "{a:1}",     "{1:1}",
		"{,}",        "{\"a\" 1}", "{\"a\":1]",
		"1 2",        "[] x",      "\"",
		"\"a",        "\"\\",      "\"\\\"",
		"'a'",        "// x\n1",   "01",
		"-",          "-01",       "+1",
		".5",         "1.",        "1.e5",
		"1e",         "1e+",       "1e-",
		"0x10",       "NaN",       "Infinity",
		"-Infinity",  "1_000",     "\357\273\2771",
		"\v1",        "\302\2401", "[1]]",
		"{}{}",       "undefined",
	};
	size_t i;

	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		if (!CHECK(!parses(texts[i])))
			unit_note("accepted: %s", texts[i]);
	}
	CHECK(!parses_bytes(NULL, 0));
	CHECK(!parses_bytes("1\0", 2));
	CHECK(!parses_bytes("\"a\0b\"", 5));
}

UNIT_TEST(every_prefix_of_a_text_is_refused)
{
	const char *text = "{\"a\\n\\u00e9\\ud83d\\ude00\":[true,false,null,\"\xf0\x9f\x98\x80\",{}]}";
	size_t length = strlen(text);
	size_t i;

	CHECK(parses(text));
	for (i = 0; i < length; i++)
	{
		char *copy = exact_copy(text, i);

		CHECK(!parses_bytes(copy, i));
		free(copy);
	}
}

UNIT_TEST(depth_is_limited)
{
	char *deep = repeated("", "[", PEMS_JSON_MAX_DEPTH, "");
	char *whole = repeated(deep, "]", PEMS_JSON_MAX_DEPTH, "");
	char *deeper = repeated("[", whole, 1, "]");
	char *arrays = repeated("", "[", 10000, "");
	char *objects = repeated("", "{\"a\":", 10000, "");
	char *endless = repeated("", "[", 1000000, "");
	char *siblings = repeated("[0", ",[],{}", 1000, "]");

	CHECK(parses(whole));
	CHECK(equal(whole, whole));
	CHECK(!parses(deeper));
	CHECK(!parses(arrays));
	CHECK(!parses(objects));
	CHECK(!parses(endless));
	CHECK(parses(siblings));
	free(deep);
	free(whole);
	free(deeper);
	free(arrays);
	free(objects);
	free(endless);
	free(siblings);
}

/* One object with count keys, all different or all the same. */
static char *
large_object(int count, bool same)
{
	JsonBuffer buffer = {0};
	char member[64];
	int i;

	for (i = 0; i < count; i++)
	{
		snprintf(member, sizeof(member), "%c\"key%d\":%d", i == 0 ? '{' : ',', same ? 0 : i, i);
		pems_json_append_text(&buffer, member);
	}
	pems_json_append_text(&buffer, "}");
	return buffer.data;
}

/*
 * The bounds are loose for the sake of sanitizers and busy machines; quadratic would take
 * minutes.
 */
UNIT_TEST(time_is_linear)
{
	char *different = large_object(100000, false);
	char *same = large_object(100000, true);
	char *numbers = repeated("[1", ",1e999999999999", 100000, "]");
	char *escapes = repeated("[\"", "\\\\\\\"", 500000, "\"]");
	clock_t start = clock();
	JsonDocument document;

	if (CHECK(pems_json_parse(different, strlen(different), &document, NULL)))
	{
		CHECK_INT(document.root->count, 100000);
		CHECK_TEXT(pems_json_get(document.root, "key77777")->text, "77777");
		CHECK(pems_json_equal(document.root, document.root));
		pems_json_free(&document);
	}
	if (CHECK(pems_json_parse(same, strlen(same), &document, NULL)))
	{
		CHECK_INT(document.root->count, 1);
		CHECK_TEXT(document.root->first->text, "99999");
		CHECK(document.root->first->next == NULL);
		pems_json_free(&document);
	}
	CHECK(equal(numbers, numbers));
	CHECK(equal(escapes, escapes));
	if (!CHECK(seconds_since(start) < 5.0))
		unit_note("took %.1f s", seconds_since(start));
	free(different);
	free(same);
	free(numbers);
	free(escapes);
}

/* ---------- what jsonb cannot hold ---------- */

UNIT_TEST(a_reason_goes_up_to_the_root_and_not_beside)
{
	const char *text = "{\"data\":{\"a\":[1,{\"b\":1e999999}]},\"version\":3,\"\\ud800\":\"x\","
					   "\"same\":\"\\u0000\",\"same\":1}";
	JsonDocument document;
	const JsonNode *node;

	if (!CHECK(pems_json_parse_lenient(text, strlen(text), &document, NULL)))
		return;
	CHECK_TEXT(document.root->unstorable, DIGITS);
	node = pems_json_get(document.root, "data");
	CHECK_TEXT(node->unstorable, DIGITS);
	node = pems_json_get(node, "a");
	CHECK_TEXT(node->unstorable, DIGITS);
	CHECK(node->first->unstorable == NULL);
	CHECK_TEXT(node->first->next->unstorable, DIGITS);
	CHECK_TEXT(node->first->next->first->text, "1e999999");
	CHECK(pems_json_get(document.root, "version")->unstorable == NULL);
	/* a key is part of its node */
	CHECK_TEXT(pems_json_get(document.root, FFFD)->unstorable, SURROGATE);
	CHECK(pems_json_get(document.root, "same")->unstorable == NULL);
	pems_json_free(&document);

	/* jsonb_in() reads the value that a later one replaces, too */
	CHECK_TEXT(reason("{\"a\":1e999999,\"a\":1}", false), DIGITS);
	CHECK_TEXT(reason("{\"a\":\"\\u0000\",\"a\":1}", true), NUL);
	/* the first reason is the one that is told */
	CHECK_TEXT(reason("[\"\\u0000\",1e999999]", true), NUL);
}

UNIT_TEST(broken_texts_are_refused_by_the_lenient_parser_too)
{
	static const char *const texts[] = {"",
										"{",
										"[1,]",
										"{\"a\":1,}",
										"\"\\ud800\\u\"",
										"\"\\ud800\\u12\"",
										"\"\\u00\"",
										"\"\\x41\"",
										"\"\n\"",
										"\"a",
										"\"\\u0000",
										"1e",
										"\xff",
										"[\xff]",
										"[1] \xff",
										"[01]",
										"\"\\\xff\"",
										"{\"a\" 1e999999}",
										"1e999999x",
										"[1e9999e]",
										"{1:\"\"}}",
										"nul",
										"\"\\ud800\\u12g4\""};
	size_t i;

	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		if (!CHECK_TEXT(reason(texts[i], true), "(refused)"))
			unit_note("accepted: %s", texts[i]);
	}
}

UNIT_TEST(what_is_nested_too_deeply_is_skipped)
{
	static const char *const inner[] = {
		"",
		"{}",
		"[]",
		"1,\"\\\"]}\",{ \"a\" : [ ] , \"b\\u0000\" : {\"c\":[null,true]} }",
		"{\"a\":{\"b\":{}}},[[[]]]",
	};
	static const char *const broken[] = {"1 2", "[", "{", "]",   "{\"a\"}",   "{\"a\":1,}", "{1:2}",
										 "[1,", ",", "'", "[1}", "[[],,[]]}", "\"",         "01"};
	size_t i;

	for (i = 0; i < sizeof(inner) / sizeof(inner[0]); i++)
	{
		char *text = nested(PEMS_JSON_MAX_DEPTH + 1, inner[i], "]");
		JsonDocument document;
		const JsonNode *node;
		int level = 0;

		CHECK_TEXT(reason(text, false), "(refused)");
		if (!CHECK(pems_json_parse_lenient(text, strlen(text), &document, NULL)))
			unit_note("refused: %s", inner[i]);
		else
		{
			CHECK_TEXT(document.root->unstorable, TOO_DEEP);
			for (node = document.root; node->first; node = node->first)
				level++;
			CHECK_INT(level, PEMS_JSON_MAX_DEPTH);
			CHECK(node->kind == JSON_KIND_ARRAY && node->count == 0 && node->unstorable);
			CHECK_INT(node->raw_length, strlen(inner[i]) + 2);
			CHECK(node->raw == text + PEMS_JSON_MAX_DEPTH);
			pems_json_free(&document);
		}
		free(text);
	}
	for (i = 0; i < sizeof(broken) / sizeof(broken[0]); i++)
	{
		char *text = nested(PEMS_JSON_MAX_DEPTH + 1, broken[i], "]");

		if (!CHECK_TEXT(reason(text, true), "(refused)"))
			unit_note("accepted: %s", broken[i]);
		free(text);
	}
}

UNIT_TEST(only_what_is_too_deep_is_skipped)
{
	char *whole = nested(PEMS_JSON_MAX_DEPTH, "\"\"", "]");
	char *object = nested(PEMS_JSON_MAX_DEPTH, "{\"a\":1}", "]");
	char *both = repeated("{\"success\":true,\"deep\":", object, 1, ",\"newVersion\":4}");
	char *million = nested(1000000, "", "]");
	char *open = repeated("", "[{\"a\":", 500000, "");
	JsonDocument document;

	CHECK_TEXT(reason(whole, true), "");
	CHECK_TEXT(reason(object, true), TOO_DEEP);
	CHECK_TEXT(reason(million, true), TOO_DEEP);
	CHECK_TEXT(reason(open, true), "(refused)");
	if (CHECK(pems_json_parse_lenient(both, strlen(both), &document, NULL)))
	{
		CHECK(pems_json_get(document.root, "success")->boolean);
		CHECK_TEXT(pems_json_get(document.root, "newVersion")->text, "4");
		CHECK(pems_json_get(document.root, "newVersion")->unstorable == NULL);
		pems_json_free(&document);
	}
	free(whole);
	free(object);
	free(both);
	free(million);
	free(open);
}

/* One byte more than jsonb holds, in a string, and in two strings of an array. */
UNIT_TEST(what_is_too_large_for_jsonb_is_known)
{
	size_t most = 0x0FFFFFFF;
	char *text = malloc(most + 3);
	JsonDocument document;

	memset(text, 'a', most + 3);
	text[0] = text[most + 2] = '"';
	if (CHECK(pems_json_parse(text, most + 3, &document, NULL)))
	{
		CHECK_TEXT(document.root->unstorable, "a text is too long for the database");
		pems_json_free(&document);
	}
	text[0] = '[';
	text[1] = text[most / 2] = text[most / 2 + 2] = text[most + 1] = '"';
	text[most / 2 + 1] = ',';
	text[most + 2] = ']';
	if (CHECK(pems_json_parse_lenient(text, most + 3, &document, NULL)))
	{
		CHECK(document.root->first->unstorable == NULL);
		CHECK_TEXT(document.root->unstorable, "an array or object is too large for the database");
		pems_json_free(&document);
	}
	free(text);
}

/* ---------- of which only the outer levels are looked at ---------- */

UNIT_TEST(what_is_below_the_outer_levels_is_read_and_not_kept)
{
	const char *text = "{\"a\": [ 1 ,{\"b\":[]}], \"c\":{\"d\":\"\\u0000\"},\"e\":\"x\",\"f\":{}}";
	JsonDocument document;
	const JsonNode *node;

	if (!CHECK(pems_json_parse_outer(text, strlen(text), 1, 100, &document, NULL)))
		return;
	CHECK_INT(document.root->count, 4);
	node = pems_json_get(document.root, "a");
	CHECK(node->kind == JSON_KIND_ARRAY && node->count == 0 && node->first == NULL);
	CHECK(node->unstorable == NULL && node->raw_length == strlen("[ 1 ,{\"b\":[]}]"));
	node = pems_json_get(document.root, "c");
	CHECK(node->kind == JSON_KIND_OBJECT && node->count == 0 && pems_json_get(node, "d") == NULL);
	CHECK_TEXT(node->unstorable, NUL);
	CHECK_TEXT(pems_json_get(document.root, "e")->text, "x");
	CHECK(pems_json_get(document.root, "f")->unstorable == NULL);
	pems_json_free(&document);

	if (!CHECK(pems_json_parse_outer(text, strlen(text), 2, 100, &document, NULL)))
		return;
	node = pems_json_get(document.root, "a");
	CHECK_INT(node->count, 2);
	CHECK(node->first->next->kind == JSON_KIND_OBJECT && node->first->next->count == 0);
	pems_json_free(&document);
	CHECK(!pems_json_parse_outer("{\"a\":[1 2]}", 11, 1, 100, &document, NULL));
}

UNIT_TEST(depth_counts_below_the_outer_levels_too)
{
	for (size_t levels = 1; levels <= 3; levels++)
	{
		char *good = nested(PEMS_JSON_MAX_DEPTH, "1", "]");
		char *bad = nested(PEMS_JSON_MAX_DEPTH + 1, "1", "]");
		JsonDocument document;

		if (CHECK(pems_json_parse_outer(good, strlen(good), levels, 100, &document, NULL)))
			CHECK(document.root->unstorable == NULL);
		pems_json_free(&document);
		if (CHECK(pems_json_parse_outer(bad, strlen(bad), levels, 100, &document, NULL)))
			CHECK_TEXT(document.root->unstorable, TOO_DEEP);
		pems_json_free(&document);
		free(good);
		free(bad);
	}
}

UNIT_TEST(values_of_the_outer_levels_are_counted)
{
	JsonDocument document;
	const char *error = NULL;

	CHECK(pems_json_parse_outer("[1,[2,3,4],5]", 13, 1, 4, &document, NULL));
	pems_json_free(&document);
	CHECK(!pems_json_parse_outer("[1,[2,3,4],5]", 13, 1, 3, &document, &error));
	CHECK_TEXT(error, "too many values");
	CHECK(!pems_json_parse_outer("[1,[2,3,4],5]", 13, 2, 6, &document, &error));
	CHECK(!pems_json_parse_outer("1", 1, 1, 0, &document, &error));
	CHECK(document.root == NULL && document.arena.newest == NULL);
}

/* What is not counted is taken for as large as it may be. */
UNIT_TEST(a_large_value_below_the_outer_levels_is_not_storable)
{
	char *small = repeated("[[", "\"0123456789abcd\",", 1 << 20, "0]]");
	char *large = repeated("[[", "\"0123456789abcd\",", 3 << 19, "0]]");
	JsonDocument document;

	if (CHECK(pems_json_parse_outer(small, strlen(small), 1, 9, &document, NULL)))
		CHECK(document.root->first->unstorable == NULL);
	pems_json_free(&document);
	if (CHECK(pems_json_parse_outer(large, strlen(large), 1, 9, &document, NULL)))
		CHECK_TEXT(document.root->first->unstorable,
				   "an array or object is too large for the database");
	pems_json_free(&document);
	free(small);
	free(large);
}

UNIT_TEST(the_lenient_parser_is_linear)
{
	char *deep = nested(300000, "1,{\"a\":[{\"b\":\"x\"}]}", "]");
	char *bytes = repeated("[\"", "\xff\\u0000\\ud800", 300000, "\"]");
	char *numbers = repeated("[1", ",1e999999999999", 100000, "]");
	clock_t start = clock();

	CHECK_TEXT(reason(deep, true), TOO_DEEP);
	CHECK_TEXT(reason(bytes, true), BAD_UTF8);
	CHECK_TEXT(reason(numbers, true), DIGITS);
	if (!CHECK(seconds_since(start) < 5.0))
		unit_note("took %.1f s", seconds_since(start));
	free(deep);
	free(bytes);
	free(numbers);
}

/* ---------- random documents ---------- */

static void
append_random_string(JsonBuffer *buffer)
{
	static const char *const pieces[] = {
		"a", "b",    "\"", "\\", "\n", "\x01", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
		"/", "u0041"};
	JsonBuffer text = {0};
	unsigned count = unit_random_below(6);

	pems_json_append_text(&text, "");
	while (count-- > 0)
		pems_json_append_text(&text, pieces[unit_random_below(sizeof(pieces) / sizeof(pieces[0]))]);
	pems_json_append_string(buffer, text.data, text.length);
	pems_json_buffer_free(&text);
}

static void
append_random_value(JsonBuffer *buffer, int depth)
{
	static const char *const scalars[] = {
		"null", "true", "false", "0", "-0.0", "1e400", "9007199254740993", "5500.00"};
	unsigned count = unit_random_below(4);
	unsigned what = unit_random_below(depth > 0 ? 4 : 2);
	unsigned i;

	if (what == 0)
		pems_json_append_text(buffer,
							  scalars[unit_random_below(sizeof(scalars) / sizeof(scalars[0]))]);
	else if (what == 1)
		append_random_string(buffer);
	else
	{
		pems_json_append_text(buffer, what == 2 ? "[" : "{");
		for (i = 0; i < count; i++)
		{
			if (i > 0)
				pems_json_append_text(buffer, " , ");
			if (what == 3)
			{
				append_random_string(buffer);
				pems_json_append_text(buffer, ":");
			}
			append_random_value(buffer, depth - 1);
		}
		pems_json_append_text(buffer, what == 2 ? "]" : "}");
	}
}

UNIT_TEST(what_was_written_reads_as_the_same_value)
{
	int i;

	for (i = 0; i < 3000; i++)
	{
		JsonBuffer source = {0};
		JsonBuffer written = {0};
		JsonDocument document;

		append_random_value(&source, 5);
		if (CHECK(pems_json_parse(source.data, source.length, &document, NULL)))
		{
			pems_json_append_node(&written, document.root);
			CHECK(equal(source.data, written.data));
			pems_json_free(&document);
		}
		pems_json_buffer_free(&written);
		pems_json_buffer_free(&source);
		if (unit_failures() > 0)
			return;
	}
}

/* What the lenient parser owes the strict one. */
static void
compare_parsers(const char *text, size_t length)
{
	JsonDocument strict;
	JsonDocument lenient;
	bool strictly = pems_json_parse(text, length, &strict, NULL);
	bool leniently = pems_json_parse_lenient(text, length, &lenient, NULL);

	if (strictly && CHECK(leniently))
		CHECK(pems_json_equal(strict.root, lenient.root));
	if (leniently && lenient.root->unstorable == NULL)
		CHECK(strictly);
	if (strictly)
		pems_json_free(&strict);
	if (leniently)
		pems_json_free(&lenient);
}

/* Whatever bytes change, the parser neither crashes nor reads outside. */
UNIT_TEST(damaged_texts_do_no_harm)
{
	int i;

	for (i = 0; i < 20000; i++)
	{
		JsonBuffer source = {0};
		unsigned hits = 1 + unit_random_below(3);
		char *copy;

		append_random_value(&source, 3);
		copy = exact_copy(source.data, source.length);
		while (hits-- > 0)
			copy[unit_random_below((unsigned) source.length)] = (char) unit_random();
		parses_bytes(copy, source.length);
		compare_parsers(copy, source.length);
		free(copy);
		pems_json_buffer_free(&source);
	}
}
