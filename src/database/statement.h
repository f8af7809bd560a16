/*
 * database/statement.h
 *		Prepared statements: one cache of plans for all that this process runs again and again.
 *
 * A statement is a static variable with its text, the types of its arguments, and the columns of
 * its result that are read.  Its plan is made with the first call and kept for the life of the
 * process.  It is made anew
 *
 * - when the extension is found in another schema than the plan was made for (the extension was
 *   dropped and created again);
 * - when pems_statement_forget_all() was called: the worker has lost the extension, and has found
 *   one again, which may have other types;
 * - when PostgreSQL says that something that the plan names was changed (its own plan cache does
 *   that);
 * - when pems_statement_watch_sizes() finds that a table has grown or shrunk too much;
 * - when SPI answers something else than result: a rule on the table made something else of it.
 *
 * Process: any backend, and the worker; inside a transaction that is connected to SPI.
 * Memory: plans live in SPI's own context until they are forgotten.
 */
#ifndef PEMS_STATEMENT_H
#define PEMS_STATEMENT_H

#include "postgres.h"

#include "executor/spi.h"

#include "database/columns.h"

#define PEMS_MAX_ARGUMENTS 11

typedef struct PemsStatement
{
	const char *table; /* that it writes, for messages; NULL where it calls a function */
	const char *text;  /* each %s, two at most, stands for the schema */
	int result;        /* what SPI must answer, such as SPI_OK_SELECT */
	int argument_count;
	Oid types[PEMS_MAX_ARGUMENTS];
	PemsColumns columns; /* of the result; none where nothing is read */

	/* Kept by statement.c; zero at first. */
	SPIPlanPtr plan;
	Oid schema;  /* that the plan was made for */
	int running; /* calls that have not come back; more than one: a trigger has called us again */
	bool is_listed;
	struct PemsStatement *next;
} PemsStatement;

/*
 * Run it in that schema, with all rows.  nulls: as for SPI_execute_plan(), NULL for none.  The
 * result is in SPI_tuptable and SPI_processed until the next call.
 */
extern void pems_statement_run(PemsStatement *statement, Oid schema, const Datum *values,
							   const char *nulls);
/* A row of the last result, which is of this statement; from 0. */
extern PemsRow pems_statement_row(const PemsStatement *statement, uint64 number);

/* No plan is in use: free them all. */
extern void pems_statement_forget_all(void);
/* Called now and then: have all plans made anew if the tables have changed their size. */
extern void pems_statement_watch_sizes(Oid schema);

#endif /* PEMS_STATEMENT_H */
