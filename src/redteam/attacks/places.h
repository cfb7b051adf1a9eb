/*
 * places.h - where the victim keeps its secrets: names that the attacker knows as well, so that it need not
 * search.
 */
#pragma once

#define VICTIM_FILE     "victim-secret"
#define VICTIM_ABSTRACT "ironclaw-victim" /* abstract unix socket, without the leading NUL */
#define VICTIM_MQ       "/ironclaw-victim"
enum { VICTIM_PORT = 5555, VICTIM_KEY = 0x1c1a0001 /* System V IPC */ };
