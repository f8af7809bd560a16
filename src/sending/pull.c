/*
 * sending/pull.c
 *		A pull on its way; see pull.h.  What follows from an answer is decided in pems/pull.c, what
 *		a page says is read in pems/page.c.
 *
 * Process: the background worker, outside any transaction.
 */
#include "postgres.h"

#include "pgtime.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "pems/request.h"
#include "sending/pull.h"
#include "shared/compat.h"
#include "shared/settings.h"

/* --- making --- */

static char *
keep(MemoryContext memory, const char *text)
{
	return text ? MemoryContextStrdup(memory, text) : NULL;
}

PemsPull *
pems_pull_make(const PemsPullWork *work, PemsOrganization *organization)
{
	MemoryContext memory =
		AllocSetContextCreate(TopMemoryContext, "pems_sync pull", ALLOCSET_SMALL_SIZES);
	PemsPull *pull = MemoryContextAllocZero(memory, sizeof(PemsPull));

	pull->memory = memory;
	pull->work = *work;
	pull->work.job_id = keep(memory, work->job_id);
	pull->work.organization_id = keep(memory, work->organization_id);
	pull->work.asked = keep(memory, work->asked);
	pull->work.updated_since = keep(memory, work->updated_since);
	pull->work.cursor = keep(memory, work->cursor);
	pull->organization = organization;
	pull->endpoint = organization->endpoint;
	pull->step = work->searches ? PEMS_PULL_SEARCHING : PEMS_PULL_ASKING;
	return pull;
}

void
pems_pull_free(PemsPull *pull)
{
	if (pull->has_page)
		pems_page_free(&pull->page);
	MemoryContextDelete(pull->memory);
}

/* --- sending --- */

static void
note_sent(void *owner)
{
	PemsPull *pull = owner;

	pems_endpoint_sent(pull->endpoint, pull->ticket);
}

static PemsCall
call_of(const PemsPull *pull)
{
	return pull->work.phase == PEMS_PULL_LISTING ? PEMS_CALL_LIST : PEMS_CALL_READ;
}

static bool
compose(const PemsPull *pull, PemsRequest *texts)
{
	const PemsPullWork *work = &pull->work;
	const PemsOrganization *organization = pull->organization;
	PemsListing listing = {organization->code, work->updated_since, work->cursor,
						   pems_pull_page_size};
	PemsWrite write = {.pfa_id = work->asked, .organization_code = organization->code};

	if (work->phase == PEMS_PULL_LISTING)
		return pems_request_compose_listing(organization->api_url, &listing, work->job_id,
											work->requests, texts);
	return pems_request_compose(PEMS_CALL_READ, organization->api_url, &write, work->job_id,
								work->requests, texts);
}

void
pems_pull_wait(PemsPull *pull, const char *error_code, const char *sentence)
{
	if (pull->has_page)
		pems_page_free(&pull->page);
	pull->has_page = false;
	pull->step = PEMS_PULL_RECORDING;
	pull->next = (PemsPullNext){.action = PEMS_PULL_WAIT,
								.delay_ms = pems_retry_delay,
								.failures = pull->work.failures + 1,
								.gone_before = pull->work.gone_before,
								.error_code = error_code};
	pems_sentence_add_foreign(&pull->next.error, sentence, strlen(sentence), PEMS_SENTENCE_MAXIMUM);
}

bool
pems_pull_start(PemsPull *pull, PemsHttpClient *client, int64 now)
{
	PemsRequest texts = {0};
	PemsHttpClientRequest request = {.call = call_of(pull),
									 .api_url = pull->organization->api_url,
									 .token = pull->organization->token,
									 .owner = pull,
									 .sent = note_sent,
									 .max_response_size =
										 (size_t) pems_pull_max_response_size * 1024};
	bool started = compose(pull, &texts);

	request.url = texts.url;
	request.request_id = texts.request_id;
	started = started && pems_http_client_start(client, &request);
	pems_request_free(&texts);
	if (started)
		pull->ticket = pems_endpoint_start(pull->endpoint, now);
	else
		pems_pull_wait(pull, "OUT_OF_MEMORY",
					   "The worker was out of memory while it made the request.");
	return started;
}

/* --- the answer --- */

#define INSTANT_SIZE 40

/* As page.h writes them, so that texts compare as times do. */
static void
write_instant(char *text, TimestampTz at)
{
	pg_time_t seconds = timestamptz_to_time_t(at);
	size_t length = pg_strftime(text, INSTANT_SIZE, "%Y-%m-%dT%H:%M:%S", pg_gmtime(&seconds));

	snprintf(text + length, INSTANT_SIZE - length, ".%06dZ", (int) (at % USECS_PER_SEC));
}

/*
 * The watermark must not be a time that is still to come, or a record that is dated ahead would
 * hide whatever changes until then: of the page the newest time counts that our clock has passed.
 * Where PEMS's clock is ahead, a delta reads more than it need, and misses nothing.
 */
static void
leave_out_future(PemsPage *page)
{
	char now[INSTANT_SIZE];

	write_instant(now, GetCurrentTimestamp());
	if (page->newest_updated_at == NULL || strcmp(page->newest_updated_at, now) <= 0)
		return;
	page->newest_updated_at = NULL;
	for (size_t i = 0; i < page->count; i++)
	{
		const PemsPageRecord *record = &page->records[i];

		if (record->identified && record->updated_at && strcmp(record->updated_at, now) <= 0 &&
			(page->newest_updated_at == NULL ||
			 strcmp(record->updated_at, page->newest_updated_at) > 0))
			page->newest_updated_at = record->updated_at;
	}
}

static void
read_page(PemsPull *pull, const PemsAnswer *answer)
{
	const char *code = pull->organization->code;
	const char *problem = NULL;

	pull->has_page =
		pull->work.phase == PEMS_PULL_LISTING
			? pems_page_read(answer->body, answer->body_length, code, &pull->page, &problem)
			: pems_page_read_one(answer->body, answer->body_length, code, &pull->page, &problem);
	pull->step = PEMS_PULL_STORING;
	if (pull->has_page)
		leave_out_future(&pull->page);
	else
		pems_pull_wait(pull, "OUT_OF_MEMORY", problem);
}

/* A listing has no end where PEMS gives a cursor that it has given before. */
static bool
cursor_repeats(PemsPull *pull)
{
	return pull->step == PEMS_PULL_STORING && pull->page.next_cursor != NULL &&
		   pems_pull_cursor_repeats(&pull->work.cursors, pull->page.next_cursor);
}

static PemsPullInput
input_of(const PemsPull *pull, int64 now)
{
	const PemsPullWork *work = &pull->work;

	return (PemsPullInput){.phase = work->phase,
						   .failures = work->failures,
						   .restarted = work->restarted,
						   /* the listing said so, some seconds ago */
						   .gone_before = work->gone_before || work->phase == PEMS_PULL_CONFIRMING,
						   .breaker_open = pems_endpoint_breaker_is_open(pull->endpoint, now),
						   .retry_delay_ms = pems_retry_delay,
						   .jitter = pems_random_fraction()};
}

void
pems_pull_finish(PemsPull *pull, const PemsAnswer *answer, int64 now)
{
	PemsAsked asked = {
		.call = call_of(pull), .pfa_id = pull->work.asked, .has_cursor = pull->work.cursor != NULL};
	PemsPullInput input;
	PemsOutcome outcome;

	pems_judge_answer(&asked, answer, &outcome);
	pems_endpoint_end(pull->endpoint, pull->ticket, answer, &outcome, now);
	pull->step = PEMS_PULL_RECORDING;
	input = input_of(pull, now);
	pems_pull_after(&input, &outcome, &pull->next);
	if (pull->next.action == PEMS_PULL_STORE || pull->next.action == PEMS_PULL_RECORD)
		read_page(pull, answer);
	if (cursor_repeats(pull))
	{
		input.cursor_repeats = true;
		pems_pull_after(&input, &outcome, &pull->next);
		pull->step = PEMS_PULL_RECORDING;
	}
	pems_outcome_free(&outcome);
}
