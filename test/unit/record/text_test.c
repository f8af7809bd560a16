/*
 * record/text_test.c
 *		Unit tests of src/record/text.c.
 */
#include "unit.h"

#include <string.h>

#include "record/text.h"

/* Length of the character at text, of which all bytes may be looked at. */
static size_t
length_of(const char *text)
{
	return pems_text_read(text, strlen(text), NULL);
}

/* Can all of the text be read, character by character? */
static bool
is_utf8(const char *text, size_t length)
{
	while (length > 0)
	{
		size_t bytes = pems_text_read(text, length, NULL);

		if (bytes == 0)
			return false;
		text += bytes;
		length -= bytes;
	}
	return true;
}

UNIT_TEST(every_code_is_read_as_it_was_written)
{
	for (uint32_t code = 1; code <= 0x10FFFF; code++)
	{
		char bytes[PEMS_TEXT_CHARACTER_SIZE];
		uint32_t read = 0;
		size_t length;

		if (code >= 0xD800 && code <= 0xDFFF)
			continue;
		length = pems_text_write(bytes, code);
		if (!CHECK_INT(pems_text_read(bytes, length, &read), length) || !CHECK_INT(read, code) ||
			!CHECK_INT(pems_text_read(bytes, length - 1 > 0 ? length - 1 : 1, NULL),
					   length == 1 ? 1 : 0))
			return;
	}
}

/* Of all texts of three bytes, as many are one character as the standard says. */
UNIT_TEST(no_other_bytes_are_a_character)
{
	size_t found[PEMS_TEXT_CHARACTER_SIZE + 1] = {0};

	for (uint32_t value = 0; value <= 0xFFFFFF; value++)
	{
		char bytes[3] = {(char) (value >> 16), (char) (value >> 8), (char) value};

		found[pems_text_read(bytes, sizeof(bytes), NULL)]++;
	}
	CHECK_INT(found[1], 0x80 * 0x10000);
	CHECK_INT(found[2], (0x800 - 0x80) * 0x100);
	CHECK_INT(found[3], 0x10000 - 0x800 - 0x800); /* less the surrogates */
	CHECK_INT(found[4], 0);
}

UNIT_TEST(what_is_no_character_is_refused)
{
	static const char *const texts[] = {
		"\x80",             /* begins in the middle */
		"\xbf\x80",         /* the same */
		"\xc0\xaf",         /* overlong */
		"\xc1\xbf",         /* overlong */
		"\xe0\x9f\xbf",     /* overlong */
		"\xf0\x8f\xbf\xbf", /* overlong */
		"\xed\xa0\x80",     /* a surrogate */
		"\xf4\x90\x80\x80", /* above U+10FFFF */
		"\xf5\x80\x80\x80", /* above U+10FFFF */
		"\xff",             /* no byte of UTF-8 */
		"\xc3",             /* cut off */
		"\xe2\x82",         /* cut off */
		"\xf0\x9f\x98",     /* cut off */
		"\xe2\x82z",        /* something else in the middle */
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		if (!CHECK_INT(length_of(texts[i]), 0))
			unit_note("text %zu", i);
	}
}

UNIT_TEST(a_whole_text_is_looked_at)
{
	CHECK(is_utf8("a\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80z", 11));
	CHECK(!is_utf8("a\xc3\xbc\xe2\x82", 5));
	CHECK(!is_utf8("a\xff z", 4));
	CHECK(is_utf8("a\0z", 3));
}

UNIT_TEST(characters_are_counted)
{
	CHECK_INT(pems_text_count("", 0), 0);
	CHECK_INT(pems_text_count("abc", 3), 3);
	CHECK_INT(pems_text_count("a\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80z", 11), 5);
}

UNIT_TEST(a_byte_order_mark_is_no_part_of_a_text)
{
	const char *text = "\xef\xbb\xbfx";
	size_t length = 4;

	pems_text_skip_mark(&text, &length);
	CHECK_TEXT(text, "x");
	CHECK_INT(length, 1);
	pems_text_skip_mark(&text, &length);
	CHECK_INT(length, 1);
	text = "\xef\xbb\xbf";
	length = 2;
	pems_text_skip_mark(&text, &length);
	CHECK_INT(length, 2);
}
