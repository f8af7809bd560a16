/*
 * database/app_owner.h
 *		The owner of one of the application's tables, and what is done as that owner.
 *
 * Process: any backend, and the worker; inside a transaction.
 */
#ifndef PEMS_APP_OWNER_H
#define PEMS_APP_OWNER_H

#include "postgres.h"

/* Errors: 42P01, there is no such table in that schema. */
extern Oid pems_app_owner_of(const char *table, Oid schema);

/* Something that is done as the owner of a table. */
typedef void (*PemsOwnersWork)(void *argument);

/*
 * Do work with the rights of the table's owner, in a security-restricted operation.  Where the
 * owner is a superuser it is done with the rights that we have (app_owner.c says why).
 */
extern void pems_app_owner_do(const char *table, Oid schema, PemsOwnersWork work, void *argument);

/*
 * Inside such work: as whom it is done, the owner or (where that is a superuser) pems_sync_worker;
 * otherwise InvalidOid.  Code of theirs that calls us does so in that name, not in the name of the
 * session's user.
 */
extern Oid pems_app_owner_acting(void);

#endif /* PEMS_APP_OWNER_H */
