/*
 * worker/one_by_one.c
 *		A transaction failed as a whole: find out which item is at fault, so that it fails alone.
 *
 * Process: the background worker.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "shared/failpoint.h"
#include "shared/monotonic.h"
#include "worker/state.h"

/* So many items in a row may fail to be claimed; then one that can be claimed must be found. */
#define MOST_UNCLAIMABLE 3
#define MOST_SKIPPED     20
/*
 * So many reports of an organization in a row that the database refuses: it is hardly the items'
 * fault.  Whatever is sent meanwhile would become a dead letter, so for a while nothing is.
 */
#define MOST_UNRECORDABLE 5
/* Rows that are locked for so long are worth a word; microseconds. */
#define LONG_LOCK_US 5000000

/* --- reports --- */

/* The database refuses the report: the item becomes a dead letter, shown as one if possible. */
static bool
give_up(Turn *turn, const PemsReport *report, const char *reason)
{
	PemsTexts texts;

	if (pems_database_give_up(report, reason, &texts) != PEMS_DATABASE_OK)
		return false;
	keep_messages(turn, &texts);
	if (pems_database_mark_failed(report->item->id) != PEMS_DATABASE_OK)
		report_problem(turn, CANNOT_MARK, pems_database_problem());
	return true;
}

bool
nothing_can_be_recorded(const PemsOrganization *organization)
{
	return organization->unrecordable >= MOST_UNRECORDABLE;
}

/* Only what was written to the application's tables tells that they can be written. */
void
note_recorded(Turn *turn, PemsDelivery *delivery)
{
	const PemsTransition *t = &delivery->report.transition;

	if (t->status == PEMS_ITEM_PENDING && !t->mirror_is_record)
		return;
	if (nothing_can_be_recorded(delivery->organization))
		problem_is_over(turn, NOTHING_RECORDED);
	delivery->organization->unrecordable = 0;
	delivery->organization->claims_from_us = 0;
}

static void
note_unrecordable(Turn *turn, PemsDelivery *delivery, const char *reason)
{
	PemsOrganization *organization = delivery->organization;

	organization->unrecordable++;
	if (!nothing_can_be_recorded(organization))
		return;
	organization->claims_from_us = monotonic_us() + UNRECORDABLE_US;
	report_problem(turn, NOTHING_RECORDED,
				   psprintf("organization %s: %s", organization->code, reason));
}

/*
 * One report by itself: recorded, given up, or (false) to be tried again later.  *go_on: whether
 * there is a point in trying the next one now.
 */
static bool
record_alone(Turn *turn, PemsDelivery *delivery, bool *go_on)
{
	PemsReport *report = &delivery->report;
	PemsExchange exchange = {
		.reports = &report, .report_count = 1, .only_record = true, .careful = true};
	PemsDatabaseStatus done = run_exchange(turn, &exchange);
	char *reason;

	if (done == PEMS_DATABASE_OK && exchange.recorded[0])
		note_recorded(turn, delivery);
	if (done == PEMS_DATABASE_OK)
		return exchange.recorded[0];
	*go_on = done == PEMS_DATABASE_ERROR;
	if (done == PEMS_DATABASE_GONE || done == PEMS_DATABASE_CHANGED)
		return false;
	reason = pstrdup(pems_database_problem());
	report_problem(turn, CANNOT_RECORD_ONE, reason);
	if (done == PEMS_DATABASE_BUSY || !give_up(turn, report, reason))
		return false;
	note_unrecordable(turn, delivery, reason);
	return true;
}

static void
all_wait_for_locks(Turn *turn, DeliveryList *list)
{
	PemsDelivery *delivery;

	while ((delivery = list_first(list)) != NULL)
	{
		list_remove(list, delivery);
		wait_for_lock(turn, delivery);
	}
}

/*
 * The batch failed as a whole.  Find out which of its reports is at fault, so that it fails alone.
 * A pass ends at the first that has to wait for a lock, or takes too long, and after a moment at
 * the latest, because answers come in meanwhile.  The next one begins with those that were not
 * tried.
 */
void
record_one_by_one(Turn *turn, DeliveryList *list)
{
	int64 until = monotonic_us() + ONE_BY_ONE_US;
	DeliveryList untried;
	DeliveryList tried;
	PemsDelivery *delivery;
	bool go_on = true;
	bool progress = false;

	list_move(&untried, list);
	list_clear(&tried);
	while (go_on && (delivery = list_first(&untried)) != NULL)
	{
		list_remove(&untried, delivery);
		CHECK_FOR_INTERRUPTS();
		if (record_alone(turn, delivery, &go_on))
		{
			release_recorded(turn, delivery);
			progress = true;
		}
		else
			list_add(&tried, delivery);
		go_on = go_on && monotonic_us() < until;
	}
	if (untried.count > 0 && progress)
		turn->next_locked_us = 0;
	else if (turn->locked.count == 0)
		turn->next_locked_us = monotonic_us() + RETRY_PAUSE_MS * 1000;
	all_wait_for_locks(turn, &untried);
	all_wait_for_locks(turn, &tried);
}

/* A lock that is held for a moment is nothing to speak of. */
static void
report_locks(Turn *turn, int64 now)
{
	if (turn->locked.count == 0)
	{
		turn->locked_since_us = 0;
		problem_is_over(turn, WAITING_FOR_LOCKS);
	}
	else if (now - turn->locked_since_us > LONG_LOCK_US)
		report_problem(turn, WAITING_FOR_LOCKS,
					   psprintf("PFA record \"%s\" is one of them; pg_locks names the session.",
								list_first(&turn->locked)->item.pfa_id));
}

void
retry_locked(Turn *turn, int64 now)
{
	DeliveryList list;

	if (turn->locked.count == 0 || now < turn->next_locked_us)
		return;
	list_move(&list, &turn->locked);
	record_one_by_one(turn, &list);
	report_locks(turn, now);
}

/* --- claims --- */

/* One item at most; what it claims is accepted. */
static PemsDatabaseStatus
claim_one(Turn *turn, PemsGrant *grant)
{
	PemsExchange exchange = {.grants = grant,
							 .grant_count = 1,
							 .room = most_in_hand() - turn->bytes_in_hand,
							 .one_fits_always = nothing_in_hand(turn)};
	MemoryContext memory =
		AllocSetContextCreate(TopMemoryContext, "pems_sync batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(memory);
	PemsDatabaseStatus done = run_exchange(turn, &exchange);

	MemoryContextSwitchTo(caller);
	end_if_told_to();
	if (done == PEMS_DATABASE_OK)
	{
		if (exchange.item_count > 0)
			PEMS_FAILPOINT("claim_committed");
		turn->unclaimable = 0;
		accept_claimed(turn, &exchange, memory);
	}
	else
		MemoryContextDelete(memory);
	return done;
}

/*
 * Several items in a row could not be claimed.  Is that their own fault, or can nothing be claimed?
 * One that stands further behind tells; those that are skipped are found again by the next thorough
 * claim.
 */
static bool
something_can_be_claimed(Turn *turn, PemsGrant grant)
{
	bool moved;

	for (int i = 0; i < MOST_SKIPPED; i++)
	{
		if (pems_database_skip_first(&grant, &moved) != PEMS_DATABASE_OK || !moved)
			return false;
		grant.thorough = false;
		if (claim_one(turn, &grant) == PEMS_DATABASE_OK)
			return true;
	}
	return false;
}

/* The first item of the organization cannot be claimed: what is read with it cannot be read. */
static void
postpone_first(Turn *turn, const PemsGrant *grant, const char *reason)
{
	PemsPostponed postponed;

	if (pems_database_postpone_first(grant, reason, &postponed) != PEMS_DATABASE_OK ||
		postponed.item_id == NULL)
		return;
	turn->unclaimable++;
	keep_messages(turn, &postponed.messages);
	if (!postponed.failed)
		return;
	ereport(WARNING, (errmsg("pems_sync: an edit could not be sent, and failed for good"),
					  errdetail("Item %s: %s", postponed.item_id, reason),
					  errhint("See the view pems_dead_letters.")));
	if (pems_database_mark_failed(postponed.item_id) != PEMS_DATABASE_OK)
		report_problem(turn, CANNOT_MARK, pems_database_problem());
}

/* False: there is no point in going on. */
static bool
claim_or_postpone(Turn *turn, PemsGrant *grant)
{
	PemsDatabaseStatus done;
	char *reason;

	grant->slots = 1;
	done = claim_one(turn, grant);
	if (done != PEMS_DATABASE_ERROR)
		return went_well(turn, done, CANNOT_CLAIM);
	reason = pstrdup(pems_database_problem());
	if (turn->unclaimable >= MOST_UNCLAIMABLE && !something_can_be_claimed(turn, *grant))
	{
		report_problem(turn, CANNOT_CLAIM, reason);
		pause_after_failure(turn);
		return false;
	}
	postpone_first(turn, grant, reason);
	return true;
}

/*
 * A claim failed.  Find out which item is at fault, so that it fails alone: each organization
 * claims one, and the item that cannot be claimed waits for its next retry.  Where nothing can be
 * claimed it is nobody's fault.
 */
void
claim_one_by_one(Turn *turn)
{
	int64 until = monotonic_us() + ONE_BY_ONE_US;
	PemsExchange nothing = {.grant_count = 0};
	PemsGrant *grants;
	int count = make_grants(turn, &grants, monotonic_us());

	if (!went_well(turn, run_exchange(turn, &nothing), CANNOT_CLAIM))
		return;
	for (int i = 0; i < count && monotonic_us() < until; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!claim_or_postpone(turn, &grants[i]))
			return;
	}
	turn->look_wanted = true;
}
