/*
 * secret_line.h
 *		Reads a line that nobody may see: a token, a password.
 *
 * The caller owns the memory (sodium_malloc'ed) and wipes it; what was read is
 * meaningful only after SECRET_LINE_OK.
 */
#ifndef PEMS_SECRET_LINE_H
#define PEMS_SECRET_LINE_H

#include <stddef.h>

typedef enum SecretLine
{
	SECRET_LINE_OK,
	SECRET_LINE_MISSING,  /* end of file before the first byte */
	SECRET_LINE_TOO_LONG, /* more than size - 1 bytes */
	SECRET_LINE_BINARY,   /* a NUL within */
	SECRET_LINE_FAILED    /* errno says why */
} SecretLine;

/*
 * The largest size to ask for on a terminal, which hands over 4095 bytes of a line and drops the
 * rest without a word: a line that long may have been cut.
 */
#define SECRET_LINE_TERMINAL_SIZE 4095

/* Read exactly one line, without its end; what follows stays for whoever reads next. */
extern SecretLine secret_line_read(int fd, char *line, size_t size);

/*
 * Ask on a terminal (open for reading and writing) without echo.  A signal takes effect once the
 * terminal echoes again and the line is wiped; when it only stopped the program, the question is
 * put again.
 */
extern SecretLine secret_line_ask(int fd, const char *prompt, char *line, size_t size);

#endif /* PEMS_SECRET_LINE_H */
