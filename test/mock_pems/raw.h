/*
 * raw.h
 *		An answer with more header bytes than the daemon has memory for.
 */
#ifndef MOCK_RAW_H
#define MOCK_RAW_H

#include "request.h"

/* Send the reply behind a huge head, past the daemon; the caller then closes the connection. */
extern void mock_raw_send_huge_headers(const MockRequest *request);

#endif /* MOCK_RAW_H */
