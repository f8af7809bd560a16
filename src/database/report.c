/*
 * database/report.c
 *		Reports as values of the SQL type _pems_report.
 *
 * Process: the background worker; inside a transaction.  Attributes are known by name: their
 * order in the type does not matter.  What is kept for the process: the type's oid and the
 * numbers of its attributes, which are compared with the type each time that values are made.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "database/columns.h"
#include "database/extension.h"
#include "database/report.h"

#define TYPE_NAME "_pems_report"

typedef enum Attribute
{
	ITEM_ID,
	ORGANIZATION_ID,
	PFA_ID,
	MODIFICATION_ID,
	JOB_ID,
	CREATED_BY,
	CHANGE_REASON,
	CLAIM_TOKEN,
	ATTEMPT,
	STEP,
	WAS_UNKNOWN,
	NEW_STATUS,
	NEXT_REQUEST,
	OUTCOME_UNKNOWN,
	DELAY_MS,
	RETRY_COUNT,
	ROUNDS,
	SEEN_VERSION,
	PEMS_VERSION,
	KNOWN_VERSION,
	MIRROR_DATA,
	MIRROR_PATCH,
	MIRROR_DELETED,
	CONFLICT_KIND,
	CONFLICT_FIELDS,
	ERROR_CODE,
	ERROR_SENTENCE,
	EVENT_TYPE,
	HTTP_METHOD,
	PATH,
	HTTP_STATUS,
	LATENCY_MS,
	REQUEST,
	RESPONSE,
	PAUSE,
	ATTRIBUTE_COUNT
} Attribute;

static const PemsColumn attribute_list[ATTRIBUTE_COUNT] = {
	[ITEM_ID] = {"item_id", TEXTOID},
	[ORGANIZATION_ID] = {"organization_id", TEXTOID},
	[PFA_ID] = {"pfa_id", TEXTOID},
	[MODIFICATION_ID] = {"modification_id", TEXTOID},
	[JOB_ID] = {"job_id", TEXTOID},
	[CREATED_BY] = {"created_by", TEXTOID},
	[CHANGE_REASON] = {"change_reason", TEXTOID},
	[CLAIM_TOKEN] = {"claim_token", INT8OID},
	[ATTEMPT] = {"attempt", INT4OID},
	[STEP] = {"step", TEXTOID},
	[WAS_UNKNOWN] = {"was_unknown", BOOLOID},
	[NEW_STATUS] = {"new_status", TEXTOID},
	[NEXT_REQUEST] = {"next_request", TEXTOID},
	[OUTCOME_UNKNOWN] = {"outcome_unknown", BOOLOID},
	[DELAY_MS] = {"delay_ms", INT8OID},
	[RETRY_COUNT] = {"retry_count", INT4OID},
	[ROUNDS] = {"rounds", INT4OID},
	[SEEN_VERSION] = {"seen_version", INT4OID},
	[PEMS_VERSION] = {"pems_version", INT4OID},
	[KNOWN_VERSION] = {"known_version", INT4OID},
	[MIRROR_DATA] = {"mirror_data", JSONBOID},
	[MIRROR_PATCH] = {"mirror_patch", JSONBOID},
	[MIRROR_DELETED] = {"mirror_deleted", BOOLOID},
	[CONFLICT_KIND] = {"conflict_kind", TEXTOID},
	[CONFLICT_FIELDS] = {"conflict_fields", JSONBOID},
	[ERROR_CODE] = {"error_code", TEXTOID},
	[ERROR_SENTENCE] = {"error", TEXTOID},
	[EVENT_TYPE] = {"event_type", TEXTOID},
	[HTTP_METHOD] = {"http_method", TEXTOID},
	[PATH] = {"path", TEXTOID},
	[HTTP_STATUS] = {"http_status", INT4OID},
	[LATENCY_MS] = {"latency_ms", FLOAT8OID},
	[REQUEST] = {"request", JSONBOID},
	[RESPONSE] = {"response", JSONBOID},
	[PAUSE] = {"pause", BOOLOID},
};

static PemsColumns attributes = PEMS_COLUMNS("type " TYPE_NAME, attribute_list);
static Oid report_type = InvalidOid;

/* --- the type --- */

static bool
is_known(const char *name)
{
	for (int i = 0; i < ATTRIBUTE_COUNT; i++)
		if (strcmp(name, attribute_list[i].name) == 0)
			return true;
	return false;
}

/* One that nobody here sets would be NULL, and whoever reads it would take that for an answer. */
static void
demand_no_others(TupleDesc descriptor)
{
	int count = 0;

	for (int i = 0; i < descriptor->natts; i++)
		count += TupleDescAttr(descriptor, i)->attisdropped ? 0 : 1;
	for (int i = 0; count > ATTRIBUTE_COUNT && i < descriptor->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(descriptor, i);

		if (!attribute->attisdropped && !is_known(NameStr(attribute->attname)))
			elog(ERROR, "type " TYPE_NAME " has an attribute \"%s\" that is not known",
				 NameStr(attribute->attname));
	}
}

/* Checks the attributes.  The caller releases what is returned. */
static TupleDesc
describe_type(void)
{
	TupleDesc descriptor = lookup_rowtype_tupdesc(report_type, -1);

	pems_columns_find(&attributes, descriptor);
	demand_no_others(descriptor);
	return descriptor;
}

void
pems_report_find_type(Oid schema)
{
	TupleDesc descriptor;

	report_type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum(TYPE_NAME),
								  ObjectIdGetDatum(schema));
	if (!OidIsValid(report_type))
		elog(ERROR, "extension " PEMS_EXTENSION " has no type " TYPE_NAME);
	descriptor = describe_type();
	ReleaseTupleDesc(descriptor); /* a macro that names its argument twice */
}

Oid
pems_report_type(void)
{
	return report_type;
}

Oid
pems_report_array_type(void)
{
	return get_array_type(report_type);
}

/* --- a value under construction --- */

typedef struct Row
{
	Datum *values;
	bool *nulls;
	int set_count; /* attributes that were set, to a value or to NULL */
} Row;

static void
set_datum(Row *row, Attribute attribute, Oid type, Datum value, bool isnull)
{
	int index = pems_columns_number(&attributes, attribute, type) - 1;

	row->values[index] = value;
	row->nulls[index] = isnull;
	row->set_count++;
}

/* NULL is SQL's NULL; for JSON, too. */
static void
set_text(Row *row, Attribute attribute, const char *text)
{
	set_datum(row, attribute, TEXTOID, text ? CStringGetTextDatum(text) : (Datum) 0, text == NULL);
}

static void
set_json(Row *row, Attribute attribute, const char *json)
{
	set_datum(row, attribute, JSONBOID,
			  json ? DirectFunctionCall1(jsonb_in, CStringGetDatum(json)) : (Datum) 0,
			  json == NULL);
}

/* if_null: the value that stands for NULL, outside of what is possible otherwise. */
static void
set_integer(Row *row, Attribute attribute, int64 value, int64 if_null)
{
	set_datum(row, attribute, INT4OID, Int32GetDatum((int32) value), value == if_null);
}

#define NEVER_NULL PG_INT64_MIN

static void
set_boolean(Row *row, Attribute attribute, bool value)
{
	set_datum(row, attribute, BOOLOID, BoolGetDatum(value), false);
}

static void
set_item(Row *row, const PemsItem *item)
{
	set_text(row, ITEM_ID, item->id);
	set_text(row, ORGANIZATION_ID, item->organization_id);
	set_text(row, PFA_ID, item->pfa_id);
	set_text(row, MODIFICATION_ID, item->modification_id);
	set_text(row, JOB_ID, item->job_id);
	set_text(row, CREATED_BY, item->created_by);
	set_text(row, CHANGE_REASON, item->change_reason);
	set_datum(row, CLAIM_TOKEN, INT8OID, Int64GetDatum(item->claim_token), false);
	set_integer(row, ATTEMPT, item->attempt, NEVER_NULL);
	set_text(row, STEP, pems_transition_step_name(item->step));
	set_boolean(row, WAS_UNKNOWN, item->outcome_unknown);
	set_integer(row, SEEN_VERSION, item->mirror_version, PEMS_NO_VERSION);
}

static void
set_transition(Row *row, const PemsTransition *transition)
{
	set_text(row, NEW_STATUS, pems_transition_status_name(transition->status));
	set_text(row, NEXT_REQUEST, pems_transition_step_name(transition->next));
	set_boolean(row, OUTCOME_UNKNOWN, transition->outcome_unknown);
	set_datum(row, DELAY_MS, INT8OID, Int64GetDatum(transition->delay_ms),
			  transition->delay_ms == 0);
	set_integer(row, RETRY_COUNT, transition->retry_count, NEVER_NULL);
	set_integer(row, ROUNDS, transition->rounds, NEVER_NULL);
	set_boolean(row, MIRROR_DELETED, transition->mirror_is_deleted);
	set_boolean(row, PAUSE, transition->pause_organization);
}

static void
set_findings(Row *row, const PemsReport *report)
{
	set_integer(row, PEMS_VERSION, report->pems_version, PEMS_NO_VERSION);
	set_integer(row, KNOWN_VERSION, report->known_version, PEMS_NO_VERSION);
	set_json(row, MIRROR_DATA, report->mirror_data);
	set_json(row, MIRROR_PATCH, report->mirror_patch);
	set_text(row, CONFLICT_KIND, report->conflict_kind);
	set_json(row, CONFLICT_FIELDS, report->conflict_fields);
	set_text(row, ERROR_CODE, report->error_code);
	set_text(row, ERROR_SENTENCE, report->error);
}

static void
set_audit_line(Row *row, const PemsReport *report)
{
	set_text(row, EVENT_TYPE, report->event_type);
	set_text(row, HTTP_METHOD, report->http_method);
	set_text(row, PATH, report->path);
	set_integer(row, HTTP_STATUS, report->http_status, 0);
	set_datum(row, LATENCY_MS, FLOAT8OID, Float8GetDatum(report->latency_ms),
			  report->http_method == NULL);
	set_json(row, REQUEST, report->request);
	set_json(row, RESPONSE, report->response);
}

static Datum
make_value(TupleDesc descriptor, const PemsReport *report)
{
	Row row = {0};

	row.values = palloc0(sizeof(Datum) * descriptor->natts);
	row.nulls = palloc(sizeof(bool) * descriptor->natts);
	/* a column that was dropped from the type still has its number */
	memset(row.nulls, true, sizeof(bool) * descriptor->natts);
	set_item(&row, report->item);
	set_transition(&row, &report->transition);
	set_findings(&row, report);
	set_audit_line(&row, report);
	if (row.set_count != ATTRIBUTE_COUNT)
		elog(ERROR, "%d attributes of type " TYPE_NAME " were set, not %d", row.set_count,
			 ATTRIBUTE_COUNT);
	return HeapTupleGetDatum(heap_form_tuple(descriptor, row.values, row.nulls));
}

Datum
pems_report_value(const PemsReport *report)
{
	TupleDesc descriptor = describe_type();
	Datum value = make_value(descriptor, report);

	ReleaseTupleDesc(descriptor);
	return value;
}

Datum
pems_report_array(PemsReport *const *reports, int count)
{
	TupleDesc descriptor = describe_type();
	Datum *values = palloc(sizeof(Datum) * Max(count, 1));

	for (int i = 0; i < count; i++)
		values[i] = make_value(descriptor, reports[i]);
	ReleaseTupleDesc(descriptor);
	return PointerGetDatum(construct_array(values, count, report_type, -1, false, TYPALIGN_DOUBLE));
}
