/*
 * rotate.c
 *		"pems-credential rotate": adds a key to the key file and seals every credential to it.
 *
 * Runs on the server, as a user who may read the key file: the tokens are opened here and sealed
 * again; they never leave this process.  At every moment each row opens with the file: first the
 *new key is in the file, beside the old ones, then the rows follow, each in a transaction of its
 *own; old keys are dropped at the very end, if at all.  So it may be killed anywhere, and run
 *again.
 *
 * The key file is the server's, the credentials belong to a database.  A rotation seals those of
 *one database; which keys may go is asked of all of them.
 */
#include "rotate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "secrets/key_file.h"
#include "secrets/seal.h"
#include "database.h"
#include "messages.h"

typedef struct Rotation
{
	const Connection *options;
	PGconn *connection;
	char *schema; /* quoted */
	const char *file;
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
		"      --drop-old-keys      then take the keys that no credential needs out of the file, "
		"in\n"
		"                           no database of the server; the credentials in older backups\n"
		"                           will not open any more\n" CONNECTION_HELP);
}

/* Is that the key that the server would seal to now?  So: does it read the file that we write? */
static bool
server_uses(const Rotation *rotation, const char *key_id)
{
	PGresult *result =
		query_row(rotation->connection, "SELECT k OPERATOR(pg_catalog.->>) 'keyId' FROM ",
				  rotation->schema, ".pems_public_key() AS k", &no_parameters);
	bool same = result && strcmp(PQgetvalue(result, 0, 0), key_id) == 0;

	if (result && !same)
		complain("the server uses another key file: its key is %s, that of \"%s\" is %s",
				 PQgetvalue(result, 0, 0), rotation->file, key_id);
	PQclear(result);
	return same;
}

static PemsKeyring *
read_keyring(const char *file)
{
	char error[512];
	PemsKeyring *keyring;

	if (pems_credentials_read_keyring(file, &keyring, error, sizeof(error)) == PEMS_KEY_OK)
		return keyring;
	complain("%s", error);
	return NULL;
}

/* ---- one rotation at a time ---- */

/* How long a rotation waits for another one, and how often it looks. */
#define WAIT_SECONDS     10
#define LOOKS_PER_SECOND 10

typedef struct LockFile
{
	char *path;
	uid_t owner; /* of the key file */
	int fd;      /* -1: not locked */
} LockFile;

/* A lock file that others can open, or whose content is elsewhere, they could lock for ever. */
static bool
is_private(const LockFile *lock, const struct stat *status)
{
	bool ours = status->st_uid == geteuid() || (geteuid() == 0 && status->st_uid == lock->owner);

	if (S_ISREG(status->st_mode) && status->st_nlink == 1 && ours && (status->st_mode & 077) == 0)
		return true;
	complain(
		"lock file \"%s\" is not a plain file of the user who runs this, with mode 0600 and no "
		"other name; remove it",
		lock->path);
	return false;
}

/* Does the path name the file still?  Who held the lock before has removed it. */
static bool
is_still_there(const LockFile *lock, const struct stat *status)
{
	struct stat now;

	return lstat(lock->path, &now) == 0 && now.st_dev == status->st_dev &&
		   now.st_ino == status->st_ino;
}

/* False after a message; otherwise the lock is taken, or somebody else has it. */
static bool
try_lock(LockFile *lock)
{
	struct stat status;
	int fd = open(lock->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
				  S_IRUSR | S_IWUSR);

	/* a rotation that root runs */
	if (fd < 0 && errno == EACCES)
		return true;
	if (fd < 0 || fstat(fd, &status) != 0)
	{
		complain("lock file \"%s\" could not be opened: %s", lock->path, strerror(errno));
		if (fd >= 0)
			(void) close(fd);
		return false;
	}
	if (!is_private(lock, &status))
	{
		(void) close(fd);
		return false;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) == 0 && is_still_there(lock, &status))
		lock->fd = fd;
	else
		(void) close(fd);
	return true;
}

/*
 * Rotations of a key file come one after the other, whatever their databases: one that drops keys
 * must not take away what another has added and not used yet.  The lock is on a file of its own,
 * because the key file is replaced, and not on the directory, because that can be locked by
 * everybody who may read it.  It ends with the process, however that ends.
 */
static bool
wait_for_others(LockFile *lock)
{
	const struct timespec pause = {.tv_nsec = 1000000000 / LOOKS_PER_SECOND};

	for (int look = 0; look <= WAIT_SECONDS * LOOKS_PER_SECOND; look++)
	{
		if (!try_lock(lock))
			return false;
		if (lock->fd >= 0)
			return true;
		if (look == 0)
			complain("another rotation is under way; waiting for its end");
		(void) nanosleep(&pause, NULL);
	}
	complain("gave up after %d s: \"%s\" is locked, or belongs to another user", WAIT_SECONDS,
			 lock->path);
	(void) fprintf(
		stderr,
		"HINT:  Only another rotation, or another process of the same user or of root, can "
		"lock it; fuser \"%s\" shows which.  If no rotation is running, remove the file.\n",
		lock->path);
	return false;
}

static bool
lock_key_file(const char *file, LockFile *lock)
{
	size_t size = strlen(file) + sizeof(".lock");
	struct stat status;

	if (lstat(file, &status) != 0)
	{
		complain("key file \"%s\" could not be looked at: %s", file, strerror(errno));
		return false;
	}
	lock->owner = status.st_uid;
	lock->path = malloc(size);
	if (lock->path == NULL)
	{
		complain("out of memory");
		return false;
	}
	(void) snprintf(lock->path, size, "%s.lock", file);
	return wait_for_others(lock);
}

/* The file goes first: who waits for the lock finds out that it is gone, and makes another. */
static void
unlock_key_file(LockFile *lock)
{
	if (lock->fd >= 0)
	{
		(void) unlink(lock->path);
		(void) close(lock->fd);
	}
	free(lock->path);
}

/* ---- the new key ---- */

/* Is the file the one that the server reads?  Before anything is changed. */
static bool
is_the_servers(const Rotation *rotation)
{
	PemsKeyring *keyring = read_keyring(rotation->file);
	bool same = keyring && server_uses(rotation, pems_credentials_current_key(keyring, NULL));

	pems_credentials_free_keyring(keyring);
	return same;
}

static bool
add_key(Rotation *rotation)
{
	char error[512];

	if (!pems_credentials_add_key(rotation->file, error, sizeof(error)))
	{
		complain("%s", error);
		return false;
	}
	rotation->keyring = read_keyring(rotation->file);
	if (!rotation->keyring)
		return false;
	rotation->key_id = pems_credentials_current_key(rotation->keyring, &rotation->public_key);
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

/* Returns whether the row was that credential still. */
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
	PGresult *result = query_row(rotation->connection, "SELECT ", rotation->schema,
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

	if (pems_credentials_open(rotation->keyring, row->key_id, row->sealed, row->sealed_length,
							  row->code, row->url, generation, &token) != PEMS_OPEN_OK)
	{
		complain("the credential of %s does not open with the keys of \"%s\"; set it again",
				 row->code, rotation->file);
		return false;
	}
	done = pems_credentials_seal(rotation->public_key, row->code, row->url, generation, token,
								 &sealed, &length);
	pems_credentials_free_token(token);
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
		rotation->connection,
		"SELECT organization_id, code, api_url, sealed_token, key_id, generation FROM ",
		rotation->schema, "._pems_sealed_credentials()", &no_parameters);
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

/* ---- old keys ---- */

/* A database whose credentials are sealed to keys of the file, perhaps. */
typedef struct Database
{
	PGconn *connection;
	char *schema; /* quoted; NULL: it does not have the extension */
	PGresult *key_ids;
} Database;

/* Every other database of the server, which need not have the extension. */
static bool
open_database(const Rotation *rotation, const char *name, Database *database)
{
	PGresult *found = NULL;

	database->connection = connect_to_other(rotation->options, name);
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
	done = needed && pems_credentials_drop_keys(file, needed, found, dropped, error, sizeof(error));
	if (!done)
		complain("%s", needed ? error : "out of memory");
	free(needed);
	return done;
}

/* The first is the rotation's own; all are opened before one is asked, so that none waits long. */
static bool
drop_in(const Rotation *rotation, const PGresult *names, Database *databases, int *dropped)
{
	int count = PQntuples(names) + 1;
	bool done = true;

	databases[0] = (Database){.connection = rotation->connection, .schema = rotation->schema};
	for (int i = 1; done && i < count; i++)
		done = open_database(rotation, PQgetvalue(names, i - 1, 0), &databases[i]);
	for (int i = 0; done && i < count; i++)
		done = ask_database(&databases[i]);
	done = done && drop_unneeded(rotation->file, databases, count, dropped);
	for (int i = 0; i < count; i++)
		PQclear(databases[i].key_ids);
	for (int i = 1; i < count; i++)
	{
		PQfreemem(databases[i].schema);
		PQfinish(databases[i].connection);
	}
	if (PQtransactionStatus(rotation->connection) != PQTRANS_IDLE)
		(void) run_command(rotation->connection, "ROLLBACK");
	return done;
}

static bool
drop_old_keys(Rotation *rotation)
{
	PGresult *names = query_rows(
		rotation->connection, "SELECT d.datname FROM ", "pg_catalog.pg_database d",
		" WHERE d.datallowconn AND d.datname OPERATOR(pg_catalog.<>) pg_catalog.current_database()"
		" ORDER BY d.datname",
		&no_parameters);
	Database *all = names ? calloc((size_t) PQntuples(names) + 1, sizeof(Database)) : NULL;
	int dropped = 0;
	bool done = all && drop_in(rotation, names, all, &dropped);

	rotation->dropped += dropped;
	if (!done)
		complain("the old keys stay in the file");
	free(all);
	PQclear(names);
	return done;
}

/* ---- the command ---- */

static bool
rotate(Rotation *rotation, bool drop)
{
	bool done;

	if (!is_the_servers(rotation))
		return false;
	/* what earlier rotations left goes first: a file that is full takes no other key */
	if ((drop && !drop_old_keys(rotation)) || !add_key(rotation))
		return false;
	(void) printf("key %s added to the key file\n", rotation->key_id);
	(void) fflush(stdout);
	done = reseal_all(rotation);
	(void) printf("%d credential%s sealed to it\n", rotation->resealed,
				  rotation->resealed == 1 ? "" : "s");
	if (!done)
		complain("not all credentials could be sealed again; the old keys stay in the file");
	if (!done || !drop)
		return done;
	done = drop_old_keys(rotation);
	if (done)
		(void) printf("dropped %d old key%s from the key file\n", rotation->dropped,
					  rotation->dropped == 1 ? "" : "s");
	return done;
}

static bool
rotate_alone(Rotation *rotation, bool drop)
{
	PemsKeyring *keyring = read_keyring(rotation->file);
	LockFile lock = {.fd = -1};
	/* no lock file beside what is no key file */
	bool done = keyring && lock_key_file(rotation->file, &lock) && rotate(rotation, drop);

	unlock_key_file(&lock);
	pems_credentials_free_keyring(keyring);
	return done;
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
	Rotation rotation = {0};
	bool drop = false;
	bool done;
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
	rotation.file = argv[optind];
	rotation.options = &connection;
	rotation.connection = connect_database(&connection);
	rotation.schema = rotation.connection ? find_schema(rotation.connection) : NULL;
	done = rotation.schema && rotate_alone(&rotation, drop);
	pems_credentials_free_keyring(rotation.keyring);
	PQfreemem(rotation.schema);
	PQfinish(rotation.connection);
	return done ? EXIT_SUCCESS : EXIT_FAILURE;
}
