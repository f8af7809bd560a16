/*
 * http/client_test.c
 *		Many requests at a time: src/http/client.c.
 */
#include "unit.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "http/test_client.h"

/* ---------- many at a time ---------- */

UNIT_TEST(two_hundred_requests_sixteen_in_flight)
{
	Server *server = server_start(serve_slowly);
	PemsHttpClient *client = create_client(&default_options);
	static bool answered[200];
	int started = 0;
	int ended = 0;

	memset(answered, 0, sizeof(answered));
	while (ended < 200)
	{
		PemsAnswer reply;
		void *owner;

		for (; started < 200 && pems_http_client_in_flight(client) < 16; started++)
			CHECK(start_request(client, started % 2 == 0 ? PEMS_CALL_UPDATE : PEMS_CALL_READ,
								server, &answered[started]));
		if (!CHECK(next_answer(client, &owner, &reply)))
			break;
		CHECK(!*(bool *) owner);
		*(bool *) owner = true;
		ended++;
		CHECK_ANSWER(reply, PEMS_TRANSPORT_OK, true, 200);
	}
	CHECK_INT(pems_http_client_in_flight(client), 0);
	CHECK_INT(atomic_load(&server->requests), 200);
	CHECK_INT(atomic_load(&server->connections), 16);
	CHECK_INT(atomic_load(&server->busiest), 16);
	pems_http_client_destroy(client);
	server_stop(server);
}

UNIT_TEST(destroying_a_client_does_not_wait)
{
	Server *server = server_start(serve_never);
	PemsHttpClient *client = create_client(&default_options);
	int64_t begin;

	for (int i = 0; i < 16; i++)
		CHECK(start_request(client, PEMS_CALL_UPDATE, server, NULL));
	begin = now_ms();
	while (atomic_load(&server->requests) < 16 && now_ms() < begin + 5000)
	{
		pems_http_client_drive(client);
		sleep_ms(1);
	}
	CHECK_INT(atomic_load(&server->requests), 16);
	CHECK_INT(pems_http_client_in_flight(client), 16);
	begin = now_ms();
	pems_http_client_destroy(client);
	CHECK(now_ms() - begin < 100);
	server_stop(server);

	/* never driven; finished and not fetched; nothing at all */
	client = create_client(&default_options);
	CHECK(start_request_at(client, PEMS_CALL_UPDATE, "http://127.0.0.1", 9, NULL));
	CHECK(start_request_at(client, PEMS_CALL_UPDATE, "ftp://127.0.0.1", 9, NULL));
	pems_http_client_destroy(client);
	pems_http_client_destroy(create_client(&default_options));
	pems_http_client_destroy(NULL);
}

/* ---------- settings and signals ---------- */

UNIT_TEST(requests_under_way_keep_their_options)
{
	Server *server = server_start(serve_never);
	PemsHttpClientOptions options = default_options;
	PemsHttpClient *client;
	PemsAnswer reply;
	void *owner;

	options.request_timeout_ms = 300;
	client = create_client(&options);
	CHECK(start_request(client, PEMS_CALL_UPDATE, server, NULL));
	pems_http_client_drive(client);
	options.request_timeout_ms = 60000;
	CHECK(pems_http_client_configure(client, &options));
	CHECK(next_answer(client, &owner, &reply));
	CHECK_ANSWER(reply, PEMS_TRANSPORT_TIMEOUT, true, 0);
	pems_http_client_destroy(client);
	server_stop(server);
}

static volatile sig_atomic_t signals;

static void
on_signal(int number)
{
	(void) number;
	signals++;
}

UNIT_TEST(the_signal_mask_comes_back)
{
	PemsHttpClient *client = create_client(&default_options);
	sigset_t before;
	sigset_t after;

	signal(SIGUSR1, on_signal);
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	CHECK_ANSWER(run_request_at(client, PEMS_CALL_UPDATE, "http://localhost", 1),
				 PEMS_TRANSPORT_REFUSED, false, 0);
	pems_http_client_destroy(client);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	for (int number = 1; number < SIGRTMIN; number++)
		CHECK_INT(sigismember(&after, number), sigismember(&before, number));
	kill(getpid(), SIGUSR1);
	CHECK_INT(signals, 1);
	signal(SIGUSR1, SIG_DFL);
}

/* ---------- URLs ---------- */

static void
check_url(PemsHttpClient *client, const char *api_url, const char *url, bool allowed)
{
	PemsHttpClientRequest request = {
		.call = PEMS_CALL_READ, .url = url, .api_url = api_url, .token = TOKEN};
	PemsAnswer reply;
	void *owner;
	bool forbidden;

	CHECK(pems_http_client_start(client, &request));
	if (!CHECK(next_answer(client, &owner, &reply)))
		return;
	forbidden = reply.transport == PEMS_TRANSPORT_FORBIDDEN_ADDRESS;
	if (!CHECK(forbidden == !allowed))
		unit_note("%s below %s: %d %s", url, api_url, (int) reply.transport, reply.detail);
	CHECK(!forbidden || (reply.detail[0] != '\0' && !reply.maybe_sent));
	pems_answer_free(&reply);
}

/* Port 1 refuses, so what is allowed ends as REFUSED. */
UNIT_TEST(a_url_stays_inside_its_api)
{
#define API "http://127.0.0.1:1/api"
	static const char *const escapes[] = {API,
										  API "x/pems/health",
										  "http://127.0.0.1:1/",
										  "http://127.0.0.1:1/pems/health",
										  "http://127.0.0.1:2/api/pems/health",
										  "http://127.0.0.2:1/api/pems/health",
										  "https://127.0.0.1:1/api/pems/health",
										  "http://127.0.0.1:1/API/pems/health",
										  API "/../pems",
										  API "/pems/..",
										  API "/./pems",
										  API "/%2e%2e/pems",
										  API "/pems/.%2E",
										  API "/pems/%2e?x",
										  API "/pems\\..\\x",
										  API "/pems/a b",
										  API "/pems/a\r\nX: y",
										  API "/pems/\xc3\xbc",
										  API "/pems#fragment",
										  "http://user@127.0.0.1:1/api/pems",
										  "http://user:secret@127.0.0.1:1/api/pems",
										  "http://127.0.0.1:1@evil.example/api/pems",
										  "file:///api/pems",
										  "gopher://127.0.0.1:1/api/pems",
										  "/api/pems",
										  ""};
	PemsHttpClient *client = create_client(&default_options);

	check_url(client, API, API "/pems/health", true);
	check_url(client, API "/", API "/pems/health", true);
	check_url(client, API, API "/pems/pfa/...?organizationCode=..%2F..%2F", true);
	check_url(client, "HTTP://127.0.0.1:1/api", API "/pems/pfa/a.b..c", true);
	check_url(client, "http://127.0.0.1:1", "http://127.0.0.1:1/pems", true);
	for (size_t i = 0; i < sizeof(escapes) / sizeof(escapes[0]); i++)
		check_url(client, API, escapes[i], false);
	check_url(client, "not a url", API "/pems", false);
	check_url(client, API, NULL, false);
	check_url(client, NULL, API "/pems", false);
	/* http is for loopback names only, also where other names are allowed */
	check_url(client, "http://192.0.2.1/api", "http://192.0.2.1/api/pems", false);
	pems_http_client_destroy(client);
#undef API
}
