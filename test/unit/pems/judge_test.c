/*
 * pems/judge_test.c
 *		Unit tests of src/pems/judge.c and judge_failure.c: every row of the outcome table.
 */
#include "unit.h"
#include "pems/answers.h"

#include "pems/retry.h"

UNIT_TEST(a_write_is_done)
{
	static const Row rows[] = {
		{PUT, 200, WRITTEN, DONE},
		{PUT, 201, WRITTEN, DONE},
		{DELETE, 200, WRITTEN, DONE},
		{PUT, 200, "\xef\xbb\xbf" WRITTEN, DONE},
		{PUT, 200, "{\"success\":true,\"pfaId\":\"PFA-1\",\"newVersion\":1}", DONE},
		{PUT, 200, "{\"success\":true,\"pfaId\":\"PFA-1\",\"newVersion\":4.0}", DONE},
		{PUT, 200, "{\"success\":true,\"pfaId\":\"PFA-1\",\"newVersion\":2147483647}", DONE},
	};
	const Expected done = DONE;
	PemsAnswer answer = answer_of(200, WRITTEN);
	PemsOutcome outcome = judged(PUT, &answer, &done);

	CHECK_INT(outcome.new_version, 4);
	pems_outcome_free(&outcome);
	pems_answer_free(&answer);
	CHECK_ROWS(rows);
}

UNIT_TEST(a_broken_success_after_a_write_is_unknown)
{
	static const Row rows[] = {
		{PUT, 200, NULL, UNKNOWN("BAD_RESPONSE")},
		{PUT, 200, "", UNKNOWN("BAD_RESPONSE")},
		{PUT, 204, NULL, UNKNOWN("BAD_RESPONSE")},
		{PUT, 201, NULL, UNKNOWN("BAD_RESPONSE")},
		{DELETE, 200, NULL, UNKNOWN("BAD_RESPONSE")},
		{PUT, 200, "<html>Welcome</html>", UNKNOWN("BAD_RESPONSE")},
		{PUT, 200, "{\"success\":true,\"pfaId\":\"PFA-1\",\"newVer", UNKNOWN("BAD_RESPONSE")},
		{PUT, 200, WRITTEN "x", UNKNOWN("BAD_RESPONSE")},
		{PUT, 200, "[]", UNKNOWN("BAD_RESPONSE")},
		{PUT, 200, "null", UNKNOWN("BAD_RESPONSE")},
		{PUT, 200, "\"ok\"", UNKNOWN("BAD_RESPONSE")},
		{PUT, 200, "{}", UNKNOWN("BAD_RESPONSE")},
		/* another pfaId, or none */
		{PUT, 200, "{\"success\":true,\"pfaId\":\"PFA-2\",\"newVersion\":4}",
		 UNKNOWN("BAD_RESPONSE")},
		{PUT, 200, "{\"success\":true,\"pfaId\":\"PFA-11\",\"newVersion\":4}",
		 UNKNOWN("BAD_RESPONSE")},
		{PUT, 200, "{\"success\":true,\"pfaId\":1,\"newVersion\":4}", UNKNOWN("BAD_RESPONSE")},
		{PUT, 200, "{\"success\":true,\"newVersion\":4}", UNKNOWN("BAD_RESPONSE")},
		/* newVersion */
		{PUT, 200, "{\"success\":true,\"pfaId\":\"PFA-1\"}", UNKNOWN("BAD_RESPONSE")},
		{PUT, 200, "{\"success\":true,\"pfaId\":\"PFA-1\",\"newVersion\":\"4\"}",
		 UNKNOWN("BAD_RESPONSE")},
		{PUT, 200, "{\"success\":true,\"pfaId\":\"PFA-1\",\"newVersion\":4.5}",
		 UNKNOWN("BAD_RESPONSE")},
		{PUT, 200, "{\"success\":true,\"pfaId\":\"PFA-1\",\"newVersion\":0}",
		 UNKNOWN("NOT_APPLIED")},
		{PUT, 200, "{\"success\":true,\"pfaId\":\"PFA-1\",\"newVersion\":-4}",
		 UNKNOWN("BAD_RESPONSE")},
		{PUT, 200, "{\"success\":true,\"pfaId\":\"PFA-1\",\"newVersion\":null}",
		 UNKNOWN("BAD_RESPONSE")},
		{PUT, 200, "{\"success\":true,\"pfaId\":\"PFA-1\",\"newVersion\":2147483648}",
		 UNKNOWN("BAD_RESPONSE")},
		{PUT, 200, "{\"success\":true,\"pfaId\":\"PFA-1\",\"newVersion\":1e999999999}",
		 UNKNOWN("BAD_RESPONSE")},
		/* success */
		{PUT, 200, "{\"pfaId\":\"PFA-1\",\"newVersion\":4}", UNKNOWN("BAD_RESPONSE")},
		{PUT, 200, "{\"success\":\"true\",\"pfaId\":\"PFA-1\",\"newVersion\":4}",
		 UNKNOWN("BAD_RESPONSE")},
		{PUT, 200, "{\"success\":1,\"pfaId\":\"PFA-1\",\"newVersion\":4}", UNKNOWN("BAD_RESPONSE")},
		{PUT, 202, "{\"success\":true}", UNKNOWN("ACCEPTED")},
		{PUT, 202, NULL, UNKNOWN("ACCEPTED")},
		{DELETE, 202, NULL, UNKNOWN("ACCEPTED")},
	};

	CHECK_ROWS(rows);
}

UNIT_TEST(a_read_gives_a_record)
{
	static const Row rows[] = {
		{GET, 200, READ, RECORD},
		{GET, 200, "{\"success\":true,\"pfaId\":\"PFA-1\",\"version\":0,\"data\":{}}", RECORD},
		/* broken ones are never unknown: nothing was written */
		{GET, 200, NULL, TRANSIENT("BAD_RESPONSE")},
		{GET, 202, NULL, TRANSIENT("ACCEPTED")},
		{GET, 200, "<html>", TRANSIENT("BAD_RESPONSE")},
		{GET, 200, "{\"success\":true,\"pfaId\":\"PFA-2\",\"version\":7,\"data\":{}}",
		 TRANSIENT("BAD_RESPONSE")},
		{GET, 200, "{\"success\":true,\"pfaId\":\"PFA-1\",\"version\":7}",
		 TRANSIENT("BAD_RESPONSE")},
		{GET, 200, "{\"success\":true,\"pfaId\":\"PFA-1\",\"version\":7,\"data\":[]}",
		 TRANSIENT("BAD_RESPONSE")},
		{GET, 200, "{\"success\":true,\"pfaId\":\"PFA-1\",\"version\":7,\"data\":null}",
		 TRANSIENT("BAD_RESPONSE")},
		{GET, 200, "{\"success\":true,\"pfaId\":\"PFA-1\",\"version\":\"7\",\"data\":{}}",
		 TRANSIENT("BAD_RESPONSE")},
		{GET, 200, "{\"success\":true,\"pfaId\":\"PFA-1\",\"version\":7.5,\"data\":{}}",
		 TRANSIENT("BAD_RESPONSE")},
		{GET, 200, "{\"success\":true,\"pfaId\":\"PFA-1\",\"version\":-1,\"data\":{}}",
		 TRANSIENT("BAD_RESPONSE")},
		{GET, 200, "{\"success\":true,\"pfaId\":\"PFA-1\",\"data\":{}}", TRANSIENT("BAD_RESPONSE")},
		{GET, 200, WRITTEN, TRANSIENT("BAD_RESPONSE")},
		{GET, 404, "{\"success\":false,\"error\":\"NOT_FOUND\"}", GONE},
	};
	const Expected record = RECORD;
	PemsAnswer answer = answer_of(200, READ);
	PemsOutcome outcome = judged(GET, &answer, &record);

	CHECK_INT(outcome.version, 7);
	/* every digit as PEMS wrote it */
	CHECK_TEXT(outcome.data, "{\"monthlyRate\": 12345678901234567890.50}");
	pems_outcome_free(&outcome);
	pems_answer_free(&answer);
	CHECK_ROWS(rows);
}

UNIT_TEST(health)
{
	static const Row rows[] = {
		{HEALTH, 200, NULL, RECORD},
		{HEALTH, 200, "{\"status\":\"ok\"}", RECORD},
		{HEALTH, 200, "{\"success\":false,\"error\":\"UNAUTHORIZED\"}", CREDENTIAL("UNAUTHORIZED")},
		{HEALTH, 401, NULL, CREDENTIAL("UNAUTHORIZED")},
		{HEALTH, 404, NULL, REJECTED("NOT_FOUND")},
		{HEALTH, 408, NULL, TRANSIENT("TIMEOUT")},
		{HEALTH, 503, NULL, FAULT("UNAVAILABLE")},
	};

	CHECK_ROWS(rows);
}

UNIT_TEST(error_statuses)
{
	static const Row rows[] = {
		{PUT, 400, "{\"success\":false,\"error\":\"INVALID_REQUEST\"}",
		 REJECTED("INVALID_REQUEST")},
		{PUT, 422, NULL, REJECTED("INVALID_REQUEST")},
		{PUT, 405, NULL, REJECTED("INVALID_REQUEST")},
		{PUT, 410, NULL, GONE},
		{GET, 410, NULL, GONE},
		{PUT, 418, "short and stout", REJECTED("INVALID_REQUEST")},
		{PUT, 499, NULL, REJECTED("INVALID_REQUEST")},
		{PUT, 401, NULL, CREDENTIAL("UNAUTHORIZED")},
		{DELETE, 404, NULL, GONE},
		{PUT, 404, "<html>", GONE},
		{PUT, 409, "{\"error\":\"VERSION_CONFLICT\",\"currentVersion\":5}", VERSION},
		{DELETE, 409, "{\"error\":\"VERSION_CONFLICT\"}", VERSION},
		{PUT, 409, NULL, VERSION},
		{PUT, 409, "{\"error\":\"VERSION_CON", VERSION},
		{PUT, 409, "{\"error\":\"RECORD_LOCKED\"}", TRANSIENT_LOST("CONFLICT")},
		{GET, 409, "{\"error\":\"RECORD_LOCKED\"}", TRANSIENT("CONFLICT")},
		{PUT, 408, NULL, TRANSIENT_LOST("TIMEOUT")},
		{DELETE, 408, "<html>", TRANSIENT_LOST("TIMEOUT")},
		{GET, 408, NULL, TRANSIENT("TIMEOUT")},
		{PUT, 421, NULL, TRANSIENT_LOST("UNAVAILABLE")},
		{GET, 421, NULL, TRANSIENT("UNAVAILABLE")},
		{PUT, 425, NULL, TRANSIENT_LOST("UNAVAILABLE")},
		{GET, 425, NULL, TRANSIENT("UNAVAILABLE")},
		{PUT, 423, NULL, TRANSIENT_LOST("CONFLICT")},
		{GET, 423, NULL, TRANSIENT("CONFLICT")},
		{PUT, 412, NULL, VERSION},
		{GET, 412, NULL, REJECTED("INVALID_REQUEST")},
		{PUT, 429, NULL, THROTTLED},
		{GET, 429, NULL, THROTTLED},
		{PUT, 500, NULL, TRANSIENT_LOST("SERVER_ERROR")},
		{GET, 500, NULL, TRANSIENT("SERVER_ERROR")},
		{PUT, 501, NULL, TRANSIENT_LOST("SERVER_ERROR")},
		{PUT, 599, NULL, TRANSIENT_LOST("SERVER_ERROR")},
		{PUT, 999, NULL, TRANSIENT_LOST("SERVER_ERROR")},
		{PUT, 502, "<html>", FAULT_LOST("UNAVAILABLE")},
		{PUT, 503, NULL, FAULT_LOST("UNAVAILABLE")},
		{PUT, 504, NULL, FAULT_LOST("UNAVAILABLE")},
		{GET, 502, NULL, FAULT("UNAVAILABLE")},
		{GET, 503, NULL, FAULT("UNAVAILABLE")},
		{GET, 504, NULL, FAULT("UNAVAILABLE")},
		{PUT, 300, NULL, REJECTED("REDIRECT")},
		{PUT, 301, NULL, REJECTED("REDIRECT")},
		{PUT, 302, NULL, REJECTED("REDIRECT")},
		{GET, 304, NULL, REJECTED("REDIRECT")},
		{PUT, 307, NULL, REJECTED("REDIRECT")},
		{PUT, 308, NULL, REJECTED("REDIRECT")},
	};

	CHECK_ROWS(rows);
}

UNIT_TEST(a_403_shuts_out_a_record_or_an_organization)
{
	static const Row rows[] = {
		{PUT, 403, NULL, REJECTED("FORBIDDEN")},
		{PUT, 403, "<html>", REJECTED("FORBIDDEN")},
		{PUT, 403, "{\"error\":\"FORBIDDEN\"}", REJECTED("FORBIDDEN")},
		{PUT, 403, "{\"error\":\"FORBIDDEN\",\"pfaId\":\"PFA-1\"}", REJECTED("FORBIDDEN")},
		{PUT, 403, "{\"error\":\"FORBIDDEN\",\"pfaId\":\"PFA-1\",\"organizationCode\":\"RIO\"}",
		 REJECTED("FORBIDDEN")},
		{PUT, 403, "{\"error\":\"FORBIDDEN\",\"organizationCode\":\"RIO\"}",
		 CREDENTIAL("FORBIDDEN")},
		{PUT, 403, "{\"error\":\"ORGANIZATION_FORBIDDEN\"}", CREDENTIAL("FORBIDDEN")},
		{PUT, 403, "{\"error\":\"ORGANIZATION_FORBIDDEN\",\"pfaId\":\"PFA-1\"}",
		 CREDENTIAL("FORBIDDEN")},
		{PUT, 403, "{\"error\":\"ORGANIZATION_SUSPENDED\"}", CREDENTIAL("FORBIDDEN")},
		{GET, 403, "{\"error\":\"organisation_forbidden\"}", CREDENTIAL("FORBIDDEN")},
	};

	CHECK_ROWS(rows);
}

#define UNSUCCESSFUL(error) "{\"success\":false,\"error\":\"" error "\",\"message\":\"no\"}"

UNIT_TEST(success_false_counts_as_its_error)
{
	static const Row rows[] = {
		{PUT, 200, UNSUCCESSFUL("VERSION_CONFLICT"), VERSION},
		{PUT, 201, UNSUCCESSFUL("VERSION_CONFLICT"), VERSION},
		{PUT, 200, UNSUCCESSFUL("NOT_FOUND"), GONE},
		{GET, 200, UNSUCCESSFUL("NOT_FOUND"), GONE},
		{PUT, 200, UNSUCCESSFUL("UNAUTHORIZED"), CREDENTIAL("UNAUTHORIZED")},
		{PUT, 200, UNSUCCESSFUL("FORBIDDEN"), REJECTED("FORBIDDEN")},
		{PUT, 200, UNSUCCESSFUL("ORGANIZATION_FORBIDDEN"), CREDENTIAL("FORBIDDEN")},
		{PUT, 200, UNSUCCESSFUL("RATE_LIMITED"), THROTTLED},
		{PUT, 200, UNSUCCESSFUL("INVALID_REQUEST"), REJECTED("INVALID_REQUEST")},
		{PUT, 200, UNSUCCESSFUL("VALIDATION_ERROR"), REJECTED("INVALID_REQUEST")},
		{PUT, 200, UNSUCCESSFUL("VALIDATION_FAILED"), REJECTED("INVALID_REQUEST")},
		{PUT, 200, UNSUCCESSFUL("SERVER_ERROR"), TRANSIENT_LOST("SERVER_ERROR")},
		{PUT, 200, UNSUCCESSFUL("INTERNAL_SERVER_ERROR"), TRANSIENT_LOST("SERVER_ERROR")},
		{GET, 200, UNSUCCESSFUL("SERVER_ERROR"), TRANSIENT("SERVER_ERROR")},
		{PUT, 200, UNSUCCESSFUL("SERVICE_UNAVAILABLE"), FAULT_LOST("UNAVAILABLE")},
		{PUT, 200, UNSUCCESSFUL("REQUEST_TIMEOUT"), TRANSIENT_LOST("TIMEOUT")},
		{PUT, 200, UNSUCCESSFUL("MISDIRECTED_REQUEST"), TRANSIENT_LOST("UNAVAILABLE")},
		{GET, 200, UNSUCCESSFUL("TOO_EARLY"), TRANSIENT("UNAVAILABLE")},
		{PUT, 200, UNSUCCESSFUL("GONE"), GONE},
		{GET, 200, UNSUCCESSFUL("gone"), GONE},
		{PUT, 200, UNSUCCESSFUL("CONFLICT"), TRANSIENT_LOST("CONFLICT")},
		{GET, 200, UNSUCCESSFUL("CONFLICT"), TRANSIENT("CONFLICT")},
		{PUT, 200, UNSUCCESSFUL("TIMEOUT"), TRANSIENT_LOST("TIMEOUT")},
		{PUT, 200, UNSUCCESSFUL("LOCKED"), TRANSIENT_LOST("CONFLICT")},
		{PUT, 200, UNSUCCESSFUL("MERCURY_RETROGRADE"), REJECTED("INVALID_REQUEST")},
		{PUT, 200, "{\"success\":false}", REJECTED("INVALID_REQUEST")},
		{PUT, 200, "{\"success\":false,\"error\":42}", REJECTED("INVALID_REQUEST")},
		{PUT, 200, "{\"success\":false,\"pfaId\":\"PFA-1\",\"newVersion\":4}",
		 REJECTED("INVALID_REQUEST")},
	};

	CHECK_ROWS(rows);
}

UNIT_TEST(transports)
{
	static const struct
	{
		PemsCall call;
		PemsTransport transport;
		bool maybe_sent;
		int status;
		const char *body;
		Expected expected;
	} rows[] = {
		{PUT, PEMS_TRANSPORT_REFUSED, false, 0, NULL, FAULT("NETWORK_ERROR")},
		{PUT, PEMS_TRANSPORT_DNS, false, 0, NULL, FAULT("NETWORK_ERROR")},
		{PUT, PEMS_TRANSPORT_TLS, false, 0, NULL, FAULT("TLS_ERROR")},
		{PUT, PEMS_TRANSPORT_TIMEOUT, false, 0, NULL, FAULT("TIMEOUT")},
		{PUT, PEMS_TRANSPORT_TIMEOUT, true, 0, NULL, FAULT_LOST("TIMEOUT")},
		{PUT, PEMS_TRANSPORT_TIMEOUT, true, 200, "{", FAULT_LOST("TIMEOUT")},
		{PUT, PEMS_TRANSPORT_TIMEOUT, true, 400, NULL, REJECTED("INVALID_REQUEST")},
		{GET, PEMS_TRANSPORT_TIMEOUT, true, 0, NULL, FAULT("TIMEOUT")},
		{PUT, PEMS_TRANSPORT_RESET, true, 0, NULL, FAULT_LOST("NETWORK_ERROR")},
		{DELETE, PEMS_TRANSPORT_RESET, true, 0, NULL, FAULT_LOST("NETWORK_ERROR")},
		{PUT, PEMS_TRANSPORT_RESET, false, 0, NULL, FAULT("NETWORK_ERROR")},
		{GET, PEMS_TRANSPORT_RESET, true, 0, NULL, FAULT("NETWORK_ERROR")},
		{PUT, PEMS_TRANSPORT_TRUNCATED, true, 200, WRITTEN, UNKNOWN("BAD_RESPONSE")},
		{PUT, PEMS_TRANSPORT_TRUNCATED, true, 200, NULL, UNKNOWN("BAD_RESPONSE")},
		{PUT, PEMS_TRANSPORT_TRUNCATED, true, 0, NULL, FAULT_LOST("NETWORK_ERROR")},
		{GET, PEMS_TRANSPORT_TRUNCATED, true, 200, READ, TRANSIENT("BAD_RESPONSE")},
		{HEALTH, PEMS_TRANSPORT_TRUNCATED, true, 200, NULL, TRANSIENT("BAD_RESPONSE")},
		{PUT, PEMS_TRANSPORT_TRUNCATED, true, 400, "{\"mess", REJECTED("INVALID_REQUEST")},
		{PUT, PEMS_TRANSPORT_TRUNCATED, true, 401, NULL, CREDENTIAL("UNAUTHORIZED")},
		{PUT, PEMS_TRANSPORT_TRUNCATED, true, 409, NULL, VERSION},
		{PUT, PEMS_TRANSPORT_TRUNCATED, true, 429, NULL, THROTTLED},
		{PUT, PEMS_TRANSPORT_TRUNCATED, true, 500, NULL, TRANSIENT_LOST("SERVER_ERROR")},
		{PUT, PEMS_TRANSPORT_TRUNCATED, true, 503, NULL, FAULT_LOST("UNAVAILABLE")},
		{PUT, PEMS_TRANSPORT_ENCODED, true, 200, NULL, UNKNOWN("BAD_RESPONSE")},
		{PUT, PEMS_TRANSPORT_ENCODED, true, 200, WRITTEN, UNKNOWN("BAD_RESPONSE")},
		{GET, PEMS_TRANSPORT_ENCODED, true, 200, NULL, TRANSIENT("BAD_RESPONSE")},
		{HEALTH, PEMS_TRANSPORT_ENCODED, true, 200, NULL, TRANSIENT("BAD_RESPONSE")},
		{PUT, PEMS_TRANSPORT_ENCODED, true, 400, NULL, REJECTED("INVALID_REQUEST")},
		{PUT, PEMS_TRANSPORT_ENCODED, true, 401, NULL, CREDENTIAL("UNAUTHORIZED")},
		{PUT, PEMS_TRANSPORT_ENCODED, true, 503, NULL, FAULT_LOST("UNAVAILABLE")},
		{GET, PEMS_TRANSPORT_TOO_LARGE, true, 200, NULL, REJECTED("RESPONSE_TOO_LARGE")},
		{HEALTH, PEMS_TRANSPORT_TOO_LARGE, true, 200, NULL, REJECTED("RESPONSE_TOO_LARGE")},
		{GET, PEMS_TRANSPORT_TOO_LARGE, true, 0, NULL, REJECTED("RESPONSE_TOO_LARGE")},
		{PUT, PEMS_TRANSPORT_TOO_LARGE, true, 200, NULL, UNKNOWN("RESPONSE_TOO_LARGE")},
		{PUT, PEMS_TRANSPORT_TOO_LARGE, true, 200, WRITTEN, UNKNOWN("RESPONSE_TOO_LARGE")},
		{DELETE, PEMS_TRANSPORT_TOO_LARGE, true, 202, NULL, UNKNOWN("RESPONSE_TOO_LARGE")},
		{PUT, PEMS_TRANSPORT_TOO_LARGE, true, 0, NULL, UNKNOWN("RESPONSE_TOO_LARGE")},
		{PUT, PEMS_TRANSPORT_TOO_LARGE, true, 302, "<html>", REJECTED("REDIRECT")},
		{PUT, PEMS_TRANSPORT_TOO_LARGE, true, 400, "<html>", REJECTED("INVALID_REQUEST")},
		{PUT, PEMS_TRANSPORT_TOO_LARGE, true, 401, "<html>", CREDENTIAL("UNAUTHORIZED")},
		{GET, PEMS_TRANSPORT_TOO_LARGE, true, 404, "<html>", GONE},
		{PUT, PEMS_TRANSPORT_TOO_LARGE, true, 409, "<html>", VERSION},
		{PUT, PEMS_TRANSPORT_TOO_LARGE, true, 409, "{\"error\":\"RECORD_LOCKED\"}", VERSION},
		{PUT, PEMS_TRANSPORT_TOO_LARGE, true, 429, NULL, THROTTLED},
		{PUT, PEMS_TRANSPORT_TOO_LARGE, true, 500, "<html>", TRANSIENT_LOST("SERVER_ERROR")},
		{PUT, PEMS_TRANSPORT_TOO_LARGE, true, 503, "<html>", FAULT_LOST("UNAVAILABLE")},
		{GET, PEMS_TRANSPORT_TOO_LARGE, true, 503, "<html>", FAULT("UNAVAILABLE")},
		{PUT, PEMS_TRANSPORT_FORBIDDEN_ADDRESS, false, 0, NULL, REJECTED("FORBIDDEN_ADDRESS")},
		{PUT, PEMS_TRANSPORT_INTERNAL, false, 0, NULL, TRANSIENT("INTERNAL_ERROR")},
		{PUT, PEMS_TRANSPORT_INTERNAL, true, 0, NULL, TRANSIENT_LOST("INTERNAL_ERROR")},
		{PUT, PEMS_TRANSPORT_OK, true, 0, NULL, FAULT_LOST("NETWORK_ERROR")},
		{PUT, PEMS_TRANSPORT_OK, true, 100, NULL, FAULT_LOST("NETWORK_ERROR")},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		PemsAnswer answer = answer_of(rows[i].status, rows[i].body);
		PemsOutcome outcome;

		answer.transport = rows[i].transport;
		answer.maybe_sent = rows[i].maybe_sent;
		snprintf(answer.detail, sizeof(answer.detail), "detail");
		outcome = judged(rows[i].call, &answer, &rows[i].expected);
		pems_outcome_free(&outcome);
		pems_answer_free(&answer);
	}
}

UNIT_TEST(an_error_that_is_too_large_is_heard_all_the_same)
{
	PemsAnswer answer = {.transport = PEMS_TRANSPORT_TOO_LARGE,
						 .maybe_sent = true,
						 .status = 503,
						 .detail = "the body is larger than 262144 bytes",
						 .has_retry_after = true,
						 .retry_after_s = 30};
	PemsOutcome outcome;

	pems_judge_answer(&a_put, &answer, &outcome);
	CHECK_INT(outcome.retry_after_ms, 30000);
	CHECK_TEXT(outcome.error,
			   "PEMS answered 503 (Service Unavailable), and was cut off: the body is "
			   "larger than 262144 bytes");
	pems_outcome_free(&outcome);
}

UNIT_TEST(a_429_says_how_long)
{
	PemsAnswer answer = answer_of(429, NULL);
	PemsOutcome outcome;

	pems_judge_answer(&a_put, &answer, &outcome);
	CHECK_INT(outcome.retry_after_ms, PEMS_RETRY_AFTER_DEFAULT_MS);
	pems_outcome_free(&outcome);
	answer.has_retry_after = true;
	answer.retry_after_s = 20;
	pems_judge_answer(&a_put, &answer, &outcome);
	CHECK_INT(outcome.retry_after_ms, 20000);
	pems_outcome_free(&outcome);
	answer.retry_after_s = -1;
	pems_judge_answer(&a_put, &answer, &outcome);
	CHECK_INT(outcome.retry_after_ms, PEMS_RETRY_AFTER_DEFAULT_MS);
	pems_outcome_free(&outcome);
	pems_answer_free(&answer);
}

UNIT_TEST(every_answer_that_asks_to_wait_is_heard)
{
	static const int statuses[] = {202, 500, 502, 503, 504};

	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
	{
		PemsAnswer answer = answer_of(statuses[i], NULL);
		PemsOutcome outcome;

		pems_judge_answer(&a_put, &answer, &outcome);
		CHECK_INT(outcome.retry_after_ms, 0); /* no header, no wait */
		pems_outcome_free(&outcome);
		answer.has_retry_after = true;
		answer.retry_after_s = 30;
		pems_judge_answer(&a_put, &answer, &outcome);
		CHECK_INT(outcome.retry_after_ms, 30000);
		pems_outcome_free(&outcome);
		pems_answer_free(&answer);
	}
}

/* ---------- versions ---------- */

static PemsOutcome
judged_at(PemsCall call, int64_t version, int status, const char *body)
{
	PemsAsked asked = {.call = call, .pfa_id = ID, .version = version};
	PemsAnswer answer = answer_of(status, body);
	PemsOutcome outcome;

	pems_judge_answer(&asked, &answer, &outcome);
	pems_answer_free(&answer);
	return outcome;
}

static void
check_version(PemsCall call, int64_t version, const char *body, PemsOutcomeClass class,
			  const char *error_code)
{
	PemsOutcome outcome = judged_at(call, version, 200, body);

	CHECK_INT(outcome.class, class);
	CHECK_TEXT(outcome.error_code, error_code);
	CHECK_INT(outcome.new_version, class == PEMS_OUTCOME_DONE ? 4 : 0);
	pems_outcome_free(&outcome);
}

UNIT_TEST(a_write_that_makes_no_new_version_was_not_made_as_far_as_one_can_tell)
{
	const char *body = "{\"success\":true,\"pfaId\":\"PFA-1\",\"newVersion\":4}";

	check_version(PUT, 3, body, PEMS_OUTCOME_DONE, NULL);
	check_version(PUT, 4, body, PEMS_OUTCOME_UNKNOWN, "NOT_APPLIED");
	check_version(PUT, 9, body, PEMS_OUTCOME_UNKNOWN, "NOT_APPLIED");
	check_version(DELETE, 4, body, PEMS_OUTCOME_UNKNOWN, "NOT_APPLIED");
}

UNIT_TEST(a_read_that_is_older_than_what_is_known_is_stale)
{
	const char *body = "{\"success\":true,\"pfaId\":\"PFA-1\",\"version\":4,\"data\":{}}";

	check_version(GET, 4, body, PEMS_OUTCOME_RECORD, NULL);
	check_version(GET, 3, body, PEMS_OUTCOME_RECORD, NULL);
	check_version(GET, 5, body, PEMS_OUTCOME_UNUSABLE, "STALE_READ");
}

UNIT_TEST(a_version_conflict_tells_what_pems_has)
{
	PemsOutcome outcome =
		judged_at(PUT, 3, 409, "{\"error\":\"VERSION_CONFLICT\",\"currentVersion\":7}");

	CHECK_INT(outcome.class, PEMS_OUTCOME_VERSION);
	CHECK_INT(outcome.current_version, 7);
	pems_outcome_free(&outcome);
	outcome = judged_at(PUT, 3, 409, "{\"currentVersion\":\"7\"}");
	CHECK_INT(outcome.class, PEMS_OUTCOME_VERSION);
	CHECK_INT(outcome.current_version, 0);
	pems_outcome_free(&outcome);
}

UNIT_TEST(what_the_database_cannot_hold_matters_only_where_it_is_needed)
{
	PemsOutcome outcome = judged_at(PUT, 3, 200,
									"{\"success\":true,\"pfaId\":\"PFA-1\",\"newVersion\":4,"
									"\"x\":[1e999999,\"\\u0000\",\"\\ud800\"]}");

	CHECK_INT(outcome.class, PEMS_OUTCOME_DONE);
	pems_outcome_free(&outcome);
	outcome = judged_at(GET, 3, 200,
						"{\"success\":true,\"pfaId\":\"PFA-1\",\"version\":4,\"x\":1e999999,"
						"\"data\":{\"monthlyRate\":1}}");
	CHECK_INT(outcome.class, PEMS_OUTCOME_RECORD);
	pems_outcome_free(&outcome);
	outcome = judged_at(GET, 3, 200,
						"{\"success\":true,\"pfaId\":\"PFA-1\",\"version\":4,"
						"\"data\":{\"x\":{\"y\":1e999999}}}");
	CHECK_INT(outcome.class, PEMS_OUTCOME_UNUSABLE);
	CHECK(outcome.data == NULL);
	CHECK_TEXT(outcome.error_code, "BAD_RESPONSE");
	pems_outcome_free(&outcome);
}

UNIT_TEST(a_body_may_hold_nul)
{
	Expected expected = UNKNOWN("BAD_RESPONSE");
	PemsAnswer answer = answer_of(200, WRITTEN);
	PemsOutcome outcome;

	answer.body[10] = '\0';
	outcome = judged(PUT, &answer, &expected);
	pems_outcome_free(&outcome);
	pems_answer_free(&answer);
}
