/*
 * Walking. A path is walked from left to right in a loop, without recursion: when a link has to be followed,
 * what it says and what is left of the path are put together in a second buffer, and the walk goes on there.
 */
#include "cell/fs/path.h"

#include <asm/errno.h>
#include <linux/fcntl.h>

#include "cell/base/text.h"
#include "cell/mem/heap.h"
#include "cell/mem/uaccess.h"
#include "cell/proc/process.h"

enum { SPARE_BUFFERS = 4, LINK_BUFFER = 2 * PATH_MAX_ };

/* Buffers for paths are needed all the time, and need not be cleared. */
static struct spares {
    char *buffers[SPARE_BUFFERS];
    u32 n;
} * spares;

int path_init(void);

int path_init(void)
{
    spares = kmalloc(sizeof(*spares));
    return spares ? 0 : -ENOMEM;
}

char *path_buffer(void)
{
    return spares->n > 0 ? spares->buffers[--spares->n] : kmalloc(PATH_MAX_);
}

void path_free(char *path)
{
    if (path && spares->n < SPARE_BUFFERS)
        spares->buffers[spares->n++] = path;
    else
        kfree(path);
}

char *path_copy(USER const char *user, bool may_be_empty, long *error)
{
    char *path = path_buffer();
    long n = path ? strncpy_from_user(path, user, PATH_MAX_) : -ENOMEM;

    if (n == 0 && !may_be_empty)
        n = -ENOENT;
    if (n < 0) {
        *error = n;
        path_free(path);
        return NULL;
    }
    return path;
}

static void set_dir(struct walk *w, struct dentry *d)
{
    struct dentry *old = w->dir;

    dentry_get(d);
    w->dir = d;
    if (old)
        dentry_put(old);
}

/* Where a relative path starts: the working directory or what a descriptor refers to. */
static int find_start(struct walk *w, int dirfd)
{
    struct file *f;

    if (dirfd == AT_FDCWD) {
        set_dir(w, current_process->fs.cwd);
        return 0;
    }
    f = fd_file_any(dirfd);
    if (!f)
        return -EBADF;
    if (!f->dentry) {
        if (*w->rest || !(w->flags & WALK_EMPTY))
            return -ENOTDIR;
        file_get(f);
        w->file = f;
        return 0;
    }
    if (*w->rest && !inode_is_dir(f->dentry->inode))
        return -ENOTDIR;
    set_dir(w, f->dentry);
    return 0;
}

/* An absolute path, or link: back to the root. */
static int to_root(struct walk *w)
{
    if (w->flags & WALK_BENEATH)
        return -EXDEV;
    if ((w->flags & WALK_NO_XDEV) && w->dir && w->dir->inode->super != w->root->inode->super)
        return -EXDEV;
    set_dir(w, w->root);
    return 0;
}

int walk_begin(struct walk *w, int dirfd, const char *path, unsigned flags)
{
    int rc;

    *w = (struct walk){.rest = path, .flags = flags};
    if (!*path && !(flags & WALK_EMPTY))
        return -ENOENT;
    if (*path != '/' || (flags & (WALK_IN_ROOT | WALK_BENEATH | WALK_NO_XDEV))) {
        rc = find_start(w, dirfd);
        if (rc < 0)
            return rc;
    }
    w->root = flags & WALK_IN_ROOT && w->dir ? w->dir : current_process->fs.root;
    dentry_get(w->root);
    if (w->dir) {
        w->start = w->dir;
        dentry_get(w->start);
    }
    return *path == '/' ? to_root(w) : 0;
}

void walk_end(struct walk *w)
{
    if (w->dir)
        dentry_put(w->dir);
    if (w->root)
        dentry_put(w->root);
    if (w->start)
        dentry_put(w->start);
    if (w->file)
        file_put(w->file);
    kfree(w->buffer);
    *w = (struct walk){0};
}

static bool is_dots(const char *name, size_t len)
{
    return name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.'));
}

/* One component from w->dir: with a reference, mounts entered. */
static int step(struct walk *w, const char *name, size_t len, struct dentry **out)
{
    struct dentry *d, *seen;
    int rc;

    if (is_dots(name, len)) {
        d = w->dir;
        if (len == 2 && d == w->root)
            d = w->root;
        else if (len == 2 && (w->flags & WALK_BENEATH) && d == w->start)
            return -EXDEV;
        else if (len == 2)
            d = dentry_up(d);
        dentry_get(d);
    } else {
        rc = dentry_lookup(w->dir, name, len, &d);
        if (rc < 0)
            return rc;
        seen = dentry_enter(d);
        if (seen != d) {
            dentry_get(seen);
            dentry_put(d);
            d = seen;
        }
    }
    if ((w->flags & WALK_NO_XDEV) && d->inode->super != w->dir->inode->super) {
        dentry_put(d);
        return -EXDEV;
    }
    *out = d;
    return 0;
}

/*
 * *out: what `link` says, a slash where `slash` asks for one, and the `left` bytes of rest; the caller's to
 * free. As short as it can be: links are in the way of nearly every library.
 */
static long read_link(struct inode *link, const char *rest, size_t left, bool slash, char **out)
{
    char *target = path_buffer();
    long n = -EINVAL;

    if (!target)
        return -ENOMEM;
    if (link->ops->readlink)
        n = link->ops->readlink(link, target, PATH_MAX_);
    if (n == 0)
        n = -ENOENT;
    if (n > 0 && (size_t)n + left + 2 > LINK_BUFFER)
        n = -ENAMETOOLONG;
    if (n > 0 && !(*out = kmalloc((size_t)n + left + 2)))
        n = -ENOMEM;
    if (n > 0) {
        memcpy(*out, target, (size_t)n);
        if (slash)
            (*out)[n++] = '/';
        memcpy(*out + n, rest, left + 1);
    }
    path_free(target);
    return n;
}

/* The walk goes on where the link points: sets w->rest, or w->dir and w->file for magic links. */
static int follow(struct walk *w, struct inode *link)
{
    size_t left = strlen(w->rest);
    struct link_target t = {0};
    char *buffer = NULL;
    int rc;

    if (++w->links > LINKS_MAX || (w->flags & WALK_NO_LINKS))
        return -ELOOP;
    if (link->ops->follow) {
        if (w->flags & (WALK_NO_MAGIC | WALK_BENEATH | WALK_IN_ROOT))
            return w->flags & WALK_NO_MAGIC ? -ELOOP : -EXDEV;
        rc = link->ops->follow(link, &t);
        if (rc < 0)
            return rc;
        if (t.dentry) {
            set_dir(w, t.dentry);
            dentry_put(t.dentry);
            return 0;
        }
        w->file = t.file;
        return left > 0 ? -ENOTDIR : 0;
    }
    rc = (int)read_link(link, w->rest, left, left > 0 || w->trailing, &buffer);
    if (rc < 0)
        return rc;
    inode_accessed(link);
    kfree(w->buffer);
    w->rest = w->buffer = buffer;
    return *buffer == '/' ? to_root(w) : 0;
}

/* Takes the next component off the rest. False: there is none. */
static bool next_name(struct walk *w)
{
    const char *s = w->rest;

    while (*s == '/')
        s++;
    w->last = s;
    while (*s && *s != '/')
        s++;
    w->length = (size_t)(s - w->last);
    w->trailing = *s == '/';
    while (*s == '/')
        s++;
    w->rest = s;
    return w->length > 0;
}

/* May names be looked up in w->dir? */
static int check_dir(const struct walk *w)
{
    if (!inode_is_dir(w->dir->inode))
        return -ENOTDIR;
    if (w->length > NAME_MAX_)
        return -ENAMETOOLONG;
    return inode_permission(w->dir->inode, MAY_EXEC);
}

int walk_parent(struct walk *w)
{
    struct dentry *d;
    int rc;

    while (!w->file && next_name(w)) {
        rc = check_dir(w);
        if (rc < 0 || !*w->rest)
            return rc;
        rc = step(w, w->last, w->length, &d);
        if (rc < 0)
            return rc;
        if (inode_is_link(d->inode)) {
            rc = follow(w, d->inode);
        } else {
            set_dir(w, d);
            rc = inode_is_dir(d->inode) ? 0 : -ENOTDIR;
        }
        dentry_put(d);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int walk_last(struct walk *w, struct dentry **out)
{
    struct dentry *d;
    int rc;

    *out = NULL;
    for (;;) {
        if (w->file)
            return w->trailing || (w->flags & WALK_DIRECTORY) ? -ENOTDIR : 0;
        if (w->length == 0) {
            d = w->dir;
            dentry_get(d);
            break;
        }
        if (w->trailing && (w->flags & WALK_CREATE) && !is_dots(w->last, w->length))
            return -EISDIR;
        rc = step(w, w->last, w->length, &d);
        w->missing = rc == -ENOENT;
        if (rc < 0)
            return rc;
        if (!inode_is_link(d->inode) || !((w->flags & WALK_FOLLOW) || w->trailing))
            break;
        /* A magic link leads to dir itself, so there is no last name any more. */
        w->length = 0;
        rc = follow(w, d->inode);
        if (rc == 0 && !d->inode->ops->follow)
            rc = walk_parent(w);
        dentry_put(d);
        if (rc < 0)
            return rc;
    }
    if ((w->trailing || (w->flags & WALK_DIRECTORY)) && !inode_is_dir(d->inode)) {
        dentry_put(d);
        return -ENOTDIR;
    }
    *out = d;
    return 0;
}

int path_find(int dirfd, const char *path, unsigned flags, struct link_target *out)
{
    struct walk w;
    int rc = walk_begin(&w, dirfd, path, flags);

    *out = (struct link_target){0};
    if (rc == 0)
        rc = walk_parent(&w);
    if (rc == 0)
        rc = walk_last(&w, &out->dentry);
    if (rc == 0 && !out->dentry) {
        out->file = w.file;
        file_get(out->file);
    }
    walk_end(&w);
    return rc;
}

void link_target_put(struct link_target *t)
{
    if (t->dentry)
        dentry_put(t->dentry);
    if (t->file)
        file_put(t->file);
    *t = (struct link_target){0};
}

struct inode *link_target_inode(const struct link_target *t)
{
    return t->dentry ? t->dentry->inode : t->file->inode;
}

int path_find_user(int dirfd, USER const char *path, unsigned flags, struct link_target *out)
{
    long error;
    char *name = path_copy(path, (flags & WALK_EMPTY) != 0, &error);
    int rc;

    *out = (struct link_target){0};
    if (!name)
        return (int)error;
    rc = path_find(dirfd, name, flags, out);
    path_free(name);
    return rc;
}
