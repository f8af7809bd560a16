/*
 * pems/request.c
 *		Requests to PEMS; see request.h.
 *
 * Process: any; pure, without PostgreSQL, I/O or a clock.  Memory: malloc.
 */
#include "pems/request.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "record/json.h"

/* The paths of PEMS's API, below api_url.  They stand here and nowhere else. */
#define PATH_RECORD "/pems/pfa/"
#define PATH_LIST   "/pems/pfa"
#define PATH_HEALTH "/pems/health"

#define PFA_ID_MAXIMUM 64

/* ---------- parts of a request ---------- */

const char *
pems_request_method(PemsCall call)
{
	switch (call)
	{
		case PEMS_CALL_UPDATE:
			return "PUT";
		case PEMS_CALL_DELETE:
			return "DELETE";
		case PEMS_CALL_READ:
		case PEMS_CALL_HEALTH:
		case PEMS_CALL_LIST:
			break;
	}
	return "GET";
}

bool
pems_request_is_write(PemsCall call)
{
	return call == PEMS_CALL_UPDATE || call == PEMS_CALL_DELETE;
}

/* Letters and digits of ASCII, whatever the locale says. */
static bool
is_alphanumeric(unsigned char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool
pems_request_valid_pfa_id(const char *pfa_id)
{
	size_t length = 0;

	if (pfa_id == NULL)
		return false;
	for (const char *c = pfa_id; *c != '\0'; c++)
	{
		if (!is_alphanumeric((unsigned char) *c) && *c != '.' && *c != '_' && *c != '-')
			return false;
		if (++length > PFA_ID_MAXIMUM)
			return false;
	}
	return length > 0 && strcmp(pfa_id, ".") != 0 && strcmp(pfa_id, "..") != 0;
}

bool
pems_request_valid_header(const char *value)
{
	if (value == NULL)
		return false;
	for (const unsigned char *c = (const unsigned char *) value; *c != '\0'; c++)
	{
		if (*c < 0x20 || *c == 0x7f)
			return false;
	}
	return true;
}

/* What was built, or NULL when memory ran out on the way. */
static char *
finish(JsonBuffer *buffer)
{
	if (!buffer->failed)
		return buffer->data;
	pems_json_buffer_free(buffer);
	return NULL;
}

/* Escape all but the unreserved characters of RFC 3986. */
static void
append_percent_encoded(JsonBuffer *buffer, const char *text)
{
	for (const unsigned char *c = (const unsigned char *) text; *c != '\0'; c++)
	{
		char escaped[4];

		if (is_alphanumeric(*c) || *c == '-' || *c == '.' || *c == '_' || *c == '~')
		{
			pems_json_append(buffer, (const char *) c, 1);
			continue;
		}
		snprintf(escaped, sizeof(escaped), "%%%02X", *c);
		pems_json_append(buffer, escaped, 3);
	}
}

/* A parameter of the query; introduction: "&cursor=".  Nothing when there is no value. */
static void
append_parameter(JsonBuffer *buffer, const char *introduction, const char *value)
{
	if (value == NULL)
		return;
	pems_json_append_text(buffer, introduction);
	append_percent_encoded(buffer, value);
}

static char *
path_of(PemsCall call, const char *pfa_id, const char *organization_code)
{
	JsonBuffer buffer = {0};

	if (call == PEMS_CALL_HEALTH)
	{
		pems_json_append_text(&buffer, PATH_HEALTH);
		return finish(&buffer);
	}
	if (!pems_request_valid_pfa_id(pfa_id))
		return NULL;
	if (call == PEMS_CALL_READ && organization_code == NULL)
		return NULL;
	pems_json_append_text(&buffer, PATH_RECORD);
	append_percent_encoded(&buffer, pfa_id);
	if (call == PEMS_CALL_READ)
		append_parameter(&buffer, "?organizationCode=", organization_code);
	return finish(&buffer);
}

static char *
path_of_listing(const PemsListing *listing)
{
	JsonBuffer buffer = {0};
	char limit[16];

	if (listing->organization_code == NULL || listing->limit < 1 ||
		(listing->cursor != NULL && *listing->cursor == '\0'))
		return NULL;
	snprintf(limit, sizeof(limit), "%d", listing->limit);
	pems_json_append_text(&buffer, PATH_LIST);
	append_parameter(&buffer, "?organizationCode=", listing->organization_code);
	append_parameter(&buffer, "&updatedSince=", listing->updated_since);
	append_parameter(&buffer, "&cursor=", listing->cursor);
	append_parameter(&buffer, "&limit=", limit);
	return finish(&buffer);
}

static char *
url_of(const char *api_url, const char *path)
{
	JsonBuffer buffer = {0};
	size_t length;

	if (api_url == NULL || path == NULL)
		return NULL;
	length = strlen(api_url);
	while (length > 0 && api_url[length - 1] == '/')
		length--;
	pems_json_append(&buffer, api_url, length);
	pems_json_append_text(&buffer, path);
	return finish(&buffer);
}

/* The member "key":"value"; nothing when there is no value. */
static void
append_member(JsonBuffer *buffer, const char *key, const char *value)
{
	if (value == NULL)
		return;
	pems_json_append_key(buffer, key, strlen(key));
	pems_json_append_string(buffer, value, strlen(value));
}

/* The member "key":value, whose value is JSON. */
static void
append_json(JsonBuffer *buffer, const char *key, const char *json)
{
	pems_json_append_key(buffer, key, strlen(key));
	pems_json_append_text(buffer, json);
}

static char *
write_body(PemsCall call, const PemsWrite *write)
{
	bool update = call == PEMS_CALL_UPDATE;
	JsonBuffer buffer = {0};
	char version[32];

	if (!pems_request_is_write(call) || write->pfa_id == NULL || write->organization_code == NULL)
		return NULL;
	if (update && write->changes == NULL)
		return NULL;
	snprintf(version, sizeof(version), "%" PRId64, write->version);
	pems_json_append_text(&buffer, "{");
	append_member(&buffer, "pfaId", write->pfa_id);
	append_member(&buffer, "organizationCode", write->organization_code);
	if (update)
		append_json(&buffer, "changes", write->changes);
	append_json(&buffer, "version", version);
	append_member(&buffer, "modifiedBy", write->modified_by);
	append_member(&buffer, update ? "changeReason" : "reason", write->reason);
	pems_json_append_text(&buffer, "}");
	return finish(&buffer);
}

/* "<item id>:<number>"; a job's id, too */
static char *
item_number(const char *item_id, int64_t number)
{
	JsonBuffer buffer = {0};
	char digits[32];

	if (item_id == NULL)
		return NULL;
	snprintf(digits, sizeof(digits), ":%" PRId64, number);
	pems_json_append_text(&buffer, item_id);
	pems_json_append_text(&buffer, digits);
	return finish(&buffer);
}

/* ---------- whole requests ---------- */

static bool
compose_write(PemsCall call, const PemsWrite *write, const char *item_id, PemsRequest *request)
{
	request->body = write_body(call, write);
	request->idempotency_key = item_number(item_id, write->version);
	return request->body != NULL && request->idempotency_key != NULL;
}

static bool
compose(PemsCall call, const char *api_url, const PemsWrite *write, const char *item_id,
		int64_t attempt, PemsRequest *request)
{
	if (call == PEMS_CALL_LIST || (call != PEMS_CALL_HEALTH && write == NULL))
		return false;
	request->path =
		path_of(call, write ? write->pfa_id : NULL, write ? write->organization_code : NULL);
	request->url = url_of(api_url, request->path);
	if (request->url == NULL)
		return false;
	if (call == PEMS_CALL_HEALTH)
		return true;
	request->request_id = item_number(item_id, attempt);
	return request->request_id != NULL &&
		   (!pems_request_is_write(call) || compose_write(call, write, item_id, request));
}

bool
pems_request_compose(PemsCall call, const char *api_url, const PemsWrite *write,
					 const char *item_id, int64_t attempt, PemsRequest *request)
{
	*request = (PemsRequest){0};
	if (compose(call, api_url, write, item_id, attempt, request))
		return true;
	pems_request_free(request);
	return false;
}

bool
pems_request_compose_listing(const char *api_url, const PemsListing *listing, const char *job_id,
							 int64_t number, PemsRequest *request)
{
	*request = (PemsRequest){0};
	request->path = path_of_listing(listing);
	request->url = url_of(api_url, request->path);
	request->request_id = item_number(job_id, number);
	if (request->url != NULL && request->request_id != NULL)
		return true;
	pems_request_free(request);
	return false;
}

void
pems_request_free(PemsRequest *request)
{
	free(request->path);
	free(request->url);
	free(request->body);
	free(request->idempotency_key);
	free(request->request_id);
	*request = (PemsRequest){0};
}
