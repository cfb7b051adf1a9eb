/* mmap family: anonymous, shared, private, files, protection, errors, brk, large and fixed ones. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "show.h"

static void show_map(const char *what, const void *p)
{
    show_ok(what, p == MAP_FAILED ? -1 : 0);
}

static sigjmp_buf jump;

static void on_fault(int sig)
{
    siglongjmp(jump, sig);
}

static int touch(volatile char *p, int write)
{
    int sig = sigsetjmp(jump, 1);

    if (sig == 0) {
        if (write)
            *p = 1;
        else
            (void)*p;
    }
    return sig;
}

int main(void)
{
    const int rw = PROT_READ | PROT_WRITE;
    char *p, *q, *r;
    int fd, ro;

    (void)signal(SIGSEGV, on_fault);
    (void)signal(SIGBUS, on_fault);
    p = mmap(NULL, 65536, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    show_map("anonymous", p);
    show("zeros", p[65535]);
    show("munmap the middle", munmap(p + 16384, 4096));
    show("hole", touch(p + 16384, 0));
    show("before it", touch(p + 16383, 1));
    show("mprotect", mprotect(p, 4096, PROT_READ));
    show("write to read-only", touch(p, 1));
    show("mprotect none", mprotect(p, 4096, PROT_NONE));
    show("read of none", touch(p, 0));
    show("mprotect of the hole", mprotect(p + 16384, 4096, PROT_READ));
    show("mprotect unaligned", mprotect(p + 1, 4096, PROT_READ));
    show("munmap unaligned", munmap(p + 1, 4096));
    show("munmap of nothing", munmap(p + 16384, 4096));
    show_map("length 0", mmap(NULL, 0, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    show_map("no kind", mmap(NULL, 4096, rw, MAP_ANONYMOUS, -1, 0));
    show_map("bad descriptor", mmap(NULL, 4096, rw, MAP_PRIVATE, 77, 0));
    show_map("too much", mmap(NULL, 1UL << 47, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    show_map("noreplace",
             mmap(p + 32768, 4096, rw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
    q = mmap(p + 32768, 4096, rw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    show("fixed", q == p + 32768);

    q = mmap(NULL, 8192, rw, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (fork() == 0) {
        q[0] = 'c';
        p[40000] = 'c';
        _exit(0);
    }
    (void)wait(NULL);
    printf("shared %c private %d\n", q[0], p[40000]);

    r = mremap(q, 8192, 4096, 0);
    show("mremap smaller", r == q);
    p = mmap(NULL, 4096, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)memcpy(p, "moves along", sizeof("moves along"));
    p = mremap(p, 4096, 1 << 20, MREMAP_MAYMOVE);
    show_map("mremap larger", p);
    show_text("contents", p);
    show_map("mremap of nothing", mremap((void *)0x1000000, 4096, 8192, MREMAP_MAYMOVE));

    fd = open("/tmp/mapped", O_RDWR | O_CREAT | O_TRUNC, 0600);
    show_ok("file", fd);
    show("grow", ftruncate(fd, 10000));
    show("write", pwrite(fd, "first page", 10, 0));
    q = mmap(NULL, 12288, rw, MAP_SHARED, fd, 0);
    show_map("shared file", q);
    show("what was written", strncmp(q, "first page", 10));
    (void)memcpy(q + 5000, "through the mapping", sizeof("through the mapping"));
    {
        char text[64] = "";
        show("read back", pread(fd, text, 20, 5000));
        show_text("text", text);
    }
    r = mmap(NULL, 8192, rw, MAP_PRIVATE, fd, 4096);
    (void)memcpy(r + 904, "only here", sizeof("only here"));
    show_text("the file keeps", q + 5000);
    show("write beyond the mapping", pwrite(fd, "Z", 1, 9000));
    printf("seen %c\n", q[9000]);
    show_map("offset unaligned", mmap(NULL, 4096, rw, MAP_SHARED, fd, 100));
    ro = open("/tmp/mapped", O_RDONLY);
    show_map("shared write of a read-only descriptor", mmap(NULL, 4096, rw, MAP_SHARED, ro, 0));
    r = mmap(NULL, 4096, PROT_READ, MAP_SHARED, ro, 0);
    show_map("shared read of it", r);
    show("mprotect to write", mprotect(r, 4096, rw));
    show_map("a directory", mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, open("/tmp", O_RDONLY), 0));
    (void)ftruncate(fd, 4097);
    r = mmap(NULL, 16384, rw, MAP_PRIVATE, fd, 0);
    show("its last page", touch(r + 8191, 1));
    show("behind it", touch(r + 8192, 0));
    show("write behind it", touch(r + 12288, 1));
    show("none of it", (mprotect(r, 16384, PROT_NONE), touch(r + 8192, 0)));
    (void)ftruncate(fd, 10000);
    r = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, open("/etc/passwd", O_RDONLY), 0);
    show("a file of the image", touch(r + 4095, 0));
    show("behind it", touch(r + 4096, 0));
    show("unlink while mapped", unlink("/tmp/mapped"));
    show_text("still there", q + 5000);

    show("madvise dontneed", madvise(p, 4096, MADV_DONTNEED));
    show("zeros again", p[0]);
    show("madvise bad", madvise(p, 4096, 12345));
    show("msync", msync(q, 4096, MS_SYNC));
    r = sbrk(0);
    show("brk up", brk(r + 100000));
    r[99999] = 1;
    show("brk down", brk(r));
    show("brk is back", sbrk(0) == r);
    fd = memfd_create("m", 0);
    show_ok("memfd", fd);
    show("grow", ftruncate(fd, 4096));
    q = mmap(NULL, 4096, rw, MAP_SHARED, fd, 0);
    q[0] = 'm';
    {
        char c = 0;
        (void)pread(fd, &c, 1, 0);
        printf("memfd holds %c\n", c);
    }
    return 0;
}
