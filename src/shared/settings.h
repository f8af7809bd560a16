/*
 * shared/settings.h
 *		The pems_sync.* settings.  Read-only outside settings.c.
 */
#ifndef PEMS_SETTINGS_H
#define PEMS_SETTINGS_H

#include "postgres.h"

typedef enum PemsRefresh
{
	PEMS_REFRESH_AUTO, /* read the record after a write only when versions have a gap */
	PEMS_REFRESH_ALWAYS
} PemsRefresh;

extern char *pems_databases; /* names, comma-separated; server start only */
extern bool pems_enabled;
extern int pems_poll_interval; /* milliseconds */
extern int pems_batch_size;
extern int pems_max_in_flight;
extern int pems_rate_limit; /* requests per second and endpoint; 0 = none */
extern int pems_max_retries;
extern int pems_retry_delay;     /* milliseconds */
extern int pems_request_timeout; /* milliseconds */
extern int pems_connect_timeout; /* milliseconds */
extern char *pems_key_file;
extern char *pems_ca_file;
extern char *pems_allowed_hosts;
extern bool pems_allow_insecure_loopback;
extern int pems_max_response_size;      /* kilobytes */
extern int pems_max_delta_size;         /* kilobytes */
extern int pems_max_in_hand;            /* kilobytes */
extern int pems_max_record_size;        /* kilobytes */
extern int pems_refresh_after_write;    /* PemsRefresh */
extern int pems_retention;              /* minutes; 0 = for ever */
extern int pems_pull_interval;          /* seconds; 0 = never */
extern int pems_pull_page_size;         /* records */
extern int pems_pull_overlap;           /* seconds */
extern int pems_pull_max_missing;       /* percent */
extern int pems_pull_max_response_size; /* kilobytes */
extern bool pems_guarded;               /* set by functions of ours that run as a superuser */

extern void pems_settings_define(void);

#endif /* PEMS_SETTINGS_H */
