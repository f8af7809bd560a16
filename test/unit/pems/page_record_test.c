/*
 * pems/page_record_test.c
 *		Unit tests of src/pems/page.c: which records can be stored, what is wrong with
 *		the others, who changed them, and when.
 */
#include "unit.h"
#include "pems/pages.h"

#define BAD_ID      "its pfaId is missing or not valid (1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-')"
#define BAD_DATA    "its data is missing or no JSON object"
#define BAD_VERSION "its version is missing or no integer from 1 to 2147483647"
#define FOREIGN     "its organizationCode is that of another organization"

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
