/*
 * protocol_fuzz.c
 *		libFuzzer target: any answer of PEMS gets an outcome that keeps its promises.
 *
 * Input: eight bytes of circumstances, then up to three texts that end with a
 * NUL (Retry-After, Date, the library's detail), then the body.
 */
#include "pems/judge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "record/json.h"
#include "pems/page.h"
#include "pems/retry.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
promise(bool kept)
{
	if (!kept)
		abort();
}

/* The text up to the next NUL, or NULL when there is no NUL any more. */
static const char *
next_text(const uint8_t **data, size_t *size)
{
	const uint8_t *end = memchr(*data, '\0', *size);
	const char *text = (const char *) *data;

	if (end == NULL)
		return NULL;
	*size -= (size_t) (end + 1 - *data);
	*data = end + 1;
	return text;
}

static void
fill_body(PemsAnswer *answer, const uint8_t *data, size_t size)
{
	if (size == 0)
		return;
	answer->body = malloc(size + 1);
	memcpy(answer->body, data, size);
	answer->body[size] = '\0';
	answer->body_length = size;
}

/* Valid UTF-8 without control characters: then it is a JSON string but for two characters. */
static void
check_sentence(const char *error)
{
	size_t length = strlen(error);
	char quoted[1100];
	JsonDocument document;

	promise(length > 0 && length <= 1000);
	snprintf(quoted, sizeof(quoted), "\"%s\"", error);
	for (size_t i = 1; i <= length; i++)
	{
		if (quoted[i] == '"' || quoted[i] == '\\')
			quoted[i] = '.';
		promise((unsigned char) quoted[i] >= 0x20 && quoted[i] != 0x7f);
	}
	promise(pems_json_parse(quoted, length + 2, &document, NULL));
	pems_json_free(&document);
}

static void
check_record(const PemsOutcome *outcome)
{
	JsonDocument document;

	promise(outcome->version >= 0 && outcome->version <= INT32_MAX);
	promise(pems_json_parse(outcome->data, strlen(outcome->data), &document, NULL));
	promise(document.root->kind == JSON_KIND_OBJECT);
	pems_json_free(&document);
}

/* What the judge takes for a page can be read. */
static void
check_page(const PemsAnswer *answer)
{
	const char *error;
	PemsPage page;

	promise(pems_page_read(answer->body, answer->body_length, "RIO", &page, &error));
	pems_page_free(&page);
}

static void
check_outcome(PemsCall call, const PemsAnswer *answer, const PemsOutcome *outcome)
{
	bool write = call == PEMS_CALL_UPDATE || call == PEMS_CALL_DELETE;

	promise((outcome->error == NULL) == (outcome->error_code == NULL));
	promise(!outcome->unknown || write);
	promise(outcome->unknown || outcome->class != PEMS_OUTCOME_UNKNOWN);
	promise(!outcome->endpoint_fault || outcome->class == PEMS_OUTCOME_TRANSIENT);
	if (outcome->class == PEMS_OUTCOME_TRANSIENT && write)
		promise(outcome->unknown == (answer->maybe_sent || answer->status != 0));
	if (outcome->class == PEMS_OUTCOME_DONE)
		promise(write && outcome->new_version > 0 && outcome->new_version <= INT32_MAX);
	else
		promise(outcome->new_version == 0);
	if (outcome->class == PEMS_OUTCOME_PAGE)
		check_page(answer);
	if (outcome->class == PEMS_OUTCOME_PAGE || outcome->class == PEMS_OUTCOME_CURSOR_REFUSED)
		promise(call == PEMS_CALL_LIST);
	else if (call == PEMS_CALL_LIST)
		promise(outcome->class != PEMS_OUTCOME_RECORD && outcome->class != PEMS_OUTCOME_GONE);
	if (outcome->class == PEMS_OUTCOME_RECORD && call == PEMS_CALL_READ)
		check_record(outcome);
	else if (outcome->class == PEMS_OUTCOME_UNUSABLE && outcome->data != NULL)
		check_record(outcome);
	else
		promise(outcome->data == NULL);
	if (outcome->class == PEMS_OUTCOME_THROTTLED || outcome->retry_after_ms != 0)
		promise(outcome->retry_after_ms >= PEMS_RETRY_AFTER_MINIMUM_MS &&
				outcome->retry_after_ms <= PEMS_RETRY_AFTER_MAXIMUM_MS);
	if (outcome->error != NULL)
		check_sentence(outcome->error);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	PemsAnswer answer = {0};
	PemsOutcome outcome;
	PemsCall call;
	PemsAsked asked;
	int64_t version;
	const char *retry_after;
	const char *detail;

	if (size < 8)
		return 0;
	call = (PemsCall) (data[0] % 5);
	answer.transport = (PemsTransport) (data[1] % (PEMS_TRANSPORT_INTERNAL + 1));
	answer.status = (data[2] % 10) * 100 + data[3] % 32;
	answer.maybe_sent = (data[4] & 1) != 0;
	version = data[5] % 8;
	data += 8;
	size -= 8;
	retry_after = next_text(&data, &size);
	detail = next_text(&data, &size);
	snprintf(answer.detail, sizeof(answer.detail), "%s", detail != NULL ? detail : "");
	answer.has_retry_after = retry_after != NULL;
	answer.retry_after_s = retry_after != NULL ? strtoll(retry_after, NULL, 10) : 0;
	fill_body(&answer, data, size);

	asked = (PemsAsked){.call = call,
						.pfa_id = call >= PEMS_CALL_HEALTH ? NULL : "PFA-1",
						.version = version,
						.has_cursor = version % 2 == 1};
	pems_judge_answer(&asked, &answer, &outcome);
	check_outcome(call, &answer, &outcome);
	pems_outcome_free(&outcome);
	pems_answer_free(&answer);
	return 0;
}
