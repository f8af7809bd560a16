/*
 * record/number.c
 *		Numbers by value; see number.h.
 *
 * Pure; any process.  No memory is allocated.
 */
#include "record/number.h"

#include <limits.h>
#include <stddef.h>
#include <string.h>

/* Exponents are cut here, far from overflow even when digits are added to them. */
#define EXPONENT_LIMIT 100000000000000000LL

/* An exponent that numeric takes; limited by itself, also where the number is 0. */
#define NUMERIC_EXPONENT (INT_MAX / 2)

/*
 * A literal taken apart; its value is sign * 0.DIGITS * 10^magnitude.  DIGITS are what stands
 * from digits to end, maybe with a point among it; they neither begin nor end with a zero, and
 * there are none when the value is 0.  So -12.50 is -1 * 0.125 * 10^2.
 */
typedef struct Decimal
{
	int sign; /* -1, 0 or 1 */
	const char *digits;
	const char *end;
	long long count; /* digits without the point */
	long long magnitude;
} Decimal;

/* The exponent at text, behind the 'e', cut at EXPONENT_LIMIT. */
static long long
read_exponent(const char *text)
{
	bool negative = *text == '-';
	long long exponent = 0;

	if (*text == '-' || *text == '+')
		text++;
	for (; *text >= '0' && *text <= '9'; text++)
	{
		exponent = exponent * 10 + (*text - '0');
		if (exponent > EXPONENT_LIMIT)
			exponent = EXPONENT_LIMIT;
	}
	return negative ? -exponent : exponent;
}

/*
 * Read the digits and the point of a literal without its sign; returns the position behind them.
 * The magnitude becomes the number of digits before the point, or, of a number like 0.005, minus
 * the number of zeros behind it.
 */
static const char *
read_digits(const char *text, Decimal *decimal)
{
	bool behind_point = false;
	long long position = 0; /* digits since the first that is not a zero */

	for (; *text == '.' || (*text >= '0' && *text <= '9'); text++)
	{
		if (*text == '.')
		{
			behind_point = true;
			continue;
		}
		if (decimal->digits == NULL && *text != '0')
			decimal->digits = text;
		if (decimal->digits)
			position++;
		if (decimal->digits && !behind_point)
			decimal->magnitude++;
		else if (decimal->digits == NULL && behind_point)
			decimal->magnitude--;
		if (*text != '0')
		{
			decimal->end = text + 1;
			decimal->count = position;
		}
	}
	return text;
}

static void
read_decimal(const char *literal, Decimal *decimal)
{
	const char *rest;

	memset(decimal, 0, sizeof(*decimal));
	rest = read_digits(*literal == '-' ? literal + 1 : literal, decimal);
	if (decimal->digits == NULL)
	{
		decimal->magnitude = 0;
		return;
	}
	decimal->sign = *literal == '-' ? -1 : 1;
	if (*rest == 'e' || *rest == 'E')
		decimal->magnitude += read_exponent(rest + 1);
}

const char *
pems_number_unstorable(const char *literal)
{
	const char *point = strchr(literal, '.');
	const char *end = literal + strcspn(literal, "eE");
	long long exponent = *end ? read_exponent(end + 1) : 0;
	long long decimals = (point ? end - point - 1 : 0) - exponent;
	long long digits;
	Decimal decimal;

	/*
	 * numeric keeps a number with an exponent in a few bytes, but writes all of its digits: they
	 * are counted as numeric_in() and numeric_out() do
	 */
	read_decimal(literal, &decimal);
	digits = decimal.magnitude > 1 ? decimal.magnitude : 1;
	if (decimals > 0)
		digits += decimals;
	if (digits > PEMS_NUMBER_MAX_DIGITS)
		return "a number has more than 1000 digits";
	if (exponent >= NUMERIC_EXPONENT)
		return "a number is too large for the database";
	return NULL;
}

/* The next digit, zeros without end behind the last. */
static int
next_digit(const char **cursor, const char *end)
{
	if (*cursor < end && **cursor == '.')
		(*cursor)++;
	return *cursor < end ? *(*cursor)++ - '0' : 0;
}

static int
compare_magnitudes(const Decimal *a, const Decimal *b)
{
	const char *left = a->digits;
	const char *right = b->digits;

	if (a->magnitude != b->magnitude)
		return a->magnitude < b->magnitude ? -1 : 1;
	while (left < a->end || right < b->end)
	{
		int left_digit = next_digit(&left, a->end);
		int right_digit = next_digit(&right, b->end);

		if (left_digit != right_digit)
			return left_digit < right_digit ? -1 : 1;
	}
	return 0;
}

int
pems_number_compare(const char *a, const char *b)
{
	Decimal left;
	Decimal right;

	read_decimal(a, &left);
	read_decimal(b, &right);
	if (left.sign != right.sign)
		return left.sign < right.sign ? -1 : 1;
	if (left.sign == 0)
		return 0;
	return left.sign * compare_magnitudes(&left, &right);
}

static bool
is_integral(const Decimal *decimal)
{
	return decimal->sign == 0 || decimal->magnitude >= decimal->count;
}

bool
pems_number_is_integral(const char *literal)
{
	Decimal decimal;

	read_decimal(literal, &decimal);
	return is_integral(&decimal);
}

bool
pems_number_integer(const char *literal, long long *value)
{
	Decimal decimal;
	unsigned long long magnitude = 0;
	unsigned long long limit = LLONG_MAX;
	const char *cursor;

	read_decimal(literal, &decimal);
	/* 19 digits always fit into the unsigned type. */
	if (!is_integral(&decimal) || decimal.magnitude > 19)
		return false;
	cursor = decimal.digits;
	for (long long i = 0; i < decimal.magnitude; i++)
		magnitude = magnitude * 10 + (unsigned) next_digit(&cursor, decimal.end);
	if (decimal.sign < 0)
		limit++;
	if (magnitude > limit)
		return false;
	if (magnitude > LLONG_MAX)
		*value = LLONG_MIN;
	else
		*value = decimal.sign < 0 ? -(long long) magnitude : (long long) magnitude;
	return true;
}
