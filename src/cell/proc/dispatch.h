/*
 * dispatch.h - from a number to the function of the call.
 */
#pragma once

/* Once at boot: merges the tables of all folders; a number that is there twice is a panic. */
void dispatch_init(void);
