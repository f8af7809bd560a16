/*
 * secrets/credentials.c
 *		Keyring file and sealed API tokens (libsodium); see credentials.h.
 *
 * Process: the worker, the backend that runs pems_health_check() or
 * pems_public_key(), and the program pems-credential.  Neither PostgreSQL nor
 * curl is known here; the only side effects are on the keyring file.
 *
 * Memory: secret keys, the text of the keyring and opened tokens live in
 * sodium_malloc'ed memory (guard pages, mlock where the limit allows it, zeroed
 * by sodium_free).  Two texts with a token pass through the ordinary heap: the
 * JSON that is sealed, whose buffer never grows and is zeroed, and the strings
 * of the JSON tree that is read back, zeroed before the tree is freed.
 *
 * The keyring is text:
 *
 *	pems_sync keyring 1
 *	<key id: 16 hex digits> <secret key: base64>
 *	...
 *
 * The last line is the current key.  A key id is the start of a hash of the
 * public key, and is checked, so that an id can never name another key.
 *
 * Known limit: a sealed box has no sender.  Who may write credential rows can
 * seal a token of his own; what he cannot do is read ours or move it to another
 * organization or URL.
 */
#include "secrets/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "record/json.h"

#define KEYRING_HEADER "pems_sync keyring 1\n"
/* Rotation adds a line now and then; the bounds only keep a wrong file from being read. */
#define KEYRING_MAX_KEYS  64
#define KEYRING_MAX_BYTES 8192

#define BASE64 sodium_base64_VARIANT_ORIGINAL
/* Lengths without the NUL that sodium counts. */
#define SECRET_TEXT_LENGTH (sodium_base64_ENCODED_LEN(crypto_box_SECRETKEYBYTES, BASE64) - 1)
#define PUBLIC_TEXT_LENGTH (sodium_base64_ENCODED_LEN(crypto_box_PUBLICKEYBYTES, BASE64) - 1)
#define KEY_LINE_LENGTH    (PEMS_KEY_ID_LENGTH + 1 + SECRET_TEXT_LENGTH)

/* Far above every real credential: a bound for what is allocated on a row's word. */
#define SEALED_MAX_LENGTH 65536

typedef struct Key
{
	char id[PEMS_KEY_ID_LENGTH + 1];
	char public_text[PUBLIC_TEXT_LENGTH + 1]; /* base64 */
	unsigned char public_key[crypto_box_PUBLICKEYBYTES];
	unsigned char secret_key[crypto_box_SECRETKEYBYTES];
} Key;

struct PemsKeyring
{
	size_t count; /* at least 1 */
	Key keys[KEYRING_MAX_KEYS];
};

bool
pems_credentials_initialize(void)
{
	return sodium_init() >= 0;
}

const char *
pems_credentials_check_token(const char *token)
{
	size_t length = strlen(token);

	if (length == 0)
		return "the token is empty";
	if (length > PEMS_TOKEN_MAX_LENGTH)
		return "the token is longer than 4096 bytes";
	for (size_t i = 0; i < length; i++)
	{
		unsigned char c = (unsigned char) token[i];

		if (c < 0x20 || c == 0x7f)
			return "the token holds a control character (a line end, a tab, ...)";
		if (c == ' ' || c > 0x7f)
			return "the token holds a space or a character outside ASCII";
	}
	return NULL;
}

/*
 * Write 'key file "path" <reason>' to error.  Of a long path only the end is
 * shown, so that the reason fits into the 256 bytes that a caller may give.
 */
__attribute__((format(printf, 4, 5))) static void
explain(char *error, size_t size, const char *path, const char *reason, ...)
{
	size_t length = strlen(path);
	const char *tail = length > 80 ? path + length - 80 : path;
	va_list arguments;
	int written;

	/* Not from the middle of a UTF-8 character. */
	while (((unsigned char) *tail & 0xc0) == 0x80)
		tail++;
	written = snprintf(error, size, "key file \"%s%s\" ", length > 80 ? "..." : "", tail);
	if (written < 0 || (size_t) written >= size)
		return;
	va_start(arguments, reason);
	(void) vsnprintf(error + written, size - (size_t) written, reason, arguments);
	va_end(arguments);
}

/* ---- keys ---- */

static void
make_key_id(const unsigned char *public_key, char *id)
{
	unsigned char hash[crypto_generichash_BYTES];

	(void) crypto_generichash(hash, sizeof(hash), public_key, crypto_box_PUBLICKEYBYTES, NULL, 0);
	(void) sodium_bin2hex(id, PEMS_KEY_ID_LENGTH + 1, hash, PEMS_KEY_ID_LENGTH / 2);
}

static bool
decode_key(const char *text, size_t length, unsigned char *key, size_t key_length)
{
	size_t decoded;

	/* libsodium 1.0.18 takes bytes outside ASCII for digits. */
	for (size_t i = 0; i < length; i++)
		if ((unsigned char) text[i] > 0x7f)
			return false;
	return sodium_base642bin(key, key_length, text, length, NULL, &decoded, NULL, BASE64) == 0 &&
		   decoded == key_length;
}

/* Fill in what follows from the secret key. */
static bool
complete_key(Key *key)
{
	if (crypto_scalarmult_base(key->public_key, key->secret_key) != 0)
		return false;
	make_key_id(key->public_key, key->id);
	(void) sodium_bin2base64(key->public_text, sizeof(key->public_text), key->public_key,
							 sizeof(key->public_key), BASE64);
	return true;
}

bool
pems_credentials_is_key(const char *key_id, const char *public_key)
{
	unsigned char key[crypto_box_PUBLICKEYBYTES];
	char id[PEMS_KEY_ID_LENGTH + 1];

	if (!decode_key(public_key, strlen(public_key), key, sizeof(key)))
		return false;
	make_key_id(key, id);
	return strcmp(id, key_id) == 0;
}

/* ---- reading a keyring ---- */

/* NULL, or what is wrong with the line; never a part of the line itself. */
static const char *
parse_key(const char *line, size_t length, Key *key)
{
	if (length != KEY_LINE_LENGTH || line[PEMS_KEY_ID_LENGTH] != ' ')
		return "is not a key id, a space and a key";
	if (!decode_key(line + PEMS_KEY_ID_LENGTH + 1, SECRET_TEXT_LENGTH, key->secret_key,
					sizeof(key->secret_key)) ||
		!complete_key(key))
		return "holds a key that is not base64 of 32 bytes";
	if (memcmp(line, key->id, PEMS_KEY_ID_LENGTH) != 0)
		return "holds a key id that does not belong to its key";
	return NULL;
}

static const Key *
find_key(const PemsKeyring *keyring, const char *key_id)
{
	for (size_t i = 0; i < keyring->count; i++)
		if (strcmp(keyring->keys[i].id, key_id) == 0)
			return &keyring->keys[i];
	return NULL;
}

/* Parse the lines below the header.  NULL, or what is wrong with line *number. */
static const char *
parse_keys(const char *text, const char *end, PemsKeyring *keyring, int *number)
{
	for (*number = 2; text < end; ++*number)
	{
		const char *line_end = memchr(text, '\n', (size_t) (end - text));
		Key *key = &keyring->keys[keyring->count];
		const char *problem;

		if (!line_end)
			return "does not end: the file was cut short";
		if (keyring->count == KEYRING_MAX_KEYS)
			return "is one key too many";
		problem = parse_key(text, (size_t) (line_end - text), key);
		if (problem)
			return problem;
		if (find_key(keyring, key->id))
			return "repeats a key";
		keyring->count++;
		text = line_end + 1;
	}
	return keyring->count > 0 ? NULL : "is missing: there is no key";
}

static PemsKeyState
parse_keyring(const char *path, const char *text, size_t length, PemsKeyring **keyring, char *error,
			  size_t error_size)
{
	const size_t header_length = strlen(KEYRING_HEADER);
	PemsKeyring *parsed;
	const char *problem;
	int line;

	if (length < header_length || memcmp(text, KEYRING_HEADER, header_length) != 0)
	{
		explain(error, error_size, path,
				"does not begin with the line \"pems_sync keyring 1\"; "
				"make one with pems-credential keygen");
		return PEMS_KEY_MALFORMED;
	}
	parsed = sodium_malloc(sizeof(*parsed));
	if (!parsed)
	{
		explain(error, error_size, path, "could not be read: out of memory");
		return PEMS_KEY_UNREADABLE;
	}
	parsed->count = 0;
	problem = parse_keys(text + header_length, text + length, parsed, &line);
	if (problem)
	{
		explain(error, error_size, path, "is damaged: line %d %s; restore it from its backup", line,
				problem);
		sodium_free(parsed);
		return PEMS_KEY_MALFORMED;
	}
	(void) sodium_mprotect_readonly(parsed);
	*keyring = parsed;
	return PEMS_KEY_OK;
}

static PemsKeyState
explain_open(int number, const char *path, char *error, size_t error_size)
{
	switch (number)
	{
		case ENOENT:
		case ENOTDIR:
			explain(error, error_size, path,
					"does not exist; make it with pems-credential keygen, or correct "
					"pems_sync.key_file");
			return PEMS_KEY_MISSING;
		case ELOOP:
			explain(error, error_size, path,
					"is a symbolic link, which is not followed; name the file itself");
			return PEMS_KEY_NOT_PRIVATE;
		case ENXIO:
			explain(error, error_size, path, "is not a plain file");
			return PEMS_KEY_NOT_PRIVATE;
		case EACCES:
			explain(error, error_size, path,
					"may not be opened by user id %ld; give the file to the server's user (chown) "
					"and let that user pass its directories",
					(long) geteuid());
			return PEMS_KEY_UNREADABLE;
		default:
			explain(error, error_size, path, "could not be opened: %s", strerror(number));
			return PEMS_KEY_UNREADABLE;
	}
}

/* Judge the open file, never the path: the path may name another file by now. */
static PemsKeyState
check_file(int fd, const char *path, char *error, size_t error_size)
{
	struct stat status;

	if (fstat(fd, &status) != 0)
	{
		explain(error, error_size, path, "could not be examined: %s", strerror(errno));
		return PEMS_KEY_UNREADABLE;
	}
	if (!S_ISREG(status.st_mode))
	{
		explain(error, error_size, path, "is not a plain file");
		return PEMS_KEY_NOT_PRIVATE;
	}
	/* (the server never runs as root; pems-credential may) */
	if (status.st_uid != geteuid() && status.st_uid != 0 && geteuid() != 0)
	{
		explain(error, error_size, path,
				"belongs to user id %ld, but must belong to the server's user (id %ld) or root; "
				"correct it with chown",
				(long) status.st_uid, (long) geteuid());
		return PEMS_KEY_NOT_PRIVATE;
	}
	if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
	{
		explain(error, error_size, path,
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
read_keyring_file(int fd, const char *path, PemsKeyring **keyring, char *error, size_t error_size)
{
	/* One byte more than allowed tells a file that is too large. */
	char *text = sodium_malloc(KEYRING_MAX_BYTES + 1);
	PemsKeyState state;
	ssize_t length;

	errno = ENOMEM;
	length = text ? read_all(fd, text, KEYRING_MAX_BYTES + 1) : -1;
	if (length < 0)
	{
		explain(error, error_size, path, "could not be read: %s", strerror(errno));
		state = PEMS_KEY_UNREADABLE;
	}
	else if (length > KEYRING_MAX_BYTES)
	{
		explain(error, error_size, path, "is larger than %d bytes and so is no keyring",
				KEYRING_MAX_BYTES);
		state = PEMS_KEY_MALFORMED;
	}
	else
		state = parse_keyring(path, text, (size_t) length, keyring, error, error_size);
	sodium_free(text);
	return state;
}

PemsKeyState
pems_credentials_read_keyring(const char *path, PemsKeyring **keyring, char *error,
							  size_t error_size)
{
	PemsKeyState state;
	int fd;

	*keyring = NULL;
	if (error_size > 0)
		error[0] = '\0';
	if (!path || path[0] == '\0')
	{
		(void) snprintf(error, error_size,
						"no key file is configured; make one with pems-credential keygen and name "
						"it in pems_sync.key_file");
		return PEMS_KEY_NOT_SET;
	}
	/* O_NONBLOCK: a fifo must not hang the server before fstat can refuse it. */
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return explain_open(errno, path, error, error_size);
	state = check_file(fd, path, error, error_size);
	if (state == PEMS_KEY_OK)
		state = read_keyring_file(fd, path, keyring, error, error_size);
	(void) close(fd);
	return state;
}

void
pems_credentials_free_keyring(PemsKeyring *keyring)
{
	sodium_free(keyring);
}

const char *
pems_credentials_current_key(const PemsKeyring *keyring, const char **public_key)
{
	const Key *key = &keyring->keys[keyring->count - 1];

	if (public_key)
		*public_key = key->public_text;
	return key->id;
}

/* ---- making a keyring ---- */

static Key *
make_key(void)
{
	Key *key = sodium_malloc(sizeof(*key));

	if (key)
	{
		randombytes_buf(key->secret_key, sizeof(key->secret_key));
		(void) complete_key(key);
	}
	return key;
}

/* Returns where the next line goes. */
static char *
write_key(char *line, const Key *key)
{
	memcpy(line, key->id, PEMS_KEY_ID_LENGTH);
	line[PEMS_KEY_ID_LENGTH] = ' ';
	(void) sodium_bin2base64(line + PEMS_KEY_ID_LENGTH + 1, SECRET_TEXT_LENGTH + 1, key->secret_key,
							 sizeof(key->secret_key), BASE64);
	memcpy(line + KEY_LINE_LENGTH, "\n", 2);
	return line + KEY_LINE_LENGTH + 1;
}

/*
 * A sodium_malloc'ed, NUL-terminated keyring, or NULL: those of the keys whose place is set in
 * chosen (NULL: all), then last, which may be NULL.
 */
static char *
compose_keyring(const PemsKeyring *keyring, const bool *chosen, const Key *last)
{
	char *text =
		sodium_malloc(strlen(KEYRING_HEADER) + (KEYRING_MAX_KEYS + 1) * (KEY_LINE_LENGTH + 1) + 1);
	char *next = text;

	if (!text)
		return NULL;
	memcpy(next, KEYRING_HEADER, sizeof(KEYRING_HEADER));
	next += sizeof(KEYRING_HEADER) - 1;
	for (size_t i = 0; keyring && i < keyring->count; i++)
		if (!chosen || chosen[i])
			next = write_key(next, &keyring->keys[i]);
	if (last)
		(void) write_key(next, last);
	return text;
}

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

/* Make the new directory entry durable. */
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

static bool
write_new_file(const char *path, const char *text, uid_t uid, gid_t gid, char *error,
			   size_t error_size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR);
	bool written;
	int problem;

	if (fd < 0)
	{
		if (errno == EEXIST)
			explain(error, error_size, path, "exists already and is never overwritten");
		else
			explain(error, error_size, path, "could not be created: %s", strerror(errno));
		return false;
	}
	written = fill_file(fd, text, uid, gid);
	problem = errno;
	/* Network file systems report a failed write only here. */
	if (close(fd) != 0 && written)
	{
		written = false;
		problem = errno;
	}
	if (written && !sync_parent(path))
	{
		written = false;
		problem = errno;
	}
	if (!written)
	{
		(void) unlink(path);
		explain(error, error_size, path, "could not be written: %s", strerror(problem));
	}
	return written;
}

bool
pems_credentials_create_keyring(const char *path, uid_t uid, gid_t gid, char *error,
								size_t error_size)
{
	Key *key = make_key();
	char *text = key ? compose_keyring(NULL, NULL, key) : NULL;
	bool created;

	sodium_free(key);
	if (!text)
	{
		explain(error, error_size, path, "could not be made: out of memory");
		return false;
	}
	created = write_new_file(path, text, uid, gid, error, error_size);
	sodium_free(text);
	return created;
}

/* ---- changing a keyring ---- */

/* Is the locked file still the one that the path names?  Another change may have replaced it
 * between our opening it and our lock. */
static bool
is_still_there(const char *path, const struct stat *status)
{
	struct stat now;

	return lstat(path, &now) == 0 && now.st_dev == status->st_dev && now.st_ino == status->st_ino;
}

/* Only one at a time changes the file: the lock is on the one that is replaced.  -1 after a
 * message. */
static int
lock_file(const char *path, struct stat *status, char *error, size_t error_size)
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	bool locked;

	if (fd < 0)
	{
		(void) explain_open(errno, path, error, error_size);
		return -1;
	}
	locked = flock(fd, LOCK_EX | LOCK_NB) == 0;
	if (locked && fstat(fd, status) == 0 && is_still_there(path, status))
		return fd;
	if (locked || errno == EWOULDBLOCK)
		explain(error, error_size, path, "is being changed by somebody else; try again");
	else
		explain(error, error_size, path, "could not be locked: %s", strerror(errno));
	(void) close(fd);
	return -1;
}

/* Owner and group are those of the old file; only root can and must say so. */
static bool
replace_file(const char *path, const char *text, const struct stat *old, char *error,
			 size_t error_size)
{
	bool as_root = geteuid() == 0;
	size_t size = strlen(path) + sizeof(".new");
	char *new_path = malloc(size);
	bool done;

	if (!new_path)
	{
		explain(error, error_size, path, "could not be written: out of memory");
		return false;
	}
	(void) snprintf(new_path, size, "%s.new", path);
	/* what an interrupted change left; nothing was ever sealed to it */
	(void) unlink(new_path);
	done = write_new_file(new_path, text, as_root ? old->st_uid : (uid_t) -1,
						  as_root ? old->st_gid : (gid_t) -1, error, error_size);
	if (done && (rename(new_path, path) != 0 || !sync_parent(path)))
	{
		explain(error, error_size, path, "could not be replaced: %s", strerror(errno));
		(void) unlink(new_path);
		done = false;
	}
	free(new_path);
	return done;
}

/* What becomes of a keyring: the new text, sodium_malloc'ed; NULL after a message. */
typedef char *(*Change)(const PemsKeyring *keyring, void *argument, const char *path, char *error,
						size_t error_size);

static bool
change_keyring(const char *path, Change change, void *argument, char *error, size_t error_size)
{
	struct stat status;
	PemsKeyring *keyring = NULL;
	char *text = NULL;
	bool done = false;
	int fd = lock_file(path, &status, error, error_size);

	if (fd < 0)
		return false;
	if (pems_credentials_read_keyring(path, &keyring, error, error_size) == PEMS_KEY_OK)
		text = change(keyring, argument, path, error, error_size);
	if (text)
		done = replace_file(path, text, &status, error, error_size);
	sodium_free(text);
	sodium_free(keyring);
	(void) close(fd);
	return done;
}

static char *
with_new_key(const PemsKeyring *keyring, void *argument, const char *path, char *error,
			 size_t error_size)
{
	Key *key;
	char *text;

	(void) argument;
	if (keyring->count == KEYRING_MAX_KEYS)
	{
		explain(error, error_size, path,
				"has %d keys already; drop old ones with "
				"pems-credential rotate --drop-old-keys",
				KEYRING_MAX_KEYS);
		return NULL;
	}
	key = make_key();
	text = key ? compose_keyring(keyring, NULL, key) : NULL;
	sodium_free(key);
	if (!text)
		explain(error, error_size, path, "could not be changed: out of memory");
	return text;
}

bool
pems_credentials_add_key(const char *path, char *error, size_t error_size)
{
	return change_keyring(path, with_new_key, NULL, error, error_size);
}

typedef struct Needed
{
	const char *const *key_ids;
	size_t count;
	int dropped;
} Needed;

static bool
is_needed(const Needed *needed, const char *key_id)
{
	for (size_t i = 0; i < needed->count; i++)
		if (strcmp(needed->key_ids[i], key_id) == 0)
			return true;
	return false;
}

static char *
without_old_keys(const PemsKeyring *keyring, void *argument, const char *path, char *error,
				 size_t error_size)
{
	Needed *needed = argument;
	bool chosen[KEYRING_MAX_KEYS];
	char *text;

	for (size_t i = 0; i < keyring->count; i++)
	{
		chosen[i] = i == keyring->count - 1 || is_needed(needed, keyring->keys[i].id);
		needed->dropped += !chosen[i];
	}
	text = compose_keyring(keyring, chosen, NULL);
	if (!text)
		explain(error, error_size, path, "could not be changed: out of memory");
	return text;
}

bool
pems_credentials_drop_keys(const char *path, const char *const *needed_ids, size_t count,
						   int *dropped, char *error, size_t error_size)
{
	Needed needed = {.key_ids = needed_ids, .count = count};
	bool done = change_keyring(path, without_old_keys, &needed, error, error_size);

	*dropped = needed.dropped;
	return done;
}

/* ---- sealing ---- */

/*
 * Whether text may be bound: not empty, and UTF-8, because what does not parse
 * could be sealed but never opened again.
 */
static bool
is_bindable(const char *text)
{
	JsonBuffer quoted = {0};
	JsonDocument document;
	bool readable = false;

	if (text[0] == '\0')
		return false;
	pems_json_append_string(&quoted, text, strlen(text));
	if (!quoted.failed && pems_json_parse(quoted.data, quoted.length, &document, NULL))
	{
		readable = true;
		pems_json_free(&document);
	}
	pems_json_buffer_free(&quoted);
	return readable;
}

/*
 * Fill buffer with the JSON text.  It gets its memory at once, large enough for
 * the worst escaping, because a buffer that grows leaves copies of the token
 * behind.
 */
static bool
compose_text(JsonBuffer *buffer, const char *organization, const char *url, int64_t generation,
			 const char *token)
{
	char number[64];

	buffer->capacity = 6 * (strlen(organization) + strlen(url) + strlen(token)) + 256;
	buffer->data = malloc(buffer->capacity);
	if (!buffer->data)
		return false;
	buffer->data[0] = '\0';
	(void) snprintf(number, sizeof(number), ",\"generation\":%lld", (long long) generation);
	pems_json_append_text(buffer, "{\"organization\":");
	pems_json_append_string(buffer, organization, strlen(organization));
	pems_json_append_text(buffer, ",\"url\":");
	pems_json_append_string(buffer, url, strlen(url));
	pems_json_append_text(buffer, number);
	pems_json_append_text(buffer, ",\"token\":");
	pems_json_append_string(buffer, token, strlen(token));
	pems_json_append_text(buffer, "}");
	return !buffer->failed && buffer->length + crypto_box_SEALBYTES <= SEALED_MAX_LENGTH;
}

static bool
seal_text(const JsonBuffer *text, const unsigned char *public_key, unsigned char **sealed,
		  size_t *sealed_length)
{
	unsigned char *box = malloc(text->length + crypto_box_SEALBYTES);

	if (!box)
		return false;
	if (crypto_box_seal(box, (const unsigned char *) text->data, text->length, public_key) != 0)
	{
		free(box);
		return false;
	}
	*sealed = box;
	*sealed_length = text->length + crypto_box_SEALBYTES;
	return true;
}

bool
pems_credentials_seal(const char *public_key, const char *organization, const char *url,
					  int64_t generation, const char *token, unsigned char **sealed,
					  size_t *sealed_length)
{
	unsigned char key[crypto_box_PUBLICKEYBYTES];
	JsonBuffer text = {0};
	bool done;

	*sealed = NULL;
	*sealed_length = 0;
	if (!decode_key(public_key, strlen(public_key), key, sizeof(key)) ||
		pems_credentials_check_token(token) || !is_bindable(organization) || !is_bindable(url))
		return false;
	done = compose_text(&text, organization, url, generation, token) &&
		   seal_text(&text, key, sealed, sealed_length);
	if (text.data)
		sodium_memzero(text.data, text.capacity);
	pems_json_buffer_free(&text);
	return done;
}

/* ---- opening ---- */

static bool
is_text(const JsonNode *node, const char *expected)
{
	return node && node->kind == JSON_KIND_STRING && node->length == strlen(expected) &&
		   memcmp(node->text, expected, node->length) == 0;
}

static bool
is_bound_to(const JsonNode *root, const char *organization, const char *url, int64_t generation)
{
	const JsonNode *sealed_generation = pems_json_get(root, "generation");
	long long number;

	return is_text(pems_json_get(root, "organization"), organization) &&
		   is_text(pems_json_get(root, "url"), url) && sealed_generation &&
		   pems_json_integer(sealed_generation, &number) && number == generation;
}

/*
 * Copy the token out.  It is checked again: whoever has the public key can seal
 * a text, and this one goes into a header.
 */
static char *
copy_token(const JsonNode *node)
{
	char *token;

	if (!node || node->kind != JSON_KIND_STRING || pems_credentials_check_token(node->text))
		return NULL;
	token = sodium_malloc(node->length + 1);
	if (token)
		memcpy(token, node->text, node->length + 1);
	return token;
}

/* The tree's strings are copies on the ordinary heap: ours to wipe, although shown as const. */
static void
wipe_strings(const JsonNode *parent)
{
	for (const JsonNode *node = parent->first; node; node = node->next)
		if (node->kind == JSON_KIND_STRING)
			sodium_memzero((void *) (uintptr_t) node->text, node->length);
}

static char *
read_token(const char *text, size_t length, const char *organization, const char *url,
		   int64_t generation)
{
	JsonDocument document;
	char *token = NULL;

	if (!pems_json_parse(text, length, &document, NULL))
		return NULL;
	if (is_bound_to(document.root, organization, url, generation))
		token = copy_token(pems_json_get(document.root, "token"));
	wipe_strings(document.root);
	pems_json_free(&document);
	return token;
}

PemsOpenState
pems_credentials_open(const PemsKeyring *keyring, const char *key_id, const unsigned char *sealed,
					  size_t sealed_length, const char *organization, const char *url,
					  int64_t generation, char **token)
{
	const Key *key = find_key(keyring, key_id);
	size_t length;
	unsigned char *text;

	*token = NULL;
	if (!key)
		return PEMS_OPEN_NO_KEY;
	if (sealed_length < crypto_box_SEALBYTES || sealed_length > SEALED_MAX_LENGTH)
		return PEMS_OPEN_CANNOT;
	length = sealed_length - crypto_box_SEALBYTES;
	text = sodium_malloc(length + 1);
	if (!text)
		return PEMS_OPEN_CANNOT;
	if (crypto_box_seal_open(text, sealed, sealed_length, key->public_key, key->secret_key) == 0)
		*token = read_token((const char *) text, length, organization, url, generation);
	sodium_free(text);
	return *token ? PEMS_OPEN_OK : PEMS_OPEN_CANNOT;
}

void
pems_credentials_free_token(char *token)
{
	sodium_free(token);
}
