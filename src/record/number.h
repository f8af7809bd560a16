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

/*
 * Digits that a number may have in the database when all of them are written, as jsonb does: 1e1000
 * has 1001.  (PostgreSQL's numeric takes 131072 before the point and 16383 behind it, which a few
 * bytes can ask for.)
 */
#define PEMS_NUMBER_MAX_DIGITS 1000

/* -1, 0 or 1: 5500.00, 5500 and 55e2 are equal. */
extern int pems_number_compare(const char *a, const char *b);

/* Is the value integral?  5, 5.0 and 5e30 are. */
extern bool pems_number_is_integral(const char *literal);

/* True, and *value set, when the value is integral and fits into a long long. */
extern bool pems_number_integer(const char *literal, long long *value);

/* Why the database is not to hold the number, as a static sentence; or NULL. */
extern const char *pems_number_unstorable(const char *literal);

#endif /* PEMS_NUMBER_H */
