/*
 * old_keys.h
 *		Which keys of a key file nobody needs any more, and dropping them.
 */
#ifndef PEMS_OLD_KEYS_H
#define PEMS_OLD_KEYS_H

#include <stdbool.h>

#include "database.h"

/* A key file, and the server whose databases may have credentials that are sealed to its keys. */
typedef struct KeyUsers
{
	const char *file;
	const Connection *options; /* of the connection; for the other databases, too */
	PGconn *connection;        /* to one of the databases */
	char *schema;              /* the extension's there, quoted */
} KeyUsers;

/*
 * Drop each key but the current one that no credential in any database of the server needs; their
 * number is added to *dropped.  False after a message.
 */
extern bool drop_old_keys(const KeyUsers *users, int *dropped);

#endif /* PEMS_OLD_KEYS_H */
