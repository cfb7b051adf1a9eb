/*
 * futex.h - programs' futexes. Their words lie in real memory of the host, so the host's futex does the work;
 * what is added here is that a program's signals end the wait.
 */
#pragma once
#include "cell/base/types.h"

/* set_robust_list(2): a thread ends with these locks. No lock held: touches program memory and wakes. */
void futex_exit_robust_list(unsigned long head);
