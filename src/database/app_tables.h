/*
 * database/app_tables.h
 *		The application's tables: are they what they were when they were attached?
 *
 * Process: any backend, and the worker; inside a transaction.
 */
#ifndef PEMS_APP_TABLES_H
#define PEMS_APP_TABLES_H

#include "postgres.h"

/* organization, pfa_mirror and pfa_modification */
#define PEMS_APP_TABLE_COUNT 3
extern const char *const pems_app_tables[PEMS_APP_TABLE_COUNT];

/*
 * Are they, in that schema, ordinary tables with the columns and types that pems_attach() demands?
 * Their owner could put a view in the place of one, or give a column a type of his own with a cast
 * of his own: functions of his that would run with the rights of pems_sync_worker.  The same is
 * true of a child table, and of the functions in expressions of indexes and statistics, which the
 * planner calls.  So everything of ours asks before it names one of these tables.  Locks them
 * (ACCESS SHARE) until the transaction ends.
 *
 * Cheap when nothing was changed since the last call: the answer is kept until the server says that
 * one of them was.
 */
extern bool pems_app_tables_are_intact(Oid schema);

#endif /* PEMS_APP_TABLES_H */
