/*
 * curl_limit.c
 *		How fast libcurl's multi interface sends the PUT of the example, with no database behind it:
 *		the limit of line 1 of the benchmark.
 *
 *	curl_limit API_URL TOKEN SET COUNT IN_FLIGHT
 *
 * Sends one PUT to each of the records SET-1 to SET-COUNT, IN_FLIGHT at a time over as many
 * connections, and prints the number per second.  Status 1 when any of them was not answered with
 * 200.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* One request of those under way; used again for the next one. */
typedef struct Slot
{
	CURL *easy;
	struct curl_slist *headers;
	char body[512];
} Slot;

static const char *api_url, *set_name;
static char authorization[256];
static int count, started, finished, failed;

static size_t
ignore_body(char *bytes, size_t size, size_t n, void *nobody)
{
	(void) bytes;
	(void) nobody;
	return size * n;
}

static double
seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

static void
start_next(CURLM *multi, Slot *slot)
{
	char text[512];
	int number = ++started;

	snprintf(
		slot->body, sizeof(slot->body),
		"{\"pfaId\": \"%s-%d\", \"organizationCode\": \"ORG1\", \"changes\": {\"forecastStart\": "
		"\"2025-01-15T00:00:00Z\", \"forecastEnd\": \"2025-06-30T00:00:00Z\", \"monthlyRate\": "
		"5500.00, \"dor\": \"PROJECT\"}, \"version\": 3, \"modifiedBy\": \"john.doe@example.com\", "
		"\"changeReason\": \"Budget reallocation\"}",
		set_name, number);
	curl_slist_free_all(slot->headers);
	slot->headers = curl_slist_append(NULL, "Content-Type: application/json");
	slot->headers = curl_slist_append(slot->headers, authorization);
	snprintf(text, sizeof(text), "Idempotency-Key: %s-%d:3", set_name, number);
	slot->headers = curl_slist_append(slot->headers, text);
	snprintf(text, sizeof(text), "%s/pems/pfa/%s-%d", api_url, set_name, number);
	curl_easy_setopt(slot->easy, CURLOPT_URL, text);
	curl_easy_setopt(slot->easy, CURLOPT_HTTPHEADER, slot->headers);
	curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDS, slot->body);
	curl_multi_add_handle(multi, slot->easy);
}

static void
open_slot(Slot *slot)
{
	slot->easy = curl_easy_init();
	slot->headers = NULL;
	curl_easy_setopt(slot->easy, CURLOPT_CUSTOMREQUEST, "PUT");
	curl_easy_setopt(slot->easy, CURLOPT_WRITEFUNCTION, ignore_body);
	curl_easy_setopt(slot->easy, CURLOPT_PRIVATE, slot);
	curl_easy_setopt(slot->easy, CURLOPT_PROXY, "");
}

static void
collect(CURLM *multi)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		CURL *easy = message->easy_handle;
		CURLcode result = message->data.result;
		Slot *slot;
		long status = 0;

		curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &slot);
		curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
		if (result != CURLE_OK || status != 200)
			failed++;
		finished++;
		curl_multi_remove_handle(multi, easy);
		if (started < count)
			start_next(multi, slot);
	}
}

int
main(int argc, char **argv)
{
	int in_flight;
	Slot *slots;
	CURLM *multi;
	double begin;

	if (argc != 6)
	{
		fprintf(stderr, "usage: curl_limit API_URL TOKEN SET COUNT IN_FLIGHT\n");
		return 2;
	}
	api_url = argv[1];
	snprintf(authorization, sizeof(authorization), "Authorization: Bearer %s", argv[2]);
	set_name = argv[3];
	count = atoi(argv[4]);
	in_flight = atoi(argv[5]);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	multi = curl_multi_init();
	slots = calloc((size_t) in_flight, sizeof(Slot));
	begin = seconds_now();
	for (int i = 0; i < in_flight && i < count; i++)
	{
		open_slot(&slots[i]);
		start_next(multi, &slots[i]);
	}
	while (finished < count)
	{
		int running;

		curl_multi_perform(multi, &running);
		collect(multi);
		if (running > 0)
			curl_multi_poll(multi, NULL, 0, 100, NULL);
	}
	printf("%.1f\n", count / (seconds_now() - begin));
	if (failed > 0)
		fprintf(stderr, "%d of %d failed\n", failed, count);
	free(slots);
	return failed > 0 ? 1 : 0;
}
