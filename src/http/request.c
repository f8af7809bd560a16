/*
 * http/request.c
 *		What a transfer sends: header lines and a body that leaves once.
 *
 * The body of a write comes from a callback that cannot go back to its beginning.
 * So libcurl cannot send a write a second time by itself: it fails with
 * CURLE_SEND_FAIL_REWIND.  (http/connection.c stops a second sending, too.)
 *
 * Process: the background worker; the callbacks run inside of libcurl: no
 * PostgreSQL, no longjmp.
 * Memory: malloc; the header line with the token is zeroed before it is freed.
 *
 * Known limit: libcurl's own copy of the header lines is freed, not zeroed.
 */
#include "http/request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/set_option.h"
#include "pems/judge.h"

#define AUTHORIZATION_PREFIX "Authorization: Bearer "

const char *
pems_http_request_problem(const PemsHttpClientRequest *asked)
{
	if (asked->token == NULL || *asked->token == '\0' || !pems_request_valid_header(asked->token))
		return "the token is missing or holds a control character";
	if (asked->idempotency_key != NULL && !pems_request_valid_header(asked->idempotency_key))
		return "the idempotency key holds a control character";
	if (asked->request_id != NULL && !pems_request_valid_header(asked->request_id))
		return "the request id holds a control character";
	/* An empty body needs no rewinding, so libcurl could send the write again. */
	if (pems_request_is_write(asked->call) && (asked->body == NULL || *asked->body == '\0'))
		return "a write without a body";
	return NULL;
}

/* ---------- callbacks of libcurl ---------- */

static size_t
on_read(char *buffer, size_t size, size_t count, void *owner)
{
	HttpRequest *request = owner;
	size_t room = size * count;
	size_t left = request->body_length - request->body_sent;
	size_t length = left < room ? left : room;

	memcpy(buffer, request->body + request->body_sent, length);
	request->body_sent += length;
	return length;
}

/* A write is never sent twice by libcurl: its body cannot be had again. */
static int
on_seek(void *owner, curl_off_t offset, int origin)
{
	(void) owner;
	(void) offset;
	(void) origin;
	return CURL_SEEKFUNC_FAIL;
}

CURLcode
pems_http_request_attach(CURL *easy, HttpRequest *request)
{
	CURLcode code = CURLE_OK;

	SET_OPTION(easy, CURLOPT_READFUNCTION, on_read);
	SET_OPTION(easy, CURLOPT_READDATA, request);
	SET_OPTION(easy, CURLOPT_SEEKFUNCTION, on_seek);
	return code;
}

/* ---------- the copy ---------- */

/* "<prefix><value>", or NULL */
static char *
joined(const char *prefix, const char *value)
{
	size_t prefix_length = strlen(prefix);
	size_t value_length = strlen(value);
	char *text = malloc(prefix_length + value_length + 1);

	if (text != NULL)
		snprintf(text, prefix_length + value_length + 1, "%s%s", prefix, value);
	return text;
}

/* An optional header line.  False: out of memory. */
static bool
copy_line(const char *prefix, const char *value, char **line)
{
	if (value == NULL || *value == '\0')
		return true;
	*line = joined(prefix, value);
	return *line != NULL;
}

/* Make the list that libcurl wants, of the lines that there are. */
static void
link_headers(HttpRequest *request, bool has_body)
{
	static char accept[] = "Accept: application/json";
	static char content_type[] = "Content-Type: application/json";
	static char no_expect[] = "Expect:"; /* libcurl would ask first whether it may send the body */
	char *lines[HTTP_REQUEST_HEADERS] = {
		request->authorization,         accept,
		has_body ? content_type : NULL, has_body ? no_expect : NULL,
		request->idempotency_key,       request->request_id};
	int count = 0;

	for (int i = 0; i < HTTP_REQUEST_HEADERS; i++)
	{
		if (lines[i] == NULL)
			continue;
		request->headers[count].data = lines[i];
		request->headers[count].next = NULL;
		if (count > 0)
			request->headers[count - 1].next = &request->headers[count];
		count++;
	}
}

bool
pems_http_request_copy(HttpRequest *request, const PemsHttpClientRequest *asked)
{
	bool has_body = pems_request_is_write(asked->call);

	request->body_length = 0;
	request->body_sent = 0;
	if (!copy_line(AUTHORIZATION_PREFIX, asked->token, &request->authorization) ||
		!copy_line("Idempotency-Key: ", asked->idempotency_key, &request->idempotency_key) ||
		!copy_line("X-Request-Id: ", asked->request_id, &request->request_id))
		return false;
	if (has_body)
	{
		request->body = strdup(asked->body);
		if (request->body == NULL)
			return false;
		request->body_length = strlen(request->body);
	}
	link_headers(request, has_body);
	return true;
}

CURLcode
pems_http_request_set_options(CURL *easy, HttpRequest *request, const PemsHttpClientRequest *asked)
{
	CURLcode code = CURLE_OK;

	SET_OPTION(easy, CURLOPT_URL, asked->url);
	SET_OPTION(easy, CURLOPT_HTTPHEADER, request->headers);
	SET_OPTION(easy, CURLOPT_HTTPGET, 1L);
	SET_OPTION(easy, CURLOPT_CUSTOMREQUEST, NULL);
	SET_OPTION(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t) -1);
	if (pems_request_is_write(asked->call))
	{
		SET_OPTION(easy, CURLOPT_UPLOAD, 1L); /* makes it a PUT */
		SET_OPTION(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t) request->body_length);
	}
	if (asked->call == PEMS_CALL_DELETE)
		SET_OPTION(easy, CURLOPT_CUSTOMREQUEST, pems_request_method(asked->call));
	return code;
}

const char *
pems_http_request_token(const HttpRequest *request)
{
	return request->authorization + strlen(AUTHORIZATION_PREFIX);
}

void
pems_http_request_release(HttpRequest *request)
{
	if (request->authorization != NULL)
		explicit_bzero(request->authorization, strlen(request->authorization));
	free(request->authorization);
	free(request->idempotency_key);
	free(request->request_id);
	free(request->body);
	request->authorization = NULL;
	request->idempotency_key = NULL;
	request->request_id = NULL;
	request->body = NULL;
}
