/*
 * pems/answers.h
 *		What the tests of judge and sentence share: answers, and what they are expected to mean.
 */
#ifndef ANSWERS_H
#define ANSWERS_H

#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pems/judge.h"
#include "record/json.h"

#define ID "PFA-1"

#define PUT    PEMS_CALL_UPDATE
#define DELETE PEMS_CALL_DELETE
#define GET    PEMS_CALL_READ
#define HEALTH PEMS_CALL_HEALTH
#define LIST   PEMS_CALL_LIST

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
static inline bool
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

static const PemsAsked a_put __attribute__((unused)) = {.call = PUT, .pfa_id = ID};

/* Judge an answer, compare, and hand the outcome to the caller. */
static inline PemsOutcome
judged(PemsCall call, const PemsAnswer *answer, const Expected *expected)
{
	PemsAsked asked = {.call = call, .pfa_id = call == HEALTH || call == LIST ? NULL : ID};
	PemsOutcome outcome;
	bool good;

	pems_judge_answer(&asked, answer, &outcome);
	good = CHECK_INT(outcome.class, expected->class);
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
		unit_note("%s, transport %d, status %d, body %s: %s", pems_request_method(call),
				  (int) answer->transport, answer->status, answer->body ? answer->body : "(none)",
				  outcome.error ? outcome.error : "(no error)");
	return outcome;
}

static inline PemsAnswer
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

static inline void
check_rows(const Row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++)
	{
		PemsAnswer answer = answer_of(rows[i].status, rows[i].body);
		PemsOutcome outcome = judged(rows[i].call, &answer, &rows[i].expected);

		pems_outcome_free(&outcome);
		pems_answer_free(&answer);
	}
}
#define CHECK_ROWS(rows) check_rows((rows), sizeof(rows) / sizeof((rows)[0]))

#define WRITTEN                                                                                    \
	"{\"success\":true,\"pfaId\":\"PFA-1\",\"newVersion\":4,\"updatedAt\":"                        \
	"\"2025-01-15T00:00:00Z\",\"message\":\"ok\"}"
#define READ                                                                                       \
	"{\"success\":true,\"pfaId\":\"PFA-1\",\"version\":7,\"updatedAt\":"                           \
	"\"2025-01-15T00:00:00Z\",\"data\":{\"monthlyRate\": 12345678901234567890.50}}"

#endif /* ANSWERS_H */
