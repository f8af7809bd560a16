/*
 * session/credential.c
 *		Before a credential is stored: may its URL be used, and which key is it sealed to.
 *
 * Process: any backend.  Memory: what is malloc'ed for us is freed before an ERROR is raised.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "pems/api_url.h"
#include "record/json.h"
#include "secrets/key_file.h"
#include "session/values.h"
#include "shared/settings.h"

PG_FUNCTION_INFO_V1(pems_api_check_api_url);
PG_FUNCTION_INFO_V1(pems_api_public_key);

/*
 * pems_api_check_api_url(api_url): _pems_check_api_url()
 *		May a credential with this URL be stored?  It depends on pems_sync.allowed_hosts and
 *		pems_sync.allow_insecure_loopback.
 *
 * Returns: the endpoint: scheme://host:port.
 * Errors: 22023 with the reason when it may not.
 */
Datum
pems_api_check_api_url(PG_FUNCTION_ARGS)
{
	char *url = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char *problem = NULL;
	const char *hint = NULL;
	char *endpoint;

	if (!pems_api_url_check(url, pems_allowed_hosts ? pems_allowed_hosts : "",
							pems_allow_insecure_loopback, &problem, &hint))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("api_url may not be used"),
				 errdetail("%s", pems_value_move_text(problem)), hint ? errhint("%s", hint) : 0));
	endpoint = pems_api_url_endpoint(url);
	if (endpoint == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("api_url may not be used"),
						errdetail("It is not a URL."), errhint("Use https://host/path.")));
	PG_RETURN_TEXT_P(cstring_to_text(pems_value_move_text(endpoint)));
}

/*
 * pems_api_public_key(): pems_public_key()
 *		The key of pems_sync.key_file that new credentials are sealed to.
 *
 * Returns: {keyId, publicKey}, the key in base64.
 * Errors: 55000 when the key file is missing, not private or no key file; XX000 when libsodium
 * cannot be initialized.
 */
Datum
pems_api_public_key(PG_FUNCTION_ARGS)
{
	PemsKeyring *keyring = NULL;
	PemsKeyState state;
	const char *public_key;
	const char *key_id;
	char problem[512];
	JsonBuffer buffer = {0};

	if (!pems_secrets_initialize())
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not initialize cryptography")));
	state = pems_secrets_read_keyring(pems_key_file, &keyring, problem, sizeof(problem));
	if (state != PEMS_KEY_OK)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the key file cannot be used"), errdetail("%s", problem),
						errhint("%s", pems_secrets_key_hint(state))));
	key_id = pems_secrets_current_key(keyring, &public_key);
	pems_json_append_text(&buffer, "{");
	pems_value_append_member(&buffer, "keyId", key_id);
	pems_value_append_member(&buffer, "publicKey", public_key);
	pems_json_append_text(&buffer, "}");
	pems_secrets_free_keyring(keyring);
	PG_RETURN_DATUM(pems_value_from_buffer(&buffer));
}
