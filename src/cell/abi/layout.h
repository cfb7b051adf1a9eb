/*
 * layout.h - what a cell and its warden share: fixed addresses, the three descriptors, the head of the memory
 * file, and the streams between the two.
 *
 * The memory file is one memfd, mapped shared by every process of the cell (at CELL_MEMORY) and by the warden
 * (anywhere). Everything in it may be rewritten by hostile code at any moment: the warden copies a field out
 * once, checks the copy and uses the copy. Offsets of everything that the warden touches are constants; it
 * follows no pointer and no length out of the file, except ring counters, which it bounds.
 *
 * Waking the other side:
 *   cell -> warden   set the stream's bit in `dirty`, then, if `doorbell_armed` was 1 (exchange it for 0),
 *                    write 8 bytes to CELL_FD_DOORBELL, an eventfd(2)
 *   warden -> cell   increment one of the wake words and futex-wake it (shared futex): the one whose index+1
 *                    stands in stream.wake; word 0 for everything else (CELL_WAKE_IRQ)
 */
#pragma once
#include <stdint.h>

#define CELL_TEXT         0x100000000000ULL /* the cell kernel's program, linked here */
#define CELL_TEXT_MAX     0x1000000ULL      /* 16 MiB: the filter's allowlist holds for addresses in it */
#define CELL_MEMORY       0x110000000000ULL /* the memory file */
#define CELL_MEMORY_MAX   0x10000000000ULL  /* 1 TiB of addresses */
#define CELL_IMAGE        0x180000000000ULL /* the EROFS image, read-only */
#define CELL_IMAGE_MAX    0x10000000000ULL
#define CELL_KERNEL_START CELL_TEXT         /* programs map nothing from here ... */
#define CELL_KERNEL_END   0x200000000000ULL /* ... to here */

enum {
    CELL_FD_IMAGE = 3,    /* the EROFS image, opened read-only */
    CELL_FD_MEMORY = 4,   /* the memory file */
    CELL_FD_DOORBELL = 5, /* eventfd, write only by the filter */

    CELL_MAGIC = 0x4c4c4543, /* "CELL" */
    CELL_ABI = 1,

    CELL_WAKES = 4096, /* wake words, one for each thread slot; [0] belongs to the interrupt thread */
    CELL_WAKE_IRQ = 0,
    CELL_STREAMS = 256,
    CELL_RING_SIZE = 65536,  /* bytes of one direction of a stream; a power of two */
    CELL_SIGRTMIN_WAKE = 40, /* host signal that brings a thread out of program code (a real-time signal) */

    /* Offsets in the memory file. */
    CELL_OFF_HEADER = 0,
    CELL_OFF_WAKES = 0x4000,
    CELL_OFF_STREAMS = 0x8000,
    CELL_OFF_BOOT = 0x20000,
    CELL_BOOT_SIZE = 0x200000, /* 2 MiB: arguments and environment (ARG_MAX on Linux) */
    CELL_OFF_RINGS = 0x400000,
    CELL_OFF_HEAP = CELL_OFF_RINGS + CELL_STREAMS * 2 * CELL_RING_SIZE,
};

/* What a stream leads to. */
enum cell_port {
    CELL_PORT_CONSOLE =
        0, /* stream 0: standard input and output, or the terminal; stream 1: standard error */
    CELL_PORT_QUEUE = 1,
    CELL_PORT_MODEL = 2,
};
enum {
    CELL_STREAM_CONSOLE = 0,
    CELL_STREAM_ERROR = 1,
    CELL_STREAM_FILES = 2, /* the host's directories (abi/files.h), with CELL_BOOT_FILES */
    CELL_STREAM_FIRST_FREE = 3
};

/*
 * Life of a stream, its `state`:
 *   FREE -> CONNECT (cell: port is set) -> OPEN | REFUSED (warden: error is set) -> CLOSING (cell: wants
 *   nothing more) -> FREE (warden: everything flushed, nothing of it is left)
 * The console's streams and that of files are OPEN from the start and never freed.
 */
enum cell_stream_state { CELL_FREE = 0, CELL_CONNECT = 1, CELL_OPEN = 2, CELL_REFUSED = 3, CELL_CLOSING = 4 };

enum { CELL_END = 1, CELL_RESET = 2 }; /* tx_flags, rx_flags: no more data will come; the connection broke */

/* Ring counters run freely modulo 2^32; data of a direction: (tail - head) bytes, at most CELL_RING_SIZE,
 * starting at head % CELL_RING_SIZE. The cell reads and writes through the mapping; each counter has one
 * writer. tx: from the cell to the host. */
struct cell_stream {
    _Atomic uint32_t state;
    uint32_t port;
    int32_t error; /* errno of a refused connection */
    _Atomic uint32_t
        wake; /* index+1 of the wake word to bump when rx or state changed, or tx has room; 0: none */
    _Atomic uint32_t tx_head;  /* warden */
    _Atomic uint32_t tx_tail;  /* cell */
    _Atomic uint32_t tx_flags; /* cell: CELL_END */
    _Atomic uint32_t tx_gone;  /* warden: the host's reader went away: writing is EPIPE */
    _Atomic uint32_t rx_head;  /* cell */
    _Atomic uint32_t rx_tail;  /* warden */
    _Atomic uint32_t rx_flags; /* warden: CELL_END, CELL_RESET */
    uint32_t reserved[5];
};

enum cell_state {
    CELL_BOOTING = 0,
    CELL_RUNNING = 1,  /* the filter stands, the workload starts once `activated` */
    CELL_EXITED = 2,   /* header.status is the workload's wait status */
    CELL_PANICKED = 3, /* header.message says why */
    CELL_NOEXEC =
        4, /* the workload cannot be executed: header.message; header.status is 126 << 8 or 127 << 8 */
    CELL_KILLED = 5, /* as PANICKED, but because the host killed a process of the cell in the kernel */
};

enum { CELL_BOOT_TERMINAL = 1, CELL_BOOT_PORTS = 2, CELL_BOOT_FILES = 4 };
/* Negative controls (base/weaken.h): the kernel's text may make any call; what counts as its text is too
 * large.
 */
#ifdef IRONCLAW_WEAKENED
enum { CELL_BOOT_OPEN_FILTER = 0x100, CELL_BOOT_WIDE_FILTER = 0x200 };
#endif

struct cell_header {
    uint32_t magic, abi;
    uint64_t memory_size; /* of the memory file, a multiple of 2 MiB */
    uint64_t image_size;
    uint32_t flags; /* CELL_BOOT_* */
    /* Valid once `activated`. CELL_OFF_BOOT: argc + envc strings, each ended by 0, in that order. */
    uint32_t argc, envc, boot_length;
    uint32_t pids;         /* most processes and threads; 0: CELL_WAKES */
    uint32_t cpus;         /* shown to programs */
    uint64_t memory_limit; /* shown to programs as the machine's memory; 0: memory_size */
    char hostname[64];
    uint64_t boot_realtime_ns, boot_monotonic_ns;

    /* ---- written while running */
    _Atomic uint32_t state; /* enum cell_state */
    _Atomic uint32_t status;
    _Atomic uint32_t doorbell_armed;           /* warden: 1 before it sleeps */
    _Atomic uint64_t dirty[CELL_STREAMS / 64]; /* cell sets, warden clears */
    _Atomic uint64_t signals; /* warden: bit n-1: signal n for the workload's foreground group; cell clears */
    _Atomic uint32_t winsize; /* warden: rows << 16 | columns */
    /* warden: 1 once argc, envc, boot_length and the strings stand and the workload may start; futex-woken */
    _Atomic uint32_t activated;
    char message[1024]; /* one sentence, ended by 0 */
};

_Static_assert(sizeof(struct cell_header) <= CELL_OFF_WAKES, "the header has four pages");
_Static_assert(sizeof(struct cell_stream) == 64, "one cache line");
_Static_assert(CELL_OFF_STREAMS + CELL_STREAMS * sizeof(struct cell_stream) <= CELL_OFF_BOOT, "streams fit");
_Static_assert(CELL_OFF_WAKES + CELL_WAKES * 4 <= CELL_OFF_STREAMS, "wake words fit");
