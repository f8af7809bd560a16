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
#include "edits.h"
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
						 wrong ? MOCK_WRONG_PFA_ID : request->pfa_id);
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
	mock_text_add_integer(body, "currentVersion", record->state.version);
	mock_text_add_integer(body, "expectedVersion", request->version);
	mock_text_key(body, "conflictingFields");
	mock_patch_differences(record->state.data, record->state.data_length, request->changes, body);
	pems_json_append_text(body, "}");
}

/* ---------- update and delete ---------- */

/* The data as it becomes; a delete leaves it as it is. */
static void
change_data(const MockRequest *request, const MockRecord *record, MockRecordState *state)
{
	bool round_numbers = mock_request_effect(request)->round_numbers;
	JsonBuffer data = {0};

	if (request->call == MOCK_CALL_DELETE)
		pems_json_append(&data, record->state.data, record->state.data_length);
	else if (!mock_patch_apply(record->state.data, record->state.data_length, request->changes,
							   round_numbers, &data))
		data.failed = true;
	if (data.failed)
		mock_memory_die("could not apply changes to %s", record->pfa_id);
	state->data = mock_memory_resize(data.data, data.length + 1);
	state->data_length = data.length;
}

static MockRecordState
next_state(const MockRequest *request, const MockRecord *record)
{
	const MockEffect *effect = mock_request_effect(request);
	int64_t now = mock_clock_wall_us();
	MockRecordState state = {
		.version = record->state.version + 1 + effect->version_bump,
		.updated_at = now + request->server->clock_skew_us + effect->updated_at_skew_s * 1000000,
		.deleted = request->call == MOCK_CALL_DELETE,
		.modified_by = mock_memory_intern(request->modified_by),
		.shown_code = record->state.shown_code,
		.since = now,
	};

	change_data(request, record, &state);
	return state;
}

static void
apply(MockRequest *request, const MockRecord *record, MockChange *change)
{
	MockRecordState state = next_state(request, record);

	*change = (MockChange){
		.made = true,
		.organization_code = request->organization->code,
		.pfa_id = request->pfa_id,
		.at = state.since,
		.from_version = record->state.version,
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

	if (record == NULL || record->state.deleted)
		refuse_missing(request);
	else if (record->state.version != request->version)
		answer_conflict(request, record);
	else if (!mock_request_effect(request)->apply)
		answer_write(request, record->state.version + 1, mock_clock_wall_us()); /* a lie */
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
	pthread_mutex_lock(&request->organization->lock);
	if (!mock_reads_one(request))
		refuse_missing(request);
	conclude(request, NULL);
	pthread_mutex_unlock(&request->organization->lock);
}

static void
run_list(MockRequest *request)
{
	mock_reads_many(request);
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

static void
run_call(MockRequest *request)
{
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

/* What others do in PEMS before the answer leaves, as the fault says. */
static void
run_then_edit(const MockRequest *request)
{
	const char *text = mock_request_effect(request)->then_edit;
	const char *problem = NULL;
	JsonDocument document;
	const JsonNode *node;
	int64_t version;

	if (text == NULL || !pems_json_parse(text, strlen(text), &document, NULL))
		return;
	node = document.root->kind == JSON_KIND_ARRAY ? document.root->first : document.root;
	for (; node != NULL && problem == NULL; node = node->next)
		problem = mock_edit_make(request->server, node, &version);
	if (problem != NULL)
		mock_faults_note(&request->server->faults, request->fault, problem);
	pems_json_free(&document);
}

void
mock_calls_run(MockRequest *request)
{
	request->authorized = authorize(request);
	mock_describe_request(request, &request->line);
	if (!refuse_early(request))
		run_call(request);
	run_then_edit(request);
}
