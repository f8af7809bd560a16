/*
 * pems/protocol_test.c
 *		Unit tests of src/pems/protocol.c: requests, and every row of the outcome table.
 */
#include "unit.h"

#include "../../src/record/json.h"
#include "../../src/pems/protocol.h"
#include "../../src/pems/retry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------- requests ---------- */

/* Compare a malloc'ed text and free it. */
static void
check_made(char *actual, const char *expected, int line)
{
	if (!CHECK_TEXT(actual, expected))
		unit_note("called in line %d", line);
	free(actual);
}
#define CHECK_MADE(actual, expected) check_made((actual), (expected), __LINE__)

UNIT_TEST(methods)
{
	CHECK_TEXT(pems_protocol_method(PEMS_CALL_UPDATE), "PUT");
	CHECK_TEXT(pems_protocol_method(PEMS_CALL_DELETE), "DELETE");
	CHECK_TEXT(pems_protocol_method(PEMS_CALL_READ), "GET");
	CHECK_TEXT(pems_protocol_method(PEMS_CALL_HEALTH), "GET");
}

UNIT_TEST(pfa_ids)
{
	static const char *const good[] = {"PFA-12345", "a", "...", "A.b_c-9", "-", "_", ".a"};
	static const char *const bad[] = {"",     ".",      "..",   "a/b",      "a b", "a%2f", "a?b",
									  "a#b",  "a\nb",   "a\\b", "\xc3\xa4", "a;b", "a:b",  "a'b",
									  "a\"b", "../pfa", "a&b",  "a+b",      "a~b", "\x7f"};
	char text[66];

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		CHECK(pems_protocol_valid_pfa_id(good[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		if (!CHECK(!pems_protocol_valid_pfa_id(bad[i])))
			unit_note("id: %s", bad[i]);
		CHECK(pems_protocol_path(PEMS_CALL_UPDATE, bad[i], "RIO") == NULL);
	}
	CHECK(!pems_protocol_valid_pfa_id(NULL));
	memset(text, 'a', sizeof(text));
	text[65] = '\0';
	CHECK(!pems_protocol_valid_pfa_id(text));
	text[64] = '\0';
	CHECK(pems_protocol_valid_pfa_id(text));
}

UNIT_TEST(header_values)
{
	CHECK(pems_protocol_valid_header("abc.def-_~+/="));
	CHECK(pems_protocol_valid_header(""));
	CHECK(!pems_protocol_valid_header(NULL));
	CHECK(!pems_protocol_valid_header("a\r\nX-Evil: 1"));
	CHECK(!pems_protocol_valid_header("a\n"));
	CHECK(!pems_protocol_valid_header("\r"));
	CHECK(!pems_protocol_valid_header("a\tb"));
	CHECK(!pems_protocol_valid_header("a\x7f"));
	CHECK(!pems_protocol_valid_header("\x01"));
}

UNIT_TEST(paths)
{
	CHECK_MADE(pems_protocol_path(PEMS_CALL_UPDATE, "PFA-1", "RIO"), "/pems/pfa/PFA-1");
	CHECK_MADE(pems_protocol_path(PEMS_CALL_DELETE, "PFA-1", NULL), "/pems/pfa/PFA-1");
	CHECK_MADE(pems_protocol_path(PEMS_CALL_READ, "PFA-1", "RIO"),
			   "/pems/pfa/PFA-1?organizationCode=RIO");
	CHECK_MADE(pems_protocol_path(PEMS_CALL_HEALTH, NULL, NULL), "/pems/health");
	CHECK_MADE(pems_protocol_path(PEMS_CALL_READ, "PFA-1", "R&D/\xc3\x9c x?#%=+~\r\n.."),
			   "/pems/pfa/PFA-1?organizationCode=R%26D%2F%C3%9C%20x%3F%23%25%3D%2B~%0D%0A..");
	CHECK(pems_protocol_path(PEMS_CALL_READ, "PFA-1", NULL) == NULL);
	CHECK(pems_protocol_path(PEMS_CALL_READ, NULL, "RIO") == NULL);
}

UNIT_TEST(urls)
{
	CHECK_MADE(pems_protocol_url("https://pems.example.com/api", "/pems/health"),
			   "https://pems.example.com/api/pems/health");
	CHECK_MADE(pems_protocol_url("https://pems.example.com/api///", "/pems/health"),
			   "https://pems.example.com/api/pems/health");
	CHECK_MADE(pems_protocol_url("https://pems.example.com", "/pems/health"),
			   "https://pems.example.com/pems/health");
	CHECK(pems_protocol_url(NULL, "/x") == NULL);
	CHECK(pems_protocol_url("https://pems.example.com", NULL) == NULL);
}

UNIT_TEST(write_bodies)
{
	PemsWrite write = {.pfa_id = "PFA-12345",
					   .organization_code = "RIO",
					   .changes = "{\"monthlyRate\": 5500.00}",
					   .version = 3,
					   .modified_by = "john.doe@example.com",
					   .reason = "Budget \"cut\"\n\xc3\xbc"};

	CHECK_MADE(pems_protocol_write_body(PEMS_CALL_UPDATE, &write),
			   "{\"pfaId\":\"PFA-12345\",\"organizationCode\":\"RIO\",\"changes\":"
			   "{\"monthlyRate\": 5500.00},\"version\":3,\"modifiedBy\":\"john.doe@example.com\","
			   "\"changeReason\":\"Budget \\\"cut\\\"\\n\xc3\xbc\"}");
	write.reason = "obsolete";
	CHECK_MADE(pems_protocol_write_body(PEMS_CALL_DELETE, &write),
			   "{\"pfaId\":\"PFA-12345\",\"organizationCode\":\"RIO\",\"version\":3,"
			   "\"modifiedBy\":\"john.doe@example.com\",\"reason\":\"obsolete\"}");
	write.reason = NULL;
	write.modified_by = NULL;
	write.version = INT64_C(9223372036854775807);
	CHECK_MADE(pems_protocol_write_body(PEMS_CALL_DELETE, &write),
			   "{\"pfaId\":\"PFA-12345\",\"organizationCode\":\"RIO\","
			   "\"version\":9223372036854775807}");
	CHECK(pems_protocol_write_body(PEMS_CALL_READ, &write) == NULL);
	write.changes = NULL;
	CHECK(pems_protocol_write_body(PEMS_CALL_UPDATE, &write) == NULL);
}

UNIT_TEST(keys_of_a_request)
{
	CHECK_MADE(pems_protocol_idempotency_key("0190-a", 3), "0190-a:3");
	CHECK_MADE(pems_protocol_request_id("0190-a", 12), "0190-a:12");
	CHECK(pems_protocol_request_id(NULL, 1) == NULL);
}

/* ---------- outcomes ---------- */

#define ID "PFA-1"

#define PUT    PEMS_CALL_UPDATE
#define DELETE PEMS_CALL_DELETE
#define GET    PEMS_CALL_READ
#define HEALTH PEMS_CALL_HEALTH

/* What an answer is expected to mean. */
typedef struct Expected
{
	PemsOutcomeClass class;
	bool unknown;
	bool fault;
	const char *error_code;
} Expected;

typedef struct Row
{
	PemsCall call;
	int status;
	const char *body;
	Expected expected;
} Row;

#define DONE                                                                                       \
	{                                                                                              \
		PEMS_OUTCOME_DONE, false, false, NULL                                                      \
	}
#define RECORD                                                                                     \
	{                                                                                              \
		PEMS_OUTCOME_RECORD, false, false, NULL                                                    \
	}
#define GONE                                                                                       \
	{                                                                                              \
		PEMS_OUTCOME_GONE, false, false, "NOT_FOUND"                                               \
	}
#define REJECTED(code)                                                                             \
	{                                                                                              \
		PEMS_OUTCOME_REJECTED, false, false, (code)                                                \
	}
#define CREDENTIAL(code)                                                                           \
	{                                                                                              \
		PEMS_OUTCOME_CREDENTIAL, false, false, (code)                                              \
	}
#define VERSION                                                                                    \
	{                                                                                              \
		PEMS_OUTCOME_VERSION, false, false, "VERSION_CONFLICT"                                     \
	}
#define THROTTLED                                                                                  \
	{                                                                                              \
		PEMS_OUTCOME_THROTTLED, false, false, "RATE_LIMITED"                                       \
	}
#define TRANSIENT(code)                                                                            \
	{                                                                                              \
		PEMS_OUTCOME_TRANSIENT, false, false, (code)                                               \
	}
#define TRANSIENT_LOST(code)                                                                       \
	{                                                                                              \
		PEMS_OUTCOME_TRANSIENT, true, false, (code)                                                \
	}
#define FAULT(code)                                                                                \
	{                                                                                              \
		PEMS_OUTCOME_TRANSIENT, false, true, (code)                                                \
	}
#define FAULT_LOST(code)                                                                           \
	{                                                                                              \
		PEMS_OUTCOME_TRANSIENT, true, true, (code)                                                 \
	}
#define UNKNOWN(code)                                                                              \
	{                                                                                              \
		PEMS_OUTCOME_UNKNOWN, true, false, (code)                                                  \
	}

/* Valid UTF-8, no control characters, bounded. */
static bool
is_presentable(const char *text)
{
	static char quoted[2048];
	JsonDocument document;

	if (strlen(text) > 1000 || strpbrk(text, "\r\n\t\x01\x1b\x7f") != NULL)
		return false;
	for (const char *c = text; *c != '\0'; c++)
	{
		if (*c == '"' || *c == '\\')
			return true; /* not worth the escaping here */
	}
	snprintf(quoted, sizeof(quoted), "\"%s\"", text);
	if (!pems_json_parse(quoted, strlen(quoted), &document, NULL))
		return false;
	pems_json_free(&document);
	return true;
}

static const PemsAsked a_put = {.call = PUT, .pfa_id = ID};

/* Judge an answer, compare, and hand the outcome to the caller. */
static PemsOutcome
judged(PemsCall call, const PemsAnswer *answer, const Expected *expected)
{
	PemsAsked asked = {.call = call, .pfa_id = call == HEALTH ? NULL : ID};
	PemsOutcome outcome;
	bool good;

	pems_protocol_judge(&asked, answer, 0, &outcome);
	good = CHECK_TEXT(pems_protocol_class_name(outcome.class),
					  pems_protocol_class_name(expected->class));
	good = CHECK_INT(outcome.unknown, expected->unknown) && good;
	good = CHECK_INT(outcome.endpoint_fault, expected->fault) && good;
	good = CHECK_TEXT(outcome.error_code, expected->error_code) && good;
	good = CHECK((outcome.error != NULL) == (outcome.error_code != NULL)) && good;
	good = CHECK(outcome.error == NULL || is_presentable(outcome.error)) && good;
	good =
		CHECK((outcome.data != NULL) == (outcome.class == PEMS_OUTCOME_RECORD && call != HEALTH)) &&
		good;
	good = CHECK((outcome.new_version > 0) == (outcome.class == PEMS_OUTCOME_DONE)) && good;
	if (!good)
		unit_note("%s, transport %d, status %d, body %s: %s", pems_protocol_method(call),
				  (int) answer->transport, answer->status, answer->body ? answer->body : "(none)",
				  outcome.error ? outcome.error : "(no error)");
	return outcome;
}

static PemsAnswer
answer_of(int status, const char *body)
{
	PemsAnswer answer = {.transport = PEMS_TRANSPORT_OK, .maybe_sent = true, .status = status};

	if (body != NULL)
	{
		answer.body = strdup(body);
		answer.body_length = strlen(body);
	}
	return answer;
}

static void
check_rows(const Row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++)
	{
		PemsAnswer answer = answer_of(rows[i].status, rows[i].body);
		PemsOutcome outcome = judged(rows[i].call, &answer, &rows[i].expected);

		pems_protocol_free_outcome(&outcome);
		pems_protocol_free_answer(&answer);
	}
}
#define CHECK_ROWS(rows) check_rows((rows), sizeof(rows) / sizeof((rows)[0]))

#define WRITTEN                                                                                    \
	"{\"success\":true,\"pfaId\":\"PFA-1\",\"newVersion\":4,\"updatedAt\":"                        \
	"\"2025-01-15T00:00:00Z\",\"message\":\"ok\"}"
#define READ                                                                                       \
	"{\"success\":true,\"pfaId\":\"PFA-1\",\"version\":7,\"updatedAt\":"                           \
	"\"2025-01-15T00:00:00Z\",\"data\":{\"monthlyRate\": 12345678901234567890.50}}"

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
	CHECK_TEXT(outcome.updated_at, "2025-01-15T00:00:00Z");
	pems_protocol_free_outcome(&outcome);
	pems_protocol_free_answer(&answer);
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
	CHECK_TEXT(outcome.updated_at, "2025-01-15T00:00:00Z");
	pems_protocol_free_outcome(&outcome);
	pems_protocol_free_answer(&answer);
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
		pems_protocol_free_outcome(&outcome);
		pems_protocol_free_answer(&answer);
	}
}

UNIT_TEST(an_answer_too_large_is_final_and_says_that_the_write_may_stand)
{
	PemsAnswer answer = {.transport = PEMS_TRANSPORT_TOO_LARGE, .maybe_sent = true, .status = 200};
	PemsOutcome outcome;

	pems_protocol_judge(&a_put, &answer, 0, &outcome);
	CHECK_INT(outcome.class, PEMS_OUTCOME_REJECTED);
	CHECK(outcome.unknown);
	CHECK(!outcome.endpoint_fault);
	CHECK_TEXT(outcome.error_code, "RESPONSE_TOO_LARGE");
	pems_protocol_free_outcome(&outcome);
}

UNIT_TEST(a_429_says_how_long)
{
	PemsAnswer answer = answer_of(429, NULL);
	PemsOutcome outcome;

	pems_protocol_judge(&a_put, &answer, 0, &outcome);
	CHECK_INT(outcome.retry_after_ms, PEMS_RETRY_AFTER_DEFAULT_MS);
	pems_protocol_free_outcome(&outcome);
	answer.retry_after = strdup("Sun, 06 Nov 1994 08:49:57 GMT");
	answer.date = strdup("Sun, 06 Nov 1994 08:49:37 GMT");
	pems_protocol_judge(&a_put, &answer, 0, &outcome);
	CHECK_INT(outcome.retry_after_ms, 20000);
	pems_protocol_free_outcome(&outcome);
	pems_protocol_free_answer(&answer);
}

UNIT_TEST(every_answer_that_asks_to_wait_is_heard)
{
	static const int statuses[] = {202, 500, 502, 503, 504};

	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
	{
		PemsAnswer answer = answer_of(statuses[i], NULL);
		PemsOutcome outcome;

		pems_protocol_judge(&a_put, &answer, 0, &outcome);
		CHECK_INT(outcome.retry_after_ms, 0); /* no header, no wait */
		pems_protocol_free_outcome(&outcome);
		answer.retry_after = strdup("30");
		pems_protocol_judge(&a_put, &answer, 0, &outcome);
		CHECK_INT(outcome.retry_after_ms, 30000);
		pems_protocol_free_outcome(&outcome);
		pems_protocol_free_answer(&answer);
	}
}

/* ---------- versions ---------- */

static PemsOutcome
judged_at(PemsCall call, int64_t version, int status, const char *body)
{
	PemsAsked asked = {.call = call, .pfa_id = ID, .version = version};
	PemsAnswer answer = answer_of(status, body);
	PemsOutcome outcome;

	pems_protocol_judge(&asked, &answer, 0, &outcome);
	pems_protocol_free_answer(&answer);
	return outcome;
}

static void
check_version(PemsCall call, int64_t version, const char *body, PemsOutcomeClass class,
			  const char *error_code)
{
	PemsOutcome outcome = judged_at(call, version, 200, body);

	CHECK_TEXT(pems_protocol_class_name(outcome.class), pems_protocol_class_name(class));
	CHECK_TEXT(outcome.error_code, error_code);
	CHECK_INT(outcome.new_version, class == PEMS_OUTCOME_DONE ? 4 : 0);
	pems_protocol_free_outcome(&outcome);
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
	pems_protocol_free_outcome(&outcome);
	outcome = judged_at(PUT, 3, 409, "{\"currentVersion\":\"7\"}");
	CHECK_INT(outcome.class, PEMS_OUTCOME_VERSION);
	CHECK_INT(outcome.current_version, 0);
	pems_protocol_free_outcome(&outcome);
}

UNIT_TEST(what_the_database_cannot_hold_matters_only_where_it_is_needed)
{
	PemsOutcome outcome = judged_at(PUT, 3, 200,
									"{\"success\":true,\"pfaId\":\"PFA-1\",\"newVersion\":4,"
									"\"x\":[1e999999,\"\\u0000\",\"\\ud800\"]}");

	CHECK_INT(outcome.class, PEMS_OUTCOME_DONE);
	pems_protocol_free_outcome(&outcome);
	outcome = judged_at(GET, 3, 200,
						"{\"success\":true,\"pfaId\":\"PFA-1\",\"version\":4,\"x\":1e999999,"
						"\"data\":{\"monthlyRate\":1}}");
	CHECK_INT(outcome.class, PEMS_OUTCOME_RECORD);
	pems_protocol_free_outcome(&outcome);
	outcome = judged_at(GET, 3, 200,
						"{\"success\":true,\"pfaId\":\"PFA-1\",\"version\":4,"
						"\"data\":{\"x\":{\"y\":1e999999}}}");
	CHECK_INT(outcome.class, PEMS_OUTCOME_UNUSABLE);
	CHECK(outcome.data == NULL);
	CHECK_TEXT(outcome.error_code, "BAD_RESPONSE");
	pems_protocol_free_outcome(&outcome);
}

/* ---------- sentences ---------- */

static void
check_sentence(int status, const char *body, const char *expected, int line)
{
	PemsAnswer answer = answer_of(status, body);
	PemsOutcome outcome;

	pems_protocol_judge(&a_put, &answer, 0, &outcome);
	if (!CHECK_TEXT(outcome.error, expected))
		unit_note("called in line %d", line);
	pems_protocol_free_outcome(&outcome);
	pems_protocol_free_answer(&answer);
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
		pems_protocol_free_outcome(&outcome);
		pems_protocol_free_answer(&answer);
		pems_json_buffer_free(&body);
	}
}

UNIT_TEST(a_body_may_hold_nul)
{
	Expected expected = UNKNOWN("BAD_RESPONSE");
	PemsAnswer answer = answer_of(200, WRITTEN);
	PemsOutcome outcome;

	answer.body[10] = '\0';
	outcome = judged(PUT, &answer, &expected);
	pems_protocol_free_outcome(&outcome);
	pems_protocol_free_answer(&answer);
}
