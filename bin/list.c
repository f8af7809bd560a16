/*
 * list.c
 *		"pems-credential list" and "check": which credentials there are, and whether they work.
 *
 * Process: pems-credential; no token and no key comes here.
 */
#include "commands.h"

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "database.h"
#include "messages.h"

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

int
list_credentials(int argc, char **argv)
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
	int checked = 0;

	for (int row = 0; result != NULL && row < PQntuples(result); row++)
	{
		/* asked for by name, even one without a credential gets its line */
		if (organization == NULL && strcmp(PQgetvalue(result, row, 2), "no_credential") == 0)
			continue;
		healthy &=
			check_one(connection, schema, PQgetvalue(result, row, 0), PQgetvalue(result, row, 1));
		checked++;
	}
	if (result != NULL && checked == 0)
		(void) printf("no organization has a credential\n");
	PQclear(result);
	return healthy;
}

int
check_credentials(int argc, char **argv)
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
