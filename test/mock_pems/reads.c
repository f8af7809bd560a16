/*
 * reads.c
 *		What PEMS shows: one record, or a page of many.
 *
 * A page is a walk through the index of the records as they are.  Where a fault asks
 * for another order (a replica that lags, a page that begins elsewhere) it comes from
 * a view: all records of the organization, sorted for this one page.  That is slow,
 * and good for some ten thousand records.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "cursor.h"
#include "memory.h"
#include "request.h"
#include "text.h"

/* A forged cursor must not make us remember more. */
#define MOST_PAGES 100000

/* ---------- one record ---------- */

/* What a read shows of the record; NULL: nothing, not even a tombstone. */
static const MockRecordState *
visible_state(const MockRequest *request, const MockRecord *record)
{
	const MockEffect *effect = mock_request_effect(request);
	const MockRecordState *state = &record->state;

	if (effect->lag_versions > 0)
		state = mock_store_state_back(record, effect->lag_versions);
	else if (effect->lag_s > 0)
		state = mock_store_state_at(record, mock_clock_wall_us() - effect->lag_s * 1000000);
	return state == NULL || state->forgotten ? NULL : state;
}

static void
add_state(JsonBuffer *out, const MockOrganization *organization, const MockRecordState *state)
{
	mock_text_add_string(out, "organizationCode",
						 state->shown_code != NULL ? state->shown_code : organization->code);
	mock_text_add_time(out, "updatedAt", state->updated_at);
	mock_text_add_string(out, "lastModifiedBy", state->modified_by);
}

bool
mock_reads_one(MockRequest *request)
{
	const MockRecord *record = mock_store_find_any(request->organization, request->pfa_id);
	const MockRecordState *state = record != NULL ? visible_state(request, record) : NULL;
	const MockEffect *effect = mock_request_effect(request);
	JsonBuffer *body = &request->reply.body;

	if (state == NULL || state->deleted)
		return false;
	request->reply.status = 200;
	pems_json_append_text(body, "{\"success\":true");
	mock_text_add_string(body, "pfaId", effect->wrong_id ? MOCK_WRONG_PFA_ID : request->pfa_id);
	if (!effect->no_new_version)
		mock_text_add_integer(body, "version", state->version);
	add_state(body, request->organization, state);
	mock_text_add_raw(body, "data", state->data, state->data_length);
	pems_json_append_text(body, "}");
	return true;
}

/* ---------- a page ---------- */

typedef struct Page
{
	MockRequest *request;
	const MockListEffect *effect;
	int64_t room;
	MockPosition last; /* where the next page begins */
	bool more;
} Page;

static const MockRecordText *
find_text(const MockListEffect *effect, const char *pfa_id)
{
	const MockRecordText *text = effect->texts;

	while (text != NULL && strcmp(text->pfa_id, pfa_id) != 0)
		text = text->next;
	return text;
}

static void
add_record(const Page *page, const char *pfa_id, const MockRecordState *state)
{
	JsonBuffer *body = &page->request->reply.body;

	mock_text_comma(body);
	pems_json_append_text(body, "{\"pfaId\":");
	mock_text_string(body, pfa_id);
	mock_text_add_integer(body, "version", state->version);
	add_state(body, page->request->organization, state);
	mock_text_add_boolean(body, "deleted", state->deleted);
	mock_text_add_raw(body, "data", state->data, state->data_length);
	pems_json_append(body, "}", 1);
	page->request->listed++;
}

/* False: the page is full. */
static bool
add_to_page(Page *page, const char *pfa_id, const MockRecordState *state)
{
	const MockRecordText *text;

	if (page->effect->without_deleted && state->deleted)
		return true;
	page->more = page->room == 0;
	if (page->more)
		return false;
	page->room--;
	page->last = (MockPosition){state->updated_at, pfa_id};
	text = find_text(page->effect, pfa_id);
	if (text == NULL)
		add_record(page, pfa_id, state);
	else if (text->length > 0)
	{
		mock_text_comma(&page->request->reply.body);
		pems_json_append(&page->request->reply.body, text->text, text->length);
		page->request->listed++;
	}
	return true;
}

static bool
add_indexed(const MockRecord *record, void *context)
{
	return add_to_page(context, record->pfa_id, &record->state);
}

/* ---------- a page of a view ---------- */

typedef struct ViewEntry
{
	const char *pfa_id;
	const MockRecordState *state;
} ViewEntry;

typedef struct View
{
	const MockRequest *request;
	ViewEntry *entries;
	size_t count;
} View;

static void
collect_entry(MockRecord *record, void *context)
{
	View *view = context;
	const MockRecordState *state = visible_state(view->request, record);

	if (state != NULL)
		view->entries[view->count++] = (ViewEntry){record->pfa_id, state};
}

static int
compare_entries(const void *a, const void *b)
{
	const ViewEntry *left = a;
	const ViewEntry *right = b;

	if (left->state->updated_at != right->state->updated_at)
		return left->state->updated_at < right->state->updated_at ? -1 : 1;
	return strcmp(left->pfa_id, right->pfa_id);
}

/* Where the page begins, shifted as the fault wants it. */
static size_t
first_entry(const View *view, int64_t shift)
{
	const MockRequest *request = view->request;
	size_t first = 0;

	while (first < view->count &&
		   !mock_index_behind(view->entries[first].state->updated_at, view->entries[first].pfa_id,
							  &request->position))
		first++;
	if (shift < 0)
		return first > (size_t) -shift ? first - (size_t) -shift : 0;
	return (size_t) shift < view->count - first ? first + (size_t) shift : view->count;
}

static void
walk_view(Page *page)
{
	View view = {.request = page->request};
	const MockOrganization *organization = page->request->organization;

	view.entries = mock_memory_allocate(organization->hashed_count * sizeof(*view.entries));
	mock_store_each_record(organization, collect_entry, &view);
	qsort(view.entries, view.count, sizeof(*view.entries), compare_entries);
	for (size_t i = first_entry(&view, page->effect->shift); i < view.count; i++)
	{
		if (!add_to_page(page, view.entries[i].pfa_id, view.entries[i].state))
			break;
	}
	free(view.entries);
}

/* ---------- the way to the next page ---------- */

/* The cursor that was given last for that page; NULL: none. */
static char **
remembered_cursor(MockOrganization *organization, int64_t page)
{
	size_t count = (size_t) page + 1;

	if (page < 2 || page > MOST_PAGES)
		return NULL;
	if (count > organization->cursor_count)
	{
		organization->cursors =
			mock_memory_resize(organization->cursors, count * sizeof(*organization->cursors));
		memset(organization->cursors + organization->cursor_count, 0,
			   (count - organization->cursor_count) * sizeof(*organization->cursors));
		organization->cursor_count = count;
	}
	return &organization->cursors[page];
}

static char *
make_cursor(const Page *page)
{
	const MockRequest *request = page->request;
	MockPosition beginning = {request->since_us, NULL};
	char **remembered = remembered_cursor(request->organization, request->page + 1);
	JsonBuffer cursor = {0};

	mock_cursor_append(&cursor, request->page + 1,
					   page->effect->begin_again ? &beginning : &page->last);
	if (cursor.failed)
		mock_memory_die("out of memory");
	if (remembered != NULL)
	{
		free(*remembered);
		*remembered = mock_memory_copy(cursor.data);
	}
	return cursor.data;
}

/* As JSON text; NULL: no such member. */
static char *
choose_cursor(const Page *page)
{
	const MockListEffect *effect = page->effect;
	char **earlier;

	if (effect->no_next_cursor)
		return NULL;
	if (effect->next_cursor != NULL)
		return mock_memory_copy(effect->next_cursor);
	if (effect->back_to_page > 0)
	{
		earlier = remembered_cursor(page->request->organization, effect->back_to_page);
		if (earlier != NULL && *earlier != NULL)
			return mock_memory_copy(*earlier);
	}
	if (page->more || effect->always_next_cursor || effect->begin_again)
		return make_cursor(page);
	return mock_memory_copy("null");
}

void
mock_reads_many(MockRequest *request)
{
	const MockEffect *effect = mock_request_effect(request);
	JsonBuffer *body = &request->reply.body;
	Page page = {.request = request, .effect = &effect->list, .room = request->limit};

	page.last = request->position;
	if (effect->list.page_size >= 0 && effect->list.page_size < page.room)
		page.room = effect->list.page_size;
	request->reply.status = 200;
	pems_json_append_text(body, "{\"success\":true,\"records\":[");
	pthread_mutex_lock(&request->organization->lock);
	if (effect->lag_versions > 0 || effect->lag_s > 0 || effect->list.shift != 0)
		walk_view(&page);
	else
		mock_index_walk(request->organization->root, &request->position, add_indexed, &page);
	request->next_cursor = choose_cursor(&page);
	pthread_mutex_unlock(&request->organization->lock);
	pems_json_append(body, "]", 1);
	if (request->next_cursor != NULL)
		mock_text_add_raw(body, "nextCursor", request->next_cursor, strlen(request->next_cursor));
	pems_json_append(body, "}", 1);
}
