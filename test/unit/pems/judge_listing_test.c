/*
 * pems/judge_listing_test.c
 *		Unit tests of src/pems/judge.c and judge_failure.c: answers to a listing.  Those of the
 *other calls are in judge_test.c.
 */
#include "unit.h"
#include "pems/answers.h"

#define PAGE                                                                                       \
	{                                                                                              \
		PEMS_OUTCOME_PAGE, false, false, NULL                                                      \
	}
#define CURSOR_REFUSED                                                                             \
	{                                                                                              \
		PEMS_OUTCOME_CURSOR_REFUSED, false, false, "CURSOR_REFUSED"                                \
	}

UNIT_TEST(a_listing_gives_a_page)
{
	static const Row rows[] = {
		{LIST, 200, "{\"success\":true,\"records\":[]}", PAGE},
		{LIST, 200, "\xef\xbb\xbf{\"success\":true,\"records\":[],\"nextCursor\":null}", PAGE},
		{LIST, 200, "{\"success\":true,\"records\":[{}],\"nextCursor\":\"a\"}", PAGE},
		/* what is in it is looked at one by one */
		{LIST, 200, "{\"success\":true,\"records\":[7,{\"data\":\"\\u0000\"}]}", PAGE},
	};

	CHECK_ROWS(rows);
}

UNIT_TEST(what_is_no_page_is_asked_for_again)
{
	static const Row rows[] = {
		{LIST, 200, NULL, TRANSIENT("BAD_RESPONSE")},
		{LIST, 200, "<html>", TRANSIENT("BAD_RESPONSE")},
		{LIST, 200, "{\"success\":true,\"records\":[{]}", TRANSIENT("BAD_RESPONSE")},
		{LIST, 200, "[]", TRANSIENT("BAD_RESPONSE")},
		{LIST, 200, "{\"records\":[]}", TRANSIENT("BAD_RESPONSE")},
		{LIST, 200, "{\"success\":true}", TRANSIENT("BAD_RESPONSE")},
		{LIST, 200, "{\"success\":true,\"records\":{}}", TRANSIENT("BAD_RESPONSE")},
		{LIST, 200, "{\"success\":true,\"records\":[],\"nextCursor\":\"\"}",
		 TRANSIENT("BAD_RESPONSE")},
		{LIST, 200, "{\"success\":true,\"records\":[],\"nextCursor\":5}",
		 TRANSIENT("BAD_RESPONSE")},
		{LIST, 200, READ, TRANSIENT("BAD_RESPONSE")},
		{LIST, 202, NULL, TRANSIENT("ACCEPTED")},
		{LIST, 204, NULL, TRANSIENT("BAD_RESPONSE")},
	};

	CHECK_ROWS(rows);
}

/* The first page is asked for without a cursor. */
UNIT_TEST(errors_of_the_first_page)
{
	static const Row rows[] = {
		{LIST, 400, NULL, REJECTED("INVALID_REQUEST")},
		{LIST, 404, NULL, REJECTED("NOT_FOUND")},
		{LIST, 410, NULL, REJECTED("NOT_FOUND")},
		{LIST, 422, NULL, REJECTED("INVALID_REQUEST")},
		{LIST, 412, NULL, REJECTED("INVALID_REQUEST")},
		{LIST, 301, NULL, REJECTED("REDIRECT")},
		{LIST, 401, NULL, CREDENTIAL("UNAUTHORIZED")},
		{LIST, 403, NULL, REJECTED("FORBIDDEN")},
		{LIST, 403, "{\"error\":\"ORGANIZATION_FORBIDDEN\"}", CREDENTIAL("FORBIDDEN")},
		{LIST, 403, "{\"error\":\"X\",\"organizationCode\":\"RIO\"}", CREDENTIAL("FORBIDDEN")},
		{LIST, 408, NULL, TRANSIENT("TIMEOUT")},
		{LIST, 409, NULL, TRANSIENT("CONFLICT")},
		{LIST, 429, NULL, THROTTLED},
		{LIST, 500, NULL, TRANSIENT("SERVER_ERROR")},
		{LIST, 503, NULL, FAULT("UNAVAILABLE")},
		{LIST, 200, "{\"success\":false,\"error\":\"RATE_LIMITED\"}", THROTTLED},
		{LIST, 200, "{\"success\":false,\"error\":\"NOT_FOUND\"}", REJECTED("NOT_FOUND")},
		{LIST, 200, "{\"success\":false}", REJECTED("INVALID_REQUEST")},
	};

	CHECK_ROWS(rows);
}

static void
check_next_page(int status, const char *body, Expected expected, int line)
{
	PemsAsked asked = {.call = LIST, .has_cursor = true};
	PemsAnswer answer = answer_of(status, body);
	PemsOutcome outcome;

	pems_judge_answer(&asked, &answer, &outcome);
	if (!CHECK_INT(outcome.class, expected.class) ||
		!CHECK_TEXT(outcome.error_code, expected.error_code))
		unit_note("called in line %d", line);
	CHECK(!outcome.unknown);
	pems_outcome_free(&outcome);
	pems_answer_free(&answer);
}
#define CHECK_NEXT_PAGE(status, body, ...)                                                         \
	check_next_page((status), (body), (Expected) __VA_ARGS__, __LINE__)

UNIT_TEST(a_cursor_may_be_refused)
{
	CHECK_NEXT_PAGE(200, "{\"success\":true,\"records\":[]}", PAGE);
	CHECK_NEXT_PAGE(400, NULL, CURSOR_REFUSED);
	CHECK_NEXT_PAGE(404, NULL, CURSOR_REFUSED);
	CHECK_NEXT_PAGE(410, "{\"error\":\"CURSOR_EXPIRED\"}", CURSOR_REFUSED);
	CHECK_NEXT_PAGE(200, "{\"success\":false,\"error\":\"GONE\"}", CURSOR_REFUSED);
	CHECK_NEXT_PAGE(200, "{\"success\":false,\"error\":\"CURSOR_EXPIRED\"}", CURSOR_REFUSED);
	CHECK_NEXT_PAGE(422, NULL, REJECTED("INVALID_REQUEST"));
	CHECK_NEXT_PAGE(401, NULL, CREDENTIAL("UNAUTHORIZED"));
	CHECK_NEXT_PAGE(403, NULL, REJECTED("FORBIDDEN"));
	CHECK_NEXT_PAGE(429, NULL, THROTTLED);
	CHECK_NEXT_PAGE(503, NULL, FAULT("UNAVAILABLE"));
}

static void
check_sentence(const PemsAnswer *answer, bool has_cursor, const char *expected)
{
	PemsAsked asked = {.call = LIST, .has_cursor = has_cursor};
	PemsOutcome outcome;

	pems_judge_answer(&asked, answer, &outcome);
	CHECK_TEXT(outcome.error, expected);
	pems_outcome_free(&outcome);
}

UNIT_TEST(sentences_about_listings)
{
	PemsAnswer answer = answer_of(410, "{\"error\":\"CURSOR_EXPIRED\"}");
	PemsAnswer large = {.transport = PEMS_TRANSPORT_TOO_LARGE,
						.maybe_sent = true,
						.status = 200,
						.detail = "the body is larger than 33554432 bytes"};

	check_sentence(&answer, true, "PEMS answered 410 (Gone): CURSOR_EXPIRED");
	pems_answer_free(&answer);
	answer = answer_of(200, "{\"success\":true}");
	check_sentence(&answer, false, "PEMS answered 200 (OK), but without records that are an array");
	pems_answer_free(&answer);
	check_sentence(&large, false,
				   "PEMS's answer is larger than allowed and was cut off: the body is larger than "
				   "33554432 bytes; ask for fewer records at a time (pems_sync.pull_page_size), or "
				   "allow more (pems_sync.pull_max_response_size)");
}
