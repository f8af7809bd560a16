/*
 * pems/sentence_test.c
 *		Unit tests of src/pems/sentence.c and status.c, mostly through the judge.
 */
#include "unit.h"
#include "pems/answers.h"

#include "pems/sentence.h"
#include "pems/status.h"

static void
check_sentence(int status, const char *body, const char *expected, int line)
{
	PemsAnswer answer = answer_of(status, body);
	PemsOutcome outcome;

	pems_judge_answer(&a_put, &answer, &outcome);
	if (!CHECK_TEXT(outcome.error, expected))
		unit_note("called in line %d", line);
	pems_outcome_free(&outcome);
	pems_answer_free(&answer);
}
#define CHECK_SENTENCE(status, body, expected)                                                     \
	check_sentence((status), (body), (expected), __LINE__)

UNIT_TEST(sentences)
{
	CHECK_SENTENCE(503, NULL, "PEMS answered 503 (Service Unavailable)");
	CHECK_SENTENCE(408, NULL, "PEMS answered 408 (Request Timeout)");
	CHECK_SENTENCE(421, NULL, "PEMS answered 421 (Misdirected Request)");
	CHECK_SENTENCE(425, NULL, "PEMS answered 425 (Too Early)");
	CHECK_SENTENCE(503, "{\"message\":\"down for maintenance\"}",
				   "PEMS answered 503 (Service Unavailable): down for maintenance");
	CHECK_SENTENCE(503, "<html><body>nginx</body></html>",
				   "PEMS answered 503 (Service Unavailable)");
	CHECK_SENTENCE(500, "Internal\r\nfailure",
				   "PEMS answered 500 (Internal Server Error): "
				   "Internal failure");
	CHECK_SENTENCE(418, NULL, "PEMS answered 418");
	CHECK_SENTENCE(400, "{\"error\":\"INVALID_REQUEST\",\"message\":\"dor\"}",
				   "PEMS answered 400 (Bad Request): INVALID_REQUEST: dor");
	CHECK_SENTENCE(200, "{\"success\":false,\"error\":\"NOT_FOUND\"}",
				   "PEMS answered 200 (OK) with success:false: NOT_FOUND");
	CHECK_SENTENCE(200, NULL, "PEMS answered 200 (OK), but with an empty body");
	CHECK_SENTENCE(200, "[]", "PEMS answered 200 (OK), but with a body that is not a JSON object");
}

UNIT_TEST(foreign_texts_are_cleaned)
{
	CHECK_SENTENCE(400, "a\x1b[31mb\x7f\x01 c", "PEMS answered 400 (Bad Request): a [31mb c");
	/* broken UTF-8: stray bytes, overlong, surrogate, beyond U+10FFFF, cut off */
	CHECK_SENTENCE(400, "a\xff\x80z", "PEMS answered 400 (Bad Request): a??z");
	CHECK_SENTENCE(400, "\xc0\xaf", "PEMS answered 400 (Bad Request): ??");
	CHECK_SENTENCE(400, "\xed\xa0\x80", "PEMS answered 400 (Bad Request): ???");
	CHECK_SENTENCE(400, "\xf4\x90\x80\x80", "PEMS answered 400 (Bad Request): ????");
	CHECK_SENTENCE(400, "x\xf0\x9f\x98", "PEMS answered 400 (Bad Request): x???");
	CHECK_SENTENCE(400, "\xc3\xbc \xe2\x82\xac \xf0\x9f\x98\x80",
				   "PEMS answered 400 (Bad Request): \xc3\xbc \xe2\x82\xac \xf0\x9f\x98\x80");
	/* C1 controls, line separators, direction overrides */
	CHECK_SENTENCE(400, "a\xc2\x85g\xe2\x80\xa8h\xe2\x80\xaei",
				   "PEMS answered 400 (Bad Request): a g h i");
	CHECK_SENTENCE(400, "{\"message\":\"\\u001b\\r\\nx\"}", "PEMS answered 400 (Bad Request): x");
}

UNIT_TEST(foreign_texts_are_cut_between_characters)
{
	Expected expected = REJECTED("INVALID_REQUEST");

	for (int shift = 0; shift < 4; shift++)
	{
		JsonBuffer body = {0};
		PemsAnswer answer;
		PemsOutcome outcome;

		pems_json_append_text(&body, "{\"message\":\"");
		pems_json_append(&body, "xxx", (size_t) shift);
		for (int i = 0; i < 50000; i++)
			pems_json_append_text(&body, "\xf0\x9f\x98\x80");
		pems_json_append_text(&body, "\"}");
		answer = answer_of(400, body.data);
		outcome = judged(PUT, &answer, &expected);
		CHECK(strlen(outcome.error) > 500 && strlen(outcome.error) < 1000);
		CHECK(strcmp(outcome.error + strlen(outcome.error) - 3, "...") == 0);
		pems_outcome_free(&outcome);
		pems_answer_free(&answer);
		pems_json_buffer_free(&body);
	}
}

UNIT_TEST(a_sentence_is_cut_off_where_it_is_full)
{
	PemsSentence sentence = {0};
	char text[2 * PEMS_SENTENCE_MAXIMUM];

	memset(text, 'x', sizeof(text));
	pems_sentence_add_foreign(&sentence, text, sizeof(text), sizeof(text));
	CHECK_INT(sentence.length, PEMS_SENTENCE_MAXIMUM);
	CHECK_TEXT(sentence.text + PEMS_SENTENCE_MAXIMUM - 4, "x...");
	pems_sentence_add(&sentence, "and more");
	CHECK_INT(sentence.length, PEMS_SENTENCE_MAXIMUM);
	CHECK_INT(strlen(sentence.text), PEMS_SENTENCE_MAXIMUM);
}

UNIT_TEST(errors_stand_for_statuses)
{
	CHECK_INT(pems_status_of_error("VERSION_CONFLICT"), 409);
	CHECK_INT(pems_status_of_error("version_conflict"), 409);
	CHECK_INT(pems_status_of_error("VERSION_CONFLICTS"), 0);
	CHECK_INT(pems_status_of_error("VALIDATION_OF_DOR"), 422);
	CHECK_INT(pems_status_of_error(""), 0);
	CHECK_TEXT(pems_status_phrase(410), "Gone");
	CHECK_TEXT(pems_status_phrase(299), NULL);
}
