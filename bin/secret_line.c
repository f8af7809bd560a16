/*
 * secret_line.c
 *		Reads a line that nobody may see; see secret_line.h.
 *
 * Process: pems-credential.  The line goes straight into the caller's memory,
 * byte by byte; no buffer of ours or of stdio keeps a copy.
 *
 * While a terminal does not echo, signals that end or stop the program are
 * blocked, and let in only where it waits for input, so that none is lost and
 * none leaves the terminal silent.
 */
#include "secret_line.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>
#include <termios.h>
#include <unistd.h>

#include <sodium.h>

/* What would end or stop the program. */
static const int held_signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
#define HELD_SIGNALS (sizeof(held_signals) / sizeof(held_signals[0]))

/* What hold_signals() changed, for release_signals(). */
typedef struct SignalState
{
	struct sigaction previous[HELD_SIGNALS];
	sigset_t mask;
} SignalState;

/* The signal that came, 0: none; all that a handler may safely do is to set it. */
static volatile sig_atomic_t caught_signal;

static void
note_signal(int number)
{
	caught_signal = number;
}

/* Block these signals and note those that are let in; one that was ignored stays so. */
static void
hold_signals(SignalState *before)
{
	struct sigaction action = {.sa_handler = note_signal};
	sigset_t blocked;

	caught_signal = 0;
	(void) sigemptyset(&action.sa_mask);
	(void) sigemptyset(&blocked);
	for (size_t i = 0; i < HELD_SIGNALS; i++)
		(void) sigaddset(&blocked, held_signals[i]);
	(void) sigprocmask(SIG_BLOCK, &blocked, &before->mask);
	for (size_t i = 0; i < HELD_SIGNALS; i++)
	{
		(void) sigaction(held_signals[i], NULL, &before->previous[i]);
		if (before->previous[i].sa_handler != SIG_IGN)
			(void) sigaction(held_signals[i], &action, NULL);
	}
}

/* Signals act as before, also those that waited until now. */
static void
release_signals(const SignalState *before)
{
	for (size_t i = 0; i < HELD_SIGNALS; i++)
		(void) sigaction(held_signals[i], &before->previous[i], NULL);
	(void) sigprocmask(SIG_SETMASK, &before->mask, NULL);
	if (caught_signal != 0)
		(void) raise(caught_signal);
}

/*
 * Wait for input with these signals let in, and only here: one that
 * arrived before is delivered at once, so that none is slept through.
 */
static SecretLine
wait_for_input(int fd, const sigset_t *mask)
{
	for (;;)
	{
		fd_set descriptors;

		FD_ZERO(&descriptors);
		FD_SET(fd, &descriptors);
		if (pselect(fd + 1, &descriptors, NULL, NULL, NULL, mask) > 0)
			return SECRET_LINE_OK;
		if (errno != EINTR || caught_signal != 0)
			return SECRET_LINE_FAILED;
	}
}

/* The work of both: mask is for wait_for_input(), or NULL for plain blocking reads. */
static SecretLine
read_line(int fd, char *line, size_t size, const sigset_t *mask)
{
	size_t length = 0;

	for (;;)
	{
		SecretLine state = mask ? wait_for_input(fd, mask) : SECRET_LINE_OK;
		ssize_t got;

		if (state != SECRET_LINE_OK)
			return state;
		got = read(fd, line + length, 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return SECRET_LINE_FAILED;
		if (got == 0 && length == 0)
			return SECRET_LINE_MISSING;
		if (got == 0 || line[length] == '\n')
			break;
		if (length + 1 == size)
			return SECRET_LINE_TOO_LONG;
		length++;
	}
	line[length] = '\0';
	return strlen(line) == length ? SECRET_LINE_OK : SECRET_LINE_BINARY;
}

static void
show(int fd, const char *text)
{
	if (write(fd, text, strlen(text)) < 0)
		(void) fputs(text, stderr);
}

/* One try of secret_line_ask(): echo off, prompt, read, echo on. */
static SecretLine
read_unechoed(int fd, const char *prompt, char *line, size_t size, const sigset_t *mask)
{
	struct termios echoing;
	struct termios silent;
	SecretLine state;
	int problem;

	if (tcgetattr(fd, &echoing) != 0)
		return SECRET_LINE_FAILED;
	silent = echoing;
	silent.c_lflag &= ~(tcflag_t) (ECHO | ECHONL);
	if (tcsetattr(fd, TCSAFLUSH, &silent) != 0)
		return SECRET_LINE_FAILED;
	show(fd, prompt);
	state = read_line(fd, line, size, mask);
	problem = errno;
	/* FLUSH also drops the rest of a line that was too long. */
	(void) tcsetattr(fd, TCSAFLUSH, &echoing);
	show(fd, "\n");
	errno = problem;
	return state;
}

SecretLine
secret_line_ask(int fd, const char *prompt, char *line, size_t size)
{
	SecretLine state;
	SignalState before;

	do
	{
		hold_signals(&before);
		state = read_unechoed(fd, prompt, line, size, &before.mask);
		if (state != SECRET_LINE_OK || caught_signal != 0)
			sodium_memzero(line, size);
		release_signals(&before);
		/* Still here after a signal: it only stopped the program, and a shell let it go on. */
	} while (caught_signal != 0);
	return state;
}

SecretLine
secret_line_read(int fd, char *line, size_t size)
{
	return read_line(fd, line, size, NULL);
}
