/*
 * record/merge.h
 *		The three-way decision: base, delta, remote -> send, nothing to do, or conflict.
 *
 * Pure and deterministic.  The rules are those of docs/CONFLICTS.md.
 *
 * An object in the delta changes the members that it names and no others: where
 * delta, base and remote all hold an object, the decision is made member by
 * member, and paths are dotted (custom.costCentre; a dot or backslash in a key has
 * a backslash before it, so that no two places have the same path).  What is sent is the whole
 * object all the same: remote's, with what is still to send on top, which is right
 * whether PEMS merges objects or puts one in the place of the other.  Fields at the top
 * are compared by their type, everything below as plain JSON.  Arrays are one value.
 */
#ifndef PEMS_MERGE_H
#define PEMS_MERGE_H

#include <stdint.h>

#include "record/field.h"
#include "record/patch.h"

typedef struct PemsMergeInput
{
	const PemsCatalogue *catalogue;
	bool is_delete;        /* operation DELETE: delta is not looked at */
	const JsonNode *delta; /* object: what the user changed */
	const JsonNode *base;  /* the record that the user saw; NULL: not in the history */
	const JsonNode *own;   /* fields last written, since base, by the author's own edits; or NULL */
	const JsonNode *other_bases; /* array of what the user may have seen instead of base; or NULL */
	const JsonNode *remote;      /* the record as PEMS has it; NULL: gone */
	int64_t base_version;
	int64_t remote_version;
	bool outcome_unknown; /* a write of this edit was sent, and its answer was lost ... */
	int64_t sent_version; /* ... it was based on this version */
} PemsMergeInput;

typedef enum PemsMergeAction
{
	PEMS_MERGE_SEND,    /* send changes with remote_version */
	PEMS_MERGE_NOTHING, /* PEMS has it already */
	PEMS_MERGE_CONFLICT /* a user must decide */
} PemsMergeAction;

typedef enum PemsConflictKind
{
	PEMS_CONFLICT_NONE,
	PEMS_CONFLICT_UPDATE_UPDATE,
	PEMS_CONFLICT_DELETED_IN_PEMS,
	PEMS_CONFLICT_CHANGED_BEFORE_DELETE,
	PEMS_CONFLICT_VALIDATION,
	PEMS_CONFLICT_BASE_MISSING
} PemsConflictKind;

typedef struct PemsDecision
{
	PemsMergeAction action;
	PemsConflictKind kind;
	char *changes; /* SEND of an update: the JSON object to send; else NULL */
	char **fields; /* CONFLICT: paths, in the delta's order; VALIDATION: its fields */
	size_t field_count;
	char **errors; /* VALIDATION: the broken rules */
	size_t error_count;
	bool base_uncertain; /* CONFLICT: with base there were none; it comes from one of other_bases */
	bool failed;         /* out of memory: nothing else is set (action is CONFLICT, kind NONE) */
} PemsDecision;

/*
 * The rules, in the order in which they are tried:
 *
 *	update	remote gone						conflict deleted_in_pems, on the whole delta
 *			remote = ours					nothing to send for this value
 *			base missing					conflict base_missing on this value
 *			remote = base, but ours may		conflict update_update on this value
 *			have been there meanwhile
 *			remote = base					ours is sent
 *			otherwise						conflict update_update on this value
 *			sent, but remote is not base	the delta is validated on remote: conflict validation
 *	delete	remote gone						nothing to do
 *			remote = base, same version		sent
 *			remote = base with own edits	sent (only where own names a field), whatever became of
 *											fields that only PEMS sets
 *			otherwise						conflict changed_in_pems_before_delete, on what differs
 *
 * Ours may have been there meanwhile when the outcome of an earlier write is unknown and
 * remote is two or more versions beyond it: ours may be the first of them, and a later one may have
 * put the old value back.  To send again could change PEMS twice and undo somebody's decision.
 *
 * Each of other_bases takes the place of base in turn: one conflict is enough.  So a field counts
 * as unchanged only where all that the user may have seen agree with remote.  (What is sent is the
 * same whatever the base.)  Of an update they need to have no more than what delta names.
 *
 * A base that is no JSON object counts as missing.  own is laid over
 * base; with base missing it counts for nothing.  Content decides, for deletes
 * the version besides: an update compares content alone, also when remote's version is lower.
 */
extern void pems_merge_decide(const PemsMergeInput *input, PemsDecision *decision);
extern void pems_merge_free(PemsDecision *decision);
/* "update_update", "deleted_in_pems", ...: the text of pfa_sync_conflict.kind; NULL for NONE. */
extern const char *pems_merge_kind_name(PemsConflictKind kind);

/*
 * Has PEMS ignored a write that it accepted?  before and after: the record as it was, and as PEMS
 * shows it at the version that the write is said to have made.  True when a field of the delta has
 * not become ours and is what it was.  (A field that moved elsewhere was rounded or trimmed.)
 */
extern bool pems_merge_was_ignored(const PemsCatalogue *catalogue, const JsonNode *delta,
								   const JsonNode *before, const JsonNode *after);

#endif /* PEMS_MERGE_H */
