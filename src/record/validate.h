/*
 * record/validate.h
 *		Checks a delta against the field catalogue and the business rules.
 *
 * Pure.  Used by pems_validate(), by pems_commit() through _pems_delta_problem(),
 * and by the worker after a merge.
 */
#ifndef PEMS_VALIDATE_H
#define PEMS_VALIDATE_H

#include "record/field.h"

typedef enum PemsVerdict
{
	PEMS_VERDICT_VALID,
	PEMS_VERDICT_EMPTY_DELTA,   /* {} , null */
	PEMS_VERDICT_NOT_AN_OBJECT, /* array, string ...: VALIDATION_FAILED outside */
	PEMS_VERDICT_UNKNOWN_FIELD,
	PEMS_VERDICT_READ_ONLY_FIELD,
	PEMS_VERDICT_VALIDATION_FAILED
} PemsVerdict;

typedef struct PemsFindings
{
	PemsVerdict verdict; /* the first class in the order above that applies */
	char **errors;       /* malloc'ed sentences, all of them, in catalogue order within a class */
	size_t count;
	bool failed; /* out of memory */
} PemsFindings;

/*
 * Check delta (may be NULL = SQL NULL) on top of current (may be NULL: nothing
 * known yet).  A rule speaks only when the delta touches one of its fields, and
 * is judged on current with delta on top.  Messages are fixed by the API:
 *
 *	"there are no changes"					"changes must be an object"
 *	"<name> is not a known field"			"<name> is read-only"
 *	"<name> must be a number" (and so on; text: "<name> must be text")
 *	"<Label> must be after <label of the other>"	Forecast end must be after forecast start
 *	"<Label> required for <required_label>"	Monthly rate required for rentals
 *	"<Label> must be A or B"					DOR must be BEO or PROJECT (three: A, B or C)
 *	"<Label> must be positive"				minimum 0: error below 0
 *	"<Label> must be at least <minimum>"		any other minimum
 *	"<Label> must be less than 500 characters"	error above max_length
 *
 * The other label loses its capital only when its second letter is lower case ("forecast
 * start", but "DOR").  A field of the wrong type gives its type error only, and no rule uses it.
 * null, missing and "" count as "no value" for required; the other rules skip fields with no value.
 * A wrong type in current is not the delta's fault: no error, and no rule uses the value.
 */
extern void pems_validate_delta(const PemsCatalogue *catalogue, const JsonNode *delta,
								const JsonNode *current, PemsFindings *findings);
extern void pems_validate_free(PemsFindings *findings);
/* "VALIDATION_FAILED", "EMPTY_DELTA" ...; NULL for valid. */
extern const char *pems_validate_code(PemsVerdict verdict);

#endif /* PEMS_VALIDATE_H */
