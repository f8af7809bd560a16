/*
 * http/request_test.c
 *		What a request looks like on the wire: src/http/request.c.
 */
#include "unit.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "http/test_client.h"

UNIT_TEST(what_a_request_looks_like)
{
	Server *server = server_start(serve_well);
	PemsHttpClient *client = create_client(&default_options);
	PemsAnswer reply = run_request(client, PEMS_CALL_UPDATE, server);
	char host[64];

	CHECK_TEXT(reply.body, OK_BODY);
	CHECK(reply.latency_us > 0 && reply.latency_us < 5000000);
	CHECK_ANSWER(reply, PEMS_TRANSPORT_OK, true, 200);
	snprintf(host, sizeof(host), "\r\nHost: 127.0.0.1:%d\r\n", server->port);
	CHECK(strstr(server->last, "PUT /api/pems/pfa/PFA-1 HTTP/1.1\r\n") == server->last);
	CHECK(strstr(server->last, host) != NULL);
	CHECK(strstr(server->last, "\r\nAuthorization: Bearer " TOKEN "\r\n") != NULL);
	CHECK(strstr(server->last, "\r\nContent-Type: application/json\r\n") != NULL);
	CHECK(strstr(server->last, "\r\nAccept: application/json\r\n") != NULL);
	CHECK(strstr(server->last, "\r\nIdempotency-Key: item:3\r\n") != NULL);
	CHECK(strstr(server->last, "\r\nX-Request-Id: item:1\r\n") != NULL);
	CHECK(strstr(server->last, "\r\nUser-Agent: pems_sync/test\r\n") != NULL);
	CHECK(strstr(server->last, "\r\n\r\n" BODY) != NULL);
	CHECK(strcasestr(server->last, "Expect") == NULL);
	CHECK(strstr(server->last, "\r\nAccept-Encoding: identity\r\n") != NULL);
	CHECK(strcasestr(server->last, "Transfer-Encoding") == NULL);
	pems_http_client_destroy(client);
	server_stop(server);
}

UNIT_TEST(one_handle_makes_every_call_over_one_connection)
{
	Server *server = server_start(serve_well);
	PemsHttpClient *client = create_client(&default_options);

	for (int i = 0; i < 3; i++)
	{
		CHECK_ANSWER(run_request(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_OK, true, 200);
		CHECK(strncmp(server->last, "PUT /api/pems/pfa/PFA-1 ", 24) == 0);
		CHECK(strstr(server->last, "\r\n\r\n" BODY) != NULL);

		CHECK_ANSWER(run_request(client, PEMS_CALL_READ, server), PEMS_TRANSPORT_OK, true, 200);
		CHECK(strncmp(server->last, "GET /api/pems/pfa/PFA-1?organizationCode=RIO ", 45) == 0);
		CHECK(strcasestr(server->last, "Content-Length") == NULL);
		CHECK(strcasestr(server->last, "Content-Type") == NULL);

		CHECK_ANSWER(run_request(client, PEMS_CALL_DELETE, server), PEMS_TRANSPORT_OK, true, 200);
		CHECK(strncmp(server->last, "DELETE /api/pems/pfa/PFA-1 ", 27) == 0);
		CHECK(strstr(server->last, "\r\n\r\n" BODY) != NULL);
	}
	CHECK_INT(atomic_load(&server->connections), 1);
	CHECK_INT(atomic_load(&server->requests), 9);
	pems_http_client_destroy(client);
	server_stop(server);
}

UNIT_TEST(a_large_body_arrives_whole)
{
	static char body[50000];
	Server *server = server_start(serve_well);
	PemsHttpClient *client = create_client(&default_options);
	char api_url[64];
	char url[128];
	PemsHttpClientRequest request = {
		.call = PEMS_CALL_UPDATE, .url = url, .api_url = api_url, .token = TOKEN, .body = body};
	PemsAnswer reply;
	void *owner;

	memset(body, 'x', sizeof(body) - 1);
	snprintf(api_url, sizeof(api_url), "http://127.0.0.1:%d", server->port);
	snprintf(url, sizeof(url), "%s/pems/pfa/PFA-1", api_url);
	CHECK(pems_http_client_start(client, &request));
	CHECK(next_answer(client, &owner, &reply));
	CHECK_ANSWER(reply, PEMS_TRANSPORT_OK, true, 200);
	CHECK(strstr(server->last, body) != NULL);
	CHECK(strcasestr(server->last, "Idempotency-Key") == NULL);
	pems_http_client_destroy(client);
	server_stop(server);
}

UNIT_TEST(bad_headers_and_bodies_are_refused)
{
	PemsHttpClient *client = create_client(&default_options);
	PemsHttpClientRequest good = {.call = PEMS_CALL_UPDATE,
								  .url = "http://127.0.0.1:1/api/pems/pfa/PFA-1",
								  .api_url = "http://127.0.0.1:1/api",
								  .token = TOKEN,
								  .body = BODY};
	PemsHttpClientRequest bad[6] = {good, good, good, good, good, good};

	bad[0].token = NULL;
	bad[1].token = "";
	bad[2].token = "secret\r\nX-Evil: 1";
	bad[3].idempotency_key = "a\nb";
	bad[4].request_id = "a\rb";
	bad[5].body = "";
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		PemsAnswer reply;
		void *owner;

		CHECK(pems_http_client_start(client, &bad[i]));
		CHECK_INT(pems_http_client_timeout_ms(client), 0);
		CHECK(pems_http_client_next(client, &owner, &reply));
		CHECK(strstr(reply.detail, "secret") == NULL);
		CHECK_ANSWER(reply, PEMS_TRANSPORT_INTERNAL, false, 0);
	}
	pems_http_client_destroy(client);
}
