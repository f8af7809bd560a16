/*
 * store.h
 *		What PEMS knows: organizations with their tokens, and their records.
 *
 * Each organization has one lock, which protects its token, its records and their
 * order; a request holds at most one of them.  Organizations are never freed
 * before the end, so a pointer to one stays good.  The journal is written while
 * the lock is held: that way the order of the log is the order of the changes.
 * Lock order: organization, then answers, then journal.
 */
#ifndef MOCK_STORE_H
#define MOCK_STORE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index.h"
#include "rate.h"

/* What a record is, was, or is to become; the data are malloc'ed. */
typedef struct MockRecordState
{
	int64_t version;
	int64_t updated_at; /* never changed while the record is in the index */
	bool deleted;       /* a tombstone */
	bool forgotten;     /* there is no such record, and no tombstone; not in the index */
	char *data;         /* compact JSON object */
	size_t data_length;
	const char *modified_by; /* interned; NULL: unknown */
	const char *shown_code;  /* interned; organizationCode in answers; NULL: its organization's */
	int64_t since;           /* when the record became so, by our clock; 0: it was loaded so */
} MockRecordState;

typedef struct MockPastState
{
	struct MockPastState *older;
	MockRecordState state;
} MockPastState;

/* States that a record remembers behind the present one. */
#define MOCK_STORE_PAST_STATES 50

struct MockRecord
{
	MockRecord *chain;        /* next in its hash bucket */
	MockRecord *left, *right; /* index.c */
	uint32_t hash;            /* of pfa_id */
	uint32_t heap;            /* index.c: parents have the higher value */
	MockRecordState state;
	MockPastState *past; /* newest first */
	uint32_t past_count;
	char pfa_id[];
};

typedef struct MockOrganization
{
	struct MockOrganization *chain; /* next in its hash bucket; set once */
	char *code;                     /* set once */
	MockRate rate;                  /* protected by the lock of stats.c, not by ours */
	int64_t requests;               /* likewise */
	pthread_mutex_t lock;
	char *token; /* NULL: nobody gets in */
	MockRecord **buckets;
	size_t bucket_count; /* power of two, 0 before the first record */
	size_t hashed_count; /* records in buckets, also forgotten ones */
	size_t record_count; /* without those */
	MockRecord *root;    /* by (updated_at, pfa_id) */
	char **cursors;      /* the cursor given last for page n, as JSON; NULL: none */
	size_t cursor_count;
} MockOrganization;

#define MOCK_STORE_ORGANIZATION_BUCKETS 4096

typedef struct MockStore
{
	pthread_rwlock_t
		lock; /* the chains of organizations; nests outside of the organizations' locks */
	MockOrganization *organizations[MOCK_STORE_ORGANIZATION_BUCKETS];
} MockStore;

extern void mock_store_initialize(MockStore *store);
/* Forget all records and tokens; the organizations stay, empty. */
extern void mock_store_clear(MockStore *store);

/* By exact code; NULL when nobody ever mentioned it. */
extern MockOrganization *mock_store_find_organization(MockStore *store, const char *code);
extern MockOrganization *mock_store_add_organization(MockStore *store, const char *code);
/* token NULL: take it away. */
extern void mock_store_set_token(MockOrganization *organization, const char *token);
extern bool mock_store_check_token(MockOrganization *organization, const char *token);
/* Does the token belong to any organization? */
extern bool mock_store_knows_token(MockStore *store, const char *token);
/* Call visit with every organization, in no particular order. */
extern void mock_store_each_organization(MockStore *store,
										 void (*visit)(MockOrganization *, void *), void *context);

/* The rest is called with the organization's lock held. */
/* NULL: there is none, or it was forgotten. */
extern MockRecord *mock_store_find(const MockOrganization *organization, const char *pfa_id);
/* Also one that was forgotten. */
extern MockRecord *mock_store_find_any(const MockOrganization *organization, const char *pfa_id);
/*
 * Make the record or change it, and put it in its place in the order.  The data of
 * the state are taken over; what the record was is remembered.
 */
extern MockRecord *mock_store_put(MockOrganization *organization, const char *pfa_id,
								  const MockRecordState *state);
/* Another updatedAt, and nothing else: that is no new state. */
extern void mock_store_move(MockOrganization *organization, MockRecord *record, int64_t updated_at);
extern MockRecordState mock_store_copy_state(const MockRecordState *state);
/* What the record was so many states ago, or the oldest state that is remembered. */
extern const MockRecordState *mock_store_state_back(const MockRecord *record, int64_t states);
/* What the record was at that time of our clock; NULL: it was not there yet. */
extern const MockRecordState *mock_store_state_at(const MockRecord *record, int64_t wall_us);
/* Call visit with every record, also forgotten ones, in no particular order. */
extern void mock_store_each_record(const MockOrganization *organization,
								   void (*visit)(MockRecord *, void *), void *context);

#endif /* MOCK_STORE_H */
