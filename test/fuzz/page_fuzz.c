/*
 * page_fuzz.c
 *		libFuzzer target: whatever PEMS answers to a reading call, the records of it keep their
 *		promises.
 *
 * Input: the body.  It is read as a page and as one record; and, when it is neither, as the records
 * of a page.
 */
#include "pems/page.h"

#include <stdlib.h>
#include <string.h>

#include "pems/request.h"
#include "record/calendar.h"
#include "utf8.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
promise(bool kept)
{
	if (!kept)
		abort();
}

/* NULL, or valid UTF-8 of bounded length. */
static void
check_text(const char *text, size_t limit)
{
	promise(text == NULL || (strlen(text) <= limit && is_utf8(text, strlen(text))));
}

static void
check_data(const PemsPageRecord *record)
{
	JsonDocument document;

	promise(strlen(record->data) == record->data_length);
	promise(pems_json_parse(record->data, record->data_length, &document, NULL));
	promise(document.root->kind == JSON_KIND_OBJECT && document.root->unstorable == NULL);
	pems_json_free(&document);
}

static void
check_record(const PemsPageRecord *record)
{
	PemsInstant instant;

	check_text(record->pfa_id, 200);
	check_text(record->modified_by, PEMS_PAGE_MAX_NAME);
	check_text(record->raw, PEMS_PAGE_MAX_RAW);
	promise((record->problem == NULL) == (record->raw == NULL));
	promise(record->version >= 0);
	if (record->updated_at != NULL)
		promise(strlen(record->updated_at) == 27 &&
				pems_calendar_read_instant(record->updated_at, &instant));
	if (record->identified)
		promise(pems_request_valid_pfa_id(record->pfa_id));
	if (record->problem == NULL)
		promise(record->identified && record->version > 0 &&
				(record->data != NULL || record->deleted));
	else
		promise(record->data == NULL);
	if (record->data != NULL)
		check_data(record);
}

/* No identified record twice.  (Pages of the fuzzer are small.) */
static void
check_once(const PemsPage *page)
{
	for (size_t i = 0; i < page->count; i++)
	{
		for (size_t j = 0; j < i; j++)
			promise(!page->records[i].identified || !page->records[j].identified ||
					strcmp(page->records[i].pfa_id, page->records[j].pfa_id) != 0);
	}
}

static void
check_page(PemsPage *page)
{
	for (size_t i = 0; i < page->count; i++)
		check_record(&page->records[i]);
	check_once(page);
	promise(page->next_cursor == NULL || *page->next_cursor != '\0');
	check_text(page->next_cursor, PEMS_PAGE_MAX_CURSOR);
	pems_page_free(page);
}

static bool
read_page(const char *body, size_t size)
{
	const char *error = NULL;
	PemsPage page;

	if (!pems_page_read(body, size, "RIO", &page, &error))
	{
		promise(error != NULL && page.records == NULL && page.arena.newest == NULL);
		return false;
	}
	check_page(&page);
	return true;
}

static void
read_one(const char *body, size_t size)
{
	const char *error = NULL;
	PemsPage page;

	if (!pems_page_read_one(body, size, "RIO", &page, &error))
	{
		promise(error != NULL && page.records == NULL);
		return;
	}
	promise(page.count == 1 && page.repeated == 0 && page.next_cursor == NULL);
	check_page(&page);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *body = (const char *) data;
	JsonBuffer page = {0};

	read_one(body, size);
	if (read_page(body, size))
		return 0;
	pems_json_append_text(&page, "{\"success\":true,\"records\":[");
	pems_json_append(&page, body, size);
	pems_json_append_text(&page, "]}");
	read_page(page.data, page.length);
	pems_json_buffer_free(&page);
	return 0;
}
