/*
 * rotation_lock.h
 *		One rotation of a key file at a time.
 */
#ifndef PEMS_ROTATION_LOCK_H
#define PEMS_ROTATION_LOCK_H

#include <stdbool.h>
#include <sys/types.h>

/* The file FILE.lock beside the key file FILE. */
typedef struct RotationLock
{
	char *path;
	uid_t owner; /* of the key file */
	int fd;      /* -1: not locked; so it must begin */
} RotationLock;

/* Waits for ten seconds at most.  False after a message; unlock_key_file() is called anyway. */
extern bool lock_key_file(const char *file, RotationLock *lock);
extern void unlock_key_file(RotationLock *lock);

#endif /* PEMS_ROTATION_LOCK_H */
