/*
 * session/values.c
 *		Arguments and results of SQL-callable functions: jsonb here, the JSON of src/record there.
 *
 * Process: any backend.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "session/values.h"

PemsArgument
pems_argument_read(FunctionCallInfo fcinfo, int number)
{
	PemsArgument argument = {0};
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

void
pems_argument_free(PemsArgument *argument)
{
	if (argument->document.root)
		pems_json_free(&argument->document);
	if (argument->text)
		pfree(argument->text);
}

int32
pems_value_size(Datum value)
{
	return (int32) (toast_raw_datum_size(value) - VARHDRSZ);
}

Datum
pems_value_from_buffer(JsonBuffer *buffer)
{
	char *text = buffer->failed ? NULL : pstrdup(buffer->data);

	pems_json_buffer_free(buffer);
	if (text == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(text));
}

char *
pems_value_move_text(char *text)
{
	char *copy = pstrdup(text ? text : "out of memory");

	free(text);
	return copy;
}

void
pems_value_append_member(JsonBuffer *buffer, const char *name, const char *text)
{
	pems_json_append_key(buffer, name, strlen(name));
	pems_json_append_string(buffer, text, strlen(text));
}
