/*
 * database/transaction.h
 *		The worker's transactions: one way to begin, end and fail for all of them.
 *
 * Process: the background worker; never inside a transaction.  What a transaction is about stands
 * in setup.c, exchange.c, claim.c, recording.c and housekeeping.c; what other
 * folders call is in database.h.
 */
#ifndef PEMS_TRANSACTION_H
#define PEMS_TRANSACTION_H

#include "postgres.h"

#include "database/database.h"

/* Which tables the work of a transaction names. */
typedef enum PemsTables
{
	PEMS_TABLES_OURS,       /* only those of the extension */
	PEMS_TABLES_APPLICATION /* also those of the application: they are looked at first */
} PemsTables;

/* A piece of work inside a transaction, connected to SPI, with a snapshot. */
typedef void (*PemsWork)(void *argument);

/*
 * Run work in a transaction of its own; activity is what pg_stat_activity shows meanwhile.  An
 * ERROR in work aborts that transaction only, and comes back as a status; pems_database_problem()
 * has its message.  The current memory context is the same before and after; inside work it is
 * SPI's.
 */
extern PemsDatabaseStatus pems_transaction_run(const char *activity, PemsTables tables,
											   PemsWork work, void *argument);

/* Inside work: the schema that the extension is in. */
extern Oid pems_transaction_schema(void);

/*
 * Inside work, around a statement that writes so many rows of the application's tables: whatever
 * the application hung on them is canceled when it takes too long (PEMS_DATABASE_SLOW).
 */
extern void pems_transaction_begin_timed_write(int rows);
extern void pems_transaction_end_timed_write(void);

#endif /* PEMS_TRANSACTION_H */
