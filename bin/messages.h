/*
 * messages.h
 *		What pems-credential says when something is wrong.
 */
#ifndef PEMS_MESSAGES_H
#define PEMS_MESSAGES_H

#define PROGRAM    "pems-credential"
#define EXIT_USAGE 2

/* Values of options that have no letter. */
enum
{
	OPTION_HELP = 256,
	OPTION_OWNER,
	OPTION_ORGANIZATION,
	OPTION_URL,
	OPTION_SET_BY,
	OPTION_DROP_OLD_KEYS
};

/* One line on standard error, with the program's name. */
__attribute__((format(printf, 1, 2))) extern void complain(const char *format, ...);
/* These return EXIT_USAGE; command: NULL for the program itself. */
extern int usage_error(const char *command);
/*
 * getopt_long() refused an option: found is what it returned.  A value, which may be a secret, is
 * not shown.
 */
extern int option_error(const char *command, int found, char **argv);
extern int extra_argument_error(const char *command);

#endif /* PEMS_MESSAGES_H */
