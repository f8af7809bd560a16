/*
 * server.h
 *		Everything that the threads share, each part with its own lock.
 */
#ifndef MOCK_SERVER_H
#define MOCK_SERVER_H

#include <microhttpd.h>
#include <stdatomic.h>

#include "answers.h"
#include "faults.h"
#include "journal.h"
#include "loader.h"
#include "options.h"
#include "stats.h"
#include "store.h"
#include "timer.h"

typedef struct MockServer
{
	const MockOptions *options;
	struct MHD_Daemon *daemon;
	char *tls_cert; /* PEM; as long as the daemon lives */
	char *tls_key;
	MockLoader loader;
	MockStore store;
	MockAnswers answers;
	MockJournal journal;
	MockFaults faults;
	MockStats stats;
	MockTimer timer;
	atomic_llong clock_skew_us; /* PEMS's clock goes that much ahead of ours */
} MockServer;

#endif /* MOCK_SERVER_H */
