/*
 * guard.c
 *		No code of others runs with our rights.
 *
 * Process: every process that has loaded the library.  Holds no state but the hooks before ours.
 *
 * Whoever owns a table can make those who merely read it call functions: the planner evaluates what
 * is constant in expressions of indexes, statistics and constraints, and a view may have taken the
 * table's place.  We look at the tables of the application before we read them (host.c), but
 * their owner may be quicker: CREATE STATISTICS waits for no lock of ours.  So, as
 * pems_sync_worker, only functions run that belong to PostgreSQL, to a superuser, or to
 * ourselves; any other is refused before its first statement.  One that is SECURITY DEFINER runs as
 * its owner, and is his business.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/pg_proc.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "guard.h"

#define WORKER_ROLE "pems_sync_worker"

static needs_fmgr_hook_type previous_needs_fmgr_hook = NULL;
static fmgr_hook_type previous_fmgr_hook = NULL;

static Oid
owner_of(Oid function)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* Is that a function that we must not run as who we are now? */
static bool
is_refused(Oid function)
{
	Oid worker;
	Oid owner;
	Oid extension;

	if (function < FirstNormalObjectId)
		return false;
	worker = get_role_oid(WORKER_ROLE, true);
	if (!OidIsValid(worker) || GetUserId() != worker)
		return false;
	owner = owner_of(function);
	if (owner == worker || superuser_arg(owner))
		return false;
	/* the extension may have been made by a superuser who is none any more */
	extension = getExtensionOfObject(ProcedureRelationId, function);
	return !OidIsValid(extension) || extension != get_extension_oid("pems_sync", true);
}

static bool
needs_our_hook(Oid function)
{
	return (previous_needs_fmgr_hook != NULL && previous_needs_fmgr_hook(function)) ||
		   is_refused(function);
}

/* Called when the rights that the function runs with are in force. */
static void
refuse(FmgrHookEventType event, FmgrInfo *info, Datum *argument)
{
	if (event == FHET_START && is_refused(info->fn_oid))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("function %s may not run with the rights of " WORKER_ROLE,
							   format_procedure(info->fn_oid)),
						errdetail("It belongs to role \"%s\".",
								  GetUserNameFromId(owner_of(info->fn_oid), false)),
						errhint("Give the table that uses it to that role, or the function to a "
								"superuser who trusts it.")));
	if (previous_fmgr_hook != NULL)
		previous_fmgr_hook(event, info, argument);
}

void
pems_guard_install_hooks(void)
{
	previous_needs_fmgr_hook = needs_fmgr_hook;
	needs_fmgr_hook = needs_our_hook;
	previous_fmgr_hook = fmgr_hook;
	fmgr_hook = refuse;
}
