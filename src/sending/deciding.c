/*
 * sending/deciding.c
 *		What to do with a claimed item: send it, as it is or merged; or not, because PEMS has it
 *		already, or because somebody must decide.
 *
 * Process: the background worker, outside any transaction.  The rules are in record/merge.c.
 * Memory: as in delivery.c.
 */
#include "postgres.h"

#include "record/json.h"
#include "record/merge.h"
#include "record/patch.h"
#include "sending/delivery.h"
#include "sending/delivery_parts.h"
#include "shared/failpoint.h"

/* PEMS has it already: the item is done without a request, and the audit log says so. */
static void
finish_without_request(PemsDelivery *delivery)
{
	PemsReport *report = &delivery->report;

	pems_delivery_begin_report(delivery, PEMS_ITEM_COMPLETED);
	report->transition.outcome_unknown = false;
	report->pems_version = delivery->item.mirror_version;
	report->event_type = "SYNCED_WITHOUT_REQUEST";
}

/* What the user reads about a conflict; it claims no more than is known. */
static const char *
conflict_sentence(const PemsDelivery *delivery, const PemsDecision *decision)
{
	if (decision->kind == PEMS_CONFLICT_DELETED_IN_PEMS)
		return PEMS_RECORD_GONE;
	if (decision->base_uncertain)
		return "The version that the edit was made on got other data about then, and the user may "
			   "not have seen them; somebody must decide.";
	if (delivery->item.base_data == NULL)
		return "The version that the edit was made on is not in the history, so it is not known "
			   "what changed in PEMS since; somebody must decide.";
	return "The record was changed in PEMS meanwhile; somebody must decide.";
}

static void
enter_conflict(PemsDelivery *delivery, const PemsDecision *decision)
{
	PemsReport *report = &delivery->report;

	pems_delivery_begin_report(delivery, PEMS_ITEM_CONFLICT);
	report->conflict_kind = pems_merge_kind_name(decision->kind);
	report->conflict_fields =
		pems_delivery_fields(delivery, decision->fields, decision->field_count);
	report->error_code = "CONFLICT";
	if (decision->error_count > 0)
		report->error = pems_delivery_keep(delivery, decision->errors[0]);
	else
		report->error = conflict_sentence(delivery, decision);
}

static PemsPlan
plan_write(PemsDelivery *delivery, const char *changes, int64 version)
{
	delivery->step = PEMS_STEP_WRITE;
	delivery->changes = pems_delivery_keep(delivery, changes);
	delivery->version = version;
	return PEMS_PLAN_SEND;
}

/* problem: why a text could not be parsed; NULL: that was no problem, but there was no memory. */
static PemsPlan
give_up(PemsDelivery *delivery, const char *problem)
{
	if (problem == NULL || problem == pems_json_out_of_memory)
		pems_delivery_postpone(delivery,
							   "The worker was out of memory while it compared the record.");
	else
		pems_delivery_fail_unsent(delivery, "RECORD_TOO_DEEP",
								  "The edit, or a record that it is to be compared with, is nested "
								  "more than 512 levels deep.");
	return PEMS_PLAN_RECORD;
}

static PemsPlan
follow(PemsDelivery *delivery, const PemsDecision *decision)
{
	switch (decision->action)
	{
		case PEMS_MERGE_SEND:
			return plan_write(delivery, decision->changes, delivery->item.mirror_version);
		case PEMS_MERGE_NOTHING:
			finish_without_request(delivery);
			return PEMS_PLAN_RECORD;
		case PEMS_MERGE_CONFLICT:
			enter_conflict(delivery, decision);
			return PEMS_PLAN_RECORD;
	}
	return PEMS_PLAN_RECORD;
}

/* The mirror is not as the user saw it: compare all three sides. */
static PemsPlan
compare(PemsDelivery *delivery, const PemsCatalogue *catalogue)
{
	const PemsItem *item = &delivery->item;
	JsonDocument delta, base, own, others, remote;
	PemsDecision decision = {.failed = true};
	const char *problem = NULL;
	volatile PemsPlan plan = PEMS_PLAN_RECORD;
	volatile bool parsed = pems_delivery_parse(item->payload, &delta, &problem);

	parsed = pems_delivery_parse(item->base_data, &base, &problem) && parsed;
	parsed = pems_delivery_parse(item->own_data, &own, &problem) && parsed;
	parsed = pems_delivery_parse(item->other_bases, &others, &problem) && parsed;
	parsed = pems_delivery_parse(item->mirror_data, &remote, &problem) && parsed;
	if (parsed)
	{
		PemsMergeInput input = {.catalogue = catalogue,
								.is_delete = item->is_delete,
								.delta = delta.root,
								.base = base.root,
								.own = own.root,
								.other_bases = others.root,
								.remote = remote.root,
								.base_version = item->base_version,
								.remote_version = item->mirror_version,
								.outcome_unknown = item->outcome_unknown,
								.sent_version = item->previous_version};

		pems_merge_decide(&input, &decision);
		delivery->writes_object = pems_patch_has_object(delta.root);
	}
	PG_TRY();
	{
		plan = decision.failed ? give_up(delivery, problem) : follow(delivery, &decision);
	}
	PG_FINALLY();
	{
		if (parsed)
			pems_merge_free(&decision);
		pems_json_free(&delta);
		pems_json_free(&base);
		pems_json_free(&own);
		pems_json_free(&others);
		pems_json_free(&remote);
	}
	PG_END_TRY();
	return plan;
}

/*
 * The mirror is as the user saw it: the edit goes out as it is.  But objects are sent whole: a PEMS
 * that puts an object in the place of another would lose the members that the edit does not name.
 */
static PemsPlan
send_as_drafted(PemsDelivery *delivery)
{
	const PemsItem *item = &delivery->item;
	JsonDocument delta, record;
	JsonBuffer changes = {0};
	const char *problem = NULL;
	volatile PemsPlan plan = PEMS_PLAN_RECORD;
	volatile bool parsed;

	if (item->is_delete || item->mirror_data == NULL)
		return plan_write(delivery, item->is_delete ? NULL : item->payload, item->mirror_version);
	parsed = pems_delivery_parse(item->payload, &delta, &problem);
	parsed = pems_delivery_parse(item->mirror_data, &record, &problem) && parsed;
	if (parsed)
		pems_patch_complete(delta.root, record.root, &changes);
	delivery->writes_object = true;
	PG_TRY();
	{
		plan = parsed && !changes.failed ? plan_write(delivery, changes.data, item->mirror_version)
										 : give_up(delivery, problem);
	}
	PG_FINALLY();
	{
		pems_json_buffer_free(&changes);
		pems_json_free(&delta);
		pems_json_free(&record);
	}
	PG_END_TRY();
	return plan;
}

/* PEMS is asked what it has. */
static PemsPlan
look_first(PemsDelivery *delivery)
{
	delivery->step = PEMS_STEP_READ;
	return PEMS_PLAN_SEND;
}

static PemsPlan
decide(PemsDelivery *delivery, const PemsCatalogue *catalogue)
{
	const PemsItem *item = &delivery->item;

	PEMS_FAILPOINT("deciding");
	delivery->step = item->step;
	if (item->step != PEMS_STEP_WRITE)
		return PEMS_PLAN_SEND;
	/* the application deleted the mirror; or the record was deleted, and may be back */
	if (item->mirror_version == PEMS_NO_VERSION || item->mirror_deleted)
		return look_first(delivery);
	if (item->too_large)
	{
		pems_delivery_fail_unsent(delivery, "RECORD_TOO_LARGE",
								  "A record that the edit is to be compared with is larger than "
								  "pems_sync.max_record_size.");
		return PEMS_PLAN_RECORD;
	}
	if (item->base_is_mirror)
		return send_as_drafted(delivery);
	return compare(delivery, catalogue);
}

PemsPlan
pems_delivery_decide(PemsDelivery *delivery, const PemsCatalogue *catalogue)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile PemsPlan plan = PEMS_PLAN_RECORD;

	PG_TRY();
	{
		plan = decide(delivery, catalogue);
	}
	PG_CATCH();
	{
		pems_delivery_fail_unsent(delivery, "INTERNAL_ERROR",
								  pems_delivery_keep_error(delivery, caller));
	}
	PG_END_TRY();
	return plan;
}
