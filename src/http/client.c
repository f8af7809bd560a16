/*
 * http/client.c
 *		Requests in, answers out, many at a time: the multi handle of libcurl.
 *
 * A transfer (http/transfer.c) is in one of three states: idle, kept for the next
 * request; under way, inside the multi handle; or finished, until
 * pems_http_client_next() hands its answer out.
 *
 * libcurl says which sockets it wants watched, and when it wants to be called
 * again; the sockets are in an epoll descriptor, on which the owner waits.
 *
 * Process: the background worker.  One thread; libcurl's resolver threads never
 * run code of ours.
 * Memory: malloc and what libcurl allocates, never palloc.  No PostgreSQL header
 * is included, so no callback can ereport() or longjmp() across libcurl.
 */
#include "http/client.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "http/connection.h"
#include "http/transfer.h"
#include "pems/api_url.h"
#include "shared/monotonic.h"

/* At most so long libcurl goes on with the certificate authorities that it has read from a file. */
#define CA_FILE_REREAD_SECONDS 600L

#define EVENTS_PER_DRIVE 128
#define NO_DEADLINE      INT64_MAX

struct PemsHttpClient
{
	CURLM *multi;
	int epoll;
	int64_t deadline_us; /* of libcurl's timer */
	int in_flight;
	unsigned generation;           /* of the options */
	PemsHttpClientOptions options; /* its strings are our copies */
	int64_t configured_us;         /* when they came */
	char *ca_file;
	char *user_agent;
	char *api_url; /* the one checked last, and its parts: most requests share one */
	PemsUrlParts api_parts;
	HttpSockets sockets;
	HttpTransfer *all;
	HttpTransfer *idle;
	HttpTransfer *finished;
	HttpTransfer **finished_end;
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

/* ---------- lists of transfers ---------- */

static void
add_idle(PemsHttpClient *client, HttpTransfer *transfer)
{
	transfer->next = client->idle;
	client->idle = transfer;
}

static void
add_finished(PemsHttpClient *client, HttpTransfer *transfer)
{
	transfer->next = NULL;
	*client->finished_end = transfer;
	client->finished_end = &transfer->next;
}

static HttpTransfer *
create_transfer(PemsHttpClient *client)
{
	HttpTransfer *transfer = pems_http_transfer_create(&client->sockets);

	if (transfer == NULL)
		return NULL;
	transfer->next_all = client->all;
	client->all = transfer;
	return transfer;
}

/* An idle transfer or a new one, ready for a request; NULL when out of memory. */
static HttpTransfer *
get_transfer(PemsHttpClient *client)
{
	HttpTransfer *transfer = client->idle;

	if (transfer != NULL)
		client->idle = transfer->next;
	else
		transfer = create_transfer(client);
	if (transfer == NULL)
		return NULL;
	if (!pems_http_transfer_prepare(transfer, &client->options, client->generation))
	{
		add_idle(client, transfer);
		return NULL;
	}
	transfer->next = NULL;
	return transfer;
}

/* ---------- callbacks of the multi handle ---------- */

/* The kernel forgets closed descriptors by itself, so it has the last word on what is known. */
static void
watch(const PemsHttpClient *client, curl_socket_t socket, bool known, struct epoll_event *event)
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
	PemsHttpClient *client = owner;
	struct epoll_event event = {.data = {.fd = socket}};

	(void) easy;
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
	PemsHttpClient *client = owner;

	(void) multi;
	client->deadline_us =
		timeout_ms < 0 ? NO_DEADLINE : monotonic_us() + (int64_t) timeout_ms * 1000;
	return 0;
}

/* ---------- the start of a transfer ---------- */

/* Parse api_url unless it is the one parsed last. */
static bool
remember_api_url(PemsHttpClient *client, const char *api_url)
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

/* Why this request is refused before libcurl sees it, or NULL. */
static const char *
request_problem(PemsHttpClient *client, const PemsHttpClientRequest *request, bool *plain,
				PemsTransport *transport)
{
	const char *problem = pems_http_request_problem(request);

	*transport = PEMS_TRANSPORT_INTERNAL;
	if (problem != NULL)
		return problem;
	*transport = PEMS_TRANSPORT_FORBIDDEN_ADDRESS;
	if (request->url == NULL || request->api_url == NULL)
		return "no URL";
	if (!remember_api_url(client, request->api_url))
		return "api_url cannot be read";
	return pems_api_url_problem(&client->api_parts, request->url, client->options.allow_loopback,
								plain);
}

/*
 * Seconds for which libcurl may go on with the authorities that it has read from ca_file.  A reload
 * is how an administrator says that the file has changed, so what was read before the last one is
 * too old.
 */
static long
authorities_are_good_for(const PemsHttpClient *client)
{
	int64_t seconds = (monotonic_us() - client->configured_us) / 1000000;

	return seconds < CA_FILE_REREAD_SECONDS ? (long) seconds : CA_FILE_REREAD_SECONDS;
}

static bool
run_transfer(PemsHttpClient *client, HttpTransfer *transfer)
{
	transfer->under_way = curl_multi_add_handle(client->multi, transfer->easy) == CURLM_OK;
	return transfer->under_way;
}

static bool
launch(PemsHttpClient *client, HttpTransfer *transfer, const PemsHttpClientRequest *request)
{
	sigset_t saved;
	bool running;

	if (!pems_http_transfer_load(transfer, request, authorities_are_good_for(client)))
		return false;
	block_signals(&saved);
	running = run_transfer(client, transfer);
	restore_signals(&saved);
	return running;
}

bool
pems_http_client_start(PemsHttpClient *client, const PemsHttpClientRequest *request)
{
	HttpTransfer *transfer = get_transfer(client);
	PemsTransport transport;
	const char *problem;

	if (transfer == NULL)
		return false;
	transfer->connection.owner = request->owner;
	transfer->connection.on_sent = request->sent;
	client->in_flight++;
	problem = request_problem(client, request, &transfer->connection.plain, &transport);
	if (problem == NULL && launch(client, transfer, request))
		return true;
	if (problem != NULL)
		pems_http_transfer_refuse(transfer, transport, problem);
	else
		pems_http_transfer_refuse(transfer, PEMS_TRANSPORT_INTERNAL,
								  "libcurl did not take the request");
	add_finished(client, transfer);
	return true;
}

/* ---------- the end of a transfer ---------- */

/*
 * A reused connection was no good, and nothing was sent on it (http/connection.c): once more, on a
 * new one.  The owner does not notice.
 */
static bool
start_over(PemsHttpClient *client, HttpTransfer *transfer)
{
	HttpConnection *connection = &transfer->connection;

	if (!connection->unasked || connection->sent || connection->address_tried ||
		transfer->started_over)
		return false;
	if (curl_easy_setopt(transfer->easy, CURLOPT_FRESH_CONNECT, 1L) != CURLE_OK ||
		!run_transfer(client, transfer))
		return false;
	connection->unasked = false;
	transfer->started_over = true;
	transfer->error_buffer[0] = '\0';
	return true;
}

/* Take what libcurl has finished out of the multi handle. */
static void
collect(PemsHttpClient *client)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(client->multi, &left)) != NULL)
	{
		CURL *easy = message->easy_handle;
		CURLcode code = message->data.result;
		char *private = NULL;
		HttpTransfer *transfer;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private);
		transfer = (HttpTransfer *) private;
		curl_multi_remove_handle(client->multi, easy); /* message is gone now */
		transfer->under_way = false;
		if (start_over(client, transfer))
			continue;
		pems_http_transfer_end(transfer, code);
		add_finished(client, transfer);
	}
}

bool
pems_http_client_next(PemsHttpClient *client, void **owner, PemsAnswer *answer)
{
	HttpTransfer *transfer = client->finished;

	if (transfer == NULL)
		return false;
	client->finished = transfer->next;
	if (client->finished == NULL)
		client->finished_end = &client->finished;
	*owner = transfer->connection.owner;
	*answer = transfer->answer.received;
	transfer->answer.received = (PemsAnswer){0};
	add_idle(client, transfer);
	client->in_flight--;
	return true;
}

int
pems_http_client_in_flight(const PemsHttpClient *client)
{
	return client->in_flight;
}

/* ---------- driving ---------- */

int
pems_http_client_descriptor(const PemsHttpClient *client)
{
	return client->epoll;
}

long
pems_http_client_timeout_ms(const PemsHttpClient *client)
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
fire_timer(PemsHttpClient *client)
{
	int running;
	long timeout_ms;

	client->deadline_us = NO_DEADLINE;
	curl_multi_socket_action(client->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	/* Where we were a little early, libcurl thinks that its timer still stands, and is silent. */
	if (client->deadline_us == NO_DEADLINE &&
		curl_multi_timeout(client->multi, &timeout_ms) == CURLM_OK && timeout_ms >= 0)
		client->deadline_us = monotonic_us() + (int64_t) timeout_ms * 1000;
}

void
pems_http_client_drive(PemsHttpClient *client)
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

/* ---------- the client ---------- */

bool
pems_http_client_initialize(const char **error)
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
pems_http_client_configure(PemsHttpClient *client, const PemsHttpClientOptions *options)
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

PemsHttpClient *
pems_http_client_create(const PemsHttpClientOptions *options)
{
	PemsHttpClient *client = calloc(1, sizeof(PemsHttpClient));

	if (client == NULL)
		return NULL;
	client->finished_end = &client->finished;
	client->deadline_us = NO_DEADLINE;
	client->epoll = epoll_create1(EPOLL_CLOEXEC);
	client->multi = curl_multi_init();
	if (client->epoll < 0 || client->multi == NULL || !pems_http_client_configure(client, options))
	{
		pems_http_client_destroy(client);
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
pems_http_client_destroy(PemsHttpClient *client)
{
	sigset_t saved;

	if (client == NULL)
		return;
	block_signals(&saved);
	for (HttpTransfer *transfer = client->all, *next; transfer != NULL; transfer = next)
	{
		next = transfer->next_all;
		if (transfer->under_way)
			curl_multi_remove_handle(client->multi, transfer->easy);
		pems_http_transfer_free(transfer);
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
	pems_http_connection_free_sockets(&client->sockets);
	free(client);
}
