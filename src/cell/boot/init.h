/*
 * init.h - pid 1 of the cell: kernel code in a host process of its own. It starts the workload, runs what is
 * due at a time, takes what the host sends (signals, window size, input of the terminal), and ends the cell.
 */
#pragma once

/* With the kernel lock. */
void init_run(void) __attribute__((noreturn));
