/*
 * secrets/keyring_test.c
 *		Keys and the text of a key file: src/secrets/keyring.c.
 */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "secrets/key_file_fixture.h"

/* ---- key ids ---- */

UNIT_TEST(a_key_id_belongs_to_one_public_key)
{
	Fixture fixture = make_fixture("token");
	Fixture other = make_fixture("token");
	char upper[PEMS_KEY_ID_LENGTH + 2];

	CHECK_INT(strlen(fixture.key_id), PEMS_KEY_ID_LENGTH);
	CHECK_INT(strspn(fixture.key_id, "0123456789abcdef"), PEMS_KEY_ID_LENGTH);
	CHECK(pems_secrets_is_key(fixture.key_id, fixture.public_key));
	CHECK(!pems_secrets_is_key(fixture.key_id, other.public_key));
	CHECK(!pems_secrets_is_key(other.key_id, fixture.public_key));
	CHECK(!pems_secrets_is_key("", fixture.public_key));
	CHECK(!pems_secrets_is_key(fixture.key_id, ""));
	CHECK(!pems_secrets_is_key(fixture.key_id, "AAAA"));
	(void) snprintf(upper, sizeof(upper), "%sx", fixture.key_id);
	CHECK(!pems_secrets_is_key(upper, fixture.public_key));
	free_fixture(&other);
	free_fixture(&fixture);
}

/* ---- reading keyrings: the text ---- */

UNIT_TEST(malformed_keyrings_are_refused)
{
	char *line = make_key_line();
	char text[512];
	struct
	{
		const char *head;
		const char *tail;
		const char *words;
	} cases[] = {{"", "", "does not begin with"},
				 {"\n", line, "does not begin with"},
				 {"pems_sync keyring 2\n", line, "does not begin with"},
				 {"pems_sync keyring 1\r\n", line, "does not begin with"},
				 {"pems_sync keyring 1", "", "does not begin with"},
				 {" " HEADER, line, "does not begin with"},
				 {HEADER, "", "line 2 is missing"},
				 {HEADER "\n", line, "line 2 is not a key id"},
				 {HEADER "# a note\n", line, "line 2 is not a key id"},
				 {HEADER " ", line, "line 2 is not a key id"},
				 {HEADER HEADER, line, "line 2 is not a key id"}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		int length = snprintf(text, sizeof(text), "%s%s", cases[i].head, cases[i].tail);

		CHECK_INT(state_of_text(text, (size_t) length), PEMS_KEY_MALFORMED);
		CHECK(problem_has(cases[i].words));
	}
	free(line);
}

/* Write a keyring whose one line is damaged at one byte, and read it. */
static PemsKeyState
state_with_byte(const char *line, size_t position, char byte)
{
	char text[512];
	int length = snprintf(text, sizeof(text), HEADER "%s", line);

	text[strlen(HEADER) + position] = byte;
	return state_of_text(text, (size_t) length);
}

/* X25519 ignores three bits of a secret key's first byte and two of its last: the same key. */
static bool
has_ignored_bits(size_t position)
{
	const size_t key = PEMS_KEY_ID_LENGTH + 1;

	return position == key || position == key + 1 || position == key + 41;
}

UNIT_TEST(every_damaged_byte_of_a_key_is_noticed)
{
	static const char bytes[] = {'A', '0', '-', ' ', '\n', '\0', '\r', '=', '\200', '\377'};
	char *line = make_key_line();
	size_t length = strlen(line);

	for (size_t i = 0; i < length; i++)
		for (size_t b = 0; b < sizeof(bytes); b++)
		{
			PemsKeyState state = state_with_byte(line, i, bytes[b]);

			if (line[i] == bytes[b] || (state == PEMS_KEY_OK && has_ignored_bits(i)))
				continue;
			if (!CHECK_INT(state, PEMS_KEY_MALFORMED))
				unit_note("byte %zu made 0x%02x", i, (unsigned char) bytes[b]);
		}
	CHECK_INT(state_with_byte(line, 20, '-'), PEMS_KEY_MALFORMED);
	CHECK(problem_has("line 2 holds a key that is not base64 of 32 bytes"));
	CHECK_INT(state_with_byte(line, 0, line[0] == '0' ? '1' : '0'), PEMS_KEY_MALFORMED);
	CHECK(problem_has("line 2 holds a key id that does not belong to its key"));
	free(line);
}

UNIT_TEST(every_truncated_keyring_is_noticed)
{
	char *line = make_key_line();
	char text[512];
	int length = snprintf(text, sizeof(text), HEADER "%s", line);

	CHECK_INT(state_of_text(text, (size_t) length), PEMS_KEY_OK);
	for (int cut = 0; cut < length; cut++)
		CHECK_INT(state_of_text(text, (size_t) cut), PEMS_KEY_MALFORMED);
	CHECK(problem_has("cut short"));
	free(line);
}

UNIT_TEST(no_message_shows_a_key)
{
	char *line = make_key_line();
	char *secret = line + PEMS_KEY_ID_LENGTH + 1;
	char part[9];

	for (size_t i = 0; line[i]; i++)
	{
		(void) state_with_byte(line, i, '!');
		for (size_t at = 0; at + 8 < strlen(secret); at += 8)
		{
			(void) snprintf(part, sizeof(part), "%s", secret + at);
			CHECK(!strstr(problem, part));
		}
	}
	free(line);
}

UNIT_TEST(a_key_that_stands_twice_is_refused)
{
	char *line = make_key_line();
	char *other = make_key_line();
	char text[512];
	int length = snprintf(text, sizeof(text), HEADER "%s%s%s", line, other, line);

	CHECK_INT(state_of_text(text, (size_t) length), PEMS_KEY_MALFORMED);
	CHECK(problem_has("line 4 repeats a key"));
	free(other);
	free(line);
}

UNIT_TEST(a_large_file_is_refused)
{
	char text[8194];

	memset(text, 'x', sizeof(text));
	memcpy(text, HEADER, sizeof(HEADER) - 1);
	CHECK_INT(state_of_text(text, sizeof(text)), PEMS_KEY_MALFORMED);
	CHECK(problem_has("larger than 8192 bytes"));
	CHECK_INT(state_of_text(text, 8193), PEMS_KEY_MALFORMED);
	CHECK(problem_has("larger than 8192 bytes"));
	CHECK_INT(state_of_text(text, 8192), PEMS_KEY_MALFORMED);
	CHECK(problem_has("cut short"));
}

UNIT_TEST(sixty_four_keys_are_read_and_no_more)
{
	char text[8192];
	size_t length = (size_t) snprintf(text, sizeof(text), HEADER);

	for (int keys = 1; keys <= 65; keys++)
	{
		char *line = make_key_line();

		length += (size_t) snprintf(text + length, sizeof(text) - length, "%s", line);
		free(line);
		if (keys == 64)
			CHECK_INT(state_of_text(text, length), PEMS_KEY_OK);
	}
	CHECK_INT(state_of_text(text, length), PEMS_KEY_MALFORMED);
	CHECK(problem_has("line 66 is one key too many"));
}

UNIT_TEST(the_last_key_is_current_and_the_others_open)
{
	Fixture old = make_fixture("old-token");
	char text[512];
	PemsKeyring *keyring = NULL;
	char *line;
	char *token = NULL;
	const char *id;
	const char *public_key = NULL;
	int length;

	length = snprintf(text, sizeof(text), "%s", read_file(in_directory("fixture")));
	line = make_key_line();
	(void) snprintf(text + length, sizeof(text) - (size_t) length, "%s", line);
	write_file(in_directory("two"), text, strlen(text));
	CHECK_INT(pems_secrets_read_keyring(in_directory("two"), &keyring, problem, sizeof(problem)),
			  PEMS_KEY_OK);
	id = pems_secrets_current_key(keyring, &public_key);
	CHECK(strncmp(line, id, PEMS_KEY_ID_LENGTH) == 0);
	CHECK(strcmp(id, old.key_id) != 0);
	CHECK(pems_secrets_is_key(id, public_key));
	CHECK_INT(pems_secrets_open(keyring, old.key_id, old.sealed, old.length, "RIO", URL, 7, &token),
			  PEMS_OPEN_OK);
	CHECK_TEXT(token, "old-token");
	pems_secrets_free_token(token);
	/* The right keyring, but the row names its other key. */
	CHECK_INT(pems_secrets_open(keyring, id, old.sealed, old.length, "RIO", URL, 7, &token),
			  PEMS_OPEN_CANNOT);
	pems_secrets_free_keyring(keyring);
	free(line);
	free_fixture(&old);
}

/* ---- the end ---- */

UNIT_TEST(the_directory_is_removed)
{
	CHECK(remove_directory());
}
