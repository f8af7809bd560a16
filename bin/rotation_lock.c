/*
 * rotation_lock.c
 *		One rotation of a key file at a time.
 *
 * Rotations of a key file come one after the other, whatever their databases: one that drops keys
 * must not take away what another has added and not used yet.
 *
 * The lock is on a file of its own: not on the key file, because that is replaced, and not on the
 * directory, because everybody who may read a directory can lock it.  It ends with the process,
 * however that ends; a file that is left does no harm.
 */
#include "rotation_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "messages.h"

/* How long a rotation waits for another one, and how often it looks. */
#define WAIT_SECONDS     10
#define LOOKS_PER_SECOND 10

/*
 * Is the file one that only we can open?  Others could lock it for ever, if they could open it, or
 * have made it under another name.
 */
static bool
is_private(const RotationLock *lock, const struct stat *status)
{
	bool ours = status->st_uid == geteuid() || (geteuid() == 0 && status->st_uid == lock->owner);

	if (S_ISREG(status->st_mode) && status->st_nlink == 1 && ours && (status->st_mode & 077) == 0)
		return true;
	complain(
		"lock file \"%s\" is not a plain file of the user who runs this, with mode 0600 and no "
		"other name; remove it",
		lock->path);
	return false;
}

/* Does the path name the file still?  Who held the lock before has removed it. */
static bool
is_still_there(const RotationLock *lock, const struct stat *status)
{
	struct stat now;

	return lstat(lock->path, &now) == 0 && now.st_dev == status->st_dev &&
		   now.st_ino == status->st_ino;
}

/* False after a message.  True: the lock is taken (lock->fd), or somebody else has it. */
static bool
try_lock(RotationLock *lock)
{
	struct stat status;
	int fd = open(lock->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
				  S_IRUSR | S_IWUSR);

	/* It is root's: a rotation that root runs. */
	if (fd < 0 && errno == EACCES)
		return true;
	if (fd < 0 || fstat(fd, &status) != 0)
	{
		complain("lock file \"%s\" could not be opened: %s", lock->path, strerror(errno));
		if (fd >= 0)
			(void) close(fd);
		return false;
	}
	if (!is_private(lock, &status))
	{
		(void) close(fd);
		return false;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) == 0 && is_still_there(lock, &status))
		lock->fd = fd;
	else
		(void) close(fd);
	return true;
}

static bool
wait_for_others(RotationLock *lock)
{
	const struct timespec pause = {.tv_nsec = 1000000000 / LOOKS_PER_SECOND};

	for (int look = 0; look <= WAIT_SECONDS * LOOKS_PER_SECOND; look++)
	{
		if (!try_lock(lock))
			return false;
		if (lock->fd >= 0)
			return true;
		if (look == 0)
			complain("another rotation is under way; waiting for its end");
		(void) nanosleep(&pause, NULL);
	}
	complain("gave up after %d s: \"%s\" is locked, or belongs to another user", WAIT_SECONDS,
			 lock->path);
	(void) fprintf(
		stderr,
		"HINT:  Only another rotation, or another process of the same user or of root, can "
		"lock it; fuser \"%s\" shows which.  If no rotation is running, remove the file.\n",
		lock->path);
	return false;
}

bool
lock_key_file(const char *file, RotationLock *lock)
{
	size_t size = strlen(file) + sizeof(".lock");
	struct stat status;

	if (lstat(file, &status) != 0)
	{
		complain("key file \"%s\" could not be looked at: %s", file, strerror(errno));
		return false;
	}
	lock->owner = status.st_uid;
	lock->path = malloc(size);
	if (lock->path == NULL)
	{
		complain("out of memory");
		return false;
	}
	(void) snprintf(lock->path, size, "%s.lock", file);
	return wait_for_others(lock);
}

/* The file goes first: who waits for the lock finds out that it is gone, and makes another. */
void
unlock_key_file(RotationLock *lock)
{
	if (lock->fd >= 0)
	{
		(void) unlink(lock->path);
		(void) close(lock->fd);
	}
	free(lock->path);
}
