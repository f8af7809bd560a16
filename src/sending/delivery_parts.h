/*
 * sending/delivery_parts.h
 *		What delivery.c, deciding.c and finishing.c share; nobody else includes it.
 *
 * Process: the background worker, outside any transaction.  Texts are in the item's memory.
 */
#ifndef PEMS_DELIVERY_PARTS_H
#define PEMS_DELIVERY_PARTS_H

#include "record/json.h"
#include "sending/delivery.h"

/* What the user reads about a conflict on a record that is gone. */
#define PEMS_RECORD_GONE                                                                           \
	"PEMS does not have the record any more. To have it again, restore it there; to give the "     \
	"edit up, resolve the conflict with use_pems."

/* A copy in the item's memory; NULL of NULL. */
extern char *pems_delivery_keep(PemsDelivery *delivery, const char *text);
/*
 * Parse a text of the database; none is an empty document.  False: out of memory, or nested too
 * deeply; *problem, if it is not NULL, says so as pems_json_parse() does.
 */
extern bool pems_delivery_parse(const char *text, JsonDocument *document, const char **problem);
/* The call of the step that the delivery is at. */
extern PemsCall pems_delivery_call(const PemsDelivery *delivery);

/* The report that leaves the item as it was claimed, but for its status. */
extern void pems_delivery_begin_report(PemsDelivery *delivery, PemsItemStatus status);
/* Names of fields as a JSON array. */
extern char *pems_delivery_fields(PemsDelivery *delivery, char *const *fields, size_t count);
/* Nothing was sent, and nothing will be.  The texts are not copied. */
extern void pems_delivery_fail_unsent(PemsDelivery *delivery, const char *error_code,
									  const char *error);
/* Out of memory before it was sent: like any transient failure, but nobody's fault at PEMS. */
extern void pems_delivery_postpone(PemsDelivery *delivery, const char *sentence);
/*
 * In PG_CATCH: what an ERROR says, which is over then.  (Texts of more than a gigabyte raise one,
 * and so does palloc when there is no memory.)
 */
extern char *pems_delivery_keep_error(PemsDelivery *delivery, MemoryContext caller);

#endif /* PEMS_DELIVERY_PARTS_H */
