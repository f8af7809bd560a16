/*
 * database/extension.h
 *		What the extension is called, whom its objects belong to, and where it is.
 *
 * Process: any backend, and the worker; inside a transaction.
 */
#ifndef PEMS_EXTENSION_H
#define PEMS_EXTENSION_H

#include "postgres.h"

#define PEMS_EXTENSION   "pems_sync"
#define PEMS_WORKER_ROLE "pems_sync_worker"

/*
 * The name of the schema that the extension is in, palloc'ed, not quoted.  DROP SCHEMA does not
 * wait for sessions that run a function in it: an error (55000) when the schema is gone.
 */
extern char *pems_schema_name(Oid schema);

#endif /* PEMS_EXTENSION_H */
