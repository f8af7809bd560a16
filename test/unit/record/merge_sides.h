/*
 * record/merge_sides.h
 *		What the tests of merge and patch share: the catalogue, records written with ' for ", and
 *		decisions in words.
 */
#ifndef MERGE_SIDES_H
#define MERGE_SIDES_H

#include "unit.h"

#include <stdio.h>
#include <string.h>

#include "record/merge.h"
#include "record/sample_catalogue.h"

static inline PemsCatalogue *
catalogue(void)
{
	static PemsCatalogue shared;

	if (shared.count == 0)
		CHECK(pems_field_read_catalogue(SAMPLE_CATALOGUE, strlen(SAMPLE_CATALOGUE), &shared, NULL));
	return &shared;
}

/* A text with ' for ", parsed. */
typedef struct Side
{
	char text[512];
	JsonDocument document;
} Side;

static inline const JsonNode *
parse_side(const char *json, Side *side)
{
	char *c;

	memset(side, 0, sizeof(*side));
	if (json == NULL)
		return NULL;
	snprintf(side->text, sizeof(side->text), "%s", json);
	for (c = side->text; *c; c++)
	{
		if (*c == '\'')
			*c = '"';
	}
	CHECK(pems_json_parse(side->text, strlen(side->text), &side->document, NULL));
	return side->document.root;
}

static inline void
free_side(Side *side)
{
	pems_json_free(&side->document);
}

static inline void
append_list(char *text, size_t size, char **list, size_t count, const char *before)
{
	size_t i;

	for (i = 0; i < count; i++)
	{
		size_t length = strlen(text);

		snprintf(text + length, size - length, "%s%s", i == 0 ? before : ", ", list[i]);
	}
}

/* In words: "send {...}", "nothing", "update_update: a, b", "validation: a | sentence". */
static inline void
describe(const PemsDecision *decision, char *text, size_t size)
{
	CHECK(!decision->failed);
	switch (decision->action)
	{
		case PEMS_MERGE_SEND:
			snprintf(text, size, "send%s%s", decision->changes ? " " : "",
					 decision->changes ? decision->changes : "");
			break;
		case PEMS_MERGE_NOTHING:
			snprintf(text, size, "nothing");
			break;
		case PEMS_MERGE_CONFLICT:
			snprintf(text, size, "%s", pems_merge_kind_name(decision->kind));
			append_list(text, size, decision->fields, decision->field_count, ": ");
			append_list(text, size, decision->errors, decision->error_count, " | ");
			break;
	}
	CHECK((decision->action == PEMS_MERGE_CONFLICT) == (decision->kind != PEMS_CONFLICT_NONE));
	CHECK(decision->action == PEMS_MERGE_SEND || decision->changes == NULL);
}

/* What stands in the buffer, with ' for ", in a static buffer; frees the buffer. */
static inline const char *
taken(JsonBuffer *buffer)
{
	static char text[512];

	snprintf(text, sizeof(text), "%s", buffer->data);
	for (char *c = text; *c; c++)
	{
		if (*c == '"')
			*c = '\'';
	}
	pems_json_buffer_free(buffer);
	return text;
}

#endif /* MERGE_SIDES_H */
