/*
 * handler.c
 *		The HTTP daemon: its callbacks, and how it starts and stops.
 *
 * A request goes through the stages of request.h.  Answers leave from
 * mock_handler's last lines only; the log was written before, in calls.c.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* POLLRDHUP */
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handler.h"
#include "memory.h"
#include "request.h"
#include "text.h"

/*
 * Room for a request's head and part of its body, and for the answer's head.  The
 * daemon clears all of it after every request, so that more would cost time.
 */
#define CONNECTION_MEMORY ((size_t) 16 * 1024)
#define MOST_CONNECTIONS  16000

/* What a connection is remembered by. */
typedef struct Socket
{
	bool used; /* it carried a PEMS request */
} Socket;

/* ---------- the life of a request ---------- */

static void *
begin_request(void *closure, const char *uri, struct MHD_Connection *connection)
{
	MockRequest *request = mock_memory_allocate(sizeof(*request));

	request->server = closure;
	request->connection = connection;
	request->uri = mock_memory_copy(uri);
	mock_text_replace_invalid(request->uri);
	request->control = strncmp(request->uri, "/_control/", strlen("/_control/")) == 0;
	return request;
}

static void
end_request(void *closure, struct MHD_Connection *connection, void **context,
			enum MHD_RequestTerminationCode code)
{
	MockRequest *request = *context;
	MockServer *server = closure;

	(void) connection;
	(void) code;
	if (request == NULL)
		return;
	*context = NULL;
	if (request->in_progress)
		mock_stats_leave(&server->stats, mock_effects_status(request));
	mock_request_free(request);
}

static void
resume(MockRequest *request, MockStage stage)
{
	request->stage = stage;
	MHD_resume_connection(request->connection);
}

void
mock_handler_cancel(MockRequest *request)
{
	if (!request->logged)
		mock_calls_abandon(request);
	resume(request, MOCK_STAGE_CLOSING);
}

static bool
client_has_gone(const MockRequest *request)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct pollfd look = {.fd = info->connect_fd, .events = POLLRDHUP};

	return poll(&look, 1, 0) > 0;
}

/* Do what the delayed request asks, although its client may have gone. */
static void
run_delayed(MockRequest *request)
{
	int64_t hold_ms = mock_request_effect(request)->hold_ms;

	mock_calls_run(request);
	request->stage = MOCK_STAGE_HELD;
	if (hold_ms == 0 || !mock_timer_again(&request->server->timer, request, hold_ms * 1000))
		resume(request, MOCK_STAGE_READY);
}

/* The timer's thread: a request that waited is due. */
static void
handle_due(MockRequest *request)
{
	switch (request->stage)
	{
		case MOCK_STAGE_DELAYED:
			run_delayed(request);
			break;
		case MOCK_STAGE_HANGING:
			if (client_has_gone(request) ||
				!mock_timer_again(&request->server->timer, request, MOCK_HANG_LOOK_US))
				resume(request, MOCK_STAGE_CLOSING);
			break;
		default:
			resume(request, MOCK_STAGE_READY);
			break;
	}
}

/* ---------- arrival ---------- */

static void
count_connection(MockRequest *request)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	Socket *state = info != NULL ? info->socket_context : NULL;

	if (state == NULL || state->used)
		return;
	state->used = true;
	request->server->stats.connections_used++;
}

static void
arrive(MockRequest *request)
{
	MockServer *server = request->server;
	MockFaultSubject subject;

	mock_request_read(request);
	mock_stats_arrive(&server->stats, request->organization, request->call, &request->arrived_us,
					  &request->arrived_wall_us);
	request->in_progress = true;
	count_connection(request);
	subject = (MockFaultSubject){
		.organization_code = request->organization_code,
		.pfa_id = request->pfa_id,
		.method = request->method,
		.call = request->call,
		.page = request->page,
	};
	request->fault = mock_faults_pick(&server->faults, &subject);
}

static enum MHD_Result
wait_in(MockRequest *request, MockStage stage, int64_t delay_ms)
{
	MockTimer *timer = &request->server->timer;

	request->stage = stage;
	if (mock_timer_suspend(timer, request, delay_ms * 1000))
		return MHD_YES;
	if (!request->logged)
		mock_calls_abandon(request);
	return MHD_NO;
}

/* The request was read whole. */
static enum MHD_Result
handle_whole(MockRequest *request)
{
	const MockEffect *effect;

	if (request->control)
	{
		mock_control_run(request);
		request->stage = MOCK_STAGE_READY;
		return mock_delivery_send(request);
	}
	arrive(request);
	effect = mock_request_effect(request);
	if (effect->delay_ms > 0)
		return wait_in(request, MOCK_STAGE_DELAYED, effect->delay_ms);
	mock_calls_run(request);
	if (effect->hold_ms > 0)
		return wait_in(request, MOCK_STAGE_HELD, effect->hold_ms);
	request->stage = MOCK_STAGE_READY;
	return mock_delivery_send(request);
}

static enum MHD_Result
handle(void *closure, struct MHD_Connection *connection, const char *url, const char *method,
	   const char *version, const char *upload, size_t *upload_size, void **context)
{
	MockRequest *request = *context;

	(void) closure;
	(void) connection;
	(void) url;
	(void) version;
	if (request == NULL)
		return MHD_NO;
	if (!request->begun)
	{
		request->begun = true;
		request->method = mock_memory_copy(method);
		mock_text_replace_invalid(request->method);
		return MHD_YES;
	}
	if (*upload_size > 0)
	{
		pems_json_append(&request->body, upload, *upload_size);
		*upload_size = 0;
		return MHD_YES;
	}
	if (request->stage == MOCK_STAGE_RECEIVING)
		return handle_whole(request);
	if (request->stage == MOCK_STAGE_CLOSING)
		return MHD_NO;
	return mock_delivery_send(request);
}

static void
note_connection(void *closure, struct MHD_Connection *connection, void **context,
				enum MHD_ConnectionNotificationCode code)
{
	MockServer *server = closure;

	(void) connection;
	if (code == MHD_CONNECTION_NOTIFY_STARTED)
	{
		*context = mock_memory_allocate(sizeof(Socket));
		server->stats.connections_accepted++;
		server->stats.connections_open++;
		return;
	}
	free(*context);
	*context = NULL;
	server->stats.connections_open--;
}

/* ---------- start and stop ---------- */

static char *
read_pem(const char *path, char *error)
{
	JsonBuffer text = {0};
	char block[4096];
	size_t got;
	FILE *file = fopen(path, "re");

	if (file == NULL)
	{
		snprintf(error, 256, "could not open \"%.150s\": %s", path, strerror(errno));
		return NULL;
	}
	while ((got = fread(block, 1, sizeof(block), file)) > 0)
		pems_json_append(&text, block, got);
	fclose(file);
	if (text.length == 0)
		snprintf(error, 256, "\"%.150s\" is empty", path);
	return text.data;
}

/* The options that are always there; TLS and threads come behind them. */
static size_t
set_options(MockServer *server, struct sockaddr_in *address, struct MHD_OptionItem *items)
{
	const struct MHD_OptionItem always[] = {
		{MHD_OPTION_SOCK_ADDR, 0, address},
		{MHD_OPTION_URI_LOG_CALLBACK, (intptr_t) begin_request, server},
		{MHD_OPTION_NOTIFY_COMPLETED, (intptr_t) end_request, server},
		{MHD_OPTION_NOTIFY_CONNECTION, (intptr_t) note_connection, server},
		{MHD_OPTION_CONNECTION_MEMORY_LIMIT, (intptr_t) CONNECTION_MEMORY, NULL},
		{MHD_OPTION_CONNECTION_LIMIT, MOST_CONNECTIONS, NULL},
		{MHD_OPTION_LISTEN_BACKLOG_SIZE, 4096, NULL},
	};
	size_t count = sizeof(always) / sizeof(always[0]);

	memcpy(items, always, sizeof(always));
	if (server->options->threads > 1)
		items[count++] = (struct MHD_OptionItem){MHD_OPTION_THREAD_POOL_SIZE,
												 (intptr_t) server->options->threads, NULL};
	return count;
}

static bool
set_tls_options(MockServer *server, struct MHD_OptionItem *items, size_t *count, char *error)
{
	const MockOptions *options = server->options;
	void *priorities = (void *) (uintptr_t) options->tls_priorities;

	server->tls_cert = read_pem(options->tls_cert_file, error);
	if (server->tls_cert != NULL)
		server->tls_key = read_pem(options->tls_key_file, error);
	if (server->tls_key == NULL)
		return false;
	items[(*count)++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, server->tls_cert};
	items[(*count)++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, server->tls_key};
	items[(*count)++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0, priorities};
	return true;
}

bool
mock_handler_start(MockServer *server, char *error)
{
	const MockOptions *options = server->options;
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(options->port)};
	struct MHD_OptionItem items[16];
	unsigned int flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_TURBO;
	size_t count = set_options(server, &address, items);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (options->tls_cert_file != NULL)
	{
		flags |= MHD_USE_TLS;
		if (!set_tls_options(server, items, &count, error))
			return false;
	}
	items[count] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
	mock_timer_start(&server->timer, handle_due);
	errno = 0;
	server->daemon = MHD_start_daemon(flags, options->port, NULL, NULL, handle, server,
									  MHD_OPTION_ARRAY, items, MHD_OPTION_END);
	if (server->daemon == NULL)
		snprintf(error, 256, "could not listen on 127.0.0.1:%u: %s", (unsigned int) options->port,
				 errno != 0 ? strerror(errno) : "see certificate and key");
	return server->daemon != NULL;
}

uint16_t
mock_handler_port(const MockServer *server)
{
	const union MHD_DaemonInfo *info =
		MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_BIND_PORT);

	return info != NULL ? info->port : 0;
}

void
mock_handler_stop(MockServer *server)
{
	/* no request can begin to wait now; those that do must be resumed before the daemon stops */
	mock_timer_stop(&server->timer);
	mock_timer_cancel(&server->timer, mock_handler_cancel);
	MHD_stop_daemon(server->daemon);
	free(server->tls_cert);
	free(server->tls_key);
}
