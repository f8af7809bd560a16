/*
 * record/arena.c
 *		Memory that is given out piece by piece and freed as a whole; see arena.h.
 *
 * Pure; any process.
 */
#include "record/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>

/* Bounds of a block's size, unless a single piece needs more. */
#define SMALLEST_BLOCK ((size_t) 1024)
#define LARGEST_BLOCK  ((size_t) 256 * 1024)

typedef struct PemsArenaBlock
{
	struct PemsArenaBlock *older;
	size_t size; /* bytes of data */
	size_t used;
	alignas(max_align_t) char data[];
} Block;

/* A new block of twice the size of the last one, and of at least this many bytes. */
static Block *
add_block(PemsArena *arena, size_t at_least)
{
	size_t size = arena->newest ? arena->newest->size : SMALLEST_BLOCK / 2;
	Block *block;

	size = size < LARGEST_BLOCK / 2 ? size * 2 : LARGEST_BLOCK;
	if (size < at_least)
		size = at_least;
	if (size > SIZE_MAX - sizeof(Block))
		return NULL;
	block = malloc(sizeof(Block) + size);
	if (block == NULL)
		return NULL;
	block->older = arena->newest;
	block->size = size;
	block->used = 0;
	arena->newest = block;
	return block;
}

void *
pems_arena_allocate(PemsArena *arena, size_t size, size_t alignment)
{
	Block *block = arena->newest;
	size_t start = 0;

	if (block)
		start = (block->used + alignment - 1) & ~(alignment - 1);
	if (block == NULL || start > block->size || block->size - start < size)
	{
		block = add_block(arena, size);
		if (block == NULL)
			return NULL;
		start = 0;
	}
	block->used = start + size;
	return block->data + start;
}

void
pems_arena_free(PemsArena *arena)
{
	while (arena->newest)
	{
		Block *block = arena->newest;

		arena->newest = block->older;
		free(block);
	}
}
