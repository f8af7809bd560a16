/*
 * database/outcome.h
 *		Results as values of the SQL type _pems_outcome.
 *
 * Process: the background worker; inside a transaction.
 */
#ifndef PEMS_OUTCOME_H
#define PEMS_OUTCOME_H

#include "postgres.h"

#include "database/queue.h"

/*
 * Find the type in that schema, and its attributes by name; call it when the extension was found.
 * Errors: the type is missing; an attribute is missing, has another type, or is one that is not
 * known here.
 */
extern void pems_outcome_find_type(Oid schema);
/* The type that was found, and that of its arrays. */
extern Oid pems_outcome_type(void);
extern Oid pems_outcome_array_type(void);

/* Palloc'ed in the current memory context. */
extern Datum pems_outcome_value(const PemsResult *result);
extern Datum pems_outcome_array(PemsResult *const *results, int count);

#endif /* PEMS_OUTCOME_H */
