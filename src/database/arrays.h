/*
 * database/arrays.h
 *		SQL arrays from C ones.
 */
#ifndef PEMS_ARRAYS_H
#define PEMS_ARRAYS_H

#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"

/* bigint[], in the current memory context. */
static inline ArrayType *
pems_bigint_array(const int64 *numbers, int count)
{
	Datum *values = palloc(sizeof(Datum) * Max(count, 1));

	for (int i = 0; i < count; i++)
		values[i] = Int64GetDatum(numbers[i]);
	return construct_array(values, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
}

#endif /* PEMS_ARRAYS_H */
