/*
 * http/test_client.h
 *		The client's side of the tests of src/http: one request from its start to its answer.
 */
#ifndef TEST_CLIENT_H
#define TEST_CLIENT_H

#include "http/client.h"
#include "http/test_server.h"
#include "unit.h"

#define TOKEN "canary-token-0123456789"
#define BODY  "{\"pfaId\":\"PFA-1\",\"version\":3}"

/* http to loopback is allowed, five seconds for a request, 4096 bytes for an answer */
extern const PemsHttpClientOptions default_options;

/* A client; the first call also initializes libcurl, in an environment that should not matter. */
extern PemsHttpClient *create_client(const PemsHttpClientOptions *options);

/* Start a request to scheme://host:port/api/pems/pfa/PFA-1. */
extern bool start_request_at(PemsHttpClient *client, PemsCall call, const char *origin, int port,
							 void *owner);
/* The same to one of our servers. */
extern bool start_request(PemsHttpClient *client, PemsCall call, const Server *server, void *owner);
/* Drive until the next answer, as the worker does; false after ten seconds. */
extern bool next_answer(PemsHttpClient *client, void **owner, PemsAnswer *reply);

/* One request from start to end.  The answer is the caller's to free. */
extern PemsAnswer run_request_at(PemsHttpClient *client, PemsCall call, const char *origin,
								 int port);
extern PemsAnswer run_request(PemsHttpClient *client, PemsCall call, const Server *server);

/* Check an answer, and free it.  line: of the test. */
extern void check_answer(PemsAnswer reply, PemsTransport transport, bool maybe_sent, int status,
						 int line);
#define CHECK_ANSWER(reply, transport, maybe_sent, status)                                         \
	check_answer((reply), (transport), (maybe_sent), (status), __LINE__)

/* One request to a server that serves like this, and what must come of it. */
extern void check_misbehaviour(Serve serve, PemsTransport transport, bool maybe_sent, int status,
							   int line);
#define CHECK_MISBEHAVIOUR(serve, transport, status)                                               \
	check_misbehaviour((serve), (transport), true, (status), __LINE__)

#endif /* TEST_CLIENT_H */
