/*
 * stream.c
 *		A long answer that is made while it is sent.
 */
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "stream.h"

#define BLOCK_SIZE 65536

MockStream *
mock_stream_create(bool (*produce)(void *, JsonBuffer *), void (*release)(void *), void *state)
{
	MockStream *stream = mock_memory_allocate(sizeof(*stream));

	stream->produce = produce;
	stream->release = release;
	stream->state = state;
	return stream;
}

void
mock_stream_free(void *closure)
{
	MockStream *stream = closure;

	if (stream == NULL)
		return;
	stream->release(stream->state);
	pems_json_buffer_free(&stream->pending);
	free(stream);
}

static ssize_t
read_stream(void *closure, uint64_t position, char *out, size_t room)
{
	MockStream *stream = closure;
	size_t length;

	(void) position;
	while (stream->sent == stream->pending.length)
	{
		if (stream->finished)
			return MHD_CONTENT_READER_END_OF_STREAM;
		stream->pending.length = 0;
		stream->sent = 0;
		stream->finished = !stream->produce(stream->state, &stream->pending);
		if (stream->pending.failed)
			return MHD_CONTENT_READER_END_WITH_ERROR;
	}
	length = stream->pending.length - stream->sent;
	if (length > room)
		length = room;
	memcpy(out, stream->pending.data + stream->sent, length);
	stream->sent += length;
	return (ssize_t) length;
}

struct MHD_Response *
mock_stream_response(MockStream *stream)
{
	return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_SIZE, read_stream, stream,
											 mock_stream_free);
}
