/*
 * secrets/seal_test.c
 *		Sealing and opening tokens, and what stays of them in memory: src/secrets/seal.c.
 */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "secrets/key_file_fixture.h"

/* ---- sealing and opening ---- */

/* Seal a text of our own to the fixture's key, as a hostile writer could, and open it. */
static PemsOpenState
open_text(const Fixture *fixture, const char *text)
{
	unsigned char key[crypto_box_PUBLICKEYBYTES];
	unsigned char box[8192];
	char *token = NULL;
	PemsOpenState state;

	(void) sodium_base642bin(key, sizeof(key), fixture->public_key, strlen(fixture->public_key),
							 NULL, NULL, NULL, sodium_base64_VARIANT_ORIGINAL);
	(void) crypto_box_seal(box, (const unsigned char *) text, strlen(text), key);
	state = pems_secrets_open(fixture->keyring, fixture->key_id, box,
							  strlen(text) + crypto_box_SEALBYTES, "RIO", URL, 7, &token);
	pems_secrets_free_token(token);
	return state;
}

UNIT_TEST(a_sealed_token_opens)
{
	Fixture fixture = make_fixture("a\"b\\c-._~+/=");
	char *token = NULL;

	CHECK_INT(pems_secrets_open(fixture.keyring, fixture.key_id, fixture.sealed, fixture.length,
								"RIO", URL, 7, &token),
			  PEMS_OPEN_OK);
	CHECK_TEXT(token, "a\"b\\c-._~+/=");
	pems_secrets_free_token(token);
	free_fixture(&fixture);
}

UNIT_TEST(names_of_any_script_and_extreme_generations_open)
{
	static const char *const names[] = {"R\303\215O", "\343\203\252\343\202\252", "a\"b\\c\n\001d",
										"O'Brien & <b>"};
	static const int64_t generations[] = {0, 1, -1, INT64_MAX, INT64_MIN};
	Fixture fixture = make_fixture("token");

	for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++)
		for (size_t g = 0; g < sizeof(generations) / sizeof(generations[0]); g++)
		{
			free(fixture.sealed);
			CHECK(pems_secrets_seal(fixture.public_key, names[n], names[n], generations[g], "token",
									&fixture.sealed, &fixture.length));
			CHECK_INT(open_as(&fixture, names[n], names[n], generations[g]), PEMS_OPEN_OK);
		}
	free_fixture(&fixture);
}

UNIT_TEST(a_copied_row_does_not_open)
{
	Fixture fixture = make_fixture("token");

	CHECK_INT(open_as(&fixture, "RIO", URL, 7), PEMS_OPEN_OK);
	CHECK_INT(open_as(&fixture, "RIO2", URL, 7), PEMS_OPEN_CANNOT);
	CHECK_INT(open_as(&fixture, "RI", URL, 7), PEMS_OPEN_CANNOT);
	CHECK_INT(open_as(&fixture, "rio", URL, 7), PEMS_OPEN_CANNOT);
	CHECK_INT(open_as(&fixture, "", URL, 7), PEMS_OPEN_CANNOT);
	CHECK_INT(open_as(&fixture, "RIO", URL "/", 7), PEMS_OPEN_CANNOT);
	CHECK_INT(open_as(&fixture, "RIO", "https://pems.example.co/api", 7), PEMS_OPEN_CANNOT);
	CHECK_INT(open_as(&fixture, "RIO", "http://pems.example.com/api", 7), PEMS_OPEN_CANNOT);
	CHECK_INT(open_as(&fixture, "RIO", URL, 6), PEMS_OPEN_CANNOT);
	CHECK_INT(open_as(&fixture, "RIO", URL, 8), PEMS_OPEN_CANNOT);
	CHECK_INT(open_as(&fixture, "RIO", URL, -7), PEMS_OPEN_CANNOT);
	free_fixture(&fixture);
}

UNIT_TEST(another_key_does_not_open)
{
	Fixture fixture = make_fixture("token");
	Fixture other = make_fixture("token");

	CHECK(strcmp(fixture.key_id, other.key_id) != 0);
	/* The row names a key that this keyring does not have. */
	other.key_id = fixture.key_id;
	CHECK_INT(open_as(&other, "RIO", URL, 7), PEMS_OPEN_NO_KEY);
	other.key_id = "";
	CHECK_INT(open_as(&other, "RIO", URL, 7), PEMS_OPEN_NO_KEY);
	/* The row names a key of the keyring, but was sealed to another one. */
	other.key_id = pems_secrets_current_key(other.keyring, NULL);
	free(other.sealed);
	other.sealed = fixture.sealed;
	other.length = fixture.length;
	CHECK_INT(open_as(&other, "RIO", URL, 7), PEMS_OPEN_CANNOT);
	other.sealed = NULL;
	free_fixture(&other);
	free_fixture(&fixture);
}

UNIT_TEST(every_flipped_byte_is_noticed)
{
	Fixture fixture = make_fixture("token");

	for (size_t i = 0; i < fixture.length && unit_failures() == 0; i++)
		for (int bit = 0; bit < 8; bit++)
		{
			/* X25519 ignores the highest bit, but the nonce is a hash of the whole key. */
			fixture.sealed[i] ^= (unsigned char) (1 << bit);
			CHECK_INT(open_as(&fixture, "RIO", URL, 7), PEMS_OPEN_CANNOT);
			fixture.sealed[i] ^= (unsigned char) (1 << bit);
		}
	CHECK_INT(open_as(&fixture, "RIO", URL, 7), PEMS_OPEN_OK);
	free_fixture(&fixture);
}

UNIT_TEST(every_truncation_is_noticed)
{
	Fixture fixture = make_fixture("token");
	size_t length = fixture.length;

	for (fixture.length = 0; fixture.length < length; fixture.length++)
	{
		/* A copy of just that size, so that the sanitizer sees a read behind it. */
		Fixture cut = fixture;

		cut.sealed = malloc(fixture.length + 1);
		memcpy(cut.sealed + 1, fixture.sealed, fixture.length);
		cut.sealed++;
		CHECK_INT(open_as(&cut, "RIO", URL, 7), PEMS_OPEN_CANNOT);
		free(cut.sealed - 1);
	}
	fixture.length = 1 << 20;
	CHECK_INT(open_as(&fixture, "RIO", URL, 7), PEMS_OPEN_CANNOT);
	free_fixture(&fixture);
}

UNIT_TEST(texts_that_somebody_else_sealed_are_judged)
{
#define BOUND "\"organization\":\"RIO\",\"url\":\"" URL "\",\"generation\":7"
	static const char *const refused[] = {
		"",
		"null",
		"\"token\"",
		"[]",
		"{}",
		"{" BOUND "}",
		"{" BOUND ",\"token\":\"t\"",
		"{" BOUND ",\"token\":\"t\"}}",
		"{" BOUND ",\"token\":null}",
		"{" BOUND ",\"token\":1}",
		"{" BOUND ",\"token\":{\"token\":\"t\"}}",
		"{" BOUND ",\"token\":\"\"}",
		"{" BOUND ",\"token\":\"t\\r\\nX-Evil: 1\"}",
		"{" BOUND ",\"token\":\"t t\"}",
		"{" BOUND ",\"token\":\"t\\u0000\"}",
		"{" BOUND ",\"token\":\"\303\251\"}",
		"{" BOUND ",\"organization\":\"RIO2\",\"token\":\"t\"}",
		"{\"organization\":[\"RIO\"],\"url\":\"" URL "\",\"generation\":7,\"token\":\"t\"}",
		"{\"organization\":\"RIO\",\"generation\":7,\"token\":\"t\"}",
		"{\"organization\":\"RIO\",\"url\":\"" URL "\",\"token\":\"t\"}",
		"{\"organization\":\"RIO\",\"url\":\"" URL "\",\"generation\":\"7\",\"token\":\"t\"}",
		"{\"organization\":\"RIO\",\"url\":\"" URL "\",\"generation\":7.5,\"token\":\"t\"}"};
	Fixture fixture = make_fixture("token");

	CHECK_INT(open_text(&fixture, "{" BOUND ",\"token\":\"t\"}"), PEMS_OPEN_OK);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if (!CHECK_INT(open_text(&fixture, refused[i]), PEMS_OPEN_CANNOT))
			unit_note("text: %s", refused[i]);
	free_fixture(&fixture);
}

UNIT_TEST(bad_tokens_are_refused)
{
	char long_token[PEMS_TOKEN_MAX_LENGTH + 2];
	char text[] = "a?b";

	CHECK_TEXT(pems_secrets_check_token("eyJhbGciOi.J9-_~+/="), NULL);
	CHECK_TEXT(pems_secrets_check_token(""), "the token is empty");
	for (int c = 1; c < 256; c++)
	{
		text[1] = (char) c;
		CHECK((pems_secrets_check_token(text) == NULL) == (c > 0x20 && c < 0x7f));
	}
	CHECK(pems_secrets_check_token(" a"));
	CHECK(pems_secrets_check_token("a\r"));
	memset(long_token, 'x', sizeof(long_token));
	long_token[PEMS_TOKEN_MAX_LENGTH + 1] = '\0';
	CHECK_TEXT(pems_secrets_check_token(long_token), "the token is longer than 4096 bytes");
	long_token[PEMS_TOKEN_MAX_LENGTH] = '\0';
	CHECK_TEXT(pems_secrets_check_token(long_token), NULL);
}

UNIT_TEST(the_longest_token_opens)
{
	char longest[PEMS_TOKEN_MAX_LENGTH + 1];
	Fixture fixture;
	char *token = NULL;

	memset(longest, '"', sizeof(longest) - 1); /* the worst to escape */
	longest[sizeof(longest) - 1] = '\0';
	fixture = make_fixture(longest);
	CHECK_INT(pems_secrets_open(fixture.keyring, fixture.key_id, fixture.sealed, fixture.length,
								"RIO", URL, 7, &token),
			  PEMS_OPEN_OK);
	CHECK_TEXT(token, longest);
	pems_secrets_free_token(token);
	free_fixture(&fixture);
}

UNIT_TEST(what_could_not_be_opened_is_not_sealed)
{
	Fixture fixture = make_fixture("token");
	/* Of 32 bytes, but no point that a key exchange may use. */
	static const char zero_key[] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
	static const char *const bad_keys[] = {zero_key, "", "AAAA", "no base64 at all"};
	unsigned char *sealed = NULL;
	size_t length = 0;
	char *long_url = malloc(70001);

	for (size_t i = 0; i < sizeof(bad_keys) / sizeof(bad_keys[0]); i++)
		CHECK(!pems_secrets_seal(bad_keys[i], "RIO", URL, 1, "t", &sealed, &length));
	CHECK(!pems_secrets_seal(fixture.public_key, "", URL, 1, "t", &sealed, &length));
	CHECK(!pems_secrets_seal(fixture.public_key, "RIO", "", 1, "t", &sealed, &length));
	CHECK(!pems_secrets_seal(fixture.public_key, "RIO", URL, 1, "", &sealed, &length));
	CHECK(!pems_secrets_seal(fixture.public_key, "RIO", URL, 1, "t\n", &sealed, &length));
	CHECK(!pems_secrets_seal(fixture.public_key, "R\315O", URL, 1, "t", &sealed, &length));
	CHECK(!pems_secrets_seal(fixture.public_key, "RIO", "\300\257", 1, "t", &sealed, &length));
	memset(long_url, 'u', 70000);
	long_url[70000] = '\0';
	CHECK(!pems_secrets_seal(fixture.public_key, "RIO", long_url, 1, "t", &sealed, &length));
	CHECK(sealed == NULL && length == 0);
	free(long_url);
	free_fixture(&fixture);
}

UNIT_TEST(sealing_twice_gives_two_texts_of_one_length)
{
	Fixture fixture = make_fixture("token");
	unsigned char *again = NULL;
	size_t length = 0;

	CHECK(pems_secrets_seal(fixture.public_key, "RIO", URL, 7, "other", &again, &length));
	CHECK_INT(length, fixture.length);
	CHECK(memcmp(again, fixture.sealed, length) != 0);
	free(again);
	free_fixture(&fixture);
}

/* ---- what stays in memory ---- */

#define CANARY_LENGTH 40
#define MASK          0x55

/* Count the places of a text, which is given masked so as not to be one of them itself. */
static int
count_masked(const unsigned char *data, size_t length, const unsigned char *masked)
{
	int found = 0;

	for (size_t i = 0; i + CANARY_LENGTH <= length; i++)
	{
		size_t n = 0;

		while (n < CANARY_LENGTH && (data[i + n] ^ MASK) == masked[n])
			n++;
		if (n == CANARY_LENGTH)
			found++;
	}
	return found;
}

/*
 * Search the writable memory of this process, freed blocks included, but for
 * the stack and the sanitizer's huge tables.  -1: the system does not show it.
 */
static int
count_in_memory(const unsigned char *masked)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	int memory = open("/proc/self/mem", O_RDONLY);
	char line[PATH_MAX + 128];
	int found = maps && memory >= 0 ? 0 : -1;

	while (found >= 0 && fgets(line, sizeof(line), maps))
	{
		unsigned long start;
		unsigned long end;
		unsigned char *copy;
		ssize_t length;

		if (sscanf(line, "%lx-%lx rw", &start, &end) != 2 || !strstr(line, " rw") ||
			strstr(line, "[stack]") || end - start > 64UL << 20)
			continue;
		copy = sodium_malloc(end - start);
		length = copy ? pread(memory, copy, end - start, (off_t) start) : -1;
		if (length > 0)
			found += count_masked(copy, (size_t) length, masked);
		sodium_free(copy);
	}
	if (maps)
		(void) fclose(maps);
	if (memory >= 0)
		(void) close(memory);
	return found;
}

/* Fill token, and its masked twin, with characters of which some are escaped in JSON. */
static void
make_canary(char *token, unsigned char *masked)
{
	for (size_t i = 0; i < CANARY_LENGTH; i++)
	{
		token[i] = (char) ('A' + unit_random_below(26));
		masked[i] = (unsigned char) token[i] ^ MASK;
	}
	token[CANARY_LENGTH] = '\0';
}

UNIT_TEST(no_copy_of_a_token_stays_in_memory)
{
	unsigned char masked[CANARY_LENGTH];
	char *canary = sodium_malloc(CANARY_LENGTH + 1);
	char *token = NULL;
	Fixture fixture;

	make_canary(canary, masked);
	fixture = make_fixture(canary);
	CHECK_INT(open_as(&fixture, "RIO", URL, 7), PEMS_OPEN_OK);
	CHECK_INT(open_as(&fixture, "RIO2", URL, 7), PEMS_OPEN_CANNOT);
	CHECK_INT(open_as(&fixture, "RIO", URL, 8), PEMS_OPEN_CANNOT);
	if (count_in_memory(masked) < 0)
		unit_note("skipped: no /proc/self/mem");
	else
	{
		/* The search finds what is there: our own, and an open one. */
		CHECK_INT(count_in_memory(masked), 1);
		(void) pems_secrets_open(fixture.keyring, fixture.key_id, fixture.sealed, fixture.length,
								 "RIO", URL, 7, &token);
		CHECK_INT(count_in_memory(masked), 2);
		pems_secrets_free_token(token);
		sodium_memzero(canary, CANARY_LENGTH);
		CHECK_INT(count_in_memory(masked), 0);
	}
	sodium_free(canary);
	free_fixture(&fixture);
}

/* ---- the end ---- */

UNIT_TEST(the_directory_is_removed)
{
	CHECK(remove_directory());
}
