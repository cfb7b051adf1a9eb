/*
 * mock.h - the provider "mock": answers a call inside this process, offline and deterministically.
 */
#pragma once
#include "modelproxy/call.h"

/* Starts answering; everything happens from the event loop, never inside this call. */
void mock_start(struct call *c);
