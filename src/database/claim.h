/*
 * database/claim.h
 *		Claiming items inside the transaction of an exchange (exchange.c).
 */
#ifndef PEMS_CLAIM_H
#define PEMS_CLAIM_H

#include "postgres.h"

#include "database/database.h"

/*
 * Claim what the exchange's grants allow; sets items, item_count and room_missing.  The items and
 * their memory contexts are children of that context.  A thorough grant is moved: it begins at the
 * first ready item behind its `passed`.
 */
extern void pems_claim_run(PemsExchange *exchange, MemoryContext context);

#endif /* PEMS_CLAIM_H */
