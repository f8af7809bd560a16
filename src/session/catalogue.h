/*
 * session/catalogue.h
 *		The field catalogue, as this process knows it.
 *
 * Process: any backend; inside a transaction.
 */
#ifndef PEMS_CATALOGUE_H
#define PEMS_CATALOGUE_H

#include "postgres.h"

#include "fmgr.h"

#include "record/field.h"

/*
 * The catalogue in the schema of that function, which is the one that SQL has called.  Valid until
 * the next call.  Errors: 22000, what pems_field says cannot be used.
 */
extern const PemsCatalogue *pems_session_catalogue(FmgrInfo *function);

#endif /* PEMS_CATALOGUE_H */
