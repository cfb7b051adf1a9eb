/*
 * Family 13: against a cell, whose kernel shares the address space of the programs that it serves. Nothing of
 * it is out of reach: an attack jumps to its instructions, calls the host in its place, and rewrites its
 * memory and what it shares with its warden. What has to hold then is the host's: the filter, the envelope,
 * the warden, the file server.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cell/abi/files.h"
#include "cell/abi/layout.h"
#include "redteam/attacks/inside.h"

enum { NUMBERS = 1024, PAGE = 4096, WAIT_MS = 1000, TRIES = 6 };

/* ---- calls of the host, from inside the kernel's text ---- */

static const unsigned char call_and_return[] = {0x0f, 0x05, 0xc3}; /* syscall; ret */

static long call_at(const void *where, long nr, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long rc;

    __asm__ volatile("sub $128, %%rsp\n call *%[where]\n add $128, %%rsp" /* past the red zone */
                     : "=a"(rc)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9), [where] "b"(where)
                     : "rcx", "r11", "memory");
    return rc;
}

/* In the kernel's range, at its end: a page of our own, whose calls look like the kernel's. */
static void *const stub = (void *)(uintptr_t)(CELL_TEXT + CELL_TEXT_MAX - PAGE);

static long host(long nr, long a, long b, long c)
{
    return call_at(stub, nr, a, b, c, 0, 0, 0);
}

static int find_instruction(void *arg)
{
    const unsigned char *text = (const unsigned char *)(uintptr_t)CELL_TEXT;
    const unsigned char **found = arg;

    for (size_t i = 0; i < CELL_TEXT_MAX; i++) /* ends with a crash where the text does */
        if (memcmp(text + i, call_and_return, sizeof(call_and_return)) == 0) {
            *found = text + i;
            return 0;
        }
    return 1;
}

static bool place_code(const void *caller, void *at)
{
    if (call_at(caller, SYS_mmap, (long)(uintptr_t)at, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != (long)(uintptr_t)at)
        return false;
    memcpy(at, call_and_return, sizeof(call_and_return));
    return true;
}

/* Step "stub": from here on host() calls the host. */
static bool open_stub(void)
{
    const unsigned char **found = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bool ok = found != MAP_FAILED && in_child(find_instruction, found, WAIT_MS) == 0 && *found &&
              place_code(*found, stub);

    errno = ENOENT;
    stepf("stub", ok ? 0 : -1, "the kernel's own syscall instruction at %p",
          ok ? (const void *)*found : NULL);
    return ok;
}

/* ---- every number ---- */

enum outcome { KILLED, SERVED, HUNG, UNTRIED };

struct slot {
    volatile int entered, returned;
};

static struct slot *new_slot(void)
{
    struct slot *s = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    return s == MAP_FAILED ? NULL : s;
}

struct call {
    long nr, a, b, c, d;
};

static struct slot *crash_slot;

/* A crash in the kernel's range is a panic of the kernel: one of a call alone is to end the child alone. */
static void crashed(int sig)
{
    (void)sig;
    crash_slot->returned = 1;
    (void)host(SYS_exit_group, 1, 0, 0);
}

static void end_crashes(void)
{
    const struct {
        void (*handler)(int);
        unsigned long flags;
        void *restorer;
        unsigned long mask;
    } action = {crashed, 0x04000000UL /* SA_RESTORER */, stub, 0};

    (void)call_at(stub, SYS_rt_sigaction, SIGILL, (long)(uintptr_t)&action, 0, sizeof(action.mask), 0, 0);
    (void)call_at(stub, SYS_rt_sigaction, SIGSEGV, (long)(uintptr_t)&action, 0, sizeof(action.mask), 0, 0);
}

/* A child that the host ended behind the kernel's back may never be told of. */
static bool ended(pid_t pid, int *status)
{
    for (uint64_t until = now_ms() + WAIT_MS; now_ms() < until; (void)usleep(50))
        if (waitpid(pid, status, WNOHANG) == pid)
            return true;
    (void)kill(pid, SIGKILL);
    return false;
}

static bool makes_processes(long nr)
{
    return nr == SYS_clone || nr == SYS_fork || nr == SYS_vfork;
}

static enum outcome try_once(struct slot *s, const struct call *c)
{
    int status = 0;
    pid_t pid;

    s->entered = s->returned = 0;
    pid = fork();
    if (pid == 0) {
        crash_slot = s;
        end_crashes();
        s->entered = 1;
        if (call_at(stub, c->nr, c->a, c->b, c->c, c->d, -1, 0) == 0 && makes_processes(c->nr))
            (void)host(SYS_exit_group, 0, 0, 0); /* a process that the cell's kernel knows nothing of */
        s->returned = 1;
        _exit(0);
    }
    if (pid < 0 || !ended(pid, &status) || !s->entered)
        return s->entered ? HUNG : UNTRIED;
    return !s->returned && WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS ? KILLED : SERVED;
}

/* What the host does with one call, made in a child. Whatever does not end in the filter is served. The
 * cell's kernel may miss what a process died of when several do at once: once more, then. */
static enum outcome try_call(struct slot *s, const struct call *c)
{
    enum outcome got = UNTRIED;

    for (int i = 0; i < TRIES && got != KILLED && got != HUNG && (i == 0 || !s->returned); i++)
        got = try_once(s, c);
    return got == HUNG ? SERVED : got;
}

/* Those that the filter allows with fitting arguments only; the others are tried with none. */
static struct call fitting(long nr, char *page)
{
    switch (nr) {
    case SYS_mmap:
        return (struct call){nr, 0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS};
    case SYS_write:
        return (struct call){nr, CELL_FD_DOORBELL, (long)(uintptr_t)page, 8, 0};
    case SYS_clone:
        return (struct call){.nr = nr, .a = SIGCHLD};
    case SYS_madvise:
        return (struct call){nr, (long)(uintptr_t)page, PAGE, MADV_DONTNEED, 0};
    default:
        return (struct call){.nr = nr};
    }
}

/* Does a call from the page at `at`, which is not the kernel's, get to the host? The number of the calling
 * thread tells who answered: the host counts differently. */
static int asks_the_host(void *arg)
{
    long theirs, ours;
    void *at = *(void **)arg;

    if (!place_code(stub, at))
        return 2;
    theirs = host(SYS_gettid, 0, 0, 0);
    ours = syscall(SYS_gettid);
    if (theirs == ours)
        return 3;
    return call_at(at, SYS_gettid, 0, 0, 0, 0, 0, 0) == theirs;
}

static void other_pages(void)
{
    static const uintptr_t places[] = {0x20000000,
                                       0x600000000000,
                                       CELL_TEXT - PAGE,
                                       CELL_TEXT + CELL_TEXT_MAX,
                                       CELL_TEXT + 0xfffff000,
                                       CELL_MEMORY - PAGE,
                                       CELL_IMAGE + CELL_IMAGE_MAX - PAGE,
                                       CELL_KERNEL_END - PAGE};
    unsigned served = 0, tried = 0;

    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
        int status = 3;
        void *at = (void *)places[i];
        for (int again = 0; again < 8 && status == 3; again++)
            status = in_child(asks_the_host, &at, WAIT_MS);
        tried += status == 0 || status == 1;
        served += status == 1;
        if (status == 1)
            claim("a call from %p, outside of the kernel's text, was the host's to answer", at);
    }
    fact("pages", "%u", tried);
    stepf("other-pages", (long)served, "%u of %u places", served, tried);
}

static void host_calls(const struct order *o)
{
    static char room[2 * PAGE];
    char *page = (char *)(((uintptr_t)room + PAGE - 1) / PAGE * PAGE);
    struct slot *s = new_slot();
    unsigned count = 0, untried = 0;

    (void)o;
    if (!open_stub() || !s)
        return;
    for (long nr = 0; nr < NUMBERS; nr++) {
        struct call c = fitting(nr, page);
        enum outcome got = try_call(s, &c);
        if (got == SERVED)
            fact("reachable", "%ld", nr);
        count += got == SERVED;
        untried += got == UNTRIED;
    }
    fact("count", "%u", count);
    fact("untried", "%u", untried);
    stepf("sweep", NUMBERS, "%u of %d numbers reach the host", count, NUMBERS);
    other_pages();
}

/* ---- what the three descriptors give ---- */

static void tried_call(struct slot *s, const char *name, const struct call *c)
{
    bool served = try_call(s, c) != KILLED;

    errno = EPERM;
    step(name, served ? 0 : -1);
    if (served)
        claim("the host served '%s' to the cell's kernel", name);
}

static void descriptors(const struct order *o)
{
    static const char *const paths[] = {"/dev/fd/3",       "/dev/fd/4",         "/proc/self/fd/3",
                                        "/proc/self/fd/4", "/proc/1/fd/4",      "/proc/1/mem",
                                        "/memfd:cell",     "/proc/1/map_files", "/proc/thread-self/fd/4"};
    struct slot *s = new_slot();
    unsigned mapped = 0;
    char name[32];

    (void)o;
    if (!open_stub() || !s)
        return;
    for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
        (void)snprintf(name, sizeof(name), "path-%zu", i);
        (void)try_read(name, paths[i]);
    }
    for (int fd = 0; fd < 64; fd++) {
        const long place = (long)PROT_READ;
        int status = 0;
        pid_t pid = fork();
        if (pid == 0)
            _exit(call_at(stub, SYS_mmap, 0, PAGE, place, MAP_SHARED, fd, 0) < 0);
        if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
            mapped++;
            if (fd != CELL_FD_MEMORY)
                claim("descriptor %d can be mapped", fd);
        }
    }
    stepf("map-shared", (long)mapped, "%u descriptors", mapped);
    tried_call(s, "open", &(struct call){SYS_openat, AT_FDCWD, (long)(uintptr_t) "/", O_RDONLY, 0});
    tried_call(s, "read-memory", &(struct call){SYS_pread64, CELL_FD_MEMORY, (long)(uintptr_t)s, 8, 0});
    tried_call(s, "write-memory", &(struct call){SYS_write, CELL_FD_MEMORY, (long)(uintptr_t)s, 8, 0});
    tried_call(s, "write-image", &(struct call){SYS_write, CELL_FD_IMAGE, (long)(uintptr_t)s, 8, 0});
    tried_call(s, "shrink", &(struct call){.nr = SYS_ftruncate, .a = CELL_FD_MEMORY});
    tried_call(s, "seal", &(struct call){SYS_fcntl, CELL_FD_MEMORY, 1033 /* F_ADD_SEALS */, 8, 0});
    tried_call(s, "duplicate", &(struct call){.nr = SYS_dup, .a = CELL_FD_MEMORY});
    tried_call(s, "socket", &(struct call){.nr = SYS_socket, .a = 1, .b = 1});
    tried_call(s, "execute", &(struct call){SYS_execveat, CELL_FD_IMAGE, (long)(uintptr_t) "", 0, 0});
}

/* ---- the host's processes ---- */

static void processes(const struct order *o)
{
    struct slot *s = new_slot();
    unsigned seen = 0;

    (void)o;
    if (!open_stub() || !s)
        return;
    tried_call(s, "kill-all", &(struct call){.nr = SYS_kill, .a = -1, .b = SIGKILL});
    tried_call(s, "kill-warden", &(struct call){.nr = SYS_kill, .a = 1, .b = SIGKILL});
    tried_call(s, "tgkill-warden", &(struct call){SYS_tgkill, 1, 1, SIGKILL, 0});
    tried_call(s, "tgkill-stop", &(struct call){SYS_tgkill, 1, 1, SIGSTOP, 0});
    tried_call(s, "queue", &(struct call){.nr = SYS_rt_sigqueueinfo, .a = 1, .b = SIGKILL, .c = 0});
    tried_call(s, "pidfd", &(struct call){.nr = 434, .a = 1}); /* pidfd_open(2) */
    tried_call(s, "trace", &(struct call){SYS_ptrace, 16 /* PTRACE_ATTACH */, 1, 0, 0});
    tried_call(s, "read", &(struct call){SYS_process_vm_readv, 1, 0, 0, 0});
    /* The one signal that there is, to whoever is there. */
    for (long pid = 1; pid < 1024; pid++) {
        if (host(SYS_tgkill, pid, pid, 0) == 0)
            seen++;
        if (pid != getpid())
            (void)host(SYS_tgkill, pid, pid, CELL_SIGRTMIN_WAKE);
    }
    stepf("signal-all", (long)seen, "%u processes can be seen", seen);
}

/* Processes that the cell's kernel knows nothing of and so does not count. */
static void uncounted(const struct order *o)
{
    long most = order_number(o, "count"), made = 0, rc = 0;
    static const struct timespec pause = {.tv_sec = 3};

    if (!open_stub() || !order_number(o, "really"))
        return;
    for (; made < most; made++) {
        rc = host(SYS_clone, SIGCHLD, 0, 0);
        if (rc < 0)
            break;
        if (rc == 0) {
            static uint32_t word;
            (void)call_at(stub, SYS_futex, (long)(uintptr_t)&word, 0, 0, (long)(uintptr_t)&pause, 0, 0);
            (void)host(SYS_exit_group, 0, 0, 0);
        }
    }
    errno = rc < 0 ? (int)-rc : 0;
    stepf("clone", rc < 0 ? -1 : made, "%ld processes made", made);
}

/* By hand only: what the filter does to whoever makes a call that is not on its list. */
static void forbidden(const struct order *o)
{
    (void)o;
    if (open_stub())
        (void)host(SYS_getpid, 0, 0, 0);
}

/* ---- what the cell's kernel believes, and its warden ---- */

static struct cell_header *const header = (struct cell_header *)(uintptr_t)(CELL_MEMORY + CELL_OFF_HEADER);
static struct cell_stream *const streams = (struct cell_stream *)(uintptr_t)(CELL_MEMORY + CELL_OFF_STREAMS);
static unsigned char *const heap = (unsigned char *)(uintptr_t)(CELL_MEMORY + CELL_OFF_HEAP);

static void ring_doorbell(void)
{
    static const uint64_t one = 1;

    atomic_store(&header->doorbell_armed, 0);
    (void)host(SYS_write, CELL_FD_DOORBELL, (long)(uintptr_t)&one, sizeof(one));
}

static bool find_header(void)
{
    bool ok = header->magic == CELL_MAGIC && header->abi == CELL_ABI;

    errno = ENOENT;
    step("header", ok ? 0 : -1);
    return ok;
}

/* Fields at whose change the cell's own kernel would end it, before the warden has had its share. */
static bool ends_it(size_t at)
{
    size_t word = at / 4 * 4, signals = offsetof(struct cell_header, signals);

    return word == offsetof(struct cell_header, state) || word == signals || word == signals + 4;
}

/* Everything that the warden looks at, for a second; then a state that ends the cell with hostile last words.
 */
static void shared_memory(const struct order *o)
{
    uint32_t seed = (uint32_t)order_number(o, "seed");
    const size_t end = CELL_OFF_STREAMS + CELL_STREAMS * sizeof(struct cell_stream);

    if (!open_stub() || !find_header() || !order_number(o, "really"))
        return;
    for (uint64_t until = now_ms() + 1000, round = 0; round % 1024 || now_ms() < until; round++) {
        size_t at;
        seed = seed * 1103515245 + 12345;
        at = seed >> 3 & (round % 2 ? 0x1fffc : 0x3ffc);
        if (round % 4 < 2) /* the streams above all */
            at = CELL_OFF_STREAMS + at % (end - CELL_OFF_STREAMS);
        seed = seed * 1103515245 + 12345;
        if (at < end && !ends_it(at))
            atomic_store((_Atomic uint32_t *)(uintptr_t)(CELL_MEMORY + at), round % 5 ? seed % 6 : seed);
        if (round % 64 == 0)
            ring_doorbell();
    }
    memset(header->message, 0x1b, sizeof(header->message));
    atomic_store(&header->state, CELL_PANICKED);
    for (;;)
        ring_doorbell();
}

/* The kernel's lists, its lock, its text; the next of its steps goes astray. */
static void kernel_memory(const struct order *o)
{
    const char *what = order_text(o, "what");
    void *const text = (void *)(uintptr_t)CELL_TEXT;

    if (!open_stub() || !find_header() || !order_number(o, "really"))
        return;
    if (!strcmp(what, "heap")) {
        memset(heap + 64, 0x5a, (size_t)1 << 20);
    } else if (!strcmp(what, "text")) {
        for (size_t n = 0x40000; n >= PAGE && host(SYS_mprotect, CELL_TEXT, (long)n, 7) != 0; n -= PAGE)
            ;
        memset(text, 0xcc, (size_t)16 * PAGE);
    } else { /* what this thread is to the kernel: %gs leads there */
        __asm__ volatile("movq $0, %%gs:0\n movq $0, %%gs:8\n movq $0, %%gs:16\n movq $0, %%gs:24" ::
                             : "memory");
    }
    for (;;) {
        int ends[2];
        (void)!pipe(ends);
        if (fork() == 0)
            _exit(0);
    }
}

/* The kernel's lock is taken by somebody who is alive and gives it to nobody. */
static void hold_lock(const struct order *o)
{
    _Atomic uint32_t *lock = (_Atomic uint32_t *)(void *)heap; /* the first word of cell/base/shared.h */

    if (!open_stub() || !find_header() || !order_number(o, "really"))
        return;
    for (uint32_t free = 0, mine = (uint32_t)host(SYS_gettid, 0, 0, 0);
         !atomic_compare_exchange_weak(lock, &free, mine | 0x80000000U); free = 0)
        ;
    for (;;)
        ;
}

/* ---- the file server ---- */

static void say(const void *data, size_t len)
{
    struct cell_stream *s = &streams[CELL_STREAM_FILES];
    unsigned char *ring = (unsigned char *)(uintptr_t)(CELL_MEMORY + CELL_OFF_RINGS +
                                                       (size_t)CELL_STREAM_FILES * 2 * CELL_RING_SIZE);
    uint32_t tail = atomic_load(&s->tx_tail);

    for (size_t i = 0; i < len; i++)
        ring[(tail + i) % CELL_RING_SIZE] = ((const unsigned char *)data)[i];
    atomic_store(&s->tx_tail, tail + (uint32_t)len);
}

static void tell(struct files_record r, const char *name, const char *data)
{
    r.magic = FILES_MAGIC;
    r.name_length = (uint32_t)strlen(name);
    r.data_length = (uint32_t)strlen(data);
    say(&r, sizeof(r));
    say(name, r.name_length);
    say(data, r.data_length);
    atomic_fetch_or(&header->dirty[0], 1ULL << CELL_STREAM_FILES);
    ring_doorbell();
}

/*
 * Out of the workspace through links: ones that are the last part of a path, and ones that a directory's
 * number came to mean after something was made in it. "outside": a directory of the host with a file
 * "writable" that anybody may write to.
 */
static void workspace(const struct order *o)
{
    enum { LINK, DIRECTORY, INNER, PLANTED };
    const uint64_t first = FILES_CELL_INO + 1000;
    const char *outside = order_text(o, "outside");
    char file[512];

    if (!open_stub() || !find_header() || !order_number(o, "really"))
        return;
    (void)snprintf(file, sizeof(file), "%s/writable", outside);
    tell(
        (struct files_record){
            .op = FILES_CREATE, .ino = first + LINK, .parent = FILES_ROOT_INO, .mode = S_IFLNK | 0777},
        "link", file);
    tell(
        (struct files_record){
            .op = FILES_CREATE, .ino = first + DIRECTORY, .parent = FILES_ROOT_INO, .mode = S_IFDIR | 0777},
        "directory", "");
    tell(
        (struct files_record){
            .op = FILES_CREATE, .ino = first + INNER, .parent = first + DIRECTORY, .mode = S_IFREG | 0666},
        "writable", "");
    /* Another node of the directory's number; what is found last is what was named last. */
    tell(
        (struct files_record){
            .op = FILES_CREATE, .ino = first + DIRECTORY, .parent = FILES_ROOT_INO, .mode = S_IFLNK | 0777},
        "way", outside);
    /* Forget the file that is open. */
    tell(
        (struct files_record){
            .op = FILES_CREATE, .ino = first + PLANTED, .parent = FILES_ROOT_INO, .mode = S_IFREG | 0666},
        "other", "");
    for (uint64_t ino = first + LINK; ino <= first + INNER; ino += INNER - LINK) {
        tell((struct files_record){.op = FILES_WRITE, .ino = ino}, "", "written from inside");
        tell((struct files_record){.op = FILES_TRUNCATE, .ino = ino, .size = 1}, "", "");
        tell((struct files_record){.op = FILES_MODE, .ino = ino, .mode = 0777}, "", "");
        tell((struct files_record){.op = FILES_TIME, .ino = ino, .mtime_sec = 1}, "", "");
        tell((struct files_record){.op = FILES_LINK, .ino = ino, .parent = FILES_ROOT_INO}, "hard", "");
    }
    tell(
        (struct files_record){
            .op = FILES_CREATE, .ino = first + 9, .parent = first + DIRECTORY, .mode = S_IFREG | 0666},
        "planted", "");
    tell(
        (struct files_record){
            .op = FILES_CREATE, .ino = first + 10, .parent = first + DIRECTORY, .mode = S_IFDIR | 0777},
        "planted-directory", "");
    tell((struct files_record){.op = FILES_RENAME, .ino = FILES_ROOT_INO, .parent = first + DIRECTORY},
         "writable", "stolen");
    tell((struct files_record){.op = FILES_REMOVE, .parent = first + DIRECTORY}, "writable", "");
    /* So far it went; then what ends the server. */
    tell(
        (struct files_record){
            .op = FILES_CREATE, .ino = first + 11, .parent = FILES_ROOT_INO, .mode = S_IFREG | 0666},
        order_text(o, "proof"), "");
    tell(
        (struct files_record){
            .op = FILES_CREATE, .ino = first + 12, .parent = FILES_ROOT_INO, .mode = S_IFREG | 0666},
        "../outside", "");
    for (;;)
        (void)pause();
}

const struct inside_attack inside_cell[] = {
    {"cell.host-calls", host_calls},
    {"cell.descriptors", descriptors},
    {"cell.processes", processes},
    {"cell.uncounted", uncounted},
    {"cell.shared-memory", shared_memory},
    {"cell.kernel-memory", kernel_memory},
    {"cell.lock", hold_lock},
    {"cell.workspace", workspace},
    {"cell.forbidden", forbidden},
    {NULL, NULL},
};
