/*
 * stream.h - the vault's events of one session, sent to one client as server-sent events (WHATWG HTML,
 * section 9.2).
 */
#pragma once
#include "api/request.h"

/* Asks the vault for the events; the connection is suspended until the first one, or for a moment. */
void stream_start(struct request *r);

/* Hands the stream's response to libmicrohttpd, once its state is REQUEST_STREAMING. */
enum MHD_Result stream_answer(struct request *r);

/* Ends the stream, telling the client why; code may be NULL for an ordinary end. */
void stream_end(struct request *r, const char *code, const char *message);

/* Frees what the stream holds; tells the vault when it is still sending. */
void stream_free(struct request *r);
