/*
 * loader.c
 *		The records file: read once at the start, and again at every reset.
 *
 * A million records as one tree of nodes would take gigabytes.  So the text is
 * only split here, into the elements of the two arrays, by counting brackets;
 * each element is then parsed by itself, strictly.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "loader.h"
#include "memory.h"
#include "text.h"

typedef struct Scanner
{
	const char *begin;
	const char *at;
	const char *end;
	MockStore *store;
	int64_t now;
	char *error;
} Scanner;

static bool
fail(const Scanner *scanner, const char *problem)
{
	snprintf(scanner->error, MOCK_LOADER_ERROR_SIZE, "records file, byte %zu: %s",
			 (size_t) (scanner->at - scanner->begin), problem);
	return false;
}

/* ---------- the elements ---------- */

bool
mock_loader_add_organization(MockStore *store, const JsonNode *node, const char **error)
{
	const char *code = mock_text_get_string(node, "code");
	const JsonNode *token = pems_json_get(node, "token");

	*error = NULL;
	if (code == NULL || *code == '\0')
		*error = "an organization needs a \"code\"";
	else if (token != NULL && token->kind != JSON_KIND_STRING && token->kind != JSON_KIND_NULL)
		*error = "\"token\" is a string or null";
	else
		mock_store_set_token(mock_store_add_organization(store, code),
							 mock_text_get_string(node, "token"));
	return *error == NULL;
}

bool
mock_loader_read_state(const JsonNode *node, MockRecordState *state, const char **error)
{
	const JsonNode *version = pems_json_get(node, "version");
	const JsonNode *updated_at = pems_json_get(node, "updatedAt");
	const JsonNode *deleted = pems_json_get(node, "deleted");
	long long number = state->version;

	*error = NULL;
	if (version != NULL && !pems_json_integer(version, &number))
		*error = "\"version\" is an integer";
	else if (updated_at != NULL && (updated_at->kind != JSON_KIND_STRING ||
									!mock_clock_parse_iso(updated_at->text, &state->updated_at)))
		*error = "\"updatedAt\" is a time as 2025-01-31T00:00:00Z";
	else if (deleted != NULL && deleted->kind != JSON_KIND_BOOLEAN)
		*error = "\"deleted\" is true or false";
	state->version = number;
	if (deleted != NULL)
		state->deleted = deleted->boolean;
	return *error == NULL;
}

bool
mock_loader_add_record(MockStore *store, const JsonNode *node, int64_t now, const char **error)
{
	const char *code = mock_text_get_string(node, "organizationCode");
	const char *pfa_id = mock_text_get_string(node, "pfaId");
	const JsonNode *data = pems_json_get(node, "data");
	MockRecordState state = {.version = 1, .updated_at = now};
	MockOrganization *organization;
	JsonBuffer text = {0};

	*error = "a record needs \"organizationCode\", \"pfaId\" and \"data\", an object";
	if (code == NULL || pfa_id == NULL || *pfa_id == '\0' || data == NULL ||
		data->kind != JSON_KIND_OBJECT)
		return false;
	if (!mock_loader_read_state(node, &state, error))
		return false;
	pems_json_append_node(&text, data);
	state.modified_by = mock_memory_intern(mock_text_get_string(node, "lastModifiedBy"));
	state.shown_code = mock_memory_intern(mock_text_get_string(node, "shownOrganizationCode"));
	state.data = mock_memory_copy_bytes(text.data, text.length); /* without spare room */
	state.data_length = text.length;
	pems_json_buffer_free(&text);
	organization = mock_store_add_organization(store, code);
	pthread_mutex_lock(&organization->lock);
	mock_store_put(organization, pfa_id, &state);
	pthread_mutex_unlock(&organization->lock);
	return true;
}

/* ---------- splitting ---------- */

static char
peek(Scanner *scanner)
{
	while (scanner->at < scanner->end && (*scanner->at == ' ' || *scanner->at == '\t' ||
										  *scanner->at == '\n' || *scanner->at == '\r'))
		scanner->at++;
	return scanner->at < scanner->end ? *scanner->at : '\0';
}

static bool
take(Scanner *scanner, char wanted)
{
	if (peek(scanner) != wanted)
		return false;
	scanner->at++;
	return true;
}

static void
skip_string(Scanner *scanner)
{
	for (scanner->at++; scanner->at < scanner->end && *scanner->at != '"'; scanner->at++)
	{
		if (*scanner->at == '\\')
			scanner->at++;
	}
	scanner->at = scanner->at < scanner->end ? scanner->at + 1 : scanner->end;
}

/* Go behind the value at the cursor, or to the end of the text; its inside is not judged. */
static void
skip_value(Scanner *scanner)
{
	int depth = 0;

	peek(scanner);
	while (scanner->at < scanner->end)
	{
		char c = *scanner->at;

		if (depth == 0 && (c == ',' || c == '}' || c == ']'))
			return;
		if (c == '"')
			skip_string(scanner);
		else
			scanner->at++;
		if (c == '{' || c == '[')
			depth++;
		else if (c == '}' || c == ']')
			depth--;
	}
}

static bool
take_element(Scanner *scanner, bool records)
{
	const char *begin = scanner->at;
	const char *error;
	JsonDocument document;
	bool good;

	skip_value(scanner);
	if (!pems_json_parse(begin, (size_t) (scanner->at - begin), &document, &error))
	{
		scanner->at = begin;
		return fail(scanner, error);
	}
	good = records ? mock_loader_add_record(scanner->store, document.root, scanner->now, &error)
				   : mock_loader_add_organization(scanner->store, document.root, &error);
	pems_json_free(&document);
	if (good)
		return true;
	scanner->at = begin;
	return fail(scanner, error);
}

static bool
take_array(Scanner *scanner, bool records)
{
	if (!take(scanner, '['))
		return fail(scanner, "an array was expected");
	if (take(scanner, ']'))
		return true;
	do
	{
		peek(scanner);
		if (!take_element(scanner, records))
			return false;
	} while (take(scanner, ','));
	return take(scanner, ']') || fail(scanner, "\",\" or \"]\" was expected");
}

static bool
take_member(Scanner *scanner)
{
	const char *key;
	size_t length;

	if (peek(scanner) != '"')
		return fail(scanner, "a member was expected");
	key = scanner->at;
	skip_string(scanner);
	length = (size_t) (scanner->at - key);
	if (!take(scanner, ':'))
		return fail(scanner, "\":\" was expected");
	if (length == 9 && memcmp(key, "\"records\"", 9) == 0)
		return take_array(scanner, true);
	if (length == 15 && memcmp(key, "\"organizations\"", 15) == 0)
		return take_array(scanner, false);
	skip_value(scanner);
	return true;
}

static bool
take_document(Scanner *scanner)
{
	if (peek(scanner) == '\0')
		return true; /* an empty file is no records */
	if (!take(scanner, '{'))
		return fail(scanner, "an object was expected");
	if (!take(scanner, '}'))
	{
		do
		{
			if (!take_member(scanner))
				return false;
		} while (take(scanner, ','));
		if (!take(scanner, '}'))
			return fail(scanner, "\",\" or \"}\" was expected");
	}
	return peek(scanner) == '\0' || fail(scanner, "text behind the end");
}

/* ---------- the file ---------- */

bool
mock_loader_open(MockLoader *loader, const char *path, char *error)
{
	loader->file = -1;
	if (strcmp(path, "-") == 0)
		return true;
	loader->file = open(path, O_RDONLY | O_CLOEXEC);
	if (loader->file < 0)
		snprintf(error, MOCK_LOADER_ERROR_SIZE, "could not open \"%.150s\": %s", path,
				 strerror(errno));
	return loader->file >= 0;
}

/* All bytes of the file, malloc'ed; NULL and errno on failure. */
static char *
read_file(int file, size_t *length)
{
	struct stat status;
	size_t room = 65536;
	char *text = NULL;
	ssize_t got = 1;

	/* a pipe or device has no size: the buffer just grows */
	if (fstat(file, &status) == 0 && S_ISREG(status.st_mode))
		room = (size_t) status.st_size + 1;
	lseek(file, 0, SEEK_SET);
	for (*length = 0; got > 0; *length += (size_t) got)
	{
		if (text == NULL || *length == room)
		{
			room = text == NULL ? room : room * 2;
			text = mock_memory_resize(text, room);
		}
		do
			got = read(file, text + *length, room - *length);
		while (got < 0 && errno == EINTR);
		if (got < 0)
		{
			free(text);
			return NULL;
		}
	}
	return text;
}

bool
mock_loader_load(const MockLoader *loader, MockStore *store, char *error)
{
	Scanner scanner = {.store = store, .now = mock_clock_wall_us(), .error = error};
	char *text;
	size_t length;
	bool good;

	if (loader->file < 0)
		return true;
	text = read_file(loader->file, &length);
	if (text == NULL)
	{
		snprintf(error, MOCK_LOADER_ERROR_SIZE, "could not read the records file: %s",
				 strerror(errno));
		return false;
	}
	scanner.begin = text;
	scanner.at = text;
	scanner.end = text + length;
	good = take_document(&scanner);
	free(text);
	return good;
}
