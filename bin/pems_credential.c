/*
 * pems_credential.c
 *		The program pems-credential: makes key files and stores sealed API tokens.
 *
 * Process: run by an administrator, on any machine that reaches the database (keygen and rotate: on
 * the server).  It connects as psql does.
 *
 * Limits on what it shows: no token and no key is ever on the command line, in the environment or
 * in a message; core dumps and ptrace are off.
 *
 * A command is a line in the table below.  Exit status: 0 done, 1 failed, 2 wrong usage.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "messages.h"
#include "secrets/keyring.h"
#include "secrets/process.h"

#ifndef PEMS_SYNC_VERSION
#define PEMS_SYNC_VERSION "dev"
#endif

typedef struct Command
{
	const char *name;
	int (*run)(int argc, char **argv); /* argv[0] is the command's name */
	const char *summary;
} Command;

static const Command commands[] = {
	{"keygen", keygen, "make a key file for the server"},
	{"set", set_credential, "store an organization's API token"},
	{"list", list_credentials, "show the organizations with their credentials"},
	{"check", check_credentials, "call PEMS with the stored credentials"},
	{"rotate", rotate_keys, "add a key to the key file and seal all credentials to it"},
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void
help(void)
{
	(void) printf("Usage: " PROGRAM " COMMAND [options]\n\n"
				  "Keys and API credentials of the PostgreSQL extension pems_sync.\n\n");
	for (size_t i = 0; i < COMMANDS; i++)
		(void) printf("  %-10s %s\n", commands[i].name, commands[i].summary);
	(void) printf("\n\"" PROGRAM " COMMAND --help\" shows a command's options; --version the "
				  "version.\n");
}

static int
run_command_line(int argc, char **argv)
{
	if (strcmp(argv[1], "--help") == 0)
	{
		help();
		return EXIT_SUCCESS;
	}
	if (strcmp(argv[1], "--version") == 0)
	{
		(void) printf(PROGRAM " (pems_sync) " PEMS_SYNC_VERSION "\n");
		return EXIT_SUCCESS;
	}
	for (size_t i = 0; i < COMMANDS; i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	complain("there is no such command");
	return usage_error(NULL);
}

int
main(int argc, char **argv)
{
	int status;

	pems_secrets_keep_process_private();
	/* Messages of our own: getopt's would repeat what may be a secret. */
	opterr = 0;
	if (!pems_secrets_initialize())
	{
		complain("libsodium could not be initialized");
		return EXIT_FAILURE;
	}
	if (argc < 2)
	{
		complain("a command is missing");
		return usage_error(NULL);
	}
	status = run_command_line(argc, argv);
	if (fflush(stdout) != 0 && status == EXIT_SUCCESS)
		complain("warning: standard output could not be written");
	return status;
}
