/*
 * sending/roster.c
 *		Organizations: their opened credentials, their endpoints, their cursors.
 *
 * Process: the background worker.  There are a few organizations to a thousand.  They
 * stand in a list, which is gone through once per turn, and in the buckets where they
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
static PemsOrganization *by_bucket[PEMS_READY_BUCKETS];

/* The words of docs/SECURITY.md */
static const char *const credential_states[] = {
	[PEMS_OPEN_OK] = "ok",
	[PEMS_OPEN_NO_KEY] = "no_key",
	[PEMS_OPEN_CANNOT] = "cannot_open",
};

PemsOrganization *
pems_roster_organizations(void)
{
	return organizations;
}

PemsOrganization *
pems_roster_find(const char *id)
{
	for (PemsOrganization *o = by_bucket[pems_shmem_bucket(id, strlen(id))]; o != NULL;
		 o = o->next_in_bucket)
		if (strcmp(o->id, id) == 0)
			return o;
	return NULL;
}

static void
drop_token(PemsOrganization *organization)
{
	if (organization->token)
		pems_secrets_free_token(organization->token);
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
open_credential(PemsOrganization *organization, const PemsDatabaseOrganization *row,
				const PemsKeyring *keyring)
{
	PemsOpenState state;

	drop_token(organization);
	if (!url_is_allowed(organization))
		return;
	state = pems_secrets_open(keyring, row->key_id, row->sealed, row->sealed_length, row->code,
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
	organization->maybe_ready = true;
	pems_cursor_start_over(&organization->cursor);
}

static void
enlist(PemsOrganization *organization)
{
	PemsOrganization **bucket =
		&by_bucket[pems_shmem_bucket(organization->id, strlen(organization->id))];

	organization->next = organizations;
	organizations = organization;
	organization->next_in_bucket = *bucket;
	*bucket = organization;
	organization->cursor.announced_since = PEMS_CURSOR_NEVER;
	start_over(organization);
}

static void
update(const PemsDatabaseOrganization *row, const PemsKeyring *keyring, int64 now)
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
	organization->endpoint = pems_endpoint_for(row->endpoint, now);
	organization->listed = true;
	organization->refused = false;
	organization->claims_from_us = 0; /* somebody may have mended it */
	open_credential(organization, row, keyring);
}

bool
pems_roster_update(const PemsDatabaseSetup *setup, int64 now, const char **problem)
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
	if (pems_secrets_read_keyring(pems_key_file, &keyring, key_problem, sizeof(key_problem)) !=
		PEMS_KEY_OK)
	{
		*problem = key_problem;
		return false;
	}
	for (int i = 0; i < setup->organization_count; i++)
		update(&setup->organizations[i], keyring, now);
	pems_secrets_free_keyring(keyring);
	pems_endpoints_all_known();
	return true;
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

void
pems_roster_make_thorough(void)
{
	/* COMMIT PREPARED announces nothing: there is no knowing what it made ready, and where */
	if (max_prepared_xacts > 0)
		pems_roster_start_over();
	for (PemsOrganization *o = organizations; o != NULL; o = o->next)
		o->maybe_ready |= pems_cursor_make_thorough(&o->cursor);
}

void
pems_roster_announced(const TimestampTz *since)
{
	for (int bucket = 0; bucket < PEMS_READY_BUCKETS; bucket++)
		if (since[bucket] != DT_NOEND)
			for (PemsOrganization *o = by_bucket[bucket]; o != NULL; o = o->next_in_bucket)
			{
				o->maybe_ready = true;
				pems_cursor_announce(&o->cursor, since[bucket]);
			}
}

void
pems_roster_look_twice(void)
{
	for (PemsOrganization *o = organizations; o != NULL; o = o->next)
		o->maybe_ready |= pems_cursor_look_twice(&o->cursor);
}

void
pems_roster_clear(void)
{
	for (PemsOrganization *o = organizations; o != NULL; o = o->next)
		drop_token(o);
	pems_endpoints_clear();
	organizations = NULL;
	memset(by_bucket, 0, sizeof(by_bucket));
	if (roster_context)
		MemoryContextReset(roster_context);
}
