/*
 * url_fuzz.c
 *		libFuzzer target: whatever the organization's code and the PFA id are, the
 *		URL keeps the host and path of its api_url and gives the values back.
 *
 * Input: api_url, pfa_id and organization_code, each up to a NUL.
 */
#include "pems/api_url.h"
#include "http/client.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
promise(bool kept)
{
	if (!kept)
		abort();
}

static char *
next_text(const uint8_t **data, size_t *size)
{
	size_t length = strnlen((const char *) *data, *size);
	char *text = strndup((const char *) *data, length);

	if (length < *size)
		length++;
	*data += length;
	*size -= length;
	return text;
}

/* One part of a URL as libcurl reads it; "" when it has none. */
static char *
part_of(const char *url, CURLUPart part, unsigned flags)
{
	CURLU *handle = curl_url();
	char *text = NULL;
	char *copy;

	promise(curl_url_set(handle, CURLUPART_URL, url, 0) == CURLUE_OK);
	curl_url_get(handle, part, &text, flags);
	copy = strdup(text != NULL ? text : "");
	curl_free(text);
	curl_url_cleanup(handle);
	return copy;
}

static void
check_same(const char *url, const char *api_url, CURLUPart part)
{
	char *ours = part_of(url, part, 0);
	char *theirs = part_of(api_url, part, 0);

	promise(strcmp(ours, theirs) == 0);
	free(ours);
	free(theirs);
}

/* api_url has been found fit, so the URL must end in exactly this record and organization. */
static void
check_url(const char *api_url, const char *url, const char *pfa_id, const char *code)
{
	char *path = part_of(url, CURLUPART_PATH, 0);
	char *query = part_of(url, CURLUPART_QUERY, 0);
	char *decoded = curl_easy_unescape(NULL, query, 0, NULL);
	char *fragment = part_of(url, CURLUPART_FRAGMENT, 0);
	size_t tail = strlen("/pems/pfa/") + strlen(pfa_id);

	check_same(url, api_url, CURLUPART_SCHEME);
	check_same(url, api_url, CURLUPART_HOST);
	check_same(url, api_url, CURLUPART_PORT);
	check_same(url, api_url, CURLUPART_USER);
	promise(*fragment == '\0');
	promise(strlen(path) >= tail);
	promise(strncmp(path + strlen(path) - tail, "/pems/pfa/", 10) == 0);
	promise(strcmp(path + strlen(path) - strlen(pfa_id), pfa_id) == 0);
	promise(strncmp(decoded, "organizationCode=", 17) == 0);
	promise(strcmp(decoded + 17, code) == 0);
	promise(strchr(query, '&') == NULL && strchr(query, '#') == NULL);
	curl_free(decoded);
	free(fragment);
	free(query);
	free(path);
}

/* Every host is allowed that the api_url itself names. */
static bool
is_fit(const char *api_url)
{
	char *endpoint = pems_api_url_endpoint(api_url);
	char *host = endpoint != NULL ? strdup(strstr(endpoint, "://") + 3) : NULL;
	char *error = NULL;
	const char *hint = NULL;
	bool fit = false;

	if (host != NULL)
	{
		*strrchr(host, ':') = '\0';
		fit = pems_api_url_check(api_url, host, true, &error, &hint);
	}
	promise(fit || host == NULL || (error != NULL && hint != NULL));
	if (!fit)
		free(error);
	free(host);
	free(endpoint);
	return fit;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *api_url = next_text(&data, &size);
	char *pfa_id = next_text(&data, &size);
	char *code = next_text(&data, &size);
	PemsWrite write = {.pfa_id = pfa_id, .organization_code = code};
	PemsRequest request;
	bool composed = pems_request_compose(PEMS_CALL_READ, api_url, &write, "0190-a", 1, &request);

	promise(composed == pems_request_valid_pfa_id(pfa_id));
	for (const char *c = request.path; c != NULL && *c != '\0'; c++)
		promise(*c > 0x20 && *c < 0x7f && strchr("\\\"#<>", *c) == NULL);
	if (is_fit(api_url) && composed)
		check_url(api_url, request.url, pfa_id, code);
	pems_request_free(&request);
	free(code);
	free(pfa_id);
	free(api_url);
	return 0;
}
