/*
 * worker/turn.c
 *		One turn of the worker.
 *
 * Process: the background worker.
 *
 * A turn: drive the HTTP transfers, judge the answers that are there, then, in one
 * transaction, record those outcomes and claim as many new items as may start now, then
 * start them.  While there is a stock of claimed items, turns only start requests and collect
 * answers, for COLLECT_US at most; so the faster PEMS is, the larger the batches.
 *
 * How many may be claimed: what the endpoint's limiter and breaker let start, what is
 * free of its share of max_in_flight, and that stock: as many as the endpoint finished
 * since the last claim.  What cannot start for STOCK_US goes back, so nothing lies claimed in
 * front of an endpoint that hangs; and an endpoint that hangs never has all the slots.
 *
 * Memory: each claim has a context of its own, which lives until its last item is recorded, and
 *each item one in it, until it is recorded itself.  All of the latter together are bounded
 * (pems_sync.max_in_hand).
 */
#include "postgres.h"

#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "sending/health.h"
#include "secrets/keyring.h"
#include "sending/delivery.h"
#include "worker/turn.h"
#include "shared/failpoint.h"
#include "shared/monotonic.h"
#include "http/client.h"
#include "database/queue.h"
#include "sending/roster.h"
#include "shared/settings.h"

/* After a transaction failed: wait before the next try; milliseconds. */
#define RETRY_PAUSE_MS 1000
/* How long outcomes are recorded one by one before answers are looked at again; microseconds. */
#define PASS_US 300000
/* So many items in a row may fail to be claimed; then one that can be claimed must be found. */
#define MOST_BLAMED  3
#define MOST_SKIPPED 20
/* While the extension or its attachment is missing: how often to look. */
#define LOOK_AGAIN_MS 1000
/*
 * Claimed items that have not started are a stock from which requests start without a transaction.
 * While there is some, answers are collected: at most this long, so that the few that come from a
 * slow PEMS are not kept waiting.
 */
#define COLLECT_US 10000
/* What could not start for so long goes back into the queue: others may want to take it back, or
 * discard it. */
#define STOCK_US 2000000
/*
 * Now and then a claim sweeps up what it passed over: what a session had locked, and let go without
 * a change.  Where that takes long (something has been locked for long, and a transaction keeps
 * what was finished since from being vacuumed), it is done more rarely: at most one part in so many
 * of the time.
 */
#define SWEEP_US    1000000
#define SWEEP_SHARE 200
/* What was announced is looked for a second time: a session may have had it locked at the first. */
#define LOOK_TWICE_US 1000000
/* A request that takes longer shows its modification as syncing. */
#define SLOW_US 250000
/* That took too long: from when on it is tried again. */
#define SLOW_SHOW_US   (INT64_C(60) * 1000000)
#define MAINTENANCE_US (INT64_C(60) * 1000000)
/* The same in a busy database: until then the status adds up all differences. */
#define FOLD_US (INT64_C(10) * 1000000)

/* The items of one claim. */
typedef struct Batch
{
	MemoryContext memory;
	int64 claim_token;
	int64 claimed_us; /* monotonic */
	int left;         /* deliveries that are not recorded */
} Batch;

typedef struct Parcel
{
	PemsDelivery delivery; /* first, so that the client's owner pointer is both */
	Batch *batch;
	int64 weight; /* bytes of the item's memory, as far as they are counted */
	struct Parcel *next;
} Parcel;

/* First in, first out. */
typedef struct ParcelList
{
	Parcel *head;
	Parcel **tail;
	int count;
} ParcelList;

static PemsClient *client = NULL;
static uint32 client_number = 0; /* counts the clients made: a new one has a new descriptor */
static MemoryContext turn_context = NULL;
static ParcelList waiting;  /* claimed, request not started */
static ParcelList flying;   /* request under way, oldest first */
static ParcelList finished; /* result there, not recorded */
static ParcelList stuck;    /* the same, but another session has their rows locked */

static PemsWorkerStatus status = PEMS_WORKER_STARTING;
static bool opened = false; /* the extension was found and orphans adopted */
static bool setup_wanted = true;
static bool catalogue_loaded = false;
static PemsCatalogue catalogue;

static int64 next_due_us =
	INT64_MAX; /* when the next waiting item's time comes; monotonic, as all below */
static int64 next_poll_us = 0;
static int64 next_maintenance_us = 0;
static int64 next_fold_us = 0;  /* maintenance that early, if anything happens */
static int64 not_before_us = 0; /* after a failed transaction */
static int64 next_stuck_us = 0; /* when to try the stuck ones again */
static int64 no_show_before_us = 0;
static bool adopted = false; /* what a predecessor left was taken up */
static int64 next_sweep_us = 0;
static int64 second_look_us = 0; /* 0: none is due */
static int64 exchange_wanted_us =
	0; /* since when there is something to record or to look at; 0: there is not */
static bool look_wanted = false; /* by a turn that went on collecting */
static int64 *landed = NULL;     /* claims of which everything is recorded */
static int landed_count = 0;
static int landed_room = 0;
static int blamed = 0; /* items in a row that could not be claimed, each by itself */
static int64 request_count = 0;
static int64 bytes_in_hand = 0; /* weight of all parcels */
static int64 room_wanted = 0;   /* of an item that was put back, because there was none */
static List *messages = NIL;    /* texts for listeners, of this turn */
static char last_error[PEMS_WORKER_ERROR_SIZE];

/* --- lists --- */

static void
list_clear(ParcelList *list)
{
	list->head = NULL;
	list->tail = &list->head;
	list->count = 0;
}

static void
list_add(ParcelList *list, Parcel *parcel)
{
	parcel->next = NULL;
	*list->tail = parcel;
	list->tail = &parcel->next;
	list->count++;
}

static void
list_remove(ParcelList *list, Parcel *parcel)
{
	Parcel **link = &list->head;

	while (*link != parcel)
		link = &(*link)->next;
	*link = parcel->next;
	if (list->tail == &parcel->next)
		list->tail = link;
	list->count--;
}

static int64
earliest(int64 a, int64 b)
{
	return a < b ? a : b;
}

/* --- problems --- */

/* What the exchange may say; when one succeeds, all of it is over. */
#define CANNOT_CLAIM      "could not claim items"
#define CANNOT_RECORD     "outcomes could not be recorded"
#define CANNOT_RECORD_ONE "an outcome could not be recorded"
#define CANNOT_SHOW       "could not show modifications as syncing"
#define CANNOT_MARK       "a modification could not be marked as failed"
#define CANNOT_NOTIFY     "listeners could not be told"
#define TABLES_CHANGED    "the tables of the application were changed"

/* The same problem again and again is logged once. */
static void
report_problem(const char *what, const char *problem)
{
	char text[PEMS_WORKER_ERROR_SIZE];

	snprintf(text, sizeof(text), "%s: %s", what, problem ? problem : "unknown");
	if (strcmp(text, last_error) != 0)
		ereport(WARNING,
				(errmsg("pems_sync: %s", what), errdetail("%s", problem ? problem : "unknown"),
				 errhint("The worker goes on and tries again; see the view pems_worker.")));
	strlcpy(last_error, text, sizeof(last_error));
}

static void
problem_is_over(const char *what)
{
	size_t length = strlen(what);

	if (strncmp(last_error, what, length) == 0 && last_error[length] == ':')
		last_error[0] = '\0';
}

/* Whoever looks at pems_health() must not be told of a lock or a full disk that is no more. */
static void
exchange_problems_are_over(void)
{
	static const char *const problems[] = {CANNOT_CLAIM, CANNOT_RECORD, CANNOT_RECORD_ONE,
										   CANNOT_SHOW, TABLES_CHANGED};

	for (int i = 0; i < (int) lengthof(problems); i++)
		problem_is_over(problems[i]);
}

static void
pause_after_failure(void)
{
	not_before_us = monotonic_us() + RETRY_PAUSE_MS * 1000;
}

static void
note_landed(int64 claim_token)
{
	if (landed_count == landed_room)
	{
		landed_room = Max(64, landed_room * 2);
		landed = landed ? repalloc(landed, landed_room * sizeof(int64))
						: MemoryContextAlloc(TopMemoryContext, landed_room * sizeof(int64));
	}
	landed[landed_count++] = claim_token;
}

static void
weigh(Parcel *parcel)
{
	int64 weight = (int64) MemoryContextMemAllocated(parcel->delivery.item.memory, true);

	bytes_in_hand += weight - parcel->weight;
	parcel->weight = weight;
}

static void
release_parcel(Parcel *parcel)
{
	Batch *batch = parcel->batch;

	bytes_in_hand -= parcel->weight;
	MemoryContextDelete(parcel->delivery.item.memory);
	parcel->delivery.endpoint->in_hand--;
	if (--batch->left > 0)
		return;
	note_landed(batch->claim_token);
	MemoryContextDelete(batch->memory);
}

/* --- client --- */

static PemsClientOptions
client_options(void)
{
	return (PemsClientOptions){.max_in_flight = pems_max_in_flight,
							   .connect_timeout_ms = pems_connect_timeout,
							   .request_timeout_ms = pems_request_timeout,
							   .max_response_size = (size_t) pems_max_response_size * 1024,
							   .ca_file = pems_ca_file,
							   .allow_loopback = pems_allow_insecure_loopback,
							   .user_agent = "pems_sync/" PEMS_SYNC_VERSION};
}

static void
make_client(void)
{
	PemsClientOptions options = client_options();

	client_number++;
	client = pems_client_create(&options);
	if (client == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY),
						errmsg("could not create the HTTP client of pems_sync")));
}

void
pems_dispatch_initialize(void)
{
	const char *problem = NULL;

	if (!pems_credentials_initialize())
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not initialize cryptography")));
	if (!pems_client_initialize(&problem))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
						errmsg("could not initialize the HTTP library"), errdetail("%s", problem)));
	turn_context =
		AllocSetContextCreate(TopMemoryContext, "pems_sync turn", ALLOCSET_DEFAULT_SIZES);
	list_clear(&waiting);
	list_clear(&flying);
	list_clear(&finished);
	list_clear(&stuck);
	pems_check_initialize();
	make_client();
}

int
pems_dispatch_descriptor(uint32 *number)
{
	*number = client_number;
	return pems_client_descriptor(client);
}

void
pems_dispatch_reconfigure(void)
{
	PemsClientOptions options = client_options();

	if (!pems_client_configure(client, &options))
		report_problem("the settings could not be applied", "out of memory");
	pems_roster_configure(monotonic_us());
	next_poll_us = 0; /* it was computed from the old poll_interval */
	setup_wanted = true;
}

/* --- the extension comes and goes --- */

static void
free_batches(ParcelList *list)
{
	Parcel *next;

	for (Parcel *parcel = list->head; parcel != NULL; parcel = next)
	{
		next = parcel->next;
		release_parcel(parcel);
	}
	list_clear(list);
}

/* DROP EXTENSION: there is nothing left to record anything in. */
static void
forget_everything(void)
{
	bool busy = flying.count > 0;

	free_batches(&waiting);
	free_batches(&flying);
	free_batches(&finished);
	free_batches(&stuck);
	landed_count = 0;
	room_wanted = 0;
	second_look_us = 0;
	pems_roster_clear();
	if (catalogue_loaded)
		pems_field_free_catalogue(&catalogue);
	catalogue_loaded = false;
	opened = false;
	adopted = false;
	setup_wanted = true;
	next_due_us = INT64_MAX;
	status = PEMS_WORKER_WAITING;
	if (pems_check_forget() || busy)
	{
		/* drops the requests under way; nobody is left to hear their answers */
		pems_client_destroy(client);
		make_client();
	}
}

/* What the queue said about a transaction; true when it went well. */
static bool
went_well(PemsQueueStatus result, const char *what)
{
	if (result == PEMS_QUEUE_OK)
	{
		problem_is_over(what);
		return true;
	}
	if (result == PEMS_QUEUE_GONE)
		forget_everything();
	else if (result == PEMS_QUEUE_CHANGED)
	{
		/* the status is to say so, and what is to be recorded waits until they are in order again
		 */
		setup_wanted = true;
		report_problem(TABLES_CHANGED, pems_queue_problem());
		pause_after_failure();
	}
	else
	{
		report_problem(what, pems_queue_problem());
		pause_after_failure();
	}
	return false;
}

static bool
open_extension(void)
{

	if (opened)
		return true;
	status = PEMS_WORKER_WAITING;
	if (!went_well(pems_queue_open(), "could not look for the extension"))
		return false;
	opened = true;
	setup_wanted = true;
	next_maintenance_us = 0;
	return true;
}

/* As far as we know, is this database attached here?  In one that is restored nothing is made. */
static bool
is_at_home(void)
{
	return status == PEMS_WORKER_RUNNING || status == PEMS_WORKER_DISABLED ||
		   status == PEMS_WORKER_NO_KEY;
}

static bool
load_catalogue(const char *json)
{
	const char *problem;

	if (catalogue_loaded)
		pems_field_free_catalogue(&catalogue);
	catalogue_loaded = pems_field_read_catalogue(json, strlen(json), &catalogue, &problem);
	if (!catalogue_loaded)
		report_problem("the field catalogue cannot be used", problem);
	return catalogue_loaded;
}

static PemsWorkerStatus
status_for(const PemsQueueSetup *setup)
{
	const char *problem = NULL;

	if (setup->standing == PEMS_STANDING_NOT_ATTACHED)
		return PEMS_WORKER_NOT_ATTACHED;
	if (setup->standing == PEMS_STANDING_COPY)
	{
		report_problem("this database is a copy and sends nothing",
					   "It was attached in another cluster or database; run SELECT pems_resume() "
					   "if it is to write to PEMS.");
		return PEMS_WORKER_COPY;
	}
	if (!pems_roster_update(setup, monotonic_us(), &problem))
	{
		report_problem("the key file cannot be used", problem);
		return PEMS_WORKER_NO_KEY;
	}
	return pems_enabled ? PEMS_WORKER_RUNNING : PEMS_WORKER_DISABLED;
}

/* What came of opening the credentials is to be seen in the database. */
static bool
note_credentials(void)
{
	PemsCredentialNote *notes;
	int count = 0;

	for (PemsOrganization *o = pems_roster_organizations(); o != NULL; o = o->next)
		count += o->listed;
	if (count == 0 || !is_at_home())
		return true;
	notes = palloc(sizeof(PemsCredentialNote) * count);
	count = 0;
	for (PemsOrganization *o = pems_roster_organizations(); o != NULL; o = o->next)
		if (o->listed)
			notes[count++] =
				(PemsCredentialNote){o->id, o->credential, o->trouble[0] ? o->trouble : NULL};
	return went_well(pems_queue_note_credentials(notes, count),
					 "could not note the states of credentials");
}

/* Items that a predecessor left can be taken up as soon as the tables are attached. */
static bool
adopt_orphans(void)
{
	int count = 0;
	int some;

	if (adopted)
		return true;
	do
	{
		CHECK_FOR_INTERRUPTS();
		if (!went_well(pems_queue_adopt(&some), "could not take up unfinished items"))
			return false;
		count += some;
	} while (some > 0);
	if (count > 0)
		ereport(LOG, (errmsg_plural("pems_sync: took up %d item that the last worker left",
									"pems_sync: took up %d items that the last worker left", count,
									count)));
	adopted = true;
	return true;
}

static bool
read_setup(void)
{
	PemsQueueSetup setup;

	if (!setup_wanted)
		return true;
	if (!went_well(pems_queue_read_setup(&setup), "could not read the configuration"))
		return false;
	if (!load_catalogue(setup.catalogue))
	{
		pause_after_failure();
		return false;
	}
	if (setup.standing == PEMS_STANDING_OK && !adopt_orphans())
		return false;
	status = status_for(&setup);
	if (status == PEMS_WORKER_RUNNING)
		last_error[0] = '\0';
	if (!note_credentials())
		return false;
	setup_wanted = false;
	pems_roster_start_over();
	return true;
}

/* --- answers --- */

static void
collect(void)
{
	void *owner;
	PemsAnswer answer;
	int64 now;

	pems_client_drive(client);
	while (pems_client_next(client, &owner, &answer))
	{
		Parcel *parcel = owner;

		now = monotonic_us();
		if (pems_check_finish(owner, &answer, now))
		{
			pems_protocol_free_answer(&answer);
			continue;
		}
		pems_delivery_finish(&parcel->delivery, &catalogue, &answer, now);
		pems_protocol_free_answer(&answer);
		weigh(parcel);
		parcel->delivery.endpoint->finished++;
		if (parcel->delivery.result.transition.pause_organization)
			parcel->delivery.organization->refused = true;
		list_remove(&flying, parcel);
		parcel->delivery.endpoint->flying--;
		list_add(&finished, parcel);
	}
}

static void
log_breakers(int64 now)
{
	for (PemsEndpoint *endpoint = pems_roster_endpoints(); endpoint; endpoint = endpoint->next)
	{
		bool open = pems_limiter_breaker(endpoint->limiter, now) != PEMS_BREAKER_CLOSED;

		if (open && !endpoint->breaker_was_open)
			ereport(
				WARNING,
				(errmsg("pems_sync: PEMS at %s does not answer", endpoint->name),
				 errdetail("%d requests in a row failed.", pems_limiter_faults(endpoint->limiter)),
				 errhint(
					 "Edits wait, and no retry is lost; a probe goes out every 5 to 60 seconds.")));
		else if (!open && endpoint->breaker_was_open)
			ereport(LOG, (errmsg("pems_sync: PEMS at %s answers again", endpoint->name)));
		endpoint->breaker_was_open = open;
	}
}

/* --- how much may be claimed --- */

static int64
most_in_hand(void)
{
	return (int64) pems_max_in_hand * 1024;
}

static bool
nothing_in_hand(void)
{
	return waiting.count + flying.count + finished.count + stuck.count == 0;
}

/* Is there room for more items, and for one that was put back? */
static bool
has_room(void)
{
	return bytes_in_hand + Max(room_wanted, 1) <= most_in_hand() || nothing_in_hand();
}

/* A request needs as much again as its item.  One may always start, or there would never be room.
 */
static bool
may_start(void)
{
	return bytes_in_hand < most_in_hand() || flying.count == 0;
}

static int
share_of_slots(void)
{
	return pems_roster_endpoint_count() > 1 ? Max(1, pems_max_in_flight * 3 / 4)
											: pems_max_in_flight;
}

/*
 * An endpoint that hangs must leave slots for the others.  Those in hand that are finished make
 * room, and as many again are the stock for the next moment.
 */
static int
slots_of(const PemsEndpoint *endpoint)
{
	return share_of_slots() + endpoint->finished + Min(endpoint->finished, pems_batch_size) -
		   endpoint->in_hand;
}

static int
capacity_of(const PemsEndpoint *endpoint, int64 now)
{
	int startable = pems_limiter_capacity(endpoint->limiter, now);

	if (startable != INT_MAX)
		startable -= endpoint->backlog;
	return Max(0, Min(startable, slots_of(endpoint)));
}

static bool
can_claim_for(const PemsOrganization *organization, const PemsEndpoint *endpoint)
{
	return organization->endpoint == endpoint && organization->listed &&
		   organization->token != NULL && !organization->refused && organization->maybe_ready;
}

static PemsGrant
grant_to(const char *organization_id, int slots)
{
	const PemsOrganization *organization = pems_roster_find(organization_id);
	PemsGrant grant = {
		.organization_id = organization_id, .slots = slots, .sweep = organization->sweep};

	memcpy(grant.after, organization->after, sizeof(grant.after));
	memcpy(grant.low_water, organization->low_water, sizeof(grant.low_water));
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
	for (int i = 0; i < count; i++)
		wanted[i] = pems_batch_size;
	pems_limiter_share(capacity, count, wanted, &endpoint->cursor, shares);
	for (int i = 0; i < count; i++)
		if (shares[i] > 0)
			grants[given++] = grant_to(grants[i].organization_id, shares[i]);
	return given;
}

static int
make_grants(PemsGrant **grants, int64 now)
{
	int organizations = 0;
	int room = pems_batch_size;
	int count = 0;

	for (PemsOrganization *o = pems_roster_organizations(); o != NULL; o = o->next)
		organizations++;
	*grants = palloc(sizeof(PemsGrant) * Max(organizations, 1));
	if (status != PEMS_WORKER_RUNNING || !has_room())
		return 0;
	for (PemsEndpoint *e = pems_roster_endpoints(); e != NULL && room > 0; e = e->next)
	{
		int capacity = Min(room, capacity_of(e, now));
		int given = capacity > 0 ? grant_for_endpoint(e, capacity, *grants + count) : 0;

		for (int i = 0; i < given; i++)
			room -= (*grants)[count + i].slots;
		count += given;
	}
	return count;
}

/* The next claim looks behind what this one took; who used less than was granted has no more for
 * now. */
static void
note_claimed(const PemsGrant *grants, int grant_count, const PemsItem *items, int item_count)
{
	for (int i = 0; i < grant_count; i++)
	{
		PemsOrganization *organization = pems_roster_find(grants[i].organization_id);

		organization->used = 0;
		if (grants[i].sweep)
			pems_roster_swept(organization, &grants[i]);
	}
	for (int i = 0; i < item_count; i++)
	{
		PemsOrganization *organization = pems_roster_find(items[i].organization_id);

		organization->used++;
		pems_roster_move_on(organization, &items[i]);
	}
	for (int i = 0; i < grant_count; i++)
	{
		PemsOrganization *organization = pems_roster_find(grants[i].organization_id);

		organization->maybe_ready = organization->used >= grants[i].slots;
	}
}

/* --- exchange --- */

static void
take_in_item(Batch *batch, const PemsItem *item)
{
	Parcel *parcel = MemoryContextAllocZero(batch->memory, sizeof(Parcel));
	PemsDelivery *delivery = &parcel->delivery;
	bool send = false;

	parcel->batch = batch;
	delivery->item = *item;
	delivery->organization = pems_roster_find(item->organization_id);
	delivery->endpoint = delivery->organization->endpoint;
	delivery->endpoint->in_hand++;
	if (item->put_back)
		pems_delivery_withdraw(delivery);
	else
		send = pems_delivery_decide(delivery, &catalogue) == PEMS_PLAN_SEND;
	weigh(parcel);
	if (send)
		delivery->endpoint->backlog++;
	list_add(send ? &waiting : &finished, parcel);
}

static void
take_in(MemoryContext memory, PemsItem *items, int count)
{
	Batch *batch;

	if (count == 0)
	{
		MemoryContextDelete(memory);
		return;
	}
	batch = MemoryContextAlloc(memory, sizeof(Batch));
	batch->memory = memory;
	batch->claim_token = items[0].claim_token;
	batch->claimed_us = monotonic_us();
	batch->left = count;
	for (int i = 0; i < count; i++)
		take_in_item(batch, &items[i]);
}

static void
log_dead_letter(const PemsResult *result)
{
	if (result->transition.status == PEMS_ITEM_FAILED)
		ereport(WARNING, (errmsg("pems_sync: an edit of PFA record \"%s\" failed for good",
								 result->item->pfa_id),
						  errdetail("Item %s: %s", result->item->id,
									result->error ? result->error : "no reason given"),
						  errhint("See the view pems_dead_letters.")));
}

/* Results in the order in which they came. */
static PemsResult **
results_of(const ParcelList *list)
{
	PemsResult **results = palloc(sizeof(PemsResult *) * Max(list->count, 1));
	int count = 0;

	for (Parcel *parcel = list->head; parcel != NULL; parcel = parcel->next)
		results[count++] = &parcel->delivery.result;
	return results;
}

static void
release_recorded(Parcel *parcel)
{
	log_dead_letter(&parcel->delivery.result);
	release_parcel(parcel);
}

/*
 * Let the recorded ones of a list go; the others become stuck.  Those that are stuck already keep
 * their time: a busy worker comes through here many times a second.
 */
static void
sort_out(ParcelList *list, const bool *recorded)
{
	Parcel *parcel = list->head;
	int i = 0;

	if (stuck.count == 0)
		next_stuck_us = monotonic_us() + RETRY_PAUSE_MS * 1000;
	list_clear(list);
	for (Parcel *next; parcel != NULL; parcel = next)
	{
		next = parcel->next;
		if (recorded[i++])
			release_recorded(parcel);
		else
			list_add(&stuck, parcel);
	}
}

static void
note_messages(const PemsTexts *texts)
{
	MemoryContext caller = MemoryContextSwitchTo(turn_context);

	for (int i = 0; i < texts->count; i++)
		messages = lappend(messages, pstrdup(texts->texts[i]));
	MemoryContextSwitchTo(caller);
}

static PemsQueueStatus
run_exchange(PemsExchange *exchange)
{
	PemsQueueStatus done = pems_queue_exchange(exchange);

	if (done == PEMS_QUEUE_OK)
		note_messages(&exchange->messages);
	return done;
}

/* Listeners are told when what they hear of is durable; what cannot be told is dropped. */
static void
send_notifications(void)
{
	PemsTexts texts = {NULL, 0};
	PemsQueueStatus done;
	ListCell *cell;

	if (messages == NIL)
		return;
	texts.texts = palloc(sizeof(char *) * list_length(messages));
	foreach (cell, messages)
		texts.texts[texts.count++] = lfirst(cell);
	messages = NIL;
	done = pems_queue_notify(&texts);
	if (done == PEMS_QUEUE_OK)
		problem_is_over(CANNOT_NOTIFY);
	else if (done != PEMS_QUEUE_GONE)
		report_problem(CANNOT_NOTIFY, pems_queue_problem());
}

/* The database refuses the result: the item becomes a dead letter, and is shown as one if possible.
 */
static bool
set_aside(const PemsResult *result, const char *reason)
{
	PemsTexts texts;

	if (pems_queue_quarantine(result, reason, &texts) != PEMS_QUEUE_OK)
		return false;
	note_messages(&texts);
	if (pems_queue_mark_failed(result->item->id) != PEMS_QUEUE_OK)
		report_problem(CANNOT_MARK, pems_queue_problem());
	return true;
}

/*
 * One result by itself: recorded, set aside, or (false) to be tried again later.  *go_on: whether
 * there is a point in trying the next one now.
 */
static bool
record_alone(Parcel *parcel, bool *go_on)
{
	PemsResult *result = &parcel->delivery.result;
	PemsExchange exchange = {
		.results = &result, .result_count = 1, .only_record = true, .careful = true};
	PemsQueueStatus done = run_exchange(&exchange);

	if (done == PEMS_QUEUE_OK)
		return exchange.recorded[0];
	*go_on = done == PEMS_QUEUE_ERROR;
	if (done == PEMS_QUEUE_GONE || done == PEMS_QUEUE_CHANGED)
		return false;
	report_problem(CANNOT_RECORD_ONE, pems_queue_problem());
	return done != PEMS_QUEUE_BUSY && set_aside(result, pstrdup(pems_queue_problem()));
}

static void
move_all(ParcelList *to, Parcel *from)
{
	for (Parcel *next; from != NULL; from = next)
	{
		next = from->next;
		list_add(to, from);
	}
}

/*
 * The batch failed as a whole.  Find out which of its results is at fault, so that it fails alone.
 * A pass ends at the first that has to wait for a lock, or takes too long, and after a moment at
 * the latest, because answers come in meanwhile.  The next one begins with those that were not
 * tried.
 */
static void
record_one_by_one(ParcelList *list)
{
	int64 until = monotonic_us() + PASS_US;
	Parcel *parcel = list->head;
	ParcelList tried;
	bool go_on = true;
	bool progress = false;

	list_clear(list);
	list_clear(&tried);
	for (Parcel *next; parcel != NULL && go_on; parcel = next)
	{
		next = parcel->next;
		CHECK_FOR_INTERRUPTS();
		if (record_alone(parcel, &go_on))
		{
			release_recorded(parcel);
			progress = true;
		}
		else
			list_add(&tried, parcel);
		go_on = go_on && monotonic_us() < until;
	}
	if (parcel != NULL && progress)
		next_stuck_us = 0;
	else if (stuck.count == 0)
		next_stuck_us = monotonic_us() + RETRY_PAUSE_MS * 1000;
	move_all(&stuck, parcel);
	move_all(&stuck, tried.head);
}

/*
 * Another session has a row locked that belongs to one of these.  Record those that are free;
 * nobody waits for the others.
 */
static void
record_carefully(ParcelList *list)
{
	PemsExchange exchange = {.results = results_of(list),
							 .result_count = list->count,
							 .only_record = true,
							 .careful = true};
	PemsQueueStatus done = run_exchange(&exchange);

	if (done == PEMS_QUEUE_ERROR || done == PEMS_QUEUE_SLOW)
		record_one_by_one(list);
	else if (went_well(done, CANNOT_RECORD))
		sort_out(list, exchange.recorded);
}

static void
retry_stuck(int64 now)
{
	ParcelList list = stuck;

	if (stuck.count == 0 || now < next_stuck_us)
		return;
	list_clear(&stuck);
	record_one_by_one(&list);
}

/*
 * Told to end while a commit waits for a synchronous standby, the server lets the commit return,
 * although it may be durable here only.  A request for a claim that a promoted standby would not
 * know must not leave.  (For the death of the postmaster there is no interrupt, only this flag.)
 */
static void
end_if_told_to(void)
{
	if (ProcDiePending || !PostmasterIsAlive())
		proc_exit(1);
}

/* Can more requests start without a claim, and has nobody waited for the next one for long? */
static bool
goes_on_collecting(int64 now)
{
	return waiting.count > pems_max_in_flight - flying.count && finished.count < pems_batch_size &&
		   now < exchange_wanted_us + COLLECT_US;
}

static void
sweep_if_due(int64 now)
{
	if (now < next_sweep_us)
		return;
	pems_roster_sweep();
	next_sweep_us = 0;
}

/* After a claim that swept: when the next may. */
static void
schedule_sweep(int64 began_us)
{
	int64 now = monotonic_us();

	if (next_sweep_us == 0)
		next_sweep_us = now + Max(SWEEP_US, (now - began_us) * SWEEP_SHARE);
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

/* The claim committed. */
static void
settle_claim(PemsExchange *exchange, MemoryContext memory)
{
	next_due_us = due_us(exchange->next_due);
	if (exchange->grant_count > 0)
		room_wanted = exchange->room_missing;
	note_claimed(exchange->grants, exchange->grant_count, exchange->items, exchange->item_count);
	take_in(memory, exchange->items, exchange->item_count);
}

/* The transaction committed. */
static void
settle_exchange(PemsExchange *exchange, MemoryContext memory)
{
	if (exchange->result_count > 0)
		PEMS_FAILPOINT("record_committed");
	if (exchange->item_count > 0)
		PEMS_FAILPOINT("claim_committed");
	if (exchange->result_count > 0)
		landed_count = 0;
	sort_out(&finished, exchange->recorded);
	if (stuck.count == 0)
		exchange_problems_are_over();
	settle_claim(exchange, memory);
}

/* --- a claim that fails --- */

/* One item at most; what it takes is taken in. */
static PemsQueueStatus
claim_one(PemsGrant *grant)
{
	PemsExchange exchange = {.grants = grant,
							 .grant_count = 1,
							 .room = most_in_hand() - bytes_in_hand,
							 .one_fits_always = nothing_in_hand()};
	MemoryContext memory =
		AllocSetContextCreate(TopMemoryContext, "pems_sync batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContext turn = MemoryContextSwitchTo(memory);
	PemsQueueStatus done = run_exchange(&exchange);

	MemoryContextSwitchTo(turn);
	end_if_told_to();
	if (done == PEMS_QUEUE_OK)
	{
		if (exchange.item_count > 0)
			PEMS_FAILPOINT("claim_committed");
		blamed = 0;
		settle_claim(&exchange, memory);
	}
	else
		MemoryContextDelete(memory);
	return done;
}

/*
 * Several items in a row could not be claimed.  Is that their own fault, or can nothing be claimed?
 * One that stands further behind tells; those that are skipped are found again by the next sweep.
 */
static bool
something_can_be_claimed(PemsGrant grant)
{
	bool moved;

	for (int i = 0; i < MOST_SKIPPED; i++)
	{
		if (pems_queue_skip_first(&grant, &moved) != PEMS_QUEUE_OK || !moved)
			return false;
		grant.sweep = false;
		if (claim_one(&grant) == PEMS_QUEUE_OK)
			return true;
	}
	return false;
}

/* The first item of the organization cannot be claimed, because what is read with it cannot be
 * read. */
static void
put_off_first(const PemsGrant *grant, const char *reason)
{
	PemsPutOff put_off;

	if (pems_queue_put_off_first(grant, reason, &put_off) != PEMS_QUEUE_OK ||
		put_off.item_id == NULL)
		return;
	blamed++;
	note_messages(&put_off.messages);
	if (!put_off.failed)
		return;
	ereport(WARNING, (errmsg("pems_sync: an edit could not be sent, and failed for good"),
					  errdetail("Item %s: %s", put_off.item_id, reason),
					  errhint("See the view pems_dead_letters.")));
	if (pems_queue_mark_failed(put_off.item_id) != PEMS_QUEUE_OK)
		report_problem(CANNOT_MARK, pems_queue_problem());
}

/* False: there is no point in going on. */
static bool
claim_or_put_off(PemsGrant *grant)
{
	PemsQueueStatus done;
	char *reason;

	grant->slots = 1;
	done = claim_one(grant);
	if (done != PEMS_QUEUE_ERROR)
		return went_well(done, CANNOT_CLAIM);
	reason = pstrdup(pems_queue_problem());
	if (blamed >= MOST_BLAMED && !something_can_be_claimed(*grant))
	{
		report_problem(CANNOT_CLAIM, reason);
		pause_after_failure();
		return false;
	}
	put_off_first(grant, reason);
	return true;
}

/*
 * A claim failed.  Find out which item is at fault, so that it fails alone: each organization
 * claims one, and the item that cannot be claimed waits for its next retry.  Where nothing can be
 * claimed it is nobody's fault.
 */
static void
claim_one_by_one(void)
{
	int64 until = monotonic_us() + PASS_US;
	PemsExchange nothing = {.grant_count = 0};
	PemsGrant *grants;
	int count = make_grants(&grants, monotonic_us());

	if (!went_well(run_exchange(&nothing), CANNOT_CLAIM))
		return;
	for (int i = 0; i < count && monotonic_us() < until; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!claim_or_put_off(&grants[i]))
			return;
	}
	look_wanted = true;
}

/* Was it the claim that failed?  Then the outcomes can be recorded without one. */
static bool
record_without_claim(void)
{
	PemsExchange exchange = {
		.results = results_of(&finished), .result_count = finished.count, .only_record = true};

	if (run_exchange(&exchange) != PEMS_QUEUE_OK)
		return false;
	sort_out(&finished, exchange.recorded);
	return true;
}

/* The exchange failed as a whole. */
static void
recover(PemsQueueStatus done)
{
	if (done == PEMS_QUEUE_GONE || done == PEMS_QUEUE_CHANGED)
		went_well(done, CANNOT_CLAIM);
	else if (finished.count > 0 && done == PEMS_QUEUE_BUSY)
		record_carefully(&finished);
	else if (finished.count > 0 && (done == PEMS_QUEUE_SLOW || !record_without_claim()))
		record_one_by_one(&finished);
	else if (done == PEMS_QUEUE_ERROR)
		claim_one_by_one();
	else
		went_well(done, CANNOT_CLAIM);
}

static void
forget_finished_counts(void)
{
	for (PemsEndpoint *endpoint = pems_roster_endpoints(); endpoint; endpoint = endpoint->next)
		endpoint->finished = 0;
}

/* Record what is finished and claim what may start, in one transaction. */
static void
exchange(bool look, int64 now)
{
	PemsGrant *grants;
	PemsExchange exchange = {.results = results_of(&finished),
							 .result_count = finished.count,
							 .landed = landed,
							 .landed_count = landed_count,
							 .room = most_in_hand() - bytes_in_hand,
							 .one_fits_always = nothing_in_hand()};
	MemoryContext memory;
	MemoryContext turn;
	PemsQueueStatus done;

	if (finished.count > 0 || look)
		sweep_if_due(now);
	exchange.grant_count = make_grants(&grants, now);
	exchange.grants = grants;
	if (finished.count == 0 &&
		(status != PEMS_WORKER_RUNNING || (exchange.grant_count == 0 && !look)))
		return;
	forget_finished_counts();
	next_maintenance_us = earliest(next_maintenance_us, next_fold_us);
	if (finished.count > 0)
		PEMS_FAILPOINT("answer_unrecorded");
	memory = AllocSetContextCreate(TopMemoryContext, "pems_sync batch", ALLOCSET_DEFAULT_SIZES);
	turn = MemoryContextSwitchTo(memory);
	done = run_exchange(&exchange);
	MemoryContextSwitchTo(turn);
	end_if_told_to();
	schedule_sweep(now);
	if (done == PEMS_QUEUE_OK)
	{
		blamed = 0;
		settle_exchange(&exchange, memory);
		return;
	}
	MemoryContextDelete(memory);
	recover(done);
}

/* --- start --- */

/*
 * The endpoint cannot take it now (breaker, throttle), the credential is gone or names another
 * endpoint, or it has been lying here for too long: back into the queue.
 */
static bool
must_withdraw(const Parcel *parcel, int64 now)
{
	const PemsOrganization *organization = parcel->delivery.organization;

	return organization->token == NULL || organization->refused || status != PEMS_WORKER_RUNNING ||
		   parcel->delivery.endpoint != organization->endpoint ||
		   now > parcel->batch->claimed_us + STOCK_US ||
		   pems_limiter_capacity(parcel->delivery.endpoint->limiter, now) == 0;
}

static bool
has_free_slot(const PemsEndpoint *endpoint)
{
	return flying.count < pems_max_in_flight && endpoint->flying < share_of_slots();
}

static void
leave_waiting(Parcel *parcel, ParcelList *list)
{
	parcel->delivery.endpoint->backlog--;
	list_remove(&waiting, parcel);
	list_add(list, parcel);
}

/* False: it could not be started, and its result says why. */
static bool
start_request(Parcel *parcel, int64 now)
{
	bool started = pems_delivery_start(&parcel->delivery, client, now);

	weigh(parcel);
	leave_waiting(parcel, started ? &flying : &finished);
	if (!started)
	{
		report_problem("a request could not be started", parcel->delivery.result.error);
		pause_after_failure();
		return false;
	}
	request_count++;
	parcel->delivery.endpoint->flying++;
	return true;
}

static void
start_requests(int64 now)
{
	Parcel *next;

	for (Parcel *parcel = waiting.head; parcel != NULL; parcel = next)
	{
		next = parcel->next;
		if (must_withdraw(parcel, now))
		{
			pems_delivery_withdraw(&parcel->delivery);
			leave_waiting(parcel, &finished);
		}
		else if (flying.count >= pems_max_in_flight || !may_start())
			break;
		else if (has_free_slot(parcel->delivery.endpoint) && !start_request(parcel, now))
			break;
	}
	pems_client_drive(client);
	if (flying.count > 0)
		PEMS_FAILPOINT("request_sent");
}

/* A courtesy to people who look: nobody waits because it fails, and where it is slow it is left
 * off. */
static void
show_as_syncing(const char *const *ids, int count, int64 now)
{
	PemsQueueStatus done = pems_queue_mark_syncing(ids, count);

	if (done == PEMS_QUEUE_SLOW)
		no_show_before_us = now + SLOW_SHOW_US;
	if (done == PEMS_QUEUE_SLOW || done == PEMS_QUEUE_BUSY || done == PEMS_QUEUE_ERROR)
		report_problem(CANNOT_SHOW, pems_queue_problem());
	else
		went_well(done, CANNOT_SHOW);
}

/* Requests that take their time show their modification as syncing. */
static void
show_slow_requests(int64 now)
{
	const char **ids = palloc(sizeof(char *) * Max(flying.count, 1));
	int count = 0;

	for (Parcel *p = flying.head; p != NULL && p->delivery.started_at + SLOW_US <= now; p = p->next)
		if (!p->delivery.shown_as_syncing && p->delivery.step == PEMS_STEP_WRITE)
		{
			if (now >= no_show_before_us)
				ids[count++] = p->delivery.item.id;
			p->delivery.shown_as_syncing = true;
		}
	if (count > 0)
		show_as_syncing(ids, count, now);
}

/* --- the turn --- */

static void
maintain(int64 now)
{
	bool more;

	if (now < next_maintenance_us || !is_at_home())
		return;
	next_maintenance_us = now + MAINTENANCE_US;
	next_fold_us = now + FOLD_US;
	if (!went_well(pems_queue_fold(&more), "could not fold the statistics"))
		return;
	if (more)
		next_maintenance_us = now; /* with the next turn */
	else
		went_well(pems_queue_make_partitions(), "could not make partitions of the audit log");
}

/* Is a look at the queue due even if nothing happened? */
static bool
take_poll(int64 now)
{
	if (now < next_poll_us)
		return false;
	next_poll_us = now + (int64) pems_poll_interval * 1000;
	/* a key file that was repaired, or an attach that nobody announced (two-phase commit) */
	if (status != PEMS_WORKER_RUNNING)
		setup_wanted = true;
	return true;
}

static void
work(uint32 reasons)
{
	int64 now = monotonic_us();
	bool look = reasons != 0;

	/* tables that come to be, as at the end of a restore, announce nothing */
	if ((reasons & PEMS_WAKE_CONFIG) || status == PEMS_WORKER_NOT_ATTACHED)
		setup_wanted = true;
	if (now < not_before_us || !open_extension())
		return;
	if (take_poll(now))
	{
		look = true;
		pems_roster_expect_work();
	}
	if (second_look_us != 0 && now >= second_look_us)
	{
		pems_roster_look_again();
		second_look_us = 0;
		look = true;
	}
	look = look || now >= next_due_us || setup_wanted;
	if (!read_setup())
		return;
	look_wanted |= look;
	log_breakers(now);
	retry_stuck(now);
	if (exchange_wanted_us == 0)
		exchange_wanted_us = now;
	if (opened && !goes_on_collecting(now))
	{
		look = look_wanted;
		look_wanted = false;
		exchange_wanted_us = 0;
		exchange(look, now);
	}
	else if (finished.count == 0 && !look_wanted)
		exchange_wanted_us = 0;
	if (opened)
	{
		start_requests(monotonic_us());
		send_notifications();
		show_slow_requests(monotonic_us());
		maintain(now);
	}
}

/*
 * A check goes before the items that wait for the same limiter, or it would be behind all of them;
 * and an item goes before the next check, or checks could keep edits from being sent.
 */
static void
start_check_first(void)
{
	static int64 requests_then = -1;

	if (request_count != requests_then && pems_check_start(client, status, monotonic_us(), 1) > 0)
		requests_then = request_count;
}

void
pems_dispatch_turn(uint32 reasons, const TimestampTz *news)
{
	static uint32 pending_reasons = 0;
	MemoryContext caller = MemoryContextSwitchTo(turn_context);

	/* what a turn that was cut short did not look at is looked at in the next */
	pending_reasons |= reasons;
	if (news != NULL)
	{
		pems_roster_hear(news);
		if (second_look_us == 0 && opened)
			second_look_us = monotonic_us() + LOOK_TWICE_US;
	}
	if (reasons & PEMS_WAKE_CHECK)
		pems_check_take(monotonic_us());
	collect();
	start_check_first();
	if (monotonic_us() >= not_before_us)
	{
		reasons = pending_reasons;
		pending_reasons = 0;
		work(reasons);
	}
	pems_check_start(client, status, monotonic_us(), PEMS_MAX_CHECKS);
	messages = NIL;
	MemoryContextSwitchTo(caller);
	MemoryContextReset(turn_context);
}

/* --- how long to wait --- */

static int64
next_start_us(int64 now)
{
	int64 next = INT64_MAX;

	for (PemsOrganization *o = pems_roster_organizations(); o != NULL; o = o->next)
	{
		PemsEndpoint *endpoint = o->endpoint;

		if ((endpoint->backlog > 0 && has_free_slot(endpoint) && may_start()) ||
			(can_claim_for(o, endpoint) && slots_of(endpoint) > 0 && has_room()))
			next = earliest(next, pems_limiter_next(endpoint->limiter, now));
	}
	return next;
}

static int64
next_slow_us(void)
{
	for (Parcel *p = flying.head; p != NULL; p = p->next)
		if (!p->delivery.shown_as_syncing && p->delivery.step == PEMS_STEP_WRITE)
			return p->delivery.started_at + SLOW_US;
	return INT64_MAX;
}

long
pems_dispatch_timeout_ms(void)
{
	int64 now = monotonic_us();
	int64 until = now + LOOK_AGAIN_MS * 1000;
	long client_ms = pems_client_timeout_ms(client);

	if (opened && status == PEMS_WORKER_RUNNING)
	{
		until = earliest(next_poll_us, next_due_us);
		until = earliest(until, next_start_us(now));
		until = earliest(until, next_slow_us());
		until = earliest(until, next_maintenance_us);
	}
	if (second_look_us != 0)
		until = earliest(until, second_look_us);
	until = earliest(until, pems_check_next_us(now));
	if (waiting.head != NULL)
		until = earliest(until, waiting.head->batch->claimed_us + STOCK_US);
	if (finished.count > 0 || look_wanted)
		until = earliest(until, goes_on_collecting(now) ? exchange_wanted_us + COLLECT_US : now);
	if (stuck.count > 0)
		until = earliest(until, next_stuck_us);
	until = Max(until, not_before_us);
	if (client_ms >= 0)
		until = earliest(until, now + client_ms * 1000);
	/* round up, or the last millisecond is spent spinning */
	return until <= now ? 0 : (long) Min((until - now + 999) / 1000, 3600000);
}

void
pems_dispatch_state(PemsDispatchState *state)
{
	int64 now = monotonic_us();

	state->status = status;
	state->in_flight = flying.count;
	state->requests = request_count;
	state->last_error = last_error[0] ? last_error : NULL;
	state->open_breakers = 0;
	for (PemsEndpoint *endpoint = pems_roster_endpoints(); endpoint; endpoint = endpoint->next)
		if (pems_limiter_breaker(endpoint->limiter, now) != PEMS_BREAKER_CLOSED)
			state->open_breakers++;
}

/* When the endpoint takes a request again, if that is not in a moment; 0: it is, or nobody knows.
 */
static TimestampTz
waits_until(const PemsEndpoint *endpoint, int64 now)
{
	int64 next = pems_limiter_next(endpoint->limiter, now);

	if (next == PEMS_LIMITER_NEVER || next <= now + PEMS_LIMITER_WINDOW_US)
		return 0;
	return GetCurrentTimestamp() + (next - now);
}

int
pems_dispatch_endpoints(PemsEndpointState *states, int most)
{
	int64 now = monotonic_us();
	int count = 0;

	for (PemsEndpoint *e = pems_roster_endpoints(); e != NULL && count < most; e = e->next)
	{
		PemsEndpointState *state = &states[count++];

		strlcpy(state->name, e->name, sizeof(state->name));
		state->breaker = pems_limiter_breaker(e->limiter, now);
		state->rate_limit = pems_rate_limit;
		state->in_flight = e->flying;
		state->faults = pems_limiter_faults(e->limiter);
		state->waits_until = waits_until(e, now);
		strlcpy(state->last_error, e->last_error, sizeof(state->last_error));
		state->last_error_at = e->last_error_at;
	}
	return count;
}
