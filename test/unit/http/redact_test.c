/*
 * http/redact_test.c
 *		Tokens in texts that came from outside: src/http/redact.c.
 */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "http/redact.h"

#define TOKEN "canary/tuken+0123=="

/* Redact a copy that ends where its memory ends, so that the sanitizer sees a read behind it. */
static void
check_bytes(const char *text, size_t length, const char *expected, int line)
{
	char *memory = malloc(length + 1);
	char *copy = memory + 1;

	memcpy(copy, text, length);
	pems_http_redact(copy, length, TOKEN);
	if (!CHECK(memcmp(copy, expected, length) == 0))
		unit_note("called in line %d: %.*s", line, (int) length, copy);
	free(memory);
}
#define CHECK_REDACTED(text, expected) check_bytes((text), strlen(text), (expected), __LINE__)
#define CHECK_KEPT(text)               CHECK_REDACTED((text), (text))

UNIT_TEST(a_token_is_blotted_out_however_it_is_escaped)
{
	CHECK_REDACTED("a canary/tuken+0123== b", "a ******************* b");
	CHECK_REDACTED("canary/tuken+0123==canary/tuken+0123==",
				   "**************************************");
	/* JSON */
	CHECK_REDACTED("\"canary\\/tuken+0123==\"", "\"********************\"");
	CHECK_REDACTED("\"canary\\u002ftuken\\u002B0123=\\u003d\"",
				   "\"**********************************\"");
	CHECK_REDACTED("\"\\u0063anary/tuken+0123==\"", "\"************************\"");
	/* an escaped u */
	CHECK_REDACTED("canary/t\\u0075ken+0123==", "************************");
	/* HTML */
	CHECK_REDACTED("<b>canary&#x2F;tuken&#43;0123&#x3d;&#061;</b>",
				   "<b>**************************************</b>");
	/* a URL */
	CHECK_REDACTED("?t=canary%2Ftuken%2b0123%3D%3D&x=1", "?t=***************************&x=1");
}

UNIT_TEST(what_is_not_the_token_is_left_as_it_is)
{
	CHECK_KEPT("canary/tuken+0123=- canary-tuken+0123==");
	CHECK_KEPT("canary canary/ canary%2e &#x2f; \\u002f %");
	CHECK_KEPT("Canary/tuken+0123==");
	CHECK_KEPT("");
}

/* A page that was cut off within the token: from eight characters on it is a secret. */
UNIT_TEST(a_part_of_a_token_is_blotted_out_where_the_text_breaks_off)
{
	CHECK_REDACTED("canary/tuken+0123=", "******************");
	CHECK_REDACTED("a canary/tuken+01", "a ***************");
	CHECK_REDACTED("a canary/t", "a ********");
	CHECK_KEPT("a canary/");
	CHECK_REDACTED("a canary/tuk\\u00", "a **************");
	CHECK_REDACTED("a canary/tuken&#x2", "a ****************");
}

/* As a page in UTF-16 has it, with either byte first; the NUL of an end beside the token stays. */
UNIT_TEST(a_token_in_utf_16_is_blotted_out)
{
	char text[2 * sizeof(TOKEN)] = {0};
	char expected[sizeof(text)] = {0};

	for (size_t i = 0; i < strlen(TOKEN); i++)
		text[2 * i] = TOKEN[i];
	memset(expected, '*', 2 * strlen(TOKEN) - 1);
	check_bytes(text, sizeof(text), expected, __LINE__);
	memmove(text + 1, text, sizeof(text) - 1);
	memmove(expected + 1, expected, sizeof(expected) - 1);
	text[0] = expected[0] = '\0';
	check_bytes(text, sizeof(text), expected, __LINE__);
}

UNIT_TEST(a_text_that_is_missing_and_a_token_that_is_short)
{
	char text[] = "a message with words";

	pems_http_redact(NULL, 0, TOKEN);
	pems_http_redact(text, strlen(text), "message");
	CHECK_TEXT(text, "a message with words");
	pems_http_redact(text, strlen(text), "");
	CHECK_TEXT(text, "a message with words");
	pems_http_redact(text, strlen(text), "a messag");
	CHECK_TEXT(text, "********e with words");
}
