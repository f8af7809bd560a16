/*
 * request.c
 *		What a request asks: path, query, headers and body.
 *
 * Mistakes are only noted here (problem); whether a stranger hears of them is
 * decided when the token was looked at.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "clock.h"
#include "cursor.h"
#include "memory.h"
#include "request.h"
#include "text.h"

#define DEFAULT_LIMIT 100
#define LARGEST_LIMIT 5000

static void
note_problem(MockRequest *request, const char *problem)
{
	if (request->problem == NULL)
		request->problem = problem;
}

const MockEffect *
mock_request_effect(const MockRequest *request)
{
	static const MockEffect nothing = {.apply = true, .list = {.page_size = -1}};

	return request->fault != NULL ? &request->fault->effect : &nothing;
}

void
mock_request_free(MockRequest *request)
{
	mock_faults_release(request->fault);
	if (request->document.root != NULL)
		pems_json_free(&request->document);
	pems_json_buffer_free(&request->body);
	pems_json_buffer_free(&request->line);
	pems_json_buffer_free(&request->reply.body);
	mock_stream_free(request->reply.stream);
	free(request->uri);
	free(request->method);
	free(request->pfa_id);
	free(request->organization_code);
	free(request->idempotency_key);
	free(request->request_id);
	free(request->position_id);
	free(request->cursor);
	free(request->updated_since);
	free(request->next_cursor);
	free(request);
}

/* ---------- path ---------- */

static bool
valid_pfa_id(const char *pfa_id)
{
	size_t length = strspn(pfa_id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
								   "0123456789._-");

	return length >= 1 && length <= 64 && pfa_id[length] == '\0' && strcmp(pfa_id, ".") != 0 &&
		   strcmp(pfa_id, "..") != 0;
}

static void
read_pfa_id(MockRequest *request, const char *segment, size_t length)
{
	request->pfa_id = mock_text_unescape(segment, length, &length);
	/* what else than a text of its length is no pfaId anyway */
	for (size_t i = 0; i < length; i++)
	{
		if (request->pfa_id[i] == '\0')
			request->pfa_id[i] = ' ';
	}
	if (!valid_pfa_id(request->pfa_id))
	{
		mock_text_replace_invalid(request->pfa_id);
		note_problem(request, "pfaId is not valid");
	}
}

static MockCall
record_call(const char *method)
{
	if (strcmp(method, "PUT") == 0)
		return MOCK_CALL_UPDATE;
	if (strcmp(method, "DELETE") == 0)
		return MOCK_CALL_DELETE;
	return strcmp(method, "GET") == 0 ? MOCK_CALL_READ : MOCK_CALL_UNKNOWN;
}

/* api_url may have a path of its own: what counts begins with the last "/pems/". */
static void
read_path(MockRequest *request)
{
	size_t length = strcspn(request->uri, "?");
	const char *end = request->uri + length;
	const char *rest = NULL;
	bool get = strcmp(request->method, "GET") == 0;

	for (const char *at = request->uri; (at = strstr(at, "/pems/")) != NULL && at < end; at++)
		rest = at + strlen("/pems/");
	request->call = MOCK_CALL_UNKNOWN;
	if (rest == NULL || rest > end)
		return;
	length = (size_t) (end - rest);
	if (length == 6 && memcmp(rest, "health", 6) == 0 && get)
		request->call = MOCK_CALL_HEALTH;
	else if (length == 3 && memcmp(rest, "pfa", 3) == 0 && get)
		request->call = MOCK_CALL_LIST;
	else if (length > 4 && memcmp(rest, "pfa/", 4) == 0 &&
			 memchr(rest + 4, '/', length - 4) == NULL)
	{
		request->call = record_call(request->method);
		read_pfa_id(request, rest + 4, length - 4);
	}
}

/* ---------- query and headers ---------- */

const char *
mock_request_query(MockRequest *request, const char *key)
{
	const char *value = NULL;
	size_t length = 0;

	MHD_lookup_connection_value_n(request->connection, MHD_GET_ARGUMENT_KIND, key, strlen(key),
								  &value, &length);
	if (value != NULL && strlen(value) != length)
	{
		note_problem(request, "the query holds a NUL byte");
		return NULL;
	}
	return value;
}

static char *
copy_header(const MockRequest *request, const char *name)
{
	char *copy =
		mock_memory_copy(MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name));

	if (copy != NULL)
		mock_text_replace_invalid(copy);
	return copy;
}

static void
read_headers(MockRequest *request)
{
	static const char scheme[] = "Bearer ";
	const char *value =
		MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, "Authorization");

	if (value != NULL && strncasecmp(value, scheme, strlen(scheme)) == 0)
		request->token = value + strlen(scheme);
	request->idempotency_key = copy_header(request, "Idempotency-Key");
	request->request_id = copy_header(request, "X-Request-Id");
}

static void
read_organization(MockRequest *request, const char *code)
{
	if (code == NULL || *code == '\0')
	{
		if (request->call != MOCK_CALL_HEALTH)
			note_problem(request, "organizationCode is missing");
		return;
	}
	request->organization_code = mock_memory_copy(code);
	request->organization = mock_store_find_organization(&request->server->store, code);
	/* a known code came from JSON and is UTF-8; of others the log shows what it can */
	if (request->organization == NULL)
		mock_text_replace_invalid(request->organization_code);
}

static char *
copy_query(MockRequest *request, const char *key)
{
	char *copy = mock_memory_copy(mock_request_query(request, key));

	if (copy != NULL)
		mock_text_replace_invalid(copy); /* it goes into the log */
	return copy;
}

static void
read_limit(MockRequest *request)
{
	const char *limit = mock_request_query(request, "limit");
	char *end;

	request->limit = DEFAULT_LIMIT;
	if (limit == NULL)
		return;
	request->limit = strtol(limit, &end, 10);
	if (*end != '\0' || request->limit < 1)
		note_problem(request, "limit must be a positive integer");
	if (request->limit > LARGEST_LIMIT)
		request->limit = LARGEST_LIMIT;
}

static void
read_list_query(MockRequest *request)
{
	read_limit(request);
	request->updated_since = copy_query(request, "updatedSince");
	request->cursor = copy_query(request, "cursor");
	request->since_us = INT64_MIN;
	if (request->updated_since != NULL &&
		!mock_clock_parse_iso(request->updated_since, &request->since_us))
		note_problem(request, "updatedSince must be a time");
	request->page = 1;
	request->position.updated_at = request->since_us;
	if (request->cursor != NULL && !mock_cursor_parse(request->cursor, &request->page,
													  &request->position, &request->position_id))
		note_problem(request, "cursor is not one of ours");
}

/* ---------- body ---------- */

static void
read_optional_string(MockRequest *request, const char *key, const char **value)
{
	const JsonNode *node = pems_json_get(request->document.root, key);

	*value = NULL;
	if (node != NULL && node->kind == JSON_KIND_STRING)
		*value = node->text;
	else if (node != NULL && node->kind != JSON_KIND_NULL)
		note_problem(request, "modifiedBy, changeReason and reason are strings");
}

static void
read_write(MockRequest *request)
{
	const JsonNode *root = request->document.root;
	const char *pfa_id = mock_text_get_string(root, "pfaId");
	bool update = request->call == MOCK_CALL_UPDATE;
	long long version = 0;

	read_organization(request, mock_text_get_string(root, "organizationCode"));
	if (pfa_id == NULL || strcmp(pfa_id, request->pfa_id) != 0)
		note_problem(request, "pfaId in the path and in the body must be the same");
	request->has_version = pems_json_get(root, "version") != NULL &&
						   pems_json_integer(pems_json_get(root, "version"), &version);
	request->version = version;
	if (!request->has_version)
		note_problem(request, "version must be an integer");
	read_optional_string(request, "modifiedBy", &request->modified_by);
	read_optional_string(request, update ? "changeReason" : "reason", &request->reason);
	if (!update)
		return;
	request->changes = pems_json_get(root, "changes");
	if (request->changes == NULL || request->changes->kind != JSON_KIND_OBJECT ||
		request->changes->count == 0)
		note_problem(request, "changes must be an object with at least one field");
}

static void
read_body(MockRequest *request)
{
	const JsonBuffer *body = &request->body;

	if (body->failed)
		mock_memory_die("out of memory");
	if (!pems_json_parse(body->length > 0 ? body->data : "", body->length, &request->document,
						 NULL))
	{
		request->document.root = NULL;
		note_problem(request, "the body is not JSON");
	}
	else if (request->document.root->kind != JSON_KIND_OBJECT)
		note_problem(request, "the body must be an object");
	read_write(request);
}

void
mock_request_read(MockRequest *request)
{
	read_path(request);
	read_headers(request);
	switch (request->call)
	{
		case MOCK_CALL_UPDATE:
		case MOCK_CALL_DELETE:
			read_body(request);
			break;
		case MOCK_CALL_LIST:
			read_list_query(request);
			/* FALLTHROUGH */
		case MOCK_CALL_READ:
		case MOCK_CALL_HEALTH:
			read_organization(request, mock_request_query(request, "organizationCode"));
			break;
		case MOCK_CALL_UNKNOWN:
			break;
	}
}
