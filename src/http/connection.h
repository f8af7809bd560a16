/*
 * http/connection.h
 *		Which connection a request may use, and what is looked at before it is written.
 *
 * Process: the background worker.  No PostgreSQL.
 * Memory: the list of sockets is malloc'ed; all else belongs to the caller.
 */
#ifndef PEMS_HTTP_CONNECTION_H
#define PEMS_HTTP_CONNECTION_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>

/* The sockets that libcurl has opened and not closed yet, of all transfers of a client. */
typedef struct HttpSockets
{
	struct HttpSocket *list;
	size_t count;
	size_t capacity;
} HttpSockets;

/* One request and its connection.  The address must not change while an easy handle has it. */
typedef struct HttpConnection
{
	HttpSockets *sockets;

	/* what the request may do */
	bool allow_loopback;          /* connect to addresses of this machine */
	bool plain;                   /* it is http, so only such an address will do */
	void (*on_sent)(void *owner); /* NULL, or called when the request is about to be written */
	void *owner;

	/* what happened */
	bool sent;              /* libcurl was about to send; from here on, anything may have left */
	bool resend_prevented;  /* libcurl wanted to send again */
	bool address_forbidden; /* an address was refused */
	bool address_tried;     /* an address was accepted, so the connection is a new one */
	bool unasked;           /* there was something to read before the request was sent */
} HttpConnection;

/* Make the easy handle ask the connection, whose sockets are set, before it connects and sends. */
extern CURLcode pems_http_connection_attach(CURL *easy, HttpConnection *connection);
/* Before a request: forget what happened to the one before. */
extern void pems_http_connection_reset(HttpConnection *connection);
/* After the last connection of the client was closed. */
extern void pems_http_connection_free_sockets(HttpSockets *sockets);

#endif /* PEMS_HTTP_CONNECTION_H */
