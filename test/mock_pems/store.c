/*
 * store.c
 *		What PEMS knows: organizations with their tokens, and their records.
 */
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "store.h"

#define FIRST_BUCKET_COUNT 64

/* FNV-1a, and a last stir because buckets are cut from the low bits. */
static uint32_t
hash_text(const char *text)
{
	uint32_t hash = 2166136261U;

	for (; *text != '\0'; text++)
		hash = (hash ^ (unsigned char) *text) * 16777619U;
	hash ^= hash >> 16;
	hash *= 0x7feb352dU;
	hash ^= hash >> 15;
	return hash;
}

void
mock_store_initialize(MockStore *store)
{
	memset(store, 0, sizeof(*store));
	pthread_rwlock_init(&store->lock, NULL);
}

/* ---------- organizations ---------- */

static MockOrganization **
organization_bucket(MockStore *store, const char *code)
{
	return &store->organizations[hash_text(code) % MOCK_STORE_ORGANIZATION_BUCKETS];
}

static MockOrganization *
find_in_chain(MockOrganization *organization, const char *code)
{
	while (organization != NULL && strcmp(organization->code, code) != 0)
		organization = organization->chain;
	return organization;
}

MockOrganization *
mock_store_find_organization(MockStore *store, const char *code)
{
	MockOrganization *found;

	pthread_rwlock_rdlock(&store->lock);
	found = find_in_chain(*organization_bucket(store, code), code);
	pthread_rwlock_unlock(&store->lock);
	return found;
}

MockOrganization *
mock_store_add_organization(MockStore *store, const char *code)
{
	MockOrganization **bucket = organization_bucket(store, code);
	MockOrganization *organization;

	pthread_rwlock_wrlock(&store->lock);
	organization = find_in_chain(*bucket, code);
	if (organization == NULL)
	{
		organization = mock_memory_allocate(sizeof(*organization));
		organization->code = mock_memory_copy(code);
		pthread_mutex_init(&organization->lock, NULL);
		organization->chain = *bucket;
		*bucket = organization;
	}
	pthread_rwlock_unlock(&store->lock);
	return organization;
}

void
mock_store_set_token(MockOrganization *organization, const char *token)
{
	char *copy = mock_memory_copy(token);

	pthread_mutex_lock(&organization->lock);
	free(organization->token);
	organization->token = copy;
	pthread_mutex_unlock(&organization->lock);
}

bool
mock_store_check_token(MockOrganization *organization, const char *token)
{
	bool right;

	pthread_mutex_lock(&organization->lock);
	right = organization->token != NULL && token != NULL && strcmp(organization->token, token) == 0;
	pthread_mutex_unlock(&organization->lock);
	return right;
}

void
mock_store_each_organization(MockStore *store, void (*visit)(MockOrganization *, void *),
							 void *context)
{
	pthread_rwlock_rdlock(&store->lock);
	for (size_t i = 0; i < MOCK_STORE_ORGANIZATION_BUCKETS; i++)
	{
		for (MockOrganization *each = store->organizations[i]; each != NULL; each = each->chain)
			visit(each, context);
	}
	pthread_rwlock_unlock(&store->lock);
}

typedef struct TokenSearch
{
	const char *token;
	bool found;
} TokenSearch;

static void
compare_token(MockOrganization *organization, void *context)
{
	TokenSearch *search = context;

	search->found = search->found || mock_store_check_token(organization, search->token);
}

bool
mock_store_knows_token(MockStore *store, const char *token)
{
	TokenSearch search = {token, false};

	mock_store_each_organization(store, compare_token, &search);
	return search.found;
}

/* ---------- records ---------- */

static MockRecord **
record_bucket(const MockOrganization *organization, uint32_t hash)
{
	return &organization->buckets[hash & (organization->bucket_count - 1)];
}

static void
grow_buckets(MockOrganization *organization)
{
	MockRecord **old = organization->buckets;
	size_t old_count = organization->bucket_count;

	organization->bucket_count = old_count == 0 ? FIRST_BUCKET_COUNT : old_count * 2;
	organization->buckets =
		mock_memory_allocate(organization->bucket_count * sizeof(*organization->buckets));
	for (size_t i = 0; i < old_count; i++)
	{
		MockRecord *next;

		for (MockRecord *record = old[i]; record != NULL; record = next)
		{
			MockRecord **bucket = record_bucket(organization, record->hash);

			next = record->chain;
			record->chain = *bucket;
			*bucket = record;
		}
	}
	free(old);
}

static MockRecord *
find_hashed(const MockOrganization *organization, const char *pfa_id, uint32_t hash)
{
	MockRecord *record;

	if (organization->bucket_count == 0)
		return NULL;
	record = *record_bucket(organization, hash);
	while (record != NULL && (record->hash != hash || strcmp(record->pfa_id, pfa_id) != 0))
		record = record->chain;
	return record;
}

MockRecord *
mock_store_find_any(const MockOrganization *organization, const char *pfa_id)
{
	return find_hashed(organization, pfa_id, hash_text(pfa_id));
}

MockRecord *
mock_store_find(const MockOrganization *organization, const char *pfa_id)
{
	MockRecord *record = mock_store_find_any(organization, pfa_id);

	return record == NULL || record->state.forgotten ? NULL : record;
}

static MockRecord *
add_record(MockOrganization *organization, const char *pfa_id, uint32_t hash)
{
	size_t length = strlen(pfa_id);
	MockRecord *record = mock_memory_allocate(sizeof(*record) + length + 1);
	MockRecord **bucket;

	memcpy(record->pfa_id, pfa_id, length + 1);
	record->hash = hash;
	/* as good as random, and the same in every run */
	record->heap = hash * 2654435761U ^ hash >> 13;
	if (organization->hashed_count >= organization->bucket_count)
		grow_buckets(organization);
	bucket = record_bucket(organization, hash);
	record->chain = *bucket;
	*bucket = record;
	organization->hashed_count++;
	return record;
}

void
mock_store_each_record(const MockOrganization *organization, void (*visit)(MockRecord *, void *),
					   void *context)
{
	for (size_t i = 0; i < organization->bucket_count; i++)
	{
		MockRecord *next;

		for (MockRecord *record = organization->buckets[i]; record != NULL; record = next)
		{
			next = record->chain;
			visit(record, context);
		}
	}
}

/* ---------- what records were ---------- */

MockRecordState
mock_store_copy_state(const MockRecordState *state)
{
	MockRecordState copy = *state;

	copy.data = mock_memory_copy_bytes(state->data, state->data_length);
	return copy;
}

/* Free what is behind the first so many past states. */
static void
cut_past(MockRecord *record, uint32_t most)
{
	MockPastState **link = &record->past;
	MockPastState *older;

	for (uint32_t i = 0; i < most && *link != NULL; i++)
		link = &(*link)->older;
	for (MockPastState *past = *link; past != NULL; past = older)
	{
		older = past->older;
		free(past->state.data);
		free(past);
		record->past_count--;
	}
	*link = NULL;
}

static void
remember_state(MockRecord *record)
{
	MockPastState *past = mock_memory_allocate(sizeof(*past));

	past->state = record->state;
	past->older = record->past;
	record->past = past;
	if (++record->past_count > MOCK_STORE_PAST_STATES)
		cut_past(record, MOCK_STORE_PAST_STATES);
}

const MockRecordState *
mock_store_state_back(const MockRecord *record, int64_t states)
{
	const MockRecordState *state = &record->state;

	for (const MockPastState *past = record->past; past != NULL && states > 0; past = past->older)
	{
		state = &past->state;
		states--;
	}
	return state;
}

const MockRecordState *
mock_store_state_at(const MockRecord *record, int64_t wall_us)
{
	const MockRecordState *state = &record->state;

	for (const MockPastState *past = record->past; past != NULL && state->since > wall_us;
		 past = past->older)
		state = &past->state;
	/* what is older than all that is remembered is taken to be the oldest of it */
	if (state->since > wall_us && record->past_count < MOCK_STORE_PAST_STATES)
		return NULL;
	return state;
}

/* ---------- changes ---------- */

static void
enter_index(MockOrganization *organization, MockRecord *record)
{
	if (record->state.forgotten)
		return;
	organization->record_count++;
	mock_index_insert(&organization->root, record);
}

static void
leave_index(MockOrganization *organization, const MockRecord *record)
{
	if (record->state.forgotten)
		return;
	organization->record_count--;
	mock_index_remove(&organization->root, record);
}

MockRecord *
mock_store_put(MockOrganization *organization, const char *pfa_id, const MockRecordState *state)
{
	uint32_t hash = hash_text(pfa_id);
	MockRecord *record = find_hashed(organization, pfa_id, hash);

	if (record == NULL)
		record = add_record(organization, pfa_id, hash);
	else
	{
		leave_index(organization, record);
		remember_state(record);
	}
	record->state = *state;
	enter_index(organization, record);
	return record;
}

void
mock_store_move(MockOrganization *organization, MockRecord *record, int64_t updated_at)
{
	leave_index(organization, record);
	record->state.updated_at = updated_at;
	enter_index(organization, record);
}

static void
free_record(MockRecord *record, void *context)
{
	(void) context;
	cut_past(record, 0);
	free(record->state.data);
	free(record);
}

static void
clear_records(MockOrganization *organization)
{
	mock_store_each_record(organization, free_record, NULL);
	for (size_t i = 0; i < organization->cursor_count; i++)
		free(organization->cursors[i]);
	free(organization->cursors);
	free(organization->buckets);
	organization->cursors = NULL;
	organization->cursor_count = 0;
	organization->buckets = NULL;
	organization->bucket_count = 0;
	organization->hashed_count = 0;
	organization->record_count = 0;
	organization->root = NULL;
}

static void
clear_organization(MockOrganization *organization, void *context)
{
	(void) context;
	pthread_mutex_lock(&organization->lock);
	clear_records(organization);
	free(organization->token);
	organization->token = NULL;
	pthread_mutex_unlock(&organization->lock);
}

void
mock_store_clear(MockStore *store)
{
	mock_store_each_organization(store, clear_organization, NULL);
}
