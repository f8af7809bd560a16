/*
 * pems/page_test.c
 *		Unit tests of src/pems/page.c: which records a page has.  What is wrong with a
 *		record is in page_record_test.c.
 */
#include "unit.h"
#include "pems/pages.h"

#include <time.h>

#include "utf8.h"

/* ---------- pages ---------- */

UNIT_TEST(a_page_is_read)
{
	PemsPage page = page_of(
		"\xef\xbb\xbf{\"success\": true, \"records\": ["
		"{\"pfaId\": \"PFA-2\", \"version\": 7, \"updatedAt\": \"2025-01-31T12:00:00+02:00\","
		" \"deleted\": false, \"data\": {\"monthlyRate\": 5500.00, \"lastModifiedBy\": \"mary\"}},"
		"{\"pfaId\": \"PFA-1\", \"version\": 2147483647, \"updatedAt\": \"2025-01-30\","
		" \"deleted\": true}],"
		"\"nextCursor\": \"abc\"}");

	CHECK_INT(page.count, 2);
	CHECK_INT(page.repeated, 0);
	CHECK_TEXT(page.next_cursor, "abc");
	CHECK_TEXT(page.newest_updated_at, "2025-01-31T10:00:00.000000Z");
	CHECK_TEXT(page.records[0].pfa_id, "PFA-2");
	CHECK_INT(page.records[0].version, 7);
	CHECK(!page.records[0].deleted && page.records[0].problem == NULL);
	CHECK_TEXT(page.records[0].data, "{\"monthlyRate\": 5500.00, \"lastModifiedBy\": \"mary\"}");
	CHECK_INT(page.records[0].data_length, strlen(page.records[0].data));
	CHECK_TEXT(page.records[0].updated_at, "2025-01-31T10:00:00.000000Z");
	CHECK_TEXT(page.records[0].modified_by, "mary");
	CHECK_TEXT(page.records[1].pfa_id, "PFA-1");
	CHECK_INT(page.records[1].version, 2147483647);
	CHECK(page.records[1].deleted && page.records[1].data == NULL);
	CHECK_TEXT(page.records[1].updated_at, "2025-01-30T00:00:00.000000Z");
	CHECK_TEXT(page.records[1].modified_by, NULL);
	pems_page_free(&page);
	CHECK(page.records == NULL && page.count == 0);
}

UNIT_TEST(an_empty_page_ends_a_listing)
{
	PemsPage page = page_of("{\"records\":[],\"success\":true}");

	CHECK_INT(page.count, 0);
	CHECK_TEXT(page.next_cursor, NULL);
	CHECK_TEXT(page.newest_updated_at, NULL);
	pems_page_free(&page);
}

static void
check_no_page(const char *body, const char *expected, int line)
{
	const char *error = NULL;
	PemsPage page;

	if (!CHECK(!pems_page_read(body, strlen(body), "RIO", &page, &error)) ||
		!CHECK_TEXT(error, expected))
		unit_note("called in line %d", line);
	CHECK(page.records == NULL && page.arena.newest == NULL);
}
#define CHECK_NO_PAGE(body, error) check_no_page((body), (error), __LINE__)

UNIT_TEST(what_is_no_page)
{
	char cursor[PEMS_PAGE_MAX_CURSOR + 100];
	PemsPage page;

	CHECK_NO_PAGE("", "unexpected end of the text");
	CHECK_NO_PAGE("[]", "with a body that is not a JSON object");
	CHECK_NO_PAGE("{\"records\":[]}", "without success:true");
	CHECK_NO_PAGE("{\"success\":\"true\",\"records\":[]}", "without success:true");
	CHECK_NO_PAGE("{\"success\":false,\"records\":[]}", "without success:true");
	CHECK_NO_PAGE("{\"success\":true}", "without records that are an array");
	CHECK_NO_PAGE("{\"success\":true,\"records\":null}", "without records that are an array");
	CHECK_NO_PAGE("{\"success\":true,\"records\":{}}", "without records that are an array");
#define BAD_CURSOR "with a nextCursor that is neither null nor a text that can be sent back"
	CHECK_NO_PAGE("{\"success\":true,\"records\":[],\"nextCursor\":\"\"}", BAD_CURSOR);
	CHECK_NO_PAGE("{\"success\":true,\"records\":[],\"nextCursor\":1}", BAD_CURSOR);
	CHECK_NO_PAGE("{\"success\":true,\"records\":[],\"nextCursor\":false}", BAD_CURSOR);
	CHECK_NO_PAGE("{\"success\":true,\"records\":[],\"nextCursor\":\"a\\u0000\"}", BAD_CURSOR);
	CHECK_NO_PAGE("{\"success\":true,\"records\":[],\"nextCursor\":\"\\ud800\"}", BAD_CURSOR);
	snprintf(cursor, sizeof(cursor), "{\"success\":true,\"records\":[],\"nextCursor\":\"%0*d\"}",
			 PEMS_PAGE_MAX_CURSOR, 1);
	page = page_of(cursor);
	CHECK_INT(strlen(page.next_cursor), PEMS_PAGE_MAX_CURSOR);
	pems_page_free(&page);
	snprintf(cursor, sizeof(cursor), "{\"success\":true,\"records\":[],\"nextCursor\":\"%0*d\"}",
			 PEMS_PAGE_MAX_CURSOR + 1, 1);
	CHECK_NO_PAGE(cursor, "with a nextCursor of more than 4096 bytes");
	CHECK_NO_PAGE("{\"success\":true,\"records\":[" GOOD("PFA-1") "],\"nextCu",
				  "string without its closing quote");
}

UNIT_TEST(one_that_cannot_be_stored_stops_no_other)
{
	PemsPage page = page_of(IN(
		GOOD("PFA-1") ",7,{\"pfaId\":\"PFA-2\",\"version\":1,\"data\":{\"x\":\"\\u0000\"}}," GOOD(
			"PFA-3")));

	CHECK_INT(page.count, 4);
	CHECK(page.records[0].problem == NULL && page.records[3].problem == NULL);
	CHECK_TEXT(page.records[1].problem, "it is no JSON object");
	CHECK_TEXT(page.records[1].raw, "7");
	CHECK_TEXT(page.records[2].pfa_id, "PFA-2");
	CHECK_TEXT(page.records[2].raw,
			   "{\"pfaId\":\"PFA-2\",\"version\":1,\"data\":{\"x\":\"\\u0000\"}}");
	CHECK_TEXT(page.records[3].pfa_id, "PFA-3");
	pems_page_free(&page);
}

/* ---------- the same record twice ---------- */

/* ids and versions of the records of a page, "PFA-1:3 PFA-2:1!" ('!': a problem) */
static const char *
summary(const char *body)
{
	static char text[400];
	PemsPage page = page_of(body);
	size_t length = 0;

	text[0] = '\0';
	for (size_t i = 0; i < page.count; i++)
		length += (size_t) snprintf(text + length, sizeof(text) - length, "%s%s:%d%s", i ? " " : "",
									page.records[i].pfa_id ? page.records[i].pfa_id : "-",
									page.records[i].version, page.records[i].problem ? "!" : "");
	snprintf(text + length, sizeof(text) - length, " (%zu)", page.repeated);
	pems_page_free(&page);
	return text;
}

UNIT_TEST(a_record_is_in_a_page_once)
{
#define V(id, version) "{\"pfaId\":\"" id "\",\"version\":" version DATA "}"
	CHECK_TEXT(summary(IN(V("B", "1") "," V("A", "2") "," V("B", "3"))), "A:2 B:3 (1)");
	CHECK_TEXT(summary(IN(V("B", "3") "," V("A", "2") "," V("B", "1"))), "B:3 A:2 (1)");
	CHECK_TEXT(summary(IN(V("A", "1") "," V("A", "3") "," V("A", "2") "," V("A", "3"))), "A:3 (3)");
	CHECK_TEXT(summary(IN(V("a", "1") "," V("A", "1") "," V("A1", "1"))), "a:1 A:1 A1:1 (0)");
	/* the higher version counts, also when it cannot be stored */
	CHECK_TEXT(summary(IN(V("A", "1") ",{\"pfaId\":\"A\",\"version\":2}")), "A:2! (1)");
	CHECK_TEXT(summary(IN("{\"pfaId\":\"A\",\"version\":2}," V("A", "2"))), "A:2 (1)");
	CHECK_TEXT(summary(IN("{\"pfaId\":\"A\",\"version\":\"9\"}," V("A", "2"))), "A:2 (1)");
	/* what is none of ours stands for itself */
	CHECK_TEXT(
		summary(IN("{\"pfaId\":\"A\",\"version\":9,\"organizationCode\":\"RIO2\"}," V("A", "2"))),
		"A:9! A:2 (0)");
	CHECK_TEXT(summary(IN("1,2,{\"pfaId\":\"/\"},{\"pfaId\":\"/\"}")), "-:0! -:0! /:0! /:0! (0)");
}

UNIT_TEST(of_equal_versions_the_first_counts)
{
	PemsPage page = page_of(IN("{\"pfaId\":\"A\",\"version\":1,\"data\":{\"x\":1}},"
							   "{\"pfaId\":\"A\",\"version\":1,\"data\":{\"x\":2}}"));

	CHECK_INT(page.count, 1);
	CHECK_TEXT(page.records[0].data, "{\"x\":1}");
	pems_page_free(&page);
}

/* ---------- what is kept of what cannot be stored ---------- */

/* A record without an id, whose text begins with `{"x":"` and `shift` bytes more. */
static void
check_raw_cut(int shift, const char *character)
{
	JsonBuffer body = {0};
	PemsPage page;
	size_t length;

	pems_json_append_text(&body, "{\"success\":true,\"records\":[{\"x\":\"");
	pems_json_append(&body, "xxx", (size_t) shift);
	while (body.length < PEMS_PAGE_MAX_RAW + 1000)
		pems_json_append_text(&body, character);
	pems_json_append_text(&body, "\"}]}");
	page = page_of_bytes(body.data, body.length);
	length = strlen(page.records[0].raw);
	CHECK(length <= PEMS_PAGE_MAX_RAW && length > PEMS_PAGE_MAX_RAW - 4);
	CHECK(is_utf8(page.records[0].raw, length));
	CHECK(memcmp(page.records[0].raw, "{\"x\":\"", 6) == 0);
	pems_page_free(&page);
	pems_json_buffer_free(&body);
}

UNIT_TEST(raw_texts_are_cut_between_characters)
{
	for (int shift = 0; shift < 4; shift++)
	{
		check_raw_cut(shift, "\xf0\x9f\x98\x80");
		check_raw_cut(shift, "\xe2\x82\xac");
		check_raw_cut(shift, "\xff");
	}
}

UNIT_TEST(raw_texts_are_valid)
{
	PemsPage page = page_of(IN("{\"x\": \"\xff\\u0000\xc3\xbc\xc3\"}"));

	CHECK_TEXT(page.records[0].raw, "{\"x\": \"" FFFD "\\u0000\xc3\xbc" FFFD "\"}");
	pems_page_free(&page);
}

/* ---------- large pages ---------- */

/* A page of `count` records, of `different` ids. */
static char *
large_page(size_t count, size_t different)
{
	JsonBuffer body = {0};
	char record[200];

	pems_json_append_text(&body, "{\"success\":true,\"records\":[");
	for (size_t i = 0; i < count; i++)
	{
		snprintf(record, sizeof(record),
				 "%s{\"pfaId\":\"PFA-%zu\",\"version\":%zu,\"updatedAt\":\"2025-01-31T00:00:00Z\","
				 "\"data\":{\"dor\":\"BEO\",\"monthlyRate\":%zu}}",
				 i ? "," : "", (i * 7919) % different, i + 1, i);
		pems_json_append_text(&body, record);
	}
	pems_json_append_text(&body, "]}");
	return body.data;
}

static double
seconds_of(size_t count, size_t different)
{
	char *body = large_page(count, different);
	clock_t start = clock();
	PemsPage page = page_of(body);
	double seconds = (double) (clock() - start) / CLOCKS_PER_SEC;

	CHECK_INT(page.count, different < count ? different : count);
	CHECK_INT(page.repeated, different < count ? count - different : 0);
	pems_page_free(&page);
	free(body);
	return seconds;
}

UNIT_TEST(large_pages_are_read_in_linear_time)
{
	/* ten times as many; a search of each among all would take a hundred times as long */
	CHECK(seconds_of(50000, 50000) < 40 * seconds_of(5000, 5000) + 0.5);
	CHECK(seconds_of(50000, 7) < 40 * seconds_of(5000, 7) + 0.5);
}

UNIT_TEST(a_page_of_too_many_values_is_none)
{
	JsonBuffer body = {0};
	const char *error = NULL;
	PemsPage page;

	pems_json_append_text(&body, "{\"success\":true,\"records\":[0");
	for (size_t i = 0; i < PEMS_PAGE_MAX_VALUES; i++)
		pems_json_append_text(&body, ",0");
	pems_json_append_text(&body, "]}");
	CHECK(!pems_page_read(body.data, body.length, "RIO", &page, &error));
	CHECK_TEXT(error, "too many values");
	pems_json_buffer_free(&body);
}

/* ---------- one record ---------- */

UNIT_TEST(the_answer_to_the_read_of_one_record)
{
	const char *body = "{\"success\":true,\"pfaId\":\"PFA-1\",\"version\":7,\"updatedAt\":"
					   "\"2025-01-15T00:00:00Z\",\"data\":{\"monthlyRate\": 5.50}}";
	const char *error = NULL;
	PemsPage page;

	if (!CHECK(pems_page_read_one(body, strlen(body), "RIO", &page, &error)))
		return;
	CHECK_TEXT(page.records[0].problem, NULL);
	CHECK_TEXT(page.records[0].data, "{\"monthlyRate\": 5.50}");
	CHECK_TEXT(page.newest_updated_at, "2025-01-15T00:00:00.000000Z");
	CHECK_TEXT(page.next_cursor, NULL);
	pems_page_free(&page);
	CHECK(!pems_page_read_one("{", 1, "RIO", &page, &error));
	CHECK(error != NULL && page.records == NULL);
}
