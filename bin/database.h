/*
 * database.h
 *		How pems-credential speaks to the database: like psql, through libpq.
 *
 * Every function complains by itself when something is wrong.
 */
#ifndef PEMS_DATABASE_H
#define PEMS_DATABASE_H

#include <getopt.h>
#include <stdbool.h>

#include <libpq-fe.h>

/* pg_type.oid of built-in types; they are the same in every server. */
#define INT8_TYPE  20
#define TEXT_TYPE  25
#define BYTEA_TYPE 17

typedef struct Connection
{
	const char *host; /* NULL: libpq's default, here and below */
	const char *port;
	const char *user;
	const char *database;       /* also a connection string */
	const char *other_database; /* a name: in place of the one above, which says all else */
} Connection;

/* The options of a connection: for a table of struct option, and as letters for getopt_long(). */
#define CONNECTION_OPTION(name, letter)                                                            \
	{                                                                                              \
		(name), required_argument, NULL, (letter)                                                  \
	}
#define CONNECTION_OPTIONS                                                                         \
	CONNECTION_OPTION("dbname", 'd'), CONNECTION_OPTION("host", 'h'),                              \
		CONNECTION_OPTION("port", 'p'), CONNECTION_OPTION("username", 'U')
#define CONNECTION_LETTERS ":d:h:p:U:"
#define CONNECTION_HELP                                                                            \
	"  -d, --dbname NAME        database, or a connection string\n"                                \
	"  -h, --host NAME          server's host or socket directory\n"                               \
	"  -p, --port PORT          server's port\n"                                                   \
	"  -U, --username NAME      database role\n"                                                   \
	"      --help               this text\n\n"                                                     \
	"Without -d, -h, -p, -U: PGDATABASE, PGHOST, PGPORT, PGUSER, as psql does.\n"

/* Where the value of a connection's option goes; NULL: it is none of them. */
extern const char **connection_option(int option, Connection *connection);

/* Parameters have their types stated, so that no overload planted beside a function fits better. */
typedef struct Parameters
{
	int count;
	Oid types[5];
	const char *values[5];
	int lengths[5];
	int formats[5]; /* 1: binary */
} Parameters;

/* A connection whose names resolve to the system's own only; NULL after a message. */
extern PGconn *connect_database(const Connection *options);
/* The same server and role, another database. */
extern PGconn *connect_to_other(const Connection *options, const char *database);
/* The extension's schema, quoted; free with PQfreemem().  NULL after a message. */
extern char *find_schema(PGconn *connection);
extern bool run_command(PGconn *connection, const char *command);
/*
 * Run head, the quoted schema and tail as one statement that gives rows.  The caller clears the
 * result; NULL after a message.
 */
extern PGresult *query_rows(PGconn *connection, const char *head, const char *schema,
							const char *tail, const Parameters *parameters);
/* The same for one row without a NULL in its first and last column. */
extern PGresult *query_row(PGconn *connection, const char *head, const char *schema,
						   const char *tail, const Parameters *parameters);

#endif /* PEMS_DATABASE_H */
