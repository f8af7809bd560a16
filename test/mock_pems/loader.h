/*
 * loader.h
 *		The records file: read once at the start, and again at every reset.
 *
 * The file is kept open, so that a reset works although it was unlinked.
 */
#ifndef MOCK_LOADER_H
#define MOCK_LOADER_H

#include <stdbool.h>
#include <stddef.h>

#include "record/json.h"
#include "store.h"

typedef struct MockLoader
{
	int file; /* -1: none */
} MockLoader;

#define MOCK_LOADER_ERROR_SIZE 256

/* path "-": none.  False: error (MOCK_LOADER_ERROR_SIZE bytes) says why. */
extern bool mock_loader_open(MockLoader *loader, const char *path, char *error);
/* Put the file's organizations and records into the store; what is there stays. */
extern bool mock_loader_load(const MockLoader *loader, MockStore *store, char *error);

/* One member of "organizations" or "records"; also what the control calls take.  False: error is
 * static. */
extern bool mock_loader_add_organization(MockStore *store, const JsonNode *node,
										 const char **error);
extern bool mock_loader_add_record(MockStore *store, const JsonNode *node, int64_t now,
								   const char **error);

/* Members that a record may have: version, updatedAt, deleted.  Absent ones leave *state alone. */
extern bool mock_loader_read_state(const JsonNode *node, MockRecordState *state,
								   const char **error);

#endif /* MOCK_LOADER_H */
