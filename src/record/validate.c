/*
 * record/validate.c
 *		Judges a delta by the field catalogue; see validate.h for the messages.
 *
 * Pure; runs in backends (pems_commit, pems_validate), in the worker after a
 * merge, and in tests.  There is no list of PFA fields here: what is known about
 * them stands in the catalogue.
 */
#include "record/validate.h"

#include <stdio.h>
#include <string.h>

#include "record/number.h"
#include "record/text.h"
#include "record/text_list.h"

/* One delta: what is asked for, and what has been found so far. */
typedef struct Validation
{
	const PemsCatalogue *catalogue;
	const JsonNode *delta;
	const JsonNode *current;
	PemsFindings *findings;
} Validation;

const char *
pems_validate_code(PemsVerdict verdict)
{
	switch (verdict)
	{
		case PEMS_VERDICT_VALID:
			return NULL;
		case PEMS_VERDICT_EMPTY_DELTA:
			return "EMPTY_DELTA";
		case PEMS_VERDICT_UNKNOWN_FIELD:
			return "UNKNOWN_FIELD";
		case PEMS_VERDICT_READ_ONLY_FIELD:
			return "READ_ONLY_FIELD";
		case PEMS_VERDICT_NOT_AN_OBJECT:
		case PEMS_VERDICT_VALIDATION_FAILED:
			return "VALIDATION_FAILED";
	}
	return NULL;
}

/* ---------- messages ---------- */

/* Add the sentence to the findings, which own it then; the first class found is the verdict. */
static void
report(Validation *validation, PemsVerdict verdict, JsonBuffer *sentence)
{
	PemsFindings *findings = validation->findings;

	if (findings->verdict == PEMS_VERDICT_VALID)
		findings->verdict = verdict;
	if (sentence->failed)
	{
		pems_json_buffer_free(sentence);
		findings->failed = true;
		return;
	}
	if (!text_list_add(&findings->errors, &findings->count, sentence->data))
		findings->failed = true;
}

/* A sentence of up to three parts. */
static void
report_words(Validation *validation, PemsVerdict verdict, const char *subject, const char *words,
			 const char *object)
{
	JsonBuffer sentence = {0};

	pems_json_append_text(&sentence, subject);
	pems_json_append_text(&sentence, words);
	pems_json_append_text(&sentence, object);
	report(validation, verdict, &sentence);
}

static void
break_rule(Validation *validation, const PemsField *field, const char *words, const char *object)
{
	report_words(validation, PEMS_VERDICT_VALIDATION_FAILED, field->label, words, object);
}

static bool
is_upper(char c)
{
	return c >= 'A' && c <= 'Z';
}

static bool
is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

/* "<Label> must be after <other>", where only a word, not an abbreviation, loses its capital. */
static void
report_not_after(Validation *validation, const PemsField *field, const char *other)
{
	JsonBuffer sentence = {0};
	char first = other[0];

	if (is_upper(first) && is_lower(other[1]))
	{
		first = (char) (first - 'A' + 'a');
		other++;
	}
	else
		first = '\0';
	pems_json_append_text(&sentence, field->label);
	pems_json_append_text(&sentence, " must be after ");
	if (first)
		pems_json_append(&sentence, &first, 1);
	pems_json_append_text(&sentence, other);
	report(validation, PEMS_VERDICT_VALIDATION_FAILED, &sentence);
}

/* "<Label> must be A, B or C" */
static void
report_not_allowed(Validation *validation, const PemsField *field)
{
	JsonBuffer sentence = {0};
	const JsonNode *value;

	pems_json_append_text(&sentence, field->label);
	pems_json_append_text(&sentence, " must be ");
	for (value = field->allowed->first; value; value = value->next)
	{
		if (value != field->allowed->first)
			pems_json_append_text(&sentence, value->next ? ", " : " or ");
		if (value->kind == JSON_KIND_STRING)
			pems_json_append(&sentence, value->text, value->length);
		else
			pems_json_append_node(&sentence, value);
	}
	report(validation, PEMS_VERDICT_VALIDATION_FAILED, &sentence);
}

static void
report_too_long(Validation *validation, const PemsField *field)
{
	char limit[32];

	snprintf(limit, sizeof(limit), "%ld characters", field->max_length);
	break_rule(validation, field, " must be less than ", limit);
}

/* ---------- values of the record as it would become ---------- */

static bool
touches(const Validation *validation, const char *name)
{
	return pems_json_get(validation->delta, name) != NULL;
}

static const JsonNode *
value_of(const Validation *validation, const char *name)
{
	const JsonNode *value = pems_json_get(validation->delta, name);

	return value ? value : pems_json_get(validation->current, name);
}

static bool
has_value(const JsonNode *value)
{
	if (value == NULL || value->kind == JSON_KIND_NULL)
		return false;
	return value->kind != JSON_KIND_STRING || value->length > 0;
}

/* The field's value when there is one that its rules can judge, else NULL. */
static const JsonNode *
value_for_rules(const Validation *validation, const PemsField *field)
{
	const JsonNode *value = value_of(validation, field->name);

	return has_value(value) && pems_field_accepts(field, value) ? value : NULL;
}

/* ---------- the rules ---------- */

static void
check_required(Validation *validation, const PemsField *field)
{
	const PemsField *trigger;
	const JsonNode *value;

	if (field->required_field == NULL ||
		(!touches(validation, field->name) && !touches(validation, field->required_field)))
		return;
	trigger = pems_field_find(validation->catalogue, field->required_field);
	value = value_of(validation, field->required_field);
	if (value == NULL || (trigger && !pems_field_accepts(trigger, value)) ||
		!pems_field_equal(trigger, value, field->required_equals))
		return;
	if (!has_value(value_of(validation, field->name)))
		break_rule(validation, field, " required for ", field->required_label);
}

static void
check_after(Validation *validation, const PemsField *field)
{
	const PemsField *other;
	PemsInstant instant;
	PemsInstant earlier;

	if (field->after == NULL ||
		(!touches(validation, field->name) && !touches(validation, field->after)))
		return;
	other = pems_field_find(validation->catalogue, field->after);
	if (other == NULL || !pems_field_instant(field, value_for_rules(validation, field), &instant) ||
		!pems_field_instant(other, value_for_rules(validation, other), &earlier))
		return;
	if (pems_calendar_compare(&instant, &earlier) <= 0)
		report_not_after(validation, field, other->label);
}

static void
check_allowed(Validation *validation, const PemsField *field, const JsonNode *value)
{
	const JsonNode *allowed;

	if (field->allowed == NULL)
		return;
	for (allowed = field->allowed->first; allowed; allowed = allowed->next)
	{
		if (pems_field_equal(field, value, allowed))
			return;
	}
	report_not_allowed(validation, field);
}

static void
check_minimum(Validation *validation, const PemsField *field, const JsonNode *value)
{
	if (field->minimum == NULL || value->kind != JSON_KIND_NUMBER ||
		pems_number_compare(value->text, field->minimum) >= 0)
		return;
	if (pems_number_compare(field->minimum, "0") == 0)
		break_rule(validation, field, " must be positive", "");
	else
		break_rule(validation, field, " must be at least ", field->minimum);
}

static void
check_length(Validation *validation, const PemsField *field, const JsonNode *value)
{
	if (field->max_length < 0 || value->kind != JSON_KIND_STRING)
		return;
	if (pems_text_count(value->text, value->length) > (size_t) field->max_length)
		report_too_long(validation, field);
}

/* Everything that the catalogue says about one field. */
static void
check_field(Validation *validation, const PemsField *field)
{
	const JsonNode *given = pems_json_get(validation->delta, field->name);
	const JsonNode *value;

	if (given && !field->writable)
		return;
	if (given && !pems_field_accepts(field, given))
	{
		report_words(validation, PEMS_VERDICT_VALIDATION_FAILED, field->name, " must be ",
					 pems_field_type_phrase(field->type));
		return;
	}
	check_required(validation, field);
	check_after(validation, field);
	value = given ? value_for_rules(validation, field) : NULL;
	if (value)
	{
		check_allowed(validation, field, value);
		check_minimum(validation, field, value);
		check_length(validation, field, value);
	}
}

static void
check_names(Validation *validation)
{
	const JsonNode *member;
	size_t i;

	for (member = validation->delta->first; member; member = member->next)
	{
		if (pems_field_find(validation->catalogue, member->key) == NULL)
			report_words(validation, PEMS_VERDICT_UNKNOWN_FIELD, member->key,
						 " is not a known field", "");
	}
	for (i = 0; i < validation->catalogue->count; i++)
	{
		const PemsField *field = &validation->catalogue->fields[i];

		if (!field->writable && touches(validation, field->name))
			report_words(validation, PEMS_VERDICT_READ_ONLY_FIELD, field->name, " is read-only",
						 "");
	}
}

void
pems_validate_delta(const PemsCatalogue *catalogue, const JsonNode *delta, const JsonNode *current,
					PemsFindings *findings)
{
	Validation validation = {catalogue, delta, current, findings};
	size_t i;

	memset(findings, 0, sizeof(*findings));
	if (delta == NULL || delta->kind == JSON_KIND_NULL ||
		(delta->kind == JSON_KIND_OBJECT && delta->count == 0))
	{
		report_words(&validation, PEMS_VERDICT_EMPTY_DELTA, "there are no changes", "", "");
		return;
	}
	if (delta->kind != JSON_KIND_OBJECT)
	{
		report_words(&validation, PEMS_VERDICT_NOT_AN_OBJECT, "changes must be an object", "", "");
		return;
	}
	check_names(&validation);
	for (i = 0; i < catalogue->count; i++)
		check_field(&validation, &catalogue->fields[i]);
}

void
pems_validate_free(PemsFindings *findings)
{
	text_list_free(&findings->errors, &findings->count);
}
