/*
 * mount.h - what is mounted where. Nothing changes after boot.
 */
#pragma once
#include "cell/base/list.h"

/* struct super.node, in the order of mounting. */
struct list *mount_list(void);
