/*
 * messages.c
 *		What pems-credential says when something is wrong; see messages.h.
 */
#include "messages.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void
complain(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void) fprintf(stderr, PROGRAM ": ");
	(void) vfprintf(stderr, format, arguments);
	(void) fputc('\n', stderr);
	va_end(arguments);
}

int
usage_error(const char *command)
{
	(void) fprintf(stderr, "Try \"" PROGRAM "%s%s --help\".\n", command ? " " : "",
				   command ? command : "");
	return EXIT_USAGE;
}

int
option_error(const char *command, int found, char **argv)
{
	const char *text = argv[optind - 1];

	if (optopt > 0 && optopt < OPTION_HELP)
		complain(found == ':' ? "option -%c needs a value" : "unknown option -%c", optopt);
	else
		complain(found == ':' ? "option %.*s needs a value" : "unknown option %.*s",
				 (int) strcspn(text, "="), text);
	return usage_error(command);
}

int
extra_argument_error(const char *command)
{
	complain("too many arguments (a token is never given on the command line)");
	return usage_error(command);
}
