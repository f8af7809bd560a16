/*
 * pems/sentence.c
 *		Sentences about an answer of PEMS; see sentence.h.
 *
 * Pure; any process.  Every byte of an answer comes from outside: its texts come into a sentence
 * through pems_sentence_add_foreign() only.
 */
#include "pems/sentence.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "pems/status.h"
#include "record/text.h"

/* Bytes that a text of PEMS may contribute: what it says, and the beginning of what it sent. */
#define TEXT_MAXIMUM    600
#define SNIPPET_MAXIMUM 120

/* What stands behind a text that was cut off */
#define CUT_MARK "..."

void
pems_sentence_add(PemsSentence *sentence, const char *format, ...)
{
	size_t room = sizeof(sentence->text) - sentence->length;
	va_list arguments;
	int written;

	va_start(arguments, format);
	written = vsnprintf(sentence->text + sentence->length, room, format, arguments);
	va_end(arguments);
	if (written > 0)
		sentence->length += (size_t) written < room ? (size_t) written : room - 1;
}

/* ---------- texts from outside ---------- */

/* Characters that would let a text forge log lines or read other than it stands. */
static bool
is_deceptive(uint32_t point)
{
	return point < 0x20 || (point >= 0x7f && point <= 0x9f) ||
		   (point >= 0x200b && point <= 0x200f) || (point >= 0x2028 && point <= 0x202e) ||
		   (point >= 0x2060 && point <= 0x2069) || point == 0xfeff;
}

/*
 * The character at text, of which `available` bytes may be looked at, as it may be shown: *shown
 * and *width, in bytes.  Returns how many bytes of text it takes.
 */
static size_t
clean_character(const char *text, size_t available, const char **shown, size_t *width)
{
	uint32_t code;
	size_t bytes = pems_text_read(text, available, &code);

	*width = 1;
	if (bytes == 0)
	{
		*shown = "?";
		return 1;
	}
	*shown = " ";
	if (!is_deceptive(code))
	{
		*shown = text;
		*width = bytes;
	}
	return bytes;
}

static bool
ends_with_blank(const PemsSentence *sentence)
{
	return sentence->length == 0 || sentence->text[sentence->length - 1] == ' ';
}

void
pems_sentence_add_foreign(PemsSentence *sentence, const char *text, size_t length, size_t limit)
{
	const char *end = text + length;
	size_t stop = sentence->length + limit;

	if (stop > PEMS_SENTENCE_MAXIMUM - strlen(CUT_MARK))
		stop = PEMS_SENTENCE_MAXIMUM - strlen(CUT_MARK);
	while (text < end)
	{
		const char *shown;
		size_t width;

		text += clean_character(text, (size_t) (end - text), &shown, &width);
		if (*shown == ' ' && ends_with_blank(sentence))
			continue;
		if (sentence->length + width > stop)
		{
			pems_sentence_add(sentence, CUT_MARK);
			return;
		}
		memcpy(sentence->text + sentence->length, shown, width);
		sentence->length += width;
	}
	while (sentence->length > 0 && sentence->text[sentence->length - 1] == ' ')
		sentence->length--;
	sentence->text[sentence->length] = '\0';
}

void
pems_sentence_add_snippet(PemsSentence *sentence, const char *text, size_t length)
{
	pems_sentence_add_foreign(sentence, text, length, SNIPPET_MAXIMUM);
}

/* ---------- what an answer says ---------- */

void
pems_sentence_add_status(PemsSentence *sentence, int status)
{
	const char *phrase = pems_status_phrase(status);

	pems_sentence_add(sentence, "PEMS answered %d", status);
	if (phrase != NULL)
		pems_sentence_add(sentence, " (%s)", phrase);
}

/* ": <text>", when the member is a string that is not empty */
static void
add_member(PemsSentence *sentence, const JsonNode *value, const char *key, size_t limit)
{
	const JsonNode *member = pems_json_get(value, key);

	if (member == NULL || member->kind != JSON_KIND_STRING || member->length == 0)
		return;
	pems_sentence_add(sentence, ": ");
	pems_sentence_add_foreign(sentence, member->text, member->length, limit);
}

void
pems_sentence_add_body(PemsSentence *sentence, const JsonNode *value, const char *body,
					   size_t length)
{
	add_member(sentence, value, "error", SNIPPET_MAXIMUM);
	add_member(sentence, value, "message", TEXT_MAXIMUM);
	if (value == NULL && body != NULL && length > 0 && body[strspn(body, " \t\r\n")] != '<')
	{
		pems_sentence_add(sentence, ": ");
		pems_sentence_add_snippet(sentence, body, length);
	}
}
