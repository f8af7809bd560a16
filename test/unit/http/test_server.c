/*
 * http/test_server.c
 *		Small servers on loopback, for the tests of src/http; see test_server.h.
 */
#include "http/test_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct Connection
{
	Server *server;
	int socket;
	int number;
} Connection;

int64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void
sleep_ms(long ms)
{
	struct timespec wait = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	nanosleep(&wait, NULL);
}

/* ---------- what is sent and read ---------- */

/* False when the peer is gone. */
bool
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

bool
send_text(int socket, const char *text)
{
	return send_all(socket, text, strlen(text));
}

/* A whole answer with a body; headers: more header lines, each with its CRLF. */
bool
send_answer(int socket, int status, const char *headers, const char *body)
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
bool
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

/* Break a connection with a reset. */
void
break_connection(int socket)
{
	struct sockaddr nowhere = {.sa_family = AF_UNSPEC};

	(void) connect(socket, &nowhere, sizeof(nowhere));
}

/* ---------- servers ---------- */

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
int
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

Server *
server_start(Serve serve)
{
	Server *server = calloc(1, sizeof(*server));

	server->serve = serve;
	pthread_mutex_init(&server->lock, NULL);
	server->listener = listen_anywhere(64, &server->port);
	pthread_create(&server->acceptor, NULL, run_acceptor, server);
	return server;
}

void
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

void
serve_well(Server *server, int socket, int number)
{
	(void) number;
	while (read_request(server, socket) && send_answer(socket, 200, "", OK_BODY))
		;
}

/* Answers after 20 ms, and counts how many are served at once. */
void
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
		if (!send_answer(socket, 200, "", OK_BODY))
			break;
	}
}

/* Answers the first request of the first connection; reads the second one and closes. */
void
serve_one_then_close(Server *server, int socket, int number)
{
	if (number > 0)
	{
		serve_well(server, socket, number);
		return;
	}
	if (read_request(server, socket) && send_answer(socket, 200, "", OK_BODY))
		read_request(server, socket);
}

void
serve_never(Server *server, int socket, int number)
{
	(void) number;
	while (read_request(server, socket))
		;
}
