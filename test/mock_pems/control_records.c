/*
 * control_records.c
 *		/_control/records: edits by another user, and dumps for a checker.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "memory.h"
#include "patch.h"
#include "request.h"
#include "text.h"

/* Records that one turn of a dump looks at, so that it does not keep the lock for long. */
#define DUMP_BLOCK 500

/* ---------- edits ---------- */

/* What an edit is about, and what is to come of it. */
typedef struct Edit
{
	const JsonNode *node;
	const JsonNode *data;    /* the whole record, or NULL */
	const JsonNode *changes; /* a part of it, or NULL */
	bool delete;
	const MockRecord *record; /* as it is; NULL: there is none */
	MockRecordState state;    /* as it becomes */
} Edit;

static const char *
read_edit(Edit *edit, const JsonNode *node)
{
	const JsonNode *delete = pems_json_get(node, "delete");
	const char *code = mock_text_get_string(node, "organizationCode");
	const char *pfa_id = mock_text_get_string(node, "pfaId");

	edit->node = node;
	edit->data = pems_json_get(node, "data");
	edit->changes = pems_json_get(node, "changes");
	edit->delete = delete != NULL && delete->kind == JSON_KIND_BOOLEAN && delete->boolean;
	if (code == NULL || *code == '\0' || pfa_id == NULL || *pfa_id == '\0')
		return "an edit needs \"organizationCode\" and \"pfaId\"";
	if ((edit->data != NULL) + (edit->changes != NULL) + edit->delete != 1)
		return "an edit has one of \"changes\", \"data\" and \"delete\": true";
	if ((edit->data != NULL && edit->data->kind != JSON_KIND_OBJECT) ||
		(edit->changes != NULL && edit->changes->kind != JSON_KIND_OBJECT))
		return "\"changes\" and \"data\" are objects";
	return NULL;
}

static void
make_data(Edit *edit)
{
	const MockRecord *record = edit->record;
	JsonBuffer text = {0};

	if (edit->delete)
	{
		edit->state.data = record->data;
		edit->state.data_length = record->data_length;
		return;
	}
	if (edit->data != NULL)
		pems_json_append_node(&text, edit->data);
	else
		mock_patch_apply(record->data, record->data_length, edit->changes, false, &text);
	if (text.failed || text.length == 0)
		mock_memory_die("out of memory");
	edit->state.data = text.data;
	edit->state.data_length = text.length;
}

static void
log_edit(MockRequest *request, const MockOrganization *organization, const Edit *edit,
		 const char *pfa_id, int64_t from_version)
{
	JsonBuffer line = {0};
	MockChange change = {
		.organization_code = organization->code,
		.pfa_id = pfa_id,
		.at = mock_clock_wall_us(),
		.from_version = from_version,
		.to_version = edit->state.version,
		.user = mock_text_get_string(edit->node, "by"),
		.whole = edit->data != NULL,
		.deleted = edit->state.deleted,
		.changes = edit->data != NULL ? edit->data : edit->changes,
	};

	mock_describe_change(&change, &line);
	if (line.failed)
		mock_memory_die("out of memory");
	mock_journal_append(&request->server->journal, NULL, &line);
	request->server->stats.changes++;
	pems_json_buffer_free(&line);
}

/* The caller holds the organization's lock.  NULL, or why not. */
static const char *
perform_edit(MockRequest *request, MockOrganization *organization, Edit *edit)
{
	const char *pfa_id = mock_text_get_string(edit->node, "pfaId");
	const char *error;
	int64_t from_version;

	edit->record = mock_store_find(organization, pfa_id);
	if (edit->data == NULL && (edit->record == NULL || edit->record->deleted))
		return "there is no such PFA record";
	from_version = edit->record != NULL ? edit->record->version : 0;
	edit->state.version = from_version + 1;
	edit->state.updated_at = mock_clock_wall_us();
	if (!mock_loader_read_state(edit->node, &edit->state, &error))
		return error;
	if (edit->delete)
		edit->state.deleted = true;
	make_data(edit);
	mock_store_put(organization, pfa_id, &edit->state);
	log_edit(request, organization, edit, pfa_id, from_version);
	return NULL;
}

static const char *
run_edit(MockRequest *request, const JsonNode *node, int64_t *version)
{
	Edit edit = {0};
	const char *error = read_edit(&edit, node);
	MockOrganization *organization;

	if (error != NULL)
		return error;
	organization = mock_store_add_organization(&request->server->store,
											   mock_text_get_string(node, "organizationCode"));
	pthread_mutex_lock(&organization->lock);
	error = perform_edit(request, organization, &edit);
	pthread_mutex_unlock(&organization->lock);
	*version = edit.state.version;
	return error;
}

/* In order, up to the first that fails; "versions" says how many were done. */
void
mock_control_edit_records(MockRequest *request)
{
	const JsonNode *root = request->document.root;
	const JsonNode *node = root->kind == JSON_KIND_ARRAY ? root->first : root;
	JsonBuffer *body = &request->reply.body;
	JsonBuffer versions = {0};
	const char *error = NULL;
	int64_t version;

	pems_json_append_text(&versions, "[");
	for (; node != NULL && error == NULL; node = node->next)
	{
		error = run_edit(request, node, &version);
		if (error != NULL)
			break;
		mock_text_comma(&versions);
		mock_text_integer(&versions, version);
	}
	pems_json_append_text(&versions, "]");
	request->reply.status = error == NULL ? 200 : strstr(error, "no such") ? 404 : 400;
	pems_json_append_text(body, "{");
	mock_text_add_boolean(body, "success", error == NULL);
	mock_text_add_raw(body, "versions", versions.data, versions.length);
	if (error != NULL)
		mock_text_add_string(body, "message", error);
	pems_json_append_text(body, "}");
	pems_json_buffer_free(&versions);
}

/* ---------- dumps ---------- */

typedef struct Dump
{
	MockOrganization **organizations;
	size_t count;
	size_t current;
	char *pfa_id; /* NULL: all */
	MockPosition position;
	char *position_id; /* what position points to */
	int room;          /* in this turn */
	bool begun;
	JsonBuffer *out;
} Dump;

static void
collect_organization(MockOrganization *organization, void *context)
{
	Dump *dump = context;

	dump->organizations =
		mock_memory_resize(dump->organizations, (dump->count + 1) * sizeof(*dump->organizations));
	dump->organizations[dump->count++] = organization;
}

static void
move_position(Dump *dump, int64_t updated_at, const char *pfa_id)
{
	char *copy = mock_memory_copy(pfa_id);

	free(dump->position_id);
	dump->position_id = copy;
	dump->position = (MockPosition){updated_at, copy};
}

static bool
dump_record(const MockRecord *record, void *context)
{
	Dump *dump = context;
	JsonBuffer *out = dump->out;

	if (dump->begun)
		pems_json_append_text(out, ",\n");
	dump->begun = true;
	pems_json_append_text(out, "{\"organizationCode\":");
	mock_text_string(out, dump->organizations[dump->current]->code);
	mock_text_add_string(out, "pfaId", record->pfa_id);
	mock_text_add_integer(out, "version", record->version);
	mock_text_add_time(out, "updatedAt", record->updated_at);
	mock_text_add_boolean(out, "deleted", record->deleted);
	mock_text_add_raw(out, "data", record->data, record->data_length);
	pems_json_append_text(out, "}");
	if (--dump->room > 0)
		return true;
	move_position(dump, record->updated_at, record->pfa_id);
	return false;
}

/* One turn at one organization; true: there is more of it. */
static bool
dump_organization(Dump *dump)
{
	MockOrganization *organization = dump->organizations[dump->current];
	const MockRecord *record;
	bool more = false;

	pthread_mutex_lock(&organization->lock);
	if (dump->pfa_id != NULL)
	{
		record = mock_store_find(organization, dump->pfa_id);
		if (record != NULL)
			dump_record(record, dump);
	}
	else
		more = !mock_index_walk(organization->root, &dump->position, dump_record, dump);
	pthread_mutex_unlock(&organization->lock);
	return more;
}

static bool
produce_dump(void *state, JsonBuffer *out)
{
	Dump *dump = state;

	if (dump->out == NULL)
		pems_json_append_text(out, "{\"success\":true,\"records\":[");
	dump->out = out;
	dump->room = DUMP_BLOCK;
	if (dump->current < dump->count && !dump_organization(dump))
	{
		dump->current++;
		move_position(dump, INT64_MIN, NULL);
	}
	if (dump->current < dump->count)
		return true;
	pems_json_append_text(out, "]}");
	return false;
}

static void
free_dump(void *state)
{
	Dump *dump = state;

	free(dump->organizations);
	free(dump->pfa_id);
	free(dump->position_id);
	free(dump);
}

void
mock_control_dump_records(MockRequest *request)
{
	const char *code = mock_request_query(request, "organizationCode");
	const char *pfa_id = mock_request_query(request, "pfaId");
	Dump *dump = mock_memory_allocate(sizeof(*dump));
	MockOrganization *organization;

	move_position(dump, INT64_MIN, NULL);
	dump->pfa_id = mock_memory_copy(pfa_id);
	if (code == NULL)
		mock_store_each_organization(&request->server->store, collect_organization, dump);
	else
	{
		organization = mock_store_find_organization(&request->server->store, code);
		if (organization != NULL)
			collect_organization(organization, dump);
	}
	request->reply.status = 200;
	request->reply.stream = mock_stream_create(produce_dump, free_dump, dump);
}
