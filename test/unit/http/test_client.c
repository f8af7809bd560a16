/*
 * http/test_client.c
 *		The client's side of the tests of src/http; see test_client.h.
 */
#include "http/test_client.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const PemsHttpClientOptions default_options = {.max_in_flight = 16,
											   .connect_timeout_ms = 2000,
											   .request_timeout_ms = 5000,
											   .max_response_size = 4096,
											   .ca_file = NULL,
											   .allow_loopback = true,
											   .user_agent = "pems_sync/test"};

PemsHttpClient *
create_client(const PemsHttpClientOptions *options)
{
	const char *error = NULL;
	static bool initialized;

	if (!initialized)
	{
		setenv("SSLKEYLOGFILE", "/nonexistent/keys", 1);
		setenv("http_proxy", "http://127.0.0.1:1/", 1);
		setenv("https_proxy", "http://127.0.0.1:1/", 1);
		setenv("all_proxy", "http://127.0.0.1:1/", 1);
		initialized = pems_http_client_initialize(&error);
		if (!CHECK_TEXT(error, NULL))
			abort();
		CHECK(getenv("SSLKEYLOGFILE") == NULL);
	}
	return pems_http_client_create(options);
}

/* Start a request to scheme://host:port/api/pems/pfa/PFA-1. */
bool
start_request_at(PemsHttpClient *client, PemsCall call, const char *origin, int port, void *owner)
{
	char api_url[256];
	char url[512];
	PemsHttpClientRequest request = {.call = call,
									 .url = url,
									 .api_url = api_url,
									 .token = TOKEN,
									 .idempotency_key = "item:3",
									 .request_id = "item:1",
									 .body = call == PEMS_CALL_READ ? NULL : BODY,
									 .owner = owner};

	snprintf(api_url, sizeof(api_url), "%s:%d/api", origin, port);
	snprintf(url, sizeof(url), "%s/pems/pfa/PFA-1%s", api_url,
			 call == PEMS_CALL_READ ? "?organizationCode=RIO" : "");
	return pems_http_client_start(client, &request);
}

bool
start_request(PemsHttpClient *client, PemsCall call, const Server *server, void *owner)
{
	return start_request_at(client, call, "http://127.0.0.1", server->port, owner);
}

/* Drive until the next answer, as the worker does; false after ten seconds. */
bool
next_answer(PemsHttpClient *client, void **owner, PemsAnswer *reply)
{
	int64_t end = now_ms() + 10000;

	while (!pems_http_client_next(client, owner, reply))
	{
		struct pollfd ready = {.fd = pems_http_client_descriptor(client), .events = POLLIN};
		long timeout = pems_http_client_timeout_ms(client);

		if (now_ms() > end)
			return false;
		poll(&ready, 1, timeout < 0 || timeout > 1000 ? 1000 : (int) timeout);
		pems_http_client_drive(client);
	}
	return true;
}

/* One request from start to end.  The answer is the caller's to free. */
PemsAnswer
run_request_at(PemsHttpClient *client, PemsCall call, const char *origin, int port)
{
	PemsAnswer reply = {.transport = PEMS_TRANSPORT_INTERNAL};
	void *owner = NULL;

	CHECK(start_request_at(client, call, origin, port, &reply));
	CHECK_INT(pems_http_client_in_flight(client), 1);
	CHECK(next_answer(client, &owner, &reply));
	CHECK(owner == &reply);
	CHECK_INT(pems_http_client_in_flight(client), 0);
	CHECK(strstr(reply.detail, TOKEN) == NULL);
	CHECK(reply.body == NULL || reply.body[reply.body_length] == '\0');
	return reply;
}

PemsAnswer
run_request(PemsHttpClient *client, PemsCall call, const Server *server)
{
	return run_request_at(client, call, "http://127.0.0.1", server->port);
}

void
check_answer(PemsAnswer reply, PemsTransport transport, bool maybe_sent, int status, int line)
{
	bool good = CHECK_INT(reply.transport, transport);

	good = CHECK_INT(reply.maybe_sent, maybe_sent) && good;
	good = CHECK_INT(reply.status, status) && good;
	good = CHECK((reply.detail[0] == '\0') == (transport == PEMS_TRANSPORT_OK)) && good;
	if (!good)
		unit_note("called in line %d: %s", line, reply.detail);
	pems_answer_free(&reply);
}

/* One request to one server that misbehaves. */
void
check_misbehaviour(Serve serve, PemsTransport transport, bool maybe_sent, int status, int line)
{
	Server *server = server_start(serve);
	PemsHttpClient *client = create_client(&default_options);

	check_answer(run_request(client, PEMS_CALL_UPDATE, server), transport, maybe_sent, status,
				 line);
	CHECK_INT(atomic_load(&server->requests), 1);
	pems_http_client_destroy(client);
	server_stop(server);
}
