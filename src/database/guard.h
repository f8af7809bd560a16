/*
 * database/guard.h
 *		Functions of other people do not run with our rights.
 *
 * Process: every process that has loaded the library.
 */
#ifndef PEMS_GUARD_H
#define PEMS_GUARD_H

/* Once, from _PG_init. */
extern void pems_guard_install_hooks(void);

#endif /* PEMS_GUARD_H */
