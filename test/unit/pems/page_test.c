/*
 * pems/page_test.c
 *		Unit tests of src/pems/page.c: which records a page has, and what is wrong with them.
 */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pems/page.h"
#include "record/text.h"

#define DATA        ",\"data\":{\"dor\":\"BEO\"}"
#define GOOD(id)    "{\"pfaId\":\"" id "\",\"version\":3" DATA "}"
#define IN(list)    "{\"success\":true,\"records\":[" list "],\"nextCursor\":null}"
#define BAD_ID      "its pfaId is missing or not valid (1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-')"
#define BAD_DATA    "its data is missing or no JSON object"
#define BAD_VERSION "its version is missing or no integer from 1 to 2147483647"
#define FOREIGN     "its organizationCode is that of another organization"
#define FFFD        "\xef\xbf\xbd"

/* Read a body of RIO, from a copy of its exact size that is gone when the page is looked at. */
static PemsPage
page_of_bytes(const char *body, size_t length)
{
	char *copy = malloc(length ? length : 1);
	const char *error = NULL;
	PemsPage page;

	memcpy(copy, body, length);
	if (!CHECK(pems_page_read(copy, length, "RIO", &page, &error)))
		unit_note("%s: %.200s", error, body);
	free(copy);
	return page;
}

static PemsPage
page_of(const char *body)
{
	return page_of_bytes(body, strlen(body));
}

/* A page of one record, read as one of many, and, when it is alone, in the same way. */
static PemsPage
page_of_record(const char *record)
{
	char body[4096];
	PemsPage page;
	PemsPage alone;
	const char *error = NULL;

	snprintf(body, sizeof(body), IN("%s"), record);
	page = page_of(body);
	CHECK_INT(page.count, 1);
	if (CHECK(pems_page_read_one(record, strlen(record), "RIO", &alone, &error)))
	{
		CHECK_INT(alone.count, 1);
		CHECK_TEXT(alone.records[0].problem, page.records[0].problem);
		CHECK_TEXT(alone.records[0].pfa_id, page.records[0].pfa_id);
		CHECK_TEXT(alone.records[0].data, page.records[0].data);
		CHECK_TEXT(alone.records[0].updated_at, page.records[0].updated_at);
		CHECK_TEXT(alone.records[0].modified_by, page.records[0].modified_by);
		CHECK_INT(alone.records[0].version, page.records[0].version);
		pems_page_free(&alone);
	}
	return page;
}

/* problem: NULL where the record can be stored. */
static void
check_record(const char *text, const char *problem, const char *pfa_id, bool identified, int line)
{
	PemsPage page = page_of_record(text);
	const PemsPageRecord *record = page.records;
	bool good = CHECK_TEXT(record->problem, problem);

	good = CHECK_TEXT(record->pfa_id, pfa_id) && good;
	good = CHECK_INT(record->identified, identified) && good;
	good = CHECK((record->raw != NULL) == (problem != NULL)) && good;
	if (problem != NULL)
		good = CHECK(record->data == NULL && record->data_length == 0) && good;
	if (!good)
		unit_note("called in line %d: %s", line, text);
	pems_page_free(&page);
}
#define CHECK_GOOD(record, id)         check_record((record), NULL, (id), true, __LINE__)
#define CHECK_BAD(record, problem, id) check_record((record), (problem), (id), true, __LINE__)
#define CHECK_UNIDENTIFIED(record, problem, id)                                                    \
	check_record((record), (problem), (id), false, __LINE__)

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

/* ---------- records ---------- */

UNIT_TEST(records_that_can_be_stored)
{
	CHECK_GOOD(GOOD("PFA-1"), "PFA-1");
	CHECK_GOOD("{\"pfaId\":\"PFA-1\",\"version\":1,\"data\":{}}", "PFA-1");
	CHECK_GOOD("{\"pfaId\":\"PFA-1\",\"version\":3.0,\"data\":{}}", "PFA-1");
	CHECK_GOOD("{\"pfaId\":\"PFA-1\",\"version\":2147483647,\"data\":{}}", "PFA-1");
	CHECK_GOOD("{\"pfaId\":\"PFA-1\",\"version\":3,\"deleted\":null" DATA "}", "PFA-1");
	CHECK_GOOD("{\"pfaId\":\"PFA-1\",\"version\":3,\"deleted\":true" DATA "}", "PFA-1");
	CHECK_GOOD("{\"pfaId\":\"PFA-1\",\"version\":3,\"deleted\":true,\"data\":null}", "PFA-1");
	/* of a record that is gone, nothing is to be stored */
	CHECK_GOOD("{\"pfaId\":\"PFA-1\",\"version\":3,\"deleted\":true,\"data\":[1e9999]}", "PFA-1");
	CHECK_GOOD("{\"pfaId\":\"PFA-1\",\"version\":3,\"deleted\":true,\"data\":{\"x\":1e9999}}",
			   "PFA-1");
	/* what is not stored may be what it will */
	CHECK_GOOD("{\"pfaId\":\"PFA-1\",\"version\":3,\"x\":[\"\\u0000\",1e9999]" DATA "}", "PFA-1");
	CHECK_GOOD("{\"pfaId\":\"PFA-1\",\"version\":3,\"updatedAt\":\"\\u0000\"" DATA "}", "PFA-1");
	CHECK_GOOD("{\"pfaId\":\"PFA-1\",\"version\":3,\"lastModifiedBy\":\"\\ud800\"" DATA "}",
			   "PFA-1");
	CHECK_GOOD("{\"pfaId\":\"PFA-1\",\"version\":3,\"organizationCode\":\"RIO\"" DATA "}", "PFA-1");
	CHECK_GOOD("{\"pfaId\":\"PFA-1\",\"version\":3,\"organizationCode\":null" DATA "}", "PFA-1");
}

UNIT_TEST(records_without_a_valid_id)
{
	CHECK_UNIDENTIFIED("7", "it is no JSON object", NULL);
	CHECK_UNIDENTIFIED("[" GOOD("PFA-1") "]", "it is no JSON object", NULL);
	CHECK_UNIDENTIFIED("null", "it is no JSON object", NULL);
	CHECK_UNIDENTIFIED("{}", BAD_ID, NULL);
	CHECK_UNIDENTIFIED("{\"version\":3" DATA "}", BAD_ID, NULL);
	CHECK_UNIDENTIFIED("{\"pfaId\":null,\"version\":3" DATA "}", BAD_ID, NULL);
	CHECK_UNIDENTIFIED("{\"pfaId\":{},\"version\":3" DATA "}", BAD_ID, NULL);
	CHECK_UNIDENTIFIED("{\"pfaId\":12,\"version\":3" DATA "}", BAD_ID, "12");
	CHECK_UNIDENTIFIED(GOOD(""), BAD_ID, NULL);
	CHECK_UNIDENTIFIED(GOOD(".."), BAD_ID, "..");
	CHECK_UNIDENTIFIED(GOOD("a/b"), BAD_ID, "a/b");
	CHECK_UNIDENTIFIED(GOOD(" PFA-1"), BAD_ID, "PFA-1");
	CHECK_UNIDENTIFIED(GOOD("PFA-1\\u0000"), BAD_ID, "PFA-1" FFFD);
	CHECK_UNIDENTIFIED(GOOD("PFA-1\\ud800"), BAD_ID, "PFA-1" FFFD);
	CHECK_UNIDENTIFIED(GOOD("a\xff"), BAD_ID, "a" FFFD);
	CHECK_UNIDENTIFIED(GOOD("a\\n\\u001bb"), BAD_ID, "a b");
	CHECK_GOOD(GOOD("0123456789012345678901234567890123456789012345678901234567890123"),
			   "0123456789012345678901234567890123456789012345678901234567890123");
	CHECK_UNIDENTIFIED(GOOD("01234567890123456789012345678901234567890123456789012345678901234"),
					   BAD_ID, "01234567890123456789012345678901234567890123456789012345678901234");
}

UNIT_TEST(records_without_a_version)
{
	static const char *const versions[] = {"0",
										   "-1",
										   "2147483648",
										   "3.5",
										   "\"3\"",
										   "null",
										   "{}",
										   "true",
										   "1e999",
										   "1e10",
										   "4e-1",
										   "[3]",
										   "99999999999999999999999999"};
	char text[200];

	CHECK_BAD("{\"pfaId\":\"PFA-1\"" DATA "}", BAD_VERSION, "PFA-1");
	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++)
	{
		snprintf(text, sizeof(text), "{\"pfaId\":\"PFA-1\",\"version\":%s" DATA "}", versions[i]);
		CHECK_BAD(text, BAD_VERSION, "PFA-1");
	}
	CHECK_BAD("{\"pfaId\":\"PFA-1\",\"deleted\":true}", BAD_VERSION, "PFA-1");
}

UNIT_TEST(records_whose_data_cannot_be_stored)
{
#define WITH(data) "{\"pfaId\":\"PFA-1\",\"version\":3,\"data\":" data "}"
	CHECK_BAD("{\"pfaId\":\"PFA-1\",\"version\":3}", BAD_DATA, "PFA-1");
	CHECK_BAD(WITH("null"), BAD_DATA, "PFA-1");
	CHECK_BAD(WITH("[]"), BAD_DATA, "PFA-1");
	CHECK_BAD(WITH("\"{}\""), BAD_DATA, "PFA-1");
	CHECK_BAD(WITH("{\"a\":[{\"b\":\"x\\u0000\"}]}"),
			  "a text has \\u0000 in it, which the database cannot hold", "PFA-1");
	CHECK_BAD(WITH("{\"\\udc00\":1}"), "a text has half a character in it (a lone surrogate)",
			  "PFA-1");
	CHECK_BAD(WITH("{\"a\":\"\xc0\xaf\"}"), "a text is not valid UTF-8", "PFA-1");
	CHECK_BAD(WITH("{\"a\":1e1000}"), "a number has more than 1000 digits", "PFA-1");
	CHECK_BAD(WITH("{\"a\":[[{\"b\":1e-1000}]]}"), "a number has more than 1000 digits", "PFA-1");
	CHECK_GOOD(WITH("{\"a\":1e999}"), "PFA-1");
	CHECK_BAD("{\"pfaId\":\"PFA-1\",\"version\":3,\"deleted\":\"true\"" DATA "}",
			  "its member deleted is neither true nor false", "PFA-1");
	CHECK_BAD("{\"pfaId\":\"PFA-1\",\"version\":3,\"deleted\":1" DATA "}",
			  "its member deleted is neither true nor false", "PFA-1");
}

/* A record that begins with before, goes `levels` down, and comes up again. */
static char *
deep_record(size_t levels)
{
	JsonBuffer text = {0};

	pems_json_append_text(&text, "{\"pfaId\":\"PFA-1\",\"version\":3,\"data\":{\"a\":");
	for (size_t i = 0; i < levels; i++)
		pems_json_append_text(&text, "[");
	for (size_t i = 0; i < levels; i++)
		pems_json_append_text(&text, "]");
	pems_json_append_text(&text, "}}");
	return text.data;
}

UNIT_TEST(records_that_are_nested_too_deeply)
{
	char *good = deep_record(PEMS_JSON_MAX_DEPTH - 4);
	char *bad = deep_record(PEMS_JSON_MAX_DEPTH - 1);

	CHECK_GOOD(good, "PFA-1");
	CHECK_BAD(bad, "a value is nested too deeply", "PFA-1");
	free(good);
	free(bad);
}

UNIT_TEST(records_of_another_organization)
{
#define OF(code) "{\"pfaId\":\"PFA-1\",\"version\":3,\"organizationCode\":" code DATA "}"
	CHECK_UNIDENTIFIED(OF("\"RIO2\""), FOREIGN, "PFA-1");
	CHECK_UNIDENTIFIED(OF("\"RI\""), FOREIGN, "PFA-1");
	CHECK_UNIDENTIFIED(OF("\"rio\""), FOREIGN, "PFA-1");
	CHECK_UNIDENTIFIED(OF("\"RIO \""), FOREIGN, "PFA-1");
	CHECK_UNIDENTIFIED(OF("\"RIO\\u0000\""), FOREIGN, "PFA-1");
	CHECK_UNIDENTIFIED(OF("\"\""), FOREIGN, "PFA-1");
	CHECK_UNIDENTIFIED(OF("7"), FOREIGN, "PFA-1");
}

UNIT_TEST(a_page_of_another_organization)
{
	PemsPage page = page_of("{\"success\":true,\"organizationCode\":\"RIO2\",\"records\":["
							"{\"pfaId\":\"PFA-1\",\"version\":3,\"updatedAt\":\"2025-01-31\"" DATA
							"}," OF("\"RIO\"") "]}");

	CHECK_INT(page.count, 2);
	CHECK_TEXT(page.records[0].problem, FOREIGN);
	CHECK_TEXT(page.records[1].problem, NULL);
	CHECK_TEXT(page.newest_updated_at, NULL); /* that record is none of ours */
	pems_page_free(&page);
	page =
		page_of("{\"success\":true,\"organizationCode\":\"RIO\",\"records\":[" GOOD("PFA-1") "]}");
	CHECK_TEXT(page.records[0].problem, NULL);
	pems_page_free(&page);
}

/* ---------- who and when ---------- */

static void
check_instant(const char *text, const char *expected, int line)
{
	char record[300];
	PemsPage page;

	snprintf(record, sizeof(record), "{\"pfaId\":\"PFA-1\",\"version\":3,\"updatedAt\":%s" DATA "}",
			 text);
	page = page_of_record(record);
	if (!CHECK_TEXT(page.records[0].updated_at, expected) ||
		!CHECK_TEXT(page.newest_updated_at, expected) || !CHECK(page.records[0].problem == NULL))
		unit_note("called in line %d", line);
	pems_page_free(&page);
}
#define CHECK_INSTANT(text, expected) check_instant((text), (expected), __LINE__)

UNIT_TEST(instants)
{
	CHECK_INSTANT("\"2025-01-31T23:30:00.1234567-01:00\"", "2025-02-01T00:30:00.123456Z");
	CHECK_INSTANT("\"1969-12-31T23:59:59.999999999Z\"", "1969-12-31T23:59:59.999999Z");
	CHECK_INSTANT("\"0001-01-01T00:00:00Z\"", "0001-01-01T00:00:00.000000Z");
	CHECK_INSTANT("\"9999-12-31T23:59:59Z\"", "9999-12-31T23:59:59.000000Z");
	CHECK_INSTANT("\"0001-01-01T00:00:00+02:00\"", NULL);
	CHECK_INSTANT("\"9999-12-31T23:59:59-02:00\"", NULL);
	CHECK_INSTANT("\"infinity\"", NULL);
	CHECK_INSTANT("\"2025-02-30\"", NULL);
	CHECK_INSTANT("\"\"", NULL);
	CHECK_INSTANT("1738281600", NULL);
	CHECK_INSTANT("null", NULL);
	CHECK_INSTANT("\"2025-01-31\\u0000\"", NULL);
}

UNIT_TEST(the_newest_instant_is_told)
{
#define AT(id, at) "{\"pfaId\":\"" id "\",\"version\":3,\"updatedAt\":\"" at "\"" DATA "}"
	PemsPage page = page_of(
		IN(AT("PFA-1", "2025-01-31T00:00:00Z") "," AT("PFA-2", "2025-01-31T02:00:00+01:00") "," AT(
			"PFA-3", "2025-01-31T00:30:00Z") "," AT("PFA-4", "yesterday")));

	CHECK_TEXT(page.newest_updated_at, "2025-01-31T01:00:00.000000Z");
	pems_page_free(&page);
	/* one that cannot be stored is seen all the same, and so is one that is left out */
	page = page_of(IN(AT("PFA-1", "2025-01-31") ",{\"pfaId\":7,\"updatedAt\":\"2025-02-01\"}"));
	CHECK_TEXT(page.newest_updated_at, "2025-02-01T00:00:00.000000Z");
	pems_page_free(&page);
	page = page_of(IN(AT("PFA-1", "2025-01-31") "," AT("PFA-1", "2025-02-01")));
	CHECK_TEXT(page.newest_updated_at, "2025-02-01T00:00:00.000000Z");
	pems_page_free(&page);
}

static void
check_name(const char *members, const char *expected, int line)
{
	char record[1200];
	PemsPage page;

	snprintf(record, sizeof(record), "{\"pfaId\":\"PFA-1\",\"version\":3%s}", members);
	page = page_of_record(record);
	if (!CHECK_TEXT(page.records[0].modified_by, expected))
		unit_note("called in line %d", line);
	pems_page_free(&page);
}
#define CHECK_NAME(members, expected) check_name((members), (expected), __LINE__)

UNIT_TEST(names)
{
	char members[1000];
	char expected[PEMS_PAGE_MAX_NAME + 1];

	CHECK_NAME(",\"lastModifiedBy\":\"mary\"" DATA, "mary");
	CHECK_NAME(",\"data\":{\"lastModifiedBy\":\"mary\"}", "mary");
	CHECK_NAME(",\"lastModifiedBy\":\"mary\",\"data\":{\"lastModifiedBy\":\"john\"}", "mary");
	CHECK_NAME(",\"lastModifiedBy\":null,\"data\":{\"lastModifiedBy\":\"john\"}", "john");
	CHECK_NAME(DATA, NULL);
	CHECK_NAME(",\"lastModifiedBy\":7" DATA, NULL);
	CHECK_NAME(",\"lastModifiedBy\":\"\"" DATA, NULL);
	CHECK_NAME(",\"lastModifiedBy\":\"a\\u0000\"" DATA, NULL);
	/* cut before the character that does not fit */
	snprintf(members, sizeof(members), ",\"lastModifiedBy\":\"%0*d\xe2\x82\xacx\"" DATA,
			 PEMS_PAGE_MAX_NAME - 1, 1);
	snprintf(expected, sizeof(expected), "%0*d", PEMS_PAGE_MAX_NAME - 1, 1);
	CHECK_NAME(members, expected);
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
	CHECK(pems_text_is_utf8(page.records[0].raw, length));
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
