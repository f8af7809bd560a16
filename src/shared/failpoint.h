/*
 * shared/failpoint.h
 *		Places where a test makes the worker die.  Compiled in by a test build only
 *		(make FAILPOINTS=1); in every other build these are nothing.
 */
#ifndef PEMS_FAILPOINT_H
#define PEMS_FAILPOINT_H

#ifdef PEMS_FAILPOINTS

/* Does what the file pems_failpoint says, if it names this point. */
extern void pems_failpoint_reach(const char *name);
/* Reach the point when the current transaction is committed, but its commit has not returned. */
extern void pems_failpoint_reach_in_commit(const char *name);

#define PEMS_FAILPOINT(name)           pems_failpoint_reach(name)
#define PEMS_FAILPOINT_IN_COMMIT(name) pems_failpoint_reach_in_commit(name)

#else

#define PEMS_FAILPOINT(name)           ((void) 0)
#define PEMS_FAILPOINT_IN_COMMIT(name) ((void) 0)

#endif

#endif /* PEMS_FAILPOINT_H */
