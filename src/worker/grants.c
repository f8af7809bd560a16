/*
 * worker/grants.c
 *		How much may be claimed, and for whom.
 *
 * Process: the background worker.
 *
 * An endpoint gets what its limiter and breaker let start, but no more than what is free of its
 * share of max_in_flight plus a stock, which is as many as it answered since the last claim.  So an
 * endpoint that hangs never has all the slots, and nothing lies claimed in front of it.
 * Organizations of one endpoint take turns.
 */
#include "postgres.h"

#include "sending/roster.h"
#include "sending/share.h"
#include "shared/monotonic.h"
#include "shared/settings.h"
#include "worker/state.h"

bool
can_claim_for(const PemsOrganization *organization, const PemsEndpoint *endpoint)
{
	return organization->endpoint == endpoint && organization->listed &&
		   organization->token != NULL && !organization->refused && organization->maybe_ready &&
		   monotonic_us() >= organization->claims_from_us;
}

static PemsGrant
grant_to(const char *organization_id, int slots)
{
	const PemsCursor *cursor = &pems_roster_find(organization_id)->cursor;
	PemsGrant grant = {
		.organization_id = organization_id, .slots = slots, .thorough = cursor->thorough};

	memcpy(grant.after, cursor->after, sizeof(grant.after));
	memcpy(grant.passed, cursor->passed, sizeof(grant.passed));
	return grant;
}

/* Divide what the endpoint can take among its organizations, in turn. */
static int
grant_for_endpoint(PemsEndpoint *endpoint, int capacity, PemsGrant *grants)
{
	PemsOrganization *o;
	int count = 0;
	int given = 0;
	int *wanted;
	int *shares;

	for (o = pems_roster_organizations(); o != NULL; o = o->next)
		if (can_claim_for(o, endpoint))
			grants[count++].organization_id = o->id;
	if (count == 0)
		return 0;
	wanted = palloc(sizeof(int) * count);
	shares = palloc0(sizeof(int) * count);
	/* where no report could be recorded: one item, to see whether it can be again */
	for (int i = 0; i < count; i++)
		wanted[i] = nothing_can_be_recorded(pems_roster_find(grants[i].organization_id))
						? 1
						: pems_batch_size;
	pems_share_slots(capacity, count, wanted, &endpoint->last_turn, shares);
	for (int i = 0; i < count; i++)
		if (shares[i] > 0)
			grants[given++] = grant_to(grants[i].organization_id, shares[i]);
	return given;
}

int
make_grants(Turn *turn, PemsGrant **grants, int64 now)
{
	int organizations = 0;
	int left = pems_batch_size;
	int count = 0;

	for (PemsOrganization *o = pems_roster_organizations(); o != NULL; o = o->next)
		organizations++;
	*grants = palloc(sizeof(PemsGrant) * Max(organizations, 1));
	if (turn->status != PEMS_WORKER_RUNNING || !has_room(turn))
		return 0;
	for (PemsEndpoint *e = pems_endpoints(); e != NULL && left > 0; e = e->next)
	{
		int capacity = Min(left, pems_endpoint_claimable(e, now));
		int given = capacity > 0 ? grant_for_endpoint(e, capacity, *grants + count) : 0;

		for (int i = 0; i < given; i++)
			left -= (*grants)[count + i].slots;
		count += given;
	}
	return count;
}

/* Who used less than was granted has no more for now. */
void
note_claimed(const PemsGrant *grants, int grant_count, const PemsItem *items, int item_count)
{
	for (int i = 0; i < grant_count; i++)
	{
		PemsOrganization *organization = pems_roster_find(grants[i].organization_id);

		organization->used = 0;
		if (grants[i].thorough)
			pems_cursor_was_thorough(&organization->cursor, grants[i].after);
	}
	for (int i = 0; i < item_count; i++)
	{
		PemsOrganization *organization = pems_roster_find(items[i].organization_id);

		organization->used++;
		pems_cursor_move_on(&organization->cursor, items[i].priority_index, items[i].position);
	}
	for (int i = 0; i < grant_count; i++)
	{
		PemsOrganization *organization = pems_roster_find(grants[i].organization_id);

		organization->maybe_ready = organization->used >= grants[i].slots;
		/* the next one when it is known what became of this one */
		if (organization->used > 0 && nothing_can_be_recorded(organization))
			organization->claims_from_us = monotonic_us() + UNRECORDABLE_US;
	}
}
