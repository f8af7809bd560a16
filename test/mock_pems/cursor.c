/*
 * cursor.c
 *		The cursor of read many: a position in the order of the records, as opaque text.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cursor.h"
#include "memory.h"
#include "text.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void
encode(JsonBuffer *out, const char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i += 3)
	{
		uint32_t group = 0;
		char digits[4];

		for (size_t j = 0; j < 3; j++)
			group = group << 8 | (i + j < length ? (unsigned char) bytes[i + j] : 0);
		for (size_t j = 0; j < 4; j++)
			digits[j] = i + j > length ? '=' : alphabet[group >> (18 - 6 * j) & 63];
		pems_json_append(out, digits, 4);
	}
}

/* A NUL-terminated text; NULL: no base64. */
static char *
decode(const char *text)
{
	size_t length = strlen(text);
	char *bytes = mock_memory_allocate(length + 1);
	size_t count = 0;
	uint32_t group = 0;
	int bits = 0;

	while (length > 0 && text[length - 1] == '=')
		length--;
	for (size_t i = 0; i < length; i++)
	{
		const char *digit = strchr(alphabet, text[i]);

		if (digit == NULL)
		{
			free(bytes);
			return NULL;
		}
		group = (group << 6 | (uint32_t) (digit - alphabet)) & 0xffffff;
		bits += 6;
		if (bits >= 8)
		{
			bits -= 8;
			bytes[count++] = (char) (group >> bits & 255);
		}
	}
	return bytes;
}

void
mock_cursor_append(JsonBuffer *out, int64_t page, const MockPosition *position)
{
	JsonBuffer text = {0};

	mock_text_integer(&text, position->updated_at);
	pems_json_append(&text, ":", 1);
	mock_text_integer(&text, page);
	pems_json_append(&text, ":", 1);
	if (position->pfa_id != NULL)
		pems_json_append_text(&text, position->pfa_id);
	pems_json_append(out, "\"", 1);
	encode(out, text.data, text.length);
	pems_json_append(out, "\"", 1);
	pems_json_buffer_free(&text);
}

/* An integer and the colon behind it; NULL: there is none. */
static const char *
take_integer(const char *text, int64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoll(text, &end, 10);
	return errno == 0 && end != text && *end == ':' ? end + 1 : NULL;
}

bool
mock_cursor_parse(const char *text, int64_t *page, MockPosition *position, char **storage)
{
	const char *rest;

	*storage = decode(text);
	if (*storage == NULL)
		return false;
	rest = take_integer(*storage, &position->updated_at);
	if (rest != NULL)
		rest = take_integer(rest, page);
	if (rest == NULL || *page < 1)
		return false;
	position->pfa_id = *rest != '\0' ? rest : NULL;
	return true;
}
