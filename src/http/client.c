/*
 * http/client.c
 *		The only room that knows libcurl: requests in, answers out, many at a time.
 *
 * Process: the background worker, and a backend that runs one request of its own.
 * One thread; libcurl's resolver threads never run code of ours.
 *
 * Memory: malloc and what libcurl allocates, never palloc.  No PostgreSQL header
 * is included, so no callback can ereport() or longjmp() across libcurl: a
 * callback that meets a problem notes it in its Transfer and returns short.
 *
 * A Transfer is an easy handle with all that its request needs and its answer
 * brings.  It moves between three places: idle (kept for reuse, because setting
 * up a handle costs more than a request), under way (inside the multi handle), and
 * finished (waiting for pems_client_next()).
 *
 * One request is sent at most once.  libcurl sends a request again by itself when
 * a reused connection breaks before the first byte of an answer.  Two guards stop
 * it: a write's body cannot be rewound (CURLE_SEND_FAIL_REWIND), and the callback
 * that libcurl calls before each sending allows one sending per transfer.  The
 * second also holds for reads, whose repetition would break the rate limit, and
 * tells for certain whether anything can have been sent (maybe_sent).
 *
 * What is in a connection before the request is no answer to it: a load balancer
 * that gives up an idle connection likes to say so with a 408.  So each connection
 * is looked at before the request is written.  A reused one that has something to
 * read, or that the other side has ended, is dropped, and the transfer starts over
 * on a new one; nothing was sent until then, and its owner does not notice.
 *
 * Known limits: libcurl's own copy of the request's headers is freed, not zeroed.
 * What a server adds to an answer in the same TLS record is in OpenSSL's buffer,
 * not in the socket, so it is not seen before the next request.
 */
#include "http/client.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pems/address.h"
#include "pems/api_url.h"
#include "shared/monotonic.h"

/* CURLOPT_PROTOCOLS_STR came with 7.85.0; CURLOPT_PREREQFUNCTION is older. */
#if LIBCURL_VERSION_NUM < 0x075500
#error "pems_sync needs libcurl 7.85.0 or later"
#endif

/* Bytes of all header lines of an answer, informational ones included. */
#define HEADERS_MAXIMUM ((size_t) 64 * 1024)

/* A Retry-After or Date longer than this is nonsense. */
#define HEADER_VALUE_MAXIMUM 128

/* An answer that has begun must bring this many bytes a second ... */
#define LOW_SPEED_BYTES 64L
/* ... and may stall for this long, or a third of the request's time if that is less. */
#define LOW_SPEED_SECONDS 10L

/* Idle connections: how long they are trusted, and how TCP keeps watch over them. */
#define IDLE_SECONDS            60L
#define KEEPALIVE_SECONDS       30L
#define CA_FILE_REREAD_SECONDS  600L
#define DEFAULT_REQUEST_TIMEOUT 30000L
#define DEFAULT_CONNECT_TIMEOUT 5000L

#define EVENTS_PER_DRIVE 128
#define NO_DEADLINE      INT64_MAX
#define HEADER_COUNT     6

#define AUTHORIZATION_PREFIX "Authorization: Bearer "

/* Characters of a token, or of its beginning, that are not shown. */
#define SECRET_MINIMUM 8

typedef struct Transfer
{
	struct Transfer *next;     /* in the idle or the finished list */
	struct Transfer *next_all; /* in the list of all */
	PemsClient *client;
	CURL *easy;
	bool under_way;
	unsigned generation; /* of the options that the easy handle has */
	void *owner;
	void (*on_sent)(void *owner);
	int64_t started_us;

	/* the request */
	bool plain; /* http, so only a loopback address will do */
	char *authorization;
	char *idempotency_key;
	char *request_id;
	struct curl_slist headers[HEADER_COUNT];
	char *body;
	size_t body_length;
	size_t body_sent;

	/* options, as they were when the request started */
	bool allow_loopback;
	size_t max_response_size;
	long low_speed_seconds;

	/* what callbacks saw */
	bool sent;              /* libcurl was about to send; from here on, anything may have left */
	bool resend_prevented;  /* libcurl wanted to send again */
	bool address_forbidden; /* an address was refused */
	bool address_tried;     /* an address was accepted, so the connection is a new one */
	bool unasked;           /* there was something to read before the request was sent */
	bool started_over;      /* on a new connection, because of that */
	bool out_of_memory;
	bool too_large; /* the answer, so we cut it off */
	char *content_encoding;
	char *transfer_encoding;
	size_t header_bytes;
	bool headers_done;

	/* the answer */
	PemsAnswer answer;
	size_t body_capacity;
	char error_buffer[CURL_ERROR_SIZE];
} Transfer;

/* A socket that libcurl has opened and not closed yet. */
typedef struct Socket
{
	curl_socket_t fd;
	int local_port; /* 0: not known yet */
	int remote_port;
	char remote_ip[INET6_ADDRSTRLEN];
} Socket;

struct PemsClient
{
	CURLM *multi;
	int epoll;
	int64_t deadline_us; /* of libcurl's timer */
	int in_flight;
	unsigned generation;
	PemsClientOptions options; /* its strings are our copies */
	int64_t configured_us;     /* when they came */
	char *ca_file;
	char *user_agent;
	char *api_url; /* the api_url checked last, and its parts: most requests share one */
	PemsUrlParts api_parts;
	Socket *sockets;
	size_t socket_count;
	size_t socket_capacity;
	Transfer *all;
	Transfer *idle;
	Transfer *finished;
	Transfer **finished_end;
};

/*
 * libcurl starts resolver threads, which inherit the signal mask.  A signal that
 * a thread took would run the process's handler outside of its main thread.
 */
static void
block_signals(sigset_t *saved)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, saved);
}

static void
restore_signals(const sigset_t *saved)
{
	pthread_sigmask(SIG_SETMASK, saved, NULL);
}

/* ---------- addresses and URLs ---------- */

static bool
is_address_allowed(const Transfer *transfer, PemsAddressKind kind)
{
	if (kind == PEMS_ADDRESS_LOOPBACK)
		return transfer->allow_loopback;
	return kind == PEMS_ADDRESS_ORDINARY && !transfer->plain;
}

/* Parse api_url unless it is the one parsed last. */
static bool
remember_api_url(PemsClient *client, const char *api_url)
{
	char *copy;

	if (client->api_url != NULL && strcmp(client->api_url, api_url) == 0)
		return true;
	copy = strdup(api_url);
	free(client->api_url);
	client->api_url = NULL;
	pems_api_url_free(&client->api_parts);
	if (copy == NULL || !pems_api_url_parse(copy, &client->api_parts))
	{
		free(copy);
		return false;
	}
	client->api_url = copy;
	return true;
}

/* ---------- sockets ---------- */

/* Address and port as texts and numbers that can be compared with libcurl's; false: neither IPv4
 * nor IPv6. */
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
forget_socket(PemsClient *client, curl_socket_t fd)
{
	for (size_t i = 0; i < client->socket_count; i++)
	{
		if (client->sockets[i].fd != fd)
			continue;
		client->sockets[i] = client->sockets[--client->socket_count];
		return;
	}
}

/* A socket that is not remembered, for want of memory, is not reused either: see is_untouched(). */
static void
remember_socket(PemsClient *client, curl_socket_t fd, const struct sockaddr *address)
{
	Socket *new;

	forget_socket(client, fd);
	if (client->socket_count == client->socket_capacity)
	{
		size_t capacity = client->socket_capacity * 2 + 16;
		Socket *grown = realloc(client->sockets, capacity * sizeof(Socket));

		if (grown == NULL)
			return;
		client->sockets = grown;
		client->socket_capacity = capacity;
	}
	new = &client->sockets[client->socket_count];
	*new = (Socket){.fd = fd};
	if (read_address(address, new->remote_ip, &new->remote_port))
		client->socket_count++;
}

/* The port is known when the socket is connected, and stays as it is. */
static int
local_port(Socket *socket)
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
find_socket(PemsClient *client, const char *remote_ip, int remote_port, int port)
{
	for (size_t i = 0; port > 0 && i < client->socket_count; i++)
	{
		Socket *socket = &client->sockets[i];

		if (socket->remote_port == remote_port && local_port(socket) == port &&
			strcmp(socket->remote_ip, remote_ip) == 0)
			return socket->fd;
	}
	return CURL_SOCKET_BAD;
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

/* ---------- callbacks of a transfer ---------- */

/*
 * Has the other side said nothing on this connection that belongs to no request?  On a new one with
 * TLS that cannot be seen: what is there may be a session ticket.
 */
static bool
is_untouched(Transfer *transfer, const char *remote_ip, int remote_port, int port)
{
	bool is_new = transfer->address_tried;
	curl_socket_t fd;

	if (is_new && !transfer->plain)
		return true;
	fd = find_socket(transfer->client, remote_ip, remote_port, port);
	return fd == CURL_SOCKET_BAD ? is_new : !is_readable(fd);
}

static size_t
on_read(char *buffer, size_t size, size_t count, void *owner)
{
	Transfer *transfer = owner;
	size_t room = size * count;
	size_t left = transfer->body_length - transfer->body_sent;
	size_t length = left < room ? left : room;

	memcpy(buffer, transfer->body + transfer->body_sent, length);
	transfer->body_sent += length;
	return length;
}

/* A write is never sent twice by libcurl: its body cannot be had again. */
static int
on_seek(void *owner, curl_off_t offset, int origin)
{
	(void) owner;
	(void) offset;
	(void) origin;
	return CURL_SEEKFUNC_FAIL;
}

/* Connection and TLS stand; libcurl is about to send the request. */
static int
on_about_to_send(void *owner, char *remote_ip, char *local_ip, int remote_port, int port)
{
	Transfer *transfer = owner;
	PemsAddressKind kind;

	(void) local_ip;
	if (transfer->sent)
	{
		transfer->resend_prevented = true;
		return CURL_PREREQFUNC_ABORT;
	}
	/* A connection may be reused that was made when the settings allowed more. */
	if (!pems_address_read(remote_ip, &kind) || !is_address_allowed(transfer, kind))
	{
		transfer->address_forbidden = true;
		transfer->address_tried = false;
		return CURL_PREREQFUNC_ABORT;
	}
	if (!is_untouched(transfer, remote_ip, remote_port, port))
	{
		transfer->unasked = true;
		return CURL_PREREQFUNC_ABORT;
	}
	transfer->sent = true;
	if (transfer->on_sent != NULL)
		transfer->on_sent(transfer->owner);
	return CURL_PREREQFUNC_OK;
}

/* The address is checked here, after name resolution: what is checked is what is connected to. */
static curl_socket_t
on_open_socket(void *owner, curlsocktype purpose, struct curl_sockaddr *address)
{
	Transfer *transfer = owner;
	curl_socket_t fd;

	(void) purpose;
	if (transfer->sent)
	{
		/* A second connection has but one use: to send again. */
		transfer->resend_prevented = true;
		return CURL_SOCKET_BAD;
	}
	if (!is_address_allowed(transfer, pems_address_classify(&address->addr)))
	{
		transfer->address_forbidden = true;
		return CURL_SOCKET_BAD;
	}
	transfer->address_tried = true;
	fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	if (fd != CURL_SOCKET_BAD)
		remember_socket(transfer->client, fd, &address->addr);
	return fd;
}

/* The owner is the client: a connection lives longer than the transfer that has opened it. */
static int
on_close_socket(void *owner, curl_socket_t fd)
{
	forget_socket(owner, fd);
	return close(fd);
}

static size_t
on_body(char *data, size_t size, size_t count, void *owner)
{
	Transfer *transfer = owner;
	PemsAnswer *answer = &transfer->answer;
	size_t length = size * count;

	if (length > transfer->max_response_size - answer->body_length)
	{
		transfer->too_large = true;
		return 0;
	}
	if (answer->body_length + length + 1 > transfer->body_capacity)
	{
		size_t capacity = transfer->body_capacity < 1024 ? 1024 : transfer->body_capacity * 2;
		char *grown;

		if (capacity < answer->body_length + length + 1)
			capacity = answer->body_length + length + 1;
		grown = realloc(answer->body, capacity);
		if (grown == NULL)
		{
			transfer->out_of_memory = true;
			return 0;
		}
		answer->body = grown;
		transfer->body_capacity = capacity;
	}
	memcpy(answer->body + answer->body_length, data, length);
	answer->body_length += length;
	answer->body[answer->body_length] = '\0';
	return length;
}

/* on_body() counts what is decoded; this, what arrives, and may decode to nothing for ever. */
static int
on_progress(void *owner, curl_off_t expected, curl_off_t arrived, curl_off_t to_send,
			curl_off_t sent)
{
	Transfer *transfer = owner;

	(void) expected;
	(void) to_send;
	(void) sent;
	if (arrived > 0 && (size_t) arrived > transfer->max_response_size)
		transfer->too_large = true;
	return transfer->too_large;
}

/* Keep the value of the header line when it has this name; the first one counts. */
static void
keep_header(const char *line, size_t length, const char *name, char **value)
{
	size_t name_length = strlen(name);

	if (*value != NULL || length <= name_length || line[name_length] != ':' ||
		strncasecmp(line, name, name_length) != 0)
		return;
	line += name_length + 1;
	length -= name_length + 1;
	while (length > 0 && (*line == ' ' || *line == '\t'))
	{
		line++;
		length--;
	}
	while (length > 0 && strchr(" \t\r\n", line[length - 1]) != NULL)
		length--;
	if (length <= HEADER_VALUE_MAXIMUM)
		*value = strndup(line, length);
}

static void
forget_headers(Transfer *transfer)
{
	free(transfer->answer.retry_after);
	free(transfer->answer.date);
	free(transfer->content_encoding);
	free(transfer->transfer_encoding);
	transfer->answer.retry_after = NULL;
	transfer->answer.date = NULL;
	transfer->content_encoding = NULL;
	transfer->transfer_encoding = NULL;
	transfer->headers_done = false;
}

/* The status in "HTTP/1.1 408 Request Timeout"; 0: there is none. */
static int
status_in(const char *line, size_t length)
{
	const char *end = line + length;
	const char *digit = memchr(line, ' ', length);
	int status = 0;

	while (digit != NULL && digit < end && *digit == ' ')
		digit++;
	for (int i = 0; digit != NULL && i < 3 && digit < end && *digit >= '0' && *digit <= '9'; i++)
		status = status * 10 + (*digit++ - '0');
	return status;
}

/* Statuses that say that this connection will not do: too slow, another server's, too early. */
static bool
is_about_connection(int status)
{
	return status == 408 || status == 421 || status == 425;
}

/*
 * Once its answer has begun, PEMS must go on with it.  Not before: it may think
 * for as long as the request's timeout lets it.
 */
static void
demand_speed(Transfer *transfer)
{
	curl_easy_setopt(transfer->easy, CURLOPT_LOW_SPEED_LIMIT, LOW_SPEED_BYTES);
	curl_easy_setopt(transfer->easy, CURLOPT_LOW_SPEED_TIME, transfer->low_speed_seconds);
}

/* A status line: what came before was informational. */
static void
begin_answer(Transfer *transfer, int status)
{
	forget_headers(transfer);
	if (status < 100 || status >= 200)
		demand_speed(transfer);
	if (is_about_connection(status))
		curl_easy_setopt(transfer->easy, CURLOPT_FORBID_REUSE, 1L);
}

static size_t
on_header(char *line, size_t size, size_t count, void *owner)
{
	Transfer *transfer = owner;
	size_t length = size * count;

	transfer->header_bytes += length;
	if (transfer->header_bytes > HEADERS_MAXIMUM)
	{
		transfer->too_large = true;
		return 0;
	}
	if (length >= 5 && memcmp(line, "HTTP/", 5) == 0)
	{
		begin_answer(transfer, status_in(line, length));
		return length;
	}
	if (transfer->headers_done)
		return length; /* a trailer */
	if (length <= 2 && (line[0] == '\r' || line[0] == '\n'))
		transfer->headers_done = true;
	keep_header(line, length, "Retry-After", &transfer->answer.retry_after);
	keep_header(line, length, "Date", &transfer->answer.date);
	keep_header(line, length, "Content-Encoding", &transfer->content_encoding);
	keep_header(line, length, "Transfer-Encoding", &transfer->transfer_encoding);
	return length;
}

/* ---------- callbacks of the multi handle ---------- */

/* The kernel forgets closed descriptors by itself, so it has the last word on what is known. */
static void
watch(const PemsClient *client, curl_socket_t socket, bool known, struct epoll_event *event)
{
	int first = known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
	int second = known ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;

	if (epoll_ctl(client->epoll, first, socket, event) != 0 && (errno == ENOENT || errno == EEXIST))
		epoll_ctl(client->epoll, second, socket, event);
}

/*
 * libcurl wants a socket watched.  A failure here (descriptors, memory) is not
 * reported to libcurl, because it would abort every transfer; the one that hangs
 * on this socket runs into its timeout.
 */
static int
on_socket(CURL *easy, curl_socket_t socket, int what, void *owner, void *socket_data)
{
	PemsClient *client = owner;
	struct epoll_event event = {.data = {.fd = socket}};

	(void) easy;
	(void) socket_data;
	if (what == CURL_POLL_REMOVE)
	{
		epoll_ctl(client->epoll, EPOLL_CTL_DEL, socket, &event);
		return 0;
	}
	if (what & CURL_POLL_IN)
		event.events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		event.events |= EPOLLOUT;
	watch(client, socket, socket_data != NULL, &event);
	/* Any pointer will do: libcurl forgets it when the socket is no longer watched. */
	if (socket_data == NULL)
		curl_multi_assign(client->multi, socket, client);
	return 0;
}

static int
on_timer(CURLM *multi, long timeout_ms, void *owner)
{
	PemsClient *client = owner;

	(void) multi;
	client->deadline_us =
		timeout_ms < 0 ? NO_DEADLINE : monotonic_us() + (int64_t) timeout_ms * 1000;
	return 0;
}

/* ---------- options ---------- */

/* Set one option; remembers the first failure in a variable `code`. */
#define SET(easy, option, value)                                                                   \
	do                                                                                             \
	{                                                                                              \
		if (code == CURLE_OK)                                                                      \
			code = curl_easy_setopt((easy), (option), (value));                                    \
	} while (0)

/* What never changes: callbacks, and what a request must not do. */
static CURLcode
set_fixed_options(Transfer *transfer)
{
	CURL *easy = transfer->easy;
	CURLcode code = CURLE_OK;

	SET(easy, CURLOPT_PRIVATE, transfer);
	SET(easy, CURLOPT_ERRORBUFFER, transfer->error_buffer);
	SET(easy, CURLOPT_READFUNCTION, on_read);
	SET(easy, CURLOPT_READDATA, transfer);
	SET(easy, CURLOPT_SEEKFUNCTION, on_seek);
	SET(easy, CURLOPT_PREREQFUNCTION, on_about_to_send);
	SET(easy, CURLOPT_PREREQDATA, transfer);
	SET(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
	SET(easy, CURLOPT_OPENSOCKETDATA, transfer);
	SET(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close_socket);
	SET(easy, CURLOPT_CLOSESOCKETDATA, transfer->client);
	SET(easy, CURLOPT_WRITEFUNCTION, on_body);
	SET(easy, CURLOPT_WRITEDATA, transfer);
	SET(easy, CURLOPT_HEADERFUNCTION, on_header);
	SET(easy, CURLOPT_HEADERDATA, transfer);
	SET(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
	SET(easy, CURLOPT_XFERINFODATA, transfer);
	SET(easy, CURLOPT_NOPROGRESS, 0L);

	SET(easy, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
	/* Do not wait for a resolver thread that hangs. */
	SET(easy, CURLOPT_QUICK_EXIT, 1L);
#endif
	SET(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	/* We ask for no encoding; this also makes libcurl decode what comes encoded all the same. */
	SET(easy, CURLOPT_ACCEPT_ENCODING, "identity");
	SET(easy, CURLOPT_FOLLOWLOCATION, 0L);
	SET(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	SET(easy, CURLOPT_PROXY, "");
	SET(easy, CURLOPT_NOPROXY, "*");
	SET(easy, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	SET(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	SET(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	SET(easy, CURLOPT_MAXAGE_CONN, IDLE_SECONDS);
	SET(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	SET(easy, CURLOPT_TCP_KEEPIDLE, KEEPALIVE_SECONDS);
	SET(easy, CURLOPT_TCP_KEEPINTVL, KEEPALIVE_SECONDS);
	SET(easy, CURLOPT_UPLOAD_BUFFERSIZE, 16L * 1024L);
	return code;
}

/* What the settings say. */
static CURLcode
set_client_options(Transfer *transfer)
{
	const PemsClientOptions *options = &transfer->client->options;
	const char *protocols = options->allow_loopback ? "https,http" : "https";
	const char *ca_file = options->ca_file;
	CURL *easy = transfer->easy;
	CURLcode code = CURLE_OK;
	long timeout = options->request_timeout_ms;
	long connect = options->connect_timeout_ms;
	curl_off_t largest = (curl_off_t) options->max_response_size;

	timeout = timeout > 0 ? timeout : DEFAULT_REQUEST_TIMEOUT;
	connect = connect > 0 ? connect : DEFAULT_CONNECT_TIMEOUT;
	transfer->allow_loopback = options->allow_loopback;
	transfer->max_response_size = options->max_response_size;
	transfer->low_speed_seconds = timeout / 3000;
	if (transfer->low_speed_seconds < 1)
		transfer->low_speed_seconds = 1;
	if (transfer->low_speed_seconds > LOW_SPEED_SECONDS)
		transfer->low_speed_seconds = LOW_SPEED_SECONDS;

	SET(easy, CURLOPT_TIMEOUT_MS, timeout);
	SET(easy, CURLOPT_CONNECTTIMEOUT_MS, connect);
	SET(easy, CURLOPT_PROTOCOLS_STR, protocols);
	SET(easy, CURLOPT_REDIR_PROTOCOLS_STR, protocols);
	SET(easy, CURLOPT_MAXFILESIZE_LARGE, largest > 0 ? largest : 0);
	SET(easy, CURLOPT_USERAGENT, options->user_agent);
	if (ca_file != NULL)
	{
		SET(easy, CURLOPT_CAINFO, ca_file);
		SET(easy, CURLOPT_CAPATH, NULL); /* this file's authorities, and no others */
	}
	return code;
}

/* ---------- transfers ---------- */

static void
free_secret(char **text)
{
	if (*text != NULL)
		explicit_bzero(*text, strlen(*text));
	free(*text);
	*text = NULL;
}

/* What only the request needed, the token above all. */
static void
release_request(Transfer *transfer)
{
	if (transfer->easy != NULL)
		curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, NULL);
	free_secret(&transfer->authorization);
	free(transfer->idempotency_key);
	free(transfer->request_id);
	free(transfer->body);
	free(transfer->content_encoding);
	free(transfer->transfer_encoding);
	transfer->content_encoding = NULL;
	transfer->transfer_encoding = NULL;
	transfer->idempotency_key = NULL;
	transfer->request_id = NULL;
	transfer->body = NULL;
}

static void
free_transfer(Transfer *transfer)
{
	release_request(transfer);
	pems_protocol_free_answer(&transfer->answer);
	curl_easy_cleanup(transfer->easy);
	free(transfer);
}

/*
 * A handle whose transfer failed remembers more than a reset clears: after a
 * resending that was prevented, the next write would fail unsent, because libcurl
 * still wants to rewind.
 */
static void
discard_handle(Transfer *transfer)
{
	curl_easy_cleanup(transfer->easy);
	transfer->easy = NULL;
	transfer->generation = 0;
}

/* A transfer without an easy handle gets one; one with options of yesterday gets those of today. */
static bool
bring_up_to_date(Transfer *transfer)
{
	PemsClient *client = transfer->client;

	if (transfer->easy == NULL)
		transfer->easy = curl_easy_init();
	else if (transfer->generation == client->generation)
		return true;
	else
		curl_easy_reset(transfer->easy);
	if (transfer->easy == NULL)
		return false;
	transfer->generation = 0;
	if (set_fixed_options(transfer) != CURLE_OK || set_client_options(transfer) != CURLE_OK)
		return false;
	transfer->generation = client->generation;
	return true;
}

static Transfer *
create_transfer(PemsClient *client)
{
	Transfer *transfer = calloc(1, sizeof(Transfer));

	if (transfer == NULL)
		return NULL;
	transfer->client = client;
	transfer->next_all = client->all;
	client->all = transfer;
	return transfer;
}

/* An idle transfer or a new one, with nothing of an earlier request in it. */
static Transfer *
take_transfer(PemsClient *client)
{
	Transfer *transfer = client->idle;

	if (transfer != NULL)
		client->idle = transfer->next;
	else
		transfer = create_transfer(client);
	if (transfer == NULL)
		return NULL;
	if (!bring_up_to_date(transfer))
	{
		transfer->next = client->idle;
		client->idle = transfer;
		return NULL;
	}
	transfer->next = NULL;
	transfer->sent = false;
	transfer->resend_prevented = false;
	transfer->address_forbidden = false;
	transfer->address_tried = false;
	transfer->unasked = false;
	transfer->started_over = false;
	transfer->out_of_memory = false;
	transfer->too_large = false;
	transfer->header_bytes = 0;
	transfer->headers_done = false;
	transfer->body_length = 0;
	transfer->body_sent = 0;
	transfer->body_capacity = 0;
	transfer->error_buffer[0] = '\0';
	return transfer;
}

/* ---------- the end of a transfer ---------- */

static void
append_finished(Transfer *transfer)
{
	PemsClient *client = transfer->client;

	release_request(transfer);
	transfer->answer.latency_us = monotonic_us() - transfer->started_us;
	transfer->next = NULL;
	*client->finished_end = transfer;
	client->finished_end = &transfer->next;
}

static void
set_detail(Transfer *transfer, const char *detail)
{
	snprintf(transfer->answer.detail, sizeof(transfer->answer.detail), "%s", detail);
}

/* A request that could not even begin. */
static void
finish_unstarted(Transfer *transfer, PemsTransport transport, const char *detail)
{
	transfer->answer.transport = transport;
	set_detail(transfer, detail);
	append_finished(transfer);
}

/* How a text may write a character as a number. */
typedef struct Escape
{
	const char *begin;
	unsigned base;
	size_t digits; /* at most */
	const char *end;
} Escape;

/* The longest is &#x00002f; */
#define ESCAPE_MAXIMUM 10

/* May an escape begin with this character? */
static bool
is_escape(char c)
{
	return c == '\\' || c == '%' || c == '&';
}

/* Bytes of an escape at the beginning of the text that stands for this character; 0: none. */
static size_t
match_escape(const char *text, size_t length, const Escape *escape, char c)
{
	size_t at = strlen(escape->begin);
	size_t stop = at + escape->digits < length ? at + escape->digits : length;
	size_t end_length = strlen(escape->end);
	unsigned code = 0;

	if (length < at || strncasecmp(text, escape->begin, at) != 0)
		return 0;
	for (; at < stop && isxdigit((unsigned char) text[at]); at++)
	{
		char digit = text[at];

		code = code * escape->base +
			   (unsigned) (digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10);
	}
	if (code != (unsigned char) c || length - at < end_length ||
		memcmp(text + at, escape->end, end_length) != 0)
		return 0;
	return at + end_length;
}

/*
 * Bytes at the beginning of the text that stand for this character: itself, or as JSON, HTML or a
 * URL escape it.  0: it is another one.
 */
static size_t
match_character(const char *text, size_t length, char c)
{
	static const Escape escapes[] = {
		{"\\u", 16, 4, ""}, {"%", 16, 2, ""}, {"&#x", 16, 6, ";"}, {"&#", 10, 7, ";"}};

	/* first, because an escaped u would look like the beginning of one */
	for (size_t i = 0; i < sizeof(escapes) / sizeof(escapes[0]); i++)
	{
		size_t bytes = match_escape(text, length, &escapes[i], c);

		if (bytes > 0)
			return bytes;
	}
	if (length >= 2 && text[0] == '\\' && text[1] == c)
		return 2;
	return length >= 1 && text[0] == c ? 1 : 0;
}

/*
 * Bytes at the beginning of the text that spell the token; 0: it does not begin with it.  A text
 * that was cut off within it ends with its beginning, and counts if that is long enough.
 */
static size_t
match_token(const char *text, size_t length, const char *token)
{
	size_t matched = 0;

	for (size_t i = 0; token[i] != '\0'; i++)
	{
		size_t bytes;

		/* UTF-16 */
		while (matched > 0 && matched < length && text[matched] == '\0')
			matched++;
		bytes = match_character(text + matched, length - matched, token[i]);
		if (bytes == 0)
		{
			bool cut_off = matched == length ||
						   (length - matched < ESCAPE_MAXIMUM && is_escape(text[matched]));

			return cut_off && i >= SECRET_MINIMUM ? length : 0;
		}
		matched += bytes;
	}
	return matched;
}

/*
 * Blot the token out of a text that came from outside: error pages like to show
 * the request's headers, and what they say ends in tables and logs.
 */
static void
blot(char *text, size_t length, const char *token)
{
	/* Shorter ones are words; real tokens are not. */
	if (text == NULL || strlen(token) < SECRET_MINIMUM)
		return;
	for (size_t at = 0; at < length; at++)
	{
		size_t matched;

		if (text[at] != token[0] && !is_escape(text[at]))
			continue;
		matched = match_token(text + at, length - at, token);
		memset(text + at, '*', matched);
		at += matched > 0 ? matched - 1 : 0;
	}
}

static PemsTransport
transport_of_broken(const Transfer *transfer)
{
	return transfer->answer.status != 0 ? PEMS_TRANSPORT_TRUNCATED : PEMS_TRANSPORT_RESET;
}

/* libcurl's words for how a transfer ended, in ours. */
static PemsTransport
transport_of_code(const Transfer *transfer, CURLcode code)
{
	switch (code)
	{
		case CURLE_OK:
			return transfer->answer.status != 0 ? PEMS_TRANSPORT_OK : PEMS_TRANSPORT_RESET;
		case CURLE_COULDNT_RESOLVE_HOST:
		case CURLE_COULDNT_RESOLVE_PROXY:
			return PEMS_TRANSPORT_DNS;
		case CURLE_COULDNT_CONNECT:
			return PEMS_TRANSPORT_REFUSED;
		case CURLE_OPERATION_TIMEDOUT:
			return PEMS_TRANSPORT_TIMEOUT;
		case CURLE_FILESIZE_EXCEEDED:
			return PEMS_TRANSPORT_TOO_LARGE;
		case CURLE_BAD_CONTENT_ENCODING:
			return transfer->answer.status != 0 ? PEMS_TRANSPORT_ENCODED : PEMS_TRANSPORT_RESET;
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_SSL_CIPHER:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_CRL_BADFILE:
		case CURLE_SSL_ISSUER_ERROR:
		case CURLE_SSL_ENGINE_NOTFOUND:
		case CURLE_SSL_ENGINE_SETFAILED:
		case CURLE_SSL_ENGINE_INITFAILED:
		case CURLE_SSL_INVALIDCERTSTATUS:
		case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
		case CURLE_SSL_CLIENTCERT:
		case CURLE_USE_SSL_FAILED:
			return PEMS_TRANSPORT_TLS;
		case CURLE_OUT_OF_MEMORY:
			/*
			 * This is also what libcurl says of a header line above 100 kB.  Memory
			 * that runs out just while an answer's headers arrive is the rarer case.
			 */
			if (transfer->sent && transfer->answer.body_length == 0)
				return PEMS_TRANSPORT_TOO_LARGE;
			return PEMS_TRANSPORT_INTERNAL;
		case CURLE_URL_MALFORMAT:
		case CURLE_FAILED_INIT:
		case CURLE_NOT_BUILT_IN:
		case CURLE_BAD_FUNCTION_ARGUMENT:
		case CURLE_UNKNOWN_OPTION:
			return transfer->sent ? transport_of_broken(transfer) : PEMS_TRANSPORT_INTERNAL;
		default:
			/* Broken connections, unreadable HTTP, and whatever later versions invent. */
			return transport_of_broken(transfer);
	}
}

/* "the answer is encoded as br, and cannot be decoded (why)" */
static void
explain_encoding(Transfer *transfer)
{
	PemsAnswer *answer = &transfer->answer;
	const char *encoding =
		transfer->content_encoding ? transfer->content_encoding : transfer->transfer_encoding;

	snprintf(answer->detail, sizeof(answer->detail),
			 "the answer is encoded as %.100s, and cannot be decoded (%.100s)",
			 encoding ? encoding : "something unknown",
			 transfer->error_buffer[0] != '\0' ? transfer->error_buffer : "it is damaged");
}

/* What our own callbacks saw explains more than the code that libcurl made of it. */
static void
explain(Transfer *transfer, CURLcode code)
{
	PemsAnswer *answer = &transfer->answer;
	bool header = code == CURLE_OUT_OF_MEMORY || transfer->header_bytes > HEADERS_MAXIMUM;

	answer->transport = transport_of_code(transfer, code);
	set_detail(transfer, transfer->error_buffer[0] != '\0' ? transfer->error_buffer
														   : curl_easy_strerror(code));
	if (answer->transport == PEMS_TRANSPORT_OK)
		answer->detail[0] = '\0';
	else if (transfer->address_forbidden && !transfer->address_tried)
	{
		answer->transport = PEMS_TRANSPORT_FORBIDDEN_ADDRESS;
		set_detail(transfer,
				   "the host's address is loopback, link-local, unspecified or multicast");
	}
	else if (transfer->unasked && !transfer->sent)
	{
		answer->transport = PEMS_TRANSPORT_RESET;
		set_detail(
			transfer,
			"the other side sent something, or ended the connection, before the request was sent; "
			"so it was not sent");
	}
	else if (transfer->resend_prevented || code == CURLE_SEND_FAIL_REWIND)
	{
		answer->transport = PEMS_TRANSPORT_RESET;
		set_detail(transfer, "a connection in use broke before an answer came");
	}
	else if (transfer->out_of_memory)
	{
		answer->transport = transport_of_broken(transfer);
		set_detail(transfer, "out of memory");
	}
	else if (transfer->too_large || answer->transport == PEMS_TRANSPORT_TOO_LARGE)
	{
		answer->transport = PEMS_TRANSPORT_TOO_LARGE;
		snprintf(answer->detail, sizeof(answer->detail), "the %s is larger than %zu bytes",
				 header ? "header" : "body",
				 header ? HEADERS_MAXIMUM : transfer->max_response_size);
	}
	else if (answer->transport == PEMS_TRANSPORT_ENCODED)
		explain_encoding(transfer);
}

static void
finish_transfer(Transfer *transfer, CURLcode code)
{
	PemsAnswer *answer = &transfer->answer;
	const char *token = transfer->authorization + strlen(AUTHORIZATION_PREFIX);
	long status = 0;

	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	/* An informational status is not the answer. */
	answer->status = transfer->sent && status >= 200 ? (int) status : 0;
	answer->maybe_sent = transfer->sent;
	explain(transfer, code);

	blot(answer->body, answer->body_length, token);
	blot(answer->detail, strlen(answer->detail), token);
	if (answer->retry_after != NULL)
		blot(answer->retry_after, strlen(answer->retry_after), token);
	if (answer->date != NULL)
		blot(answer->date, strlen(answer->date), token);
	if (code != CURLE_OK)
		discard_handle(transfer);
	append_finished(transfer);
}

/* A reused connection was no good, and nothing was sent on it: once more, on a new one. */
static bool
start_over(Transfer *transfer)
{
	if (!transfer->unasked || transfer->sent || transfer->address_tried || transfer->started_over)
		return false;
	if (curl_easy_setopt(transfer->easy, CURLOPT_FRESH_CONNECT, 1L) != CURLE_OK ||
		curl_multi_add_handle(transfer->client->multi, transfer->easy) != CURLM_OK)
		return false;
	transfer->under_way = true;
	transfer->unasked = false;
	transfer->started_over = true;
	transfer->error_buffer[0] = '\0';
	return true;
}

/* Take what libcurl has finished out of the multi handle. */
static void
collect(PemsClient *client)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(client->multi, &left)) != NULL)
	{
		CURL *easy = message->easy_handle;
		CURLcode code = message->data.result;
		char *private = NULL;
		Transfer *transfer;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private);
		transfer = (Transfer *) private;
		curl_multi_remove_handle(client->multi, easy); /* message is gone now */
		transfer->under_way = false;
		if (!start_over(transfer))
			finish_transfer(transfer, code);
	}
}

/* ---------- the start of a transfer ---------- */

/* "<prefix><value>", or NULL */
static char *
joined(const char *prefix, const char *value)
{
	size_t prefix_length = strlen(prefix);
	size_t value_length = strlen(value);
	char *text = malloc(prefix_length + value_length + 1);

	if (text != NULL)
		snprintf(text, prefix_length + value_length + 1, "%s%s", prefix, value);
	return text;
}

static bool
is_write(PemsCall call)
{
	return call == PEMS_CALL_UPDATE || call == PEMS_CALL_DELETE;
}

/* Why this request is refused before libcurl sees it, or NULL. */
static const char *
request_problem(PemsClient *client, const PemsClientRequest *request, bool *plain,
				PemsTransport *transport)
{
	*transport = PEMS_TRANSPORT_INTERNAL;
	if (request->token == NULL || *request->token == '\0' ||
		!pems_protocol_valid_header(request->token))
		return "the token is missing or holds a control character";
	if (request->idempotency_key != NULL && !pems_protocol_valid_header(request->idempotency_key))
		return "the idempotency key holds a control character";
	if (request->request_id != NULL && !pems_protocol_valid_header(request->request_id))
		return "the request id holds a control character";
	/* Without a body the guard against sending again would be one short. */
	if (is_write(request->call) && (request->body == NULL || *request->body == '\0'))
		return "a write without a body";
	*transport = PEMS_TRANSPORT_FORBIDDEN_ADDRESS;
	if (request->url == NULL || request->api_url == NULL)
		return "no URL";
	if (!remember_api_url(client, request->api_url))
		return "api_url cannot be read";
	return pems_api_url_problem(&client->api_parts, request->url, client->options.allow_loopback,
								plain);
}

static bool
copy_request(Transfer *transfer, const PemsClientRequest *request)
{
	static char content_type[] = "Content-Type: application/json";
	static char accept[] = "Accept: application/json";
	static char no_expect[] = "Expect:";
	char *lines[HEADER_COUNT] = {NULL, accept};
	int count = 0;

	transfer->authorization = joined(AUTHORIZATION_PREFIX, request->token);
	if (transfer->authorization == NULL)
		return false;
	lines[0] = transfer->authorization;
	if (is_write(request->call))
	{
		lines[2] = content_type;
		lines[3] = no_expect;
		transfer->body = strdup(request->body);
		if (transfer->body == NULL)
			return false;
		transfer->body_length = strlen(transfer->body);
	}
	if (request->idempotency_key != NULL && *request->idempotency_key != '\0')
	{
		lines[4] = transfer->idempotency_key =
			joined("Idempotency-Key: ", request->idempotency_key);
		if (lines[4] == NULL)
			return false;
	}
	if (request->request_id != NULL && *request->request_id != '\0')
	{
		lines[5] = transfer->request_id = joined("X-Request-Id: ", request->request_id);
		if (lines[5] == NULL)
			return false;
	}
	for (int i = 0; i < HEADER_COUNT; i++)
	{
		if (lines[i] == NULL)
			continue;
		transfer->headers[count].data = lines[i];
		transfer->headers[count].next = NULL;
		if (count > 0)
			transfer->headers[count - 1].next = &transfer->headers[count];
		count++;
	}
	return true;
}

#if LIBCURL_VERSION_NUM >= 0x075700
/*
 * Seconds for which libcurl may go on with the authorities that it has read from ca_file.  A reload
 * is how an administrator says that the file has changed, so what was read before the last one is
 * too old.
 */
static long
authorities_are_good_for(const PemsClient *client)
{
	int64_t seconds = (monotonic_us() - client->configured_us) / 1000000;

	return seconds < CA_FILE_REREAD_SECONDS ? (long) seconds : CA_FILE_REREAD_SECONDS;
}
#endif

static CURLcode
set_request_options(Transfer *transfer, const PemsClientRequest *request)
{
	CURL *easy = transfer->easy;
	CURLcode code = CURLE_OK;

	SET(easy, CURLOPT_URL, request->url);
	SET(easy, CURLOPT_HTTPHEADER, transfer->headers);
	SET(easy, CURLOPT_LOW_SPEED_LIMIT, 0L);
	SET(easy, CURLOPT_LOW_SPEED_TIME, 0L);
	SET(easy, CURLOPT_HTTPGET, 1L);
	SET(easy, CURLOPT_CUSTOMREQUEST, NULL);
	SET(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t) -1);
	SET(easy, CURLOPT_FRESH_CONNECT, 0L);
	SET(easy, CURLOPT_FORBID_REUSE, 0L);
#if LIBCURL_VERSION_NUM >= 0x075700
	SET(easy, CURLOPT_CA_CACHE_TIMEOUT, authorities_are_good_for(transfer->client));
#endif
	if (is_write(request->call))
	{
		SET(easy, CURLOPT_UPLOAD, 1L); /* makes it a PUT */
		SET(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t) transfer->body_length);
	}
	if (request->call == PEMS_CALL_DELETE)
		SET(easy, CURLOPT_CUSTOMREQUEST, pems_protocol_method(request->call));
	return code;
}

static bool
launch(Transfer *transfer, const PemsClientRequest *request)
{
	PemsClient *client = transfer->client;
	sigset_t saved;
	CURLMcode code;

	if (!copy_request(transfer, request) || set_request_options(transfer, request) != CURLE_OK)
		return false;
	block_signals(&saved);
	code = curl_multi_add_handle(client->multi, transfer->easy);
	restore_signals(&saved);
	transfer->under_way = code == CURLM_OK;
	return transfer->under_way;
}

bool
pems_client_start(PemsClient *client, const PemsClientRequest *request)
{
	Transfer *transfer = take_transfer(client);
	PemsTransport transport;
	const char *problem;

	if (transfer == NULL)
		return false;
	transfer->owner = request->owner;
	transfer->on_sent = request->sent;
	transfer->started_us = monotonic_us();
	client->in_flight++;
	problem = request_problem(client, request, &transfer->plain, &transport);
	if (problem != NULL)
		finish_unstarted(transfer, transport, problem);
	else if (!launch(transfer, request))
		finish_unstarted(transfer, PEMS_TRANSPORT_INTERNAL, "libcurl did not take the request");
	return true;
}

/* ---------- driving ---------- */

int
pems_client_descriptor(const PemsClient *client)
{
	return client->epoll;
}

long
pems_client_timeout_ms(const PemsClient *client)
{
	int64_t left;

	if (client->finished != NULL)
		return 0;
	if (client->deadline_us == NO_DEADLINE)
		return -1;
	left = client->deadline_us - monotonic_us();
	return left <= 0 ? 0 : (long) ((left + 999) / 1000);
}

/* Trouble goes in as readable and writable: libcurl then finds out by itself what it is. */
static int
curl_events(uint32_t events)
{
	uint32_t trouble = EPOLLERR | EPOLLHUP;
	int bits = 0;

	if (events & (EPOLLIN | trouble))
		bits |= CURL_CSELECT_IN;
	if (events & (EPOLLOUT | trouble))
		bits |= CURL_CSELECT_OUT;
	return bits;
}

static void
fire_timer(PemsClient *client)
{
	int running;
	long timeout_ms;

	client->deadline_us = NO_DEADLINE;
	curl_multi_socket_action(client->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	/* Where we were early by a fraction, libcurl thinks that its timer still stands, and is silent.
	 */
	if (client->deadline_us == NO_DEADLINE &&
		curl_multi_timeout(client->multi, &timeout_ms) == CURLM_OK && timeout_ms >= 0)
		client->deadline_us = monotonic_us() + (int64_t) timeout_ms * 1000;
}

void
pems_client_drive(PemsClient *client)
{
	struct epoll_event events[EVENTS_PER_DRIVE];
	int count = epoll_wait(client->epoll, events, EVENTS_PER_DRIVE, 0);
	int running;
	sigset_t saved;

	block_signals(&saved);
	for (int i = 0; i < count; i++)
		curl_multi_socket_action(client->multi, events[i].data.fd, curl_events(events[i].events),
								 &running);
	if (client->deadline_us <= monotonic_us())
		fire_timer(client);
	collect(client);
	restore_signals(&saved);
}

bool
pems_client_next(PemsClient *client, void **owner, PemsAnswer *answer)
{
	Transfer *transfer = client->finished;

	if (transfer == NULL)
		return false;
	client->finished = transfer->next;
	if (client->finished == NULL)
		client->finished_end = &client->finished;
	*owner = transfer->owner;
	*answer = transfer->answer;
	transfer->answer = (PemsAnswer){0};
	transfer->next = client->idle;
	client->idle = transfer;
	client->in_flight--;
	return true;
}

int
pems_client_in_flight(const PemsClient *client)
{
	return client->in_flight;
}

/* ---------- the client ---------- */

bool
pems_client_initialize(const char **error)
{
	const curl_version_info_data *version;

	/* libcurl would write every session's keys to the file that this names. */
	unsetenv("SSLKEYLOGFILE");
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
	{
		*error = "libcurl cannot be initialized";
		return false;
	}
	version = curl_version_info(CURLVERSION_NOW);
	if (version->version_num < LIBCURL_VERSION_NUM)
		*error = "libcurl is older than the one that pems_sync was built with";
	else if ((version->features & CURL_VERSION_SSL) == 0)
		*error = "libcurl was built without TLS";
	else if ((version->features & CURL_VERSION_ASYNCHDNS) == 0)
		*error = "libcurl was built without asynchronous name resolution";
	else
		return true;
	curl_global_cleanup();
	return false;
}

bool
pems_client_configure(PemsClient *client, const PemsClientOptions *options)
{
	bool has_ca_file = options->ca_file != NULL && *options->ca_file != '\0';
	char *ca_file = has_ca_file ? strdup(options->ca_file) : NULL;
	char *user_agent = strdup(options->user_agent != NULL ? options->user_agent : "pems_sync");

	if ((has_ca_file && ca_file == NULL) || user_agent == NULL)
	{
		free(ca_file);
		free(user_agent);
		return false;
	}
	free(client->ca_file);
	free(client->user_agent);
	client->ca_file = ca_file;
	client->user_agent = user_agent;
	client->options = *options;
	client->options.ca_file = ca_file;
	client->options.user_agent = user_agent;
	client->configured_us = monotonic_us();
	client->generation++;
	curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS,
					  (long) (options->max_in_flight > 0 ? options->max_in_flight : 1));
	return true;
}

PemsClient *
pems_client_create(const PemsClientOptions *options)
{
	PemsClient *client = calloc(1, sizeof(PemsClient));

	if (client == NULL)
		return NULL;
	client->finished_end = &client->finished;
	client->deadline_us = NO_DEADLINE;
	client->epoll = epoll_create1(EPOLL_CLOEXEC);
	client->multi = curl_multi_init();
	if (client->epoll < 0 || client->multi == NULL || !pems_client_configure(client, options))
	{
		pems_client_destroy(client);
		return NULL;
	}
	curl_multi_setopt(client->multi, CURLMOPT_PIPELINING, (long) CURLPIPE_NOTHING);
	curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client);
	curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client);
	return client;
}

void
pems_client_destroy(PemsClient *client)
{
	sigset_t saved;

	if (client == NULL)
		return;
	block_signals(&saved);
	for (Transfer *transfer = client->all, *next; transfer != NULL; transfer = next)
	{
		next = transfer->next_all;
		if (transfer->under_way)
			curl_multi_remove_handle(client->multi, transfer->easy);
		free_transfer(transfer);
	}
	if (client->multi != NULL)
		curl_multi_cleanup(client->multi);
	restore_signals(&saved);
	if (client->epoll >= 0)
		close(client->epoll);
	pems_api_url_free(&client->api_parts);
	free(client->api_url);
	free(client->ca_file);
	free(client->user_agent);
	free(client->sockets);
	free(client);
}
