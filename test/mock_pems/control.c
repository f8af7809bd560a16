/*
 * control.c
 *		The control calls, /_control/...: faults, organizations, log, stats, reset.
 *
 * They need no token, are not logged as requests, and no fault touches them.
 */
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "request.h"
#include "text.h"

typedef struct Route
{
	const char *method;
	const char *path;
	void (*run)(MockRequest *request);
} Route;

void
mock_control_refuse(MockRequest *request, int status, const char *message)
{
	JsonBuffer *body = &request->reply.body;

	request->reply.status = status;
	body->length = 0;
	pems_json_append_text(body, "{\"success\":false");
	mock_text_add_string(body, "error", status == 404 ? "NOT_FOUND" : "INVALID_REQUEST");
	mock_text_add_string(body, "message", message);
	pems_json_append_text(body, "}");
}

void
mock_control_begin(MockRequest *request)
{
	request->reply.status = 200;
	request->reply.body.length = 0;
	pems_json_append_text(&request->reply.body, "{\"success\":true");
}

void
mock_control_end(MockRequest *request)
{
	pems_json_append_text(&request->reply.body, "}");
}

/* The body is one object, or an array of them: the first, with its siblings in next. */
static const JsonNode *
first_object(const MockRequest *request)
{
	const JsonNode *root = request->document.root;

	return root->kind == JSON_KIND_ARRAY ? root->first : root;
}

/* ---------- faults ---------- */

static void
post_faults(MockRequest *request)
{
	char error[256];
	MockFault *parsed = NULL;
	MockFault **link = &parsed;
	MockFault *next;

	/* all or none: parse first, add then */
	for (const JsonNode *node = first_object(request); node != NULL; node = node->next)
	{
		*link = mock_fault_parse(node, error, sizeof(error));
		if (*link == NULL)
		{
			mock_control_refuse(request, 400, error);
			break;
		}
		link = &(*link)->next;
	}
	if (request->reply.status == 0)
	{
		mock_control_begin(request);
		pems_json_append_text(&request->reply.body, ",\"ids\":[");
	}
	for (MockFault *fault = parsed; fault != NULL; fault = next)
	{
		next = fault->next;
		fault->next = NULL;
		if (request->reply.status != 200)
		{
			mock_faults_release(fault);
			continue;
		}
		mock_text_comma(&request->reply.body);
		mock_text_string(&request->reply.body, mock_faults_add(&request->server->faults, fault));
	}
	if (request->reply.status == 200)
		pems_json_append_text(&request->reply.body, "]}");
}

static void
get_faults(MockRequest *request)
{
	mock_control_begin(request);
	mock_text_key(&request->reply.body, "faults");
	mock_faults_describe(&request->server->faults, &request->reply.body);
	mock_control_end(request);
}

static void
delete_faults(MockRequest *request)
{
	int removed = mock_faults_clear(&request->server->faults, mock_request_query(request, "id"));

	mock_control_begin(request);
	mock_text_add_integer(&request->reply.body, "removed", removed);
	mock_control_end(request);
}

/* ---------- organizations ---------- */

static void
post_organizations(MockRequest *request)
{
	const char *error;

	mock_control_begin(request);
	for (const JsonNode *node = first_object(request); node != NULL; node = node->next)
	{
		if (!mock_loader_add_organization(&request->server->store, node, &error))
		{
			mock_control_refuse(request, 400, error);
			return;
		}
	}
	mock_control_end(request);
}

/* ---------- log ---------- */

typedef struct LogReader
{
	MockJournal *journal;
	MockJournalCursor cursor;
	uint64_t first;
	bool begun;
} LogReader;

static bool
produce_log(void *state, JsonBuffer *out)
{
	LogReader *reader = state;

	if (!reader->begun)
	{
		pems_json_append_text(out, "{\"success\":true");
		mock_text_add_integer(out, "firstSeq", (int64_t) reader->first);
		mock_text_add_integer(out, "lastSeq", (int64_t) reader->cursor.last);
		pems_json_append_text(out, ",\"entries\":[");
		reader->begun = true;
	}
	if (mock_journal_read(reader->journal, &reader->cursor, out))
		return true;
	pems_json_append_text(out, "]}");
	return false;
}

static bool
read_number(MockRequest *request, const char *key, int64_t *number)
{
	const char *text = mock_request_query(request, key);
	char *rest;

	if (text == NULL)
		return true;
	*number = strtoll(text, &rest, 10);
	return rest != text && *rest == '\0' && *number >= 0 && *number < INT64_MAX;
}

static bool
read_kind(MockRequest *request, MockEntryKind *kind)
{
	const char *text = mock_request_query(request, "kind");

	*kind = MOCK_ENTRY_ANY;
	if (text == NULL || strcmp(text, "any") == 0)
		return true;
	if (strcmp(text, "request") == 0)
		*kind = MOCK_ENTRY_REQUEST;
	else if (strcmp(text, "change") == 0)
		*kind = MOCK_ENTRY_CHANGE;
	return *kind != MOCK_ENTRY_ANY;
}

static void
get_log(MockRequest *request)
{
	int64_t since = 0;
	int64_t limit = INT64_MAX;
	MockEntryKind kind;
	LogReader *reader;

	if (!read_number(request, "since", &since) || !read_number(request, "limit", &limit) ||
		!read_kind(request, &kind))
	{
		mock_control_refuse(request, 400, "since and limit are numbers, kind is request or change");
		return;
	}
	reader = mock_memory_allocate(sizeof(*reader));
	reader->journal = &request->server->journal;
	reader->cursor =
		mock_journal_begin(reader->journal, (uint64_t) since, kind, limit, &reader->first);
	request->reply.status = 200;
	request->reply.stream = mock_stream_create(produce_log, free, reader);
}

/* ---------- the rest ---------- */

static void
get_stats(MockRequest *request)
{
	MockServer *server = request->server;

	mock_control_begin(request);
	mock_stats_describe(&server->stats, &server->store, &request->reply.body);
	mock_text_add_integer(&request->reply.body, "waiting",
						  (int64_t) mock_timer_count(&server->timer));
	mock_control_end(request);
}

/*
 * Back to the start.  Requests that wait are closed first: their writes belong to
 * the test before.
 */
static void
post_reset(MockRequest *request)
{
	MockServer *server = request->server;
	char error[MOCK_LOADER_ERROR_SIZE];

	mock_faults_clear(&server->faults, NULL);
	server->clock_skew_us = 0;
	mock_timer_cancel(&server->timer, mock_handler_cancel);
	mock_store_clear(&server->store);
	mock_answers_clear(&server->answers);
	mock_stats_clear(&server->stats, &server->store);
	mock_journal_reset(&server->journal);
	mock_control_begin(request);
	mock_control_end(request);
	if (!mock_loader_load(&server->loader, &server->store, error))
		mock_control_refuse(request, 500, error);
}

static const Route routes[] = {
	{"POST", "faults", post_faults},
	{"GET", "faults", get_faults},
	{"DELETE", "faults", delete_faults},
	{"POST", "records", mock_control_edit_records},
	{"GET", "records", mock_control_dump_records},
	{"POST", "organizations", post_organizations},
	{"POST", "restore", mock_control_restore},
	{"POST", "times", mock_control_set_times},
	{"POST", "clock", mock_control_set_clock},
	{"GET", "clock", mock_control_get_clock},
	{"GET", "log", get_log},
	{"GET", "stats", get_stats},
	{"POST", "reset", post_reset},
};

static const Route *
find_route(const MockRequest *request)
{
	const char *path = request->uri + strlen("/_control/");
	size_t length = strcspn(path, "?");

	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
	{
		if (strlen(routes[i].path) == length && memcmp(routes[i].path, path, length) == 0 &&
			strcmp(routes[i].method, request->method) == 0)
			return &routes[i];
	}
	return NULL;
}

void
mock_control_run(MockRequest *request)
{
	const Route *route = find_route(request);
	const JsonBuffer *body = &request->body;
	const char *error;

	if (route == NULL)
		mock_control_refuse(request, 404, "there is no such control call");
	else if (strcmp(route->method, "POST") != 0 || route->run == post_reset)
		route->run(request);
	else if (!pems_json_parse(body->length > 0 ? body->data : "", body->length, &request->document,
							  &error))
	{
		request->document.root = NULL;
		mock_control_refuse(request, 400, error);
	}
	else
		route->run(request);
	if (request->reply.body.failed)
		mock_memory_die("out of memory");
}
