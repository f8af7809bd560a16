/*
 * record/merge.c
 *		The three-way decision on one item; see merge.h.
 *
 * Pure and deterministic; runs in the worker between its two transactions, and
 * in tests.  Memory comes from malloc and belongs to the decision.
 *
 * An object in the delta changes the fields that it names and no others, so
 * where delta, base and remote all hold an object the decision is made member by
 * member; everything else, arrays included, is one value.
 */
#include "record/merge.h"

#include <stdlib.h>
#include <string.h>

#include "record/text_list.h"
#include "record/validate.h"

/* A decision that is being made. */
typedef struct Merge
{
	const PemsMergeInput *input;
	PemsDecision *decision;
	const JsonNode *base; /* with the author's own edits on top; NULL: not known */
	JsonBuffer path;      /* dotted path of the value that is looked at */
	int depth;            /* keys in path; path alone does not tell, because a key may be empty */
	JsonBuffer changes;   /* what is still to send */
	bool failed;          /* out of memory, apart from the buffers */
} Merge;

static void decide_members(Merge *merge, const JsonNode *delta, const JsonNode *base,
						   const JsonNode *remote);

const char *
pems_merge_kind_name(PemsConflictKind kind)
{
	switch (kind)
	{
		case PEMS_CONFLICT_NONE:
			return NULL;
		case PEMS_CONFLICT_UPDATE_UPDATE:
			return "update_update";
		case PEMS_CONFLICT_DELETED_IN_PEMS:
			return "deleted_in_pems";
		case PEMS_CONFLICT_CHANGED_BEFORE_DELETE:
			return "changed_in_pems_before_delete";
		case PEMS_CONFLICT_VALIDATION:
			return "validation";
		case PEMS_CONFLICT_BASE_MISSING:
			return "base_missing";
	}
	return NULL;
}

static bool
is_object(const JsonNode *node)
{
	return node && node->kind == JSON_KIND_OBJECT;
}

/* ---------- buffers, paths and lists ---------- */

/* Take back what was added since the buffer had this length. */
static void
cut_back(JsonBuffer *buffer, size_t length)
{
	if (buffer->data == NULL)
		return;
	buffer->length = length;
	buffer->data[length] = '\0';
}

/* Append a key as a part of a path: escaped, without the dot before it. */
static void
append_path_key(JsonBuffer *path, const char *key, size_t length)
{
	for (size_t i = 0; i < length; i++)
	{
		if (key[i] == '.' || key[i] == '\\')
			pems_json_append_text(path, "\\");
		pems_json_append(path, &key[i], 1);
	}
}

/* Go into a member; returns the length of the path before, for leave_member(). */
static size_t
enter_member(Merge *merge, const JsonNode *member)
{
	size_t before = merge->path.length;

	if (merge->depth++ > 0)
		pems_json_append_text(&merge->path, ".");
	append_path_key(&merge->path, member->key, member->key_length);
	return before;
}

static void
leave_member(Merge *merge, size_t before)
{
	merge->depth--;
	cut_back(&merge->path, before);
}

/*
 * Somebody must decide about the value at the current path.  (The path of an empty key is empty,
 * and then maybe the buffer has no text at all.)
 */
static void
add_current_path(Merge *merge)
{
	char *copy = merge->path.failed ? NULL : strdup(merge->path.data ? merge->path.data : "");

	if (!text_list_add(&merge->decision->fields, &merge->decision->field_count, copy))
		merge->failed = true;
}

static void
add_member_path(Merge *merge, const JsonNode *member)
{
	size_t before = enter_member(merge, member);

	add_current_path(merge);
	leave_member(merge, before);
}

/* Somebody must decide about all fields of the delta. */
static void
add_delta_fields(Merge *merge)
{
	const JsonNode *member;

	if (!is_object(merge->input->delta))
		return;
	for (member = merge->input->delta->first; member; member = member->next)
		add_member_path(merge, member);
}

static void
set_conflict(Merge *merge, PemsConflictKind kind)
{
	merge->decision->action = PEMS_MERGE_CONFLICT;
	merge->decision->kind = kind;
}

/* ---------- comparing ---------- */

/* Does remote hold our value, or every member of it that we name? */
static bool
holds(const PemsField *field, const JsonNode *ours, const JsonNode *remote)
{
	const JsonNode *member;

	if (!is_object(ours) || !is_object(remote))
		return pems_field_equal(field, ours, remote);
	for (member = ours->first; member; member = member->next)
	{
		if (!holds(NULL, member, pems_json_get(remote, member->key)))
			return false;
	}
	return true;
}

/* Are two whole records the same, each field compared by its type? */
static bool
records_equal(const PemsCatalogue *catalogue, const JsonNode *a, const JsonNode *b)
{
	const JsonNode *member;

	if (!is_object(a) || !is_object(b))
		return pems_json_equal(a, b);
	if (a->count != b->count)
		return false;
	for (member = a->first; member; member = member->next)
	{
		if (!pems_field_equal(pems_field_find(catalogue, member->key), member,
							  pems_json_get(b, member->key)))
			return false;
	}
	return true;
}

/* Has a each value that b has, in the fields that are not for PEMS alone to set? */
static bool
has_all_of(const PemsCatalogue *catalogue, const JsonNode *a, const JsonNode *b)
{
	for (const JsonNode *member = b->first; member; member = member->next)
	{
		const PemsField *field = pems_field_find(catalogue, member->key);

		if (field && !field->writable)
			continue;
		if (!pems_field_equal(field, pems_json_get(a, member->key), member))
			return false;
	}
	return true;
}

/*
 * Are two records the same, but for fields that no edit may write?  PEMS changes those
 * (lastModified, say) with each write, also with the author's own.
 */
static bool
equal_for_edits(const PemsCatalogue *catalogue, const JsonNode *a, const JsonNode *b)
{
	return is_object(a) && is_object(b) && has_all_of(catalogue, a, b) &&
		   has_all_of(catalogue, b, a);
}

/* The member's field when it stands at the top of the record; there is no type below. */
static const PemsField *
field_of(const Merge *merge, const JsonNode *member, bool top)
{
	return top ? pems_field_find(merge->input->catalogue, member->key) : NULL;
}

/* Add the path of every value in which base and remote differ: base's order, then what is new. */
static void
add_differences(Merge *merge, const JsonNode *base, const JsonNode *remote)
{
	bool top = merge->depth == 0;
	const JsonNode *member;

	for (member = base->first; member; member = member->next)
	{
		const JsonNode *other = pems_json_get(remote, member->key);
		size_t before = enter_member(merge, member);

		if (is_object(member) && is_object(other))
			add_differences(merge, member, other);
		else if (!pems_field_equal(field_of(merge, member, top), member, other))
			add_current_path(merge);
		leave_member(merge, before);
	}
	for (member = is_object(remote) ? remote->first : NULL; member; member = member->next)
	{
		if (pems_json_get(base, member->key) == NULL)
			add_member_path(merge, member);
	}
}

/* ---------- the decision value by value ---------- */

/* Can our value have been in PEMS already, and somebody have put the old one back?  (merge.h) */
static bool
may_be_undone(const PemsMergeInput *input)
{
	return input->outcome_unknown && input->remote_version > input->sent_version + 1;
}

/*
 * Decide on one value of the delta: append what is to send of it, or add its path where somebody
 * must decide, or do nothing where PEMS has it already.
 */
static void
decide_value(Merge *merge, const PemsField *field, const JsonNode *delta, const JsonNode *base,
			 const JsonNode *remote)
{
	if (is_object(delta) && is_object(remote) && (merge->base == NULL || is_object(base)))
	{
		size_t before = merge->changes.length;

		decide_members(merge, delta, base, remote);
		if (merge->changes.length == before + strlen("{}"))
			cut_back(&merge->changes, before);
		return;
	}
	/* Looked at first, because an edit that changes nothing is not worth a request. */
	if (holds(field, delta, remote))
		return;
	if (merge->base && pems_field_equal(field, base, remote) && !may_be_undone(merge->input))
		pems_json_append_node(&merge->changes, delta);
	else
		add_current_path(merge);
}

/*
 * What stands in changes from `begin` on are the members to send of one object.  An object is
 * sent whole: remote's, with these members on top, takes their place.
 */
static void
complete_object(Merge *merge, size_t begin, const JsonNode *remote)
{
	JsonDocument members;
	char *text;

	if (merge->changes.failed)
		return;
	text = strdup(merge->changes.data + begin);
	if (text == NULL || !pems_json_parse(text, strlen(text), &members, NULL))
	{
		merge->failed = true;
		free(text);
		return;
	}
	cut_back(&merge->changes, begin);
	pems_patch_apply(remote, members.root, &merge->changes);
	pems_json_free(&members);
	free(text);
}

/* Decide on one member of an object in the delta, and append it if it is to be sent. */
static void
decide_member(Merge *merge, const JsonNode *member, const JsonNode *base, const JsonNode *remote)
{
	bool top = merge->depth == 0;
	size_t before = merge->changes.length;
	size_t outer_path = enter_member(merge, member);
	size_t behind_key;

	pems_json_append_key(&merge->changes, member->key, member->key_length);
	behind_key = merge->changes.length;
	decide_value(merge, field_of(merge, member, top), member, base, remote);
	if (merge->changes.length == behind_key)
		cut_back(&merge->changes, before);
	else if (top && is_object(member) && is_object(remote))
		complete_object(merge, behind_key, remote);
	leave_member(merge, outer_path);
}

/* Decide on the members of an object in the delta, and append the object of those to send. */
static void
decide_members(Merge *merge, const JsonNode *delta, const JsonNode *base, const JsonNode *remote)
{
	pems_json_append_text(&merge->changes, "{");
	for (const JsonNode *member = delta->first; member; member = member->next)
		decide_member(merge, member, pems_json_get(base, member->key),
					  pems_json_get(remote, member->key));
	pems_json_append_text(&merge->changes, "}");
}

/*
 * Where PEMS has changed the record, the edit meets values that the user has not seen: does the
 * record that results break a rule?  Then the decision gets the sentences.
 */
static bool
breaks_rules(Merge *merge)
{
	const PemsMergeInput *input = merge->input;
	PemsFindings findings = {0};

	if (records_equal(input->catalogue, input->base, input->remote))
		return false;
	pems_validate_delta(input->catalogue, input->delta, input->remote, &findings);
	if (findings.failed)
		merge->failed = true;
	merge->decision->errors = findings.errors;
	merge->decision->error_count = findings.count;
	return findings.verdict != PEMS_VERDICT_VALID;
}

static void
decide_update(Merge *merge)
{
	const PemsMergeInput *input = merge->input;
	PemsDecision *decision = merge->decision;

	if (input->remote == NULL)
	{
		set_conflict(merge, PEMS_CONFLICT_DELETED_IN_PEMS);
		add_delta_fields(merge);
		return;
	}
	if (is_object(input->delta))
		decide_members(merge, input->delta, merge->base, input->remote);
	if (decision->field_count > 0)
	{
		set_conflict(merge, merge->base ? PEMS_CONFLICT_UPDATE_UPDATE : PEMS_CONFLICT_BASE_MISSING);
		return;
	}
	if (merge->changes.length <= strlen("{}"))
	{
		decision->action = PEMS_MERGE_NOTHING;
		return;
	}
	if (breaks_rules(merge))
	{
		set_conflict(merge, PEMS_CONFLICT_VALIDATION);
		add_delta_fields(merge);
		return;
	}
	decision->action = PEMS_MERGE_SEND;
	decision->changes = merge->changes.data;
	merge->changes.data = NULL;
}

static void
decide_delete(Merge *merge)
{
	const PemsMergeInput *input = merge->input;
	bool is_base;
	bool own_edits_only;

	if (input->remote == NULL)
	{
		merge->decision->action = PEMS_MERGE_NOTHING;
		return;
	}
	/* The same version is not enough: the application may have put other data under its number. */
	is_base = merge->base && input->remote_version == input->base_version &&
			  records_equal(input->catalogue, merge->base, input->remote);
	/* A user who edited the record and then deletes it is not in conflict with himself. */
	own_edits_only = merge->base && is_object(input->own) && input->own->count > 0 &&
					 equal_for_edits(input->catalogue, merge->base, input->remote);
	if (is_base || own_edits_only)
	{
		merge->decision->action = PEMS_MERGE_SEND;
		return;
	}
	set_conflict(merge, PEMS_CONFLICT_CHANGED_BEFORE_DELETE);
	if (merge->base)
		add_differences(merge, merge->base, input->remote);
}

/*
 * The base to compare with: the one that the user saw, with the author's own
 * later edits on top.  A base that is missing stays so, because without it
 * nothing is certain about own edits either.
 */
static void
prepare_base(Merge *merge, JsonBuffer *text, JsonDocument *overlaid)
{
	const PemsMergeInput *input = merge->input;

	if (!is_object(input->base))
		return;
	merge->base = input->base;
	if (!is_object(input->own) || input->own->count == 0)
		return;
	pems_patch_apply(input->base, input->own, text);
	if (!text->failed && pems_json_parse(text->data, text->length, overlaid, NULL))
		merge->base = overlaid->root;
	else
		merge->failed = true;
}

/* The decision where the user has seen input's base for certain. */
static void
decide_on_base(const PemsMergeInput *input, PemsDecision *decision)
{
	Merge merge = {.input = input, .decision = decision};
	JsonBuffer overlaid_text = {0};
	JsonDocument overlaid = {0};

	memset(decision, 0, sizeof(*decision));
	prepare_base(&merge, &overlaid_text, &overlaid);
	if (input->is_delete)
		decide_delete(&merge);
	else
		decide_update(&merge);
	if (merge.failed || merge.path.failed || merge.changes.failed)
	{
		pems_merge_free(decision);
		decision->failed = true;
		/* What does the least harm where a caller forgets to look at failed. */
		decision->action = PEMS_MERGE_CONFLICT;
	}
	pems_json_buffer_free(&merge.path);
	pems_json_buffer_free(&merge.changes);
	pems_json_free(&overlaid);
	pems_json_buffer_free(&overlaid_text);
}

void
pems_merge_decide(const PemsMergeInput *input, PemsDecision *decision)
{
	const JsonNode *other = input->other_bases ? input->other_bases->first : NULL;

	decide_on_base(input, decision);
	for (; other && decision->action != PEMS_MERGE_CONFLICT; other = other->next)
	{
		PemsMergeInput seen = *input;

		seen.base = other;
		pems_merge_free(decision);
		decide_on_base(&seen, decision);
		decision->base_uncertain = decision->action == PEMS_MERGE_CONFLICT && !decision->failed;
	}
}

void
pems_merge_free(PemsDecision *decision)
{
	free(decision->changes);
	text_list_free(&decision->fields, &decision->field_count);
	text_list_free(&decision->errors, &decision->error_count);
	memset(decision, 0, sizeof(*decision));
}

/* ---------- what became of a write ---------- */

/* Is our value, or a member of it that we name, as it was before, and not as we wrote it? */
static bool
value_was_ignored(const PemsField *field, const JsonNode *ours, const JsonNode *before,
				  const JsonNode *after)
{
	if (!is_object(ours) || !is_object(after))
		return !holds(field, ours, after) && pems_field_equal(field, before, after);
	for (const JsonNode *member = ours->first; member; member = member->next)
		if (value_was_ignored(NULL, member, pems_json_get(before, member->key),
							  pems_json_get(after, member->key)))
			return true;
	return false;
}

bool
pems_merge_was_ignored(const PemsCatalogue *catalogue, const JsonNode *delta,
					   const JsonNode *before, const JsonNode *after)
{
	for (const JsonNode *ours = is_object(delta) ? delta->first : NULL; ours; ours = ours->next)
		if (value_was_ignored(pems_field_find(catalogue, ours->key), ours,
							  pems_json_get(before, ours->key), pems_json_get(after, ours->key)))
			return true;
	return false;
}
