/*
 * pems/page.c
 *		Records out of PEMS's answers to reading calls; see page.h.
 *
 * Process: any; pure, without PostgreSQL, I/O or a clock.  Memory: malloc; a page's own in one
 * arena, what was parsed in another, which ends with the function.
 *
 * Every byte of a body comes from outside.  What is kept of it is checked (a pfaId, a version),
 * known to be something that jsonb can hold (data), or valid UTF-8 of bounded length.
 */
#include "pems/page.h"

#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pems/request.h"
#include "pems/sentence.h"
#include "record/calendar.h"
#include "record/text.h"

/* Levels that are looked at: the page, its records, a record's members, those of its data. */
#define PAGE_LEVELS   4
#define RECORD_LEVELS 2

/* Bytes that are shown of a pfaId that is none. */
#define SHOWN_ID_MAXIMUM 100

/* "2025-01-31T12:00:00.123456Z" and its NUL */
#define INSTANT_SIZE 28

/* A page that is being read. */
typedef struct Reader
{
	PemsPage *page;
	const char *organization_code;
	const JsonNode *page_organization; /* what the page itself says of it, or NULL */
	bool has_newest;
	PemsInstant newest;
	bool failed; /* out of memory */
} Reader;

/* ---------- texts that are kept ---------- */

static char *
allocate(Reader *reader, size_t size)
{
	char *piece = pems_arena_allocate(&reader->page->arena, size, 1);

	if (piece == NULL)
		reader->failed = true;
	return piece;
}

static const char *
keep(Reader *reader, const char *text, size_t length)
{
	char *copy = allocate(reader, length + 1);

	if (copy == NULL)
		return NULL;
	if (length > 0)
		memcpy(copy, text, length);
	copy[length] = '\0';
	return copy;
}

/* The text up to `limit` bytes, which end with a character. */
static const char *
keep_beginning(Reader *reader, const char *text, size_t length, size_t limit)
{
	size_t kept = length;

	if (length > limit)
	{
		/* the last character that begins at or before the limit */
		kept = limit;
		while (kept > 0 && ((unsigned char) text[kept] & 0xC0) == 0x80)
			kept--;
	}
	return keep(reader, text, kept);
}

/* The JSON text of a record that cannot be stored, with U+FFFD for each byte that is no UTF-8. */
static const char *
keep_raw(Reader *reader, const JsonNode *record)
{
	const char *text = record->raw;
	const char *end = text + record->raw_length;
	JsonBuffer raw = {0};
	const char *kept = NULL;

	while (text < end)
	{
		size_t length = pems_text_read(text, (size_t) (end - text), NULL);
		char replacement[PEMS_TEXT_CHARACTER_SIZE];
		size_t width = length > 0 ? length : pems_text_write(replacement, PEMS_TEXT_REPLACEMENT);

		if (raw.length + width > PEMS_PAGE_MAX_RAW)
			break;
		pems_json_append(&raw, length > 0 ? text : replacement, width);
		text += length > 0 ? length : 1;
	}
	if (raw.failed)
		reader->failed = true;
	else
		kept = keep(reader, raw.data, raw.length);
	pems_json_buffer_free(&raw);
	return kept;
}

/* ---------- members ---------- */

static bool
is_text(const JsonNode *node)
{
	return node != NULL && node->kind == JSON_KIND_STRING && node->unstorable == NULL;
}

static bool
equals(const JsonNode *node, const char *text)
{
	return is_text(node) && node->length == strlen(text) &&
		   memcmp(node->text, text, node->length) == 0;
}

/* Missing, or null */
static bool
is_absent(const JsonNode *node)
{
	return node == NULL || node->kind == JSON_KIND_NULL;
}

/* An id that is no valid one, so that somebody can recognize it. */
static const char *
keep_shown_id(Reader *reader, const JsonNode *node)
{
	PemsSentence shown = {0};

	if (node == NULL || (node->kind != JSON_KIND_STRING && node->kind != JSON_KIND_NUMBER))
		return NULL;
	pems_sentence_add_foreign(&shown, node->text, node->length, SHOWN_ID_MAXIMUM);
	return shown.length > 0 ? keep(reader, shown.text, shown.length) : NULL;
}

static bool
is_valid_id(const JsonNode *node)
{
	/* a NUL in it was decoded as U+FFFD, so the text ends where it seems to */
	return is_text(node) && pems_request_valid_pfa_id(node->text);
}

static bool
read_version(const JsonNode *node, int32_t *version)
{
	long long number;

	if (!pems_json_integer(node, &number) || number < 1 || number > INT32_MAX)
		return false;
	*version = (int32_t) number;
	return true;
}

/* True, also without the member; false: it is neither true nor false. */
static bool
read_deleted(const JsonNode *node, bool *deleted)
{
	*deleted = false;
	if (node == NULL || node->kind == JSON_KIND_NULL)
		return true;
	*deleted = node->kind == JSON_KIND_BOOLEAN && node->boolean;
	return node->kind == JSON_KIND_BOOLEAN;
}

/* Who changed the record: a member of its data, as the field catalogue says, or beside it. */
static const char *
keep_modified_by(Reader *reader, const JsonNode *record)
{
	const JsonNode *name = pems_json_get(record, "lastModifiedBy");

	if (is_absent(name))
		name = pems_json_get(pems_json_get(record, "data"), "lastModifiedBy");
	if (!is_text(name) || name->length == 0)
		return NULL;
	return keep_beginning(reader, name->text, name->length, PEMS_PAGE_MAX_NAME);
}

/* ---------- instants ---------- */

/*
 * The instant, in years that both ISO 8601 and PostgreSQL write with four digits.  What is finer
 * than a microsecond is cut off.
 */
static const char *
keep_instant(Reader *reader, const PemsInstant *instant)
{
	time_t seconds = (time_t) instant->seconds;
	char text[INSTANT_SIZE + 32];
	struct tm tm;
	int length;

	if (gmtime_r(&seconds, &tm) == NULL || tm.tm_year < 1 - 1900 || tm.tm_year > 9999 - 1900)
		return NULL;
	length = snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%06ldZ", tm.tm_year + 1900,
					  tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
					  instant->nanoseconds / 1000);
	return keep(reader, text, (size_t) length);
}

static void
read_updated_at(Reader *reader, const JsonNode *node, PemsPageRecord *record, bool counts)
{
	PemsInstant instant;

	if (!is_text(node) || !pems_calendar_read_instant(node->text, &instant))
		return;
	record->updated_at = keep_instant(reader, &instant);
	if (record->updated_at == NULL || !counts)
		return;
	if (reader->has_newest && pems_calendar_compare(&instant, &reader->newest) <= 0)
		return;
	reader->has_newest = true;
	reader->newest = instant;
	reader->page->newest_updated_at = record->updated_at;
}

/* ---------- one record ---------- */

/* Exact: RIO2 is not RIO.  Nothing said: the one that was asked for. */
static bool
is_of_organization(const Reader *reader, const JsonNode *node)
{
	const JsonNode *code = pems_json_get(node, "organizationCode");

	if (is_absent(code))
		code = reader->page_organization;
	return is_absent(code) || equals(code, reader->organization_code);
}

/* Take over the data, if it can be stored.  Why it cannot, or NULL. */
static const char *
read_data(Reader *reader, const JsonNode *data, PemsPageRecord *record)
{
	if (data == NULL || data->kind != JSON_KIND_OBJECT)
		return record->deleted ? NULL : "its data is missing or no JSON object";
	if (data->unstorable != NULL)
		return record->deleted ? NULL : data->unstorable;
	record->data = keep(reader, data->raw, data->raw_length);
	record->data_length = data->raw_length;
	return NULL;
}

/* Read what there is; the first thing that is wrong, or NULL. */
static const char *
read_members(Reader *reader, const JsonNode *node, PemsPageRecord *record)
{
	const JsonNode *pfa_id = pems_json_get(node, "pfaId");
	bool ours = is_of_organization(reader, node);
	bool has_version = read_version(pems_json_get(node, "version"), &record->version);
	bool has_deleted = read_deleted(pems_json_get(node, "deleted"), &record->deleted);

	if (node->kind != JSON_KIND_OBJECT)
		return "it is no JSON object";
	record->identified = ours && is_valid_id(pfa_id);
	record->pfa_id = is_valid_id(pfa_id) ? keep(reader, pfa_id->text, pfa_id->length)
										 : keep_shown_id(reader, pfa_id);
	record->modified_by = keep_modified_by(reader, node);
	read_updated_at(reader, pems_json_get(node, "updatedAt"), record, ours);
	if (!ours)
		return "its organizationCode is that of another organization";
	if (!record->identified)
		return "its pfaId is missing or not valid (1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-')";
	if (!has_deleted)
		return "its member deleted is neither true nor false";
	if (!has_version)
		return "its version is missing or no integer from 1 to 2147483647";
	return read_data(reader, pems_json_get(node, "data"), record);
}

static void
read_record(Reader *reader, const JsonNode *node, PemsPageRecord *record)
{
	*record = (PemsPageRecord){0};
	record->problem = read_members(reader, node, record);
	if (record->problem == NULL)
		return;
	record->data = NULL;
	record->data_length = 0;
	record->raw = keep_raw(reader, node);
}

/* ---------- records that are in a page twice ---------- */

/*
 * For qsort: by id, and of one id, the one that counts first: of the highest version, of those one
 * that can be stored, of those the first in the page.
 */
static int
compare_records(const void *a, const void *b)
{
	const PemsPageRecord *left = *(PemsPageRecord *const *) a;
	const PemsPageRecord *right = *(PemsPageRecord *const *) b;
	int order = strcmp(left->pfa_id, right->pfa_id);

	if (order != 0)
		return order;
	if (left->version != right->version)
		return left->version > right->version ? -1 : 1;
	if ((left->problem == NULL) != (right->problem == NULL))
		return left->problem == NULL ? -1 : 1;
	return left < right ? -1 : left > right;
}

/* Behind the first, records of the same id lose theirs: the mark of one that is left out. */
static void
mark_repeated(PemsPageRecord **sorted, size_t count)
{
	const char *pfa_id = count > 0 ? sorted[0]->pfa_id : NULL;

	for (size_t i = 1; i < count; i++)
	{
		if (strcmp(sorted[i]->pfa_id, pfa_id) == 0)
			sorted[i]->pfa_id = NULL;
		else
			pfa_id = sorted[i]->pfa_id;
	}
}

static void
leave_out_marked(PemsPage *page)
{
	size_t kept = 0;

	for (size_t i = 0; i < page->count; i++)
	{
		if (!page->records[i].identified || page->records[i].pfa_id != NULL)
			page->records[kept++] = page->records[i];
	}
	page->repeated = page->count - kept;
	page->count = kept;
}

/* Sorting, and no hash table: nobody can choose ids that make it slow. */
static void
leave_out_repeated(Reader *reader)
{
	PemsPage *page = reader->page;
	PemsPageRecord **sorted = calloc(page->count + 1, sizeof(*sorted));
	size_t count = 0;

	if (sorted == NULL)
	{
		reader->failed = true;
		return;
	}
	for (size_t i = 0; i < page->count; i++)
	{
		if (page->records[i].identified && page->records[i].pfa_id != NULL)
			sorted[count++] = &page->records[i];
	}
	qsort(sorted, count, sizeof(*sorted), compare_records);
	mark_repeated(sorted, count);
	leave_out_marked(page);
	free(sorted);
}

/* ---------- whole answers ---------- */

const char *
pems_page_problem(const JsonNode *body)
{
	const JsonNode *success = pems_json_get(body, "success");
	const JsonNode *records = pems_json_get(body, "records");
	const JsonNode *cursor = pems_json_get(body, "nextCursor");

	if (body->kind != JSON_KIND_OBJECT)
		return "with a body that is not a JSON object";
	if (success == NULL || success->kind != JSON_KIND_BOOLEAN || !success->boolean)
		return "without success:true";
	if (records == NULL || records->kind != JSON_KIND_ARRAY)
		return "without records that are an array";
	if (!is_absent(cursor) && (!is_text(cursor) || cursor->length == 0))
		return "with a nextCursor that is neither null nor a text that can be sent back";
	if (!is_absent(cursor) && cursor->length > PEMS_PAGE_MAX_CURSOR)
		return "with a nextCursor of more than 4096 bytes";
	return NULL;
}

static bool
parse(const char *body, size_t length, size_t levels, JsonDocument *document, const char **error)
{
	pems_text_skip_mark(&body, &length);
	return pems_json_parse_outer(body, length, levels, PEMS_PAGE_MAX_VALUES, document, error);
}

bool
pems_page_parse(const char *body, size_t length, JsonDocument *document, const char **error)
{
	return parse(body, length, PAGE_LEVELS, document, error);
}

/* Room for as many records. */
static bool
begin_page(Reader *reader, size_t count)
{
	PemsPage *page = reader->page;

	page->records = pems_arena_allocate(&page->arena, (count + 1) * sizeof(PemsPageRecord),
										alignof(PemsPageRecord));
	reader->failed = page->records == NULL;
	return !reader->failed;
}

static void
add_record(Reader *reader, const JsonNode *node)
{
	read_record(reader, node, &reader->page->records[reader->page->count++]);
}

static void
read_records(Reader *reader, const JsonNode *body)
{
	const JsonNode *records = pems_json_get(body, "records");
	const JsonNode *cursor = pems_json_get(body, "nextCursor");

	reader->page_organization = pems_json_get(body, "organizationCode");
	if (!begin_page(reader, records->count))
		return;
	for (const JsonNode *node = records->first; node && !reader->failed; node = node->next)
		add_record(reader, node);
	leave_out_repeated(reader);
	if (!is_absent(cursor))
		reader->page->next_cursor = keep(reader, cursor->text, cursor->length);
}

/* The page, or nothing and why. */
static bool
finish(Reader *reader, JsonDocument *document, const char **error)
{
	pems_json_free(document);
	if (!reader->failed)
		return true;
	pems_page_free(reader->page);
	*error = "out of memory";
	return false;
}

bool
pems_page_read(const char *body, size_t length, const char *organization_code, PemsPage *page,
			   const char **error)
{
	Reader reader = {.page = page, .organization_code = organization_code};
	JsonDocument document;

	*page = (PemsPage){0};
	if (!pems_page_parse(body, length, &document, error))
		return false;
	*error = pems_page_problem(document.root);
	if (*error != NULL)
	{
		pems_json_free(&document);
		return false;
	}
	read_records(&reader, document.root);
	return finish(&reader, &document, error);
}

bool
pems_page_read_one(const char *body, size_t length, const char *organization_code, PemsPage *page,
				   const char **error)
{
	Reader reader = {.page = page, .organization_code = organization_code};
	JsonDocument document;

	*page = (PemsPage){0};
	if (!parse(body, length, RECORD_LEVELS, &document, error))
		return false;
	*error = NULL;
	if (begin_page(&reader, 1))
		add_record(&reader, document.root);
	return finish(&reader, &document, error);
}

void
pems_page_free(PemsPage *page)
{
	pems_arena_free(&page->arena);
	*page = (PemsPage){0};
}
