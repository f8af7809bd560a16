/*
 * worker/worker.h
 *		Registration and main function of the background worker.
 */
#ifndef PEMS_WORKER_H
#define PEMS_WORKER_H

#include "postgres.h"

/* Register one worker per database of pems_sync.databases; only while preloading. */
extern void pems_worker_register(void);
extern PGDLLEXPORT void pems_worker_main(Datum slot_number);

#endif /* PEMS_WORKER_H */
