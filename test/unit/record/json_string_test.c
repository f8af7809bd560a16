/*
 * record/json_string_test.c
 *		Unit tests of src/record/json_string.c: escapes and UTF-8, through the reader.
 */
#include "unit.h"
#include "record/json_texts.h"

UNIT_TEST(escapes_are_decoded)
{
	CHECK_TEXT(rewritten("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), "\"\\\"\\\\/\\b\\f\\n\\r\\t\"");
	CHECK_TEXT(rewritten("\"\\u0041\\u00E9\\u20aC\""), "\"A\xc3\xa9\xe2\x82\xac\"");
	CHECK_TEXT(rewritten("\"\\uD83D\\uDE00\""), "\"\xf0\x9f\x98\x80\"");
	CHECK_TEXT(rewritten("\"\\uDBFF\\uDFFF\""), "\"\xf4\x8f\xbf\xbf\"");
	CHECK_TEXT(rewritten("\"\\u0001\\u001f\\u007f\""), "\"\\u0001\\u001f\x7f\"");
	CHECK_TEXT(rewritten("{\"\\u0061\":1}"), "{\"a\":1}");
	CHECK(!parses("\"\\u0000\""));
	CHECK(!parses("{\"\\u0000\":1}"));
	CHECK(!parses("\"\\u12\""));
	CHECK(!parses("\"\\u12g4\""));
	CHECK(!parses("\"\\U0041\""));
	CHECK(!parses("\"\\x41\""));
	CHECK(!parses("\"\\'\""));
	CHECK(!parses("\"\n\""));
	CHECK(!parses("\"\t\""));
}

UNIT_TEST(lone_surrogates_are_refused)
{
	CHECK(!parses("\"\\ud800\""));
	CHECK(!parses("\"\\ud800x\""));
	CHECK(!parses("\"\\ud800\\n\""));
	CHECK(!parses("\"\\ud800\\u0041\""));
	CHECK(!parses("\"\\ud800\\ud800\""));
	CHECK(!parses("\"\\udc00\""));
	CHECK(!parses("\"\\udc00\\ud800\""));
	CHECK(!parses("\"\\ud800\\u\""));
}

UNIT_TEST(utf8_is_checked)
{
	CHECK(parses("\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\""));
	CHECK(parses("\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\""));
	CHECK(!parses("\"\x80\""));
	CHECK(!parses("\"\xc0\x80\""));
	CHECK(!parses("\"\xc1\xbf\""));
	CHECK(!parses("\"\xc2\""));
	CHECK(!parses("\"\xc2"
				  "A\""));
	CHECK(!parses("\"\xe0\x80\x80\""));
	CHECK(!parses("\"\xed\xa0\x80\""));
	CHECK(!parses("\"\xe2\x82\""));
	CHECK(!parses("\"\xe2\x82"
				  "A\""));
	CHECK(!parses("\"\xf0\x80\x80\x80\""));
	CHECK(!parses("\"\xf4\x90\x80\x80\""));
	CHECK(!parses("\"\xf5\x80\x80\x80\""));
	CHECK(!parses("\"\xf0\x9f\x98\""));
	CHECK(!parses("\"\xff\""));
}

UNIT_TEST(characters_that_jsonb_cannot_hold_are_replaced)
{
	CHECK_TEXT(lenient("\"a\\u0000b\""), "\"a" FFFD "b\"");
	CHECK_TEXT(lenient("\"\\ud800\""), "\"" FFFD "\"");
	CHECK_TEXT(lenient("\"\\ud800x\""), "\"" FFFD "x\"");
	CHECK_TEXT(lenient("\"\\ud800\\n\""), "\"" FFFD "\\n\"");
	CHECK_TEXT(lenient("\"\\ud800\\u0041\""), "\"" FFFD "A\"");
	CHECK_TEXT(lenient("\"\\ud800\\ud83d\\ude00\""), "\"" FFFD "\xf0\x9f\x98\x80\"");
	CHECK_TEXT(lenient("\"\\ud800\\u0000\""), "\"" FFFD FFFD "\"");
	CHECK_TEXT(lenient("\"\\udc00\\ud800\""), "\"" FFFD FFFD "\"");
	CHECK_TEXT(lenient("\"\x80\xff\xc3\""), "\"" FFFD FFFD FFFD "\"");
	CHECK_TEXT(lenient("\"\xed\xa0\x80\""), "\"" FFFD FFFD FFFD "\"");
	CHECK_TEXT(lenient("\"\xf0\x9f\x98"
					   "A\xc3\xa9\""),
			   "\"" FFFD FFFD FFFD "A\xc3\xa9\"");
	CHECK_TEXT(lenient("{\"\\u0000\":1,\"\xff\":2}"), "{\"" FFFD "\":2}");
	CHECK_TEXT(reason("\"\\u0000\"", true), NUL);
	CHECK_TEXT(reason("\"\\udfff\"", true), SURROGATE);
	CHECK_TEXT(reason("{\"\xff\":1}", true), BAD_UTF8);
	/* what stands for itself can be held */
	CHECK_TEXT(reason("\"" FFFD "\\ufffd\\uD83D\\uDE00\\\\u0000\"", true), "");
}
