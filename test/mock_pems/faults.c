/*
 * faults.c
 *		What goes wrong on purpose: the list of rules, and which of them fires.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "faults.h"
#include "memory.h"
#include "text.h"

void
mock_faults_initialize(MockFaults *faults)
{
	memset(faults, 0, sizeof(*faults));
	pthread_mutex_init(&faults->lock, NULL);
	faults->next_id = 1;
}

const char *
mock_faults_add(MockFaults *faults, MockFault *fault)
{
	MockFault **link = &faults->first;
	char id[40];

	pthread_mutex_lock(&faults->lock);
	if (fault->id == NULL)
	{
		snprintf(id, sizeof(id), "fault-%lld", (long long) faults->next_id++);
		fault->id = mock_memory_copy(id);
	}
	while (*link != NULL)
		link = &(*link)->next;
	*link = fault;
	fault->references = 1;
	faults->count++;
	pthread_mutex_unlock(&faults->lock);
	return fault->id;
}

static void
free_list_effect(MockListEffect *effect)
{
	MockRecordText *next;

	for (MockRecordText *text = effect->texts; text != NULL; text = next)
	{
		next = text->next;
		free(text->pfa_id);
		free(text->text);
		free(text);
	}
	free(effect->next_cursor);
}

static void
free_fault(MockFault *fault)
{
	MockHeader *next;

	for (MockHeader *header = fault->effect.headers; header != NULL; header = next)
	{
		next = header->next;
		free(header->name);
		free(header->value);
		free(header);
	}
	free(fault->organization_code);
	free(fault->pfa_id);
	free(fault->method);
	free(fault->id);
	free(fault->name);
	free(fault->problem);
	free_list_effect(&fault->effect.list);
	free(fault->effect.then_edit);
	free(fault->effect.body);
	free(fault->effect.error);
	free(fault->effect.redirect);
	free(fault->effect.retry_after);
	free(fault);
}

void
mock_faults_release(MockFault *fault)
{
	if (fault != NULL && --fault->references == 0)
		free_fault(fault);
}

void
mock_faults_note(MockFaults *faults, MockFault *fault, const char *problem)
{
	pthread_mutex_lock(&faults->lock);
	free(fault->problem);
	fault->problem = mock_memory_copy(problem);
	pthread_mutex_unlock(&faults->lock);
}

int
mock_faults_clear(MockFaults *faults, const char *id)
{
	MockFault **link = &faults->first;
	int removed = 0;

	pthread_mutex_lock(&faults->lock);
	while (*link != NULL)
	{
		MockFault *fault = *link;

		if (id != NULL && strcmp(fault->id, id) != 0)
		{
			link = &fault->next;
			continue;
		}
		*link = fault->next;
		mock_faults_release(fault);
		removed++;
	}
	faults->count -= removed;
	pthread_mutex_unlock(&faults->lock);
	return removed;
}

static bool
same(const char *wanted, const char *actual)
{
	return wanted == NULL || (actual != NULL && strcmp(wanted, actual) == 0);
}

static bool
matches(const MockFault *fault, const MockFaultSubject *subject)
{
	return (fault->call < 0 || fault->call == (int) subject->call) &&
		   (fault->page < 0 || fault->page == subject->page) &&
		   (fault->from_page < 0 || (subject->page > 0 && fault->from_page <= subject->page)) &&
		   same(fault->method, subject->method) && same(fault->pfa_id, subject->pfa_id) &&
		   same(fault->organization_code, subject->organization_code);
}

/* A number in [0, 1): splitmix64, so that a seed gives the same throws everywhere. */
static double
throw_die(uint64_t *state)
{
	uint64_t mixed = (*state += UINT64_C(0x9E3779B97F4A7C15));

	mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94D049BB133111EB);
	mixed ^= mixed >> 31;
	return (double) (mixed >> 11) * 0x1p-53;
}

static bool
fires(MockFault *fault)
{
	if (++fault->matched <= fault->after)
		return false;
	if (fault->count >= 0 && fault->fired >= fault->count)
		return false;
	if (fault->probability < 1.0 && throw_die(&fault->random) >= fault->probability)
		return false;
	fault->fired++;
	return true;
}

MockFault *
mock_faults_pick(MockFaults *faults, const MockFaultSubject *subject)
{
	MockFault *fault;

	if (faults->count == 0)
		return NULL;
	pthread_mutex_lock(&faults->lock);
	for (fault = faults->first; fault != NULL; fault = fault->next)
	{
		if (matches(fault, subject) && fires(fault))
		{
			fault->references++;
			break;
		}
	}
	pthread_mutex_unlock(&faults->lock);
	return fault;
}

void
mock_faults_describe(MockFaults *faults, JsonBuffer *out)
{
	pthread_mutex_lock(&faults->lock);
	pems_json_append_text(out, "[");
	for (const MockFault *fault = faults->first; fault != NULL; fault = fault->next)
	{
		mock_text_comma(out);
		pems_json_append_text(out, "{");
		mock_text_add_string(out, "id", fault->id);
		mock_text_add_string(out, "fault", fault->name);
		mock_text_add_integer(out, "matched", fault->matched);
		mock_text_add_integer(out, "fired", fault->fired);
		mock_text_add_string(out, "problem", fault->problem);
		pems_json_append_text(out, "}");
	}
	pems_json_append_text(out, "]");
	pthread_mutex_unlock(&faults->lock);
}
