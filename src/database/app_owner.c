/*
 * database/app_owner.c
 *		The owner of one of the application's tables, and what is done as that owner.
 *
 * Process: any backend, and the worker.  Runs inside the caller's transaction.  Kept meanwhile: as
 * whom the work is done.
 *
 * An UPDATE runs whatever the application's role hung on its table: triggers, defaults, generated
 * columns, index expressions.  Run with our rights, they could do what we may; run with the
 * owner's, in a security-restricted operation, they can do what the owner could do anyway.  Where
 * the owner is a superuser (somebody else may have been granted TRIGGER on the table) we stay
 * pems_sync_worker, which runs no function of others (guard.c).
 *
 * Such code may call our functions, too.  Whom they take for the caller is the role that it runs
 * as: the session's user, who may be an administrator, has not written it.  Neither has a superuser
 * who owns the table, if others may make triggers on it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "database/app_owner.h"
#include "database/extension.h"

/* As whom the work is done; InvalidOid: there is none. */
static Oid acting = InvalidOid;

Oid
pems_app_owner_acting(void)
{
	return acting;
}

Oid
pems_app_owner_of(const char *table, Oid schema)
{
	Oid relation = get_relname_relid(table, schema);
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("table \"%s\" does not exist in schema \"%s\"", table,
							   pems_schema_name(schema)),
						errhint("Make it again and run pems_attach().")));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * Work may lead here again: a trigger of the owner that calls us.  After an ERROR the end of the
 * transaction, or of the subtransaction, gives back the former rights.
 */
void
pems_app_owner_do(const char *table, Oid schema, PemsOwnersWork work, void *argument)
{
	Oid owner = pems_app_owner_of(table, schema);
	Oid outer = acting;
	Oid saved_user;
	int saved_context;

	GetUserIdAndSecContext(&saved_user, &saved_context);
	acting = superuser_arg(owner) ? saved_user : owner;
	SetUserIdAndSecContext(acting, saved_context | SECURITY_LOCAL_USERID_CHANGE |
									   SECURITY_RESTRICTED_OPERATION);
	PG_TRY();
	{
		work(argument);
	}
	PG_FINALLY();
	{
		acting = outer;
	}
	PG_END_TRY();
	SetUserIdAndSecContext(saved_user, saved_context);
}
