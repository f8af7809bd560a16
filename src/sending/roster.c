/*
 * sending/roster.c
 *		Organizations, their opened credentials, and endpoints.
 *
 * Process: the background worker.  There are a few organizations to a thousand.  They
 * stand in a list, which is gone through once per turn, and in the places where they
 * announce what became ready, by which single ones are found.
 *
 * Memory: TopMemoryContext's child roster_context; tokens in libsodium's locked memory.
 */
#include "postgres.h"

#include "access/twophase.h"
#include "utils/memutils.h"

#include "secrets/key_file.h"
#include "secrets/seal.h"
#include "pems/api_url.h"
#include "http/client.h"
#include "sending/roster.h"
#include "shared/settings.h"
#include "shared/shmem.h"

static MemoryContext roster_context = NULL;
static PemsOrganization *organizations = NULL;
static PemsOrganization *by_place[PEMS_NEWS_PLACES];
static PemsEndpoint *endpoints = NULL;
static int endpoint_count = 0;

/* The words of docs/SECURITY.md */
static const char *const credential_states[] = {
	[PEMS_OPEN_OK] = "ok",
	[PEMS_OPEN_NO_KEY] = "no_key",
	[PEMS_OPEN_CANNOT] = "cannot_open",
};

/* The first endpoints may be those that a killed predecessor was talking to a moment ago. */
static bool blind = true;

PemsOrganization *
pems_roster_organizations(void)
{
	return organizations;
}

PemsEndpoint *
pems_roster_endpoints(void)
{
	return endpoints;
}

int
pems_roster_endpoint_count(void)
{
	return endpoint_count;
}

PemsOrganization *
pems_roster_find(const char *id)
{
	for (PemsOrganization *o = by_place[pems_shmem_place(id, strlen(id))]; o != NULL;
		 o = o->next_in_place)
		if (strcmp(o->id, id) == 0)
			return o;
	return NULL;
}

static PemsEndpoint *
endpoint_for(const char *name, int64 now)
{
	PemsEndpoint *endpoint;

	for (endpoint = endpoints; endpoint != NULL; endpoint = endpoint->next)
		if (strcmp(endpoint->name, name) == 0)
			return endpoint;

	endpoint = MemoryContextAllocZero(roster_context, sizeof(*endpoint));
	endpoint->name = MemoryContextStrdup(roster_context, name);
	endpoint->limiter = pems_limiter_create(pems_rate_limit, blind, now);
	if (endpoint->limiter == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	endpoint->next = endpoints;
	endpoints = endpoint;
	endpoint_count++;
	return endpoint;
}

static void
drop_token(PemsOrganization *organization)
{
	if (organization->token)
		pems_credentials_free_token(organization->token);
	organization->token = NULL;
}

static void
note_trouble(PemsOrganization *organization, const char *trouble)
{
	if (strcmp(organization->trouble, trouble) != 0)
		ereport(WARNING, (errmsg("pems_sync: nothing can be sent for organization \"%s\"",
								 organization->code),
						  errdetail("%s", trouble),
						  errhint("Check pems_sync.key_file and pems_sync.allowed_hosts, or set "
								  "the credential again with pems-credential set.")));
	strlcpy(organization->trouble, trouble, sizeof(organization->trouble));
}

/* The settings may have changed since the URL was stored. */
static bool
url_is_allowed(PemsOrganization *organization)
{
	char *problem = NULL;
	const char *hint = NULL;

	if (pems_api_url_check(organization->api_url, pems_allowed_hosts, pems_allow_insecure_loopback,
						   &problem, &hint))
		return true;
	organization->credential = "cannot_open";
	note_trouble(organization, problem ? problem : "out of memory");
	free(problem);
	return false;
}

static void
open_credential(PemsOrganization *organization, const PemsQueueOrganization *row,
				const PemsKeyring *keyring)
{
	PemsOpenState state;

	drop_token(organization);
	if (!url_is_allowed(organization))
		return;
	state = pems_credentials_open(keyring, row->key_id, row->sealed, row->sealed_length, row->code,
								  row->api_url, row->generation, &organization->token);
	organization->credential = credential_states[state];
	if (state == PEMS_OPEN_OK)
		organization->trouble[0] = '\0';
	else
		note_trouble(organization,
					 state == PEMS_OPEN_NO_KEY
						 ? "The key that its credential is sealed to is not in the key file."
						 : "Its credential does not open: damaged, or sealed for another "
						   "organization or URL.");
}

static void
start_over(PemsOrganization *organization)
{
	organization->maybe_ready = organization->sweep = true;
	for (int line = 0; line < PEMS_PRIORITIES; line++)
		organization->low_water[line] = organization->after[line] = (PemsPlace){DT_NOBEGIN, 0};
}

static void
enlist(PemsOrganization *organization)
{
	PemsOrganization **place =
		&by_place[pems_shmem_place(organization->id, strlen(organization->id))];

	organization->next = organizations;
	organizations = organization;
	organization->next_in_place = *place;
	*place = organization;
	organization->look_again_from = DT_NOEND;
	start_over(organization);
}

static void
take_over(const PemsQueueOrganization *row, const PemsKeyring *keyring, int64 now)
{
	PemsOrganization *organization = pems_roster_find(row->id);

	if (organization == NULL)
	{
		organization = MemoryContextAllocZero(roster_context, sizeof(*organization));
		organization->id = MemoryContextStrdup(roster_context, row->id);
		enlist(organization);
	}
	/* the old texts stay until the roster is cleared: requests under way use them */
	if (organization->code == NULL || strcmp(organization->code, row->code) != 0)
		organization->code = MemoryContextStrdup(roster_context, row->code);
	if (organization->api_url == NULL || strcmp(organization->api_url, row->api_url) != 0)
		organization->api_url = MemoryContextStrdup(roster_context, row->api_url);
	organization->generation = row->generation;
	organization->endpoint = endpoint_for(row->endpoint, now);
	organization->listed = true;
	organization->refused = false;
	open_credential(organization, row, keyring);
}

bool
pems_roster_update(const PemsQueueSetup *setup, int64 now, const char **problem)
{
	static char key_problem[512];
	PemsKeyring *keyring = NULL;

	if (roster_context == NULL)
		roster_context =
			AllocSetContextCreate(TopMemoryContext, "pems_sync roster", ALLOCSET_DEFAULT_SIZES);
	for (PemsOrganization *o = organizations; o != NULL; o = o->next)
	{
		o->listed = false;
		drop_token(o);
	}
	if (pems_credentials_read_keyring(pems_key_file, &keyring, key_problem, sizeof(key_problem)) !=
		PEMS_KEY_OK)
	{
		*problem = key_problem;
		return false;
	}
	for (int i = 0; i < setup->organization_count; i++)
		take_over(&setup->organizations[i], keyring, now);
	pems_credentials_free_keyring(keyring);
	blind = false;
	return true;
}

void
pems_roster_configure(int64 now)
{
	for (PemsEndpoint *endpoint = endpoints; endpoint != NULL; endpoint = endpoint->next)
		pems_limiter_set_rate(endpoint->limiter, pems_rate_limit, now);
}

void
pems_roster_start_over(void)
{
	for (PemsOrganization *o = organizations; o != NULL; o = o->next)
		start_over(o);
}

void
pems_roster_expect_work(void)
{
	for (PemsOrganization *o = organizations; o != NULL; o = o->next)
		o->maybe_ready = true;
}

static bool
is_behind(const PemsPlace *place, const PemsPlace *other)
{
	return place->scheduled_at > other->scheduled_at ||
		   (place->scheduled_at == other->scheduled_at && place->commit_seq > other->commit_seq);
}

void
pems_roster_sweep(void)
{
	/* COMMIT PREPARED announces nothing, so there is no knowing what it made ready, and where */
	if (max_prepared_xacts > 0)
		pems_roster_start_over();
	for (PemsOrganization *o = organizations; o != NULL; o = o->next)
		for (int line = 0; line < PEMS_PRIORITIES; line++)
			if (is_behind(&o->after[line], &o->low_water[line]))
				o->sweep = o->maybe_ready = true;
}

void
pems_roster_swept(PemsOrganization *organization, const PemsGrant *grant)
{
	memcpy(organization->after, grant->after, sizeof(organization->after));
	memcpy(organization->low_water, grant->low_water, sizeof(organization->low_water));
	organization->sweep = false;
}

static void
lower(PemsPlace *place, TimestampTz since)
{
	if (place->scheduled_at >= since)
		*place = (PemsPlace){since, PG_INT64_MIN};
}

/* Go back, in each line, to those that are ready since that time. */
static void
go_back(PemsOrganization *organization, TimestampTz since)
{
	organization->maybe_ready = true;
	for (int line = 0; line < PEMS_PRIORITIES; line++)
	{
		lower(&organization->after[line], since);
		lower(&organization->low_water[line], since);
	}
}

void
pems_roster_hear(const TimestampTz *news)
{
	for (int place = 0; place < PEMS_NEWS_PLACES; place++)
		if (news[place] != DT_NOEND)
			for (PemsOrganization *o = by_place[place]; o != NULL; o = o->next_in_place)
			{
				go_back(o, news[place]);
				o->look_again_from = Min(o->look_again_from, news[place]);
			}
}

void
pems_roster_look_again(void)
{
	for (PemsOrganization *o = organizations; o != NULL; o = o->next)
	{
		if (o->look_again_from != DT_NOEND)
			go_back(o, o->look_again_from);
		o->look_again_from = DT_NOEND;
	}
}

void
pems_roster_move_on(PemsOrganization *organization, const PemsItem *item)
{
	PemsPlace *after = &organization->after[item->line];

	if (is_behind(&item->place, after))
		*after = item->place;
}

void
pems_roster_clear(void)
{
	for (PemsOrganization *o = organizations; o != NULL; o = o->next)
		drop_token(o);
	for (PemsEndpoint *endpoint = endpoints; endpoint != NULL; endpoint = endpoint->next)
		pems_limiter_destroy(endpoint->limiter);
	organizations = NULL;
	memset(by_place, 0, sizeof(by_place));
	endpoints = NULL;
	endpoint_count = 0;
	if (roster_context)
		MemoryContextReset(roster_context);
}
