/*
 * sending/finishing.c
 *		An answer of PEMS: what it means for the item, and what is recorded of it.
 *
 * Process: the background worker, outside any transaction.  What an answer means is judged in
 * pems/judge.c; what becomes of the item is decided in pems/transition.c.
 * Memory: as in delivery.c.
 */
#include "postgres.h"

#include "pems/transition.h"
#include "record/json.h"
#include "record/merge.h"
#include "sending/delivery.h"
#include "sending/delivery_parts.h"
#include "shared/compat.h"
#include "shared/failpoint.h"
#include "shared/settings.h"

/* pems_health() looks for it: _pems_edit_problems() in sql/73_health_problems.sql. */
#define PEMS_WRITE_NOT_FOUND                                                                       \
	"PEMS answers 404 to this write, although it shows the record when it is read: a route or a "  \
	"right for writing may be missing."

#define PEMS_WRITE_IGNORED                                                                         \
	"PEMS accepted the write and did not make it: the record that it shows afterwards has a "      \
	"field as it was before."
#define PEMS_DELETE_IGNORED                                                                        \
	"PEMS accepted the delete and did not make it: it still shows the record."

/* What the audit log keeps of an answer that is no JSON. */
#define RESPONSE_TEXT_LIMIT 2000

/* What is no plain character is shown as a question mark: this is a note, not a copy. */
static size_t
plain_text(const PemsAnswer *answer, char *text)
{
	size_t length = Min(answer->body_length, RESPONSE_TEXT_LIMIT);

	for (size_t i = 0; i < length; i++)
	{
		unsigned char c = (unsigned char) answer->body[i];

		text[i] = c >= ' ' && c < 127 ? (char) c : '?';
	}
	return length;
}

/*
 * The answer as JSON for the audit log: itself, or, where it is none or the database could not hold
 * it, its text inside an object.
 */
static char *
response_json(PemsDelivery *delivery, const PemsAnswer *answer)
{
	JsonDocument document;
	JsonBuffer buffer = {0};
	char text[RESPONSE_TEXT_LIMIT];
	size_t length;
	char *json;

	if (answer->body == NULL || answer->body_length == 0)
		return NULL;
	if (pems_json_parse(answer->body, answer->body_length, &document, NULL))
	{
		bool storable = document.root->unstorable == NULL;

		pems_json_free(&document);
		if (storable)
			return pems_delivery_keep(delivery, answer->body);
	}
	length = plain_text(answer, text);
	pems_json_append_text(&buffer, "{");
	pems_json_append_key(&buffer, "text", strlen("text"));
	pems_json_append_string(&buffer, text, length);
	pems_json_append_text(&buffer, "}");
	json = buffer.failed ? NULL : pems_delivery_keep(delivery, buffer.data);
	pems_json_buffer_free(&buffer);
	return json;
}

/*
 * The version that a read must show at least: what the mirror has, or what PEMS named when it
 * answered the last write.  Where PEMS itself says that it has an older version than the write
 * built on, it was restored from a backup, and the mirror is what is wrong.  A record that was
 * deleted may have come back with any version.
 */
static int64
least_version(const PemsItem *item)
{
	bool was_restored =
		item->known_version > PEMS_REFUSED_VERSION && item->known_version < item->previous_version;

	if (was_restored || item->mirror_deleted)
		return item->known_version;
	return Max(item->known_version, item->mirror_version);
}

static PemsAsked
asked_of(const PemsDelivery *delivery)
{
	return (PemsAsked){.call = pems_delivery_call(delivery),
					   .pfa_id = delivery->item.pfa_id,
					   .version = delivery->step == PEMS_STEP_WRITE
									  ? delivery->version
									  : least_version(&delivery->item)};
}

/*
 * The record at the version that our write is said to have made: is a field of ours what it was
 * before?  Then PEMS has accepted the write and not made it.  (Later versions tell nothing:
 * somebody else may have put it back.)  After a delete there should be no record; one of a later
 * version was made again.
 */
static bool
write_was_ignored(const PemsDelivery *delivery, const PemsCatalogue *catalogue,
				  const PemsOutcome *outcome)
{
	const PemsItem *item = &delivery->item;
	JsonDocument delta, before, after;
	bool ignored = false;
	bool parsed;

	if (delivery->step != PEMS_STEP_REFRESH || outcome->class != PEMS_OUTCOME_RECORD)
		return false;
	if (item->is_delete)
		return outcome->version <= item->known_version;
	if (item->mirror_data == NULL || outcome->version != item->known_version ||
		item->mirror_version >= item->known_version)
		return false;
	parsed = pems_delivery_parse(item->payload, &delta, NULL);
	parsed = pems_delivery_parse(item->mirror_data, &before, NULL) && parsed;
	parsed = pems_delivery_parse(outcome->data, &after, NULL) && parsed;
	if (parsed)
		ignored = pems_merge_was_ignored(catalogue, delta.root, before.root, after.root);
	pems_json_free(&delta);
	pems_json_free(&before);
	pems_json_free(&after);
	return ignored;
}

static void
move_on(PemsDelivery *delivery, const PemsCatalogue *catalogue, const PemsOutcome *outcome,
		bool breaker_open)
{
	const PemsItem *item = &delivery->item;
	PemsTransitionInput input = {
		.step = delivery->step,
		.is_delete = item->is_delete,
		.record_known = item->mirror_version != PEMS_NO_VERSION,
		.record_deleted = item->mirror_deleted,
		.version_refused = item->known_version == PEMS_REFUSED_VERSION,
		.write_ignored = write_was_ignored(delivery, catalogue, outcome),
		.outcome_unknown = item->outcome_unknown,
		.attempt = item->attempt,
		.retry_count = item->retry_count,
		.max_retries = item->max_retries,
		.rounds = item->rounds,
		.sent_version = delivery->version,
		.mirror_version = item->mirror_version,
		.breaker_open = breaker_open,
		.refresh_always = pems_refresh_after_write == PEMS_REFRESH_ALWAYS ||
						  (delivery->writes_object && !item->is_delete),
		.retry_delay_ms = pems_retry_delay,
		.jitter = pems_random_fraction(),
	};

	pems_delivery_begin_report(delivery, PEMS_ITEM_PENDING);
	pems_transition_after(&input, outcome, &delivery->report.transition);
}

/*
 * The fields of the delta, for a conflict about the record as a whole.  An empty merge (no base, no
 * remote) decides as on a record that is gone, and names them all.
 */
static char *
delta_fields(PemsDelivery *delivery)
{
	JsonDocument delta;
	PemsDecision decision;
	char *json = "[]";

	if (!pems_delivery_parse(delivery->item.payload, &delta, NULL))
		return json;
	pems_merge_decide(&(PemsMergeInput){.delta = delta.root}, &decision);
	if (!decision.failed)
		json = pems_delivery_fields(delivery, decision.fields, decision.field_count);
	pems_merge_free(&decision);
	pems_json_free(&delta);
	return json;
}

/* The versions that the answer tells of. */
static void
describe_versions(PemsDelivery *delivery, const PemsOutcome *outcome)
{
	const PemsItem *item = &delivery->item;
	PemsReport *report = &delivery->report;

	if (outcome->class == PEMS_OUTCOME_DONE)
		report->pems_version = report->known_version = outcome->new_version;
	else if (report->transition.mirror_is_record)
		report->pems_version = outcome->version;
	else if (report->transition.status == PEMS_ITEM_COMPLETED ||
			 report->transition.mirror_is_deleted)
		report->pems_version =
			Max(Max(item->mirror_version, item->previous_version), item->known_version);
	if (outcome->class == PEMS_OUTCOME_VERSION)
		report->known_version =
			outcome->current_version > 0 ? outcome->current_version : PEMS_REFUSED_VERSION;
}

/* What the answer alone does not tell. */
static void
describe_error(PemsDelivery *delivery, const PemsOutcome *outcome)
{
	PemsReport *report = &delivery->report;
	const PemsTransition *t = &report->transition;

	/* that a record to be deleted is gone already is no error */
	if (outcome->class == PEMS_OUTCOME_GONE && t->status == PEMS_ITEM_COMPLETED)
		return;
	report->error_code = outcome->error_code;
	report->error = pems_delivery_keep(delivery, outcome->error);
	if (outcome->class == PEMS_OUTCOME_GONE && delivery->step == PEMS_STEP_WRITE &&
		t->rounds != delivery->item.rounds + 1)
		report->error = PEMS_WRITE_NOT_FOUND;
	if (t->status != PEMS_ITEM_FAILED)
		return;
	if (delivery->step == PEMS_STEP_REFRESH)
	{
		report->error_code = "NOT_APPLIED";
		report->error = delivery->item.is_delete ? PEMS_DELETE_IGNORED : PEMS_WRITE_IGNORED;
	}
	else if (outcome->class == PEMS_OUTCOME_RECORD)
	{
		report->error_code = "NO_MIRROR";
		report->error = "The record was read again and again, and each time its mirror was "
						"deleted, or marked as deleted.";
	}
}

static void
describe(PemsDelivery *delivery, const PemsAnswer *answer, const PemsOutcome *outcome)
{
	PemsReport *report = &delivery->report;
	PemsTransition *t = &report->transition;

	describe_versions(delivery, outcome);
	describe_error(delivery, outcome);
	if (t->mirror_is_record)
		report->mirror_data = pems_delivery_keep(delivery, outcome->data);
	if (t->mirror_adds_changes)
		report->mirror_patch = delivery->changes;
	if (t->status == PEMS_ITEM_CONFLICT)
	{
		report->conflict_kind = pems_merge_kind_name(PEMS_CONFLICT_DELETED_IN_PEMS);
		report->conflict_fields = delta_fields(delivery);
		report->error = PEMS_RECORD_GONE;
	}
	report->event_type = delivery->step == PEMS_STEP_WRITE ? "WRITE_ATTEMPT" : "READ_ATTEMPT";
	report->http_method = pems_request_method(pems_delivery_call(delivery));
	report->path = delivery->path;
	report->http_status = answer->status;
	report->latency_ms = answer->latency_us / 1000.0;
	report->request = delivery->body;
	report->response = response_json(delivery, answer);
}

/* The answer cannot be kept.  A write may have been done: a retry looks. */
static void
fail_sent(PemsDelivery *delivery, const PemsAnswer *answer, const char *error)
{
	PemsReport *report = &delivery->report;
	bool was_write = delivery->step == PEMS_STEP_WRITE;

	pems_delivery_begin_report(delivery, PEMS_ITEM_FAILED);
	if (was_write)
		report->transition.next = PEMS_STEP_READ;
	report->transition.outcome_unknown |= was_write;
	report->event_type = was_write ? "WRITE_ATTEMPT" : "READ_ATTEMPT";
	report->http_method = pems_request_method(pems_delivery_call(delivery));
	report->path = delivery->path;
	report->http_status = answer->status;
	report->latency_ms = answer->latency_us / 1000.0;
	report->request = delivery->body;
	report->error_code = "INTERNAL_ERROR";
	report->error = error;
}

void
pems_delivery_finish(PemsDelivery *delivery, const PemsCatalogue *catalogue, PemsAnswer *answer,
					 int64 now)
{
	MemoryContext caller = CurrentMemoryContext;
	bool breaker_open = pems_endpoint_breaker_is_open(delivery->endpoint, now);
	PemsAsked asked = asked_of(delivery);
	PemsOutcome outcome;

	pems_judge_answer(&asked, answer, &outcome);
	PG_TRY();
	{
		pems_endpoint_end(delivery->endpoint, delivery->ticket, answer, &outcome, now);
		PEMS_FAILPOINT("judging");
		move_on(delivery, catalogue, &outcome, breaker_open);
		describe(delivery, answer, &outcome);
	}
	PG_CATCH();
	{
		fail_sent(delivery, answer, pems_delivery_keep_error(delivery, caller));
	}
	PG_END_TRY();
	pems_outcome_free(&outcome);
}
