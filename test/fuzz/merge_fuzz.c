/*
 * merge_fuzz.c
 *		libFuzzer target of src/record/merge.c: an input is an array of up to four values,
 *		delta, base, remote and own.  What is sent is applied by PEMS, and then
 *		there is nothing left to send; without a base nothing is sent at all.  A PEMS that
 *		puts objects in the place of others then has the same record as one that merges them.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "record/merge.h"

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

/* The record with each of its fields replaced that changes names. */
static void
append_replaced(const JsonNode *record, const JsonNode *changes, JsonBuffer *text)
{
	const char *comma = "";

	pems_json_append_text(text, "{");
	for (int side = 0; side < 2; side++)
	{
		const JsonNode *member = side == 0 ? record->first : changes->first;

		for (; member; member = member->next)
		{
			if (side == 0 && pems_json_get(changes, member->key))
				continue;
			pems_json_append_text(text, comma);
			pems_json_append_string(text, member->key, member->key_length);
			pems_json_append_text(text, ":");
			pems_json_append_node(text, member);
			comma = ",";
		}
	}
	pems_json_append_text(text, "}");
}

/* Is it all the same whether PEMS merges the objects of changes, or replaces them? */
static void
require_whole_objects(const JsonNode *record, const JsonNode *changes, const JsonNode *merged)
{
	JsonBuffer text = {0};
	JsonDocument replaced;

	if (record == NULL || record->kind != JSON_KIND_OBJECT)
		return;
	append_replaced(record, changes, &text);
	require(pems_json_parse(text.data, text.length, &replaced, NULL));
	require(pems_json_equal(replaced.root, merged));
	pems_json_free(&replaced);
	pems_json_buffer_free(&text);
}

/* What is sent where there is nothing to compare makes the record that the delta means. */
static void
check_complete(const JsonNode *delta, const JsonNode *record)
{
	JsonBuffer texts[2] = {{0}};
	JsonDocument changes;
	JsonDocument meant;

	pems_patch_complete(delta, record, &texts[0]);
	pems_patch_apply(record, delta, &texts[1]);
	require(pems_json_parse(texts[0].data, texts[0].length, &changes, NULL));
	require(pems_json_parse(texts[1].data, texts[1].length, &meant, NULL));
	require(pems_patch_has_object(changes.root) == pems_patch_has_object(delta));
	require_whole_objects(record, changes.root, meant.root);
	pems_json_free(&changes);
	pems_json_free(&meant);
	pems_json_buffer_free(&texts[0]);
	pems_json_buffer_free(&texts[1]);
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
	pems_patch_apply(input.remote, sent.root, &text);
	require(pems_json_parse(text.data, text.length, &result, NULL));
	require_whole_objects(input.remote, sent.root, result.root);
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
	if (input.delta && input.delta->kind == JSON_KIND_OBJECT && input.remote)
		check_complete(input.delta, input.remote);
	pems_field_free_catalogue(&catalogue);
	pems_json_free(&document);
	return 0;
}
