/*
 * database/guard.c
 *		Functions of other people do not run with our rights.
 *
 * Process: every process that has loaded the library.  Holds no state but the hooks that were set
 * before ours.
 *
 * What is guarded: the rights of pems_sync_worker, as whom the worker and most functions of the
 * extension run; and the rights of a superuser inside those functions of ours that run as their
 * owner, a superuser.  Such functions set pems_sync.guarded while they run.
 *
 * Against what: whoever owns a table can make everybody who reads it call functions of his.  The
 * planner evaluates what is constant in expressions of indexes, statistics and constraints, and
 * the owner may have put a view in the table's place.  We check the tables of the application
 * before we read them (app_tables.c), but their owner may change them right after that: CREATE
 * STATISTICS does not wait for our locks.
 *
 * How: with these rights only functions run that belong to PostgreSQL, to a superuser, to
 * pems_sync_worker or to the extension.  Any other is refused when it is called, before its first
 * statement.  A function that is SECURITY DEFINER may run: it has the rights of its owner, not
 * ours.
 *
 * Some functions of PostgreSQL itself run SQL that they are given as text, or read a view that
 * they are given by name.  Our own SQL calls none of them, so they are refused, too.
 *
 * Besides, an index of ours cannot be dropped with DROP INDEX CONCURRENTLY, except by a
 * superuser.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/objectaccess.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "database/extension.h"
#include "database/guard.h"
#include "shared/settings.h"

PG_FUNCTION_INFO_V1(pems_guard_demand);

static needs_fmgr_hook_type previous_needs_fmgr_hook = NULL;
static fmgr_hook_type previous_fmgr_hook = NULL;
static object_access_hook_type previous_object_access_hook = NULL;

static const char *
current_role_name(void)
{
	return GetUserNameFromId(GetUserId(), false);
}

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

/* Does this process have rights now with which functions of others must not run? */
static bool
has_guarded_rights(void)
{
	Oid worker;

	if (pems_guarded && superuser())
		return true;
	worker = get_role_oid(PEMS_WORKER_ROLE, true);
	return OidIsValid(worker) && GetUserId() == worker;
}

/* Is that a function of somebody else, which must not run with the rights that we have now? */
static bool
is_refused(Oid function)
{
	Oid owner;
	Oid extension;

	if (function < FirstNormalObjectId || !has_guarded_rights())
		return false;
	owner = owner_of(function);
	if (owner == get_role_oid(PEMS_WORKER_ROLE, true) || superuser_arg(owner))
		return false;
	/* the extension may have been made by a superuser who is none any more */
	extension = getExtensionOfObject(ProcedureRelationId, function);
	return !OidIsValid(extension) || extension != get_extension_oid(PEMS_EXTENSION, true);
}

static bool
needs_our_hook(Oid function)
{
	return (previous_needs_fmgr_hook != NULL && previous_needs_fmgr_hook(function)) ||
		   is_refused(function);
}

/* Before a function runs; we have the rights then that it will run with. */
static void
refuse(FmgrHookEventType event, FmgrInfo *info, Datum *argument)
{
	if (event == FHET_START && is_refused(info->fn_oid))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("function %s may not run with the rights of %s",
							   format_procedure(info->fn_oid), current_role_name()),
						errdetail("It belongs to role \"%s\".",
								  GetUserNameFromId(owner_of(info->fn_oid), false)),
						errhint("Give the table that uses it to that role, or the function to a "
								"superuser who trusts it.")));
	if (previous_fmgr_hook != NULL)
		previous_fmgr_hook(event, info, argument);
}

/* Functions of PostgreSQL that run what somebody gives them as text, or as the name of a view. */
static bool
runs_sql(Oid function)
{
	switch (function)
	{
		case F_QUERY_TO_XML:
		case F_QUERY_TO_XMLSCHEMA:
		case F_QUERY_TO_XML_AND_XMLSCHEMA:
		case F_CURSOR_TO_XML:
		case F_CURSOR_TO_XMLSCHEMA:
		case F_TABLE_TO_XML:
		case F_TABLE_TO_XMLSCHEMA:
		case F_TABLE_TO_XML_AND_XMLSCHEMA:
		case F_SCHEMA_TO_XML:
		case F_SCHEMA_TO_XMLSCHEMA:
		case F_SCHEMA_TO_XML_AND_XMLSCHEMA:
		case F_DATABASE_TO_XML:
		case F_DATABASE_TO_XMLSCHEMA:
		case F_DATABASE_TO_XML_AND_XMLSCHEMA:
		case F_TS_STAT_TEXT:
		case F_TS_STAT_TEXT_TEXT:
		case F_TS_REWRITE_TSQUERY_TEXT:
			return true;
		default:
			return false;
	}
}

/*
 * Called for each function of an expression, before that is evaluated for the first time.  (The
 * hooks of the function manager are not called for functions that are built into the server.)
 */
static void
refuse_built_in(Oid function)
{
	if (runs_sql(function) && has_guarded_rights())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("function %s may not run with the rights of %s",
							   format_procedure(function), current_role_name()),
						errdetail("It runs SQL that it is given."),
						errhint("Take it out of the triggers and expressions of the tables of the "
								"application.")));
}

static bool
is_index_of_ours(Oid relation)
{
	Oid table =
		get_rel_relkind(relation) == RELKIND_INDEX ? IndexGetRelation(relation, true) : InvalidOid;

	if (!OidIsValid(table))
		return false;
	if (get_rel_relispartition(table))
		table = get_partition_parent(table, false);
	return OidIsValid(getExtensionOfObject(RelationRelationId, table)) &&
		   getExtensionOfObject(RelationRelationId, table) ==
			   get_extension_oid(PEMS_EXTENSION, true);
}

/*
 * The owner of the schema may drop indexes in it.  An event trigger undoes that
 * (sql/82_event_triggers.sql), but too late for DROP INDEX CONCURRENTLY, which has committed by
 * then that the index is not used any more.
 */
static void
refuse_concurrent_drop(Oid relation, int flags)
{
	if ((flags & PERFORM_DELETION_CONCURRENTLY) && !superuser() && is_index_of_ours(relation))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("index \"%s\" belongs to pems_sync", get_rel_name(relation)),
						errhint("Only a superuser may drop it.")));
}

static void
look_at_access(ObjectAccessType access, Oid class, Oid object, int column, void *argument)
{
	if (previous_object_access_hook != NULL)
		previous_object_access_hook(access, class, object, column, argument);
	if (access == OAT_FUNCTION_EXECUTE && class == ProcedureRelationId)
		refuse_built_in(object);
	if (access == OAT_DROP && class == RelationRelationId)
		refuse_concurrent_drop(object, ((ObjectAccessDrop *) argument)->dropflags);
}

/*
 * pems_guard_demand(): _pems_demand_guard()
 *		What a function that sets pems_sync.guarded calls first.  Where the library was not
 *		preloaded, the call loads it, and with it the hooks above.
 *
 * Errors: XX000 when the setting is off.
 */
Datum
pems_guard_demand(PG_FUNCTION_ARGS)
{
	if (!pems_guarded)
		elog(ERROR, "pems_sync.guarded is off");
	PG_RETURN_VOID();
}

void
pems_guard_install_hooks(void)
{
	previous_needs_fmgr_hook = needs_fmgr_hook;
	needs_fmgr_hook = needs_our_hook;
	previous_fmgr_hook = fmgr_hook;
	fmgr_hook = refuse;
	previous_object_access_hook = object_access_hook;
	object_access_hook = look_at_access;
}
