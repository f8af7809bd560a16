/*
 * record/merge_test.c
 *		Unit tests of src/record/merge.c: a truth table, and properties of random records.
 */
#include "unit.h"
#include "record/sample_catalogue.h"

#include "../../src/record/merge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 20000

static PemsCatalogue *
catalogue(void)
{
	static PemsCatalogue shared;

	if (shared.count == 0)
		CHECK(pems_field_read_catalogue(SAMPLE_CATALOGUE, strlen(SAMPLE_CATALOGUE), &shared, NULL));
	return &shared;
}

/* ---------- the truth table ---------- */

/* JSON in these rows is written with ' for ", which C would want escaped. */
typedef struct Row
{
	const char *name;
	const char *delta; /* NULL: a DELETE */
	const char *base;
	const char *own;
	const char *remote;
	int base_version;
	int remote_version;
	const char *expected;
} Row;

#define ROW(name, delta, base, remote, expected)                                                   \
	{                                                                                              \
		name, delta, base, NULL, remote, 1, 2, expected                                            \
	}
#define OWN_ROW(name, delta, base, own, remote, expected)                                          \
	{                                                                                              \
		name, delta, base, own, remote, 1, 2, expected                                             \
	}
#define VERSION_ROW(name, delta, base, remote, base_version, remote_version, expected)             \
	{                                                                                              \
		name, delta, base, NULL, remote, base_version, remote_version, expected                    \
	}
#define DELETE_ROW(name, base, own, remote, base_version, remote_version, expected)                \
	{                                                                                              \
		name, NULL, base, own, remote, base_version, remote_version, expected                      \
	}

/* A text with ' for ", parsed. */
typedef struct Side
{
	char text[512];
	JsonDocument document;
} Side;

static const JsonNode *
parse_side(const char *json, Side *side)
{
	char *c;

	memset(side, 0, sizeof(*side));
	if (json == NULL)
		return NULL;
	snprintf(side->text, sizeof(side->text), "%s", json);
	for (c = side->text; *c; c++)
	{
		if (*c == '\'')
			*c = '"';
	}
	CHECK(pems_json_parse(side->text, strlen(side->text), &side->document, NULL));
	return side->document.root;
}

static void
free_side(Side *side)
{
	pems_json_free(&side->document);
}

static void
append_list(char *text, size_t size, char **list, size_t count, const char *before)
{
	size_t i;

	for (i = 0; i < count; i++)
	{
		size_t length = strlen(text);

		snprintf(text + length, size - length, "%s%s", i == 0 ? before : ", ", list[i]);
	}
}

/* In words: "send {...}", "nothing", "update_update: a, b", "validation: a | sentence". */
static void
describe(const PemsDecision *decision, char *text, size_t size)
{
	CHECK(!decision->failed);
	switch (decision->action)
	{
		case PEMS_MERGE_SEND:
			snprintf(text, size, "send%s%s", decision->changes ? " " : "",
					 decision->changes ? decision->changes : "");
			break;
		case PEMS_MERGE_NOTHING:
			snprintf(text, size, "nothing");
			break;
		case PEMS_MERGE_CONFLICT:
			snprintf(text, size, "%s", pems_merge_kind_name(decision->kind));
			append_list(text, size, decision->fields, decision->field_count, ": ");
			append_list(text, size, decision->errors, decision->error_count, " | ");
			break;
	}
	CHECK((decision->action == PEMS_MERGE_CONFLICT) == (decision->kind != PEMS_CONFLICT_NONE));
	CHECK(decision->action == PEMS_MERGE_SEND || decision->changes == NULL);
}

static void
check_row(const Row *row)
{
	char text[1024];
	Side sides[4];
	PemsMergeInput input = {.catalogue = catalogue(), .is_delete = row->delta == NULL};
	PemsDecision decision;
	char *c;
	int i;

	input.delta = parse_side(row->delta, &sides[0]);
	input.base = parse_side(row->base, &sides[1]);
	input.own = parse_side(row->own, &sides[2]);
	input.remote = parse_side(row->remote, &sides[3]);
	input.base_version = row->base_version;
	input.remote_version = row->remote_version;
	pems_merge_decide(&input, &decision);
	describe(&decision, text, sizeof(text));
	for (c = text; *c; c++)
	{
		if (*c == '"')
			*c = '\'';
	}
	if (!CHECK_TEXT(text, row->expected))
		unit_note("row: %s", row->name);
	pems_merge_free(&decision);
	for (i = 0; i < 4; i++)
		free_side(&sides[i]);
}

static void
check_rows(const Row *rows, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		check_row(&rows[i]);
}

#define CHECK_ROWS(rows) check_rows(rows, sizeof(rows) / sizeof((rows)[0]))

UNIT_TEST(one_field_three_ways)
{
	static const Row rows[] = {
		ROW("nobody else wrote", "{'dor':'BEO'}", "{'dor':'PROJECT'}", "{'dor':'PROJECT'}",
			"send {'dor':'BEO'}"),
		VERSION_ROW("went A, B, A", "{'monthlyRate':2}", "{'monthlyRate':1}", "{'monthlyRate':1}",
					1, 3, "send {'monthlyRate':2}"),
		ROW("PEMS has ours already", "{'monthlyRate':2}", "{'monthlyRate':1}", "{'monthlyRate':2}",
			"nothing"),
		ROW("both changed, differently", "{'monthlyRate':2}", "{'monthlyRate':1}",
			"{'monthlyRate':3}", "update_update: monthlyRate"),
		ROW("an edit that changes nothing", "{'monthlyRate':1}", "{'monthlyRate':1}",
			"{'monthlyRate':1}", "nothing"),
		ROW("an edit that changes nothing, PEMS moved", "{'monthlyRate':1}", "{'monthlyRate':1}",
			"{'monthlyRate':3}", "update_update: monthlyRate"),
		ROW("we set it, PEMS removed it", "{'description':'b'}", "{'description':'a'}", "{}",
			"update_update: description"),
		ROW("we add it, PEMS too, differently", "{'description':'b'}", "{}", "{'description':'c'}",
			"update_update: description"),
		ROW("we add it, PEMS too, equally", "{'description':'b'}", "{}", "{'description':'b'}",
			"nothing"),
		ROW("we add it, nobody else", "{'description':'b'}", "{}", "{}",
			"send {'description':'b'}"),
	};

	CHECK_ROWS(rows);
}

UNIT_TEST(null_and_missing_differ)
{
	static const Row rows[] = {
		ROW("we empty it", "{'dor':null}", "{'dor':'BEO'}", "{'dor':'BEO'}", "send {'dor':null}"),
		ROW("we empty it, PEMS too", "{'dor':null}", "{'dor':'BEO'}", "{'dor':null}", "nothing"),
		ROW("we empty it, PEMS removed it", "{'dor':null}", "{'dor':'BEO'}", "{}",
			"update_update: dor"),
		ROW("null in base, missing in PEMS", "{'dor':'BEO'}", "{'dor':null}", "{}",
			"update_update: dor"),
		ROW("missing in base, null in PEMS", "{'dor':'BEO'}", "{}", "{'dor':null}",
			"update_update: dor"),
		ROW("missing in both, we set null", "{'dor':null}", "{}", "{}", "send {'dor':null}"),
		ROW("empty text is not null", "{'description':'b'}", "{'description':''}",
			"{'description':null}", "update_update: description"),
	};

	CHECK_ROWS(rows);
}

UNIT_TEST(values_are_compared_by_their_type)
{
	static const Row rows[] = {
		ROW("5500.00 = 5500.0, base", "{'monthlyRate':6000}", "{'monthlyRate':5500.00}",
			"{'monthlyRate':5500.0}", "send {'monthlyRate':6000}"),
		ROW("5500.00 = 55e2, ours", "{'monthlyRate':5500.00}", "{'monthlyRate':1}",
			"{'monthlyRate':55e2}", "nothing"),
		ROW("our literal is sent as it is", "{'monthlyRate':5500.00}", "{'monthlyRate':1}",
			"{'monthlyRate':1.0}", "send {'monthlyRate':5500.00}"),
		ROW("beyond 2^53", "{'monthlyRate':5}", "{'monthlyRate':9007199254740992}",
			"{'monthlyRate':9007199254740993}", "update_update: monthlyRate"),
		ROW("Z = +00:00, base", "{'forecastStart':'2025-02-01T00:00:00Z'}",
			"{'forecastStart':'2025-01-01T00:00:00Z'}",
			"{'forecastStart':'2025-01-01T01:00:00.000+01:00'}",
			"send {'forecastStart':'2025-02-01T00:00:00Z'}"),
		ROW("Z = +00:00, ours", "{'forecastStart':'2025-02-01T00:00:00Z'}",
			"{'forecastStart':'2025-01-01T00:00:00Z'}",
			"{'forecastStart':'2025-02-01T00:00:00+00:00'}", "nothing"),
		ROW("a date by its day", "{'deliveryDate':'2025-01-03'}", "{'deliveryDate':'2025-01-01'}",
			"{'deliveryDate':'2025-01-01T12:00:00Z'}", "send {'deliveryDate':'2025-01-03'}"),
		ROW("a colleague's day, which is still ours in UTC", "{'deliveryDate':'2025-07-05'}",
			"{'deliveryDate':'2025-07-01'}", "{'deliveryDate':'2025-07-02T00:00:00+05:30'}",
			"update_update: deliveryDate"),
		ROW("the same day, which is another one in UTC", "{'deliveryDate':'2025-07-05'}",
			"{'deliveryDate':'2025-07-01'}", "{'deliveryDate':'2025-07-01T00:00:00+02:00'}",
			"send {'deliveryDate':'2025-07-05'}"),
		ROW("PEMS has our day, written in another way", "{'deliveryDate':'2025-07-05'}",
			"{'deliveryDate':'2025-07-01'}", "{'deliveryDate':'2025-07-05T23:30:00-04:00'}",
			"nothing"),
		ROW("a day that does not exist is compared as text", "{'deliveryDate':'2025-07-05'}",
			"{'deliveryDate':'2025-02-30'}", "{'deliveryDate':'2025-02-30T00:00:00Z'}",
			"update_update: deliveryDate"),
		ROW("text exactly", "{'description':'b'}", "{'description':'a'}", "{'description':'a '}",
			"update_update: description"),
		ROW("a number is not its text", "{'monthlyRate':5}", "{'monthlyRate':1}",
			"{'monthlyRate':'1'}", "update_update: monthlyRate"),
		ROW("a value of the wrong type as plain JSON", "{'monthlyRate':5}", "{'monthlyRate':'1'}",
			"{'monthlyRate':'1'}", "send {'monthlyRate':5}"),
		ROW("an unknown field as plain JSON", "{'colour':'red'}", "{'colour':1}", "{'colour':1.0}",
			"send {'colour':'red'}"),
	};

	CHECK_ROWS(rows);
}

UNIT_TEST(several_fields)
{
	static const Row rows[] = {
		ROW("disjoint edits merge", "{'description':'b'}", "{'description':'a','quantity':1}",
			"{'description':'a','quantity':2}", "send {'description':'b'}"),
		ROW("what PEMS has already is left out", "{'description':'b','quantity':2}",
			"{'description':'a','quantity':1}", "{'description':'a','quantity':2}",
			"send {'description':'b'}"),
		ROW("all of it is there", "{'description':'b','quantity':2}",
			"{'description':'a','quantity':1}", "{'description':'b','quantity':2}", "nothing"),
		ROW("one of three in conflict, nothing is sent",
			"{'quantity':2,'description':'b','monthlyRate':3}",
			"{'quantity':1,'description':'a','monthlyRate':1}",
			"{'quantity':1,'description':'c','monthlyRate':1}", "update_update: description"),
		ROW("conflicts in the delta's order", "{'quantity':2,'description':'b'}",
			"{'description':'a','quantity':1}", "{'description':'c','quantity':3}",
			"update_update: quantity, description"),
		ROW("a remote that is no record has no fields", "{'quantity':2}", "{'quantity':1}", "[]",
			"update_update: quantity"),
		ROW("the same, and base has not the field", "{'quantity':2}", "{}", "[]",
			"send {'quantity':2}"),
		ROW("an empty delta", "{}", "{'quantity':1}", "{'quantity':2}", "nothing"),
	};

	CHECK_ROWS(rows);
}

UNIT_TEST(objects_are_decided_member_by_member)
{
	static const Row rows[] = {
		ROW("the whole object, with what is left on top", "{'custom':{'a':2,'b':2}}",
			"{'custom':{'a':1,'b':1,'c':1}}", "{'custom':{'a':1,'b':2,'c':9}}",
			"send {'custom':{'a':2,'b':2,'c':9}}"),
		ROW("dotted path", "{'custom':{'a':{'x':2,'y':2}},'quantity':2}",
			"{'custom':{'a':{'x':1,'y':1}},'quantity':1}",
			"{'custom':{'a':{'x':3,'y':1}},'quantity':1}", "update_update: custom.a.x"),
		ROW("a branch with nothing left is sent as PEMS has it", "{'custom':{'a':{'x':2},'b':2}}",
			"{'custom':{'a':{'x':1},'b':1}}", "{'custom':{'a':{'x':2,'z':1},'b':1}}",
			"send {'custom':{'a':{'x':2,'z':1},'b':2}}"),
		ROW("a key with a dot", "{'custom':{'x.y':2}}", "{'custom':{'x.y':1}}",
			"{'custom':{'x.y':3}}", "update_update: custom.x\\.y"),
		ROW("a key with a backslash, and an empty one", "{'custom':{'\\\\':{'':2}}}",
			"{'custom':{'\\\\':{'':1}}}", "{'custom':{'\\\\':{'':3}}}",
			"update_update: custom.\\\\."),
		ROW("nothing left at all", "{'custom':{'a':{'x':2}}}", "{'custom':{'a':{'x':1}}}",
			"{'custom':{'a':{'x':2,'y':5}}}", "nothing"),
		ROW("empty object names nothing", "{'custom':{}}", "{'custom':{'a':1}}",
			"{'custom':{'a':2}}", "nothing"),
		ROW("arrays whole", "{'custom':{'list':[1,2]}}", "{'custom':{'list':[1]}}",
			"{'custom':{'list':[1,3]}}", "update_update: custom.list"),
		ROW("no object in PEMS any more", "{'custom':{'a':2}}", "{'custom':{'a':1}}",
			"{'custom':null}", "update_update: custom"),
		ROW("no object anywhere yet", "{'custom':{'a':2}}", "{}", "{}", "send {'custom':{'a':2}}"),
		ROW("no object in base, PEMS made another", "{'custom':{'a':2}}", "{'custom':null}",
			"{'custom':{'b':1}}", "update_update: custom"),
		ROW("no object in base, PEMS has ours and more", "{'custom':{'a':2}}", "{'custom':null}",
			"{'custom':{'a':2.0,'b':1}}", "nothing"),
		ROW("we replace the object, PEMS changed it", "{'custom':null}", "{'custom':{'a':1}}",
			"{'custom':{'a':2}}", "update_update: custom"),
		ROW("we replace the object", "{'custom':5}", "{'custom':{'a':1}}", "{'custom':{'a':1.0}}",
			"send {'custom':5}"),
		ROW("members have no type", "{'custom':{'monthlyRate':'2025-01-01T00:00:00Z'}}",
			"{'custom':{'monthlyRate':'2025-01-01'}}",
			"{'custom':{'monthlyRate':'2025-01-01T00:00:00+00:00'}}",
			"update_update: custom.monthlyRate"),
		ROW("the type stays at the top below an empty key",
			"{'':{'forecastStart':'2025-01-01T00:00:00Z'}}", "{'':{'forecastStart':'2025-01-02'}}",
			"{'':{'forecastStart':'2025-01-02T00:00:00Z'}}", "update_update: .forecastStart"),
		ROW("keys are escaped", "{'custom':{'a\\\\\\n':2}}", "{'custom':{'a\\\\\\n':1}}",
			"{'custom':{'a\\\\\\n':1}}", "send {'custom':{'a\\\\\\n':2}}"),
	};

	CHECK_ROWS(rows);
}

UNIT_TEST(a_missing_base_is_never_guessed)
{
	static const Row rows[] = {
		ROW("every field that differs", "{'quantity':2,'dor':'BEO','description':'b'}", NULL,
			"{'quantity':1,'dor':'BEO'}", "base_missing: quantity, description"),
		ROW("nothing differs", "{'quantity':2}", NULL, "{'quantity':2.0,'dor':'BEO'}", "nothing"),
		ROW("objects member by member", "{'custom':{'a':1,'b':2}}", NULL,
			"{'custom':{'a':1,'b':3}}", "base_missing: custom.b"),
		OWN_ROW("own edits do not help", "{'quantity':2}", NULL, "{'quantity':1}", "{'quantity':1}",
				"base_missing: quantity"),
		VERSION_ROW("same version does not help", "{'quantity':2}", NULL, "{'quantity':1}", 2, 2,
					"base_missing: quantity"),
		ROW("null is no base", "{'quantity':2}", "null", "{'quantity':1}",
			"base_missing: quantity"),
	};

	CHECK_ROWS(rows);
}

UNIT_TEST(own_edits_count_as_the_base)
{
	static const Row rows[] = {
		OWN_ROW("own earlier edit of the field", "{'monthlyRate':3}", "{'monthlyRate':1}",
				"{'monthlyRate':2}", "{'monthlyRate':2.0}", "send {'monthlyRate':3}"),
		OWN_ROW("somebody wrote after it", "{'monthlyRate':3}", "{'monthlyRate':1}",
				"{'monthlyRate':2}", "{'monthlyRate':4}", "update_update: monthlyRate"),
		OWN_ROW("somebody put the old value back", "{'monthlyRate':3}", "{'monthlyRate':1}",
				"{'monthlyRate':2}", "{'monthlyRate':1}", "update_update: monthlyRate"),
		OWN_ROW("own edit of another field", "{'monthlyRate':3}", "{'monthlyRate':1}",
				"{'dor':'BEO'}", "{'monthlyRate':2,'dor':'BEO'}", "update_update: monthlyRate"),
		OWN_ROW("own edit inside an object", "{'custom':{'a':3}}", "{'custom':{'a':1,'b':1}}",
				"{'custom':{'a':2}}", "{'custom':{'a':2,'b':5}}", "send {'custom':{'a':3,'b':5}}"),
		OWN_ROW("own edit made the object", "{'custom':{'a':3}}", "{}", "{'custom':{'a':2}}",
				"{'custom':{'a':2}}", "send {'custom':{'a':3}}"),
		OWN_ROW("no own edits", "{'monthlyRate':3}", "{'monthlyRate':1}", "{}", "{'monthlyRate':2}",
				"update_update: monthlyRate"),
	};

	CHECK_ROWS(rows);
}

UNIT_TEST(versions_do_not_decide_about_updates)
{
	static const Row rows[] = {
		VERSION_ROW("lower remote version, other content", "{'quantity':2}", "{'quantity':1}",
					"{'quantity':5}", 7, 3, "update_update: quantity"),
		VERSION_ROW("lower remote version, same content", "{'quantity':2}", "{'quantity':1}",
					"{'quantity':1}", 7, 3, "send {'quantity':2}"),
		VERSION_ROW("same version, other content", "{'quantity':2}", "{'quantity':1}",
					"{'quantity':5}", 7, 7, "update_update: quantity"),
	};

	CHECK_ROWS(rows);
}

UNIT_TEST(a_record_that_is_gone)
{
	static const Row rows[] = {
		ROW("update", "{'quantity':2,'custom':{'a':1}}", "{'quantity':1}", NULL,
			"deleted_in_pems: quantity, custom"),
		ROW("update without base", "{'quantity':2}", NULL, NULL, "deleted_in_pems: quantity"),
		ROW("keys with dots and backslashes, and an empty one",
			"{'a.b':1,'..':1,'c\\\\':1,'':1,'d':{'e.f':1}}", "{}", NULL,
			"deleted_in_pems: a\\.b, \\.\\., c\\\\, , d"),
		DELETE_ROW("delete", "{'quantity':1}", NULL, NULL, 1, 2, "nothing"),
		DELETE_ROW("delete without base", NULL, NULL, NULL, 1, 2, "nothing"),
	};

	CHECK_ROWS(rows);
}

UNIT_TEST(deletes)
{
	static const Row rows[] = {
		DELETE_ROW("unchanged", "{'quantity':1}", NULL, "{'quantity':1}", 2, 2, "send"),
		DELETE_ROW("unchanged, base not in the history", NULL, NULL, "{'quantity':1}", 2, 2,
				   "send"),
		DELETE_ROW("changed", "{'quantity':1,'dor':'BEO','custom':{'a':1,'b':1}}", NULL,
				   "{'description':'n','quantity':2,'custom':{'a':1,'b':2}}", 2, 3,
				   "changed_in_pems_before_delete: quantity, dor, custom.b, description"),
		DELETE_ROW("changed below keys with dots and backslashes, and an empty one",
				   "{'a.b':1,'a':{'b.c':1,'b':{'c':1}},'\\\\':{'':1},'':{'':{'':1}}}", NULL,
				   "{'a.b':2,'a':{'b.c':2,'b':{'c':2}},'\\\\':{'':2},'':{'':{'':2}},'..':1}", 2, 3,
				   "changed_in_pems_before_delete: a\\.b, a.b\\.c, a.b.c, \\\\., .., \\.\\."),
		DELETE_ROW("other version, same content", "{'quantity':1}", NULL, "{'quantity':1.0}", 2, 4,
				   "changed_in_pems_before_delete"),
		DELETE_ROW("lower version", "{'quantity':1}", NULL, "{'quantity':1}", 4, 2,
				   "changed_in_pems_before_delete"),
		DELETE_ROW("changed, base not in the history", NULL, NULL, "{'quantity':1}", 2, 3,
				   "changed_in_pems_before_delete"),
		DELETE_ROW("changed by own edit only", "{'quantity':1,'dor':'BEO'}", "{'quantity':2}",
				   "{'quantity':2,'dor':'BEO'}", 2, 3, "send"),
		DELETE_ROW("changed by own edit and another", "{'quantity':1,'dor':'BEO'}",
				   "{'quantity':2}", "{'quantity':2,'dor':'PROJECT'}", 2, 4,
				   "changed_in_pems_before_delete: dor"),
		DELETE_ROW("changed by own edit, a field added by another", "{'quantity':1}",
				   "{'quantity':2}", "{'quantity':2,'dor':'BEO'}", 2, 4,
				   "changed_in_pems_before_delete: dor"),
		DELETE_ROW("own edits that name nothing do not count", "{'quantity':1}", "{}",
				   "{'quantity':1}", 2, 3, "changed_in_pems_before_delete"),
	};

	CHECK_ROWS(rows);
}

UNIT_TEST(a_merged_record_keeps_the_rules)
{
	static const Row rows[] = {
		ROW("our end, their start", "{'forecastEnd':'2025-03-01','quantity':2}",
			"{'forecastStart':'2025-01-01','forecastEnd':'2025-06-01','quantity':1}",
			"{'forecastStart':'2025-04-01','forecastEnd':'2025-06-01','quantity':1}",
			"validation: forecastEnd, quantity | Forecast end must be after forecast start"),
		ROW("our source, their rate", "{'source':'Rental'}", "{'source':'Owned','monthlyRate':5}",
			"{'source':'Owned','monthlyRate':null}",
			"validation: source | Monthly rate required for rentals"),
		ROW("a rule that ours does not touch", "{'quantity':2}",
			"{'forecastStart':'2025-01-01','forecastEnd':'2025-06-01','quantity':1}",
			"{'forecastStart':'2025-07-01','forecastEnd':'2025-06-01','quantity':1}",
			"send {'quantity':2}"),
		ROW("a conflict comes first", "{'forecastEnd':'2025-03-01'}",
			"{'forecastStart':'2025-01-01','forecastEnd':'2025-06-01'}",
			"{'forecastStart':'2025-04-01','forecastEnd':'2025-07-01'}",
			"update_update: forecastEnd"),
		ROW("nothing merged, nothing judged: commit has done it", "{'dor':'X'}",
			"{'dor':'BEO','monthlyRate':1}", "{'dor':'BEO','monthlyRate':1.0}", "send {'dor':'X'}"),
		ROW("nothing to send, nothing judged", "{'dor':'X'}", "{'dor':'BEO'}",
			"{'dor':'X','quantity':2}", "nothing"),
		OWN_ROW("merged with an own edit", "{'forecastEnd':'2025-03-01'}",
				"{'forecastStart':'2025-01-01','forecastEnd':'2025-06-01'}",
				"{'forecastStart':'2025-04-01'}",
				"{'forecastStart':'2025-04-01','forecastEnd':'2025-06-01'}",
				"validation: forecastEnd | Forecast end must be after forecast start"),
	};

	CHECK_ROWS(rows);
}

UNIT_TEST(kinds_have_names)
{
	CHECK(pems_merge_kind_name(PEMS_CONFLICT_NONE) == NULL);
	CHECK_TEXT(pems_merge_kind_name(PEMS_CONFLICT_CHANGED_BEFORE_DELETE),
			   "changed_in_pems_before_delete");
	CHECK_TEXT(pems_merge_kind_name(PEMS_CONFLICT_DELETED_IN_PEMS), "deleted_in_pems");
}

static const char *
applied(const char *record, const char *changes)
{
	static char text[512];
	Side left;
	Side right;
	JsonBuffer result = {0};
	char *c;

	pems_merge_apply(parse_side(record, &left), parse_side(changes, &right), &result);
	snprintf(text, sizeof(text), "%s", result.data);
	for (c = text; *c; c++)
	{
		if (*c == '"')
			*c = '\'';
	}
	pems_json_buffer_free(&result);
	free_side(&left);
	free_side(&right);
	return text;
}

UNIT_TEST(changes_go_on_top_of_a_record)
{
	CHECK_TEXT(applied("{'a':1,'b':{'x':1,'y':[1]}}", "{'c':null,'b':{'y':[2],'z':3}}"),
			   "{'a':1,'b':{'x':1,'y':[2],'z':3},'c':null}");
	CHECK_TEXT(applied("{'a':{'x':1}}", "{'a':5.00}"), "{'a':5.00}");
	CHECK_TEXT(applied("{'a':5}", "{'a':{'x':1}}"), "{'a':{'x':1}}");
	CHECK_TEXT(applied("{}", "{}"), "{}");
	CHECK_TEXT(applied(NULL, "{'a':1}"), "{'a':1}");
}

static const char *
restored(const char *record, const char *old_record)
{
	static char text[512];
	Side left;
	Side right;
	JsonBuffer delta = {0};
	char *c;

	pems_merge_restore(catalogue(), parse_side(record, &left), parse_side(old_record, &right),
					   &delta);
	snprintf(text, sizeof(text), "%s", delta.data);
	for (c = text; *c; c++)
	{
		if (*c == '"')
			*c = '\'';
	}
	pems_json_buffer_free(&delta);
	free_side(&left);
	free_side(&right);
	return text;
}

UNIT_TEST(a_restore_names_what_is_writable_and_differs)
{
	CHECK_TEXT(restored("{'dor':'BEO','quantity':2}", "{'dor':'PROJECT','quantity':2.0}"),
			   "{'dor':'PROJECT'}");
	CHECK_TEXT(restored("{'forecastStart':'2025-01-01'}",
						"{'forecastStart':'2025-01-01T00:00:00Z','quantity':1}"),
			   "{'quantity':1}");
	/* what was not there is emptied; what is empty is not */
	CHECK_TEXT(restored("{'dor':'BEO'}", "{}"), "{'dor':null}");
	CHECK_TEXT(restored("{'dor':null}", "{}"), "{}");
	CHECK_TEXT(restored("{}", "{'dor':null}"), "{}");
	/* what only PEMS sets, or nobody knows */
	CHECK_TEXT(restored("{'pfaId':'a','unknown':1}", "{'pfaId':'b','unknown':2}"), "{}");
}

static const char *
completed(const char *delta, const char *record)
{
	static char text[512];
	Side left;
	Side right;
	JsonBuffer changes = {0};

	pems_merge_complete(parse_side(delta, &left), parse_side(record, &right), &changes);
	snprintf(text, sizeof(text), "%s", changes.data);
	for (char *c = text; *c; c++)
	{
		if (*c == '"')
			*c = '\'';
	}
	pems_json_buffer_free(&changes);
	free_side(&left);
	free_side(&right);
	return text;
}

UNIT_TEST(objects_of_a_delta_are_completed)
{
	CHECK_TEXT(completed("{'custom':{'a':{'x':2}},'dor':'BEO'}",
						 "{'custom':{'a':{'x':1,'y':1},'b':[1]},'dor':'PROJECT','other':1}"),
			   "{'custom':{'a':{'x':2,'y':1},'b':[1]},'dor':'BEO'}");
	/* nothing of that name, or no object: the delta's own */
	CHECK_TEXT(completed("{'custom':{'a':1}}", "{}"), "{'custom':{'a':1}}");
	CHECK_TEXT(completed("{'custom':{'a':1}}", "{'custom':null}"), "{'custom':{'a':1}}");
	CHECK_TEXT(completed("{'custom':null}", "{'custom':{'a':1}}"), "{'custom':null}");
	CHECK_TEXT(completed("{'custom':[{'a':1}]}", "{'custom':{'a':1}}"), "{'custom':[{'a':1}]}");
}

UNIT_TEST(an_object_in_a_delta_is_noticed)
{
	static const struct
	{
		const char *delta;
		bool has;
	} rows[] = {{"{'a':{}}", true},
				{"{'a':1,'b':{'c':1}}", true},
				{"{}", false},
				{"{'a':[{'b':1}],'c':'{'}", false}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		Side side;

		CHECK_INT(pems_merge_has_object(parse_side(rows[i].delta, &side)), rows[i].has);
		free_side(&side);
	}
}

static bool
ignored(const char *delta, const char *before, const char *after)
{
	Side sides[3];
	bool result =
		pems_merge_was_ignored(catalogue(), parse_side(delta, &sides[0]),
							   parse_side(before, &sides[1]), parse_side(after, &sides[2]));

	for (int i = 0; i < 3; i++)
		free_side(&sides[i]);
	return result;
}

UNIT_TEST(a_write_was_ignored_where_a_field_is_what_it_was)
{
	const char *delta = "{'monthlyRate':2,'dor':'BEO'}";
	const char *before = "{'monthlyRate':1,'dor':'PROJECT'}";

	CHECK(!ignored(delta, before, "{'monthlyRate':2.0,'dor':'BEO'}"));
	CHECK(ignored(delta, before, "{'monthlyRate':1.00,'dor':'BEO'}"));
	CHECK(ignored(delta, before, before));
	/* rounded */
	CHECK(!ignored(delta, before, "{'monthlyRate':1.9,'dor':'BEO'}"));
	/* a value that was there before is no change */
	CHECK(!ignored("{'monthlyRate':1}", before, before));
	/* not there before, and not there now */
	CHECK(ignored("{'monthlyRate':1}", "{}", "{}"));
	CHECK(!ignored("{'custom':{'a':1}}", "{'custom':{'a':0}}", "{'custom':{'a':1,'b':2}}"));
	CHECK(ignored("{'custom':{'a':1}}", "{'custom':{'a':0}}", "{'custom':{'a':0}}"));
}

/* ---------- properties of random records ---------- */

/* Does remote hold the delta's value, or, of objects, every member of it that the delta names? */
static bool
holds(const PemsField *field, const JsonNode *ours, const JsonNode *remote)
{
	const JsonNode *member;

	if (ours->kind != JSON_KIND_OBJECT || remote == NULL || remote->kind != JSON_KIND_OBJECT)
		return pems_field_equal(field, ours, remote);
	for (member = ours->first; member; member = member->next)
	{
		if (!holds(NULL, member, pems_json_get(remote, member->key)))
			return false;
	}
	return true;
}

static bool
is_applied(const PemsMergeInput *input, const JsonNode *remote)
{
	const JsonNode *member;

	if (input->delta == NULL || remote == NULL)
		return false;
	for (member = input->delta->first; member; member = member->next)
	{
		if (!holds(pems_field_find(input->catalogue, member->key), member,
				   pems_json_get(remote, member->key)))
			return false;
	}
	return true;
}

/*
 * Few fields with few values, so that sides often agree and often do not; each
 * field has values that differ only in how they are written, and none of them
 * breaks a rule.
 */
static const char *const samples[][6] = {
	{"\"description\":", "\"a\"", "\"b\"", "\"\"", "null", "\"\\u0061\""},
	{"\"monthlyRate\":", "5500", "5500.00", "55e2", "9007199254740992", "9007199254740993"},
	{"\"forecastStart\":", "\"2025-01-15\"", "\"2025-01-15T00:00:00Z\"",
	 "\"2025-01-15T02:00:00.0+02:00\"", "\"2025-01-16\"", "null"},
	{"\"deliveryDate\":", "\"2025-01-15\"", "\"2025-01-15T10:00:00Z\"", "\"2025-01-16\"", "null",
	 "\"2025-01-14T23:00:00-02:00\""},
	{"\"quantity\":", "1", "2", "2.0", "null", "3"},
	{"\"active\":", "true", "false", "null", "true", "false"},
	{"\"colour\":", "\"red\"", "1", "1.0", "[1,2]", "[1,2.0]"},
};

#define SAMPLE_COUNT (sizeof(samples) / sizeof(samples[0]))

/* The last one is no known field: fine in a record, a validation error in a delta. */
#define WRITABLE_SAMPLE_COUNT (SAMPLE_COUNT - 1)

static void
append_random_object(JsonBuffer *buffer, int depth)
{
	static const char *const scalars[] = {"1", "1.0", "2", "null", "\"1\"", "[1]", "[1.0]", "{}"};
	static const char *const names[] = {"\"a\":", "\"b\":", "\"c\":"};
	const char *comma = "";
	size_t i;

	pems_json_append_text(buffer, "{");
	for (i = 0; i < 3; i++)
	{
		if (unit_random_below(3) == 0)
			continue;
		pems_json_append_text(buffer, comma);
		pems_json_append_text(buffer, names[i]);
		if (depth > 0 && unit_random_below(2) == 0)
			append_random_object(buffer, depth - 1);
		else
			pems_json_append_text(buffer, scalars[unit_random_below(8)]);
		comma = ",";
	}
	pems_json_append_text(buffer, "}");
}

/* A record or a delta with each field in it with a chance of one in sparseness. */
static void
append_random_record(JsonBuffer *buffer, size_t fields, unsigned sparseness)
{
	size_t start = unit_random_below((unsigned) fields);
	const char *comma = "";
	size_t i;

	pems_json_append_text(buffer, "{");
	for (i = 0; i < fields; i++)
	{
		const char *const *sample = samples[(start + i) % fields];

		if (unit_random_below(sparseness) != 0)
			continue;
		pems_json_append_text(buffer, comma);
		pems_json_append_text(buffer, sample[0]);
		pems_json_append_text(buffer, sample[1 + unit_random_below(5)]);
		comma = ",";
	}
	if (unit_random_below(2) == 0)
	{
		pems_json_append_text(buffer, comma);
		pems_json_append_text(buffer, "\"custom\":");
		if (unit_random_below(8) == 0)
			pems_json_append_text(buffer, "null");
		else
			append_random_object(buffer, 2);
	}
	pems_json_append_text(buffer, "}");
}

/* One random situation; free it with free_situation. */
typedef struct Situation
{
	JsonBuffer texts[4];
	JsonDocument documents[4];
	PemsMergeInput input;
	PemsDecision decision;
} Situation;

static const JsonNode *
situation_document(Situation *situation, int index)
{
	JsonBuffer *text = &situation->texts[index];

	CHECK(pems_json_parse(text->data, text->length, &situation->documents[index], NULL));
	return situation->documents[index].root;
}

/* delta, base and what others changed since are random; remote is base with these changes. */
static void
make_situation(Situation *situation)
{
	PemsMergeInput *input = &situation->input;

	memset(situation, 0, sizeof(*situation));
	append_random_record(&situation->texts[0], WRITABLE_SAMPLE_COUNT, 3);
	append_random_record(&situation->texts[1], SAMPLE_COUNT, 2);
	append_random_record(&situation->texts[2], SAMPLE_COUNT, 4);
	input->catalogue = catalogue();
	input->delta = situation_document(situation, 0);
	input->base = situation_document(situation, 1);
	pems_merge_apply(input->base, situation_document(situation, 2), &situation->texts[3]);
	input->remote = situation_document(situation, 3);
	input->base_version = 1 + unit_random_below(3);
	input->remote_version = 1 + unit_random_below(3);
}

static void
free_situation(Situation *situation)
{
	int i;

	pems_merge_free(&situation->decision);
	for (i = 0; i < 4; i++)
	{
		pems_json_free(&situation->documents[i]);
		pems_json_buffer_free(&situation->texts[i]);
	}
}

static void
explain(const Situation *situation)
{
	unit_note(" delta: %s", situation->texts[0].data);
	unit_note("  base: %s", situation->input.base ? situation->texts[1].data : "(missing)");
	unit_note("remote: %s", situation->texts[3].data);
	if (!situation->decision.failed)
	{
		char text[1024];

		describe(&situation->decision, text, sizeof(text));
		unit_note("   got: %s", text);
	}
}

/* Run a check, which makes the decision, on many situations; stop at the first that fails. */
static void
for_random_situations(void (*check)(Situation *situation))
{
	int before = unit_failures();
	int i;

	for (i = 0; i < ROUNDS && unit_failures() == before; i++)
	{
		Situation situation;

		make_situation(&situation);
		check(&situation);
		if (unit_failures() != before)
			explain(&situation);
		free_situation(&situation);
	}
}

static bool
names_path(const PemsDecision *decision, const char *path)
{
	size_t i;

	for (i = 0; i < decision->field_count; i++)
	{
		if (strcmp(decision->fields[i], path) == 0)
			return true;
	}
	return false;
}

static bool
is_object(const JsonNode *node)
{
	return node && node->kind == JSON_KIND_OBJECT;
}

static bool
same(const char *name, const JsonNode *a, const JsonNode *b)
{
	return pems_field_equal(name ? pems_field_find(catalogue(), name) : NULL, a, b);
}

static void
check_repeatable(Situation *situation)
{
	PemsDecision again;
	char first[1024];
	char second[1024];

	situation->input.is_delete = unit_random_below(4) == 0;
	pems_merge_decide(&situation->input, &situation->decision);
	pems_merge_decide(&situation->input, &again);
	describe(&situation->decision, first, sizeof(first));
	describe(&again, second, sizeof(second));
	CHECK_TEXT(second, first);
	pems_merge_free(&again);
}

UNIT_TEST(decisions_are_repeatable)
{
	for_random_situations(check_repeatable);
}

/* Field by field at the top, where no object is involved: the rule in its plainest words. */
static void
check_plain_fields(const Situation *situation)
{
	const PemsMergeInput *input = &situation->input;
	const PemsDecision *decision = &situation->decision;
	const JsonNode *ours;

	for (ours = input->delta->first; ours; ours = ours->next)
	{
		const JsonNode *base = pems_json_get(input->base, ours->key);
		const JsonNode *remote = pems_json_get(input->remote, ours->key);
		bool disputed;

		if (is_object(ours))
			continue;
		disputed = !same(ours->key, remote, base) && !same(ours->key, remote, ours);
		CHECK(names_path(decision, ours->key) == disputed);
	}
}

static int conflicts;

static void
check_conflicts(Situation *situation)
{
	PemsDecision *decision = &situation->decision;

	pems_merge_decide(&situation->input, decision);
	CHECK(decision->kind == PEMS_CONFLICT_NONE || decision->kind == PEMS_CONFLICT_UPDATE_UPDATE);
	CHECK((decision->field_count > 0) == (decision->action == PEMS_MERGE_CONFLICT));
	check_plain_fields(situation);
	if (decision->action == PEMS_MERGE_CONFLICT)
		conflicts++;
}

UNIT_TEST(a_field_that_both_changed_differently_always_conflicts)
{
	for_random_situations(check_conflicts);
	/* The situations are worth something only when there are both. */
	CHECK(conflicts > ROUNDS / 10 && conflicts < ROUNDS * 9 / 10);
}

/*
 * Everything in changes stands in the delta at the same place, with the same literal; but objects
 * are whole: what the delta does not name, or PEMS has already, is as PEMS has it.
 */
static void
check_sent(const JsonNode *changes, const JsonNode *delta, const JsonNode *remote, bool top)
{
	const JsonNode *member;

	for (member = changes->first; member; member = member->next)
	{
		const JsonNode *ours = pems_json_get(delta, member->key);
		const JsonNode *theirs = pems_json_get(remote, member->key);

		if (!top && (ours == NULL || pems_json_equal(member, theirs)))
			CHECK(pems_json_equal(member, theirs));
		else if (CHECK(ours != NULL) && is_object(member) && is_object(ours))
			check_sent(member, ours, theirs, false);
		else
			CHECK(pems_json_equal(member, ours));
	}
	for (member = !top && is_object(remote) ? remote->first : NULL; member; member = member->next)
		CHECK(pems_json_get(changes, member->key) != NULL);
}

/* In the result, what the delta names is ours, and everything else is as PEMS had it. */
static void
check_survival(const JsonNode *delta, const JsonNode *remote, const JsonNode *result, bool top)
{
	const JsonNode *member;

	for (member = remote->first; member; member = member->next)
	{
		if (pems_json_get(delta, member->key) == NULL)
			CHECK(pems_json_equal(member, pems_json_get(result, member->key)));
	}
	for (member = result->first; member; member = member->next)
		CHECK(pems_json_get(delta, member->key) || pems_json_get(remote, member->key));
	for (member = delta->first; member; member = member->next)
	{
		const JsonNode *there = pems_json_get(remote, member->key);
		const JsonNode *got = pems_json_get(result, member->key);

		if (is_object(member) && is_object(there) && CHECK(is_object(got)))
			check_survival(member, there, got, false);
		else
			CHECK(same(top ? member->key : NULL, member, got));
	}
}

/* Send the decision's changes to the situation's PEMS, and look at what it has then. */
static void
check_sending(Situation *situation)
{
	JsonBuffer text = {0};
	JsonDocument changes;
	JsonDocument result;
	PemsMergeInput input = situation->input;
	PemsDecision again;

	if (!CHECK(pems_json_parse(situation->decision.changes, strlen(situation->decision.changes),
							   &changes, NULL)))
		return;
	CHECK(changes.root->count > 0);
	check_sent(changes.root, input.delta, input.remote, true);
	pems_merge_apply(input.remote, changes.root, &text);
	if (CHECK(pems_json_parse(text.data, text.length, &result, NULL)))
	{
		check_survival(input.delta, input.remote, result.root, true);
		CHECK(is_applied(&input, result.root));
		input.remote = result.root;
		input.remote_version++;
		pems_merge_decide(&input, &again);
		CHECK_INT(again.action, PEMS_MERGE_NOTHING);
		pems_merge_free(&again);
		pems_json_free(&result);
	}
	pems_json_buffer_free(&text);
	pems_json_free(&changes);
}

static int sent;

static void
check_sent_or_there(Situation *situation)
{
	pems_merge_decide(&situation->input, &situation->decision);
	if (situation->decision.action == PEMS_MERGE_SEND)
	{
		sent++;
		check_sending(situation);
	}
	else
		CHECK((situation->decision.action == PEMS_MERGE_NOTHING) ==
			  is_applied(&situation->input, situation->input.remote));
}

UNIT_TEST(what_is_sent_is_ours_and_changes_nothing_else)
{
	for_random_situations(check_sent_or_there);
	CHECK(sent > ROUNDS / 10);
}

static void
check_without_base(Situation *situation)
{
	PemsDecision *decision = &situation->decision;
	bool is_there = is_applied(&situation->input, situation->input.remote);

	situation->input.own = situation->input.base;
	situation->input.base = NULL;
	pems_merge_decide(&situation->input, decision);
	CHECK(decision->action == (is_there ? PEMS_MERGE_NOTHING : PEMS_MERGE_CONFLICT));
	CHECK(is_there || decision->kind == PEMS_CONFLICT_BASE_MISSING);
}

UNIT_TEST(without_a_base_nothing_is_ever_sent)
{
	for_random_situations(check_without_base);
}

/* When all that happened since base is the author's own, nothing is in dispute, for a DELETE
 * either. */
static void
check_own_edits(Situation *situation)
{
	PemsMergeInput *input = &situation->input;

	input->own = situation->documents[2].root;
	input->is_delete = unit_random_below(4) == 0 && input->own->count > 0;
	pems_merge_decide(input, &situation->decision);
	CHECK(situation->decision.action != PEMS_MERGE_CONFLICT);
}

UNIT_TEST(nobody_conflicts_with_himself)
{
	for_random_situations(check_own_edits);
}

UNIT_TEST(the_shared_catalogue_is_freed)
{
	pems_field_free_catalogue(catalogue());
}

/* Decide on {'dor':'BEO'} over 'PROJECT' after a write on version 3 whose answer was lost. */
static PemsMergeAction
after_lost_answer(const char *remote_dor, int64_t remote_version, bool outcome_unknown)
{
	char remote[64];
	Side sides[3];
	PemsDecision decision;
	PemsMergeAction action;
	PemsMergeInput input = {.catalogue = catalogue(),
							.delta = parse_side("{'dor':'BEO'}", &sides[0]),
							.base = parse_side("{'dor':'PROJECT'}", &sides[1]),
							.base_version = 3,
							.remote_version = remote_version,
							.outcome_unknown = outcome_unknown,
							.sent_version = 3};

	snprintf(remote, sizeof(remote), "{'dor':'%s'}", remote_dor);
	input.remote = parse_side(remote, &sides[2]);
	pems_merge_decide(&input, &decision);
	action = decision.action;
	pems_merge_free(&decision);
	for (int i = 0; i < 3; i++)
		free_side(&sides[i]);
	return action;
}

UNIT_TEST(a_lost_write_is_sent_again_only_if_it_cannot_have_been_there)
{
	/* not applied: nobody wrote, or one other did and the next version is his */
	CHECK_INT(after_lost_answer("PROJECT", 3, true), PEMS_MERGE_SEND);
	CHECK_INT(after_lost_answer("PROJECT", 4, true), PEMS_MERGE_SEND);
	/* version 4 may be ours and version 5 its undoing */
	CHECK_INT(after_lost_answer("PROJECT", 5, true), PEMS_MERGE_CONFLICT);
	CHECK_INT(after_lost_answer("BEO", 5, true), PEMS_MERGE_NOTHING);
	/* nothing was lost: A, B, A */
	CHECK_INT(after_lost_answer("PROJECT", 5, false), PEMS_MERGE_SEND);
	/* PEMS was restored to an older state */
	CHECK_INT(after_lost_answer("PROJECT", 2, true), PEMS_MERGE_SEND);
}
