/*
 * request.h
 *		One HTTP request from its first line to the end of its answer.
 *
 * A request is worked on by one thread at a time: the connection's own, or,
 * while the connection is suspended, the timer's.  Pointers into the connection's
 * memory (token, query) stay good until the request is completed.
 */
#ifndef MOCK_REQUEST_H
#define MOCK_REQUEST_H

#include <microhttpd.h>

#include "server.h"
#include "stream.h"

typedef enum MockStage
{
	MOCK_STAGE_RECEIVING, /* head or body still come in */
	MOCK_STAGE_DELAYED,   /* suspended; nothing was done yet */
	MOCK_STAGE_HELD,      /* suspended; done and logged, the answer waits */
	MOCK_STAGE_READY,     /* done and logged, the answer may leave */
	MOCK_STAGE_HANGING,   /* suspended for ever, or until the client goes away */
	MOCK_STAGE_TRICKLING, /* suspended until the next byte may leave */
	MOCK_STAGE_CLOSING    /* to be closed without another byte */
} MockStage;

typedef struct MockReply
{
	int status;
	JsonBuffer body;
	const char *content_type; /* static */
	MockStream *stream;       /* instead of body; NULL: none */
} MockReply;

/* The record that an answer with a wrong pfaId is about. */
#define MOCK_WRONG_PFA_ID "PFA-SOMEBODY-ELSES"

/* How often a hanging request looks whether its client is still there. */
#define MOCK_HANG_LOOK_US INT64_C(500000)

struct MockRequest
{
	MockServer *server;
	struct MHD_Connection *connection;
	MockStage stage;
	bool begun;   /* the handler saw its head */
	bool control; /* a control call, not one to PEMS */
	char *uri;    /* as it was sent, with the query, but ASCII only */
	char *method;
	JsonBuffer body;
	JsonDocument document; /* the body; root NULL: none, or no JSON */

	/* what is asked */
	MockCall call;
	char *pfa_id;            /* from the path, unescaped; NULL: none */
	char *organization_code; /* NULL: none */
	MockOrganization *organization;
	const char *token;     /* bearer token; never logged */
	char *idempotency_key; /* NULL: none */
	char *request_id;
	const char *problem; /* why this is a 400; static; NULL: nothing is wrong */
	/* update, delete */
	bool has_version;
	int64_t version;
	const JsonNode *changes;
	const char *modified_by;
	const char *reason;
	/* read many */
	int64_t limit;
	int64_t page;     /* from 1; 0: no listing */
	int64_t since_us; /* INT64_MIN: everything */
	MockPosition position;
	char *position_id; /* what position points to */
	char *cursor;      /* as they were sent, ASCII only; NULL: none */
	char *updated_since;

	/* what became of it */
	int64_t arrived_us; /* monotonic */
	int64_t arrived_wall_us;
	MockFault *fault;
	bool authorized;
	bool applied;
	bool replayed; /* answered from memory, by Idempotency-Key */
	bool logged;
	bool in_progress; /* for stats.c */
	JsonBuffer line;  /* for the log */
	MockReply reply;
	int64_t listed;       /* records in the page */
	char *next_cursor;    /* of the page, as JSON; NULL: none */
	int64_t next_byte_us; /* MOCK_DELIVER_SLOWLY */
};

/* A record changed: for the log. */
typedef struct MockChange
{
	bool made;
	const char *organization_code;
	const char *pfa_id;
	int64_t at; /* wall clock */
	int64_t from_version;
	int64_t to_version;
	bool by_client;   /* else by a control call */
	const char *user; /* NULL: unknown */
	bool whole;       /* changes is the whole record, not a part */
	bool deleted;
	const JsonNode *changes; /* NULL: none */
} MockChange;

/* Read head and body into the members under "what is asked". */
extern void mock_request_read(MockRequest *request);
/* A member of the query, decoded; NULL when absent.  Sets problem when it holds a NUL byte. */
extern const char *mock_request_query(MockRequest *request, const char *key);
/* What its fault does; when it has none: nothing. */
extern const MockEffect *mock_request_effect(const MockRequest *request);
extern void mock_request_free(MockRequest *request);

/* effects.c: turn the true reply into what the fault makes of it. */
extern void mock_effects_rewrite(MockRequest *request);
/* The status that the client sees, 0: none. */
extern int mock_effects_status(const MockRequest *request);

/* describe.c: the members of a log line, each with its comma before it. */
extern void mock_describe_request(const MockRequest *request, JsonBuffer *out);
/* What became of it, to be put behind the request when that is known. */
extern void mock_describe_outcome(const MockRequest *request, JsonBuffer *out);
extern void mock_describe_change(const MockChange *change, JsonBuffer *out);

/* reads.c: put what is read into the reply.  False: there is no such record. */
extern bool mock_reads_one(MockRequest *request);
extern void mock_reads_many(MockRequest *request);

/* calls.c: do what is asked, and log it; the reply is ready afterwards. */
extern void mock_calls_run(MockRequest *request);
/* Log a request that will never be done. */
extern void mock_calls_abandon(MockRequest *request);

/* control.c, control_records.c, control_time.c */
extern void mock_control_run(MockRequest *request);
extern void mock_control_begin(MockRequest *request);
extern void mock_control_end(MockRequest *request);
extern void mock_control_restore(MockRequest *request);
extern void mock_control_set_times(MockRequest *request);
extern void mock_control_set_clock(MockRequest *request);
extern void mock_control_get_clock(MockRequest *request);
extern void mock_control_edit_records(MockRequest *request);
extern void mock_control_dump_records(MockRequest *request);
extern void mock_control_refuse(MockRequest *request, int status, const char *message);

/* delivery.c: send the reply, or do what the fault wants instead. */
extern enum MHD_Result mock_delivery_send(MockRequest *request);

/* handler.c: end a request that waits, without an answer. */
extern void mock_handler_cancel(MockRequest *request);

#endif /* MOCK_REQUEST_H */
