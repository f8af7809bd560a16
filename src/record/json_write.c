/*
 * record/json_write.c
 *		Builds JSON texts in a buffer that grows; see json.h.
 *
 * Pure; any process.  Memory comes from malloc; a buffer owns its text.  A buffer at least
 * doubles when it is full, so that appending is linear in what is appended.
 */
#include "record/json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Make room for more bytes and a NUL.  False: the buffer has failed. */
static bool
reserve(JsonBuffer *buffer, size_t more)
{
	size_t capacity = buffer->capacity ? buffer->capacity : 128;
	char *data;

	if (buffer->failed)
		return false;
	if (more >= SIZE_MAX / 2 - buffer->length)
	{
		buffer->failed = true;
		return false;
	}
	while (capacity <= buffer->length + more)
		capacity *= 2;
	if (capacity == buffer->capacity)
		return true;
	data = realloc(buffer->data, capacity);
	if (data == NULL)
	{
		buffer->failed = true;
		return false;
	}
	buffer->data = data;
	buffer->capacity = capacity;
	return true;
}

void
pems_json_append(JsonBuffer *buffer, const char *text, size_t length)
{
	if (!reserve(buffer, length))
		return;
	if (length > 0)
		memcpy(buffer->data + buffer->length, text, length);
	buffer->length += length;
	buffer->data[buffer->length] = '\0';
}

void
pems_json_append_text(JsonBuffer *buffer, const char *text)
{
	pems_json_append(buffer, text, strlen(text));
}

/* A character that a JSON string may not hold as it is. */
static void
append_escaped(JsonBuffer *buffer, char c)
{
	static const char names[] = "\"\\bfnrt";
	static const char values[] = "\"\\\b\f\n\r\t";
	static const char hex[] = "0123456789abcdef";
	const char *found = memchr(values, c, sizeof(values) - 1);
	char escape[6] = {'\\', 'u', '0', '0', 0, 0};

	if (found)
	{
		escape[1] = names[found - values];
		pems_json_append(buffer, escape, 2);
		return;
	}
	escape[4] = hex[(unsigned char) c >> 4];
	escape[5] = hex[(unsigned char) c & 15];
	pems_json_append(buffer, escape, 6);
}

void
pems_json_append_string(JsonBuffer *buffer, const char *text, size_t length)
{
	size_t start = 0;
	size_t i;

	pems_json_append(buffer, "\"", 1);
	for (i = 0; i < length; i++)
	{
		if ((unsigned char) text[i] >= 0x20 && text[i] != '"' && text[i] != '\\')
			continue;
		pems_json_append(buffer, text + start, i - start);
		append_escaped(buffer, text[i]);
		start = i + 1;
	}
	pems_json_append(buffer, text + start, length - start);
	pems_json_append(buffer, "\"", 1);
}

void
pems_json_append_key(JsonBuffer *buffer, const char *key, size_t length)
{
	/* No value ends with this bracket: it stands there only where an object was just opened. */
	if (buffer->length > 0 && buffer->data[buffer->length - 1] != '{')
		pems_json_append(buffer, ",", 1);
	pems_json_append_string(buffer, key, length);
	pems_json_append(buffer, ":", 1);
}

void
pems_json_append_strings(JsonBuffer *buffer, char *const *texts, size_t count)
{
	pems_json_append(buffer, "[", 1);
	for (size_t i = 0; i < count; i++)
	{
		if (i > 0)
			pems_json_append(buffer, ",", 1);
		pems_json_append_string(buffer, texts[i], strlen(texts[i]));
	}
	pems_json_append(buffer, "]", 1);
}

static void
append_children(JsonBuffer *buffer, const JsonNode *node, const char *brackets)
{
	const JsonNode *child;

	pems_json_append(buffer, brackets, 1);
	for (child = node->first; child; child = child->next)
	{
		if (child->key)
			pems_json_append_key(buffer, child->key, child->key_length);
		else if (child != node->first)
			pems_json_append(buffer, ",", 1);
		pems_json_append_node(buffer, child);
	}
	pems_json_append(buffer, brackets + 1, 1);
}

void
pems_json_append_node(JsonBuffer *buffer, const JsonNode *node)
{
	switch (node ? node->kind : JSON_KIND_NULL)
	{
		case JSON_KIND_NULL:
			pems_json_append_text(buffer, "null");
			break;
		case JSON_KIND_BOOLEAN:
			pems_json_append_text(buffer, node->boolean ? "true" : "false");
			break;
		case JSON_KIND_NUMBER:
			pems_json_append(buffer, node->text, node->length);
			break;
		case JSON_KIND_STRING:
			pems_json_append_string(buffer, node->text, node->length);
			break;
		case JSON_KIND_ARRAY:
			append_children(buffer, node, "[]");
			break;
		case JSON_KIND_OBJECT:
			append_children(buffer, node, "{}");
			break;
	}
}

void
pems_json_buffer_free(JsonBuffer *buffer)
{
	free(buffer->data);
	memset(buffer, 0, sizeof(*buffer));
}
