/*
 * shared/settings.c
 *		The pems_sync.* settings and what each may be set to.
 *
 * All of them are for superusers: they come from the configuration file (or
 * ALTER SYSTEM) and are reloaded with it, so that no database and no session can
 * send edits elsewhere or faster than the administrator said.
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/guc.h"

#include "shared/compat.h"
#include "shared/limits.h"
#include "shared/settings.h"

char *pems_databases = NULL;
bool pems_enabled = true;
int pems_poll_interval = 60000;
int pems_batch_size = 100;
int pems_max_in_flight = 32;
int pems_rate_limit = 10;
int pems_max_retries = 3;
int pems_retry_delay = 5000;
int pems_request_timeout = 30000;
int pems_connect_timeout = 5000;
char *pems_key_file = NULL;
char *pems_ca_file = NULL;
char *pems_allowed_hosts = NULL;
bool pems_allow_insecure_loopback = false;
int pems_max_response_size = 256;
int pems_max_delta_size = 256;
int pems_max_in_hand = 65536;
int pems_max_record_size = 4096;
int pems_refresh_after_write = PEMS_REFRESH_AUTO;
int pems_retention = 365 * 24 * 60;
int pems_pull_interval = 0;
int pems_pull_page_size = 500;
int pems_pull_overlap = 300;
int pems_pull_max_missing = 10;
int pems_pull_max_response_size = 32768;
bool pems_guarded = false;

static const struct config_enum_entry refresh_options[] = {
	{"auto", PEMS_REFRESH_AUTO, false},
	{"always", PEMS_REFRESH_ALWAYS, false},
	{NULL, 0, false},
};

typedef struct IntegerSetting
{
	const char *name;
	const char *description;
	int *variable;
	int minimum;
	int maximum;
	int flags;
} IntegerSetting;

/* The boot value of each is the initializer of its variable above. */
static const IntegerSetting integer_settings[] = {
	{"pems_sync.poll_interval", "Longest time between two looks at the queue.", &pems_poll_interval,
	 100, 3600000, GUC_UNIT_MS},
	{"pems_sync.batch_size", "Most items claimed at a time.", &pems_batch_size, 1, 10000, 0},
	{"pems_sync.max_in_flight", "Most requests under way at a time.", &pems_max_in_flight, 1, 1000,
	 0},
	{"pems_sync.rate_limit", "Most requests per second against one endpoint; 0 means no limit.",
	 &pems_rate_limit, 0, PEMS_LIMITER_MAX_RATE, 0},
	{"pems_sync.max_retries", "Retries of an item before it becomes a dead letter.",
	 &pems_max_retries, 0, 100, 0},
	{"pems_sync.retry_delay", "Wait before the first retry; doubled before each further one.",
	 &pems_retry_delay, 1, 3600000, GUC_UNIT_MS},
	{"pems_sync.request_timeout", "Longest time that a request may take.", &pems_request_timeout,
	 10, 3600000, GUC_UNIT_MS},
	{"pems_sync.connect_timeout", "Longest time that connecting to PEMS may take.",
	 &pems_connect_timeout, 10, 600000, GUC_UNIT_MS},
	{"pems_sync.retention",
	 "How long pems_purge() keeps what is finished, and the audit log at the least; 0 means for "
	 "ever.",
	 &pems_retention, 0, INT_MAX, GUC_UNIT_MIN},
	{"pems_sync.max_in_hand", "Memory that claimed items may take before no more are claimed.",
	 &pems_max_in_hand, 1, INT_MAX, GUC_UNIT_KB},
	{"pems_sync.max_response_size", "Largest response body that is read.", &pems_max_response_size,
	 1, 1048576, GUC_UNIT_KB},
	{"pems_sync.max_delta_size", "Largest changes of one edit that are queued.",
	 &pems_max_delta_size, 1, 1048576, GUC_UNIT_KB},
	{"pems_sync.max_record_size",
	 "Largest PFA record that edits are queued for, and compared with.", &pems_max_record_size, 1,
	 1048576, GUC_UNIT_KB},
	{"pems_sync.pull_interval",
	 "How often the worker reads by itself what has changed in PEMS; 0 means never.",
	 &pems_pull_interval, 0, 31536000, GUC_UNIT_S},
	{"pems_sync.pull_page_size", "Records that PEMS is asked for in one page of a pull.",
	 &pems_pull_page_size, 1, 5000, 0},
	{"pems_sync.pull_overlap", "How far a delta pull looks back before the watermark.",
	 &pems_pull_overlap, 0, 31536000, GUC_UNIT_S},
	{"pems_sync.pull_max_missing",
	 "Percentage of an organization's records that a full pull may miss and still mark as deleted.",
	 &pems_pull_max_missing, 0, 100, 0},
	{"pems_sync.pull_max_response_size", "Largest page of a pull that is read.",
	 &pems_pull_max_response_size, 1, 1048576, GUC_UNIT_KB},
};

typedef struct StringSetting
{
	const char *name;
	const char *description;
	char **variable;
	int flags;
} StringSetting;

static const StringSetting string_settings[] = {
	{"pems_sync.key_file", "File with the keys that open API credentials.", &pems_key_file,
	 GUC_SUPERUSER_ONLY},
	{"pems_sync.ca_file",
	 "File with the certificates of the authorities that PEMS's certificate may come from; empty "
	 "means the system's.",
	 &pems_ca_file, GUC_SUPERUSER_ONLY},
	{"pems_sync.allowed_hosts", "Hosts that an api_url may name; empty means none.",
	 &pems_allowed_hosts, GUC_LIST_INPUT | GUC_SUPERUSER_ONLY},
};

static void
define_integers(void)
{
	for (int i = 0; i < (int) lengthof(integer_settings); i++)
	{
		const IntegerSetting *s = &integer_settings[i];

		DefineCustomIntVariable(s->name, s->description, NULL, s->variable, *s->variable,
								s->minimum, s->maximum, PGC_SIGHUP, s->flags, NULL, NULL, NULL);
	}
}

static void
define_strings(void)
{
	for (int i = 0; i < (int) lengthof(string_settings); i++)
	{
		const StringSetting *s = &string_settings[i];

		DefineCustomStringVariable(s->name, s->description, NULL, s->variable, "", PGC_SIGHUP,
								   s->flags, NULL, NULL, NULL);
	}

	/* Workers are registered at server start; a backend that loads the library later has none. */
	if (process_shared_preload_libraries_in_progress)
		DefineCustomStringVariable(
			"pems_sync.databases", "Databases that have a pems_sync worker, comma-separated.", NULL,
			&pems_databases, "", PGC_POSTMASTER, GUC_LIST_INPUT, NULL, NULL, NULL);
}

/*
 * pems_settings_define
 *		Tell the server about the settings.  Called once, when the library is loaded.
 */
void
pems_settings_define(void)
{
	define_integers();
	define_strings();
	DefineCustomBoolVariable("pems_sync.enabled", "Send edits to PEMS; off: the queue only grows.",
							 NULL, &pems_enabled, pems_enabled, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("pems_sync.allow_insecure_loopback",
							 "Allow http and addresses of this machine; for tests.", NULL,
							 &pems_allow_insecure_loopback, pems_allow_insecure_loopback,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("pems_sync.refresh_after_write",
							 "When a record is read again after it was written.", NULL,
							 &pems_refresh_after_write, pems_refresh_after_write, refresh_options,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	/* Functions of ours set this one (guard.c); the others come from the configuration. */
	DefineCustomBoolVariable(
		"pems_sync.guarded", "Refuse functions that belong to others.", NULL, &pems_guarded, false,
		PGC_SUSET, GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE, NULL, NULL, NULL);
	pems_reserve_prefix("pems_sync");
}
