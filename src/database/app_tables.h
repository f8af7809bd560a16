/*
 * database/app_tables.h
 *		The application's tables: are they what they were when they were attached?  And the schema
 *		that they and we are in.
 *
 * Process: any backend, and the worker; inside a transaction.
 */
#ifndef PEMS_HOST_H
#define PEMS_HOST_H

#include "postgres.h"

/*
 * Are organization, pfa_mirror and pfa_modification in that schema ordinary tables, with the
 * columns and types that pems_attach() demands?  Their owner could put a view in the place of one,
 * or give a column a type of his own with a cast of his own: functions of his that would run with
 * the rights of pems_sync_worker; the same is true of a child table, and of the functions in
 * expressions of indexes and statistics, which the planner calls.  So everything of ours asks
 * before it names them.  Locks them (ACCESS SHARE) until the transaction ends.
 *
 * Cheap when nothing was changed since the last call: the answer is kept until the server says that
 * one of them was.
 */
extern bool pems_host_is_intact(Oid schema);

/*
 * The name of the schema that the extension is in, palloc'ed, not quoted.  DROP SCHEMA waits for
 * nobody who runs a function of it: an error (55000) when it is gone.
 */
extern char *pems_schema_name(Oid schema);

#endif /* PEMS_HOST_H */
