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

#include "../src/credentials.h"
#include "secret_line.h"

#ifndef PEMS_SYNC_VERSION
#define PEMS_SYNC_VERSION "dev"
#endif

#define PROGRAM    "pems-credential"
#define EXIT_USAGE 2

/* pg_type.oid of built-in types; they are the same in every server. */
#define TEXT_TYPE  25
#define BYTEA_TYPE 17

/* Values of options that have no letter. */
enum
{
	OPTION_HELP = 256,
	OPTION_OWNER,
	OPTION_ORGANIZATION,
	OPTION_URL,
	OPTION_SET_BY
};

typedef struct Connection
{
	const char *host; /* NULL: libpq's default, here and below */
	const char *port;
	const char *user;
	const char *database; /* also a connection string */
} Connection;

/* What "set" was asked to store. */
typedef struct Request
{
	const char *organization; /* code */
	const char *url;
	const char *set_by; /* may be NULL */
} Request;

/* ---- messages ---- */

__attribute__((format(printf, 1, 2))) static void
complain(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void) fprintf(stderr, PROGRAM ": ");
	(void) vfprintf(stderr, format, arguments);
	(void) fputc('\n', stderr);
	va_end(arguments);
}

static int
usage_error(const char *command)
{
	(void) fprintf(stderr, "Try \"" PROGRAM "%s%s --help\".\n", command ? " " : "",
				   command ? command : "");
	return EXIT_USAGE;
}

/* Report the option that getopt_long() refused, without a value that may be a secret. */
static int
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

static int
extra_argument_error(const char *command)
{
	complain("too many arguments (a token is never given on the command line)");
	return usage_error(command);
}

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

/* ---- the database ---- */

/* libpq's own message, which ends with a line end. */
static void
complain_of_connection(PGconn *connection)
{
	const char *message = PQerrorMessage(connection);
	size_t length = strlen(message);

	while (length > 0 && message[length - 1] == '\n')
		length--;
	complain("%.*s", (int) length, message);
}

/* Show what the server, or libpq, says is wrong. */
static void
complain_of_result(PGconn *connection, const PGresult *result)
{
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
	const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);

	if (!message)
	{
		complain_of_connection(connection);
		return;
	}
	complain("%s", message);
	if (detail)
		(void) fprintf(stderr, "DETAIL:  %s\n", detail);
	if (hint)
		(void) fprintf(stderr, "HINT:  %s\n", hint);
}

static PGconn *
try_connect(const Connection *options, const char *password)
{
	/* Later ones win, so that a connection string as database cannot change the encoding. */
	const char *keywords[] = {"host",
							  "port",
							  "user",
							  "password",
							  "dbname",
							  "fallback_application_name",
							  "client_encoding",
							  NULL};
	const char *values[] = {options->host,     options->port, options->user, password,
							options->database, PROGRAM,       "UTF8",        NULL};

	return PQconnectdbParams(keywords, values, 1);
}

/* Ask for the database password where libpq needs one; standard input may hold the token. */
static PGconn *
connect_with_password(const Connection *options)
{
	char *password = sodium_malloc(1024);
	int terminal = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
	PGconn *connection = NULL;

	if (password && terminal >= 0 &&
		secret_line_ask(terminal, "Database password: ", password, 1024) == SECRET_LINE_OK)
		connection = try_connect(options, password);
	if (terminal >= 0)
		(void) close(terminal);
	sodium_free(password);
	return connection;
}

/* A connection whose names resolve to the system's own only; NULL after a message. */
static PGconn *
connect_database(const Connection *options)
{
	PGconn *connection = try_connect(options, NULL);
	PGresult *result;

	if (PQstatus(connection) == CONNECTION_BAD && PQconnectionNeedsPassword(connection))
	{
		PGconn *second = connect_with_password(options);

		if (second)
		{
			PQfinish(connection);
			connection = second;
		}
	}
	if (PQstatus(connection) != CONNECTION_OK)
	{
		complain_of_connection(connection);
		PQfinish(connection);
		return NULL;
	}
	result = PQexec(connection,
					"SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false)");
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
	{
		complain_of_result(connection, result);
		PQfinish(connection);
		connection = NULL;
	}
	PQclear(result);
	return connection;
}

static bool
run_command(PGconn *connection, const char *command)
{
	PGresult *result = PQexec(connection, command);
	bool done = PQresultStatus(result) == PGRES_COMMAND_OK;

	if (!done)
		complain_of_result(connection, result);
	PQclear(result);
	return done;
}

/* Parameters have their types stated, so that no overload planted beside a function fits better. */
typedef struct Parameters
{
	int count;
	Oid types[5];
	const char *values[5];
	int lengths[5];
	int formats[5]; /* 1: binary */
} Parameters;

/*
 * Run head, the quoted schema and tail as one statement that gives one row
 * without a NULL.  The caller clears the result; NULL after a message.
 */
static PGresult *
query_row(PGconn *connection, const char *head, const char *schema, const char *tail,
		  const Parameters *parameters)
{
	char text[1024];
	PGresult *result;

	(void) snprintf(text, sizeof(text), "%s%s%s", head, schema, tail);
	result = PQexecParams(connection, text, parameters->count, parameters->types,
						  parameters->values, parameters->lengths, parameters->formats, 0);
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		complain_of_result(connection, result);
	else if (PQntuples(result) != 1 || PQgetisnull(result, 0, 0) ||
			 PQgetisnull(result, 0, PQnfields(result) - 1))
		complain("the server gave no answer to: %s", text);
	else
		return result;
	PQclear(result);
	return NULL;
}

/* The extension's schema, quoted; free with PQfreemem().  NULL after a message. */
static char *
find_schema(PGconn *connection)
{
	PGresult *result =
		PQexec(connection, "SELECT n.nspname FROM pg_catalog.pg_extension e"
						   " JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=)"
						   " e.extnamespace WHERE e.extname OPERATOR(pg_catalog.=) 'pems_sync'");
	char *schema = NULL;

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		complain_of_result(connection, result);
	else if (PQntuples(result) != 1)
	{
		complain("the database \"%s\" does not have the extension pems_sync", PQdb(connection));
		(void) fprintf(stderr,
					   "HINT:  Name another database with --dbname, or run CREATE EXTENSION "
					   "pems_sync there.\n");
	}
	else
	{
		const char *name = PQgetvalue(result, 0, 0);

		schema = PQescapeIdentifier(connection, name, strlen(name));
		if (!schema)
			complain_of_connection(connection);
	}
	PQclear(result);
	return schema;
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
	return send_sealed(connection, schema, request, sealing);
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
		"      --set-by NAME        who sets it, for the audit log (default: the database role)\n"
		"  -d, --dbname NAME        database, or a connection string\n"
		"  -h, --host NAME          server's host or socket directory\n"
		"  -p, --port PORT          server's port\n"
		"  -U, --username NAME      database role\n"
		"      --help               this text\n\n"
		"Without -d, -h, -p, -U: PGDATABASE, PGHOST, PGPORT, PGUSER, as psql does.\n");
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
	{"dbname", required_argument, NULL, 'd'},
	{"host", required_argument, NULL, 'h'},
	{"port", required_argument, NULL, 'p'},
	{"username", required_argument, NULL, 'U'},
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
		case 'd':
			return &connection->database;
		case 'h':
			return &connection->host;
		case 'p':
			return &connection->port;
		case 'U':
			return &connection->user;
		default:
			return NULL;
	}
}

static int
set(int argc, char **argv)
{
	Connection connection = {0};
	Request request = {0};
	int found;

	while ((found = getopt_long(argc, argv, ":d:h:p:U:", set_options, NULL)) != -1)
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

/* ---- the program ---- */

typedef struct Command
{
	const char *name;
	int (*run)(int argc, char **argv); /* argv[0] is the command's name */
	const char *summary;
} Command;

static const Command commands[] = {{"keygen", keygen, "make a key file for the server"},
								   {"set", set, "store an organization's API token"}};
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
