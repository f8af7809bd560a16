/*
 * edits.c
 *		Edits that somebody else makes in PEMS, past the protocol.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "edits.h"
#include "memory.h"
#include "patch.h"
#include "request.h"
#include "text.h"

/* What an edit is about, and what is to come of it. */
typedef struct Edit
{
	const JsonNode *node;
	const JsonNode *data;    /* the whole record, or NULL */
	const JsonNode *changes; /* a part of it, or NULL */
	bool delete;
	bool forget;
	const MockRecord *record; /* as it is; NULL: there never was one */
	MockRecordState state;    /* as it becomes */
} Edit;

static bool
is_true(const JsonNode *node, const char *key)
{
	const JsonNode *value = pems_json_get(node, key);

	return value != NULL && value->kind == JSON_KIND_BOOLEAN && value->boolean;
}

static bool
is_text_or_null(const JsonNode *node, const char *key)
{
	const JsonNode *value = pems_json_get(node, key);

	return value == NULL || value->kind == JSON_KIND_NULL ||
		   (value->kind == JSON_KIND_STRING && value->length > 0);
}

static const char *
read_edit(Edit *edit, const JsonNode *node)
{
	const char *code = mock_text_get_string(node, "organizationCode");
	const char *pfa_id = mock_text_get_string(node, "pfaId");

	edit->node = node;
	edit->data = pems_json_get(node, "data");
	edit->changes = pems_json_get(node, "changes");
	edit->delete = is_true(node, "delete");
	edit->forget = is_true(node, "forget");
	if (code == NULL || *code == '\0' || pfa_id == NULL || *pfa_id == '\0')
		return "an edit needs \"organizationCode\" and \"pfaId\"";
	if ((edit->data != NULL) + (edit->changes != NULL) + edit->delete + edit->forget != 1)
		return "an edit has one of \"changes\", \"data\", \"delete\": true and \"forget\": true";
	if ((edit->data != NULL && edit->data->kind != JSON_KIND_OBJECT) ||
		(edit->changes != NULL && edit->changes->kind != JSON_KIND_OBJECT))
		return "\"changes\" and \"data\" are objects";
	if (!is_text_or_null(node, "by") || !is_text_or_null(node, "shownOrganizationCode"))
		return "\"by\" and \"shownOrganizationCode\" are texts or null";
	return NULL;
}

const char *
mock_edit_check(const JsonNode *node)
{
	Edit edit = {0};
	MockRecordState state = {0};
	const char *error = read_edit(&edit, node);

	if (error == NULL)
		mock_loader_read_state(node, &state, &error);
	return error;
}

/* ---------- what becomes of the record ---------- */

static void
make_data(Edit *edit)
{
	const MockRecord *record = edit->record;
	JsonBuffer text = {0};

	if (edit->data != NULL)
		pems_json_append_node(&text, edit->data);
	else if (edit->changes != NULL)
		mock_patch_apply(record->state.data, record->state.data_length, edit->changes, false,
						 &text);
	else
		pems_json_append(&text, record->state.data, record->state.data_length);
	if (text.failed || text.length == 0)
		mock_memory_die("out of memory");
	edit->state.data = text.data;
	edit->state.data_length = text.length;
}

/* Who did it, and whose record it says it is. */
static void
make_names(Edit *edit)
{
	const char *shown = edit->record != NULL ? edit->record->state.shown_code : NULL;

	if (pems_json_get(edit->node, "shownOrganizationCode") != NULL)
		shown = mock_text_get_string(edit->node, "shownOrganizationCode");
	edit->state.shown_code = mock_memory_intern(shown);
	edit->state.modified_by = mock_memory_intern(mock_text_get_string(edit->node, "by"));
}

/* NULL, or why not. */
static const char *
make_state(const MockServer *server, Edit *edit)
{
	const MockRecordState *before = edit->record != NULL ? &edit->record->state : NULL;
	bool there = before != NULL && !before->forgotten;
	const char *error;

	if (edit->data == NULL && (!there || (before->deleted && !edit->forget)))
		return "there is no such PFA record";
	edit->state.since = mock_clock_wall_us();
	edit->state.version = before == NULL ? 1 : before->version + (edit->forget ? 0 : 1);
	edit->state.updated_at = edit->state.since + server->clock_skew_us;
	if (!mock_loader_read_state(edit->node, &edit->state, &error))
		return error;
	edit->state.forgotten = edit->forget;
	edit->state.deleted = edit->state.deleted || edit->delete;
	make_data(edit);
	make_names(edit);
	return NULL;
}

static void
log_change(MockServer *server, const MockChange *change)
{
	JsonBuffer line = {0};

	mock_describe_change(change, &line);
	if (line.failed)
		mock_memory_die("out of memory");
	mock_journal_append(&server->journal, NULL, &line);
	server->stats.changes++;
	pems_json_buffer_free(&line);
}

/* The caller holds the organization's lock.  NULL, or why not. */
static const char *
perform_edit(MockServer *server, MockOrganization *organization, Edit *edit)
{
	const char *pfa_id = mock_text_get_string(edit->node, "pfaId");
	MockChange change = {
		.organization_code = organization->code,
		.pfa_id = pfa_id,
		.user = mock_text_get_string(edit->node, "by"),
		.whole = edit->data != NULL,
		.changes = edit->data != NULL ? edit->data : edit->changes,
	};
	const char *error;

	edit->record = mock_store_find_any(organization, pfa_id);
	error = make_state(server, edit);
	if (error != NULL)
		return error;
	change.at = edit->state.since;
	change.from_version = edit->record != NULL ? edit->record->state.version : 0;
	change.to_version = edit->state.version;
	change.deleted = edit->state.deleted || edit->forget;
	mock_store_put(organization, pfa_id, &edit->state);
	log_change(server, &change);
	return NULL;
}

const char *
mock_edit_make(MockServer *server, const JsonNode *node, int64_t *version)
{
	Edit edit = {0};
	const char *error = read_edit(&edit, node);
	MockOrganization *organization;

	if (error != NULL)
		return error;
	organization =
		mock_store_add_organization(&server->store, mock_text_get_string(node, "organizationCode"));
	pthread_mutex_lock(&organization->lock);
	error = perform_edit(server, organization, &edit);
	pthread_mutex_unlock(&organization->lock);
	*version = edit.state.version;
	return error;
}

void
mock_edit_put(MockServer *server, MockOrganization *organization, const char *pfa_id,
			  const MockRecordState *state, const char *user)
{
	const MockRecord *record = mock_store_find_any(organization, pfa_id);
	JsonDocument data;
	MockChange change = {
		.organization_code = organization->code,
		.pfa_id = pfa_id,
		.at = state->since,
		.from_version = record != NULL ? record->state.version : 0,
		.to_version = state->version,
		.user = user,
		.whole = true,
		.deleted = state->deleted || state->forgotten,
	};

	if (!pems_json_parse(state->data, state->data_length, &data, NULL))
		mock_memory_die("the data of %s are no JSON", pfa_id);
	change.changes = data.root;
	mock_store_put(organization, pfa_id, state);
	log_change(server, &change);
	pems_json_free(&data);
}
