/*
 * old_keys.c
 *		Which keys of a key file nobody needs any more, and dropping them.
 *
 * A key file belongs to the server, and so may be needed by each of its databases.  All of them
 * are asked, in one transaction each that lets no credential change until the file has changed.
 * If one cannot be asked, nothing is dropped.
 */
#include "old_keys.h"

#include <stdlib.h>

#include "messages.h"
#include "secrets/key_file.h"

static const Parameters no_parameters = {0};

/* A database whose credentials are sealed to keys of the file, perhaps. */
typedef struct Database
{
	PGconn *connection;
	char *schema; /* quoted; NULL: it does not have the extension */
	PGresult *key_ids;
} Database;

/* Another database of the server, which need not have the extension. */
static bool
open_database(const KeyUsers *users, const char *name, Database *database)
{
	PGresult *found = NULL;

	database->connection = connect_to_other(users->options, name);
	if (database->connection)
		found = query_rows(database->connection, "SELECT FROM ", "pg_catalog.pg_extension e",
						   " WHERE e.extname OPERATOR(pg_catalog.=) 'pems_sync'", &no_parameters);
	if (found && PQntuples(found) == 1)
		database->schema = find_schema(database->connection);
	if (!found || (PQntuples(found) == 1 && !database->schema))
	{
		complain("what database \"%s\" needs is not known", name);
		PQclear(found);
		return false;
	}
	PQclear(found);
	return true;
}

/* Which keys its rows name; no row can change before the connection's transaction ends. */
static bool
ask_database(Database *database)
{
	if (!database->schema)
		return true;
	if (run_command(database->connection, "BEGIN"))
		database->key_ids = query_rows(database->connection, "SELECT k FROM ", database->schema,
									   "._pems_needed_keys() AS k", &no_parameters);
	return database->key_ids != NULL;
}

/* Drop what no row names. */
static bool
drop_unneeded(const char *file, const Database *databases, int count, int *dropped)
{
	const char **needed;
	size_t found = 0;
	char error[512];
	bool done;

	for (int i = 0; i < count; i++)
		found += (size_t) PQntuples(databases[i].key_ids);
	needed = calloc(found + 1, sizeof(char *));
	found = 0;
	for (int i = 0; needed && i < count; i++)
		for (int row = 0; row < PQntuples(databases[i].key_ids); row++)
			needed[found++] = PQgetvalue(databases[i].key_ids, row, 0);
	done = needed && pems_secrets_drop_keys(file, needed, found, dropped, error, sizeof(error));
	if (!done)
		complain("%s", needed ? error : "out of memory");
	free(needed);
	return done;
}

/* The first is the rotation's own; all are opened before one is asked, so that none waits long. */
static bool
drop_in(const KeyUsers *users, const PGresult *names, Database *databases, int *dropped)
{
	int count = PQntuples(names) + 1;
	bool done = true;

	databases[0] = (Database){.connection = users->connection, .schema = users->schema};
	for (int i = 1; done && i < count; i++)
		done = open_database(users, PQgetvalue(names, i - 1, 0), &databases[i]);
	for (int i = 0; done && i < count; i++)
		done = ask_database(&databases[i]);
	done = done && drop_unneeded(users->file, databases, count, dropped);
	for (int i = 0; i < count; i++)
		PQclear(databases[i].key_ids);
	for (int i = 1; i < count; i++)
	{
		PQfreemem(databases[i].schema);
		PQfinish(databases[i].connection);
	}
	if (PQtransactionStatus(users->connection) != PQTRANS_IDLE)
		(void) run_command(users->connection, "ROLLBACK");
	return done;
}

bool
drop_old_keys(const KeyUsers *users, int *dropped)
{
	PGresult *names = query_rows(
		users->connection, "SELECT d.datname FROM ", "pg_catalog.pg_database d",
		" WHERE d.datallowconn AND d.datname OPERATOR(pg_catalog.<>) pg_catalog.current_database()"
		" ORDER BY d.datname",
		&no_parameters);
	Database *all = names ? calloc((size_t) PQntuples(names) + 1, sizeof(Database)) : NULL;
	int now_dropped = 0;
	bool done = all && drop_in(users, names, all, &now_dropped);

	*dropped += now_dropped;
	if (!done)
		complain("the old keys stay in the file");
	free(all);
	PQclear(names);
	return done;
}
