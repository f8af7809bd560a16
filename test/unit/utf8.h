/*
 * utf8.h
 *		Is a text well-formed UTF-8?  For tests of units and for fuzzers.
 */
#ifndef UTF8_H
#define UTF8_H

#include <stdbool.h>
#include <stddef.h>

#include "record/text.h"

static inline bool
is_utf8(const char *text, size_t length)
{
	for (size_t at = 0, step; at < length; at += step)
	{
		step = pems_text_read(text + at, length - at, NULL);
		if (step == 0)
			return false;
	}
	return true;
}

#endif /* UTF8_H */
