/*
 * session/decide.c
 *		What would become of an edit if it were sent now, as the worker decides it
 *		(record/merge.c), for a session that asks.
 *
 * Process: any backend.
 */
#include "postgres.h"

#include "fmgr.h"

#include "record/json.h"
#include "record/merge.h"
#include "session/catalogue.h"
#include "session/values.h"

PG_FUNCTION_INFO_V1(pems_api_decide);

/* The jsonb arguments, in the order of the SQL function. */
typedef enum DecideArgument
{
	DELTA,
	BASE,
	OWN,
	OTHER_BASES,
	REMOTE,
	VALUE_COUNT,
	IS_DELETE = VALUE_COUNT,
	BASE_VERSION,
	REMOTE_VERSION
} DecideArgument;

/* Is what is sent what the user drafted, on a record as the user saw it? */
static bool
record_is_base(const PemsMergeInput *input)
{
	return input->base && input->remote && pems_json_equal(input->base, input->remote);
}

static const char *
word_for(const PemsMergeInput *input, const PemsDecision *decision)
{
	switch (decision->action)
	{
		case PEMS_MERGE_SEND:
			return record_is_base(input) ? "send" : "merge";
		case PEMS_MERGE_NOTHING:
			return "nothing";
		case PEMS_MERGE_CONFLICT:
			return "conflict";
	}
	return "conflict";
}

/* The names of the members of that object; [] for none. */
static void
append_names(JsonBuffer *buffer, const char *object)
{
	JsonDocument document = {0};

	if (object && !pems_json_parse(object, strlen(object), &document, NULL))
		buffer->failed = true;
	pems_json_append_text(buffer, "[");
	for (const JsonNode *member = document.root ? document.root->first : NULL; member;
		 member = member->next)
	{
		if (member != document.root->first)
			pems_json_append_text(buffer, ",");
		pems_json_append_string(buffer, member->key, member->key_length);
	}
	pems_json_append_text(buffer, "]");
	if (document.root)
		pems_json_free(&document);
}

/* {decision, fields, errors} */
static void
write_decision(JsonBuffer *buffer, const PemsMergeInput *input, const PemsDecision *decision)
{
	pems_json_append_text(buffer, "{");
	pems_value_append_member(buffer, "decision", word_for(input, decision));
	pems_json_append_text(buffer, ",\"fields\":");
	if (decision->action == PEMS_MERGE_CONFLICT)
		pems_json_append_strings(buffer, decision->fields, decision->field_count);
	else
		append_names(buffer, decision->changes);
	pems_json_append_text(buffer, ",\"errors\":");
	pems_json_append_strings(buffer, decision->errors, decision->error_count);
	pems_json_append_text(buffer, "}");
	buffer->failed = buffer->failed || decision->failed;
}

static bool
all_readable(const PemsArgument *values)
{
	for (int i = 0; i < VALUE_COUNT; i++)
		if (values[i].problem)
			return false;
	return true;
}

/*
 * pems_api_decide(delta, base, own, other_bases, remote, is_delete, base_version, remote_version):
 * _pems_decide()
 *		What would become of an edit that is sent now.
 *
 * Parameters: those of PemsMergeInput (record/merge.h): base: the record as the user saw it; own:
 * fields that the author's own edits have written since; other_bases: an array of what the user may
 * have seen instead of base; remote: the record as it is now.  NULL: not known, or none.
 * Returns: {decision, fields, errors}; decision: send, merge (what is sent goes on top of changes
 * that the user did not see), nothing, or conflict; fields: those that are sent, or in conflict;
 * errors: rules that the merged record would break.  NULL when one of the values is nested too
 * deeply to be compared.
 * Errors: 22000 when the field catalogue cannot be used.
 * Tables: pems_field.
 */
Datum
pems_api_decide(PG_FUNCTION_ARGS)
{
	const PemsCatalogue *catalogue = pems_session_catalogue(fcinfo->flinfo);
	PemsArgument values[VALUE_COUNT];
	JsonBuffer buffer = {0};
	bool readable;

	for (int i = 0; i < VALUE_COUNT; i++)
		values[i] = pems_argument_read(fcinfo, i);
	readable = all_readable(values);
	if (readable)
	{
		PemsDecision decision;
		PemsMergeInput input = {.catalogue = catalogue,
								.is_delete = PG_GETARG_BOOL(IS_DELETE),
								.delta = values[DELTA].document.root,
								.base = values[BASE].document.root,
								.own = values[OWN].document.root,
								.other_bases = values[OTHER_BASES].document.root,
								.remote = values[REMOTE].document.root,
								.base_version = PG_GETARG_INT32(BASE_VERSION),
								.remote_version = PG_GETARG_INT32(REMOTE_VERSION)};

		pems_merge_decide(&input, &decision);
		write_decision(&buffer, &input, &decision);
		pems_merge_free(&decision);
	}
	for (int i = 0; i < VALUE_COUNT; i++)
		pems_argument_free(&values[i]);
	if (!readable)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(pems_value_from_buffer(&buffer));
}
