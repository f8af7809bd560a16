/*
 * session/api.c
 *		SQL-callable functions: check the arguments, delegate to a room.
 *
 * Process: any backend.  Memory: results are palloc'ed in the caller's context; what the
 * pure rooms malloc is freed before an ERROR can be raised.
 */
#include "postgres.h"

#include <sys/time.h>

#include "access/detoast.h"
#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/acl.h"

#include "sending/health.h"
#include "shared/compat.h"
#include "secrets/key_file.h"
#include "record/field.h"
#include "database/extension.h"
#include "record/json.h"
#include "record/merge.h"
#include "record/number.h"
#include "shared/monotonic.h"
#include "pems/api_url.h"
#include "http/client.h"
#include "pems/protocol.h"
#include "shared/settings.h"
#include "shared/shmem.h"
#include "record/validate.h"

PG_FUNCTION_INFO_V1(pems_api_uuid);
PG_FUNCTION_INFO_V1(pems_api_caller);
PG_FUNCTION_INFO_V1(pems_api_cluster);
PG_FUNCTION_INFO_V1(pems_api_database_id);
PG_FUNCTION_INFO_V1(pems_api_wake);
PG_FUNCTION_INFO_V1(pems_api_announce);
PG_FUNCTION_INFO_V1(pems_api_setting);
PG_FUNCTION_INFO_V1(pems_api_forget_catalogue);
PG_FUNCTION_INFO_V1(pems_api_size);
PG_FUNCTION_INFO_V1(pems_api_check_delta);
PG_FUNCTION_INFO_V1(pems_api_apply_delta);
PG_FUNCTION_INFO_V1(pems_api_has_object);
PG_FUNCTION_INFO_V1(pems_api_restore_delta);
PG_FUNCTION_INFO_V1(pems_api_valid_pfa_id);
PG_FUNCTION_INFO_V1(pems_api_check_api_url);
PG_FUNCTION_INFO_V1(pems_api_public_key);
PG_FUNCTION_INFO_V1(pems_api_worker_state);
PG_FUNCTION_INFO_V1(pems_api_endpoint_states);
PG_FUNCTION_INFO_V1(pems_api_health_check);

/* --- identity --- */

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
 * pems_api_uuid()
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
 * pems_api_caller()
 *		SET ROLE counts, SECURITY DEFINER does not: that is what "outer user" means.
 */
Datum
pems_api_caller(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(GetUserNameFromId(GetOuterUserId(), false)));
}

/*
 * pems_api_cluster()
 */
Datum
pems_api_cluster(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(
		cstring_to_text(psprintf(UINT64_FORMAT ":%u", GetSystemIdentifier(), MyDatabaseId)));
}

/*
 * pems_api_database_id()
 *		System identifier and oid in 64 bits.
 */
Datum
pems_api_database_id(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64((int64) hash_combine64(GetSystemIdentifier(), MyDatabaseId));
}

/*
 * pems_api_wake(configuration)
 */
Datum
pems_api_wake(PG_FUNCTION_ARGS)
{
	pems_shmem_wake_at_commit(PG_GETARG_BOOL(0) ? PEMS_WAKE_WORK | PEMS_WAKE_CONFIG
												: PEMS_WAKE_WORK);
	PG_RETURN_VOID();
}

/*
 * pems_api_announce(organization_id, ready_from)
 */
Datum
pems_api_announce(PG_FUNCTION_ARGS)
{
	pems_shmem_note_ready_at_commit(PG_GETARG_DATUM(0), PG_GETARG_TIMESTAMPTZ(1));
	PG_RETURN_VOID();
}

/*
 * pems_api_setting(name)
 */
Datum
pems_api_setting(PG_FUNCTION_ARGS)
{
	char *name = psprintf("pems_sync.%s", text_to_cstring(PG_GETARG_TEXT_PP(0)));
	const char *value = GetConfigOption(name, false, false);

	PG_RETURN_TEXT_P(cstring_to_text(value));
}

/* --- validation --- */

/*
 * The catalogue, read once per process.  pems_field's triggers invalidate its relation in all
 * processes when a row changes (pems_api_forget_catalogue), as the system does when a table
 * changes.
 */
static PemsCatalogue catalogue;
static Oid catalogue_relation = InvalidOid; /* that it was read from */
static bool catalogue_is_current = false;
static LocalTransactionId catalogue_only_for = InvalidLocalTransactionId; /* or for all */
static uint64 catalogue_invalidations = 0;

static void
forget_catalogue(Datum argument, Oid relation)
{
	if (OidIsValid(relation) && relation != catalogue_relation)
		return;
	catalogue_is_current = false;
	catalogue_invalidations++;
}

static char *
read_catalogue_text(Oid schema)
{
	char *text;
	char *query =
		psprintf("SELECT %s._pems_catalogue()", quote_identifier(pems_schema_name(schema)));
	MemoryContext caller = CurrentMemoryContext;

	SPI_connect();
	/* not read-only: with a snapshot of its own, so that no change that we were told of is missed
	 */
	if (SPI_execute(query, false, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not read the field catalogue");
	text =
		MemoryContextStrdup(caller, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	SPI_finish();
	return text;
}

static void
load_catalogue(Oid schema, Oid relation)
{
	static bool registered = false;
	const char *problem;
	char *text;
	uint64 before;

	if (!registered)
		CacheRegisterRelcacheCallback(forget_catalogue, (Datum) 0);
	registered = true;
	if (OidIsValid(catalogue_relation))
		pems_field_free_catalogue(&catalogue);
	catalogue_relation = InvalidOid;
	before = catalogue_invalidations;
	text = read_catalogue_text(schema);
	if (!pems_field_read_catalogue(text, strlen(text), &catalogue, &problem))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION), errmsg("the field catalogue cannot be used"),
				 errdetail("%s", problem), errhint("Check the rows of pems_field.")));
	catalogue_relation = relation;
	catalogue_is_current = before == catalogue_invalidations;
	/* a transaction with one snapshot may have read what is the past for the next one */
	catalogue_only_for =
		IsolationUsesXactSnapshot() ? pems_my_local_transaction() : InvalidLocalTransactionId;
}

/*
 * Read anew when it changed.  What other sessions changed is heard of once per statement: a
 * transaction that has its locks already would not hear of it before its end.
 */
static const PemsCatalogue *
catalogue_for(FmgrInfo *function)
{
	static TimestampTz asked_in = 0;
	Oid schema = get_func_namespace(function->fn_oid);
	Oid relation = get_relname_relid("pems_field", schema);

	if (asked_in != GetCurrentStatementStartTimestamp())
		AcceptInvalidationMessages();
	asked_in = GetCurrentStatementStartTimestamp();
	if (!catalogue_is_current || catalogue_relation != relation ||
		(LocalTransactionIdIsValid(catalogue_only_for) &&
		 catalogue_only_for != pems_my_local_transaction()))
		load_catalogue(schema, relation);
	return &catalogue;
}

/*
 * pems_api_forget_catalogue()
 */
Datum
pems_api_forget_catalogue(PG_FUNCTION_ARGS)
{
	CacheInvalidateRelcacheByRelid(
		get_relname_relid("pems_field", get_func_namespace(fcinfo->flinfo->fn_oid)));
	PG_RETURN_VOID();
}

/* Bytes of a value that may be stored compressed or elsewhere: it is not fetched for that. */
static int32
size_of(Datum value)
{
	return (int32) (toast_raw_datum_size(value) - VARHDRSZ);
}

/* What the numbers of a jsonb value take when they are written with all their digits. */
typedef struct Numbers
{
	int64 grown; /* bytes more than are stored */
	int digits;  /* of the longest */
} Numbers;

static void
measure_number(Numeric number, Numbers *numbers)
{
	char *text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number)));
	int length = (int) strlen(text);
	int digits = length - (text[0] == '-') - (strchr(text, '.') != NULL);

	numbers->grown += Max(0, length - (int) VARSIZE(number));
	numbers->digits = Max(numbers->digits, digits);
	pfree(text);
}

/* One number after the other, until they have grown by more than most: in all they may take 1 GB.
 */
static Numbers
measure_numbers(Jsonb *value, int64 most)
{
	JsonbIterator *iterator = JsonbIteratorInit(&value->root);
	JsonbIteratorToken token;
	JsonbValue member;
	Numbers numbers = {0};

	while (numbers.grown <= most &&
		   (token = JsonbIteratorNext(&iterator, &member, false)) != WJB_DONE)
	{
		if ((token == WJB_VALUE || token == WJB_ELEM) && member.type == jbvNumeric)
			measure_number(member.val.numeric, &numbers);
		CHECK_FOR_INTERRUPTS();
	}
	return numbers;
}

/*
 * pems_api_size(value, most)
 *		What is larger than most as it is stored is not fetched.
 */
Datum
pems_api_size(PG_FUNCTION_ARGS)
{
	int64 size = size_of(PG_GETARG_DATUM(0));
	int64 most = PG_GETARG_INT64(1);

	if (size <= most)
		size += measure_numbers(PG_GETARG_JSONB_P(0), most - size).grown;
	PG_RETURN_INT32((int32) Min(size, PG_INT32_MAX));
}

/* A jsonb argument in both its forms. */
typedef struct Argument
{
	char *text;            /* palloc'ed; NULL for SQL NULL */
	JsonDocument document; /* root is NULL for SQL NULL, or when problem is set */
	const char *problem;   /* why it cannot be processed, or NULL */
} Argument;

static Argument
read_argument(FunctionCallInfo fcinfo, int number)
{
	Argument argument = {0};
	Jsonb *value;

	if (PG_ARGISNULL(number))
		return argument;
	value = PG_GETARG_JSONB_P(number);
	argument.text = JsonbToCString(NULL, &value->root, VARSIZE(value));
	if (!pems_json_parse(argument.text, strlen(argument.text), &argument.document,
						 &argument.problem))
		argument.document.root = NULL;
	return argument;
}

/* The same for what is to be sent, which may have no number that is too long. */
static Argument
read_delta(FunctionCallInfo fcinfo, int number)
{
	Argument argument = {0};

	if (PG_ARGISNULL(number))
		return argument;
	if (measure_numbers(PG_GETARG_JSONB_P(number), PG_INT32_MAX).digits <= PEMS_NUMBER_MAX_DIGITS)
		return read_argument(fcinfo, number);
	argument.problem = "A number must not have more than 1000 digits";
	return argument;
}

static void
free_argument(Argument *argument)
{
	if (argument->document.root)
		pems_json_free(&argument->document);
	if (argument->text)
		pfree(argument->text);
}

/* {"code": ..., "errors": [...]} as text in a JsonBuffer */
static void
write_findings(const PemsFindings *findings, JsonBuffer *buffer)
{
	pems_json_append_text(buffer, "{\"code\":\"");
	pems_json_append_text(buffer, findings->verdict == PEMS_VERDICT_NOT_AN_OBJECT
									  ? "VALIDATION_FAILED"
									  : pems_validate_code(findings->verdict));
	pems_json_append_text(buffer, "\",\"errors\":[");
	for (size_t i = 0; i < findings->count; i++)
	{
		if (i > 0)
			pems_json_append_text(buffer, ",");
		pems_json_append_string(buffer, findings->errors[i], strlen(findings->errors[i]));
	}
	pems_json_append_text(buffer, "]}");
}

/* The buffer's text as jsonb; frees the buffer also when it cannot be. */
static Datum
take_jsonb(JsonBuffer *buffer)
{
	char *text = buffer->failed ? NULL : pstrdup(buffer->data);

	pems_json_buffer_free(buffer);
	if (text == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(text));
}

/* Appends {code, errors} unless the delta is valid. */
static void
check_delta(const PemsCatalogue *catalogue, const Argument *delta, const Argument *current,
			JsonBuffer *buffer)
{
	const char *problem = delta->problem ? delta->problem : current->problem;
	PemsFindings findings;

	if (problem)
	{
		/* nested too deeply, most likely: one such draft must not stop the others of a commit */
		pems_json_append_text(buffer, "{\"code\":\"VALIDATION_FAILED\",\"errors\":[");
		pems_json_append_string(buffer, problem, strlen(problem));
		pems_json_append_text(buffer, "]}");
		return;
	}
	pems_validate_delta(catalogue, delta->document.root, current->document.root, &findings);
	buffer->failed = findings.failed;
	if (!findings.failed && findings.verdict != PEMS_VERDICT_VALID)
		write_findings(&findings, buffer);
	pems_validate_free(&findings);
}

/*
 * pems_api_check_delta(delta, current)
 *		NULL when valid, otherwise {code, errors}.
 */
Datum
pems_api_check_delta(PG_FUNCTION_ARGS)
{
	const PemsCatalogue *catalogue = catalogue_for(fcinfo->flinfo);
	Argument delta = read_delta(fcinfo, 0);
	Argument current = read_argument(fcinfo, 1);
	JsonBuffer buffer = {0};

	check_delta(catalogue, &delta, &current, &buffer);
	free_argument(&delta);
	free_argument(&current);
	if (buffer.length == 0 && !buffer.failed)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(take_jsonb(&buffer));
}

/* Has the object a member that is an object itself? */
static bool
has_nested_object(Jsonb *object)
{
	JsonbIterator *iterator = JsonbIteratorInit(&object->root);
	JsonbIteratorToken token;
	JsonbValue value;
	bool inside = false;

	while ((token = JsonbIteratorNext(&iterator, &value, inside)) != WJB_DONE)
	{
		if (token == WJB_VALUE && value.type == jbvBinary &&
			JsonContainerIsObject(value.val.binary.data))
			return true;
		inside = true;
	}
	return false;
}

static void
refuse_value(const char *problem)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("JSON value cannot be processed"), errdetail("%s.", problem),
					errhint("Values may be nested %d levels deep.", PEMS_JSON_MAX_DEPTH)));
}

/*
 * pems_api_apply_delta(record, delta)
 */
Datum
pems_api_apply_delta(PG_FUNCTION_ARGS)
{
	Argument record;
	Argument delta;
	JsonBuffer buffer = {0};
	const char *problem;

	if (!JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(1)) || !has_nested_object(PG_GETARG_JSONB_P(1)))
		return DirectFunctionCall2(jsonb_concat, PG_GETARG_DATUM(0), PG_GETARG_DATUM(1));

	record = read_argument(fcinfo, 0);
	delta = read_argument(fcinfo, 1);
	problem = record.problem ? record.problem : delta.problem;
	if (problem == NULL)
		pems_merge_apply(record.document.root, delta.document.root, &buffer);
	free_argument(&record);
	free_argument(&delta);
	if (problem)
		refuse_value(problem);
	PG_RETURN_DATUM(take_jsonb(&buffer));
}

/*
 * pems_api_has_object(delta)
 */
Datum
pems_api_has_object(PG_FUNCTION_ARGS)
{
	Jsonb *delta = PG_GETARG_JSONB_P(0);

	PG_RETURN_BOOL(JB_ROOT_IS_OBJECT(delta) && has_nested_object(delta));
}

/*
 * pems_api_restore_delta(record, old_record)
 */
Datum
pems_api_restore_delta(PG_FUNCTION_ARGS)
{
	const PemsCatalogue *catalogue = catalogue_for(fcinfo->flinfo);
	Argument record = read_argument(fcinfo, 0);
	Argument old_record = read_argument(fcinfo, 1);
	const char *problem = record.problem ? record.problem : old_record.problem;
	JsonBuffer buffer = {0};

	if (problem == NULL)
		pems_merge_restore(catalogue, record.document.root, old_record.document.root, &buffer);
	free_argument(&record);
	free_argument(&old_record);
	if (problem)
		refuse_value(problem);
	PG_RETURN_DATUM(take_jsonb(&buffer));
}

/*
 * pems_api_valid_pfa_id(pfa_id)
 */
Datum
pems_api_valid_pfa_id(PG_FUNCTION_ARGS)
{
	/* what is much too long to be valid is not even fetched */
	PG_RETURN_BOOL(size_of(PG_GETARG_DATUM(0)) <= 1024 &&
				   pems_protocol_valid_pfa_id(text_to_cstring(PG_GETARG_TEXT_PP(0))));
}

/* --- credentials --- */

static char *
take_string(char *text)
{
	char *copy = pstrdup(text ? text : "out of memory");

	free(text);
	return copy;
}

/*
 * pems_api_check_api_url(api_url)
 *		Returns scheme://host:port.  Errors: 22023 with the reason.
 */
Datum
pems_api_check_api_url(PG_FUNCTION_ARGS)
{
	char *url = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char *problem = NULL;
	const char *hint = NULL;
	char *endpoint;

	if (!pems_api_url_check(url, pems_allowed_hosts ? pems_allowed_hosts : "",
							pems_allow_insecure_loopback, &problem, &hint))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("api_url may not be used"),
						errdetail("%s", take_string(problem)), hint ? errhint("%s", hint) : 0));
	endpoint = pems_api_url_endpoint(url);
	if (endpoint == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("api_url may not be used"),
						errdetail("It is not a URL."), errhint("Use https://host/path.")));
	PG_RETURN_TEXT_P(cstring_to_text(take_string(endpoint)));
}

/*
 * pems_api_public_key()
 *		{keyId, publicKey}.  Errors: 55000 when the key file cannot be used.
 */
Datum
pems_api_public_key(PG_FUNCTION_ARGS)
{
	PemsKeyring *keyring = NULL;
	const char *public_key;
	const char *key_id;
	char problem[512];
	JsonBuffer buffer = {0};

	if (!pems_credentials_initialize())
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not initialize cryptography")));
	if (pems_credentials_read_keyring(pems_key_file, &keyring, problem, sizeof(problem)) !=
		PEMS_KEY_OK)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the key file cannot be used"), errdetail("%s", problem),
						errhint("Make one with \"pems-credential keygen FILE\" as the user that "
								"runs the server, and set pems_sync.key_file.")));
	key_id = pems_credentials_current_key(keyring, &public_key);
	pems_json_append_text(&buffer, "{\"keyId\":");
	pems_json_append_string(&buffer, key_id, strlen(key_id));
	pems_json_append_text(&buffer, ",\"publicKey\":");
	pems_json_append_string(&buffer, public_key, strlen(public_key));
	pems_json_append_text(&buffer, "}");
	pems_credentials_free_keyring(keyring);
	PG_RETURN_DATUM(take_jsonb(&buffer));
}

/* --- worker --- */

static Datum
timestamp_or_null(TimestampTz at, bool *isnull)
{
	*isnull = at == 0;
	return TimestampTzGetDatum(at);
}

/* By how long ago it was: a clock that was set since makes no heartbeat old or young. */
static TimestampTz
heartbeat_of(const PemsWorkerSlot *slot)
{
	if (slot->heartbeat_us == 0)
		return 0;
	return GetCurrentTimestamp() - (monotonic_us() - slot->heartbeat_us);
}

/*
 * pems_api_worker_state()
 *		At most one row: the slot of this database.
 */
Datum
pems_api_worker_state(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	PemsWorkerSlot slot;
	Datum values[10];
	bool nulls[10] = {false};

	pems_begin_set(fcinfo);
	if (!pems_shmem_read_slot(MyDatabaseId, get_database_name(MyDatabaseId), &slot))
		return (Datum) 0;
	values[0] = CStringGetTextDatum(slot.database);
	values[1] = Int32GetDatum(slot.pid);
	nulls[1] = slot.pid == 0;
	values[2] = CStringGetTextDatum(pems_shmem_status_name(slot.status));
	values[3] = CStringGetTextDatum(PEMS_SYNC_VERSION);
	values[4] = timestamp_or_null(slot.started_at, &nulls[4]);
	values[5] = timestamp_or_null(heartbeat_of(&slot), &nulls[5]);
	values[6] = Int32GetDatum(slot.in_flight);
	values[7] = Int64GetDatum(slot.requests);
	values[8] = Int32GetDatum(slot.open_breakers);
	nulls[9] = slot.last_error[0] == '\0';
	values[9] = nulls[9] ? (Datum) 0 : CStringGetTextDatum(slot.last_error);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	return (Datum) 0;
}

static const char *const breaker_names[] = {
	[PEMS_BREAKER_CLOSED] = "closed",
	[PEMS_BREAKER_OPEN] = "open",
	[PEMS_BREAKER_PROBING] = "probing",
};

static void
put_endpoint(ReturnSetInfo *result, const PemsEndpointState *state)
{
	Datum values[8];
	bool nulls[8] = {false};

	values[0] = CStringGetTextDatum(state->name);
	values[1] = CStringGetTextDatum(breaker_names[state->breaker]);
	values[2] = Int32GetDatum(state->rate_limit);
	values[3] = Int32GetDatum(state->in_flight);
	values[4] = Int32GetDatum(state->faults);
	values[5] = timestamp_or_null(state->waits_until, &nulls[5]);
	nulls[6] = state->last_error[0] == '\0';
	values[6] = nulls[6] ? (Datum) 0 : CStringGetTextDatum(state->last_error);
	values[7] = timestamp_or_null(state->last_error_at, &nulls[7]);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * pems_api_endpoint_states()
 *		What the worker of this database says of its endpoints.
 */
Datum
pems_api_endpoint_states(PG_FUNCTION_ARGS)
{
	PemsEndpointState *states = palloc(sizeof(PemsEndpointState) * PEMS_MAX_ENDPOINTS);
	int count = 0;
	int worker;

	pems_begin_set(fcinfo);
	if (pems_shared == NULL)
		return (Datum) 0;
	LWLockAcquire(pems_shared->lock, LW_SHARED);
	worker = pems_shmem_slot_of(MyDatabaseId);
	if (worker >= 0)
		count = pems_shared->endpoint_counts[worker];
	if (count > 0)
		memcpy(states, pems_shared->endpoints[worker], sizeof(PemsEndpointState) * count);
	LWLockRelease(pems_shared->lock);
	for (int i = 0; i < count; i++)
		put_endpoint((ReturnSetInfo *) fcinfo->resultinfo, &states[i]);
	return (Datum) 0;
}

/*
 * pems_api_health_check(organization_id)
 *		{healthy, latency, error}; latency in milliseconds, null when PEMS did not answer.
 */
Datum
pems_api_health_check(PG_FUNCTION_ARGS)
{
	PemsHealthAnswer answer;
	JsonBuffer buffer = {0};

	pems_health_ask(text_to_cstring(PG_GETARG_TEXT_PP(0)), &answer);
	pems_json_append_text(&buffer, answer.healthy ? "{\"healthy\":true" : "{\"healthy\":false");
	pems_json_append_text(&buffer, ",\"latency\":");
	pems_json_append_text(&buffer, answer.latency_us < 0
									   ? "null"
									   : psprintf("%.3f", (double) answer.latency_us / 1000));
	if (!answer.healthy)
	{
		pems_json_append_text(&buffer, ",\"error\":");
		pems_json_append_string(&buffer, answer.error, strlen(answer.error));
	}
	pems_json_append_text(&buffer, "}");
	PG_RETURN_DATUM(take_jsonb(&buffer));
}
