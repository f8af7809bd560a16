/*
 * pems/transition.h
 *		What becomes of an item after a request: the state machine, as a pure function.
 *
 * Pure.  Rules: docs/PROTOCOL.md (outcome classes, retries) and docs/CONFLICTS.md
 * (unknown outcomes).  One claim is one request, so each answer is recorded before the next
 * request: that is what keeps the audit log exact across crashes.
 */
#ifndef PEMS_TRANSITION_H
#define PEMS_TRANSITION_H

#include <stdbool.h>
#include <stdint.h>

#include "pems/judge.h"

/*
 * A round is a request that an answer made necessary without being a failure: a version conflict,
 * a record that was not found or is too old.  So many rounds in a row count as a transient failure
 * and cost a retry.  The second round waits ROUND_MS, each further one twice as long.
 */
#define PEMS_TRANSITION_MAX_ROUNDS 5
#define PEMS_TRANSITION_ROUND_MS   250
/* PEMS may still be committing a write whose answer was lost. */
#define PEMS_TRANSITION_SETTLE_MS 2000
/* A record that a read did not find is looked for again that much later: a replica may lag. */
#define PEMS_TRANSITION_CONFIRM_MS 3000

/*
 * What failed while the breaker was open waits at most so long: no longer than for the next probe.
 */
#define PEMS_TRANSITION_PROBE_MS 60000

/* A record that was written is read again at least this often; later items of the record wait. */
#define PEMS_TRANSITION_REFRESH_MS 60000

/* What a request was for. */
typedef enum PemsStep
{
	PEMS_STEP_WRITE,   /* PUT or DELETE */
	PEMS_STEP_READ,    /* look at PEMS, then decide again */
	PEMS_STEP_CONFIRM, /* the same; a read has found the record gone, and this one decides */
	PEMS_STEP_REFRESH  /* the write is done, the mirror is still to be read */
} PemsStep;

typedef enum PemsItemStatus
{
	PEMS_ITEM_PENDING,
	PEMS_ITEM_COMPLETED,
	PEMS_ITEM_FAILED,
	/* deleted_in_pems; the other kinds come from a decision, not from an answer */
	PEMS_ITEM_CONFLICT
} PemsItemStatus;

typedef struct PemsTransitionInput
{
	PemsStep step;
	bool is_delete;       /* the item's operation is DELETE */
	bool record_known;    /* the mirror has the record */
	bool record_deleted;  /* ... and says that it is deleted */
	bool version_refused; /* PEMS refused the last write's version, and did not name its own */
	bool write_ignored;   /* a refresh shows that PEMS accepted the write and did not make it */
	bool outcome_unknown; /* from an earlier write of the item */
	int attempt;          /* claims so far, this one included */
	int retry_count;
	int max_retries;
	int rounds;             /* so far, in a row */
	int64_t sent_version;   /* version that this write was based on */
	int64_t mirror_version; /* -1: none */
	bool breaker_open;      /* when the answer came: no retry is lost then */
	bool refresh_always;    /* read the record after the write, whatever its answer says */
	int64_t retry_delay_ms;
	double jitter; /* 0.0 to 1.0 */
} PemsTransitionInput;

typedef struct PemsTransition
{
	PemsItemStatus status;
	PemsStep next; /* of a pending item; of a dead letter: with what a redrive begins */
	bool outcome_unknown;
	int64_t delay_ms; /* 0: at once */
	int retry_count;
	int rounds;
	bool mirror_adds_changes; /* mirror = mirror plus what was sent, at the outcome's new version */
	bool mirror_is_record;    /* mirror = the record that was read */
	bool mirror_is_deleted;
	bool pause_organization;
} PemsTransition;

/* The item's next state, from the request that was made and its outcome. */
extern void pems_transition_after(const PemsTransitionInput *input, const PemsOutcome *outcome,
								  PemsTransition *transition);

/* "write", "read", "confirm", "refresh": the texts of pfa_write_queue.next_request */
extern const char *pems_transition_step_name(PemsStep step);
/* The step of that name; WRITE for any other text. */
extern PemsStep pems_transition_step(const char *name);
/* "pending", "completed", "failed", "conflict": the texts of _pems_report.new_status */
extern const char *pems_transition_status_name(PemsItemStatus status);

#endif /* PEMS_TRANSITION_H */
