/*
 * secrets/credentials.h
 *		Keyring file and sealed API tokens (libsodium).
 *
 * Pure of PostgreSQL and curl; linked into the worker and into pems-credential.
 * Secret keys and tokens live in sodium_malloc'ed memory and are zeroed before
 * they are freed; no message ever holds one.
 *
 * What is sealed (crypto_box_seal, to the keyring's public key) is the JSON text
 * {"organization": code, "url": api_url, "generation": n, "token": "..."}, so that a row that was
 * copied to another organization or URL does not open.
 */
#ifndef PEMS_CREDENTIALS_H
#define PEMS_CREDENTIALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct PemsKeyring PemsKeyring;

/* Hex digits of a key id, and bytes of the longest token, both without the NUL. */
#define PEMS_KEY_ID_LENGTH    16
#define PEMS_TOKEN_MAX_LENGTH 4096

/* Call once per process. */
extern bool pems_credentials_initialize(void);

typedef enum PemsKeyState
{
	PEMS_KEY_OK,
	PEMS_KEY_NOT_SET,     /* no path configured */
	PEMS_KEY_MISSING,     /* no such file */
	PEMS_KEY_UNREADABLE,  /* open or read failed */
	PEMS_KEY_NOT_PRIVATE, /* readable by others, not a plain file, a symbolic link, or another owner
						   */
	PEMS_KEY_MALFORMED
} PemsKeyState;

/*
 * Read a keyring: opened with O_NOFOLLOW|O_CLOEXEC, checked with fstat (plain
 * file, owner is the effective user or root, no permission for group and
 * others).  On PEMS_KEY_OK *keyring is set and freed by the caller; otherwise
 * error (at least 256 bytes) receives a sentence for an administrator.
 */
extern PemsKeyState pems_credentials_read_keyring(const char *path, PemsKeyring **keyring,
												  char *error, size_t error_size);
extern void pems_credentials_free_keyring(PemsKeyring *keyring);
/* Make a new keyring file with one key, mode 0400, never overwriting one.  uid/gid: owner to give
 * it, or -1. */
extern bool pems_credentials_create_keyring(const char *path, uid_t uid, gid_t gid, char *error,
											size_t error_size);

/*
 * Change a keyring file: a new key that becomes the current one; or drop all keys but the current
 * one and those named in needed_ids.  The file is replaced at once, keeps its owner, and is never
 * without a key that it had, but for the dropped ones.  False: error (at least 256 bytes) says why,
 * and the file is as it was.
 */
extern bool pems_credentials_add_key(const char *path, char *error, size_t error_size);
extern bool pems_credentials_drop_keys(const char *path, const char *const *needed_ids,
									   size_t count, int *dropped, char *error, size_t error_size);

/* The key that new credentials are sealed to: id and base64 of its public half; both static inside
 * the keyring. */
extern const char *pems_credentials_current_key(const PemsKeyring *keyring,
												const char **public_key);

/* Whether key_id is the id of this public key (base64). */
extern bool pems_credentials_is_key(const char *key_id, const char *public_key);

/*
 * NULL for a token that can be sealed, or a static sentence that says why not.  A bearer token is
 * visible ASCII (RFC 6750), so that spaces, line ends and a pasted "Bearer " are mistakes.
 */
extern const char *pems_credentials_check_token(const char *token);

/*
 * Seal: needs only the public key (base64).  *sealed is malloc'ed.  token is not kept.  False for
 * a text that could not be opened again: a bad token or public key, an organization or URL that is
 * empty or not UTF-8; and when memory runs out.
 */
extern bool pems_credentials_seal(const char *public_key, const char *organization, const char *url,
								  int64_t generation, const char *token, unsigned char **sealed,
								  size_t *sealed_length);

typedef enum PemsOpenState
{
	PEMS_OPEN_OK,
	PEMS_OPEN_NO_KEY, /* key_id is not in the keyring */
	PEMS_OPEN_CANNOT  /* damaged, or sealed for another organization, URL or generation */
} PemsOpenState;

/* *token: sodium_malloc'ed, NUL-terminated; free with pems_credentials_free_token(). */
extern PemsOpenState pems_credentials_open(const PemsKeyring *keyring, const char *key_id,
										   const unsigned char *sealed, size_t sealed_length,
										   const char *organization, const char *url,
										   int64_t generation, char **token);
extern void pems_credentials_free_token(char *token);

#endif /* PEMS_CREDENTIALS_H */
