/*
 * worker/pulls.c
 *		Read sync in the turn: which pulls go on, and storing what they have read.
 *
 * Process: the background worker.
 *
 * Pulls share client, limiter and transactions' order with items, and come behind them.  What a
 * pull does in the database is done in slices of a few milliseconds, one in a turn, so that items
 * go on in between: some records of a page, some records of the mirror.  An organization has one
 * pull under way at most.  A transaction that fails stops its pull for a moment, and nothing else.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "pems/absence.h"
#include "shared/failpoint.h"
#include "shared/monotonic.h"
#include "shared/settings.h"
#include "worker/state.h"

/*
 * A slice is made larger or smaller until it takes about this long; microseconds of processor time.
 * On a busy machine, where others have the processor in between, smaller slices would not end
 * sooner, and what each costs besides its records would be most of it.
 */
#define SLICE_SHORT_US 2000
#define SLICE_LONG_US  4000
/* By the clock, because disks are waited for, too. */
#define SLICE_LATE_US 16000
/* Records of a slice. */
#define SLICE_MAXIMUM 2000
/* How long a pull waits after a transaction that failed; microseconds. */
#define PULL_PAUSE_US (INT64_C(1000) * RETRY_PAUSE_MS)
/* A page that could not be stored so many times is dropped, and read again later. */
#define REFUSALS_MAXIMUM 5

/* --- the list of pulls --- */

static void
add_pull(Turn *turn, const PemsPullWork *work, PemsOrganization *organization)
{
	PemsPull *pull = pems_pull_make(work, organization);

	organization->pulling = true;
	dlist_push_tail(&turn->pulls, &pull->node);
	if (pull->step != PEMS_PULL_ASKING || !pems_pull_start(pull, turn->client, monotonic_us()))
		return;
	turn->requests++;
	turn->pulls_asking++;
	pull->counted = true;
	pems_endpoint_pull_under_way(pull->endpoint);
}

/* It has done what it could for now; the database knows what comes next, and when. */
static void
let_go(PemsPull *pull)
{
	if (pull->counted)
		pems_endpoint_pull_over();
	pull->organization->pulling = false;
	pull->organization->pulls_from_us = 0;
	dlist_delete(&pull->node);
	pems_pull_free(pull);
}

void
forget_pulls(Turn *turn)
{
	while (!dlist_is_empty(&turn->pulls))
		let_go(dlist_container(PemsPull, node, dlist_head_node(&turn->pulls)));
	turn->pulls_asking = 0;
}

bool
finish_pull(Turn *turn, const void *owner, const PemsAnswer *answer, int64 now)
{
	dlist_iter iter;

	dlist_foreach(iter, &turn->pulls)
	{
		PemsPull *pull = dlist_container(PemsPull, node, iter.cur);

		if (pull != owner)
			continue;
		pems_pull_finish(pull, answer, now);
		PEMS_FAILPOINT("pull_answered");
		pems_endpoint_pull_answered(pull->endpoint);
		turn->pulls_asking--;
		if (pull->next.action == PEMS_PULL_PAUSE_ORGANIZATION)
			pull->organization->refused = true;
		return true;
	}
	return false;
}

/* --- steps in the database --- */

/* True: it went well.  Otherwise the pull waits, and nothing else does. */
static bool
pull_went_well(Turn *turn, PemsPull *pull, PemsDatabaseStatus done)
{
	pull->refusals = done == PEMS_DATABASE_OK ? 0 : pull->refusals + 1;
	if (done == PEMS_DATABASE_OK)
		problem_is_over(turn, CANNOT_PULL);
	else if (done == PEMS_DATABASE_GONE || done == PEMS_DATABASE_CHANGED)
	{
		went_well(turn, done, CANNOT_PULL); /* may have freed it */
		return false;
	}
	else
	{
		report_problem(turn, CANNOT_PULL, pems_database_problem());
		pull->not_before_us = monotonic_us() + PULL_PAUSE_US;
		/* its page has memory, and a slot that other pulls may need */
		if (pull->refusals >= REFUSALS_MAXIMUM && pull->step == PEMS_PULL_STORING)
			pems_pull_wait(pull, "DATABASE_ERROR", pems_database_problem());
	}
	return done == PEMS_DATABASE_OK;
}

/* When a slice began, by both clocks. */
typedef struct Stopwatch
{
	int64 processor_us;
	int64 clock_us;
} Stopwatch;

static Stopwatch
stopwatch(void)
{
	return (Stopwatch){processor_us(), monotonic_us()};
}

/* Next time larger or smaller. */
static int
adapt(int slice, const Stopwatch *began)
{
	int64 used_us = processor_us() - began->processor_us;
	bool is_late = monotonic_us() - began->clock_us > SLICE_LATE_US;

	if (used_us > SLICE_LONG_US || (is_late && used_us > SLICE_SHORT_US))
		return Max(1, slice / 2);
	if (used_us < SLICE_SHORT_US && !is_late)
		return Min(SLICE_MAXIMUM, slice * 2);
	return slice;
}

static PemsPullSlice
next_slice(const Turn *turn, const PemsPull *pull, size_t most)
{
	size_t left = pull->page.count - pull->stored;
	PemsPullSlice slice = {.job_id = pull->work.job_id,
						   .page = &pull->page,
						   .first = pull->stored,
						   .count = Min(left, most),
						   .cursors = pull->work.cursors,
						   .changed = pull->changed};

	slice.is_last = slice.count == left;
	memcpy(slice.counts, pull->counts, sizeof(slice.counts));
	return slice;
}

/* refused: why the database does not take its one record. */
static PemsDatabaseStatus
store(PemsPull *pull, PemsPullSlice *slice, const char *refused)
{
	MemoryContext caller = MemoryContextSwitchTo(pull->memory);
	PemsDatabaseStatus done;

	slice->refused = refused;
	done = pems_database_pull_store(slice);
	MemoryContextSwitchTo(caller);
	return done;
}

/*
 * The slice was refused as a whole: the page goes on record by record.  The one that the database
 * does not take is kept in quarantine with what the database said.
 */
static PemsDatabaseStatus
store_carefully(Turn *turn, PemsPull *pull, PemsPullSlice *slice, PemsDatabaseStatus done)
{
	if (done != PEMS_DATABASE_ERROR && done != PEMS_DATABASE_SLOW)
		return done;
	pull->one_by_one = true;
	*slice = next_slice(turn, pull, 1);
	done = store(pull, slice, NULL);
	if (done == PEMS_DATABASE_ERROR || done == PEMS_DATABASE_SLOW)
		done = store(pull, slice, psprintf("The database refuses it: %s", pems_database_problem()));
	return done;
}

static void
store_slice(Turn *turn, PemsPull *pull)
{
	PemsPullSlice slice = next_slice(turn, pull, pull->one_by_one ? 1 : turn->pull_slice);
	Stopwatch began = stopwatch();
	PemsDatabaseStatus done = store(pull, &slice, NULL);

	if (done == PEMS_DATABASE_OK && !pull->one_by_one)
		turn->pull_slice = adapt(turn->pull_slice, &began);
	else if (done != PEMS_DATABASE_OK)
		done = store_carefully(turn, pull, &slice, done);
	if (!pull_went_well(turn, pull, done))
		return;
	PEMS_FAILPOINT("pull_slice_committed");
	keep_messages(turn, &slice.messages);
	pull->stored += slice.count;
	pull->changed = slice.changed;
	memcpy(pull->counts, slice.counts, sizeof(pull->counts));
	if (!slice.ours || slice.is_last)
		let_go(pull);
}

static void
search_slice(Turn *turn, PemsPull *pull)
{
	PemsPullSearch search;
	PemsSentence why = {0};
	PemsTexts messages;
	Stopwatch began = stopwatch();

	if (!pull_went_well(turn, pull,
						pems_database_pull_search(pull->work.job_id, turn->search_slice, &search)))
		return;
	turn->search_slice = adapt(turn->search_slice, &began);
	if (!search.done)
		return;
	(void) pems_absence_may_mark(search.known, search.missing, pems_pull_max_missing, &why);
	if (!pull_went_well(turn, pull,
						pems_database_pull_searched(pull->work.job_id,
													why.text[0] ? why.text : NULL, &messages)))
		return;
	keep_messages(turn, &messages);
	let_go(pull);
}

/* A record that the database does not let us mark is kept in quarantine, too. */
static PemsDatabaseStatus
record_gone(const char *job_id, bool gone, PemsTexts *messages)
{
	PemsDatabaseStatus done = pems_database_pull_gone(job_id, gone, NULL, messages);

	if (done != PEMS_DATABASE_ERROR && done != PEMS_DATABASE_SLOW)
		return done;
	return pems_database_pull_gone(
		job_id, gone,
		psprintf("PEMS has it no more, and the database refuses to mark it "
				 "as deleted: %s",
				 pems_database_problem()),
		messages);
}

static void
record_pull(Turn *turn, PemsPull *pull)
{
	const char *job_id = pull->work.job_id;
	PemsPullAction action = pull->next.action;
	PemsTexts messages;
	PemsDatabaseStatus done;

	if (action == PEMS_PULL_GONE || action == PEMS_PULL_KEEP)
		done = record_gone(job_id, action == PEMS_PULL_GONE, &messages);
	else
		done = pems_database_pull_failed(job_id, &pull->next, &messages);
	if (!pull_went_well(turn, pull, done))
		return;
	PEMS_FAILPOINT("pull_step_committed");
	keep_messages(turn, &messages);
	let_go(pull);
}

void
step_pulls(Turn *turn, int64 now)
{
	dlist_iter iter;

	/* detached meanwhile: the mirror is the application's alone until it is attached again */
	if (!is_attached_here(turn))
		return;
	dlist_foreach(iter, &turn->pulls)
	{
		PemsPull *pull = dlist_container(PemsPull, node, iter.cur);

		if (pull->step == PEMS_PULL_ASKING || now < pull->not_before_us)
			continue;
		/* the others are first in the next turns */
		dlist_delete(&pull->node);
		dlist_push_tail(&turn->pulls, &pull->node);
		if (pull->step == PEMS_PULL_STORING)
			store_slice(turn, pull);
		else if (pull->step == PEMS_PULL_SEARCHING)
			search_slice(turn, pull);
		else
			record_pull(turn, pull);
		return;
	}
}

/* --- which may start --- */

static bool
may_pull(const PemsOrganization *organization, int64 now)
{
	return organization->listed && organization->token != NULL && !organization->refused &&
		   !organization->pulling && organization->pulls_from_us <= now;
}

/* Of those organizations of the endpoint the one that has been waiting longest; NULL: none. */
static PemsOrganization *
longest_waiting(const PemsEndpoint *endpoint, int64 now)
{
	PemsOrganization *first = NULL;

	for (PemsOrganization *o = pems_roster_organizations(); o != NULL; o = o->next)
		if (o->endpoint == endpoint && may_pull(o, now) &&
			(first == NULL || o->pulled_us < first->pulled_us))
			first = o;
	return first;
}

/* before_items: only the share that pulls have while items wait. */
static int
choose_organizations(const char **ids, int most, bool before_items, int64 now)
{
	int count = 0;

	for (PemsEndpoint *e = pems_endpoints(); e != NULL; e = e->next)
	{
		int room = pems_endpoint_free_for_pulls(e, before_items, now);
		PemsOrganization *organization;

		while (room-- > 0 && count < most && (organization = longest_waiting(e, now)) != NULL)
		{
			organization->pulls_from_us = INT64_MAX;
			organization->pulled_us = now;
			ids[count++] = organization->id;
		}
	}
	return count;
}

static int64
from_us(TimestampTz at, int64 now)
{
	return at == DT_NOEND ? INT64_MAX : now + Max(at - GetCurrentTimestamp(), 0);
}

static void
note_times(const PemsPullLook *look, int64 now)
{
	for (int i = 0; i < look->time_count; i++)
	{
		PemsOrganization *organization = pems_roster_find(look->times[i].organization_id);

		if (organization != NULL)
			organization->pulls_from_us = from_us(look->times[i].next_at, now);
	}
}

/* They may be tried again in a moment. */
static void
try_again_later(const char *const *ids, int count, int64 now)
{
	for (int i = 0; i < count; i++)
		pems_roster_find(ids[i])->pulls_from_us = now + PULL_PAUSE_US;
}

/* Their time has come, and yet there was nothing for them: a session has their pulls locked. */
static void
leave_alone_if_locked(const PemsPullLook *look, const char *const *ids, int count, int64 now)
{
	for (int i = 0; i < count; i++)
	{
		PemsOrganization *organization = pems_roster_find(ids[i]);
		bool found = false;

		for (int j = 0; j < look->work_count && !found; j++)
			found = strcmp(look->works[j].organization_id, ids[i]) == 0;
		if (!found && organization->pulls_from_us <= now)
			organization->pulls_from_us = now + PULL_PAUSE_US;
	}
}

/* A failure of these transactions is no reason to leave the database alone. */
static bool
looked_well(Turn *turn, PemsDatabaseStatus done)
{
	if (done == PEMS_DATABASE_OK || done == PEMS_DATABASE_GONE || done == PEMS_DATABASE_CHANGED)
		return went_well(turn, done, CANNOT_PULL);
	report_problem(turn, CANNOT_PULL, pems_database_problem());
	return false;
}

/* Which organizations have something to pull? */
static void
look_for_pulls(Turn *turn, int64 now)
{
	PemsPullLook look;
	const char **ids;
	int count = 0;

	for (PemsOrganization *o = pems_roster_organizations(); o != NULL; o = o->next)
		count++;
	ids = palloc(sizeof(char *) * Max(count, 1));
	count = 0;
	for (PemsOrganization *o = pems_roster_organizations(); o != NULL; o = o->next)
	{
		o->pulls_from_us = INT64_MAX;
		if (o->listed)
			ids[count++] = o->id;
	}
	turn->pull_look_wanted = false;
	if (looked_well(turn, pems_database_pull_look(ids, count, &look)))
		note_times(&look, now);
	else
		turn->next_poll_us = Min(turn->next_poll_us, now + PULL_PAUSE_US);
}

void
start_pulls(Turn *turn, bool before_items, int64 now)
{
	int most = Max(1, pems_max_in_flight / 4);
	const char **ids;
	int count;
	PemsPullLook look;

	if (turn->status != PEMS_WORKER_RUNNING)
		return;
	if (turn->pull_look_wanted)
		look_for_pulls(turn, now);
	if (!turn->opened)
		return;
	ids = palloc(sizeof(char *) * most);
	count = choose_organizations(ids, most, before_items, now);
	if (count == 0)
		return;
	if (!looked_well(turn, pems_database_pull_start(ids, count, count, &look)))
	{
		if (turn->opened)
			try_again_later(ids, count, now);
		return;
	}
	end_if_told_to();
	PEMS_FAILPOINT("pull_start_committed");
	note_times(&look, now);
	leave_alone_if_locked(&look, ids, count, now);
	for (int i = 0; i < look.work_count; i++)
		add_pull(turn, &look.works[i], pems_roster_find(look.works[i].organization_id));
	pems_http_client_drive(turn->client);
	if (turn->pulls_asking > 0)
		PEMS_FAILPOINT("pull_request_sent");
}

int64
next_pull_us(const Turn *turn, int64 now)
{
	int64 next = INT64_MAX;
	dlist_iter iter;

	dlist_foreach(iter, (dlist_head *) &turn->pulls)
	{
		const PemsPull *pull = dlist_container(PemsPull, node, iter.cur);

		if (pull->step != PEMS_PULL_ASKING)
			next = Min(next, pull->not_before_us);
	}
	for (PemsOrganization *o = pems_roster_organizations(); o != NULL; o = o->next)
	{
		if (o->pulls_from_us < INT64_MAX && may_pull(o, o->pulls_from_us) &&
			pems_endpoint_has_slot_for_pull(o->endpoint))
			next = Min(next, Max(o->pulls_from_us, pems_limiter_next(o->endpoint->limiter, now)));
	}
	return next;
}
