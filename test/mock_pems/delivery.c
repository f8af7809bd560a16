/*
 * delivery.c
 *		How the bytes of an answer travel: whole, half, slowly, without end, or not at all.
 *
 * Closing without a byte: the handler returns MHD_NO before any response was
 * queued.  The daemon then closes the socket; the whole request was read, so the
 * kernel sends FIN.  For RST the socket gets SO_LINGER with zero seconds before.
 * (MHD_USE_TURBO keeps the daemon from calling shutdown(), which would send FIN.)
 */
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "clock.h"
#include "raw.h"
#include "request.h"

#define BLOCK_SIZE 16384

/* ---------- nothing at all ---------- */

static enum MHD_Result
close_connection(const MockRequest *request)
{
	const union MHD_ConnectionInfo *info;
	struct linger now = {.l_onoff = 1, .l_linger = 0};

	if (mock_request_effect(request)->reset)
	{
		info = MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
		setsockopt(info->connect_fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	}
	return MHD_NO;
}

static enum MHD_Result
hang(MockRequest *request)
{
	request->stage = MOCK_STAGE_HANGING;
	return mock_timer_suspend(&request->server->timer, request, MOCK_HANG_LOOK_US) ? MHD_YES
																				   : MHD_NO;
}

/* ---------- bodies that are made while they are sent ---------- */

static ssize_t
read_half(void *closure, uint64_t position, char *out, size_t room)
{
	const MockRequest *request = closure;
	size_t half = request->reply.body.length / 2;
	size_t length = half - (size_t) position;

	if (length == 0)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (length > room)
		length = room;
	memcpy(out, request->reply.body.data + position, length);
	return (ssize_t) length;
}

/* Half of it, then silence for as long as the client waits. */
static ssize_t
read_stalled(void *closure, uint64_t position, char *out, size_t room)
{
	MockRequest *request = closure;

	if (position < request->reply.body.length / 2)
		return read_half(closure, position, out, room);
	if (request->stage == MOCK_STAGE_CLOSING)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	return hang(request) == MHD_YES ? 0 : MHD_CONTENT_READER_END_WITH_ERROR;
}

/* One byte, then the connection sleeps until the next one is due. */
static ssize_t
read_slowly(void *closure, uint64_t position, char *out, size_t room)
{
	MockRequest *request = closure;
	int64_t now = mock_clock_monotonic_us();

	(void) room;
	if (request->stage == MOCK_STAGE_CLOSING)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (now < request->next_byte_us)
	{
		request->stage = MOCK_STAGE_TRICKLING;
		if (!mock_timer_suspend(&request->server->timer, request, request->next_byte_us - now))
			return MHD_CONTENT_READER_END_WITH_ERROR;
		return 0;
	}
	*out = request->reply.body.data[position];
	request->next_byte_us = now + mock_request_effect(request)->ms_per_byte * 1000;
	return 1;
}

/* The beginning of a JSON object that never ends. */
static ssize_t
read_for_ever(void *closure, uint64_t position, char *out, size_t room)
{
	static const char begin[] = "{\"success\":true,\"padding\":\"";

	(void) closure;
	memset(out, 'x', room);
	if (position == 0 && room >= sizeof(begin))
		memcpy(out, begin, sizeof(begin) - 1);
	return (ssize_t) room;
}

static struct MHD_Response *
create_response(MockRequest *request)
{
	MockReply *reply = &request->reply;
	MockStream *stream = reply->stream;

	switch (mock_request_effect(request)->delivery)
	{
		case MOCK_DELIVER_HALF:
			return MHD_create_response_from_callback(reply->body.length, BLOCK_SIZE, read_half,
													 request, NULL);
		case MOCK_DELIVER_STALLED:
			return MHD_create_response_from_callback(reply->body.length, BLOCK_SIZE, read_stalled,
													 request, NULL);
		case MOCK_DELIVER_SLOWLY:
			return MHD_create_response_from_callback(reply->body.length, BLOCK_SIZE, read_slowly,
													 request, NULL);
		case MOCK_DELIVER_FOR_EVER:
			return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_SIZE, read_for_ever,
													 request, NULL);
		default:
			break;
	}
	if (stream == NULL)
		return MHD_create_response_from_buffer(reply->body.length,
											   reply->body.length > 0 ? reply->body.data : NULL,
											   MHD_RESPMEM_PERSISTENT);
	reply->stream = NULL; /* the response frees it */
	return mock_stream_response(stream);
}

/* ---------- headers ---------- */

static void
add_dates(struct MHD_Response *response, const MockEffect *effect, int64_t server_skew_us)
{
	int64_t date = (mock_clock_wall_us() + server_skew_us) / 1000000 + effect->date_skew_s;
	char text[MOCK_CLOCK_HTTP_SIZE];

	if (!effect->retry_after_date && effect->date_skew_s == 0 && server_skew_us == 0)
		return; /* the daemon adds the Date that is */
	mock_clock_format_http(date, text);
	MHD_add_response_header(response, MHD_HTTP_HEADER_DATE, text);
	if (!effect->retry_after_date)
		return;
	mock_clock_format_http(date + effect->retry_after_date_s, text);
	MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, text);
}

static void
add_headers(const MockRequest *request, struct MHD_Response *response)
{
	const MockEffect *effect = mock_request_effect(request);
	bool typed = false;

	for (const MockHeader *header = effect->headers; header != NULL; header = header->next)
	{
		MHD_add_response_header(response, header->name, header->value);
		typed = typed || strcasecmp(header->name, MHD_HTTP_HEADER_CONTENT_TYPE) == 0;
	}
	if (!typed)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
								request->reply.content_type != NULL ? request->reply.content_type
																	: "application/json");
	if (request->reply.status == 401)
		MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
	if (effect->retry_after != NULL)
		MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, effect->retry_after);
	if (effect->redirect != NULL)
		MHD_add_response_header(response, MHD_HTTP_HEADER_LOCATION, effect->redirect);
	add_dates(response, effect, request->server->clock_skew_us);
}

/* ---------- sending ---------- */

/* A plain answer counts as given now; one that takes its time, when it is over. */
static void
leave(MockRequest *request, const MockEffect *effect)
{
	if (!request->in_progress || effect->delivery == MOCK_DELIVER_SLOWLY ||
		effect->delivery == MOCK_DELIVER_FOR_EVER || effect->delivery == MOCK_DELIVER_NEVER ||
		effect->delivery == MOCK_DELIVER_STALLED)
		return;
	request->in_progress = false;
	mock_stats_leave(&request->server->stats, mock_effects_status(request));
}

enum MHD_Result
mock_delivery_send(MockRequest *request)
{
	const MockEffect *effect = mock_request_effect(request);
	struct MHD_Response *response;
	enum MHD_Result result;

	leave(request, effect);
	if (effect->delivery == MOCK_DELIVER_NOTHING)
		return close_connection(request);
	if (effect->delivery == MOCK_DELIVER_NEVER)
		return hang(request);
	if (effect->huge_headers)
	{
		mock_raw_send_huge_headers(request);
		return MHD_NO;
	}
	response = create_response(request);
	if (response == NULL)
		return MHD_NO;
	add_headers(request, response);
	result =
		MHD_queue_response(request->connection, (unsigned int) request->reply.status, response);
	MHD_destroy_response(response);
	return result;
}
