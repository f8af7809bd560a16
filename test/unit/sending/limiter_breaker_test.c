/*
 * sending/limiter_breaker_test.c
 *		Unit tests of src/sending/limiter.c: the breaker.
 */
#include "unit.h"

#include "../../src/sending/limiter.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define MS      INT64_C(1000)
#define SECOND  INT64_C(1000000)
#define EPOCH   (INT64_C(1000) * SECOND)
#define ARRIVAL PEMS_LIMITER_ARRIVAL_US
#define WINDOW  PEMS_LIMITER_WINDOW_US

static void
fault(PemsLimiter *limiter, int64_t now)
{
	pems_limiter_end(limiter, pems_limiter_start(limiter, now), PEMS_LIMITER_FAULT, now);
}

static PemsLimiter *
open_breaker(int64_t now)
{
	PemsLimiter *limiter = pems_limiter_create(0, false, now);

	for (int i = 0; i < PEMS_BREAKER_THRESHOLD; i++)
		fault(limiter, now);
	return limiter;
}

UNIT_TEST(five_faults_in_a_row_open_the_breaker)
{
	PemsLimiter *limiter = pems_limiter_create(0, false, EPOCH);

	for (int i = 0; i < 4; i++)
		fault(limiter, EPOCH);
	pems_limiter_end(limiter, pems_limiter_start(limiter, EPOCH), PEMS_LIMITER_ANSWERED, EPOCH);
	CHECK_INT(pems_limiter_faults(limiter), 0);
	for (int i = 0; i < 4; i++)
		fault(limiter, EPOCH);
	CHECK_INT(pems_limiter_breaker(limiter, EPOCH), PEMS_BREAKER_CLOSED);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH), INT_MAX);
	/* an abandoned request neither counts nor breaks the row */
	pems_limiter_end(limiter, pems_limiter_start(limiter, EPOCH), PEMS_LIMITER_ABANDONED, EPOCH);
	fault(limiter, EPOCH);
	CHECK_INT(pems_limiter_faults(limiter), 5);
	CHECK_INT(pems_limiter_breaker(limiter, EPOCH), PEMS_BREAKER_OPEN);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH), 0);
	CHECK_INT(pems_limiter_next(limiter, EPOCH), EPOCH + 5 * SECOND);
	pems_limiter_destroy(limiter);
}

UNIT_TEST(probes_go_out_after_5_10_20_40_60_60)
{
	static const int waits[] = {5, 10, 20, 40, 60, 60, 60};
	PemsLimiter *limiter = open_breaker(EPOCH);
	int64_t now = EPOCH;

	for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++)
	{
		int64_t due = now + waits[i] * SECOND;
		uint64_t probe;

		CHECK_INT(pems_limiter_next(limiter, now), due);
		CHECK_INT(pems_limiter_capacity(limiter, due - 1), 0);
		CHECK_INT(pems_limiter_breaker(limiter, due - 1), PEMS_BREAKER_OPEN);
		CHECK_INT(pems_limiter_capacity(limiter, due), 1);
		CHECK_INT(pems_limiter_breaker(limiter, due), PEMS_BREAKER_PROBING);
		probe = pems_limiter_start(limiter, due);
		CHECK_INT(pems_limiter_capacity(limiter, due), 0);
		CHECK_INT(pems_limiter_capacity(limiter, due + 3600 * SECOND), 0);
		CHECK_INT(pems_limiter_next(limiter, due), PEMS_LIMITER_NEVER);
		CHECK_INT(pems_limiter_breaker(limiter, due), PEMS_BREAKER_PROBING);
		now = due + 2 * SECOND;
		pems_limiter_end(limiter, probe, PEMS_LIMITER_FAULT, now);
		CHECK_INT(pems_limiter_faults(limiter), 6 + (int) i);
	}
	pems_limiter_destroy(limiter);
}

UNIT_TEST(the_first_success_closes_the_breaker)
{
	PemsLimiter *limiter = open_breaker(EPOCH);
	int64_t due = EPOCH + 5 * SECOND;
	uint64_t probe = pems_limiter_start(limiter, due);

	pems_limiter_end(limiter, probe, PEMS_LIMITER_ANSWERED, due + MS);
	CHECK_INT(pems_limiter_breaker(limiter, due + MS), PEMS_BREAKER_CLOSED);
	CHECK_INT(pems_limiter_capacity(limiter, due + MS), INT_MAX);
	CHECK_INT(pems_limiter_faults(limiter), 0);
	/* the next outage begins with five seconds again */
	for (int i = 0; i < 5; i++)
		fault(limiter, due + SECOND);
	CHECK_INT(pems_limiter_next(limiter, due + SECOND), due + 6 * SECOND);
	pems_limiter_destroy(limiter);
}

UNIT_TEST(an_abandoned_probe_is_due_again_at_once)
{
	PemsLimiter *limiter = open_breaker(EPOCH);
	int64_t due = EPOCH + 5 * SECOND;
	uint64_t probe = pems_limiter_start(limiter, due);

	pems_limiter_end(limiter, probe, PEMS_LIMITER_ABANDONED, due + MS);
	CHECK_INT(pems_limiter_capacity(limiter, due + MS), 1);
	CHECK_INT(pems_limiter_next(limiter, due + MS), due + MS);
	pems_limiter_destroy(limiter);
}

UNIT_TEST(faults_of_requests_from_before_the_outage_change_nothing)
{
	PemsLimiter *limiter = pems_limiter_create(0, false, EPOCH);
	uint64_t tickets[32];
	uint64_t probe;
	int64_t due = EPOCH + 5 * SECOND;

	for (int i = 0; i < 32; i++)
		tickets[i] = pems_limiter_start(limiter, EPOCH);
	for (int i = 0; i < 20; i++)
		pems_limiter_end(limiter, tickets[i], PEMS_LIMITER_FAULT, EPOCH + i);
	CHECK_INT(pems_limiter_faults(limiter), 5);
	CHECK_INT(pems_limiter_next(limiter, EPOCH + 20), due + 4);
	/* while the probe is under way */
	probe = pems_limiter_start(limiter, due + 4);
	pems_limiter_end(limiter, tickets[20], PEMS_LIMITER_FAULT, due + 5);
	CHECK_INT(pems_limiter_next(limiter, due + 5), PEMS_LIMITER_NEVER);
	pems_limiter_end(limiter, tickets[21], PEMS_LIMITER_ABANDONED, due + 5);
	CHECK_INT(pems_limiter_capacity(limiter, due + 5), 0);
	/* and after it closed the breaker */
	pems_limiter_end(limiter, probe, PEMS_LIMITER_ANSWERED, due + 6);
	for (int i = 22; i < 32; i++)
		pems_limiter_end(limiter, tickets[i], PEMS_LIMITER_FAULT, due + 7);
	CHECK_INT(pems_limiter_breaker(limiter, due + 7), PEMS_BREAKER_CLOSED);
	CHECK_INT(pems_limiter_faults(limiter), 0);
	pems_limiter_destroy(limiter);
}

UNIT_TEST(a_late_answer_from_before_the_outage_closes_the_breaker)
{
	PemsLimiter *limiter = pems_limiter_create(0, false, EPOCH);
	uint64_t slow = pems_limiter_start(limiter, EPOCH);
	uint64_t probe;

	for (int i = 0; i < 5; i++)
		fault(limiter, EPOCH);
	probe = pems_limiter_start(limiter, EPOCH + 5 * SECOND);
	pems_limiter_end(limiter, slow, PEMS_LIMITER_ANSWERED, EPOCH + 6 * SECOND);
	CHECK_INT(pems_limiter_breaker(limiter, EPOCH + 6 * SECOND), PEMS_BREAKER_CLOSED);
	/* the former probe is a request like others now */
	pems_limiter_end(limiter, probe, PEMS_LIMITER_FAULT, EPOCH + 7 * SECOND);
	CHECK_INT(pems_limiter_faults(limiter), 1);
	pems_limiter_destroy(limiter);
}

UNIT_TEST(a_probe_keeps_to_throttle_and_rate)
{
	PemsLimiter *limiter = open_breaker(EPOCH);

	pems_limiter_throttle(limiter, EPOCH + 9 * SECOND);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH + 5 * SECOND), 0);
	CHECK_INT(pems_limiter_next(limiter, EPOCH), EPOCH + 9 * SECOND);
	CHECK_INT(pems_limiter_capacity(limiter, EPOCH + 9 * SECOND), 1);
	pems_limiter_destroy(limiter);
}
