/*
 * secrets/key_file_test.c
 *		Key files, made, read and changed: src/secrets/key_file.c.
 */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "secrets/key_file_fixture.h"

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
	CHECK(!pems_secrets_create_keyring(path, (uid_t) -1, (gid_t) -1, problem, sizeof(problem)));
	CHECK(problem_has("exists already"));
	CHECK_TEXT(read_file(path), "precious");
	/* Not through a link that points nowhere either. */
	CHECK(symlink(target, link) == 0);
	CHECK(!pems_secrets_create_keyring(link, (uid_t) -1, (gid_t) -1, problem, sizeof(problem)));
	CHECK(access(target, F_OK) != 0);
}

UNIT_TEST(a_keyring_in_no_directory_is_an_error)
{
	CHECK(!pems_secrets_create_keyring(in_directory("nowhere/key"), (uid_t) -1, (gid_t) -1, problem,
									   sizeof(problem)));
	CHECK(problem_has("could not be created: No such file or directory"));
	CHECK(!pems_secrets_create_keyring("", (uid_t) -1, (gid_t) -1, problem, sizeof(problem)));
}

UNIT_TEST(a_keyring_by_a_relative_path_is_made)
{
	char before[PATH_MAX];

	(void) in_directory("");
	if (!CHECK(getcwd(before, sizeof(before)) && chdir(test_directory) == 0))
		return;
	CHECK(
		pems_secrets_create_keyring("relative", (uid_t) -1, (gid_t) -1, problem, sizeof(problem)));
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
		CHECK(!pems_secrets_create_keyring(path, 0, 0, problem, sizeof(problem)));
		CHECK(access(path, F_OK) != 0);
		return;
	}
	CHECK(pems_secrets_create_keyring(path, STRANGER, STRANGER, problem, sizeof(problem)));
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
	CHECK(problem_has("pems_sync.key_file"));
}

UNIT_TEST(a_missing_file_is_missing)
{
	const char *file = make_keyring("file");

	CHECK_INT(state_of(in_directory("missing")), PEMS_KEY_MISSING);
	CHECK(problem_has("missing\" does not exist"));
	CHECK(problem_has("keygen"));
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
	CHECK(problem_has("is a symbolic link"));
	/* Nobody writes to it: a reader that waits would wait for ever. */
	CHECK(mkfifo(fifo, 0400) == 0);
	CHECK_INT(state_of(fifo), PEMS_KEY_NOT_PRIVATE);
	CHECK(problem_has("is not a plain file"));
	CHECK_INT(state_of(test_directory), PEMS_KEY_NOT_PRIVATE);
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
		CHECK(problem_has(shown));
		CHECK(problem_has("chmod 0400"));
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
	/* The owner himself reads it, and root, for pems-credential ... */
	CHECK(chown(path, STRANGER, STRANGER) == 0);
	CHECK_INT(state_of(path), PEMS_KEY_OK);
	CHECK(seteuid(STRANGER) == 0);
	CHECK_INT(state_of(path), PEMS_KEY_OK);
	CHECK(seteuid(0) == 0);
	/* ... but nobody else, though the file lets itself be opened ... */
	CHECK(chown(path, STRANGER - 1, STRANGER) == 0 && chmod(path, 0440) == 0);
	CHECK(setegid(STRANGER) == 0 && seteuid(STRANGER) == 0);
	CHECK_INT(state_of(path), PEMS_KEY_NOT_PRIVATE);
	CHECK(problem_has("belongs to user id 65533"));
	CHECK(problem_has("chown"));
	CHECK(seteuid(0) == 0 && setegid(0) == 0 && chmod(path, 0400) == 0);
	/* ... and not root's own without root's rights. */
	CHECK(chown(path, 0, 0) == 0);
	CHECK_INT(state_of(path), PEMS_KEY_OK);
	CHECK(seteuid(STRANGER) == 0);
	CHECK_INT(state_of(path), PEMS_KEY_UNREADABLE);
	CHECK(problem_has("may not be opened by user id 65534"));
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
		CHECK(strlen(problem) < sizeof(problem) - 1);
		CHECK(strncmp(problem, "key file \"...", 13) == 0);
		CHECK((problem[13] & 0xc0) != 0x80);
	}
}

/* ---- changing keyrings ---- */

/* The id of the file's current key. */
static void
read_current_id(const char *path, char *id)
{
	PemsKeyring *keyring = NULL;

	id[0] = '\0';
	if (!CHECK_INT(pems_secrets_read_keyring(path, &keyring, problem, sizeof(problem)),
				   PEMS_KEY_OK))
		return;
	(void) snprintf(id, PEMS_KEY_ID_LENGTH + 1, "%s", pems_secrets_current_key(keyring, NULL));
	pems_secrets_free_keyring(keyring);
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
	return pems_secrets_add_key(path, problem, sizeof(problem));
}

/* Drop all but the current key and that one, which may be NULL; the number dropped, -1: refused. */
static int
drop_all_but(const char *path, const char *needed)
{
	int dropped = 0;

	if (!pems_secrets_drop_keys(path, &needed, needed ? 1 : 0, &dropped, problem, sizeof(problem)))
		return -1;
	return dropped;
}

/* Neither change is made: the file is as it was, and the message has these words. */
static void
check_unchanged(const char *path, const char *words)
{
	char *before = strdup(read_file(path));

	CHECK(!add_key(path));
	CHECK(problem_has(words));
	CHECK_INT(drop_all_but(path, NULL), -1);
	CHECK(problem_has(words));
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
	pems_secrets_free_keyring(fixture.keyring);
	CHECK_INT(pems_secrets_read_keyring(path, &fixture.keyring, problem, sizeof(problem)),
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
	CHECK(problem_has("has 64 keys already"));
	CHECK(problem_has("--drop-old-keys"));
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
	CHECK(problem_has("is a symbolic link"));
	CHECK_TEXT(read_file(path), before);
	CHECK(!add_key(in_directory("not there")));
	CHECK(problem_has("does not exist"));
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

/* ---- the end ---- */

UNIT_TEST(the_directory_is_removed)
{
	CHECK(remove_directory());
}
