/*
 * session/delta.c
 *		Deltas on top of records, and back.
 *
 * Process: any backend.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "record/json.h"
#include "record/merge.h"
#include "session/catalogue.h"
#include "session/values.h"

PG_FUNCTION_INFO_V1(pems_api_apply_delta);
PG_FUNCTION_INFO_V1(pems_api_has_object);
PG_FUNCTION_INFO_V1(pems_api_restore_delta);

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
 * pems_api_apply_delta(record, delta): _pems_apply_delta()
 *		A delta on top of a record: an object in it is put into the object that is there, member by
 *		member; every other value replaces what is there.
 *
 * Returns: the record with the delta.
 * Errors: 22023 when one of them is nested too deeply.
 */
Datum
pems_api_apply_delta(PG_FUNCTION_ARGS)
{
	PemsArgument record;
	PemsArgument delta;
	JsonBuffer buffer = {0};
	const char *problem;

	if (!JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(1)) || !has_nested_object(PG_GETARG_JSONB_P(1)))
		return DirectFunctionCall2(jsonb_concat, PG_GETARG_DATUM(0), PG_GETARG_DATUM(1));

	record = pems_argument_read(fcinfo, 0);
	delta = pems_argument_read(fcinfo, 1);
	problem = record.problem ? record.problem : delta.problem;
	if (problem == NULL)
		pems_patch_apply(record.document.root, delta.document.root, &buffer);
	pems_argument_free(&record);
	pems_argument_free(&delta);
	if (problem)
		refuse_value(problem);
	PG_RETURN_DATUM(pems_value_from_buffer(&buffer));
}

/*
 * pems_api_has_object(delta): _pems_has_object()
 *		Is one of the delta's values an object?  PEMS gets objects whole, so the record is needed to
 *		send it.
 *
 * Returns: false also when the delta is no object.
 */
Datum
pems_api_has_object(PG_FUNCTION_ARGS)
{
	Jsonb *delta = PG_GETARG_JSONB_P(0);

	PG_RETURN_BOOL(JB_ROOT_IS_OBJECT(delta) && has_nested_object(delta));
}

/*
 * pems_api_restore_delta(record, old_record): _pems_restore_delta()
 *		What gives the fields of a record that can be written the values that they had.
 *
 * Returns: the delta, with null for what old_record does not have; {} when there is nothing to
 * change.
 * Errors: 22023 when one of them is nested too deeply; 22000 when the field catalogue cannot be
 * used.
 * Tables: pems_field.
 */
Datum
pems_api_restore_delta(PG_FUNCTION_ARGS)
{
	const PemsCatalogue *catalogue = pems_session_catalogue(fcinfo->flinfo);
	PemsArgument record = pems_argument_read(fcinfo, 0);
	PemsArgument old_record = pems_argument_read(fcinfo, 1);
	const char *problem = record.problem ? record.problem : old_record.problem;
	JsonBuffer buffer = {0};

	if (problem == NULL)
		pems_patch_restore(catalogue, record.document.root, old_record.document.root, &buffer);
	pems_argument_free(&record);
	pems_argument_free(&old_record);
	if (problem)
		refuse_value(problem);
	PG_RETURN_DATUM(pems_value_from_buffer(&buffer));
}
