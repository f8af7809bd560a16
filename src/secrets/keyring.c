/*
 * secrets/keyring.c
 *		Keys that open API tokens: their text, and the keyring made of it (libsodium).
 *
 * A keyring is written as:
 *
 *	pems_sync keyring 1
 *	<key id: 16 hex digits> <secret key: base64>
 *	...
 *
 * The last line is the current key.  A key id is the start of a hash of the
 * public key, and is checked, so that an id can never name another key.
 *
 * Process: the worker, the backend that runs pems_public_key(), and the program
 * pems-credential.  No I/O: files are read and written by secrets/key_file.c.
 * Memory: secret keys, and texts with them, are sodium_malloc'ed.
 * Limits: 64 keys.
 */
#include "secrets/keyring.h"

#include <stdio.h>
#include <string.h>

#include "secrets/keyring_internal.h"

#define KEYRING_HEADER "pems_sync keyring 1\n"

/* Lengths without the NUL that libsodium counts. */
#define SECRET_TEXT_LENGTH (sodium_base64_ENCODED_LEN(crypto_box_SECRETKEYBYTES, KEY_BASE64) - 1)
#define KEY_LINE_LENGTH    (PEMS_KEY_ID_LENGTH + 1 + SECRET_TEXT_LENGTH)

bool
pems_secrets_initialize(void)
{
	return sodium_init() >= 0;
}

/* ---------- keys ---------- */

static void
make_key_id(const unsigned char *public_key, char *id)
{
	unsigned char hash[crypto_generichash_BYTES];

	(void) crypto_generichash(hash, sizeof(hash), public_key, crypto_box_PUBLICKEYBYTES, NULL, 0);
	(void) sodium_bin2hex(id, PEMS_KEY_ID_LENGTH + 1, hash, PEMS_KEY_ID_LENGTH / 2);
}

bool
key_decode(const char *text, size_t length, unsigned char *key, size_t key_length)
{
	size_t decoded;

	/* libsodium 1.0.18 takes bytes outside ASCII for digits. */
	for (size_t i = 0; i < length; i++)
		if ((unsigned char) text[i] > 0x7f)
			return false;
	return sodium_base642bin(key, key_length, text, length, NULL, &decoded, NULL, KEY_BASE64) ==
			   0 &&
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
							 sizeof(key->public_key), KEY_BASE64);
	return true;
}

static Key *
make_key(void)
{
	Key *key = sodium_malloc(sizeof(*key));

	if (key != NULL)
	{
		randombytes_buf(key->secret_key, sizeof(key->secret_key));
		(void) complete_key(key);
	}
	return key;
}

bool
pems_secrets_is_key(const char *key_id, const char *public_key)
{
	unsigned char key[crypto_box_PUBLICKEYBYTES];
	char id[PEMS_KEY_ID_LENGTH + 1];

	if (!key_decode(public_key, strlen(public_key), key, sizeof(key)))
		return false;
	make_key_id(key, id);
	return strcmp(id, key_id) == 0;
}

/* ---------- the keyring ---------- */

const Key *
keyring_find(const PemsKeyring *keyring, const char *key_id)
{
	for (size_t i = 0; i < keyring->count; i++)
		if (strcmp(keyring->keys[i].id, key_id) == 0)
			return &keyring->keys[i];
	return NULL;
}

const char *
pems_secrets_current_key(const PemsKeyring *keyring, const char **public_key)
{
	const Key *key = &keyring->keys[keyring->count - 1];

	if (public_key != NULL)
		*public_key = key->public_text;
	return key->id;
}

void
pems_secrets_free_keyring(PemsKeyring *keyring)
{
	sodium_free(keyring);
}

/* ---------- reading the text ---------- */

/* NULL, or what is wrong with the line; never a part of the line itself. */
static const char *
parse_key(const char *line, size_t length, Key *key)
{
	if (length != KEY_LINE_LENGTH || line[PEMS_KEY_ID_LENGTH] != ' ')
		return "is not a key id, a space and a key";
	if (!key_decode(line + PEMS_KEY_ID_LENGTH + 1, SECRET_TEXT_LENGTH, key->secret_key,
					sizeof(key->secret_key)) ||
		!complete_key(key))
		return "holds a key that is not base64 of 32 bytes";
	if (memcmp(line, key->id, PEMS_KEY_ID_LENGTH) != 0)
		return "holds a key id that does not belong to its key";
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

		if (line_end == NULL)
			return "does not end: the file was cut short";
		if (keyring->count == KEYRING_MAX_KEYS)
			return "is one key too many";
		problem = parse_key(text, (size_t) (line_end - text), key);
		if (problem != NULL)
			return problem;
		if (keyring_find(keyring, key->id) != NULL)
			return "repeats a key";
		keyring->count++;
		text = line_end + 1;
	}
	return keyring->count > 0 ? NULL : "is missing: there is no key";
}

KeyringParsed
keyring_parse(const char *text, size_t length, PemsKeyring **keyring, char *reason)
{
	const size_t header_length = strlen(KEYRING_HEADER);
	PemsKeyring *parsed;
	const char *problem;
	int line;

	if (length < header_length || memcmp(text, KEYRING_HEADER, header_length) != 0)
	{
		(void) snprintf(
			reason, KEYRING_REASON_SIZE,
			"is no key file: it does not begin with the line \"pems_sync keyring 1\"; restore it "
			"from its backup, or correct pems_sync.key_file");
		return KEYRING_MALFORMED;
	}
	parsed = sodium_malloc(sizeof(*parsed));
	if (parsed == NULL)
		return KEYRING_NO_MEMORY;
	parsed->count = 0;
	problem = parse_keys(text + header_length, text + length, parsed, &line);
	if (problem != NULL)
	{
		(void) snprintf(reason, KEYRING_REASON_SIZE,
						"is damaged: line %d %s; restore it from its backup", line, problem);
		sodium_free(parsed);
		return KEYRING_MALFORMED;
	}
	(void) sodium_mprotect_readonly(parsed);
	*keyring = parsed;
	return KEYRING_PARSED;
}

/* ---------- writing the text ---------- */

/* Returns where the next line goes. */
static char *
write_key(char *line, const Key *key)
{
	memcpy(line, key->id, PEMS_KEY_ID_LENGTH);
	line[PEMS_KEY_ID_LENGTH] = ' ';
	(void) sodium_bin2base64(line + PEMS_KEY_ID_LENGTH + 1, SECRET_TEXT_LENGTH + 1, key->secret_key,
							 sizeof(key->secret_key), KEY_BASE64);
	memcpy(line + KEY_LINE_LENGTH, "\n", 2);
	return line + KEY_LINE_LENGTH + 1;
}

/*
 * Those of the keys whose place is set in chosen (NULL: all), then last, which may be NULL.  NULL:
 * out of memory.
 */
static char *
write_keyring(const PemsKeyring *keyring, const bool *chosen, const Key *last)
{
	char *text =
		sodium_malloc(strlen(KEYRING_HEADER) + (KEYRING_MAX_KEYS + 1) * (KEY_LINE_LENGTH + 1) + 1);
	char *next = text;

	if (text == NULL)
		return NULL;
	memcpy(next, KEYRING_HEADER, sizeof(KEYRING_HEADER));
	next += sizeof(KEYRING_HEADER) - 1;
	for (size_t i = 0; keyring != NULL && i < keyring->count; i++)
		if (chosen == NULL || chosen[i])
			next = write_key(next, &keyring->keys[i]);
	if (last != NULL)
		(void) write_key(next, last);
	return text;
}

char *
keyring_text_with_new_key(const PemsKeyring *keyring)
{
	Key *key = make_key();
	char *text = key != NULL ? write_keyring(keyring, NULL, key) : NULL;

	sodium_free(key);
	return text;
}

static bool
is_one_of(const char *key_id, const char *const *ids, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(ids[i], key_id) == 0)
			return true;
	return false;
}

char *
keyring_text_of_needed(const PemsKeyring *keyring, const char *const *needed_ids, size_t count,
					   int *dropped)
{
	bool chosen[KEYRING_MAX_KEYS];

	*dropped = 0;
	for (size_t i = 0; i < keyring->count; i++)
	{
		chosen[i] = i == keyring->count - 1 || is_one_of(keyring->keys[i].id, needed_ids, count);
		*dropped += !chosen[i];
	}
	return write_keyring(keyring, chosen, NULL);
}
