/*
 * http/transfer.c
 *		One easy handle of libcurl, with the request that it sends and the answer that it receives.
 *
 * Its options are set here: those that never change, those that follow from the
 * settings, and those of each request.  At the end libcurl's code, and what the
 * callbacks of http/connection.c and http/answer.c have noted, become a
 * PemsTransport and a sentence.
 *
 * Process: the background worker.  No PostgreSQL: no ereport, no longjmp.
 * Memory: malloc, and what libcurl allocates.
 */
#include "http/transfer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/redact.h"
#include "http/set_option.h"
#include "shared/monotonic.h"

/* CURLOPT_PROTOCOLS_STR came with 7.85.0; CURLOPT_PREREQFUNCTION and curl_easy_header() before. */
#if LIBCURL_VERSION_NUM < 0x075500
#error "pems_sync needs libcurl 7.85.0 or later"
#endif

/* An answer that has begun may be slow for so long, but for no more than a third of the timeout. */
#define LOW_SPEED_SECONDS 10L

/* Idle connections: how long they are trusted, and how TCP keeps watch over them. */
#define IDLE_SECONDS            60L
#define KEEPALIVE_SECONDS       30L
#define DEFAULT_REQUEST_TIMEOUT 30000L
#define DEFAULT_CONNECT_TIMEOUT 5000L

/* ---------- options ---------- */

/* What a request must not do, and what is better than libcurl's defaults. */
static CURLcode
set_rules(CURL *easy)
{
	CURLcode code = CURLE_OK;

	SET_OPTION(easy, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
	/* Do not wait for a resolver thread that hangs. */
	SET_OPTION(easy, CURLOPT_QUICK_EXIT, 1L);
#endif
	SET_OPTION(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	/* We ask for no encoding; this also makes libcurl decode what comes encoded all the same. */
	SET_OPTION(easy, CURLOPT_ACCEPT_ENCODING, "identity");
	SET_OPTION(easy, CURLOPT_FOLLOWLOCATION, 0L);
	SET_OPTION(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	SET_OPTION(easy, CURLOPT_PROXY, "");
	SET_OPTION(easy, CURLOPT_NOPROXY, "*");
	SET_OPTION(easy, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET_OPTION(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	SET_OPTION(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	SET_OPTION(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	SET_OPTION(easy, CURLOPT_MAXAGE_CONN, IDLE_SECONDS);
	SET_OPTION(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	SET_OPTION(easy, CURLOPT_TCP_KEEPIDLE, KEEPALIVE_SECONDS);
	SET_OPTION(easy, CURLOPT_TCP_KEEPINTVL, KEEPALIVE_SECONDS);
	SET_OPTION(easy, CURLOPT_UPLOAD_BUFFERSIZE, 16L * 1024L);
	return code;
}

/* What never changes while the handle lives. */
static CURLcode
set_fixed_options(HttpTransfer *transfer)
{
	CURL *easy = transfer->easy;
	CURLcode code = CURLE_OK;

	SET_OPTION(easy, CURLOPT_PRIVATE, transfer);
	SET_OPTION(easy, CURLOPT_ERRORBUFFER, transfer->error_buffer);
	if (code == CURLE_OK)
		code = pems_http_connection_attach(easy, &transfer->connection);
	if (code == CURLE_OK)
		code = pems_http_request_attach(easy, &transfer->request);
	if (code == CURLE_OK)
		code = pems_http_answer_attach(easy, &transfer->answer);
	return code == CURLE_OK ? set_rules(easy) : code;
}

static long
low_speed_seconds(long request_timeout_ms)
{
	long third = request_timeout_ms / 3000;

	if (third < 1)
		return 1;
	return third < LOW_SPEED_SECONDS ? third : LOW_SPEED_SECONDS;
}

/* What the settings say. */
static CURLcode
set_client_options(HttpTransfer *transfer, const PemsHttpClientOptions *options)
{
	const char *protocols = options->allow_loopback ? "https,http" : "https";
	CURL *easy = transfer->easy;
	CURLcode code = CURLE_OK;
	long timeout = options->request_timeout_ms;
	long connect = options->connect_timeout_ms;

	timeout = timeout > 0 ? timeout : DEFAULT_REQUEST_TIMEOUT;
	connect = connect > 0 ? connect : DEFAULT_CONNECT_TIMEOUT;
	transfer->connection.allow_loopback = options->allow_loopback;
	transfer->max_response_size = options->max_response_size;
	transfer->answer.low_speed_seconds = low_speed_seconds(timeout);

	SET_OPTION(easy, CURLOPT_TIMEOUT_MS, timeout);
	SET_OPTION(easy, CURLOPT_CONNECTTIMEOUT_MS, connect);
	SET_OPTION(easy, CURLOPT_PROTOCOLS_STR, protocols);
	SET_OPTION(easy, CURLOPT_REDIR_PROTOCOLS_STR, protocols);
	SET_OPTION(easy, CURLOPT_USERAGENT, options->user_agent);
	if (options->ca_file != NULL)
	{
		SET_OPTION(easy, CURLOPT_CAINFO, options->ca_file);
		SET_OPTION(easy, CURLOPT_CAPATH, NULL); /* this file's authorities, and no others */
	}
	return code;
}

/* How much of a body is read, which requests may ask for themselves. */
static CURLcode
limit_answer(HttpTransfer *transfer, size_t asked)
{
	size_t largest = asked > 0 ? asked : transfer->max_response_size;
	CURLcode code = CURLE_OK;

	transfer->answer.body_maximum = largest;
	SET_OPTION(transfer->easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t) largest);
	return code;
}

/* What an earlier request on the same handle may have changed. */
static CURLcode
set_request_defaults(CURL *easy, long authorities_seconds)
{
	CURLcode code = CURLE_OK;

	SET_OPTION(easy, CURLOPT_LOW_SPEED_LIMIT, 0L);
	SET_OPTION(easy, CURLOPT_LOW_SPEED_TIME, 0L);
	SET_OPTION(easy, CURLOPT_FRESH_CONNECT, 0L);
	SET_OPTION(easy, CURLOPT_FORBID_REUSE, 0L);
#if LIBCURL_VERSION_NUM >= 0x075700
	SET_OPTION(easy, CURLOPT_CA_CACHE_TIMEOUT, authorities_seconds);
#else
	(void) authorities_seconds;
#endif
	return code;
}

/* ---------- the life of a transfer ---------- */

HttpTransfer *
pems_http_transfer_create(HttpSockets *sockets)
{
	HttpTransfer *transfer = calloc(1, sizeof(HttpTransfer));

	if (transfer != NULL)
		transfer->connection.sockets = sockets;
	return transfer;
}

/* What only the request needed, the token above all. */
static void
release_request(HttpTransfer *transfer)
{
	if (transfer->easy != NULL)
		curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, NULL);
	pems_http_request_release(&transfer->request);
}

void
pems_http_transfer_free(HttpTransfer *transfer)
{
	release_request(transfer);
	pems_answer_free(&transfer->answer.received);
	curl_easy_cleanup(transfer->easy);
	free(transfer);
}

/*
 * A handle whose transfer failed remembers more than a reset clears: after a
 * resending that was prevented, the next write would fail unsent, because libcurl
 * still wants to rewind.
 */
static void
discard_handle(HttpTransfer *transfer)
{
	curl_easy_cleanup(transfer->easy);
	transfer->easy = NULL;
	transfer->generation = 0;
}

/* A transfer without a handle gets one; one with older options gets these. */
static bool
bring_up_to_date(HttpTransfer *transfer, const PemsHttpClientOptions *options, unsigned generation)
{
	if (transfer->easy == NULL)
		transfer->easy = curl_easy_init();
	else if (transfer->generation == generation)
		return true;
	else
		curl_easy_reset(transfer->easy);
	if (transfer->easy == NULL)
		return false;
	transfer->generation = 0;
	if (set_fixed_options(transfer) != CURLE_OK ||
		set_client_options(transfer, options) != CURLE_OK)
		return false;
	transfer->generation = generation;
	return true;
}

bool
pems_http_transfer_prepare(HttpTransfer *transfer, const PemsHttpClientOptions *options,
						   unsigned generation)
{
	if (!bring_up_to_date(transfer, options, generation))
		return false;
	transfer->started_us = monotonic_us();
	transfer->started_over = false;
	transfer->error_buffer[0] = '\0';
	pems_http_connection_reset(&transfer->connection);
	pems_http_answer_reset(&transfer->answer);
	return true;
}

bool
pems_http_transfer_load(HttpTransfer *transfer, const PemsHttpClientRequest *request,
						long authorities_seconds)
{
	return pems_http_request_copy(&transfer->request, request) &&
		   pems_http_request_set_options(transfer->easy, &transfer->request, request) == CURLE_OK &&
		   limit_answer(transfer, request->max_response_size) == CURLE_OK &&
		   set_request_defaults(transfer->easy, authorities_seconds) == CURLE_OK;
}

/* ---------- how a transfer ended ---------- */

static PemsTransport
transport_of_broken(const HttpTransfer *transfer)
{
	return transfer->answer.received.status != 0 ? PEMS_TRANSPORT_TRUNCATED : PEMS_TRANSPORT_RESET;
}

static bool
is_tls_failure(CURLcode code)
{
	switch (code)
	{
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_SSL_CIPHER:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_CRL_BADFILE:
		case CURLE_SSL_ISSUER_ERROR:
		case CURLE_SSL_ENGINE_NOTFOUND:
		case CURLE_SSL_ENGINE_SETFAILED:
		case CURLE_SSL_ENGINE_INITFAILED:
		case CURLE_SSL_INVALIDCERTSTATUS:
		case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
		case CURLE_SSL_CLIENTCERT:
		case CURLE_USE_SSL_FAILED:
			return true;
		default:
			return false;
	}
}

/* libcurl's words for how a transfer ended, in ours. */
static PemsTransport
transport_of_code(const HttpTransfer *transfer, CURLcode code)
{
	switch (code)
	{
		case CURLE_OK:
			return transfer->answer.received.status != 0 ? PEMS_TRANSPORT_OK : PEMS_TRANSPORT_RESET;
		case CURLE_COULDNT_RESOLVE_HOST:
		case CURLE_COULDNT_RESOLVE_PROXY:
			return PEMS_TRANSPORT_DNS;
		case CURLE_COULDNT_CONNECT:
			return PEMS_TRANSPORT_REFUSED;
		case CURLE_OPERATION_TIMEDOUT:
			return PEMS_TRANSPORT_TIMEOUT;
		case CURLE_FILESIZE_EXCEEDED:
			return PEMS_TRANSPORT_TOO_LARGE;
		case CURLE_BAD_CONTENT_ENCODING:
			return transfer->answer.received.status != 0 ? PEMS_TRANSPORT_ENCODED
														 : PEMS_TRANSPORT_RESET;
		case CURLE_OUT_OF_MEMORY:
			/*
			 * This is also what libcurl says of a header line above 100 kB.  Memory
			 * that runs out just while an answer's headers arrive is the rarer case.
			 */
			if (transfer->connection.sent && transfer->answer.received.body_length == 0)
				return PEMS_TRANSPORT_TOO_LARGE;
			return PEMS_TRANSPORT_INTERNAL;
		case CURLE_URL_MALFORMAT:
		case CURLE_FAILED_INIT:
		case CURLE_NOT_BUILT_IN:
		case CURLE_BAD_FUNCTION_ARGUMENT:
		case CURLE_UNKNOWN_OPTION:
			return transfer->connection.sent ? transport_of_broken(transfer)
											 : PEMS_TRANSPORT_INTERNAL;
		default:
			/* Broken connections, unreadable HTTP, and whatever later versions invent. */
			return is_tls_failure(code) ? PEMS_TRANSPORT_TLS : transport_of_broken(transfer);
	}
}

/* "the answer is encoded as br, and cannot be decoded (why)" */
static void
explain_encoding(HttpTransfer *transfer)
{
	PemsAnswer *received = &transfer->answer.received;
	const char *encoding = pems_http_answer_encoding(&transfer->answer);

	snprintf(received->detail, sizeof(received->detail),
			 "the answer is encoded as %.100s, and cannot be decoded (%.100s)",
			 encoding != NULL ? encoding : "something unknown",
			 transfer->error_buffer[0] != '\0' ? transfer->error_buffer : "it is damaged");
}

/* "the body is larger than 1048576 bytes" */
static void
explain_size(HttpTransfer *transfer, CURLcode code)
{
	const HttpAnswer *answer = &transfer->answer;
	PemsAnswer *received = &transfer->answer.received;
	bool header = code == CURLE_OUT_OF_MEMORY || answer->header_bytes > HTTP_ANSWER_HEADERS_MAXIMUM;

	snprintf(received->detail, sizeof(received->detail), "the %s is larger than %zu bytes",
			 header ? "header" : "body",
			 header ? HTTP_ANSWER_HEADERS_MAXIMUM : answer->body_maximum);
}

static void
set_result(HttpTransfer *transfer, PemsTransport transport, const char *detail)
{
	PemsAnswer *received = &transfer->answer.received;

	received->transport = transport;
	snprintf(received->detail, sizeof(received->detail), "%s", detail);
}

/* What our own callbacks saw says more than the code that libcurl made of it. */
static void
set_result_by_callbacks(HttpTransfer *transfer, CURLcode code)
{
	const HttpConnection *connection = &transfer->connection;

	if (connection->address_forbidden && !connection->address_tried)
		set_result(transfer, PEMS_TRANSPORT_FORBIDDEN_ADDRESS,
				   "the host's address is loopback, link-local, unspecified or multicast");
	else if (connection->unasked && !connection->sent)
		set_result(transfer, PEMS_TRANSPORT_RESET,
				   "the other side sent something, or ended the connection, before the request "
				   "was sent; so it was not sent");
	else if (connection->resend_prevented || code == CURLE_SEND_FAIL_REWIND)
		set_result(transfer, PEMS_TRANSPORT_RESET,
				   "a connection in use broke before an answer came");
	else if (transfer->answer.out_of_memory)
		set_result(transfer, transport_of_broken(transfer), "out of memory");
	else if (transfer->answer.too_large)
		transfer->answer.received.transport = PEMS_TRANSPORT_TOO_LARGE;
}

static void
explain(HttpTransfer *transfer, CURLcode code)
{
	PemsAnswer *received = &transfer->answer.received;
	PemsTransport transport = transport_of_code(transfer, code);

	if (transport == PEMS_TRANSPORT_OK)
	{
		set_result(transfer, transport, "");
		return;
	}
	set_result(transfer, transport,
			   transfer->error_buffer[0] != '\0' ? transfer->error_buffer
												 : curl_easy_strerror(code));
	set_result_by_callbacks(transfer, code);
	if (received->transport == PEMS_TRANSPORT_TOO_LARGE)
		explain_size(transfer, code);
	else if (received->transport == PEMS_TRANSPORT_ENCODED)
		explain_encoding(transfer);
}

/* What came from outside must not show the token to those who read tables and logs. */
static void
redact_answer(PemsAnswer *received, const char *token)
{
	pems_http_redact(received->body, received->body_length, token);
	pems_http_redact(received->detail, strlen(received->detail), token);
}

void
pems_http_transfer_end(HttpTransfer *transfer, CURLcode code)
{
	PemsAnswer *received = &transfer->answer.received;
	long status = 0;

	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	/* An informational status is not the answer. */
	received->status = transfer->connection.sent && status >= 200 ? (int) status : 0;
	received->maybe_sent = transfer->connection.sent;
	pems_http_answer_read_headers(&transfer->answer);
	explain(transfer, code);
	redact_answer(received, pems_http_request_token(&transfer->request));
	if (code != CURLE_OK)
		discard_handle(transfer);
	release_request(transfer);
	received->latency_us = monotonic_us() - transfer->started_us;
}

void
pems_http_transfer_refuse(HttpTransfer *transfer, PemsTransport transport, const char *detail)
{
	set_result(transfer, transport, detail);
	release_request(transfer);
	transfer->answer.received.latency_us = monotonic_us() - transfer->started_us;
}
