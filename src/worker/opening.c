/*
 * worker/opening.c
 *		The extension comes and goes; its configuration is read.
 *
 * Process: the background worker.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "sending/health.h"
#include "shared/monotonic.h"
#include "shared/settings.h"
#include "worker/state.h"

/* --- client --- */

PemsHttpClientOptions
client_options(void)
{
	return (PemsHttpClientOptions){.max_in_flight = pems_max_in_flight,
								   .connect_timeout_ms = pems_connect_timeout,
								   .request_timeout_ms = pems_request_timeout,
								   .max_response_size = (size_t) pems_max_response_size * 1024,
								   .ca_file = pems_ca_file,
								   .allow_loopback = pems_allow_insecure_loopback,
								   .user_agent = "pems_sync/" PEMS_SYNC_VERSION};
}

void
make_client(Turn *turn)
{
	PemsHttpClientOptions options = client_options();

	turn->client_number++;
	turn->client = pems_http_client_create(&options);
	if (turn->client == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY),
						errmsg("could not create the HTTP client of pems_sync")));
}

/* --- the extension --- */

void
forget_everything(Turn *turn)
{
	bool busy = turn->under_way.count > 0 || turn->pulls_asking > 0;

	release_all(turn);
	forget_pulls(turn);
	turn->second_look_us = 0;
	pems_roster_clear();
	if (turn->catalogue_loaded)
		pems_field_free_catalogue(&turn->catalogue);
	turn->catalogue_loaded = false;
	turn->opened = false;
	turn->orphans_put_back = false;
	turn->setup_wanted = true;
	turn->next_due_us = INT64_MAX;
	turn->status = PEMS_WORKER_WAITING;
	if (pems_health_forget() || busy)
	{
		/* drops the requests under way; nobody is left to hear their answers */
		pems_http_client_destroy(turn->client);
		make_client(turn);
	}
}

bool
open_extension(Turn *turn)
{
	if (turn->opened)
		return true;
	turn->status = PEMS_WORKER_WAITING;
	if (!went_well(turn, pems_database_open(), "could not look for the extension"))
		return false;
	turn->opened = true;
	turn->setup_wanted = true;
	turn->next_maintenance_us = 0;
	return true;
}

bool
is_attached_here(const Turn *turn)
{
	return turn->status == PEMS_WORKER_RUNNING || turn->status == PEMS_WORKER_DISABLED ||
		   turn->status == PEMS_WORKER_NO_KEY;
}

/* --- configuration --- */

static bool
load_catalogue(Turn *turn, const char *json)
{
	const char *problem;

	if (turn->catalogue_loaded)
		pems_field_free_catalogue(&turn->catalogue);
	turn->catalogue_loaded =
		pems_field_read_catalogue(json, strlen(json), &turn->catalogue, &problem);
	if (!turn->catalogue_loaded)
		report_problem(turn, "the field catalogue cannot be used", problem);
	return turn->catalogue_loaded;
}

static PemsWorkerStatus
status_for(Turn *turn, const PemsDatabaseSetup *setup)
{
	const char *problem = NULL;

	if (setup->standing == PEMS_STANDING_NOT_ATTACHED)
		return PEMS_WORKER_NOT_ATTACHED;
	if (setup->standing == PEMS_STANDING_COPY)
	{
		report_problem(turn, "this database is a copy and sends nothing",
					   "It was attached in another cluster or database; run SELECT pems_resume() "
					   "if it is to write to PEMS.");
		return PEMS_WORKER_COPY;
	}
	if (!pems_roster_update(setup, monotonic_us(), &problem))
	{
		report_problem(turn, "the key file cannot be used", problem);
		return PEMS_WORKER_NO_KEY;
	}
	return pems_enabled ? PEMS_WORKER_RUNNING : PEMS_WORKER_DISABLED;
}

/* What came of opening the credentials is to be seen in the database. */
static bool
note_credentials(Turn *turn)
{
	PemsCredentialNote *notes;
	int count = 0;

	for (PemsOrganization *o = pems_roster_organizations(); o != NULL; o = o->next)
		count += o->listed;
	if (count == 0 || !is_attached_here(turn))
		return true;
	notes = palloc(sizeof(PemsCredentialNote) * count);
	count = 0;
	for (PemsOrganization *o = pems_roster_organizations(); o != NULL; o = o->next)
		if (o->listed)
			notes[count++] =
				(PemsCredentialNote){o->id, o->credential, o->trouble[0] ? o->trouble : NULL};
	return went_well(turn, pems_database_note_credentials(notes, count),
					 "could not note the states of credentials");
}

/* Items that a predecessor left can be taken up as soon as the tables are attached. */
static bool
put_back_orphans(Turn *turn)
{
	int count = 0;
	int some;

	if (turn->orphans_put_back)
		return true;
	do
	{
		CHECK_FOR_INTERRUPTS();
		if (!went_well(turn, pems_database_put_back_orphans(&some),
					   "could not take up unfinished items"))
			return false;
		count += some;
	} while (some > 0);
	if (!went_well(turn, pems_database_pull_put_back(), "could not take up pulls"))
		return false;
	if (count > 0)
		ereport(LOG, (errmsg_plural("pems_sync: took up %d item that the last worker left",
									"pems_sync: took up %d items that the last worker left", count,
									count)));
	turn->orphans_put_back = true;
	return true;
}

bool
read_setup(Turn *turn)
{
	PemsDatabaseSetup setup;

	if (!turn->setup_wanted)
		return true;
	if (!went_well(turn, pems_database_read_setup(&setup), "could not read the configuration"))
		return false;
	if (!load_catalogue(turn, setup.catalogue))
	{
		pause_after_failure(turn);
		return false;
	}
	if (setup.standing == PEMS_STANDING_OK && !put_back_orphans(turn))
		return false;
	turn->status = status_for(turn, &setup);
	if (turn->status == PEMS_WORKER_RUNNING)
		turn->last_error[0] = '\0';
	if (!note_credentials(turn))
		return false;
	turn->setup_wanted = false;
	turn->pull_look_wanted = true;
	pems_roster_start_over();
	return true;
}
