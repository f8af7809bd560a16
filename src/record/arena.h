/*
 * record/arena.h
 *		Memory that is given out piece by piece and freed as a whole.
 *
 * Pure; any process.  Memory comes from malloc, in blocks that double in size, so that a small
 * text takes one and a large one few.
 */
#ifndef PEMS_ARENA_H
#define PEMS_ARENA_H

#include <stddef.h>

/* {0} is an arena without memory. */
typedef struct PemsArena
{
	struct PemsArenaBlock *newest;
} PemsArena;

/* A piece of `size` bytes, not cleared.  alignment: a power of two.  NULL: out of memory. */
extern void *pems_arena_allocate(PemsArena *arena, size_t size, size_t alignment);
/* Free all pieces; the arena is without memory then, and may be used again. */
extern void pems_arena_free(PemsArena *arena);

#endif /* PEMS_ARENA_H */
