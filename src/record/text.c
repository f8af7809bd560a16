/*
 * record/text.c
 *		UTF-8: reading, writing and counting characters; see text.h.
 *
 * Pure; any process.  No memory is allocated.
 */
#include "record/text.h"

#include <string.h>

/* All bytes of a character but its first look like this: 10xxxxxx. */
static bool
is_continuation(unsigned char byte)
{
	return (byte & 0xC0) == 0x80;
}

/* Bytes of the character that begins with this byte; 0: no character begins with it. */
static size_t
length_of(unsigned char lead)
{
	if (lead < 0x80)
		return 1;
	if (lead < 0xC2 || lead > 0xF4)
		return 0;
	return lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

/* The second byte is what tells overlong forms, surrogates and too large codes. */
static bool
is_second_byte(unsigned char lead, unsigned char second)
{
	switch (lead)
	{
		case 0xE0:
			return second >= 0xA0 && second <= 0xBF;
		case 0xED:
			return second >= 0x80 && second <= 0x9F;
		case 0xF0:
			return second >= 0x90 && second <= 0xBF;
		case 0xF4:
			return second >= 0x80 && second <= 0x8F;
		default:
			return is_continuation(second);
	}
}

size_t
pems_text_read(const char *text, size_t available, uint32_t *code)
{
	const unsigned char *byte = (const unsigned char *) text;
	size_t length = length_of(byte[0]);
	uint32_t value;

	if (length == 0 || length > available)
		return 0;
	if (length > 1 && !is_second_byte(byte[0], byte[1]))
		return 0;
	/* The first byte of a longer character begins with as many ones as it has bytes, and a zero. */
	value = length == 1 ? byte[0] : byte[0] & (0xFFU >> (length + 1));
	for (size_t i = 1; i < length; i++)
	{
		if (!is_continuation(byte[i]))
			return 0;
		value = (value << 6) | (byte[i] & 0x3FU);
	}
	if (code)
		*code = value;
	return length;
}

size_t
pems_text_write(char *out, uint32_t code)
{
	if (code < 0x80)
	{
		out[0] = (char) code;
		return 1;
	}
	if (code < 0x800)
	{
		out[0] = (char) (0xC0 | (code >> 6));
		out[1] = (char) (0x80 | (code & 0x3F));
		return 2;
	}
	if (code < 0x10000)
	{
		out[0] = (char) (0xE0 | (code >> 12));
		out[1] = (char) (0x80 | ((code >> 6) & 0x3F));
		out[2] = (char) (0x80 | (code & 0x3F));
		return 3;
	}
	out[0] = (char) (0xF0 | (code >> 18));
	out[1] = (char) (0x80 | ((code >> 12) & 0x3F));
	out[2] = (char) (0x80 | ((code >> 6) & 0x3F));
	out[3] = (char) (0x80 | (code & 0x3F));
	return 4;
}

size_t
pems_text_count(const char *text, size_t length)
{
	size_t characters = 0;

	for (size_t i = 0; i < length; i++)
	{
		if (!is_continuation((unsigned char) text[i]))
			characters++;
	}
	return characters;
}

void
pems_text_skip_mark(const char **text, size_t *length)
{
	if (*length < 3 || memcmp(*text, "\xef\xbb\xbf", 3) != 0)
		return;
	*text += 3;
	*length -= 3;
}
