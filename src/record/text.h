/*
 * record/text.h
 *		UTF-8: the one place that knows which bytes make a character.
 *
 * Pure; any process.  No memory is allocated.  Nothing here reads beyond the length that
 * the caller gives, and a NUL byte is a character like any other.
 *
 * Well-formed is what table 3-7 of the Unicode standard says: no overlong form, no
 * surrogate, nothing above U+10FFFF.  Texts in the encoding of a database are PostgreSQL's
 * own business (pg_mbcliplen and the like).
 */
#ifndef PEMS_TEXT_H
#define PEMS_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that a character takes at most. */
#define PEMS_TEXT_CHARACTER_SIZE 4

/* U+FFFD, which stands in the place of what could not be read. */
#define PEMS_TEXT_REPLACEMENT 0xFFFD

/*
 * Read the character that begins at text, of which `available` bytes (at least 1) may be
 * looked at.  Returns its length in bytes, 1 to 4, and sets *code, if code is not NULL; 0 when
 * no well-formed character begins there, and then *code is left alone.
 */
extern size_t pems_text_read(const char *text, size_t available, uint32_t *code);

/*
 * Write the character with this code, which must not be a surrogate nor above U+10FFFF.
 * Returns how many bytes of out were filled; out has PEMS_TEXT_CHARACTER_SIZE of them.
 */
extern size_t pems_text_write(char *out, uint32_t code);

/* How many characters are in the text, which must be well-formed? */
extern size_t pems_text_count(const char *text, size_t length);

/* Step over a byte order mark at the beginning, which is no part of the text. */
extern void pems_text_skip_mark(const char **text, size_t *length);

#endif /* PEMS_TEXT_H */
