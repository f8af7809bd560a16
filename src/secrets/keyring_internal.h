/*
 * secrets/keyring_internal.h
 *		What keyring.c does for key_file.c and seal.c, and for nobody else.
 *
 * Texts and keys are sodium_malloc'ed; sodium_free() zeroes them.
 */
#ifndef PEMS_KEYRING_INTERNAL_H
#define PEMS_KEYRING_INTERNAL_H

#include <stddef.h>

#include <sodium.h>

#include "secrets/keyring.h"

/* A rotation adds a key now and then; the bounds only keep a wrong file from being read. */
#define KEYRING_MAX_KEYS  64
#define KEYRING_MAX_BYTES 8192

/* Enough for each reason that keyring_parse() gives. */
#define KEYRING_REASON_SIZE 160

#define KEY_BASE64 sodium_base64_VARIANT_ORIGINAL
/* Length without the NUL that libsodium counts. */
#define KEY_PUBLIC_TEXT_LENGTH                                                                     \
	(sodium_base64_ENCODED_LEN(crypto_box_PUBLICKEYBYTES, KEY_BASE64) - 1)

/* A key pair. */
typedef struct Key
{
	char id[PEMS_KEY_ID_LENGTH + 1];
	char public_text[KEY_PUBLIC_TEXT_LENGTH + 1]; /* base64 */
	unsigned char public_key[crypto_box_PUBLICKEYBYTES];
	unsigned char secret_key[crypto_box_SECRETKEYBYTES];
} Key;

struct PemsKeyring
{
	size_t count; /* at least 1 */
	Key keys[KEYRING_MAX_KEYS];
};

typedef enum KeyringParsed
{
	KEYRING_PARSED,
	KEYRING_MALFORMED,
	KEYRING_NO_MEMORY
} KeyringParsed;

/*
 * Read the text of a key file.  KEYRING_PARSED: *keyring is set.  KEYRING_MALFORMED: reason
 * (KEYRING_REASON_SIZE bytes) says why, in words that follow the file's name; they never have a
 * part of the text in them.
 */
extern KeyringParsed keyring_parse(const char *text, size_t length, PemsKeyring **keyring,
								   char *reason);

/*
 * Texts of key files, NUL-terminated; NULL when out of memory.  With a new key after those of
 * keyring, which may be NULL and must not be full; or with the current key and those whose ids are
 * in needed_ids alone, *dropped being the number of the others.
 */
extern char *keyring_text_with_new_key(const PemsKeyring *keyring);
extern char *keyring_text_of_needed(const PemsKeyring *keyring, const char *const *needed_ids,
									size_t count, int *dropped);

/* NULL: it is not in the keyring. */
extern const Key *keyring_find(const PemsKeyring *keyring, const char *key_id);

/* Exactly key_length bytes from base64. */
extern bool key_decode(const char *text, size_t length, unsigned char *key, size_t key_length);

#endif /* PEMS_KEYRING_INTERNAL_H */
