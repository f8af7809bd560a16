/*
 * pages.h
 *		What the tests of pages share: bodies, and reading them.
 */
#ifndef PAGES_H
#define PAGES_H

#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pems/page.h"

#define DATA     ",\"data\":{\"dor\":\"BEO\"}"
#define GOOD(id) "{\"pfaId\":\"" id "\",\"version\":3" DATA "}"
#define IN(list) "{\"success\":true,\"records\":[" list "],\"nextCursor\":null}"
#define FFFD     "\xef\xbf\xbd"

/* Read a body of RIO, from a copy of its exact size that is gone when the page is looked at. */
static inline PemsPage
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

static inline PemsPage
page_of(const char *body)
{
	return page_of_bytes(body, strlen(body));
}

#endif /* PAGES_H */
