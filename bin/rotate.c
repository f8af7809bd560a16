/*
 * rotate.c
 *		"pems-credential rotate": adds a key to the key file and seals every credential to it.
 *
 * Process: pems-credential, on the server, as a user who may read the key file: the tokens are
 * opened here and sealed again; they never leave this process.
 *
 * It may be killed anywhere, and run again, because each row opens with the file at every moment:
 * first the new key is in the file, beside the old ones; then the rows follow, each in a
 * transaction of its own; old keys are dropped at the very end, if at all.
 *
 * The key file is the server's, the credentials belong to a database.  A rotation seals those of
 * one database; which keys may go is asked of all of them (old_keys.c).
 */
#include "commands.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "database.h"
#include "messages.h"
#include "old_keys.h"
#include "rotation_lock.h"
#include "secrets/key_file.h"
#include "secrets/seal.h"

/* What one "rotate" works on, and what it has done. */
typedef struct Rotation
{
	KeyUsers users;       /* the key file, and the database whose credentials are sealed */
	PemsKeyring *keyring; /* with the new key */
	const char *key_id;   /* the new key's, inside the keyring */
	const char *public_key;
	int resealed;
	int failed;
	int dropped;
} Rotation;

static const Parameters no_parameters = {0};

static void
rotate_help(void)
{
	(void) printf(
		"Usage: " PROGRAM " rotate FILE [options]\n\n"
		"Add a key to the key file and seal all credentials to it.  Runs on the server, as root\n"
		"or as the user that the server runs as.  May be interrupted and run again.\n\n"
		"      --drop-old-keys      then drop the keys that no credential in any database of the\n"
		"                           server needs; the credentials in older backups will not open\n"
		"                           any more\n" CONNECTION_HELP);
}

/* Is that the server's current key?  If it is not, the server reads another file than ours. */
static bool
server_uses(const Rotation *rotation, const char *key_id)
{
	PGresult *result =
		query_row(rotation->users.connection, "SELECT k OPERATOR(pg_catalog.->>) 'keyId' FROM ",
				  rotation->users.schema, ".pems_public_key() AS k", &no_parameters);
	bool same = result && strcmp(PQgetvalue(result, 0, 0), key_id) == 0;

	if (result && !same)
		complain("the server uses another key file: its key is %s, that of \"%s\" is %s",
				 PQgetvalue(result, 0, 0), rotation->users.file, key_id);
	PQclear(result);
	return same;
}

static PemsKeyring *
read_keyring(const char *file)
{
	char error[512];
	PemsKeyring *keyring;

	if (pems_secrets_read_keyring(file, &keyring, error, sizeof(error)) == PEMS_KEY_OK)
		return keyring;
	complain("%s", error);
	return NULL;
}

/* ---- the new key ---- */

/* Is the file the one that the server reads?  Before anything is changed. */
static bool
is_the_servers(const Rotation *rotation)
{
	PemsKeyring *keyring = read_keyring(rotation->users.file);
	bool same = keyring && server_uses(rotation, pems_secrets_current_key(keyring, NULL));

	pems_secrets_free_keyring(keyring);
	return same;
}

static bool
add_key(Rotation *rotation)
{
	char error[512];

	if (!pems_secrets_add_key(rotation->users.file, error, sizeof(error)))
	{
		complain("%s", error);
		return false;
	}
	rotation->keyring = read_keyring(rotation->users.file);
	if (!rotation->keyring)
		return false;
	rotation->key_id = pems_secrets_current_key(rotation->keyring, &rotation->public_key);
	return server_uses(rotation, rotation->key_id);
}

/* A row of _pems_sealed_credentials(). */
typedef struct Row
{
	const char *organization_id;
	const char *code;
	const char *url;
	const char *key_id;
	const char *generation;
	unsigned char *sealed; /* PQfreemem() */
	size_t sealed_length;
} Row;

/* False after a message.  *stored: false if somebody else has changed the row meanwhile. */
static bool
store(const Rotation *rotation, const Row *row, const unsigned char *sealed, size_t length,
	  bool *stored)
{
	const Parameters parameters = {
		.count = 5,
		.types = {TEXT_TYPE, INT8_TYPE, TEXT_TYPE, BYTEA_TYPE, TEXT_TYPE},
		.values = {row->organization_id, row->generation, row->key_id, (const char *) sealed,
				   rotation->key_id},
		.lengths = {0, 0, 0, (int) length, 0},
		.formats = {0, 0, 0, 1, 0}};
	PGresult *result = query_row(rotation->users.connection, "SELECT ", rotation->users.schema,
								 "._pems_reseal_credential($1, $2, $3, $4, $5)", &parameters);
	bool done = result != NULL;

	*stored = done && strcmp(PQgetvalue(result, 0, 0), "t") == 0;
	PQclear(result);
	return done;
}

static bool
reseal(const Rotation *rotation, const Row *row, bool *stored)
{
	long long generation = strtoll(row->generation, NULL, 10);
	char *token;
	unsigned char *sealed = NULL;
	size_t length = 0;
	bool done;

	if (pems_secrets_open(rotation->keyring, row->key_id, row->sealed, row->sealed_length,
						  row->code, row->url, generation, &token) != PEMS_OPEN_OK)
	{
		complain("the credential of %s does not open with the keys of \"%s\"; set it again",
				 row->code, rotation->users.file);
		return false;
	}
	done = pems_secrets_seal(rotation->public_key, row->code, row->url, generation, token, &sealed,
							 &length);
	pems_secrets_free_token(token);
	if (!done)
		complain("the credential of %s could not be sealed", row->code);
	done = done && store(rotation, row, sealed, length, stored);
	free(sealed);
	return done;
}

static void
reseal_row(Rotation *rotation, const PGresult *rows, int number)
{
	bool stored = false;
	Row row = {.organization_id = PQgetvalue(rows, number, 0),
			   .code = PQgetvalue(rows, number, 1),
			   .url = PQgetvalue(rows, number, 2),
			   .key_id = PQgetvalue(rows, number, 4),
			   .generation = PQgetvalue(rows, number, 5)};

	if (strcmp(row.key_id, rotation->key_id) == 0)
		return;
	row.sealed =
		PQunescapeBytea((const unsigned char *) PQgetvalue(rows, number, 3), &row.sealed_length);
	if (row.sealed && reseal(rotation, &row, &stored))
		rotation->resealed += stored;
	else
		rotation->failed++;
	PQfreemem(row.sealed);
}

static PGresult *
query_credentials(const Rotation *rotation)
{
	return query_rows(
		rotation->users.connection,
		"SELECT organization_id, code, api_url, sealed_token, key_id, generation FROM ",
		rotation->users.schema, "._pems_sealed_credentials()", &no_parameters);
}

static bool
reseal_all(Rotation *rotation)
{
	PGresult *rows = query_credentials(rotation);

	if (!rows)
		return false;
	for (int i = 0; i < PQntuples(rows); i++)
		reseal_row(rotation, rows, i);
	PQclear(rows);
	return rotation->failed == 0;
}

/* ---- the command ---- */

/* Add the key and seal all credentials to it. */
static bool
rotate_to_new_key(Rotation *rotation)
{
	bool done;

	if (!add_key(rotation))
		return false;
	(void) printf("key %s added to the key file\n", rotation->key_id);
	(void) fflush(stdout);
	done = reseal_all(rotation);
	(void) printf("%d credential%s sealed to it\n", rotation->resealed,
				  rotation->resealed == 1 ? "" : "s");
	if (!done)
		complain("not all credentials could be sealed again; the old keys stay in the file");
	return done;
}

static bool
rotate(Rotation *rotation, bool drop)
{
	if (!is_the_servers(rotation))
		return false;
	/* What earlier rotations left goes first: a file that is full takes no other key. */
	if (drop && !drop_old_keys(&rotation->users, &rotation->dropped))
		return false;
	if (!rotate_to_new_key(rotation))
		return false;
	if (!drop)
		return true;
	if (!drop_old_keys(&rotation->users, &rotation->dropped))
		return false;
	(void) printf("dropped %d old key%s from the key file\n", rotation->dropped,
				  rotation->dropped == 1 ? "" : "s");
	return true;
}

static bool
rotate_alone(Rotation *rotation, bool drop)
{
	PemsKeyring *keyring = read_keyring(rotation->users.file);
	RotationLock lock = {.fd = -1};
	/* no lock file beside what is no key file */
	bool done = keyring && lock_key_file(rotation->users.file, &lock) && rotate(rotation, drop);

	unlock_key_file(&lock);
	pems_secrets_free_keyring(keyring);
	return done;
}

static int
run_rotate(const char *file, const Connection *options, bool drop)
{
	PGconn *connection = connect_database(options);
	char *schema = connection ? find_schema(connection) : NULL;
	Rotation rotation = {
		.users = {.file = file, .options = options, .connection = connection, .schema = schema}};
	bool done = schema && rotate_alone(&rotation, drop);

	pems_secrets_free_keyring(rotation.keyring);
	PQfreemem(schema);
	PQfinish(connection);
	return done ? EXIT_SUCCESS : EXIT_FAILURE;
}

static const struct option rotate_options[] = {
	{"drop-old-keys", no_argument, NULL, OPTION_DROP_OLD_KEYS},
	CONNECTION_OPTIONS,
	{"help", no_argument, NULL, OPTION_HELP},
	{NULL, 0, NULL, 0}};

int
rotate_keys(int argc, char **argv)
{
	Connection connection = {0};
	bool drop = false;
	int found;

	while ((found = getopt_long(argc, argv, CONNECTION_LETTERS, rotate_options, NULL)) != -1)
	{
		const char **target = connection_option(found, &connection);

		if (found == OPTION_HELP)
		{
			rotate_help();
			return EXIT_SUCCESS;
		}
		if (found == OPTION_DROP_OLD_KEYS)
			drop = true;
		else if (!target)
			return option_error("rotate", found, argv);
		else
			*target = optarg;
	}
	if (argc - optind != 1 || argv[optind][0] == '\0')
	{
		complain("rotate needs the name of the key file");
		return usage_error("rotate");
	}
	return run_rotate(argv[optind], &connection, drop);
}
