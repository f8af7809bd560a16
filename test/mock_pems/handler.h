/*
 * handler.h
 *		The HTTP daemon: its callbacks, and how it starts and stops.
 */
#ifndef MOCK_HANDLER_H
#define MOCK_HANDLER_H

#include <stdbool.h>
#include <stdint.h>

#include "server.h"

/* False: error (256 bytes) says why.  server->daemon runs afterwards. */
extern bool mock_handler_start(MockServer *server, char *error);
extern uint16_t mock_handler_port(const MockServer *server);
/* End all requests, also those that wait, and all connections. */
extern void mock_handler_stop(MockServer *server);

#endif /* MOCK_HANDLER_H */
