/*
 * keygen.c
 *		"pems-credential keygen": makes a key file.
 *
 * Process: pems-credential, on the server; it needs no database.
 */
#include "commands.h"

#include <getopt.h>
#include <limits.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "messages.h"
#include "secrets/key_file.h"

static void
keygen_help(void)
{
	(void) printf(
		"Usage: " PROGRAM " keygen FILE [--owner USER]\n\n"
		"Make a new key file (mode 0400); an existing file is never overwritten.\n\n"
		"      --owner USER  give the file to this user, the one that the server runs as\n"
		"                    (default when run as root: postgres, if that user exists)\n"
		"      --help        this text\n");
}

/* Who shall own the file; -1 leaves it to the caller. */
static bool
find_owner(const char *name, uid_t *uid, gid_t *gid)
{
	const struct passwd *user = NULL;

	*uid = (uid_t) -1;
	*gid = (gid_t) -1;
	if (name || geteuid() == 0)
		user = getpwnam(name ? name : "postgres");
	if (name && !user)
	{
		complain("there is no user \"%s\"", name);
		return false;
	}
	if (user)
	{
		*uid = user->pw_uid;
		*gid = user->pw_gid;
	}
	return true;
}

/*
 * A key inside a data directory goes into every base backup, beside the
 * credentials that it opens.  path is absolute.
 */
static void
warn_inside_data_directory(const char *path)
{
	char directory[PATH_MAX];
	char *slash;

	(void) snprintf(directory, sizeof(directory), "%s", path);
	while ((slash = strrchr(directory, '/')) != NULL)
	{
		char marker[PATH_MAX + sizeof("/PG_VERSION")];

		*slash = '\0';
		(void) snprintf(marker, sizeof(marker), "%s/PG_VERSION", directory);
		if (access(marker, F_OK) != 0)
			continue;
		complain("warning: the file lies in the data directory \"%s\": base backups will carry the "
				 "key beside what it opens",
				 directory);
		return;
	}
}

/* What the administrator does next, ready to paste into postgresql.conf. */
static void
print_next_steps(const char *path)
{
	(void) printf("Made the key file \"%s\".\n\n"
				  "1. Name it in postgresql.conf, and reload the server:\n"
				  "     pems_sync.key_file = '",
				  path);
	for (const char *c = path; *c; c++)
	{
		if (*c == '\'' || *c == '\\')
			(void) putchar(*c);
		(void) putchar(*c);
	}
	(void) printf("'\n"
				  "2. Store a credential for each organization:\n"
				  "     " PROGRAM " set --organization CODE --url https://...\n"
				  "3. Keep a copy of the file in a safe place, apart from the backups of the "
				  "database.\n"
				  "   Without it every credential has to be set again.\n");
}

static int
make_keyring(const char *file, const char *owner)
{
	char error[512];
	uid_t uid;
	gid_t gid;
	char *path;

	if (!find_owner(owner, &uid, &gid))
		return EXIT_FAILURE;
	if (!pems_secrets_create_keyring(file, uid, gid, error, sizeof(error)))
	{
		complain("%s", error);
		return EXIT_FAILURE;
	}
	path = realpath(file, NULL);
	warn_inside_data_directory(path ? path : file);
	print_next_steps(path ? path : file);
	free(path);
	return EXIT_SUCCESS;
}

int
keygen(int argc, char **argv)
{
	static const struct option options[] = {{"owner", required_argument, NULL, OPTION_OWNER},
											{"help", no_argument, NULL, OPTION_HELP},
											{NULL, 0, NULL, 0}};
	const char *owner = NULL;
	int found;

	while ((found = getopt_long(argc, argv, ":", options, NULL)) != -1)
	{
		switch (found)
		{
			case OPTION_OWNER:
				owner = optarg;
				break;
			case OPTION_HELP:
				keygen_help();
				return EXIT_SUCCESS;
			default:
				return option_error("keygen", found, argv);
		}
	}
	if (argc - optind != 1 || argv[optind][0] == '\0')
	{
		complain("keygen needs the name of one file");
		return usage_error("keygen");
	}
	return make_keyring(argv[optind], owner);
}
