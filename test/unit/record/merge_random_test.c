/*
 * record/merge_random_test.c
 *		Unit tests of src/record/merge.c: what holds for random records.
 */
#include "unit.h"
#include "record/merge_sides.h"

#define ROUNDS 20000

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
	pems_patch_apply(input->base, situation_document(situation, 2), &situation->texts[3]);
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
	pems_patch_apply(input.remote, changes.root, &text);
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

/*
 * When all that happened since base is the author's own, nobody needs to decide anything, also
 * about a DELETE.
 */
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
