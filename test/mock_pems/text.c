/*
 * text.c
 *		JSON objects written member by member into a JsonBuffer.
 */
#include <string.h>

#include "clock.h"
#include "memory.h"
#include "text.h"

void
mock_text_reserve(JsonBuffer *out, size_t capacity)
{
	if (out->data != NULL)
		return;
	out->data = mock_memory_resize(NULL, capacity);
	out->capacity = capacity;
	out->data[0] = '\0';
}

void
mock_text_comma(JsonBuffer *out)
{
	char last = out->length > 0 ? out->data[out->length - 1] : '\0';

	if (last != '{' && last != '[')
		pems_json_append(out, ",", 1);
}

void
mock_text_key(JsonBuffer *out, const char *key)
{
	mock_text_comma(out);
	pems_json_append(out, "\"", 1);
	pems_json_append_text(out, key);
	pems_json_append(out, "\":", 2);
}

void
mock_text_integer(JsonBuffer *out, int64_t value)
{
	char digits[24];
	char *at = digits + sizeof(digits);
	uint64_t rest = value < 0 ? 0 - (uint64_t) value : (uint64_t) value;

	do
		*--at = (char) ('0' + rest % 10);
	while ((rest /= 10) > 0);
	if (value < 0)
		*--at = '-';
	pems_json_append(out, at, (size_t) (digits + sizeof(digits) - at));
}

void
mock_text_string(JsonBuffer *out, const char *value)
{
	if (value == NULL)
		pems_json_append(out, "null", 4);
	else
		pems_json_append_string(out, value, strlen(value));
}

void
mock_text_add_string(JsonBuffer *out, const char *key, const char *value)
{
	mock_text_key(out, key);
	mock_text_string(out, value);
}

void
mock_text_add_integer(JsonBuffer *out, const char *key, int64_t value)
{
	mock_text_key(out, key);
	mock_text_integer(out, value);
}

void
mock_text_add_boolean(JsonBuffer *out, const char *key, bool value)
{
	mock_text_key(out, key);
	pems_json_append_text(out, value ? "true" : "false");
}

void
mock_text_add_time(JsonBuffer *out, const char *key, int64_t wall_us)
{
	char text[MOCK_CLOCK_ISO_SIZE];

	mock_clock_format_iso(wall_us, text);
	mock_text_add_string(out, key, text);
}

void
mock_text_add_raw(JsonBuffer *out, const char *key, const char *json, size_t length)
{
	mock_text_key(out, key);
	pems_json_append(out, json, length);
}

void
mock_text_add_node(JsonBuffer *out, const char *key, const JsonNode *node)
{
	mock_text_key(out, key);
	if (node == NULL)
		pems_json_append(out, "null", 4);
	else
		pems_json_append_node(out, node);
}

const char *
mock_text_get_string(const JsonNode *object, const char *key)
{
	const JsonNode *node = pems_json_get(object, key);

	return node != NULL && node->kind == JSON_KIND_STRING ? node->text : NULL;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

char *
mock_text_unescape(const char *text, size_t text_length, size_t *length)
{
	char *plain = mock_memory_allocate(text_length + 1);
	char *out = plain;

	for (size_t i = 0; i < text_length; i++)
	{
		int high = text[i] == '%' && i + 2 < text_length ? hex_digit(text[i + 1]) : -1;
		int low = high >= 0 ? hex_digit(text[i + 2]) : -1;

		if (low >= 0)
		{
			*out++ = (char) (high * 16 + low);
			i += 2;
		}
		else
			*out++ = text[i];
	}
	*length = (size_t) (out - plain);
	return plain;
}

void
mock_text_replace_invalid(char *text)
{
	for (; *text != '\0'; text++)
	{
		if ((unsigned char) *text >= 0x80)
			*text = '?';
	}
}
