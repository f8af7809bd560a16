/*
 * effects.c
 *		What a fault makes of a true reply: status, body, type.
 *
 * Headers and the way the bytes travel are delivery.c's.
 */
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "request.h"
#include "text.h"

typedef struct StatusWord
{
	int status;
	const char *word; /* "error" in a body */
} StatusWord;

static const StatusWord status_words[] = {
	{400, "INVALID_REQUEST"}, {401, "UNAUTHORIZED"}, {403, "FORBIDDEN"},
	{404, "NOT_FOUND"},       {409, "CONFLICT"},     {412, "PRECONDITION_FAILED"},
	{422, "UNPROCESSABLE"},   {429, "RATE_LIMITED"}, {500, "SERVER_ERROR"},
	{502, "BAD_GATEWAY"},     {503, "UNAVAILABLE"},  {504, "GATEWAY_TIMEOUT"},
	{0, "INJECTED_FAULT"},
};

static const char *
status_word(int status)
{
	const StatusWord *each = status_words;

	while (each->status != 0 && each->status != status)
		each++;
	return each->word;
}

static void
set_body(MockRequest *request, const char *bytes, size_t length)
{
	request->reply.body.length = 0;
	pems_json_append(&request->reply.body, bytes, length);
}

static void
set_error_body(MockRequest *request, const char *word)
{
	JsonBuffer *body = &request->reply.body;

	body->length = 0;
	pems_json_append_text(body, "{\"success\":false");
	mock_text_add_string(body, "error", word);
	mock_text_add_string(body, "message", "a fault that the test asked for");
	pems_json_append_text(body, "}");
}

static void
set_accepted_body(MockRequest *request)
{
	JsonBuffer *body = &request->reply.body;

	body->length = 0;
	pems_json_append_text(body, "{\"success\":true");
	mock_text_add_string(body, "pfaId", request->pfa_id);
	mock_text_add_string(body, "message", "accepted");
	pems_json_append_text(body, "}");
}

/* The rule says the status, the body, or both. */
static void
give(MockRequest *request, const MockEffect *effect)
{
	bool throttled = effect->retry_after != NULL || effect->retry_after_date;
	int status = effect->status != 0 ? (int) effect->status : throttled ? 429 : 200;

	request->reply.status = status;
	if (effect->body != NULL)
		set_body(request, effect->body, effect->body_length);
	else if (status >= 300)
		set_error_body(request, effect->error != NULL ? effect->error : status_word(status));
}

static void
give_page(MockRequest *request)
{
	static const char page[] = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head>"
							   "<body><h1>Please sign in</h1></body></html>\n";

	set_body(request, page, strlen(page));
	request->reply.content_type = "text/html; charset=utf-8";
}

static void
give_garbage(MockRequest *request)
{
	/* a NUL, broken UTF-8, and something that begins like JSON */
	static const char garbage[] = "{\"success\":tru\xff\xfe\0\x01}}garbage[";

	set_body(request, garbage, sizeof(garbage) - 1);
}

/* A member more at the beginning of an object, to make it large. */
static void
pad(MockRequest *request, int64_t size)
{
	JsonBuffer *body = &request->reply.body;
	JsonBuffer padded = {0};
	char *filling;

	if (body->length < 3 || body->data[0] != '{')
		return;
	filling = mock_memory_allocate((size_t) size + 1);
	memset(filling, 'x', (size_t) size);
	pems_json_append_text(&padded, "{");
	mock_text_add_string(&padded, "padding", filling);
	pems_json_append(&padded, ",", 1);
	pems_json_append(&padded, body->data + 1, body->length - 1);
	free(filling);
	pems_json_buffer_free(body);
	*body = padded;
}

static void
rewrite(MockRequest *request, const MockEffect *effect)
{
	if (effect->content == MOCK_CONTENT_TRUE)
		return;
	if (effect->content == MOCK_CONTENT_GIVEN)
	{
		give(request, effect);
		return;
	}
	request->reply.status = effect->status != 0 ? (int) effect->status : 200;
	if (effect->content == MOCK_CONTENT_GARBAGE)
		give_garbage(request);
	else if (effect->content == MOCK_CONTENT_HTML)
		give_page(request);
	else if (effect->content == MOCK_CONTENT_FAILURE)
		set_error_body(request, effect->error != NULL ? effect->error : "BUSINESS_RULE");
	else
		request->reply.body.length = 0;
	if (effect->content == MOCK_CONTENT_ACCEPTED)
	{
		set_accepted_body(request);
		request->reply.status = effect->status != 0 ? (int) effect->status : 202;
	}
	if (effect->content == MOCK_CONTENT_REDIRECT)
		request->reply.status = effect->status != 0 ? (int) effect->status : 302;
	if (effect->body != NULL)
		set_body(request, effect->body, effect->body_length);
}

void
mock_effects_rewrite(MockRequest *request)
{
	const MockEffect *effect = mock_request_effect(request);

	rewrite(request, effect);
	if (effect->padding > 0)
		pad(request, effect->padding);
}

int
mock_effects_status(const MockRequest *request)
{
	MockDelivery delivery = mock_request_effect(request)->delivery;

	if (delivery == MOCK_DELIVER_NOTHING || delivery == MOCK_DELIVER_NEVER)
		return 0;
	return request->reply.status;
}
