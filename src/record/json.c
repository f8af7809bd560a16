/*
 * record/json.c
 *		The JSON reader, strict and lenient; see json.h.
 *
 * Pure; runs in backends, in the worker, in programs and in tests.  Memory comes from malloc
 * only.  A document's memory is an arena, so no node is ever freed alone and no error path leaks.
 *
 * The parser recurses once per nesting level and stops at PEMS_JSON_MAX_DEPTH.  What is deeper
 * is refused, or, by the lenient parser, skipped without recursion.  So is all that is below the
 * levels that pems_json_parse_outer() is asked for.
 */
#include "record/json_reader.h"

#include <stdalign.h>
#include <stdint.h>
#include <string.h>

#include "record/arena.h"
#include "record/number.h"

const char pems_json_out_of_memory[] = "out of memory";

/*
 * What jsonb can hold.  The size is that of a string, a key, and of all that is in an array or
 * object.  The last two are what a 64-bit server has memory for while it reads (it doubles its
 * array of members, and no piece of memory may have 1 GB).
 */
#define JSONB_SIZE     ((size_t) 0x0FFFFFFF)
#define JSONB_ELEMENTS ((size_t) 16 * 1024 * 1024)
#define JSONB_MEMBERS  ((size_t) 8 * 1024 * 1024)

/* Bytes that jsonb takes for an array or object, for each child (to align it, too), and a key. */
#define JSONB_CONTAINER 4
#define JSONB_CHILD     7
#define JSONB_KEY       4
/* ... and, at most, for each byte of a container that is skipped: "0," is a child with its number
 */
#define JSONB_SKIPPED 12

typedef struct Parser
{
	const char *cursor;
	const char *end;
	PemsArena arena; /* the document's memory */
	size_t depth;    /* arrays and objects around the cursor */
	bool lenient;
	size_t levels;          /* lenient: a container with so many around it is skipped */
	size_t values;          /* nodes that may still be made */
	const char *unstorable; /* why jsonb cannot hold what was read of the current value, or NULL */
	const char *error;      /* the first thing that went wrong */
} Parser;

static bool parse_value(Parser *parser, JsonNode *node);

/* Remember why the text is refused; false, for "return refuse(...)". */
static bool
refuse(Parser *parser, const char *error)
{
	if (parser->error == NULL)
		parser->error = error;
	return false;
}

/* Remember why jsonb cannot hold the current value, the first reason only. */
static void
cannot_store(Parser *parser, const char *reason)
{
	if (parser->unstorable == NULL)
		parser->unstorable = reason;
}

/* Memory of the document, not cleared; NULL after refuse() when there is none. */
static void *
allocate(Parser *parser, size_t size, size_t alignment)
{
	void *piece = pems_arena_allocate(&parser->arena, size, alignment);

	if (piece == NULL)
		refuse(parser, pems_json_out_of_memory);
	return piece;
}

static JsonNode *
allocate_node(Parser *parser)
{
	JsonNode *node;

	if (parser->values-- == 0)
	{
		refuse(parser, "too many values");
		return NULL;
	}
	node = allocate(parser, sizeof(JsonNode), alignof(JsonNode));
	if (node)
		memset(node, 0, sizeof(JsonNode));
	return node;
}

/* ---------- strings ---------- */

/* Position of the quote that ends the string that begins at text; NULL: there is none. */
static const char *
find_closing_quote(const char *text, const char *end)
{
	while (text < end && *text != '"')
	{
		if (*text == '\\')
		{
			if (end - text < 2)
				return NULL;
			text++;
		}
		text++;
	}
	return text < end ? text : NULL;
}

/* The cursor stands on the opening quote. */
static bool
parse_string(Parser *parser, const char **text, size_t *length)
{
	const char *begin = parser->cursor + 1;
	const char *stop = find_closing_quote(begin, parser->end);
	char *start;
	char *out;

	if (stop == NULL)
		return refuse(parser, "string without its closing quote");
	start = allocate(parser, pems_json_decoded_size(begin, stop, parser->lenient) + 1, 1);
	if (start == NULL)
		return false;
	out = start;
	if (!pems_json_decode_string(begin, stop, parser->lenient, &out, &parser->error,
								 &parser->unstorable))
		return false;
	*out = '\0';
	*text = start;
	*length = (size_t) (out - start);
	if (*length > JSONB_SIZE)
		cannot_store(parser, "a text is too long for the database");
	parser->cursor = stop + 1;
	return true;
}

/* ---------- numbers and words ---------- */

/* Skip digits; false when there is not even one. */
static bool
skip_digits(Parser *parser)
{
	const char *start = parser->cursor;

	while (parser->cursor < parser->end && *parser->cursor >= '0' && *parser->cursor <= '9')
		parser->cursor++;
	return parser->cursor > start;
}

static bool
skip_character(Parser *parser, char c)
{
	if (parser->cursor == parser->end || *parser->cursor != c)
		return false;
	parser->cursor++;
	return true;
}

static bool
skip_number(Parser *parser)
{
	skip_character(parser, '-');
	if (!skip_character(parser, '0') && !skip_digits(parser))
		return false;
	if (skip_character(parser, '.') && !skip_digits(parser))
		return false;
	if (skip_character(parser, 'e') || skip_character(parser, 'E'))
	{
		if (!skip_character(parser, '-'))
			skip_character(parser, '+');
		return skip_digits(parser);
	}
	return true;
}

static bool
parse_number(Parser *parser, JsonNode *node)
{
	const char *start = parser->cursor;
	char *text;

	if (!skip_number(parser))
		return refuse(parser, "invalid number");
	node->kind = JSON_KIND_NUMBER;
	node->length = (size_t) (parser->cursor - start);
	text = allocate(parser, node->length + 1, 1);
	if (text == NULL)
		return false;
	memcpy(text, start, node->length);
	text[node->length] = '\0';
	node->text = text;
	/* numeric keeps four digits in two bytes; what is added is more than its header and padding */
	node->stored = node->length / 2 + 16;
	cannot_store(parser, pems_number_unstorable(text));
	return true;
}

static bool
parse_word(Parser *parser, JsonNode *node)
{
	static const struct
	{
		const char *word;
		size_t length;
		JsonKind kind;
		bool boolean;
	} words[] = {{"null", 4, JSON_KIND_NULL, false},
				 {"true", 4, JSON_KIND_BOOLEAN, true},
				 {"false", 5, JSON_KIND_BOOLEAN, false}};
	size_t available = (size_t) (parser->end - parser->cursor);

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
	{
		if (available >= words[i].length &&
			memcmp(parser->cursor, words[i].word, words[i].length) == 0)
		{
			node->kind = words[i].kind;
			node->boolean = words[i].boolean;
			parser->cursor += words[i].length;
			return true;
		}
	}
	return refuse(parser, "invalid token");
}

/* ---------- arrays and objects ---------- */

static void
skip_blanks(Parser *parser)
{
	while (parser->cursor < parser->end && (*parser->cursor == ' ' || *parser->cursor == '\t' ||
											*parser->cursor == '\n' || *parser->cursor == '\r'))
		parser->cursor++;
}

/* Behind the opening bracket and blanks; false: nested too deeply. */
static bool
begin_container(Parser *parser)
{
	if (parser->depth == PEMS_JSON_MAX_DEPTH)
		return refuse(parser, "nested too deeply");
	parser->depth++;
	parser->cursor++;
	skip_blanks(parser);
	return true;
}

/* Behind a child: true after a comma; otherwise the container ends here, or *broken is set. */
static bool
another_follows(Parser *parser, char closing, bool *broken)
{
	skip_blanks(parser);
	*broken = false;
	if (skip_character(parser, ','))
	{
		skip_blanks(parser);
		return true;
	}
	if (!skip_character(parser, closing))
		*broken = !refuse(parser, "comma or closing bracket is missing");
	return false;
}

static JsonNode *
add_child(Parser *parser, JsonNode *parent, JsonNode ***link)
{
	JsonNode *child = allocate_node(parser);

	if (child == NULL)
		return NULL;
	**link = child;
	*link = &child->next;
	parent->count++;
	return child;
}

/* Behind the last child; limit: how many children jsonb can hold. */
static void
end_container(Parser *parser, JsonNode *node, size_t limit)
{
	parser->depth--;
	node->stored += JSONB_CONTAINER;
	if (node->count > limit || node->stored > JSONB_SIZE)
		cannot_store(parser, "an array or object is too large for the database");
}

static bool
parse_array(Parser *parser, JsonNode *node)
{
	JsonNode **link = &node->first;
	bool broken = false;

	node->kind = JSON_KIND_ARRAY;
	if (!begin_container(parser))
		return false;
	if (!skip_character(parser, ']'))
	{
		do
		{
			JsonNode *child = add_child(parser, node, &link);

			if (child == NULL || !parse_value(parser, child))
				return false;
			node->stored += JSONB_CHILD + child->stored;
		} while (another_follows(parser, ']', &broken));
	}
	end_container(parser, node, JSONB_ELEMENTS);
	return !broken;
}

/* Behind the last member: find members by their key from now on. */
static bool
index_members(Parser *parser, JsonNode *object)
{
	if (object->count == 0)
		return true;
	object->sorted = allocate(parser, object->count * sizeof(JsonNode *), alignof(JsonNode *));
	if (object->sorted == NULL)
		return false;
	pems_json_index_members(object);
	return true;
}

/* Read the key and go to its value. */
static bool
parse_key(Parser *parser, JsonNode *member)
{
	if (parser->cursor == parser->end || *parser->cursor != '"')
		return refuse(parser, "key of an object is missing");
	if (!parse_string(parser, &member->key, &member->key_length))
		return false;
	skip_blanks(parser);
	if (!skip_character(parser, ':'))
		return refuse(parser, "colon behind a key is missing");
	skip_blanks(parser);
	return true;
}

static bool
parse_member(Parser *parser, JsonNode *member)
{
	const char *before = parser->unstorable;

	parser->unstorable = NULL;
	if (!parse_key(parser, member) || !parse_value(parser, member))
		return false;
	member->unstorable = parser->unstorable;
	if (before)
		parser->unstorable = before;
	return true;
}

static bool
parse_object(Parser *parser, JsonNode *node)
{
	JsonNode **link = &node->first;
	bool broken = false;

	node->kind = JSON_KIND_OBJECT;
	if (!begin_container(parser))
		return false;
	if (!skip_character(parser, '}'))
	{
		do
		{
			JsonNode *member = add_child(parser, node, &link);

			if (member == NULL || !parse_member(parser, member))
				return false;
			node->stored += JSONB_CHILD + JSONB_KEY + member->key_length + member->stored;
		} while (another_follows(parser, '}', &broken));
	}
	end_container(parser, node, JSONB_MEMBERS);
	return !broken && index_members(parser, node);
}

static bool
parse_scalar(Parser *parser, JsonNode *node)
{
	switch (*parser->cursor)
	{
		case '"':
			node->kind = JSON_KIND_STRING;
			if (!parse_string(parser, &node->text, &node->length))
				return false;
			node->stored = node->length;
			return true;
		case '-':
		case '0':
		case '1':
		case '2':
		case '3':
		case '4':
		case '5':
		case '6':
		case '7':
		case '8':
		case '9':
			return parse_number(parser, node);
		default:
			return parse_word(parser, node);
	}
}

/* ---------- values that are nested too deeply, or more deeply than is looked at ---------- */

/*
 * Go in: the cursor stands on an opening bracket.  open has the closing brackets that are still to
 * come.  True when a value is next; false when the container is empty, or the text is broken.
 */
static bool
open_bracket(Parser *parser, JsonBuffer *open, JsonNode *scratch)
{
	char closing = *parser->cursor++ == '{' ? '}' : ']';

	pems_json_append(open, &closing, 1);
	if (open->failed)
		return refuse(parser, pems_json_out_of_memory);
	if (parser->depth + open->length > PEMS_JSON_MAX_DEPTH)
		cannot_store(parser, "a value is nested too deeply");
	skip_blanks(parser);
	if (parser->cursor < parser->end && *parser->cursor == closing)
		return false;
	return closing == ']' || parse_key(parser, scratch);
}

/* Behind a value: close what ends here.  True when a further value is next. */
static bool
close_brackets(Parser *parser, JsonBuffer *open, JsonNode *scratch)
{
	while (open->length > 0)
	{
		char closing = open->data[open->length - 1];
		bool broken;

		if (another_follows(parser, closing, &broken))
			return closing == ']' || parse_key(parser, scratch);
		if (broken)
			return false;
		open->length--;
	}
	return false;
}

/* Read the values of a container, and keep nothing of them. */
static bool
skip_values(Parser *parser, JsonBuffer *open)
{
	JsonNode scratch = {0};
	bool more;

	do
	{
		if (parser->cursor == parser->end)
			return refuse(parser, "unexpected end of the text");
		if (*parser->cursor == '{' || *parser->cursor == '[')
		{
			if (open_bracket(parser, open, &scratch))
			{
				more = true;
				continue;
			}
		}
		else if (!parse_scalar(parser, &scratch))
			return false;
		more = parser->error == NULL && close_brackets(parser, open, &scratch);
	} while (more);
	return parser->error == NULL;
}

static bool
skip_container(Parser *parser, JsonNode *node)
{
	JsonBuffer open = {0};
	bool skipped;

	node->kind = *parser->cursor == '{' ? JSON_KIND_OBJECT : JSON_KIND_ARRAY;
	skipped = skip_values(parser, &open);
	pems_json_buffer_free(&open);
	node->stored = (size_t) (parser->cursor - node->raw) * JSONB_SKIPPED;
	if (node->stored > JSONB_SIZE)
		cannot_store(parser, "an array or object is too large for the database");
	return skipped;
}

/* ---------- whole texts ---------- */

static bool
parse_kind(Parser *parser, JsonNode *node)
{
	bool container = *parser->cursor == '{' || *parser->cursor == '[';

	if (container && parser->lenient && parser->depth == parser->levels)
		return skip_container(parser, node);
	if (*parser->cursor == '{')
		return parse_object(parser, node);
	if (*parser->cursor == '[')
		return parse_array(parser, node);
	return parse_scalar(parser, node);
}

/* Parse the value at the cursor into node, whose key the caller has set. */
static bool
parse_value(Parser *parser, JsonNode *node)
{
	const char *before = parser->unstorable;

	if (parser->cursor == parser->end)
		return refuse(parser, "unexpected end of the text");
	node->raw = parser->cursor;
	parser->unstorable = NULL;
	if (!parse_kind(parser, node))
		return false;
	node->raw_length = (size_t) (parser->cursor - node->raw);
	node->unstorable = parser->unstorable;
	/* What is around the value cannot be held either. */
	if (before)
		parser->unstorable = before;
	return true;
}

static bool
parse_document(Parser *parser, JsonNode **root)
{
	*root = allocate_node(parser);
	if (*root == NULL)
		return false;
	skip_blanks(parser);
	if (!parse_value(parser, *root))
		return false;
	skip_blanks(parser);
	if (parser->cursor < parser->end)
		return refuse(parser, "text behind the value");
	return true;
}

/* The parser says how; what it reads, and where, is set here. */
static bool
parse_text(Parser parser, const char *text, size_t length, JsonDocument *document,
		   const char **error)
{
	*document = (JsonDocument){0};
	/* Not even adding 0 to a null pointer is allowed. */
	if (text == NULL)
		text = "";
	parser.cursor = text;
	parser.end = text + length;
	if (!parse_document(&parser, &document->root))
	{
		pems_arena_free(&parser.arena);
		document->root = NULL;
		if (error)
			*error = parser.error;
		return false;
	}
	document->arena = parser.arena;
	return true;
}

bool
pems_json_parse(const char *text, size_t length, JsonDocument *document, const char **error)
{
	return parse_text((Parser){.values = SIZE_MAX}, text, length, document, error);
}

bool
pems_json_parse_lenient(const char *text, size_t length, JsonDocument *document, const char **error)
{
	return pems_json_parse_outer(text, length, PEMS_JSON_MAX_DEPTH, SIZE_MAX, document, error);
}

bool
pems_json_parse_outer(const char *text, size_t length, size_t levels, size_t values,
					  JsonDocument *document, const char **error)
{
	return parse_text((Parser){.lenient = true, .levels = levels, .values = values}, text, length,
					  document, error);
}

void
pems_json_free(JsonDocument *document)
{
	pems_arena_free(&document->arena);
	document->root = NULL;
}
