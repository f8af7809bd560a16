/*
 * session/health.c
 *		A health check that a session asks for, and the worker makes.
 *
 * Process: any backend.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "record/json.h"
#include "sending/health.h"
#include "session/values.h"

PG_FUNCTION_INFO_V1(pems_api_health_check);

/*
 * pems_api_health_check(organization_id): _pems_ask_worker()
 *		Asks the worker for a health check and waits for it: not longer than pems_health_ask()
 *		(sending/health.h) says.  The wait can be cancelled.
 *
 * Returns: {healthy, latency, error}; latency in milliseconds, null when PEMS did not answer; error
 * only when not healthy, also when there is no worker.
 */
Datum
pems_api_health_check(PG_FUNCTION_ARGS)
{
	PemsHealthAnswer answer;
	JsonBuffer buffer = {0};

	pems_health_ask(text_to_cstring(PG_GETARG_TEXT_PP(0)), &answer);
	pems_json_append_text(&buffer, answer.healthy ? "{\"healthy\":true" : "{\"healthy\":false");
	pems_json_append_text(&buffer, ",\"latency\":");
	pems_json_append_text(&buffer, answer.latency_us < 0
									   ? "null"
									   : psprintf("%.3f", (double) answer.latency_us / 1000));
	if (!answer.healthy)
		pems_value_append_member(&buffer, "error", answer.error);
	pems_json_append_text(&buffer, "}");
	PG_RETURN_DATUM(pems_value_from_buffer(&buffer));
}
