/*
 * pems/request_test.c
 *		Unit tests of src/pems/request.c.
 */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "pems/request.h"

/* Compare a malloc'ed text and free it. */
static void
check_made(char *actual, const char *expected, int line)
{
	if (!CHECK_TEXT(actual, expected))
		unit_note("called in line %d", line);
	free(actual);
}
#define CHECK_MADE(actual, expected) check_made((actual), (expected), __LINE__)

#define API_URL "https://pems.example.com/api/"

/* One text of a request that is composed, malloc'ed; NULL where it cannot be. */
static char *
path(PemsCall call, const char *pfa_id, const char *organization_code)
{
	PemsWrite write = {.pfa_id = pfa_id, .organization_code = organization_code, .changes = "{}"};
	PemsRequest request;
	char *text = NULL;

	if (pems_request_compose(call, API_URL, &write, "0190-a", 1, &request))
		text = strdup(request.path);
	pems_request_free(&request);
	return text;
}

static char *
body(PemsCall call, const PemsWrite *write)
{
	PemsRequest request;
	char *text = NULL;

	if (pems_request_compose(call, API_URL, write, "0190-a", 1, &request) && request.body)
		text = strdup(request.body);
	pems_request_free(&request);
	return text;
}

static char *
health_url(const char *api_url)
{
	PemsRequest request;
	char *text = NULL;

	if (pems_request_compose(PEMS_CALL_HEALTH, api_url, NULL, NULL, 0, &request))
		text = strdup(request.url);
	pems_request_free(&request);
	return text;
}

UNIT_TEST(methods)
{
	CHECK_TEXT(pems_request_method(PEMS_CALL_UPDATE), "PUT");
	CHECK_TEXT(pems_request_method(PEMS_CALL_DELETE), "DELETE");
	CHECK_TEXT(pems_request_method(PEMS_CALL_READ), "GET");
	CHECK_TEXT(pems_request_method(PEMS_CALL_HEALTH), "GET");
	CHECK_TEXT(pems_request_method(PEMS_CALL_LIST), "GET");
}

UNIT_TEST(pfa_ids)
{
	static const char *const good[] = {"PFA-12345", "a", "...", "A.b_c-9", "-", "_", ".a"};
	static const char *const bad[] = {"",     ".",      "..",   "a/b",      "a b", "a%2f", "a?b",
									  "a#b",  "a\nb",   "a\\b", "\xc3\xa4", "a;b", "a:b",  "a'b",
									  "a\"b", "../pfa", "a&b",  "a+b",      "a~b", "\x7f"};
	char text[66];

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		CHECK(pems_request_valid_pfa_id(good[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		if (!CHECK(!pems_request_valid_pfa_id(bad[i])))
			unit_note("id: %s", bad[i]);
		CHECK_MADE(path(PEMS_CALL_UPDATE, bad[i], "RIO"), NULL);
	}
	CHECK(!pems_request_valid_pfa_id(NULL));
	memset(text, 'a', sizeof(text));
	text[65] = '\0';
	CHECK(!pems_request_valid_pfa_id(text));
	text[64] = '\0';
	CHECK(pems_request_valid_pfa_id(text));
}

UNIT_TEST(header_values)
{
	CHECK(pems_request_valid_header("abc.def-_~+/="));
	CHECK(pems_request_valid_header(""));
	CHECK(!pems_request_valid_header(NULL));
	CHECK(!pems_request_valid_header("a\r\nX-Evil: 1"));
	CHECK(!pems_request_valid_header("a\n"));
	CHECK(!pems_request_valid_header("\r"));
	CHECK(!pems_request_valid_header("a\tb"));
	CHECK(!pems_request_valid_header("a\x7f"));
	CHECK(!pems_request_valid_header("\x01"));
}

UNIT_TEST(paths)
{
	CHECK_MADE(path(PEMS_CALL_UPDATE, "PFA-1", "RIO"), "/pems/pfa/PFA-1");
	CHECK_MADE(path(PEMS_CALL_DELETE, "PFA-1", "RIO"), "/pems/pfa/PFA-1");
	CHECK_MADE(path(PEMS_CALL_DELETE, "PFA-1", NULL), NULL);
	CHECK_MADE(path(PEMS_CALL_READ, "PFA-1", "RIO"), "/pems/pfa/PFA-1?organizationCode=RIO");
	CHECK_MADE(path(PEMS_CALL_HEALTH, NULL, NULL), "/pems/health");
	CHECK_MADE(path(PEMS_CALL_READ, "PFA-1", "R&D/\xc3\x9c x?#%=+~\r\n.."),
			   "/pems/pfa/PFA-1?organizationCode=R%26D%2F%C3%9C%20x%3F%23%25%3D%2B~%0D%0A..");
	CHECK_MADE(path(PEMS_CALL_READ, "PFA-1", NULL), NULL);
	CHECK_MADE(path(PEMS_CALL_READ, NULL, "RIO"), NULL);
}

UNIT_TEST(urls)
{
	CHECK_MADE(health_url("https://pems.example.com/api"),
			   "https://pems.example.com/api/pems/health");
	CHECK_MADE(health_url("https://pems.example.com/api///"),
			   "https://pems.example.com/api/pems/health");
	CHECK_MADE(health_url("https://pems.example.com"), "https://pems.example.com/pems/health");
	CHECK_MADE(health_url(NULL), NULL);
}

UNIT_TEST(write_bodies)
{
	PemsWrite write = {.pfa_id = "PFA-12345",
					   .organization_code = "RIO",
					   .changes = "{\"monthlyRate\": 5500.00}",
					   .version = 3,
					   .modified_by = "john.doe@example.com",
					   .reason = "Budget \"cut\"\n\xc3\xbc"};

	CHECK_MADE(body(PEMS_CALL_UPDATE, &write),
			   "{\"pfaId\":\"PFA-12345\",\"organizationCode\":\"RIO\",\"changes\":"
			   "{\"monthlyRate\": 5500.00},\"version\":3,\"modifiedBy\":\"john.doe@example.com\","
			   "\"changeReason\":\"Budget \\\"cut\\\"\\n\xc3\xbc\"}");
	write.reason = "obsolete";
	CHECK_MADE(body(PEMS_CALL_DELETE, &write),
			   "{\"pfaId\":\"PFA-12345\",\"organizationCode\":\"RIO\",\"version\":3,"
			   "\"modifiedBy\":\"john.doe@example.com\",\"reason\":\"obsolete\"}");
	write.reason = NULL;
	write.modified_by = NULL;
	write.version = INT64_C(9223372036854775807);
	CHECK_MADE(body(PEMS_CALL_DELETE, &write),
			   "{\"pfaId\":\"PFA-12345\",\"organizationCode\":\"RIO\","
			   "\"version\":9223372036854775807}");
	CHECK_MADE(body(PEMS_CALL_READ, &write), NULL);
	write.changes = NULL;
	CHECK_MADE(body(PEMS_CALL_UPDATE, &write), NULL);
}

UNIT_TEST(updates_and_deletes_are_writes)
{
	CHECK(pems_request_is_write(PEMS_CALL_UPDATE));
	CHECK(pems_request_is_write(PEMS_CALL_DELETE));
	CHECK(!pems_request_is_write(PEMS_CALL_READ));
	CHECK(!pems_request_is_write(PEMS_CALL_HEALTH));
	CHECK(!pems_request_is_write(PEMS_CALL_LIST));
}

UNIT_TEST(a_request_is_composed_at_once)
{
	PemsWrite write = {.pfa_id = "PFA-1",
					   .organization_code = "RIO",
					   .changes = "{\"dor\":\"BEO\"}",
					   .version = 3};
	PemsRequest request;

	if (!CHECK(pems_request_compose(PEMS_CALL_UPDATE, API_URL, &write, "0190-a", 2, &request)))
		return;
	CHECK_TEXT(request.path, "/pems/pfa/PFA-1");
	CHECK_TEXT(request.url, "https://pems.example.com/api/pems/pfa/PFA-1");
	CHECK_TEXT(request.body, "{\"pfaId\":\"PFA-1\",\"organizationCode\":\"RIO\",\"changes\":"
							 "{\"dor\":\"BEO\"},\"version\":3}");
	CHECK_TEXT(request.idempotency_key, "0190-a:3");
	CHECK_TEXT(request.request_id, "0190-a:2");
	pems_request_free(&request);
	CHECK(request.url == NULL && request.body == NULL);

	if (CHECK(pems_request_compose(PEMS_CALL_READ, API_URL, &write, "0190-a", 3, &request)))
	{
		CHECK_TEXT(request.path, "/pems/pfa/PFA-1?organizationCode=RIO");
		CHECK(request.body == NULL && request.idempotency_key == NULL);
		CHECK_TEXT(request.request_id, "0190-a:3");
		pems_request_free(&request);
	}
	if (CHECK(pems_request_compose(PEMS_CALL_HEALTH, API_URL, NULL, NULL, 0, &request)))
	{
		CHECK_TEXT(request.url, "https://pems.example.com/api/pems/health");
		CHECK(request.body == NULL && request.request_id == NULL);
		pems_request_free(&request);
	}
}

UNIT_TEST(what_cannot_be_composed_leaves_nothing)
{
	PemsWrite write = {.pfa_id = "..", .organization_code = "RIO", .changes = "{}"};
	PemsRequest request;

	CHECK(!pems_request_compose(PEMS_CALL_READ, API_URL, &write, "0190-a", 1, &request));
	CHECK(request.path == NULL);
	write.pfa_id = "PFA-1";
	write.changes = NULL;
	CHECK(!pems_request_compose(PEMS_CALL_UPDATE, API_URL, &write, "0190-a", 1, &request));
	CHECK(request.path == NULL && request.url == NULL && request.request_id == NULL);
	CHECK(!pems_request_compose(PEMS_CALL_DELETE, API_URL, &write, NULL, 1, &request));
	CHECK(!pems_request_compose(PEMS_CALL_HEALTH, NULL, NULL, NULL, 1, &request));
	CHECK(!pems_request_compose(PEMS_CALL_LIST, API_URL, &write, "0190-a", 1, &request));
	CHECK(request.path == NULL && request.url == NULL && request.request_id == NULL);
}

/* ---------- pages ---------- */

static char *
listing_path(const PemsListing *listing)
{
	PemsRequest request;
	char *text = NULL;

	if (pems_request_compose_listing(API_URL, listing, "0190-b", 1, &request))
		text = strdup(request.path);
	else
		CHECK(request.path == NULL && request.url == NULL && request.request_id == NULL);
	pems_request_free(&request);
	return text;
}

static bool
is_refused(const PemsListing *listing)
{
	char *path = listing_path(listing);
	bool refused = path == NULL;

	free(path);
	return refused;
}

UNIT_TEST(pages_are_asked_for)
{
	PemsListing listing = {.organization_code = "RIO", .limit = 500};
	PemsRequest request;

	CHECK_MADE(listing_path(&listing), "/pems/pfa?organizationCode=RIO&limit=500");
	listing.cursor = "a b+c/d=&x";
	CHECK_MADE(listing_path(&listing),
			   "/pems/pfa?organizationCode=RIO&cursor=a%20b%2Bc%2Fd%3D%26x&limit=500");
	listing.organization_code = "R&D";
	listing.updated_since = "2025-01-15T00:00:00.5+02:00";
	if (!CHECK(pems_request_compose_listing(API_URL, &listing, "0190-b", 7, &request)))
		return;
	CHECK_TEXT(request.url,
			   "https://pems.example.com/api/pems/pfa?organizationCode=R%26D&updatedSince="
			   "2025-01-15T00%3A00%3A00.5%2B02%3A00&cursor=a%20b%2Bc%2Fd%3D%26x&limit=500");
	CHECK_TEXT(request.request_id, "0190-b:7");
	CHECK(request.body == NULL && request.idempotency_key == NULL);
	pems_request_free(&request);
}

UNIT_TEST(a_page_that_cannot_be_asked_for)
{
	PemsListing listing = {.organization_code = "RIO", .limit = 1};
	PemsRequest request;

	CHECK_MADE(listing_path(&listing), "/pems/pfa?organizationCode=RIO&limit=1");
	CHECK(!pems_request_compose_listing(API_URL, &listing, NULL, 1, &request));
	CHECK(request.path == NULL && request.url == NULL);
	CHECK(!pems_request_compose_listing(NULL, &listing, "0190-b", 1, &request));
	listing.cursor = "";
	CHECK(is_refused(&listing));
	listing.cursor = NULL;
	listing.limit = 0;
	CHECK(is_refused(&listing));
	listing.limit = -1;
	CHECK(is_refused(&listing));
	listing.limit = 1;
	listing.organization_code = NULL;
	CHECK(is_refused(&listing));
}
