/*
 * database/extension.c
 *		The schema that the extension is in.
 *
 * Process: any backend, and the worker; inside a transaction.  Holds no state.
 */
#include "postgres.h"

#include "utils/lsyscache.h"

#include "database/extension.h"

char *
pems_schema_name(Oid schema)
{
	char *name = get_namespace_name(schema);

	if (name == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the schema of pems_sync does not exist any more"),
						errdetail("The extension was dropped meanwhile."),
						errhint("Run CREATE EXTENSION pems_sync again.")));
	return name;
}
