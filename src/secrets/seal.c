/*
 * secrets/seal.c
 *		Sealing API tokens to a public key, and opening them with a keyring (libsodium).
 *
 * Process: the worker opens; pems-credential seals, and opens to seal again.
 * Memory: opened tokens are sodium_malloc'ed.  Two texts with a token pass through
 * the ordinary heap: the JSON that is sealed, whose buffer never grows and is
 * zeroed, and the strings of the JSON tree that is read back, zeroed before the
 * tree is freed.
 *
 * Known limit: a sealed box has no sender.  Who may write credential rows can
 * seal a token of his own; what he cannot do is read ours or move it to another
 * organization or URL.
 */
#include "secrets/seal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "record/json.h"
#include "secrets/keyring_internal.h"

/* Bytes; far above every real credential: a bound for what is allocated on a row's word. */
#define SEALED_MAX_LENGTH 65536

const char *
pems_secrets_check_token(const char *token)
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

/* ---------- sealing ---------- */

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
	if (buffer->data == NULL)
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

	if (box == NULL)
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
pems_secrets_seal(const char *public_key, const char *organization, const char *url,
				  int64_t generation, const char *token, unsigned char **sealed,
				  size_t *sealed_length)
{
	unsigned char key[crypto_box_PUBLICKEYBYTES];
	JsonBuffer text = {0};
	bool done;

	*sealed = NULL;
	*sealed_length = 0;
	if (!key_decode(public_key, strlen(public_key), key, sizeof(key)) ||
		pems_secrets_check_token(token) || !is_bindable(organization) || !is_bindable(url))
		return false;
	done = compose_text(&text, organization, url, generation, token) &&
		   seal_text(&text, key, sealed, sealed_length);
	if (text.data)
		sodium_memzero(text.data, text.capacity);
	pems_json_buffer_free(&text);
	return done;
}

/* ---------- opening ---------- */

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
 * Copy the token.  It is checked again: whoever has the public key can seal any text, and this one
 * goes into a header.
 */
static char *
copy_token(const JsonNode *node)
{
	char *token;

	if (!node || node->kind != JSON_KIND_STRING || pems_secrets_check_token(node->text))
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
pems_secrets_open(const PemsKeyring *keyring, const char *key_id, const unsigned char *sealed,
				  size_t sealed_length, const char *organization, const char *url,
				  int64_t generation, char **token)
{
	const Key *key = keyring_find(keyring, key_id);
	size_t length;
	unsigned char *text;

	*token = NULL;
	if (key == NULL)
		return PEMS_OPEN_NO_KEY;
	if (sealed_length < crypto_box_SEALBYTES || sealed_length > SEALED_MAX_LENGTH)
		return PEMS_OPEN_CANNOT;
	length = sealed_length - crypto_box_SEALBYTES;
	text = sodium_malloc(length + 1);
	if (text == NULL)
		return PEMS_OPEN_CANNOT;
	if (crypto_box_seal_open(text, sealed, sealed_length, key->public_key, key->secret_key) == 0)
		*token = read_token((const char *) text, length, organization, url, generation);
	sodium_free(text);
	return *token ? PEMS_OPEN_OK : PEMS_OPEN_CANNOT;
}

void
pems_secrets_free_token(char *token)
{
	sodium_free(token);
}
