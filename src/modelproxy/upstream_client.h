/*
 * upstream_client.h - asks the upstream process for an answer and feeds it to the call.
 *
 * While the link is down (upstream is started on demand) a request waits up to UPSTREAM_WAIT_S, then gets
 * 503. A request whose link closes before the first part of an answer is sent once more: upstream may have
 * been about to end for want of work when it came.
 */
#pragma once
#include "modelproxy/call.h"

enum { UPSTREAM_WAIT_S = 5 };

void upstream_start(struct call *c);
/* The link is up: sends what waited. */
void upstream_link_up(struct proxy *p);
