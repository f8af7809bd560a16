/*
 * worker/state.h
 *		All that the worker knows from one turn to the next, and the parts of a turn.
 *
 * Process: the background worker.  There is one Turn; every part works on it.
 */
#ifndef PEMS_WORKER_STATE_H
#define PEMS_WORKER_STATE_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "database/database.h"
#include "http/client.h"
#include "record/field.h"
#include "sending/delivery.h"
#include "sending/pull.h"
#include "sending/roster.h"
#include "shared/shmem.h"

/* After a transaction failed: wait before the next try; milliseconds. */
#define RETRY_PAUSE_MS 1000
/* How long items are recorded or claimed one by one before answers are looked at again; µs. */
#define ONE_BY_ONE_US 300000
/*
 * Claimed items that have not started are a stock from which requests start without a transaction.
 * What could not start for so long goes back into the queue: others may want to take it back, or
 * discard it.  Microseconds.
 */
#define STOCK_US 2000000
/* Records of the first slice of a pull (pulls.c). */
#define PULL_SLICE_FIRST 50
/* How long nothing is claimed for an organization whose reports cannot be recorded; µs. */
#define UNRECORDABLE_US (INT64_C(60) * 1000000)

/* The items of one claim. */
typedef struct Claim
{
	MemoryContext memory;
	int64 token;
	int64 claimed_us; /* monotonic */
	int unrecorded;   /* items */
} Claim;

/* First in, first out. */
typedef struct DeliveryList
{
	dlist_head items;
	int count;
} DeliveryList;

typedef struct Turn
{
	MemoryContext memory; /* of this turn, reset after it */
	PemsHttpClient *client;
	uint32 client_number; /* counts the clients made: a new one has a new descriptor */

	/* --- what is known of the database --- */
	PemsWorkerStatus status;
	bool opened;           /* the extension was found */
	bool orphans_put_back; /* what a predecessor left was taken up */
	bool setup_wanted;     /* the configuration is to be read */
	bool catalogue_loaded;
	PemsCatalogue catalogue;

	/* --- claimed items, by how far they are (deliveries.c) --- */
	DeliveryList waiting;   /* the request has not started */
	DeliveryList under_way; /* oldest first */
	DeliveryList answered;  /* the report is there, and not recorded */
	DeliveryList locked;    /* the same, but another session has their rows locked */
	int64 bytes_in_hand;    /* of all of them */
	int64 room_wanted;      /* of an item that was put back, because there was no room */
	int64 *recorded_claims; /* claims of which everything is recorded: their tokens */
	int recorded_claim_count;
	int recorded_claim_capacity;
	dlist_head pulls; /* under way, or being stored (pulls.c) */
	int pulls_asking; /* those of them whose request is under way */
	int pull_slice;   /* records that are stored in one transaction */
	int search_slice; /* records that are searched in one */
	int unclaimable;  /* items in a row that could not be claimed, each by itself */

	/* --- when to do what; monotonic microseconds --- */
	int64 not_before_us;       /* after a failed transaction: nothing in the database before that */
	int64 next_due_us;         /* the next waiting item's time comes; INT64_MAX: there is none */
	int64 next_poll_us;        /* a look at the queue although nothing was announced */
	int64 locked_since_us;     /* since when there are locked ones */
	int64 next_locked_us;      /* try the locked ones again */
	int64 next_thorough_us;    /* a claim may be thorough again (cursor.h); 0: one is due */
	int64 second_look_us;      /* look a second time for what was announced; 0: no need to */
	int64 exchange_wanted_us;  /* since when something is to be recorded or looked at; 0: nothing */
	int64 next_maintenance_us; /* fold statistics, make partitions */
	int64 next_fold_us;        /* the same in a busy database */
	int64 no_show_before_us;   /* showing slow requests took too long */
	bool pull_look_wanted;     /* which organizations have something to pull? */
	bool look_wanted;          /* the queue is to be looked at with the next exchange */
	uint32 pending_reasons;    /* to wake up, that no turn has looked at yet */

	/* --- what others see --- */
	int64 requests;           /* started for items */
	int64 requests_at_health; /* the same when the last health check went first */
	List *messages;           /* texts for listeners, of this turn */
	char last_error[PEMS_WORKER_ERROR_SIZE];
} Turn;

/* --- problems.c: what went wrong, once in the log and in the view pems_worker --- */

/* What the exchange may say; when one succeeds, all of it is over. */
#define CANNOT_CLAIM      "could not claim items"
#define CANNOT_RECORD     "outcomes could not be recorded"
#define CANNOT_RECORD_ONE "an outcome could not be recorded"
#define WAITING_FOR_LOCKS "outcomes wait for rows that another session has locked"
#define NOTHING_RECORDED  "outcomes in a row could not be recorded, so for a minute nothing is sent"
#define CANNOT_SHOW       "could not show modifications as syncing"
#define CANNOT_MARK       "a modification could not be marked as failed"
#define CANNOT_NOTIFY     "listeners could not be told"
#define CANNOT_PARTITION  "could not make partitions of the audit log"
#define CANNOT_PULL       "a pull could not go on"
#define TABLES_CHANGED    "the tables of the application were changed"

extern void report_problem(Turn *turn, const char *what, const char *problem);
extern void problem_is_over(Turn *turn, const char *what);
/* Whoever looks at pems_health() must not be told of a lock or a full disk that is no more. */
extern void exchange_problems_are_over(Turn *turn);
/* Leave the database alone for a moment. */
extern void pause_after_failure(Turn *turn);
/*
 * What came of a transaction; true when it went well.  Otherwise the problem is reported and the
 * database left alone for a moment, or everything is forgotten, where the extension is gone.
 */
extern bool went_well(Turn *turn, PemsDatabaseStatus done, const char *what);

/* --- deliveries.c: lists of claimed items, and their memory --- */

extern void list_clear(DeliveryList *list);
extern void list_add(DeliveryList *list, PemsDelivery *delivery);
extern void list_remove(DeliveryList *list, PemsDelivery *delivery);
/* All of `from`, which is empty then. */
extern void list_move(DeliveryList *to, DeliveryList *from);
/* NULL: there is none. */
extern PemsDelivery *list_first(const DeliveryList *list);
extern PemsDelivery *list_next(const DeliveryList *list, const PemsDelivery *delivery);
/* Its report cannot be recorded while another session has its rows locked. */
extern void wait_for_lock(Turn *turn, PemsDelivery *delivery);
/* Results in the order in which they came; in the current memory context. */
extern PemsReport **reports_of(const DeliveryList *list);
/* Count the item's memory. */
extern void weigh(Turn *turn, PemsDelivery *delivery);
/* Its memory goes, and with the last one that of its claim. */
extern void release_delivery(Turn *turn, PemsDelivery *delivery);
extern void release_all(Turn *turn);
/* What was claimed: decided, and put where it belongs.  memory: where the items are. */
extern void accept_items(Turn *turn, MemoryContext memory, PemsItem *items, int count);
extern int64 most_in_hand(void);
extern bool nothing_in_hand(const Turn *turn);
/* Is there room for more items, and for one that was put back? */
extern bool has_room(const Turn *turn);
/* Is there memory for one more request? */
extern bool has_room_for_request(const Turn *turn);

/* --- requests.c: requests of items --- */

/* Drive the transfers, and judge the answers that are there. */
extern void collect_answers(Turn *turn);
/* Start what may start, and put back what may not. */
extern void start_requests(Turn *turn, int64 now);
/* Requests that take their time show their modification as syncing. */
extern void show_slow_requests(Turn *turn, int64 now);
/* When the next one is to be shown; INT64_MAX: none. */
extern int64 next_slow_us(const Turn *turn);

/* --- pulls.c: read sync --- */

/* Start what may start.  before_items: only the share that pulls have while items wait. */
extern void start_pulls(Turn *turn, bool before_items, int64 now);
/* One transaction for one of those that have something to store. */
extern void step_pulls(Turn *turn, int64 now);
/* The answer to a request: was it a pull's? */
extern bool finish_pull(Turn *turn, const void *owner, const PemsAnswer *answer, int64 now);
/* When one of the above has something to do; INT64_MAX: when something happens. */
extern int64 next_pull_us(const Turn *turn, int64 now);
extern void forget_pulls(Turn *turn);

/* --- opening.c: the extension and its configuration --- */

extern void make_client(Turn *turn);
extern PemsHttpClientOptions client_options(void);
/* False: there is nothing to work on now. */
extern bool open_extension(Turn *turn);
/* Read the configuration where that is wanted.  False: it could not be read. */
extern bool read_setup(Turn *turn);
/* As far as we know, is this database attached here?  In one that is restored nothing is made. */
extern bool is_attached_here(const Turn *turn);
/* DROP EXTENSION: there is nothing left to record anything in. */
extern void forget_everything(Turn *turn);

/* --- grants.c: how much may be claimed, and for whom --- */

/* Can items be claimed for it? */
extern bool can_claim_for(const PemsOrganization *organization, const PemsEndpoint *endpoint);
/* Returns how many grants; in the current memory context. */
extern int make_grants(Turn *turn, PemsGrant **grants, int64 now);
/* The cursors move on behind what was claimed. */
extern void note_claimed(const PemsGrant *grants, int grant_count, const PemsItem *items,
						 int item_count);

/* --- recording.c: the exchange: record what was answered, claim what may start --- */

/* One transaction.  Its messages are kept for send_notifications(). */
extern PemsDatabaseStatus run_exchange(Turn *turn, PemsExchange *exchange);
/* look: also when nothing is to be recorded and nothing can start. */
extern void exchange(Turn *turn, bool look, int64 now);
/*
 * A claim committed: its items are accepted, the cursors move on behind them, and it is noted when
 * the next item is due and how much room is wanted.
 */
extern void accept_claimed(Turn *turn, PemsExchange *exchange, MemoryContext memory);
extern void keep_messages(Turn *turn, const PemsTexts *texts);
extern void send_notifications(Turn *turn);
/* After a commit: end the process if it was told to, before a request leaves. */
extern void end_if_told_to(void);

/* --- one_by_one.c: a transaction failed as a whole; find out whose fault it is --- */

/* The organization's last reports could not be recorded, one after the other. */
extern bool nothing_can_be_recorded(const PemsOrganization *organization);
/* One was recorded: was that it? */
extern void note_recorded(Turn *turn, PemsDelivery *delivery);
extern void record_one_by_one(Turn *turn, DeliveryList *list);
extern void claim_one_by_one(Turn *turn);
/* Those that others had locked. */
extern void retry_locked(Turn *turn, int64 now);
/* It is recorded: say so if it failed for good, and let it go. */
extern void release_recorded(Turn *turn, PemsDelivery *delivery);

#endif /* PEMS_WORKER_STATE_H */
