/*
 * record/json_write_test.c
 *		Unit tests of src/record/json_write.c.
 */
#include "unit.h"
#include "record/json_texts.h"

UNIT_TEST(strings_are_escaped)
{
	static const char text[] = "a\"b\\c\x01\x1f\n</script>\xc3\xa9";
	JsonBuffer buffer = {0};

	pems_json_append_string(&buffer, text, sizeof(text) - 1);
	CHECK_TEXT(buffer.data, "\"a\\\"b\\\\c\\u0001\\u001f\\n</script>\xc3\xa9\"");
	CHECK_INT(buffer.length, strlen(buffer.data));
	pems_json_buffer_free(&buffer);
	CHECK(buffer.data == NULL && buffer.length == 0);

	pems_json_append_string(&buffer, "", 0);
	CHECK_TEXT(buffer.data, "\"\"");
	pems_json_buffer_free(&buffer);
	pems_json_append_node(&buffer, NULL);
	CHECK_TEXT(buffer.data, "null");
	pems_json_buffer_free(&buffer);
}

UNIT_TEST(a_buffer_that_failed_stays_failed)
{
	JsonBuffer buffer = {0};

	pems_json_append_text(&buffer, "abc");
	buffer.failed = true;
	pems_json_append_text(&buffer, "def");
	CHECK_TEXT(buffer.data, "abc");
	CHECK(buffer.failed);
	pems_json_buffer_free(&buffer);

	pems_json_append(&buffer, "x", (size_t) -1);
	CHECK(buffer.failed && buffer.data == NULL);
}

UNIT_TEST(members_are_separated_by_commas)
{
	JsonBuffer buffer = {0};

	pems_json_append_text(&buffer, "{");
	pems_json_append_key(&buffer, "a", 1);
	pems_json_append_text(&buffer, "{");
	pems_json_append_key(&buffer, "", 0);
	pems_json_append_string(&buffer, "{", 1);
	pems_json_append_key(&buffer, "\"", 1);
	pems_json_append_text(&buffer, "{}}");
	pems_json_append_key(&buffer, "b", 1);
	pems_json_append_text(&buffer, "1}");
	CHECK_TEXT(buffer.data, "{\"a\":{\"\":\"{\",\"\\\"\":{}},\"b\":1}");
	pems_json_buffer_free(&buffer);
}

UNIT_TEST(lists_of_texts_are_arrays)
{
	char first[] = "a\"b";
	char second[] = "";
	char *texts[] = {first, second};
	JsonBuffer buffer = {0};

	pems_json_append_strings(&buffer, texts, 0);
	pems_json_append_strings(&buffer, texts, 1);
	pems_json_append_strings(&buffer, texts, 2);
	CHECK_TEXT(buffer.data, "[][\"a\\\"b\"][\"a\\\"b\",\"\"]");
	pems_json_buffer_free(&buffer);
}
