/*
 * http/connection_test.c
 *		Which connections are used, and that a request leaves once: src/http/connection.c.
 */
#include "unit.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "http/test_client.h"

/* ---------- sent once ---------- */

static void
serve_one_then_reset(Server *server, int socket, int number)
{
	serve_one_then_close(server, socket, number);
	break_connection(socket);
}

/* Answers one request and closes the connection politely. */
static void
serve_once(Server *server, int socket, int number)
{
	(void) number;
	if (read_request(server, socket))
		send_answer(socket, 200, "", OK_BODY);
}

static void
count_sent(void *owner)
{
	++*(int *) owner;
}

UNIT_TEST(the_owner_is_told_when_a_request_leaves)
{
	Server *server = server_start(serve_one_then_close);
	PemsHttpClient *client = create_client(&default_options);
	char api_url[64];
	char url[128];
	int sent[4] = {0};
	PemsHttpClientRequest request = {.call = PEMS_CALL_UPDATE,
									 .url = url,
									 .api_url = api_url,
									 .token = TOKEN,
									 .body = BODY,
									 .sent = count_sent};

	/* answered, broken on a reused connection, answered, refused */
	for (int i = 0; i < 4; i++)
	{
		PemsAnswer reply;
		void *owner;

		snprintf(api_url, sizeof(api_url), "http://127.0.0.1:%d/api", i < 3 ? server->port : 1);
		snprintf(url, sizeof(url), "%s/pems/pfa/PFA-1", api_url);
		request.owner = &sent[i];
		CHECK(pems_http_client_start(client, &request));
		CHECK_INT(sent[i], 0);
		CHECK(next_answer(client, &owner, &reply));
		CHECK_INT(sent[i], i < 3 ? 1 : 0);
		CHECK_INT(reply.maybe_sent, sent[i]);
		pems_answer_free(&reply);
	}
	pems_http_client_destroy(client);
	server_stop(server);
}

/* The heart of "at most one effect": libcurl alone would send the PUT again. */
static void
check_sent_once(Serve serve, PemsCall second)
{
	Server *server = server_start(serve);
	PemsHttpClient *client = create_client(&default_options);

	CHECK_ANSWER(run_request(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_OK, true, 200);
	CHECK_ANSWER(run_request(client, second, server), PEMS_TRANSPORT_RESET, true, 0);
	CHECK_INT(atomic_load(&server->requests), 2);
	/* and the client goes on with a new connection */
	CHECK_ANSWER(run_request(client, second, server), PEMS_TRANSPORT_OK, true, 200);
	CHECK_INT(atomic_load(&server->requests), 3);
	CHECK_INT(atomic_load(&server->connections), 2);
	pems_http_client_destroy(client);
	server_stop(server);
}

UNIT_TEST(an_update_on_a_reused_connection_that_breaks_is_sent_once)
{
	check_sent_once(serve_one_then_close, PEMS_CALL_UPDATE);
	check_sent_once(serve_one_then_reset, PEMS_CALL_UPDATE);
}

UNIT_TEST(a_delete_on_a_reused_connection_that_breaks_is_sent_once)
{
	check_sent_once(serve_one_then_close, PEMS_CALL_DELETE);
	check_sent_once(serve_one_then_reset, PEMS_CALL_DELETE);
}

UNIT_TEST(a_read_on_a_reused_connection_that_breaks_is_sent_once)
{
	check_sent_once(serve_one_then_close, PEMS_CALL_READ);
	check_sent_once(serve_one_then_reset, PEMS_CALL_READ);
}

UNIT_TEST(a_connection_that_the_server_closed_in_peace_is_replaced)
{
	Server *server = server_start(serve_once);
	PemsHttpClient *client = create_client(&default_options);

	for (int i = 0; i < 4; i++)
	{
		CHECK_ANSWER(run_request(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_OK, true, 200);
		sleep_ms(20); /* for the FIN to arrive */
	}
	CHECK_INT(atomic_load(&server->requests), 4);
	CHECK_INT(atomic_load(&server->connections), 4);
	pems_http_client_destroy(client);
	server_stop(server);
}

/* ---------- what came before the request is no answer ---------- */

/* Says something before anybody asks, and again whenever there is silence. */
static void
serve_unasked(Server *server, int socket, int number)
{
	(void) number;
	while (send_answer(socket, 200, "", OK_BODY) && read_request(server, socket))
		;
}

/* Answers, and then does what load balancers do with connections that nobody uses. */
typedef struct Unasked
{
	const char *bytes; /* NULL: none */
	enum
	{
		UNASKED_STAYS,
		UNASKED_CLOSES,
		UNASKED_RESETS
	} end;
} Unasked;

static const Unasked *unasked;

static atomic_int given_up; /* connections that the client has closed */

static void
serve_unasked_later(Server *server, int socket, int number)
{
	if (number > 0)
	{
		serve_well(server, socket, number);
		return;
	}
	if (!read_request(server, socket) || !send_answer(socket, 200, "", OK_BODY))
		return;
	sleep_ms(20); /* for the client to have taken its answer */
	if (unasked->bytes != NULL)
		send_text(socket, unasked->bytes);
	if (unasked->end == UNASKED_RESETS)
		break_connection(socket);
	else if (unasked->end == UNASKED_CLOSES)
		shutdown(socket, SHUT_WR);
	atomic_fetch_add(&server->busy, 1);
	if (unasked->end != UNASKED_RESETS && !read_request(server, socket))
		atomic_fetch_add(&given_up, 1);
}

static void
check_unasked(const Unasked *what, PemsCall second)
{
	Server *server;
	PemsHttpClient *client = create_client(&default_options);
	char api_url[64];
	char url[128];
	int sent = 0;
	PemsHttpClientRequest request = {.call = second,
									 .url = url,
									 .api_url = api_url,
									 .token = TOKEN,
									 .body = second == PEMS_CALL_READ ? NULL : BODY,
									 .owner = &sent,
									 .sent = count_sent};
	PemsAnswer reply;
	void *owner;

	unasked = what;
	atomic_store(&given_up, 0);
	server = server_start(serve_unasked_later);
	CHECK_ANSWER(run_request(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_OK, true, 200);
	while (atomic_load(&server->busy) == 0)
		sleep_ms(1);
	sleep_ms(20);
	snprintf(api_url, sizeof(api_url), "http://127.0.0.1:%d/api", server->port);
	snprintf(url, sizeof(url), "%s/pems/pfa/PFA-1", api_url);
	CHECK(pems_http_client_start(client, &request));
	CHECK(next_answer(client, &owner, &reply));
	CHECK_TEXT(reply.body, OK_BODY);
	CHECK_ANSWER(reply, PEMS_TRANSPORT_OK, true, 200);
	CHECK_INT(sent, 1);
	CHECK_INT(atomic_load(&server->requests), 2);
	CHECK_INT(atomic_load(&server->connections), 2);
	/* the new connection is as good as any */
	CHECK_ANSWER(run_request(client, second, server), PEMS_TRANSPORT_OK, true, 200);
	CHECK_INT(atomic_load(&server->connections), 2);
	if (what->end != UNASKED_RESETS)
	{
		for (int i = 0; i < 500 && atomic_load(&given_up) == 0; i++)
			sleep_ms(1);
		CHECK_INT(atomic_load(&given_up), 1);
	}
	pems_http_client_destroy(client);
	server_stop(server);
}

UNIT_TEST(what_an_idle_connection_says_is_no_answer)
{
#define TIMEOUT_408 "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
	static const Unasked cases[] = {
		{TIMEOUT_408, UNASKED_CLOSES},
		{TIMEOUT_408, UNASKED_STAYS},
		{"HTTP/1.1 200 OK\r\nContent-Le", UNASKED_STAYS},
		{"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n"
		 "{\"success\":true,\"pfaId\":\"PFA-9\",\"newVersion\":9,\"x\":\"123456\"}",
		 UNASKED_STAYS},
		{"HTTP/1.1 100 Continue\r\n\r\n", UNASKED_STAYS},
		{"\r\n", UNASKED_CLOSES},
		{NULL, UNASKED_CLOSES},
		{NULL, UNASKED_RESETS}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		check_unasked(&cases[i], PEMS_CALL_UPDATE);
		check_unasked(&cases[i], PEMS_CALL_DELETE);
		check_unasked(&cases[i], PEMS_CALL_READ);
	}
#undef TIMEOUT_408
}

/* Each of several idle connections is looked at, and only what is to be dropped is dropped. */
UNIT_TEST(every_idle_connection_is_looked_at)
{
	static const Unasked closes = {"HTTP/1.1 408 No\r\n\r\n", UNASKED_CLOSES};
	Server *server;
	PemsHttpClient *client = create_client(&default_options);
	PemsAnswer reply;
	void *owner;

	unasked = &closes;
	server = server_start(serve_unasked_later);
	for (int round = 0; round < 2; round++)
	{
		for (int i = 0; i < 8; i++)
			CHECK(start_request(client, PEMS_CALL_UPDATE, server, NULL));
		for (int i = 0; i < 8; i++)
		{
			CHECK(next_answer(client, &owner, &reply));
			CHECK_ANSWER(reply, PEMS_TRANSPORT_OK, true, 200);
		}
		while (atomic_load(&server->busy) == 0)
			sleep_ms(1);
		sleep_ms(20);
	}
	CHECK_INT(atomic_load(&server->requests), 16);
	CHECK_INT(atomic_load(&server->connections), 9);
	pems_http_client_destroy(client);
	server_stop(server);
}

/*
 * Whether the server or the client is first on a new connection is a matter of luck.  Between two
 * turns of the client there is time for the server.
 */
UNIT_TEST(what_a_new_connection_says_first_is_no_answer)
{
	int refused = 0;

	for (int i = 0; i < 200 && refused < 3; i++)
	{
		Server *server = server_start(serve_unasked);
		PemsHttpClient *client = create_client(&default_options);
		PemsAnswer reply;
		void *owner;

		CHECK(start_request(client, PEMS_CALL_UPDATE, server, NULL));
		pems_http_client_drive(client);
		sleep_ms(5);
		CHECK(next_answer(client, &owner, &reply));
		if (!reply.maybe_sent)
		{
			refused++;
			CHECK(strstr(reply.detail, "before the request was sent") != NULL);
			CHECK_ANSWER(reply, PEMS_TRANSPORT_RESET, false, 0);
			CHECK_INT(atomic_load(&server->requests), 0);
			CHECK_INT(atomic_load(&server->connections), 1);
		}
		else
			pems_answer_free(&reply);
		pems_http_client_destroy(client);
		server_stop(server);
	}
	CHECK_INT(refused, 3);
}

/* ---------- addresses ---------- */

UNIT_TEST(loopback_is_refused_where_it_is_not_allowed)
{
	static const char *const origins[] = {"https://127.0.0.1",          "https://127.255.0.3",
										  "https://localhost",          "https://[::1]",
										  "https://2130706433",         "https://0x7f.1",
										  "https://[::ffff:127.0.0.1]", "https://a.localhost",
										  "https://[::127.0.0.1]"};
	Server *server = server_start(serve_well);
	PemsHttpClientOptions options = default_options;
	PemsHttpClient *client;

	options.allow_loopback = false;
	client = create_client(&options);
	for (size_t i = 0; i < sizeof(origins) / sizeof(origins[0]); i++)
	{
		PemsAnswer reply = run_request_at(client, PEMS_CALL_UPDATE, origins[i], server->port);

		if (!CHECK_INT(reply.transport, PEMS_TRANSPORT_FORBIDDEN_ADDRESS))
			unit_note("%s: %s", origins[i], reply.detail);
		CHECK(!reply.maybe_sent);
		pems_answer_free(&reply);
	}
	CHECK_INT(atomic_load(&server->connections), 0);
	pems_http_client_destroy(client);
	server_stop(server);
}

UNIT_TEST(other_special_addresses_are_always_refused)
{
	static const char *const origins[] = {"https://0.0.0.0",
										  "https://0.1.2.3",
										  "https://169.254.169.254",
										  "https://224.0.0.1",
										  "https://255.255.255.255",
										  "https://[::]",
										  "https://[fe80::1]",
										  "https://[febf::1]",
										  "https://[ff02::1]",
										  "https://[::ffff:0.0.0.0]",
										  "https://[::ffff:169.254.169.254]",
										  "https://[64:ff9b::7f00:1]",
										  "https://[64:ff9b::169.254.169.254]",
										  "https://[2002:7f00:1::]"};
	PemsHttpClient *client = create_client(&default_options);

	for (size_t i = 0; i < sizeof(origins) / sizeof(origins[0]); i++)
	{
		PemsAnswer reply = run_request_at(client, PEMS_CALL_UPDATE, origins[i], 9);

		if (!CHECK_INT(reply.transport, PEMS_TRANSPORT_FORBIDDEN_ADDRESS))
			unit_note("%s: %s", origins[i], reply.detail);
		CHECK(!reply.maybe_sent);
		pems_answer_free(&reply);
	}
	pems_http_client_destroy(client);
}

UNIT_TEST(idle_connections_survive_new_options_but_not_a_new_rule)
{
	Server *server = server_start(serve_well);
	PemsHttpClientOptions options = default_options;
	PemsHttpClient *client = create_client(&options);

	CHECK_ANSWER(run_request(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_OK, true, 200);
	options.request_timeout_ms = 4000;
	CHECK(pems_http_client_configure(client, &options));
	CHECK_ANSWER(run_request(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_OK, true, 200);
	CHECK_INT(atomic_load(&server->connections), 1);
	options.allow_loopback = false;
	CHECK(pems_http_client_configure(client, &options));
	CHECK_ANSWER(run_request(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_FORBIDDEN_ADDRESS,
				 false, 0);
	CHECK_INT(atomic_load(&server->requests), 2);
	pems_http_client_destroy(client);
	server_stop(server);
}
