/*
 * record/json.h
 *		JSON texts as trees whose numbers keep every digit, and texts built piece by piece.
 *
 * Pure: no PostgreSQL, no I/O; any process.  Memory comes from malloc, never from palloc:
 * these functions may be used inside a libcurl callback, in a program, or under a sanitizer
 * without a server.
 *
 * A document owns everything that its nodes point to; nodes stay valid until pems_json_free().
 * Nodes come from pems_json_parse() only; nobody builds them by hand.  Time is linear in the
 * size of a text (objects: n log n in their keys), whatever a hostile sender puts into it.
 *
 * json.c reads, with json_string.c for its strings; json_value.c looks at what was read;
 * json_write.c builds texts.
 *
 * Why the reader is ours.  An answer of PEMS comes from outside, and one value in it that jsonb
 * cannot hold must not make the rest of it unreadable: whether a write was applied stands beside
 * it.  So the reader must go on, say which values are concerned and why, and give the text of the
 * others exactly as PEMS sent it, to be stored.  Two readers that were at hand do not:
 *
 * PostgreSQL's (common/jsonapi.h) ends at the first \u0000 or lone surrogate, and leaves the rest
 * unread.  It does not check that a text is UTF-8.  In the server it allocates with palloc, which
 * raises errors; outside of the server, in PostgreSQL 15, it exits the process when memory is
 * short, and overflows the stack on a text of a million brackets.
 *
 * YAJL (2.1.0) goes on, but tells nobody: it reads \ud800 as "?", \udc00 as bytes that are not
 * UTF-8, and \u0000 as a NUL byte.
 *
 * Neither makes a tree in which numbers and objects are compared as jsonb compares them; that
 * part would be ours with any reader.
 */
#ifndef PEMS_JSON_H
#define PEMS_JSON_H

#include <stdbool.h>
#include <stddef.h>

#include "record/arena.h"

typedef enum JsonKind
{
	JSON_KIND_NULL,
	JSON_KIND_BOOLEAN,
	JSON_KIND_NUMBER,
	JSON_KIND_STRING,
	JSON_KIND_ARRAY,
	JSON_KIND_OBJECT
} JsonKind;

typedef struct JsonNode
{
	JsonKind kind;
	bool boolean;      /* JSON_KIND_BOOLEAN: the value */
	const char *text;  /* string: decoded UTF-8; number: its literal; NUL-terminated */
	size_t length;     /* bytes of text */
	const char *key;   /* inside an object: decoded key, NUL-terminated; else NULL */
	size_t key_length; /* bytes of key */
	const char *raw;   /* the value as it stands in the source, not terminated */
	size_t raw_length;
	struct JsonNode *first;   /* array and object: first child */
	struct JsonNode *next;    /* next sibling */
	size_t count;             /* array and object: number of children */
	struct JsonNode **sorted; /* object: children in the order of their keys, for pems_json_get() */
	const char *unstorable;   /* why jsonb cannot hold the value, what is in it, or key; or NULL */
	size_t stored;            /* private: bytes that jsonb takes for the value, at most */
} JsonNode;

typedef struct JsonDocument
{
	JsonNode *root;
	PemsArena arena; /* private: the memory of all nodes and texts */
} JsonDocument;

/* Nesting that a document may have; PostgreSQL's own parser takes more. */
#define PEMS_JSON_MAX_DEPTH 512

/* What a parser says when it could not read a text that may be right. */
extern const char pems_json_out_of_memory[];

/*
 * Parse a whole RFC 8259 text.  On success fill *document and return true.  On
 * failure (syntax, depth, invalid UTF-8, lone surrogate, trailing text, out of
 * memory) return false, leave nothing to free, and point *error, if it is not
 * NULL, to a static sentence (pems_json_out_of_memory[] itself, when there is none).
 * The source must outlive the document (raw).
 * A duplicate key keeps its last value, as jsonb does; raw still shows both.
 * "\u0000" is an error, because jsonb cannot hold it.  A number, text or container
 * that is too large for jsonb is none: the nodes say so (unstorable).
 */
extern bool pems_json_parse(const char *text, size_t length, JsonDocument *document,
							const char **error);

/*
 * The same for an answer of PEMS, in which what jsonb cannot hold must not make all
 * the rest unreadable.  It accepts besides, and marks as unstorable:
 *
 *	"\u0000", a lone surrogate			decoded as U+FFFD
 *	invalid UTF-8 in a string			each byte decoded as U+FFFD
 *	nesting beyond PEMS_JSON_MAX_DEPTH	an array or object without children; raw has all of it
 *
 * Where unstorable is NULL the value is the one that pems_json_parse() reads, and jsonb
 * can hold it.  Where it is not, text, key and children may be other than what PEMS
 * sent: show them or look for a member in them, but do not compare, store or send them.
 */
extern bool pems_json_parse_lenient(const char *text, size_t length, JsonDocument *document,
									const char **error);

/*
 * The same for a long answer, of which only the outer levels are looked at: an array or object with
 * `levels` of them around it (1 to PEMS_JSON_MAX_DEPTH) has no children, and raw has all of it.  It
 * was read all the same: what is broken in it is an error, and unstorable says what jsonb cannot
 * hold (because it is not counted, also of one that needs 20 MB of text, which jsonb might hold).
 *
 * values: how many nodes the tree may have; more are an error.  So a document takes at most three
 * times the text's length, and 200 bytes for each of these.
 */
extern bool pems_json_parse_outer(const char *text, size_t length, size_t levels, size_t values,
								  JsonDocument *document, const char **error);
extern void pems_json_free(JsonDocument *document);

/* Child of an object by key, or NULL (also when object is NULL or no object). */
extern const JsonNode *pems_json_get(const JsonNode *object, const char *key);

/* Equal as jsonb would say, with numbers by value: 5500.00 = 5500 = 55e2. */
extern bool pems_json_equal(const JsonNode *a, const JsonNode *b);

/* True, and *value set, when the node is a number with an integral value inside long long. */
extern bool pems_json_integer(const JsonNode *node, long long *value);
/* True when the node is a number with an integral value of any size: 5, 5.0, 5e30. */
extern bool pems_json_is_integral(const JsonNode *node);

/*
 * A text that grows at its end; {0} is an empty one.  When memory runs out, failed is set and
 * later calls do nothing, so that only the end result needs a look.
 */
typedef struct JsonBuffer
{
	char *data; /* NUL-terminated once something was added */
	size_t length;
	size_t capacity;
	bool failed;
} JsonBuffer;

extern void pems_json_append(JsonBuffer *buffer, const char *text, size_t length);
extern void pems_json_append_text(JsonBuffer *buffer, const char *text); /* NUL-terminated */
/* Append text as a JSON string with quotes, everything below U+0020, '"' and '\' escaped. */
extern void pems_json_append_string(JsonBuffer *buffer, const char *text, size_t length);
/*
 * Append the key of an object's next member: "key": with a comma before it, unless the object
 * was just opened.
 */
extern void pems_json_append_key(JsonBuffer *buffer, const char *key, size_t length);
/* Append an array of strings, NUL-terminated ones: ["a","b"]. */
extern void pems_json_append_strings(JsonBuffer *buffer, char *const *texts, size_t count);
/* Append a node, compact, numbers with their own literal; NULL appends null. */
extern void pems_json_append_node(JsonBuffer *buffer, const JsonNode *node);
extern void pems_json_buffer_free(JsonBuffer *buffer);

#endif /* PEMS_JSON_H */
