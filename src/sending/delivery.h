/*
 * sending/delivery.h
 *		A claimed item on its way: decide, send, judge the answer.
 *
 * Process: the background worker, outside any transaction.
 */
#ifndef PEMS_DELIVERY_H
#define PEMS_DELIVERY_H

#include "postgres.h"

#include "lib/ilist.h"

#include "database/database.h"
#include "http/client.h"
#include "record/field.h"
#include "sending/roster.h"

typedef struct PemsDelivery
{
	PemsItem item;
	PemsOrganization *organization;
	PemsEndpoint *endpoint; /* that it was claimed for; the organization may move to another one */
	PemsStep step;      /* what the request is for; the item's, or READ where there is no mirror */
	char *changes;      /* JSON that the write sends; NULL: none */
	int64 version;      /* version that the write is based on */
	bool writes_object; /* what PEMS makes of an object is for it to say: the record is read then */
	char *path;
	char *body;
	uint64 ticket;    /* from the endpoint's limiter */
	int64 started_at; /* monotonic microseconds; 0: not started */
	bool shown_as_syncing;
	PemsReport report;

	/* of the worker's lists: worker/deliveries.c */
	struct Claim *claim; /* that it was claimed with */
	bool waits_for_lock; /* another session has its rows locked */
	int64 bytes;         /* of the item's memory, as far as they are counted */
	dlist_node node;
} PemsDelivery;

typedef enum PemsPlan
{
	PEMS_PLAN_SEND,  /* a request is to be made */
	PEMS_PLAN_RECORD /* the report is there already: nothing to send, or a conflict */
} PemsPlan;

/* Decide what to do with a claimed item; allocates in the item's memory. */
extern PemsPlan pems_delivery_decide(PemsDelivery *delivery, const PemsCatalogue *catalogue);
/* Start its request.  False: there is none, and the report says why. */
extern bool pems_delivery_start(PemsDelivery *delivery, PemsHttpClient *client, int64 now);
/* It is not to be sent now after all: the report puts it back as it was. */
extern void pems_delivery_withdraw(PemsDelivery *delivery);
/*
 * Its answer is there: judge it, fill in the report, tell limiter and breaker.  The answer still
 * belongs to the caller.
 */
extern void pems_delivery_finish(PemsDelivery *delivery, const PemsCatalogue *catalogue,
								 PemsAnswer *answer, int64 now);
#endif /* PEMS_DELIVERY_H */
