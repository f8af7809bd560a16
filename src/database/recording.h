/*
 * database/recording.h
 *		Recording reports inside the transaction of an exchange (exchange.c).
 */
#ifndef PEMS_RECORDING_H
#define PEMS_RECORDING_H

#include "postgres.h"

#include "database/database.h"

/* Record the exchange's reports; sets recorded and messages, these allocated in that context. */
extern void pems_recording_run(PemsExchange *exchange, MemoryContext context);

#endif /* PEMS_RECORDING_H */
