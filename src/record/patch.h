/*
 * record/patch.h
 *		Records with changes on top: what a delta makes of a record, and which delta makes one
 *		record of another.
 *
 * Pure; any process.  Memory comes from malloc and belongs to the buffers that the caller gives.
 */
#ifndef PEMS_PATCH_H
#define PEMS_PATCH_H

#include "record/field.h"

/*
 * Append record with changes on top: objects member by member, all else
 * replaced.  This is what PEMS is taken to do with the changes of a PUT, and
 * what mirror + delta means.  record may be NULL.
 */
extern void pems_patch_apply(const JsonNode *record, const JsonNode *changes, JsonBuffer *result);

/*
 * Append the delta that gives the writable fields of record the values that they have in
 * old_record, {} when they have them.  A field, or a member of an object, that is missing is taken
 * for null: a delta cannot take a field away.  Both must be objects.
 */
extern void pems_patch_restore(const PemsCatalogue *catalogue, const JsonNode *record,
							   const JsonNode *old_record, JsonBuffer *delta);

/*
 * Append the delta with each of its objects laid over the record's object of that name: what is
 * sent where there is nothing to compare.  A PEMS that puts an object in the place of another would
 * lose the members that the delta does not name.  The delta must be an object.
 */
extern void pems_patch_complete(const JsonNode *delta, const JsonNode *record, JsonBuffer *changes);

/* Is one of the delta's values an object? */
extern bool pems_patch_has_object(const JsonNode *delta);

#endif /* PEMS_PATCH_H */
