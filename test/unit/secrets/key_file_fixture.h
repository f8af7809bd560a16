/*
 * secrets/key_file_fixture.h
 *		Key files to try things on, and tokens sealed to their keys, for the tests of src/secrets.
 *
 * Files are made in a directory of the test's own below TMPDIR, which its last test
 * removes.  Tests of file owners need root and say so when they are skipped.
 */
#ifndef KEY_FILE_FIXTURE_H
#define KEY_FILE_FIXTURE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "secrets/key_file.h"
#include "secrets/seal.h"

#define HEADER   "pems_sync keyring 1\n"
#define STRANGER 65534 /* a user id that is neither root nor, most likely, ours */
#define URL      "https://pems.example.com/api"

extern char test_directory[PATH_MAX / 2]; /* empty until in_directory() was called */
extern char problem[256]; /* what was wrong last; the smallest that callers may give */

/* ---- files ---- */

/* A path inside the test_directory; one of four buffers, so that a call may need several. */
extern const char *in_directory(const char *name);
extern void write_file(const char *path, const char *text, size_t length);
/* The text of a file, in a static buffer. */
extern const char *read_file(const char *path);
/* A new keyring file with one key. */
extern const char *make_keyring(const char *name);
/* The line of the one key of a new keyring, malloc'ed, with its line end. */
extern char *make_key_line(void);
/* With all that is in it. */
extern bool remove_directory(void);

/* ---- reading them ---- */

/* What reading the file says; the keyring is freed again. */
extern PemsKeyState state_of(const char *path);
extern PemsKeyState state_of_text(const char *text, size_t length);
/* Has the last problem these words? */
extern bool problem_has(const char *words);

/* ---- sealed tokens ---- */

/* A keyring in memory with what was sealed to it. */
typedef struct Fixture
{
	PemsKeyring *keyring;
	const char *key_id;
	const char *public_key;
	unsigned char *sealed;
	size_t length;
} Fixture;

/* A new key file, and the token sealed for RIO, URL and generation 7. */
extern Fixture make_fixture(const char *token);
extern void free_fixture(Fixture *fixture);
/* What opening says when the row is the fixture's but for what is given. */
extern PemsOpenState open_as(const Fixture *fixture, const char *organization, const char *url,
							 int64_t generation);

#endif /* KEY_FILE_FIXTURE_H */
