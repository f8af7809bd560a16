/*
 * secrets/credentials_test.c
 *		Keyring files and sealed tokens: src/secrets/credentials.c.
 *
 * Works in a directory of its own below TMPDIR, which the last test removes.
 * The tests of file owners need root and say so when they are skipped.
 */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sodium.h>

#include "../../src/secrets/credentials.h"

#define HEADER   "pems_sync keyring 1\n"
#define STRANGER 65534 /* a user id that is neither root nor, most likely, ours */
#define URL      "https://pems.example.com/api"

static char directory[PATH_MAX / 2];
static char error[256]; /* the smallest that callers may give */

/* ---- helpers ---- */

/* A path inside the directory; one of four buffers, so that a call may need several. */
static const char *
in_directory(const char *name)
{
	static char paths[4][PATH_MAX];
	static int next;
	char *path = paths[next++ % 4];

	if (directory[0] == '\0')
	{
		const char *parent = getenv("TMPDIR");

		(void) snprintf(directory, sizeof(directory), "%s/credentials_test.XXXXXX",
						parent ? parent : "/tmp");
		if (!pems_credentials_initialize() || !mkdtemp(directory) || chmod(directory, 0755) != 0)
			abort();
	}
	(void) snprintf(path, PATH_MAX, "%s/%s", directory, name);
	return path;
}

static void
write_file(const char *path, const char *text, size_t length)
{
	FILE *file;

	(void) unlink(path);
	file = fopen(path, "w");
	if (!file || fwrite(text, 1, length, file) != length || fchmod(fileno(file), 0400) != 0)
		abort();
	(void) fclose(file);
}

/* The text of a file, in a static buffer. */
static const char *
read_file(const char *path)
{
	static char text[16384];
	FILE *file = fopen(path, "r");
	size_t length = file ? fread(text, 1, sizeof(text) - 1, file) : 0;

	if (file)
		(void) fclose(file);
	text[length] = '\0';
	return text;
}

/* A new keyring file with one key. */
static const char *
make_keyring(const char *name)
{
	const char *path = in_directory(name);

	(void) unlink(path);
	if (!pems_credentials_create_keyring(path, (uid_t) -1, (gid_t) -1, error, sizeof(error)))
		abort();
	return path;
}

/* The line of the one key of a new keyring, malloc'ed, with its line end. */
static char *
make_key_line(void)
{
	return strdup(read_file(make_keyring("line")) + strlen(HEADER));
}

/* What reading the file says; the keyring is freed again. */
static PemsKeyState
state_of(const char *path)
{
	PemsKeyring *keyring = NULL;
	PemsKeyState state = pems_credentials_read_keyring(path, &keyring, error, sizeof(error));

	CHECK((state == PEMS_KEY_OK) == (keyring != NULL));
	CHECK((state == PEMS_KEY_OK) == (error[0] == '\0'));
	pems_credentials_free_keyring(keyring);
	return state;
}

static PemsKeyState
state_of_text(const char *text, size_t length)
{
	const char *path = in_directory("text");

	write_file(path, text, length);
	return state_of(path);
}

static bool
error_has(const char *words)
{
	bool has = strstr(error, words) != NULL;

	if (!has)
		unit_note("error is: %s", error);
	return has;
}

/* A keyring in memory with what was sealed to it. */
typedef struct Fixture
{
	PemsKeyring *keyring;
	const char *key_id;
	const char *public_key;
	unsigned char *sealed;
	size_t length;
} Fixture;

static Fixture
make_fixture(const char *token)
{
	Fixture fixture = {0};

	if (pems_credentials_read_keyring(make_keyring("fixture"), &fixture.keyring, error,
									  sizeof(error)) != PEMS_KEY_OK)
		abort();
	fixture.key_id = pems_credentials_current_key(fixture.keyring, &fixture.public_key);
	CHECK(pems_credentials_seal(fixture.public_key, "RIO", URL, 7, token, &fixture.sealed,
								&fixture.length));
	return fixture;
}

static void
free_fixture(Fixture *fixture)
{
	free(fixture->sealed);
	pems_credentials_free_keyring(fixture->keyring);
}

/* What opening says when the row is the fixture's but for what is given. */
static PemsOpenState
open_as(const Fixture *fixture, const char *organization, const char *url, int64_t generation)
{
	char *token = NULL;
	PemsOpenState state =
		pems_credentials_open(fixture->keyring, fixture->key_id, fixture->sealed, fixture->length,
							  organization, url, generation, &token);

	CHECK((state == PEMS_OPEN_OK) == (token != NULL));
	pems_credentials_free_token(token);
	return state;
}

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
	state = pems_credentials_open(fixture->keyring, fixture->key_id, box,
								  strlen(text) + crypto_box_SEALBYTES, "RIO", URL, 7, &token);
	pems_credentials_free_token(token);
	return state;
}

/* ---- sealing and opening ---- */

UNIT_TEST(a_sealed_token_opens)
{
	Fixture fixture = make_fixture("a\"b\\c-._~+/=");
	char *token = NULL;

	CHECK_INT(pems_credentials_open(fixture.keyring, fixture.key_id, fixture.sealed, fixture.length,
									"RIO", URL, 7, &token),
			  PEMS_OPEN_OK);
	CHECK_TEXT(token, "a\"b\\c-._~+/=");
	pems_credentials_free_token(token);
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
			CHECK(pems_credentials_seal(fixture.public_key, names[n], names[n], generations[g],
										"token", &fixture.sealed, &fixture.length));
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
	other.key_id = pems_credentials_current_key(other.keyring, NULL);
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

	CHECK_TEXT(pems_credentials_check_token("eyJhbGciOi.J9-_~+/="), NULL);
	CHECK_TEXT(pems_credentials_check_token(""), "the token is empty");
	for (int c = 1; c < 256; c++)
	{
		text[1] = (char) c;
		CHECK((pems_credentials_check_token(text) == NULL) == (c > 0x20 && c < 0x7f));
	}
	CHECK(pems_credentials_check_token(" a"));
	CHECK(pems_credentials_check_token("a\r"));
	memset(long_token, 'x', sizeof(long_token));
	long_token[PEMS_TOKEN_MAX_LENGTH + 1] = '\0';
	CHECK_TEXT(pems_credentials_check_token(long_token), "the token is longer than 4096 bytes");
	long_token[PEMS_TOKEN_MAX_LENGTH] = '\0';
	CHECK_TEXT(pems_credentials_check_token(long_token), NULL);
}

UNIT_TEST(the_longest_token_opens)
{
	char longest[PEMS_TOKEN_MAX_LENGTH + 1];
	Fixture fixture;
	char *token = NULL;

	memset(longest, '"', sizeof(longest) - 1); /* the worst to escape */
	longest[sizeof(longest) - 1] = '\0';
	fixture = make_fixture(longest);
	CHECK_INT(pems_credentials_open(fixture.keyring, fixture.key_id, fixture.sealed, fixture.length,
									"RIO", URL, 7, &token),
			  PEMS_OPEN_OK);
	CHECK_TEXT(token, longest);
	pems_credentials_free_token(token);
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
		CHECK(!pems_credentials_seal(bad_keys[i], "RIO", URL, 1, "t", &sealed, &length));
	CHECK(!pems_credentials_seal(fixture.public_key, "", URL, 1, "t", &sealed, &length));
	CHECK(!pems_credentials_seal(fixture.public_key, "RIO", "", 1, "t", &sealed, &length));
	CHECK(!pems_credentials_seal(fixture.public_key, "RIO", URL, 1, "", &sealed, &length));
	CHECK(!pems_credentials_seal(fixture.public_key, "RIO", URL, 1, "t\n", &sealed, &length));
	CHECK(!pems_credentials_seal(fixture.public_key, "R\315O", URL, 1, "t", &sealed, &length));
	CHECK(!pems_credentials_seal(fixture.public_key, "RIO", "\300\257", 1, "t", &sealed, &length));
	memset(long_url, 'u', 70000);
	long_url[70000] = '\0';
	CHECK(!pems_credentials_seal(fixture.public_key, "RIO", long_url, 1, "t", &sealed, &length));
	CHECK(sealed == NULL && length == 0);
	free(long_url);
	free_fixture(&fixture);
}

UNIT_TEST(sealing_twice_gives_two_texts_of_one_length)
{
	Fixture fixture = make_fixture("token");
	unsigned char *again = NULL;
	size_t length = 0;

	CHECK(pems_credentials_seal(fixture.public_key, "RIO", URL, 7, "other", &again, &length));
	CHECK_INT(length, fixture.length);
	CHECK(memcmp(again, fixture.sealed, length) != 0);
	free(again);
	free_fixture(&fixture);
}

/* ---- key ids ---- */

UNIT_TEST(a_key_id_belongs_to_one_public_key)
{
	Fixture fixture = make_fixture("token");
	Fixture other = make_fixture("token");
	char upper[PEMS_KEY_ID_LENGTH + 2];

	CHECK_INT(strlen(fixture.key_id), PEMS_KEY_ID_LENGTH);
	CHECK_INT(strspn(fixture.key_id, "0123456789abcdef"), PEMS_KEY_ID_LENGTH);
	CHECK(pems_credentials_is_key(fixture.key_id, fixture.public_key));
	CHECK(!pems_credentials_is_key(fixture.key_id, other.public_key));
	CHECK(!pems_credentials_is_key(other.key_id, fixture.public_key));
	CHECK(!pems_credentials_is_key("", fixture.public_key));
	CHECK(!pems_credentials_is_key(fixture.key_id, ""));
	CHECK(!pems_credentials_is_key(fixture.key_id, "AAAA"));
	(void) snprintf(upper, sizeof(upper), "%sx", fixture.key_id);
	CHECK(!pems_credentials_is_key(upper, fixture.public_key));
	free_fixture(&other);
	free_fixture(&fixture);
}

/* ---- making keyrings ---- */

UNIT_TEST(a_new_keyring_is_private_and_reads)
{
	static const mode_t masks[] = {0, 022, 0777};
	mode_t before = umask(022);

	for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++)
	{
		const char *path;
		struct stat status;

		(void) umask(masks[i]);
		path = make_keyring("new");
		if (CHECK(lstat(path, &status) == 0))
			CHECK_INT(status.st_mode, S_IFREG | 0400);
		CHECK_INT(state_of(path), PEMS_KEY_OK);
		CHECK(strncmp(read_file(path), HEADER, strlen(HEADER)) == 0);
	}
	(void) umask(before);
}

UNIT_TEST(a_file_is_never_overwritten)
{
	const char *path = in_directory("precious");
	const char *link = in_directory("dangling");
	const char *target = in_directory("target");

	write_file(path, "precious", 8);
	CHECK(!pems_credentials_create_keyring(path, (uid_t) -1, (gid_t) -1, error, sizeof(error)));
	CHECK(error_has("exists already"));
	CHECK_TEXT(read_file(path), "precious");
	/* Not through a link that points nowhere either. */
	CHECK(symlink(target, link) == 0);
	CHECK(!pems_credentials_create_keyring(link, (uid_t) -1, (gid_t) -1, error, sizeof(error)));
	CHECK(access(target, F_OK) != 0);
}

UNIT_TEST(a_keyring_in_no_directory_is_an_error)
{
	CHECK(!pems_credentials_create_keyring(in_directory("nowhere/key"), (uid_t) -1, (gid_t) -1,
										   error, sizeof(error)));
	CHECK(error_has("could not be created: No such file or directory"));
	CHECK(!pems_credentials_create_keyring("", (uid_t) -1, (gid_t) -1, error, sizeof(error)));
}

UNIT_TEST(a_keyring_by_a_relative_path_is_made)
{
	char before[PATH_MAX];

	(void) in_directory("");
	if (!CHECK(getcwd(before, sizeof(before)) && chdir(directory) == 0))
		return;
	CHECK(
		pems_credentials_create_keyring("relative", (uid_t) -1, (gid_t) -1, error, sizeof(error)));
	CHECK_INT(state_of("relative"), PEMS_KEY_OK);
	CHECK(chdir(before) == 0);
}

UNIT_TEST(a_keyring_is_given_away)
{
	const char *path = in_directory("given");
	struct stat status;

	if (geteuid() != 0)
	{
		/* Not allowed, and then nothing is left behind. */
		CHECK(!pems_credentials_create_keyring(path, 0, 0, error, sizeof(error)));
		CHECK(access(path, F_OK) != 0);
		return;
	}
	CHECK(pems_credentials_create_keyring(path, STRANGER, STRANGER, error, sizeof(error)));
	if (CHECK(lstat(path, &status) == 0))
	{
		CHECK_INT(status.st_uid, STRANGER);
		CHECK_INT(status.st_gid, STRANGER);
		CHECK_INT(status.st_mode, S_IFREG | 0400);
	}
}

/* ---- reading keyrings: the file ---- */

UNIT_TEST(no_path_is_a_state_of_its_own)
{
	CHECK_INT(state_of(NULL), PEMS_KEY_NOT_SET);
	CHECK_INT(state_of(""), PEMS_KEY_NOT_SET);
	CHECK(error_has("pems_sync.key_file"));
}

UNIT_TEST(a_missing_file_is_missing)
{
	const char *file = make_keyring("file");

	CHECK_INT(state_of(in_directory("missing")), PEMS_KEY_MISSING);
	CHECK(error_has("missing\" does not exist"));
	CHECK(error_has("keygen"));
	CHECK_INT(state_of(in_directory("missing/missing")), PEMS_KEY_MISSING);
	CHECK_INT(state_of(in_directory("file/missing")), PEMS_KEY_MISSING);
	CHECK_INT(state_of(file), PEMS_KEY_OK);
}

UNIT_TEST(only_a_plain_file_is_private)
{
	const char *link = in_directory("link");
	const char *fifo = in_directory("fifo");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	CHECK(symlink(make_keyring("linked"), link) == 0);
	CHECK_INT(state_of(link), PEMS_KEY_NOT_PRIVATE);
	CHECK(error_has("is a symbolic link"));
	/* Nobody writes to it: a reader that waits would wait for ever. */
	CHECK(mkfifo(fifo, 0400) == 0);
	CHECK_INT(state_of(fifo), PEMS_KEY_NOT_PRIVATE);
	CHECK(error_has("is not a plain file"));
	CHECK_INT(state_of(directory), PEMS_KEY_NOT_PRIVATE);
	CHECK_INT(state_of("/dev/null"), PEMS_KEY_NOT_PRIVATE);
	/* A long TMPDIR may not fit into a socket's address. */
	if (strlen(in_directory("socket")) < sizeof(address.sun_path))
	{
		(void) snprintf(address.sun_path, sizeof(address.sun_path), "%s", in_directory("socket"));
		CHECK(bind(fd, (struct sockaddr *) &address, sizeof(address)) == 0);
		CHECK_INT(state_of(address.sun_path), PEMS_KEY_NOT_PRIVATE);
	}
	(void) close(fd);
}

UNIT_TEST(a_file_that_others_may_touch_is_not_private)
{
	static const mode_t bad[] = {0440, 0404, 0644, 0410, 0401, 0420, 0402, 0666, 0777};
	static const mode_t good[] = {0400, 0600, 0700, 04400};
	const char *path = make_keyring("modes");

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		char shown[16];

		CHECK(chmod(path, bad[i]) == 0);
		CHECK_INT(state_of(path), PEMS_KEY_NOT_PRIVATE);
		(void) snprintf(shown, sizeof(shown), "mode %04o", (unsigned) bad[i]);
		CHECK(error_has(shown));
		CHECK(error_has("chmod 0400"));
	}
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
	{
		CHECK(chmod(path, good[i]) == 0);
		CHECK_INT(state_of(path), PEMS_KEY_OK);
	}
}

UNIT_TEST(the_owner_must_be_the_reader_or_root)
{
	const char *path = make_keyring("owned");

	if (geteuid() != 0)
	{
		unit_note("skipped: needs root");
		return;
	}
	CHECK(chown(path, STRANGER, STRANGER) == 0);
	CHECK_INT(state_of(path), PEMS_KEY_NOT_PRIVATE);
	CHECK(error_has("belongs to user id 65534"));
	CHECK(error_has("chown"));
	/* The owner himself reads it ... */
	CHECK(seteuid(STRANGER) == 0);
	CHECK_INT(state_of(path), PEMS_KEY_OK);
	CHECK(seteuid(0) == 0);
	/* ... but not root's own. */
	CHECK(chown(path, 0, 0) == 0);
	CHECK_INT(state_of(path), PEMS_KEY_OK);
	CHECK(seteuid(STRANGER) == 0);
	CHECK_INT(state_of(path), PEMS_KEY_UNREADABLE);
	CHECK(error_has("may not be opened by user id 65534"));
	CHECK(seteuid(0) == 0);
}

UNIT_TEST(a_long_path_leaves_room_for_the_reason)
{
	char path[3000];

	/* Two bytes per character, so that one of the cuts falls inside of one. */
	for (size_t shift = 0; shift < 2; shift++)
	{
		memset(path, 'x', sizeof(path));
		for (size_t i = 100 + shift; i + 2 < sizeof(path); i += 2)
			memcpy(path + i, "\303\251", 2);
		path[sizeof(path) - 1] = '\0';
		path[200] = '/'; /* no name longer than 255 bytes */
		CHECK(state_of(path) != PEMS_KEY_OK);
		CHECK(strlen(error) < sizeof(error) - 1);
		CHECK(strncmp(error, "key file \"...", 13) == 0);
		CHECK((error[13] & 0xc0) != 0x80);
	}
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
		CHECK(error_has(cases[i].words));
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
	CHECK(error_has("line 2 holds a key that is not base64 of 32 bytes"));
	CHECK_INT(state_with_byte(line, 0, line[0] == '0' ? '1' : '0'), PEMS_KEY_MALFORMED);
	CHECK(error_has("line 2 holds a key id that does not belong to its key"));
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
	CHECK(error_has("cut short"));
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
			CHECK(!strstr(error, part));
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
	CHECK(error_has("line 4 repeats a key"));
	free(other);
	free(line);
}

UNIT_TEST(a_large_file_is_refused)
{
	char text[8194];

	memset(text, 'x', sizeof(text));
	memcpy(text, HEADER, sizeof(HEADER) - 1);
	CHECK_INT(state_of_text(text, sizeof(text)), PEMS_KEY_MALFORMED);
	CHECK(error_has("larger than 8192 bytes"));
	CHECK_INT(state_of_text(text, 8193), PEMS_KEY_MALFORMED);
	CHECK(error_has("larger than 8192 bytes"));
	CHECK_INT(state_of_text(text, 8192), PEMS_KEY_MALFORMED);
	CHECK(error_has("cut short"));
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
	CHECK(error_has("line 66 is one key too many"));
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
	CHECK_INT(pems_credentials_read_keyring(in_directory("two"), &keyring, error, sizeof(error)),
			  PEMS_KEY_OK);
	id = pems_credentials_current_key(keyring, &public_key);
	CHECK(strncmp(line, id, PEMS_KEY_ID_LENGTH) == 0);
	CHECK(strcmp(id, old.key_id) != 0);
	CHECK(pems_credentials_is_key(id, public_key));
	CHECK_INT(
		pems_credentials_open(keyring, old.key_id, old.sealed, old.length, "RIO", URL, 7, &token),
		PEMS_OPEN_OK);
	CHECK_TEXT(token, "old-token");
	pems_credentials_free_token(token);
	/* The right keyring, but the row names its other key. */
	CHECK_INT(pems_credentials_open(keyring, id, old.sealed, old.length, "RIO", URL, 7, &token),
			  PEMS_OPEN_CANNOT);
	pems_credentials_free_keyring(keyring);
	free(line);
	free_fixture(&old);
}

/* ---- changing keyrings ---- */

/* The id of the file's current key. */
static void
read_current_id(const char *path, char *id)
{
	PemsKeyring *keyring = NULL;

	id[0] = '\0';
	if (!CHECK_INT(pems_credentials_read_keyring(path, &keyring, error, sizeof(error)),
				   PEMS_KEY_OK))
		return;
	(void) snprintf(id, PEMS_KEY_ID_LENGTH + 1, "%s", pems_credentials_current_key(keyring, NULL));
	pems_credentials_free_keyring(keyring);
}

static int
count_keys(const char *path)
{
	int lines = 0;

	for (const char *c = read_file(path); *c; c++)
		lines += *c == '\n';
	return lines - 1;
}

static bool
has_key(const char *path, const char *id)
{
	return strstr(read_file(path), id) != NULL;
}

static bool
add_key(const char *path)
{
	return pems_credentials_add_key(path, error, sizeof(error));
}

/* Drop all but the current key and that one, which may be NULL; the number dropped, -1: refused. */
static int
drop_all_but(const char *path, const char *needed)
{
	int dropped = 0;

	if (!pems_credentials_drop_keys(path, &needed, needed ? 1 : 0, &dropped, error, sizeof(error)))
		return -1;
	return dropped;
}

/* Neither change is made: the file is as it was, and the message has these words. */
static void
check_unchanged(const char *path, const char *words)
{
	char *before = strdup(read_file(path));

	CHECK(!add_key(path));
	CHECK(error_has(words));
	CHECK_INT(drop_all_but(path, NULL), -1);
	CHECK(error_has(words));
	CHECK_TEXT(read_file(path), before);
	free(before);
}

UNIT_TEST(an_added_key_is_current_and_the_old_ones_open)
{
	Fixture fixture = make_fixture("token");
	const char *path = in_directory("fixture");
	char *before = strdup(read_file(path));
	char old_id[PEMS_KEY_ID_LENGTH + 1];
	char new_id[PEMS_KEY_ID_LENGTH + 1];

	read_current_id(path, old_id);
	CHECK(add_key(path));
	read_current_id(path, new_id);
	CHECK(strcmp(new_id, old_id) != 0);
	CHECK_INT(count_keys(path), 2);
	CHECK(strncmp(read_file(path), before, strlen(before)) == 0);
	pems_credentials_free_keyring(fixture.keyring);
	CHECK_INT(pems_credentials_read_keyring(path, &fixture.keyring, error, sizeof(error)),
			  PEMS_KEY_OK);
	fixture.key_id = old_id;
	CHECK_INT(open_as(&fixture, "RIO", URL, 7), PEMS_OPEN_OK);
	free_fixture(&fixture);
	free(before);
}

UNIT_TEST(a_changed_file_is_private_and_its_owners)
{
	const char *path = make_keyring("changed");
	uid_t owner = geteuid() == 0 ? STRANGER : geteuid();
	struct stat status;

	if (geteuid() == 0)
		CHECK(chown(path, STRANGER, STRANGER) == 0);
	for (int i = 0; i < 2; i++)
	{
		CHECK(i == 0 ? add_key(path) : drop_all_but(path, NULL) == 1);
		if (CHECK(lstat(path, &status) == 0))
		{
			CHECK_INT(status.st_mode, S_IFREG | 0400);
			CHECK_INT(status.st_uid, owner);
			CHECK_INT(status.st_nlink, 1);
		}
	}
	CHECK(access(in_directory("changed.new"), F_OK) != 0);
}

UNIT_TEST(only_keys_that_nobody_needs_are_dropped)
{
	const char *path = make_keyring("drop");
	char ids[4][PEMS_KEY_ID_LENGTH + 1];

	for (int i = 0; i < 4; i++)
	{
		if (i > 0)
			CHECK(add_key(path));
		read_current_id(path, ids[i]);
	}
	CHECK_INT(drop_all_but(path, ids[1]), 2);
	CHECK_INT(count_keys(path), 2);
	CHECK(has_key(path, ids[1]) && has_key(path, ids[3]));
	/* the current one stays although nobody names it, and again there is nothing to drop */
	CHECK_INT(drop_all_but(path, "0123456789abcdef"), 1);
	CHECK_INT(drop_all_but(path, NULL), 0);
	CHECK_INT(count_keys(path), 1);
	read_current_id(path, ids[0]);
	CHECK_TEXT(ids[0], ids[3]);
}

UNIT_TEST(a_full_keyring_takes_no_key_until_one_is_dropped)
{
	const char *path = make_keyring("full");
	char *before;

	for (int keys = 2; keys <= 64; keys++)
		if (!CHECK(add_key(path)))
			return;
	before = strdup(read_file(path));
	CHECK(!add_key(path));
	CHECK(error_has("has 64 keys already"));
	CHECK(error_has("--drop-old-keys"));
	CHECK_TEXT(read_file(path), before);
	CHECK_INT(count_keys(path), 64);
	CHECK_INT(drop_all_but(path, NULL), 63);
	CHECK(add_key(path));
	CHECK_INT(count_keys(path), 2);
	free(before);
}

UNIT_TEST(a_damaged_keyring_is_not_changed)
{
	static const char *const texts[] = {"", "pems_sync keyring 1\n", "no keyring\n",
										"pems_sync keyring 1\n0123456789abcdef AAAA\n"};
	const char *path = in_directory("damaged");

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		write_file(path, texts[i], strlen(texts[i]));
		check_unchanged(path, i == 1 || i == 3 ? "is damaged" : "does not begin with");
		CHECK(access(in_directory("damaged.new"), F_OK) != 0);
	}
	/* a whole one, but for its last byte */
	{
		char *text = strdup(read_file(make_keyring("whole")));

		write_file(path, text, strlen(text) - 1);
		check_unchanged(path, "cut short");
		free(text);
	}
}

UNIT_TEST(what_is_no_private_file_is_not_changed)
{
	const char *path = make_keyring("exposed");
	const char *link = in_directory("link to it");
	char *before = strdup(read_file(path));

	CHECK(chmod(path, 0440) == 0);
	check_unchanged(path, "chmod 0400");
	CHECK(chmod(path, 0400) == 0);
	CHECK(symlink(path, link) == 0);
	CHECK(!add_key(link));
	CHECK(error_has("is a symbolic link"));
	CHECK_TEXT(read_file(path), before);
	CHECK(!add_key(in_directory("not there")));
	CHECK(error_has("does not exist"));
	CHECK(access(in_directory("not there"), F_OK) != 0);
	free(before);
}

UNIT_TEST(what_an_interrupted_change_left_is_no_obstacle)
{
	const char *path = make_keyring("again");
	const char *left = in_directory("again.new");
	const char *target = make_keyring("target of a link");
	char *precious = strdup(read_file(target));

	write_file(left, HEADER "half a l", strlen(HEADER) + 8);
	CHECK(add_key(path));
	CHECK_INT(count_keys(path), 2);
	CHECK(access(left, F_OK) != 0);
	/* nor is it a way to another file */
	CHECK(symlink(target, left) == 0);
	CHECK(add_key(path));
	CHECK_INT(count_keys(path), 3);
	CHECK_TEXT(read_file(target), precious);
	/* nothing can be put in its place: the file stays as it was */
	CHECK(mkdir(left, 0700) == 0);
	check_unchanged(path, "exists already");
	CHECK(rmdir(left) == 0);
	free(precious);
}

UNIT_TEST(two_do_not_change_a_keyring_at_once)
{
	const char *path = make_keyring("locked");
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	CHECK(flock(fd, LOCK_EX | LOCK_NB) == 0);
	check_unchanged(path, "is being changed by somebody else");
	CHECK_INT(state_of(path), PEMS_KEY_OK);
	(void) close(fd);
	CHECK(add_key(path));
}

/*
 * Processes that add a key at the same time, each again until it succeeds: no key gets lost.  The
 * lock is on a file that is replaced, so one who waited for it may hold the lock of a file that is
 * gone.
 */
UNIT_TEST(no_added_key_gets_lost_among_many)
{
	enum
	{
		PROCESSES = 4,
		KEYS = 15
	};
	const char *path = make_keyring("shared");

	for (int i = 0; i < PROCESSES; i++)
	{
		pid_t child = fork();

		if (child != 0)
			continue;
		for (int added = 0, tries = 0; added < KEYS && tries < 100000; tries++)
			added += add_key(path);
		_exit(0);
	}
	while (wait(NULL) > 0)
		;
	CHECK_INT(count_keys(path), 1 + PROCESSES * KEYS);
	CHECK_INT(state_of(path), PEMS_KEY_OK);
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
		(void) pems_credentials_open(fixture.keyring, fixture.key_id, fixture.sealed,
									 fixture.length, "RIO", URL, 7, &token);
		CHECK_INT(count_in_memory(masked), 2);
		pems_credentials_free_token(token);
		sodium_memzero(canary, CANARY_LENGTH);
		CHECK_INT(count_in_memory(masked), 0);
	}
	sodium_free(canary);
	free_fixture(&fixture);
}

/* ---- the end ---- */

static int
remove_entry(const char *path, const struct stat *status, int type, struct FTW *position)
{
	(void) status;
	(void) type;
	(void) position;
	return remove(path);
}

UNIT_TEST(the_directory_is_removed)
{
	CHECK(nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS) == 0);
}
