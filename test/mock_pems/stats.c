/*
 * stats.c
 *		Counts and rates, for GET /_control/stats.
 */
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "stats.h"
#include "text.h"

static const char *const call_names[MOCK_CALL_COUNT] = {"update", "delete", "read",
														"list",   "health", "unknown"};

const char *
mock_call_name(MockCall call)
{
	return call_names[call];
}

void
mock_stats_initialize(MockStats *stats)
{
	memset(stats, 0, sizeof(*stats));
	pthread_mutex_init(&stats->lock, NULL);
}

static void
clear_organization(MockOrganization *organization, void *context)
{
	(void) context;
	mock_rate_clear(&organization->rate);
	organization->requests = 0;
}

/* What is open or in progress now is so after a reset, too. */
void
mock_stats_clear(MockStats *stats, MockStore *store)
{
	pthread_mutex_lock(&stats->lock);
	mock_rate_clear(&stats->rate);
	stats->requests = 0;
	memset(stats->by_call, 0, sizeof(stats->by_call));
	memset(stats->by_status, 0, sizeof(stats->by_status));
	stats->most_in_progress = stats->in_progress;
	stats->changes = 0;
	stats->connections_accepted = 0;
	stats->connections_used = 0;
	mock_store_each_organization(store, clear_organization, NULL);
	pthread_mutex_unlock(&stats->lock);
}

void
mock_stats_arrive(MockStats *stats, MockOrganization *organization, MockCall call,
				  int64_t *monotonic_us, int64_t *wall_us)
{
	pthread_mutex_lock(&stats->lock);
	*monotonic_us = mock_clock_monotonic_us();
	*wall_us = mock_clock_wall_us();
	stats->requests++;
	stats->by_call[call]++;
	mock_rate_add(&stats->rate, *monotonic_us);
	if (organization != NULL)
	{
		organization->requests++;
		mock_rate_add(&organization->rate, *monotonic_us);
	}
	stats->in_progress++;
	if (stats->in_progress > stats->most_in_progress)
		stats->most_in_progress = stats->in_progress;
	pthread_mutex_unlock(&stats->lock);
}

void
mock_stats_leave(MockStats *stats, int status)
{
	pthread_mutex_lock(&stats->lock);
	stats->in_progress--;
	if (status >= 0 && status < MOCK_STATS_STATUS_COUNT)
		stats->by_status[status]++;
	pthread_mutex_unlock(&stats->lock);
}

static void
describe_requests(const MockStats *stats, JsonBuffer *out)
{
	char status[16];

	mock_text_add_integer(out, "total", stats->requests);
	mock_text_add_integer(out, "maxPerSecond", stats->rate.peak);
	mock_text_key(out, "byCall");
	pems_json_append_text(out, "{");
	for (int call = 0; call < MOCK_CALL_COUNT; call++)
		mock_text_add_integer(out, call_names[call], stats->by_call[call]);
	pems_json_append_text(out, "}");
	mock_text_key(out, "byStatus");
	pems_json_append_text(out, "{");
	for (int i = 0; i < MOCK_STATS_STATUS_COUNT; i++)
	{
		if (stats->by_status[i] == 0)
			continue;
		snprintf(status, sizeof(status), "%d", i);
		mock_text_add_integer(out, status, stats->by_status[i]);
	}
	pems_json_append_text(out, "}");
}

static void
describe_organization(MockOrganization *organization, void *context)
{
	JsonBuffer *out = context;

	mock_text_comma(out);
	mock_text_string(out, organization->code);
	pems_json_append_text(out, ":{");
	mock_text_add_integer(out, "requests", organization->requests);
	mock_text_add_integer(out, "maxPerSecond", organization->rate.peak);
	pthread_mutex_lock(&organization->lock);
	mock_text_add_integer(out, "records", (int64_t) organization->record_count);
	pthread_mutex_unlock(&organization->lock);
	pems_json_append_text(out, "}");
}

void
mock_stats_describe(MockStats *stats, MockStore *store, JsonBuffer *out)
{
	pthread_mutex_lock(&stats->lock);
	mock_text_key(out, "requests");
	pems_json_append_text(out, "{");
	describe_requests(stats, out);
	pems_json_append_text(out, "}");
	mock_text_key(out, "organizations");
	pems_json_append_text(out, "{");
	mock_store_each_organization(store, describe_organization, out);
	pems_json_append_text(out, "}");
	mock_text_add_integer(out, "changes", stats->changes);
	mock_text_key(out, "inProgress");
	pems_json_append_text(out, "{");
	mock_text_add_integer(out, "now", stats->in_progress);
	mock_text_add_integer(out, "most", stats->most_in_progress);
	pems_json_append_text(out, "}");
	mock_text_key(out, "connections");
	pems_json_append_text(out, "{");
	mock_text_add_integer(out, "accepted", stats->connections_accepted);
	mock_text_add_integer(out, "open", stats->connections_open);
	mock_text_add_integer(out, "used", stats->connections_used);
	pems_json_append_text(out, "}");
	pthread_mutex_unlock(&stats->lock);
}
