/*
 * pems/judge.c
 *		PEMS's answers to outcomes; see judge.h.
 *
 * Process: any; pure, without PostgreSQL, I/O or a clock of its own.  Memory: malloc; what an
 * outcome holds belongs to the caller.
 *
 * Every byte of an answer comes from outside.  Its texts reach a sentence only through sentence.c,
 * which bounds and cleans them; all else that is taken from a body is compared with what we
 * expect, or is an integer.
 */
#include "pems/judging.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pems/page.h"
#include "pems/retry.h"
#include "pems/status.h"
#include "record/text.h"

/* Versions are kept in columns of type integer. */
#define VERSION_MAXIMUM INT32_MAX

bool
pems_judge_is_write(const Judge *judge)
{
	return pems_request_is_write(judge->asked->call);
}

const JsonNode *
pems_judge_body_text(const Judge *judge, const char *key)
{
	const JsonNode *node = pems_json_get(judge->body, key);

	return node != NULL && node->kind == JSON_KIND_STRING && node->length > 0 ? node : NULL;
}

bool
pems_judge_body_version(const Judge *judge, const char *key, int64_t minimum, int64_t *version)
{
	long long number;

	if (!pems_json_integer(pems_json_get(judge->body, key), &number) || number < minimum ||
		number > VERSION_MAXIMUM)
		return false;
	*version = number;
	return true;
}

void
pems_judge_decide(Judge *judge, PemsOutcomeClass class, const char *error_code)
{
	PemsOutcome *outcome = judge->outcome;
	bool maybe_sent = judge->answer->maybe_sent || judge->answer->status != 0;

	outcome->class = class;
	outcome->error_code = error_code;
	outcome->unknown = class == PEMS_OUTCOME_UNKNOWN || (class == PEMS_OUTCOME_TRANSIENT &&
														 pems_judge_is_write(judge) && maybe_sent);
	if (error_code != NULL)
		outcome->error = strdup(judge->sentence.text);
}

void
pems_judge_heed_retry_after(Judge *judge, bool always)
{
	const PemsAnswer *answer = judge->answer;

	if (always || answer->has_retry_after)
		judge->outcome->retry_after_ms =
			pems_retry_after_ms(answer->has_retry_after ? answer->retry_after_s : -1);
}

/* ---------- sentences and decisions that several answers share ---------- */

/* "PEMS answered 503 (Service Unavailable)" */
static void
say_status(Judge *judge)
{
	pems_sentence_add_status(&judge->sentence, judge->answer->status);
}

/* ": <what its body says>" */
static void
say_body(Judge *judge)
{
	pems_sentence_add_body(&judge->sentence, judge->body, judge->answer->body,
						   judge->answer->body_length);
}

/*
 * The answer does not tell what was done.  After a write that is unknown; after a read only the
 * read is to be done again.
 */
static void
decide_unclear(Judge *judge, const char *error_code)
{
	pems_judge_decide(judge,
					  pems_judge_is_write(judge) ? PEMS_OUTCOME_UNKNOWN : PEMS_OUTCOME_TRANSIENT,
					  error_code);
}

/* A 2xx that is not what this protocol says; what: the end of "..., but ". */
static void
decide_bad_response(Judge *judge, const char *what)
{
	const PemsAnswer *answer = judge->answer;

	say_status(judge);
	pems_sentence_add(&judge->sentence, ", but %s", what);
	if (judge->parse_error != NULL && answer->body != NULL && answer->body_length > 0)
	{
		pems_sentence_add(&judge->sentence, " (%s); it begins: ", judge->parse_error);
		pems_sentence_add_snippet(&judge->sentence, answer->body, answer->body_length);
	}
	decide_unclear(judge, "BAD_RESPONSE");
}

/* ---------- 2xx ---------- */

/* 200 with success:false */
static void
judge_unsuccessful(Judge *judge)
{
	const JsonNode *error = pems_judge_body_text(judge, "error");
	int status = error != NULL ? pems_status_of_error(error->text) : 0;

	say_status(judge);
	pems_sentence_add(&judge->sentence, " with success:false");
	say_body(judge);
	pems_judge_failure(judge, status != 0 ? status : 400);
}

static bool
is_about_our_record(const Judge *judge)
{
	const JsonNode *pfa_id = pems_judge_body_text(judge, "pfaId");

	return pfa_id != NULL && judge->asked->pfa_id != NULL &&
		   pfa_id->length == strlen(judge->asked->pfa_id) &&
		   memcmp(pfa_id->text, judge->asked->pfa_id, pfa_id->length) == 0;
}

/* PEMS says that it accepted the write, and also that there is no new version. */
static void
decide_not_applied(Judge *judge, int64_t new_version)
{
	say_status(judge);
	pems_sentence_add(&judge->sentence,
					  ", but its newVersion %" PRId64 " is not above version %" PRId64
					  ", which the write builds on: PEMS does not seem to have made the change",
					  new_version, judge->asked->version);
	pems_judge_decide(judge, PEMS_OUTCOME_UNKNOWN, "NOT_APPLIED");
}

static void
judge_written(Judge *judge)
{
	int64_t new_version;

	if (!pems_judge_body_version(judge, "newVersion", 0, &new_version))
		decide_bad_response(judge, "without a newVersion that is an integer");
	else if (new_version <= judge->asked->version)
		decide_not_applied(judge, new_version);
	else
	{
		judge->outcome->new_version = new_version;
		pems_judge_decide(judge, PEMS_OUTCOME_DONE, NULL);
	}
}

/* The record, as far as it can be stored.  False: out of memory. */
static bool
keep_record(Judge *judge, const JsonNode *data, int64_t version)
{
	judge->outcome->data = strndup(data->raw, data->raw_length);
	if (judge->outcome->data == NULL)
	{
		pems_sentence_add(&judge->sentence, "out of memory while reading PEMS's answer");
		pems_judge_decide(judge, PEMS_OUTCOME_TRANSIENT, "INTERNAL_ERROR");
		return false;
	}
	judge->outcome->version = version;
	return true;
}

/* The record itself is what a read is for: one that cannot be kept helps nobody. */
static void
decide_unstorable(Judge *judge, const char *why)
{
	say_status(judge);
	pems_sentence_add(&judge->sentence, ", but the record cannot be stored: %s", why);
	pems_judge_decide(judge, PEMS_OUTCOME_UNUSABLE, "BAD_RESPONSE");
}

/* A replica that lags, or a PEMS that was restored from a backup. */
static void
decide_stale(Judge *judge)
{
	pems_sentence_add(&judge->sentence,
					  "PEMS shows version %" PRId64
					  " of the record, but is known to have version %" PRId64
					  " or a later one: a replica that lags, or a PEMS that was restored",
					  judge->outcome->version, judge->asked->version);
	pems_judge_decide(judge, PEMS_OUTCOME_UNUSABLE, "STALE_READ");
}

static void
judge_record(Judge *judge)
{
	const JsonNode *data = pems_json_get(judge->body, "data");
	int64_t version;

	if (data == NULL || data->kind != JSON_KIND_OBJECT)
		decide_bad_response(judge, "without data that is an object");
	else if (!pems_judge_body_version(judge, "version", 0, &version))
		decide_bad_response(judge, "without a version that is an integer");
	else if (data->unstorable != NULL)
		decide_unstorable(judge, data->unstorable);
	else if (!keep_record(judge, data, version))
		return;
	else if (version < judge->asked->version)
		decide_stale(judge);
	else
		pems_judge_decide(judge, PEMS_OUTCOME_RECORD, NULL);
}

/* Whether its records can be stored is told by page.c, one by one. */
static void
judge_page(Judge *judge)
{
	const char *problem = pems_page_problem(judge->body);

	if (problem != NULL)
		decide_bad_response(judge, problem);
	else
		pems_judge_decide(judge, PEMS_OUTCOME_PAGE, NULL);
}

static void
judge_success(Judge *judge)
{
	const JsonNode *success = pems_json_get(judge->body, "success");
	bool told = success != NULL && success->kind == JSON_KIND_BOOLEAN;

	if (told && !success->boolean)
		judge_unsuccessful(judge);
	else if (judge->asked->call == PEMS_CALL_HEALTH)
		pems_judge_decide(judge, PEMS_OUTCOME_RECORD, NULL); /* the status is the answer */
	else if (judge->answer->body_length == 0)
		decide_bad_response(judge, "with an empty body");
	else if (judge->body == NULL)
		decide_bad_response(judge, "with a body that is not JSON");
	else if (judge->body->kind != JSON_KIND_OBJECT)
		decide_bad_response(judge, "with a body that is not a JSON object");
	else if (!told)
		decide_bad_response(judge, "without success:true");
	else if (judge->asked->call == PEMS_CALL_LIST)
		judge_page(judge);
	else if (!is_about_our_record(judge))
		decide_bad_response(judge, "about another record than the one asked for");
	else if (judge->asked->call == PEMS_CALL_READ)
		judge_record(judge);
	else
		judge_written(judge);
}

/* A whole answer, or as much of one as its status is worth. */
static void
judge_status(Judge *judge)
{
	int status = judge->answer->status;

	if (status == 202 && judge->asked->call != PEMS_CALL_HEALTH)
	{
		say_status(judge);
		pems_sentence_add(&judge->sentence, ": it will be done later, or not at all");
		pems_judge_heed_retry_after(judge, false);
		decide_unclear(judge, "ACCEPTED");
	}
	else if (status >= 200 && status < 300)
		judge_success(judge);
	else
	{
		say_status(judge);
		say_body(judge);
		pems_judge_failure(judge, status);
	}
}

/* ---------- transport ---------- */

/* "<lead>: <the HTTP library's words>" */
static void
say_transport(Judge *judge, const char *lead)
{
	const char *detail = judge->answer->detail;
	size_t length = strnlen(detail, sizeof(judge->answer->detail));

	pems_sentence_add(&judge->sentence, "%s", lead);
	if (length > 0)
	{
		pems_sentence_add(&judge->sentence, ": ");
		pems_sentence_add_foreign(&judge->sentence, detail, length, sizeof(judge->answer->detail));
	}
}

/* No answer came, and the endpoint is to blame. */
static void
decide_fault(Judge *judge, const char *lead, const char *error_code)
{
	say_transport(judge, lead);
	pems_judge_decide(judge, PEMS_OUTCOME_TRANSIENT, error_code);
	judge->outcome->endpoint_fault = true;
}

/*
 * The body did not arrive whole.  After an error status that changes nothing;
 * after a 2xx the part that tells what was done is missing.
 */
static void
judge_truncated(Judge *judge)
{
	if (judge->answer->status >= 300)
	{
		judge_status(judge);
		return;
	}
	judge->parse_error = NULL;
	decide_bad_response(judge, "the connection broke in the middle of the answer");
}

/* The body cannot be read, because of how it is encoded; an error status is one all the same. */
static void
judge_encoded(Judge *judge)
{
	const PemsAnswer *answer = judge->answer;

	say_status(judge);
	say_transport(judge, ", but its body cannot be read");
	if (answer->status >= 300)
		pems_judge_failure(judge, answer->status);
	else
		decide_unclear(judge, "BAD_RESPONSE");
}

/* A large page of HTML, say, that came with an error status: the status is all that is needed. */
static void
judge_oversized(Judge *judge)
{
	say_status(judge);
	say_transport(judge, ", and was cut off");
	pems_judge_failure(judge, judge->answer->status);
}

/* A success, or no status at all, in more bytes than are read.  A write may have been done. */
static void
decide_oversized(Judge *judge)
{
	say_transport(judge, "PEMS's answer is larger than allowed and was cut off");
	if (judge->asked->call == PEMS_CALL_LIST)
		pems_sentence_add(&judge->sentence, "; ask for fewer records at a time "
											"(pems_sync.pull_page_size), or allow more "
											"(pems_sync.pull_max_response_size)");
	pems_judge_decide(judge,
					  pems_judge_is_write(judge) ? PEMS_OUTCOME_UNKNOWN : PEMS_OUTCOME_REJECTED,
					  "RESPONSE_TOO_LARGE");
}

static void
judge_transport(Judge *judge)
{
	const PemsAnswer *answer = judge->answer;

	switch (answer->transport)
	{
		case PEMS_TRANSPORT_OK:
		case PEMS_TRANSPORT_TRUNCATED:
		case PEMS_TRANSPORT_ENCODED:
		case PEMS_TRANSPORT_RESET:
			decide_fault(judge, "the connection to PEMS broke before an answer came",
						 "NETWORK_ERROR");
			break;
		case PEMS_TRANSPORT_REFUSED:
			decide_fault(judge, "cannot connect to PEMS", "NETWORK_ERROR");
			break;
		case PEMS_TRANSPORT_DNS:
			decide_fault(judge, "the host name of PEMS cannot be resolved", "NETWORK_ERROR");
			break;
		case PEMS_TRANSPORT_TLS:
			decide_fault(judge, "no secure connection to PEMS", "TLS_ERROR");
			break;
		case PEMS_TRANSPORT_TIMEOUT:
			decide_fault(judge, "PEMS did not answer in time", "TIMEOUT");
			break;
		case PEMS_TRANSPORT_TOO_LARGE:
			decide_oversized(judge);
			break;
		case PEMS_TRANSPORT_FORBIDDEN_ADDRESS:
			say_transport(judge, "PEMS's address is one that must not be called");
			pems_judge_decide(judge, PEMS_OUTCOME_REJECTED, "FORBIDDEN_ADDRESS");
			break;
		case PEMS_TRANSPORT_INTERNAL:
			say_transport(judge, "the request could not be made");
			pems_judge_decide(judge, PEMS_OUTCOME_TRANSIENT, "INTERNAL_ERROR");
			break;
	}
}

/* A status came, and what comes after it does not take it back. */
static bool
is_status_decisive(const PemsAnswer *answer)
{
	switch (answer->transport)
	{
		case PEMS_TRANSPORT_OK:
		case PEMS_TRANSPORT_TRUNCATED:
		case PEMS_TRANSPORT_ENCODED:
			return answer->status >= 200;
		case PEMS_TRANSPORT_RESET:
		case PEMS_TRANSPORT_TIMEOUT:
		case PEMS_TRANSPORT_TOO_LARGE:
			return answer->status >= 300;
		case PEMS_TRANSPORT_REFUSED:
		case PEMS_TRANSPORT_DNS:
		case PEMS_TRANSPORT_TLS:
		case PEMS_TRANSPORT_FORBIDDEN_ADDRESS:
		case PEMS_TRANSPORT_INTERNAL:
			break;
	}
	return false;
}

/*
 * Parse the body, if there is one.  What the database could not hold is no reason not to understand
 * the rest.
 */
static bool
parse_body(Judge *judge, JsonDocument *document)
{
	const char *body = judge->answer->body;
	size_t length = judge->answer->body_length;
	bool parsed;

	if (body == NULL || length == 0)
		return false;
	pems_text_skip_mark(&body, &length);
	if (judge->asked->call == PEMS_CALL_LIST)
		parsed = pems_page_parse(body, length, document, &judge->parse_error);
	else
		parsed = pems_json_parse_lenient(body, length, document, &judge->parse_error);
	if (parsed)
		judge->body = document->root;
	return parsed;
}

void
pems_judge_answer(const PemsAsked *asked, const PemsAnswer *answer, PemsOutcome *outcome)
{
	Judge judge = {.asked = asked, .answer = answer, .outcome = outcome};
	JsonDocument document;
	bool parsed;

	*outcome = (PemsOutcome){0};
	if (!is_status_decisive(answer))
	{
		judge_transport(&judge);
		return;
	}
	if (answer->transport == PEMS_TRANSPORT_TOO_LARGE)
	{
		judge_oversized(&judge); /* whatever has come of the body is a part of it */
		return;
	}
	parsed = parse_body(&judge, &document);
	if (answer->transport == PEMS_TRANSPORT_OK)
		judge_status(&judge);
	else if (answer->transport == PEMS_TRANSPORT_ENCODED)
		judge_encoded(&judge);
	else
		judge_truncated(&judge);
	if (parsed)
		pems_json_free(&document);
}

/* ---------- freeing ---------- */

void
pems_outcome_free(PemsOutcome *outcome)
{
	free(outcome->data);
	free(outcome->error);
	*outcome = (PemsOutcome){0};
}

void
pems_answer_free(PemsAnswer *answer)
{
	free(answer->body);
	*answer = (PemsAnswer){0};
}
