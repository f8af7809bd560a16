/*
 * record/json.h
 *		JSON texts as trees whose numbers keep every digit.
 *
 * Pure: no PostgreSQL, no I/O.  A number stays the literal that was read, so
 * that 9007199254740993 and 12345678901234567890.5 survive; the libraries that
 * Debian 12 packages turn them into doubles, which is why this room exists.
 *
 * A document owns everything that its nodes point to; nodes stay valid until
 * pems_json_free().  All memory comes from malloc, never from palloc: the room
 * may be used inside a curl callback or under a sanitizer without a server.
 *
 * Nodes come from pems_json_parse() only; nobody builds them by hand.  Time is
 * linear in the size of a text (objects: n log n in their keys), whatever a
 * hostile sender puts into it.
 */
#ifndef PEMS_JSON_H
#define PEMS_JSON_H

#include <stdbool.h>
#include <stddef.h>

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
	void *arena; /* private */
} JsonDocument;

/* Nesting that a document may have; PostgreSQL's own parser takes more. */
#define PEMS_JSON_MAX_DEPTH 512

/*
 * Parse a whole RFC 8259 text.  On success fill *document and return true.  On
 * failure (syntax, depth, invalid UTF-8, lone surrogate, trailing text, out of
 * memory) return false, leave nothing to free, and point *error, if it is not
 * NULL, to a static sentence.  The source must outlive the document (raw).
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
extern void pems_json_free(JsonDocument *document);

/* Child of an object by key, or NULL (also when object is NULL or no object). */
extern const JsonNode *pems_json_get(const JsonNode *object, const char *key);

/* Equal as jsonb would say, with numbers by value: 5500.00 = 5500 = 55e2. */
extern bool pems_json_equal(const JsonNode *a, const JsonNode *b);

/*
 * Compare two JSON number literals by value, with no limit on digits or
 * exponent: -1, 0 or 1.  Exponents beyond 10^17 count as 10^17.
 */
extern int pems_json_compare_numbers(const char *a, const char *b);

/* True, and *value set, when the node is a number with an integral value inside long long. */
extern bool pems_json_integer(const JsonNode *node, long long *value);
/* True when the node is a number with an integral value of any size: 5, 5.0, 5e30. */
extern bool pems_json_is_integral(const JsonNode *node);

/* A growing text; memory from malloc.  On exhaustion failed is set and later calls do nothing. */
typedef struct JsonBuffer
{
	char *data; /* NUL-terminated once something was added */
	size_t length;
	size_t capacity;
	bool failed;
} JsonBuffer;

extern void pems_json_append(JsonBuffer *buffer, const char *text, size_t length);
extern void pems_json_append_text(JsonBuffer *buffer, const char *text);
/* Append text as a JSON string with quotes, everything below U+0020, '"' and '\' escaped. */
extern void pems_json_append_string(JsonBuffer *buffer, const char *text, size_t length);
/* Append a node, compact, numbers with their own literal; NULL appends null. */
extern void pems_json_append_node(JsonBuffer *buffer, const JsonNode *node);
extern void pems_json_buffer_free(JsonBuffer *buffer);

#endif /* PEMS_JSON_H */
