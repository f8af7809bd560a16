/*
 * worker/recording.c
 *		The exchange with the queue: what is answered is recorded, what may start is claimed, in one
 *		transaction; and listeners are told.
 *
 * Process: the background worker.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "sending/roster.h"
#include "shared/failpoint.h"
#include "shared/monotonic.h"
#include "shared/settings.h"
#include "worker/state.h"

/*
 * Now and then a claim is thorough (cursor.h).  Where that takes long (something has been locked
 * for long, and a transaction keeps what was finished since from being vacuumed), it is done more
 * rarely: at most one part in so many of the time.  But the next poll is to find what nobody has
 * announced, also where one claim took long by chance (the server has just started, the machine is
 * busy): after poll_interval it may take a larger part.
 */
#define THOROUGH_US         1000000
#define THOROUGH_SHARE      200
#define THOROUGH_POLL_SHARE 10

/* --- listeners --- */

void
keep_messages(Turn *turn, const PemsTexts *texts)
{
	MemoryContext caller = MemoryContextSwitchTo(turn->memory);

	for (int i = 0; i < texts->count; i++)
		turn->messages = lappend(turn->messages, pstrdup(texts->texts[i]));
	MemoryContextSwitchTo(caller);
}

PemsDatabaseStatus
run_exchange(Turn *turn, PemsExchange *exchange)
{
	PemsDatabaseStatus done = pems_database_exchange(exchange);

	if (done == PEMS_DATABASE_OK)
		keep_messages(turn, &exchange->messages);
	return done;
}

/* They are told when what they hear of is durable; what cannot be told is dropped. */
void
send_notifications(Turn *turn)
{
	PemsTexts texts = {NULL, 0};
	PemsDatabaseStatus done;
	ListCell *cell;

	if (turn->messages == NIL)
		return;
	texts.texts = palloc(sizeof(char *) * list_length(turn->messages));
	foreach (cell, turn->messages)
		texts.texts[texts.count++] = lfirst(cell);
	turn->messages = NIL;
	done = pems_database_notify(&texts);
	if (done == PEMS_DATABASE_OK)
		problem_is_over(turn, CANNOT_NOTIFY);
	else if (done != PEMS_DATABASE_GONE)
		report_problem(turn, CANNOT_NOTIFY, pems_database_problem());
}

/* --- what was recorded --- */

static void
log_dead_letter(const PemsReport *report)
{
	if (report->transition.status == PEMS_ITEM_FAILED)
		ereport(WARNING, (errmsg("pems_sync: an edit of PFA record \"%s\" failed for good",
								 report->item->pfa_id),
						  errdetail("Item %s: %s", report->item->id,
									report->error ? report->error : "no reason given"),
						  errhint("See the view pems_dead_letters.")));
}

void
release_recorded(Turn *turn, PemsDelivery *delivery)
{
	log_dead_letter(&delivery->report);
	release_delivery(turn, delivery);
}

/*
 * Let the recorded ones of a list go; the others become locked ones.  Those that are there already
 * keep their time: a busy worker comes through here many times a second.
 */
static void
sort_by_recorded(Turn *turn, DeliveryList *list, const bool *recorded)
{
	DeliveryList all;
	PemsDelivery *delivery;
	int i = 0;

	if (turn->locked.count == 0)
		turn->next_locked_us = monotonic_us() + RETRY_PAUSE_MS * 1000;
	list_move(&all, list);
	while ((delivery = list_first(&all)) != NULL)
	{
		list_remove(&all, delivery);
		if (recorded[i++])
		{
			note_recorded(turn, delivery);
			release_recorded(turn, delivery);
		}
		else
			wait_for_lock(turn, delivery);
	}
}

/*
 * Another session has a row locked that belongs to one of these.  Record those that are free;
 * nobody waits for the others.
 */
static void
record_carefully(Turn *turn, DeliveryList *list)
{
	PemsExchange exchange = {.reports = reports_of(list),
							 .report_count = list->count,
							 .only_record = true,
							 .careful = true};
	PemsDatabaseStatus done = run_exchange(turn, &exchange);

	if (done == PEMS_DATABASE_ERROR || done == PEMS_DATABASE_SLOW)
		record_one_by_one(turn, list);
	else if (went_well(turn, done, CANNOT_RECORD))
		sort_by_recorded(turn, list, exchange.recorded);
}

/* Was it the claim that failed?  Then the reports can be recorded without one. */
static bool
record_without_claim(Turn *turn)
{
	PemsExchange exchange = {.reports = reports_of(&turn->answered),
							 .report_count = turn->answered.count,
							 .only_record = true};

	if (run_exchange(turn, &exchange) != PEMS_DATABASE_OK)
		return false;
	sort_by_recorded(turn, &turn->answered, exchange.recorded);
	return true;
}

/* --- thorough claims --- */

static void
make_thorough_if_due(Turn *turn, int64 now)
{
	if (now < turn->next_thorough_us)
		return;
	pems_roster_make_thorough();
	turn->next_thorough_us = 0;
}

/* After a thorough claim: when there may be one again. */
static void
schedule_thorough_claim(Turn *turn, int64 began_us)
{
	int64 now = monotonic_us();
	int64 took = now - began_us;
	int64 longest = Max((int64) pems_poll_interval * 1000, took * THOROUGH_POLL_SHARE);

	if (turn->next_thorough_us == 0)
		turn->next_thorough_us = now + Max(THOROUGH_US, Min(took * THOROUGH_SHARE, longest));
}

/* --- the exchange --- */

/*
 * Told to end while a commit waits for a synchronous standby, the server lets the commit return,
 * although it may be durable here only.  A request for a claim that a promoted standby would not
 * know must not leave.  (For the death of the postmaster there is no interrupt, only this flag.)
 */
void
end_if_told_to(void)
{
	if (ProcDiePending || !PostmasterIsAlive())
		proc_exit(1);
}

/*
 * The wall clock is asked once, so that an item waits as long as it was to wait although somebody
 * sets the clock meanwhile.
 */
static int64
due_us(TimestampTz next_due)
{
	if (next_due == DT_NOEND)
		return INT64_MAX;
	return monotonic_us() + Max(next_due - GetCurrentTimestamp(), 0);
}

void
accept_claimed(Turn *turn, PemsExchange *exchange, MemoryContext memory)
{
	turn->next_due_us = due_us(exchange->next_due);
	if (exchange->grant_count > 0)
		turn->room_wanted = exchange->room_missing;
	note_claimed(exchange->grants, exchange->grant_count, exchange->items, exchange->item_count);
	accept_items(turn, memory, exchange->items, exchange->item_count);
}

/*
 * The transaction committed: what was recorded is let go, its problems are over, and what was
 * claimed is accepted.
 */
static void
finish_exchange(Turn *turn, PemsExchange *exchange, MemoryContext memory)
{
	if (exchange->report_count > 0)
		PEMS_FAILPOINT("record_committed");
	if (exchange->item_count > 0)
		PEMS_FAILPOINT("claim_committed");
	if (exchange->report_count > 0)
		turn->recorded_claim_count = 0;
	sort_by_recorded(turn, &turn->answered, exchange->recorded);
	if (turn->locked.count == 0)
		exchange_problems_are_over(turn);
	accept_claimed(turn, exchange, memory);
}

/* The exchange failed as a whole. */
static void
recover(Turn *turn, PemsDatabaseStatus done)
{
	if (done == PEMS_DATABASE_GONE || done == PEMS_DATABASE_CHANGED)
		went_well(turn, done, CANNOT_CLAIM);
	else if (turn->answered.count > 0 && done == PEMS_DATABASE_BUSY)
		record_carefully(turn, &turn->answered);
	else if (turn->answered.count > 0 &&
			 (done == PEMS_DATABASE_SLOW || !record_without_claim(turn)))
		record_one_by_one(turn, &turn->answered);
	else if (done == PEMS_DATABASE_ERROR)
		claim_one_by_one(turn);
	else
		went_well(turn, done, CANNOT_CLAIM);
}

void
exchange(Turn *turn, bool look, int64 now)
{
	PemsGrant *grants;
	PemsExchange exchange = {.reports = reports_of(&turn->answered),
							 .report_count = turn->answered.count,
							 .recorded_claims = turn->recorded_claims,
							 .recorded_claim_count = turn->recorded_claim_count,
							 .room = most_in_hand() - turn->bytes_in_hand,
							 .one_fits_always = nothing_in_hand(turn)};
	MemoryContext memory;
	MemoryContext caller;
	PemsDatabaseStatus done;

	if (turn->answered.count > 0 || look)
		make_thorough_if_due(turn, now);
	exchange.grant_count = make_grants(turn, &grants, now);
	exchange.grants = grants;
	if (turn->answered.count == 0 &&
		(turn->status != PEMS_WORKER_RUNNING || (exchange.grant_count == 0 && !look)))
		return;
	pems_endpoints_claim_made();
	turn->next_maintenance_us = Min(turn->next_maintenance_us, turn->next_fold_us);
	if (turn->answered.count > 0)
		PEMS_FAILPOINT("answer_unrecorded");
	memory = AllocSetContextCreate(TopMemoryContext, "pems_sync batch", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(memory);
	done = run_exchange(turn, &exchange);
	MemoryContextSwitchTo(caller);
	end_if_told_to();
	schedule_thorough_claim(turn, now);
	if (done == PEMS_DATABASE_OK)
	{
		turn->unclaimable = 0;
		finish_exchange(turn, &exchange, memory);
		return;
	}
	MemoryContextDelete(memory);
	recover(turn, done);
}
