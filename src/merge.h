/*
 * merge.h
 *		The three-way decision: base, delta, remote -> send, nothing to do, or conflict.
 *
 * Pure and deterministic.  The rules are those of docs/CONFLICTS.md.
 */
#ifndef PEMS_MERGE_H
#define PEMS_MERGE_H

#include <stdint.h>

#include "field.h"

typedef struct PemsMergeInput
{
	const PemsCatalogue *catalogue;
	bool is_delete;				/* operation DELETE: delta is not looked at */
	const JsonNode *delta;		/* object: what the user changed */
	const JsonNode *base;		/* the record that the user saw; NULL: not in the history */
	const JsonNode *own;		/* fields whose last value since base is the author's own earlier edit; may be NULL */
	const JsonNode *remote;		/* the record as PEMS has it; NULL: gone */
	int64_t base_version;
	int64_t remote_version;
} PemsMergeInput;

typedef enum PemsMergeAction
{
	PEMS_MERGE_SEND,			/* send changes with remote_version */
	PEMS_MERGE_NOTHING,			/* PEMS has it already */
	PEMS_MERGE_CONFLICT			/* a user must decide */
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
	char *changes;				/* SEND of an update: the JSON object to send; else NULL */
	char **fields;				/* CONFLICT: dotted paths, in the delta's order; VALIDATION: the delta's fields */
	size_t field_count;
	char **errors;				/* VALIDATION: the broken rules */
	size_t error_count;
	bool failed;				/* out of memory: nothing else is set */
} PemsDecision;

extern void pems_merge_decide(const PemsMergeInput *input, PemsDecision *decision);
extern void pems_merge_free(PemsDecision *decision);
/* "update_update", "deleted_in_pems", ...: the text of pfa_sync_conflict.kind; NULL for NONE. */
extern const char *pems_merge_kind_name(PemsConflictKind kind);

/* Does remote hold our value in every field of the delta?  (Unknown outcome, 04.) */
extern bool pems_merge_is_applied(const PemsCatalogue *catalogue, const JsonNode *delta,
								  const JsonNode *remote);

#endif /* PEMS_MERGE_H */
