/*
 * pems/judge_failure.c
 *		What an answer means whose status is no success; see judging.h.
 *
 * Process: any; pure, without PostgreSQL, I/O or a clock of its own.
 */
#include "pems/judging.h"

#include <string.h>
#include <strings.h>

static bool
has_prefix(const char *text, const char *prefix)
{
	return strncasecmp(text, prefix, strlen(prefix)) == 0;
}

/*
 * Does a 403 shut out the organization, not just this record?  It does when its
 * error names the organization, or when the body names an organization and no
 * record.
 */
static bool
speaks_of_organization(const Judge *judge)
{
	const JsonNode *error = pems_judge_body_text(judge, "error");

	if (error != NULL &&
		(has_prefix(error->text, "ORGANIZATION") || has_prefix(error->text, "ORGANISATION") ||
		 has_prefix(error->text, "TENANT")))
		return true;
	return pems_judge_body_text(judge, "organizationCode") != NULL &&
		   pems_judge_body_text(judge, "pfaId") == NULL;
}

static void
judge_forbidden(Judge *judge)
{
	if (speaks_of_organization(judge))
		pems_judge_decide(judge, PEMS_OUTCOME_CREDENTIAL, "FORBIDDEN");
	else
		pems_judge_decide(judge, PEMS_OUTCOME_REJECTED, "FORBIDDEN");
}

/* PEMS has another version than the write builds on; it may say which. */
static void
decide_version(Judge *judge)
{
	(void) pems_judge_body_version(judge, "currentVersion", 1, &judge->outcome->current_version);
	pems_judge_decide(judge, PEMS_OUTCOME_VERSION, "VERSION_CONFLICT");
}

/*
 * A 409 that says something else than VERSION_CONFLICT is PEMS's own trouble.
 * One that says nothing is taken for what a 409 of this protocol is: a sign to look.
 */
static void
judge_conflict(Judge *judge)
{
	const JsonNode *error = pems_judge_body_text(judge, "error");

	if (!pems_judge_is_write(judge))
		pems_judge_decide(judge, PEMS_OUTCOME_TRANSIENT, "CONFLICT");
	else if (error == NULL || strcasecmp(error->text, "VERSION_CONFLICT") == 0)
		decide_version(judge);
	else
		pems_judge_decide(judge, PEMS_OUTCOME_TRANSIENT, "CONFLICT");
}

/* A record is not there; or a path, of a call that is about no record. */
static void
judge_not_found(Judge *judge)
{
	PemsCall call = judge->asked->call;
	bool is_about_record = call != PEMS_CALL_HEALTH && call != PEMS_CALL_LIST;

	pems_judge_decide(judge, is_about_record ? PEMS_OUTCOME_GONE : PEMS_OUTCOME_REJECTED,
					  "NOT_FOUND");
}

/*
 * A listing that PEMS does not go on with: its cursor was too old, or from before a restart.  What
 * else may be wrong in the request is told when the listing is begun again, without a cursor.
 */
static bool
refuses_cursor(const Judge *judge, int status)
{
	return judge->asked->call == PEMS_CALL_LIST && judge->asked->has_cursor &&
		   (status == 400 || status == 404 || status == 410);
}

/* Statuses whose meaning depends on nothing else. */
static const struct
{
	int status;
	PemsOutcomeClass class;
	const char *error_code;
	bool endpoint_fault;
} plain_failures[] = {
	{401, PEMS_OUTCOME_CREDENTIAL, "UNAUTHORIZED", false},
	{408, PEMS_OUTCOME_TRANSIENT, "TIMEOUT", false},
	/* this connection's trouble, not the endpoint's */
	{421, PEMS_OUTCOME_TRANSIENT, "UNAVAILABLE", false},
	/* somebody has the record locked in PEMS */
	{423, PEMS_OUTCOME_TRANSIENT, "CONFLICT", false},
	{425, PEMS_OUTCOME_TRANSIENT, "UNAVAILABLE", false},
	{502, PEMS_OUTCOME_TRANSIENT, "UNAVAILABLE", true},
	{503, PEMS_OUTCOME_TRANSIENT, "UNAVAILABLE", true},
	{504, PEMS_OUTCOME_TRANSIENT, "UNAVAILABLE", true},
};

/* A status that is not in the table, by its hundreds. */
static void
judge_other_failure(Judge *judge, int status)
{
	if (status >= 300 && status < 400)
		pems_judge_decide(judge, PEMS_OUTCOME_REJECTED, "REDIRECT");
	else if (status >= 400 && status < 500)
		pems_judge_decide(judge, PEMS_OUTCOME_REJECTED, "INVALID_REQUEST");
	else
	{
		/* RFC 9110, 15: a status outside of 100 to 599 counts as a server error. */
		pems_judge_heed_retry_after(judge, false);
		pems_judge_decide(judge, PEMS_OUTCOME_TRANSIENT, "SERVER_ERROR");
	}
}

static void
judge_plain_failure(Judge *judge, int status)
{
	for (size_t i = 0; i < sizeof(plain_failures) / sizeof(plain_failures[0]); i++)
	{
		if (plain_failures[i].status != status)
			continue;
		if (plain_failures[i].endpoint_fault)
			pems_judge_heed_retry_after(judge, false);
		pems_judge_decide(judge, plain_failures[i].class, plain_failures[i].error_code);
		judge->outcome->endpoint_fault = plain_failures[i].endpoint_fault;
		return;
	}
	judge_other_failure(judge, status);
}

void
pems_judge_failure(Judge *judge, int status)
{
	if (refuses_cursor(judge, status))
	{
		pems_judge_decide(judge, PEMS_OUTCOME_CURSOR_REFUSED, "CURSOR_REFUSED");
		return;
	}
	switch (status)
	{
		case 403:
			judge_forbidden(judge);
			break;
		case 404:
		case 410:
			judge_not_found(judge);
			break;
		case 409:
			judge_conflict(judge);
			break;
		case 412:
			if (pems_judge_is_write(judge))
				decide_version(judge);
			else
				pems_judge_decide(judge, PEMS_OUTCOME_REJECTED, "INVALID_REQUEST");
			break;
		case 429:
			pems_judge_heed_retry_after(judge, true);
			pems_judge_decide(judge, PEMS_OUTCOME_THROTTLED, "RATE_LIMITED");
			break;
		default:
			judge_plain_failure(judge, status);
			break;
	}
}
