/*
 * pems_credential.c
 *		The program pems-credential: makes keyrings and stores sealed API tokens.
 *
 * Process: run by an administrator, on any machine that reaches the database
 * (keygen: on the server).  It connects as psql does and needs no secret key to
 * seal a token, only the public one, which the server hands out.
 *
 * Contract: the token enters by the terminal or by standard input, never by the
 * command line or the environment; it lives in sodium_malloc'ed memory, and only
 * its sealed form goes to the server.  Core dumps and ptrace are off.
 *
 * A command is a line in the table at the end of this file.  Exit status: 0 done,
 * 1 failed, 2 wrong usage.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include <libpq-fe.h>
#include <sodium.h>

#include "secrets/key_file.h"
#include "secrets/seal.h"
#include "database.h"
#include "messages.h"
#include "rotate.h"
#include "secret_line.h"

#ifndef PEMS_SYNC_VERSION
#define PEMS_SYNC_VERSION "dev"
#endif

/* What "set" was asked to store. */
typedef struct Request
{
	const char *organization; /* code */
	const char *url;
	const char *set_by; /* may be NULL */
} Request;

/* ---- the token ---- */

static const char *
line_problem(SecretLine state, bool terminal)
{
	switch (state)
	{
		case SECRET_LINE_MISSING:
			return terminal ? "no token was entered" : "there is no token on standard input";
		case SECRET_LINE_TOO_LONG:
			return terminal ? "the line is longer than a terminal can hand over (4094 bytes); give "
							  "the token on standard input"
							: "the token is longer than 4096 bytes";
		case SECRET_LINE_BINARY:
			return "the token holds a NUL character";
		case SECRET_LINE_FAILED:
			return strerror(errno);
		case SECRET_LINE_OK:
			break;
	}
	return NULL;
}

/* The token, sodium_malloc'ed; NULL after a message. */
static char *
read_token(void)
{
	bool terminal = isatty(STDIN_FILENO) == 1;
	size_t size = terminal ? SECRET_LINE_TERMINAL_SIZE : PEMS_TOKEN_MAX_LENGTH + 1;
	char *token = sodium_malloc(PEMS_TOKEN_MAX_LENGTH + 1);
	const char *problem;
	SecretLine state;

	if (!token)
	{
		complain("out of memory");
		return NULL;
	}
	state = terminal ? secret_line_ask(STDIN_FILENO, "API token (not shown): ", token, size)
					 : secret_line_read(STDIN_FILENO, token, size);
	problem = state == SECRET_LINE_OK ? pems_credentials_check_token(token)
									  : line_problem(state, terminal);
	if (!problem)
		return token;
	complain("%s", problem);
	sodium_free(token);
	return NULL;
}

/* ---- keygen ---- */

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
	if (!pems_credentials_create_keyring(file, uid, gid, error, sizeof(error)))
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

static int
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

/* ---- set ---- */

/* What one "set" gathers on its way; text points into results. */
typedef struct Sealing
{
	PGresult *key;
	PGresult *target;
	const char *key_id;
	const char *public_key; /* base64 */
	const char *organization_id;
	int64_t generation;
	unsigned char *sealed; /* malloc'ed */
	size_t sealed_length;
} Sealing;

static bool
fetch_key(PGconn *connection, const char *schema, Sealing *sealing)
{
	static const Parameters none = {0};

	sealing->key = query_row(connection,
							 "SELECT k OPERATOR(pg_catalog.->>) 'keyId',"
							 " k OPERATOR(pg_catalog.->>) 'publicKey' FROM ",
							 schema, ".pems_public_key() AS k", &none);
	if (!sealing->key)
		return false;
	sealing->key_id = PQgetvalue(sealing->key, 0, 0);
	sealing->public_key = PQgetvalue(sealing->key, 0, 1);
	if (pems_credentials_is_key(sealing->key_id, sealing->public_key))
		return true;
	complain("the server's public key does not belong to its key id \"%s\"", sealing->key_id);
	return false;
}

static bool
read_generation(const PGresult *result, int column, int64_t *generation)
{
	const char *text = PQgetvalue(result, 0, column);
	char *end;

	errno = 0;
	*generation = strtoll(text, &end, 10);
	if (errno == 0 && end != text && *end == '\0')
		return true;
	complain("the server gave \"%s\" as generation", text);
	return false;
}

/* Locks the organization's credential, for all who set one with this program. */
static bool
fetch_target(PGconn *connection, const char *schema, const char *organization, Sealing *sealing)
{
	const Parameters parameters = {.count = 1, .types = {TEXT_TYPE}, .values = {organization}};

	sealing->target = query_row(connection, "SELECT organization_id, generation FROM ", schema,
								"._pems_credential_target($1)", &parameters);
	if (!sealing->target)
		return false;
	sealing->organization_id = PQgetvalue(sealing->target, 0, 0);
	return read_generation(sealing->target, 1, &sealing->generation);
}

/*
 * The server says which generation it gave the row.  Another one than was sealed, because somebody
 * called the function by hand meanwhile, would leave a row that does not open.
 */
static bool
send_sealed(PGconn *connection, const char *schema, const Request *request, const Sealing *sealing)
{
	const Parameters parameters = {
		.count = 5,
		.types = {TEXT_TYPE, TEXT_TYPE, BYTEA_TYPE, TEXT_TYPE, TEXT_TYPE},
		.values = {sealing->organization_id, request->url, (const char *) sealing->sealed,
				   sealing->key_id, request->set_by},
		.lengths = {0, 0, (int) sealing->sealed_length, 0, 0},
		.formats = {0, 0, 1, 0, 0}};
	PGresult *result =
		query_row(connection, "SELECT k OPERATOR(pg_catalog.->>) 'generation' FROM ", schema,
				  ".pems_set_credential(organization_id => $1, api_url => $2, sealed_token => $3,"
				  " key_id => $4, set_by => $5) AS k",
				  &parameters);
	int64_t generation;
	bool done = result && read_generation(result, 0, &generation);

	if (done && generation != sealing->generation)
	{
		complain("another credential for %s was set at the same time; try again",
				 request->organization);
		done = false;
	}
	PQclear(result);
	return done;
}

/*
 * Is the key that we sealed to still the server's?  A rotation that began meanwhile may be about to
 * drop it.
 */
static bool
key_is_current(PGconn *connection, const char *schema, const char *key_id)
{
	Sealing now = {0};
	bool current = fetch_key(connection, schema, &now);

	if (current && strcmp(now.key_id, key_id) != 0)
	{
		complain("the server's key was changed at the same time; try again");
		current = false;
	}
	PQclear(now.key);
	return current;
}

/* Everything between BEGIN and COMMIT. */
static bool
store_in_transaction(PGconn *connection, const char *schema, const Request *request,
					 const char *token, Sealing *sealing)
{
	if (!fetch_key(connection, schema, sealing) ||
		!fetch_target(connection, schema, request->organization, sealing))
		return false;
	if (!pems_credentials_seal(sealing->public_key, request->organization, request->url,
							   sealing->generation, token, &sealing->sealed,
							   &sealing->sealed_length))
	{
		complain("the credential could not be sealed: organization and URL must be UTF-8, and the "
				 "server's public key must be valid");
		return false;
	}
	return send_sealed(connection, schema, request, sealing) &&
		   key_is_current(connection, schema, sealing->key_id);
}

static bool
store_credential(PGconn *connection, const Request *request, const char *token)
{
	char *schema = find_schema(connection);
	Sealing sealing = {0};
	/* Whatever the role's defaults are: the target must be read as it is now, and written. */
	bool done = schema &&
				run_command(connection, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE") &&
				store_in_transaction(connection, schema, request, token, &sealing) &&
				run_command(connection, "COMMIT");

	if (done)
		(void) printf("credential for %s set (key %s, generation %lld)\n", request->organization,
					  sealing.key_id, (long long) sealing.generation);
	free(sealing.sealed);
	PQclear(sealing.target);
	PQclear(sealing.key);
	PQfreemem(schema);
	return done;
}

static void
set_help(void)
{
	(void) printf(
		"Usage: " PROGRAM " set --organization CODE --url URL [options]\n\n"
		"Seal an API token to the server's key and store it for an organization.  The token is\n"
		"asked for on the terminal, or read as one line where standard input is no terminal.\n\n"
		"      --organization CODE  code of the organization\n"
		"      --url URL            base URL of its PEMS, https://...\n"
		"      --set-by NAME        who sets it, for the audit log (default: the database "
		"role)\n" CONNECTION_HELP);
}

static int
run_set(const Connection *options, const Request *request)
{
	PGconn *connection = connect_database(options);
	char *token = connection ? read_token() : NULL;
	bool done = token && store_credential(connection, request, token);

	pems_credentials_free_token(token);
	PQfinish(connection);
	return done ? EXIT_SUCCESS : EXIT_FAILURE;
}

static const struct option set_options[] = {
	{"organization", required_argument, NULL, OPTION_ORGANIZATION},
	{"url", required_argument, NULL, OPTION_URL},
	{"set-by", required_argument, NULL, OPTION_SET_BY},
	CONNECTION_OPTIONS,
	{"help", no_argument, NULL, OPTION_HELP},
	{NULL, 0, NULL, 0}};

/* Where an option's value goes; NULL for one that has none. */
static const char **
set_option_target(int option, Connection *connection, Request *request)
{
	switch (option)
	{
		case OPTION_ORGANIZATION:
			return &request->organization;
		case OPTION_URL:
			return &request->url;
		case OPTION_SET_BY:
			return &request->set_by;
		default:
			return connection_option(option, connection);
	}
}

static int
set(int argc, char **argv)
{
	Connection connection = {0};
	Request request = {0};
	int found;

	while ((found = getopt_long(argc, argv, CONNECTION_LETTERS, set_options, NULL)) != -1)
	{
		const char **target = set_option_target(found, &connection, &request);

		if (found == OPTION_HELP)
		{
			set_help();
			return EXIT_SUCCESS;
		}
		if (!target)
			return option_error("set", found, argv);
		*target = optarg;
	}
	if (optind < argc)
		return extra_argument_error("set");
	if (!request.organization || !request.organization[0] || !request.url || !request.url[0])
	{
		complain("set needs --organization and --url");
		return usage_error("set");
	}
	return run_set(&connection, &request);
}

/* ---- list, check ---- */

/* What "list" and "check" are asked; both look at one organization or all. */
typedef struct Choice
{
	Connection connection;
	const char *organization; /* code; NULL: all */
} Choice;

static const struct option choice_options[] = {
	{"organization", required_argument, NULL, OPTION_ORGANIZATION},
	CONNECTION_OPTIONS,
	{"help", no_argument, NULL, OPTION_HELP},
	{NULL, 0, NULL, 0}};

static void
list_help(void)
{
	(void) printf(
		"Usage: " PROGRAM " list [options]\n\n"
		"Show the organizations with the states of their credentials: ok, no_credential,\n"
		"no_key, cannot_open, refused_by_pems, or nothing as long as the server has not\n"
		"opened one yet.  Tokens are never shown.\n\n"
		"      --organization CODE  only this one\n" CONNECTION_HELP);
}

static void
check_help(void)
{
	(void) printf(
		"Usage: " PROGRAM " check [options]\n\n"
		"Let the server call PEMS with the credentials of the organizations that have one.\n"
		"Exit status 1 when PEMS is not healthy for one of them.\n\n"
		"      --organization CODE  only this one\n" CONNECTION_HELP);
}

/* -1: go on; otherwise the exit status. */
static int
read_choice(const char *command, void (*show_help)(void), int argc, char **argv, Choice *choice)
{
	int found;

	while ((found = getopt_long(argc, argv, CONNECTION_LETTERS, choice_options, NULL)) != -1)
	{
		const char **target = found == OPTION_ORGANIZATION
								  ? &choice->organization
								  : connection_option(found, &choice->connection);

		if (found == OPTION_HELP)
		{
			show_help();
			return EXIT_SUCCESS;
		}
		if (!target)
			return option_error(command, found, argv);
		*target = optarg;
	}
	return optind < argc ? extra_argument_error(command) : -1;
}

/* The rows of a query over pems_endpoints, for one organization or all; NULL after a message. */
static PGresult *
query_endpoints(PGconn *connection, const char *schema, const char *columns,
				const char *organization)
{
	const Parameters parameters = {.count = 1, .types = {TEXT_TYPE}, .values = {organization}};
	PGresult *result = query_rows(
		connection, columns, schema,
		".pems_endpoints e WHERE $1 IS NULL OR e.organization_code OPERATOR(pg_catalog.=) $1"
		" ORDER BY e.organization_code",
		&parameters);

	if (result != NULL && organization != NULL && PQntuples(result) == 0)
	{
		complain("no organization has the code \"%s\"", organization);
		PQclear(result);
		return NULL;
	}
	return result;
}

static int
list(int argc, char **argv)
{
	static char separator[] = "  ";
	const PQprintOpt format = {.header = 1, .align = 1, .fieldSep = separator};
	Choice choice = {0};
	int status = read_choice("list", list_help, argc, argv, &choice);
	PGconn *connection;
	char *schema;
	PGresult *result;

	if (status >= 0)
		return status;
	connection = connect_database(&choice.connection);
	schema = connection ? find_schema(connection) : NULL;
	result = schema ? query_endpoints(connection, schema,
									  "SELECT e.organization_code AS organization, e.credential,"
									  " e.key_id AS key, e.generation, e.set_by,"
									  " pg_catalog.date_trunc('second', e.set_at) AS set_at,"
									  " e.api_url AS url, e.credential_problem AS problem FROM ",
									  choice.organization)
					: NULL;
	if (result != NULL)
		PQprint(stdout, result, &format);
	status = result != NULL ? EXIT_SUCCESS : EXIT_FAILURE;
	PQclear(result);
	PQfreemem(schema);
	PQfinish(connection);
	return status;
}

/* One line for one organization; true when PEMS is healthy for it. */
static bool
check_one(PGconn *connection, const char *schema, const char *id, const char *code)
{
	const Parameters parameters = {.count = 1, .types = {TEXT_TYPE}, .values = {id}};
	PGresult *result = query_rows(connection,
								  "SELECT h OPERATOR(pg_catalog.->>) 'healthy',"
								  " h OPERATOR(pg_catalog.->>) 'latency',"
								  " h OPERATOR(pg_catalog.->>) 'error' FROM ",
								  schema, ".pems_health_check($1) AS h", &parameters);
	bool healthy;

	if (result == NULL || PQntuples(result) != 1)
	{
		PQclear(result);
		return false;
	}
	healthy = strcmp(PQgetvalue(result, 0, 0), "true") == 0;
	if (healthy)
		(void) printf("%s: ok, %s ms\n", code, PQgetvalue(result, 0, 1));
	else
		(void) printf("%s: %s\n", code, PQgetvalue(result, 0, 2));
	PQclear(result);
	return healthy;
}

static bool
check_all(PGconn *connection, const char *schema, const char *organization)
{
	PGresult *result = query_endpoints(
		connection, schema, "SELECT e.organization_id, e.organization_code, e.credential FROM ",
		organization);
	bool healthy = result != NULL;

	for (int row = 0; result != NULL && row < PQntuples(result); row++)
	{
		/* asked for by name, even one without a credential gets its line */
		if (organization == NULL && strcmp(PQgetvalue(result, row, 2), "no_credential") == 0)
			continue;
		healthy &=
			check_one(connection, schema, PQgetvalue(result, row, 0), PQgetvalue(result, row, 1));
	}
	PQclear(result);
	return healthy;
}

static int
check(int argc, char **argv)
{
	Choice choice = {0};
	int status = read_choice("check", check_help, argc, argv, &choice);
	PGconn *connection;
	char *schema;

	if (status >= 0)
		return status;
	connection = connect_database(&choice.connection);
	schema = connection ? find_schema(connection) : NULL;
	status =
		schema && check_all(connection, schema, choice.organization) ? EXIT_SUCCESS : EXIT_FAILURE;
	PQfreemem(schema);
	PQfinish(connection);
	return status;
}

/* ---- the program ---- */

typedef struct Command
{
	const char *name;
	int (*run)(int argc, char **argv); /* argv[0] is the command's name */
	const char *summary;
} Command;

static const Command commands[] = {
	{"keygen", keygen, "make a key file for the server"},
	{"set", set, "store an organization's API token"},
	{"list", list, "show the organizations with their credentials"},
	{"check", check, "call PEMS with the stored credentials"},
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

/* No core file, and no ptrace by others of the same user: both would show the token. */
static void
protect_process(void)
{
	const struct rlimit none = {0, 0};

	(void) setrlimit(RLIMIT_CORE, &none);
#ifdef __linux__
	(void) prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
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

	protect_process();
	/* Messages of our own: getopt's would repeat what may be a secret. */
	opterr = 0;
	if (!pems_credentials_initialize())
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
