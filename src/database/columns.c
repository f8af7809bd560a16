/*
 * database/columns.c
 *		Columns of results and attributes of composite types, known by name and type.
 *
 * Process: any backend, and the worker; inside a transaction.  What is kept (the numbers of
 * columns) stands in the caller's PemsColumns.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "database/columns.h"

#define VERSION_HINT                                                                               \
	"The library and the SQL objects of pems_sync are of different versions, or somebody has "     \
	"changed them: run ALTER EXTENSION pems_sync UPDATE."

/* --- where the columns are --- */

static bool
is_at(TupleDesc descriptor, AttrNumber number, const PemsColumn *column)
{
	Form_pg_attribute attribute;

	if (number < 1 || number > descriptor->natts)
		return false;
	attribute = TupleDescAttr(descriptor, number - 1);
	return attribute->atttypid == column->type && !attribute->attisdropped &&
		   strcmp(NameStr(attribute->attname), column->name) == 0;
}

static AttrNumber
look_up(TupleDesc descriptor, const PemsColumn *column, const char *owner)
{
	int number = SPI_fnumber(descriptor, column->name);

	if (number <= 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
						errmsg("column \"%s\" of %s does not exist", column->name, owner),
						errhint(VERSION_HINT)));
	if (!is_at(descriptor, (AttrNumber) number, column))
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("column \"%s\" of %s has type %s, not %s", column->name, owner,
							   format_type_be(SPI_gettypeid(descriptor, number)),
							   format_type_be(column->type)),
						errhint(VERSION_HINT)));
	return (AttrNumber) number;
}

void
pems_columns_find(PemsColumns *columns, TupleDesc descriptor)
{
	Assert(columns->count <= PEMS_MAX_COLUMNS);
	for (int i = 0; i < columns->count; i++)
		if (!is_at(descriptor, columns->numbers[i], &columns->columns[i]))
			columns->numbers[i] = look_up(descriptor, &columns->columns[i], columns->owner);
}

AttrNumber
pems_columns_number(const PemsColumns *columns, int column, Oid type)
{
	if (columns->columns[column].type != type)
		elog(ERROR, "column \"%s\" of %s is not used as what it is", columns->columns[column].name,
			 columns->owner);
	return columns->numbers[column];
}

/* --- rows --- */

PemsRow
pems_row(const PemsColumns *columns, TupleDesc descriptor, HeapTuple tuple)
{
	PemsRow row = {.columns = columns};

	row.values = palloc(sizeof(Datum) * descriptor->natts);
	row.nulls = palloc(sizeof(bool) * descriptor->natts);
	heap_deform_tuple(tuple, descriptor, row.values, row.nulls);
	return row;
}

static Datum
value_of(const PemsRow *row, int column, Oid type, bool *isnull)
{
	AttrNumber number = pems_columns_number(row->columns, column, type);

	*isnull = row->nulls[number - 1];
	return row->values[number - 1];
}

int64
pems_row_integer(const PemsRow *row, int column, int64 if_null)
{
	bool is_small = row->columns->columns[column].type == INT4OID;
	bool isnull;
	Datum value = value_of(row, column, is_small ? INT4OID : INT8OID, &isnull);

	if (isnull)
		return if_null;
	return is_small ? DatumGetInt32(value) : DatumGetInt64(value);
}

TimestampTz
pems_row_timestamp(const PemsRow *row, int column, TimestampTz if_null)
{
	bool isnull;
	Datum value = value_of(row, column, TIMESTAMPTZOID, &isnull);

	return isnull ? if_null : DatumGetTimestampTz(value);
}

bool
pems_row_boolean(const PemsRow *row, int column)
{
	bool isnull;
	Datum value = value_of(row, column, BOOLOID, &isnull);

	return !isnull && DatumGetBool(value);
}

char *
pems_row_text(const PemsRow *row, int column, MemoryContext context)
{
	bool isnull;
	Datum value = value_of(row, column, TEXTOID, &isnull);
	MemoryContext caller;
	char *copy;

	if (isnull)
		return NULL;
	caller = MemoryContextSwitchTo(context);
	copy = TextDatumGetCString(value);
	MemoryContextSwitchTo(caller);
	return copy;
}

char *
pems_row_json(const PemsRow *row, int column, MemoryContext context)
{
	bool isnull;
	Datum value = value_of(row, column, JSONBOID, &isnull);
	MemoryContext caller;
	Jsonb *json;
	char *copy;

	if (isnull)
		return NULL;
	caller = MemoryContextSwitchTo(context);
	json = DatumGetJsonbP(value);
	copy = JsonbToCString(NULL, &json->root, VARSIZE(json));
	MemoryContextSwitchTo(caller);
	return copy;
}

PemsTexts
pems_row_texts(const PemsRow *row, int column, MemoryContext context)
{
	PemsTexts texts = {NULL, 0};
	bool isnull;
	Datum value = value_of(row, column, TEXTARRAYOID, &isnull);
	MemoryContext caller;

	if (isnull)
		return texts;
	caller = MemoryContextSwitchTo(context);
	texts = pems_texts_of_array(value);
	MemoryContextSwitchTo(caller);
	return texts;
}

unsigned char *
pems_row_bytes(const PemsRow *row, int column, MemoryContext context, size_t *length)
{
	bool isnull;
	Datum value = value_of(row, column, BYTEAOID, &isnull);
	unsigned char *copy;
	bytea *bytes;

	if (isnull)
		elog(ERROR, "column \"%s\" of %s is NULL", row->columns->columns[column].name,
			 row->columns->owner);
	bytes = DatumGetByteaPP(value);
	*length = VARSIZE_ANY_EXHDR(bytes);
	copy = MemoryContextAlloc(context, *length + 1);
	memcpy(copy, VARDATA_ANY(bytes), *length);
	return copy;
}

int64
pems_row_size(const PemsRow *row, int column)
{
	AttrNumber number = row->columns->numbers[column];

	return row->nulls[number - 1] ? 0 : (int64) toast_raw_datum_size(row->values[number - 1]);
}
