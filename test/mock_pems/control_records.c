/*
 * control_records.c
 *		/_control/records: edits by another user, and dumps for a checker.
 */
#include <stdlib.h>
#include <string.h>

#include "edits.h"
#include "memory.h"
#include "request.h"
#include "text.h"

/* Records that one turn of a dump looks at, so that it does not keep the lock for long. */
#define DUMP_BLOCK 500

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
		error = mock_edit_make(request->server, node, &version);
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
	mock_text_add_integer(out, "version", record->state.version);
	mock_text_add_time(out, "updatedAt", record->state.updated_at);
	mock_text_add_boolean(out, "deleted", record->state.deleted);
	mock_text_add_string(out, "lastModifiedBy", record->state.modified_by);
	if (record->state.shown_code != NULL)
		mock_text_add_string(out, "shownOrganizationCode", record->state.shown_code);
	mock_text_add_raw(out, "data", record->state.data, record->state.data_length);
	pems_json_append_text(out, "}");
	if (--dump->room > 0)
		return true;
	move_position(dump, record->state.updated_at, record->pfa_id);
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
