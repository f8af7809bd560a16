/*
 * worker/deliveries.c
 *		Claimed items, by how far they are: lists, memory, and how much may be in hand.
 *
 * Process: the background worker.
 * Memory: each claim has a context of its own, which lives until its last item is recorded; each
 * item has one in it, which lives until it is recorded itself.  All of the latter together are
 * bounded by pems_sync.max_in_hand.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "shared/monotonic.h"
#include "shared/settings.h"
#include "worker/state.h"

/* --- lists --- */

void
list_clear(DeliveryList *list)
{
	dlist_init(&list->items);
	list->count = 0;
}

void
list_add(DeliveryList *list, PemsDelivery *delivery)
{
	dlist_push_tail(&list->items, &delivery->node);
	list->count++;
}

void
list_remove(DeliveryList *list, PemsDelivery *delivery)
{
	dlist_delete(&delivery->node);
	list->count--;
}

PemsDelivery *
list_first(const DeliveryList *list)
{
	if (list->count == 0)
		return NULL;
	return dlist_container(PemsDelivery, node, list->items.head.next);
}

PemsDelivery *
list_next(const DeliveryList *list, const PemsDelivery *delivery)
{
	if (delivery->node.next == &list->items.head)
		return NULL;
	return dlist_container(PemsDelivery, node, delivery->node.next);
}

void
list_move(DeliveryList *to, DeliveryList *from)
{
	PemsDelivery *delivery;

	list_clear(to);
	while ((delivery = list_first(from)) != NULL)
	{
		list_remove(from, delivery);
		list_add(to, delivery);
	}
}

PemsReport **
reports_of(const DeliveryList *list)
{
	PemsReport **reports = palloc(sizeof(PemsReport *) * Max(list->count, 1));
	int count = 0;

	for (PemsDelivery *delivery = list_first(list); delivery != NULL;
		 delivery = list_next(list, delivery))
		reports[count++] = &delivery->report;
	return reports;
}

/* --- memory --- */

void
weigh(Turn *turn, PemsDelivery *delivery)
{
	int64 weight = (int64) MemoryContextMemAllocated(delivery->item.memory, true);

	turn->bytes_in_hand += weight - delivery->bytes;
	delivery->bytes = weight;
}

static void
note_recorded_claim(Turn *turn, int64 claim_token)
{
	if (turn->recorded_claim_count == turn->recorded_claim_capacity)
	{
		turn->recorded_claim_capacity = Max(64, turn->recorded_claim_capacity * 2);
		turn->recorded_claims =
			turn->recorded_claims
				? repalloc(turn->recorded_claims, turn->recorded_claim_capacity * sizeof(int64))
				: MemoryContextAlloc(TopMemoryContext,
									 turn->recorded_claim_capacity * sizeof(int64));
	}
	turn->recorded_claims[turn->recorded_claim_count++] = claim_token;
}

void
release_delivery(Turn *turn, PemsDelivery *delivery)
{
	Claim *claim = delivery->claim;

	turn->bytes_in_hand -= delivery->bytes;
	MemoryContextDelete(delivery->item.memory);
	if (!delivery->waits_for_lock)
		pems_endpoint_item_released(delivery->endpoint);
	if (--claim->unrecorded > 0)
		return;
	note_recorded_claim(turn, claim->token);
	MemoryContextDelete(claim->memory);
}

/*
 * It does not count for its endpoint any more: PEMS has answered, and a session that keeps many
 * rows locked must not keep the endpoint from being used.  What is in hand is bounded by its
 * memory.
 */
void
wait_for_lock(Turn *turn, PemsDelivery *delivery)
{
	if (!delivery->waits_for_lock)
		pems_endpoint_item_released(delivery->endpoint);
	delivery->waits_for_lock = true;
	if (turn->locked_since_us == 0)
		turn->locked_since_us = monotonic_us();
	list_add(&turn->locked, delivery);
}

static void
release_list(Turn *turn, DeliveryList *list)
{
	PemsDelivery *delivery;

	while ((delivery = list_first(list)) != NULL)
	{
		list_remove(list, delivery);
		release_delivery(turn, delivery);
	}
}

void
release_all(Turn *turn)
{
	release_list(turn, &turn->waiting);
	release_list(turn, &turn->under_way);
	release_list(turn, &turn->answered);
	release_list(turn, &turn->locked);
	turn->recorded_claim_count = 0;
	turn->room_wanted = 0;
	turn->locked_since_us = 0;
}

/* --- room --- */

int64
most_in_hand(void)
{
	return (int64) pems_max_in_hand * 1024;
}

bool
nothing_in_hand(const Turn *turn)
{
	return turn->waiting.count + turn->under_way.count + turn->answered.count +
			   turn->locked.count ==
		   0;
}

bool
has_room(const Turn *turn)
{
	return turn->bytes_in_hand + Max(turn->room_wanted, 1) <= most_in_hand() ||
		   nothing_in_hand(turn);
}

/*
 * A request needs as much memory again as its item.  One may always start, or there might never be
 * room.
 */
bool
has_room_for_request(const Turn *turn)
{
	return turn->bytes_in_hand < most_in_hand() || turn->under_way.count == 0;
}

/* --- what was claimed --- */

static void
accept_item(Turn *turn, Claim *claim, const PemsItem *item)
{
	PemsDelivery *delivery = MemoryContextAllocZero(claim->memory, sizeof(PemsDelivery));
	bool send = false;

	delivery->claim = claim;
	delivery->item = *item;
	delivery->organization = pems_roster_find(item->organization_id);
	delivery->endpoint = delivery->organization->endpoint;
	pems_endpoint_item_claimed(delivery->endpoint);
	if (item->put_back)
		pems_delivery_withdraw(delivery);
	else
		send = pems_delivery_decide(delivery, &turn->catalogue) == PEMS_PLAN_SEND;
	weigh(turn, delivery);
	if (send)
		pems_endpoint_item_waits(delivery->endpoint);
	list_add(send ? &turn->waiting : &turn->answered, delivery);
}

void
accept_items(Turn *turn, MemoryContext memory, PemsItem *items, int count)
{
	Claim *claim;

	if (count == 0)
	{
		MemoryContextDelete(memory);
		return;
	}
	claim = MemoryContextAlloc(memory, sizeof(Claim));
	claim->memory = memory;
	claim->token = items[0].claim_token;
	claim->claimed_us = monotonic_us();
	claim->unrecorded = count;
	for (int i = 0; i < count; i++)
		accept_item(turn, claim, &items[i]);
}
