/*
 * control_time.c
 *		/_control/restore, times and clock: PEMS goes back, and its times are not ours.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "edits.h"
#include "memory.h"
#include "request.h"
#include "text.h"

/* ---------- which records ---------- */

typedef struct Selection
{
	MockOrganization *organization;
	MockRecord **records;
	size_t count;
} Selection;

static void
select_record(MockRecord *record, void *context)
{
	Selection *selection = context;

	selection->records[selection->count++] = record;
}

/* Those that "pfaIds" names, or all, also forgotten ones.  The caller holds the lock. */
static void
select_records(Selection *selection, const JsonNode *pfa_ids)
{
	MockOrganization *organization = selection->organization;
	size_t most = pfa_ids != NULL ? pfa_ids->count : organization->hashed_count;
	MockRecord *record;

	selection->records = mock_memory_allocate(most * sizeof(*selection->records));
	if (pfa_ids == NULL)
	{
		mock_store_each_record(organization, select_record, selection);
		return;
	}
	for (const JsonNode *node = pfa_ids->first; node != NULL; node = node->next)
	{
		record =
			node->kind == JSON_KIND_STRING ? mock_store_find_any(organization, node->text) : NULL;
		if (record != NULL)
			select_record(record, selection);
	}
}

/* The organization that the body names; NULL: it was refused. */
static MockOrganization *
named_organization(MockRequest *request)
{
	const JsonNode *root = request->document.root;
	const JsonNode *pfa_ids = pems_json_get(root, "pfaIds");
	const char *code = mock_text_get_string(root, "organizationCode");
	MockOrganization *organization = NULL;

	if (code == NULL)
		mock_control_refuse(request, 400, "\"organizationCode\" is missing");
	else if (pfa_ids != NULL && pfa_ids->kind != JSON_KIND_ARRAY)
		mock_control_refuse(request, 400, "\"pfaIds\" is an array");
	else
	{
		organization = mock_store_find_organization(&request->server->store, code);
		if (organization == NULL)
			mock_control_refuse(request, 404, "there is no such organization");
	}
	return organization;
}

/* ---------- restore ---------- */

/* Where PEMS goes back to: so many states, or a moment. */
typedef struct Target
{
	int64_t versions_back; /* 0: a moment */
	int64_t moment;        /* our clock */
} Target;

static bool
read_target(const JsonNode *root, Target *target)
{
	const JsonNode *versions = pems_json_get(root, "versionsBack");
	const JsonNode *seconds = pems_json_get(root, "secondsBack");
	const char *moment = mock_text_get_string(root, "to");
	long long number = 0;

	if ((versions != NULL) + (seconds != NULL) + (moment != NULL) != 1)
		return false;
	if (moment != NULL)
		return mock_clock_parse_iso(moment, &target->moment);
	if (!pems_json_integer(versions != NULL ? versions : seconds, &number) || number < 1)
		return false;
	if (versions != NULL)
		target->versions_back = number;
	else
		target->moment = mock_clock_wall_us() - (int64_t) number * 1000000;
	return true;
}

/* True: the record is another one now. */
static bool
restore_record(MockRequest *request, MockOrganization *organization, const MockRecord *record,
			   const Target *target)
{
	const MockRecordState *before = target->versions_back > 0
										? mock_store_state_back(record, target->versions_back)
										: mock_store_state_at(record, target->moment);
	MockRecordState state;

	if (before == &record->state || (before == NULL && record->state.forgotten))
		return false;
	state = mock_store_copy_state(before != NULL ? before : &record->state);
	state.forgotten = before == NULL || before->forgotten;
	state.since = mock_clock_wall_us();
	mock_edit_put(request->server, organization, record->pfa_id, &state,
				  mock_text_get_string(request->document.root, "by"));
	return true;
}

void
mock_control_restore(MockRequest *request)
{
	const JsonNode *root = request->document.root;
	MockOrganization *organization = named_organization(request);
	Selection selection = {.organization = organization};
	Target target = {0};
	int64_t restored = 0;

	if (organization == NULL)
		return;
	if (!read_target(root, &target))
	{
		mock_control_refuse(
			request, 400,
			"one of \"versionsBack\", \"secondsBack\" (1 or more) and \"to\", a time");
		return;
	}
	pthread_mutex_lock(&organization->lock);
	select_records(&selection, pems_json_get(root, "pfaIds"));
	for (size_t i = 0; i < selection.count; i++)
		restored += restore_record(request, organization, selection.records[i], &target);
	pthread_mutex_unlock(&organization->lock);
	free(selection.records);
	mock_control_begin(request);
	mock_text_add_integer(&request->reply.body, "restored", restored);
	mock_control_end(request);
}

/* ---------- times ---------- */

void
mock_control_set_times(MockRequest *request)
{
	const JsonNode *root = request->document.root;
	MockOrganization *organization = named_organization(request);
	const char *text = mock_text_get_string(root, "updatedAt");
	Selection selection = {.organization = organization};
	int64_t updated_at;
	int64_t changed = 0;

	if (organization == NULL)
		return;
	if (text == NULL || !mock_clock_parse_iso(text, &updated_at))
	{
		mock_control_refuse(request, 400, "\"updatedAt\" is a time as 2025-01-31T00:00:00Z");
		return;
	}
	pthread_mutex_lock(&organization->lock);
	select_records(&selection, pems_json_get(root, "pfaIds"));
	for (size_t i = 0; i < selection.count; i++)
	{
		if (selection.records[i]->state.forgotten)
			continue;
		mock_store_move(organization, selection.records[i], updated_at);
		changed++;
	}
	pthread_mutex_unlock(&organization->lock);
	free(selection.records);
	mock_control_begin(request);
	mock_text_add_integer(&request->reply.body, "changed", changed);
	mock_control_end(request);
}

/* ---------- clock ---------- */

void
mock_control_get_clock(MockRequest *request)
{
	JsonBuffer *body = &request->reply.body;
	int64_t now = mock_clock_wall_us();
	int64_t skew = request->server->clock_skew_us;

	mock_control_begin(request);
	mock_text_add_time(body, "now", now);
	mock_text_add_time(body, "pemsNow", now + skew);
	mock_text_add_integer(body, "skewSeconds", skew / 1000000);
	mock_control_end(request);
}

void
mock_control_set_clock(MockRequest *request)
{
	long long seconds;

	if (!pems_json_integer(pems_json_get(request->document.root, "skewSeconds"), &seconds) ||
		seconds < -1000000000 || seconds > 1000000000)
	{
		mock_control_refuse(request, 400, "\"skewSeconds\" is an integer");
		return;
	}
	request->server->clock_skew_us = seconds * 1000000;
	mock_control_get_clock(request);
}
