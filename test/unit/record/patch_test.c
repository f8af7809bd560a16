/*
 * record/patch_test.c
 *		Unit tests of src/record/patch.c.
 */
#include "unit.h"
#include "record/merge_sides.h"

#include "record/patch.h"

static const char *
applied(const char *record, const char *changes)
{
	Side left;
	Side right;
	JsonBuffer result = {0};

	pems_patch_apply(parse_side(record, &left), parse_side(changes, &right), &result);
	free_side(&left);
	free_side(&right);
	return taken(&result);
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
	Side left;
	Side right;
	JsonBuffer delta = {0};

	pems_patch_restore(catalogue(), parse_side(record, &left), parse_side(old_record, &right),
					   &delta);
	free_side(&left);
	free_side(&right);
	return taken(&delta);
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
	/* members of objects, too */
	CHECK_TEXT(restored("{'custom':{'a':2,'new':1}}", "{'custom':{'a':1}}"),
			   "{'custom':{'a':1,'new':null}}");
	CHECK_TEXT(restored("{'custom':{'a':1,'new':{'x':1}}}", "{'custom':{'a':1}}"),
			   "{'custom':{'a':1,'new':null}}");
	CHECK_TEXT(restored("{'custom':{'d':{'x':1,'y':[1]},'e':1}}", "{'custom':{'d':{'x':1}}}"),
			   "{'custom':{'d':{'x':1,'y':null},'e':null}}");
	CHECK_TEXT(restored("{'custom':{'a':1,'b':null}}", "{'custom':{'a':1.0,'c':null}}"), "{}");
	CHECK_TEXT(restored("{'custom':{'a':1,'b':null}}", "{'custom':{}}"), "{'custom':{'a':null}}");
	CHECK_TEXT(restored("{'custom':7}", "{'custom':{'a':1}}"), "{'custom':{'a':1}}");
	CHECK_TEXT(restored("{'custom':{'a':1}}", "{'custom':7}"), "{'custom':7}");
	CHECK_TEXT(restored("{'custom':{'a':1}}", "{}"), "{'custom':null}");
	/* what only PEMS sets, or nobody knows */
	CHECK_TEXT(restored("{'pfaId':'a','unknown':1}", "{'pfaId':'b','unknown':2}"), "{}");
}

static const char *
completed(const char *delta, const char *record)
{
	Side left;
	Side right;
	JsonBuffer changes = {0};

	pems_patch_complete(parse_side(delta, &left), parse_side(record, &right), &changes);
	free_side(&left);
	free_side(&right);
	return taken(&changes);
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

		CHECK_INT(pems_patch_has_object(parse_side(rows[i].delta, &side)), rows[i].has);
		free_side(&side);
	}
}

UNIT_TEST(the_shared_catalogue_is_freed)
{
	pems_field_free_catalogue(catalogue());
}
