/*
 * sending/delivery.c
 *		A claimed item on its way: its request, and what all its steps need.
 *
 * Deciding what to send is in deciding.c, judging the answer in finishing.c.
 *
 * Process: the background worker, outside any transaction.
 * Memory: everything that outlives a call is in the item's context; what pure functions
 * malloc is copied there and freed at once.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "pems/retry.h"
#include "record/json.h"
#include "sending/delivery.h"
#include "sending/delivery_parts.h"
#include "shared/compat.h"
#include "shared/failpoint.h"
#include "shared/settings.h"

/* --- what all steps need --- */

char *
pems_delivery_keep(PemsDelivery *delivery, const char *text)
{
	return text ? MemoryContextStrdup(delivery->item.memory, text) : NULL;
}

bool
pems_delivery_parse(const char *text, JsonDocument *document, const char **problem)
{
	memset(document, 0, sizeof(*document));
	return text == NULL || pems_json_parse(text, strlen(text), document, problem);
}

PemsCall
pems_delivery_call(const PemsDelivery *delivery)
{
	if (delivery->step != PEMS_STEP_WRITE)
		return PEMS_CALL_READ;
	return delivery->item.is_delete ? PEMS_CALL_DELETE : PEMS_CALL_UPDATE;
}

void
pems_delivery_begin_report(PemsDelivery *delivery, PemsItemStatus status)
{
	PemsReport *report = &delivery->report;

	memset(report, 0, sizeof(*report));
	report->item = &delivery->item;
	report->pems_version = PEMS_NO_VERSION;
	report->known_version = PEMS_NO_VERSION;
	report->transition.status = status;
	report->transition.next = delivery->item.step;
	report->transition.retry_count = delivery->item.retry_count;
	report->transition.rounds = delivery->item.rounds;
	report->transition.outcome_unknown = delivery->item.outcome_unknown;
}

char *
pems_delivery_fields(PemsDelivery *delivery, char *const *fields, size_t count)
{
	JsonBuffer buffer = {0};
	char *json;

	pems_json_append_strings(&buffer, fields, count);
	json = pems_delivery_keep(delivery, buffer.failed ? "[]" : buffer.data);
	pems_json_buffer_free(&buffer);
	return json;
}

void
pems_delivery_fail_unsent(PemsDelivery *delivery, const char *error_code, const char *error)
{
	pems_delivery_begin_report(delivery, PEMS_ITEM_FAILED);
	delivery->report.event_type = "NOT_SENT";
	delivery->report.error_code = error_code;
	delivery->report.error = error;
}

char *
pems_delivery_keep_error(PemsDelivery *delivery, MemoryContext caller)
{
	ErrorData *data;
	char *sentence;

	MemoryContextSwitchTo(caller);
	data = CopyErrorData();
	FlushErrorState();
	sentence = pems_delivery_keep(delivery, data->message);
	FreeErrorData(data);
	return sentence;
}

void
pems_delivery_postpone(PemsDelivery *delivery, const char *sentence)
{
	static const char *const code = "OUT_OF_MEMORY";
	const PemsItem *item = &delivery->item;

	if (item->retry_count >= item->max_retries)
	{
		pems_delivery_fail_unsent(delivery, code, sentence);
		return;
	}
	pems_delivery_begin_report(delivery, PEMS_ITEM_PENDING);
	delivery->report.transition.delay_ms =
		pems_retry_backoff_ms(pems_retry_delay, item->retry_count, pems_random_fraction());
	delivery->report.transition.retry_count = item->retry_count + 1;
	delivery->report.error_code = code;
	delivery->report.error = sentence;
}

/* --- send --- */

void
pems_delivery_withdraw(PemsDelivery *delivery)
{
	pems_delivery_begin_report(delivery, PEMS_ITEM_PENDING);
}

/* The first byte of the request has left: from now on the limiter knows when it arrives. */
static void
note_sent(void *owner)
{
	PemsDelivery *delivery = owner;

	pems_endpoint_sent(delivery->endpoint, delivery->ticket);
}

static bool
compose(const PemsDelivery *delivery, PemsRequest *texts)
{
	const PemsItem *item = &delivery->item;
	const PemsOrganization *organization = delivery->organization;
	PemsWrite write = {item->pfa_id,      organization->code, delivery->changes,
					   delivery->version, item->created_by,   item->change_reason};

	return pems_request_compose(pems_delivery_call(delivery), organization->api_url, &write,
								item->id, item->attempt, texts);
}

/* The audit log keeps the path and the body. */
static bool
start(PemsDelivery *delivery, PemsHttpClient *client, const PemsRequest *texts)
{
	PemsHttpClientRequest request = {.call = pems_delivery_call(delivery),
									 .url = texts->url,
									 .api_url = delivery->organization->api_url,
									 .token = delivery->organization->token,
									 .idempotency_key = texts->idempotency_key,
									 .request_id = texts->request_id,
									 .body = texts->body,
									 .owner = delivery,
									 .sent = note_sent};

	delivery->path = pems_delivery_keep(delivery, texts->path);
	delivery->body = pems_delivery_keep(delivery, texts->body);
	return pems_http_client_start(client, &request);
}

bool
pems_delivery_start(PemsDelivery *delivery, PemsHttpClient *client, int64 now)
{
	MemoryContext caller = CurrentMemoryContext;
	PemsRequest texts = {0};
	volatile bool started = false;
	volatile bool failed = false;

	PG_TRY();
	{
		PEMS_FAILPOINT("composing");
		started = compose(delivery, &texts) && start(delivery, client, &texts);
	}
	PG_CATCH();
	{
		pems_delivery_fail_unsent(delivery, "INTERNAL_ERROR",
								  pems_delivery_keep_error(delivery, caller));
		failed = true;
	}
	PG_END_TRY();
	pems_request_free(&texts);
	if (!started && !failed)
		pems_delivery_postpone(delivery, "The worker was out of memory while it made the request.");
	if (!started)
		return false;
	delivery->ticket = pems_endpoint_start(delivery->endpoint, now);
	delivery->started_at = now;
	return true;
}
