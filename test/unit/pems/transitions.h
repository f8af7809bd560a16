/*
 * pems/transitions.h
 *		What the tests of transitions share.
 */
#ifndef TRANSITIONS_H
#define TRANSITIONS_H

#include "pems/transition.h"

/* A write on version 3 of a known record, no retries used, nothing unknown. */
static inline PemsTransitionInput
a_write(void)
{
	return (PemsTransitionInput){.step = PEMS_STEP_WRITE,
								 .record_known = true,
								 .max_retries = 3,
								 .sent_version = 3,
								 .retry_delay_ms = 5000,
								 .jitter = 0.5};
}

static inline PemsTransitionInput
a_read(PemsStep step)
{
	PemsTransitionInput input = a_write();

	input.step = step;
	return input;
}

static inline PemsTransition
after(const PemsTransitionInput *input, PemsOutcome outcome)
{
	PemsTransition transition;

	pems_transition_after(input, &outcome, &transition);
	return transition;
}

static inline PemsOutcome
outcome(PemsOutcomeClass class)
{
	return (PemsOutcome){.class = class};
}

#endif /* TRANSITIONS_H */
