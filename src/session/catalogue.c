/*
 * session/catalogue.c
 *		The field catalogue, as this process knows it.
 *
 * Process: any backend.  Memory: the catalogue is malloc'ed, once per process, and freed when it is
 * read anew.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "database/extension.h"
#include "session/catalogue.h"
#include "shared/compat.h"

PG_FUNCTION_INFO_V1(pems_api_forget_catalogue);

/*
 * The catalogue, read once per process.  When a row of pems_field changes, triggers tell all
 * processes that the table was changed (pems_api_forget_catalogue), as the server does for a change
 * of its columns.
 */
static PemsCatalogue catalogue;
/* The table that it was read from; InvalidOid: it was not read, or has been freed. */
static Oid source = InvalidOid;
static bool is_current = false;
/* The only transaction that it is good for; InvalidLocalTransactionId: it is good for all. */
static LocalTransactionId only_for = InvalidLocalTransactionId;
static uint64 change_count = 0;

static void
note_change(Datum argument, Oid relation)
{
	if (OidIsValid(relation) && relation != source)
		return;
	is_current = false;
	change_count++;
}

static char *
read_text(Oid schema)
{
	char *text;
	char *query =
		psprintf("SELECT %s._pems_catalogue()", quote_identifier(pems_schema_name(schema)));
	MemoryContext caller = CurrentMemoryContext;

	SPI_connect();
	/* not read-only: a new snapshot, so that no change that we were told of is missed */
	if (SPI_execute(query, false, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not read the field catalogue");
	text =
		MemoryContextStrdup(caller, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	SPI_finish();
	return text;
}

static void
load(Oid schema, Oid relation)
{
	static bool registered = false;
	const char *problem;
	char *text;
	uint64 changes_before;

	if (!registered)
		CacheRegisterRelcacheCallback(note_change, (Datum) 0);
	registered = true;
	if (OidIsValid(source))
		pems_field_free_catalogue(&catalogue);
	source = InvalidOid;
	changes_before = change_count;
	text = read_text(schema);
	if (!pems_field_read_catalogue(text, strlen(text), &catalogue, &problem))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION), errmsg("the field catalogue cannot be used"),
				 errdetail("%s", problem), errhint("Check the rows of pems_field.")));
	source = relation;
	is_current = changes_before == change_count;
	/* a transaction that keeps its snapshot may have read rows that are old for the next one */
	only_for =
		IsolationUsesXactSnapshot() ? pems_my_local_transaction() : InvalidLocalTransactionId;
}

/*
 * Read anew when it changed.  Whether other sessions have changed it is asked once per statement:
 * the server asks by itself only when a lock is taken, and this transaction may have all of its
 * locks.
 */
const PemsCatalogue *
pems_session_catalogue(FmgrInfo *function)
{
	static TimestampTz asked_in = 0;
	Oid schema = get_func_namespace(function->fn_oid);
	Oid relation = get_relname_relid("pems_field", schema);

	if (asked_in != GetCurrentStatementStartTimestamp())
		AcceptInvalidationMessages();
	asked_in = GetCurrentStatementStartTimestamp();
	if (!is_current || source != relation ||
		(LocalTransactionIdIsValid(only_for) && only_for != pems_my_local_transaction()))
		load(schema, relation);
	return &catalogue;
}

/*
 * pems_api_forget_catalogue(): _pems_forget_catalogue()
 *		This session reads the field catalogue again with its next statement; all other processes do
 *		when the transaction has committed.
 */
Datum
pems_api_forget_catalogue(PG_FUNCTION_ARGS)
{
	CacheInvalidateRelcacheByRelid(
		get_relname_relid("pems_field", get_func_namespace(fcinfo->flinfo->fn_oid)));
	PG_RETURN_VOID();
}
