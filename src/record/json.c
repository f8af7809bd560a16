/*
 * record/json.c
 *		A JSON parser, strict and lenient, comparison of values, and a text builder.
 *
 * Pure; runs in backends, in the worker and in tests.  Memory comes from
 * malloc only.  A document lives in one arena, a list of blocks that is freed
 * as a whole, so no node is ever freed alone and no error path leaks.
 *
 * The parser recurses once per nesting level and stops at PEMS_JSON_MAX_DEPTH;
 * whatever walks a parsed tree may therefore recurse as well.  What is deeper is
 * refused, or, by the lenient parser, skipped without recursion.
 */
#include "record/json.h"

#include <limits.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Bounds of a block's size: a small answer takes one block, a large one few. */
#define SMALLEST_BLOCK ((size_t) 1024)
#define LARGEST_BLOCK  ((size_t) 256 * 1024)

/* What stands for a character that cannot be kept */
#define REPLACEMENT 0xFFFD

/* Exponents are cut here, far from overflow even when digits are added to them. */
#define EXPONENT_LIMIT 100000000000000000LL

/*
 * What jsonb can hold.  The first two are those of numeric; an exponent is limited by itself, also
 * where the number is 0.  The size is that of a string, a key, and of all that is in an array or
 * object.  The last two are what a 64-bit server has memory for while it reads (it doubles its
 * array of members, and no piece of memory may have 1 GB).
 */
#define JSONB_DIGITS   131072
#define JSONB_DECIMALS 16383
#define JSONB_EXPONENT (INT_MAX / 2)
#define JSONB_SIZE     ((size_t) 0x0FFFFFFF)
#define JSONB_ELEMENTS ((size_t) 16 * 1024 * 1024)
#define JSONB_MEMBERS  ((size_t) 8 * 1024 * 1024)

/* Bytes that jsonb takes for an array or object, for each child (to align it, too), and for a key.
 */
#define JSONB_CONTAINER 4
#define JSONB_CHILD     7
#define JSONB_KEY       4

typedef struct Block
{
	struct Block *next;
	size_t size; /* bytes of data */
	size_t used;
	alignas(max_align_t) char data[];
} Block;

typedef struct Parser
{
	const char *cursor;
	const char *end;
	Block *blocks; /* newest first */
	size_t depth;
	bool lenient;
	const char *unstorable; /* why jsonb cannot hold what was read of the current value, or NULL */
	const char *error;      /* the first thing that went wrong */
} Parser;

static bool parse_value(Parser *parser, JsonNode *node);
static const char *unstorable_number(const JsonNode *number);

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

/* ---------- memory ---------- */

static Block *
add_block(Parser *parser, size_t at_least)
{
	size_t size = parser->blocks ? parser->blocks->size : SMALLEST_BLOCK / 2;
	Block *block;

	size = size < LARGEST_BLOCK / 2 ? size * 2 : LARGEST_BLOCK;
	if (size < at_least)
		size = at_least;
	if (size > SIZE_MAX - sizeof(Block))
		return NULL;
	block = malloc(sizeof(Block) + size);
	if (block == NULL)
		return NULL;
	block->next = parser->blocks;
	block->size = size;
	block->used = 0;
	parser->blocks = block;
	return block;
}

/* Memory of the document, not cleared; NULL after refuse() when there is none. */
static void *
allocate(Parser *parser, size_t size, size_t alignment)
{
	Block *block = parser->blocks;
	size_t start = 0;

	if (block)
		start = (block->used + alignment - 1) & ~(alignment - 1);
	if (block == NULL || start > block->size || block->size - start < size)
	{
		block = add_block(parser, size);
		start = 0;
	}
	if (block == NULL)
	{
		refuse(parser, "out of memory");
		return NULL;
	}
	block->used = start + size;
	return block->data + start;
}

static void
free_blocks(Block *block)
{
	while (block)
	{
		Block *next = block->next;

		free(block);
		block = next;
	}
}

/* ---------- strings ---------- */

/* Length of the well-formed UTF-8 sequence at text, 0 when there is none (Unicode, table 3-7). */
static size_t
utf8_sequence(const unsigned char *text, size_t available)
{
	unsigned char lead = text[0];
	unsigned char lowest = 0x80;
	unsigned char highest = 0xBF;
	size_t length;
	size_t i;

	if (lead < 0x80)
		return 1;
	if (lead < 0xC2 || lead > 0xF4)
		return 0;
	length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
	if (available < length)
		return 0;

	/* The second byte is what tells overlong forms, surrogates and too large code points. */
	if (lead == 0xE0)
		lowest = 0xA0;
	else if (lead == 0xED)
		highest = 0x9F;
	else if (lead == 0xF0)
		lowest = 0x90;
	else if (lead == 0xF4)
		highest = 0x8F;
	if (text[1] < lowest || text[1] > highest)
		return 0;
	for (i = 2; i < length; i++)
	{
		if ((text[i] & 0xC0) != 0x80)
			return 0;
	}
	return length;
}

static size_t
write_utf8(char *out, unsigned code)
{
	if (code < 0x80)
	{
		out[0] = (char) code;
		return 1;
	}
	if (code < 0x800)
	{
		out[0] = (char) (0xC0 | (code >> 6));
		out[1] = (char) (0x80 | (code & 0x3F));
		return 2;
	}
	if (code < 0x10000)
	{
		out[0] = (char) (0xE0 | (code >> 12));
		out[1] = (char) (0x80 | ((code >> 6) & 0x3F));
		out[2] = (char) (0x80 | (code & 0x3F));
		return 3;
	}
	out[0] = (char) (0xF0 | (code >> 18));
	out[1] = (char) (0x80 | ((code >> 12) & 0x3F));
	out[2] = (char) (0x80 | ((code >> 6) & 0x3F));
	out[3] = (char) (0x80 | (code & 0x3F));
	return 4;
}

/* The cursor stands behind "\u"; reads four hexadecimal digits. */
static bool
read_hex4(Parser *parser, const char *stop, unsigned *code)
{
	int i;

	if (stop - parser->cursor < 4)
		return refuse(parser, "incomplete \\u escape");
	*code = 0;
	for (i = 0; i < 4; i++)
	{
		char c = *parser->cursor++;
		unsigned digit;

		if (c >= '0' && c <= '9')
			digit = (unsigned) (c - '0');
		else if (c >= 'a' && c <= 'f')
			digit = (unsigned) (c - 'a') + 10;
		else if (c >= 'A' && c <= 'F')
			digit = (unsigned) (c - 'A') + 10;
		else
			return refuse(parser, "invalid \\u escape");
		*code = *code * 16 + digit;
	}
	return true;
}

/* The cursor stands behind the escape of a high surrogate; reads the escape of a low one, if any.
 */
static bool
read_low_surrogate(Parser *parser, const char *stop, unsigned *low)
{
	const char *start = parser->cursor;

	if (stop - start < 2 || memcmp(start, "\\u", 2) != 0)
		return false;
	parser->cursor += 2;
	if (!read_hex4(parser, stop, low))
		return false;
	if (*low >= 0xDC00 && *low <= 0xDFFF)
		return true;
	/* a character of its own, which the lenient parser reads next */
	parser->cursor = start;
	return false;
}

/* A character that no database can hold: an error, or U+FFFD in its place. */
static bool
replace_character(Parser *parser, unsigned *code, const char *error, const char *reason)
{
	/* The escape behind it may have been broken. */
	if (!parser->lenient || parser->error)
		return refuse(parser, error);
	cannot_store(parser, reason);
	*code = REPLACEMENT;
	return true;
}

/* The cursor stands behind "\u"; reads one code point, which may take a second escape. */
static bool
read_code_point(Parser *parser, const char *stop, unsigned *code)
{
	unsigned low;

	if (!read_hex4(parser, stop, code))
		return false;
	if (*code == 0)
		return replace_character(parser, code, "\\u0000 is not allowed in a string",
								 "a text has \\u0000 in it, which the database cannot hold");
	if (*code < 0xD800 || *code > 0xDFFF)
		return true;
	if (*code > 0xDBFF || !read_low_surrogate(parser, stop, &low))
		return replace_character(parser, code, "surrogate without its partner",
								 "a text has half a character in it (a lone surrogate)");
	*code = 0x10000 + ((*code - 0xD800) << 10) + (low - 0xDC00);
	return true;
}

/* The cursor stands behind a backslash; writes what the escape means and moves *out. */
static bool
decode_escape(Parser *parser, const char *stop, char **out)
{
	static const char names[] = "\"\\/bfnrt";
	static const char values[] = "\"\\/\b\f\n\r\t";
	char name = *parser->cursor++;
	const char *found;
	unsigned code;

	if (name == 'u')
	{
		if (!read_code_point(parser, stop, &code))
			return false;
		*out += write_utf8(*out, code);
		return true;
	}
	found = memchr(names, name, sizeof(names) - 1);
	if (found == NULL)
		return refuse(parser, "invalid escape in a string");
	*(*out)++ = values[found - names];
	return true;
}

/* Copy the UTF-8 sequence at the cursor; what is none is an error, or U+FFFD for its first byte. */
static bool
copy_sequence(Parser *parser, const char *stop, char **out)
{
	size_t length =
		utf8_sequence((const unsigned char *) parser->cursor, (size_t) (stop - parser->cursor));

	if (length == 0)
	{
		if (!parser->lenient)
			return refuse(parser, "invalid UTF-8 in a string");
		cannot_store(parser, "a text is not valid UTF-8");
		*out += write_utf8(*out, REPLACEMENT);
		parser->cursor++;
		return true;
	}
	memcpy(*out, parser->cursor, length);
	*out += length;
	parser->cursor += length;
	return true;
}

/* Decode up to stop, the closing quote, into out, which is large enough. */
static bool
decode_string(Parser *parser, const char *stop, char **out)
{
	while (parser->cursor < stop)
	{
		if (*parser->cursor == '\\')
		{
			parser->cursor++;
			if (!decode_escape(parser, stop, out))
				return false;
			continue;
		}
		if ((unsigned char) *parser->cursor < 0x20)
			return refuse(parser, "control character in a string");
		if (!copy_sequence(parser, stop, out))
			return false;
	}
	return true;
}

/* How many bytes before stop are U+FFFD after decoding? */
static size_t
count_invalid_bytes(const char *text, const char *stop)
{
	size_t count = 0;

	while (text < stop)
	{
		size_t length = utf8_sequence((const unsigned char *) text, (size_t) (stop - text));

		if (length == 0)
			count++;
		text += length > 0 ? length : 1;
	}
	return count;
}

/* Bytes that the string up to stop may have when it is decoded. */
static size_t
decoded_size(const Parser *parser, const char *stop)
{
	/* No escape is shorter than what it stands for, but U+FFFD takes three bytes. */
	size_t size = (size_t) (stop - parser->cursor);

	return parser->lenient ? size + 2 * count_invalid_bytes(parser->cursor, stop) : size;
}

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
	const char *stop = find_closing_quote(++parser->cursor, parser->end);
	char *start;
	char *out;

	if (stop == NULL)
		return refuse(parser, "string without its closing quote");
	start = allocate(parser, decoded_size(parser, stop) + 1, 1);
	if (start == NULL)
		return false;
	out = start;
	if (!decode_string(parser, stop, &out))
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
	cannot_store(parser, unstorable_number(node));
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
	size_t i;

	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++)
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

static bool
enter(Parser *parser)
{
	if (parser->depth == PEMS_JSON_MAX_DEPTH)
		return refuse(parser, "nested too deeply");
	parser->depth++;
	parser->cursor++;
	skip_blanks(parser);
	return true;
}

/* Behind a member: true after a comma; otherwise the container ends here or *broken is set. */
static bool
goes_on(Parser *parser, char closing, bool *broken)
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
	JsonNode *child = allocate(parser, sizeof(JsonNode), alignof(JsonNode));

	if (child == NULL)
		return NULL;
	memset(child, 0, sizeof(JsonNode));
	**link = child;
	*link = &child->next;
	parent->count++;
	return child;
}

/* Behind the last child. */
static void
leave(Parser *parser, JsonNode *node, size_t limit)
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
	if (!enter(parser))
		return false;
	if (!skip_character(parser, ']'))
	{
		do
		{
			JsonNode *child = add_child(parser, node, &link);

			if (child == NULL || !parse_value(parser, child))
				return false;
			node->stored += JSONB_CHILD + child->stored;
		} while (goes_on(parser, ']', &broken));
	}
	leave(parser, node, JSONB_ELEMENTS);
	return !broken;
}

/* The order of jsonb: shorter keys first, then by bytes. */
static int
compare_keys(const char *a, size_t a_length, const char *b, size_t b_length)
{
	if (a_length != b_length)
		return a_length < b_length ? -1 : 1;
	return memcmp(a, b, a_length);
}

/* For qsort: by key, equal keys in the order of the text. */
static int
compare_members(const void *a, const void *b)
{
	const JsonNode *left = *(JsonNode *const *) a;
	const JsonNode *right = *(JsonNode *const *) b;
	int order = compare_keys(left->key, left->key_length, right->key, right->key_length);

	if (order != 0)
		return order;
	return left->raw < right->raw ? -1 : left->raw > right->raw;
}

/* Unlink the members whose key is NULL. */
static void
drop_marked(JsonNode *object)
{
	JsonNode **link = &object->first;

	while (*link)
	{
		if ((*link)->key == NULL)
			*link = (*link)->next;
		else
			link = &(*link)->next;
	}
}

/*
 * Sort the members for pems_json_get() and drop all but the last of each key.
 * Sorting, and no hash table: its worst case cannot be brought about by keys
 * that somebody chose to collide.
 */
static bool
index_members(Parser *parser, JsonNode *object)
{
	size_t kept = 0;
	size_t i = 0;
	JsonNode *child;

	if (object->count == 0)
		return true;
	object->sorted = allocate(parser, object->count * sizeof(JsonNode *), alignof(JsonNode *));
	if (object->sorted == NULL)
		return false;
	for (child = object->first; child; child = child->next)
		object->sorted[i++] = child;
	qsort(object->sorted, object->count, sizeof(JsonNode *), compare_members);

	for (i = 0; i < object->count; i++)
	{
		child = object->sorted[i];
		if (i + 1 < object->count &&
			compare_keys(child->key, child->key_length, object->sorted[i + 1]->key,
						 object->sorted[i + 1]->key_length) == 0)
			child->key = NULL;
		else
			object->sorted[kept++] = child;
	}
	if (kept < object->count)
		drop_marked(object);
	object->count = kept;
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
	if (!enter(parser))
		return false;
	if (!skip_character(parser, '}'))
	{
		do
		{
			JsonNode *member = add_child(parser, node, &link);

			if (member == NULL || !parse_member(parser, member))
				return false;
			node->stored += JSONB_CHILD + JSONB_KEY + member->key_length + member->stored;
		} while (goes_on(parser, '}', &broken));
	}
	leave(parser, node, JSONB_MEMBERS);
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

/* ---------- values that are nested too deeply ---------- */

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
		return refuse(parser, "out of memory");
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

		if (goes_on(parser, closing, &broken))
			return closing == ']' || parse_key(parser, scratch);
		if (broken)
			return false;
		open->length--;
	}
	return false;
}

/* Read the values of a container that is nested too deeply, and keep nothing of them. */
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
	cannot_store(parser, "a value is nested too deeply");
	skipped = skip_values(parser, &open);
	pems_json_buffer_free(&open);
	return skipped;
}

/* ---------- whole texts ---------- */

static bool
parse_kind(Parser *parser, JsonNode *node)
{
	bool container = *parser->cursor == '{' || *parser->cursor == '[';

	if (container && parser->lenient && parser->depth == PEMS_JSON_MAX_DEPTH)
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
	*root = allocate(parser, sizeof(JsonNode), alignof(JsonNode));
	if (*root == NULL)
		return false;
	memset(*root, 0, sizeof(JsonNode));
	skip_blanks(parser);
	if (!parse_value(parser, *root))
		return false;
	skip_blanks(parser);
	if (parser->cursor < parser->end)
		return refuse(parser, "text behind the value");
	return true;
}

static bool
parse_text(const char *text, size_t length, bool lenient, JsonDocument *document,
		   const char **error)
{
	Parser parser = {.lenient = lenient};

	document->root = NULL;
	document->arena = NULL;
	/* Not even adding 0 to a null pointer is allowed. */
	if (text == NULL)
		text = "";
	parser.cursor = text;
	parser.end = text + length;
	if (!parse_document(&parser, &document->root))
	{
		free_blocks(parser.blocks);
		document->root = NULL;
		if (error)
			*error = parser.error;
		return false;
	}
	document->arena = parser.blocks;
	return true;
}

bool
pems_json_parse(const char *text, size_t length, JsonDocument *document, const char **error)
{
	return parse_text(text, length, false, document, error);
}

bool
pems_json_parse_lenient(const char *text, size_t length, JsonDocument *document, const char **error)
{
	return parse_text(text, length, true, document, error);
}

void
pems_json_free(JsonDocument *document)
{
	free_blocks(document->arena);
	document->root = NULL;
	document->arena = NULL;
}

/* ---------- looking at values ---------- */

static const JsonNode *
find_member(const JsonNode *object, const char *key, size_t length)
{
	size_t low = 0;
	size_t high = object->count;

	while (low < high)
	{
		size_t middle = low + (high - low) / 2;
		const JsonNode *member = object->sorted[middle];
		int order = compare_keys(key, length, member->key, member->key_length);

		if (order == 0)
			return member;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

const JsonNode *
pems_json_get(const JsonNode *object, const char *key)
{
	if (object == NULL || object->kind != JSON_KIND_OBJECT)
		return NULL;
	return find_member(object, key, strlen(key));
}

static bool
arrays_equal(const JsonNode *a, const JsonNode *b)
{
	const JsonNode *left = a->first;
	const JsonNode *right = b->first;

	if (a->count != b->count)
		return false;
	for (; left && right; left = left->next, right = right->next)
	{
		if (!pems_json_equal(left, right))
			return false;
	}
	return true;
}

static bool
objects_equal(const JsonNode *a, const JsonNode *b)
{
	size_t i;

	if (a->count != b->count)
		return false;
	/* Both are in the same order, so member faces member. */
	for (i = 0; i < a->count; i++)
	{
		const JsonNode *left = a->sorted[i];
		const JsonNode *right = b->sorted[i];

		if (compare_keys(left->key, left->key_length, right->key, right->key_length) != 0 ||
			!pems_json_equal(left, right))
			return false;
	}
	return true;
}

bool
pems_json_equal(const JsonNode *a, const JsonNode *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	if (a->kind != b->kind)
		return false;
	switch (a->kind)
	{
		case JSON_KIND_NULL:
			return true;
		case JSON_KIND_BOOLEAN:
			return a->boolean == b->boolean;
		case JSON_KIND_NUMBER:
			return pems_json_compare_numbers(a->text, b->text) == 0;
		case JSON_KIND_STRING:
			return a->length == b->length && memcmp(a->text, b->text, a->length) == 0;
		case JSON_KIND_ARRAY:
			return arrays_equal(a, b);
		case JSON_KIND_OBJECT:
			return objects_equal(a, b);
	}
	return false;
}

/* ---------- numbers by value ---------- */

/*
 * A literal taken apart: sign * 0.DIGITS * 10^magnitude.  DIGITS stand between
 * digits and end, maybe with a point among them, and neither begin nor end with
 * a zero; there are none when the value is 0.
 */
typedef struct Decimal
{
	int sign; /* -1, 0, 1 */
	const char *digits;
	const char *end;
	long long count; /* digits without the point */
	long long magnitude;
} Decimal;

/* The exponent at text, behind the 'e', cut at EXPONENT_LIMIT. */
static long long
read_exponent(const char *text)
{
	bool negative = *text == '-';
	long long exponent = 0;

	if (*text == '-' || *text == '+')
		text++;
	for (; *text >= '0' && *text <= '9'; text++)
	{
		exponent = exponent * 10 + (*text - '0');
		if (exponent > EXPONENT_LIMIT)
			exponent = EXPONENT_LIMIT;
	}
	return negative ? -exponent : exponent;
}

static void
read_decimal(const char *literal, Decimal *decimal)
{
	const char *p = *literal == '-' ? literal + 1 : literal;
	bool behind_point = false;
	long long position = 0; /* digits since the first that counts */

	memset(decimal, 0, sizeof(*decimal));
	for (; *p == '.' || (*p >= '0' && *p <= '9'); p++)
	{
		if (*p == '.')
		{
			behind_point = true;
			continue;
		}
		if (decimal->digits == NULL && *p != '0')
			decimal->digits = p;
		if (decimal->digits)
			position++;
		/* The magnitude counts digits before the point, and less the zeros that follow it. */
		if (decimal->digits && !behind_point)
			decimal->magnitude++;
		else if (decimal->digits == NULL && behind_point)
			decimal->magnitude--;
		if (*p != '0')
		{
			decimal->end = p + 1;
			decimal->count = position;
		}
	}
	if (decimal->digits == NULL)
	{
		decimal->magnitude = 0;
		return;
	}
	decimal->sign = *literal == '-' ? -1 : 1;
	if (*p == 'e' || *p == 'E')
		decimal->magnitude += read_exponent(p + 1);
}

/* Why numeric, and so jsonb, cannot hold the number, or NULL; as numeric_in() counts. */
static const char *
unstorable_number(const JsonNode *number)
{
	const char *point = memchr(number->text, '.', number->length);
	const char *end = number->text + strcspn(number->text, "eE");
	long long exponent = *end ? read_exponent(end + 1) : 0;
	long long decimals = (point ? end - point - 1 : 0) - exponent;
	Decimal decimal;

	read_decimal(number->text, &decimal);
	if (decimal.magnitude > JSONB_DIGITS || exponent >= JSONB_EXPONENT)
		return "a number is too large for the database";
	if (decimals > JSONB_DECIMALS || exponent <= -JSONB_EXPONENT)
		return "a number has too many decimals for the database";
	return NULL;
}

/* The next digit, zeros without end behind the last. */
static int
next_digit(const char **cursor, const char *end)
{
	if (*cursor < end && **cursor == '.')
		(*cursor)++;
	return *cursor < end ? *(*cursor)++ - '0' : 0;
}

static int
compare_magnitudes(const Decimal *a, const Decimal *b)
{
	const char *left = a->digits;
	const char *right = b->digits;

	if (a->magnitude != b->magnitude)
		return a->magnitude < b->magnitude ? -1 : 1;
	while (left < a->end || right < b->end)
	{
		int left_digit = next_digit(&left, a->end);
		int right_digit = next_digit(&right, b->end);

		if (left_digit != right_digit)
			return left_digit < right_digit ? -1 : 1;
	}
	return 0;
}

int
pems_json_compare_numbers(const char *a, const char *b)
{
	Decimal left;
	Decimal right;

	read_decimal(a, &left);
	read_decimal(b, &right);
	if (left.sign != right.sign)
		return left.sign < right.sign ? -1 : 1;
	if (left.sign == 0)
		return 0;
	return left.sign * compare_magnitudes(&left, &right);
}

bool
pems_json_is_integral(const JsonNode *node)
{
	Decimal decimal;

	if (node == NULL || node->kind != JSON_KIND_NUMBER)
		return false;
	read_decimal(node->text, &decimal);
	return decimal.sign == 0 || decimal.magnitude >= decimal.count;
}

bool
pems_json_integer(const JsonNode *node, long long *value)
{
	Decimal decimal;
	unsigned long long magnitude = 0;
	unsigned long long limit = LLONG_MAX;
	const char *cursor;
	long long i;

	if (!pems_json_is_integral(node))
		return false;
	read_decimal(node->text, &decimal);
	/* 19 digits always fit into the unsigned type. */
	if (decimal.magnitude > 19)
		return false;
	cursor = decimal.digits;
	for (i = 0; i < decimal.magnitude; i++)
		magnitude = magnitude * 10 + (unsigned) next_digit(&cursor, decimal.end);
	if (decimal.sign < 0)
		limit++;
	if (magnitude > limit)
		return false;
	if (magnitude > LLONG_MAX)
		*value = LLONG_MIN;
	else
		*value = decimal.sign < 0 ? -(long long) magnitude : (long long) magnitude;
	return true;
}

/* ---------- building texts ---------- */

static bool
reserve(JsonBuffer *buffer, size_t more)
{
	size_t capacity = buffer->capacity ? buffer->capacity : 128;
	char *data;

	if (buffer->failed)
		return false;
	if (more >= SIZE_MAX / 2 - buffer->length)
	{
		buffer->failed = true;
		return false;
	}
	while (capacity <= buffer->length + more)
		capacity *= 2;
	if (capacity == buffer->capacity)
		return true;
	data = realloc(buffer->data, capacity);
	if (data == NULL)
	{
		buffer->failed = true;
		return false;
	}
	buffer->data = data;
	buffer->capacity = capacity;
	return true;
}

void
pems_json_append(JsonBuffer *buffer, const char *text, size_t length)
{
	if (!reserve(buffer, length))
		return;
	if (length > 0)
		memcpy(buffer->data + buffer->length, text, length);
	buffer->length += length;
	buffer->data[buffer->length] = '\0';
}

void
pems_json_append_text(JsonBuffer *buffer, const char *text)
{
	pems_json_append(buffer, text, strlen(text));
}

static void
append_escaped(JsonBuffer *buffer, char c)
{
	static const char names[] = "\"\\bfnrt";
	static const char values[] = "\"\\\b\f\n\r\t";
	static const char hex[] = "0123456789abcdef";
	const char *found = memchr(values, c, sizeof(values) - 1);
	char escape[6] = {'\\', 'u', '0', '0', 0, 0};

	if (found)
	{
		escape[1] = names[found - values];
		pems_json_append(buffer, escape, 2);
		return;
	}
	escape[4] = hex[(unsigned char) c >> 4];
	escape[5] = hex[(unsigned char) c & 15];
	pems_json_append(buffer, escape, 6);
}

void
pems_json_append_string(JsonBuffer *buffer, const char *text, size_t length)
{
	size_t start = 0;
	size_t i;

	pems_json_append(buffer, "\"", 1);
	for (i = 0; i < length; i++)
	{
		if ((unsigned char) text[i] >= 0x20 && text[i] != '"' && text[i] != '\\')
			continue;
		pems_json_append(buffer, text + start, i - start);
		append_escaped(buffer, text[i]);
		start = i + 1;
	}
	pems_json_append(buffer, text + start, length - start);
	pems_json_append(buffer, "\"", 1);
}

static void
append_children(JsonBuffer *buffer, const JsonNode *node, const char *brackets)
{
	const JsonNode *child;

	pems_json_append(buffer, brackets, 1);
	for (child = node->first; child; child = child->next)
	{
		if (child != node->first)
			pems_json_append(buffer, ",", 1);
		if (child->key)
		{
			pems_json_append_string(buffer, child->key, child->key_length);
			pems_json_append(buffer, ":", 1);
		}
		pems_json_append_node(buffer, child);
	}
	pems_json_append(buffer, brackets + 1, 1);
}

void
pems_json_append_node(JsonBuffer *buffer, const JsonNode *node)
{
	switch (node ? node->kind : JSON_KIND_NULL)
	{
		case JSON_KIND_NULL:
			pems_json_append_text(buffer, "null");
			break;
		case JSON_KIND_BOOLEAN:
			pems_json_append_text(buffer, node->boolean ? "true" : "false");
			break;
		case JSON_KIND_NUMBER:
			pems_json_append(buffer, node->text, node->length);
			break;
		case JSON_KIND_STRING:
			pems_json_append_string(buffer, node->text, node->length);
			break;
		case JSON_KIND_ARRAY:
			append_children(buffer, node, "[]");
			break;
		case JSON_KIND_OBJECT:
			append_children(buffer, node, "{}");
			break;
	}
}

void
pems_json_buffer_free(JsonBuffer *buffer)
{
	free(buffer->data);
	memset(buffer, 0, sizeof(*buffer));
}
