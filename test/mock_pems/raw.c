/*
 * raw.c
 *		An answer with more header bytes than the daemon has memory for.
 *
 * The daemon builds heads in the connection's memory and clears that memory for
 * every request, so making it large for one fault would slow down all others.
 * The bytes go to the socket directly, or through the connection's TLS session.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include <gnutls/gnutls.h>

#include "raw.h"
#include "text.h"

/* More than the 64 kB that a client is to accept. */
#define HEADER_COUNT  20
#define HEADER_LENGTH 4000

/* A client that does not read blocks us no longer than this. */
#define PATIENCE_MS 1000

typedef struct Wire
{
	int descriptor;
	gnutls_session_t session; /* NULL: no TLS */
} Wire;

static Wire
find_wire(const MockRequest *request)
{
	const union MHD_ConnectionInfo *info;
	Wire wire = {.descriptor = -1};

	info = MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	if (info != NULL)
		wire.descriptor = info->connect_fd;
	if (request->server->options->tls_cert_file == NULL)
		return wire;
	info = MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
	if (info != NULL)
		wire.session = info->tls_session;
	return wire;
}

/* Bytes that were taken, 0: try again later, -1: over. */
static ssize_t
send_some(const Wire *wire, const char *bytes, size_t length)
{
	ssize_t sent;

	if (wire->session != NULL)
	{
		sent = gnutls_record_send(wire->session, bytes, length);
		return sent == GNUTLS_E_AGAIN || sent == GNUTLS_E_INTERRUPTED ? 0 : sent;
	}
	sent = send(wire->descriptor, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
	return sent < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : sent;
}

static void
send_all(const Wire *wire, const char *bytes, size_t length)
{
	struct pollfd room = {.fd = wire->descriptor, .events = POLLOUT};

	while (length > 0)
	{
		ssize_t sent = send_some(wire, bytes, length);

		if (sent < 0 || (sent == 0 && poll(&room, 1, PATIENCE_MS) <= 0))
			return;
		bytes += sent;
		length -= (size_t) sent;
	}
}

static void
append_head(JsonBuffer *out, const MockRequest *request)
{
	char padding[HEADER_LENGTH];
	char letter;

	memset(padding, 'h', sizeof(padding));
	pems_json_append_text(out, "HTTP/1.1 ");
	mock_text_integer(out, request->reply.status);
	pems_json_append_text(out, " Huge\r\nConnection: close\r\nContent-Type: application/json\r\n"
							   "Content-Length: ");
	mock_text_integer(out, (int64_t) request->reply.body.length);
	for (int i = 0; i < HEADER_COUNT; i++)
	{
		letter = (char) ('A' + i);
		pems_json_append_text(out, "\r\nX-Padding-");
		pems_json_append(out, &letter, 1);
		pems_json_append_text(out, ": ");
		pems_json_append(out, padding, sizeof(padding));
	}
	pems_json_append_text(out, "\r\n\r\n");
}

void
mock_raw_send_huge_headers(const MockRequest *request)
{
	Wire wire = find_wire(request);
	JsonBuffer out = {0};

	append_head(&out, request);
	pems_json_append(&out, request->reply.body.data, request->reply.body.length);
	if (!out.failed)
		send_all(&wire, out.data, out.length);
	pems_json_buffer_free(&out);
}
