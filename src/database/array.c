/*
 * database/array.c
 *		SQL arrays from arrays of C, and back.
 *
 * Process: any backend, and the worker.  Holds no state.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "database/array.h"

static Datum *
room_for(int count)
{
	return palloc(sizeof(Datum) * Max(count, 1));
}

Datum
pems_text_array(const char *const *texts, int count)
{
	Datum *values = room_for(count);
	bool *nulls = palloc0(sizeof(bool) * Max(count, 1));
	int lower_bound = 1;

	if (count == 0)
		return PointerGetDatum(construct_empty_array(TEXTOID));
	for (int i = 0; i < count; i++)
	{
		nulls[i] = texts[i] == NULL;
		if (!nulls[i])
			values[i] = CStringGetTextDatum(texts[i]);
	}
	return PointerGetDatum(construct_md_array(values, nulls, 1, &count, &lower_bound, TEXTOID, -1,
											  false, TYPALIGN_INT));
}

Datum
pems_boolean_array(const bool *values, int count)
{
	Datum *elements = room_for(count);

	for (int i = 0; i < count; i++)
		elements[i] = BoolGetDatum(values[i]);
	return PointerGetDatum(
		construct_array(elements, count, BOOLOID, sizeof(bool), true, TYPALIGN_CHAR));
}

Datum
pems_integer_array(const int32 *numbers, int count)
{
	Datum *values = room_for(count);

	for (int i = 0; i < count; i++)
		values[i] = Int32GetDatum(numbers[i]);
	return PointerGetDatum(
		construct_array(values, count, INT4OID, sizeof(int32), true, TYPALIGN_INT));
}

Datum
pems_bigint_array(const int64 *numbers, int count)
{
	Datum *values = room_for(count);

	for (int i = 0; i < count; i++)
		values[i] = Int64GetDatum(numbers[i]);
	return PointerGetDatum(
		construct_array(values, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

Datum
pems_timestamp_array(const TimestampTz *times, int count)
{
	Datum *values = room_for(count);

	for (int i = 0; i < count; i++)
		values[i] = TimestampTzGetDatum(times[i]);
	return PointerGetDatum(construct_array(values, count, TIMESTAMPTZOID, sizeof(TimestampTz),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

PemsTexts
pems_texts_of_array(Datum array)
{
	PemsTexts texts;
	Datum *elements;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL,
					  &texts.count);
	texts.texts = palloc(sizeof(char *) * Max(texts.count, 1));
	for (int i = 0; i < texts.count; i++)
		texts.texts[i] = TextDatumGetCString(elements[i]);
	return texts;
}
