/*
 * session/validate.c
 *		Checks of what users have written: deltas against the field catalogue, ids, sizes.
 *
 * Process: any backend.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "pems/request.h"
#include "record/field.h"
#include "record/json.h"
#include "record/number.h"
#include "record/validate.h"
#include "session/catalogue.h"
#include "session/values.h"

PG_FUNCTION_INFO_V1(pems_api_delta_problem);
PG_FUNCTION_INFO_V1(pems_api_valid_pfa_id);
PG_FUNCTION_INFO_V1(pems_api_size);

/* --- numbers --- */

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

/* One number after the other, until they have grown by more than most: all may take 1 GB. */
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
 * pems_api_size(value, most): _pems_size()
 *		How large a value is as it is stored, but with all digits of its numbers: jsonb may keep
 *		many of them in a few bytes.
 *
 * Parameters: most: bytes; what is larger than that as it is stored is not fetched.
 * Returns: bytes; of a value that is larger than most, at least so many.
 */
Datum
pems_api_size(PG_FUNCTION_ARGS)
{
	int64 size = pems_value_size(PG_GETARG_DATUM(0));
	int64 most = PG_GETARG_INT64(1);

	if (size <= most)
		size += measure_numbers(PG_GETARG_JSONB_P(0), most - size).grown;
	PG_RETURN_INT32((int32) Min(size, PG_INT32_MAX));
}

/* --- deltas --- */

/* An argument that is to be sent: it may have no number that is too long. */
static PemsArgument
read_delta(FunctionCallInfo fcinfo, int number)
{
	PemsArgument argument = {0};

	if (PG_ARGISNULL(number))
		return argument;
	if (measure_numbers(PG_GETARG_JSONB_P(number), PG_INT32_MAX).digits <= PEMS_NUMBER_MAX_DIGITS)
		return pems_argument_read(fcinfo, number);
	argument.problem = "A number must not have more than 1000 digits";
	return argument;
}

static void
write_findings(JsonBuffer *buffer, const char *code, char *const *errors, size_t count)
{
	pems_json_append_text(buffer, "{");
	pems_value_append_member(buffer, "code", code);
	pems_json_append_key(buffer, "errors", strlen("errors"));
	pems_json_append_strings(buffer, errors, count);
	pems_json_append_text(buffer, "}");
}

static const char *
code_of(PemsVerdict verdict)
{
	return verdict == PEMS_VERDICT_NOT_AN_OBJECT ? "VALIDATION_FAILED"
												 : pems_validate_code(verdict);
}

/* Appends {code, errors} unless the delta is valid. */
static void
describe_delta_problem(const PemsCatalogue *catalogue, const PemsArgument *delta,
					   const PemsArgument *current, JsonBuffer *buffer)
{
	const char *problem = delta->problem ? delta->problem : current->problem;
	PemsFindings findings;

	if (problem)
	{
		/* nested too deeply, most likely: one such draft must not stop the others of a commit */
		write_findings(buffer, "VALIDATION_FAILED", (char *const *) &problem, 1);
		return;
	}
	pems_validate_delta(catalogue, delta->document.root, current->document.root, &findings);
	buffer->failed = findings.failed;
	if (!findings.failed && findings.verdict != PEMS_VERDICT_VALID)
		write_findings(buffer, code_of(findings.verdict), findings.errors, findings.count);
	pems_validate_free(&findings);
}

/*
 * pems_api_delta_problem(delta, current): _pems_delta_problem()
 *		What is wrong with a delta on top of a record, by the field catalogue and the rules
 *		(record/validate.h).
 *
 * Parameters: current: the record; NULL: nothing is known of it.
 * Returns: {code, errors}; NULL: it is valid.
 * Errors: 22000 when the field catalogue cannot be used.
 * Tables: pems_field.
 */
Datum
pems_api_delta_problem(PG_FUNCTION_ARGS)
{
	const PemsCatalogue *catalogue = pems_session_catalogue(fcinfo->flinfo);
	PemsArgument delta = read_delta(fcinfo, 0);
	PemsArgument current = pems_argument_read(fcinfo, 1);
	JsonBuffer buffer = {0};

	describe_delta_problem(catalogue, &delta, &current, &buffer);
	pems_argument_free(&delta);
	pems_argument_free(&current);
	if (buffer.length == 0 && !buffer.failed)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(pems_value_from_buffer(&buffer));
}

/* --- ids --- */

/*
 * pems_api_valid_pfa_id(pfa_id): _pems_valid_pfa_id()
 *		May it stand in a URL of PEMS?  The rules are those of pems_request_valid_pfa_id().
 *
 * Returns: false also for what is longer than 1 kB, which is not fetched.
 */
Datum
pems_api_valid_pfa_id(PG_FUNCTION_ARGS)
{
	/* what is much too long to be valid is not even fetched */
	PG_RETURN_BOOL(pems_value_size(PG_GETARG_DATUM(0)) <= 1024 &&
				   pems_request_valid_pfa_id(text_to_cstring(PG_GETARG_TEXT_PP(0))));
}
