/*
 * database/array.h
 *		SQL arrays from arrays of C, and back.
 *
 * Process: any backend, and the worker.  Memory: what is returned is palloc'ed in the current
 * memory context.
 */
#ifndef PEMS_ARRAY_H
#define PEMS_ARRAY_H

#include "postgres.h"

#include "datatype/timestamp.h"

typedef struct PemsTexts
{
	char **texts;
	int count;
} PemsTexts;

/*
 * The arrays below are Datums of the SQL type that the name says.  count may be 0.  A text that is
 * NULL is SQL's NULL.
 */
extern Datum pems_text_array(const char *const *texts, int count);
extern Datum pems_boolean_array(const bool *values, int count);
extern Datum pems_integer_array(const int32 *numbers, int count);
extern Datum pems_bigint_array(const int64 *numbers, int count);
extern Datum pems_timestamp_array(const TimestampTz *times, int count);

/* The elements of a text[] that has no NULL among them. */
extern PemsTexts pems_texts_of_array(Datum array);

#endif /* PEMS_ARRAY_H */
