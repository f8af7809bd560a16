/*
 * secrets/keyring.h
 *		Keys that open API tokens, in memory (libsodium).
 *
 * Pure of PostgreSQL and libcurl; linked into the library and into pems-credential.
 * Memory: a keyring is sodium_malloc'ed (guard pages, mlock where the limit allows
 * it, zeroed when it is freed) and read-only.
 */
#ifndef PEMS_KEYRING_H
#define PEMS_KEYRING_H

#include <stdbool.h>

/* Key pairs; the last one is the current key, to which new credentials are sealed. */
typedef struct PemsKeyring PemsKeyring;

/* Hex digits of a key id, without the NUL. */
#define PEMS_KEY_ID_LENGTH 16

/* Call once per process, before anything else of this folder.  False: libsodium does not work. */
extern bool pems_secrets_initialize(void);

/* keyring may be NULL. */
extern void pems_secrets_free_keyring(PemsKeyring *keyring);

/*
 * The id of the current key; *public_key (unless public_key is NULL): base64 of its public half.
 * Both stand inside the keyring.
 */
extern const char *pems_secrets_current_key(const PemsKeyring *keyring, const char **public_key);

/* Whether key_id is the id of this public key (base64). */
extern bool pems_secrets_is_key(const char *key_id, const char *public_key);

#endif /* PEMS_KEYRING_H */
