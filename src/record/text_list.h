/*
 * record/text_list.h
 *		A growing array of malloc'ed texts, shared by validate and merge.  Pure.
 *
 * The list is the pair (char **texts, size_t count) that stands in the structs
 * of these files, so that their callers see plain fields.
 */
#ifndef PEMS_TEXT_LIST_H
#define PEMS_TEXT_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

/*
 * Append text, which must come from malloc and belongs to the list from then
 * on.  False when memory is short (or text is NULL, the mark of an earlier
 * shortage); then text has been freed.
 */
static inline bool
text_list_add(char ***texts, size_t *count, char *text)
{
	if (text == NULL)
		return false;
	/* Room is always a power of two, so that the capacity need not be stored. */
	if ((*count & (*count - 1)) == 0)
	{
		char **grown = realloc(*texts, (*count ? *count * 2 : 1) * sizeof(char *));

		if (grown == NULL)
		{
			free(text);
			return false;
		}
		*texts = grown;
	}
	(*texts)[(*count)++] = text;
	return true;
}

static inline void
text_list_free(char ***texts, size_t *count)
{
	while (*count > 0)
		free((*texts)[--*count]);
	free(*texts);
	*texts = NULL;
}

#endif /* PEMS_TEXT_LIST_H */
