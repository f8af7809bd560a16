/*
 * shared/limits.h
 *		What the limiter, the settings and those who show its state must agree on.
 *
 * Pure.
 */
#ifndef PEMS_LIMITS_H
#define PEMS_LIMITS_H

/* Requests per second; more is no limit. */
#define PEMS_LIMITER_MAX_RATE 10000

typedef enum PemsBreakerState
{
	PEMS_BREAKER_CLOSED,
	PEMS_BREAKER_OPEN,   /* waiting for the next probe's time */
	PEMS_BREAKER_PROBING /* one request is on its way, or due */
} PemsBreakerState;

#endif /* PEMS_LIMITS_H */
