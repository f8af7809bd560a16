/*
 * faults.h
 *		What goes wrong on purpose: rules that match requests, and what they do to them.
 *
 * Rules are tried in the order in which they were added; the first that matches
 * and fires is the request's only fault.  A rule that fires may be cleared while
 * its request still waits, so rules are counted references and never change.
 */
#ifndef MOCK_FAULTS_H
#define MOCK_FAULTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "record/json.h"
#include "stats.h"

/* What becomes of the bytes of the answer. */
typedef enum MockDelivery
{
	MOCK_DELIVER_WHOLE,
	MOCK_DELIVER_NOTHING,  /* the connection is closed without a byte */
	MOCK_DELIVER_HALF,     /* Content-Length of the whole, half of the body, end of connection */
	MOCK_DELIVER_STALLED,  /* the same, but then the connection stays open and silent */
	MOCK_DELIVER_SLOWLY,   /* byte by byte */
	MOCK_DELIVER_FOR_EVER, /* chunks without end */
	MOCK_DELIVER_NEVER     /* the connection stays open and silent */
} MockDelivery;

/* What the answer says. */
typedef enum MockContent
{
	MOCK_CONTENT_TRUE,     /* what PEMS has to say */
	MOCK_CONTENT_GIVEN,    /* status, body, error of the rule */
	MOCK_CONTENT_GARBAGE,  /* 200, no JSON */
	MOCK_CONTENT_HTML,     /* 200, a page for people */
	MOCK_CONTENT_EMPTY,    /* 200, no body */
	MOCK_CONTENT_FAILURE,  /* 200, success: false */
	MOCK_CONTENT_ACCEPTED, /* 202 */
	MOCK_CONTENT_REDIRECT  /* 302 */
} MockContent;

typedef struct MockHeader
{
	struct MockHeader *next;
	char *name;
	char *value;
} MockHeader;

/* In place of a record of a page: any bytes. */
typedef struct MockRecordText
{
	struct MockRecordText *next;
	char *pfa_id;
	char *text; /* empty: the record is left out */
	size_t length;
} MockRecordText;

/* What becomes of a page of a listing. */
typedef struct MockListEffect
{
	int64_t page_size; /* at most so many records, -1: as asked */
	int64_t shift;     /* the page begins so many records later; negative: earlier */
	bool without_deleted;
	MockRecordText *texts;
	char *next_cursor;       /* JSON that is given for nextCursor; NULL: the true one */
	bool no_next_cursor;     /* no such member */
	bool always_next_cursor; /* also at the end */
	bool begin_again;        /* a new nextCursor leads to the beginning */
	int64_t back_to_page;    /* nextCursor is the one that led there; 0: it is not */
} MockListEffect;

typedef struct MockEffect
{
	bool apply;       /* a write takes effect */
	int64_t delay_ms; /* before that */
	int64_t hold_ms;  /* between effect and answer */
	MockContent content;
	int64_t status; /* 0: what belongs to the content */
	char *body;     /* NULL: what belongs to the content */
	size_t body_length;
	char *error; /* word in an error body; NULL: what belongs to the status */
	char *redirect;
	char *retry_after; /* header value as it is; NULL: none */
	bool retry_after_date;
	int64_t retry_after_date_s; /* ahead of the answer's Date */
	int64_t date_skew_s;        /* PEMS's clock goes that much ahead of ours */
	MockHeader *headers;
	bool huge_headers;
	bool wrong_id;
	bool no_new_version;
	int64_t version_bump; /* more than the usual 1 */
	bool round_numbers;
	int64_t updated_at_skew_s; /* a write's updatedAt is so far ahead of the time */
	int64_t lag_versions;      /* a read shows records as they were so many states ago */
	int64_t lag_s;             /* or so many seconds ago */
	int64_t padding;           /* bytes more in the body */
	MockListEffect list;
	char *then_edit; /* JSON: edits that others make before the answer leaves; NULL: none */
	MockDelivery delivery;
	bool reset;          /* MOCK_DELIVER_NOTHING: RST and not FIN */
	int64_t ms_per_byte; /* MOCK_DELIVER_SLOWLY */
} MockEffect;

typedef struct MockFault
{
	struct MockFault *next;
	atomic_int references;
	/* which requests; NULL or -1: any */
	char *organization_code;
	char *pfa_id;
	char *method;
	int call;          /* MockCall */
	int64_t page;      /* of a listing */
	int64_t from_page; /* that one, and those behind it */
	/* which of them */
	int64_t after;      /* let that many pass */
	int64_t count;      /* then fire that often, -1: without end */
	double probability; /* then throw a die each time */
	uint64_t random;    /* state of the die */
	/* what happened so far */
	int64_t matched;
	int64_t fired;
	char *problem; /* what could not be done when it fired; NULL: nothing */
	char *id;      /* made up when not given */
	char *name;    /* for the log: the actions, "delay+status" */
	MockEffect effect;
} MockFault;

typedef struct MockFaults
{
	pthread_mutex_t lock; /* the list, and the counters in the rules */
	MockFault *first;
	atomic_int count; /* of rules: nothing is locked while there are none */
	int64_t next_id;
} MockFaults;

/* A request, as far as rules look at it. */
typedef struct MockFaultSubject
{
	const char *organization_code; /* NULL: none named */
	const char *pfa_id;
	const char *method;
	MockCall call;
	int64_t page; /* of a listing, from 1; else 0 */
} MockFaultSubject;

extern void mock_faults_initialize(MockFaults *faults);
/* Takes the rule over; returns its id, which lives as long as the rule does. */
extern const char *mock_faults_add(MockFaults *faults, MockFault *fault);
/* id NULL: all.  Returns how many were removed. */
extern int mock_faults_clear(MockFaults *faults, const char *id);
/* The rule that fires on this request, to be released, or NULL. */
extern MockFault *mock_faults_pick(MockFaults *faults, const MockFaultSubject *subject);
extern void mock_faults_release(MockFault *fault);
/* Say in the description of the rule that something could not be done. */
extern void mock_faults_note(MockFaults *faults, MockFault *fault, const char *problem);
/* Append a JSON array of all rules. */
extern void mock_faults_describe(MockFaults *faults, JsonBuffer *out);

/* fault_parser.c: a rule from JSON, or NULL and a sentence in error (at least 256 bytes). */
extern MockFault *mock_fault_parse(const JsonNode *node, char *error, size_t error_size);

#endif /* MOCK_FAULTS_H */
