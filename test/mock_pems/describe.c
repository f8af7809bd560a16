/*
 * describe.c
 *		Requests and changes as the members of a log line.
 *
 * The bearer token is no member, and never becomes one.
 */
#include "request.h"
#include "text.h"

/* What an ordinary line needs. */
#define LINE_SIZE 1024

static void
add_version(JsonBuffer *out, const MockRequest *request)
{
	if (request->has_version)
		mock_text_add_integer(out, "version", request->version);
	else
		mock_text_add_raw(out, "version", "null", 4);
}

/* What a listing asks besides. */
static void
add_listing(JsonBuffer *out, const MockRequest *request)
{
	mock_text_add_string(out, "updatedSince", request->updated_since);
	mock_text_add_string(out, "cursor", request->cursor);
	mock_text_add_integer(out, "limit", request->limit);
	mock_text_add_integer(out, "page", request->page);
}

void
mock_describe_request(const MockRequest *request, JsonBuffer *out)
{
	const MockFault *fault = request->fault;

	mock_text_reserve(out, LINE_SIZE);
	mock_text_add_time(out, "at", request->arrived_wall_us);
	mock_text_add_integer(out, "monotonicUs", request->arrived_us);
	mock_text_add_string(out, "kind", "request");
	mock_text_add_string(out, "call", mock_call_name(request->call));
	mock_text_add_string(out, "method", request->method);
	mock_text_add_string(out, "path", request->uri);
	mock_text_add_string(out, "organizationCode", request->organization_code);
	mock_text_add_string(out, "pfaId", request->pfa_id);
	mock_text_add_string(out, "idempotencyKey", request->idempotency_key);
	mock_text_add_string(out, "requestId", request->request_id);
	mock_text_add_boolean(out, "authorized", request->authorized);
	add_version(out, request);
	mock_text_add_node(out, "changes", request->changes);
	mock_text_add_string(out, "modifiedBy", request->modified_by);
	mock_text_add_string(out, "reason", request->reason);
	mock_text_add_string(out, "fault", fault != NULL ? fault->name : NULL);
	mock_text_add_string(out, "faultId", fault != NULL ? fault->id : NULL);
	if (request->call == MOCK_CALL_LIST)
		add_listing(out, request);
}

void
mock_describe_outcome(const MockRequest *request, JsonBuffer *out)
{
	mock_text_add_integer(out, "status", mock_effects_status(request));
	mock_text_add_boolean(out, "applied", request->applied);
	mock_text_add_boolean(out, "replayed", request->replayed);
	if (request->call != MOCK_CALL_LIST)
		return;
	mock_text_add_integer(out, "records", request->listed);
	mock_text_key(out, "nextCursor");
	pems_json_append_text(out, request->next_cursor != NULL ? request->next_cursor : "null");
}

void
mock_describe_change(const MockChange *change, JsonBuffer *out)
{
	mock_text_reserve(out, LINE_SIZE);
	mock_text_add_time(out, "at", change->at);
	mock_text_add_string(out, "kind", "change");
	mock_text_add_string(out, "organizationCode", change->organization_code);
	mock_text_add_string(out, "pfaId", change->pfa_id);
	mock_text_add_integer(out, "fromVersion", change->from_version);
	mock_text_add_integer(out, "toVersion", change->to_version);
	mock_text_add_string(out, "by", change->by_client ? "client" : "control");
	mock_text_add_string(out, "user", change->user);
	mock_text_add_node(out, "changes", change->changes);
	mock_text_add_boolean(out, "whole", change->whole);
	mock_text_add_boolean(out, "deleted", change->deleted);
}
