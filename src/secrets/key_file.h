/*
 * secrets/key_file.h
 *		Key files: reading, making and changing them.
 *
 * Pure of PostgreSQL and libcurl; linked into the library and into pems-credential.
 * Errors: error, of at least 256 bytes, receives a sentence for an administrator, which
 * never has a part of a key in it.
 */
#ifndef PEMS_KEY_FILE_H
#define PEMS_KEY_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "secrets/keyring.h"

typedef enum PemsKeyState
{
	PEMS_KEY_OK,
	PEMS_KEY_NOT_SET,    /* no path configured */
	PEMS_KEY_MISSING,    /* no such file */
	PEMS_KEY_UNREADABLE, /* open or read failed */
	/* others may read it, it is not a plain file, or a symbolic link, or has another owner */
	PEMS_KEY_NOT_PRIVATE,
	PEMS_KEY_MALFORMED
} PemsKeyState;

/*
 * Read a key file.  It must be a plain file, and no symbolic link, of the effective user or of
 * root, with no permission for group and others; root may read anybody's.  PEMS_KEY_OK: *keyring is
 * set, to be freed by the caller; otherwise it is NULL, and error says why.
 */
extern PemsKeyState pems_secrets_read_keyring(const char *path, PemsKeyring **keyring, char *error,
											  size_t error_size);

/* What to do about a key file in that state: to make one only where there is none. */
extern const char *pems_secrets_key_hint(PemsKeyState state);

/*
 * Make a key file with one new key, mode 0400; an existing file is never overwritten.  uid, gid:
 * the owner to give it, or -1.
 */
extern bool pems_secrets_create_keyring(const char *path, uid_t uid, gid_t gid, char *error,
										size_t error_size);

/*
 * Change a key file: a new key that becomes the current one; or drop all keys but the current one
 * and those named in needed_ids, *dropped being their number.  The file is replaced at once, keeps
 * its owner, and is never without a key that it had, but for the dropped ones.  False: error says
 * why, and the file is as it was.
 */
extern bool pems_secrets_add_key(const char *path, char *error, size_t error_size);
extern bool pems_secrets_drop_keys(const char *path, const char *const *needed_ids, size_t count,
								   int *dropped, char *error, size_t error_size);

#endif /* PEMS_KEY_FILE_H */
