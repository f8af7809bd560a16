/*
 * pems/status.c
 *		HTTP statuses in words; see status.h.
 *
 * Pure; any process.  No memory is allocated.
 */
#include "pems/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

static const struct
{
	int status;
	const char *phrase;
} phrases[] = {{200, "OK"},
			   {201, "Created"},
			   {202, "Accepted"},
			   {204, "No Content"},
			   {301, "Moved Permanently"},
			   {302, "Found"},
			   {303, "See Other"},
			   {307, "Temporary Redirect"},
			   {308, "Permanent Redirect"},
			   {400, "Bad Request"},
			   {401, "Unauthorized"},
			   {403, "Forbidden"},
			   {404, "Not Found"},
			   {405, "Method Not Allowed"},
			   {408, "Request Timeout"},
			   {409, "Conflict"},
			   {410, "Gone"},
			   {412, "Precondition Failed"},
			   {413, "Content Too Large"},
			   {415, "Unsupported Media Type"},
			   {421, "Misdirected Request"},
			   {422, "Unprocessable Content"},
			   {423, "Locked"},
			   {425, "Too Early"},
			   {429, "Too Many Requests"},
			   {500, "Internal Server Error"},
			   {501, "Not Implemented"},
			   {502, "Bad Gateway"},
			   {503, "Service Unavailable"},
			   {504, "Gateway Timeout"}};

/* What PEMS writes in `error`; of a prefix, anything may follow. */
static const struct
{
	const char *word;
	bool is_prefix;
	int status;
} errors[] = {{"VERSION_CONFLICT", false, 409},
			  {"CONFLICT", false, 409},
			  {"PRECONDITION_FAILED", false, 412},
			  {"NOT_FOUND", false, 404},
			  {"RECORD_NOT_FOUND", false, 404},
			  {"PFA_NOT_FOUND", false, 404},
			  {"GONE", false, 410},
			  {"UNAUTHORIZED", false, 401},
			  {"UNAUTHENTICATED", false, 401},
			  {"FORBIDDEN", false, 403},
			  {"ORGANIZATION_FORBIDDEN", true, 403},
			  {"ORGANISATION_FORBIDDEN", true, 403},
			  {"REQUEST_TIMEOUT", false, 408},
			  {"TIMEOUT", false, 408},
			  {"MISDIRECTED_REQUEST", false, 421},
			  {"LOCKED", false, 423},
			  {"TOO_EARLY", false, 425},
			  {"RATE_LIMIT", true, 429},
			  {"TOO_MANY_REQUESTS", false, 429},
			  {"INVALID_REQUEST", true, 400},
			  {"BAD_REQUEST", false, 400},
			  {"VALIDATION", true, 422},
			  {"SERVER_ERROR", true, 500},
			  {"INTERNAL", true, 500},
			  {"BAD_GATEWAY", false, 502},
			  {"SERVICE_UNAVAILABLE", false, 503},
			  {"UNAVAILABLE", false, 503},
			  {"GATEWAY_TIMEOUT", false, 504}};

const char *
pems_status_phrase(int status)
{
	for (size_t i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++)
	{
		if (phrases[i].status == status)
			return phrases[i].phrase;
	}
	return NULL;
}

int
pems_status_of_error(const char *error)
{
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
	{
		const char *word = errors[i].word;

		if (errors[i].is_prefix ? strncasecmp(error, word, strlen(word)) == 0
								: strcasecmp(error, word) == 0)
			return errors[i].status;
	}
	return 0;
}
