/*
 * stream.h
 *		A long answer that is made while it is sent.
 */
#ifndef MOCK_STREAM_H
#define MOCK_STREAM_H

#include <microhttpd.h>

#include "record/json.h"

typedef struct MockStream
{
	/* Append the next part; false: it was the last. */
	bool (*produce)(void *state, JsonBuffer *out);
	void (*release)(void *state);
	void *state;
	JsonBuffer pending;
	size_t sent; /* bytes of pending */
	bool finished;
} MockStream;

extern MockStream *mock_stream_create(bool (*produce)(void *, JsonBuffer *),
									  void (*release)(void *), void *state);
extern void mock_stream_free(void *stream);
/* A response that takes the stream over. */
extern struct MHD_Response *mock_stream_response(MockStream *stream);

#endif /* MOCK_STREAM_H */
