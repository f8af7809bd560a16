/*
 * pems/protocol.c
 *		PEMS's HTTP protocol: requests into paths and bodies, answers into outcomes.
 *
 * Process: any; pure, without PostgreSQL, I/O or a clock of its own.
 * Memory: malloc; what a function returns belongs to its caller.
 *
 * Every byte of an answer comes from outside.  Texts of PEMS reach an error
 * sentence only through sentence_add_clean(), which bounds them and leaves neither
 * control characters nor broken UTF-8; all else that is taken from a body is
 * compared with what we expect, or is an integer.
 */
#include "pems/protocol.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "record/json.h"
#include "pems/retry.h"

/* The paths of PEMS's API, below api_url.  They stand here and nowhere else. */
#define PATH_RECORD "/pems/pfa/"
#define PATH_HEALTH "/pems/health"

#define PFA_ID_MAXIMUM 64

/* Versions are kept in columns of type integer. */
#define VERSION_MAXIMUM INT32_MAX

/* Bytes of a sentence, and of what PEMS may contribute to it. */
#define SENTENCE_MAXIMUM 1000
#define TEXT_MAXIMUM     600
#define SNIPPET_MAXIMUM  120

/* A timestamp of any precision fits; anything longer is none. */
#define UPDATED_AT_MAXIMUM 64

/* ---------- requests ---------- */

const char *
pems_protocol_method(PemsCall call)
{
	switch (call)
	{
		case PEMS_CALL_UPDATE:
			return "PUT";
		case PEMS_CALL_DELETE:
			return "DELETE";
		case PEMS_CALL_READ:
		case PEMS_CALL_HEALTH:
			break;
	}
	return "GET";
}

static bool
is_write(PemsCall call)
{
	return call == PEMS_CALL_UPDATE || call == PEMS_CALL_DELETE;
}

/* Letters and digits of ASCII, whatever the locale says. */
static bool
is_alphanumeric(unsigned char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool
pems_protocol_valid_pfa_id(const char *pfa_id)
{
	size_t length = 0;

	if (pfa_id == NULL)
		return false;
	for (const char *c = pfa_id; *c != '\0'; c++)
	{
		if (!is_alphanumeric((unsigned char) *c) && *c != '.' && *c != '_' && *c != '-')
			return false;
		if (++length > PFA_ID_MAXIMUM)
			return false;
	}
	return length > 0 && strcmp(pfa_id, ".") != 0 && strcmp(pfa_id, "..") != 0;
}

bool
pems_protocol_valid_header(const char *value)
{
	if (value == NULL)
		return false;
	for (const unsigned char *c = (const unsigned char *) value; *c != '\0'; c++)
	{
		if (*c < 0x20 || *c == 0x7f)
			return false;
	}
	return true;
}

/* What was built, or NULL when memory ran out on the way. */
static char *
finish(JsonBuffer *buffer)
{
	if (!buffer->failed)
		return buffer->data;
	pems_json_buffer_free(buffer);
	return NULL;
}

/* Escape all but the unreserved characters of RFC 3986. */
static void
append_escaped(JsonBuffer *buffer, const char *text)
{
	for (const unsigned char *c = (const unsigned char *) text; *c != '\0'; c++)
	{
		char escaped[4];

		if (is_alphanumeric(*c) || *c == '-' || *c == '.' || *c == '_' || *c == '~')
		{
			pems_json_append(buffer, (const char *) c, 1);
			continue;
		}
		snprintf(escaped, sizeof(escaped), "%%%02X", *c);
		pems_json_append(buffer, escaped, 3);
	}
}

char *
pems_protocol_path(PemsCall call, const char *pfa_id, const char *organization_code)
{
	JsonBuffer buffer = {0};

	if (call == PEMS_CALL_HEALTH)
	{
		pems_json_append_text(&buffer, PATH_HEALTH);
		return finish(&buffer);
	}
	if (!pems_protocol_valid_pfa_id(pfa_id))
		return NULL;
	if (call == PEMS_CALL_READ && organization_code == NULL)
		return NULL;
	pems_json_append_text(&buffer, PATH_RECORD);
	append_escaped(&buffer, pfa_id);
	if (call == PEMS_CALL_READ)
	{
		pems_json_append_text(&buffer, "?organizationCode=");
		append_escaped(&buffer, organization_code);
	}
	return finish(&buffer);
}

char *
pems_protocol_url(const char *api_url, const char *path)
{
	JsonBuffer buffer = {0};
	size_t length;

	if (api_url == NULL || path == NULL)
		return NULL;
	length = strlen(api_url);
	while (length > 0 && api_url[length - 1] == '/')
		length--;
	pems_json_append(&buffer, api_url, length);
	pems_json_append_text(&buffer, path);
	return finish(&buffer);
}

/* ,"key":"value"; nothing when there is no value */
static void
append_member(JsonBuffer *buffer, const char *key, const char *value)
{
	if (value == NULL)
		return;
	pems_json_append_text(buffer, ",\"");
	pems_json_append_text(buffer, key);
	pems_json_append_text(buffer, "\":");
	pems_json_append_string(buffer, value, strlen(value));
}

char *
pems_protocol_write_body(PemsCall call, const PemsWrite *write)
{
	JsonBuffer buffer = {0};
	char number[32];

	if (!is_write(call) || write->pfa_id == NULL || write->organization_code == NULL)
		return NULL;
	if (call == PEMS_CALL_UPDATE && write->changes == NULL)
		return NULL;
	pems_json_append_text(&buffer, "{\"pfaId\":");
	pems_json_append_string(&buffer, write->pfa_id, strlen(write->pfa_id));
	append_member(&buffer, "organizationCode", write->organization_code);
	if (call == PEMS_CALL_UPDATE)
	{
		pems_json_append_text(&buffer, ",\"changes\":");
		pems_json_append_text(&buffer, write->changes);
	}
	snprintf(number, sizeof(number), "%" PRId64, write->version);
	pems_json_append_text(&buffer, ",\"version\":");
	pems_json_append_text(&buffer, number);
	append_member(&buffer, "modifiedBy", write->modified_by);
	append_member(&buffer, call == PEMS_CALL_UPDATE ? "changeReason" : "reason", write->reason);
	pems_json_append_text(&buffer, "}");
	return finish(&buffer);
}

/* "<item id>:<number>" */
static char *
item_number(const char *item_id, int64_t number)
{
	JsonBuffer buffer = {0};
	char digits[32];

	if (item_id == NULL)
		return NULL;
	snprintf(digits, sizeof(digits), ":%" PRId64, number);
	pems_json_append_text(&buffer, item_id);
	pems_json_append_text(&buffer, digits);
	return finish(&buffer);
}

char *
pems_protocol_idempotency_key(const char *item_id, int64_t version)
{
	return item_number(item_id, version);
}

char *
pems_protocol_request_id(const char *item_id, int64_t attempt)
{
	return item_number(item_id, attempt);
}

/* ---------- sentences ---------- */

typedef struct Sentence
{
	char text[SENTENCE_MAXIMUM + 1];
	size_t length;
} Sentence;

/* Our own words; callers keep them far below the maximum. */
__attribute__((format(printf, 2, 3))) static void
sentence_add(Sentence *sentence, const char *format, ...)
{
	size_t room = sizeof(sentence->text) - sentence->length;
	va_list arguments;
	int written;

	va_start(arguments, format);
	written = vsnprintf(sentence->text + sentence->length, room, format, arguments);
	va_end(arguments);
	if (written > 0)
		sentence->length += (size_t) written < room ? (size_t) written : room - 1;
}

/*
 * Bytes of the UTF-8 sequence at text (RFC 3629: no overlong form, no surrogate,
 * nothing above U+10FFFF), and its code point; 0 when there is no valid one.
 */
static size_t
utf8_sequence(const unsigned char *text, size_t length, uint32_t *point)
{
	static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t bytes = text[0] < 0x80   ? 1
				   : text[0] < 0xc2 ? 0
				   : text[0] < 0xe0 ? 2
				   : text[0] < 0xf0 ? 3
				   : text[0] < 0xf5 ? 4
									: 0;

	if (bytes == 0 || bytes > length)
		return 0;
	*point = bytes == 1 ? text[0] : text[0] & (0xffU >> (bytes + 1));
	for (size_t i = 1; i < bytes; i++)
	{
		if ((text[i] & 0xc0) != 0x80)
			return 0;
		*point = (*point << 6) | (text[i] & 0x3fU);
	}
	if (*point < smallest[bytes] || *point > 0x10ffff || (*point >= 0xd800 && *point <= 0xdfff))
		return 0;
	return bytes;
}

/* Characters that would let a text forge log lines or read other than it stands. */
static bool
is_deceptive(uint32_t point)
{
	return point < 0x20 || (point >= 0x7f && point <= 0x9f) ||
		   (point >= 0x200b && point <= 0x200f) || (point >= 0x2028 && point <= 0x202e) ||
		   (point >= 0x2060 && point <= 0x2069) || point == 0xfeff;
}

/*
 * A foreign text: at most `limit` bytes of it, invalid UTF-8 as '?', control
 * characters as blanks, runs of blanks as one.
 */
static void
sentence_add_clean(Sentence *sentence, const char *text, size_t length, size_t limit)
{
	const unsigned char *cursor = (const unsigned char *) text;
	const unsigned char *end = cursor + length;
	size_t stop = sentence->length + limit;

	if (stop > SENTENCE_MAXIMUM - 3)
		stop = SENTENCE_MAXIMUM - 3;
	while (cursor < end)
	{
		uint32_t point = '?';
		size_t bytes = utf8_sequence(cursor, (size_t) (end - cursor), &point);
		const char *source = (const char *) cursor;
		size_t width = bytes;

		if (bytes == 0 || is_deceptive(point) || point == ' ')
		{
			source = bytes == 0 ? "?" : " ";
			width = 1;
		}
		cursor += bytes == 0 ? 1 : bytes;
		if (*source == ' ' &&
			(sentence->length == 0 || sentence->text[sentence->length - 1] == ' '))
			continue;
		if (sentence->length + width > stop)
		{
			sentence_add(sentence, "...");
			return;
		}
		memcpy(sentence->text + sentence->length, source, width);
		sentence->length += width;
	}
	while (sentence->length > 0 && sentence->text[sentence->length - 1] == ' ')
		sentence->length--;
	sentence->text[sentence->length] = '\0';
}

/* ---------- judging: what is known while an answer is judged ---------- */

typedef struct Judge
{
	const PemsAsked *asked;
	const PemsAnswer *answer;
	int64_t now;
	const JsonNode *body;    /* the body's JSON value, or NULL */
	const char *parse_error; /* why there is none */
	PemsOutcome *outcome;
	Sentence sentence;
} Judge;

/* The text of a string member of the body, or NULL. */
static const JsonNode *
body_text(const Judge *judge, const char *key)
{
	const JsonNode *node = pems_json_get(judge->body, key);

	return node != NULL && node->kind == JSON_KIND_STRING && node->length > 0 ? node : NULL;
}

/* An integral number from `minimum` to what a version column holds. */
static bool
body_version(const Judge *judge, const char *key, int64_t minimum, int64_t *version)
{
	long long number;

	if (!pems_json_integer(pems_json_get(judge->body, key), &number) || number < minimum ||
		number > VERSION_MAXIMUM)
		return false;
	*version = number;
	return true;
}

static const char *
reason_phrase(int status)
{
	static const struct
	{
		int status;
		const char *phrase;
	} phrases[] = {{200, "OK"},
				   {201, "Created"},
				   {202, "Accepted"},
				   {204, "No Content"},
				   {301, "Moved Permanently"},
				   {302, "Found"},
				   {303, "See Other"},
				   {307, "Temporary Redirect"},
				   {308, "Permanent Redirect"},
				   {400, "Bad Request"},
				   {401, "Unauthorized"},
				   {403, "Forbidden"},
				   {404, "Not Found"},
				   {405, "Method Not Allowed"},
				   {408, "Request Timeout"},
				   {409, "Conflict"},
				   {410, "Gone"},
				   {412, "Precondition Failed"},
				   {413, "Content Too Large"},
				   {415, "Unsupported Media Type"},
				   {421, "Misdirected Request"},
				   {422, "Unprocessable Content"},
				   {425, "Too Early"},
				   {429, "Too Many Requests"},
				   {500, "Internal Server Error"},
				   {501, "Not Implemented"},
				   {502, "Bad Gateway"},
				   {503, "Service Unavailable"},
				   {504, "Gateway Timeout"}};

	for (size_t i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++)
	{
		if (phrases[i].status == status)
			return phrases[i].phrase;
	}
	return NULL;
}

/* "PEMS answered 503 (Service Unavailable)" */
static void
say_status(Judge *judge)
{
	const char *phrase = reason_phrase(judge->answer->status);

	sentence_add(&judge->sentence, "PEMS answered %d", judge->answer->status);
	if (phrase != NULL)
		sentence_add(&judge->sentence, " (%s)", phrase);
}

/* ": <what its body says>"; a page of HTML says nothing to an administrator. */
static void
say_body(Judge *judge)
{
	const PemsAnswer *answer = judge->answer;
	const JsonNode *error = body_text(judge, "error");
	const JsonNode *message = body_text(judge, "message");

	if (error != NULL)
	{
		sentence_add(&judge->sentence, ": ");
		sentence_add_clean(&judge->sentence, error->text, error->length, SNIPPET_MAXIMUM);
	}
	if (message != NULL)
	{
		sentence_add(&judge->sentence, ": ");
		sentence_add_clean(&judge->sentence, message->text, message->length, TEXT_MAXIMUM);
	}
	if (judge->body == NULL && answer->body != NULL && answer->body_length > 0 &&
		answer->body[strspn(answer->body, " \t\r\n")] != '<')
	{
		sentence_add(&judge->sentence, ": ");
		sentence_add_clean(&judge->sentence, answer->body, answer->body_length, SNIPPET_MAXIMUM);
	}
}

/* Class and word; the sentence is what was said so far. */
static void
decide(Judge *judge, PemsOutcomeClass class, const char *error_code)
{
	PemsOutcome *outcome = judge->outcome;
	bool maybe_sent = judge->answer->maybe_sent || judge->answer->status != 0;

	outcome->class = class;
	outcome->error_code = error_code;
	outcome->unknown =
		class == PEMS_OUTCOME_UNKNOWN ||
		(class == PEMS_OUTCOME_TRANSIENT && is_write(judge->asked->call) && maybe_sent);
	if (error_code != NULL)
		outcome->error = strdup(judge->sentence.text);
}

static void
decide_fault(Judge *judge, const char *error_code)
{
	decide(judge, PEMS_OUTCOME_TRANSIENT, error_code);
	judge->outcome->endpoint_fault = true;
}

/*
 * An answer without sense.  After a write nobody knows what it did; after a read
 * only the read is to be done again.
 */
static void
decide_bad_response(Judge *judge, const char *what)
{
	const PemsAnswer *answer = judge->answer;

	say_status(judge);
	sentence_add(&judge->sentence, ", but %s", what);
	if (judge->parse_error != NULL && answer->body != NULL && answer->body_length > 0)
	{
		sentence_add(&judge->sentence, " (%s); it begins: ", judge->parse_error);
		sentence_add_clean(&judge->sentence, answer->body, answer->body_length, SNIPPET_MAXIMUM);
	}
	decide(judge, is_write(judge->asked->call) ? PEMS_OUTCOME_UNKNOWN : PEMS_OUTCOME_TRANSIENT,
		   "BAD_RESPONSE");
}

/* ---------- judging: statuses other than success ---------- */

static bool
has_prefix(const char *text, const char *prefix)
{
	return strncasecmp(text, prefix, strlen(prefix)) == 0;
}

/*
 * Does a 403 shut out the organization, not just this record?  It does when its
 * error names the organization, or when the body names an organization and no
 * record.
 */
static bool
speaks_of_organization(const Judge *judge)
{
	const JsonNode *error = body_text(judge, "error");

	if (error != NULL &&
		(has_prefix(error->text, "ORGANIZATION") || has_prefix(error->text, "ORGANISATION") ||
		 has_prefix(error->text, "TENANT")))
		return true;
	return body_text(judge, "organizationCode") != NULL && body_text(judge, "pfaId") == NULL;
}

static void
judge_forbidden(Judge *judge)
{
	if (speaks_of_organization(judge))
		decide(judge, PEMS_OUTCOME_CREDENTIAL, "FORBIDDEN");
	else
		decide(judge, PEMS_OUTCOME_REJECTED, "FORBIDDEN");
}

/* PEMS has another version than the write builds on; it may say which. */
static void
decide_version(Judge *judge)
{
	(void) body_version(judge, "currentVersion", 1, &judge->outcome->current_version);
	decide(judge, PEMS_OUTCOME_VERSION, "VERSION_CONFLICT");
}

/*
 * A 409 that says something else than VERSION_CONFLICT is PEMS's own trouble.
 * One that says nothing is taken for what a 409 of this protocol is: a sign to look.
 */
static void
judge_conflict(Judge *judge)
{
	const JsonNode *error = body_text(judge, "error");

	if (!is_write(judge->asked->call))
		decide(judge, PEMS_OUTCOME_TRANSIENT, "CONFLICT");
	else if (error == NULL || strcasecmp(error->text, "VERSION_CONFLICT") == 0)
		decide_version(judge);
	else
		decide(judge, PEMS_OUTCOME_TRANSIENT, "CONFLICT");
}

/* A 429 always asks to wait; other answers do so with a Retry-After only. */
static void
heed_retry_after(Judge *judge, bool always)
{
	const PemsAnswer *answer = judge->answer;

	if (always || answer->retry_after != NULL)
		judge->outcome->retry_after_ms =
			pems_retry_after_ms(answer->retry_after, answer->date, judge->now);
}

/* status: the answer's, or the one that stands for the `error` of a success:false. */
static void
judge_failure(Judge *judge, int status)
{
	switch (status)
	{
		case 401:
			decide(judge, PEMS_OUTCOME_CREDENTIAL, "UNAUTHORIZED");
			return;
		case 403:
			judge_forbidden(judge);
			return;
		case 404:
		case 410:
			decide(judge,
				   judge->asked->call == PEMS_CALL_HEALTH ? PEMS_OUTCOME_REJECTED
														  : PEMS_OUTCOME_GONE,
				   "NOT_FOUND");
			return;
		case 408:
			decide(judge, PEMS_OUTCOME_TRANSIENT, "TIMEOUT");
			return;
		case 409:
			judge_conflict(judge);
			return;
		case 412:
			if (is_write(judge->asked->call))
				decide_version(judge);
			else
				decide(judge, PEMS_OUTCOME_REJECTED, "INVALID_REQUEST");
			return;
		case 421:
		case 425:
			/* this connection's trouble, not the endpoint's */
			decide(judge, PEMS_OUTCOME_TRANSIENT, "UNAVAILABLE");
			return;
		case 429:
			heed_retry_after(judge, true);
			decide(judge, PEMS_OUTCOME_THROTTLED, "RATE_LIMITED");
			return;
		case 502:
		case 503:
		case 504:
			heed_retry_after(judge, false);
			decide_fault(judge, "UNAVAILABLE");
			return;
		default:
			break;
	}
	if (status >= 300 && status < 400)
		decide(judge, PEMS_OUTCOME_REJECTED, "REDIRECT");
	else if (status >= 400 && status < 500)
		decide(judge, PEMS_OUTCOME_REJECTED, "INVALID_REQUEST");
	else
	{
		/* RFC 9110, 15: a status outside of 100 to 599 counts as a server error. */
		heed_retry_after(judge, false);
		decide(judge, PEMS_OUTCOME_TRANSIENT, "SERVER_ERROR");
	}
}

/* ---------- judging: 2xx ---------- */

/* The status that an `error` of a 200 with success:false stands for; 0: none known. */
static int
status_of_error(const char *error)
{
	static const struct
	{
		const char *word;
		bool prefix;
		int status;
	} words[] = {{"VERSION_CONFLICT", false, 409},
				 {"PRECONDITION_FAILED", false, 412},
				 {"NOT_FOUND", false, 404},
				 {"RECORD_NOT_FOUND", false, 404},
				 {"PFA_NOT_FOUND", false, 404},
				 {"UNAUTHORIZED", false, 401},
				 {"UNAUTHENTICATED", false, 401},
				 {"FORBIDDEN", false, 403},
				 {"ORGANIZATION_FORBIDDEN", true, 403},
				 {"ORGANISATION_FORBIDDEN", true, 403},
				 {"REQUEST_TIMEOUT", false, 408},
				 {"MISDIRECTED_REQUEST", false, 421},
				 {"TOO_EARLY", false, 425},
				 {"RATE_LIMIT", true, 429},
				 {"TOO_MANY_REQUESTS", false, 429},
				 {"INVALID_REQUEST", true, 400},
				 {"BAD_REQUEST", false, 400},
				 {"VALIDATION", true, 422},
				 {"SERVER_ERROR", true, 500},
				 {"INTERNAL", true, 500},
				 {"BAD_GATEWAY", false, 502},
				 {"SERVICE_UNAVAILABLE", false, 503},
				 {"UNAVAILABLE", false, 503},
				 {"GATEWAY_TIMEOUT", false, 504}};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
	{
		if (words[i].prefix ? has_prefix(error, words[i].word)
							: strcasecmp(error, words[i].word) == 0)
			return words[i].status;
	}
	return 0;
}

/* 200 with success:false */
static void
judge_unsuccessful(Judge *judge)
{
	const JsonNode *error = body_text(judge, "error");
	int status = error != NULL ? status_of_error(error->text) : 0;

	say_status(judge);
	sentence_add(&judge->sentence, " with success:false");
	say_body(judge);
	if (status != 0)
		judge_failure(judge, status);
	else
		decide(judge, PEMS_OUTCOME_REJECTED, "INVALID_REQUEST");
}

static bool
is_about_our_record(const Judge *judge)
{
	const JsonNode *pfa_id = body_text(judge, "pfaId");

	return pfa_id != NULL && judge->asked->pfa_id != NULL &&
		   pfa_id->length == strlen(judge->asked->pfa_id) &&
		   memcmp(pfa_id->text, judge->asked->pfa_id, pfa_id->length) == 0;
}

static char *
copy_updated_at(const Judge *judge)
{
	const JsonNode *node = body_text(judge, "updatedAt");

	return node != NULL && node->length <= UPDATED_AT_MAXIMUM ? strdup(node->text) : NULL;
}

/* PEMS accepts the write, and says in the same breath that it has made no new version of it. */
static void
decide_not_applied(Judge *judge, int64_t new_version)
{
	say_status(judge);
	sentence_add(&judge->sentence,
				 ", but its newVersion %" PRId64 " is not above version %" PRId64
				 ", which the write builds on: PEMS does not seem to have made the change",
				 new_version, judge->asked->version);
	decide(judge, PEMS_OUTCOME_UNKNOWN, "NOT_APPLIED");
}

static void
judge_written(Judge *judge)
{
	int64_t new_version;

	if (!body_version(judge, "newVersion", 0, &new_version))
		decide_bad_response(judge, "without a newVersion that is an integer");
	else if (new_version <= judge->asked->version)
		decide_not_applied(judge, new_version);
	else
	{
		judge->outcome->new_version = new_version;
		judge->outcome->updated_at = copy_updated_at(judge);
		decide(judge, PEMS_OUTCOME_DONE, NULL);
	}
}

/* The record, as far as it can be stored.  False: out of memory. */
static bool
keep_record(Judge *judge, const JsonNode *data, int64_t version)
{
	judge->outcome->data = strndup(data->raw, data->raw_length);
	if (judge->outcome->data == NULL)
	{
		sentence_add(&judge->sentence, "out of memory while reading PEMS's answer");
		decide(judge, PEMS_OUTCOME_TRANSIENT, "INTERNAL_ERROR");
		return false;
	}
	judge->outcome->version = version;
	judge->outcome->updated_at = copy_updated_at(judge);
	return true;
}

/* The record itself is what a read is for: one that cannot be kept helps nobody. */
static void
decide_unstorable(Judge *judge, const char *why)
{
	say_status(judge);
	sentence_add(&judge->sentence, ", but the record cannot be stored: %s", why);
	decide(judge, PEMS_OUTCOME_UNUSABLE, "BAD_RESPONSE");
}

/* A replica that lags, or a PEMS that was restored from a backup. */
static void
decide_stale(Judge *judge)
{
	sentence_add(&judge->sentence,
				 "PEMS shows version %" PRId64
				 " of the record, but is known to have version %" PRId64
				 " or a later one: a replica that lags, or a PEMS that was restored",
				 judge->outcome->version, judge->asked->version);
	decide(judge, PEMS_OUTCOME_UNUSABLE, "STALE_READ");
}

static void
judge_record(Judge *judge)
{
	const JsonNode *data = pems_json_get(judge->body, "data");
	int64_t version;

	if (data == NULL || data->kind != JSON_KIND_OBJECT)
		decide_bad_response(judge, "without data that is an object");
	else if (!body_version(judge, "version", 0, &version))
		decide_bad_response(judge, "without a version that is an integer");
	else if (data->unstorable != NULL)
		decide_unstorable(judge, data->unstorable);
	else if (!keep_record(judge, data, version))
		return;
	else if (version < judge->asked->version)
		decide_stale(judge);
	else
		decide(judge, PEMS_OUTCOME_RECORD, NULL);
}

static void
judge_success(Judge *judge)
{
	const JsonNode *success = pems_json_get(judge->body, "success");
	bool told = success != NULL && success->kind == JSON_KIND_BOOLEAN;

	if (told && !success->boolean)
		judge_unsuccessful(judge);
	else if (judge->asked->call == PEMS_CALL_HEALTH)
		decide(judge, PEMS_OUTCOME_RECORD, NULL); /* the status is the answer */
	else if (judge->answer->body_length == 0)
		decide_bad_response(judge, "with an empty body");
	else if (judge->body == NULL)
		decide_bad_response(judge, "with a body that is not JSON");
	else if (judge->body->kind != JSON_KIND_OBJECT)
		decide_bad_response(judge, "with a body that is not a JSON object");
	else if (!told)
		decide_bad_response(judge, "without success:true");
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
		sentence_add(&judge->sentence, ": it will be done later, or not at all");
		heed_retry_after(judge, false);
		decide(judge, is_write(judge->asked->call) ? PEMS_OUTCOME_UNKNOWN : PEMS_OUTCOME_TRANSIENT,
			   "ACCEPTED");
	}
	else if (status >= 200 && status < 300)
		judge_success(judge);
	else
	{
		say_status(judge);
		say_body(judge);
		judge_failure(judge, status);
	}
}

/* ---------- judging: transport ---------- */

/* "<lead>: <the HTTP library's words>" */
static void
say_transport(Judge *judge, const char *lead)
{
	const char *detail = judge->answer->detail;
	size_t length = strnlen(detail, sizeof(judge->answer->detail));

	sentence_add(&judge->sentence, "%s", lead);
	if (length > 0)
	{
		sentence_add(&judge->sentence, ": ");
		sentence_add_clean(&judge->sentence, detail, length, sizeof(judge->answer->detail));
	}
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
		judge_failure(judge, answer->status);
	else
		decide(judge, is_write(judge->asked->call) ? PEMS_OUTCOME_UNKNOWN : PEMS_OUTCOME_TRANSIENT,
			   "BAD_RESPONSE");
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
			say_transport(judge, "the connection to PEMS broke before an answer came");
			decide_fault(judge, "NETWORK_ERROR");
			break;
		case PEMS_TRANSPORT_REFUSED:
			say_transport(judge, "cannot connect to PEMS");
			decide_fault(judge, "NETWORK_ERROR");
			break;
		case PEMS_TRANSPORT_DNS:
			say_transport(judge, "the host name of PEMS cannot be resolved");
			decide_fault(judge, "NETWORK_ERROR");
			break;
		case PEMS_TRANSPORT_TLS:
			say_transport(judge, "no secure connection to PEMS");
			decide_fault(judge, "TLS_ERROR");
			break;
		case PEMS_TRANSPORT_TIMEOUT:
			say_transport(judge, "PEMS did not answer in time");
			decide_fault(judge, "TIMEOUT");
			break;
		case PEMS_TRANSPORT_TOO_LARGE:
			say_transport(judge, "PEMS's answer is larger than allowed and was cut off");
			decide(judge, PEMS_OUTCOME_REJECTED, "RESPONSE_TOO_LARGE");
			/* Final, yet a human or a later retry should know that it may have been applied. */
			judge->outcome->unknown = is_write(judge->asked->call);
			break;
		case PEMS_TRANSPORT_FORBIDDEN_ADDRESS:
			say_transport(judge, "PEMS's address is one that must not be called");
			decide(judge, PEMS_OUTCOME_REJECTED, "FORBIDDEN_ADDRESS");
			break;
		case PEMS_TRANSPORT_INTERNAL:
			say_transport(judge, "the request could not be made");
			decide(judge, PEMS_OUTCOME_TRANSIENT, "INTERNAL_ERROR");
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
			return answer->status >= 300;
		case PEMS_TRANSPORT_REFUSED:
		case PEMS_TRANSPORT_DNS:
		case PEMS_TRANSPORT_TLS:
		case PEMS_TRANSPORT_TOO_LARGE:
		case PEMS_TRANSPORT_FORBIDDEN_ADDRESS:
		case PEMS_TRANSPORT_INTERNAL:
			break;
	}
	return false;
}

/* Parse the body, if there is one; a byte order mark in front of it is no part of it. */
static bool
parse_body(Judge *judge, JsonDocument *document)
{
	const char *body = judge->answer->body;
	size_t length = judge->answer->body_length;

	if (body == NULL || length == 0)
		return false;
	if (length >= 3 && memcmp(body, "\xef\xbb\xbf", 3) == 0)
	{
		body += 3;
		length -= 3;
	}
	/* what the database could not hold is no reason not to understand the rest */
	if (!pems_json_parse_lenient(body, length, document, &judge->parse_error))
		return false;
	judge->body = document->root;
	return true;
}

void
pems_protocol_judge(const PemsAsked *asked, const PemsAnswer *answer, int64_t now,
					PemsOutcome *outcome)
{
	Judge judge = {.asked = asked, .answer = answer, .now = now, .outcome = outcome};
	JsonDocument document;
	bool parsed;

	*outcome = (PemsOutcome){0};
	if (!is_status_decisive(answer))
	{
		judge_transport(&judge);
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

/* ---------- the rest ---------- */

void
pems_protocol_free_outcome(PemsOutcome *outcome)
{
	free(outcome->data);
	free(outcome->updated_at);
	free(outcome->error);
	*outcome = (PemsOutcome){0};
}

void
pems_protocol_free_answer(PemsAnswer *answer)
{
	free(answer->retry_after);
	free(answer->date);
	free(answer->body);
	*answer = (PemsAnswer){0};
}

const char *
pems_protocol_class_name(PemsOutcomeClass class)
{
	switch (class)
	{
		case PEMS_OUTCOME_DONE:
			return "done";
		case PEMS_OUTCOME_RECORD:
			return "record";
		case PEMS_OUTCOME_UNUSABLE:
			return "unusable";
		case PEMS_OUTCOME_GONE:
			return "gone";
		case PEMS_OUTCOME_REJECTED:
			return "rejected";
		case PEMS_OUTCOME_CREDENTIAL:
			return "credential";
		case PEMS_OUTCOME_VERSION:
			return "version";
		case PEMS_OUTCOME_THROTTLED:
			return "throttled";
		case PEMS_OUTCOME_TRANSIENT:
			return "transient";
		case PEMS_OUTCOME_UNKNOWN:
			return "unknown";
	}
	return "?";
}
