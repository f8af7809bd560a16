/*
 * session/setting.c
 *		The pems_sync.* settings, for SQL.
 *
 * Process: any backend.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"

PG_FUNCTION_INFO_V1(pems_api_setting);

/*
 * pems_api_setting(name): _pems_setting()
 *		A setting of ours, also where the caller's role may not see it.
 *
 * Parameters: name: without "pems_sync." before it.
 * Returns: its value as a text, numbers in the setting's own unit (ms, kB, minutes) and without it.
 * Errors: 42704 when there is no such setting.
 */
Datum
pems_api_setting(PG_FUNCTION_ARGS)
{
	char *name = psprintf("pems_sync.%s", text_to_cstring(PG_GETARG_TEXT_PP(0)));
	const char *value = GetConfigOption(name, false, false);

	PG_RETURN_TEXT_P(cstring_to_text(value));
}
