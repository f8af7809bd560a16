/*
 * http/client_test.c
 *		Unit tests of src/http/client.c against small servers on loopback that
 *		misbehave in one way each.  A server is a thread per connection; only the
 *		main thread checks.
 */
#include "unit.h"

#include "../../src/pems/api_url.h"
#include "../../src/http/client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TOKEN "canary-token-0123456789"
#define BODY  "{\"pfaId\":\"PFA-1\",\"version\":3}"
#define OK_BODY                                                                                    \
	"{\"success\":true,\"pfaId\":\"PFA-1\",\"newVersion\":4,\"updatedAt\":\"2025-01-15T00:00:"     \
	"00Z\"}"

#define CONNECTIONS_MAXIMUM 64
#define REQUEST_MAXIMUM     65536

/* ---------- servers ---------- */

typedef struct Server Server;
/* Serves one connection, the number-th (0 = first); the caller closes it. */
typedef void (*Serve)(Server *server, int socket, int number);

struct Server
{
	Serve serve;
	int listener;
	int port;
	pthread_t acceptor;
	pthread_t threads[CONNECTIONS_MAXIMUM];
	int sockets[CONNECTIONS_MAXIMUM];
	atomic_int connections;
	atomic_int requests;
	atomic_int busy;    /* requests being served now */
	atomic_int busiest; /* the most at once */
	pthread_mutex_t lock;
	char last[REQUEST_MAXIMUM]; /* the request read last; under lock */
};

typedef struct Connection
{
	Server *server;
	int socket;
	int number;
} Connection;

static int64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void
sleep_ms(long ms)
{
	struct timespec wait = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	nanosleep(&wait, NULL);
}

/* False when the peer is gone. */
static bool
send_all(int socket, const char *text, size_t length)
{
	while (length > 0)
	{
		ssize_t sent = send(socket, text, length, MSG_NOSIGNAL);

		if (sent <= 0)
			return false;
		text += sent;
		length -= (size_t) sent;
	}
	return true;
}

static bool
send_text(int socket, const char *text)
{
	return send_all(socket, text, strlen(text));
}

/* A whole answer with a body; headers: more header lines, each with its CRLF. */
static bool
answer(int socket, int status, const char *headers, const char *body)
{
	char text[4096];

	snprintf(text, sizeof(text), "HTTP/1.1 %d Whatever\r\nContent-Length: %zu\r\n%s\r\n%s", status,
			 strlen(body), headers, body);
	return send_text(socket, text);
}

static size_t
content_length(const char *head)
{
	const char *line = strcasestr(head, "\r\nContent-Length:");

	return line == NULL ? 0 : strtoul(line + strlen("\r\nContent-Length:"), NULL, 10);
}

/* Read one request with its body; false when the connection ends before. */
static bool
read_request(Server *server, int socket)
{
	static _Thread_local char text[REQUEST_MAXIMUM];
	size_t length = 0;

	for (;;)
	{
		char *end;
		ssize_t got;

		text[length] = '\0';
		end = strstr(text, "\r\n\r\n");
		if (end != NULL && length >= (size_t) (end + 4 - text) + content_length(text))
			break;
		got = recv(socket, text + length, sizeof(text) - 1 - length, 0);
		if (got <= 0)
			return false;
		length += (size_t) got;
	}
	pthread_mutex_lock(&server->lock);
	memcpy(server->last, text, length + 1);
	pthread_mutex_unlock(&server->lock);
	atomic_fetch_add(&server->requests, 1);
	return true;
}

static void *
run_connection(void *argument)
{
	Connection connection = *(Connection *) argument;

	free(argument);
	connection.server->serve(connection.server, connection.socket, connection.number);
	shutdown(connection.socket, SHUT_RDWR);
	return NULL;
}

static void *
run_acceptor(void *argument)
{
	Server *server = argument;

	for (int number = 0; number < CONNECTIONS_MAXIMUM; number++)
	{
		Connection *connection;
		int socket = accept(server->listener, NULL, NULL);

		if (socket < 0)
			break;
		connection = malloc(sizeof(*connection));
		*connection = (Connection){server, socket, number};
		server->sockets[number] = socket;
		/* before the connection answers anything, or a test could look too early */
		atomic_fetch_add(&server->connections, 1);
		pthread_create(&server->threads[number], NULL, run_connection, connection);
	}
	return NULL;
}

/* A listening socket on a free port of 127.0.0.1. */
static int
listen_anywhere(int backlog, int *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(listener, (struct sockaddr *) &address, sizeof(address)) != 0 ||
		listen(listener, backlog) != 0 ||
		getsockname(listener, (struct sockaddr *) &address, &length) != 0)
		abort();
	*port = ntohs(address.sin_port);
	return listener;
}

static Server *
server_start(Serve serve)
{
	Server *server = calloc(1, sizeof(*server));

	server->serve = serve;
	pthread_mutex_init(&server->lock, NULL);
	server->listener = listen_anywhere(64, &server->port);
	pthread_create(&server->acceptor, NULL, run_acceptor, server);
	return server;
}

static void
server_stop(Server *server)
{
	int connections;

	shutdown(server->listener, SHUT_RDWR);
	pthread_join(server->acceptor, NULL);
	close(server->listener);
	connections = atomic_load(&server->connections);
	for (int i = 0; i < connections; i++)
		shutdown(server->sockets[i], SHUT_RDWR);
	for (int i = 0; i < connections; i++)
	{
		pthread_join(server->threads[i], NULL);
		close(server->sockets[i]);
	}
	pthread_mutex_destroy(&server->lock);
	free(server);
}

/* ---------- ways to serve ---------- */

static void
serve_well(Server *server, int socket, int number)
{
	(void) number;
	while (read_request(server, socket) && answer(socket, 200, "", OK_BODY))
		;
}

/* Answers after 20 ms, and counts how many are served at once. */
static void
serve_slowly(Server *server, int socket, int number)
{
	(void) number;
	while (read_request(server, socket))
	{
		int busy = atomic_fetch_add(&server->busy, 1) + 1;
		int busiest = atomic_load(&server->busiest);

		while (busy > busiest && !atomic_compare_exchange_weak(&server->busiest, &busiest, busy))
			;
		sleep_ms(20);
		atomic_fetch_sub(&server->busy, 1);
		if (!answer(socket, 200, "", OK_BODY))
			break;
	}
}

/* Answers the first request of the first connection; reads the second one and closes. */
static void
serve_one_then_close(Server *server, int socket, int number)
{
	if (number > 0)
	{
		serve_well(server, socket, number);
		return;
	}
	if (read_request(server, socket) && answer(socket, 200, "", OK_BODY))
		read_request(server, socket);
}

/* Break a connection with a reset. */
static void
reset(int socket)
{
	struct sockaddr nowhere = {.sa_family = AF_UNSPEC};

	(void) connect(socket, &nowhere, sizeof(nowhere));
}

static void
serve_one_then_reset(Server *server, int socket, int number)
{
	serve_one_then_close(server, socket, number);
	reset(socket);
}

/* Answers one request and closes the connection politely. */
static void
serve_once(Server *server, int socket, int number)
{
	(void) number;
	if (read_request(server, socket))
		answer(socket, 200, "", OK_BODY);
}

static void
serve_never(Server *server, int socket, int number)
{
	(void) number;
	while (read_request(server, socket))
		;
}

/* Closes with a reset after it read the request. */
static void
serve_reset(Server *server, int socket, int number)
{
	(void) number;
	read_request(server, socket);
	reset(socket);
}

static void
serve_empty(Server *server, int socket, int number)
{
	(void) number;
	read_request(server, socket);
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

/* A status and then silence. */
static void
serve_stalled(Server *server, int socket, int number)
{
	(void) number;
	read_request(server, socket);
	send_text(socket, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{");
	read_request(server, socket); /* until the client goes away */
}

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

static void
serve_redirect(Server *server, int socket, int number)
{
	char headers[128];

	(void) number;
	snprintf(headers, sizeof(headers), "Location: http://127.0.0.1:%d/api/pems/elsewhere\r\n",
			 server->port);
	while (read_request(server, socket) && answer(socket, 307, headers, ""))
		;
}

static void
serve_garbage(Server *server, int socket, int number)
{
	(void) number;
	read_request(server, socket);
	send_text(socket, "SSH-2.0-OpenSSH_9.2p1 Debian\r\n");
}

static void
serve_without_tls(Server *server, int socket, int number)
{
	(void) number;
	if (recv(socket, server->last, REQUEST_MAXIMUM - 1, 0) > 0)
		send_text(socket, "220 this is no TLS\r\n");
}

static void
serve_throttle(Server *server, int socket, int number)
{
	(void) number;
	read_request(server, socket);
	send_text(socket, "HTTP/1.1 103 Early Hints\r\nRetry-After: 1\r\n\r\n");
	answer(socket, 429,
		   "retry-after: \t 17 \r\nRetry-After: 99\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "");
}

/* An error page that shows the request. */
static void
serve_mirror(Server *server, int socket, int number)
{
	(void) number;
	read_request(server, socket);
	answer(socket, 500, "Retry-After: " TOKEN "\r\n", server->last);
}

/* An error page with a text of the test's in it. */
static const char *repeated;

static void
serve_repeated(Server *server, int socket, int number)
{
	(void) number;
	while (read_request(server, socket) && answer(socket, 500, "", repeated))
		;
}

/* The same page, which promises more than comes. */
static void
serve_repeated_in_part(Server *server, int socket, int number)
{
	(void) number;
	read_request(server, socket);
	send_text(socket, "HTTP/1.1 500 No\r\nContent-Length: 1000\r\n\r\n");
	send_text(socket, repeated);
}

/* Says something before anybody asks, and again whenever there is silence. */
static void
serve_unasked(Server *server, int socket, int number)
{
	(void) number;
	while (answer(socket, 200, "", OK_BODY) && read_request(server, socket))
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
	if (!read_request(server, socket) || !answer(socket, 200, "", OK_BODY))
		return;
	sleep_ms(20); /* for the client to have taken its answer */
	if (unasked->bytes != NULL)
		send_text(socket, unasked->bytes);
	if (unasked->end == UNASKED_RESETS)
		reset(socket);
	else if (unasked->end == UNASKED_CLOSES)
		shutdown(socket, SHUT_WR);
	atomic_fetch_add(&server->busy, 1);
	if (unasked->end != UNASKED_RESETS && !read_request(server, socket))
		atomic_fetch_add(&given_up, 1);
}

/* Answers with a status that is about the connection, and would go on with it. */
static int status_about_connection;

static void
serve_about_connection(Server *server, int socket, int number)
{
	while (read_request(server, socket) &&
		   answer(socket, number == 0 ? status_about_connection : 200, "", OK_BODY))
		;
}

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

/* ---------- the client's side ---------- */

static const PemsClientOptions default_options = {.max_in_flight = 16,
												  .connect_timeout_ms = 2000,
												  .request_timeout_ms = 5000,
												  .max_response_size = 4096,
												  .ca_file = NULL,
												  .allow_loopback = true,
												  .user_agent = "pems_sync/test"};

static PemsClient *
create(const PemsClientOptions *options)
{
	const char *error = NULL;
	static bool initialized;

	if (!initialized)
	{
		setenv("SSLKEYLOGFILE", "/nonexistent/keys", 1);
		setenv("http_proxy", "http://127.0.0.1:1/", 1);
		setenv("https_proxy", "http://127.0.0.1:1/", 1);
		setenv("all_proxy", "http://127.0.0.1:1/", 1);
		initialized = pems_client_initialize(&error);
		if (!CHECK_TEXT(error, NULL))
			abort();
		CHECK(getenv("SSLKEYLOGFILE") == NULL);
	}
	return pems_client_create(options);
}

/* Start a request to scheme://host:port/api/pems/pfa/PFA-1. */
static bool
start_at(PemsClient *client, PemsCall call, const char *origin, int port, void *owner)
{
	char api_url[256];
	char url[512];
	PemsClientRequest request = {.call = call,
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
	return pems_client_start(client, &request);
}

static bool
start(PemsClient *client, PemsCall call, const Server *server, void *owner)
{
	return start_at(client, call, "http://127.0.0.1", server->port, owner);
}

/* Drive until the next answer, as the worker does; false after ten seconds. */
static bool
next_answer(PemsClient *client, void **owner, PemsAnswer *reply)
{
	int64_t end = now_ms() + 10000;

	while (!pems_client_next(client, owner, reply))
	{
		struct pollfd ready = {.fd = pems_client_descriptor(client), .events = POLLIN};
		long timeout = pems_client_timeout_ms(client);

		if (now_ms() > end)
			return false;
		poll(&ready, 1, timeout < 0 || timeout > 1000 ? 1000 : (int) timeout);
		pems_client_drive(client);
	}
	return true;
}

/* One request from start to end.  The answer is the caller's to free. */
static PemsAnswer
call_at(PemsClient *client, PemsCall call, const char *origin, int port)
{
	PemsAnswer reply = {.transport = PEMS_TRANSPORT_INTERNAL};
	void *owner = NULL;

	CHECK(start_at(client, call, origin, port, &reply));
	CHECK_INT(pems_client_in_flight(client), 1);
	CHECK(next_answer(client, &owner, &reply));
	CHECK(owner == &reply);
	CHECK_INT(pems_client_in_flight(client), 0);
	CHECK(strstr(reply.detail, TOKEN) == NULL);
	CHECK(reply.body == NULL || reply.body[reply.body_length] == '\0');
	return reply;
}

static PemsAnswer
call(PemsClient *client, PemsCall call, const Server *server)
{
	return call_at(client, call, "http://127.0.0.1", server->port);
}

static void
check_answer(PemsAnswer reply, PemsTransport transport, bool maybe_sent, int status, int line)
{
	bool good = CHECK_INT(reply.transport, transport);

	good = CHECK_INT(reply.maybe_sent, maybe_sent) && good;
	good = CHECK_INT(reply.status, status) && good;
	good = CHECK((reply.detail[0] == '\0') == (transport == PEMS_TRANSPORT_OK)) && good;
	if (!good)
		unit_note("called in line %d: %s", line, reply.detail);
	pems_protocol_free_answer(&reply);
}
#define CHECK_ANSWER(reply, transport, maybe_sent, status)                                         \
	check_answer((reply), (transport), (maybe_sent), (status), __LINE__)

/* One request to one server that misbehaves. */
static void
check_misbehaviour(Serve serve, PemsTransport transport, bool maybe_sent, int status, int line)
{
	Server *server = server_start(serve);
	PemsClient *client = create(&default_options);

	check_answer(call(client, PEMS_CALL_UPDATE, server), transport, maybe_sent, status, line);
	CHECK_INT(atomic_load(&server->requests), 1);
	pems_client_destroy(client);
	server_stop(server);
}
#define CHECK_MISBEHAVIOUR(serve, transport, status)                                               \
	check_misbehaviour((serve), (transport), true, (status), __LINE__)

/* ---------- requests ---------- */

UNIT_TEST(what_a_request_looks_like)
{
	Server *server = server_start(serve_well);
	PemsClient *client = create(&default_options);
	PemsAnswer reply = call(client, PEMS_CALL_UPDATE, server);
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
	pems_client_destroy(client);
	server_stop(server);
}

static void
count_sent(void *owner)
{
	++*(int *) owner;
}

UNIT_TEST(the_owner_is_told_when_a_request_leaves)
{
	Server *server = server_start(serve_one_then_close);
	PemsClient *client = create(&default_options);
	char api_url[64];
	char url[128];
	int sent[4] = {0};
	PemsClientRequest request = {.call = PEMS_CALL_UPDATE,
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
		CHECK(pems_client_start(client, &request));
		CHECK_INT(sent[i], 0);
		CHECK(next_answer(client, &owner, &reply));
		CHECK_INT(sent[i], i < 3 ? 1 : 0);
		CHECK_INT(reply.maybe_sent, sent[i]);
		pems_protocol_free_answer(&reply);
	}
	pems_client_destroy(client);
	server_stop(server);
}

UNIT_TEST(one_handle_makes_every_call_over_one_connection)
{
	Server *server = server_start(serve_well);
	PemsClient *client = create(&default_options);

	for (int i = 0; i < 3; i++)
	{
		CHECK_ANSWER(call(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_OK, true, 200);
		CHECK(strncmp(server->last, "PUT /api/pems/pfa/PFA-1 ", 24) == 0);
		CHECK(strstr(server->last, "\r\n\r\n" BODY) != NULL);

		CHECK_ANSWER(call(client, PEMS_CALL_READ, server), PEMS_TRANSPORT_OK, true, 200);
		CHECK(strncmp(server->last, "GET /api/pems/pfa/PFA-1?organizationCode=RIO ", 45) == 0);
		CHECK(strcasestr(server->last, "Content-Length") == NULL);
		CHECK(strcasestr(server->last, "Content-Type") == NULL);

		CHECK_ANSWER(call(client, PEMS_CALL_DELETE, server), PEMS_TRANSPORT_OK, true, 200);
		CHECK(strncmp(server->last, "DELETE /api/pems/pfa/PFA-1 ", 27) == 0);
		CHECK(strstr(server->last, "\r\n\r\n" BODY) != NULL);
	}
	CHECK_INT(atomic_load(&server->connections), 1);
	CHECK_INT(atomic_load(&server->requests), 9);
	pems_client_destroy(client);
	server_stop(server);
}

UNIT_TEST(a_large_body_arrives_whole)
{
	static char body[50000];
	Server *server = server_start(serve_well);
	PemsClient *client = create(&default_options);
	char api_url[64];
	char url[128];
	PemsClientRequest request = {
		.call = PEMS_CALL_UPDATE, .url = url, .api_url = api_url, .token = TOKEN, .body = body};
	PemsAnswer reply;
	void *owner;

	memset(body, 'x', sizeof(body) - 1);
	snprintf(api_url, sizeof(api_url), "http://127.0.0.1:%d", server->port);
	snprintf(url, sizeof(url), "%s/pems/pfa/PFA-1", api_url);
	CHECK(pems_client_start(client, &request));
	CHECK(next_answer(client, &owner, &reply));
	CHECK_ANSWER(reply, PEMS_TRANSPORT_OK, true, 200);
	CHECK(strstr(server->last, body) != NULL);
	CHECK(strcasestr(server->last, "Idempotency-Key") == NULL);
	pems_client_destroy(client);
	server_stop(server);
}

UNIT_TEST(two_hundred_requests_sixteen_in_flight)
{
	Server *server = server_start(serve_slowly);
	PemsClient *client = create(&default_options);
	static bool answered[200];
	int started = 0;
	int ended = 0;

	memset(answered, 0, sizeof(answered));
	while (ended < 200)
	{
		PemsAnswer reply;
		void *owner;

		for (; started < 200 && pems_client_in_flight(client) < 16; started++)
			CHECK(start(client, started % 2 == 0 ? PEMS_CALL_UPDATE : PEMS_CALL_READ, server,
						&answered[started]));
		if (!CHECK(next_answer(client, &owner, &reply)))
			break;
		CHECK(!*(bool *) owner);
		*(bool *) owner = true;
		ended++;
		CHECK_ANSWER(reply, PEMS_TRANSPORT_OK, true, 200);
	}
	CHECK_INT(pems_client_in_flight(client), 0);
	CHECK_INT(atomic_load(&server->requests), 200);
	CHECK_INT(atomic_load(&server->connections), 16);
	CHECK_INT(atomic_load(&server->busiest), 16);
	pems_client_destroy(client);
	server_stop(server);
}

/* ---------- sent once ---------- */

/* The heart of "at most one effect": libcurl alone would send the PUT again. */
static void
check_sent_once(Serve serve, PemsCall second)
{
	Server *server = server_start(serve);
	PemsClient *client = create(&default_options);

	CHECK_ANSWER(call(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_OK, true, 200);
	CHECK_ANSWER(call(client, second, server), PEMS_TRANSPORT_RESET, true, 0);
	CHECK_INT(atomic_load(&server->requests), 2);
	/* and the client goes on with a new connection */
	CHECK_ANSWER(call(client, second, server), PEMS_TRANSPORT_OK, true, 200);
	CHECK_INT(atomic_load(&server->requests), 3);
	CHECK_INT(atomic_load(&server->connections), 2);
	pems_client_destroy(client);
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
	PemsClient *client = create(&default_options);

	for (int i = 0; i < 4; i++)
	{
		CHECK_ANSWER(call(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_OK, true, 200);
		sleep_ms(20); /* for the FIN to arrive */
	}
	CHECK_INT(atomic_load(&server->requests), 4);
	CHECK_INT(atomic_load(&server->connections), 4);
	pems_client_destroy(client);
	server_stop(server);
}

/* ---------- what came before the request is no answer ---------- */

static void
check_unasked(const Unasked *what, PemsCall second)
{
	Server *server;
	PemsClient *client = create(&default_options);
	char api_url[64];
	char url[128];
	int sent = 0;
	PemsClientRequest request = {.call = second,
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
	CHECK_ANSWER(call(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_OK, true, 200);
	while (atomic_load(&server->busy) == 0)
		sleep_ms(1);
	sleep_ms(20);
	snprintf(api_url, sizeof(api_url), "http://127.0.0.1:%d/api", server->port);
	snprintf(url, sizeof(url), "%s/pems/pfa/PFA-1", api_url);
	CHECK(pems_client_start(client, &request));
	CHECK(next_answer(client, &owner, &reply));
	CHECK_TEXT(reply.body, OK_BODY);
	CHECK_ANSWER(reply, PEMS_TRANSPORT_OK, true, 200);
	CHECK_INT(sent, 1);
	CHECK_INT(atomic_load(&server->requests), 2);
	CHECK_INT(atomic_load(&server->connections), 2);
	/* the new connection is as good as any */
	CHECK_ANSWER(call(client, second, server), PEMS_TRANSPORT_OK, true, 200);
	CHECK_INT(atomic_load(&server->connections), 2);
	if (what->end != UNASKED_RESETS)
	{
		for (int i = 0; i < 500 && atomic_load(&given_up) == 0; i++)
			sleep_ms(1);
		CHECK_INT(atomic_load(&given_up), 1);
	}
	pems_client_destroy(client);
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
	PemsClient *client = create(&default_options);
	PemsAnswer reply;
	void *owner;

	unasked = &closes;
	server = server_start(serve_unasked_later);
	for (int round = 0; round < 2; round++)
	{
		for (int i = 0; i < 8; i++)
			CHECK(start(client, PEMS_CALL_UPDATE, server, NULL));
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
	pems_client_destroy(client);
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
		PemsClient *client = create(&default_options);
		PemsAnswer reply;
		void *owner;

		CHECK(start(client, PEMS_CALL_UPDATE, server, NULL));
		pems_client_drive(client);
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
			pems_protocol_free_answer(&reply);
		pems_client_destroy(client);
		server_stop(server);
	}
	CHECK_INT(refused, 3);
}

UNIT_TEST(a_connection_is_not_used_again_after_408_421_425)
{
	static const int statuses[] = {408, 421, 425, 409};

	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
	{
		Server *server;
		PemsClient *client = create(&default_options);
		bool kept = statuses[i] == 409;

		status_about_connection = statuses[i];
		server = server_start(serve_about_connection);
		CHECK_ANSWER(call(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_OK, true, statuses[i]);
		for (int again = 0; again < 2; again++)
			CHECK_ANSWER(call(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_OK, true,
						 kept ? 409 : 200);
		CHECK_INT(atomic_load(&server->connections), kept ? 1 : 2);
		CHECK_INT(atomic_load(&server->requests), 3);
		pems_client_destroy(client);
		server_stop(server);
	}
}

/* ---------- broken connections ---------- */

UNIT_TEST(refused)
{
	PemsClient *client = create(&default_options);
	int port;
	int listener = listen_anywhere(1, &port);

	close(listener);
	CHECK_ANSWER(call_at(client, PEMS_CALL_UPDATE, "http://127.0.0.1", port),
				 PEMS_TRANSPORT_REFUSED, false, 0);
	pems_client_destroy(client);
}

UNIT_TEST(broken_connections)
{
	CHECK_MISBEHAVIOUR(serve_reset, PEMS_TRANSPORT_RESET, 0);
	CHECK_MISBEHAVIOUR(serve_empty, PEMS_TRANSPORT_RESET, 0);
	CHECK_MISBEHAVIOUR(serve_garbage, PEMS_TRANSPORT_RESET, 0);
	CHECK_MISBEHAVIOUR(serve_truncated, PEMS_TRANSPORT_TRUNCATED, 200);
	CHECK_MISBEHAVIOUR(serve_truncated_error, PEMS_TRANSPORT_TRUNCATED, 401);
}

UNIT_TEST(answers_too_large)
{
	CHECK_MISBEHAVIOUR(serve_large_length, PEMS_TRANSPORT_TOO_LARGE, 200);
	CHECK_MISBEHAVIOUR(serve_endless_body, PEMS_TRANSPORT_TOO_LARGE, 200);
	CHECK_MISBEHAVIOUR(serve_endless_headers, PEMS_TRANSPORT_TOO_LARGE, 200);
	CHECK_MISBEHAVIOUR(serve_endless_header_line, PEMS_TRANSPORT_TOO_LARGE, 200);
	CHECK_MISBEHAVIOUR(serve_endless_informational, PEMS_TRANSPORT_TOO_LARGE, 0);
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
	PemsClient *client = create(&default_options);

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
	{
		Server *server;

		encoded = &good[i];
		server = server_start(serve_encoded);
		for (int again = 0; again < 2; again++)
		{
			PemsAnswer reply = call(client, PEMS_CALL_UPDATE, server);

			CHECK_TEXT(reply.body, OK_BODY);
			CHECK_ANSWER(reply, PEMS_TRANSPORT_OK, true, 200);
		}
		server_stop(server);
	}
	pems_client_destroy(client);
}

/* What is decoded counts, and so does what decodes to nothing. */
UNIT_TEST(a_small_answer_that_decodes_to_a_large_one)
{
	static const Encoded bomb = {"Content-Encoding: gzip", bomb_in_gzip, sizeof(bomb_in_gzip)};
	static const Encoded small = {"Content-Encoding: gzip", in_gzip, sizeof(in_gzip)};
	PemsClientOptions options = default_options;
	Server *server;
	PemsClient *client;

	encoded = &bomb;
	CHECK_MISBEHAVIOUR(serve_encoded, PEMS_TRANSPORT_TOO_LARGE, 200);
	CHECK_MISBEHAVIOUR(serve_endless_nothing, PEMS_TRANSPORT_TOO_LARGE, 200);
	encoded = &small;
	options.max_response_size = strlen(OK_BODY) - 1;
	server = server_start(serve_encoded);
	client = create(&options);
	CHECK_ANSWER(call(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_TOO_LARGE, true, 200);
	pems_client_destroy(client);
	server_stop(server);
}

static void
check_undecoded(const Encoded *what, const char *named)
{
	PemsClient *client = create(&default_options);
	Server *server;
	PemsAnswer reply;

	encoded = what;
	server = server_start(serve_encoded);
	reply = call(client, PEMS_CALL_UPDATE, server);
	if (!CHECK(strstr(reply.detail, named) != NULL))
		unit_note("%s", reply.detail);
	CHECK_ANSWER(reply, PEMS_TRANSPORT_ENCODED, true, 200);
	pems_client_destroy(client);
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
	/* call() looks that the token is in no detail */
	check_undecoded(&secret, "the answer is encoded as ***");
}

UNIT_TEST(the_largest_body_allowed)
{
	Server *server = server_start(serve_well);
	PemsClientOptions options = default_options;
	PemsClient *client;

	options.max_response_size = strlen(OK_BODY);
	client = create(&options);
	CHECK_ANSWER(call(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_OK, true, 200);
	options.max_response_size--;
	CHECK(pems_client_configure(client, &options));
	CHECK_ANSWER(call(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_TOO_LARGE, true, 200);
	pems_client_destroy(client);
	server_stop(server);
}

UNIT_TEST(redirects_are_not_followed)
{
	Server *server = server_start(serve_redirect);
	PemsClient *client = create(&default_options);

	CHECK_ANSWER(call(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_OK, true, 307);
	CHECK_ANSWER(call(client, PEMS_CALL_READ, server), PEMS_TRANSPORT_OK, true, 307);
	CHECK_INT(atomic_load(&server->requests), 2);
	pems_client_destroy(client);
	server_stop(server);
}

UNIT_TEST(retry_after_and_date)
{
	Server *server = server_start(serve_throttle);
	PemsClient *client = create(&default_options);
	PemsAnswer reply = call(client, PEMS_CALL_UPDATE, server);

	CHECK_TEXT(reply.retry_after, "17");
	CHECK_TEXT(reply.date, "Sun, 06 Nov 1994 08:49:37 GMT");
	CHECK_ANSWER(reply, PEMS_TRANSPORT_OK, true, 429);
	pems_client_destroy(client);
	server_stop(server);
}

UNIT_TEST(a_page_that_shows_the_token_does_not)
{
	Server *server = server_start(serve_mirror);
	PemsClient *client = create(&default_options);
	PemsAnswer reply = call(client, PEMS_CALL_UPDATE, server);

	CHECK(strstr(server->last, TOKEN) != NULL);
	CHECK(strstr(reply.body, TOKEN) == NULL);
	CHECK(strstr(reply.body, "Bearer ****") != NULL);
	CHECK(strstr(reply.retry_after, TOKEN) == NULL);
	CHECK_ANSWER(reply, PEMS_TRANSPORT_OK, true, 500);
	pems_client_destroy(client);
	server_stop(server);
}

#define SLASHED_TOKEN "canary/tuken+0123=="

/* What comes of a page that holds this; the token is SLASHED_TOKEN. */
static void
check_page(Serve serve, const char *page, const char *expected)
{
	Server *server = server_start(serve);
	PemsClient *client = create(&default_options);
	char api_url[64];
	char url[128];
	PemsClientRequest request = {
		.call = PEMS_CALL_READ, .url = url, .api_url = api_url, .token = SLASHED_TOKEN};
	PemsAnswer reply = {0};
	void *owner;

	snprintf(api_url, sizeof(api_url), "http://127.0.0.1:%d/api", server->port);
	snprintf(url, sizeof(url), "%s/pems/pfa/PFA-1", api_url);
	repeated = page;
	CHECK(pems_client_start(client, &request));
	if (CHECK(next_answer(client, &owner, &reply)))
		CHECK_TEXT(reply.body, expected);
	pems_protocol_free_answer(&reply);
	pems_client_destroy(client);
	server_stop(server);
}

UNIT_TEST(a_token_is_blotted_out_however_it_is_escaped)
{
	check_page(serve_repeated, "a canary/tuken+0123== b", "a ******************* b");
	check_page(serve_repeated,
			   "canary/tuken+0123==canary/tuken+0123==", "**************************************");
	/* JSON */
	check_page(serve_repeated, "\"canary\\/tuken+0123==\"", "\"********************\"");
	check_page(serve_repeated, "\"canary\\u002ftuken\\u002B0123=\\u003d\"",
			   "\"**********************************\"");
	check_page(serve_repeated, "\"\\u0063anary/tuken+0123==\"", "\"************************\"");
	/* an escaped u */
	check_page(serve_repeated, "canary/t\\u0075ken+0123==", "************************");
	/* HTML */
	check_page(serve_repeated, "<b>canary&#x2F;tuken&#43;0123&#x3d;&#061;</b>",
			   "<b>**************************************</b>");
	/* a URL */
	check_page(serve_repeated, "?t=canary%2Ftuken%2b0123%3D%3D&x=1",
			   "?t=***************************&x=1");
}

UNIT_TEST(what_is_not_the_token_is_left_as_it_is)
{
	check_page(serve_repeated, "canary/tuken+0123=- canary-tuken+0123==",
			   "canary/tuken+0123=- canary-tuken+0123==");
	check_page(serve_repeated, "canary canary/ canary%2e &#x2f; \\u002f %",
			   "canary canary/ canary%2e &#x2f; \\u002f %");
	check_page(serve_repeated, "Canary/tuken+0123==", "Canary/tuken+0123==");
}

/* A page that was cut off within the token: from eight characters on it is a secret. */
UNIT_TEST(a_part_of_a_token_is_blotted_out_where_the_text_breaks_off)
{
	check_page(serve_repeated, "canary/tuken+0123=", "******************");
	check_page(serve_repeated_in_part, "a canary/tuken+01", "a ***************");
	check_page(serve_repeated_in_part, "a canary/t", "a ********");
	check_page(serve_repeated_in_part, "a canary/", "a canary/");
	check_page(serve_repeated_in_part, "a canary/tuk\\u00", "a **************");
	check_page(serve_repeated_in_part, "a canary/tuken&#x2", "a ****************");
}

/* ---------- time ---------- */

UNIT_TEST(a_server_that_never_answers)
{
	Server *server = server_start(serve_never);
	PemsClientOptions options = default_options;
	PemsClient *client;
	PemsAnswer reply;

	options.request_timeout_ms = 300;
	client = create(&options);
	reply = call(client, PEMS_CALL_UPDATE, server);
	CHECK(reply.latency_us >= 250000 && reply.latency_us < 1500000);
	CHECK_ANSWER(reply, PEMS_TRANSPORT_TIMEOUT, true, 0);
	pems_client_destroy(client);
	server_stop(server);
}

/* Nobody accepts, and the queue of the listener is full: the handshake hangs. */
UNIT_TEST(a_connection_that_never_comes)
{
	PemsClientOptions options = default_options;
	PemsClient *client;
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
	client = create(&options);
	reply = call_at(client, PEMS_CALL_UPDATE, "http://127.0.0.1", port);
	CHECK(reply.latency_us < 2000000);
	CHECK_ANSWER(reply, PEMS_TRANSPORT_TIMEOUT, false, 0);
	pems_client_destroy(client);
	for (int i = 0; i < 4; i++)
		close(fillers[i]);
	close(listener);
}

/* request_timeout is 3 s, so an answer may stall for one. */
UNIT_TEST(an_answer_that_stalls)
{
	Server *server = server_start(serve_stalled);
	PemsClientOptions options = default_options;
	PemsClient *client;
	PemsAnswer reply;

	options.request_timeout_ms = 3000;
	client = create(&options);
	reply = call(client, PEMS_CALL_UPDATE, server);
	CHECK(reply.latency_us < 2900000);
	CHECK_ANSWER(reply, PEMS_TRANSPORT_TIMEOUT, true, 200);
	pems_client_destroy(client);
	server_stop(server);
}

/* The silence before an answer is not a stall; the same handle also forgets the one before. */
UNIT_TEST(a_server_that_thinks)
{
	Server *server = server_start(serve_slowly);
	PemsClientOptions options = default_options;
	PemsClient *client;

	options.request_timeout_ms = 200;
	client = create(&options);
	for (int i = 0; i < 3; i++)
		CHECK_ANSWER(call(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_OK, true, 200);
	pems_client_destroy(client);
	server_stop(server);
}

UNIT_TEST(destroying_a_client_does_not_wait)
{
	Server *server = server_start(serve_never);
	PemsClient *client = create(&default_options);
	int64_t begin;

	for (int i = 0; i < 16; i++)
		CHECK(start(client, PEMS_CALL_UPDATE, server, NULL));
	begin = now_ms();
	while (atomic_load(&server->requests) < 16 && now_ms() < begin + 5000)
	{
		pems_client_drive(client);
		sleep_ms(1);
	}
	CHECK_INT(atomic_load(&server->requests), 16);
	CHECK_INT(pems_client_in_flight(client), 16);
	begin = now_ms();
	pems_client_destroy(client);
	CHECK(now_ms() - begin < 100);
	server_stop(server);

	/* never driven; finished and not fetched; nothing at all */
	client = create(&default_options);
	CHECK(start_at(client, PEMS_CALL_UPDATE, "http://127.0.0.1", 9, NULL));
	CHECK(start_at(client, PEMS_CALL_UPDATE, "ftp://127.0.0.1", 9, NULL));
	pems_client_destroy(client);
	pems_client_destroy(create(&default_options));
	pems_client_destroy(NULL);
}

/* ---------- settings ---------- */

UNIT_TEST(requests_under_way_keep_their_options)
{
	Server *server = server_start(serve_never);
	PemsClientOptions options = default_options;
	PemsClient *client;
	PemsAnswer reply;
	void *owner;

	options.request_timeout_ms = 300;
	client = create(&options);
	CHECK(start(client, PEMS_CALL_UPDATE, server, NULL));
	pems_client_drive(client);
	options.request_timeout_ms = 60000;
	CHECK(pems_client_configure(client, &options));
	CHECK(next_answer(client, &owner, &reply));
	CHECK_ANSWER(reply, PEMS_TRANSPORT_TIMEOUT, true, 0);
	pems_client_destroy(client);
	server_stop(server);
}

UNIT_TEST(idle_connections_survive_new_options_but_not_a_new_rule)
{
	Server *server = server_start(serve_well);
	PemsClientOptions options = default_options;
	PemsClient *client = create(&options);

	CHECK_ANSWER(call(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_OK, true, 200);
	options.request_timeout_ms = 4000;
	CHECK(pems_client_configure(client, &options));
	CHECK_ANSWER(call(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_OK, true, 200);
	CHECK_INT(atomic_load(&server->connections), 1);
	options.allow_loopback = false;
	CHECK(pems_client_configure(client, &options));
	CHECK_ANSWER(call(client, PEMS_CALL_UPDATE, server), PEMS_TRANSPORT_FORBIDDEN_ADDRESS, false,
				 0);
	CHECK_INT(atomic_load(&server->requests), 2);
	pems_client_destroy(client);
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
	PemsClient *client = create(&default_options);
	sigset_t before;
	sigset_t after;

	signal(SIGUSR1, on_signal);
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	CHECK_ANSWER(call_at(client, PEMS_CALL_UPDATE, "http://localhost", 1), PEMS_TRANSPORT_REFUSED,
				 false, 0);
	pems_client_destroy(client);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	for (int number = 1; number < SIGRTMIN; number++)
		CHECK_INT(sigismember(&after, number), sigismember(&before, number));
	kill(getpid(), SIGUSR1);
	CHECK_INT(signals, 1);
	signal(SIGUSR1, SIG_DFL);
}

/* ---------- addresses and URLs ---------- */

UNIT_TEST(loopback_is_refused_where_it_is_not_allowed)
{
	static const char *const origins[] = {"https://127.0.0.1",          "https://127.255.0.3",
										  "https://localhost",          "https://[::1]",
										  "https://2130706433",         "https://0x7f.1",
										  "https://[::ffff:127.0.0.1]", "https://a.localhost",
										  "https://[::127.0.0.1]"};
	Server *server = server_start(serve_well);
	PemsClientOptions options = default_options;
	PemsClient *client;

	options.allow_loopback = false;
	client = create(&options);
	for (size_t i = 0; i < sizeof(origins) / sizeof(origins[0]); i++)
	{
		PemsAnswer reply = call_at(client, PEMS_CALL_UPDATE, origins[i], server->port);

		if (!CHECK_INT(reply.transport, PEMS_TRANSPORT_FORBIDDEN_ADDRESS))
			unit_note("%s: %s", origins[i], reply.detail);
		CHECK(!reply.maybe_sent);
		pems_protocol_free_answer(&reply);
	}
	CHECK_INT(atomic_load(&server->connections), 0);
	pems_client_destroy(client);
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
	PemsClient *client = create(&default_options);

	for (size_t i = 0; i < sizeof(origins) / sizeof(origins[0]); i++)
	{
		PemsAnswer reply = call_at(client, PEMS_CALL_UPDATE, origins[i], 9);

		if (!CHECK_INT(reply.transport, PEMS_TRANSPORT_FORBIDDEN_ADDRESS))
			unit_note("%s: %s", origins[i], reply.detail);
		CHECK(!reply.maybe_sent);
		pems_protocol_free_answer(&reply);
	}
	pems_client_destroy(client);
}

UNIT_TEST(a_tls_failure_sends_nothing)
{
	Server *server = server_start(serve_without_tls);
	PemsClient *client = create(&default_options);

	CHECK_ANSWER(call_at(client, PEMS_CALL_UPDATE, "https://127.0.0.1", server->port),
				 PEMS_TRANSPORT_TLS, false, 0);
	CHECK_INT(atomic_load(&server->connections), 1);
	CHECK(strstr(server->last, TOKEN) == NULL);
	pems_client_destroy(client);
	server_stop(server);
}

static void
check_url(PemsClient *client, const char *api_url, const char *url, bool allowed)
{
	PemsClientRequest request = {
		.call = PEMS_CALL_READ, .url = url, .api_url = api_url, .token = TOKEN};
	PemsAnswer reply;
	void *owner;
	bool forbidden;

	CHECK(pems_client_start(client, &request));
	if (!CHECK(next_answer(client, &owner, &reply)))
		return;
	forbidden = reply.transport == PEMS_TRANSPORT_FORBIDDEN_ADDRESS;
	if (!CHECK(forbidden == !allowed))
		unit_note("%s below %s: %d %s", url, api_url, (int) reply.transport, reply.detail);
	CHECK(!forbidden || (reply.detail[0] != '\0' && !reply.maybe_sent));
	pems_protocol_free_answer(&reply);
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
	PemsClient *client = create(&default_options);

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
	pems_client_destroy(client);
#undef API
}

UNIT_TEST(bad_headers_and_bodies_are_refused)
{
	PemsClient *client = create(&default_options);
	PemsClientRequest good = {.call = PEMS_CALL_UPDATE,
							  .url = "http://127.0.0.1:1/api/pems/pfa/PFA-1",
							  .api_url = "http://127.0.0.1:1/api",
							  .token = TOKEN,
							  .body = BODY};
	PemsClientRequest bad[6] = {good, good, good, good, good, good};

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

		CHECK(pems_client_start(client, &bad[i]));
		CHECK_INT(pems_client_timeout_ms(client), 0);
		CHECK(pems_client_next(client, &owner, &reply));
		CHECK(strstr(reply.detail, "secret") == NULL);
		CHECK_ANSWER(reply, PEMS_TRANSPORT_INTERNAL, false, 0);
	}
	pems_client_destroy(client);
}

/* ---------- api_url ---------- */

static void
check_api_url(const char *api_url, const char *hosts, bool allow_loopback, bool allowed)
{
	char *error = NULL;
	const char *hint = NULL;
	bool good =
		CHECK_INT(pems_api_url_check(api_url, hosts, allow_loopback, &error, &hint), allowed);

	good = CHECK(allowed || (error != NULL && hint != NULL)) && good;
	if (!good)
		unit_note("%s in %s: %s", api_url ? api_url : "(null)", hosts ? hosts : "(null)",
				  error ? error : "(no error)");
	if (!allowed)
		free(error);
}

UNIT_TEST(api_urls)
{
	const char *hosts = "pems.example.com, Other.example.com,[2001:db8::1],198.51.100.7";

	check_api_url("https://pems.example.com/api", hosts, false, true);
	check_api_url("https://pems.example.com", hosts, false, true);
	check_api_url("HTTPS://PEMS.Example.COM:8443/api/v1/", hosts, false, true);
	check_api_url("https://other.example.com/", hosts, false, true);
	check_api_url("https://[2001:db8::1]/api", hosts, false, true);
	check_api_url("https://[2001:db8::1]/api", "2001:db8::1", false, true);
	check_api_url("https://198.51.100.7/api", hosts, false, true);

	check_api_url(NULL, hosts, false, false);
	check_api_url("", hosts, false, false);
	check_api_url("pems.example.com/api", hosts, false, false);
	check_api_url("http://pems.example.com/api", hosts, false, false);
	check_api_url("http://pems.example.com/api", hosts, true, false);
	check_api_url("ftp://pems.example.com/api", hosts, false, false);
	check_api_url("file:///etc/passwd", hosts, false, false);
	check_api_url("https://user@pems.example.com/api", hosts, false, false);
	check_api_url("https://user:secret@pems.example.com/api", hosts, false, false);
	check_api_url("https://@pems.example.com/api", hosts, false, false);
	check_api_url("https://pems.example.com/api?x=1", hosts, false, false);
	check_api_url("https://pems.example.com/api?", hosts, false, false);
	check_api_url("https://pems.example.com/api#x", hosts, false, false);
	check_api_url("https://pems.example.com/api/../x", hosts, false, false);
	check_api_url("https://pems.example.com/api/%2E%2e", hosts, false, false);
	check_api_url("https://pems.example.com/a pi", hosts, false, false);
	check_api_url("https://pems.example.com\\@evil.example/", hosts, false, false);
	check_api_url("https://pems.example.com/\r\n", hosts, false, false);
	check_api_url("https://p\xc3\xa9ms.example.com/", hosts, false, false);
	check_api_url("https://pems.example.com:0/api", hosts, false, false);
	check_api_url("https://pems.example.com:99999/api", hosts, false, false);
	check_api_url("https:///api", hosts, false, false);
}

UNIT_TEST(allowed_hosts_are_compared_whole)
{
	check_api_url("https://pems.example.com/", "", false, false);
	check_api_url("https://pems.example.com/", NULL, false, false);
	check_api_url("https://pems.example.com/", " , ,", false, false);
	check_api_url("https://pems.example.com/", "*.example.com", false, false);
	check_api_url("https://pems.example.com/", "*", false, false);
	check_api_url("https://pems.example.com/", "pems.example.com:443", false, false);
	check_api_url("https://pems.example.com/", "example.com", false, false);
	check_api_url("https://pems.example.com/", "pems.example.com.evil.example", false, false);
	check_api_url("https://pems.example.com.evil.example/", "pems.example.com", false, false);
	check_api_url("https://pems.example.com/", "x,pems.example.com", false, true);
}

UNIT_TEST(loopback_needs_the_setting_and_a_place_in_the_list)
{
	static const char *const loopback[] = {"localhost", "127.0.0.1",   "[::1]",
										   "127.9.9.9", "a.localhost", "LOCALHOST"};
	char url[128];

	for (size_t i = 0; i < sizeof(loopback) / sizeof(loopback[0]); i++)
	{
		snprintf(url, sizeof(url), "https://%s:8080/api", loopback[i]);
		check_api_url(url, loopback[i], false, false);
		check_api_url(url, loopback[i], true, true);
		check_api_url(url, "pems.example.com", true, false);
		snprintf(url, sizeof(url), "http://%s:8080/api", loopback[i]);
		check_api_url(url, loopback[i], false, false);
		check_api_url(url, loopback[i], true, true);
	}
	check_api_url("https://169.254.169.254/", "169.254.169.254", true, false);
	check_api_url("https://0.0.0.0/", "0.0.0.0", true, false);
	check_api_url("https://[fe80::1]/", "fe80::1", true, false);
	/* other spellings of 127.0.0.1 are read as what they are */
	check_api_url("https://2130706433/", "2130706433", false, false);
	check_api_url("https://127.1/", "127.1,127.0.0.1", false, false);
	check_api_url("https://notlocalhost/", "notlocalhost", false, true);
}

static void
check_endpoint(const char *api_url, const char *expected)
{
	char *endpoint = pems_api_url_endpoint(api_url);

	CHECK_TEXT(endpoint, expected);
	free(endpoint);
}

UNIT_TEST(endpoints)
{
	check_endpoint("https://pems.example.com/api", "https://pems.example.com:443");
	check_endpoint("HTTPS://PEMS.example.com:443", "https://pems.example.com:443");
	check_endpoint("https://pems.example.com:8443/a/b", "https://pems.example.com:8443");
	check_endpoint("http://127.0.0.1:8080", "http://127.0.0.1:8080");
	check_endpoint("https://[2001:DB8::1]/", "https://[2001:db8::1]:443");
	check_endpoint("nonsense", NULL);
	check_endpoint("", NULL);
	check_endpoint(NULL, NULL);
}
