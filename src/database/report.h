/*
 * database/report.h
 *		Reports as values of the SQL type _pems_report.
 *
 * Process: the background worker; inside a transaction.
 */
#ifndef PEMS_REPORT_H
#define PEMS_REPORT_H

#include "postgres.h"

#include "database/database.h"

/*
 * Find the type in that schema, and its attributes by name; call it when the extension was found.
 * Errors: the type is missing; an attribute is missing, has another type, or is one that is not
 * known here.
 */
extern void pems_report_find_type(Oid schema);
/* The type that was found, and that of its arrays. */
extern Oid pems_report_type(void);
extern Oid pems_report_array_type(void);

/* Palloc'ed in the current memory context. */
extern Datum pems_report_value(const PemsReport *report);
extern Datum pems_report_array(PemsReport *const *reports, int count);

#endif /* PEMS_REPORT_H */
