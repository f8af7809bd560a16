/*
 * http/answer.c
 *		What a transfer receives: the body, a few headers, and limits for both.
 *
 * Process: the background worker, inside of libcurl: no PostgreSQL, no longjmp.  A
 * callback that meets a problem notes it in the HttpAnswer and returns short, which
 * makes libcurl end the transfer.
 * Memory: malloc.
 *
 * Limits: the body, as it is sent and as it is decoded (body_maximum); all header
 * lines together (64 kB); a header's value that is used (128 bytes); and from the
 * first line of an answer on, how slow it may be.
 *
 * Headers are read by libcurl (curl_easy_header()): it knows which lines belong to
 * an informational answer or a trailer, joins folded lines, and of a header that
 * comes twice we ask for the first.
 */
#include "http/answer.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "http/retry_after.h"
#include "http/set_option.h"

/* A Retry-After or Date that is longer than this is not one. */
#define HEADER_VALUE_MAXIMUM 128

/* An answer that has begun must bring this many bytes a second. */
#define LOW_SPEED_BYTES 64L

/* ---------- the body ---------- */

static bool
grow_body(HttpAnswer *answer, size_t needed)
{
	size_t capacity = answer->body_capacity < 1024 ? 1024 : answer->body_capacity * 2;
	char *grown;

	if (capacity < needed)
		capacity = needed;
	grown = realloc(answer->received.body, capacity);
	if (grown == NULL)
		return false;
	answer->received.body = grown;
	answer->body_capacity = capacity;
	return true;
}

static size_t
on_body(char *data, size_t size, size_t count, void *owner)
{
	HttpAnswer *answer = owner;
	PemsAnswer *received = &answer->received;
	size_t length = size * count;

	if (length > answer->body_maximum - received->body_length)
	{
		answer->too_large = true;
		return 0;
	}
	if (received->body_length + length + 1 > answer->body_capacity &&
		!grow_body(answer, received->body_length + length + 1))
	{
		answer->out_of_memory = true;
		return 0;
	}
	memcpy(received->body + received->body_length, data, length);
	received->body_length += length;
	received->body[received->body_length] = '\0';
	return length;
}

/* on_body() counts what is decoded; this, what arrives, and may decode to nothing for ever. */
static int
on_progress(void *owner, curl_off_t expected, curl_off_t arrived, curl_off_t to_send,
			curl_off_t sent)
{
	HttpAnswer *answer = owner;

	(void) expected;
	(void) to_send;
	(void) sent;
	if (arrived > 0 && (size_t) arrived > answer->body_maximum)
		answer->too_large = true;
	return answer->too_large;
}

/* ---------- headers ---------- */

/* Statuses that say that this connection will not do: too slow, another server's, too early. */
static bool
is_about_connection(long status)
{
	return status == 408 || status == 421 || status == 425;
}

/*
 * After a status line.  Once its answer has begun, PEMS must go on with it.  Not before: it may
 * think for as long as the request's timeout lets it.
 */
static void
begin_answer(HttpAnswer *answer)
{
	long status = 0;

	curl_easy_getinfo(answer->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status < 100 || status >= 200)
	{
		curl_easy_setopt(answer->easy, CURLOPT_LOW_SPEED_LIMIT, LOW_SPEED_BYTES);
		curl_easy_setopt(answer->easy, CURLOPT_LOW_SPEED_TIME, answer->low_speed_seconds);
	}
	if (is_about_connection(status))
		curl_easy_setopt(answer->easy, CURLOPT_FORBID_REUSE, 1L);
}

/* libcurl hands over each header line, with its end, and the status line as the first one. */
static size_t
on_header(char *line, size_t size, size_t count, void *owner)
{
	HttpAnswer *answer = owner;
	size_t length = size * count;

	answer->header_bytes += length;
	if (answer->header_bytes > HTTP_ANSWER_HEADERS_MAXIMUM)
	{
		answer->too_large = true;
		return 0;
	}
	if (length >= 5 && memcmp(line, "HTTP/", 5) == 0)
		begin_answer(answer);
	return length;
}

/* The first header of this name in the answer itself, or NULL; libcurl's memory. */
static const char *
header_value(const HttpAnswer *answer, const char *name)
{
	const int last_request = -1;
	struct curl_header *header;

	if (curl_easy_header(answer->easy, name, 0, CURLH_HEADER, last_request, &header) != CURLHE_OK)
		return NULL;
	return header->value;
}

static char *
copy_header(const HttpAnswer *answer, const char *name)
{
	const char *value = header_value(answer, name);
	/* libcurl 7.88 leaves the CR in a value that is empty. */
	size_t length = value != NULL ? strcspn(value, "\r\n") : 0;

	return value != NULL && length <= HEADER_VALUE_MAXIMUM ? strndup(value, length) : NULL;
}

/* ---------- what transfers call ---------- */

CURLcode
pems_http_answer_attach(CURL *easy, HttpAnswer *answer)
{
	CURLcode code = CURLE_OK;

	answer->easy = easy;
	SET_OPTION(easy, CURLOPT_WRITEFUNCTION, on_body);
	SET_OPTION(easy, CURLOPT_WRITEDATA, answer);
	SET_OPTION(easy, CURLOPT_HEADERFUNCTION, on_header);
	SET_OPTION(easy, CURLOPT_HEADERDATA, answer);
	SET_OPTION(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
	SET_OPTION(easy, CURLOPT_XFERINFODATA, answer);
	SET_OPTION(easy, CURLOPT_NOPROGRESS, 0L);
	return code;
}

void
pems_http_answer_reset(HttpAnswer *answer)
{
	answer->too_large = false;
	answer->out_of_memory = false;
	answer->header_bytes = 0;
	answer->body_capacity = 0;
}

void
pems_http_answer_read_headers(HttpAnswer *answer)
{
	char *retry_after = copy_header(answer, "Retry-After");
	char *date = copy_header(answer, "Date");

	answer->received.has_retry_after = retry_after != NULL;
	if (retry_after != NULL)
		answer->received.retry_after_s =
			pems_http_retry_after_seconds(retry_after, date, (int64_t) time(NULL));
	free(retry_after);
	free(date);
}

const char *
pems_http_answer_encoding(const HttpAnswer *answer)
{
	const char *encoding = header_value(answer, "Content-Encoding");

	return encoding != NULL ? encoding : header_value(answer, "Transfer-Encoding");
}
