/*
 * secrets/seal.h
 *		Sealing API tokens to a public key, and opening them with a keyring (libsodium).
 *
 * Pure of PostgreSQL and libcurl; linked into the library and into pems-credential.
 * No I/O.
 *
 * What is sealed (crypto_box_seal) is the JSON text {"organization": code, "url": api_url,
 * "generation": n, "token": "..."}, so that a row that was copied to another organization or URL
 * does not open.
 */
#ifndef PEMS_SEAL_H
#define PEMS_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "secrets/keyring.h"

/* Bytes of the longest token, without the NUL. */
#define PEMS_TOKEN_MAX_LENGTH 4096

/*
 * NULL for a token that can be sealed, or a static sentence that says why not.  A bearer token is
 * visible ASCII (RFC 6750), so that spaces, line ends and a pasted "Bearer " are mistakes.
 */
extern const char *pems_secrets_check_token(const char *token);

/*
 * Seal: needs only the public key (base64).  *sealed is malloc'ed.  token is not kept.  False for
 * a text that could not be opened again: a bad token or public key, an organization or URL that is
 * empty or not UTF-8; and when memory runs out.
 */
extern bool pems_secrets_seal(const char *public_key, const char *organization, const char *url,
							  int64_t generation, const char *token, unsigned char **sealed,
							  size_t *sealed_length);

typedef enum PemsOpenState
{
	PEMS_OPEN_OK,
	PEMS_OPEN_NO_KEY, /* key_id is not in the keyring */
	PEMS_OPEN_CANNOT  /* damaged, or sealed for another organization, URL or generation */
} PemsOpenState;

/* *token: sodium_malloc'ed, NUL-terminated; free with pems_secrets_free_token(). */
extern PemsOpenState pems_secrets_open(const PemsKeyring *keyring, const char *key_id,
									   const unsigned char *sealed, size_t sealed_length,
									   const char *organization, const char *url,
									   int64_t generation, char **token);
/* token may be NULL. */
extern void pems_secrets_free_token(char *token);

#endif /* PEMS_SEAL_H */
