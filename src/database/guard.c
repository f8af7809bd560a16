/*
 * database/guard.c
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
 *
 * Some functions of PostgreSQL's own run SQL that they get as text, or read a view that they get by
 * name.  We call none of them, so none of them runs.
 *
 * The same holds for a superuser inside the functions of ours that have his rights: they set
 * pems_sync.guarded.
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

#include "database/guard.h"
#include "shared/settings.h"

PG_FUNCTION_INFO_V1(pems_guard_demand);

#define WORKER_ROLE "pems_sync_worker"

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

/* Are we now who must not run code of others? */
static bool
is_armed(void)
{
	Oid worker;

	if (pems_guarded && superuser())
		return true;
	worker = get_role_oid(WORKER_ROLE, true);
	return OidIsValid(worker) && GetUserId() == worker;
}

/* Is that a function that we must not run as who we are now? */
static bool
is_refused(Oid function)
{
	Oid owner;
	Oid extension;

	if (function < FirstNormalObjectId || !is_armed())
		return false;
	owner = owner_of(function);
	if (owner == get_role_oid(WORKER_ROLE, true) || superuser_arg(owner))
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
 * Functions of an expression, before it is first evaluated.  (The hooks of the function manager are
 * not called for functions that are built into the server.)
 */
static void
refuse_built_in(Oid function)
{
	if (runs_sql(function) && is_armed())
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
		   getExtensionOfObject(RelationRelationId, table) == get_extension_oid("pems_sync", true);
}

/*
 * The owner of the schema may drop indexes in it.  An event trigger undoes that
 * (sql/82_event_triggers.sql); DROP INDEX CONCURRENTLY would have switched the index off by then,
 * in transactions of its own.
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
 * pems_guard_demand()
 *		What a function that sets pems_sync.guarded calls first.  Where the library was not
 *preloaded, that loads it, and with it the hooks above.
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
