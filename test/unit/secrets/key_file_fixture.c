/*
 * secrets/key_file_fixture.c
 *		Key files for the tests of src/secrets; see key_file_fixture.h.
 */
#include "secrets/key_file_fixture.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit.h"

char test_directory[PATH_MAX / 2];
char problem[256];

/* ---- files ---- */

const char *
in_directory(const char *name)
{
	static char paths[4][PATH_MAX];
	static int next;
	char *path = paths[next++ % 4];

	if (test_directory[0] == '\0')
	{
		const char *parent = getenv("TMPDIR");

		(void) snprintf(test_directory, sizeof(test_directory), "%s/pems_secrets_test.XXXXXX",
						parent ? parent : "/tmp");
		if (!pems_secrets_initialize() || !mkdtemp(test_directory) ||
			chmod(test_directory, 0755) != 0)
			abort();
	}
	(void) snprintf(path, PATH_MAX, "%s/%s", test_directory, name);
	return path;
}

void
write_file(const char *path, const char *text, size_t length)
{
	FILE *file;

	(void) unlink(path);
	file = fopen(path, "w");
	if (!file || fwrite(text, 1, length, file) != length || fchmod(fileno(file), 0400) != 0)
		abort();
	(void) fclose(file);
}

const char *
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

const char *
make_keyring(const char *name)
{
	const char *path = in_directory(name);

	(void) unlink(path);
	if (!pems_secrets_create_keyring(path, (uid_t) -1, (gid_t) -1, problem, sizeof(problem)))
		abort();
	return path;
}

char *
make_key_line(void)
{
	return strdup(read_file(make_keyring("line")) + strlen(HEADER));
}

static int
remove_entry(const char *path, const struct stat *status, int type, struct FTW *position)
{
	(void) status;
	(void) type;
	(void) position;
	return remove(path);
}

bool
remove_directory(void)
{
	return nftw(test_directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS) == 0;
}

/* ---- reading them ---- */

PemsKeyState
state_of(const char *path)
{
	PemsKeyring *keyring = NULL;
	PemsKeyState state = pems_secrets_read_keyring(path, &keyring, problem, sizeof(problem));

	CHECK((state == PEMS_KEY_OK) == (keyring != NULL));
	CHECK((state == PEMS_KEY_OK) == (problem[0] == '\0'));
	pems_secrets_free_keyring(keyring);
	return state;
}

PemsKeyState
state_of_text(const char *text, size_t length)
{
	const char *path = in_directory("text");

	write_file(path, text, length);
	return state_of(path);
}

bool
problem_has(const char *words)
{
	bool has = strstr(problem, words) != NULL;

	if (!has)
		unit_note("problem is: %s", problem);
	return has;
}

/* ---- sealed tokens ---- */

Fixture
make_fixture(const char *token)
{
	Fixture fixture = {0};

	if (pems_secrets_read_keyring(make_keyring("fixture"), &fixture.keyring, problem,
								  sizeof(problem)) != PEMS_KEY_OK)
		abort();
	fixture.key_id = pems_secrets_current_key(fixture.keyring, &fixture.public_key);
	CHECK(pems_secrets_seal(fixture.public_key, "RIO", URL, 7, token, &fixture.sealed,
							&fixture.length));
	return fixture;
}

void
free_fixture(Fixture *fixture)
{
	free(fixture->sealed);
	pems_secrets_free_keyring(fixture->keyring);
}

PemsOpenState
open_as(const Fixture *fixture, const char *organization, const char *url, int64_t generation)
{
	char *token = NULL;
	PemsOpenState state = pems_secrets_open(fixture->keyring, fixture->key_id, fixture->sealed,
											fixture->length, organization, url, generation, &token);

	CHECK((state == PEMS_OPEN_OK) == (token != NULL));
	pems_secrets_free_token(token);
	return state;
}
