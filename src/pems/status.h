/*
 * pems/status.h
 *		HTTP statuses in words: their names, and the words of PEMS that stand for one.
 *
 * Pure; any process.  No memory is allocated.
 */
#ifndef PEMS_STATUS_H
#define PEMS_STATUS_H

/* "Service Unavailable" for 503; NULL: no name is known. */
extern const char *pems_status_phrase(int status);

/*
 * The status that the member `error` of a body stands for, where the answer itself has status 200
 * and says success:false: 409 for "VERSION_CONFLICT".  Upper and lower case are the same.  0: none
 * is known.
 */
extern int pems_status_of_error(const char *error);

#endif /* PEMS_STATUS_H */
