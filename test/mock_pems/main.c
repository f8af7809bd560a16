/*
 * main.c
 *		The fake PEMS: from the command line to the signal that ends it.
 *
 * Threads: this one waits for the signal, the daemon's serve connections, and
 * the timer's wakes requests that a fault delays.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "handler.h"
#include "memory.h"
#include "server.h"

/* Enough for an orderly end; after that, any end will do. */
#define STOP_SECONDS 3

static void
follow_parent(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		exit(0); /* it ended before we asked */
}

/* Every connection is a descriptor. */
static void
raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* The signals that end us, blocked in this thread and all that it starts. */
static sigset_t
block_signals(void)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signals;
}

static void
end_at_once(int signal_number)
{
	(void) signal_number;
	_exit(0);
}

static void
start(MockServer *server)
{
	char error[MOCK_LOADER_ERROR_SIZE] = "";

	mock_store_initialize(&server->store);
	mock_answers_initialize(&server->answers);
	mock_faults_initialize(&server->faults);
	mock_stats_initialize(&server->stats);
	mock_journal_open(&server->journal, server->options->log_file, server->options->log_memory);
	if (!mock_loader_open(&server->loader, server->options->records_file, error) ||
		!mock_loader_load(&server->loader, &server->store, error) ||
		!mock_handler_start(server, error))
		mock_memory_die("%s", error);
}

int
main(int argc, char **argv)
{
	static MockServer server;
	static MockOptions options;
	pid_t parent = getppid();
	sigset_t signals;
	int signal_number;

	mock_options_parse(&options, argc, argv);
	if (options.die_with_parent)
		follow_parent(parent);
	raise_descriptor_limit();
	signals = block_signals();
	server.options = &options;
	start(&server);
	printf("mock_pems ready on 127.0.0.1:%u\n", (unsigned int) mock_handler_port(&server));
	fflush(stdout);
	sigwait(&signals, &signal_number);
	signal(SIGALRM, end_at_once);
	alarm(STOP_SECONDS);
	mock_handler_stop(&server);
	return 0;
}
