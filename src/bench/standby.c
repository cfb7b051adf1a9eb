#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/paths.h"
#include "bench/bench.h"

static pid_t server;

int standby_begin(const struct bench *b, struct err *e)
{
    static const char line[] = "4 cells stand ready for 'ironclaw run --wall cell'; end with ctrl-C";
    char state[PATHS_MAX_LEN], name[64];
    char *argv[] = {(char *)(uintptr_t)b->ironclaw,
                    (char *)(uintptr_t) "run",
                    (char *)(uintptr_t) "--wall",
                    (char *)(uintptr_t) "cell",
                    (char *)(uintptr_t) "--pids",
                    (char *)(uintptr_t)STANDBY_PIDS,
                    (char *)(uintptr_t) "--state-dir",
                    state,
                    (char *)(uintptr_t) "--image",
                    name,
                    (char *)(uintptr_t) "--standby",
                    (char *)(uintptr_t) "4",
                    NULL};
    CLEANUP_CLOSE int out = -1;

    if (!contender_image(b->rootfs, state, sizeof(state), name, sizeof(name)))
        return err_set(e, EINVAL, "%s is not an image", b->rootfs);
    server = process_start(argv, false, &out);
    if (server < 0 || !process_expect_line(out, line, 30)) {
        standby_end(b);
        return err_set(e, EIO, "'ironclaw run --standby' did not get ready");
    }
    return 0;
}

void standby_end(const struct bench *b)
{
    (void)b;
    if (server <= 0)
        return;
    (void)kill(server, SIGTERM);
    while (waitpid(server, NULL, 0) < 0 && errno == EINTR)
        ;
    server = 0;
}
