/*
 * journal.h
 *		The append-only log of requests and changes, in memory and as JSON lines in a file.
 *
 * Every entry has a number, seq, that never goes back, not even by a reset.  An
 * append returns when the entry stands in memory and was handed to the kernel in
 * one write; the callers do it before the answer leaves.  The newest entries
 * stay in memory, the file keeps all.
 */
#ifndef MOCK_JOURNAL_H
#define MOCK_JOURNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "record/json.h"

typedef enum MockEntryKind
{
	MOCK_ENTRY_REQUEST,
	MOCK_ENTRY_CHANGE,
	MOCK_ENTRY_RESET, /* in the file only */
	MOCK_ENTRY_ANY    /* for reading */
} MockEntryKind;

/*
 * Lines stand in blocks, one behind the other; a block goes when its last line
 * does.  (One malloc per line made the allocator's threads grow their heaps page
 * by page: a quarter of all system calls.)
 */
typedef struct MockJournalBlock
{
	size_t size; /* of text */
	size_t used;
	size_t lines; /* still in the ring */
	char text[];
} MockJournalBlock;

typedef struct MockJournalLine
{
	MockJournalBlock *block; /* NULL: no line here */
	const char *text;        /* JSON object and newline, inside block */
	uint32_t length;
	MockEntryKind kind;
} MockJournalLine;

typedef struct MockJournal
{
	pthread_mutex_t lock;  /* taken last of all locks */
	int file;              /* -1: none */
	MockJournalLine *ring; /* line of seq is at seq % capacity */
	size_t capacity;
	MockJournalBlock *block; /* the one that is being filled */
	uint64_t first;          /* oldest seq in memory */
	uint64_t next;           /* seq of the next entry */
} MockJournal;

/* path NULL: memory only.  Ends the process when the file cannot be opened. */
extern void mock_journal_open(MockJournal *journal, const char *path, size_t capacity);
/*
 * Append a request, a change, or both (one write, and the change names the
 * request).  A text is the members of a JSON object, each with its comma before it.
 */
extern void mock_journal_append(MockJournal *journal, const JsonBuffer *request,
								const JsonBuffer *change);
/* Forget what is in memory, and leave a mark in the file. */
extern void mock_journal_reset(MockJournal *journal);

/* A reader that comes back for more; it never sees what was appended after it began. */
typedef struct MockJournalCursor
{
	uint64_t next;
	uint64_t last;
	MockEntryKind kind;
	int64_t limit; /* entries that may still be given out */
	bool begun;
} MockJournalCursor;

/* Begin behind since; fills in first and last seq that can be had. */
extern MockJournalCursor mock_journal_begin(MockJournal *journal, uint64_t since,
											MockEntryKind kind, int64_t limit, uint64_t *first);
/* Append entries with commas between, up to about a block; false: that was the last. */
extern bool mock_journal_read(MockJournal *journal, MockJournalCursor *cursor, JsonBuffer *out);

#endif /* MOCK_JOURNAL_H */
