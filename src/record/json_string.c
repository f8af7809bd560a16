/*
 * record/json_string.c
 *		Strings of a JSON text: escapes and UTF-8 to the text that they mean.
 *
 * Pure; any process.  No memory is allocated: json.c gives the room.  Strict or lenient, as
 * json.h says.
 */
#include "record/json_reader.h"

#include <string.h>

#include "record/text.h"

/* A string that is being decoded. */
typedef struct Decoder
{
	const char *cursor; /* the next byte to read */
	const char *stop;   /* the closing quote */
	char *out;          /* where the next byte goes */
	bool lenient;
	const char *error;      /* why the string is refused, or NULL */
	const char *unstorable; /* why jsonb cannot hold it, or NULL */
} Decoder;

/* Remember why the string is refused, the first reason only; false, for "return refuse(...)". */
static bool
refuse(Decoder *decoder, const char *error)
{
	if (decoder->error == NULL)
		decoder->error = error;
	return false;
}

/* A character that no database can hold: an error, or U+FFFD in its place. */
static bool
replace_character(Decoder *decoder, uint32_t *code, const char *error, const char *reason)
{
	/* An error from before: the escape of the second half of the character was broken. */
	if (!decoder->lenient || decoder->error)
		return refuse(decoder, error);
	if (decoder->unstorable == NULL)
		decoder->unstorable = reason;
	*code = PEMS_TEXT_REPLACEMENT;
	return true;
}

/* ---------- escapes ---------- */

/* The value of a hexadecimal digit; -1: it is none. */
static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* The cursor stands behind "\u"; reads four hexadecimal digits. */
static bool
read_hex4(Decoder *decoder, uint32_t *code)
{
	if (decoder->stop - decoder->cursor < 4)
		return refuse(decoder, "incomplete \\u escape");
	*code = 0;
	for (int i = 0; i < 4; i++)
	{
		int digit = hex_value(*decoder->cursor++);

		if (digit < 0)
			return refuse(decoder, "invalid \\u escape");
		*code = *code * 16 + (uint32_t) digit;
	}
	return true;
}

/*
 * A character above U+FFFF is written as two escapes, a high surrogate and a low one.  The
 * cursor stands behind the first; reads the second, if it is there.
 */
static bool
read_low_surrogate(Decoder *decoder, uint32_t *low)
{
	const char *start = decoder->cursor;

	if (decoder->stop - start < 2 || memcmp(start, "\\u", 2) != 0)
		return false;
	decoder->cursor += 2;
	if (!read_hex4(decoder, low))
		return false;
	if (*low >= 0xDC00 && *low <= 0xDFFF)
		return true;
	/* a character of its own, which is read next */
	decoder->cursor = start;
	return false;
}

/* The cursor stands behind "\u"; reads one character, which may take a second escape. */
static bool
read_code(Decoder *decoder, uint32_t *code)
{
	uint32_t low;

	if (!read_hex4(decoder, code))
		return false;
	if (*code == 0)
		return replace_character(decoder, code, "\\u0000 is not allowed in a string",
								 "a text has \\u0000 in it, which the database cannot hold");
	if (*code < 0xD800 || *code > 0xDFFF)
		return true;
	if (*code > 0xDBFF || !read_low_surrogate(decoder, &low))
		return replace_character(decoder, code, "surrogate without its partner",
								 "a text has half a character in it (a lone surrogate)");
	*code = 0x10000 + ((*code - 0xD800) << 10) + (low - 0xDC00);
	return true;
}

/* The cursor stands behind a backslash; writes what the escape means. */
static bool
decode_escape(Decoder *decoder)
{
	static const char names[] = "\"\\/bfnrt";
	static const char values[] = "\"\\/\b\f\n\r\t";
	char name = *decoder->cursor++;
	const char *found;
	uint32_t code = 0;

	if (name == 'u')
	{
		if (!read_code(decoder, &code))
			return false;
		decoder->out += pems_text_write(decoder->out, code);
		return true;
	}
	found = memchr(names, name, sizeof(names) - 1);
	if (found == NULL)
		return refuse(decoder, "invalid escape in a string");
	*decoder->out++ = values[found - names];
	return true;
}

/* ---------- whole strings ---------- */

/* Copy what stands for itself and is ASCII, up to the first byte that needs a closer look. */
static void
copy_plain(Decoder *decoder)
{
	while (decoder->cursor < decoder->stop && *decoder->cursor != '\\' &&
		   (unsigned char) *decoder->cursor >= 0x20 && (unsigned char) *decoder->cursor < 0x80)
		*decoder->out++ = *decoder->cursor++;
}

/* Copy the character at the cursor; what is none is an error, or U+FFFD for its first byte. */
static bool
copy_character(Decoder *decoder)
{
	size_t length =
		pems_text_read(decoder->cursor, (size_t) (decoder->stop - decoder->cursor), NULL);
	uint32_t code;

	if (length == 0)
	{
		if (!replace_character(decoder, &code, "invalid UTF-8 in a string",
							   "a text is not valid UTF-8"))
			return false;
		decoder->out += pems_text_write(decoder->out, code);
		decoder->cursor++;
		return true;
	}
	memcpy(decoder->out, decoder->cursor, length);
	decoder->out += length;
	decoder->cursor += length;
	return true;
}

static bool
decode(Decoder *decoder)
{
	for (copy_plain(decoder); decoder->cursor < decoder->stop; copy_plain(decoder))
	{
		if (*decoder->cursor == '\\')
		{
			decoder->cursor++;
			if (!decode_escape(decoder))
				return false;
		}
		else if ((unsigned char) *decoder->cursor < 0x20)
			return refuse(decoder, "control character in a string");
		else if (!copy_character(decoder))
			return false;
	}
	return true;
}

bool
pems_json_decode_string(const char *text, const char *stop, bool lenient, char **out,
						const char **error, const char **unstorable)
{
	Decoder decoder = {.cursor = text, .stop = stop, .out = *out, .lenient = lenient};
	bool decoded = decode(&decoder);

	*out = decoder.out;
	if (!decoded)
		*error = decoder.error;
	if (*unstorable == NULL)
		*unstorable = decoder.unstorable;
	return decoded;
}

/* How many bytes before stop are U+FFFD after decoding? */
static size_t
count_invalid_bytes(const char *text, const char *stop)
{
	size_t count = 0;

	while (text < stop)
	{
		/* ASCII, which most texts are, needs no call */
		size_t length =
			(unsigned char) *text < 0x80 ? 1 : pems_text_read(text, (size_t) (stop - text), NULL);

		if (length == 0)
			count++;
		text += length > 0 ? length : 1;
	}
	return count;
}

size_t
pems_json_decoded_size(const char *text, const char *stop, bool lenient)
{
	/* No escape is shorter than what it stands for, but U+FFFD takes three bytes. */
	size_t size = (size_t) (stop - text);

	return lenient ? size + 2 * count_invalid_bytes(text, stop) : size;
}
