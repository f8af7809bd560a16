/*
 * http/connection.c
 *		Which connection a request may use, and what is looked at before it is written.
 *
 * libcurl asks here at three moments: before it connects (is the address one that
 * we may talk to?), when it closes a connection, and when a connection stands and
 * the request is about to be written.  The last is where a request is stopped that
 * would be sent a second time, or over a connection that is no good.
 *
 * A request is sent at most once.  libcurl sends it again by itself when a reused
 * connection breaks before the first byte of an answer.  Here a second sending is
 * refused, of reads, too, because their repetition would break the rate limit.  So
 * HttpConnection.sent also tells for certain whether anything can have left.
 * (A write cannot be sent again for another reason as well: see http/request.c.)
 *
 * What is in a connection before the request is no answer to it: a load balancer
 * that gives up an idle connection likes to say so with a 408.  So a reused
 * connection that has something to read, or that the other side has ended, is not
 * used; http/client.c then starts the transfer again on a new one.
 *
 * Process: the background worker, inside of libcurl: no PostgreSQL, no longjmp.
 * Memory: the list of sockets, malloc'ed.
 *
 * Known limit: what a server adds to an answer in the same TLS record is in
 * OpenSSL's buffer, not in the socket, so it is not seen before the next request.
 */
#include "http/connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/set_option.h"
#include "pems/address.h"

typedef struct HttpSocket
{
	curl_socket_t fd;
	int local_port; /* 0: not known yet */
	int remote_port;
	char remote_ip[INET6_ADDRSTRLEN];
} HttpSocket;

/* ---------- the list of sockets ---------- */

/* Address and port, written as libcurl writes them.  False: neither IPv4 nor IPv6. */
static bool
read_address(const struct sockaddr *address, char *ip, int *port)
{
	const struct sockaddr_in *v4 = (const void *) address;
	const struct sockaddr_in6 *v6 = (const void *) address;
	const void *bytes =
		address->sa_family == AF_INET6 ? (const void *) &v6->sin6_addr : &v4->sin_addr;

	if (address->sa_family != AF_INET && address->sa_family != AF_INET6)
		return false;
	*port = ntohs(address->sa_family == AF_INET6 ? v6->sin6_port : v4->sin_port);
	return inet_ntop(address->sa_family, bytes, ip, INET6_ADDRSTRLEN) != NULL;
}

static void
forget_socket(HttpSockets *sockets, curl_socket_t fd)
{
	for (size_t i = 0; i < sockets->count; i++)
	{
		if (sockets->list[i].fd != fd)
			continue;
		sockets->list[i] = sockets->list[--sockets->count];
		return;
	}
}

/* Without memory a socket is not remembered; then it is not reused either: see is_untouched(). */
static void
remember_socket(HttpSockets *sockets, curl_socket_t fd, const struct sockaddr *address)
{
	HttpSocket *new;

	forget_socket(sockets, fd);
	if (sockets->count == sockets->capacity)
	{
		size_t capacity = sockets->capacity * 2 + 16;
		HttpSocket *grown = realloc(sockets->list, capacity * sizeof(HttpSocket));

		if (grown == NULL)
			return;
		sockets->list = grown;
		sockets->capacity = capacity;
	}
	new = &sockets->list[sockets->count];
	*new = (HttpSocket){.fd = fd};
	if (read_address(address, new->remote_ip, &new->remote_port))
		sockets->count++;
}

/* The port is known when the socket is connected, and stays as it is. */
static int
local_port(HttpSocket *socket)
{
	struct sockaddr_storage address = {0};
	socklen_t length = sizeof(address);
	char ip[INET6_ADDRSTRLEN];

	if (socket->local_port == 0 &&
		(getsockname(socket->fd, (struct sockaddr *) &address, &length) != 0 ||
		 !read_address((struct sockaddr *) &address, ip, &socket->local_port)))
		return 0;
	return socket->local_port;
}

/*
 * The socket of the connection between these two ends.  libcurl itself does not tell: while a
 * connection is in use, CURLINFO_ACTIVESOCKET is that of the transfer before.
 */
static curl_socket_t
find_socket(HttpSockets *sockets, const char *remote_ip, int remote_port, int port)
{
	for (size_t i = 0; port > 0 && i < sockets->count; i++)
	{
		HttpSocket *socket = &sockets->list[i];

		if (socket->remote_port == remote_port && local_port(socket) == port &&
			strcmp(socket->remote_ip, remote_ip) == 0)
			return socket->fd;
	}
	return CURL_SOCKET_BAD;
}

void
pems_http_connection_free_sockets(HttpSockets *sockets)
{
	free(sockets->list);
	*sockets = (HttpSockets){0};
}

/* ---------- what is looked at ---------- */

static bool
is_address_allowed(const HttpConnection *connection, PemsAddressKind kind)
{
	if (kind == PEMS_ADDRESS_LOOPBACK)
		return connection->allow_loopback;
	return kind == PEMS_ADDRESS_ORDINARY && !connection->plain;
}

/* Is there something to read: bytes, the end of the stream, or an error? */
static bool
is_readable(curl_socket_t fd)
{
	char byte;
	ssize_t got;

	do
		got = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	return got >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

/*
 * Has the other side said nothing on this connection that belongs to no request?  On a new one with
 * TLS that cannot be seen: what is there may be a session ticket.
 */
static bool
is_untouched(const HttpConnection *connection, const char *remote_ip, int remote_port, int port)
{
	bool is_new = connection->address_tried;
	curl_socket_t fd;

	if (is_new && !connection->plain)
		return true;
	fd = find_socket(connection->sockets, remote_ip, remote_port, port);
	return fd == CURL_SOCKET_BAD ? is_new : !is_readable(fd);
}

/* ---------- callbacks of libcurl ---------- */

/* The address is checked here, after name resolution: what is checked is what is connected to. */
static curl_socket_t
on_open_socket(void *owner, curlsocktype purpose, struct curl_sockaddr *address)
{
	HttpConnection *connection = owner;
	curl_socket_t fd;

	(void) purpose;
	if (connection->sent)
	{
		/* A second connection has but one use: to send again. */
		connection->resend_prevented = true;
		return CURL_SOCKET_BAD;
	}
	if (!is_address_allowed(connection, pems_address_classify(&address->addr)))
	{
		connection->address_forbidden = true;
		return CURL_SOCKET_BAD;
	}
	connection->address_tried = true;
	fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	if (fd != CURL_SOCKET_BAD)
		remember_socket(connection->sockets, fd, &address->addr);
	return fd;
}

/* The owner is the list: a connection lives longer than the transfer that has opened it. */
static int
on_close_socket(void *owner, curl_socket_t fd)
{
	forget_socket(owner, fd);
	return close(fd);
}

/* Connection and TLS stand; libcurl is about to send the request. */
static int
on_about_to_send(void *owner, char *remote_ip, char *local_ip, int remote_port, int port)
{
	HttpConnection *connection = owner;
	PemsAddressKind kind;

	(void) local_ip;
	if (connection->sent)
	{
		connection->resend_prevented = true;
		return CURL_PREREQFUNC_ABORT;
	}
	/* A connection may be reused that was made when the settings allowed more. */
	if (!pems_address_read(remote_ip, &kind) || !is_address_allowed(connection, kind))
	{
		connection->address_forbidden = true;
		connection->address_tried = false;
		return CURL_PREREQFUNC_ABORT;
	}
	if (!is_untouched(connection, remote_ip, remote_port, port))
	{
		connection->unasked = true;
		return CURL_PREREQFUNC_ABORT;
	}
	connection->sent = true;
	if (connection->on_sent != NULL)
		connection->on_sent(connection->owner);
	return CURL_PREREQFUNC_OK;
}

/* ---------- what transfers call ---------- */

CURLcode
pems_http_connection_attach(CURL *easy, HttpConnection *connection)
{
	CURLcode code = CURLE_OK;

	SET_OPTION(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
	SET_OPTION(easy, CURLOPT_OPENSOCKETDATA, connection);
	SET_OPTION(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close_socket);
	SET_OPTION(easy, CURLOPT_CLOSESOCKETDATA, connection->sockets);
	SET_OPTION(easy, CURLOPT_PREREQFUNCTION, on_about_to_send);
	SET_OPTION(easy, CURLOPT_PREREQDATA, connection);
	return code;
}

void
pems_http_connection_reset(HttpConnection *connection)
{
	connection->sent = false;
	connection->resend_prevented = false;
	connection->address_forbidden = false;
	connection->address_tried = false;
	connection->unasked = false;
}
