/*
 * epoll.h - what files have to do for epoll sets that watch them.
 */
#pragma once

struct file;

/* The last reference to f goes: its items leave their sets. Called by file_put before ops->release. */
void epoll_file_released(struct file *f);
