/*
 * secrets/process.h
 *		A process that holds secrets: what the system must not show of its memory.
 */
#ifndef PEMS_PROCESS_H
#define PEMS_PROCESS_H

/*
 * No core file, and no debugger of somebody else who runs as the same user: both would show tokens
 * and keys.  For the rest of the process; call it before a secret is read.  Where the system
 * refuses, nothing is said: it is an additional protection.
 */
extern void pems_secrets_keep_process_private(void);

#endif /* PEMS_PROCESS_H */
