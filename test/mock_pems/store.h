/*
 * store.h
 *		What PEMS knows: organizations with their tokens, and their records.
 *
 * Each organization has one lock, which guards its token, its records and their
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

struct MockRecord
{
	MockRecord *chain;        /* next in its hash bucket */
	MockRecord *left, *right; /* index.c */
	uint32_t hash;            /* of pfa_id */
	uint32_t heap;            /* index.c: parents have the higher value */
	int64_t version;
	int64_t updated_at; /* never changed while the record is in the index */
	bool deleted;
	char *data; /* compact JSON object */
	size_t data_length;
	char pfa_id[];
};

typedef struct MockOrganization
{
	struct MockOrganization *chain; /* next in its hash bucket; set once */
	char *code;                     /* set once */
	MockRate rate;                  /* guarded by the lock of stats.c, not by ours */
	int64_t requests;               /* likewise */
	pthread_mutex_t lock;
	char *token; /* NULL: nobody gets in */
	MockRecord **buckets;
	size_t bucket_count; /* power of two, 0 before the first record */
	size_t record_count;
	MockRecord *root; /* by (updated_at, pfa_id) */
} MockOrganization;

#define MOCK_STORE_ORGANIZATION_BUCKETS 4096

typedef struct MockStore
{
	pthread_rwlock_t
		lock; /* the chains of organizations; nests outside of the organizations' locks */
	MockOrganization *organizations[MOCK_STORE_ORGANIZATION_BUCKETS];
} MockStore;

/* What a record is to become; data is malloc'ed and taken over. */
typedef struct MockRecordState
{
	int64_t version;
	int64_t updated_at;
	bool deleted;
	char *data;
	size_t data_length;
} MockRecordState;

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
extern MockRecord *mock_store_find(const MockOrganization *organization, const char *pfa_id);
/* Make the record or change it, and put it in its place in the order. */
extern MockRecord *mock_store_put(MockOrganization *organization, const char *pfa_id,
								  const MockRecordState *state);

#endif /* MOCK_STORE_H */
