/*
 * record/merge_test.c
 *		Unit tests of src/record/merge.c: a truth table.  merge_random_test.c has properties of
 *		random records.
 */
#include "unit.h"
#include "record/merge_sides.h"

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
				   "changed_in_pems_before_delete"),
		DELETE_ROW("the same version, other data", "{'quantity':1,'dor':'BEO'}", NULL,
				   "{'quantity':2,'dor':'BEO'}", 2, 2, "changed_in_pems_before_delete: quantity"),
		DELETE_ROW("the same version, the same data written otherwise", "{'quantity':1}", NULL,
				   "{'quantity':1.0}", 2, 2, "send"),
		DELETE_ROW("the same version, changed by own edit only", "{'quantity':1}", "{'quantity':2}",
				   "{'quantity':2}", 2, 2, "send"),
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
		DELETE_ROW("changed by own edit, and what only PEMS sets",
				   "{'quantity':1,'dor':'BEO','pfaId':'a'}", "{'quantity':2}",
				   "{'pfaId':'b','quantity':2,'dor':'BEO'}", 2, 3, "send"),
		DELETE_ROW("changed by own edit, and what only PEMS sets is new or gone",
				   "{'quantity':1,'dor':'BEO'}", "{'quantity':2}",
				   "{'pfaId':'b','quantity':2,'dor':'BEO'}", 2, 3, "send"),
		DELETE_ROW("changed by own edit and another, and what only PEMS sets",
				   "{'quantity':1,'dor':'BEO','pfaId':'a'}", "{'quantity':2}",
				   "{'quantity':2,'dor':'PROJECT'}", 2, 3,
				   "changed_in_pems_before_delete: dor, pfaId"),
		DELETE_ROW("only what PEMS sets has changed", "{'quantity':1,'pfaId':'a'}", "{}",
				   "{'quantity':1,'pfaId':'b'}", 2, 3, "changed_in_pems_before_delete: pfaId"),
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

UNIT_TEST(a_write_was_ignored_where_a_member_is_what_it_was)
{
	const char *delta = "{'custom':{'a':2,'b':2}}";
	const char *before = "{'custom':{'a':1,'b':1,'c':1}}";

	CHECK(!ignored(delta, before, "{'custom':{'a':2,'b':2,'c':1}}"));
	CHECK(ignored(delta, before, "{'custom':{'a':1,'b':2,'c':1}}"));
	CHECK(ignored(delta, before, "{'custom':{'a':2,'b':1}}"));
	/* what we did not name is not ours; and what moved to another value was made */
	CHECK(!ignored(delta, before, "{'custom':{'a':2,'b':3,'c':9}}"));
	/* a member that was added; one that was emptied */
	CHECK(ignored("{'custom':{'b':2,'new':1}}", before, "{'custom':{'a':1,'b':2,'c':1}}"));
	CHECK(ignored("{'custom':{'a':null}}", before, before));
	CHECK(!ignored("{'custom':{'a':null}}", before, "{'custom':{'a':null,'b':1}}"));
	/* deeper, and where there was no object before */
	CHECK(ignored("{'custom':{'d':{'e':2,'f':2}}}", "{'custom':{'d':{'e':1,'f':1}}}",
				  "{'custom':{'d':{'e':2,'f':1}}}"));
	CHECK(ignored("{'custom':{'a':1,'b':2}}", "{'custom':7}", "{'custom':{'a':1}}"));
	CHECK(ignored("{'custom':{'a':1}}", "{}", "{}"));
	CHECK(!ignored("{'custom':{'a':1}}", "{}", "{'custom':{'a':1}}"));
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

UNIT_TEST(the_shared_catalogue_is_freed)
{
	pems_field_free_catalogue(catalogue());
}
