/*
 * journal.c
 *		The append-only log of requests and changes, in memory and as JSON lines in a file.
 *
 * Only the number of an entry is put in under the lock; the rest of its text is
 * ready before.  A file that cannot be written to ends the process: a checker
 * would take the missing lines for requests that never came.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "journal.h"
#include "memory.h"

/* What a reader gets in one turn, so that it does not keep the lock for long. */
#define READ_BLOCK ((size_t) 256 * 1024)

#define BLOCK_SIZE ((size_t) 1024 * 1024)

void
mock_journal_open(MockJournal *journal, const char *path, size_t capacity)
{
	memset(journal, 0, sizeof(*journal));
	pthread_mutex_init(&journal->lock, NULL);
	journal->capacity = capacity > 2 ? capacity : 2;
	journal->ring = mock_memory_allocate(journal->capacity * sizeof(*journal->ring));
	journal->first = 1;
	journal->next = 1;
	journal->file = -1;
	if (path == NULL)
		return;
	journal->file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (journal->file < 0)
		mock_memory_die("could not open log file \"%s\": %s", path, strerror(errno));
}

/* Write all parts; a write that the kernel cuts short is continued. */
static void
write_parts(int file, struct iovec *parts, int count)
{
	while (count > 0)
	{
		ssize_t written = writev(file, parts, count);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			mock_memory_die("could not write the log file: %s", strerror(errno));
		while (count > 0 && (size_t) written >= parts->iov_len)
		{
			written -= (ssize_t) parts->iov_len;
			parts++;
			count--;
		}
		if (count > 0)
		{
			parts->iov_base = (char *) parts->iov_base + written;
			parts->iov_len -= (size_t) written;
		}
	}
}

/* Forget what stands at a place of the ring. */
static void
drop_line(const MockJournal *journal, MockJournalLine *line)
{
	MockJournalBlock *block = line->block;

	line->block = NULL;
	if (block != NULL && --block->lines == 0 && block != journal->block)
		free(block);
}

/* Room for a text at the end of the newest block. */
static char *
reserve(MockJournal *journal, size_t length)
{
	MockJournalBlock *block = journal->block;
	size_t size = length > BLOCK_SIZE ? length : BLOCK_SIZE;
	char *room;

	if (block == NULL || block->size - block->used < length)
	{
		if (block != NULL && block->lines == 0)
			free(block);
		block = mock_memory_resize(NULL, sizeof(*block) + size);
		*block = (MockJournalBlock){.size = size};
		journal->block = block;
	}
	room = block->text + block->used;
	block->used += length;
	block->lines++;
	return room;
}

/* Put a line into memory; request_seq 0: none.  The caller holds the lock. */
static struct iovec
add_line(MockJournal *journal, MockEntryKind kind, const JsonBuffer *members, uint64_t request_seq)
{
	MockJournalLine *line = &journal->ring[journal->next % journal->capacity];
	char prefix[40];
	char suffix[48] = "}\n";
	size_t before;
	size_t behind = 2;
	size_t length;
	char *text;

	before = (size_t) snprintf(prefix, sizeof(prefix), "{\"seq\":%" PRIu64, journal->next);
	if (request_seq != 0)
		behind = (size_t) snprintf(suffix, sizeof(suffix), ",\"requestSeq\":%" PRIu64 "}\n",
								   request_seq);
	length = before + members->length + behind;
	drop_line(journal, line);
	text = reserve(journal, length);
	memcpy(text, prefix, before);
	memcpy(text + before, members->data, members->length);
	memcpy(text + before + members->length, suffix, behind);
	*line = (MockJournalLine){journal->block, text, (uint32_t) length, kind};
	journal->next++;
	if (journal->next - journal->first > journal->capacity)
		journal->first++;
	return (struct iovec){text, length};
}

void
mock_journal_append(MockJournal *journal, const JsonBuffer *request, const JsonBuffer *change)
{
	struct iovec parts[2];
	int count = 0;
	uint64_t request_seq = 0;

	pthread_mutex_lock(&journal->lock);
	if (request != NULL)
	{
		request_seq = journal->next;
		parts[count++] = add_line(journal, MOCK_ENTRY_REQUEST, request, 0);
	}
	if (change != NULL)
		parts[count++] = add_line(journal, MOCK_ENTRY_CHANGE, change, request_seq);
	if (journal->file >= 0)
		write_parts(journal->file, parts, count);
	pthread_mutex_unlock(&journal->lock);
}

static void
write_reset_mark(const MockJournal *journal)
{
	char line[64];
	struct iovec part = {line, 0};

	part.iov_len = (size_t) snprintf(line, sizeof(line),
									 "{\"seq\":%" PRIu64 ",\"kind\":\"reset\"}\n", journal->next);
	write_parts(journal->file, &part, 1);
}

void
mock_journal_reset(MockJournal *journal)
{
	pthread_mutex_lock(&journal->lock);
	if (journal->file >= 0)
		write_reset_mark(journal);
	journal->next++;
	journal->first = journal->next;
	pthread_mutex_unlock(&journal->lock);
}

MockJournalCursor
mock_journal_begin(MockJournal *journal, uint64_t since, MockEntryKind kind, int64_t limit,
				   uint64_t *first)
{
	MockJournalCursor cursor = {.kind = kind, .limit = limit};

	pthread_mutex_lock(&journal->lock);
	cursor.next = since + 1 > journal->first ? since + 1 : journal->first;
	cursor.last = journal->next - 1;
	*first = journal->first;
	pthread_mutex_unlock(&journal->lock);
	return cursor;
}

bool
mock_journal_read(MockJournal *journal, MockJournalCursor *cursor, JsonBuffer *out)
{
	size_t begin = out->length;
	bool more;

	pthread_mutex_lock(&journal->lock);
	if (cursor->next < journal->first)
		cursor->next = journal->first; /* fell out of memory while we were sending */
	while (cursor->next <= cursor->last && cursor->limit > 0 && out->length - begin < READ_BLOCK)
	{
		const MockJournalLine *line = &journal->ring[cursor->next++ % journal->capacity];

		if (cursor->kind != MOCK_ENTRY_ANY && cursor->kind != line->kind)
			continue;
		if (cursor->begun)
			pems_json_append(out, ",\n", 2);
		pems_json_append(out, line->text, line->length - 1);
		cursor->begun = true;
		cursor->limit--;
	}
	more = cursor->next <= cursor->last && cursor->limit > 0;
	pthread_mutex_unlock(&journal->lock);
	return more;
}
