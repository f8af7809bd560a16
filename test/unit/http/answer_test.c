/*
 * http/answer_test.c
 *		What is received, and its limits: src/http/answer.c.
 */
#include "unit.h"

#include <stdio.h>
#include <string.h>

#include "http/test_client.h"

/* ---------- limits ---------- */

static void
serve_large_length(Server *server, int socket, int number)
{
	(void) number;
	read_request(server, socket);
	send_text(socket, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
	read_request(server, socket);
}

static void
serve_endless_body(Server *server, int socket, int number)
{
	(void) number;
	read_request(server, socket);
	if (send_text(socket, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
	{
		while (send_text(socket, "10\r\n0123456789abcdef\r\n"))
			;
	}
}

static void
serve_endless_headers(Server *server, int socket, int number)
{
	(void) number;
	read_request(server, socket);
	if (send_text(socket, "HTTP/1.1 200 OK\r\n"))
	{
		while (send_text(socket, "X-More: 0123456789abcdef\r\n"))
			;
	}
}

static void
serve_endless_header_line(Server *server, int socket, int number)
{
	(void) number;
	read_request(server, socket);
	if (send_text(socket, "HTTP/1.1 200 OK\r\nX-More: "))
	{
		while (send_text(socket, "0123456789abcdef"))
			;
	}
}

static void
serve_endless_informational(Server *server, int socket, int number)
{
	(void) number;
	read_request(server, socket);
	while (send_text(socket, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"))
		;
}

UNIT_TEST(answers_too_large)
{
	CHECK_MISBEHAVIOUR(serve_large_length, PEMS_TRANSPORT_TOO_LARGE, 200);
	CHECK_MISBEHAVIOUR(serve_endless_body, PEMS_TRANSPORT_TOO_LARGE, 200);
	CHECK_MISBEHAVIOUR(serve_endless_headers, PEMS_TRANSPORT_TOO_LARGE, 200);
	CHECK_MISBEHAVIOUR(serve_endless_header_line, PEMS_TRANSPORT_TOO_LARGE, 200);
	CHECK_MISBEHAVIOUR(serve_endless_informational, PEMS_TRANSPORT_TOO_LARGE, 0);
}

UNIT_TEST(the_largest_body_allowed)
{
	Server *server = server_start(serve_well);
	PemsHttpClientOptions options = default_options;
	PemsHttpClient *client;

	options.max_response_size = strlen(OK_BODY);
	client = create_client(&options);
	CHECK_ANSWER(run_request(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_OK, true, 200);
	options.max_response_size--;
	CHECK(pems_http_client_configure(client, &options));
	CHECK_ANSWER(run_request(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_TOO_LARGE, true,
				 200);
	pems_http_client_destroy(client);
	server_stop(server);
}

/* A status and then silence. */
static void
serve_stalled(Server *server, int socket, int number)
{
	(void) number;
	read_request(server, socket);
	send_text(socket, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{");
	read_request(server, socket); /* until the client goes away */
}

/* request_timeout is 3 s, so an answer may stall for one. */
UNIT_TEST(an_answer_that_stalls)
{
	Server *server = server_start(serve_stalled);
	PemsHttpClientOptions options = default_options;
	PemsHttpClient *client;
	PemsAnswer reply;

	options.request_timeout_ms = 3000;
	client = create_client(&options);
	reply = run_request(client, PEMS_CALL_UPDATE, server);
	CHECK(reply.latency_us < 2900000);
	CHECK_ANSWER(reply, PEMS_TRANSPORT_TIMEOUT, true, 200);
	pems_http_client_destroy(client);
	server_stop(server);
}

/* The silence before an answer is not a stall; the same handle also forgets the one before. */
UNIT_TEST(a_server_that_thinks)
{
	Server *server = server_start(serve_slowly);
	PemsHttpClientOptions options = default_options;
	PemsHttpClient *client;

	options.request_timeout_ms = 200;
	client = create_client(&options);
	for (int i = 0; i < 3; i++)
		CHECK_ANSWER(run_request(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_OK, true, 200);
	pems_http_client_destroy(client);
	server_stop(server);
}

/* ---------- encoded answers ---------- */

/* Answers whose body is encoded, though nobody asked for it. */
typedef struct Encoded
{
	const char *header;
	const unsigned char *body;
	size_t length;
} Encoded;

static const Encoded *encoded;

static void
serve_encoded(Server *server, int socket, int number)
{
	char head[256];

	(void) number;
	while (read_request(server, socket))
	{
		snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n%s\r\n\r\n",
				 encoded->length, encoded->header);
		if (!send_text(socket, head) ||
			!send_all(socket, (const char *) encoded->body, encoded->length))
			break;
	}
}

/* Empty blocks of deflate, without an end: much that becomes nothing. */
static void
serve_endless_nothing(Server *server, int socket, int number)
{
	static const char block[] = "a\r\n\0\0\0\377\377\0\0\0\377\377\r\n";

	(void) number;
	read_request(server, socket);
	if (send_text(socket, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
						  "Content-Encoding: deflate\r\n\r\n"))
	{
		while (send_all(socket, block, sizeof(block) - 1))
			;
	}
}

/* OK_BODY in gzip, the same in deflate, and 100,000 zeros in gzip. */
static const unsigned char in_gzip[] = {
	0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xab, 0x56, 0x2a, 0x2e,
	0x4d, 0x4e, 0x4e, 0x2d, 0x2e, 0x56, 0xb2, 0x2a, 0x29, 0x2a, 0x4d, 0xd5, 0x51, 0x2a,
	0x48, 0x4b, 0xf4, 0x4c, 0x51, 0xb2, 0x52, 0x0a, 0x70, 0x73, 0xd4, 0x35, 0x54, 0xd2,
	0x51, 0xca, 0x4b, 0x2d, 0x0f, 0x4b, 0x2d, 0x2a, 0xce, 0xcc, 0xcf, 0x53, 0xb2, 0x32,
	0xd1, 0x51, 0x2a, 0x2d, 0x48, 0x49, 0x2c, 0x49, 0x4d, 0x71, 0x2c, 0x01, 0x2a, 0x31,
	0x32, 0x30, 0x32, 0xd5, 0x35, 0x30, 0xd4, 0x35, 0x34, 0x0d, 0x31, 0x30, 0xb0, 0x02,
	0xa3, 0x28, 0xa5, 0x5a, 0x00, 0x73, 0x02, 0xcb, 0x47, 0x52, 0x00, 0x00, 0x00};
static const unsigned char in_deflate[] = {
	0x78, 0x9c, 0xab, 0x56, 0x2a, 0x2e, 0x4d, 0x4e, 0x4e, 0x2d, 0x2e, 0x56, 0xb2, 0x2a, 0x29,
	0x2a, 0x4d, 0xd5, 0x51, 0x2a, 0x48, 0x4b, 0xf4, 0x4c, 0x51, 0xb2, 0x52, 0x0a, 0x70, 0x73,
	0xd4, 0x35, 0x54, 0xd2, 0x51, 0xca, 0x4b, 0x2d, 0x0f, 0x4b, 0x2d, 0x2a, 0xce, 0xcc, 0xcf,
	0x53, 0xb2, 0x32, 0xd1, 0x51, 0x2a, 0x2d, 0x48, 0x49, 0x2c, 0x49, 0x4d, 0x71, 0x2c, 0x01,
	0x2a, 0x31, 0x32, 0x30, 0x32, 0xd5, 0x35, 0x30, 0xd4, 0x35, 0x34, 0x0d, 0x31, 0x30, 0xb0,
	0x02, 0xa3, 0x28, 0xa5, 0x5a, 0x00, 0x33, 0x04, 0x17, 0xfb};
static const unsigned char bomb_in_gzip[] = {
	0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xed, 0xc1, 0x31, 0x01, 0x00,
	0x00, 0x00, 0xc2, 0xa0, 0xf5, 0x4f, 0x6d, 0x0d, 0x0f, 0xa0, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x80, 0x57, 0x03, 0x7d, 0x95, 0x11, 0xd4, 0xa0, 0x86, 0x01, 0x00};

UNIT_TEST(an_answer_that_is_encoded_is_decoded)
{
	static const Encoded good[] = {
		{"Content-Encoding: gzip", in_gzip, sizeof(in_gzip)},
		{"content-encoding: x-gzip", in_gzip, sizeof(in_gzip)},
		{"Content-Encoding: deflate", in_deflate, sizeof(in_deflate)},
		{"Content-Encoding: identity", (const unsigned char *) OK_BODY, sizeof(OK_BODY) - 1}};
	PemsHttpClient *client = create_client(&default_options);

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
	{
		Server *server;

		encoded = &good[i];
		server = server_start(serve_encoded);
		for (int again = 0; again < 2; again++)
		{
			PemsAnswer reply = run_request(client, PEMS_CALL_UPDATE, server);

			CHECK_TEXT(reply.body, OK_BODY);
			CHECK_ANSWER(reply, PEMS_TRANSPORT_OK, true, 200);
		}
		server_stop(server);
	}
	pems_http_client_destroy(client);
}

/* What is decoded counts, and so does what decodes to nothing. */
UNIT_TEST(a_small_answer_that_decodes_to_a_large_one)
{
	static const Encoded bomb = {"Content-Encoding: gzip", bomb_in_gzip, sizeof(bomb_in_gzip)};
	static const Encoded small = {"Content-Encoding: gzip", in_gzip, sizeof(in_gzip)};
	PemsHttpClientOptions options = default_options;
	Server *server;
	PemsHttpClient *client;

	encoded = &bomb;
	CHECK_MISBEHAVIOUR(serve_encoded, PEMS_TRANSPORT_TOO_LARGE, 200);
	CHECK_MISBEHAVIOUR(serve_endless_nothing, PEMS_TRANSPORT_TOO_LARGE, 200);
	encoded = &small;
	options.max_response_size = strlen(OK_BODY) - 1;
	server = server_start(serve_encoded);
	client = create_client(&options);
	CHECK_ANSWER(run_request(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_TOO_LARGE, true,
				 200);
	pems_http_client_destroy(client);
	server_stop(server);
}

static void
check_undecoded(const Encoded *what, const char *named)
{
	PemsHttpClient *client = create_client(&default_options);
	Server *server;
	PemsAnswer reply;

	encoded = what;
	server = server_start(serve_encoded);
	reply = run_request(client, PEMS_CALL_UPDATE, server);
	if (!CHECK(strstr(reply.detail, named) != NULL))
		unit_note("%s", reply.detail);
	CHECK_ANSWER(reply, PEMS_TRANSPORT_ENCODED, true, 200);
	pems_http_client_destroy(client);
	server_stop(server);
}

UNIT_TEST(an_answer_that_cannot_be_decoded_says_so)
{
	const unsigned char *plain = (const unsigned char *) OK_BODY;
	const Encoded unknown = {"Content-Encoding: rot13", plain, sizeof(OK_BODY) - 1};
	const Encoded wrong = {"Content-Encoding: gzip", plain, sizeof(OK_BODY) - 1};
	const Encoded both = {"Content-Encoding: rot13, gzip", in_gzip, sizeof(in_gzip)};
	const Encoded secret = {"Content-Encoding: " TOKEN, plain, sizeof(OK_BODY) - 1};

	check_undecoded(&unknown, "the answer is encoded as rot13, and cannot be decoded");
	check_undecoded(&wrong, "the answer is encoded as gzip, and cannot be decoded");
	check_undecoded(&both, "the answer is encoded as rot13, gzip, and cannot be decoded");
	/* run_request() looks that the token is in no detail */
	check_undecoded(&secret, "the answer is encoded as ***");
}

/* ---------- status and headers ---------- */

static void
serve_redirect(Server *server, int socket, int number)
{
	char headers[128];

	(void) number;
	snprintf(headers, sizeof(headers), "Location: http://127.0.0.1:%d/api/pems/elsewhere\r\n",
			 server->port);
	while (read_request(server, socket) && send_answer(socket, 307, headers, ""))
		;
}

UNIT_TEST(redirects_are_not_followed)
{
	Server *server = server_start(serve_redirect);
	PemsHttpClient *client = create_client(&default_options);

	CHECK_ANSWER(run_request(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_OK, true, 307);
	CHECK_ANSWER(run_request(client, PEMS_CALL_READ, server), PEMS_TRANSPORT_OK, true, 307);
	CHECK_INT(atomic_load(&server->requests), 2);
	pems_http_client_destroy(client);
	server_stop(server);
}

/* Answers with a status that is about the connection, and would go on with it. */
static int status_about_connection;

static void
serve_about_connection(Server *server, int socket, int number)
{
	while (read_request(server, socket) &&
		   send_answer(socket, number == 0 ? status_about_connection : 200, "", OK_BODY))
		;
}

UNIT_TEST(a_connection_is_not_used_again_after_408_421_425)
{
	static const int statuses[] = {408, 421, 425, 409};

	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
	{
		Server *server;
		PemsHttpClient *client = create_client(&default_options);
		bool kept = statuses[i] == 409;

		status_about_connection = statuses[i];
		server = server_start(serve_about_connection);
		CHECK_ANSWER(run_request(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_OK, true,
					 statuses[i]);
		for (int again = 0; again < 2; again++)
			CHECK_ANSWER(run_request(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_OK, true,
						 kept ? 409 : 200);
		CHECK_INT(atomic_load(&server->connections), kept ? 1 : 2);
		CHECK_INT(atomic_load(&server->requests), 3);
		pems_http_client_destroy(client);
		server_stop(server);
	}
}

static void
serve_throttle(Server *server, int socket, int number)
{
	(void) number;
	read_request(server, socket);
	send_text(socket, "HTTP/1.1 103 Early Hints\r\nRetry-After: 1\r\n\r\n");
	send_answer(socket, 429,
				"retry-after: \t 17 \r\nRetry-After: 99\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
				"");
}

UNIT_TEST(retry_after_and_date)
{
	Server *server = server_start(serve_throttle);
	PemsHttpClient *client = create_client(&default_options);
	PemsAnswer reply = run_request(client, PEMS_CALL_UPDATE, server);

	CHECK(reply.has_retry_after);
	CHECK_INT(reply.retry_after_s, 17);
	CHECK_ANSWER(reply, PEMS_TRANSPORT_OK, true, 429);
	pems_http_client_destroy(client);
	server_stop(server);
}

/* Header lines of an answer to a 429, and what is made of them. */
typedef struct HeaderCase
{
	const char *lines;
	bool has_retry_after;
	int64_t retry_after_s;
} HeaderCase;

static const HeaderCase *header_case;

static void
serve_headers(Server *server, int socket, int number)
{
	(void) number;
	while (read_request(server, socket) && send_answer(socket, 429, header_case->lines, "slow"))
		;
}

#define LONG_VALUE                                                                                 \
	"17 and so on and so on and so on and so on and so on and so on and so on and so on and so "   \
	"on and so on and so on and so on and so on and so on and so on"

/* All on one connection and with one handle: nothing is left of the answer before. */
UNIT_TEST(which_header_counts)
{
	static const HeaderCase cases[] = {
		{"Retry-After: 17\r\n", true, 17},
		{"", false, 0},
		{"RETRY-AFTER:17\r\ndate:now\r\n", true, 17},
		{"Retry-After: Sun, 06 Nov 1994 08:49:57 GMT\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
		 true, 20},
		{"Retry-After: 17\r\nRetry-After: 99\r\n", true, 17},
		{"Retry-After:\r\nRetry-After: 99\r\n", true, -1},
		{"Retry-After: 17\r\n 99\r\n", true, -1}, /* a folded line */
		{"Retry-After: " LONG_VALUE "\r\nRetry-After: 99\r\n", false, 0},
		{"X-Retry-After: 17\r\nRetry-After-X: 18\r\n", false, 0}};
	PemsHttpClient *client = create_client(&default_options);
	Server *server = server_start(serve_headers);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		PemsAnswer reply;

		header_case = &cases[i];
		reply = run_request(client, PEMS_CALL_UPDATE, server);
		CHECK(reply.has_retry_after == cases[i].has_retry_after);
		CHECK_INT(reply.retry_after_s, cases[i].retry_after_s);
		CHECK_ANSWER(reply, PEMS_TRANSPORT_OK, true, 429);
	}
	CHECK_INT(atomic_load(&server->connections), 1);
	pems_http_client_destroy(client);
	server_stop(server);
}

static void
serve_trailer(Server *server, int socket, int number)
{
	(void) number;
	read_request(server, socket);
	send_text(socket,
			  "HTTP/1.1 429 No\r\nTransfer-Encoding: chunked\r\nTrailer: Retry-After\r\n\r\n"
			  "4\r\nslow\r\n0\r\nRetry-After: 17\r\nHTTP/1.1: 408 what\r\n\r\n");
}

static void
serve_hint_only(Server *server, int socket, int number)
{
	(void) number;
	read_request(server, socket);
	send_text(socket, "HTTP/1.1 103 Early Hints\r\nRetry-After: 17\r\n\r\n");
}

UNIT_TEST(neither_a_trailer_nor_a_hint_is_a_header)
{
	static const Serve ways[] = {serve_trailer, serve_hint_only};

	for (size_t i = 0; i < 2; i++)
	{
		PemsHttpClient *client = create_client(&default_options);
		Server *server = server_start(ways[i]);
		PemsAnswer reply = run_request(client, PEMS_CALL_UPDATE, server);

		CHECK(!reply.has_retry_after);
		if (i == 0)
			CHECK_ANSWER(reply, PEMS_TRANSPORT_OK, true, 429);
		else
			CHECK_ANSWER(reply, PEMS_TRANSPORT_RESET, true, 0);
		pems_http_client_destroy(client);
		server_stop(server);
	}
}
