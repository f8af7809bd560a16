/*
 * http/transfer_test.c
 *		How a transfer ends: src/http/transfer.c.
 */
#include "unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/test_client.h"

/* ---------- broken connections ---------- */

/* Closes with a reset after it read the request. */
static void
serve_reset(Server *server, int socket, int number)
{
	(void) number;
	read_request(server, socket);
	break_connection(socket);
}

static void
serve_empty(Server *server, int socket, int number)
{
	(void) number;
	read_request(server, socket);
}

static void
serve_garbage(Server *server, int socket, int number)
{
	(void) number;
	read_request(server, socket);
	send_text(socket, "SSH-2.0-OpenSSH_9.2p1 Debian\r\n");
}

static void
serve_truncated(Server *server, int socket, int number)
{
	(void) number;
	read_request(server, socket);
	send_text(socket, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"success\":");
}

static void
serve_truncated_error(Server *server, int socket, int number)
{
	(void) number;
	read_request(server, socket);
	send_text(socket, "HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"succ");
}

UNIT_TEST(refused)
{
	PemsHttpClient *client = create_client(&default_options);
	int port;
	int listener = listen_anywhere(1, &port);

	close(listener);
	CHECK_ANSWER(run_request_at(client, PEMS_CALL_UPDATE, "http://127.0.0.1", port),
				 PEMS_TRANSPORT_REFUSED, false, 0);
	pems_http_client_destroy(client);
}

UNIT_TEST(broken_connections)
{
	CHECK_MISBEHAVIOUR(serve_reset, PEMS_TRANSPORT_RESET, 0);
	CHECK_MISBEHAVIOUR(serve_empty, PEMS_TRANSPORT_RESET, 0);
	CHECK_MISBEHAVIOUR(serve_garbage, PEMS_TRANSPORT_RESET, 0);
	CHECK_MISBEHAVIOUR(serve_truncated, PEMS_TRANSPORT_TRUNCATED, 200);
	CHECK_MISBEHAVIOUR(serve_truncated_error, PEMS_TRANSPORT_TRUNCATED, 401);
}

static void
serve_without_tls(Server *server, int socket, int number)
{
	(void) number;
	if (recv(socket, server->last, REQUEST_MAXIMUM - 1, 0) > 0)
		send_text(socket, "220 this is no TLS\r\n");
}

UNIT_TEST(a_tls_failure_sends_nothing)
{
	Server *server = server_start(serve_without_tls);
	PemsHttpClient *client = create_client(&default_options);

	CHECK_ANSWER(run_request_at(client, PEMS_CALL_UPDATE, "https://127.0.0.1", server->port),
				 PEMS_TRANSPORT_TLS, false, 0);
	CHECK_INT(atomic_load(&server->connections), 1);
	CHECK(strstr(server->last, TOKEN) == NULL);
	pems_http_client_destroy(client);
	server_stop(server);
}

/* ---------- time ---------- */

UNIT_TEST(a_server_that_never_answers)
{
	Server *server = server_start(serve_never);
	PemsHttpClientOptions options = default_options;
	PemsHttpClient *client;
	PemsAnswer reply;

	options.request_timeout_ms = 300;
	client = create_client(&options);
	reply = run_request(client, PEMS_CALL_UPDATE, server);
	CHECK(reply.latency_us >= 250000 && reply.latency_us < 1500000);
	CHECK_ANSWER(reply, PEMS_TRANSPORT_TIMEOUT, true, 0);
	pems_http_client_destroy(client);
	server_stop(server);
}

/* Nobody accepts, and the queue of the listener is full: the handshake hangs. */
UNIT_TEST(a_connection_that_never_comes)
{
	PemsHttpClientOptions options = default_options;
	PemsHttpClient *client;
	int port;
	int listener = listen_anywhere(0, &port);
	struct sockaddr_in address = {.sin_family = AF_INET,
								  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
								  .sin_port = htons((uint16_t) port)};
	int fillers[4];
	PemsAnswer reply;

	for (int i = 0; i < 4; i++)
	{
		fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void) connect(fillers[i], (struct sockaddr *) &address, sizeof(address));
	}
	sleep_ms(20);
	options.connect_timeout_ms = 300;
	client = create_client(&options);
	reply = run_request_at(client, PEMS_CALL_UPDATE, "http://127.0.0.1", port);
	CHECK(reply.latency_us < 2000000);
	CHECK_ANSWER(reply, PEMS_TRANSPORT_TIMEOUT, false, 0);
	pems_http_client_destroy(client);
	for (int i = 0; i < 4; i++)
		close(fillers[i]);
	close(listener);
}

/* ---------- the token ---------- */

/* An error page that shows the request. */
static void
serve_mirror(Server *server, int socket, int number)
{
	(void) number;
	read_request(server, socket);
	send_answer(socket, 500, "Retry-After: " TOKEN "\r\n", server->last);
}

UNIT_TEST(a_page_that_shows_the_token_does_not)
{
	Server *server = server_start(serve_mirror);
	PemsHttpClient *client = create_client(&default_options);
	PemsAnswer reply = run_request(client, PEMS_CALL_UPDATE, server);

	CHECK(strstr(server->last, TOKEN) != NULL);
	CHECK(strstr(reply.body, TOKEN) == NULL);
	CHECK(strstr(reply.body, "Bearer ****") != NULL);
	CHECK_INT(reply.retry_after_s, -1);
	CHECK_ANSWER(reply, PEMS_TRANSPORT_OK, true, 500);
	pems_http_client_destroy(client);
	server_stop(server);
}

/* Error pages that promise more than comes, and end within the token. */
static void
serve_mirror_in_part(Server *server, int socket, int number)
{
	(void) number;
	read_request(server, socket);
	send_text(socket, "HTTP/1.1 500 No\r\nContent-Length: 1000\r\n\r\n");
	send_text(socket, "Bearer canary-token-0");
}

UNIT_TEST(a_page_that_breaks_off_within_the_token_does_not)
{
	Server *server = server_start(serve_mirror_in_part);
	PemsHttpClient *client = create_client(&default_options);
	PemsAnswer reply = run_request(client, PEMS_CALL_READ, server);

	CHECK_TEXT(reply.body, "Bearer **************");
	CHECK_ANSWER(reply, PEMS_TRANSPORT_TRUNCATED, true, 500);
	pems_http_client_destroy(client);
	server_stop(server);
}
