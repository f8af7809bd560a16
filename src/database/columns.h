/*
 * database/columns.h
 *		Columns of results and attributes of composite types, known by name and type.
 *
 * Nothing relies on the order of columns: whoever reads or writes them has a table of their names
 * and types, and names a column by its index in that table.  The table also keeps at which number
 * each column was found last.  A look-up compares those first, and searches only for a column that
 * is not there any more, so it costs one comparison of a short name per column and statement.  A
 * column that is missing, or has another type, is an ERROR that names it.
 *
 * Process: any backend, and the worker; inside a transaction.
 */
#ifndef PEMS_COLUMNS_H
#define PEMS_COLUMNS_H

#include "postgres.h"

#include "access/attnum.h"
#include "access/htup.h"
#include "access/tupdesc.h"
#include "datatype/timestamp.h"

#include "database/array.h"

#define PEMS_MAX_COLUMNS 40

typedef struct PemsColumn
{
	const char *name;
	Oid type;
} PemsColumn;

typedef struct PemsColumns
{
	const char *owner; /* for messages: what has these columns, such as "_pems_claim()" */
	const PemsColumn *columns;
	int count;
	AttrNumber numbers[PEMS_MAX_COLUMNS]; /* where they were found last; 0: not looked up yet */
} PemsColumns;

/* The value of a PemsColumns variable for an array of PemsColumn. */
#define PEMS_COLUMNS(name, array)                                                                  \
	{                                                                                              \
		.owner = (name), .columns = (array), .count = lengthof(array)                              \
	}

/* Find all columns in that descriptor.  Errors: 42703, one is missing; 42804, the type differs. */
extern void pems_columns_find(PemsColumns *columns, TupleDesc descriptor);
/* Where pems_columns_find() has found a column that is used as one of that type; counted from 1. */
extern AttrNumber pems_columns_number(const PemsColumns *columns, int column, Oid type);

/*
 * A result row, all of its columns taken out at once: one by one, each would be searched from the
 * row's beginning.  Its values point into the result, and live as long.
 */
typedef struct PemsRow
{
	const PemsColumns *columns;
	Datum *values;
	bool *nulls;
} PemsRow;

extern PemsRow pems_row(const PemsColumns *columns, TupleDesc descriptor, HeapTuple tuple);

/*
 * The value of one column.  The name says the SQL type, and another one is an ERROR: _integer is
 * for integer and bigint.  Texts are copied into that memory context; NULL is returned for SQL's
 * NULL, and no texts for a NULL array.
 */
extern int64 pems_row_integer(const PemsRow *row, int column, int64 if_null);
extern TimestampTz pems_row_timestamp(const PemsRow *row, int column, TimestampTz if_null);
/* false for NULL */
extern bool pems_row_boolean(const PemsRow *row, int column);
extern char *pems_row_text(const PemsRow *row, int column, MemoryContext context);
/* jsonb as text */
extern char *pems_row_json(const PemsRow *row, int column, MemoryContext context);
extern PemsTexts pems_row_texts(const PemsRow *row, int column, MemoryContext context);
/* *length bytes of a bytea that is not NULL, and room for one more. */
extern unsigned char *pems_row_bytes(const PemsRow *row, int column, MemoryContext context,
									 size_t *length);
/*
 * How much memory a text or jsonb takes, without reading it: it may be stored compressed or
 * elsewhere.  0 for NULL.
 */
extern int64 pems_row_size(const PemsRow *row, int column);

#endif /* PEMS_COLUMNS_H */
