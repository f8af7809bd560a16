/*
 * calls.c
 *		What PEMS does: update, delete, read one, read many, health.
 *
 * Runs in a thread of the daemon, or in the timer's when a fault delays the
 * request.  Every path ends in conclude(), which writes the log; a change and its
 * request are logged together, under the lock of the organization.
 */
#include <string.h>

#include "clock.h"
#include "cursor.h"
#include "memory.h"
#include "patch.h"
#include "request.h"
#include "text.h"

/* ---------- the end of every call ---------- */

/* The line was begun by mock_calls_run(), outside of the lock. */
static void
conclude(MockRequest *request, const MockChange *change)
{
	JsonBuffer change_line = {0};

	mock_effects_rewrite(request);
	mock_describe_outcome(request, &request->line);
	if (change != NULL && change->made)
	{
		mock_describe_change(change, &change_line);
		request->server->stats.changes++;
	}
	if (request->line.failed || change_line.failed || request->reply.body.failed)
		mock_memory_die("out of memory");
	mock_journal_append(&request->server->journal, &request->line,
						change_line.length > 0 ? &change_line : NULL);
	request->logged = true;
	pems_json_buffer_free(&change_line);
}

void
mock_calls_abandon(MockRequest *request)
{
	mock_describe_request(request, &request->line);
	mock_describe_outcome(request, &request->line);
	mock_journal_append(&request->server->journal, &request->line, NULL);
	request->logged = true;
}

static void
refuse(MockRequest *request, int status, const char *error, const char *message)
{
	JsonBuffer *body = &request->reply.body;

	request->reply.status = status;
	pems_json_append_text(body, "{\"success\":false");
	mock_text_add_string(body, "error", error);
	mock_text_add_string(body, "message", message);
	pems_json_append_text(body, "}");
}

static void
refuse_missing(MockRequest *request)
{
	refuse(request, 404, "NOT_FOUND", "there is no such PFA record");
}

/* ---------- parts of answers ---------- */

static void
begin_success(MockRequest *request)
{
	request->reply.status = 200;
	pems_json_append_text(&request->reply.body, "{\"success\":true");
}

static void
add_pfa_id(MockRequest *request)
{
	bool wrong = mock_request_effect(request)->wrong_id;

	mock_text_add_string(&request->reply.body, "pfaId",
						 wrong ? "PFA-SOMEBODY-ELSES" : request->pfa_id);
}

static void
add_version(MockRequest *request, const char *key, int64_t version)
{
	if (!mock_request_effect(request)->no_new_version)
		mock_text_add_integer(&request->reply.body, key, version);
}

static void
answer_write(MockRequest *request, int64_t new_version, int64_t updated_at)
{
	begin_success(request);
	add_pfa_id(request);
	add_version(request, "newVersion", new_version);
	mock_text_add_time(&request->reply.body, "updatedAt", updated_at);
	if (request->call == MOCK_CALL_UPDATE)
		mock_text_add_string(&request->reply.body, "message", "PFA record updated");
	pems_json_append_text(&request->reply.body, "}");
}

static void
answer_conflict(MockRequest *request, const MockRecord *record)
{
	JsonBuffer *body = &request->reply.body;

	request->reply.status = 409;
	pems_json_append_text(body, "{\"success\":false");
	mock_text_add_string(body, "error", "VERSION_CONFLICT");
	mock_text_add_string(body, "message", "the PFA record was changed in the meantime");
	mock_text_add_integer(body, "currentVersion", record->version);
	mock_text_add_integer(body, "expectedVersion", request->version);
	mock_text_key(body, "conflictingFields");
	mock_patch_differences(record->data, record->data_length, request->changes, body);
	pems_json_append_text(body, "}");
}

/* ---------- update and delete ---------- */

/* The data as it becomes; it is the record's own where a delete leaves it alone. */
static void
changed_data(const MockRequest *request, const MockRecord *record, MockRecordState *state)
{
	bool round_numbers = mock_request_effect(request)->round_numbers;
	JsonBuffer data = {0};

	state->data = record->data;
	state->data_length = record->data_length;
	if (request->call == MOCK_CALL_DELETE)
		return;
	if (!mock_patch_apply(record->data, record->data_length, request->changes, round_numbers,
						  &data) ||
		data.failed)
		mock_memory_die("could not apply changes to %s", record->pfa_id);
	state->data = mock_memory_resize(data.data, data.length + 1);
	state->data_length = data.length;
}

static void
apply(MockRequest *request, const MockRecord *record, MockChange *change)
{
	MockRecordState state = {
		.version = record->version + 1 + mock_request_effect(request)->version_bump,
		.updated_at = mock_clock_wall_us(),
		.deleted = request->call == MOCK_CALL_DELETE,
	};

	changed_data(request, record, &state);
	*change = (MockChange){
		.made = true,
		.organization_code = request->organization->code,
		.pfa_id = request->pfa_id,
		.at = state.updated_at,
		.from_version = record->version,
		.to_version = state.version,
		.by_client = true,
		.user = request->modified_by,
		.deleted = state.deleted,
		.changes = request->changes,
	};
	mock_store_put(request->organization, request->pfa_id, &state);
	request->applied = true;
	answer_write(request, state.version, state.updated_at);
}

/* Answer from memory when this key was used before. */
static bool
replay(MockRequest *request)
{
	if (!request->server->options->idempotency || request->idempotency_key == NULL)
		return false;
	request->replayed = mock_answers_find(&request->server->answers, request->organization_code,
										  request->idempotency_key, &request->reply.body);
	if (request->replayed)
		request->reply.status = 200;
	return request->replayed;
}

static void
remember(MockRequest *request)
{
	if (request->server->options->idempotency && request->idempotency_key != NULL)
		mock_answers_add(&request->server->answers, request->organization_code,
						 request->idempotency_key, &request->reply.body);
}

static void
attempt_write(MockRequest *request, MockChange *change)
{
	const MockRecord *record = mock_store_find(request->organization, request->pfa_id);

	if (record == NULL || record->deleted)
		refuse_missing(request);
	else if (record->version != request->version)
		answer_conflict(request, record);
	else if (!mock_request_effect(request)->apply)
		answer_write(request, record->version + 1, mock_clock_wall_us()); /* a lie */
	else
	{
		apply(request, record, change);
		remember(request);
	}
}

static void
run_write(MockRequest *request)
{
	MockChange change = {0};

	pthread_mutex_lock(&request->organization->lock);
	if (!replay(request))
		attempt_write(request, &change);
	conclude(request, &change);
	pthread_mutex_unlock(&request->organization->lock);
}

/* ---------- reads ---------- */

static void
run_read(MockRequest *request)
{
	JsonBuffer *body = &request->reply.body;
	const MockRecord *record;

	pthread_mutex_lock(&request->organization->lock);
	record = mock_store_find(request->organization, request->pfa_id);
	if (record == NULL || record->deleted)
		refuse_missing(request);
	else
	{
		begin_success(request);
		add_pfa_id(request);
		add_version(request, "version", record->version);
		mock_text_add_time(body, "updatedAt", record->updated_at);
		mock_text_add_raw(body, "data", record->data, record->data_length);
		pems_json_append_text(body, "}");
	}
	conclude(request, NULL);
	pthread_mutex_unlock(&request->organization->lock);
}

typedef struct Page
{
	JsonBuffer *body;
	int64_t room;
	const MockRecord *last;
	bool more;
} Page;

static bool
add_to_page(const MockRecord *record, void *context)
{
	Page *page = context;

	if (page->room == 0)
	{
		page->more = true;
		return false;
	}
	page->room--;
	page->last = record;
	mock_text_comma(page->body);
	pems_json_append_text(page->body, "{\"pfaId\":");
	mock_text_string(page->body, record->pfa_id);
	mock_text_add_integer(page->body, "version", record->version);
	mock_text_add_time(page->body, "updatedAt", record->updated_at);
	mock_text_add_boolean(page->body, "deleted", record->deleted);
	mock_text_add_raw(page->body, "data", record->data, record->data_length);
	pems_json_append(page->body, "}", 1);
	return true;
}

static void
run_list(MockRequest *request)
{
	JsonBuffer *body = &request->reply.body;
	Page page = {.body = body, .room = request->limit};
	MockPosition next;

	begin_success(request);
	pems_json_append_text(body, ",\"records\":[");
	pthread_mutex_lock(&request->organization->lock);
	mock_index_walk(request->organization->root, &request->position, add_to_page, &page);
	pems_json_append_text(body, "],\"nextCursor\":");
	if (page.more)
	{
		next = (MockPosition){page.last->updated_at, page.last->pfa_id};
		mock_cursor_append(body, &next);
	}
	else
		pems_json_append_text(body, "null");
	pthread_mutex_unlock(&request->organization->lock);
	pems_json_append_text(body, "}");
	conclude(request, NULL);
}

static void
run_health(MockRequest *request)
{
	begin_success(request);
	mock_text_add_string(&request->reply.body, "status", "ok");
	pems_json_append_text(&request->reply.body, "}");
	conclude(request, NULL);
}

/* ---------- who may ---------- */

/*
 * The organization decides whose token is due.  Where none is named (health, or
 * a request too broken to tell), any organization's will do.
 */
static bool
authorize(const MockRequest *request)
{
	if (request->server->options->no_auth)
		return true;
	if (request->token == NULL)
		return false;
	if (request->organization_code == NULL)
		return mock_store_knows_token(&request->server->store, request->token);
	return request->organization != NULL &&
		   mock_store_check_token(request->organization, request->token);
}

/* True: the request was answered here, because it cannot be done. */
static bool
refuse_early(MockRequest *request)
{
	if (!request->authorized)
		refuse(request, 401, "UNAUTHORIZED", "the bearer token is missing or wrong");
	else if (request->call == MOCK_CALL_UNKNOWN && request->pfa_id != NULL)
		refuse(request, 405, "METHOD_NOT_ALLOWED", "PUT, DELETE or GET");
	else if (request->call == MOCK_CALL_UNKNOWN)
		refuse(request, 404, "NOT_FOUND", "there is no such path");
	else if (request->problem != NULL)
		refuse(request, 400, "INVALID_REQUEST", request->problem);
	else if (request->organization == NULL && request->call != MOCK_CALL_HEALTH)
		refuse_missing(request); /* possible without authorization only */
	else
		return false;
	conclude(request, NULL);
	return true;
}

void
mock_calls_run(MockRequest *request)
{
	request->authorized = authorize(request);
	mock_describe_request(request, &request->line);
	if (refuse_early(request))
		return;
	switch (request->call)
	{
		case MOCK_CALL_UPDATE:
		case MOCK_CALL_DELETE:
			run_write(request);
			break;
		case MOCK_CALL_READ:
			run_read(request);
			break;
		case MOCK_CALL_LIST:
			run_list(request);
			break;
		case MOCK_CALL_HEALTH:
		case MOCK_CALL_UNKNOWN:
			run_health(request);
			break;
	}
}
