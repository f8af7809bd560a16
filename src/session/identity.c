/*
 * session/identity.c
 *		Ids: of rows, of the caller, of this cluster and database.
 *
 * Process: any backend.
 */
#include "postgres.h"

#include <sys/time.h>

#include "access/xlog.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "database/app_owner.h"

PG_FUNCTION_INFO_V1(pems_api_uuid);
PG_FUNCTION_INFO_V1(pems_api_caller);
PG_FUNCTION_INFO_V1(pems_api_cluster);
PG_FUNCTION_INFO_V1(pems_api_database_id);

/*
 * The time part of a version 7 UUID (RFC 9562, method 3): milliseconds in 48 bits and the rest
 * of the microsecond in 12, never going back within a process.
 */
static int64
next_uuid_time(void)
{
	static int64 last = 0;
	struct timeval now;
	int64 time;

	gettimeofday(&now, NULL);
	time = ((int64) now.tv_sec * 1000 + now.tv_usec / 1000) * 4096 +
		   (int64) (now.tv_usec % 1000) * 4096 / 1000;
	last = Max(time, last + 1);
	return last;
}

/*
 * pems_api_uuid(): _pems_uuid()
 *		A UUID of version 7.  Those that one process makes are in the order in which it made them.
 *
 * Returns: its text, in lower case.
 * Errors: XX000 when the system has no random bytes.
 */
Datum
pems_api_uuid(PG_FUNCTION_ARGS)
{
	int64 time = next_uuid_time();
	uint64 random;

	if (!pg_strong_random(&random, sizeof(random)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random bytes"),
						errhint("Try again.")));
	PG_RETURN_TEXT_P(cstring_to_text(psprintf(
		"%08x-%04x-7%03x-%04x-%012llx", (uint32) (time >> 28), (uint32) (time >> 12) & 0xFFFF,
		(uint32) (time & 0xFFF), (uint32) (0x8000 | (random >> 50)),
		(unsigned long long) (random & UINT64CONST(0xFFFFFFFFFFFF)))));
}

/*
 * pems_api_caller(): _pems_caller()
 *		Who calls.  SET ROLE counts, SECURITY DEFINER does not: that is what "outer user" means.  A
 *		trigger that runs while we write the application's tables calls in the name of whom we write
 *		them as: their owner, as a rule.
 *
 * Returns: the role's name.
 */
Datum
pems_api_caller(PG_FUNCTION_ARGS)
{
	Oid acting = pems_app_owner_acting();
	Oid caller = OidIsValid(acting) ? acting : GetOuterUserId();

	PG_RETURN_TEXT_P(cstring_to_text(GetUserNameFromId(caller, false)));
}

/*
 * pems_api_cluster(): _pems_cluster()
 *		Which database of which cluster this is: a restored copy has another text.
 *
 * Returns: "<system identifier>:<oid of the database>".
 */
Datum
pems_api_cluster(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(
		cstring_to_text(psprintf(UINT64_FORMAT ":%u", GetSystemIdentifier(), MyDatabaseId)));
}

/*
 * pems_api_database_id(): _pems_database_id()
 *		The same as a number, for each item of the queue.
 *
 * Returns: a hash of system identifier and oid, 64 bits.
 */
Datum
pems_api_database_id(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64((int64) hash_combine64(GetSystemIdentifier(), MyDatabaseId));
}
