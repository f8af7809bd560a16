/*
 * sending/delivery.c
 *		A claimed item on its way: decide, send, judge the answer.
 *
 * Process: the background worker, outside any transaction.  Joins the pure rooms: merge
 * decides, protocol speaks PEMS, transition says what becomes of the item.
 * Memory: everything that outlives a call is in the item's context; what the pure rooms
 * malloc is copied there and freed at once.
 */
#include "postgres.h"

#include <time.h>

#include "utils/memutils.h"

#include "pems/retry.h"
#include "pems/transition.h"
#include "record/json.h"
#include "record/merge.h"
#include "sending/delivery.h"
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

#define PEMS_RECORD_GONE                                                                           \
	"PEMS does not have the record any more. To have it again, restore it there; to give the "     \
	"edit "                                                                                        \
	"up, resolve the conflict with use_pems."

/* What the audit log keeps of an answer that is no JSON. */
#define RESPONSE_TEXT_LIMIT 2000

static char *
keep(PemsDelivery *delivery, const char *text)
{
	return text ? MemoryContextStrdup(delivery->item.memory, text) : NULL;
}

/* --- decide --- */

static void
begin_result(PemsDelivery *delivery, PemsVerdictStatus status)
{
	PemsResult *result = &delivery->result;

	memset(result, 0, sizeof(*result));
	result->item = &delivery->item;
	result->pems_version = PEMS_NO_VERSION;
	result->known_version = PEMS_NO_VERSION;
	result->transition.status = status;
	result->transition.next = delivery->item.step;
	result->transition.retry_count = delivery->item.retry_count;
	result->transition.rounds = delivery->item.rounds;
	result->transition.outcome_unknown = delivery->item.outcome_unknown;
}

void
pems_delivery_withdraw(PemsDelivery *delivery)
{
	begin_result(delivery, PEMS_ITEM_PENDING);
}

/* PEMS has it already: the item is done without a request, and the audit log says so. */
static void
finish_without_request(PemsDelivery *delivery)
{
	PemsResult *result = &delivery->result;

	begin_result(delivery, PEMS_ITEM_COMPLETED);
	result->transition.outcome_unknown = false;
	result->pems_version = delivery->item.mirror_version;
	result->event_type = "SYNCED_WITHOUT_REQUEST";
}

static char *
fields_as_json(PemsDelivery *delivery, char *const *fields, size_t count)
{
	JsonBuffer buffer = {0};
	char *json;

	pems_json_append_text(&buffer, "[");
	for (size_t i = 0; i < count; i++)
	{
		if (i > 0)
			pems_json_append_text(&buffer, ",");
		pems_json_append_string(&buffer, fields[i], strlen(fields[i]));
	}
	pems_json_append_text(&buffer, "]");
	json = keep(delivery, buffer.failed ? "[]" : buffer.data);
	pems_json_buffer_free(&buffer);
	return json;
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
	PemsResult *result = &delivery->result;

	begin_result(delivery, PEMS_ITEM_CONFLICT);
	result->conflict_kind = pems_merge_kind_name(decision->kind);
	result->conflict_fields = fields_as_json(delivery, decision->fields, decision->field_count);
	result->error_code = "CONFLICT";
	if (decision->error_count > 0)
		result->error = keep(delivery, decision->errors[0]);
	else
		result->error = keep(delivery, conflict_sentence(delivery, decision));
}

/* Nothing was sent, and nothing will be. */
static void
fail_unsent(PemsDelivery *delivery, const char *error_code, const char *error)
{
	begin_result(delivery, PEMS_ITEM_FAILED);
	delivery->result.event_type = "NOT_SENT";
	delivery->result.error_code = error_code;
	delivery->result.error = error;
}

/*
 * In PG_CATCH: what an ERROR says, which is over then.  (Texts of more than a gigabyte raise one,
 * and so does palloc when there is no memory.)
 */
static char *
take_error(PemsDelivery *delivery, MemoryContext caller)
{
	ErrorData *data;
	char *sentence;

	MemoryContextSwitchTo(caller);
	data = CopyErrorData();
	FlushErrorState();
	sentence = keep(delivery, data->message);
	FreeErrorData(data);
	return sentence;
}

/* Out of memory while deciding: like any transient failure, but nobody's fault at PEMS. */
static void
postpone(PemsDelivery *delivery, const char *sentence)
{
	static const char *const code = "OUT_OF_MEMORY";
	const PemsItem *item = &delivery->item;

	if (item->retry_count >= item->max_retries)
	{
		fail_unsent(delivery, code, sentence);
		return;
	}
	begin_result(delivery, PEMS_ITEM_PENDING);
	delivery->result.transition.delay_ms =
		pems_retry_backoff_ms(pems_retry_delay, item->retry_count, pems_random_fraction());
	delivery->result.transition.retry_count = item->retry_count + 1;
	delivery->result.error_code = code;
	delivery->result.error = sentence;
}

static PemsPlan
plan_write(PemsDelivery *delivery, const char *changes, int64 version)
{
	delivery->step = PEMS_STEP_WRITE;
	delivery->changes = keep(delivery, changes);
	delivery->version = version;
	return PEMS_PLAN_SEND;
}

static PemsPlan
follow(PemsDelivery *delivery, const PemsDecision *decision)
{
	if (decision->failed)
	{
		postpone(delivery, "The worker was out of memory while it compared the record.");
		return PEMS_PLAN_RECORD;
	}
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

static bool
parse(const char *text, JsonDocument *document)
{
	memset(document, 0, sizeof(*document));
	return text == NULL || pems_json_parse(text, strlen(text), document, NULL);
}

/* The mirror is not as the user saw it: compare all three sides. */
static PemsPlan
compare(PemsDelivery *delivery, const PemsCatalogue *catalogue)
{
	const PemsItem *item = &delivery->item;
	JsonDocument delta, base, own, others, remote;
	PemsDecision decision = {.failed = true};
	volatile PemsPlan plan = PEMS_PLAN_RECORD;
	volatile bool parsed = parse(item->payload, &delta);

	parsed = parse(item->base_data, &base) && parsed;
	parsed = parse(item->own_data, &own) && parsed;
	parsed = parse(item->other_bases, &others) && parsed;
	parsed = parse(item->mirror_data, &remote) && parsed;
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
		delivery->writes_object = pems_merge_has_object(delta.root);
	}
	PG_TRY();
	{
		plan = follow(delivery, &decision);
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
	volatile PemsPlan plan = PEMS_PLAN_RECORD;
	volatile bool parsed;

	if (item->is_delete || item->mirror_data == NULL)
		return plan_write(delivery, item->is_delete ? NULL : item->payload, item->mirror_version);
	parsed = parse(item->payload, &delta);
	parsed = parse(item->mirror_data, &record) && parsed;
	if (parsed)
		pems_merge_complete(delta.root, record.root, &changes);
	delivery->writes_object = true;
	PG_TRY();
	{
		if (!parsed || changes.failed)
			postpone(delivery, "The worker was out of memory while it read the record.");
		else
			plan = plan_write(delivery, changes.data, item->mirror_version);
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
		fail_unsent(delivery, "RECORD_TOO_LARGE",
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
		fail_unsent(delivery, "INTERNAL_ERROR", take_error(delivery, caller));
	}
	PG_END_TRY();
	return plan;
}

/* --- send --- */

static PemsCall
call_of(const PemsDelivery *delivery)
{
	if (delivery->step != PEMS_STEP_WRITE)
		return PEMS_CALL_READ;
	return delivery->item.is_delete ? PEMS_CALL_DELETE : PEMS_CALL_UPDATE;
}

/* Copy a malloc'ed text to the delivery's memory and free it. */
static char *
take(PemsDelivery *delivery, char *text)
{
	char *volatile kept = NULL;

	PG_TRY();
	{
		kept = keep(delivery, text);
	}
	PG_FINALLY();
	{
		free(text);
	}
	PG_END_TRY();
	return kept;
}

/* The first byte of the request has left: from now on the limiter knows when it arrives. */
static void
note_sent(void *owner)
{
	PemsDelivery *delivery = owner;

	pems_endpoint_sent(delivery->endpoint, delivery->ticket);
}

static bool
compose(PemsDelivery *delivery, PemsClientRequest *request)
{
	const PemsItem *item = &delivery->item;
	const PemsOrganization *organization = delivery->organization;

	request->call = call_of(delivery);
	request->api_url = organization->api_url;
	request->token = organization->token;
	request->owner = delivery;
	request->sent = note_sent;
	delivery->path =
		take(delivery, pems_protocol_path(request->call, item->pfa_id, organization->code));
	if (delivery->path == NULL)
		return false;
	request->url = take(delivery, pems_protocol_url(organization->api_url, delivery->path));
	request->request_id = take(delivery, pems_protocol_request_id(item->id, item->attempt));
	if (request->call != PEMS_CALL_READ)
	{
		PemsWrite write = {item->pfa_id,      organization->code, delivery->changes,
						   delivery->version, item->created_by,   item->change_reason};

		delivery->body = take(delivery, pems_protocol_write_body(request->call, &write));
		request->body = delivery->body;
		request->idempotency_key =
			take(delivery, pems_protocol_idempotency_key(item->id, delivery->version));
	}
	return request->url != NULL && request->request_id != NULL &&
		   (request->call == PEMS_CALL_READ || request->body != NULL);
}

bool
pems_delivery_start(PemsDelivery *delivery, PemsClient *client, int64 now)
{
	MemoryContext caller = CurrentMemoryContext;
	PemsClientRequest request = {0};
	volatile bool composed = false;

	PG_TRY();
	{
		PEMS_FAILPOINT("composing");
		composed = compose(delivery, &request);
	}
	PG_CATCH();
	{
		fail_unsent(delivery, "INTERNAL_ERROR", take_error(delivery, caller));
		return false;
	}
	PG_END_TRY();
	if (!composed || !pems_client_start(client, &request))
	{
		postpone(delivery, "The worker was out of memory while it made the request.");
		return false;
	}
	delivery->ticket = pems_endpoint_start(delivery->endpoint, now);
	delivery->started_at = now;
	return true;
}

/* --- judge --- */

/*
 * The answer as JSON for the audit log: itself, or, where it is none or the database could not hold
 * it, its text inside an object.
 */
static char *
response_json(PemsDelivery *delivery, const PemsAnswer *answer)
{
	JsonDocument document;
	JsonBuffer buffer = {0};
	char *json;

	if (answer->body == NULL || answer->body_length == 0)
		return NULL;
	if (pems_json_parse(answer->body, answer->body_length, &document, NULL))
	{
		bool storable = document.root->unstorable == NULL;

		pems_json_free(&document);
		if (storable)
			return keep(delivery, answer->body);
	}
	pems_json_append_text(&buffer, "{\"text\":\"");
	for (size_t i = 0; i < Min(answer->body_length, RESPONSE_TEXT_LIMIT); i++)
	{
		unsigned char c = (unsigned char) answer->body[i];

		/* what is no plain character is shown as a question mark: this is a note, not a copy */
		if (c == '"' || c == '\\')
			pems_json_append_text(&buffer, "\\");
		pems_json_append(&buffer, c >= ' ' && c < 127 ? (char *) &c : "?", 1);
	}
	pems_json_append_text(&buffer, "\"}");
	json = buffer.failed ? NULL : keep(delivery, buffer.data);
	pems_json_buffer_free(&buffer);
	return json;
}

static int64
wall_clock_seconds(void)
{
	return (int64) time(NULL);
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
	return (PemsAsked){.call = call_of(delivery),
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
	parsed = parse(item->payload, &delta);
	parsed = parse(item->mirror_data, &before) && parsed;
	parsed = parse(outcome->data, &after) && parsed;
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

	begin_result(delivery, PEMS_ITEM_PENDING);
	pems_transition_after(&input, outcome, &delivery->result.transition);
}

/* The delta's fields, for a conflict that concerns the record as a whole: the decision on a record
 * that is gone. */
static char *
delta_fields(PemsDelivery *delivery)
{
	JsonDocument delta;
	PemsDecision decision;
	char *json = "[]";

	if (!parse(delivery->item.payload, &delta))
		return json;
	pems_merge_decide(&(PemsMergeInput){.delta = delta.root}, &decision);
	if (!decision.failed)
		json = fields_as_json(delivery, decision.fields, decision.field_count);
	pems_merge_free(&decision);
	pems_json_free(&delta);
	return json;
}

/* The versions that the answer tells of. */
static void
describe_versions(PemsDelivery *delivery, const PemsOutcome *outcome)
{
	const PemsItem *item = &delivery->item;
	PemsResult *result = &delivery->result;

	if (outcome->class == PEMS_OUTCOME_DONE)
		result->pems_version = result->known_version = outcome->new_version;
	else if (result->transition.mirror_is_record)
		result->pems_version = outcome->version;
	else if (result->transition.status == PEMS_ITEM_COMPLETED ||
			 result->transition.mirror_is_deleted)
		result->pems_version =
			Max(Max(item->mirror_version, item->previous_version), item->known_version);
	if (outcome->class == PEMS_OUTCOME_VERSION)
		result->known_version =
			outcome->current_version > 0 ? outcome->current_version : PEMS_REFUSED_VERSION;
}

/* What the answer alone does not tell. */
static void
describe_error(PemsDelivery *delivery, const PemsOutcome *outcome)
{
	PemsResult *result = &delivery->result;
	const PemsTransition *t = &result->transition;

	/* that a record to be deleted is gone already is no error */
	if (outcome->class == PEMS_OUTCOME_GONE && t->status == PEMS_ITEM_COMPLETED)
		return;
	result->error_code = outcome->error_code;
	result->error = keep(delivery, outcome->error);
	if (outcome->class == PEMS_OUTCOME_GONE && delivery->step == PEMS_STEP_WRITE &&
		t->rounds != delivery->item.rounds + 1)
		result->error = PEMS_WRITE_NOT_FOUND;
	if (t->status != PEMS_ITEM_FAILED)
		return;
	if (delivery->step == PEMS_STEP_REFRESH)
	{
		result->error_code = "NOT_APPLIED";
		result->error = delivery->item.is_delete ? PEMS_DELETE_IGNORED : PEMS_WRITE_IGNORED;
	}
	else if (outcome->class == PEMS_OUTCOME_RECORD)
	{
		result->error_code = "NO_MIRROR";
		result->error = "The record was read again and again, and each time its mirror was "
						"deleted, or marked as deleted.";
	}
}

static void
describe(PemsDelivery *delivery, const PemsAnswer *answer, const PemsOutcome *outcome)
{
	PemsResult *result = &delivery->result;
	PemsTransition *t = &result->transition;

	describe_versions(delivery, outcome);
	describe_error(delivery, outcome);
	if (t->mirror_is_record)
		result->mirror_data = keep(delivery, outcome->data);
	if (t->mirror_adds_changes)
		result->mirror_patch = delivery->changes;
	if (t->status == PEMS_ITEM_CONFLICT)
	{
		result->conflict_kind = pems_merge_kind_name(PEMS_CONFLICT_DELETED_IN_PEMS);
		result->conflict_fields = delta_fields(delivery);
		result->error = PEMS_RECORD_GONE;
	}
	result->event_type = delivery->step == PEMS_STEP_WRITE ? "WRITE_ATTEMPT" : "READ_ATTEMPT";
	result->http_method = pems_protocol_method(call_of(delivery));
	result->path = delivery->path;
	result->http_status = answer->status;
	result->latency_ms = answer->latency_us / 1000.0;
	result->request = delivery->body;
	result->response = response_json(delivery, answer);
}

/* The answer cannot be kept.  A write may have been done: a retry looks. */
static void
fail_sent(PemsDelivery *delivery, const PemsAnswer *answer, const char *error)
{
	PemsResult *result = &delivery->result;
	bool was_write = delivery->step == PEMS_STEP_WRITE;

	begin_result(delivery, PEMS_ITEM_FAILED);
	if (was_write)
		result->transition.next = PEMS_STEP_READ;
	result->transition.outcome_unknown |= was_write;
	result->event_type = was_write ? "WRITE_ATTEMPT" : "READ_ATTEMPT";
	result->http_method = pems_protocol_method(call_of(delivery));
	result->path = delivery->path;
	result->http_status = answer->status;
	result->latency_ms = answer->latency_us / 1000.0;
	result->request = delivery->body;
	result->error_code = "INTERNAL_ERROR";
	result->error = error;
}

void
pems_delivery_finish(PemsDelivery *delivery, const PemsCatalogue *catalogue, PemsAnswer *answer,
					 int64 now)
{
	MemoryContext caller = CurrentMemoryContext;
	bool breaker_open = pems_endpoint_breaker_is_open(delivery->endpoint, now);
	PemsAsked asked = asked_of(delivery);
	PemsOutcome outcome;

	pems_protocol_judge(&asked, answer, wall_clock_seconds(), &outcome);
	PG_TRY();
	{
		pems_endpoint_end(delivery->endpoint, delivery->ticket, answer, &outcome, now);
		PEMS_FAILPOINT("judging");
		move_on(delivery, catalogue, &outcome, breaker_open);
		describe(delivery, answer, &outcome);
	}
	PG_CATCH();
	{
		fail_sent(delivery, answer, take_error(delivery, caller));
	}
	PG_END_TRY();
	pems_protocol_free_outcome(&outcome);
}
