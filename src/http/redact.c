/*
 * http/redact.c
 *		Overwrites a token in a text that came from outside.
 *
 * Error pages often show the headers of the request, and what PEMS says ends in
 * tables and logs, where more people may read than may know a token.
 *
 * Process: any; pure.  The text is changed in its place; no memory is allocated.
 *
 * Known limits: a token that comes back in another encoding (base64, EBCDIC) or
 * in several pieces is not found.
 */
#include "http/redact.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

/* How a text may write a character as a number. */
typedef struct Escape
{
	const char *begin;
	unsigned base;
	size_t digits; /* at most */
	const char *end;
} Escape;

/* Bytes of the longest one: &#x00002f; */
#define ESCAPE_MAXIMUM 10

/* May an escape begin with this character? */
static bool
is_escape(char c)
{
	return c == '\\' || c == '%' || c == '&';
}

/* Bytes of an escape at the beginning of the text that stands for this character; 0: none. */
static size_t
match_escape(const char *text, size_t length, const Escape *escape, char c)
{
	size_t at = strlen(escape->begin);
	size_t stop = at + escape->digits < length ? at + escape->digits : length;
	size_t end_length = strlen(escape->end);
	unsigned code = 0;

	if (length < at || strncasecmp(text, escape->begin, at) != 0)
		return 0;
	for (; at < stop && isxdigit((unsigned char) text[at]); at++)
	{
		char digit = text[at];

		code = code * escape->base +
			   (unsigned) (digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10);
	}
	if (code != (unsigned char) c || length - at < end_length ||
		memcmp(text + at, escape->end, end_length) != 0)
		return 0;
	return at + end_length;
}

/*
 * Bytes at the beginning of the text that stand for this character: itself, or an escape of JSON,
 * HTML or a URL.  0: it is another one.
 */
static size_t
match_character(const char *text, size_t length, char c)
{
	static const Escape escapes[] = {
		{"\\u", 16, 4, ""}, {"%", 16, 2, ""}, {"&#x", 16, 6, ";"}, {"&#", 10, 7, ";"}};

	/* Numbers come first: \u0075 is the letter u, but also begins with a backslash and a u. */
	for (size_t i = 0; i < sizeof(escapes) / sizeof(escapes[0]); i++)
	{
		size_t bytes = match_escape(text, length, &escapes[i], c);

		if (bytes > 0)
			return bytes;
	}
	if (length >= 2 && text[0] == '\\' && text[1] == c)
		return 2;
	return length >= 1 && text[0] == c ? 1 : 0;
}

/* Does the text end here, or with what may be the beginning of an escape? */
static bool
is_cut_off(const char *text, size_t length)
{
	return length == 0 || (length < ESCAPE_MAXIMUM && is_escape(text[0]));
}

/*
 * Bytes at the beginning of the text that spell the token; 0: it does not begin with it.  A text
 * that ends within the token counts when enough of it is there.
 */
static size_t
match_token(const char *text, size_t length, const char *token)
{
	size_t matched = 0;

	for (size_t i = 0; token[i] != '\0'; i++)
	{
		size_t bytes;

		/* UTF-16 has a NUL beside each character of ASCII. */
		while (matched > 0 && matched < length && text[matched] == '\0')
			matched++;
		bytes = match_character(text + matched, length - matched, token[i]);
		if (bytes == 0)
			return i >= PEMS_REDACT_MINIMUM && is_cut_off(text + matched, length - matched) ? length
																							: 0;
		matched += bytes;
	}
	return matched;
}

void
pems_http_redact(char *text, size_t length, const char *token)
{
	/* A short token may be an ordinary word; real ones are long. */
	if (text == NULL || strlen(token) < PEMS_REDACT_MINIMUM)
		return;
	for (size_t at = 0; at < length; at++)
	{
		size_t matched;

		if (text[at] != token[0] && !is_escape(text[at]))
			continue;
		matched = match_token(text + at, length - at, token);
		memset(text + at, '*', matched);
		at += matched > 0 ? matched - 1 : 0;
	}
}
