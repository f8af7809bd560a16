/*
 * pems/page.h
 *		What PEMS answers to a reading call, as records to be stored: a page of a listing, or one
 *		record.
 *
 * Pure; any process.  A record that cannot be stored is in the page like any other, and says why
 * (problem), so that one of them stops nobody.
 *
 * Memory: malloc.  A page owns all of its texts; the body may be freed when it has been read.  It
 * takes about as many bytes as the body.  While it is read, there are up to three times the body
 * besides, and 200 bytes for each value that is looked at: of these, a body has
 * PEMS_PAGE_MAX_VALUES at most.  Time is linear in the body, and n log n in its records.
 */
#ifndef PEMS_PAGE_H
#define PEMS_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "record/json.h"

/* Bytes of a nextCursor. */
#define PEMS_PAGE_MAX_CURSOR 4096
/* Bytes of a record that cannot be stored that are kept. */
#define PEMS_PAGE_MAX_RAW 65536
/* Bytes of a name (lastModifiedBy) that are kept. */
#define PEMS_PAGE_MAX_NAME 256
/* Records, their members, and the members of their data; a page of 5,000 records of 100 fields
 * has 540,000. */
#define PEMS_PAGE_MAX_VALUES ((size_t) 1000000)

/* A record, as PEMS shows it.  All texts are valid UTF-8, and end with a NUL. */
typedef struct PemsPageRecord
{
	/*
	 * Why it cannot be stored: a static sentence; or NULL.  Then pfa_id is valid, version is at
	 * least 1, and data is there unless the record is deleted.
	 */
	const char *problem;
	/*
	 * pfa_id is a valid one, of the organization that was asked for.  Such a record is there in
	 * PEMS, whatever its problem is; a page has it once.
	 */
	bool identified;
	const char *pfa_id; /* not identified: as far as it can be shown, or NULL */
	int32_t version;    /* 0: none that can be read */
	bool deleted;
	/* the JSON object as PEMS wrote it, which jsonb can hold; NULL: deleted without one, problem */
	const char *data;
	size_t data_length;
	/* an instant of UTC that PostgreSQL can read, "2025-01-31T12:00:00.123456Z"; NULL: none */
	const char *updated_at;
	const char *modified_by; /* lastModifiedBy; NULL: none */
	/* of a record with a problem, its JSON text: invalid UTF-8 replaced, cut at PEMS_PAGE_MAX_RAW
	 */
	const char *raw;
} PemsPageRecord;

typedef struct PemsPage
{
	PemsPageRecord *records; /* in the order of the page */
	size_t count;
	/*
	 * Records that are left out, because the page has the same record in a higher version, or
	 * twice in this one.
	 */
	size_t repeated;
	const char *next_cursor; /* NULL: the listing ends here */
	/* the newest of the updatedAt that can be read, also of records with a problem, but not of
	 * those of other organizations; NULL: none */
	const char *newest_updated_at;
	PemsArena arena; /* private: the memory of all of this */
} PemsPage;

/*
 * Why a body is no page, to go behind "PEMS answered 200 (OK), but": "without records that are an
 * array"; NULL: it is one.  body: the root of a document that has the outer levels, or all.
 */
extern const char *pems_page_problem(const JsonNode *body);

/* Parse a body for the function above; a byte order mark in front of it is no part of it. */
extern bool pems_page_parse(const char *body, size_t length, JsonDocument *document,
							const char **error);

/*
 * Read a page.  A record that names no organization is one of organization_code, unless the page
 * names another.  False: the body is no page, or out of memory; nothing is left to free then, and
 * *error is static.
 */
extern bool pems_page_read(const char *body, size_t length, const char *organization_code,
						   PemsPage *page, const char **error);

/* Read the answer to the read of one record: a page with this record alone. */
extern bool pems_page_read_one(const char *body, size_t length, const char *organization_code,
							   PemsPage *page, const char **error);
extern void pems_page_free(PemsPage *page);

#endif /* PEMS_PAGE_H */
