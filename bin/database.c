/*
 * database.c
 *		How pems-credential speaks to the database; see database.h.
 */
#include "database.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "messages.h"
#include "secret_line.h"

/* How long a statement waits for one lock: nobody is to keep the program for ever. */
#define LOCK_TIMEOUT "10s"

/* The same for connecting, unless PGCONNECT_TIMEOUT or the connection string says it; seconds. */
#define CONNECT_TIMEOUT "30"

const char **
connection_option(int option, Connection *connection)
{
	switch (option)
	{
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

static bool
has_state(const PGresult *result, const char *state)
{
	const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	return code && strcmp(code, state) == 0;
}

/* The server says what may not be used, but not who may. */
static void
hint_at_roles(PGconn *connection)
{
	const char *role = PQuser(connection);
	char *quoted = PQescapeIdentifier(connection, role, strlen(role));

	(void) fprintf(stderr,
				   "HINT:  Connect as another role (-U), or have a superuser run GRANT "
				   "pems_sync_admin TO %s. For list, pems_sync_reader is enough.\n",
				   quoted ? quoted : role);
	PQfreemem(quoted);
}

/* Show what the server, or libpq, says is wrong with a statement, which comes in three parts. */
static void
complain_of_result(PGconn *connection, const PGresult *result, const char *head, const char *schema,
				   const char *tail)
{
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
	const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);

	if (!message)
	{
		complain_of_connection(connection);
		return;
	}
	/* a lock timeout; the server's message does not say which statement waited */
	if (has_state(result, "55P03"))
	{
		complain("waited " LOCK_TIMEOUT " for a lock that another session holds, to run: %s%s%s",
				 head, schema, tail);
		hint = "Run it again when that session has ended its transaction.  While it waits, "
			   "pg_blocking_pids() in the database names the session.";
	}
	else
		complain("%s", message);
	if (detail)
		(void) fprintf(stderr, "DETAIL:  %s\n", detail);
	if (hint)
		(void) fprintf(stderr, "HINT:  %s\n", hint);
	else if (has_state(result, "42501"))
		hint_at_roles(connection);
}

static PGconn *
try_connect(const Connection *options, const char *password)
{
	/*
	 * Later ones win, so that a connection string as database cannot change the encoding, and
	 * another database takes the place of the one in it.
	 */
	const char *keywords[] = {"connect_timeout",
							  "host",
							  "port",
							  "user",
							  "password",
							  "dbname",
							  "fallback_application_name",
							  "client_encoding",
							  options->other_database ? "dbname" : NULL,
							  NULL};
	const char *values[] = {getenv("PGCONNECT_TIMEOUT") ? NULL : CONNECT_TIMEOUT,
							options->host,
							options->port,
							options->user,
							password,
							options->database,
							PROGRAM,
							"UTF8",
							options->other_database,
							NULL};

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

PGconn *
connect_database(const Connection *options)
{
	static const char settings[] =
		"SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false),"
		" pg_catalog.set_config('lock_timeout', '" LOCK_TIMEOUT "', false)";
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
	result = PQexec(connection, settings);
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
	{
		complain_of_result(connection, result, settings, "", "");
		PQfinish(connection);
		connection = NULL;
	}
	PQclear(result);
	return connection;
}

PGconn *
connect_to_other(const Connection *options, const char *database)
{
	Connection other = *options;

	other.other_database = database;
	/* Only the first dbname may be a connection string; with it, the second one is a name. */
	if (!other.database)
		other.database = "";
	return connect_database(&other);
}

bool
run_command(PGconn *connection, const char *command)
{
	PGresult *result = PQexec(connection, command);
	bool done = PQresultStatus(result) == PGRES_COMMAND_OK;

	if (!done)
		complain_of_result(connection, result, command, "", "");
	PQclear(result);
	return done;
}

PGresult *
query_rows(PGconn *connection, const char *head, const char *schema, const char *tail,
		   const Parameters *parameters)
{
	char text[1024];
	PGresult *result;

	(void) snprintf(text, sizeof(text), "%s%s%s", head, schema, tail);
	result = PQexecParams(connection, text, parameters->count, parameters->types,
						  parameters->values, parameters->lengths, parameters->formats, 0);
	if (PQresultStatus(result) == PGRES_TUPLES_OK)
		return result;
	complain_of_result(connection, result, head, schema, tail);
	PQclear(result);
	return NULL;
}

PGresult *
query_row(PGconn *connection, const char *head, const char *schema, const char *tail,
		  const Parameters *parameters)
{
	PGresult *result = query_rows(connection, head, schema, tail, parameters);

	if (result == NULL)
		return NULL;
	if (PQntuples(result) == 1 && !PQgetisnull(result, 0, 0) &&
		!PQgetisnull(result, 0, PQnfields(result) - 1))
		return result;
	complain("the server gave no answer to: %s%s%s", head, schema, tail);
	PQclear(result);
	return NULL;
}

char *
find_schema(PGconn *connection)
{
	static const char query[] =
		"SELECT n.nspname FROM pg_catalog.pg_extension e"
		" JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=)"
		" e.extnamespace WHERE e.extname OPERATOR(pg_catalog.=) 'pems_sync'";
	PGresult *result = PQexec(connection, query);
	char *schema = NULL;

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		complain_of_result(connection, result, query, "", "");
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
