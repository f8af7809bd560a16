/*
 * fault_parser.c
 *		A fault rule from the JSON of POST /_control/faults.
 *
 * One table says which members there are; a member that is not in it is an error,
 * because a misspelled fault that silently does nothing makes a test pass that
 * should not.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edits.h"
#include "faults.h"
#include "memory.h"
#include "text.h"

#define DEFAULT_MS_PER_BYTE 100

typedef struct Parse
{
	MockFault *fault;
	bool said_apply; /* the rule itself says whether the write takes effect */
	JsonBuffer name;
	char *error;
	size_t error_size;
} Parse;

/* Read a member into the rule; a wrong type is refused by return value false. */
typedef bool (*MemberReader)(Parse *parse, const JsonNode *value, void *target);

typedef struct Member
{
	const char *key;
	MemberReader read;
	size_t offset;      /* of the target in MockFault */
	const char *action; /* its word in the log; NULL: not an action */
} Member;

static bool
fail(Parse *parse, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(parse->error, parse->error_size, format, arguments);
	va_end(arguments);
	return false;
}

/* ---------- readers of plain values ---------- */

static bool
read_string(Parse *parse, const JsonNode *value, void *target)
{
	char **text = target;

	(void) parse;
	if (value->kind != JSON_KIND_STRING)
		return false;
	free(*text);
	*text = mock_memory_copy_bytes(value->text, value->length);
	return true;
}

static bool
read_integer(Parse *parse, const JsonNode *value, void *target)
{
	long long number;

	(void) parse;
	if (!pems_json_integer(value, &number))
		return false;
	*(int64_t *) target = number;
	return true;
}

static bool
read_natural(Parse *parse, const JsonNode *value, void *target)
{
	return read_integer(parse, value, target) && *(int64_t *) target >= 0;
}

static bool
read_positive(Parse *parse, const JsonNode *value, void *target)
{
	return read_integer(parse, value, target) && *(int64_t *) target > 0;
}

/* Any value, kept as JSON text. */
static bool
read_json(Parse *parse, const JsonNode *value, void *target)
{
	char **json = target;
	JsonBuffer text = {0};

	(void) parse;
	pems_json_append_node(&text, value);
	if (text.failed)
		mock_memory_die("out of memory");
	free(*json);
	*json = text.data;
	return true;
}

static bool
read_boolean(Parse *parse, const JsonNode *value, void *target)
{
	(void) parse;
	*(bool *) target = value->boolean;
	return value->kind == JSON_KIND_BOOLEAN;
}

static bool
read_probability(Parse *parse, const JsonNode *value, void *target)
{
	double number;

	(void) parse;
	if (value->kind != JSON_KIND_NUMBER)
		return false;
	number = strtod(value->text, NULL);
	*(double *) target = number;
	return number >= 0.0 && number <= 1.0;
}

static bool
read_call(Parse *parse, const JsonNode *value, void *target)
{
	(void) parse;
	if (value->kind != JSON_KIND_STRING)
		return false;
	for (int call = 0; call < MOCK_CALL_COUNT; call++)
	{
		if (strcmp(value->text, mock_call_name((MockCall) call)) == 0)
		{
			*(int *) target = call;
			return true;
		}
	}
	return false;
}

/* ---------- readers of actions ---------- */

static bool
read_apply(Parse *parse, const JsonNode *value, void *target)
{
	parse->said_apply = true;
	return read_boolean(parse, value, target);
}

static bool
set_content(Parse *parse, const JsonNode *value, MockContent content, bool apply)
{
	MockEffect *effect = &parse->fault->effect;

	if (value->kind == JSON_KIND_BOOLEAN && !value->boolean)
		return false;
	effect->content = content;
	if (!parse->said_apply)
		effect->apply = apply;
	return true;
}

static bool
set_delivery(Parse *parse, const JsonNode *value, MockDelivery delivery, bool apply)
{
	if (value->kind != JSON_KIND_BOOLEAN || !value->boolean)
		return false;
	parse->fault->effect.delivery = delivery;
	if (!parse->said_apply && !apply)
		parse->fault->effect.apply = false;
	return true;
}

static bool
read_status(Parse *parse, const JsonNode *value, void *target)
{
	int64_t *status = target;

	if (!read_integer(parse, value, target) || *status < 200 || *status > 599)
		return false;
	/* a status alone changes nothing else: what it stands for did not happen */
	if (parse->fault->effect.content == MOCK_CONTENT_TRUE)
		return set_content(parse, value, MOCK_CONTENT_GIVEN, false);
	return true;
}

static bool
read_body(Parse *parse, const JsonNode *value, void *target)
{
	MockEffect *effect = &parse->fault->effect;
	JsonBuffer text = {0};

	(void) target;
	free(effect->body);
	if (value->kind == JSON_KIND_STRING)
		pems_json_append(&text, value->text, value->length);
	else
		pems_json_append_node(&text, value);
	effect->body = mock_memory_copy_bytes(text.length > 0 ? text.data : "", text.length);
	effect->body_length = text.length;
	pems_json_buffer_free(&text);
	if (effect->content == MOCK_CONTENT_TRUE)
		return set_content(parse, value, MOCK_CONTENT_GIVEN, false);
	return true;
}

static bool
read_headers(Parse *parse, const JsonNode *value, void *target)
{
	MockHeader **link = target;

	(void) parse;
	if (value->kind != JSON_KIND_OBJECT)
		return false;
	for (const JsonNode *member = value->first; member != NULL; member = member->next)
	{
		if (member->kind != JSON_KIND_STRING)
			return false;
		*link = mock_memory_allocate(sizeof(**link));
		(*link)->name = mock_memory_copy(member->key);
		(*link)->value = mock_memory_copy(member->text);
		link = &(*link)->next;
	}
	return true;
}

static bool
read_garbage(Parse *parse, const JsonNode *value, void *target)
{
	(void) target;
	return set_content(parse, value, MOCK_CONTENT_GARBAGE, true);
}

static bool
read_html(Parse *parse, const JsonNode *value, void *target)
{
	(void) target;
	return set_content(parse, value, MOCK_CONTENT_HTML, false);
}

static bool
read_empty(Parse *parse, const JsonNode *value, void *target)
{
	(void) target;
	return set_content(parse, value, MOCK_CONTENT_EMPTY, true);
}

static bool
read_accepted(Parse *parse, const JsonNode *value, void *target)
{
	(void) target;
	return set_content(parse, value, MOCK_CONTENT_ACCEPTED, true);
}

static bool
read_failure(Parse *parse, const JsonNode *value, void *target)
{
	if (value->kind == JSON_KIND_STRING && !read_string(parse, value, target))
		return false;
	return set_content(parse, value, MOCK_CONTENT_FAILURE, false);
}

static bool
read_redirect(Parse *parse, const JsonNode *value, void *target)
{
	return read_string(parse, value, target) &&
		   set_content(parse, value, MOCK_CONTENT_REDIRECT, false);
}

/* Retry-After belongs to 429 unless the rule says another status. */
static void
throttle(Parse *parse)
{
	MockEffect *effect = &parse->fault->effect;

	if (effect->content != MOCK_CONTENT_TRUE)
		return;
	effect->content = MOCK_CONTENT_GIVEN;
	if (!parse->said_apply)
		effect->apply = false;
}

static bool
read_retry_after(Parse *parse, const JsonNode *value, void *target)
{
	char **text = target;

	throttle(parse);
	if (value->kind == JSON_KIND_NUMBER)
	{
		free(*text);
		*text = mock_memory_copy(value->text);
		return true;
	}
	return read_string(parse, value, target);
}

static bool
read_retry_after_date(Parse *parse, const JsonNode *value, void *target)
{
	throttle(parse);
	parse->fault->effect.retry_after_date = true;
	return read_integer(parse, value, target);
}

static bool
read_apply_then_drop(Parse *parse, const JsonNode *value, void *target)
{
	(void) target;
	if (!parse->said_apply)
		parse->fault->effect.apply = true; /* even beside a status */
	return set_delivery(parse, value, MOCK_DELIVER_NOTHING, true);
}

static bool
read_drop(Parse *parse, const JsonNode *value, void *target)
{
	(void) target;
	return set_delivery(parse, value, MOCK_DELIVER_NOTHING, false);
}

static bool
read_truncate(Parse *parse, const JsonNode *value, void *target)
{
	(void) target;
	return set_delivery(parse, value, MOCK_DELIVER_HALF, true);
}

static bool
read_endless(Parse *parse, const JsonNode *value, void *target)
{
	(void) target;
	return set_delivery(parse, value, MOCK_DELIVER_FOR_EVER, true);
}

static bool
read_hang(Parse *parse, const JsonNode *value, void *target)
{
	(void) target;
	return set_delivery(parse, value, MOCK_DELIVER_NEVER, false);
}

static bool
read_slow(Parse *parse, const JsonNode *value, void *target)
{
	parse->fault->effect.delivery = MOCK_DELIVER_SLOWLY;
	if (value->kind == JSON_KIND_BOOLEAN)
		return value->boolean;
	return read_positive(parse, value, target);
}

static bool
read_stall(Parse *parse, const JsonNode *value, void *target)
{
	(void) target;
	return set_delivery(parse, value, MOCK_DELIVER_STALLED, true);
}

/* ---------- readers of what becomes of a page, or happens behind it ---------- */

/* {"pfaId": "text that stands in its place"}; "%00" to "%FF" in a text are bytes. */
static bool
read_record_texts(Parse *parse, const JsonNode *value, void *target)
{
	MockRecordText **link = target;

	(void) parse;
	if (value->kind != JSON_KIND_OBJECT)
		return false;
	for (const JsonNode *member = value->first; member != NULL; member = member->next)
	{
		if (member->kind != JSON_KIND_STRING)
			return false;
		*link = mock_memory_allocate(sizeof(**link));
		(*link)->pfa_id = mock_memory_copy(member->key);
		(*link)->text = mock_text_unescape(member->text, member->length, &(*link)->length);
		link = &(*link)->next;
	}
	return true;
}

static bool
read_then_edit(Parse *parse, const JsonNode *value, void *target)
{
	const JsonNode *node = value->kind == JSON_KIND_ARRAY ? value->first : value;

	for (; node != NULL; node = value->kind == JSON_KIND_ARRAY ? node->next : NULL)
	{
		const char *problem = mock_edit_check(node);

		if (problem != NULL)
			return fail(parse, "thenEdit: %s", problem);
	}
	return read_json(parse, value, target);
}

/* Actions that no other call knows. */
static bool
changes_page(const MockListEffect *effect)
{
	return effect->page_size >= 0 || effect->shift != 0 || effect->without_deleted ||
		   effect->texts != NULL || effect->next_cursor != NULL || effect->no_next_cursor ||
		   effect->always_next_cursor || effect->begin_again || effect->back_to_page > 0;
}

/* ---------- the table ---------- */

#define RULE(field)   offsetof(MockFault, field)
#define EFFECT(field) offsetof(MockFault, effect.field)

static const Member members[] = {
	/* which requests */
	{"id", read_string, RULE(id), NULL},
	{"organizationCode", read_string, RULE(organization_code), NULL},
	{"pfaId", read_string, RULE(pfa_id), NULL},
	{"method", read_string, RULE(method), NULL},
	{"call", read_call, RULE(call), NULL},
	{"page", read_positive, RULE(page), NULL},
	{"fromPage", read_positive, RULE(from_page), NULL},
	{"count", read_natural, RULE(count), NULL},
	{"after", read_natural, RULE(after), NULL},
	{"probability", read_probability, RULE(probability), NULL},
	{"seed", read_integer, RULE(random), NULL},
	/* when, and whether it takes effect: before all that has a default for it */
	{"apply", read_apply, EFFECT(apply), "apply"},
	{"delayMs", read_natural, EFFECT(delay_ms), "delay"},
	{"delayAfterApplyMs", read_natural, EFFECT(hold_ms), "delayAfterApply"},
	/* what the answer says: a content before the status that may go with it */
	{"garbage", read_garbage, 0, "garbage"},
	{"html", read_html, 0, "html"},
	{"emptyBody", read_empty, 0, "emptyBody"},
	{"accepted", read_accepted, 0, "accepted"},
	{"successFalse", read_failure, EFFECT(error), "successFalse"},
	{"redirect", read_redirect, EFFECT(redirect), "redirect"},
	{"retryAfter", read_retry_after, EFFECT(retry_after), "retryAfter"},
	{"retryAfterDateSeconds", read_retry_after_date, EFFECT(retry_after_date_s), "retryAfterDate"},
	{"status", read_status, EFFECT(status), "status"},
	{"body", read_body, 0, "body"},
	{"error", read_string, EFFECT(error), NULL},
	{"headers", read_headers, EFFECT(headers), "headers"},
	{"hugeHeaders", read_boolean, EFFECT(huge_headers), "hugeHeaders"},
	{"dateSkewSeconds", read_integer, EFFECT(date_skew_s), "dateSkew"},
	{"wrongId", read_boolean, EFFECT(wrong_id), "wrongId"},
	{"noNewVersion", read_boolean, EFFECT(no_new_version), "noNewVersion"},
	{"newVersionBump", read_natural, EFFECT(version_bump), "newVersionBump"},
	{"roundNumbers", read_boolean, EFFECT(round_numbers), "roundNumbers"},
	{"updatedAtSkewSeconds", read_integer, EFFECT(updated_at_skew_s), "updatedAtSkew"},
	{"lagVersions", read_positive, EFFECT(lag_versions), "lagVersions"},
	{"lagSeconds", read_positive, EFFECT(lag_s), "lagSeconds"},
	{"padding", read_positive, EFFECT(padding), "padding"},
	/* what becomes of a page */
	{"pageSize", read_natural, EFFECT(list.page_size), "pageSize"},
	{"shift", read_integer, EFFECT(list.shift), "shift"},
	{"withoutDeleted", read_boolean, EFFECT(list.without_deleted), "withoutDeleted"},
	{"recordTexts", read_record_texts, EFFECT(list.texts), "recordTexts"},
	{"nextCursor", read_json, EFFECT(list.next_cursor), "nextCursor"},
	{"noNextCursor", read_boolean, EFFECT(list.no_next_cursor), "noNextCursor"},
	{"alwaysNextCursor", read_boolean, EFFECT(list.always_next_cursor), "alwaysNextCursor"},
	{"beginAgain", read_boolean, EFFECT(list.begin_again), "beginAgain"},
	{"backToPage", read_positive, EFFECT(list.back_to_page), "backToPage"},
	/* what others do meanwhile */
	{"thenEdit", read_then_edit, EFFECT(then_edit), "thenEdit"},
	/* how it travels */
	{"applyThenDrop", read_apply_then_drop, 0, "applyThenDrop"},
	{"dropBeforeApply", read_drop, 0, "dropBeforeApply"},
	{"reset", read_boolean, EFFECT(reset), NULL},
	{"truncate", read_truncate, 0, "truncate"},
	{"endlessBody", read_endless, 0, "endlessBody"},
	{"hang", read_hang, 0, "hang"},
	{"stallBody", read_stall, 0, "stallBody"},
	{"slowBody", read_slow, EFFECT(ms_per_byte), "slowBody"},
};

#define MEMBER_COUNT (sizeof(members) / sizeof(members[0]))

static bool
read_member(Parse *parse, const Member *member, const JsonNode *value)
{
	if (!member->read(parse, value, (char *) parse->fault + member->offset))
	{
		if (parse->error[0] != '\0')
			return false;
		return fail(parse, "\"%s\" has a wrong value", member->key);
	}
	if (member->action != NULL)
	{
		if (parse->name.length > 0)
			pems_json_append(&parse->name, "+", 1);
		pems_json_append_text(&parse->name, member->action);
	}
	return true;
}

static bool
check_keys(Parse *parse, const JsonNode *node)
{
	for (const JsonNode *member = node->first; member != NULL; member = member->next)
	{
		size_t i = 0;

		while (i < MEMBER_COUNT && strcmp(members[i].key, member->key) != 0)
			i++;
		if (i == MEMBER_COUNT)
			return fail(parse, "a fault has no member \"%.64s\"", member->key);
	}
	return true;
}

/* In the order of the table, not of the text: the defaults depend on it. */
static bool
read_members(Parse *parse, const JsonNode *node)
{
	if (node->kind != JSON_KIND_OBJECT)
		return fail(parse, "a fault is an object");
	if (!check_keys(parse, node))
		return false;
	for (size_t i = 0; i < MEMBER_COUNT; i++)
	{
		const JsonNode *value = pems_json_get(node, members[i].key);

		if (value != NULL && !read_member(parse, &members[i], value))
			return false;
	}
	if (parse->name.length == 0)
		return fail(parse, "a fault needs an action");
	return true;
}

MockFault *
mock_fault_parse(const JsonNode *node, char *error, size_t error_size)
{
	Parse parse = {.error = error, .error_size = error_size};
	MockFault *fault = mock_memory_allocate(sizeof(*fault));
	bool good;

	fault->references = 1;
	fault->call = -1;
	fault->page = -1;
	fault->from_page = -1;
	fault->count = -1;
	fault->probability = 1.0;
	fault->effect.apply = true;
	fault->effect.ms_per_byte = DEFAULT_MS_PER_BYTE;
	fault->effect.list.page_size = -1;
	error[0] = '\0';
	parse.fault = fault;
	good = read_members(&parse, node);
	if (good)
		fault->name = mock_memory_copy(parse.name.data);
	if (fault->call < 0 && changes_page(&fault->effect.list))
		fault->call = MOCK_CALL_LIST;
	pems_json_buffer_free(&parse.name);
	if (good)
		return fault;
	mock_faults_release(fault);
	return NULL;
}
