/*
 * secrets/key_file.c
 *		Key files: reading, making and changing them.
 *
 * A file is judged once it is open, because its path may name another file a
 * moment later.  A change writes a new file beside the old one and renames it, so
 * that a reader finds the old one or the new one, also after a crash.
 *
 * Process: reading: the worker, the backend that runs pems_public_key(), and
 * pems-credential; making and changing: pems-credential.
 * Memory: the text of a file is sodium_malloc'ed.
 * Limits: 8192 bytes.
 */
#include "secrets/key_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "secrets/keyring_internal.h"

/* The file that a call is about, and where its error goes. */
typedef struct KeyFile
{
	const char *path;
	char *error;
	size_t error_size;
} KeyFile;

/*
 * Write 'key file "path" <reason>' to the error.  Of a long path only the end is
 * shown, so that the reason fits into the 256 bytes that a caller may give.
 */
__attribute__((format(printf, 2, 3))) static void
explain(const KeyFile *file, const char *reason, ...)
{
	size_t length = strlen(file->path);
	const char *tail = length > 80 ? file->path + length - 80 : file->path;
	va_list arguments;
	int written;

	/* Not from the middle of a UTF-8 character. */
	while (((unsigned char) *tail & 0xc0) == 0x80)
		tail++;
	written = snprintf(file->error, file->error_size, "key file \"%s%s\" ",
					   length > 80 ? "..." : "", tail);
	if (written < 0 || (size_t) written >= file->error_size)
		return;
	va_start(arguments, reason);
	(void) vsnprintf(file->error + written, file->error_size - (size_t) written, reason, arguments);
	va_end(arguments);
}

/* ---------- reading ---------- */

static PemsKeyState
explain_open(int number, const KeyFile *file)
{
	switch (number)
	{
		case ENOENT:
		case ENOTDIR:
			explain(file, "does not exist; make it with pems-credential keygen, or correct "
						  "pems_sync.key_file");
			return PEMS_KEY_MISSING;
		case ELOOP:
			explain(file, "is a symbolic link, which is not followed; name the file itself");
			return PEMS_KEY_NOT_PRIVATE;
		case ENXIO:
			explain(file, "is not a plain file");
			return PEMS_KEY_NOT_PRIVATE;
		case EACCES:
			explain(file,
					"may not be opened by user id %ld; give the file to the server's user (chown) "
					"and let that user pass its directories",
					(long) geteuid());
			return PEMS_KEY_UNREADABLE;
		default:
			explain(file, "could not be opened: %s", strerror(number));
			return PEMS_KEY_UNREADABLE;
	}
}

/* Judge the open file, never the path: the path may name another file by now. */
static PemsKeyState
check_file(int fd, const KeyFile *file)
{
	struct stat status;

	if (fstat(fd, &status) != 0)
	{
		explain(file, "could not be examined: %s", strerror(errno));
		return PEMS_KEY_UNREADABLE;
	}
	if (!S_ISREG(status.st_mode))
	{
		explain(file, "is not a plain file");
		return PEMS_KEY_NOT_PRIVATE;
	}
	/* (the server never runs as root; pems-credential may) */
	if (status.st_uid != geteuid() && status.st_uid != 0 && geteuid() != 0)
	{
		explain(file,
				"belongs to user id %ld, but must belong to the server's user (id %ld) or root; "
				"correct it with chown",
				(long) status.st_uid, (long) geteuid());
		return PEMS_KEY_NOT_PRIVATE;
	}
	if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
	{
		explain(file,
				"has mode %04o, which lets others than its owner at it; correct it with chmod 0400",
				(unsigned) (status.st_mode & 07777));
		return PEMS_KEY_NOT_PRIVATE;
	}
	return PEMS_KEY_OK;
}

/* Read until end of file or until size bytes are there; -1 with errno on failure. */
static ssize_t
read_all(int fd, char *text, size_t size)
{
	size_t length = 0;

	while (length < size)
	{
		ssize_t got = read(fd, text + length, size - length);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -1;
		if (got == 0)
			break;
		length += (size_t) got;
	}
	return (ssize_t) length;
}

static PemsKeyState
parse_text(const KeyFile *file, const char *text, size_t length, PemsKeyring **keyring)
{
	char reason[KEYRING_REASON_SIZE];

	switch (keyring_parse(text, length, keyring, reason))
	{
		case KEYRING_PARSED:
			return PEMS_KEY_OK;
		case KEYRING_NO_MEMORY:
			explain(file, "could not be read: out of memory");
			return PEMS_KEY_UNREADABLE;
		case KEYRING_MALFORMED:
			break;
	}
	explain(file, "%s", reason);
	return PEMS_KEY_MALFORMED;
}

static PemsKeyState
read_text(int fd, const KeyFile *file, PemsKeyring **keyring)
{
	/* One byte more than allowed tells a file that is too large. */
	char *text = sodium_malloc(KEYRING_MAX_BYTES + 1);
	PemsKeyState state;
	ssize_t length;

	errno = ENOMEM;
	length = text ? read_all(fd, text, KEYRING_MAX_BYTES + 1) : -1;
	if (length < 0)
	{
		explain(file, "could not be read: %s", strerror(errno));
		state = PEMS_KEY_UNREADABLE;
	}
	else if (length > KEYRING_MAX_BYTES)
	{
		explain(file, "is larger than %d bytes and so is no keyring", KEYRING_MAX_BYTES);
		state = PEMS_KEY_MALFORMED;
	}
	else
		state = parse_text(file, text, (size_t) length, keyring);
	sodium_free(text);
	return state;
}

static PemsKeyState
read_file(const KeyFile *file, PemsKeyring **keyring)
{
	/* O_NONBLOCK: a fifo must not hang the server before fstat can refuse it. */
	int fd = open(file->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	PemsKeyState state;

	if (fd < 0)
		return explain_open(errno, file);
	state = check_file(fd, file);
	if (state == PEMS_KEY_OK)
		state = read_text(fd, file, keyring);
	(void) close(fd);
	return state;
}

PemsKeyState
pems_secrets_read_keyring(const char *path, PemsKeyring **keyring, char *error, size_t error_size)
{
	const KeyFile file = {path, error, error_size};

	*keyring = NULL;
	if (error_size > 0)
		error[0] = '\0';
	if (path != NULL && path[0] != '\0')
		return read_file(&file, keyring);
	(void) snprintf(error, error_size,
					"no key file is configured; make one with pems-credential keygen and name "
					"it in pems_sync.key_file");
	return PEMS_KEY_NOT_SET;
}

const char *
pems_secrets_key_hint(PemsKeyState state)
{
	if (state == PEMS_KEY_NOT_SET || state == PEMS_KEY_MISSING)
		return "Make one with \"pems-credential keygen FILE\" as the user that runs the server, "
			   "and set pems_sync.key_file.";
	return "Correct that on the server; do not make a new file, because it would not open the "
		   "credentials that there are.";
}

/* ---------- writing ---------- */

static bool
write_all(int fd, const char *text, size_t length)
{
	while (length > 0)
	{
		ssize_t written = write(fd, text, length);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return false;
		text += written;
		length -= (size_t) written;
	}
	return true;
}

/* Owner and mode come first, so that the secret never lies in a file that has the wrong ones. */
static bool
fill_file(int fd, const char *text, uid_t uid, gid_t gid)
{
	if ((uid != (uid_t) -1 || gid != (gid_t) -1) && fchown(fd, uid, gid) != 0)
		return false;
	return fchmod(fd, S_IRUSR) == 0 && write_all(fd, text, strlen(text)) && fsync(fd) == 0;
}

/* Make a new or renamed directory entry durable. */
static bool
sync_parent(const char *path)
{
	char *directory = strdup(path);
	char *slash = directory ? strrchr(directory, '/') : NULL;
	bool synced = false;
	int fd;

	if (!directory)
		return false;
	if (slash)
		slash[slash == directory ? 1 : 0] = '\0';
	fd = open(slash ? directory : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
	{
		synced = fsync(fd) == 0;
		(void) close(fd);
	}
	free(directory);
	return synced;
}

/* Fill, close and make durable.  False: *problem is the errno of what failed. */
static bool
finish_new_file(int fd, const char *path, const char *text, uid_t uid, gid_t gid, int *problem)
{
	bool done = fill_file(fd, text, uid, gid);

	*problem = errno;
	/* Network file systems report a failed write only here. */
	if (close(fd) != 0 && done)
	{
		done = false;
		*problem = errno;
	}
	if (done && !sync_parent(path))
	{
		done = false;
		*problem = errno;
	}
	return done;
}

static bool
write_new_file(const KeyFile *file, const char *text, uid_t uid, gid_t gid)
{
	int fd = open(file->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR);
	int problem;

	if (fd < 0)
	{
		if (errno == EEXIST)
			explain(file, "exists already and is never overwritten");
		else
			explain(file, "could not be created: %s", strerror(errno));
		return false;
	}
	if (finish_new_file(fd, file->path, text, uid, gid, &problem))
		return true;
	(void) unlink(file->path);
	explain(file, "could not be written: %s", strerror(problem));
	return false;
}

bool
pems_secrets_create_keyring(const char *path, uid_t uid, gid_t gid, char *error, size_t error_size)
{
	const KeyFile file = {path, error, error_size};
	char *text = keyring_text_with_new_key(NULL);
	bool created = false;

	if (text == NULL)
		explain(&file, "could not be made: out of memory");
	else
		created = write_new_file(&file, text, uid, gid);
	sodium_free(text);
	return created;
}

/* ---------- changing ---------- */

/*
 * Is the locked file still the one that the path names?  Another change may have replaced it
 * between our opening it and our lock.
 */
static bool
is_still_there(const char *path, const struct stat *status)
{
	struct stat now;

	return lstat(path, &now) == 0 && now.st_dev == status->st_dev && now.st_ino == status->st_ino;
}

/*
 * Only one at a time changes the file: the lock is on the one that is replaced.  -1 after an
 * error.
 */
static int
lock_file(const KeyFile *file, struct stat *status)
{
	int fd = open(file->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	bool locked;

	if (fd < 0)
	{
		(void) explain_open(errno, file);
		return -1;
	}
	locked = flock(fd, LOCK_EX | LOCK_NB) == 0;
	if (locked && fstat(fd, status) == 0 && is_still_there(file->path, status))
		return fd;
	if (locked || errno == EWOULDBLOCK)
		explain(file, "is being changed by somebody else; try again");
	else
		explain(file, "could not be locked: %s", strerror(errno));
	(void) close(fd);
	return -1;
}

/* Owner and group are those of the old file; only root can and must say so. */
static bool
put_in_place(const KeyFile *file, const KeyFile *new, const char *text, const struct stat *old)
{
	bool as_root = geteuid() == 0;

	/* what an interrupted change left; nothing was ever sealed to it */
	(void) unlink(new->path);
	if (!write_new_file(new, text, as_root ? old->st_uid : (uid_t) -1,
						as_root ? old->st_gid : (gid_t) -1))
		return false;
	if (rename(new->path, file->path) == 0 && sync_parent(file->path))
		return true;
	explain(file, "could not be replaced: %s", strerror(errno));
	(void) unlink(new->path);
	return false;
}

static bool
replace_file(const KeyFile *file, const char *text, const struct stat *old)
{
	KeyFile new = *file;
	size_t size = strlen(file->path) + sizeof(".new");
	char *path = malloc(size);
	bool done;

	if (path == NULL)
	{
		explain(file, "could not be written: out of memory");
		return false;
	}
	(void) snprintf(path, size, "%s.new", file->path);
	new.path = path;
	done = put_in_place(file, &new, text, old);
	free(path);
	return done;
}

/* What becomes of a keyring: the new text, sodium_malloc'ed; NULL after an error. */
typedef char *(*Change)(const KeyFile *file, const PemsKeyring *keyring, void *argument);

static bool
change_file(const KeyFile *file, Change change, void *argument)
{
	struct stat status;
	PemsKeyring *keyring = NULL;
	char *text = NULL;
	bool done = false;
	int fd = lock_file(file, &status);

	if (fd < 0)
		return false;
	if (pems_secrets_read_keyring(file->path, &keyring, file->error, file->error_size) ==
		PEMS_KEY_OK)
		text = change(file, keyring, argument);
	if (text != NULL)
		done = replace_file(file, text, &status);
	sodium_free(text);
	sodium_free(keyring);
	(void) close(fd);
	return done;
}

static char *
with_new_key(const KeyFile *file, const PemsKeyring *keyring, void *argument)
{
	char *text;

	(void) argument;
	if (keyring->count == KEYRING_MAX_KEYS)
	{
		explain(file,
				"has %d keys already; drop old ones with "
				"pems-credential rotate --drop-old-keys",
				KEYRING_MAX_KEYS);
		return NULL;
	}
	text = keyring_text_with_new_key(keyring);
	if (text == NULL)
		explain(file, "could not be changed: out of memory");
	return text;
}

bool
pems_secrets_add_key(const char *path, char *error, size_t error_size)
{
	const KeyFile file = {path, error, error_size};

	return change_file(&file, with_new_key, NULL);
}

typedef struct Needed
{
	const char *const *key_ids;
	size_t count;
	int dropped;
} Needed;

static char *
without_old_keys(const KeyFile *file, const PemsKeyring *keyring, void *argument)
{
	Needed *needed = argument;
	char *text = keyring_text_of_needed(keyring, needed->key_ids, needed->count, &needed->dropped);

	if (text == NULL)
		explain(file, "could not be changed: out of memory");
	return text;
}

bool
pems_secrets_drop_keys(const char *path, const char *const *needed_ids, size_t count, int *dropped,
					   char *error, size_t error_size)
{
	const KeyFile file = {path, error, error_size};
	Needed needed = {.key_ids = needed_ids, .count = count};
	bool done = change_file(&file, without_old_keys, &needed);

	*dropped = needed.dropped;
	return done;
}
