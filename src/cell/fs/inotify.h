/*
 * inotify.h - inotify(7): programs are told what happens to files that they watch.
 *
 * The notify_* functions are called by the code that did something, after it succeeded and in the order in
 * which Linux tells of it. While nobody in the cell watches anything they cost one look at a number. The
 * masks are those of linux/inotify.h. Kernel lock held in all of this.
 */
#pragma once
#include <linux/inotify.h>

#include "cell/fs/file.h"
#include "cell/fs/inode.h"

/* At boot. */
int inotify_boot(void);

/* How many watches there are in the cell. */
extern const u32 *inotify_watches;

/* What is behind the functions below once there is a watch; not to be called otherwise. */
void inotify_tell_dentry(struct dentry *d, u32 mask, bool of_open_file);
void inotify_tell_inode(struct inode *i, u32 mask);
void inotify_tell_name(struct inode *dir, const char *name, size_t length, u32 mask, u32 cookie);
u32 inotify_cookie(void);

static inline bool inotify_is_used(void)
{
    return unlikely(*inotify_watches > 0);
}

/* Something happened to a file, and so in its directory. */
static inline void notify_dentry(struct dentry *d, u32 mask)
{
    if (inotify_is_used() && d)
        inotify_tell_dentry(d, mask, false);
}

/* The same through an open file: IN_OPEN, IN_ACCESS, IN_MODIFY, IN_CLOSE_*. Of those that have no path, and
 * of those that were opened with O_PATH, nothing is told. */
static inline void notify_file(const struct file *f, u32 mask)
{
    if (inotify_is_used() && f->dentry && !(f->flags & 010000000 /* O_PATH */))
        inotify_tell_dentry(f->dentry, mask, true);
}

/* Only to who watches the file itself. */
static inline void notify_inode(struct inode *i, u32 mask)
{
    if (inotify_is_used())
        inotify_tell_inode(i, mask);
}

/* IN_CREATE or IN_DELETE of a name, with IN_ISDIR where it is a directory's. */
static inline void notify_name(struct inode *dir, const char *name, size_t length, u32 mask)
{
    if (inotify_is_used())
        inotify_tell_name(dir, name, length, mask, 0);
}

/* A rename. `replaced`: whose name the new one was; NULL: nobody's. */
static inline void notify_move(struct inode *dir, const char *name, size_t length, struct inode *new_dir,
                               const char *new_name, size_t new_length, struct inode *moved,
                               struct inode *replaced)
{
    u32 kind = inode_is_dir(moved) ? IN_ISDIR : 0, cookie;

    if (!inotify_is_used())
        return;
    cookie = inotify_cookie();
    inotify_tell_name(dir, name, length, IN_MOVED_FROM | kind, cookie);
    inotify_tell_name(new_dir, new_name, new_length, IN_MOVED_TO | kind, cookie);
    if (replaced)
        inotify_tell_inode(replaced, IN_ATTRIB);
    inotify_tell_inode(moved, IN_MOVE_SELF);
}

/* The last reference went: its watches go. */
void inotify_inode_gone(struct inode *i);
