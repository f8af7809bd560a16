/*
 * set.c
 *		"pems-credential set": seals an API token and stores it for an organization.
 *
 * Process: pems-credential, on any machine that reaches the database: to seal a token it needs the
 * public key, which the server hands out, and no key file.
 *
 * Memory: the token enters by the terminal or by standard input, never by the command line or the
 * environment; it lives in sodium_malloc'ed memory, and only its sealed form goes to the server.
 */
#include "commands.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libpq-fe.h>
#include <sodium.h>

#include "database.h"
#include "messages.h"
#include "secret_line.h"
#include "secrets/seal.h"

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
	problem =
		state == SECRET_LINE_OK ? pems_secrets_check_token(token) : line_problem(state, terminal);
	if (!problem)
		return token;
	complain("%s", problem);
	sodium_free(token);
	return NULL;
}

/* ---- the statements ---- */

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
	if (pems_secrets_is_key(sealing->key_id, sealing->public_key))
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
	if (!pems_secrets_seal(sealing->public_key, request->organization, request->url,
						   sealing->generation, token, &sealing->sealed, &sealing->sealed_length))
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

	pems_secrets_free_token(token);
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

int
set_credential(int argc, char **argv)
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
