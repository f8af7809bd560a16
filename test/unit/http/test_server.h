/*
 * http/test_server.h
 *		Small servers on loopback, for the tests of src/http: each misbehaves in one way.
 *
 * A server is a thread per connection; only the main thread checks.
 */
#ifndef TEST_SERVER_H
#define TEST_SERVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a good server answers. */
#define OK_BODY                                                                                    \
	"{\"success\":true,\"pfaId\":\"PFA-1\",\"newVersion\":4,\"updatedAt\":\"2025-01-15T00:00:"     \
	"00Z\"}"

#define CONNECTIONS_MAXIMUM 64
#define REQUEST_MAXIMUM     65536

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

/* Milliseconds since some moment in the past. */
extern int64_t now_ms(void);
extern void sleep_ms(long ms);

/* A listening socket on a free port of 127.0.0.1. */
extern int listen_anywhere(int backlog, int *port);
/* Serve each connection to a free port of 127.0.0.1 in a thread of its own. */
extern Server *server_start(Serve serve);
/* Ends all connections, waits for their threads, and frees the server. */
extern void server_stop(Server *server);

/* For what serves a connection.  These return false when the other side is gone. */
extern bool send_all(int socket, const char *text, size_t length);
extern bool send_text(int socket, const char *text);
/* A whole answer with a body; headers: more header lines, each with its CRLF. */
extern bool send_answer(int socket, int status, const char *headers, const char *body);
/* Read one request with its body into server->last, and count it. */
extern bool read_request(Server *server, int socket);
/* End a connection with a reset. */
extern void break_connection(int socket);

/* Ways to serve that several tests need. */
extern void serve_well(Server *server, int socket, int number);
/* Answers after 20 ms, and counts how many are served at once. */
extern void serve_slowly(Server *server, int socket, int number);
/* Answers the first request of the first connection; reads the second one and closes. */
extern void serve_one_then_close(Server *server, int socket, int number);
/* Reads requests, and says nothing. */
extern void serve_never(Server *server, int socket, int number);

#endif /* TEST_SERVER_H */
