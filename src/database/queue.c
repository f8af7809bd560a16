/*
 * database/queue.c
 *		The worker's transactions.
 *
 * Process: the background worker.  Transactions are short and hold nothing while
 * the network is waited for.  Each begins by locking the extension itself against DROP EXTENSION,
 * which takes that lock first, too: so the two never deadlock half-way, and after the lock it is
 * clear whether the extension is still there.
 *
 * Rights: the process was connected as the bootstrap superuser, which is needed to start
 * without a login role; from pems_queue_open() on, every statement runs as pems_sync_worker in a
 * security-restricted operation, so that nothing that an application's role hangs on its
 * own tables can become more than that.
 *
 * Memory: statements work in SPI's context; what is returned is copied to the
 * context that was current when the function was called.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "database/arrays.h"
#include "shared/compat.h"
#include "shared/failpoint.h"
#include "database/app_tables.h"
#include "database/queue.h"
#include "shared/shmem.h"

#define EXTENSION_NAME "pems_sync"
#define WORKER_ROLE    "pems_sync_worker"

/* How long writing the application's tables may take, and one more for each row; milliseconds. */
#define HOST_WRITE_MS 2000

/* The extension that was found by pems_queue_open(). */
static Oid extension_oid = InvalidOid;
static char extension_schema[NAMEDATALEN];
static Oid outcome_type = InvalidOid;

/* The statements, as plans that are made once.  %s is the schema, quoted. */
typedef enum Statement
{
	STATEMENT_STANDING,
	STATEMENT_ORGANIZATIONS,
	STATEMENT_CATALOGUE,
	STATEMENT_ADOPT,
	STATEMENT_RECORD,
	STATEMENT_PREPARE,
	STATEMENT_FIRST_READY,
	STATEMENT_CLAIM,
	STATEMENT_PUT_OFF,
	STATEMENT_QUARANTINE,
	STATEMENT_MARK_FAILED,
	STATEMENT_NOTIFY,
	STATEMENT_MARK_SYNCING,
	STATEMENT_FOLD,
	STATEMENT_MAKE_PARTITIONS,
	STATEMENT_NOTE_CREDENTIALS,
	STATEMENT_COUNT
} Statement;

static const char *const statement_texts[STATEMENT_COUNT] = {
	[STATEMENT_STANDING] = "SELECT %s._pems_standing()",
	[STATEMENT_ORGANIZATIONS] = "SELECT * FROM %s._pems_organizations()",
	[STATEMENT_CATALOGUE] = "SELECT %s._pems_catalogue()",
	[STATEMENT_ADOPT] = "SELECT %s._pems_adopt()",
	[STATEMENT_RECORD] = "SELECT * FROM %s._pems_record($1, $2, $3)",
	[STATEMENT_PREPARE] = "SELECT %s._pems_prepare()",
	[STATEMENT_FIRST_READY] = "SELECT * FROM %s._pems_first_ready($1, $2, $3)",
	[STATEMENT_CLAIM] = "SELECT * FROM %s._pems_claim($1, $2, $3, $4)",
	[STATEMENT_PUT_OFF] = "SELECT * FROM %s._pems_put_off_first($1, $2, $3, $4)",
	[STATEMENT_QUARANTINE] = "SELECT %s._pems_quarantine($1, $2)",
	[STATEMENT_MARK_FAILED] = "SELECT %s._pems_mark_failed($1)",
	[STATEMENT_NOTIFY] = "SELECT %s._pems_send_notifications($1)",
	[STATEMENT_MARK_SYNCING] = "SELECT %s._pems_mark_syncing($1)",
	[STATEMENT_FOLD] = "SELECT %s._pems_fold_stats()",
	[STATEMENT_MAKE_PARTITIONS] = "SELECT %s._pems_make_audit_partitions()",
	[STATEMENT_NOTE_CREDENTIALS] = "SELECT %s._pems_note_credentials($1, $2, $3)",
};

static SPIPlanPtr plans[STATEMENT_COUNT];

/* What the last transaction that failed said. */
static char problem[1024];

/* A piece of work inside a transaction. */
typedef void (*Work)(void *argument);

static void
forget_plans(void)
{
	for (int i = 0; i < STATEMENT_COUNT; i++)
	{
		if (plans[i] != NULL)
			SPI_freeplan(plans[i]);
		plans[i] = NULL;
	}
}

static void
begin(const char *activity)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	pgstat_report_activity(STATE_RUNNING, activity);
}

static void
commit(void)
{
	CommitTransactionCommand();
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* Is the extension that was opened still the one that is installed?  Holds its lock if so. */
static bool
lock_extension(void)
{
	if (!OidIsValid(extension_oid))
		return false;
	LockDatabaseObject(ExtensionRelationId, extension_oid, 0, AccessShareLock);
	return get_extension_oid(EXTENSION_NAME, true) == extension_oid;
}

static bool
worth_repeating(int sqlstate)
{
	return sqlstate == ERRCODE_LOCK_NOT_AVAILABLE || sqlstate == ERRCODE_T_R_DEADLOCK_DETECTED ||
		   sqlstate == ERRCODE_T_R_SERIALIZATION_FAILURE ||
		   ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_INSUFFICIENT_RESOURCES;
}

/* --- how long writes to the application's tables may take --- */

static bool host_write_is_timed = false;

/* Whatever the application hung on its tables runs now: for so long, and no longer. */
static void
begin_host_write(int rows)
{
	enable_timeout_after(STATEMENT_TIMEOUT, HOST_WRITE_MS + rows);
	host_write_is_timed = true;
}

static void
forget_host_write_timer(void)
{
	if (host_write_is_timed)
		disable_timeout(STATEMENT_TIMEOUT, false);
	host_write_is_timed = false;
	QueryCancelPending = false;
}

/* From here on nothing is canceled any more, least of all the commit. */
static void
end_host_write(void)
{
	CHECK_FOR_INTERRUPTS();
	forget_host_write_timer();
}

/* In PG_CATCH: was it the timer that ended the work?  (Whoever else cancels is not heard.) */
static bool
took_too_long(int sqlstate)
{
	return sqlstate == ERRCODE_QUERY_CANCELED && host_write_is_timed &&
		   !get_timeout_active(STATEMENT_TIMEOUT);
}

/* Cut where a character ends: what becomes of it is stored in the database. */
static void
remember_problem(const char *text)
{
	pems_shmem_copy_text(problem, text, sizeof(problem));
}

/* In PG_CATCH: remembers what the error said, and leaves the transaction behind. */
static PemsQueueStatus
abandon(MemoryContext caller)
{
	ErrorData *data;
	PemsQueueStatus status;
	bool slow;

	MemoryContextSwitchTo(caller);
	data = CopyErrorData();
	slow = took_too_long(data->sqlerrcode);
	forget_host_write_timer();
	HOLD_INTERRUPTS();
	AbortCurrentTransaction();
	FlushErrorState();
	RESUME_INTERRUPTS();
	MemoryContextSwitchTo(caller);
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);

	remember_problem(slow ? psprintf("Writing the application's tables took longer than %d s.",
									 HOST_WRITE_MS / 1000)
						  : psprintf("%s%s%s", data->message, data->detail ? " " : "",
									 data->detail ? data->detail : ""));
	status = slow                                ? PEMS_QUEUE_SLOW
			 : worth_repeating(data->sqlerrcode) ? PEMS_QUEUE_BUSY
												 : PEMS_QUEUE_ERROR;
	FreeErrorData(data);
	return status;
}

/* Does the work name tables of the application? */
typedef enum Touches
{
	TOUCHES_OURS,
	TOUCHES_HOST
} Touches;

static Oid
schema_oid(void)
{
	return get_namespace_oid(extension_schema, true);
}

static PemsQueueStatus
do_work(Touches touches, Work work, void *argument)
{
	PemsQueueStatus status = PEMS_QUEUE_OK;

	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (touches == TOUCHES_OURS || pems_host_is_intact(schema_oid()))
		work(argument);
	else
	{
		strlcpy(problem, "They are not as they were when they were attached; see pems_attach().",
				sizeof(problem));
		status = PEMS_QUEUE_CHANGED;
	}
	PopActiveSnapshot();
	SPI_finish();
	return status;
}

/* Run work in a transaction of its own. */
static PemsQueueStatus
in_transaction(const char *activity, Touches touches, Work work, void *argument)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile PemsQueueStatus status = PEMS_QUEUE_OK;

	PG_TRY();
	{
		begin(activity);
		status = lock_extension() ? do_work(touches, work, argument) : PEMS_QUEUE_GONE;
		commit();
	}
	PG_CATCH();
	{
		status = abandon(caller);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return status;
}

const char *
pems_queue_problem(void)
{
	return problem;
}

/* --- statements --- */

static void
run(Statement statement, int argument_count, Oid *types, Datum *values, const char *nulls)
{
	int code;

	if (plans[statement] == NULL)
	{
		char *text = psprintf(statement_texts[statement], quote_identifier(extension_schema));
		SPIPlanPtr plan = SPI_prepare(text, argument_count, types);

		if (plan == NULL)
			elog(ERROR, "could not prepare \"%s\": %s", text, SPI_result_code_string(SPI_result));
		SPI_keepplan(plan);
		plans[statement] = plan;
	}
	code = SPI_execute_plan(plans[statement], values, nulls, false, 0);
	if (code != SPI_OK_SELECT)
		elog(ERROR, "statement %d of the queue failed: %s", statement,
			 SPI_result_code_string(code));
}

/* A result row, taken apart once: columns behind one of variable length are found by walking there.
 */
typedef struct Row
{
	TupleDesc descriptor;
	Datum *values;
	bool *nulls;
} Row;

static Row
row_at(uint64 number)
{
	Row row = {.descriptor = SPI_tuptable->tupdesc};

	row.values = palloc(sizeof(Datum) * row.descriptor->natts);
	row.nulls = palloc(sizeof(bool) * row.descriptor->natts);
	heap_deform_tuple(SPI_tuptable->vals[number], row.descriptor, row.values, row.nulls);
	return row;
}

/* Columns are counted from 1. */
static int64
integer_of(const Row *row, int column, int64 if_null)
{
	if (row->nulls[column - 1])
		return if_null;
	return SPI_gettypeid(row->descriptor, column) == INT4OID
			   ? DatumGetInt32(row->values[column - 1])
			   : DatumGetInt64(row->values[column - 1]);
}

static bool
boolean_of(const Row *row, int column)
{
	return !row->nulls[column - 1] && DatumGetBool(row->values[column - 1]);
}

/* A text or jsonb column as a C string in that context; NULL for SQL's NULL. */
static char *
text_of(MemoryContext context, const Row *row, int column)
{
	Datum value = row->values[column - 1];
	MemoryContext caller;
	char *copy;

	if (row->nulls[column - 1])
		return NULL;
	caller = MemoryContextSwitchTo(context);
	if (SPI_gettypeid(row->descriptor, column) == JSONBOID)
	{
		Jsonb *json = DatumGetJsonbP(value);

		copy = JsonbToCString(NULL, &json->root, VARSIZE(json));
	}
	else
		copy = TextDatumGetCString(value);
	MemoryContextSwitchTo(caller);
	return copy;
}

static ArrayType *
text_array(const char *const *texts, int count)
{
	Datum *values = palloc(sizeof(Datum) * Max(count, 1));

	for (int i = 0; i < count; i++)
		values[i] = CStringGetTextDatum(texts[i]);
	return construct_array(values, count, TEXTOID, -1, false, TYPALIGN_INT);
}

/* A column of type text[] as C strings in that context. */
static PemsTexts
texts_of(MemoryContext context, const Row *row, int column)
{
	PemsTexts texts = {NULL, 0};
	MemoryContext caller;
	Datum *elements;

	if (row->nulls[column - 1])
		return texts;
	deconstruct_array(DatumGetArrayTypeP(row->values[column - 1]), TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, NULL, &texts.count);
	caller = MemoryContextSwitchTo(context);
	texts.texts = palloc(sizeof(char *) * Max(texts.count, 1));
	for (int i = 0; i < texts.count; i++)
		texts.texts[i] = TextDatumGetCString(elements[i]);
	MemoryContextSwitchTo(caller);
	return texts;
}

/* --- plans and table sizes --- */

/* The tables that the worker's statements join; a plan is only as good as their sizes when it was
 * made. */
static const char *const sized_tables[] = {"pfa_write_queue", "pfa_modification", "pfa_mirror",
										   "pems_mirror_version"};

/*
 * A table of fewer blocks is small, however much it grows: whatever a plan reads of it costs less
 * than planning anew, which takes longer than sending an edit.
 */
#define SMALL_TABLE_BLOCKS 32

/*
 * Plans are kept for the life of the process, and one that was made while a table was
 * empty may read all of some index later on.  So all plans are made anew when a table has
 * doubled, or shrunk to a quarter, since.
 */
static void
renew_plans_if_sizes_changed(void)
{
	static BlockNumber planned[lengthof(sized_tables)];
	Oid schema = schema_oid();
	bool changed = false;

	for (int i = 0; i < (int) lengthof(sized_tables); i++)
	{
		Oid oid = get_relname_relid(sized_tables[i], schema);
		Relation relation = OidIsValid(oid) ? try_relation_open(oid, AccessShareLock) : NULL;
		BlockNumber blocks;

		if (relation == NULL)
			continue;
		blocks = Max(RelationGetNumberOfBlocks(relation), SMALL_TABLE_BLOCKS);
		relation_close(relation, NoLock);
		if (blocks <= planned[i] * 2 && blocks >= planned[i] / 4)
			continue;
		planned[i] = blocks;
		changed = true;
	}
	if (changed)
		ResetPlanCache();
}

/* --- open --- */

static void
enter_worker_role(void)
{
	Oid role = get_role_oid(WORKER_ROLE, false);

	SetUserIdAndSecContext(role, SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
}

/*
 * The extension that is installed, with its lock; InvalidOid: there is none.  Without the lock it
 * may be gone before its schema is looked up.
 */
static Oid
lock_installed_extension(void)
{
	Oid oid = get_extension_oid(EXTENSION_NAME, true);

	if (!OidIsValid(oid))
		return InvalidOid;
	LockDatabaseObject(ExtensionRelationId, oid, 0, AccessShareLock);
	return get_extension_oid(EXTENSION_NAME, true) == oid ? oid : InvalidOid;
}

static void
find_extension(void)
{
	Oid oid = lock_installed_extension();
	Oid schema;

	extension_oid = InvalidOid;
	forget_plans();
	if (!OidIsValid(oid))
		return;
	schema = pems_extension_schema(oid);
	strlcpy(extension_schema, get_namespace_name(schema), NAMEDATALEN);
	outcome_type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("_pems_outcome"),
								   ObjectIdGetDatum(schema));
	if (!OidIsValid(outcome_type))
		elog(ERROR, "extension " EXTENSION_NAME " has no type _pems_outcome");
	enter_worker_role();
	extension_oid = oid;
}

PemsQueueStatus
pems_queue_open(void)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile PemsQueueStatus status = PEMS_QUEUE_OK;

	PG_TRY();
	{
		begin("looking for the extension");
		find_extension();
		status = OidIsValid(extension_oid) ? PEMS_QUEUE_OK : PEMS_QUEUE_GONE;
		commit();
	}
	PG_CATCH();
	{
		status = abandon(caller);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	return status;
}

/* --- setup --- */

typedef struct SetupWork
{
	MemoryContext context;
	PemsQueueSetup *setup;
} SetupWork;

static PemsStanding
read_standing(void)
{
	char *word;

	if (!pems_host_is_intact(schema_oid()))
		return PEMS_STANDING_NOT_ATTACHED;
	run(STATEMENT_STANDING, 0, NULL, NULL, NULL);
	word = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (strcmp(word, "ok") == 0)
		return PEMS_STANDING_OK;
	return strcmp(word, "copy") == 0 ? PEMS_STANDING_COPY : PEMS_STANDING_NOT_ATTACHED;
}

static void
read_organization(MemoryContext context, uint64 number, PemsQueueOrganization *organization)
{
	Row row = row_at(number);
	bytea *sealed = DatumGetByteaPP(row.values[4]);

	organization->id = text_of(context, &row, 1);
	organization->code = text_of(context, &row, 2);
	organization->api_url = text_of(context, &row, 3);
	organization->endpoint = text_of(context, &row, 4);
	organization->sealed_length = VARSIZE_ANY_EXHDR(sealed);
	organization->sealed = MemoryContextAlloc(context, organization->sealed_length + 1);
	memcpy(organization->sealed, VARDATA_ANY(sealed), organization->sealed_length);
	organization->key_id = text_of(context, &row, 6);
	organization->generation = integer_of(&row, 7, 0);
}

static void
read_setup(void *argument)
{
	SetupWork *work = argument;
	PemsQueueSetup *setup = work->setup;
	Row catalogue;

	setup->standing = read_standing();
	run(STATEMENT_CATALOGUE, 0, NULL, NULL, NULL);
	catalogue = row_at(0);
	setup->catalogue = text_of(work->context, &catalogue, 1);
	setup->organization_count = 0;
	setup->organizations = NULL;
	if (setup->standing != PEMS_STANDING_OK)
		return; /* the table organization may not even exist */
	run(STATEMENT_ORGANIZATIONS, 0, NULL, NULL, NULL);
	setup->organizations =
		MemoryContextAlloc(work->context, sizeof(PemsQueueOrganization) * Max(SPI_processed, 1));
	for (uint64 row = 0; row < SPI_processed; row++)
		read_organization(work->context, row, &setup->organizations[setup->organization_count++]);
}

PemsQueueStatus
pems_queue_read_setup(PemsQueueSetup *setup)
{
	SetupWork work = {CurrentMemoryContext, setup};

	return in_transaction("reading credentials and the field catalogue", TOUCHES_OURS, read_setup,
						  &work);
}

/* --- adopt, maintain, mark --- */

static void
adopt(void *argument)
{
	Row row;

	run(STATEMENT_ADOPT, 0, NULL, NULL, NULL);
	row = row_at(0);
	*(int *) argument = (int) integer_of(&row, 1, 0);
}

PemsQueueStatus
pems_queue_adopt(int *adopted)
{
	return in_transaction("taking up what the last worker left", TOUCHES_OURS, adopt, adopted);
}

static void
fold(void *argument)
{
	Row row;

	run(STATEMENT_FOLD, 0, NULL, NULL, NULL);
	row = row_at(0);
	*(bool *) argument = boolean_of(&row, 1);
}

PemsQueueStatus
pems_queue_fold(bool *more)
{
	*more = false;
	return in_transaction("folding statistics", TOUCHES_OURS, fold, more);
}

static void
make_partitions(void *argument)
{
	run(STATEMENT_MAKE_PARTITIONS, 0, NULL, NULL, NULL);
}

PemsQueueStatus
pems_queue_make_partitions(void)
{
	return in_transaction("making partitions of the audit log", TOUCHES_OURS, make_partitions,
						  NULL);
}

typedef struct MarkWork
{
	const char *const *item_ids;
	int count;
} MarkWork;

static void
mark_syncing(void *argument)
{
	MarkWork *work = argument;
	Oid types[] = {TEXTARRAYOID};
	Datum values[] = {PointerGetDatum(text_array(work->item_ids, work->count))};

	begin_host_write(work->count);
	run(STATEMENT_MARK_SYNCING, 1, types, values, NULL);
	end_host_write();
}

PemsQueueStatus
pems_queue_mark_syncing(const char *const *item_ids, int count)
{
	MarkWork work = {item_ids, count};

	return in_transaction("marking slow requests", TOUCHES_HOST, mark_syncing, &work);
}

typedef struct NoteWork
{
	const PemsCredentialNote *notes;
	int count;
} NoteWork;

static void
note_credentials(void *argument)
{
	NoteWork *work = argument;
	const char **columns[3];
	Oid types[] = {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID};
	Datum values[3];

	for (int column = 0; column < 3; column++)
		columns[column] = palloc(sizeof(char *) * work->count);
	for (int i = 0; i < work->count; i++)
	{
		columns[0][i] = work->notes[i].organization_id;
		columns[1][i] = work->notes[i].state;
		columns[2][i] = work->notes[i].problem ? work->notes[i].problem : "";
	}
	for (int column = 0; column < 3; column++)
		values[column] = PointerGetDatum(text_array(columns[column], work->count));
	run(STATEMENT_NOTE_CREDENTIALS, 3, types, values, NULL);
}

PemsQueueStatus
pems_queue_note_credentials(const PemsCredentialNote *notes, int count)
{
	NoteWork work = {notes, count};

	return in_transaction("noting the states of credentials", TOUCHES_OURS, note_credentials,
						  &work);
}

/* --- record --- */

/* A row of _pems_outcome under construction; the order of the calls is the type's. */
typedef struct OutcomeRow
{
	int next;
	Datum values[35];
	bool nulls[35];
} OutcomeRow;

static void
add_datum(OutcomeRow *row, Datum value, bool isnull)
{
	row->values[row->next] = value;
	row->nulls[row->next] = isnull;
	row->next++;
}

static void
add_text(OutcomeRow *row, const char *text)
{
	add_datum(row, text ? CStringGetTextDatum(text) : (Datum) 0, text == NULL);
}

static void
add_json(OutcomeRow *row, const char *json)
{
	add_datum(row, json ? DirectFunctionCall1(jsonb_in, CStringGetDatum(json)) : (Datum) 0,
			  json == NULL);
}

static void
add_integer(OutcomeRow *row, int64 value, bool isnull)
{
	add_datum(row, Int32GetDatum((int32) value), isnull);
}

static void
add_item(OutcomeRow *row, const PemsItem *item)
{
	add_text(row, item->id);
	add_text(row, item->organization_id);
	add_text(row, item->pfa_id);
	add_text(row, item->modification_id);
	add_text(row, item->job_id);
	add_text(row, item->created_by);
	add_text(row, item->change_reason);
	add_datum(row, Int64GetDatum(item->claim_token), false);
	add_integer(row, item->attempt, false);
	add_text(row, pems_transition_step_name(item->step));
	add_datum(row, BoolGetDatum(item->outcome_unknown), false);
}

static void
add_item_state(OutcomeRow *row, const PemsResult *result)
{
	const PemsTransition *t = &result->transition;

	add_text(row, pems_transition_status_name(t->status));
	add_text(row, pems_transition_step_name(t->next));
	add_datum(row, BoolGetDatum(t->outcome_unknown), false);
	add_datum(row, Int64GetDatum(t->delay_ms), t->delay_ms == 0);
	add_integer(row, t->retry_count, false);
	add_integer(row, t->rounds, false);
}

static void
add_mirror(OutcomeRow *row, const PemsResult *result)
{
	const PemsItem *item = result->item;

	add_integer(row, item->mirror_version, item->mirror_version == PEMS_NO_VERSION);
	add_integer(row, result->pems_version, result->pems_version == PEMS_NO_VERSION);
	add_integer(row, result->known_version, result->known_version == PEMS_NO_VERSION);
	add_json(row, result->mirror_data);
	add_json(row, result->mirror_patch);
	add_datum(row, BoolGetDatum(result->transition.mirror_is_deleted), false);
}

static void
add_audit_line(OutcomeRow *row, const PemsResult *result)
{
	add_text(row, result->event_type);
	add_text(row, result->http_method);
	add_text(row, result->path);
	add_integer(row, result->http_status, result->http_status == 0);
	add_datum(row, Float8GetDatum(result->latency_ms), result->http_method == NULL);
	add_json(row, result->request);
	add_json(row, result->response);
}

static Datum
outcome_datum(TupleDesc descriptor, const PemsResult *result)
{
	OutcomeRow row = {0};

	add_item(&row, result->item);
	add_item_state(&row, result);
	add_mirror(&row, result);
	add_text(&row, result->conflict_kind);
	add_json(&row, result->conflict_fields);
	add_text(&row, result->error_code);
	add_text(&row, result->error);
	add_audit_line(&row, result);
	add_datum(&row, BoolGetDatum(result->transition.pause_organization), false);
	if (row.next != descriptor->natts)
		elog(ERROR, "type _pems_outcome has %d attributes, not %d", descriptor->natts, row.next);
	return HeapTupleGetDatum(heap_form_tuple(descriptor, row.values, row.nulls));
}

/* The statement answers with the ids of the items that are done with, in the results' order. */
static void
read_recorded(MemoryContext context, PemsExchange *exchange)
{
	Row row = row_at(0);
	PemsTexts ids = texts_of(CurrentMemoryContext, &row, 1);
	int next = 0;

	for (int i = 0; i < exchange->result_count; i++)
	{
		exchange->recorded[i] =
			next < ids.count && strcmp(ids.texts[next], exchange->results[i]->item->id) == 0;
		if (exchange->recorded[i])
			next++;
	}
	exchange->messages = texts_of(context, &row, 2);
}

static void
record(MemoryContext context, PemsExchange *exchange)
{
	TupleDesc descriptor = BlessTupleDesc(lookup_rowtype_tupdesc_copy(outcome_type, -1));
	Datum *outcomes = palloc(sizeof(Datum) * exchange->result_count);
	Oid types[] = {get_array_type(outcome_type), BOOLOID, INT8ARRAYOID};
	Datum values[3];

	for (int i = 0; i < exchange->result_count; i++)
		outcomes[i] = outcome_datum(descriptor, exchange->results[i]);
	values[0] = PointerGetDatum(construct_array(outcomes, exchange->result_count, outcome_type, -1,
												false, TYPALIGN_DOUBLE));
	values[1] = BoolGetDatum(exchange->careful);
	values[2] = PointerGetDatum(pems_bigint_array(exchange->landed, exchange->landed_count));
	begin_host_write(exchange->result_count);
	run(STATEMENT_RECORD, 3, types, values, NULL);
	end_host_write();
	read_recorded(context, exchange);
}

typedef struct QuarantineWork
{
	MemoryContext context;
	const PemsResult *result;
	const char *reason;
	PemsTexts *messages;
} QuarantineWork;

static void
quarantine(void *argument)
{
	QuarantineWork *work = argument;
	TupleDesc descriptor = BlessTupleDesc(lookup_rowtype_tupdesc_copy(outcome_type, -1));
	Oid types[] = {outcome_type, TEXTOID};
	PemsResult bare = *work->result;
	Datum values[2];
	Row row;

	/* what the database refused may be one of these, so they are left out */
	bare.mirror_data = bare.mirror_patch = bare.response = NULL;
	values[0] = outcome_datum(descriptor, &bare);
	values[1] = CStringGetTextDatum(work->reason);
	run(STATEMENT_QUARANTINE, 2, types, values, NULL);
	row = row_at(0);
	*work->messages = texts_of(work->context, &row, 1);
}

PemsQueueStatus
pems_queue_quarantine(const PemsResult *result, const char *reason, PemsTexts *messages)
{
	QuarantineWork work = {CurrentMemoryContext, result, reason, messages};

	return in_transaction("setting an item aside", TOUCHES_OURS, quarantine, &work);
}

static void
mark_failed(void *argument)
{
	const PemsTexts *item_ids = argument;
	Oid types[] = {TEXTARRAYOID};
	Datum values[] = {
		PointerGetDatum(text_array((const char *const *) item_ids->texts, item_ids->count))};

	begin_host_write(item_ids->count);
	run(STATEMENT_MARK_FAILED, 1, types, values, NULL);
	end_host_write();
}

PemsQueueStatus
pems_queue_mark_failed(const char *item_id)
{
	char *id = pstrdup(item_id);
	PemsTexts item_ids = {&id, 1};

	return in_transaction("marking a modification as failed", TOUCHES_HOST, mark_failed, &item_ids);
}

/* --- notify --- */

static void
notify(void *argument)
{
	const PemsTexts *messages = argument;
	Oid types[] = {TEXTARRAYOID};
	Datum values[] = {
		PointerGetDatum(text_array((const char *const *) messages->texts, messages->count))};

	run(STATEMENT_NOTIFY, 1, types, values, NULL);
	PEMS_FAILPOINT("notify_uncommitted");
}

PemsQueueStatus
pems_queue_notify(const PemsTexts *messages)
{
	return in_transaction("telling listeners", TOUCHES_OURS, notify, (void *) messages);
}

/* --- claim --- */

typedef struct ExchangeWork
{
	MemoryContext context;
	PemsExchange *exchange;
} ExchangeWork;

/* Which line a priority stands in: high is 10, normal 0, low -10. */
static int
line_of(int priority)
{
	return priority > 0 ? 0 : priority == 0 ? 1 : 2;
}

/* Columns of _pems_claim(): what may be long. */
static const int long_columns[] = {13, 17, 18, 19, 20, 21, 30};

/* How much memory they take, without reading them. */
static int64
size_of_texts(const Row *row)
{
	int64 size = 0;

	for (int i = 0; i < (int) lengthof(long_columns); i++)
		if (!row->nulls[long_columns[i] - 1])
			size += toast_raw_datum_size(row->values[long_columns[i] - 1]);
	return size;
}

static void
read_texts(const Row *row, PemsItem *item)
{
	item->payload = text_of(item->memory, row, 13);
	item->created_by = text_of(item->memory, row, 17);
	item->change_reason = text_of(item->memory, row, 18);
	item->base_data = text_of(item->memory, row, 19);
	item->own_data = text_of(item->memory, row, 20);
	item->mirror_data = text_of(item->memory, row, 21);
	item->other_bases = text_of(item->memory, row, 30);
}

static void
read_item(MemoryContext context, const Row *row, PemsItem *item)
{
	char *step = text_of(CurrentMemoryContext, row, 6);
	char *operation = text_of(CurrentMemoryContext, row, 5);

	item->memory = AllocSetContextCreate(context, "pems_sync item", ALLOCSET_SMALL_SIZES);
	item->id = text_of(item->memory, row, 1);
	item->claim_token = integer_of(row, 2, 0);
	item->organization_id = text_of(item->memory, row, 3);
	item->pfa_id = text_of(item->memory, row, 4);
	item->is_delete = strcmp(operation, "DELETE") == 0;
	item->step = pems_transition_step(step);
	item->attempt = (int) integer_of(row, 7, 0);
	item->retry_count = (int) integer_of(row, 8, 0);
	item->max_retries = (int) integer_of(row, 9, 0);
	item->rounds = (int) integer_of(row, 10, 0);
	item->outcome_unknown = boolean_of(row, 11);
	item->previous_version = integer_of(row, 12, PEMS_NO_VERSION);
	item->base_version = integer_of(row, 14, PEMS_NO_VERSION);
	item->mirror_version = integer_of(row, 15, PEMS_NO_VERSION);
	item->mirror_deleted = boolean_of(row, 16);
	item->modification_id = text_of(item->memory, row, 22);
	item->job_id = text_of(item->memory, row, 23);
	item->line = line_of((int) integer_of(row, 24, 0));
	item->place.scheduled_at = integer_of(row, 25, 0);
	item->place.commit_seq = integer_of(row, 26, 0);
	item->known_version = integer_of(row, 27, PEMS_NO_VERSION);
	item->base_is_mirror = boolean_of(row, 28);
	item->too_large = boolean_of(row, 29);
}

/* What there is no room for is not read, and goes back into the queue. */
static void
read_items(MemoryContext context, PemsExchange *exchange)
{
	int64 room = exchange->room;

	exchange->item_count = (int) SPI_processed;
	exchange->items = MemoryContextAllocZero(context, sizeof(PemsItem) * Max(SPI_processed, 1));
	for (int i = 0; i < exchange->item_count; i++)
	{
		PemsItem *item = &exchange->items[i];
		Row row = row_at(i);
		int64 size = size_of_texts(&row);

		read_item(context, &row, item);
		item->put_back = size > room && !(exchange->one_fits_always && i == 0);
		if (item->put_back)
			exchange->room_missing = Max(exchange->room_missing, size);
		else
			read_texts(&row, item);
		room -= MemoryContextMemAllocated(item->memory, true);
	}
}

/* Two arrays of what the places consist of. */
static void
place_arrays(const PemsPlace *places, int count, Datum *at, Datum *seq)
{
	Datum *times = palloc(sizeof(Datum) * Max(count, 1));
	int64 *numbers = palloc(sizeof(int64) * Max(count, 1));

	for (int i = 0; i < count; i++)
	{
		times[i] = TimestampTzGetDatum(places[i].scheduled_at);
		numbers[i] = places[i].commit_seq;
	}
	*at = PointerGetDatum(construct_array(times, count, TIMESTAMPTZOID, sizeof(TimestampTz),
										  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	*seq = PointerGetDatum(pems_bigint_array(numbers, count));
}

/*
 * Where nothing is ready: whatever is from now on will be announced.  (This moment and not the end
 * of time, so that a poll finds also what somebody made ready with the triggers off.)
 */
static void
move_to_now(PemsGrant *grant)
{
	TimestampTz now = GetCurrentTransactionStartTimestamp();

	for (int line = 0; line < PEMS_PRIORITIES; line++)
	{
		if (grant->after[line].scheduled_at < now)
			grant->after[line] = (PemsPlace){now, PG_INT64_MIN};
		grant->low_water[line] = grant->after[line];
	}
}

/* The first that is ready, in each line of these grants; they move to just before it. */
static void
look_for_first(PemsGrant **sweeping, int count)
{
	Oid types[] = {TEXTARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID};
	const char **ids = palloc(sizeof(char *) * count);
	PemsPlace *places = palloc(sizeof(PemsPlace) * count * PEMS_PRIORITIES);
	Datum values[3];

	for (int i = 0; i < count; i++)
	{
		ids[i] = sweeping[i]->organization_id;
		memcpy(&places[i * PEMS_PRIORITIES], sweeping[i]->low_water,
			   sizeof(sweeping[i]->low_water));
		move_to_now(sweeping[i]);
	}
	values[0] = PointerGetDatum(text_array(ids, count));
	place_arrays(places, count * PEMS_PRIORITIES, &values[1], &values[2]);
	run(STATEMENT_FIRST_READY, 3, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Row row = row_at(i);
		PemsGrant *grant = sweeping[integer_of(&row, 1, 0) - 1];
		int line = line_of((int) integer_of(&row, 2, 0));

		grant->after[line] = (PemsPlace){integer_of(&row, 3, 0), integer_of(&row, 4, 0) - 1};
		grant->low_water[line] = grant->after[line];
	}
}

static void
sweep(PemsExchange *exchange)
{
	PemsGrant **sweeping = palloc(sizeof(PemsGrant *) * exchange->grant_count);
	int count = 0;

	for (int i = 0; i < exchange->grant_count; i++)
		if (exchange->grants[i].sweep)
			sweeping[count++] = &exchange->grants[i];
	if (count > 0)
		look_for_first(sweeping, count);
}

static void
claim(MemoryContext context, PemsExchange *exchange)
{
	Oid types[] = {TEXTARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID};
	const char **ids = palloc(sizeof(char *) * exchange->grant_count);
	Datum *slots = palloc(sizeof(Datum) * exchange->grant_count);
	PemsPlace *after = palloc(sizeof(PemsPlace) * exchange->grant_count * PEMS_PRIORITIES);
	Datum values[4];

	for (int i = 0; i < exchange->grant_count; i++)
	{
		ids[i] = exchange->grants[i].organization_id;
		slots[i] = Int32GetDatum(exchange->grants[i].slots);
		memcpy(&after[i * PEMS_PRIORITIES], exchange->grants[i].after,
			   sizeof(PemsPlace) * PEMS_PRIORITIES);
	}
	values[0] = PointerGetDatum(text_array(ids, exchange->grant_count));
	values[1] = PointerGetDatum(
		construct_array(slots, exchange->grant_count, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	place_arrays(after, exchange->grant_count * PEMS_PRIORITIES, &values[2], &values[3]);
	run(STATEMENT_CLAIM, 4, types, values, NULL);

	read_items(context, exchange);
}

static void
prepare(PemsExchange *exchange)
{
	Row row;

	run(STATEMENT_PREPARE, 0, NULL, NULL, NULL);
	row = row_at(0);
	exchange->next_due = integer_of(&row, 1, DT_NOEND);
}

static void
do_exchange(void *argument)
{
	ExchangeWork *work = argument;
	PemsExchange *exchange = work->exchange;

	renew_plans_if_sizes_changed();
	if (exchange->result_count > 0)
	{
		record(work->context, exchange);
		PEMS_FAILPOINT("record_uncommitted");
		PEMS_FAILPOINT_IN_COMMIT("record_in_commit");
	}
	if (!exchange->only_record)
		prepare(exchange);
	if (exchange->grant_count > 0)
	{
		sweep(exchange);
		claim(work->context, exchange);
	}
	if (exchange->item_count > 0)
		PEMS_FAILPOINT("claim_uncommitted");
}

PemsQueueStatus
pems_queue_exchange(PemsExchange *exchange)
{
	ExchangeWork work = {CurrentMemoryContext, exchange};

	exchange->recorded = palloc0(sizeof(bool) * Max(exchange->result_count, 1));
	exchange->items = NULL;
	exchange->item_count = 0;
	exchange->room_missing = 0;
	exchange->messages = (PemsTexts){NULL, 0};
	return in_transaction("recording outcomes and claiming items", TOUCHES_HOST, do_exchange,
						  &work);
}

/* --- what cannot be claimed --- */

typedef struct PutOffWork
{
	MemoryContext context;
	const PemsGrant *grant;
	const char *reason;
	PemsPutOff *put_off;
} PutOffWork;

static void
put_off_first(void *argument)
{
	PutOffWork *work = argument;
	Oid types[] = {TEXTOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, TEXTOID};
	Datum values[4];
	Row row;

	values[0] = CStringGetTextDatum(work->grant->organization_id);
	place_arrays(work->grant->after, PEMS_PRIORITIES, &values[1], &values[2]);
	values[3] = CStringGetTextDatum(work->reason);
	run(STATEMENT_PUT_OFF, 4, types, values, NULL);
	row = row_at(0);
	work->put_off->item_id = text_of(work->context, &row, 1);
	work->put_off->failed = boolean_of(&row, 2);
	work->put_off->messages = texts_of(work->context, &row, 3);
}

PemsQueueStatus
pems_queue_put_off_first(const PemsGrant *grant, const char *reason, PemsPutOff *put_off)
{
	PutOffWork work = {CurrentMemoryContext, grant, reason, put_off};

	memset(put_off, 0, sizeof(*put_off));
	return in_transaction("putting an item off", TOUCHES_OURS, put_off_first, &work);
}

typedef struct SkipWork
{
	PemsGrant *grant;
	bool *moved;
} SkipWork;

static void
skip_first(void *argument)
{
	SkipWork *work = argument;
	Oid types[] = {TEXTARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID};
	const char *ids[] = {work->grant->organization_id};
	PemsPlace place = {0, 0};
	int best = PEMS_PRIORITIES;
	Datum values[3];

	values[0] = PointerGetDatum(text_array(ids, 1));
	place_arrays(work->grant->after, PEMS_PRIORITIES, &values[1], &values[2]);
	run(STATEMENT_FIRST_READY, 3, types, values, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Row row = row_at(i);
		int line = line_of((int) integer_of(&row, 2, 0));

		if (line >= best)
			continue;
		best = line;
		place = (PemsPlace){integer_of(&row, 3, 0), integer_of(&row, 4, 0)};
	}
	*work->moved = best < PEMS_PRIORITIES;
	if (*work->moved)
		work->grant->after[best] = place;
}

PemsQueueStatus
pems_queue_skip_first(PemsGrant *grant, bool *moved)
{
	SkipWork work = {grant, moved};

	*moved = false;
	return in_transaction("looking behind an item", TOUCHES_OURS, skip_first, &work);
}
