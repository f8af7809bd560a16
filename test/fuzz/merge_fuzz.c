/*
 * merge_fuzz.c
 *		libFuzzer target of src/merge.c: an input is an array of up to four values,
 *		delta, base, remote and own.  What is sent is applied by PEMS, and then
 *		there is nothing left to send; without a base nothing is sent at all.
 *
 *	clang -g -O1 -fsanitize=fuzzer,address,undefined test/fuzz/merge_fuzz.c \
 *		src/merge.c src/validate.c src/field.c src/json.c
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/merge.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Short names, so that the fuzzer soon finds them. */
static const char fields[] =
	"[{\"name\":\"n\",\"type\":\"number\",\"writable\":true,\"minimum\":0},"
	"{\"name\":\"t\",\"type\":\"timestamp\",\"writable\":true},"
	"{\"name\":\"d\",\"type\":\"date\",\"writable\":true,\"after\":\"t\"},"
	"{\"name\":\"s\",\"type\":\"text\",\"writable\":true,\"maxLength\":3},"
	"{\"name\":\"j\",\"type\":\"json\",\"writable\":true}]";

/* abort() is what the fuzzer notices. */
static void
require(bool holds)
{
	if (!holds)
		abort();
}

static void
require_sensible(const PemsMergeInput *input, const PemsDecision *decision)
{
	bool conflict = decision->action == PEMS_MERGE_CONFLICT;

	require(!decision->failed);
	require(conflict == (pems_merge_kind_name(decision->kind) != NULL));
	require(conflict || (decision->field_count == 0 && decision->error_count == 0));
	require((decision->changes != NULL) ==
			(decision->action == PEMS_MERGE_SEND && !input->is_delete));
	require((decision->error_count > 0) == (decision->kind == PEMS_CONFLICT_VALIDATION));
}

/* PEMS applies what is sent: then all of the delta is there, and a second look sends nothing. */
static void
require_settled(PemsMergeInput input, const char *changes)
{
	JsonBuffer text = {0};
	JsonDocument sent;
	JsonDocument result;
	PemsDecision again;

	require(pems_json_parse(changes, strlen(changes), &sent, NULL));
	pems_merge_apply(input.remote, sent.root, &text);
	require(pems_json_parse(text.data, text.length, &result, NULL));
	input.remote = result.root;
	pems_merge_decide(&input, &again);
	require(again.action == PEMS_MERGE_NOTHING);
	pems_merge_free(&again);
	pems_json_free(&result);
	pems_json_free(&sent);
	pems_json_buffer_free(&text);
}

static void
decide(PemsMergeInput *input)
{
	PemsDecision decision;

	pems_merge_decide(input, &decision);
	require_sensible(input, &decision);
	if (decision.changes)
	{
		require(input->base && input->base->kind == JSON_KIND_OBJECT);
		require_settled(*input, decision.changes);
	}
	pems_merge_free(&decision);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	PemsCatalogue catalogue;
	JsonDocument document;
	const JsonNode *sides[4] = {NULL};
	const JsonNode *side;
	PemsMergeInput input;
	int count = 0;

	if (!pems_json_parse((const char *) data, size, &document, NULL))
		return 0;
	require(pems_field_read_catalogue(fields, sizeof(fields) - 1, &catalogue, NULL));
	for (side = document.root->first; side && count < 4; side = side->next)
		sides[count++] = side;
	memset(&input, 0, sizeof(input));
	input.catalogue = &catalogue;
	input.delta = sides[0];
	input.base = sides[1];
	input.remote = sides[2];
	input.own = sides[3];
	input.base_version = 1;
	input.remote_version = (int64_t) (size % 3);
	decide(&input);
	input.is_delete = true;
	decide(&input);
	pems_field_free_catalogue(&catalogue);
	pems_json_free(&document);
	return 0;
}
