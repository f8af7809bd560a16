/*
 * session/values.h
 *		Arguments and results of SQL-callable functions: jsonb here, the JSON of src/record there.
 *
 * Process: any backend.  Memory: results are palloc'ed in the current context; what src/record
 * mallocs is freed before an ERROR can be raised.
 */
#ifndef PEMS_VALUES_H
#define PEMS_VALUES_H

#include "postgres.h"

#include "fmgr.h"

#include "record/json.h"

/* A jsonb argument in both its forms. */
typedef struct PemsArgument
{
	char *text;            /* palloc'ed; NULL for SQL NULL */
	JsonDocument document; /* root is NULL for SQL NULL, or when problem is set */
	const char *problem;   /* why it cannot be processed, or NULL */
} PemsArgument;

extern PemsArgument pems_argument_read(FunctionCallInfo fcinfo, int number);
extern void pems_argument_free(PemsArgument *argument);

/* Bytes of a value that may be stored compressed or elsewhere: it is not fetched for that. */
extern int32 pems_value_size(Datum value);

/*
 * The buffer's text as jsonb.  Frees the buffer, also when it has failed: that is an ERROR (53200).
 */
extern Datum pems_value_from_buffer(JsonBuffer *buffer);
/* A copy of a malloc'ed text, which is freed; NULL, when there was no memory for it, is said so. */
extern char *pems_value_move_text(char *text);

/* "name":"text", with a comma before it where it is not the first member of its object. */
extern void pems_value_append_member(JsonBuffer *buffer, const char *name, const char *text);

#endif /* PEMS_VALUES_H */
