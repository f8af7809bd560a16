/*
 * record/number.h
 *		Numbers as they are written in JSON: compared by value, without losing a digit.
 *
 * Pure; any process.  No memory is allocated.  A number here is its literal, a NUL-terminated
 * text that is a number of RFC 8259 ("-0.5e3"); there is no limit on its digits.  An exponent
 * beyond 10^17 counts as 10^17.
 */
#ifndef PEMS_NUMBER_H
#define PEMS_NUMBER_H

#include <stdbool.h>

/* -1, 0 or 1: 5500.00, 5500 and 55e2 are equal. */
extern int pems_number_compare(const char *a, const char *b);

/* Is the value integral?  5, 5.0 and 5e30 are. */
extern bool pems_number_is_integral(const char *literal);

/* True, and *value set, when the value is integral and fits into a long long. */
extern bool pems_number_integer(const char *literal, long long *value);

/* Why PostgreSQL's numeric and jsonb cannot hold the number, as a static sentence; or NULL. */
extern const char *pems_number_unstorable(const char *literal);

#endif /* PEMS_NUMBER_H */
